//! The ministry's node: writes bulletins for the nation, sees how far each came, and adds up what provinces report.
//!
//! It is one log. Its own bulletins are in it, the provinces' feeds are copied into it through NDXP, and everything that
//! the JSON API answers is folded from it ([`CentralModels`]). The rules are in `httt-domain`; this crate lets people give
//! commands and look, and sends media where bulletins go. It works while the link is down.

mod changes;
mod config;
mod extract;
mod models;
mod reach;
mod reactor;
mod routes;
mod scope;
mod visible;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use httt_node::api;
use httt_node::assembly::{Node, Trust};
use httt_node::desk::{Desk, open_accounts};
use httt_node::http::Readiness;
use httt_node::media::Pinned;
use httt_node::models::Models;
use httt_node::program::ServiceArgs;
use httt_node::service::announce_ready;
use httt_node::shutdown::Shutdown;
use httt_node::upstream::Upstream;
use tokio::sync::Semaphore;

use changes::Changes;
pub use config::Config;
pub use models::CentralModels;
use reactor::MediaSender;
use routes::Central;
use routes::events::MAX_LISTENERS;

/// The program's name in logs and `--help`.
pub const NAME: &str = "central-source";

/// Hệ thống thông tin nguồn trung ương: the ministry's node of the grassroots-information network.
#[derive(Debug, clap::Parser)]
#[command(name = NAME, version)]
pub struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

/// A central source that runs.
pub struct Running {
    /// Where the API listens.
    pub http: SocketAddr,
    /// The node: its log, directory and media.
    pub node: Node,
}

/// Runs the program until a signal.
pub fn main(args: Args) -> ExitCode {
    args.service.main(NAME, |config: &Config| (&config.telemetry, config.worker_threads), run)
}

/// Runs the central source until `shutdown`.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let running = start(&config, &shutdown).await?;
    announce_ready(NAME, &format!("api {}", running.http));
    shutdown.cancelled().await;
    running.close(&shutdown).await;
    Ok(())
}

/// Starts the central source and returns when it answers.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn start(config: &Config, shutdown: &Shutdown) -> Result<Running> {
    let node =
        Node::open(&config.node, Trust::Configured, concat!("central-source ", env!("CARGO_PKG_VERSION"))).await?;
    // What is uploaded here is nowhere else for sure.
    node.media.pin(|| Pinned::All);
    let readiness = Readiness::new();
    node.report_to(&readiness, shutdown);
    let models = Models::<CentralModels>::start(&node, shutdown).await?;
    models.read(|models| models.forks.feeds()).into_iter().for_each(|feed| node.stopped.stop(feed));
    let upstream = Upstream::new(&config.upstream, &config.tls, &node)?;
    let accounts = open_accounts(&config.accounts)?;

    let (copying, link, own, stop) = (node.clone(), upstream.clone(), node.code.clone(), shutdown.watch());
    shutdown.spawn("ndxp link", async move {
        link.run(copying, move |_| vec![own.clone()], stop).await;
        Ok::<_, Infallible>(())
    });
    upstream.level().await;
    node.change_keys(None, shutdown);
    let sender = MediaSender::new(&node, models.clone(), upstream.clone());
    let stop = shutdown.watch();
    shutdown.spawn("media", async move {
        sender.run(stop).await;
        Ok::<_, Infallible>(())
    });
    let changes = Changes::new();
    shutdown.spawn("changes", changes.clone().tell(models.clone(), node.log.clone(), shutdown.watch()));

    let desk = Desk { node: node.clone(), models, accounts, upstream: Some(upstream) };
    let listeners = Arc::new(Semaphore::new(MAX_LISTENERS));
    let central = Central { desk, changes, listeners, shutdown: shutdown.clone() };
    let http = api::serve(&config.http, routes::router(&central), &readiness, shutdown).await?;
    Ok(Running { http, node })
}

impl Running {
    /// Waits for the parts to end, which they do once shutdown was triggered, and closes the log.
    pub async fn close(self, shutdown: &Shutdown) {
        self.node.close(shutdown).await;
    }
}
