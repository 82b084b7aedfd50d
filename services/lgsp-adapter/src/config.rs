//! The adapter's TOML file.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use httt_feed::{AgencyCode, Digest};
use httt_node::accounts::AccountsConfig;
use httt_node::assembly::NodeConfig;
use httt_node::config::{HttpConfig, TelemetryConfig, TlsConfig};
use httt_node::exchange::quota::{CallRates, Rate};
use httt_node::exchange::rest::{Client, ClientKey, Clients};
use httt_node::upstream::UpstreamConfig;
use serde::Deserialize;

use crate::calls::CallsConfig;

/// Everything `lgsp-adapter` reads; unknown keys are refused. `deploy/lgsp-adapter.toml` documents each key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// Its certificate towards NDXP.
    pub tls: TlsConfig,
    /// NDXP.
    pub upstream: UpstreamConfig,
    /// Where provinces, operators and monitors call.
    pub http: HttpConfig,
    /// Who may call.
    #[serde(rename = "client")]
    pub clients: Vec<ClientConfig>,
    /// How much a client may ask for.
    #[serde(default)]
    pub quota: QuotaConfig,
    /// How long records of calls are kept.
    #[serde(default)]
    pub calls: CallsConfig,
    /// Who may look at what operators see.
    pub accounts: AccountsConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Threads of the runtime; default: one a core.
    pub worker_threads: Option<NonZeroUsize>,
}

/// Section `[quota]`: what a client may ask for that says nothing else. Emergency and directory, heads, and everything
/// else are counted apart, each up to these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaConfig {
    /// Calls; 0: no limit.
    pub calls_per_minute: u64,
    /// Bytes, both ways together; 0: no limit.
    pub bytes_per_minute: u64,
}

impl Default for QuotaConfig {
    fn default() -> Self {
        Self { calls_per_minute: 6_000, bytes_per_minute: 256 << 20 }
    }
}

/// One `[[client]]`: a province that comes through this platform. OAuth2 has `id` and `secret_sha256`; headers have
/// `app_name`, `access_key` and `secret_key_sha256`. Secrets are random ones of at least 128 bits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// The member it speaks for, e.g. `H55`.
    pub member: String,
    /// `client_id`.
    pub id: Option<String>,
    /// SHA-256 of `client_secret`, hexadecimal.
    pub secret_sha256: Option<String>,
    /// `AppName`.
    pub app_name: Option<String>,
    /// `AccessKey`.
    pub access_key: Option<String>,
    /// SHA-256 of `SecretKey`, hexadecimal.
    pub secret_key_sha256: Option<String>,
    /// It is let in no more.
    #[serde(default)]
    pub disabled: bool,
    /// As in `[quota]`, for this client.
    pub calls_per_minute: Option<u64>,
    /// As in `[quota]`, for this client.
    pub bytes_per_minute: Option<u64>,
}

/// The clients as the platform knows them.
///
/// # Errors
/// One that makes no sense, or two of one name.
pub(crate) fn clients(config: &Config) -> Result<Clients> {
    let clients = config.clients.iter().enumerate().map(|(index, client)| {
        let named = client.id.as_ref().or(client.access_key.as_ref());
        client.read(&config.quota).with_context(|| match named {
            Some(name) => format!("[[client]] {name}"),
            None => format!("[[client]] number {}", index + 1),
        })
    });
    let clients = Clients::new(clients.collect::<Result<Vec<_>>>()?);
    clients.map_err(|twice| anyhow!("[[client]] {twice}: each needs a name of its own"))
}

impl ClientConfig {
    fn read(&self, quota: &QuotaConfig) -> Result<Client> {
        let key = match (&self.id, &self.secret_sha256, &self.app_name, &self.access_key, &self.secret_key_sha256) {
            (Some(id), Some(secret), None, None, None) => {
                ClientKey::OAuth2 { id: name("id", id)?, secret_sha256: digest("secret_sha256", secret)? }
            }
            (None, None, Some(app_name), Some(access_key), Some(secret)) => ClientKey::Headers {
                app_name: name("app_name", app_name)?,
                access_key: name("access_key", access_key)?,
                secret_key_sha256: digest("secret_key_sha256", secret)?,
            },
            _ => bail!(
                "either id and secret_sha256 (OAuth2), or app_name, access_key and secret_key_sha256 (headers); a \
                 member that uses both has two [[client]]"
            ),
        };
        Ok(Client {
            key,
            member: AgencyCode::new(&self.member).context("member")?,
            rates: CallRates {
                calls: Rate::per_minute(self.calls_per_minute.unwrap_or(quota.calls_per_minute)),
                bytes: Rate::per_minute(self.bytes_per_minute.unwrap_or(quota.bytes_per_minute)),
            },
            disabled: self.disabled,
        })
    }
}

/// Longest name of a client.
const MAX_NAME_BYTES: usize = 100;

fn name(field: &str, text: &str) -> Result<String> {
    let good = (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    ensure!(good, "{field}: 1 to {MAX_NAME_BYTES} visible ASCII characters, since it travels in headers");
    Ok(text.to_owned())
}

fn digest(field: &str, text: &str) -> Result<Digest> {
    text.parse().map_err(|_| anyhow!("{field} is not 64 hexadecimal digits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Client> {
        let client: ClientConfig = toml::from_str(text).expect("TOML");
        client.read(&QuotaConfig::default())
    }

    #[test]
    fn a_client_has_one_kind_of_credentials() {
        let sha256 = "00".repeat(32);
        let oauth = format!("member = 'H55'\nid = 'h55'\nsecret_sha256 = '{sha256}'\n");
        let keys = format!("app_name = 'httt'\naccess_key = 'K1'\nsecret_key_sha256 = '{sha256}'\n");
        let client = read(&format!("{oauth}bytes_per_minute = 0\n")).expect("client");
        assert_eq!(client.rates, CallRates { calls: Rate::per_minute(6_000), bytes: Rate::UNLIMITED });
        assert_eq!(read(&format!("member = 'H55'\n{keys}disabled = true")).expect("client").key.name(), "httt/K1");
        for (wrong, told) in [
            (format!("{oauth}{keys}"), "two [[client]]"),
            ("member = 'H55'\nid = 'h55'".into(), "either id"),
            (format!("member = 'H55'\nid = ''\nsecret_sha256 = '{sha256}'"), "id: 1 to"),
            ("member = 'H55'\nid = 'h55'\nsecret_sha256 = 'xyz'".into(), "secret_sha256"),
            (format!("member = 'h55'\nid = 'h55'\nsecret_sha256 = '{sha256}'"), "member"),
        ] {
            let error = format!("{:#}", read(&wrong).expect_err(told));
            assert!(error.contains(told), "{error}");
        }
    }
}
