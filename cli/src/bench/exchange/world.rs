//! A gateway, the ministry and provinces, as they stand on their own machines: a log, a key and TLS each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, Directory, FeedId, Fingerprint, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_ndxp_gateway::{Kind, MemberFile, enrolment, read_members};
use httt_node::config::ConfigPath;
use httt_node::exchange::grpc::{self, GrpcPeer, TlsIdentity};
use httt_node::exchange::{
    Link, Meter, Receipts, RunnerOptions, Service, Settings, SharedDirectory, StoppedFeeds, Store, Tally, run,
};
use httt_node::media::{MediaConfig, MediaStore};
use httt_node::tls::{self, TlsConfig};
use httt_node::upstream::tls_identity;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::ExchangeArgs;
use super::store::Kept;
use crate::pki;

/// How long anything may take that is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);

/// Everybody.
pub(super) struct World {
    dir: PathBuf,
    address: String,
    trusted: Fingerprint,
    gateway: Member,
    store: Arc<dyn Store>,
    pub(super) ministry: Member,
    pub(super) provinces: Vec<Member>,
    serving: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

/// One node.
pub(super) struct Member {
    pub(super) code: AgencyCode,
    pub(super) log: Log,
    directory: SharedDirectory,
    copying: Option<JoinHandle<()>>,
}

impl Member {
    /// Appends events of `payload` bytes to a feed of this node, in one commit.
    pub(super) async fn say(&self, audience: &Audience, lane: Lane, events: Vec<Bytes>) -> Result<()> {
        let event = |data| NewEvent {
            id: uuid::Uuid::now_v7(),
            audience: audience.clone(),
            lane,
            stream: format!("bench/{audience}/{lane}"),
            kind: "httt.bench.v1.Said".into(),
            actor: String::new(),
            traceparent: String::new(),
            occurred_at_ms: None,
            data,
        };
        self.log.commit(Transaction::append(events.into_iter().map(event))).await?;
        Ok(())
    }

    /// The last sequence of `feed` that is on this node's disk.
    pub(super) fn sequence(&self, feed: &FeedId) -> u64 {
        self.log.head(feed).map_or(0, |head| head.sequence)
    }

    /// Waits until this node's disk has `feed` up to `sequence`.
    pub(super) async fn holds(&self, feed: &FeedId, sequence: u64) -> Result<()> {
        let mut length = self.log.watch();
        let arrived = async {
            while self.sequence(feed) < sequence {
                length.changed().await?;
            }
            anyhow::Ok(())
        };
        let late = || format!("{} has {feed} only up to {}", self.code, self.sequence(feed));
        tokio::time::timeout(PATIENCE, arrived).await.with_context(late)?
    }
}

impl World {
    /// Enrols everybody, starts the gateway, and lets everybody copy. One more province is enrolled, and stays away.
    pub(super) async fn start(dir: &Path, args: &ExchangeArgs, kept: &Kept) -> Result<Self> {
        let keys = dir.join("pki");
        pki::init(&keys)?;
        let codes: Vec<String> = (1..=args.provinces).map(|n| format!("H{n:02}")).collect();
        let everybody = [("NDXP", Kind::Gateway), ("TW", Kind::Central), (Self::AWAY, Kind::Province)];
        let provinces = codes.iter().map(|code| (code.as_str(), Kind::Province));
        let mut trusted = None;
        for (code, kind) in everybody.into_iter().chain(provinces) {
            let file = MemberFile {
                code: code.to_owned(),
                name: String::new(),
                kind,
                area: String::new(),
                public_keys: vec![],
                certificates: vec![],
                carriers: vec![],
            };
            let fingerprint = pki::member(&keys, file, &[])?;
            trusted = trusted.or(Some(fingerprint));
        }
        let trusted = trusted.context("a gateway")?;
        let gateway = open(dir, "NDXP", trusted)?;
        let stop = watch::Sender::new(false);
        let store = kept.open(&gateway.log, &gateway.directory, stop.subscribe()).await?;
        let files = read_members(&keys.join("members"))?;
        // The gateway's own enrolment is the first batch: it is what a new member can verify.
        let (own, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| file.code == "NDXP");
        for files in [own, others] {
            let events = enrolment(&gateway.directory.get(), &files);
            store.say(events).await?;
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("https://{}", listener.local_addr()?);
        let serving = serve(dir, &gateway, Arc::clone(&store), listener, &stop)?;
        let mut world = Self {
            ministry: open(dir, "TW", trusted)?,
            provinces: Vec::new(),
            dir: dir.to_owned(),
            address,
            trusted,
            gateway,
            store,
            serving,
            stop,
        };
        world.ministry.copying = Some(world.copy(&world.ministry)?);
        for code in codes {
            let mut province = open(dir, &code, trusted)?;
            province.copying = Some(world.copy(&province)?);
            world.provinces.push(province);
        }
        let directory = FeedId::directory(&world.gateway.code);
        let founded = world.gateway.sequence(&directory);
        for member in world.provinces.iter().chain([&world.ministry]) {
            member.holds(&directory, founded).await?;
        }
        Ok(world)
    }

    /// Waits until the gateway has taken `feed` up to `sequence`.
    pub(super) async fn gateway_holds(&self, feed: &FeedId, sequence: u64) -> Result<()> {
        let mut changes = self.store.watch();
        let head = || self.store.head(feed).map_or(0, |head| head.sequence);
        let arrived = async {
            while head() < sequence {
                changes.changed().await?;
            }
            anyhow::Ok(())
        };
        let late = || format!("the gateway has {feed} only up to {}", head());
        tokio::time::timeout(PATIENCE, arrived).await.with_context(late)?
    }

    /// Code of the province that is away until it is asked for.
    pub(super) const AWAY: &str = "H99";

    /// The province that was away comes; it copies from now on.
    pub(super) fn come_back(&self) -> Result<Member> {
        let mut member = open(&self.dir, Self::AWAY, self.trusted)?;
        member.copying = Some(self.copy(&member)?);
        Ok(member)
    }

    fn copy(&self, member: &Member) -> Result<JoinHandle<()>> {
        let peer = GrpcPeer::new(&self.address, "localhost", &identity(&self.dir, member.code.as_str())?)?;
        let own = member.code.clone();
        let seed = u64::from(member.code.as_str().bytes().map(u32::from).sum::<u32>());
        let options = RunnerOptions {
            pushes_for: Arc::new(move |_| vec![own.clone()]),
            settings: Settings { seed, ..Settings::default() },
            span_of: Arc::new(|_| tracing::Span::none()),
            stopped: StoppedFeeds::default(),
            meter: Meter::default(),
            tally: Tally::default(),
            bandwidth: None,
        };
        let (log, directory, stop) = (member.log.clone(), member.directory.clone(), self.stop.subscribe());
        Ok(tokio::spawn(run(log, directory, Arc::new(peer), Link::default(), options, stop)))
    }

    /// TLS of the gateway and of one member, for the plain hop.
    pub(super) fn tls(&self) -> (TlsConfig, TlsConfig) {
        (tls_files(&self.dir, "NDXP"), tls_files(&self.dir, "TW"))
    }

    /// Folder for files of the plain hop.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends everything, the logs last.
    pub(super) async fn stop(self) {
        self.stop.send_replace(true);
        let Self { gateway, store, ministry, provinces, serving, .. } = self;
        for member in provinces.into_iter().chain([ministry]) {
            close(member).await;
        }
        // The server waits for connections that its callers have closed by now.
        let _ = tokio::time::timeout(Duration::from_secs(10), serving).await;
        drop(store);
        close(gateway).await;
    }
}

/// Ends a member's copying and closes its log.
pub(super) async fn close(member: Member) {
    if let Some(copying) = member.copying {
        copying.abort();
        let _ = copying.await;
    }
    member.log.close().await;
}

fn tls_files(dir: &Path, code: &str) -> TlsConfig {
    let file = |name: &str| ConfigPath::new(dir.join("pki").join(code).join(name));
    TlsConfig {
        certificate: file("tls.pem"),
        key: file("tls.key"),
        ca: Some(ConfigPath::new(dir.join("pki").join("ca.pem"))),
    }
}

fn identity(dir: &Path, code: &str) -> Result<TlsIdentity> {
    Ok(tls_identity(&tls_files(dir, code))?)
}

fn open(dir: &Path, code: &str, trusted: Fingerprint) -> Result<Member> {
    let pem = std::fs::read_to_string(dir.join("pki").join(code).join("signing.key"))?;
    let (key, code) = (SigningKey::from_pem(&pem)?, AgencyCode::new(code)?);
    let known = Directory::trusting(trusted).knowing_own(code.clone(), key.public().clone());
    let (log, _) = Log::open(&dir.join(code.as_str()), Arc::new(Sealer::new(code.clone(), key)), Options::default())?;
    let directory = SharedDirectory::new(log.clone(), known);
    Ok(Member { code, log, directory, copying: None })
}

fn serve(
    dir: &Path,
    gateway: &Member,
    store: Arc<dyn Store>,
    listener: TcpListener,
    stop: &watch::Sender<bool>,
) -> Result<JoinHandle<()>> {
    let service = Arc::new(Service::new(
        store,
        gateway.directory.clone(),
        Arc::new(MediaStore::open(dir.join("media"), &MediaConfig::default())?),
        Receipts::Issue,
        StoppedFeeds::default(),
        stop.subscribe(),
    ));
    let (identity, mut stopped) = (identity(dir, "NDXP")?, stop.subscribe());
    Ok(tokio::spawn(async move {
        let stop = async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = grpc::serve(listener, &identity, service, tls::member_identity, stop).await {
            tracing::error!(%error, "the gateway of the bench");
        }
    }))
}
