//! Walks the chunks from a known place to the end of the log, feeding the index, and decides what a bad tail is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use httt_feed::Head;

use crate::chunks::Location;
use crate::entry::Entry;
use crate::files::{self, Files};
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, Seed, chunk_name};
use crate::group::MAX_TRANSACTION_BYTES;
use crate::index::{Index, IndexedEntry, Tip};
use crate::merkle::CompactRange;
use crate::scan::{self, Bad, Held, ScannedGroup, Scanner, Step};
use crate::tail::TailAt;
use crate::thin::GoneEntry;
use crate::writer::MAX_GROUP_BYTES;
use crate::{Damage, OpenError, places};

/// No group is larger: what a group takes before it is full, one transaction more, and as much again for framing.
const LARGEST_GROUP_BYTES: u64 = 2 * (MAX_GROUP_BYTES + MAX_TRANSACTION_BYTES) as u64;

/// A chunk on disk.
#[derive(Debug, Clone)]
pub(crate) struct ChunkFile {
    pub(crate) path: PathBuf,
    pub(crate) header: ChunkHeader,
    /// It is in the archive folder, which may be away.
    pub(crate) archived: bool,
    /// It is a thinned chunk.
    pub(crate) thin: bool,
}

impl ChunkFile {
    /// How an error is to name it.
    pub(crate) fn name(&self) -> String {
        places::name(self.header.number, self.thin)
    }
}

/// Remains of an interrupted write, cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTail {
    /// File name of the chunk.
    pub chunk: String,
    /// Where the cut was made.
    pub offset: u64,
    /// Bytes cut off.
    pub bytes: u64,
    /// Position of the first entry that would have been there: the log's length.
    pub position: u64,
}

/// From where to walk.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    pub(crate) at: TailAt,
    pub(crate) range: CompactRange,
}

impl Start {
    pub(crate) fn beginning() -> Self {
        let at = TailAt { number: 0, end: CHUNK_HEADER_BYTES as u64, group: 0 };
        Self { at, range: CompactRange::default() }
    }
}

/// The end of the log.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) range: CompactRange,
    pub(crate) tail: TailAt,
    pub(crate) cut: Option<CutTail>,
    /// Something stands after the end: a torn group, or zeros.
    pub(crate) unreadable: bool,
}

/// Walks from `start` to the end. Changes nothing but the index.
pub(crate) fn scan(
    chunks: &[ChunkFile],
    log_id: &[u8; 16],
    start: &Start,
    index: &Index,
) -> Result<Recovered, OpenError> {
    let mut builder = Builder { index, range: start.range.clone() };
    let mut tail = start.at;
    let mut cut = None;
    let mut unreadable = false;
    for chunk in chunks.iter().skip(start.at.number as usize) {
        let number = chunk.header.number;
        if number != start.at.number {
            tail = TailAt { number, end: CHUNK_HEADER_BYTES as u64, group: 0 };
            if chunk.header.first_position != builder.range.size() {
                return Err(short(chunks, number, builder.range.size(), &tail).into());
            }
        }
        let io = || OpenError::io(format!("reading {}", chunk.name()));
        if chunk.archived && !chunk.path.is_file() {
            return Err(OpenError::ArchiveMissing { chunk: chunk_name(number), path: chunk.path.clone() });
        }
        let seed = Seed::of(log_id);
        let mut scanner = Scanner::new(&chunk.path, seed, tail.end, builder.range.size(), tail.group).map_err(io())?;
        let end = loop {
            match scanner.step().map_err(io())? {
                Step::Group(group) => builder.group(chunk, group)?,
                Step::End => break None,
                Step::Bad(bad) => break Some(bad),
            }
        };
        tail = TailAt { number, end: scanner.offset(), group: scanner.group() };
        unreadable = scanner.length() > tail.end;
        if let Some(bad) = end {
            let is_last = number as usize + 1 == chunks.len();
            let later = scan::find_later_group(&chunk.path, seed, bad.group_start, scanner.group()).map_err(io())?;
            if !is_last || later.is_some() {
                return Err(damage(chunk, &bad, later).into());
            }
            let (offset, bytes) = (tail.end, scanner.length().saturating_sub(tail.end));
            cut = Some(CutTail { chunk: chunk_name(number), offset, bytes, position: scanner.position() });
        }
    }
    Ok(Recovered { range: builder.range, tail, cut, unreadable })
}

/// A chunk that begins later than the one before it ends: the end of the earlier one is gone.
fn short(chunks: &[ChunkFile], number: u32, position: u64, tail: &TailAt) -> Damage {
    let before = number.saturating_sub(1);
    let offset = std::fs::metadata(&chunks[before as usize].path).map(|data| data.len()).unwrap_or(tail.end);
    let begins = chunks[number as usize].header.first_position;
    let what = format!("the chunk ends at position {position}, but {} begins at {begins}", chunk_name(number));
    Damage { chunk: chunks[before as usize].name(), offset, position, what }
}

fn damage(chunk: &ChunkFile, bad: &Bad, later: Option<u64>) -> Damage {
    let what = match later {
        Some(later) => format!("{}, and a later group begins at byte {later}", bad.what),
        None => format!("{}, and a later chunk follows", bad.what),
    };
    Damage { chunk: chunk.name(), offset: bad.offset, position: bad.position, what }
}

/// Feeds the index.
struct Builder<'a> {
    index: &'a Index,
    range: CompactRange,
}

impl Builder<'_> {
    fn group(&mut self, file: &ChunkFile, group: ScannedGroup) -> Result<(), OpenError> {
        let chunk = file.header.number;
        let mut entries = Vec::with_capacity(group.entries.len());
        let mut nodes = Vec::new();
        for scanned in group.entries {
            let leaf = scanned.leaf();
            let (position, offset, at) = (scanned.position, scanned.offset, scanned.at);
            let known = match scanned.held {
                Held::Whole(bytes) => {
                    let length = bytes.len() as u32;
                    let damaged = |what| Damage { chunk: file.name(), offset: at, position, what };
                    let entry = Entry::decode(position, bytes).map_err(damaged)?;
                    (length, entry.feed.clone(), entry.head(), Some(entry.batch))
                }
                // Of what is gone, nothing says which events it had.
                Held::Gone(record) => {
                    let GoneEntry { bytes, feed, sequence, digest, .. } = record.entry;
                    (bytes, feed, Head { sequence, digest }, None)
                }
            };
            entries.push((Location { chunk, offset, length: known.0 }, leaf, known));
            self.range.push(leaf, |node| nodes.push(node));
        }
        if self.range.root() != group.commit.root {
            return Err(Damage {
                chunk: file.name(),
                offset: group.marker_at,
                position: self.range.size(),
                what: "the commit marker says another Merkle root than the entries up to it have".into(),
            }
            .into());
        }
        let entries: Vec<_> = entries
            .iter()
            .map(|(at, leaf, (_, feed, head, batch))| IndexedEntry {
                at: *at,
                leaf: *leaf,
                feed,
                head: *head,
                at_ms: group.commit.at_ms,
                events: batch.as_ref().map_or(&[], |batch| &batch.events),
            })
            .collect();
        let (end, marker, group) = (group.end, group.marker, group.number);
        self.index.make_room().map_err(OpenError::Index)?;
        self.index.add(&entries, nodes, Tip { chunk, end, marker, group, range: self.range.clone() });
        Ok(())
    }
}

/// Makes what was recovered as durable as what is acknowledged, before anybody is told of it.
///
/// The last chunk is cut at the end of its last good group, so that nothing of a torn group is ever mistaken for part
/// of the next one. The group itself may have been read from the page cache and never have reached the disk: its
/// process was killed between write and fsync, or its fsync failed, after which Linux calls the pages clean. So the
/// bytes are written again, which makes the pages dirty whatever they were, and then synced. Writing the same bytes in
/// the same place harms nothing if it is interrupted.
pub(crate) fn settle(files: &dyn Files, dir: &Path, chunks: &Path, tail: TailAt) -> io::Result<()> {
    let path = chunks.join(chunk_name(tail.number));
    let mut file = files.open(&path)?;
    if std::fs::metadata(&path)?.len() != tail.end {
        file.set_len(tail.end)?;
    }
    let from = tail.end.saturating_sub(LARGEST_GROUP_BYTES);
    let mut bytes = vec![0; usize::try_from(tail.end - from).map_err(io::Error::other)?];
    files::read_exact_at(&File::open(&path)?, &mut bytes, from)?;
    files::write_all_at(file.as_mut(), &bytes, from)?;
    file.sync()?;
    // A crash while the log was created may have left names unsynced.
    files.sync_dir(chunks)?;
    files.sync_dir(dir)?;
    dir.parent().filter(|parent| parent.is_dir()).map_or(Ok(()), |parent| files.sync_dir(parent))
}
