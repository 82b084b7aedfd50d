//! The national exchange: stores and forwards feeds, in its own log or in NATS JetStream ([`jetstream`]).
//!
//! Pushing needs the mutual-TLS identity of the feed's origin (or of its carrier), reading needs a right, each batch
//! taken gets a receipt that is itself a signed event, and nothing enters that does not verify. What it passes on, it
//! passes on untouched. The rules are in `httt-feed` and `httt-exchange`; this crate enrols members and puts the parts
//! together.

mod config;
pub mod jetstream;
mod members;
mod store;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use httt_node::assembly::{Node, Trust};
use httt_node::carrier::CarrierModels;
use httt_node::desk::{Desk, open_accounts};
use httt_node::exchange::{Receipts, Service, Store, grpc};
use httt_node::http::Readiness;
use httt_node::models::Models;
use httt_node::program::ServiceArgs;
use httt_node::service::announce_ready;
use httt_node::shutdown::Shutdown;
use httt_node::{api, http, tls, upstream};

use store::OpenStore;

pub use config::{Config, ExchangeConfig, StoreConfig, StoreKind};
pub use members::{Kind, MemberFile, MemberFileError, enrolment, read_members};

/// How often enrolling is tried at a start, and the pause between.
const ENROL_ATTEMPTS: usize = 20;
const ENROL_PAUSE: Duration = Duration::from_millis(300);

/// The program's name in logs and `--help`.
pub const NAME: &str = "ndxp-gateway";

/// Sàn trao đổi dữ liệu quốc gia (NDXP): the national exchange of the grassroots-information network.
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

/// Runs the gateway until `shutdown`.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let node = Node::open(&config.node, Trust::Own, concat!("ndxp-gateway ", env!("CARGO_PKG_VERSION"))).await?;
    let store = OpenStore::open(&config.exchange.store, &node, &shutdown).await?;
    enrol(&node, store.store.as_ref(), &config).await?;
    let readiness = Readiness::new();
    node.report_to(&readiness, &shutdown);
    let models = Models::<CarrierModels>::start(&node, &shutdown).await?;
    let service = Service::new(
        Arc::clone(&store.store),
        node.directory.clone(),
        node.media.clone(),
        Receipts::Issue,
        node.stopped.clone(),
        shutdown.watch(),
    );
    // Members remember what they saw of a gateway's log: several processes have several, and would look like liars.
    let witnessed = store.is_alone().then(|| Arc::clone(&node.witness));
    let service = Arc::new(match witnessed {
        Some(witness) => service.with_witness(witness),
        None => service,
    });
    models.read(|models| models.forks.feeds()).into_iter().for_each(|feed| node.stopped.stop(feed));

    let listener = http::bind(config.exchange.listen).await?;
    let exchange_at = listener.local_addr()?;
    let identity = upstream::tls_identity(&config.tls)?;
    let (serving, stop) = (Arc::clone(&service), shutdown.cancelled());
    shutdown
        .spawn("exchange", async move { grpc::serve(listener, &identity, serving, tls::member_identity, stop).await });

    let own_routes = store.serve(&service, &readiness, &shutdown);
    let accounts = open_accounts(&config.accounts)?;
    let desk = Desk { node: node.clone(), models, accounts, upstream: None };
    let http = api::serve(&config.http, api::routes(&desk, own_routes), &readiness, &shutdown).await?;
    announce_ready(NAME, &format!("exchange https://{exchange_at}, api {http}"));
    shutdown.cancelled().await;
    node.close(&shutdown).await;
    Ok(())
}

/// Brings the directory to what the member files say. The gateway's own enrolment is a batch of its own and the first
/// one, because that is the batch that a new member can verify with nothing but a fingerprint.
async fn enrol(node: &Node, store: &dyn Store, config: &Config) -> Result<()> {
    let files = read_members(&config.exchange.members)?;
    let (own, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.code == node.code.as_str());
    check_own(node, &own)?;
    for files in [own, others] {
        let mut attempts = 1..=ENROL_ATTEMPTS;
        loop {
            let events = enrolment(&node.directory.get(), &files);
            if events.is_empty() {
                break;
            }
            tracing::info!(events = events.len(), "enrolling members");
            match (store.say(events).await, attempts.next()) {
                (Ok(()), _) => break,
                // Another process of the gateway starts, too: what it said is not said again.
                (Err(error), Some(_)) => {
                    tracing::warn!(%error, "enrolling again");
                    tokio::time::sleep(ENROL_PAUSE).await;
                }
                (Err(error), None) => return Err(error).context("the directory cannot be written"),
            }
        }
    }
    Ok(())
}

/// What is sealed into the directory feed stays there: a wrong first batch, or one by a key that members do not know,
/// would be refused by every member for ever. So it is checked before anything is written.
fn check_own(node: &Node, own: &[MemberFile]) -> Result<()> {
    let [file] = own else {
        anyhow::bail!("[exchange] members: exactly one file must be the gateway's own, with code = {:?}", node.code);
    };
    anyhow::ensure!(file.kind == Kind::Gateway, "member file of {}: kind must be \"gateway\"", node.code);
    let has_key = members::keys(file).unwrap_or_default().iter().any(|key| key.fingerprint() == node.fingerprint);
    anyhow::ensure!(
        has_key,
        "member file of {}: public_keys lacks the key of [node] signing_key (fingerprint {})",
        node.code,
        node.fingerprint
    );
    let directory = node.directory.get();
    if let Some(member) = directory.member(&node.code) {
        let known = member.keys().any(|key| key.fingerprint() == node.fingerprint);
        anyhow::ensure!(
            known,
            "[node] signing_key: the directory does not know this key; start with the old one, which must add it first"
        );
    }
    Ok(())
}
