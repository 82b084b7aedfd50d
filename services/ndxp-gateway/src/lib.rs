//! The national exchange: stores and forwards feeds, in its own log or in NATS JetStream ([`jetstream`]).
//!
//! Pushing needs the mutual-TLS identity of the feed's origin (or of its carrier), reading needs a right, each batch
//! taken gets a receipt that is itself a signed event, and nothing enters that does not verify. What it passes on, it
//! passes on untouched. The rules are in `httt-feed` and `httt-exchange`; this crate enrols members and puts the parts
//! together.

mod config;
mod figures;
pub mod jetstream;
mod members;
mod retention;
mod store;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use httt_feed::{AgencyCode, PublicKey};
use httt_node::assembly::{Node, Trust};
use httt_node::carrier::CarrierModels;
use httt_node::deliveries::{self, DeliveryView};
use httt_node::desk::{Desk, open_accounts};
use httt_node::exchange::{Asks, Deliveries, OwnFeeds, Receipts, Service, Store, grpc};
use httt_node::http::{Readiness, ReadinessPart};
use httt_node::media::Pinned;
use httt_node::models::Models;
use httt_node::program::ServiceArgs;
use httt_node::service::announce_ready;
use httt_node::shutdown::Shutdown;
use httt_node::{api, http, tls, upstream};

use members::{Office, Waiting};
use store::OpenStore;

pub use config::{Config, ExchangeConfig, LimitsConfig, LogStoreConfig, MemberLimits, StoreConfig, StoreKind};
pub use members::{
    Admission, AdmissionAnswer, CertificateAnswer, Command, Context, KeptOut, KeptOutAnswer, KeyAnswer, Kind,
    MAX_ADMISSION_FILE_BYTES, MAX_ADMITTED, MAX_CERTIFICATES, MAX_DIGESTS_PER_EVENT, MAX_KEYS, MAX_REASON_BYTES,
    MemberDetail, MemberFile, MemberFileError, Order, Reading, Refusal, answer_to, decide, enrolment, read_members,
};
pub use retention::MaxAgeDays;
pub use store::hold_feeds;

/// How often enrolling is tried at a start, and the pause between.
const ENROL_ATTEMPTS: usize = 20;
const ENROL_PAUSE: Duration = Duration::from_millis(300);
/// How often a restored gateway looks whether it has back what it had said.
const RESTORED_LOOK: Duration = Duration::from_millis(200);

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

/// A gateway that answers.
pub struct Running {
    /// Where members call.
    pub exchange: SocketAddr,
    /// Where operators call.
    pub http: SocketAddr,
    node: Node,
}

impl Running {
    /// Waits for the parts to end, which they do once shutdown was triggered, and closes the log.
    pub async fn close(self, shutdown: &Shutdown) {
        self.node.close(shutdown).await;
    }
}

/// Runs the gateway until `shutdown`.
///
/// # Errors
/// Whatever keeps it from starting, or ends it.
pub async fn run(config: Config, shutdown: Shutdown) -> Result<()> {
    let running = start(&config, &shutdown).await?;
    announce_ready(NAME, &format!("exchange https://{}, api {}", running.exchange, running.http));
    shutdown.cancelled().await;
    running.close(&shutdown).await;
    Ok(())
}

/// Starts the gateway and returns when it answers.
///
/// # Errors
/// Whatever keeps it from starting.
pub async fn start(config: &Config, shutdown: &Shutdown) -> Result<Running> {
    let mut node = Node::open(&config.node, Trust::Own, concat!("ndxp-gateway ", env!("CARGO_PKG_VERSION"))).await?;
    let open = OpenStore::open(&config.exchange.store, &mut node, shutdown).await?;
    let store = Arc::clone(&node.store);
    let restored = config.exchange.restored;
    let members = read_members(&config.exchange.members)?;
    if open.is_alone() {
        let enrolled = members.iter().filter_map(|file| AgencyCode::new(&file.code).ok());
        node.own_feeds = OwnFeeds::asking(if restored { Asks::AllFirst(enrolled.collect()) } else { Asks::EachBefore });
    } else if restored {
        anyhow::bail!(
            "[exchange] restored: with kind = \"jetstream\" the gateway's own feeds are not in its log; see docs/jetstream.md"
        );
    }
    if !restored {
        enrol(&node, store.as_ref(), &members).await?;
    }
    let readiness = Readiness::new();
    node.report_to(&readiness, shutdown);
    // The origins have what is here.
    node.media.pin(Pinned::nothing);
    let models = Models::<CarrierModels>::start(&node, shutdown).await?;
    let deliveries = Deliveries::default();
    models.read(|models| models.delivered.restore(&deliveries));
    deliveries::keep(&deliveries, &store, Duration::from_secs(config.exchange.delivery_every_s.get().into()), shutdown);
    let service = Service::new(
        Arc::clone(&store),
        node.directory.clone(),
        node.media.clone(),
        Receipts::Issue,
        node.stopped.clone(),
        shutdown.watch(),
    );
    // Members remember what they saw of a gateway's log: several processes have several, and would look like liars.
    let service = if open.is_alone() { service.with_witness(Arc::clone(&node.witness)) } else { service };
    let service = service.with_meter(node.meter.clone()).with_tally(node.tally.clone()).with_gate(node.gate.clone());
    let service = service.with_own_feeds(node.own_feeds.clone());
    let service = service.with_deliveries(deliveries.clone()).with_limits(config.exchange.limits.limits()?);
    let service = Arc::new(service);
    let view = DeliveryView::new(deliveries, Arc::clone(&store), node.directory.clone());
    view.tell(&node.metrics);
    figures::tell(&service, &node.metrics);
    // After the models: what goes was folded.
    retention::keep(&node.log, open.ages.clone(), &node.metrics, shutdown);
    models.read(|models| models.forks.feeds()).into_iter().for_each(|feed| node.stopped.stop(feed));

    let listener = http::bind(config.exchange.listen).await?;
    let exchange = listener.local_addr()?;
    let identity = upstream::tls_identity(&config.tls)?;
    let (serving, stop) = (Arc::clone(&service), shutdown.cancelled());
    shutdown
        .spawn("exchange", async move { grpc::serve(listener, &identity, serving, tls::member_identity, stop).await });

    if restored {
        let (node, store, service) = (node.clone(), Arc::clone(&store), Arc::clone(&service));
        let (part, stop) = (readiness.register("own feeds"), shutdown.cancelled());
        shutdown.spawn("own feeds", async move {
            tokio::select! {
                begun = begin_restored(&node, store.as_ref(), &service, &members, part) => begun,
                () = stop => Ok(()),
            }
        });
    }
    node.change_keys(Some(members::announce(Arc::clone(&service), !open.is_alone())), shutdown);
    let answering = members::answer(Arc::clone(&store), Arc::clone(&service), shutdown.watch());
    shutdown.spawn("members' keys", async move {
        answering.await;
        Ok::<_, std::convert::Infallible>(())
    });

    let own_routes = open.serve(&service, &readiness, shutdown);
    let accounts = open_accounts(&config.accounts)?;
    let waiting = Waiting::default();
    let office = Office { service, accounts: Arc::clone(&accounts), node: node.clone(), store, waiting };
    let desk = Desk { node: node.clone(), models, accounts, upstream: None };
    let routes = api::routes(&desk, view.routes().merge(members::routes(office)).merge(own_routes));
    let http = api::serve(&config.http, routes, &readiness, shutdown).await?;
    Ok(Running { exchange, http, node })
}

/// Waits until this gateway has back what it had said before it was restored, and then does what others do at their start.
async fn begin_restored(
    node: &Node,
    store: &dyn Store,
    service: &Service,
    members: &[MemberFile],
    part: ReadinessPart,
) -> Result<()> {
    let mut told = None;
    while let Some(waits) = service.waits() {
        part.not_ready(waits.to_string());
        if told.as_ref() != Some(&waits) {
            tracing::warn!(%waits, "[exchange] restored = true");
            told = Some(waits);
        }
        tokio::time::sleep(RESTORED_LOOK).await;
    }
    tracing::info!("every member was heard and nothing is missing; [exchange] restored can be put back");
    enrol(node, store, members).await?;
    part.remove();
    Ok(())
}

/// Enrols the members that have a file and are not known yet. The gateway's own enrolment is a batch of its own and the first
/// one, because that is the batch that a new member can verify with nothing but a fingerprint.
async fn enrol(node: &Node, store: &dyn Store, files: &[MemberFile]) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = files.iter().cloned().partition(|file| file.code == node.code.as_str());
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
    // Its key may have been revoked while it did not run, and the next one be there: that is taken up.
    let next = node.keys.state()?.next.map(|next| next.public().fingerprint());
    let is_own = |key: &PublicKey| key.fingerprint() == node.fingerprint();
    let is_next = |key: &PublicKey| next == Some(key.fingerprint());
    match node.directory.get().member(&node.code) {
        // The key may have changed since the file was written.
        Some(member) => anyhow::ensure!(
            member.keys().any(|key| is_own(key) || is_next(key)),
            "[node] signing_key: the directory does not know this key, or it was revoked; start with the one before, \
             and change it by `httt key rotate`; where several processes of the gateway run, put the key that the others \
             use beside it, in a file ending in .next"
        ),
        None => anyhow::ensure!(
            members::keys(file).unwrap_or_default().iter().any(is_own),
            "member file of {}: public_keys lacks the key of [node] signing_key (fingerprint {})",
            node.code,
            node.fingerprint()
        ),
    }
    Ok(())
}
