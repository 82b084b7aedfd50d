//! What a caller commits, and what it is told.

use std::fmt;

use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, FeedId, Head, Lane, VerifiedBatch};
use httt_wire::{Message, Name, feed as pb};
use uuid::Uuid;

use crate::EventPosition;

/// One event to append. Its version is assigned by the log.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// Its id. Appending the same id with the same content again is success and changes nothing.
    pub id: Uuid,
    /// Whom it is for; ignored on [`Lane::Local`].
    pub audience: Audience,
    /// On which lane.
    pub lane: Lane,
    /// Its stream.
    pub stream: String,
    /// Full protobuf name of the message in `data`.
    pub kind: String,
    /// Account or component that caused it.
    pub actor: String,
    /// W3C trace context, may be empty.
    pub traceparent: String,
    /// Unix milliseconds; `None`: the log's clock at commit.
    pub occurred_at_ms: Option<i64>,
    /// The encoded message.
    pub data: Bytes,
}

impl NewEvent {
    /// `message` as an event with a fresh UUIDv7.
    pub fn of<M: Message + Name>(audience: Audience, lane: Lane, stream: impl Into<String>, message: &M) -> Self {
        Self {
            id: Uuid::now_v7(),
            audience,
            lane,
            stream: stream.into(),
            kind: M::full_name(),
            actor: String::new(),
            traceparent: String::new(),
            occurred_at_ms: None,
            data: message.encode_to_vec().into(),
        }
    }

    /// With this id.
    #[must_use]
    pub fn with_id(mut self, id: Uuid) -> Self {
        self.id = id;
        self
    }

    /// Caused by this account or component.
    #[must_use]
    pub fn with_actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = actor.into();
        self
    }

    /// In this trace.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = traceparent.into();
        self
    }

    /// Occurred at this moment, Unix milliseconds.
    #[must_use]
    pub fn at(mut self, occurred_at_ms: i64) -> Self {
        self.occurred_at_ms = Some(occurred_at_ms);
        self
    }

    pub(crate) fn feed(&self, origin: &AgencyCode) -> FeedId {
        match self.lane {
            Lane::Local => FeedId::local(origin),
            lane => FeedId::new(origin.clone(), self.audience.clone(), lane),
        }
    }

    /// As a batch holds it: the event of `version` in its stream, committed at `now_ms`.
    pub fn into_wire(self, version: u64, now_ms: i64) -> pb::Event {
        pb::Event {
            id: self.id.as_bytes().to_vec(),
            stream: self.stream,
            version,
            r#type: self.kind,
            occurred_at_ms: self.occurred_at_ms.unwrap_or(now_ms),
            actor: self.actor,
            traceparent: self.traceparent,
            data: self.data,
        }
    }
}

/// What a stream must be at for a transaction to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// It has no event yet.
    NoStream,
    /// Its latest event has this version. `Exact(0)` is the same as `NoStream`.
    Exact(u64),
}

impl Expected {
    pub(crate) fn met_by(self, actual: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual.is_none(),
            Self::Exact(version) => actual.unwrap_or(0) == version,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("anything"),
            Self::NoStream => f.write_str("no event"),
            Self::Exact(version) => write!(f, "version {version}"),
        }
    }
}

/// What an event takes in memory beside its data, about.
const EVENT_WEIGHT: usize = 256;

/// Makes events of where the copies went; run by the writer, so it must be quick.
pub type Derive = Box<dyn FnOnce(&[Placed]) -> Vec<NewEvent> + Send>;

/// What is committed together or not at all: copies first, then events, then what `derive` makes of the copies.
#[derive(Default)]
pub struct Transaction {
    /// Batches of other origins, or own ones taken back.
    pub copies: Vec<VerifiedBatch>,
    /// Own events.
    pub events: Vec<NewEvent>,
    /// Own streams and what they must be at. Not looked at when every event is already in the log.
    pub expected: Vec<(String, Expected)>,
    /// Own events about the copies, such as receipts. It must give the same events for the same placements, because
    /// a transaction tried again after a lost answer runs it again.
    pub derive: Option<Derive>,
    /// The events say again all that their feed, of the lane `status`, stands for: see [`Transaction::restating`].
    pub restates: bool,
}

impl Transaction {
    /// Bytes it takes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        let copies: usize = self.copies.iter().map(|batch| batch.bytes().len()).sum();
        let events: usize = self.events.iter().map(|event| event.data.len() + EVENT_WEIGHT).sum();
        copies + events
    }

    /// Appends own events.
    pub fn append(events: impl IntoIterator<Item = NewEvent>) -> Self {
        Self { events: events.into_iter().collect(), ..Self::default() }
    }

    /// Copies batches.
    pub fn copy(batches: impl IntoIterator<Item = VerifiedBatch>) -> Self {
        Self { copies: batches.into_iter().collect(), ..Self::default() }
    }

    /// Only if `stream`, one of this node's own, is at `expected`.
    #[must_use]
    pub fn expecting(mut self, stream: impl Into<String>, expected: Expected) -> Self {
        self.expected.push((stream.into(), expected));
        self
    }

    /// Its events, all of the lane `status`, say again all that their feed stands for. They begin a batch of their own,
    /// which says so; a reader that holds nothing of the feed may begin there. All of them are sealed together, so a
    /// reader never begins with half of it for long.
    #[must_use]
    pub fn restating(mut self) -> Self {
        self.restates = true;
        self
    }

    /// With the events that `derive` makes of the placed copies.
    #[must_use]
    pub fn deriving(mut self, derive: impl FnOnce(&[Placed]) -> Vec<NewEvent> + Send + 'static) -> Self {
        self.derive = Some(Box::new(derive));
        self
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction")
            .field("copies", &self.copies.len())
            .field("events", &self.events.len())
            .field("expected", &self.expected)
            .field("derive", &self.derive.is_some())
            .field("restates", &self.restates)
            .finish()
    }
}

/// Where a copied batch is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Its feed.
    pub feed: FeedId,
    /// Its sequence and digest.
    pub head: Head,
    /// Its entry.
    pub position: u64,
    /// It was there before.
    pub duplicate: bool,
    /// When it was committed (for a duplicate: the first time), Unix milliseconds by this log's clock.
    pub at_ms: i64,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// One per copy, in order.
    pub copied: Vec<Placed>,
    /// One per event, derived ones last; the original position where the event was there before.
    pub events: Vec<EventPosition>,
    /// The version of each of `events` in its stream.
    pub versions: Vec<u64>,
    /// Length of the log, in entries, after this commit.
    pub next: u64,
}
