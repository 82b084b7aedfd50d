//! What a reader is given.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, FeedId, Head, Lane};
use httt_wire::{Message as _, exchange, feed as pb};
use uuid::Uuid;

/// Where an event is: its entry, and its place in that entry's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EventPosition {
    /// The entry, from 0: the leaf index of the Merkle tree.
    pub entry: u64,
    /// The place in the batch, from 0.
    pub index: u32,
}

impl EventPosition {
    /// Before everything.
    pub const START: Self = Self { entry: 0, index: 0 };
    /// After everything.
    pub const END: Self = Self { entry: u64::MAX, index: u32::MAX };

    /// The event at `index` of `entry`.
    pub fn new(entry: u64, index: u32) -> Self {
        Self { entry, index }
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.entry, self.index)
    }
}

/// Which way to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Oldest first.
    Forward,
    /// Newest first.
    Backward,
}

/// The head of a feed and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedHead {
    /// The feed.
    pub feed: FeedId,
    /// Its latest batch.
    pub head: Head,
    /// That batch's entry.
    pub position: u64,
}

/// One entry as it is stored, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedEntry {
    /// Its place, from 0.
    pub position: u64,
    /// The encoded `SealedBatch`, as it was signed, stored and hashed.
    pub bytes: Bytes,
}

impl SealedEntry {
    /// What it says.
    ///
    /// # Errors
    /// Text: the bytes are intact but no sealed batch, which is a defect.
    pub fn decode(self) -> Result<Entry, String> {
        Entry::decode(self.position, self.bytes)
    }
}

/// One entry: a sealed batch in its place. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its place, from 0.
    pub position: u64,
    /// The feed it belongs to.
    pub feed: FeedId,
    /// Its sequence in that feed.
    pub sequence: u64,
    /// SHA-256 of the batch's body.
    pub digest: Digest,
    /// When its origin sealed it, by the origin's clock.
    pub sealed_at_ms: i64,
    /// The encoded `SealedBatch`, as it was signed, stored and hashed.
    pub bytes: Bytes,
    /// What it says.
    pub batch: Arc<pb::Batch>,
}

impl Entry {
    /// Reads stored bytes. They were verified before they were stored, and a CRC just now; an error means a defect.
    pub(crate) fn decode(position: u64, bytes: Bytes) -> Result<Self, String> {
        let sealed = pb::SealedBatch::decode(bytes.clone()).map_err(|error| format!("no sealed batch: {error}"))?;
        let batch = pb::Batch::decode(sealed.body.clone()).map_err(|error| format!("no batch: {error}"))?;
        let feed = FeedId::from_wire(&exchange::FeedId {
            origin: batch.origin.clone(),
            audience: batch.audience.clone(),
            lane: batch.lane,
        })
        .map_err(|error| error.to_string())?;
        Ok(Self {
            position,
            feed,
            sequence: batch.sequence,
            digest: Digest::of(&sealed.body),
            sealed_at_ms: batch.sealed_at_ms,
            bytes,
            batch: Arc::new(batch),
        })
    }

    /// The feed's head once this entry is in.
    pub fn head(&self) -> Head {
        Head { sequence: self.sequence, digest: self.digest }
    }

    /// Its events in order.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = RecordedEvent> + ExactSizeIterator + '_ {
        self.batch.events.iter().enumerate().map(|(index, event)| self.record(index, event))
    }

    pub(crate) fn event(&self, index: u32) -> Option<RecordedEvent> {
        let index = index as usize;
        self.batch.events.get(index).map(|event| self.record(index, event))
    }

    pub(crate) fn record(&self, index: usize, event: &pb::Event) -> RecordedEvent {
        RecordedEvent {
            // A batch has at most MAX_EVENTS_PER_BATCH events.
            position: EventPosition::new(self.position, index as u32),
            feed: self.feed.clone(),
            sequence: self.sequence,
            event: event.clone(),
        }
    }
}

/// One event in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedEvent {
    /// Where it is in this log.
    pub position: EventPosition,
    /// The feed it came in.
    pub feed: FeedId,
    /// The sequence of its batch in that feed.
    pub sequence: u64,
    /// The event.
    pub event: pb::Event,
}

impl RecordedEvent {
    /// Its id.
    pub fn id(&self) -> Uuid {
        Uuid::from_slice(&self.event.id).unwrap_or_default()
    }
}

/// Which events are wanted. Every part that is set must match; the default matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The stream's name begins so.
    pub stream_prefix: Option<String>,
    /// The type is one of these; empty: any.
    pub kinds: Vec<String>,
    /// By this origin.
    pub origin: Option<AgencyCode>,
    /// On this lane.
    pub lane: Option<Lane>,
    /// Occurred at or after, Unix milliseconds.
    pub since_ms: Option<i64>,
    /// Occurred before, Unix milliseconds.
    pub until_ms: Option<i64>,
}

impl Filter {
    /// Whether an event of `feed` is wanted.
    pub fn matches(&self, feed: &FeedId, event: &pb::Event) -> bool {
        self.matches_feed(feed)
            && self.stream_prefix.as_ref().is_none_or(|prefix| event.stream.starts_with(prefix.as_str()))
            && (self.kinds.is_empty() || self.kinds.contains(&event.r#type))
            && self.since_ms.is_none_or(|since| event.occurred_at_ms >= since)
            && self.until_ms.is_none_or(|until| event.occurred_at_ms < until)
    }

    /// Whether any event of `feed` can be wanted.
    pub(crate) fn matches_feed(&self, feed: &FeedId) -> bool {
        self.origin.as_ref().is_none_or(|origin| *origin == feed.origin)
            && self.lane.is_none_or(|lane| lane == feed.lane)
    }
}

/// A page of filtered events.
#[derive(Debug, Clone, PartialEq)]
pub struct EventPage {
    /// The events, in the direction asked for.
    pub events: Vec<RecordedEvent>,
    /// Where to continue in the same direction.
    pub next: EventPosition,
    /// Whether there is something left to look at in that direction. A page may be short, even empty, and this be
    /// true: one call looks at a bounded number of entries.
    pub more: bool,
    /// Entries passed over that may have held more, and went by retention.
    pub gone: u64,
}
