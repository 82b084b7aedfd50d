//! Decides, transaction by transaction, what goes into the next commit group. No I/O but look-ups.
//!
//! A group is laid out as all copies in the order they came, then the group's own batches, one per feed (more only
//! when one is full): that is how one signature serves all callers that wait at the same time. Order within a feed,
//! and copies before events within a transaction, hold; the callers of one group have not heard of one another yet,
//! so nothing else can be observed.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use httt_feed::{
    Digest, FeedId, Head, Lane, Link, MAX_BATCH_BYTES, MAX_EVENTS_PER_BATCH, Refusal, Sealer, UnsignedBatch,
    VerifiedBatch,
};
use httt_wire::{Message as _, feed as pb};
use uuid::Uuid;

use crate::frame::FRAME_HEADER_BYTES;
use crate::merkle::leaf_hash;
use crate::shared::Shared;
use crate::transaction::{NewEvent, Placed, Transaction};
use crate::{CommitError, Committed, Entry, EventPosition, ReadError};

/// Most bytes of events and batches in one transaction.
pub const MAX_TRANSACTION_BYTES: usize = 8 << 20;
/// Most events, and most copies, in one transaction.
pub const MAX_TRANSACTION_ITEMS: usize = 65_536;
/// Room for everything in a batch but its events: codes of 35 bytes, digest, numbers and their tags.
const BATCH_HEADER_BYTES: usize = 160;
/// Protobuf framing of one event in a batch: tag, and a length of up to three bytes.
const EVENT_FRAMING_BYTES: usize = 4;
/// A group with so many bytes to hash is shared with a second thread.
const SHARED_FROM_BYTES: usize = 192 << 10;
/// Entries read for a comparison that are kept for the next one: whoever commits again what is there already asks for
/// one event of a batch after the other.
const ENTRIES_KEPT: usize = 4;

/// An event of the group, or one that was there before.
#[derive(Debug, Clone, Copy)]
enum EventRef {
    /// In the log already.
    At(EventPosition),
    /// An own event taken back, in this group.
    Copied { copy: usize, index: u32 },
    /// The n-th new event of the group.
    New(usize),
}

#[derive(Debug)]
struct OwnBatch {
    feed: FeedId,
    events: Vec<pb::Event>,
    bytes: usize,
    restates: bool,
}

#[derive(Debug, Clone, Copy)]
struct PendingCopy {
    head: Head,
    position: u64,
}

/// What one transaction would add. Thrown away if the transaction fails.
#[derive(Debug, Default)]
struct Delta {
    copies: Vec<VerifiedBatch>,
    pending: HashMap<(FeedId, u64), PendingCopy>,
    heads: HashMap<FeedId, Head>,
    placed: Vec<Placed>,
    events: Vec<(FeedId, pb::Event)>,
    refs: Vec<EventRef>,
    versions: Vec<u64>,
    ids: HashMap<Uuid, EventRef>,
    streams: HashMap<String, (u64, FeedId)>,
    bytes: usize,
    /// Its events begin a batch that restates.
    restates: bool,
}

/// What a transaction gets when its group is on disk.
#[derive(Debug)]
pub(crate) struct Outcome {
    placed: Vec<Placed>,
    refs: Vec<EventRef>,
    versions: Vec<u64>,
}

/// A commit group in the making.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    shared: &'a Shared,
    /// Length of the log before the group.
    base: u64,
    now_ms: i64,
    copies: Vec<VerifiedBatch>,
    pending: HashMap<(FeedId, u64), PendingCopy>,
    heads: HashMap<FeedId, Head>,
    own: Vec<OwnBatch>,
    /// The last batch of each feed in `own`.
    open: HashMap<FeedId, usize>,
    /// Batch and place of each new event.
    new: Vec<(usize, u32)>,
    ids: HashMap<Uuid, EventRef>,
    streams: HashMap<String, (u64, FeedId)>,
    bytes: usize,
    /// Entries of the log read lately.
    read: RefCell<Vec<Entry>>,
}

/// The group's entries in order.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// With their leaf hashes.
    pub(crate) entries: Vec<(VerifiedBatch, Digest)>,
    places: Places,
}

#[derive(Debug)]
struct Places {
    base: u64,
    copies: u64,
    new: Vec<(usize, u32)>,
}

impl Sealed {
    /// What the transaction is told once the log has `next` entries.
    pub(crate) fn answer(&self, outcome: Outcome, next: u64) -> Committed {
        let Places { base, copies, new } = &self.places;
        let events = outcome
            .refs
            .into_iter()
            .map(|event| match event {
                EventRef::At(position) => position,
                EventRef::Copied { copy, index } => EventPosition::new(base + copy as u64, index),
                EventRef::New(n) => EventPosition::new(base + copies + new[n].0 as u64, new[n].1),
            })
            .collect();
        Committed { copied: outcome.placed, events, versions: outcome.versions, next }
    }
}

impl<'a> Group<'a> {
    pub(crate) fn new(shared: &'a Shared, base: u64, now_ms: i64) -> Self {
        Self {
            shared,
            base,
            now_ms,
            copies: Vec::new(),
            pending: HashMap::new(),
            heads: HashMap::new(),
            own: Vec::new(),
            open: HashMap::new(),
            new: Vec::new(),
            ids: HashMap::new(),
            streams: HashMap::new(),
            bytes: 0,
            read: RefCell::default(),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether the transaction has to wait for the next group: it takes back batches of a feed whose head depends on
    /// a batch of this group that is not sealed yet.
    pub(crate) fn must_wait(&self, transaction: &Transaction) -> bool {
        !self.own.is_empty() && transaction.copies.iter().any(|batch| batch.feed().origin == self.shared.origin)
    }

    /// Takes the transaction into the group, or refuses it and leaves the group as it was.
    pub(crate) fn admit(&mut self, transaction: Transaction) -> Result<Outcome, CommitError> {
        let Transaction { copies, mut events, expected, derive, restates } = transaction;
        let mut delta = Delta { restates, ..Delta::default() };
        too_many("copies", copies.len())?;
        for batch in copies {
            self.place_copy(&mut delta, batch)?;
        }
        if let Some(derive) = derive {
            let placed = &delta.placed;
            let derived = panic::catch_unwind(AssertUnwindSafe(|| derive(placed)));
            events.extend(derived.map_err(|_| CommitError::DerivePanicked)?);
        }
        too_many("events", events.len())?;
        too_many("expected versions", expected.len())?;
        if let Some(event) = events.iter().find(|event| restates && event.lane != Lane::Status) {
            let what = format!("an event of the lane {} restates; only the lane status may", event.lane);
            return Err(Refusal::Malformed(what).into());
        }
        self.place_events(&mut delta, events, &expected)?;
        if delta.bytes > MAX_TRANSACTION_BYTES {
            let (size, limit) = (delta.bytes, MAX_TRANSACTION_BYTES);
            return Err(CommitError::TransactionTooLarge { what: "bytes", size, limit });
        }
        Ok(self.apply(delta))
    }

    fn place_copy(&self, delta: &mut Delta, batch: VerifiedBatch) -> Result<(), CommitError> {
        let feed = batch.feed().clone();
        let committed;
        let head = match delta.heads.get(&feed).or_else(|| self.heads.get(&feed)) {
            Some(head) => Some(head),
            None => {
                committed = self.shared.head(&feed);
                committed.as_ref()
            }
        };
        match httt_feed::follow(head, &batch)? {
            Link::Held => {
                let key = (feed.clone(), batch.sequence());
                let held = match delta.pending.get(&key).or_else(|| self.pending.get(&key)) {
                    Some(pending) => Some((pending.head.digest, pending.position, self.now_ms)),
                    None => self.held_batch(&feed, &batch)?,
                };
                match held {
                    Some((digest, position, at_ms)) if digest == batch.digest() => {
                        delta.placed.push(Placed { feed, head: batch.head(), position, duplicate: true, at_ms });
                        Ok(())
                    }
                    Some(_) => Err(Refusal::Fork { feed, sequence: batch.sequence() }.into()),
                    // Before the batch that this log began the feed with.
                    None => {
                        let (expected, got) = (head.map_or(1, |head| head.sequence + 1), batch.sequence());
                        match self.shared.begins(&feed)? {
                            Some(first) if got < first => Err(Refusal::Gap { feed, expected, got }.into()),
                            _ => {
                                Err(CommitError::Poisoned("the index does not know a batch that the log holds".into()))
                            }
                        }
                    }
                }
            }
            Link::Next => {
                let copy = self.copies.len() + delta.copies.len();
                let position = self.base + copy as u64;
                if feed.origin == self.shared.origin {
                    note_own_copy(delta, &feed, copy, batch.batch());
                }
                delta.bytes += batch.bytes().len() + FRAME_HEADER_BYTES;
                delta.pending.insert((feed.clone(), batch.sequence()), PendingCopy { head: batch.head(), position });
                delta.heads.insert(feed.clone(), batch.head());
                delta.placed.push(Placed { feed, head: batch.head(), position, duplicate: false, at_ms: self.now_ms });
                delta.copies.push(batch);
                Ok(())
            }
        }
    }

    /// Digest, position and time of the batch that is held in the place of this one. The very same bytes are known by
    /// their leaf hash, which spares reading them, and works while their chunk is away.
    fn held_batch(&self, feed: &FeedId, batch: &VerifiedBatch) -> Result<Option<(Digest, u64, i64)>, ReadError> {
        match self.shared.batch_row(feed, batch.sequence())? {
            Some((position, row)) if row.leaf == leaf_hash(batch.bytes()) => {
                Ok(Some((batch.digest(), position, row.at_ms)))
            }
            Some((position, row)) => match self.shared.batch(feed, batch.sequence()) {
                Err(ReadError::Gone(gone)) => Ok(Some((gone.digest, position, row.at_ms))),
                held => Ok(held?.map(|(entry, at_ms)| (entry.digest, entry.position, at_ms))),
            },
            None => Ok(None),
        }
    }

    fn place_events(
        &self,
        delta: &mut Delta,
        events: Vec<NewEvent>,
        expected: &[(String, crate::Expected)],
    ) -> Result<(), CommitError> {
        let origin = &self.shared.origin;
        let total = events.len();
        // Ids first: an event that is there already is success whatever else is asked for.
        let mut fresh = Vec::new();
        // Places of fresh events within this transaction, to compare a repeated id with.
        let mut by_id: HashMap<Uuid, usize> = HashMap::new();
        let mut plan = Vec::with_capacity(total);
        for event in events {
            let feed = event.feed(origin);
            if let Some(at) = by_id.get(&event.id) {
                let (_, first): &(FeedId, NewEvent) = &fresh[*at];
                let same = first.stream == event.stream
                    && first.kind == event.kind
                    && first.data == event.data
                    && first.feed(origin) == feed;
                if !same {
                    return Err(CommitError::IdConflict { id: event.id, position: None });
                }
                plan.push(Err(*at));
            } else if let Some((held, version)) = self.held(delta, &event, &feed)? {
                plan.push(Ok((held, version)));
            } else {
                by_id.insert(event.id, fresh.len());
                plan.push(Err(fresh.len()));
                fresh.push((feed, event));
            }
        }
        let all_held = total > 0 && fresh.is_empty();
        if !all_held {
            self.check_expected(delta, &fresh, expected, &plan)?;
        }
        let mut assigned = Vec::with_capacity(fresh.len());
        for (feed, event) in fresh {
            let latest = self.stream(delta, &event.stream)?;
            if let Some((_, other)) = latest.as_ref().filter(|(_, other)| *other != feed) {
                return Err(CommitError::StreamElsewhere { stream: event.stream, feed: other.clone() });
            }
            let version = latest.map_or(1, |(version, _)| version + 1);
            let id = event.id;
            let event = event.into_wire(version, self.now_ms);
            httt_feed::check_event(&event)?;
            delta.streams.insert(event.stream.clone(), (version, feed.clone()));
            let new = EventRef::New(self.new.len() + delta.events.len());
            delta.ids.insert(id, new);
            delta.bytes += event.encoded_len() + EVENT_FRAMING_BYTES;
            delta.events.push((feed, event));
            assigned.push((new, version));
        }
        for step in plan {
            let (event, version) = match step {
                Ok(held) => held,
                Err(fresh) => assigned[fresh],
            };
            delta.refs.push(event);
            delta.versions.push(version);
        }
        Ok(())
    }

    /// A stream must be as expected unless the transaction adds nothing to it but what is there already.
    fn check_expected(
        &self,
        delta: &Delta,
        fresh: &[(FeedId, NewEvent)],
        expected: &[(String, crate::Expected)],
        plan: &[Result<(EventRef, u64), usize>],
    ) -> Result<(), CommitError> {
        let added: HashSet<&str> = fresh.iter().map(|(_, event)| event.stream.as_str()).collect();
        let mut repeated = HashSet::new();
        for (held, _) in plan.iter().flatten() {
            repeated.extend(self.content(delta, *held)?.map(|(_, event)| event.stream));
        }
        for (stream, expected) in expected {
            let repeats = !added.contains(stream.as_str()) && repeated.contains(stream);
            let actual = self.stream(delta, stream)?.map(|(version, _)| version);
            if !repeats && !expected.met_by(actual) {
                let (stream, expected) = (stream.clone(), *expected);
                return Err(CommitError::WrongExpectedVersion { stream, expected, actual });
            }
        }
        Ok(())
    }

    /// An own stream's latest version and feed: this transaction's, else this group's, else the log's.
    fn stream(&self, delta: &Delta, stream: &str) -> Result<Option<(u64, FeedId)>, CommitError> {
        if let Some(latest) = delta.streams.get(stream).or_else(|| self.streams.get(stream)) {
            return Ok(Some(latest.clone()));
        }
        Ok(self.shared.stream(&self.shared.origin, stream)?)
    }

    /// The event of this node with the same id, if its content is the same; what differs is a conflict.
    fn held(&self, delta: &Delta, event: &NewEvent, feed: &FeedId) -> Result<Option<(EventRef, u64)>, CommitError> {
        let held = match delta.ids.get(&event.id).or_else(|| self.ids.get(&event.id)) {
            Some(held) => *held,
            None => match self.find(event.id)? {
                Some(position) => EventRef::At(position),
                None => return Ok(None),
            },
        };
        let position = match held {
            EventRef::At(position) => Some(position),
            _ => None,
        };
        let Some((held_feed, held_event)) = self.content(delta, held)? else {
            return Err(CommitError::Poisoned("the index names an event that is not in the log".into()));
        };
        let same = held_feed == *feed
            && held_event.id == event.id.as_bytes()
            && held_event.stream == event.stream
            && held_event.r#type == event.kind
            && held_event.data == event.data;
        if !same {
            return Err(CommitError::IdConflict { id: event.id, position });
        }
        Ok(Some((held, held_event.version)))
    }

    /// Where this node's event with the id is in the log.
    fn find(&self, id: Uuid) -> Result<Option<EventPosition>, CommitError> {
        let places = self.shared.index.events(&self.shared.origin, id).map_err(crate::ReadError::from)?;
        for place in places {
            let entry = match self.entry(place.entry) {
                // None of this node's own: another event's id has the same hash.
                Err(CommitError::Unreadable(ReadError::Gone(_))) => continue,
                entry => entry?,
            };
            let event = entry.and_then(|entry| entry.event(place.index));
            if event.is_some_and(|found| found.event.id == id.as_bytes()) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// An entry of the log.
    fn entry(&self, position: u64) -> Result<Option<Entry>, CommitError> {
        let mut read = self.read.borrow_mut();
        if let Some(entry) = read.iter().find(|entry| entry.position == position) {
            return Ok(Some(entry.clone()));
        }
        let entry = self.shared.entry(position)?;
        if let Some(entry) = &entry {
            read.truncate(ENTRIES_KEPT - 1);
            read.insert(0, entry.clone());
        }
        Ok(entry)
    }

    fn content(&self, delta: &Delta, event: EventRef) -> Result<Option<(FeedId, pb::Event)>, CommitError> {
        let copied = |batch: &VerifiedBatch, index: u32| {
            batch.batch().events.get(index as usize).map(|event| (batch.feed().clone(), event.clone()))
        };
        Ok(match event {
            EventRef::At(at) => {
                self.entry(at.entry)?.and_then(|entry| entry.event(at.index)).map(|found| (found.feed, found.event))
            }
            EventRef::Copied { copy, index } => match self.copies.get(copy) {
                Some(batch) => copied(batch, index),
                None => delta.copies.get(copy - self.copies.len()).and_then(|batch| copied(batch, index)),
            },
            EventRef::New(n) => self.new.get(n).and_then(|(batch, index)| {
                let batch = self.own.get(*batch)?;
                Some((batch.feed.clone(), batch.events.get(*index as usize)?.clone()))
            }),
        })
    }

    /// Takes what a transaction adds into the group; cannot fail.
    fn apply(&mut self, delta: Delta) -> Outcome {
        self.copies.extend(delta.copies);
        self.pending.extend(delta.pending);
        self.heads.extend(delta.heads);
        self.ids.extend(delta.ids);
        self.streams.extend(delta.streams);
        self.bytes += delta.bytes;
        // Feeds of which the batch that restates is still to be begun.
        let mut to_restate: HashSet<FeedId> = HashSet::new();
        if delta.restates {
            to_restate.extend(delta.events.iter().map(|(feed, _)| feed.clone()));
        }
        for (feed, event) in delta.events {
            let size = event.encoded_len() + EVENT_FRAMING_BYTES;
            let restates = to_restate.remove(&feed);
            let room = self.open.get(&feed).copied().filter(|at| {
                let batch = &self.own[*at];
                !restates && batch.bytes + size <= MAX_BATCH_BYTES && batch.events.len() < MAX_EVENTS_PER_BATCH
            });
            let at = room.unwrap_or_else(|| {
                let (own, bytes) = (feed.clone(), BATCH_HEADER_BYTES);
                self.own.push(OwnBatch { feed: own, events: Vec::new(), bytes, restates });
                self.open.insert(feed, self.own.len() - 1);
                self.own.len() - 1
            });
            let batch = &mut self.own[at];
            batch.bytes += size;
            self.new.push((at, batch.events.len() as u32));
            batch.events.push(event);
        }
        Outcome { placed: delta.placed, refs: delta.refs, versions: delta.versions }
    }

    /// Seals the group's own batches, and hashes all entries.
    pub(crate) fn seal(mut self) -> Result<Sealed, Refusal> {
        let places = Places { base: self.base, copies: self.copies.len() as u64, new: std::mem::take(&mut self.new) };
        let copies = std::mem::take(&mut self.copies).into_iter().map(Unhashed::Copy);
        let mut unhashed: Vec<_> = copies.collect();
        let sealer = &self.shared.sealer();
        for batch in std::mem::take(&mut self.own) {
            let head = self.heads.get(&batch.feed).copied().or_else(|| self.shared.head(&batch.feed));
            let unsigned = sealer.prepare(&batch.feed, head.as_ref(), self.now_ms, batch.events, batch.restates)?;
            self.heads.insert(batch.feed, unsigned.head());
            unhashed.push(Unhashed::Own(unsigned));
        }
        Ok(Sealed { entries: finish_all(sealer, unhashed), places })
    }
}

/// An entry that is not hashed, and perhaps not signed.
enum Unhashed {
    Copy(VerifiedBatch),
    Own(UnsignedBatch),
}

impl Unhashed {
    fn bytes(&self) -> usize {
        match self {
            Self::Copy(batch) => batch.bytes().len(),
            // Ed25519 hashes twice what it signs.
            Self::Own(unsigned) => 3 * unsigned.body_len(),
        }
    }

    fn finish(self, sealer: &Sealer) -> (VerifiedBatch, Digest) {
        let batch = match self {
            Self::Copy(batch) => batch,
            Self::Own(unsigned) => sealer.sign(unsigned),
        };
        let leaf = leaf_hash(batch.bytes());
        (batch, leaf)
    }
}

/// Signs and hashes; what takes longer than starting a thread is shared with one.
fn finish_all(sealer: &Sealer, mut unhashed: Vec<Unhashed>) -> Vec<(VerifiedBatch, Digest)> {
    let total: usize = unhashed.iter().map(Unhashed::bytes).sum();
    let mut left = total / 2;
    let at = unhashed.iter().take_while(|entry| {
        let here = left > 0;
        left = left.saturating_sub(entry.bytes());
        here
    });
    let at = at.count();
    if total < SHARED_FROM_BYTES || at == unhashed.len() {
        return unhashed.into_iter().map(|entry| entry.finish(sealer)).collect();
    }
    let theirs = unhashed.split_off(at);
    thread::scope(|scope| {
        let theirs = scope.spawn(|| theirs.into_iter().map(|entry| entry.finish(sealer)).collect::<Vec<_>>());
        let mut entries: Vec<_> = unhashed.into_iter().map(|entry| entry.finish(sealer)).collect();
        match theirs.join() {
            Ok(theirs) => entries.extend(theirs),
            Err(panic) => panic::resume_unwind(panic),
        }
        entries
    })
}

fn too_many(what: &'static str, size: usize) -> Result<(), CommitError> {
    if size <= MAX_TRANSACTION_ITEMS {
        return Ok(());
    }
    Err(CommitError::TransactionTooLarge { what, size, limit: MAX_TRANSACTION_ITEMS })
}

/// An own batch taken back brings its ids and versions, which own events of the same group must see.
fn note_own_copy(delta: &mut Delta, feed: &FeedId, copy: usize, batch: &pb::Batch) {
    for (index, event) in batch.events.iter().enumerate() {
        if let Ok(id) = Uuid::from_slice(&event.id) {
            delta.ids.insert(id, EventRef::Copied { copy, index: index as u32 });
        }
        delta.streams.insert(event.stream.clone(), (event.version, feed.clone()));
    }
}
