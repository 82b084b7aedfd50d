//! Finds the group that stood at a place, in one of three ways:
//! 1. a copy of the very log has it;
//! 2. the index says which batches stood there, and what is left of the chunk, or a donor, has them;
//! 3. the group's commit marker is left, and what is missing of the group is the next of one feed, which a donor has.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use httt_feed::FeedId;

use super::described::{Described, described};
use super::donor::{Donor, FolderDonor};
use super::salvage::{Marker, Salvage};
use super::{Candidate, Place};
use crate::entry::Entry;
use crate::frame::{CHUNK_HEADER_BYTES, COMMIT_FRAME_BYTES, FRAME_HEADER_BYTES};
use crate::index::Index;
use crate::merkle::{CompactRange, leaf_hash};

/// Entries asked of the index at a time.
const WINDOW: u64 = 1_024;
/// Batches named in a message.
const MAX_NAMED: usize = 8;

/// The last sequence of each feed before a place.
pub(super) type Heads = HashMap<FeedId, u64>;

/// What is known around a place.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// The Merkle tree up to the place.
    pub(super) range: &'a CompactRange,
    pub(super) heads: &'a Heads,
    /// What is intact in the damaged span.
    pub(super) salvage: &'a Salvage,
    /// The position after the damaged span, if it is known.
    pub(super) until: Option<u64>,
}

/// All who may know.
pub(super) struct Sources {
    /// Copies of the very log.
    pub(super) copies: Vec<FolderDonor>,
    /// Whoever holds some of the feeds.
    pub(super) others: Vec<Box<dyn Donor>>,
    pub(super) indexes: Vec<Index>,
    /// Rows fetched ahead, by index: where they begin, and what they are.
    windows: Vec<(u64, BTreeMap<u64, Described>)>,
}

impl Sources {
    pub(super) fn new(copies: Vec<FolderDonor>, others: Vec<Box<dyn Donor>>, indexes: Vec<Index>) -> Self {
        let windows = vec![(u64::MAX, BTreeMap::new()); indexes.len()];
        Self { copies, others, indexes, windows }
    }

    /// The group that stood at `place`, or why it cannot be had.
    pub(super) fn group(&mut self, place: &Place, around: &Surroundings<'_>) -> Result<Candidate, String> {
        for copy in &self.copies {
            match copy.group(place, around.range) {
                Ok(Some(group)) => return Ok(group),
                Ok(None) => {}
                Err(error) => tracing::warn!(donor = copy.name(), %error, "a copy of the log cannot be read"),
            }
        }
        let mut why = None;
        for index in 0..self.indexes.len() {
            match self.by_index(index, place, around) {
                Ok(Some(group)) => return Ok(group),
                Ok(None) => {}
                Err(missing) => why = why.or(Some(missing)),
            }
        }
        if let Some(group) = self.by_marker(place, around) {
            return Ok(group);
        }
        Err(why.unwrap_or_else(|| {
            let marker = around.salvage.markers.contains_key(&place.position);
            let known = if marker {
                "its commit marker is left, but no donor has one feed's batches that fill it"
            } else {
                "neither an index nor a commit marker says which batches stood there"
            };
            format!(
                "{known}; a backup of this very log can help, or taking the feeds back from the exchange into a new log"
            )
        }))
    }

    /// Whether the chunk ends here, as copies or the index know it.
    pub(super) fn chunk_ends(&mut self, place: &Place) -> bool {
        let next = place.chunk + 1;
        let in_copy = |copy: &FolderDonor| copy.header(next).is_some_and(|next| next.first_position == place.position);
        self.copies.iter().any(in_copy)
            || (0..self.indexes.len()).any(|index| {
                let entry = self.described(index, place.position);
                entry.is_some_and(|entry| (entry.at.chunk, entry.at.offset) == (next, CHUNK_HEADER_BYTES as u64))
            })
    }

    fn described(&mut self, index: usize, position: u64) -> Option<Described> {
        let (from, rows) = &mut self.windows[index];
        if !(*from..from.saturating_add(WINDOW)).contains(&position) || *from == u64::MAX {
            *from = position;
            *rows =
                described(&self.indexes[index], position, position.saturating_add(WINDOW)).unwrap_or_else(|error| {
                    tracing::warn!(%error, "an index cannot be read");
                    BTreeMap::new()
                });
        }
        rows.get(&position).cloned()
    }

    /// By the index. `Ok(None)`: it does not know the place; an error says what nobody has.
    fn by_index(
        &mut self,
        index: usize,
        place: &Place,
        around: &Surroundings<'_>,
    ) -> Result<Option<Candidate>, String> {
        if self.indexes[index].failed().is_some() {
            return Ok(None);
        }
        let (mut rows, mut offset, mut position) = (Vec::new(), place.offset, place.position);
        // A commit marker between two entries ends the group; so does what is known to follow it.
        while let Some(row) = self.described(index, position) {
            let at = (row.at.chunk, row.at.offset);
            if at != (place.chunk, offset) {
                let after_marker = at == (place.chunk, offset + COMMIT_FRAME_BYTES as u64);
                if rows.is_empty() || !(after_marker || row.at.chunk != place.chunk) {
                    return Ok(None);
                }
                break;
            }
            offset += FRAME_HEADER_BYTES as u64 + u64::from(row.at.length);
            position += 1;
            rows.push(row);
            if around.until == Some(position) {
                break;
            }
        }
        let Some(first) = rows.first() else { return Ok(None) };
        let at_ms = first.committed_at_ms;
        let (mut entries, mut missing, mut from) = (Vec::with_capacity(rows.len()), Vec::new(), HashSet::new());
        for (row, position) in rows.iter().zip(place.position..) {
            let left = around.salvage.entries.get(&position).filter(|bytes| leaf_hash(bytes) == row.leaf);
            match left.cloned() {
                Some(bytes) => entries.push(bytes),
                None => match self.fetch(row) {
                    Ok((bytes, donor)) => {
                        entries.push(bytes);
                        from.insert(donor);
                    }
                    Err(why) => missing.push(why),
                },
            }
        }
        if missing.is_empty() {
            return Ok(Some(Candidate { entries, at_ms, from: said(from, "the index") }));
        }
        let more = missing.len().saturating_sub(MAX_NAMED);
        missing.truncate(MAX_NAMED);
        let more = if more > 0 { format!(", and {more} more") } else { String::new() };
        Err(format!("{}{more}", missing.join(", ")))
    }

    /// A batch with the right leaf hash, and who gave it.
    fn fetch(&self, row: &Described) -> Result<(Bytes, String), String> {
        let mut another = Vec::new();
        for donor in self.donors() {
            match donor.batch(&row.feed, row.sequence) {
                Ok(Some(bytes)) if leaf_hash(&bytes) == row.leaf => return Ok((bytes, donor.name())),
                Ok(Some(_)) => another.push(format!("{} has another batch there", donor.name())),
                Ok(None) => {}
                Err(error) => another.push(format!("{}: {error}", donor.name())),
            }
        }
        let but = if another.is_empty() { String::new() } else { format!(" ({})", another.join("; ")) };
        Err(format!("no donor has {} sequence {}{but}", row.feed, row.sequence))
    }

    fn donors(&self) -> impl Iterator<Item = &dyn Donor> {
        let copies = self.copies.iter().map(|copy| copy as &dyn Donor);
        copies.chain(self.others.iter().map(|donor| donor.as_ref()))
    }

    /// By a commit marker that is left, trying for what is missing the next batches of one feed after the other. The
    /// marker's root tells which are right.
    fn by_marker(&self, place: &Place, around: &Surroundings<'_>) -> Option<Candidate> {
        let marker = around.salvage.markers.get(&place.position)?;
        if (marker.group, marker.commit.start) != (place.group, place.offset) {
            return None;
        }
        let mut feeds: Vec<_> = around.heads.keys().cloned().collect();
        feeds.extend(self.donors().flat_map(Donor::feeds));
        feeds.sort();
        feeds.dedup();
        feeds.iter().find_map(|feed| self.with_feed(feed, marker, around))
    }

    fn with_feed(&self, feed: &FeedId, marker: &Marker, around: &Surroundings<'_>) -> Option<Candidate> {
        let mut last = around.heads.get(feed).copied().unwrap_or_default();
        let (mut range, mut end) = (around.range.clone(), marker.commit.start);
        let (mut entries, mut from) = (Vec::new(), HashSet::new());
        for position in (marker.commit.first..).take(marker.commit.count as usize) {
            let bytes = match around.salvage.entries.get(&position) {
                Some(bytes) => bytes.clone(),
                None => {
                    let fetched = self.donors().find_map(|donor| {
                        let bytes = donor.batch(feed, last + 1).ok().flatten()?;
                        Some((bytes, donor.name()))
                    });
                    let (bytes, donor) = fetched?;
                    from.insert(donor);
                    bytes
                }
            };
            if let Ok(entry) = Entry::decode(position, bytes.clone())
                && entry.feed == *feed
            {
                last = entry.sequence;
            }
            end += (FRAME_HEADER_BYTES + bytes.len()) as u64;
            if end > marker.offset {
                return None;
            }
            range.push(leaf_hash(&bytes), |_| {});
            entries.push(bytes);
        }
        let fits = end == marker.offset && range.root() == marker.commit.root;
        fits.then(|| Candidate { entries, at_ms: marker.commit.at_ms, from: said(from, "the commit marker") })
    }
}

/// Who gave the entries, and who their order.
fn said(from: HashSet<String>, by: &str) -> String {
    let mut from: Vec<_> = from.into_iter().collect();
    from.sort();
    if from.is_empty() { format!("what was left, in the order of {by}") } else { from.join(", ") }
}
