//! A gateway and members over real logs.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

pub mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use httt_exchange::*;
use httt_feed::*;
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_wire::directory as pb;
use tempfile::TempDir;
use tokio::sync::watch;

pub fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

pub fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("key")
}

/// Media in memory.
#[derive(Default)]
pub struct MemoryMedia {
    files: Mutex<HashMap<Digest, (u64, Vec<u8>)>>,
    /// Whether each call so far was for an emergency.
    pub urgent: Mutex<Vec<bool>>,
}

impl Media for MemoryMedia {
    fn stat<'a>(
        &'a self,
        _: &'a AgencyCode,
        digest: Digest,
        urgent: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        self.urgent.lock().expect("lock").push(urgent);
        let held = self.files.lock().expect("lock").get(&digest).map(|(size, data)| (*size, data.len() as u64));
        let (size, held) = held.unwrap_or_default();
        Box::pin(async move { Ok(MediaStat { held, size, complete: size > 0 && held == size }) })
    }
    fn read(
        &self,
        digest: Digest,
        offset: u64,
        max: usize,
        urgent: bool,
    ) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>> {
        self.urgent.lock().expect("lock").push(urgent);
        let found = self.files.lock().expect("lock").get(&digest).cloned();
        Box::pin(async move {
            let (size, data) = found.ok_or(MediaError::NotHeld(digest))?;
            let end = (offset as usize + max).min(data.len());
            Ok((Bytes::copy_from_slice(&data[offset as usize..end]), size))
        })
    }
    fn write<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        size: u64,
        offset: u64,
        data: Bytes,
        urgent: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>> {
        {
            let mut all = self.files.lock().expect("lock");
            let (_, held) = all.entry(digest).or_insert((size, Vec::new()));
            if held.len() as u64 != offset {
                return Box::pin(async { Err(MediaError::Refused("out of step".into())) });
            }
            held.extend_from_slice(&data);
        }
        self.stat(member, digest, urgent)
    }
}

/// A node with its log in a folder of its own.
pub struct Node {
    pub code: AgencyCode,
    pub log: Log,
    pub directory: SharedDirectory,
    pub stop: watch::Sender<bool>,
    dir: TempDir,
}

impl Node {
    pub fn open(member: &str) -> Self {
        Self::open_with(member, Options::default())
    }

    pub fn open_with(member: &str, options: Options) -> Self {
        Self::at(member, options, |_| {})
    }

    /// A node whose folder is filled before its log is opened.
    pub fn at(member: &str, options: Options, fill: impl FnOnce(&std::path::Path)) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        fill(dir.path());
        let sealer = Arc::new(Sealer::new(code(member), key(member)));
        let (log, _) = Log::open(dir.path(), sealer, options).expect("opens");
        let directory = SharedDirectory::new(log.clone(), Directory::trusting(key("NDXP").public().fingerprint()));
        Self { code: code(member), log, directory, stop: watch::Sender::new(false), dir }
    }

    pub async fn say(&self, audience: &str, lane: Lane, stream: &str) {
        let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: stream.into(), reason: "r".into() };
        let audience = Audience::new(audience).expect("audience");
        let event = NewEvent::of(audience, lane, stream, &said);
        self.log.commit(Transaction::append([event])).await.expect("commits");
    }

    /// Enrols a province: the gateway does.
    pub async fn enrol(&self, member: &str) {
        let enrolled =
            pb::MemberEnrolled { member: member.into(), kind: MemberKind::Province.into(), ..Default::default() };
        let added = pb::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) };
        let stream = format!("member/{member}");
        let events = [
            NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &enrolled),
            NewEvent::of(Audience::All, Lane::Directory, stream, &added),
        ];
        self.log.commit(Transaction::append(events)).await.expect("enrols");
    }

    /// Puts many batches of one event each into an own feed.
    pub async fn backlog(&self, feed: &str, count: u64) {
        for some in batches(self.code.as_str(), feed, count, 0).chunks(1_000) {
            self.log.commit(Transaction::copy(some.to_vec())).await.expect("takes");
        }
    }

    /// Copies with `peer` in the background, pushing for `members`.
    pub fn copy_with<P: Peer>(&self, peer: Arc<P>, members: &[&str]) -> httt_exchange::Link {
        self.copy_counting(peer, members, Meter::default())
    }

    /// The same, counted.
    pub fn copy_counting<P: Peer>(&self, peer: Arc<P>, members: &[&str], meter: Meter) -> httt_exchange::Link {
        let link = httt_exchange::Link::default();
        let members: Vec<_> = members.iter().map(|member| code(member)).collect();
        let options = RunnerOptions {
            pushes_for: Arc::new(move |_| members.clone()),
            settings: Settings { backoff_first_ms: 20, refusal_pause_ms: 200, ..Settings::default() },
            span_of: Arc::new(|_| tracing::Span::none()),
            stopped: StoppedFeeds::default(),
            meter,
            tally: Tally::default(),
            bandwidth: None,
        };
        tokio::spawn(run(self.log.clone(), self.directory.clone(), peer, link.clone(), options, self.stop.subscribe()));
        link
    }

    /// Waits until this log holds `feed` up to `sequence`.
    pub async fn holds(&self, feed: &str, sequence: u64) {
        let feed: FeedId = feed.parse().expect("feed");
        let mut length = self.log.watch();
        let arrived = async {
            while self.log.head(&feed).is_none_or(|head| head.sequence < sequence) {
                length.changed().await.expect("log open");
            }
        };
        let limit = std::time::Duration::from_secs(180);
        tokio::time::timeout(limit, arrived).await.unwrap_or_else(|_| panic!("{} lacks {feed} {sequence}", self.code));
    }
}

/// A gateway with a founded directory, and its service.
pub async fn gateway() -> (Node, Arc<Service>) {
    let node = Node::open("NDXP");
    found(&node).await;
    let service = service(&node, Receipts::Issue);
    (node, service)
}

/// Enrols everybody.
pub async fn found(node: &Node) {
    let enrol = |member: &str, kind: MemberKind| {
        let enrolled = pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
        let added = pb::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) };
        let stream = format!("member/{member}");
        [
            NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &enrolled),
            NewEvent::of(Audience::All, Lane::Directory, stream, &added),
        ]
    };
    node.log.commit(Transaction::append(enrol("NDXP", MemberKind::Gateway))).await.expect("founds");
    let mut others = Vec::new();
    for (member, kind) in [
        ("TW", MemberKind::Central),
        ("H24", MemberKind::Province),
        ("H55", MemberKind::Province),
        ("H55.LGSP", MemberKind::Carrier),
    ] {
        others.extend(enrol(member, kind));
    }
    let granted = pb::CarrierGranted { carrier: "H55.LGSP".into(), member: "H55".into() };
    others.push(NewEvent::of(Audience::All, Lane::Directory, "member/H55", &granted));
    node.log.commit(Transaction::append(others)).await.expect("enrols");
}

pub fn service(node: &Node, receipts: Receipts) -> Arc<Service> {
    Arc::new(plain_service(node, receipts))
}

/// A service to which something may be added.
pub fn plain_service(node: &Node, receipts: Receipts) -> Service {
    service_over(node, LogStore::new(node.log.clone()), receipts)
}

pub fn service_over(node: &Node, store: LogStore, receipts: Receipts) -> Service {
    service_with(node, store, Arc::default(), receipts)
}

pub fn service_with(node: &Node, store: LogStore, media: Arc<MemoryMedia>, receipts: Receipts) -> Service {
    Service::new(
        Arc::new(store),
        node.directory.clone(),
        media,
        receipts,
        StoppedFeeds::default(),
        node.stop.subscribe(),
    )
}

/// Batches of one event of so many bytes each.
pub fn batches(origin: &str, feed: &str, count: u64, bytes: usize) -> Vec<VerifiedBatch> {
    let (sealer, feed) = (Sealer::new(code(origin), key(origin)), feed.parse().expect("feed"));
    let mut head = None;
    let batches = (1..=count).map(|sequence| {
        let event = httt_wire::feed::Event {
            id: u128::from(sequence).to_be_bytes().to_vec(),
            stream: "s".into(),
            version: sequence,
            r#type: "test.v1.Said".into(),
            data: vec![7; bytes].into(),
            ..Default::default()
        };
        let batch = sealer.seal(&feed, head.as_ref(), 0, vec![event]).expect("seals");
        head = Some(batch.head());
        batch
    });
    batches.collect()
}

/// Waits until `what` is so.
pub async fn until(what: impl Fn() -> bool) {
    let limit = std::time::Duration::from_secs(60);
    let so = async {
        while !what() {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(limit, so).await.expect("in the end");
}
