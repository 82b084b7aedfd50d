//! A node's log in memory, with what a disk adds to it: what is not synced yet may be lost, and an old backup may take
//! its place. One writer, group commit, copies before own events: as `httt-log` does it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use httt_exchange::{SharedDirectory, StoreError, receipt_events};
use httt_feed::{
    AgencyCode, Directory, FeedId, Fingerprint, Head, Lane, Link, Refusal, Sealer, SigningKey, VerifiedBatch, follow,
};
use httt_log::{FeedHead, NewEvent, Placed, Transaction};
use httt_wire::feed as pb;
use tokio::sync::watch;
use uuid::Uuid;

use crate::mutation::{Fold, Mutation};

/// Own events in one batch: far from its size limit.
const MAX_EVENTS_PER_SEAL: usize = 100;

/// One entry.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) batch: VerifiedBatch,
    /// When it was committed, by the node's clock.
    at_ms: i64,
}

/// What waits for the next sync.
pub(crate) enum Work {
    Commit(Transaction),
    Again(Vec<VerifiedBatch>),
}

/// What became of it: where the copies are.
pub(crate) type Done = Result<Vec<Placed>, StoreError>;

struct Inner {
    sealer: Sealer,
    entries: Vec<Held>,
    /// Positions of each feed's batches, by sequence.
    feeds: BTreeMap<FeedId, Vec<u64>>,
    /// Feeds by the position of their head.
    latest: BTreeMap<u64, FeedId>,
    /// What was let go: up to this sequence, digests stay.
    away: BTreeMap<FeedId, u64>,
    events: HashMap<Uuid, u64>,
    versions: HashMap<String, u64>,
    now_ms: i64,
    queue: Vec<(u64, Work)>,
    done: HashMap<u64, Done>,
    tickets: u64,
    /// Entries that a crash leaves; only a mutated disk answers before it has grown.
    durable: usize,
}

/// See the module.
pub(crate) struct Disk {
    pub(super) origin: AgencyCode,
    trusted: Fingerprint,
    mutation: Option<Mutation>,
    directory: Mutex<SharedDirectory>,
    pub(super) length: watch::Sender<u64>,
    inner: Mutex<Inner>,
}

impl Disk {
    pub(crate) fn new(origin: AgencyCode, key: SigningKey, trusted: Fingerprint, mutation: Option<Mutation>) -> Self {
        let inner = Inner {
            sealer: Sealer::new(origin.clone(), key),
            entries: Vec::new(),
            feeds: BTreeMap::new(),
            latest: BTreeMap::new(),
            away: BTreeMap::new(),
            events: HashMap::new(),
            versions: HashMap::new(),
            now_ms: 0,
            queue: Vec::new(),
            done: HashMap::new(),
            tickets: 0,
            durable: 0,
        };
        let directory = Mutex::new(SharedDirectory::told(Directory::trusting(trusted)));
        Self { origin, trusted, mutation, directory, length: watch::Sender::new(0), inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As folded from what is held; a restored disk has another.
    pub(crate) fn directory(&self) -> SharedDirectory {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the node's clock, which may be wrong.
    pub(crate) fn set_clock(&self, now_ms: i64) {
        self.inner().now_ms = now_ms;
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.inner().now_ms
    }

    /// Seals with another key from now on.
    pub(crate) fn set_key(&self, key: SigningKey) {
        self.inner().sealer = Sealer::new(self.origin.clone(), key);
    }

    /// Entries held.
    pub(crate) fn len(&self) -> usize {
        self.inner().entries.len()
    }

    /// Entries from a position on.
    pub(crate) fn since(&self, position: usize) -> Vec<VerifiedBatch> {
        let inner = self.inner();
        inner.entries.iter().skip(position).map(|held| held.batch.clone()).collect()
    }

    /// All batches of a feed.
    pub(crate) fn feed(&self, feed: &FeedId) -> Vec<VerifiedBatch> {
        let inner = self.inner();
        let positions = inner.feeds.get(feed).map(Vec::as_slice).unwrap_or_default();
        positions.iter().map(|position| inner.entries[*position as usize].batch.clone()).collect()
    }

    /// The batch at a sequence.
    pub(crate) fn batch(&self, feed: &FeedId, sequence: u64) -> Option<VerifiedBatch> {
        let inner = self.inner();
        let position = *inner.feeds.get(feed)?.get(sequence.checked_sub(1)? as usize)?;
        Some(inner.entries[position as usize].batch.clone())
    }

    /// Feeds and their heads.
    pub(crate) fn heads(&self) -> Vec<(FeedId, Head)> {
        let inner = self.inner();
        inner.feeds.keys().filter_map(|feed| Some((feed.clone(), inner.head(feed)?))).collect()
    }

    /// Own entries to push: at most `most`, up to sequence `until`.
    pub(crate) fn some(&self, feed: &FeedId, after: u64, until: u64, most: usize) -> Vec<VerifiedBatch> {
        let inner = self.inner();
        let positions = inner.feeds.get(feed).map(Vec::as_slice).unwrap_or_default();
        let wanted = positions.iter().take(until.min(1 << 40) as usize).skip(after as usize).take(most);
        wanted.map(|position| inner.entries[*position as usize].batch.clone()).collect()
    }

    /// Whether something waits for a sync.
    pub(crate) fn waits(&self) -> bool {
        let inner = self.inner();
        !inner.queue.is_empty() || inner.durable < inner.entries.len()
    }

    /// Puts a transaction into the queue; the future is done once it is synced.
    pub(crate) fn commit(self: &Arc<Self>, transaction: Transaction) -> Synced {
        Synced { disk: Arc::clone(self), ticket: self.enqueue(Work::Commit(transaction)) }
    }

    pub(crate) fn enqueue(&self, work: Work) -> u64 {
        let mut inner = self.inner();
        inner.tickets += 1;
        let ticket = inner.tickets;
        inner.queue.push((ticket, work));
        drop(inner);
        if self.mutation == Some(Mutation::AckBeforeSync) {
            self.write();
        }
        ticket
    }

    /// The group commit: what waited is on disk now, and whoever waits for it may be told.
    pub(crate) fn sync(&self) {
        self.write();
        let mut inner = self.inner();
        inner.durable = inner.entries.len();
    }

    fn write(&self) {
        let mut inner = self.inner();
        let (before, queue) = (inner.entries.len(), std::mem::take(&mut inner.queue));
        let mut said: BTreeMap<FeedId, Vec<pb::Event>> = BTreeMap::new();
        for (ticket, work) in queue {
            let done = match work {
                Work::Commit(transaction) => self.apply(&mut inner, transaction, &mut said),
                Work::Again(batches) => inner.take_again(&batches),
            };
            inner.done.insert(ticket, done);
        }
        for (feed, events) in said {
            for events in events.chunks(MAX_EVENTS_PER_SEAL) {
                let head = inner.head(&feed);
                // Refused only if an event were malformed, and all are made here.
                if let Ok(batch) = inner.sealer.seal(&feed, head.as_ref(), inner.now_ms, events.to_vec()) {
                    inner.push(batch);
                }
            }
        }
        let new: Vec<_> =
            inner.entries[before.min(inner.entries.len())..].iter().map(|held| held.batch.clone()).collect();
        let length = inner.entries.len() as u64;
        drop(inner);
        new.iter().for_each(|batch| self.fold(batch));
        self.length.send_replace(length);
    }

    fn apply(&self, inner: &mut Inner, tx: Transaction, said: &mut BTreeMap<FeedId, Vec<pb::Event>>) -> Done {
        inner.vet(&tx.copies, self.mutation)?;
        let mut placed = Vec::new();
        for batch in tx.copies {
            placed.push(inner.place(batch, tx.derive.is_some(), self.mutation));
        }
        let mut events = tx.events;
        if let Some(derive) = tx.derive {
            events.extend(derive(&placed));
            if self.mutation == Some(Mutation::ReceiptsForDuplicates) {
                let again = placed.iter().filter(|placed| placed.duplicate);
                let fresh: Vec<_> = again.map(|placed| Placed { duplicate: false, ..placed.clone() }).collect();
                let id =
                    |event: NewEvent| NewEvent { id: Uuid::new_v8((inner.tickets as u128).to_be_bytes()), ..event };
                events.extend(receipt_events(&fresh).into_iter().map(id));
            }
        }
        for event in events {
            inner.say(&self.origin, event, said);
        }
        Ok(placed)
    }

    fn fold(&self, batch: &VerifiedBatch) {
        if batch.feed().lane != Lane::Directory {
            return;
        }
        let folding = Fold { mutation: self.mutation, node: &self.origin };
        self.directory().fold(folding.changed(batch).as_ref().unwrap_or(batch));
    }

    /// A crash: what waited is lost, unless the whole group had reached the disk before anybody was told.
    pub(crate) fn crash(&self, group_is_kept: bool) {
        if group_is_kept {
            self.sync();
        }
        let mut inner = self.inner();
        (inner.queue, inner.done) = (Vec::new(), HashMap::new());
        let durable = inner.durable;
        drop(inner);
        self.truncate(durable);
    }

    /// An older backup takes the disk's place: only the first entries stay.
    pub(crate) fn truncate(&self, length: usize) {
        self.keep(|at, _| at < length);
    }

    /// What a serving node carries for others is lost from a position on; what it said itself stays.
    pub(crate) fn lose_carried(&self, length: usize) {
        self.keep(|at, batch| at < length || batch.feed().origin == self.origin);
    }

    fn keep(&self, keeps: impl Fn(usize, &VerifiedBatch) -> bool) {
        let mut inner = self.inner();
        let all: Vec<Held> = inner.entries.drain(..).collect();
        let kept = all.into_iter().enumerate().filter(|(at, held)| keeps(*at, &held.batch)).map(|(_, held)| held);
        let kept: Vec<Held> = kept.collect();
        let length = kept.len();
        inner.feeds.clear();
        inner.latest.clear();
        inner.events.clear();
        inner.versions.clear();
        kept.into_iter().for_each(|held| inner.add(held));
        inner.durable = length;
        let directory = SharedDirectory::told(Directory::trusting(self.trusted));
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = directory;
        let batches: Vec<_> = inner.entries.iter().map(|held| held.batch.clone()).collect();
        drop(inner);
        batches.iter().for_each(|batch| self.fold(batch));
        self.length.send_replace(length as u64);
    }

    /// Lets a feed's entries go, up to a sequence.
    pub(crate) fn let_go(&self, feed: &FeedId, until: u64) {
        self.inner().away.insert(feed.clone(), until);
    }

    /// Up to which sequence a feed was let go.
    pub(crate) fn away(&self, feed: &FeedId) -> u64 {
        self.inner().away.get(feed).copied().unwrap_or(0)
    }

    /// Feeds whose head stands at a position or later.
    pub(crate) fn heads_since(&self, position: u64) -> Vec<FeedHead> {
        let inner = self.inner();
        let changed = inner.latest.range(position..);
        let head = |(position, feed): (&u64, &FeedId)| {
            Some(FeedHead { feed: feed.clone(), head: inner.head(feed)?, position: *position })
        };
        changed.filter_map(head).collect()
    }

    /// The head of one feed.
    pub(crate) fn head_of(&self, feed: &FeedId) -> Option<Head> {
        self.inner().head(feed)
    }

    /// What became of a transaction, once it is synced.
    pub(crate) fn poll_done(&self, ticket: u64) -> Poll<Done> {
        match self.inner().done.remove(&ticket) {
            Some(done) => Poll::Ready(done),
            // The simulator polls everything that waits after every sync; nobody needs to be woken.
            None => Poll::Pending,
        }
    }

    /// Own events of one kind in the lane `local`, decoded.
    pub(crate) fn local_events<M: httt_wire::Message + httt_wire::Name + Default>(&self) -> Vec<M> {
        let own = self.feed(&FeedId::local(&self.origin));
        let events = own.iter().flat_map(|batch| batch.batch().events.iter());
        events
            .filter(|event| event.r#type == M::full_name())
            .filter_map(|event| M::decode(event.data.clone()).ok())
            .collect()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "disk of {}", self.origin)
    }
}

impl Inner {
    fn head(&self, feed: &FeedId) -> Option<Head> {
        let position = *self.feeds.get(feed)?.last()?;
        Some(self.entries[position as usize].batch.head())
    }

    fn held(&self, feed: &FeedId, sequence: u64) -> Option<(u64, &Held)> {
        let position = *self.feeds.get(feed)?.get(sequence.checked_sub(1)? as usize)?;
        Some((position, &self.entries[position as usize]))
    }

    /// All of a transaction's copies, or none.
    fn vet(&self, copies: &[VerifiedBatch], mutation: Option<Mutation>) -> Result<(), Refusal> {
        let mut heads: BTreeMap<&FeedId, Option<Head>> = BTreeMap::new();
        for batch in copies {
            let head = heads.entry(batch.feed()).or_insert_with(|| self.head(batch.feed()));
            let link = match follow(head.as_ref(), batch) {
                Err(_) if mutation == Some(Mutation::SkipChainCheck) => Link::Next,
                Err(Refusal::Fork { .. }) if mutation == Some(Mutation::OverwriteOnFork) => Link::Held,
                link => link?,
            };
            match link {
                Link::Next => *head = Some(batch.head()),
                Link::Held => {
                    let same = self.held(batch.feed(), batch.sequence());
                    let differs = same.is_some_and(|(_, held)| held.batch.digest() != batch.digest());
                    if differs && mutation != Some(Mutation::OverwriteOnFork) {
                        return Err(Refusal::Fork { feed: batch.feed().clone(), sequence: batch.sequence() });
                    }
                }
            }
        }
        Ok(())
    }

    fn place(&mut self, batch: VerifiedBatch, receipted: bool, mutation: Option<Mutation>) -> Placed {
        let (feed, head) = (batch.feed().clone(), batch.head());
        let known = self.held(&feed, head.sequence).map(|(position, held)| (position, held.at_ms));
        if let Some((position, at_ms)) = known {
            if mutation == Some(Mutation::OverwriteOnFork) {
                self.entries[position as usize].batch = batch;
            }
            return Placed { feed, head, position, duplicate: true, at_ms };
        }
        let (position, at_ms) = (self.entries.len() as u64, self.now_ms);
        let forgets = receipted && mutation == Some(Mutation::ReceiptsForNothing) && head.digest.0[0] % 8 == 0;
        if !forgets {
            self.push(batch);
        }
        Placed { feed, head, position, duplicate: false, at_ms }
    }

    fn push(&mut self, batch: VerifiedBatch) {
        let at_ms = self.now_ms;
        self.add(Held { batch, at_ms });
    }

    fn add(&mut self, held: Held) {
        let (position, feed) = (self.entries.len() as u64, held.batch.feed().clone());
        let own = feed.origin == *self.sealer.origin();
        for event in held.batch.batch().events.iter().filter(|_| own) {
            if let Ok(id) = Uuid::from_slice(&event.id) {
                self.events.insert(id, position);
            }
            let version = self.versions.entry(event.stream.clone()).or_default();
            *version = event.version.max(*version);
        }
        let positions = self.feeds.entry(feed.clone()).or_default();
        if let Some(last) = positions.last() {
            self.latest.remove(last);
        }
        positions.push(position);
        self.latest.insert(position, feed);
        self.entries.push(held);
    }

    fn say(&mut self, origin: &AgencyCode, event: NewEvent, said: &mut BTreeMap<FeedId, Vec<pb::Event>>) {
        if self.events.insert(event.id, u64::MAX).is_some() {
            return;
        }
        let feed = match event.lane {
            Lane::Local => FeedId::local(origin),
            lane => FeedId::new(origin.clone(), event.audience, lane),
        };
        let version = self.versions.entry(event.stream.clone()).or_default();
        *version += 1;
        said.entry(feed).or_default().push(pb::Event {
            id: event.id.as_bytes().to_vec(),
            stream: event.stream,
            version: *version,
            r#type: event.kind,
            occurred_at_ms: event.occurred_at_ms.unwrap_or(self.now_ms),
            actor: event.actor,
            traceparent: event.traceparent,
            data: event.data,
        });
    }

    fn take_again(&mut self, batches: &[VerifiedBatch]) -> Done {
        let Some(first) = batches.first() else { return Ok(Vec::new()) };
        // What is let go is let go from the beginning up to a sequence, so only its end shrinks it by being brought.
        let feed = first.feed();
        let last = batches.last().map_or(0, VerifiedBatch::sequence);
        if self.away.get(feed).is_some_and(|until| last >= *until) {
            self.away.remove(feed);
        }
        Ok(Vec::new())
    }
}

/// Waits until a transaction is synced.
pub(crate) struct Synced {
    disk: Arc<Disk>,
    ticket: u64,
}

impl Future for Synced {
    type Output = Done;
    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Done> {
        self.disk.poll_done(self.ticket)
    }
}
