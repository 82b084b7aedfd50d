//! Retention: of old chunks, entries that may go are let go, and thinned chunks take their place (see [`crate::thin`]).
//!
//! For each chunk: write the thinned one beside it, sync, read it back beside its source and prove its roots, move it to
//! its place, remove the chunk. A crash in between leaves both, and the chunk counts. Nothing here is in the way of the
//! writer: full chunks never change otherwise.

#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use httt_feed::{AgencyCode, FeedId, Lane};

use super::copy::Teller;
use super::{KeepError, MIN_KEPT_CHUNKS, OnKeepProgress, Vouchers, one_at_a_time, walk};
use crate::entry::Entry;
use crate::files::{self, Files, SystemFiles, WriteFile};
use crate::frame::{CHUNK_HEADER_BYTES, Kind, Seed, push_frame};
use crate::merkle::{CompactRange, leaf_hash};
use crate::open::{CHUNKS_DIR, lock};
use crate::recover::ChunkFile;
use crate::scan::{self, Held, ScannedEntry, ScannedGroup, Scanner, Step};
use crate::thin::{GoneRecord, RECORD_FRAME_BYTES, ROW_BYTES, Row, Thin, frame_bytes};
use crate::tlog::node_of;
use crate::{Damage, GoneEntry, Log, OpenError, catalogue, checkpoint, places};

/// A chunk is thinned when this part of its bytes can go, one in so many: else it would be written anew for nothing.
pub const MIN_FREED_SHARE: u64 = 8;
/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// What went of one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneGone {
    /// Entries.
    pub entries: u64,
    /// Bytes that they took more than what is kept of them.
    pub bytes: u64,
}

/// What retention did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThinReport {
    /// Chunks that were thinned this time.
    pub chunks: Vec<u32>,
    /// Bytes that their files are smaller by.
    pub bytes: u64,
    /// What went this time, by lane.
    pub lanes: BTreeMap<Lane, LaneGone>,
    /// Chunks passed over because they are archived: what is in an archive stays there.
    pub archived: u32,
}

impl ThinReport {
    /// Entries that went this time.
    pub fn entries(&self) -> u64 {
        self.lanes.values().map(|gone| gone.entries).sum()
    }
}

impl Log {
    /// Lets entries go that are older than `before` says for their lane, while the log goes on; see [`thin()`]. One chunk
    /// after the other, as long as `go_on` says so; what was found in a chunk is remembered, so that asking again is
    /// cheap. Blocks.
    ///
    /// # Errors
    /// See [`KeepError`].
    pub fn thin(&self, before: &BTreeMap<Lane, i64>, go_on: &dyn Fn() -> bool) -> Result<ThinReport, KeepError> {
        if self.is_read_only() {
            return Err(KeepError::ReadOnly);
        }
        let shared = self.shared();
        // What the index has in memory would be read from the chunks again after a crash, without the events that go.
        shared.index.flush().map_err(|error| OpenError::Index(error.0))?;
        let chunks = self.dir().join(CHUNKS_DIR);
        let mut tree = |_: &[ChunkFile], first: u64| {
            shared.tree().range(first).map_err(|error| OpenError::Index(error.to_string()).into())
        };
        let mut run = Run {
            files: &SystemFiles,
            chunks: &chunks,
            own: self.origin(),
            before,
            share: MIN_FREED_SHARE,
            tree: &mut tree,
            aging: &shared.aging,
            go_on,
            done: &|| shared.chunks.close_files(),
        };
        run.run(None)
    }
}

/// Lets entries of other origins go that the log in `dir`, which nobody may have open, committed before a point in time,
/// in Unix milliseconds, that `before` gives for their lane. A lane that is not named stays, and so do what this log's
/// own node said, and the newest chunks: the one that is written to, and [`MIN_KEPT_CHUNKS`] full ones. Of an entry that
/// goes, its place, its digest and its leaf hash are kept: the tree, the feeds' chains and the index stay as they are.
/// Blocks, for as long as it takes to read the log up to the last chunk that is thinned.
///
/// # Errors
/// See [`KeepError`]. Chunks thinned before stay thinned.
pub fn thin(
    dir: &Path,
    before: &BTreeMap<Lane, i64>,
    on_progress: Option<OnKeepProgress<'_>>,
) -> Result<ThinReport, KeepError> {
    offline(dir, before, MIN_FREED_SHARE, &SystemFiles, on_progress)
}

/// The same, of chunks of which one part in `share` can go.
pub(crate) fn offline(
    dir: &Path,
    before: &BTreeMap<Lane, i64>,
    share: u64,
    files: &dyn Files,
    on_progress: Option<OnKeepProgress<'_>>,
) -> Result<ThinReport, KeepError> {
    let chunks = dir.join(CHUNKS_DIR);
    if !chunks.is_dir() {
        return Err(OpenError::NoLog { dir: dir.to_owned() }.into());
    }
    let _lock = lock(dir)?;
    let own = whose(dir)?;
    let mut walked = (0, CompactRange::default());
    let mut tree = |all: &[ChunkFile], first: u64| walk_to(&chunks, all, first, &mut walked);
    let (aging, tree) = (Mutex::default(), &mut tree);
    let mut run =
        Run { files, chunks: &chunks, own: &own, before, share, tree, aging: &aging, go_on: &|| true, done: &|| {} };
    run.run(on_progress)
}

/// Whose log it is: who said its first entry on the lane `local`, else whose checkpoint it has.
fn whose(dir: &Path) -> Result<AgencyCode, KeepError> {
    let first = crate::scan_entries(dir).and_then(|mut entries| entries.next().transpose());
    let first = first.ok().flatten().map(|entry| entry.feed).filter(|feed| feed.lane == Lane::Local);
    if let Some(feed) = first {
        return Ok(feed.origin);
    }
    let text = checkpoint::read_file(dir).map_err(KeepError::io("reading the checkpoint"))?;
    let claimed = text.and_then(|text| checkpoint::parse(&text, None, &[]).ok());
    claimed.and_then(|claimed| node_of(&claimed.origin)).ok_or_else(|| KeepError::NotAsRecorded {
        path: dir.to_owned(),
        what:
            "neither its first entry nor a checkpoint says whose log it is, so nobody knows which entries are others'"
                .into(),
    })
}

/// The Merkle tree over the entries before `first`, where a chunk begins, going on from what was walked.
fn walk_to(
    dir: &Path,
    all: &[ChunkFile],
    first: u64,
    (next, range): &mut (usize, CompactRange),
) -> Result<CompactRange, KeepError> {
    while range.size() < first
        && let Some(chunk) = all.get(*next)
    {
        if let Some(path) = places::missing(dir, chunk.header.number) {
            return Err(OpenError::ArchiveMissing { chunk: chunk.name(), path }.into());
        }
        // An earlier one may have been thinned since it was listed.
        let path = places::path(dir, chunk.header.number).map_err(KeepError::io("looking for a chunk"))?;
        walk::walk(&path, &chunk.header, u64::MAX, range, &mut Vouchers::default())?;
        *next += 1;
    }
    Ok(range.clone())
}

/// What of a chunk can still go, by lane: the time of its oldest entry, and bytes.
pub(crate) type Aging = BTreeMap<Lane, (i64, u64)>;

/// Gives the tree over the entries before a position, where one of the chunks begins.
type TreeBefore<'a> = dyn FnMut(&[ChunkFile], u64) -> Result<CompactRange, KeepError> + 'a;

/// One run of retention.
struct Run<'a> {
    files: &'a dyn Files,
    chunks: &'a Path,
    own: &'a AgencyCode,
    before: &'a BTreeMap<Lane, i64>,
    share: u64,
    /// Gives the tree over the entries before a chunk.
    tree: &'a mut TreeBefore<'a>,
    /// What was found in chunks before.
    aging: &'a Mutex<HashMap<u32, Aging>>,
    /// Asked before each chunk.
    go_on: &'a dyn Fn() -> bool,
    /// Told after each chunk that was thinned.
    done: &'a dyn Fn(),
}

impl Run<'_> {
    fn run(&mut self, on_progress: Option<OnKeepProgress<'_>>) -> Result<ThinReport, KeepError> {
        if let Some(lane) = self.before.keys().find(|lane| matches!(lane, Lane::Directory | Lane::Local)) {
            return Err(KeepError::LaneStays { lane: *lane });
        }
        let _one = one_at_a_time();
        let all = catalogue::read(self.chunks)?.chunks;
        let mut report = ThinReport::default();
        let Some(newest) = self.before.values().max() else { return Ok(report) };
        let old = all.len().saturating_sub(1 + MIN_KEPT_CHUNKS as usize);
        // A chunk that was begun later holds nothing older.
        let old = all[..old].iter().filter(|chunk| chunk.header.created_ms < *newest);
        report.archived = old.clone().filter(|chunk| chunk.archived).count() as u32;
        let length = |path: &Path| fs::metadata(path).map(|data| data.len()).unwrap_or_default();
        let candidates: Vec<_> =
            old.filter(|chunk| !chunk.archived).map(|chunk| (chunk, length(&chunk.path))).collect();
        let mut teller = Teller::new(candidates.iter().map(|(_, bytes)| bytes).sum(), on_progress);
        for (chunk, bytes) in candidates {
            if !(self.go_on)() {
                break;
            }
            let next = all[chunk.header.number as usize + 1].header.first_position;
            if self.is_worth_it(chunk, bytes)? {
                self.thin(&all, chunk, (next, bytes), &mut report)?;
                (self.done)();
            }
            teller.add(bytes);
        }
        Ok(report)
    }

    fn goes(&self, feed: &FeedId, at_ms: i64) -> bool {
        feed.origin != *self.own && self.before.get(&feed.lane).is_some_and(|before| at_ms < *before)
    }

    /// Whether enough of a chunk of so many bytes can go.
    fn is_worth_it(&self, chunk: &ChunkFile, bytes: u64) -> Result<bool, KeepError> {
        let enough = |freed: u64| freed > 0 && freed.saturating_mul(self.share) >= bytes;
        let number = chunk.header.number;
        let aging = || self.aging.lock().unwrap_or_else(PoisonError::into_inner);
        let known = aging().get(&number).cloned();
        if let Some(known) = known {
            let may_go = known.iter().filter(|(lane, (oldest, _))| self.before.get(lane).is_some_and(|at| oldest < at));
            if !enough(may_go.map(|(_, (_, bytes))| bytes).sum()) {
                return Ok(false);
            }
        }
        let (mut found, mut freed) = (Aging::new(), 0);
        let mut scanner = self.scanner(chunk, &chunk.path)?;
        while let Some(group) = next_group(&mut scanner, chunk)? {
            let at_ms = group.commit.at_ms;
            for entry in group.entries {
                let (position, at) = (entry.position, entry.at);
                let Some(bytes) = entry.whole() else { continue };
                let saved = frame_bytes(bytes.len() as u32).saturating_sub(RECORD_FRAME_BYTES + ROW_BYTES as u64);
                let feed = decoded(chunk, position, at, bytes)?.feed;
                freed += if self.goes(&feed, at_ms) { saved } else { 0 };
                if feed.origin != *self.own {
                    let (oldest, left) = found.entry(feed.lane).or_insert((at_ms, 0));
                    (*oldest, *left) = (at_ms.min(*oldest), *left + saved);
                }
            }
        }
        aging().insert(number, found);
        Ok(enough(freed))
    }

    fn scanner(&self, chunk: &ChunkFile, path: &Path) -> Result<Scanner, KeepError> {
        let header = &chunk.header;
        let seed = Seed::of(&header.log_id);
        Scanner::new(path, seed, CHUNK_HEADER_BYTES as u64, header.first_position, 0)
            .map_err(KeepError::io(format!("reading {}", path.display())))
    }

    fn thin(
        &mut self,
        all: &[ChunkFile],
        chunk: &ChunkFile,
        (next, bytes): (u64, u64),
        report: &mut ThinReport,
    ) -> Result<(), KeepError> {
        let target = places::thin_path(self.chunks, chunk.header.number);
        let new = files::new_name(&target);
        let mut lanes = report.lanes.clone();
        let made = self.write(chunk, next, &new, &mut lanes).and_then(|()| self.prove(all, chunk, next, &new));
        let placing = || KeepError::io(format!("thinning {}", chunk.name()));
        if let Err(error) = made {
            // It would not be taken for a chunk; still it takes space.
            let _ = self.files.remove(&new);
            return Err(error);
        }
        let left = fs::metadata(&new).map_err(placing())?.len();
        self.files.set_readonly(&new, true).map_err(placing())?;
        self.files.rename(&new, &target).map_err(placing())?;
        self.files.sync_dir(self.chunks).map_err(placing())?;
        if !chunk.thin {
            self.files.remove(&chunk.path).map_err(placing())?;
            self.files.sync_dir(self.chunks).map_err(placing())?;
        }
        self.aging.lock().unwrap_or_else(PoisonError::into_inner).remove(&chunk.header.number);
        report.chunks.push(chunk.header.number);
        report.bytes += bytes.saturating_sub(left);
        report.lanes = lanes;
        Ok(())
    }

    /// Writes the thinned chunk to `new`, synced.
    fn write(
        &self,
        chunk: &ChunkFile,
        next: u64,
        new: &Path,
        lanes: &mut BTreeMap<Lane, LaneGone>,
    ) -> Result<(), KeepError> {
        let writing = || KeepError::io(format!("writing {}", new.display()));
        let seed = Seed::of(&chunk.header.log_id);
        let file = self.files.create(new).map_err(writing())?;
        let mut out = Output { file, buffer: chunk.header.encode_thin().to_vec(), written: 0 };
        // As many rows as a chunk has entries are held in memory: a few MiB.
        let (mut rows, mut was) = (Vec::new(), CHUNK_HEADER_BYTES as u64);
        let mut scanner = self.scanner(chunk, &chunk.path)?;
        while let Some(group) = next_group(&mut scanner, chunk)? {
            let ScannedGroup { number, end, commit, entries, .. } = group;
            for entry in entries {
                let (position, was, at) = (entry.position, entry.offset, out.end());
                let before = matches!(entry.held, Held::Whole(_));
                let held = self.left_of(chunk, entry, commit.at_ms)?;
                match &held {
                    Held::Whole(bytes) => drop(push_frame(&mut out.buffer, seed, Kind::Entry, number, position, bytes)),
                    Held::Gone(record) => record.push(&mut out.buffer, seed, number),
                }
                if let Held::Gone(record) = &held
                    && before
                {
                    let gone = lanes.entry(record.entry.feed.lane).or_default();
                    gone.entries += 1;
                    gone.bytes += frame_bytes(record.entry.bytes).saturating_sub(out.end() - at + ROW_BYTES as u64);
                }
                let row = Row { was, at, gone: matches!(held, Held::Gone(_)) };
                rows.extend_from_slice(&row.encode(seed, position));
            }
            push_frame(&mut out.buffer, seed, Kind::Commit, number, scanner.position(), &commit.encode());
            was = end;
            out.flush(WRITE_BYTES).map_err(writing())?;
        }
        if scanner.position() != next {
            let what = format!("the chunk ends at position {}, the next begins at {next}", scanner.position());
            let (offset, position) = (scanner.offset(), scanner.position());
            return Err(Damage { chunk: chunk.name(), offset, position, what }.into());
        }
        let end = Thin::new(&chunk.header, next - chunk.header.first_position, out.end(), was).encode_end();
        out.buffer.append(&mut rows);
        out.buffer.extend_from_slice(&end);
        out.flush(0).and_then(|()| out.file.sync()).map_err(writing())
    }

    /// What is to be left of an entry.
    fn left_of(&self, chunk: &ChunkFile, scanned: ScannedEntry, at_ms: i64) -> Result<Held, KeepError> {
        let ScannedEntry { position, at, held, crc, .. } = scanned;
        let Held::Whole(bytes) = held else { return Ok(held) };
        let entry = decoded(chunk, position, at, bytes)?;
        if !self.goes(&entry.feed, at_ms) {
            return Ok(Held::Whole(entry.bytes));
        }
        let (leaf, restates, bytes) = (leaf_hash(&entry.bytes), entry.batch.restates, entry.bytes.len() as u32);
        let Entry { feed, sequence, digest, .. } = entry;
        let entry = GoneEntry { position, feed, sequence, digest, leaf, restates, bytes };
        Ok(Held::Gone(Box::new(GoneRecord { entry, crc })))
    }

    /// Reads the thinned chunk in `new` back: all that is kept is as in the chunk, all that went is recorded as it was,
    /// and every commit marker's root follows from the leaf hashes.
    fn prove(&mut self, all: &[ChunkFile], chunk: &ChunkFile, next: u64, new: &Path) -> Result<(), KeepError> {
        let mut range = (self.tree)(all, chunk.header.first_position)?;
        let end = walk::walk(new, &chunk.header, u64::MAX, &mut range, &mut Vouchers::default())?;
        let differs = |what: &str| KeepError::NotAsRecorded { path: new.to_owned(), what: what.to_owned() };
        let header = scan::read_header(new).map_err(KeepError::io(format!("reading {}", new.display())))?;
        if end.position != next || header != Some(Ok(chunk.header)) {
            return Err(differs("the thinned chunk does not read back to its end"));
        }
        let (mut theirs, mut ours) = (self.scanner(chunk, &chunk.path)?, self.scanner(chunk, new)?);
        loop {
            let (was, is) = match (next_group(&mut theirs, chunk)?, next_group(&mut ours, chunk)?) {
                (None, None) => return Ok(()),
                (Some(was), Some(is)) if (was.commit, was.marker) == (is.commit, is.marker) => (was, is),
                _ => return Err(differs("the thinned chunk does not have the groups of its chunk")),
            };
            let at_ms = was.commit.at_ms;
            for (was, is) in was.entries.into_iter().zip(is.entries) {
                let place = (was.position, was.offset);
                if place != (is.position, is.offset) || self.left_of(chunk, was, at_ms)? != is.held {
                    return Err(differs("the thinned chunk does not have an entry as its chunk does"));
                }
            }
        }
    }
}

/// The file of a thinned chunk in the making.
struct Output {
    file: Box<dyn WriteFile>,
    /// What was not written yet.
    buffer: Vec<u8>,
    written: u64,
}

impl Output {
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Writes what is there if it is so many bytes.
    fn flush(&mut self, from: usize) -> io::Result<()> {
        if self.buffer.len() >= from {
            files::write_all_at(self.file.as_mut(), &self.buffer, self.written)?;
            self.written = self.end();
            self.buffer.clear();
        }
        Ok(())
    }
}

/// The next group; `None`: the chunk is over. Damage is not thinned: it would be past mending.
fn next_group(scanner: &mut Scanner, chunk: &ChunkFile) -> Result<Option<ScannedGroup>, KeepError> {
    match scanner.step().map_err(KeepError::io(format!("reading {}", chunk.name())))? {
        Step::Group(group) => Ok(Some(group)),
        Step::End => Ok(None),
        Step::Bad(bad) => {
            let chunk = places::name(chunk.header.number, scanner.is_thin());
            Err(Damage { chunk, offset: bad.offset, position: bad.position, what: bad.what.to_owned() }.into())
        }
    }
}

fn decoded(chunk: &ChunkFile, position: u64, offset: u64, bytes: Bytes) -> Result<Entry, KeepError> {
    let damaged = |what| Damage { chunk: chunk.name(), offset, position, what };
    Ok(Entry::decode(position, bytes).map_err(damaged)?)
}
