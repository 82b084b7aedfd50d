//! A provincial department's node: takes the ministry's bulletins to the loudspeakers of its communes, and takes upward
//! what became of them, what clusters do and what communes report.
//!
//! ```text
//! exchange ◄─► log ─► models ─► reactors ──► receipts, media, offers, status, plays ─► log
//!               ▲        │
//!               │        ├─► hub ─► waiting devices        /thiet-bi/…   JSON as vendors speak it
//!               └────────┴─► people's programs             /api/v1/…     JSON, openapi.json
//! ```
//!
//! | Module | Subject |
//! |---|---|
//! | `config` | the TOML file |
//! | [`models`] | what the node knows, folded from its log |
//! | `province` | what all parts share |
//! | `reactor` | what the node does by itself |
//! | `hub` | what concerns which device, and waking it |
//! | `device` | the device interface |
//! | `api` | people's API |
//! | `routes`, `openapi` | one table of routes: the server and its description |
//!
//! Everything here works while the link is down; the copier of `httt-exchange` catches up after.

mod api;
mod config;
mod device;
mod hub;
pub mod models;
mod openapi;
mod province;
mod quota;
mod reactor;
mod routes;
mod shelf;
mod tokens;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use httt_domain::area::Areas;
use httt_node::api as node_api;
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

pub use config::{Config, DevicesConfig};
pub use models::ProvinceModels;
use province::{Inner, Province, lock};

/// The program's name in logs and `--help`.
pub const NAME: &str = "provincial-source";

/// Hệ thống thông tin nguồn cấp tỉnh: a provincial department's node of the grassroots-information network.
#[derive(Debug, clap::Parser)]
#[command(name = NAME, version)]
pub struct Args {
    #[command(flatten)]
    service: ServiceArgs,
}

/// Runs the program until a signal.
pub fn main(args: Args) -> ExitCode {
    args.service.main(NAME, |config: &Config| (&config.telemetry, config.worker_threads), run)
}

/// Runs the node until `shutdown`.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let started = start(config, &shutdown).await?;
    announce_ready(NAME, &format!("api and devices {}", started.address));
    shutdown.cancelled().await;
    started.node.close(&shutdown).await;
    Ok(())
}

/// A node that runs until its [`Shutdown`] is triggered; then [`Node::close`] its log.
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its log, directory and media.
    pub node: Node,
    /// What it knows.
    pub models: Models<ProvinceModels>,
}

/// Starts the node.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn start(config: Config, shutdown: &Shutdown) -> Result<Started> {
    let ministry = config.check()?;
    let areas = Areas::in_force_2025();
    let node =
        Node::open(&config.node, Trust::Configured, concat!("provincial-source ", env!("CARGO_PKG_VERSION"))).await?;
    let tokens = {
        let data_dir = config.node.data_dir.to_path_buf();
        tokio::task::spawn_blocking(move || tokens::Tokens::open(&data_dir)).await??
    };
    let readiness = Readiness::new();
    node.report_to(&readiness, shutdown);
    let models = Models::<ProvinceModels>::start(&node, shutdown).await?;
    models.read(|models| models.forks.feeds()).into_iter().for_each(|feed| node.stopped.stop(feed));
    let upstream = Upstream::new(&config.upstream, &config.tls, &node)?;
    let accounts = open_accounts(&config.accounts).context("[accounts]")?;
    let desk = Desk { node: node.clone(), models: models.clone(), accounts, upstream: Some(upstream.clone()) };
    let communes = areas.communes_of(&config.area).into_iter().map(|commune| commune.code.clone());
    let command_expiry = Duration::from_secs(config.devices.command_expiry_s);
    let province = Province::new(Inner {
        areas,
        ministry,
        tokens,
        hub: hub::Hub::new(communes, desk.now_ms(), command_expiry),
        shelf: shelf::Shelf::new(node.media.clone()),
        statuses: Default::default(),
        played: Default::default(),
        schedules: Default::default(),
        deciding: Default::default(),
        quota: Default::default(),
        log_ins: Semaphore::new(device::log_in::AT_ONCE),
        stop: shutdown.watch(),
        home: config.area,
        settings: config.devices,
        desk,
    });
    let weak = province.weak();
    node.media.pin(move || weak().map_or(Pinned::All, |province| reactor::media::pinned(&province)));
    lock(&province.statuses).tracker = reactor::ticks::resume_statuses(&province);
    *lock(&province.played) = reactor::ticks::resume_played(&province);

    let own = node.code.clone();
    let (copying, stop) = (node.clone(), shutdown.watch());
    // It ends by itself, when it has told its peer.
    let link = upstream.clone();
    shutdown.spawn("exchange link", async move {
        link.run(copying, move |_| vec![own.clone()], stop).await;
        Ok::<_, Infallible>(())
    });
    upstream.level().await;
    node.change_keys(None, shutdown);
    part(shutdown, "devices", hub::follow(province.clone()));
    part(shutdown, "receipts", reactor::receive::run(province.clone()));
    part(shutdown, "media", reactor::media::run(province.clone()));
    part(shutdown, "emergency plays", reactor::ticks::emergencies(province.clone()));
    part(shutdown, "statuses", reactor::ticks::statuses(province.clone()));

    let (people, others) = routes::routers(&province);
    let routes = node_api::routes(&province.desk, people).merge(others);
    let address = node_api::serve(&config.http, routes, &readiness, shutdown).await?;
    Ok(Started { address, node, models })
}

/// Runs a reactor, which may be cut off anywhere: what it acts on is in the log, and what it does can be done again.
fn part(shutdown: &Shutdown, name: &str, work: impl Future<Output = ()> + Send + 'static) {
    let stop = shutdown.cancelled();
    shutdown.spawn(name, async move {
        tokio::select! {
            () = work => {}
            () = stop => {}
        }
        Ok::<_, Infallible>(())
    });
}
