//! The optional way through a province's own integration platform: REST with OAuth2 southward, gRPC with mutual TLS
//! northward.
//!
//! It is a carrier: it keeps a log of its own, so that it goes on accepting while NDXP is away and drains afterwards, and
//! passes sealed bytes through untouched in both directions. Nobody needs to trust it.

mod config;
mod media;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use httt_feed::{AgencyCode, Digest};
use httt_node::api;
use httt_node::assembly::{Node, Trust};
use httt_node::carrier::CarrierModels;
use httt_node::desk::{Desk, open_accounts};
use httt_node::exchange::rest::{ClientId, OAuthClients, router};
use httt_node::exchange::{LogStore, Receipts, Service};
use httt_node::http::Readiness;
use httt_node::models::Models;
use httt_node::program::ServiceArgs;
use httt_node::service::announce_ready;
use httt_node::shutdown::Shutdown;
use httt_node::upstream::Upstream;

pub use config::{ClientConfig, Config};
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
    let node = Node::open(&config.node, Trust::Configured, concat!("lgsp-adapter ", env!("CARGO_PKG_VERSION"))).await?;
    if config.http.tls.is_none() && !config.http.listen.ip().is_loopback() {
        anyhow::bail!("[http] tls is missing: OAuth2 secrets would travel in clear to {}", config.http.listen);
    }
    let readiness = Readiness::new();
    node.report_to(&readiness, &shutdown);
    let models = Models::<CarrierModels>::start(&node, &shutdown).await?;
    let upstream = Upstream::new(&config.upstream, &config.tls, &node)?;
    let link = upstream.clone();

    let media = Arc::new(ThroughMedia::new(node.media.clone(), upstream.clone()));
    let service = Service::new(
        Arc::new(LogStore::new(node.log.clone())),
        node.directory.clone(),
        media,
        Receipts::None,
        node.stopped.clone(),
        shutdown.watch(),
    );
    let service = Arc::new(service.with_witness(Arc::clone(&node.witness)));
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

    let clients = clients(&config.clients)?;
    let accounts = open_accounts(&config.accounts)?;
    let desk = Desk { node: node.clone(), models, accounts, upstream: Some(link) };
    let routes = api::routes(&desk, Router::new()).merge(router(service, Arc::new(clients)));
    let http = api::serve(&config.http, routes, &readiness, &shutdown).await?;
    announce_ready(NAME, &format!("platform {http}"));
    shutdown.cancelled().await;
    node.close(&shutdown).await;
    Ok(())
}

fn clients(configured: &[ClientConfig]) -> Result<OAuthClients> {
    let mut clients = HashMap::new();
    for client in configured {
        let member = AgencyCode::new(&client.member).with_context(|| format!("[[client]] {}", client.id))?;
        let secret_sha256: Digest = client
            .secret_sha256
            .parse()
            .map_err(|_| anyhow::anyhow!("[[client]] {}: secret_sha256 is not 64 hexadecimal digits", client.id))?;
        if clients.insert(client.id.clone(), ClientId { member, secret_sha256 }).is_some() {
            anyhow::bail!("[[client]] {} is there twice", client.id);
        }
    }
    Ok(OAuthClients::new(clients))
}
