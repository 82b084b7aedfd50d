//! Opens the store that the configuration names.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::routing::get;
use axum::{Json as Answer, Router};
use httt_exchange::Service;
use httt_feed::Lane;
use httt_log::SystemClock;
use httt_node::assembly::Node;
use httt_node::http::Readiness;
use httt_node::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::config::{StoreConfig, StoreKind};
use crate::jetstream::{Connection, JetStreamStore, MissingEntries, Own};

/// How often `/readyz` looks whether the servers are there.
const HEALTH_LOOK: Duration = Duration::from_millis(500);

/// Lets `node` hold its feeds where the configuration says, until `shutdown`: for who works on a gateway's feeds
/// without serving them.
///
/// # Errors
/// The store does not open.
pub async fn hold_feeds(config: &StoreConfig, node: &mut Node, shutdown: &Shutdown) -> Result<()> {
    OpenStore::open(config, node, shutdown).await.map(drop)
}

/// What goes with a store that is not the node's log.
pub(crate) struct OpenStore {
    /// How long entries of a lane are kept in the node's log; of those that are not here, for good.
    pub(crate) ages: BTreeMap<Lane, Duration>,
    jetstream: Option<(JetStreamStore, mpsc::Receiver<MissingEntries>)>,
}

impl OpenStore {
    /// Opens the store, which `node` holds its feeds in from now on.
    pub(crate) async fn open(config: &StoreConfig, node: &mut Node, shutdown: &Shutdown) -> Result<Self> {
        match (config.kind, &config.jetstream) {
            (StoreKind::Log, _) => {
                let ages = config.log.max_age_days.ages();
                let ages = ages.map_err(|cause| anyhow::anyhow!("[exchange.store.log] {cause}"))?;
                Ok(Self { ages, jetstream: None })
            }
            (StoreKind::JetStream, None) => {
                anyhow::bail!("[exchange.store] kind = \"jetstream\" needs the section [exchange.store.jetstream]")
            }
            (StoreKind::JetStream, Some(servers)) => {
                let connection = Connection::open(servers, &format!("{} {}", crate::NAME, node.code)).await?;
                let settings =
                    servers.settings().map_err(|cause| anyhow::anyhow!("[exchange.store.jetstream] {cause}"))?;
                let own =
                    Own { log: node.log.clone(), directory: node.directory.clone(), clock: Arc::new(SystemClock) };
                let (store, missing) = JetStreamStore::open(connection, settings, own, shutdown.watch())
                    .await
                    .context("[exchange.store] kind = \"jetstream\"")?;
                node.store = Arc::new(store.clone());
                Ok(Self { ages: BTreeMap::new(), jetstream: Some((store, missing)) })
            }
        }
    }

    /// Whether this process is all there is of the gateway, so that its log can be shown as the gateway's one history.
    pub(crate) fn is_alone(&self) -> bool {
        self.jetstream.is_none()
    }

    /// Lets `service` ask for what turns out to be missing, and `readiness` tell whether the servers are there. Gives
    /// the store's own routes.
    pub(crate) fn serve(self, service: &Arc<Service>, readiness: &Readiness, shutdown: &Shutdown) -> Router {
        let Some((store, mut missing)) = self.jetstream else { return Router::new() };
        let (service, stop) = (Arc::clone(service), shutdown.cancelled());
        tokio::spawn(async move {
            let ask = async {
                while let Some(MissingEntries { feed, after, until }) = missing.recv().await {
                    service.want_again(&feed, after, until);
                }
            };
            tokio::select! {
                () = ask => {}
                () = stop => {}
            }
        });
        let (part, watched, stop) = (readiness.register("jetstream"), store.clone(), shutdown.cancelled());
        tokio::spawn(async move {
            let look = async {
                loop {
                    let status = watched.status();
                    match status.streams.iter().find_map(|stream| stream.away.as_ref()) {
                        Some(why) => part.not_ready(why),
                        None if !status.connected => part.not_ready("no NATS server is connected"),
                        None if status.silent.is_some() => part.not_ready(status.silent.unwrap_or_default()),
                        None => part.ready(),
                    }
                    tokio::time::sleep(HEALTH_LOOK).await;
                }
            };
            tokio::select! {
                () = look => {}
                () = stop => {}
            }
        });
        Router::new().route("/api/v1/store", get(|| async move { Answer(store.status()) }))
    }
}
