//! The gateway's TOML file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU32, NonZeroUsize};

use anyhow::Context as _;
use httt_feed::AgencyCode;
use httt_node::accounts::AccountsConfig;
use httt_node::assembly::NodeConfig;
use httt_node::config::{ConfigPath, HttpConfig, TelemetryConfig, TlsConfig};
use httt_node::exchange::Limits;
use httt_node::exchange::grpc::ConnectionLimits;
use httt_node::exchange::quota::{CallRates, Rate};
use serde::Deserialize;

use crate::jetstream::JetStreamConfig;
use crate::retention::MaxAgeDays;

const MIB: usize = 1024 * 1024;

/// Most connections that can be configured: each takes a file descriptor, and memory.
const MAX_CONNECTIONS: usize = 1_000_000;

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
    /// How far members have read is written down at most this often, seconds.
    #[serde(default = "default_delivery_every_s")]
    pub delivery_every_s: NonZeroU32,
    /// The log was restored from a backup, or is begun anew: nothing is said or taken before every member told what it
    /// holds of the gateway's own feeds, and brought what is missing.
    #[serde(default)]
    pub restored: bool,
    /// What members may ask for.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Where the feeds are kept.
    #[serde(default)]
    pub store: StoreConfig,
}

fn default_delivery_every_s() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(299)
}

/// Section `[exchange.limits]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Calls of one member and class a minute; 0: no limit.
    pub calls_per_minute: u64,
    /// MiB of one member and class a minute, both ways together; 0: no limit.
    pub mib_per_minute: u64,
    /// Calls of one member and class under way at once, long-polls aside.
    pub calls_under_way: NonZeroUsize,
    /// Long-polls of one member under way at once.
    pub long_polls: NonZeroUsize,
    /// MiB that one member's calls of one class may hold in memory.
    pub member_mib: NonZeroUsize,
    /// MiB that all calls of one class may hold in memory.
    pub all_mib: NonZeroUsize,
    /// Members with rates of their own.
    pub members: BTreeMap<String, MemberLimits>,
    /// Connections at a time, a million at most.
    pub connections: NonZeroUsize,
    /// Of one member; one more closes its oldest.
    pub member_connections: NonZeroUsize,
    /// TLS handshakes at a time.
    pub handshakes: NonZeroUsize,
    /// Percent of the connections and of the handshakes that one source address may have.
    pub address_percent: NonZeroU8,
}

/// Rates of one member; what is left out is as for all.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberLimits {
    /// See [`LimitsConfig::calls_per_minute`].
    pub calls_per_minute: Option<u64>,
    /// See [`LimitsConfig::mib_per_minute`].
    pub mib_per_minute: Option<u64>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = Limits::default();
        let count = |value| NonZeroUsize::new(value).unwrap_or(NonZeroUsize::MIN);
        Self {
            calls_per_minute: 30_000,
            mib_per_minute: 2_048,
            calls_under_way: count(limits.calls_under_way),
            long_polls: count(limits.long_polls),
            member_mib: count(limits.member_bytes / MIB),
            all_mib: count(limits.all_bytes / MIB),
            members: BTreeMap::new(),
            connections: count(limits.connections.all),
            member_connections: count(limits.connections.of_member),
            handshakes: count(limits.connections.handshakes),
            address_percent: NonZeroU8::new(limits.connections.address_percent).unwrap_or(NonZeroU8::MIN),
        }
    }
}

impl LimitsConfig {
    /// The limits as the exchange takes them.
    ///
    /// # Errors
    /// A member of `members` that has no agency's code; connections that do not fit into one another.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let rates = |calls: u64, mib: u64| CallRates {
            calls: Rate::per_minute(calls),
            bytes: Rate::per_minute(mib.saturating_mul(MIB as u64)),
        };
        let members = self.members.iter().map(|(code, own)| {
            let code = AgencyCode::new(code).with_context(|| format!("[exchange.limits] members: {code:?}"))?;
            let calls = own.calls_per_minute.unwrap_or(self.calls_per_minute);
            Ok((code, rates(calls, own.mib_per_minute.unwrap_or(self.mib_per_minute))))
        });
        Ok(Limits {
            rates: rates(self.calls_per_minute, self.mib_per_minute),
            members: members.collect::<anyhow::Result<_>>()?,
            calls_under_way: self.calls_under_way.get(),
            long_polls: self.long_polls.get(),
            member_bytes: self.member_mib.get().saturating_mul(MIB),
            all_bytes: self.all_mib.get().saturating_mul(MIB),
            connections: self.connection_limits()?,
        })
    }

    fn connection_limits(&self) -> anyhow::Result<ConnectionLimits> {
        let (all, address_percent) = (self.connections.get(), self.address_percent.get());
        anyhow::ensure!(all <= MAX_CONNECTIONS, "[exchange.limits] connections: at most {MAX_CONNECTIONS}");
        for (key, value) in [("member_connections", self.member_connections), ("handshakes", self.handshakes)] {
            anyhow::ensure!(value.get() <= all, "[exchange.limits] {key}: no more than connections, which is {all}");
        }
        anyhow::ensure!(address_percent <= 100, "[exchange.limits] address_percent: a percentage from 1 to 100");
        let (of_member, handshakes) = (self.member_connections.get(), self.handshakes.get());
        Ok(ConnectionLimits { all, of_member, handshakes, address_percent })
    }
}

/// Section `[exchange.store]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreConfig {
    /// Which store.
    #[serde(default)]
    pub kind: StoreKind,
    /// How `kind = "log"` keeps them.
    #[serde(default)]
    pub log: LogStoreConfig,
    /// The servers of `kind = "jetstream"`.
    pub jetstream: Option<JetStreamConfig>,
}

/// Section `[exchange.store.log]`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogStoreConfig {
    /// Days after which entries of a lane are let go; 0 keeps them.
    pub max_age_days: MaxAgeDays,
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
