//! A run: what the index knows by name of the entries of one stretch of the log. Written once, then only read.
//!
//! ```text
//! NNNNNNNN.ids      table  id hash 8 │ entry 4 │ place 2
//! NNNNNNNN.streams  table  stream hash 12 │ newest span 16 │ older: start 4 │ older: count 4
//! NNNNNNNN.older    header, then older spans: span 16 │ CRC32C 4, those of one stream side by side, oldest first
//! NNNNNNNN.feeds    header, entries by feed and sequence (4 each), then per feed: feed 4 │ first sequence 8 │
//!                   start 4 │ count 4; CRC32C of those
//! span     first version 8 │ entry 4 │ place 2 │ versions 2: a stream's neighbouring events in one entry
//! ```
//! Entries are counted from the run's first. Integers in rows and spans are big-endian.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crc32c::{crc32c, crc32c_append};

use super::IndexError;
use super::hash::{STREAM_HASH_BYTES, StreamHash};
use super::recent::Recent;
use super::table::{self, HEADER_BYTES, Rows, Shape, Table, TableWriter};
use crate::EventPosition;
use crate::frame::bytes_at;

const ID_ROW_BYTES: usize = 14;
const SPAN_BYTES: usize = 16;
const STREAM_ROW_BYTES: usize = STREAM_HASH_BYTES + SPAN_BYTES + 8;
const OLDER_BYTES: usize = SPAN_BYTES + 4;
const FEED_BYTES: usize = 20;
/// Older spans read at a time.
const SPANS_AT_ONCE: u32 = 256;
const PARTS: [&str; 4] = ["ids", "streams", "older", "feeds"];

/// Neighbouring events of one stream in one entry, with versions that follow one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Version of the first.
    pub(crate) first: u64,
    /// Where the first is.
    pub(crate) place: EventPosition,
    /// How many; at least one.
    pub(crate) count: u16,
}

impl Span {
    /// Version of the last.
    pub(crate) fn last(&self) -> u64 {
        self.first.saturating_add(u64::from(self.count.max(1)) - 1)
    }

    fn encode(&self, base: u64) -> [u8; SPAN_BYTES] {
        let mut bytes = [0; SPAN_BYTES];
        bytes[..8].copy_from_slice(&self.first.to_be_bytes());
        bytes[8..12].copy_from_slice(&((self.place.entry - base) as u32).to_be_bytes());
        bytes[12..14].copy_from_slice(&(self.place.index as u16).to_be_bytes());
        bytes[14..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    fn decode(base: u64, bytes: &[u8]) -> Self {
        let entry = base + u64::from(u32::from_be_bytes(bytes_at(bytes, 8)));
        let place = EventPosition::new(entry, u32::from(u16::from_be_bytes(bytes_at(bytes, 12))));
        Self { first: u64::from_be_bytes(bytes_at(bytes, 0)), place, count: u16::from_be_bytes(bytes_at(bytes, 14)) }
    }
}

/// What the list of runs says of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunInfo {
    /// Names its files.
    pub(crate) number: u32,
    /// How often what is in it was merged.
    pub(crate) level: u8,
    /// First entry, and the one after the last.
    pub(crate) first: u64,
    pub(crate) end: u64,
    /// Tells its files from others of the same name.
    pub(crate) stamp: u64,
    pub(crate) ids: u64,
    pub(crate) streams: u64,
    pub(crate) older: u64,
    pub(crate) feeds: u32,
    /// The latest time in this node's own UUIDv7 ids, Unix milliseconds: a later one is not in the run.
    pub(crate) newest_id_ms: u64,
}

impl RunInfo {
    fn ids_shape(&self) -> Shape {
        Shape { stamp: self.stamp, width: ID_ROW_BYTES, rows: self.ids }
    }

    fn streams_shape(&self) -> Shape {
        Shape { stamp: self.stamp, width: STREAM_ROW_BYTES, rows: self.streams }
    }

    fn file(&self, dir: &Path, part: &str) -> PathBuf {
        file(dir, self.number, part)
    }

    /// Memory that its filters take if they are kept.
    pub(crate) fn filter_bytes(&self) -> u64 {
        self.ids_shape().filter_bytes() + self.streams_shape().filter_bytes()
    }
}

fn file(dir: &Path, number: u32, part: &str) -> PathBuf {
    dir.join(format!("{number:08}.{part}"))
}

/// Removes the files of a run that is listed no more, or never was.
pub(crate) fn remove(dir: &Path, number: u32) {
    for part in PARTS {
        if let Err(error) = fs::remove_file(file(dir, number, part))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(%error, number, part, "a file of the index could not be removed; the next start removes it");
        }
    }
}

/// Number in the name of a run's file.
pub(crate) fn number_of_file(name: &str) -> Option<u32> {
    let (number, part) = name.split_once('.')?;
    (number.len() == 8 && PARTS.contains(&part)).then(|| number.parse().ok()).flatten()
}

/// One feed in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FeedPart {
    feed: u32,
    first_sequence: u64,
    start: u32,
    count: u32,
}

impl FeedPart {
    fn encode(&self) -> [u8; FEED_BYTES] {
        let mut bytes = [0; FEED_BYTES];
        bytes[..4].copy_from_slice(&self.feed.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.first_sequence.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.start.to_be_bytes());
        bytes[16..].copy_from_slice(&self.count.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; FEED_BYTES]) -> Self {
        Self {
            feed: u32::from_be_bytes(bytes_at(bytes, 0)),
            first_sequence: u64::from_be_bytes(bytes_at(bytes, 4)),
            start: u32::from_be_bytes(bytes_at(bytes, 12)),
            count: u32::from_be_bytes(bytes_at(bytes, 16)),
        }
    }
}

/// Writes the older spans beside a table of streams.
struct OlderWriter {
    out: BufWriter<File>,
    stamp: u64,
    written: u32,
}

fn older_crc(stamp: u64, number: u64, span: &[u8]) -> u32 {
    crc32c_append(table::crc_begun(stamp, number), span)
}

impl OlderWriter {
    fn create(path: &Path, stamp: u64) -> io::Result<Self> {
        Ok(Self { out: table::create(path, stamp)?, stamp, written: 0 })
    }

    fn push(&mut self, span: &Span, base: u64) -> io::Result<()> {
        let bytes = span.encode(base);
        self.out.write_all(&bytes)?;
        self.out.write_all(&older_crc(self.stamp, u64::from(self.written), &bytes).to_le_bytes())?;
        self.written += 1;
        Ok(())
    }
}

fn stream_row(hash: &StreamHash, newest: &Span, base: u64, start: u32, count: u32) -> [u8; STREAM_ROW_BYTES] {
    let mut row = [0; STREAM_ROW_BYTES];
    row[..12].copy_from_slice(hash);
    row[12..28].copy_from_slice(&newest.encode(base));
    row[28..32].copy_from_slice(&start.to_be_bytes());
    row[32..].copy_from_slice(&count.to_be_bytes());
    row
}

/// Writes the entries of all feeds: `(feed, first sequence, entries from the run's first on)`.
fn write_feeds(path: &Path, stamp: u64, feeds: impl Iterator<Item = (u32, u64, Vec<u32>)>) -> io::Result<u32> {
    let mut out = table::create(path, stamp)?;
    let (mut parts, mut start) = (Vec::new(), 0_u32);
    let mut count = 0;
    for (feed, first_sequence, entries) in feeds {
        entries.iter().try_for_each(|entry| out.write_all(&entry.to_be_bytes()))?;
        let part = FeedPart { feed, first_sequence, start, count: entries.len() as u32 };
        parts.extend_from_slice(&part.encode());
        start += part.count;
        count += 1;
    }
    out.write_all(&parts)?;
    out.write_all(&crc32c_append(crc32c(&stamp.to_le_bytes()), &parts).to_le_bytes())?;
    table::finish(out)?;
    Ok(count)
}

/// Writes what is recent as a run.
pub(crate) fn write(dir: &Path, number: u32, stamp: u64, recent: &Recent) -> io::Result<RunInfo> {
    let (first, end) = (recent.first(), recent.end());
    let mut info = RunInfo {
        number,
        level: 0,
        first,
        end,
        stamp,
        ids: 0,
        streams: 0,
        older: 0,
        feeds: 0,
        newest_id_ms: recent.newest_id_ms(),
    };
    let ids = recent.sorted_ids();
    info.ids = ids.len() as u64;
    let mut table = TableWriter::create(&info.file(dir, "ids"), info.ids_shape())?;
    for (hash, place) in ids {
        table.push(&id_row(hash, (place.entry - first) as u32, place.index as u16))?;
    }
    table.finish()?;

    let streams = recent.sorted_streams();
    info.streams = streams.len() as u64;
    let mut table = TableWriter::create(&info.file(dir, "streams"), info.streams_shape())?;
    let mut older = OlderWriter::create(&info.file(dir, "older"), stamp)?;
    for hash in streams {
        let spans = recent.spans(&hash);
        let Some((newest, before)) = spans.split_last() else { continue };
        let start = older.written;
        before.iter().try_for_each(|span| older.push(span, first))?;
        table.push(&stream_row(&hash, newest, first, start, before.len() as u32))?;
    }
    table.finish()?;
    info.older = u64::from(older.written);
    table::finish(older.out)?;
    info.feeds = write_feeds(&info.file(dir, "feeds"), stamp, recent.sorted_feeds())?;
    Ok(info)
}

fn id_row(hash: u64, entry: u32, place: u16) -> [u8; ID_ROW_BYTES] {
    let mut row = [0; ID_ROW_BYTES];
    row[..8].copy_from_slice(&hash.to_be_bytes());
    row[8..12].copy_from_slice(&entry.to_be_bytes());
    row[12..].copy_from_slice(&place.to_be_bytes());
    row
}

/// Why runs were not merged.
#[derive(Debug)]
pub(crate) enum MergeError {
    /// The index is closing.
    Stopped,
    Io(io::Error),
    /// One of the runs is damaged.
    Index(IndexError),
}

impl From<io::Error> for MergeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<IndexError> for MergeError {
    fn from(error: IndexError) -> Self {
        Self::Index(error)
    }
}

/// Rows merged between two looks at whether to stop.
const ROWS_BETWEEN_LOOKS: u64 = 4_096;

/// Writes neighbouring runs, oldest first, as one.
pub(crate) fn merge(
    dir: &Path,
    number: u32,
    stamp: u64,
    runs: &[&Run],
    stop: &dyn Fn() -> bool,
) -> Result<RunInfo, MergeError> {
    let (Some(oldest), Some(newest)) = (runs.first(), runs.last()) else { return Err(MergeError::Stopped) };
    let base = oldest.info.first;
    let mut info = RunInfo {
        number,
        level: runs.iter().map(|run| run.info.level).max().unwrap_or_default() + 1,
        first: base,
        end: newest.info.end,
        stamp,
        ids: runs.iter().map(|run| run.info.ids).sum(),
        streams: count_streams(runs, stop)?,
        older: 0,
        feeds: 0,
        newest_id_ms: runs.iter().map(|run| run.info.newest_id_ms).max().unwrap_or_default(),
    };
    let shift = |run: &Run| (run.info.first - base) as u32;

    let mut table = TableWriter::create(&info.file(dir, "ids"), info.ids_shape())?;
    each_sorted(
        runs,
        |run| &run.ids,
        ID_ROW_BYTES,
        stop,
        |at, row| {
            let entry = u32::from_be_bytes(bytes_at(row, 8)) + shift(runs[at]);
            let mut row: [u8; ID_ROW_BYTES] = bytes_at(row, 0);
            row[8..12].copy_from_slice(&entry.to_be_bytes());
            Ok(table.push(&row)?)
        },
    )?;
    table.finish()?;

    let mut table = TableWriter::create(&info.file(dir, "streams"), info.streams_shape())?;
    let mut older = OlderWriter::create(&info.file(dir, "older"), stamp)?;
    let mut open: Option<(StreamHash, Span, u32)> = None;
    each_sorted(
        runs,
        |run| &run.streams,
        STREAM_HASH_BYTES,
        stop,
        |at, row| {
            let hash: StreamHash = bytes_at(row, 0);
            let mut start = older.written;
            match open.take() {
                // The same stream in an older run: what was newest there is older now.
                Some((before, newest, begun)) if before == hash => {
                    older.push(&newest, base)?;
                    start = begun;
                }
                Some((before, newest, begun)) => {
                    table.push(&stream_row(&before, &newest, base, begun, older.written - begun))?;
                }
                None => {}
            }
            let (newest, mut from, mut left) = runs[at].stream_row(row)?;
            while left > 0 {
                let count = left.min(SPANS_AT_ONCE);
                for span in runs[at].older(from, count)? {
                    older.push(&span, base)?;
                }
                (from, left) = (from + count, left - count);
            }
            open = Some((hash, newest, start));
            Ok(())
        },
    )?;
    if let Some((hash, newest, start)) = open {
        table.push(&stream_row(&hash, &newest, base, start, older.written - start))?;
    }
    table.finish()?;
    info.older = u64::from(older.written);
    table::finish(older.out)?;

    let mut feeds = std::collections::BTreeMap::new();
    for run in runs {
        for part in &run.feeds {
            let (_, entries) = feeds.entry(part.feed).or_insert_with(|| (part.first_sequence, Vec::new()));
            run.feed_entries(part, 0, part.count, |entry| entries.push((entry - base) as u32))?;
        }
    }
    let feeds = feeds.into_iter().map(|(feed, (first_sequence, entries))| (feed, first_sequence, entries));
    info.feeds = write_feeds(&info.file(dir, "feeds"), stamp, feeds)?;
    Ok(info)
}

fn count_streams(runs: &[&Run], stop: &dyn Fn() -> bool) -> Result<u64, MergeError> {
    let (mut count, mut before) = (0, None);
    each_sorted(
        runs,
        |run| &run.streams,
        STREAM_HASH_BYTES,
        stop,
        |_, row| {
            let hash: StreamHash = bytes_at(row, 0);
            count += u64::from(before != Some(hash));
            before = Some(hash);
            Ok(())
        },
    )?;
    Ok(count)
}

/// Gives `take` the rows of all runs, sorted by their first `key` bytes; the older run's come first.
fn each_sorted<'a>(
    runs: &[&'a Run],
    table: impl Fn(&'a Run) -> &'a Table,
    key: usize,
    stop: &dyn Fn() -> bool,
    mut take: impl FnMut(usize, &[u8]) -> Result<(), MergeError>,
) -> Result<(), MergeError> {
    let mut walks: Vec<Rows<'a>> = runs.iter().map(|run| table(run).rows()).collect();
    let mut heads: Vec<Option<Vec<u8>>> = Vec::with_capacity(walks.len());
    for walk in &mut walks {
        heads.push(walk.row()?.map(<[u8]>::to_vec));
    }
    let mut taken = 0_u64;
    loop {
        let least = heads.iter().enumerate().filter_map(|(at, head)| head.as_ref().map(|row| (&row[..key], at))).min();
        let Some((_, at)) = least else { return Ok(()) };
        if let Some(row) = &heads[at] {
            take(at, row)?;
        }
        let walk = &mut walks[at];
        walk.step();
        match (walk.row()?, &mut heads[at]) {
            (Some(row), Some(head)) => head.copy_from_slice(row),
            (_, head) => *head = None,
        }
        taken += 1;
        if taken.is_multiple_of(ROWS_BETWEEN_LOOKS) && stop() {
            return Err(MergeError::Stopped);
        }
    }
}

/// A run for reading.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) info: RunInfo,
    ids: Table,
    streams: Table,
    older: File,
    entries: File,
    /// Sorted by feed.
    feeds: Vec<FeedPart>,
}

impl Run {
    /// Opens a run; its filters are kept in memory if `keep_filters`.
    pub(crate) fn open(dir: &Path, info: RunInfo, keep_filters: bool) -> Result<Self, IndexError> {
        let ids = Table::open(&info.file(dir, "ids"), info.ids_shape(), keep_filters)?;
        let streams = Table::open(&info.file(dir, "streams"), info.streams_shape(), keep_filters)?;
        let older = table::open(&info.file(dir, "older"), info.stamp)?;
        let expected = HEADER_BYTES as u64 + info.older * OLDER_BYTES as u64;
        if older.metadata().map(|data| data.len()).ok() != Some(expected) {
            return Err(IndexError(format!("run {} lacks older spans", info.number)));
        }
        let entries = table::open(&info.file(dir, "feeds"), info.stamp)?;
        let feeds = read_feeds(&entries, &info)?;
        Ok(Self { info, ids, streams, older, entries, feeds })
    }

    /// Whether its filters are in memory.
    pub(crate) fn keeps_filters(&self) -> bool {
        self.ids.keeps_filter()
    }

    /// Gives the places of the events whose id has this hash to `take`, in no order.
    pub(crate) fn id(&self, hash: u64, mut take: impl FnMut(EventPosition)) -> Result<(), IndexError> {
        self.ids.find(&hash.to_be_bytes(), |row| {
            let entry = self.info.first + u64::from(u32::from_be_bytes(bytes_at(row, 8)));
            take(EventPosition::new(entry, u32::from(u16::from_be_bytes(bytes_at(row, 12)))));
        })
    }

    fn find_stream(&self, hash: &StreamHash) -> Result<Option<[u8; STREAM_ROW_BYTES]>, IndexError> {
        let mut found = None;
        self.streams.find(hash, |row| found = Some(bytes_at(row, 0)))?;
        Ok(found)
    }

    /// The newest span of a stream.
    pub(crate) fn newest(&self, hash: &StreamHash) -> Result<Option<Span>, IndexError> {
        Ok(self.find_stream(hash)?.map(|row| Span::decode(self.info.first, &row[12..28])))
    }

    /// Gives `take` the spans of a stream until it says to stop: oldest first those that end at version `from` or later,
    /// or newest first (`backward`) those that begin at `from` or earlier. False: it said so.
    pub(crate) fn spans(
        &self,
        hash: &StreamHash,
        from: u64,
        backward: bool,
        take: &mut dyn FnMut(&Span) -> bool,
    ) -> Result<bool, IndexError> {
        let Some(row) = self.find_stream(hash)? else { return Ok(true) };
        let (newest, start, count) = self.stream_row(&row)?;
        // The first of the older ones that is not before what is wanted (forward), or that is after it (backward).
        let (mut low, mut high) = (start, start + count);
        while low < high {
            let middle = low + (high - low) / 2;
            let is_before = |span: &Span| if backward { span.first <= from } else { span.last() < from };
            if self.older(middle, 1)?.first().is_some_and(is_before) { low = middle + 1 } else { high = middle }
        }
        if backward {
            if newest.first <= from && !take(&newest) {
                return Ok(false);
            }
            while low > start {
                let count = (low - start).min(SPANS_AT_ONCE);
                low -= count;
                if !self.older(low, count)?.iter().rev().all(&mut *take) {
                    return Ok(false);
                }
            }
            return Ok(true);
        }
        let end = start + count;
        while low < end {
            let count = (end - low).min(SPANS_AT_ONCE);
            if !self.older(low, count)?.iter().all(&mut *take) {
                return Ok(false);
            }
            low += count;
        }
        Ok(newest.last() < from || take(&newest))
    }

    /// The newest span of a row, and where how many older ones are.
    fn stream_row(&self, row: &[u8]) -> Result<(Span, u32, u32), IndexError> {
        let newest = Span::decode(self.info.first, &row[12..28]);
        let (start, count) = (u32::from_be_bytes(bytes_at(row, 28)), u32::from_be_bytes(bytes_at(row, 32)));
        if u64::from(start) + u64::from(count) > self.info.older {
            return Err(IndexError(format!("run {} names older spans it does not have", self.info.number)));
        }
        Ok((newest, start, count))
    }

    /// So many older spans.
    fn older(&self, start: u32, count: u32) -> Result<Vec<Span>, IndexError> {
        let mut bytes = vec![0; count as usize * OLDER_BYTES];
        if count > 0 {
            self.older
                .read_exact_at(&mut bytes, HEADER_BYTES as u64 + u64::from(start) * OLDER_BYTES as u64)
                .map_err(|error| IndexError(format!("older spans of run {}: {error}", self.info.number)))?;
        }
        let spans = (u64::from(start)..)
            .zip(bytes.as_chunks::<OLDER_BYTES>().0)
            .map(|(number, bytes)| {
                let (span, crc) = bytes.split_at(SPAN_BYTES);
                let good = older_crc(self.info.stamp, number, span).to_le_bytes() == crc;
                good.then(|| Span::decode(self.info.first, span))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| IndexError(format!("older spans of run {} are damaged", self.info.number)))?;
        Ok(spans)
    }

    /// Entries of `feed` with the sequences `from..=to`, as far as this run holds them. What is on disk here is not
    /// checked: who reads the entries sees whether they are the right ones.
    pub(crate) fn feed(&self, feed: u32, from: u64, to: u64, take: impl FnMut(u64)) -> Result<(), IndexError> {
        let Ok(at) = self.feeds.binary_search_by_key(&feed, |part| part.feed) else { return Ok(()) };
        let part = &self.feeds[at];
        let skip = from.saturating_sub(part.first_sequence).min(u64::from(part.count)) as u32;
        let end = to.saturating_add(1).saturating_sub(part.first_sequence).min(u64::from(part.count)) as u32;
        if skip >= end {
            return Ok(());
        }
        self.feed_entries(part, skip, end, take)
    }

    fn feed_entries(&self, part: &FeedPart, from: u32, to: u32, mut take: impl FnMut(u64)) -> Result<(), IndexError> {
        let mut bytes = vec![0; (to - from) as usize * 4];
        self.entries
            .read_exact_at(&mut bytes, HEADER_BYTES as u64 + u64::from(part.start + from) * 4)
            .map_err(|error| IndexError(format!("feeds of run {}: {error}", self.info.number)))?;
        bytes.as_chunks::<4>().0.iter().for_each(|entry| take(self.info.first + u64::from(u32::from_be_bytes(*entry))));
        Ok(())
    }
}

fn read_feeds(file: &File, info: &RunInfo) -> Result<Vec<FeedPart>, IndexError> {
    let damaged = || IndexError(format!("feeds of run {} are damaged", info.number));
    let entries = info.end - info.first;
    let mut bytes = vec![0; info.feeds as usize * FEED_BYTES + 4];
    file.read_exact_at(&mut bytes, HEADER_BYTES as u64 + entries * 4).map_err(|_| damaged())?;
    let (parts, crc) = bytes.split_at(bytes.len() - 4);
    if crc32c_append(crc32c(&info.stamp.to_le_bytes()), parts).to_le_bytes() != crc {
        return Err(damaged());
    }
    Ok(parts.as_chunks::<FEED_BYTES>().0.iter().map(FeedPart::decode).collect())
}
