//! Whether an index that was found can be believed: compared with the chunks at the places where it would differ if
//! it were older, of another log, or damaged.

use std::fs;
use std::path::PathBuf;

use crate::ReadError;
use crate::chunks::{Chunks, Location};
use crate::frame::{CHUNK_HEADER_BYTES, COMMIT_FRAME_BYTES, COMMIT_PAYLOAD_BYTES, Commit};
use crate::index::{Index, IndexError, Tip};
use crate::merkle::{IndexedTree, leaf_hash};
use crate::recover::{ChunkFile, Start};
use crate::tail::TailAt;

/// How many of the last entries have their rows compared.
const ENTRIES_VETTED: u64 = 16;
/// How many events of such an entry.
const EVENTS_VETTED: usize = 16;

/// Why an index is not taken.
#[derive(Debug)]
pub(crate) enum VetError {
    /// It is wrong, or looks so.
    Doubt(String),
    /// What it would be compared with is archived, and the archive is not there: no fault of the index.
    ArchiveMissing { chunk: String, path: PathBuf },
}

impl From<IndexError> for VetError {
    fn from(error: IndexError) -> Self {
        Self::Doubt(error.0)
    }
}

fn doubt<T>(what: impl Into<String>) -> Result<T, VetError> {
    Err(VetError::Doubt(what.into()))
}

/// What reading a chunk at a place that the index names came to.
fn judged<T>(read: Result<T, ReadError>, doubted: impl FnOnce(ReadError) -> String) -> Result<T, VetError> {
    read.map_err(|error| match error {
        ReadError::ArchiveMissing { chunk, path } => VetError::ArchiveMissing { chunk, path },
        error => VetError::Doubt(doubted(error)),
    })
}

/// Where to go on from, if the index, which says it ends at `tip`, fits the chunks; an error says what is wrong.
pub(crate) fn vet(index: &Index, tip: Tip, chunks: &Chunks, files: &[ChunkFile]) -> Result<Start, VetError> {
    vet_marker(&tip, chunks)?;
    let length = tip.range.size();
    let root = IndexedTree(index).root(length).map_err(|error| VetError::Doubt(error.to_string()))?;
    if root != tip.range.root() {
        return doubt("the index's tree does not have its own root");
    }
    for file in files.iter().take_while(|file| file.header.number <= tip.chunk) {
        let first = file.header.first_position;
        let here = index.row(first)?.map(|row| (row.at.chunk, row.at.offset));
        if first < length && here != Some((file.header.number, CHUNK_HEADER_BYTES as u64)) {
            return doubt(format!("the index puts the beginning of chunk {} elsewhere", file.header.number));
        }
    }
    for pair in files.windows(2).take_while(|pair| pair[0].header.number < tip.chunk) {
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
    for head in index.feeds() {
        let feed = &head.feed;
        let last = index.batches(feed, head.head.sequence, u64::MAX)?;
        if last != [head.position] || head.position >= length {
            return doubt(format!("the index's head of {feed} does not fit its batches"));
        }
    }
    let at = TailAt { number: tip.chunk, end: tip.end, group: tip.group + 1 };
    Ok(Start { at, range: tip.range })
}

/// The commit marker the index ends with must be in the chunk, and say the same length and root.
fn vet_marker(tip: &Tip, chunks: &Chunks) -> Result<(), VetError> {
    let at = Location { chunk: tip.chunk, offset: tip.marker, length: COMMIT_PAYLOAD_BYTES as u32 };
    let marker = chunks.marker(at, tip.range.size());
    let (frame, payload) =
        judged(marker, |error| format!("the index ends where the chunks have no commit marker ({error})"))?;
    let fits = frame.group == tip.group
        && tip.end == tip.marker + COMMIT_FRAME_BYTES as u64
        && Commit::decode(&payload).is_some_and(|commit| commit.root == tip.range.root());
    if fits { Ok(()) } else { doubt("the index and the chunks disagree on the root") }
}

/// A full chunk ends with the commit marker that leads up to the next chunk. One that does not is for a full scan to
/// judge.
fn vet_end(file: &ChunkFile, next: u64, chunks: &Chunks) -> Result<(), VetError> {
    let name = file.name();
    let bytes = fs::metadata(&file.path).map_err(|error| IndexError(format!("{name}: {error}")))?.len();
    let at = Location {
        chunk: file.header.number,
        offset: bytes.saturating_sub(COMMIT_FRAME_BYTES as u64),
        length: COMMIT_PAYLOAD_BYTES as u32,
    };
    // A thinned one was whole when it was made, and says itself where it ends.
    let marker = match chunks.thinned_next(at, next) {
        Ok(Some(ends)) if ends == next => return Ok(()),
        Ok(Some(ends)) => return doubt(format!("{name} ends at position {ends}, the next chunk begins at {next}")),
        Ok(None) => chunks.marker(at, next),
        Err(error) => Err(error),
    };
    match marker {
        Ok(_) => Ok(()),
        Err(error) => doubt(format!("{name} does not end where the next chunk begins ({error})")),
    }
}

fn vet_entry(index: &Index, chunks: &Chunks, position: u64) -> Result<(), VetError> {
    let Some(row) = index.row(position)? else {
        return doubt(format!("the index does not know entry {position}"));
    };
    let entry = match chunks.entry(row.at, position) {
        Err(ReadError::Gone(gone)) => {
            let fits = (gone.leaf, &gone.feed, gone.sequence) == (row.leaf, &index.feed(row.feed)?, row.sequence);
            return if fits { Ok(()) } else { doubt(format!("the index's row of entry {position} does not fit it")) };
        }
        entry => judged(entry, |error| format!("the index names no entry for position {position} ({error})"))?,
    };
    let fits = leaf_hash(&entry.bytes) == row.leaf
        && index.feed(row.feed)? == entry.feed
        && row.sequence == entry.sequence
        && index.batches(&entry.feed, entry.sequence, entry.sequence)? == [position];
    if !fits {
        return doubt(format!("the index's rows of entry {position} do not fit it"));
    }
    for recorded in entry.events().rev().take(EVENTS_VETTED) {
        let event = &recorded.event;
        let origin = &entry.feed.origin;
        let places = index.events(origin, recorded.id())?;
        let newest = index.newest(origin, &event.stream)?;
        if !places.contains(&recorded.position) || newest.is_none() {
            return doubt(format!("the index's rows of event {} do not fit it", recorded.position));
        }
    }
    Ok(())
}
