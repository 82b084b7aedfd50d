//! The adapter's TOML file.

use std::num::NonZeroUsize;

use httt_node::accounts::AccountsConfig;
use httt_node::assembly::NodeConfig;
use httt_node::config::{HttpConfig, TelemetryConfig, TlsConfig};
use httt_node::upstream::UpstreamConfig;
use serde::Deserialize;

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
    /// OAuth2 clients.
    #[serde(rename = "client")]
    pub clients: Vec<ClientConfig>,
    /// Who may look at what operators see.
    pub accounts: AccountsConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Threads of the runtime; default: one a core.
    pub worker_threads: Option<NonZeroUsize>,
}

/// One `[[client]]`: a province that comes through this platform.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// `client_id`.
    pub id: String,
    /// The member it speaks for, e.g. `H55`.
    pub member: String,
    /// SHA-256 of its secret, hexadecimal; the secret itself is a random one of at least 128 bits.
    pub secret_sha256: String,
}
