//! The optional way through a province's own integration platform: REST southward, gRPC with mutual TLS northward.
//!
//! It is a carrier: it keeps a log of its own, so that it goes on accepting while NDXP is away and drains afterwards, and
//! passes sealed bytes through untouched in both directions. Nobody needs to trust it.
//!
//! | Module | Subject |
//! |---|---|
//! | `config` | the TOML file |
//! | `calls` | who asked for what, kept for auditors |
//! | `media` | files that pass through |
//! | `openapi` | the platform described |

mod calls;
mod config;
mod media;
mod openapi;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use axum::Router;
use axum::http::Extensions;
use axum::routing::get;
use httt_node::api;
use httt_node::assembly::{Node, Trust};
use httt_node::carrier::CarrierModels;
use httt_node::clock;
use httt_node::desk::{Desk, open_accounts};
use httt_node::exchange::rest::{PlatformOptions, router};
use httt_node::exchange::{Receipts, Service};
use httt_node::http::{Peer, Readiness};
use httt_node::media::Pinned;
use httt_node::models::Models;
use httt_node::program::ServiceArgs;
use httt_node::service::announce_ready;
use httt_node::shutdown::Shutdown;
use httt_node::upstream::Upstream;

use calls::Calls;
pub use calls::CallsConfig;
pub use config::{ClientConfig, Config, QuotaConfig};
use media::ThroughMedia;

/// The program's name in logs and `--help`.
pub const NAME: &str = "lgsp-adapter";

/// Bộ chuyển tiếp LGSP: the way to NDXP through a province's own integration platform.
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

/// Runs the adapter until `shutdown`.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let clients = config::clients(&config)?;
    config.calls.check()?;
    let node = Node::open(&config.node, Trust::Configured, concat!("lgsp-adapter ", env!("CARGO_PKG_VERSION"))).await?;
    if config.http.tls.is_none() && !config.http.listen.ip().is_loopback() {
        anyhow::bail!("[http] tls is missing: secrets would travel in clear to {}", config.http.listen);
    }
    let readiness = Readiness::new();
    node.report_to(&readiness, &shutdown);
    // The origins have what is here, or the exchange has it.
    node.media.pin(Pinned::nothing);
    let models = Models::<CarrierModels>::start(&node, &shutdown).await?;
    let upstream = Upstream::new(&config.upstream, &config.tls, &node)?;
    let link = upstream.clone();

    let media = Arc::new(ThroughMedia::new(node.media.clone(), upstream.clone()));
    let service = Service::new(
        Arc::clone(&node.store),
        node.directory.clone(),
        media,
        Receipts::None,
        node.stopped.clone(),
        shutdown.watch(),
    );
    let service = service.with_witness(Arc::clone(&node.witness)).with_meter(node.meter.clone());
    let service = Arc::new(service.with_tally(node.tally.clone()));
    models.read(|models| models.forks.feeds()).into_iter().for_each(|feed| node.stopped.stop(feed));

    // What members sealed goes up; this node itself says nothing to others.
    let own = node.code.clone();
    let carried = move |directory: &httt_feed::Directory| {
        directory.speaks_for(&own).filter(|member| **member != own).cloned().collect()
    };
    let (copying, stop) = (node.clone(), shutdown.watch());
    shutdown.spawn("ndxp link", async move {
        upstream.run(copying, carried, stop).await;
        Ok::<_, std::convert::Infallible>(())
    });

    node.change_keys(None, &shutdown);

    let (calls, recording) = Calls::open(config.node.data_dir.join("calls"), config.calls, clock::system()).await?;
    let began = Instant::now();
    let platform = PlatformOptions {
        clients,
        records: calls.sink(),
        address_of,
        clock: clock::system(),
        uptime: Arc::new(move || i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX)),
    };
    let accounts = open_accounts(&config.accounts)?;
    let desk = Desk { node: node.clone(), models, accounts, upstream: Some(link) };
    let routes = api::routes(&desk, calls::routes(calls))
        .merge(router(service, platform))
        .merge(Router::new().route(openapi::PATH, get(openapi::show)));
    let http = api::serve(&config.http, routes, &readiness, &shutdown).await?;
    announce_ready(NAME, &format!("platform {http}"));
    shutdown.cancelled().await;
    // Calls end before the log does, and their records with them.
    node.close(&shutdown).await;
    recording.close().await;
    Ok(())
}

/// Where a request comes from; behind a proxy, the proxy.
fn address_of(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address().ip())
}
