//! Where the gateway of the bench keeps its feeds: in its log, or in JetStream on a server of the bench's own.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use httt_log::{Log, SystemClock};
use httt_ndxp_gateway::jetstream::{Connection, JetStreamConfig, JetStreamStore, Own};
use httt_node::exchange::{LogStore, SharedDirectory, Store};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bench::nats::StoreServer;

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StoreKind {
    /// The gateway's own log.
    Log,
    /// NATS JetStream: one nats-server from PATH, on this machine and disk.
    Jetstream,
}

/// What a run is about: the store, and the server behind it, which ends when this drops.
pub(super) struct Kept {
    server: Option<StoreServer>,
}

impl Kept {
    /// Starts what `kind` needs.
    ///
    /// # Errors
    /// There is no nats-server, or it does not start.
    pub(super) fn start(kind: StoreKind, dir: &Path) -> Result<Self> {
        let server = match kind {
            StoreKind::Log => None,
            StoreKind::Jetstream => Some(StoreServer::start(dir)?),
        };
        Ok(Self { server })
    }

    /// Opens the store for the gateway whose log this is.
    pub(super) async fn open(
        &self,
        log: &Log,
        directory: &SharedDirectory,
        closing: watch::Receiver<bool>,
    ) -> Result<Arc<dyn Store>> {
        let Some(server) = &self.server else { return Ok(Arc::new(LogStore::new(log.clone()))) };
        let config = json!({ "servers": [server.url()], "replicas": 1, "allow_volatile": true });
        let config: JetStreamConfig = serde_json::from_value(config)?;
        let connection = Connection::open(&config, "httt bench").await?;
        let settings = config.settings().map_err(anyhow::Error::msg)?;
        let own = Own { log: log.clone(), directory: directory.clone(), clock: Arc::new(SystemClock) };
        // Nothing gets lost here, so nobody is asked for it.
        let (store, _missing) =
            JetStreamStore::open(connection, settings, own, closing).await.context("the store of the gateway")?;
        Ok(Arc::new(store))
    }

    pub(super) fn to_json(&self) -> Value {
        match &self.server {
            None => json!({ "kind": "log" }),
            Some(server) => json!({
                "kind": "jetstream",
                "server": server.version(),
                "storage": "file",
                "replicas": 1,
                "sync": server.sync(),
            }),
        }
    }

    /// One line for people; nothing of what is always so.
    pub(super) fn to_text(&self) -> String {
        let told = |server: &StoreServer| {
            format!(
                "the gateway's store: JetStream of {}, one server, file storage, {}\n",
                server.version(),
                server.sync()
            )
        };
        self.server.as_ref().map(told).unwrap_or_default()
    }
}
