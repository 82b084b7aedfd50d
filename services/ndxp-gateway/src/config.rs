//! The gateway's TOML file.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use httt_node::accounts::AccountsConfig;
use httt_node::assembly::NodeConfig;
use httt_node::config::{ConfigPath, HttpConfig, TelemetryConfig, TlsConfig};
use serde::Deserialize;

use crate::jetstream::JetStreamConfig;

/// Everything `ndxp-gateway` reads; unknown keys are refused. `deploy/ndxp-gateway.toml` documents each key.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: NodeConfig,
    /// Its certificate, and the authority that members' certificates come from.
    pub tls: TlsConfig,
    /// Where members call.
    pub exchange: ExchangeConfig,
    /// Where operators and monitors call.
    pub http: HttpConfig,
    /// Who may look at what operators see.
    pub accounts: AccountsConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Threads of the runtime; default: one a core.
    pub worker_threads: Option<NonZeroUsize>,
}

/// Section `[exchange]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExchangeConfig {
    /// Address of the gRPC end, mutual TLS.
    pub listen: SocketAddr,
    /// Folder of member files, enrolled at start.
    pub members: ConfigPath,
    /// Where the feeds are kept.
    #[serde(default)]
    pub store: StoreConfig,
}

/// Section `[exchange.store]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Which store.
    #[serde(default)]
    pub kind: StoreKind,
    /// The servers of `kind = "jetstream"`.
    pub jetstream: Option<JetStreamConfig>,
}

/// Where the feeds are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// In the node's own log: one process, nothing else to run.
    #[default]
    Log,
    /// In NATS JetStream: as many processes as are needed.
    JetStream,
}
