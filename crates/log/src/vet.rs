//! Whether an index that was found can be believed: compared with the chunks at the places where it would differ if
//! it were older, of another log, or damaged.

use std::fs;

use crate::chunks::{Chunks, Location};
use crate::frame::{CHUNK_HEADER_BYTES, COMMIT_FRAME_BYTES, COMMIT_PAYLOAD_BYTES, Commit, Kind, chunk_name};
use crate::index::rows::{self, Meta};
use crate::index::{Index, IndexError};
use crate::merkle::{IndexedTree, leaf_hash};
use crate::recover::{ChunkFile, Start};
use crate::tail::TailAt;

/// How many of the last entries have their rows compared.
const ENTRIES_VETTED: u64 = 16;
/// How many events of such an entry.
const EVENTS_VETTED: usize = 16;
/// How many feeds have their head compared.
const MAX_HEADS_VETTED: usize = 256;

fn doubt<T>(what: impl Into<String>) -> Result<T, IndexError> {
    Err(IndexError(what.into()))
}

/// Where to go on from. `Ok(None)`: the index is empty; an error says what is wrong with it.
pub(crate) fn vet(
    index: &dyn Index,
    chunks: &Chunks,
    files: &[ChunkFile],
    log_id: &[u8; 16],
) -> Result<Option<Start>, IndexError> {
    let Some(meta) = Meta::read(index)? else { return Ok(None) };
    if meta.log_id != *log_id {
        return doubt("the index is of another log");
    }
    vet_marker(&meta, chunks)?;
    let length = meta.range.size();
    let root = IndexedTree(index).root(length).map_err(|error| IndexError(error.to_string()))?;
    if root != meta.range.root() {
        return doubt("the index's tree does not have its own root");
    }
    for file in files.iter().take_while(|file| file.header.number <= meta.chunk) {
        let first = file.header.first_position;
        let here = rows::location(index, first)?.map(|(at, _)| (at.chunk, at.offset));
        if first < length && here != Some((file.header.number, CHUNK_HEADER_BYTES as u64)) {
            return doubt(format!("the index puts the beginning of chunk {} elsewhere", file.header.number));
        }
    }
    for pair in files.windows(2).take_while(|pair| pair[0].header.number < meta.chunk) {
        // What is archived was checked when it was, and its folder may be away.
        if pair[0].archived {
            continue;
        }
        vet_end(&pair[0], pair[1].header.first_position, chunks)?;
    }
    let live_from =
        files.iter().rev().take_while(|file| !file.archived).last().map_or(0, |file| file.header.first_position);
    for position in length.saturating_sub(ENTRIES_VETTED).max(live_from)..length {
        vet_entry(index, chunks, position)?;
    }
    let heads = rows::heads(index)?;
    for head in heads.iter().take(MAX_HEADS_VETTED) {
        let feed = &head.feed;
        let row = rows::batch(index, feed, head.head.sequence)?;
        let fits = row.is_some_and(|row| row.position == head.position && row.digest == head.head.digest);
        if !fits || head.position >= length || rows::batch(index, feed, head.head.sequence + 1)?.is_some() {
            return doubt(format!("the index's head of {feed} does not fit its batches"));
        }
    }
    let at = TailAt { number: meta.chunk, end: meta.end, group: meta.group + 1 };
    Ok(Some(Start { at, range: meta.range }))
}

/// The commit marker the index ends with must be in the chunk, and say the same length and root.
fn vet_marker(meta: &Meta, chunks: &Chunks) -> Result<(), IndexError> {
    let at = Location { chunk: meta.chunk, offset: meta.marker, length: COMMIT_PAYLOAD_BYTES as u32 };
    let (frame, payload) = chunks
        .frame(at, Kind::Commit, meta.range.size())
        .map_err(|error| IndexError(format!("the index ends where the chunks have no commit marker ({error})")))?;
    let fits = frame.group == meta.group
        && meta.end == meta.marker + COMMIT_FRAME_BYTES as u64
        && Commit::decode(&payload).is_some_and(|commit| commit.root == meta.range.root());
    if fits { Ok(()) } else { doubt("the index and the chunks disagree on the root") }
}

/// A full chunk ends with the commit marker that leads up to the next chunk. One that does not is for a full scan to
/// judge.
fn vet_end(file: &ChunkFile, next: u64, chunks: &Chunks) -> Result<(), IndexError> {
    let name = chunk_name(file.header.number);
    let bytes = fs::metadata(&file.path).map_err(|error| IndexError(format!("{name}: {error}")))?.len();
    let at = Location {
        chunk: file.header.number,
        offset: bytes.saturating_sub(COMMIT_FRAME_BYTES as u64),
        length: COMMIT_PAYLOAD_BYTES as u32,
    };
    match chunks.frame(at, Kind::Commit, next) {
        Ok(_) => Ok(()),
        Err(error) => doubt(format!("{name} does not end where the next chunk begins ({error})")),
    }
}

fn vet_entry(index: &dyn Index, chunks: &Chunks, position: u64) -> Result<(), IndexError> {
    let Some((at, leaf)) = rows::location(index, position)? else {
        return doubt(format!("the index does not know entry {position}"));
    };
    let entry = chunks
        .entry(at, position)
        .map_err(|error| IndexError(format!("the index names no entry for position {position} ({error})")))?;
    let row = rows::batch(index, &entry.feed, entry.sequence)?;
    let fits = leaf_hash(&entry.bytes) == leaf
        && row.is_some_and(|row| row.position == position && row.digest == entry.digest);
    if !fits {
        return doubt(format!("the index's rows of entry {position} do not fit it"));
    }
    for recorded in entry.events().rev().take(EVENTS_VETTED) {
        let event = &recorded.event;
        let place = rows::event(index, recorded.id(), &entry.feed.origin)?;
        let version = rows::stream(index, &entry.feed.origin, &event.stream)?.map(|(version, _)| version);
        // Another origin may have repeated itself; our own rows are exact.
        if place.is_none_or(|place| place < recorded.position) || version.is_none() {
            return doubt(format!("the index's rows of event {} do not fit it", recorded.position));
        }
    }
    Ok(())
}
