//! Section `[exchange.store.jetstream]`, and what it comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use httt_feed::Lane;
use httt_node::config::{ConfigPath, Secret};
use serde::Deserialize;

use crate::retention::MaxAgeDays;

/// Servers that can be named: a cluster's, and a spare site's.
const MAX_SERVERS: usize = 16;
/// Longest prefix of streams and subjects.
const MAX_PREFIX: usize = 32;

/// Section `[exchange.store.jetstream]`; `deploy/ndxp-gateway.toml` documents each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JetStreamConfig {
    /// `nats://host:4222`, one of each server.
    pub servers: Vec<String>,
    /// Monitoring addresses (`http://host:8222`), one of each server: the only place that tells `sync_interval`.
    #[serde(default)]
    pub monitors: Vec<String>,
    /// Start on servers that do not promise to keep what they acknowledge.
    #[serde(default)]
    pub allow_volatile: bool,
    /// Servers that hold each message: 1, 3 or 5.
    #[serde(default = "default_replicas")]
    pub replicas: usize,
    /// Streams are called PREFIX-LANE, subjects begin with PREFIX.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// User name, with `password`.
    pub user: Option<String>,
    /// Its password.
    pub password: Option<Secret>,
    /// Seed of an NKey, instead of user and password.
    pub nkey: Option<Secret>,
    /// A credentials file (JWT and seed), instead of both.
    pub credentials: Option<ConfigPath>,
    /// TLS towards the servers; may be left out for loopback addresses only.
    pub tls: Option<NatsTls>,
    /// Minutes between two looks for what is missing.
    #[serde(default = "default_scrub_minutes")]
    pub scrub_minutes: u64,
    /// Days after which entries of a lane are let go; 0 keeps them.
    #[serde(default)]
    pub max_age_days: MaxAgeDays,
}

/// TLS towards NATS.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsTls {
    /// The authority of the servers' certificates.
    pub ca: ConfigPath,
    /// This gateway's certificate, where servers ask for one.
    pub certificate: Option<ConfigPath>,
    /// Its key.
    pub key: Option<ConfigPath>,
}

fn default_replicas() -> usize {
    3
}
fn default_prefix() -> String {
    "httt".into()
}
fn default_scrub_minutes() -> u64 {
    60
}

/// Long enough to put up the fences of every member, and to say the directory after them.
const FENCE_PATIENCE: Duration = Duration::from_secs(10);

/// How feeds are kept in JetStream.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Streams are called PREFIX-LANE, subjects begin with PREFIX.
    pub prefix: String,
    /// Servers that hold each message.
    pub replicas: usize,
    /// How long entries of a lane are kept; a lane that is not here: for good.
    pub max_age: BTreeMap<Lane, Duration>,
    /// Pause between two looks for what is missing.
    pub scrub_every: Duration,
    /// How long a change of the directory that was begun is waited for before it is given up.
    pub fence_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let (prefix, replicas) = (default_prefix(), default_replicas());
        let scrub_every = Duration::from_secs(default_scrub_minutes() * 60);
        Self { prefix, replicas, max_age: BTreeMap::new(), scrub_every, fence_patience: FENCE_PATIENCE }
    }
}

impl JetStreamConfig {
    /// The rules across keys, and what they come to.
    ///
    /// # Errors
    /// Text: the key, what is wrong, what to do.
    pub fn settings(&self) -> Result<Settings, String> {
        if self.servers.is_empty() || self.servers.len() > MAX_SERVERS {
            return Err(format!("servers: name 1 to {MAX_SERVERS}, as in \"nats://127.0.0.1:4222\""));
        }
        if self.tls.is_none()
            && let Some(server) = self.servers.iter().find(|server| !is_loopback(server))
        {
            return Err(format!(
                "servers: {server} is not on this machine; name tls.ca, or everybody on the way reads"
            ));
        }
        if !matches!(self.replicas, 1 | 3 | 5) {
            return Err("replicas: 1, 3 or 5".into());
        }
        let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX || !self.prefix.bytes().all(good) {
            return Err(format!("prefix: 1 to {MAX_PREFIX} letters, digits, - or _"));
        }
        let ways = [self.user.is_some(), self.nkey.is_some(), self.credentials.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 || self.user.is_some() != self.password.is_some() {
            return Err("user and password, or nkey, or credentials: one of them".into());
        }
        if self.tls.as_ref().is_some_and(|tls| tls.certificate.is_some() != tls.key.is_some()) {
            return Err("tls: certificate and key, both or none".into());
        }
        if self.scrub_minutes == 0 {
            return Err("scrub_minutes: 1 at least".into());
        }
        let max_age = self.max_age_days.ages()?;
        Ok(Settings {
            prefix: self.prefix.clone(),
            replicas: self.replicas,
            max_age,
            scrub_every: Duration::from_secs(self.scrub_minutes.saturating_mul(60)),
            fence_patience: FENCE_PATIENCE,
        })
    }
}

/// Whether an address, with or without scheme and port, is this machine's.
fn is_loopback(server: &str) -> bool {
    let rest = server.split_once("://").map_or(server, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let host = match rest.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => rest.split([':', '/']).next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Settings, String> {
        toml::from_str::<JetStreamConfig>(text).map_err(|error| error.to_string())?.settings()
    }

    #[test]
    fn servers_elsewhere_need_tls() {
        for local in ["nats://127.0.0.1:4222", "localhost:4222", "nats://[::1]:4222", "nats://127.0.0.2"] {
            assert!(parse(&format!("servers = [{local:?}]")).is_ok(), "{local}");
        }
        let far = parse("servers = [\"nats://127.0.0.1\", \"nats://nats-1.example:4222\"]").expect_err("far");
        assert!(far.contains("nats-1.example") && far.contains("tls.ca"), "{far}");
        assert!(parse("servers = [\"nats://nats-1.example:4222\"]\ntls = { ca = \"/ca.pem\" }").is_ok());
    }

    #[test]
    fn wrong_keys_are_named() {
        for (line, named) in [
            ("replicas = 2", "replicas"),
            ("prefix = \"a.b\"", "prefix"),
            ("user = \"u\"", "password"),
            ("scrub_minutes = 0", "scrub_minutes"),
            ("max_age_days = { status = 9999 }", "max_age_days"),
            ("max_age_days = { report = 1 }", "report"),
            ("tls = { ca = \"/ca.pem\", key = \"/k.pem\" }", "tls"),
        ] {
            let error = parse(&format!("servers = [\"nats://127.0.0.1\"]\n{line}")).expect_err(line);
            assert!(error.contains(named), "{error}");
        }
        assert!(parse("servers = []").expect_err("none").contains("servers"));
    }

    #[test]
    fn days_become_ages_of_lanes() {
        let settings = parse("servers = [\"nats://127.0.0.1\"]\nmax_age_days = { status = 2 }").expect("good");
        assert_eq!(settings.max_age, BTreeMap::from([(Lane::Status, Duration::from_secs(2 * 24 * 60 * 60))]));
        assert_eq!((settings.replicas, settings.prefix.as_str()), (3, "httt"));
    }
}
