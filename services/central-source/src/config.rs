//! The central source's TOML file.

use std::num::NonZeroUsize;

use httt_node::accounts::AccountsConfig;
use httt_node::assembly::NodeConfig;
use httt_node::config::{HttpConfig, TelemetryConfig, TlsConfig};
use httt_node::upstream::UpstreamConfig;
use serde::Deserialize;

/// Everything `central-source` reads; unknown keys are refused. `deploy/central-source.toml` documents each key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// Its certificate towards NDXP, and the authority that NDXP's certificate comes from.
    pub tls: TlsConfig,
    /// NDXP.
    pub upstream: UpstreamConfig,
    /// Where people, their programs and monitors call.
    pub http: HttpConfig,
    /// Who may log in.
    pub accounts: AccountsConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Threads of the runtime; default: one a core.
    pub worker_threads: Option<NonZeroUsize>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use httt_node::config::{ConfigError, load};

    use super::*;

    fn sample() -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/central-source.toml");
        std::fs::read_to_string(path).expect("the sample configuration")
    }

    /// The sample with every default written out.
    fn sample_in_full() -> String {
        let is_key = |rest: &str| rest.starts_with(|first: char| first.is_ascii_lowercase());
        let shown = |line: &str| match line.strip_prefix('#') {
            Some(rest) if is_key(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        };
        sample().lines().map(shown).collect()
    }

    fn read(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("central-source.toml");
        std::fs::write(&path, text).expect("write");
        load(&path)
    }

    #[test]
    fn the_sample_is_good_with_and_without_its_defaults() {
        let sparse = read(&sample()).expect("the sample parses");
        let full = read(&sample_in_full()).expect("the sample's defaults parse");
        assert_eq!(full.worker_threads, NonZeroUsize::new(4));
        assert_eq!(full.accounts, sparse.accounts);
        assert_eq!(full.node.chunk_mib, sparse.node.chunk_mib);
        assert_eq!(full.node.index_cache_mib, sparse.node.index_cache_mib);
        assert_eq!(full.node.checkpoint_ms, sparse.node.checkpoint_ms);
        let limits = |config: &Config| {
            let media = config.node.media.clone();
            let parts = (media.max_member_parts, media.max_member_part_bytes);
            (media.max_file_bytes, media.max_store_bytes, parts, media.store)
        };
        assert_eq!(limits(&full), limits(&sparse));
        assert!(full.node.media.s3.is_some() && sparse.node.media.s3.is_none());
        assert_eq!(full.telemetry.log_format, sparse.telemetry.log_format);
        assert_eq!(full.telemetry.log_filter, sparse.telemetry.log_filter);
    }

    #[test]
    fn unknown_keys_are_refused_and_all_known_ones_are_in_the_sample() {
        let full = sample_in_full();
        for section in ["", "node", "node.media", "tls", "upstream", "http", "http.tls", "accounts", "telemetry"] {
            let (before, after) = match section {
                "" => ("", full.as_str()),
                _ => full.split_once(&format!("\n[{section}]\n")).expect(section),
            };
            let heading = if section.is_empty() { String::new() } else { format!("\n[{section}]\n") };
            let refusal = read(&format!("{before}{heading}stray = 1\n{after}")).expect_err(section).to_string();
            assert!(refusal.contains("unknown field `stray`"), "{section}: {refusal}");
            // "unknown field `stray`, expected one of `member`, `data_dir`, …"
            let known: BTreeSet<&str> = refusal.split('`').skip(3).step_by(2).collect();
            assert!(known.len() > 1, "{refusal}");
            let own_lines = after.split("\n[").next().expect("lines");
            for key in known {
                let inner = if section.is_empty() { format!("\n[{key}]\n") } else { format!("\n[{section}.{key}]\n") };
                let there = own_lines.lines().any(|line| line.starts_with(&format!("{key} = ")));
                assert!(there || full.contains(&inner), "{section} {key} is not in the sample");
            }
        }
    }
}
