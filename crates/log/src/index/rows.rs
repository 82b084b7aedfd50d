//! What the rows mean: builds them from entries, reads them back.

use std::collections::HashMap;

use httt_feed::{AgencyCode, Audience, Digest, FeedId, Head, Lane};
use httt_wire::feed as pb;
use uuid::Uuid;

use super::{Index, IndexError, Row, keys};
use crate::chunks::Location;
use crate::merkle::{CompactRange, Node};
use crate::{EventPosition, FeedHead};

/// Version of the rows' layout; another one means rebuilding.
pub(crate) const INDEX_FORMAT: u32 = 1;

/// Reads fields off a value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_be_bytes)
    }

    fn digest(&mut self) -> Option<Digest> {
        self.bytes().map(Digest)
    }
}

fn malformed(what: &str) -> IndexError {
    IndexError(format!("a row of the index is malformed: {what}"))
}

/// How far the index is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) log_id: [u8; 16],
    pub(crate) chunk: u32,
    /// Offset after the last commit marker.
    pub(crate) end: u64,
    /// Offset of the last commit marker.
    pub(crate) marker: u64,
    /// Number of the last group in its chunk.
    pub(crate) group: u32,
    pub(crate) range: CompactRange,
}

impl Meta {
    pub(crate) fn row(&self) -> Row {
        let mut value = INDEX_FORMAT.to_be_bytes().to_vec();
        value.extend_from_slice(&self.log_id);
        value.extend_from_slice(&self.chunk.to_be_bytes());
        value.extend_from_slice(&self.end.to_be_bytes());
        value.extend_from_slice(&self.marker.to_be_bytes());
        value.extend_from_slice(&self.group.to_be_bytes());
        self.range.encode(&mut value);
        (keys::META.to_vec(), value)
    }

    /// `Ok(None)`: the index is empty.
    pub(crate) fn read(index: &dyn Index) -> Result<Option<Self>, IndexError> {
        let Some(value) = index.get(keys::META)? else { return Ok(None) };
        let mut fields = Fields(&value);
        if fields.u32() != Some(INDEX_FORMAT) {
            return Err(IndexError("the index was written by another version of this program".into()));
        }
        let read = |fields: &mut Fields<'_>| {
            let (log_id, chunk, end) = (fields.bytes()?, fields.u32()?, fields.u64()?);
            let (marker, group) = (fields.u64()?, fields.u32()?);
            Some(Self { log_id, chunk, end, marker, group, range: CompactRange::decode(fields.0)? })
        };
        read(&mut fields).map(Some).ok_or_else(|| malformed("meta"))
    }
}

/// One entry as the index sees it.
#[derive(Debug)]
pub(crate) struct IndexedEntry<'a> {
    pub(crate) position: u64,
    pub(crate) at: Location,
    pub(crate) leaf: Digest,
    pub(crate) feed: &'a FeedId,
    pub(crate) head: Head,
    pub(crate) at_ms: i64,
    pub(crate) batch: &'a pb::Batch,
}

/// The rows of an entry.
pub(crate) fn push_entry(rows: &mut Vec<Row>, entry: &IndexedEntry<'_>) {
    let mut value = entry.at.chunk.to_be_bytes().to_vec();
    value.extend_from_slice(&entry.at.offset.to_be_bytes());
    value.extend_from_slice(&entry.at.length.to_be_bytes());
    value.extend_from_slice(&entry.leaf.0);
    rows.push((keys::position(entry.position), value));

    let mut value = entry.position.to_be_bytes().to_vec();
    value.extend_from_slice(&entry.head.digest.0);
    value.extend_from_slice(&entry.at_ms.to_be_bytes());
    rows.push((keys::batch(entry.feed, entry.head.sequence), value));

    let mut value = entry.head.sequence.to_be_bytes().to_vec();
    value.extend_from_slice(&entry.head.digest.0);
    value.extend_from_slice(&entry.position.to_be_bytes());
    rows.push((keys::head(entry.feed), value));

    let origin = entry.feed.origin.as_str();
    // The runs of this batch: first and last version of each stream, and where the first is.
    let mut runs: Vec<(&str, u64, u64, EventPosition)> = Vec::new();
    let mut known = HashMap::new();
    for (index, event) in entry.batch.events.iter().enumerate() {
        let place = EventPosition::new(entry.position, index as u32);
        if let Ok(id) = Uuid::from_slice(&event.id) {
            rows.push((keys::event(id, origin), place_value(place)));
        }
        let at = *known.entry(event.stream.as_str()).or_insert_with(|| {
            runs.push((&event.stream, event.version, event.version, place));
            runs.len() - 1
        });
        runs[at].2 = event.version;
    }
    for (stream, first, last, place) in runs {
        let mut value = place_value(place);
        value.extend_from_slice(&last.to_be_bytes());
        value.push(entry.feed.lane.to_wire() as u8);
        value.extend_from_slice(entry.feed.audience.as_str().as_bytes());
        rows.push((keys::stream_run(origin, stream, first), value));
    }
}

fn place_value(place: EventPosition) -> Vec<u8> {
    let mut value = place.entry.to_be_bytes().to_vec();
    value.extend_from_slice(&place.index.to_be_bytes());
    value
}

/// The row of a tree node.
pub(crate) fn push_node(rows: &mut Vec<Row>, node: &Node) {
    rows.push((keys::node(node.level, node.number), node.hash.0.to_vec()));
}

fn read_location(value: &[u8]) -> Option<(Location, Digest)> {
    let mut fields = Fields(value);
    let at = Location { chunk: fields.u32()?, offset: fields.u64()?, length: fields.u32()? };
    // A lying row must not make a reader allocate more than a frame can hold.
    (at.length as usize <= crate::frame::MAX_PAYLOAD_BYTES).then_some(())?;
    Some((at, fields.digest()?))
}

/// Where the entry at `position` is, and its leaf hash.
pub(crate) fn location(index: &dyn Index, position: u64) -> Result<Option<(Location, Digest)>, IndexError> {
    match index.get(&keys::position(position))? {
        None => Ok(None),
        Some(value) => read_location(&value).map(Some).ok_or_else(|| malformed("position")),
    }
}

fn positions(rows: Vec<Row>) -> Result<Vec<(u64, Location)>, IndexError> {
    rows.into_iter()
        .map(|(key, value)| {
            let position = Fields(key.get(1..).unwrap_or_default()).u64();
            position.zip(read_location(&value)).map(|(position, (at, _))| (position, at))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("position"))
}

/// Where the entries `from..to` are, from the low end.
pub(crate) fn locations(
    index: &dyn Index,
    from: u64,
    to: u64,
    limit: usize,
) -> Result<Vec<(u64, Location)>, IndexError> {
    positions(index.range(&keys::position(from), &keys::position(to), limit)?)
}

/// Where the entries `from..to` are, from the high end.
pub(crate) fn locations_backward(
    index: &dyn Index,
    from: u64,
    to: u64,
    limit: usize,
) -> Result<Vec<(u64, Location)>, IndexError> {
    positions(index.range_backward(&keys::position(from), &keys::position(to), limit)?)
}

/// `count` neighbouring tree nodes over 256^`level` leaves each, as many as there are.
pub(crate) fn tree_nodes(index: &dyn Index, level: u8, from: u64, count: usize) -> Result<Vec<Digest>, IndexError> {
    let to = from.saturating_add(count as u64);
    let (from, to) = match level {
        0 => (keys::position(from), keys::position(to)),
        _ => (keys::node(level, from), keys::node(level, to)),
    };
    index
        .range(&from, &to, count)?
        .iter()
        .map(|(_, value)| match level {
            0 => read_location(value).map(|(_, leaf)| leaf),
            _ => Digest::from_slice(value),
        })
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("tree node"))
}

/// A batch by its place in its feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchRow {
    pub(crate) position: u64,
    pub(crate) digest: Digest,
    pub(crate) at_ms: i64,
}

fn read_batch(value: &[u8]) -> Option<BatchRow> {
    let mut fields = Fields(value);
    let (position, digest) = (fields.u64()?, fields.digest()?);
    Some(BatchRow { position, digest, at_ms: i64::from_be_bytes(fields.bytes()?) })
}

/// The batch of `feed` with `sequence`.
pub(crate) fn batch(index: &dyn Index, feed: &FeedId, sequence: u64) -> Result<Option<BatchRow>, IndexError> {
    match index.get(&keys::batch(feed, sequence))? {
        None => Ok(None),
        Some(value) => read_batch(&value).map(Some).ok_or_else(|| malformed("batch")),
    }
}

/// Batches of `feed` after sequence `after` up to and including `last`.
pub(crate) fn batches(
    index: &dyn Index,
    feed: &FeedId,
    after: u64,
    last: u64,
    limit: usize,
) -> Result<Vec<BatchRow>, IndexError> {
    if after >= last {
        return Ok(Vec::new());
    }
    index
        .range(&keys::batch(feed, after + 1), &keys::batch(feed, last.saturating_add(1)), limit)?
        .iter()
        .map(|(_, value)| read_batch(value))
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("batch"))
}

/// Heads of all feeds.
pub(crate) fn heads(index: &dyn Index) -> Result<Vec<FeedHead>, IndexError> {
    index
        .range(keys::HEADS_FROM, keys::HEADS_TO, usize::MAX)?
        .iter()
        .map(|(key, value)| {
            let mut fields = Fields(value);
            let head = Head { sequence: fields.u64()?, digest: fields.digest()? };
            Some(FeedHead { feed: keys::feed_of_head(key)?, head, position: fields.u64()? })
        })
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("head"))
}

fn read_place(fields: &mut Fields<'_>) -> Option<EventPosition> {
    Some(EventPosition::new(fields.u64()?, fields.u32()?))
}

/// Where `origin`'s event with `id` is.
pub(crate) fn event(index: &dyn Index, id: Uuid, origin: &AgencyCode) -> Result<Option<EventPosition>, IndexError> {
    match index.get(&keys::event(id, origin.as_str()))? {
        None => Ok(None),
        Some(value) => read_place(&mut Fields(&value)).map(Some).ok_or_else(|| malformed("event")),
    }
}

/// Where an event with `id` is, of whatever origin.
pub(crate) fn event_of_anybody(index: &dyn Index, id: Uuid) -> Result<Option<EventPosition>, IndexError> {
    let (from, to) = keys::events_of_id(id);
    match index.range(&from, &to, 1)?.first() {
        None => Ok(None),
        Some((_, value)) => read_place(&mut Fields(value)).map(Some).ok_or_else(|| malformed("event")),
    }
}

/// A stream's latest version and the feed it lives in.
pub(crate) fn stream(
    index: &dyn Index,
    origin: &AgencyCode,
    stream: &str,
) -> Result<Option<(u64, FeedId)>, IndexError> {
    let from = keys::stream_run(origin.as_str(), stream, 0);
    let to = keys::stream_run(origin.as_str(), stream, u64::MAX);
    let rows = index.range_backward(&from, &to, 1)?;
    let Some((_, value)) = rows.first() else { return Ok(None) };
    let read = || {
        let mut fields = Fields(value);
        read_place(&mut fields)?;
        let (version, [lane]) = (fields.u64()?, fields.bytes()?);
        let audience = Audience::new(std::str::from_utf8(fields.0).ok()?).ok()?;
        Some((version, FeedId::new(origin.clone(), audience, Lane::from_wire(i32::from(lane))?)))
    };
    read().map(Some).ok_or_else(|| malformed("stream"))
}

/// Where each batch's first event of a stream is, with that event's version: up to `limit` batches that begin at a
/// version in `from..to`.
pub(crate) fn stream_runs(
    index: &dyn Index,
    origin: &AgencyCode,
    stream: &str,
    from: u64,
    to: u64,
    backward: bool,
    limit: usize,
) -> Result<Vec<(u64, EventPosition)>, IndexError> {
    let from = keys::stream_run(origin.as_str(), stream, from);
    let to = keys::stream_run(origin.as_str(), stream, to);
    let rows = if backward { index.range_backward(&from, &to, limit)? } else { index.range(&from, &to, limit)? };
    rows.iter()
        .map(|(key, value)| {
            let version = key.last_chunk::<8>().copied().map(u64::from_be_bytes)?;
            Some((version, read_place(&mut Fields(value))?))
        })
        .collect::<Option<_>>()
        .ok_or_else(|| malformed("stream run"))
}
