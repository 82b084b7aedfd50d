//! Gateway processes over JetStream, and members that copy through them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use httt_exchange::carry::{Exporter, ImportReport, Importer, Selection};
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::*;
use httt_log::{Log, NewEvent, Options, SystemClock, Transaction};
use httt_ndxp_gateway::jetstream::{Connection, JetStreamConfig, JetStreamError, JetStreamStore, Own, Settings};
use httt_wire::Message as _;
use httt_wire::bulletin::BulletinWithdrawn;
use httt_wire::directory as pb;
use httt_wire::exchange::{self as wire, PushRequest, PushResponse};
use tempfile::TempDir;
use tokio::sync::watch;

use crate::nats::{NatsServer, PATIENCE, until};
use crate::proxy::Proxy;

pub fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

pub fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("key")
}

pub fn feed(text: &str) -> FeedId {
    text.parse().expect("feed")
}

/// Opens a log, once whoever had it before has let it go.
async fn open_log(dir: &Path, member: &str, with: &str) -> Log {
    until("the log", || async {
        let sealer = Arc::new(Sealer::new(code(member), key(with)));
        Log::open(dir, sealer, Options::default()).ok().map(|(log, _)| log)
    })
    .await
}

/// Nobody exchanges media here.
struct NoMedia;

impl Media for NoMedia {
    fn stat<'a>(&'a self, _: &'a AgencyCode, digest: Digest, _: bool) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
    fn read(&self, digest: Digest, _: u64, _: usize, _: bool) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
    fn write<'a>(
        &'a self,
        _: &'a AgencyCode,
        digest: Digest,
        _: u64,
        _: u64,
        _: Bytes,
        _: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
}

/// How the tests' servers are told of.
pub fn config(servers: &[&NatsServer], allow_volatile: bool) -> JetStreamConfig {
    config_of(&servers.iter().map(|server| server.url()).collect::<Vec<_>>(), allow_volatile)
}

fn config_of(servers: &[String], allow_volatile: bool) -> JetStreamConfig {
    let text = format!("servers = {servers:?}\nallow_volatile = {allow_volatile}\nreplicas = 1");
    toml::from_str(&text).expect("configuration")
}

pub fn settings(replicas: usize) -> Settings {
    Settings { replicas, scrub_every: Duration::from_millis(500), ..Settings::default() }
}

/// No look comes by itself.
pub fn seldom() -> Settings {
    Settings { scrub_every: Duration::from_secs(3_600), ..settings(1) }
}

/// One process of the gateway.
pub struct Gateway {
    pub log: Log,
    pub store: JetStreamStore,
    pub service: Arc<Service>,
    pub stopped: StoppedFeeds,
    pub directory: SharedDirectory,
    pub asked: Arc<Mutex<Vec<(FeedId, u64, u64)>>>,
    pub stop: watch::Sender<bool>,
    dir: TempDir,
}

impl Gateway {
    /// A process with an empty folder.
    pub async fn open(servers: &[&NatsServer], settings: Settings) -> Self {
        Self::open_in(tempfile::tempdir().expect("dir"), servers, settings).await.expect("starts")
    }

    /// A process with an empty folder that reaches the server through `proxy`.
    pub async fn open_through(proxy: &Proxy, settings: Settings) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        Self::open_by(dir, &config_of(&[proxy.url()], true), settings).await.expect("starts")
    }

    pub async fn open_in(dir: TempDir, servers: &[&NatsServer], settings: Settings) -> Result<Self, JetStreamError> {
        Self::open_by(dir, &config(servers, true), settings).await
    }

    async fn open_by(dir: TempDir, config: &JetStreamConfig, settings: Settings) -> Result<Self, JetStreamError> {
        let gateway = Self::bare_in(dir, config, settings, "NDXP").await?;
        if gateway.directory.get().gateway().is_none() {
            for events in founding() {
                // Servers that just began may still choose leaders.
                until("enrolment", || async { gateway.store.say(events.clone()).await.ok() }).await;
            }
        }
        Ok(gateway)
    }

    /// A process with an empty folder that enrols nobody.
    pub async fn bare(servers: &[&NatsServer], settings: Settings) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        Self::bare_in(dir, &config(servers, true), settings, "NDXP").await.expect("starts")
    }

    /// A process with an empty folder and another key than the first one.
    pub async fn with_key(servers: &[&NatsServer], settings: Settings, with: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        Self::bare_in(dir, &config(servers, true), settings, with).await.expect("starts")
    }

    async fn bare_in(
        dir: TempDir,
        config: &JetStreamConfig,
        settings: Settings,
        with: &str,
    ) -> Result<Self, JetStreamError> {
        let log = open_log(dir.path(), "NDXP", with).await;
        let known = Directory::trusting(key(with).public().fingerprint());
        let known = known.knowing_own(code("NDXP"), key(with).public().clone());
        let directory = SharedDirectory::new(log.clone(), known);
        let own = Own { log: log.clone(), directory: directory.clone(), clock: Arc::new(SystemClock) };
        let stop = watch::Sender::new(false);
        let connection = Connection::open(config, "test").await?;
        let (store, mut missing) = JetStreamStore::open(connection, settings, own, stop.subscribe()).await?;
        let stopped = StoppedFeeds::default();
        let service = Service::new(
            Arc::new(store.clone()),
            directory.clone(),
            Arc::new(NoMedia),
            Receipts::Issue,
            stopped.clone(),
            stop.subscribe(),
        );
        let service = Arc::new(service);
        let (asking, asked) = (Arc::clone(&service), Arc::<Mutex<Vec<_>>>::default());
        let noted = Arc::clone(&asked);
        let mut ended = stop.subscribe();
        let ask = async move {
            while let Some(missing) = missing.recv().await {
                noted.lock().expect("lock").push((missing.feed.clone(), missing.after, missing.until));
                asking.want_again(&missing.feed, missing.after, missing.until);
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = ask => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
        Ok(Self { log, store, service, stopped, directory, asked, stop, dir })
    }

    /// Ends the process; its folder stays.
    pub async fn end(self) -> TempDir {
        let Self { log, store, service, stop, dir, .. } = self;
        stop.send_replace(true);
        drop((store, service));
        log.close().await;
        dir
    }

    pub fn peer(&self, caller: &str) -> Arc<MemoryPeer> {
        Arc::new(MemoryPeer::new("gateway", Arc::clone(&self.service), code(caller)))
    }

    /// Takes and makes files.
    pub fn hand(&self) -> Hand {
        Hand { store: Arc::new(self.store.clone()), directory: self.directory.clone(), stopped: self.stopped.clone() }
    }

    pub async fn push(&self, batches: &[VerifiedBatch]) -> PushResponse {
        let feed = batches[0].feed();
        let entries = batches.iter().map(|batch| batch.bytes().clone()).collect();
        let request = PushRequest { feed: Some(feed.to_wire()), entries, ..Default::default() };
        self.service.push(&feed.origin, request).await
    }

    /// Reads a whole feed as its audience; waits for what is asked of its origin.
    pub async fn read_all(&self, caller: &str, of: &str, to: u64) -> Vec<Bytes> {
        until(&format!("{of} up to {to}"), || async {
            let (mut entries, mut after) = (Vec::new(), 0);
            while after < to {
                let request = wire::ReadRequest {
                    feed: Some(feed(of).to_wire()),
                    after,
                    max_bytes: 100_000,
                    ..Default::default()
                };
                let answer = self.service.read(&code(caller), &request).await;
                if answer.entries.is_empty() {
                    return None;
                }
                after += answer.entries.len() as u64;
                entries.extend(answer.entries);
            }
            Some(entries)
        })
        .await
    }

    pub async fn has_head(&self, of: &str, sequence: u64) {
        until(&format!("{of} {sequence}"), || async {
            self.store.head(&feed(of)).filter(|head| head.sequence >= sequence)
        })
        .await;
    }

    /// Receipts in this process's log, by the sequence they are of.
    pub fn receipts(&self, to: &str) -> HashMap<u64, wire::Receipt> {
        let of = feed(&format!("NDXP→{to}/report"));
        let (mut receipts, mut after) = (HashMap::new(), 0);
        loop {
            let entries = self.log.read_feed(&of, after, 1 << 20).expect("reads");
            let Some(last) = entries.last() else { return receipts };
            after = last.sequence;
            let events = entries.iter().flat_map(|entry| &entry.batch.events);
            for event in events.filter(|event| event.r#type.ends_with(".Receipt")) {
                let receipt = wire::Receipt::decode(event.data.clone()).expect("receipt");
                let again = receipts.insert(receipt.sequence, receipt);
                assert_eq!(again, None, "a batch has two receipts");
            }
        }
    }
}

/// The directory's first batches.
pub fn founding() -> [Vec<NewEvent>; 2] {
    let enrol = |member: &str, kind: MemberKind| {
        let enrolled = pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
        let added = pb::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) };
        let stream = format!("member/{member}");
        [
            NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &enrolled),
            NewEvent::of(Audience::All, Lane::Directory, stream, &added),
        ]
    };
    let others = [("TW", MemberKind::Central), ("H24", MemberKind::Province), ("H55", MemberKind::Province)];
    [
        enrol("NDXP", MemberKind::Gateway).to_vec(),
        others.into_iter().flat_map(|(member, kind)| enrol(member, kind)).collect(),
    ]
}

/// A small event.
pub fn event(of: &str, version: u64, word: &str) -> httt_wire::feed::Event {
    let said = BulletinWithdrawn { bulletin: format!("b{version}"), reason: word.into() };
    httt_wire::feed::Event {
        id: Digest::of(format!("{of} {version} {word}").as_bytes()).0[..16].to_vec(),
        stream: "s".into(),
        version,
        r#type: "httt.bulletin.v1.BulletinWithdrawn".into(),
        data: said.encode_to_vec().into(),
        ..Default::default()
    }
}

/// Batches of a feed, one small event each.
pub fn batches(of: &str, count: u64, word: &str) -> Vec<VerifiedBatch> {
    let feed = feed(of);
    let sealer = Sealer::new(feed.origin.clone(), key(feed.origin.as_str()));
    let mut head = None;
    (1..=count)
        .map(|version| {
            let batch = sealer.seal(&feed, head.as_ref(), 0, vec![event(of, version, word)]).expect("seals");
            head = Some(batch.head());
            batch
        })
        .collect()
}

/// What carries feeds by hand at a node.
pub struct Hand {
    store: Arc<dyn Store>,
    directory: SharedDirectory,
    stopped: StoppedFeeds,
}

impl Hand {
    pub async fn select(&self, selection: Selection) -> Vec<u8> {
        let exporter = Exporter::new(Arc::clone(&self.store), self.directory.clone(), Arc::new(NoMedia));
        let mut export = exporter.begin(&selection, None, 0).await.expect("exports");
        let mut file = Vec::new();
        while let Some(bytes) = export.next().await.expect("reads") {
            file.extend_from_slice(&bytes);
        }
        file
    }

    pub async fn export(&self, reader: &str) -> Vec<u8> {
        self.select(Selection::all_for(code(reader))).await
    }

    pub async fn import(&self, file: &[u8]) -> ImportReport {
        let (store, directory, stopped) = (Arc::clone(&self.store), self.directory.clone(), self.stopped.clone());
        let mut import = Importer::new(store, directory, Arc::new(NoMedia), stopped, Gate::default()).begin();
        import.push(file).await;
        import.finish()
    }

    pub async fn takes(&self, file: &[u8]) -> ImportReport {
        let report = self.import(file).await;
        assert!(report.ok, "{report:#?}");
        report
    }
}

/// A member with its log.
pub struct Member {
    pub code: AgencyCode,
    pub log: Log,
    directory: SharedDirectory,
    stop: watch::Sender<bool>,
    _dir: TempDir,
}

impl Member {
    pub async fn open(member: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let log = open_log(dir.path(), member, member).await;
        let directory = SharedDirectory::new(log.clone(), Directory::trusting(key("NDXP").public().fingerprint()));
        Self { code: code(member), log, directory, stop: watch::Sender::new(false), _dir: dir }
    }

    /// Takes and makes files.
    pub fn hand(&self) -> Hand {
        let store = Arc::new(LogStore::new(self.log.clone()));
        Hand { store, directory: self.directory.clone(), stopped: StoppedFeeds::default() }
    }

    /// Copies through `gateway` from now on.
    pub fn copy_through(&self, gateway: &Gateway) -> Arc<MemoryPeer> {
        let (peer, me) = (gateway.peer(self.code.as_str()), self.code.clone());
        let options = RunnerOptions {
            pushes_for: Arc::new(move |_| vec![me.clone()]),
            settings: httt_exchange::Settings { backoff_first_ms: 20, refusal_pause_ms: 200, ..Default::default() },
            span_of: Arc::new(|_| tracing::Span::none()),
            stopped: StoppedFeeds::default(),
            meter: httt_exchange::Meter::default(),
            tally: httt_exchange::Tally::default(),
            bandwidth: None,
        };
        let (log, directory, stop) = (self.log.clone(), self.directory.clone(), self.stop.subscribe());
        tokio::spawn(run(log, directory, Arc::clone(&peer), httt_exchange::Link::default(), options, stop));
        peer
    }

    pub async fn say(&self, audience: &str, lane: Lane, count: u64) {
        for number in 1..=count {
            let said = BulletinWithdrawn { bulletin: format!("b{number}"), reason: "r".into() };
            let audience = Audience::new(audience).expect("audience");
            let stream = format!("{lane}/{audience}");
            let event = NewEvent::of(audience, lane, stream, &said);
            self.log.commit(Transaction::append([event])).await.expect("commits");
        }
    }

    pub async fn holds(&self, of: &str, sequence: u64) {
        let (of, mut length) = (feed(of), self.log.watch());
        let arrived = async {
            while self.log.head(&of).is_none_or(|head| head.sequence < sequence) {
                length.changed().await.expect("log open");
            }
        };
        let held = tokio::time::timeout(PATIENCE, arrived).await;
        held.unwrap_or_else(|_| panic!("{} lacks {of} {sequence}", self.code));
    }

    /// The bytes of an own or copied feed.
    pub fn entries(&self, of: &str) -> Vec<Bytes> {
        let entries = self.log.read_feed(&feed(of), 0, 16 << 20).expect("reads");
        entries.into_iter().map(|entry| entry.bytes).collect()
    }
}
