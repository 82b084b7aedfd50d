//! The bytes of a thinned chunk: a full chunk of which entries went by retention.
//!
//! ```text
//! header   the chunk's own, but for the magic "HTTTTHIN" and its CRC
//! frames   as in the chunk, byte for byte, commit markers among them; in place of an entry that went, a frame of kind 3
//! table    one row an entry, by position: where its frame was in the chunk, and where it is here
//! end      0          8       16           24           32      36
//!          │"THINEND\0"│entries│table offset│chunk length│zeros  │CRC32C│
//!
//! gone     0             4             8        16     48         80       81
//!          │entry length │frame CRC32C │sequence│digest│leaf hash│restates│feed, as text
//! row      0                8                               16
//!          │offset in chunk│offset here; top bit: it is gone│CRC32C over position and both│
//! ```
//! Integers are little-endian; all checksums start from the log's seed, as those of frames do. Whoever knows where an
//! entry stood in the chunk finds it by one row, so an index stays right, and nothing of the table is held in memory.

use std::fs::File;
use std::io;

use httt_feed::{Digest, FeedId};

use crate::files::read_exact_at;
use crate::frame::{
    CHUNK_HEADER_BYTES, COMMIT_FRAME_BYTES, ChunkHeader, FRAME_HEADER_BYTES, Kind, MAX_PAYLOAD_BYTES, Seed, bytes_at,
    push_frame,
};

/// Bytes of a row of the table.
pub(crate) const ROW_BYTES: usize = 20;
/// Bytes after the table.
pub(crate) const END_BYTES: usize = 40;
/// Rows read at once.
pub(crate) const ROWS_AT_ONCE: u64 = 256;
/// Bytes of a record before the feed's name.
const RECORD_BYTES: usize = 81;
/// Bytes that the frame of a record takes, about: a feed's name has some 12.
pub(crate) const RECORD_FRAME_BYTES: u64 = (FRAME_HEADER_BYTES + RECORD_BYTES + 12) as u64;

const END_MAGIC: [u8; 8] = *b"THINEND\0";
const GONE_BIT: u64 = 1 << 63;

/// An entry that went by retention: what is still known of it. Its origin has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoneEntry {
    /// Its place in the log, from 0.
    pub position: u64,
    /// The feed it belongs to.
    pub feed: FeedId,
    /// Its sequence in that feed.
    pub sequence: u64,
    /// SHA-256 of the batch's body.
    pub digest: Digest,
    /// RFC 6962 leaf hash of its bytes.
    pub leaf: Digest,
    /// Whether the batch said again all that its feed stands for.
    pub restates: bool,
    /// Bytes it had.
    pub bytes: u32,
}

/// What stands in place of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GoneRecord {
    pub(crate) entry: GoneEntry,
    /// Checksum of the frame it had, which the commit marker covers.
    pub(crate) crc: u32,
}

impl GoneRecord {
    /// Adds the frame of the record.
    pub(crate) fn push(&self, out: &mut Vec<u8>, seed: Seed, group: u32) {
        let GoneEntry { position, feed, sequence, digest, leaf, restates, bytes } = &self.entry;
        let mut payload = Vec::with_capacity(RECORD_BYTES + 32);
        payload.extend_from_slice(&bytes.to_le_bytes());
        payload.extend_from_slice(&self.crc.to_le_bytes());
        payload.extend_from_slice(&sequence.to_le_bytes());
        payload.extend_from_slice(&digest.0);
        payload.extend_from_slice(&leaf.0);
        payload.push(u8::from(*restates));
        payload.extend_from_slice(feed.to_string().as_bytes());
        push_frame(out, seed, Kind::Gone, group, *position, &payload);
    }

    /// Reads the payload of the frame at `position`; `None`: it makes no sense.
    pub(crate) fn decode(position: u64, payload: &[u8]) -> Option<Self> {
        let (fixed, feed) = payload.split_at_checked(RECORD_BYTES)?;
        let bytes = u32::from_le_bytes(bytes_at(fixed, 0));
        let restates = match fixed[80] {
            0 => false,
            1 => true,
            _ => return None,
        };
        let entry = GoneEntry {
            position,
            feed: std::str::from_utf8(feed).ok()?.parse().ok()?,
            sequence: u64::from_le_bytes(bytes_at(fixed, 8)),
            digest: Digest(bytes_at(fixed, 16)),
            leaf: Digest(bytes_at(fixed, 48)),
            restates,
            bytes,
        };
        let sensible = bytes > 0 && bytes as usize <= MAX_PAYLOAD_BYTES;
        sensible.then(|| Self { entry, crc: u32::from_le_bytes(bytes_at(fixed, 4)) })
    }
}

/// Where an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Offset of its frame in the chunk.
    pub(crate) was: u64,
    /// Offset of its frame, or of its record's, in the thinned chunk.
    pub(crate) at: u64,
    pub(crate) gone: bool,
}

impl Row {
    fn crc(seed: Seed, position: u64, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(seed.crc(&position.to_le_bytes()), bytes)
    }

    pub(crate) fn encode(&self, seed: Seed, position: u64) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        let at = self.at | if self.gone { GONE_BIT } else { 0 };
        bytes[..8].copy_from_slice(&self.was.to_le_bytes());
        bytes[8..16].copy_from_slice(&at.to_le_bytes());
        let crc = Self::crc(seed, position, &bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(seed: Seed, position: u64, bytes: &[u8]) -> Option<Self> {
        let at = u64::from_le_bytes(bytes_at(bytes, 8));
        let good = Self::crc(seed, position, &bytes[..16]) == u32::from_le_bytes(bytes_at(bytes, 16));
        good.then(|| Self { was: u64::from_le_bytes(bytes_at(bytes, 0)), at: at & !GONE_BIT, gone: at & GONE_BIT != 0 })
    }
}

/// How a thinned chunk is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thin {
    seed: Seed,
    /// Position of its first entry.
    pub(crate) first: u64,
    pub(crate) entries: u64,
    /// Where the frames end.
    pub(crate) table: u64,
    /// Bytes of the chunk.
    pub(crate) was: u64,
}

impl Thin {
    /// The table's rows are `entries` in number and begin at `table`.
    pub(crate) fn new(header: &ChunkHeader, entries: u64, table: u64, was: u64) -> Self {
        Self { seed: Seed::of(&header.log_id), first: header.first_position, entries, table, was }
    }

    /// Looks whether a file is a thinned chunk. `Ok(None)`: it is something else; `Ok(Some(Err))`: it is damaged.
    pub(crate) fn open(file: &File) -> io::Result<Option<Result<Self, &'static str>>> {
        let length = file.metadata()?.len();
        let mut header = [0; CHUNK_HEADER_BYTES];
        if length < CHUNK_HEADER_BYTES as u64 {
            return Ok(None);
        }
        read_exact_at(file, &mut header, 0)?;
        if !ChunkHeader::is_thin(&header) {
            return Ok(None);
        }
        let Ok(header) = ChunkHeader::decode(&header) else { return Ok(Some(Err("the header is unreadable"))) };
        let Some(at) = length.checked_sub(END_BYTES as u64) else { return Ok(Some(Err("the table has no end"))) };
        let mut end = [0; END_BYTES];
        read_exact_at(file, &mut end, at)?;
        Ok(Some(Self::decode_end(&header, length, &end).ok_or("the end of the table is damaged")))
    }

    fn decode_end(header: &ChunkHeader, length: u64, end: &[u8; END_BYTES]) -> Option<Self> {
        let crc = u32::from_le_bytes(bytes_at(end, 36));
        let [entries, table, was] = [8, 16, 24].map(|at| u64::from_le_bytes(bytes_at(end, at)));
        let thin = Self::new(header, entries, table, was);
        let after = entries.checked_mul(ROW_BYTES as u64)?.checked_add(table)?.checked_add(END_BYTES as u64)?;
        let good = end[..8] == END_MAGIC && thin.seed.crc(&end[..36]) == crc && after == length;
        (good && table >= CHUNK_HEADER_BYTES as u64).then_some(thin)
    }

    pub(crate) fn encode_end(&self) -> [u8; END_BYTES] {
        let mut bytes = [0; END_BYTES];
        bytes[..8].copy_from_slice(&END_MAGIC);
        bytes[8..16].copy_from_slice(&self.entries.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.table.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.was.to_le_bytes());
        let crc = self.seed.crc(&bytes[..36]);
        bytes[36..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Position after its last entry.
    pub(crate) fn next(&self) -> u64 {
        self.first.saturating_add(self.entries)
    }

    /// Rows of the entries from `position` on, one at least and at most [`ROWS_AT_ONCE`], up to one that is damaged; an
    /// error names the position, if its own row is.
    pub(crate) fn rows(&self, file: &File, position: u64) -> io::Result<Result<Vec<Row>, u64>> {
        let count = self.next().saturating_sub(position).min(ROWS_AT_ONCE) as usize;
        let Some(number) = position.checked_sub(self.first).filter(|_| count > 0) else { return Ok(Err(position)) };
        let mut bytes = vec![0; count * ROW_BYTES];
        read_exact_at(file, &mut bytes, self.table + number * ROW_BYTES as u64)?;
        let decoded = (position..).zip(bytes.chunks_exact(ROW_BYTES));
        let good: Vec<_> = decoded.map_while(|(position, row)| Row::decode(self.seed, position, row)).collect();
        Ok(if good.is_empty() { Err(position) } else { Ok(good) })
    }

    /// Where the commit marker is after which the log has `length` entries: in the chunk, and here.
    pub(crate) fn marker(&self, file: &File, length: u64) -> io::Result<Result<(u64, u64), u64>> {
        let marker = COMMIT_FRAME_BYTES as u64;
        if length == self.next() {
            return Ok(Ok((self.was.saturating_sub(marker), self.table.saturating_sub(marker))));
        }
        let rows = self.rows(file, length)?;
        Ok(rows.map(|rows| {
            rows.first().map_or((0, 0), |row| (row.was.saturating_sub(marker), row.at.saturating_sub(marker)))
        }))
    }
}

/// Bytes of an entry's frame.
pub(crate) fn frame_bytes(length: u32) -> u64 {
    FRAME_HEADER_BYTES as u64 + u64::from(length)
}
