//! One node: its disk, and the real parts of the exchange over it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use httt_exchange::{
    Asks, BoxFuture as Boxed, Copier, Media, MediaError, MediaStat, OwnFeeds, Receipts, Service, Settings, StoppedFeeds,
};
use httt_feed::{AgencyCode, Digest, FeedId, Refusal};
use httt_log::Clock;
use httt_wire::directory::ForkSeen;
use tokio::sync::watch;

use crate::carry::{Call, Reply};
use crate::disk::Disk;
use crate::mutation::Mutation;
use crate::names;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Gateway,
    Central,
    Province,
    Adapter,
}

/// Something under way in a node that waits for its disk.
pub(crate) enum Outcome {
    /// A call is answered.
    Answer(Call, Reply),
    /// What was copied is on disk, or why not.
    Stored(FeedId, Result<httt_feed::Head, Option<Refusal>>),
    /// An application's event is on disk.
    Wrote,
    /// The directory was revised, or the store said no.
    Revised,
    /// Evidence is on disk: digest of the entry.
    Kept(Digest),
}

/// A long poll that waits for news.
pub(crate) struct Parked {
    pub(crate) call: Call,
    pub(crate) until: i64,
}

/// See the module.
pub(crate) struct Node {
    pub(crate) code: AgencyCode,
    pub(crate) role: Role,
    pub(crate) disk: Arc<Disk>,
    pub(crate) stopped: StoppedFeeds,
    /// Gateway and adapters serve.
    pub(crate) service: Option<Arc<Service>>,
    closing: watch::Sender<bool>,
    /// All but the gateway copy.
    pub(crate) copier: Option<Copier>,
    /// Whom it copies from.
    pub(crate) peer: usize,
    pub(crate) up: bool,
    /// Counts starts: answers to an earlier life are not heard by the next one.
    pub(crate) life: u32,
    pub(crate) tasks: Vec<BoxFuture<'static, Outcome>>,
    pub(crate) parked: Vec<Parked>,
    /// A sync is due.
    pub(crate) syncing: bool,
    /// Entries that the copier was told of, and those that the ledger looked at.
    pub(crate) told: usize,
    pub(crate) seen: usize,
    /// Entries that somebody was told are durable.
    pub(crate) acknowledged: usize,
    /// Its disk is an old backup, and what it had said since is not back yet.
    pub(crate) restored: bool,
    /// How wrong its clock is, ms.
    pub(crate) skew_ms: i64,
    /// Calls and stores under way, by feed.
    pub(crate) busy: BTreeMap<FeedId, usize>,
    /// The copier's last call about each.
    pub(crate) calls: BTreeMap<FeedId, u64>,
    /// Feeds about which its peer was busy, and until when it is to be left alone.
    pub(crate) turned_away: BTreeMap<FeedId, i64>,
    /// Feeds that had some trouble, and until when it excuses a pause.
    pub(crate) excused: BTreeMap<FeedId, i64>,
    /// Sequences that the copier knows of.
    pub(crate) known: BTreeMap<FeedId, u64>,
    pub(crate) tick_pause: i64,
    pub(crate) tick: u64,
    /// Which of its keys it seals with.
    pub(crate) key: u32,
    /// The link to its peer is cut until then.
    pub(crate) cut_until: i64,
    /// It lies until then, to these.
    pub(crate) lies_until: i64,
    pub(crate) lies_to: Vec<usize>,
    /// Evidence that is to be on disk sooner or later.
    pub(crate) owed: Vec<Digest>,
    /// Entries of which the copier must find out whether its directory is too old for them; whether it must accuse.
    pub(crate) suspected: BTreeMap<Digest, bool>,
    /// Bulk calls under way, for a mutation.
    pub(crate) bulk_until: i64,
}

impl Node {
    pub(crate) fn new(code: AgencyCode, role: Role, mutation: Option<Mutation>) -> Self {
        let trusted = names::key(names::gateway().as_str(), 0).public().fingerprint();
        let disk = Disk::new(code.clone(), names::key(code.as_str(), 0), trusted, mutation);
        Self {
            code,
            role,
            disk: Arc::new(disk),
            stopped: StoppedFeeds::default(),
            service: None,
            closing: watch::Sender::new(false),
            copier: None,
            peer: 0,
            up: false,
            life: 0,
            tasks: Vec::new(),
            parked: Vec::new(),
            syncing: false,
            told: 0,
            seen: 0,
            acknowledged: 0,
            restored: false,
            skew_ms: 0,
            busy: BTreeMap::new(),
            calls: BTreeMap::new(),
            turned_away: BTreeMap::new(),
            excused: BTreeMap::new(),
            known: BTreeMap::new(),
            tick_pause: 0,
            tick: 0,
            key: 0,
            cut_until: 0,
            lies_until: 0,
            lies_to: Vec::new(),
            owed: Vec::new(),
            suspected: BTreeMap::new(),
            bulk_until: 0,
        }
    }

    /// Starts anew over what the disk holds. Feeds that forked are told again from the log.
    pub(crate) fn start(&mut self, seed: u64, settings: Settings, own: OwnFeeds, forgets_stopped: bool) {
        self.life += 1;
        self.up = true;
        (self.told, self.syncing, self.tick_pause) = (0, false, 0);
        self.busy.clear();
        self.calls.clear();
        self.turned_away.clear();
        self.excused.clear();
        self.known.clear();
        self.owed.clear();
        self.suspected.clear();
        self.tasks.clear();
        self.parked.clear();
        self.bulk_until = 0;
        self.stopped = StoppedFeeds::default();
        if !forgets_stopped {
            let forks = self.disk.local_events::<ForkSeen>();
            forks.iter().filter_map(|seen| seen.feed.parse().ok()).for_each(|feed| self.stopped.stop(feed));
        }
        let directory = self.disk.directory();
        if matches!(self.role, Role::Gateway | Role::Adapter) {
            let receipts = if self.role == Role::Gateway { Receipts::Issue } else { Receipts::None };
            let store = Arc::clone(&self.disk) as Arc<dyn httt_exchange::Store>;
            let closing = self.closing.subscribe();
            let service =
                Service::new(store, directory.clone(), Arc::new(NoMedia), receipts, self.stopped.clone(), closing);
            let clock = Arc::new(DiskClock(Arc::clone(&self.disk)));
            self.service = Some(Arc::new(service.with_own_feeds(own).with_clock(clock)));
        }
        if self.role != Role::Gateway {
            let directory = directory.get();
            let settings = Settings { seed, ..settings };
            let copier = Copier::new(self.pushes_for(&directory), directory, settings);
            self.copier = Some(copier.holding(self.disk.heads()));
        }
    }

    /// Whom it asks what they hold of its own feeds: a gateway all of its members, if its operator knows that its disk is
    /// an old one.
    pub(crate) fn asks(&self, enrolled: BTreeSet<AgencyCode>, mutation: Option<Mutation>) -> OwnFeeds {
        match (self.role, mutation) {
            (Role::Gateway, Some(Mutation::AskNobody)) => OwnFeeds::default(),
            (Role::Gateway, _) if self.restored => OwnFeeds::asking(Asks::AllFirst(enrolled)),
            (Role::Gateway, _) => OwnFeeds::asking(Asks::EachBefore),
            _ => OwnFeeds::default(),
        }
    }

    /// Whose feeds it pushes.
    pub(crate) fn pushes_for(&self, directory: &httt_feed::Directory) -> Vec<AgencyCode> {
        match self.role {
            Role::Adapter => directory.speaks_for(&self.code).filter(|member| **member != self.code).cloned().collect(),
            _ => vec![self.code.clone()],
        }
    }

    /// Whether an answer to that caller is a lie just now.
    pub(crate) fn lies(&self, now: i64, to: usize) -> bool {
        now < self.lies_until && self.lies_to.contains(&to)
    }

    pub(crate) fn began(&mut self, feed: &FeedId, call: u64) {
        self.calls.insert(feed.clone(), call);
        *self.busy.entry(feed.clone()).or_default() += 1;
    }

    pub(crate) fn ended(&mut self, feed: &FeedId) {
        if let Some(count) = self.busy.get_mut(feed) {
            *count = count.saturating_sub(1);
        }
    }

    /// Up to which sequence its copier knows a feed to be held.
    pub(crate) fn known_of(&self, feed: &FeedId) -> u64 {
        self.known.get(feed).copied().unwrap_or(0)
    }
}

/// A node's clock.
#[derive(Debug)]
struct DiskClock(Arc<Disk>);

impl Clock for DiskClock {
    fn now_ms(&self) -> i64 {
        self.0.now_ms()
    }
}

/// Media travel beside the feeds and are not simulated.
struct NoMedia;

impl Media for NoMedia {
    fn stat<'a>(&'a self, _: &'a AgencyCode, _: Digest, _: bool) -> Boxed<'a, Result<MediaStat, MediaError>> {
        Box::pin(async { Ok(MediaStat::default()) })
    }
    fn read(&self, digest: Digest, _: u64, _: usize, _: bool) -> Boxed<'_, Result<(bytes::Bytes, u64), MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
    fn write<'a>(
        &'a self,
        _: &'a AgencyCode,
        digest: Digest,
        _: u64,
        _: u64,
        _: bytes::Bytes,
        _: bool,
    ) -> Boxed<'a, Result<MediaStat, MediaError>> {
        Box::pin(async move { Err(MediaError::NotHeld(digest)) })
    }
}
