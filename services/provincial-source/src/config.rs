//! The province's TOML file.

use std::num::NonZeroUsize;

use anyhow::{Context as _, Result, bail, ensure};
use httt_domain::area::{Areas, Level};
use httt_domain::device::CommandCodes;
use httt_feed::AgencyCode;
use httt_node::accounts::AccountsConfig;
use httt_node::assembly::NodeConfig;
use httt_node::config::{HttpConfig, TelemetryConfig, TlsConfig};
use httt_node::upstream::UpstreamConfig;
use serde::Deserialize;

/// Least pause between two looks at what changed.
const MIN_TICK_MS: u64 = 100;

/// Everything `provincial-source` reads; unknown keys are refused. `deploy/provincial-source.toml` documents each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Code of the province this node answers for, e.g. `31`.
    pub area: String,
    /// Threads of the runtime; default: one a core.
    pub worker_threads: Option<NonZeroUsize>,
    /// Who this node is.
    pub node: NodeConfig,
    /// Its certificate towards the exchange, and the authority that the exchange's certificate comes from.
    pub tls: TlsConfig,
    /// The exchange, directly or through the province's platform.
    pub upstream: UpstreamConfig,
    /// Where people, devices and monitors call.
    pub http: HttpConfig,
    /// Who may log in.
    pub accounts: AccountsConfig,
    /// Loudspeaker clusters.
    #[serde(default)]
    pub devices: DevicesConfig,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
}

/// Section `[devices]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevicesConfig {
    /// How often a cluster is expected to report, ms.
    pub status_every_ms: u64,
    /// A cluster that was not heard of for so long counts as offline, ms; longer than `status_every_ms`.
    pub offline_after_ms: u64,
    /// How often what changed is written and goes up, ms; at least 100.
    pub status_tick_ms: u64,
    /// How long an emergency without an end of its own is offered to clusters, minutes from its arrival here.
    pub default_emergency_minutes: u32,
    /// How long a command waits for a cluster that does not fetch it, s; after that nobody means it any more.
    pub command_expiry_s: u64,
    /// Agency code of the ministry: whose bulletins are taken, and who hears of clusters and reports.
    pub publisher: String,
    /// Begins the addresses of media files, `https://loa.example.vn`; without it they are paths on this server.
    pub public_url: Option<String>,
    /// What vendors call their commands.
    pub command_codes: CommandCodes,
}

impl Default for DevicesConfig {
    fn default() -> Self {
        Self {
            status_every_ms: 60_000,
            offline_after_ms: 180_000,
            status_tick_ms: 60_000,
            default_emergency_minutes: 120,
            command_expiry_s: 300,
            publisher: "TW".to_owned(),
            public_url: None,
            command_codes: CommandCodes::default(),
        }
    }
}

impl Config {
    /// The rules that no single key can break; gives the ministry's code.
    pub(crate) fn check(&self) -> Result<AgencyCode> {
        let Some(area) = Areas::in_force_2025().get(&self.area) else {
            bail!("area: there is no area with the code {:?} in the list in force", self.area)
        };
        ensure!(area.level == Level::Province, "area: {} ({}) is not a province", area.name, area.code);
        let devices = &self.devices;
        ensure!(
            devices.offline_after_ms > devices.status_every_ms,
            "[devices] offline_after_ms ({}) must be greater than status_every_ms ({})",
            devices.offline_after_ms,
            devices.status_every_ms
        );
        ensure!(devices.status_tick_ms >= MIN_TICK_MS, "[devices] status_tick_ms must be at least {MIN_TICK_MS}");
        ensure!(devices.default_emergency_minutes > 0, "[devices] default_emergency_minutes must not be 0");
        ensure!(devices.command_expiry_s > 0, "[devices] command_expiry_s must not be 0");
        if let Some(url) = &devices.public_url {
            let good = url.starts_with("https://") && !url.ends_with('/');
            ensure!(good, "[devices] public_url must begin with https:// and end without a slash");
        }
        devices.command_codes.check().map_err(|refusal| anyhow::anyhow!("[devices] {refusal}"))?;
        AgencyCode::new(&devices.publisher).context("[devices] publisher")
    }
}
