//! What the index knows of the newest entries, in memory until it is written as a run.

use std::collections::HashMap;

use httt_feed::{Digest, Head};
use httt_wire::feed as pb;
use uuid::Uuid;

use super::hash::{HashedMap, Hasher, StreamHash};
use super::row::{EntryRow, Traits};
use super::run::Span;
use super::{IndexedEntry, Tip};
use crate::EventPosition;
use crate::merkle::Node;

/// No older row.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct IdRow {
    hash: u64,
    place: EventPosition,
    /// The row with the same hash before this one.
    older: u32,
}

#[derive(Debug, Clone, Copy)]
struct SpanRow {
    span: Span,
    /// The same stream's row before this one.
    older: u32,
}

/// The entries of one feed.
#[derive(Debug)]
struct FeedEntries {
    first_sequence: u64,
    /// Counted from the part's first.
    entries: Vec<u32>,
    head: Head,
}

/// The newest entries, from some position on.
#[derive(Debug)]
pub(crate) struct Recent {
    first: u64,
    rows: Vec<EntryRow>,
    ids: HashedMap<u64, u32>,
    id_rows: Vec<IdRow>,
    streams: HashedMap<StreamHash, u32>,
    span_rows: Vec<SpanRow>,
    feeds: HashMap<u32, FeedEntries>,
    nodes: HashMap<(u8, u64), Digest>,
    newest_id_ms: u64,
    tip: Option<Tip>,
}

impl Recent {
    /// Nothing yet; entry `first` comes next.
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            rows: Vec::new(),
            ids: HashedMap::default(),
            id_rows: Vec::new(),
            streams: HashedMap::default(),
            span_rows: Vec::new(),
            feeds: HashMap::new(),
            nodes: HashMap::new(),
            newest_id_ms: 0,
            tip: None,
        }
    }

    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The entry after the last.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.rows.len() as u64
    }

    /// Events and entries, whichever there are more of: what its size in memory goes by.
    pub(crate) fn size(&self) -> usize {
        self.id_rows.len().max(self.rows.len())
    }

    /// Where the last group ends.
    pub(crate) fn tip(&self) -> Option<&Tip> {
        self.tip.as_ref()
    }

    pub(crate) fn newest_id_ms(&self) -> u64 {
        self.newest_id_ms
    }

    /// Adds an entry of feed number `feed`; `own`: this node said it.
    pub(crate) fn add(&mut self, hasher: &Hasher, entry: &IndexedEntry<'_>, feed: u32, own: bool) {
        let origin = entry.feed.origin.as_str();
        let position = self.end();
        let mut traits = Traits::default();
        for (index, event) in entry.events.iter().enumerate() {
            traits.add(hasher, event);
            let place = EventPosition::new(position, index as u32);
            if let Ok(id) = Uuid::from_slice(&event.id) {
                self.add_id(hasher.id(origin, id), place);
                if own && let Some(ms) = v7_ms(id) {
                    self.newest_id_ms = self.newest_id_ms.max(ms);
                }
            }
            self.add_to_stream(hasher.stream(origin, &event.stream), event, place);
        }
        let (sequence, head) = (entry.head.sequence, entry.head);
        let of_feed = self.feeds.entry(feed);
        let of_feed = of_feed.or_insert_with(|| FeedEntries { first_sequence: sequence, entries: Vec::new(), head });
        of_feed.entries.push((position - self.first) as u32);
        of_feed.head = head;
        self.rows.push(EntryRow { at: entry.at, feed, sequence, at_ms: entry.at_ms, traits, leaf: entry.leaf });
    }

    fn add_id(&mut self, hash: u64, place: EventPosition) {
        let older = self.ids.insert(hash, self.id_rows.len() as u32).unwrap_or(NONE);
        self.id_rows.push(IdRow { hash, place, older });
    }

    fn add_to_stream(&mut self, hash: StreamHash, event: &pb::Event, place: EventPosition) {
        let next = self.span_rows.len() as u32;
        let latest = self.streams.entry(hash).or_insert(NONE);
        if let Some(row) = self.span_rows.get_mut(*latest as usize)
            && row.span.place.entry == place.entry
            && row.span.last().checked_add(1) == Some(event.version)
        {
            row.span.count += 1;
            return;
        }
        let span = Span { first: event.version, place, count: 1 };
        self.span_rows.push(SpanRow { span, older: *latest });
        *latest = next;
    }

    /// Adds a full subtree of the Merkle tree.
    pub(crate) fn add_node(&mut self, node: Node) {
        self.nodes.insert((node.level, node.number), node.hash);
    }

    /// Closes the group whose entries were added.
    pub(crate) fn set_tip(&mut self, tip: Tip) {
        self.tip = Some(tip);
    }

    /// Rows of the entries in `from..to`, which are all here.
    pub(crate) fn rows(&self, from: u64, to: u64) -> &[EntryRow] {
        let at = |position: u64| (position.saturating_sub(self.first) as usize).min(self.rows.len());
        &self.rows[at(from)..at(to)]
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = Node> + '_ {
        self.nodes.iter().map(|((level, number), hash)| Node { level: *level, number: *number, hash: *hash })
    }

    pub(crate) fn node(&self, level: u8, number: u64) -> Option<Digest> {
        self.nodes.get(&(level, number)).copied()
    }

    /// Places of the events whose id has this hash.
    pub(crate) fn id(&self, hash: u64) -> impl Iterator<Item = EventPosition> + '_ {
        let mut at = self.ids.get(&hash).copied().unwrap_or(NONE);
        std::iter::from_fn(move || {
            let row = self.id_rows.get(at as usize)?;
            at = row.older;
            Some(row.place)
        })
    }

    /// The newest span of a stream.
    pub(crate) fn newest(&self, hash: &StreamHash) -> Option<Span> {
        self.streams.get(hash).and_then(|at| self.span_rows.get(*at as usize)).map(|row| row.span)
    }

    /// All spans of a stream, oldest first.
    pub(crate) fn spans(&self, hash: &StreamHash) -> Vec<Span> {
        let mut at = self.streams.get(hash).copied().unwrap_or(NONE);
        let mut spans = Vec::new();
        while let Some(row) = self.span_rows.get(at as usize) {
            spans.push(row.span);
            at = row.older;
        }
        spans.reverse();
        spans
    }

    /// Entries of `feed` with the sequences `from..=to`, as far as they are here.
    pub(crate) fn feed(&self, feed: u32, from: u64, to: u64, mut take: impl FnMut(u64)) {
        let Some(FeedEntries { first_sequence, entries, .. }) = self.feeds.get(&feed) else { return };
        let at = |sequence: u64| sequence.saturating_sub(*first_sequence).min(entries.len() as u64) as usize;
        let found = entries.get(at(from)..at(to.saturating_add(1))).unwrap_or_default();
        found.iter().for_each(|entry| take(self.first + u64::from(*entry)));
    }

    /// The head of feed number `feed` after this part, if the part holds anything of it.
    pub(crate) fn head(&self, feed: u32) -> Option<(Head, u64)> {
        let of_feed = self.feeds.get(&feed)?;
        Some((of_feed.head, self.first + u64::from(*of_feed.entries.last()?)))
    }

    pub(crate) fn sorted_ids(&self) -> Vec<(u64, EventPosition)> {
        let mut ids: Vec<_> = self.id_rows.iter().map(|row| (row.hash, row.place)).collect();
        ids.sort_unstable();
        ids
    }

    pub(crate) fn sorted_streams(&self) -> Vec<StreamHash> {
        let mut streams: Vec<_> = self.streams.keys().copied().collect();
        streams.sort_unstable();
        streams
    }

    /// Streams and their newest spans, in no order.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (StreamHash, Span)> + '_ {
        self.streams.iter().filter_map(|(hash, at)| Some((*hash, self.span_rows.get(*at as usize)?.span)))
    }

    pub(crate) fn sorted_feeds(&self) -> impl Iterator<Item = (u32, u64, Vec<u32>)> + '_ {
        let mut feeds: Vec<_> = self.feeds.keys().copied().collect();
        feeds.sort_unstable();
        feeds.into_iter().filter_map(|feed| {
            let FeedEntries { first_sequence, entries, .. } = self.feeds.get(&feed)?;
            Some((feed, *first_sequence, entries.clone()))
        })
    }
}

/// The time in a UUIDv7, Unix milliseconds.
pub(crate) fn v7_ms(id: Uuid) -> Option<u64> {
    (id.get_version_num() == 7).then(|| (id.as_u128() >> 80) as u64)
}
