//! The bytes of a chunk: header, frames, commit marker. All integers are little-endian.

use crc32c::{crc32c, crc32c_append};
use httt_feed::{Digest, MAX_SEALED_BYTES};

/// Version of the chunk format.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Bytes of a chunk's header; the first frame follows.
pub(crate) const CHUNK_HEADER_BYTES: usize = 64;
/// Bytes of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 20;
/// Bytes of a commit marker's payload.
pub(crate) const COMMIT_PAYLOAD_BYTES: usize = 64;
/// Largest payload of a frame.
pub(crate) const MAX_PAYLOAD_BYTES: usize = MAX_SEALED_BYTES;
/// Bytes a commit marker takes.
pub(crate) const COMMIT_FRAME_BYTES: usize = FRAME_HEADER_BYTES + COMMIT_PAYLOAD_BYTES;
/// Most groups in one chunk: a frame has 24 bits for the group's number.
pub(crate) const MAX_GROUPS_PER_CHUNK: u32 = 1 << 24;

const MAGIC: [u8; 8] = *b"HTTTLOG\0";
/// Begins a thinned chunk; the rest of its header is the chunk's own.
const THIN_MAGIC: [u8; 8] = *b"HTTTTHIN";

/// The bytes at `at`, which the caller made sure are there.
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// First 64 bytes of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkHeader {
    pub(crate) log_id: [u8; 16],
    pub(crate) number: u32,
    pub(crate) first_position: u64,
    pub(crate) created_ms: i64,
}

/// Why a header is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    Unreadable,
    Version(u32),
}

impl ChunkHeader {
    pub(crate) fn encode(&self) -> [u8; CHUNK_HEADER_BYTES] {
        self.encode_as(MAGIC)
    }

    /// The header of the thinned chunk.
    pub(crate) fn encode_thin(&self) -> [u8; CHUNK_HEADER_BYTES] {
        self.encode_as(THIN_MAGIC)
    }

    fn encode_as(&self, magic: [u8; 8]) -> [u8; CHUNK_HEADER_BYTES] {
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        bytes[..8].copy_from_slice(&magic);
        bytes[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[12..28].copy_from_slice(&self.log_id);
        bytes[28..32].copy_from_slice(&self.number.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.first_position.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Whether the header is one of a thinned chunk.
    pub(crate) fn is_thin(bytes: &[u8; CHUNK_HEADER_BYTES]) -> bool {
        bytes[..8] == THIN_MAGIC
    }

    /// Reads the header of a chunk, thinned or not.
    pub(crate) fn decode(bytes: &[u8; CHUNK_HEADER_BYTES]) -> Result<Self, HeaderFault> {
        let known = bytes[..8] == MAGIC || Self::is_thin(bytes);
        if !known || crc32c(&bytes[..60]) != u32::from_le_bytes(bytes_at(bytes, 60)) {
            return Err(HeaderFault::Unreadable);
        }
        match u32::from_le_bytes(bytes_at(bytes, 8)) {
            FORMAT_VERSION => Ok(Self {
                log_id: bytes_at(bytes, 12),
                number: u32::from_le_bytes(bytes_at(bytes, 28)),
                first_position: u64::from_le_bytes(bytes_at(bytes, 32)),
                created_ms: i64::from_le_bytes(bytes_at(bytes, 40)),
            }),
            version => Err(HeaderFault::Version(version)),
        }
    }
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An entry; the frame's position is the entry's.
    Entry = 1,
    /// The end of a group; the frame's position is the log's length after it.
    Commit = 2,
    /// What is kept of an entry that went by retention, in a thinned chunk; the frame's position is the entry's.
    Gone = 3,
}

/// What frame checksums start from: the log's id. A member could put bytes that look like a frame into an event; not
/// knowing this log's id (it stays on the lane `local`), it cannot make their checksum right, and so cannot make a
/// torn tail that holds them look like damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn of(log_id: &[u8; 16]) -> Self {
        Self(crc32c(log_id))
    }

    /// The checksum of something of this log that is no frame.
    pub(crate) fn crc(self, bytes: &[u8]) -> u32 {
        crc32c_append(self.0, bytes)
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) crc: u32,
    pub(crate) kind: Kind,
    /// Number of the frame's group in its chunk, from 0. It tells the rest of a torn group from a later group.
    pub(crate) group: u32,
    pub(crate) position: u64,
}

impl FrameHeader {
    fn crc_of(seed: Seed, header: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> u32 {
        crc32c_append(crc32c_append(crc32c_append(seed.0, &header[..4]), &header[8..]), payload)
    }

    /// `None`: no frame begins so.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<Self> {
        let length = u32::from_le_bytes(bytes_at(bytes, 0));
        let kind = match bytes[8] {
            1 => Kind::Entry,
            2 if length as usize == COMMIT_PAYLOAD_BYTES => Kind::Commit,
            3 => Kind::Gone,
            _ => return None,
        };
        if length == 0 || length as usize > MAX_PAYLOAD_BYTES {
            return None;
        }
        Some(Self {
            length,
            crc: u32::from_le_bytes(bytes_at(bytes, 4)),
            kind,
            group: u32::from_le_bytes([bytes[9], bytes[10], bytes[11], 0]),
            position: u64::from_le_bytes(bytes_at(bytes, 12)),
        })
    }

    /// Whether header and payload are what was written.
    pub(crate) fn holds(seed: Seed, bytes: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> bool {
        Self::crc_of(seed, bytes, payload) == u32::from_le_bytes(bytes_at(bytes, 4))
    }
}

pub(crate) fn push_frame(out: &mut Vec<u8>, seed: Seed, kind: Kind, group: u32, position: u64, payload: &[u8]) -> u32 {
    let mut header = [0; FRAME_HEADER_BYTES];
    header[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[8] = kind as u8;
    header[9..12].copy_from_slice(&group.to_le_bytes()[..3]);
    header[12..].copy_from_slice(&position.to_le_bytes());
    let crc = FrameHeader::crc_of(seed, &header, payload);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
    crc
}

/// Payload of a commit marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Position of the group's first entry.
    pub(crate) first: u64,
    /// Entries in the group.
    pub(crate) count: u32,
    /// CRC32C over the CRCs of the group's entry frames.
    pub(crate) crc: u32,
    /// Offset of the group's first frame.
    pub(crate) start: u64,
    /// When it was committed, Unix milliseconds.
    pub(crate) at_ms: i64,
    /// Merkle root of the log up to and including this group.
    pub(crate) root: Digest,
}

impl Commit {
    pub(crate) fn encode(&self) -> [u8; COMMIT_PAYLOAD_BYTES] {
        let mut bytes = [0; COMMIT_PAYLOAD_BYTES];
        bytes[..8].copy_from_slice(&self.first.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.count.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.start.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[32..].copy_from_slice(&self.root.0);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        (bytes.len() == COMMIT_PAYLOAD_BYTES).then(|| Self {
            first: u64::from_le_bytes(bytes_at(bytes, 0)),
            count: u32::from_le_bytes(bytes_at(bytes, 8)),
            crc: u32::from_le_bytes(bytes_at(bytes, 12)),
            start: u64::from_le_bytes(bytes_at(bytes, 16)),
            at_ms: i64::from_le_bytes(bytes_at(bytes, 24)),
            root: Digest(bytes_at(bytes, 32)),
        })
    }
}

/// CRC over the CRCs of a group's frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GroupCrc(u32);

impl GroupCrc {
    pub(crate) fn push(&mut self, frame_crc: u32) {
        self.0 = crc32c_append(self.0, &frame_crc.to_le_bytes());
    }

    pub(crate) fn value(self) -> u32 {
        self.0
    }
}

/// The bytes of one group in the making.
#[derive(Debug)]
pub(crate) struct GroupBuffer {
    bytes: Vec<u8>,
    seed: Seed,
    start: u64,
    group: u32,
    first: u64,
    count: u32,
    crc: GroupCrc,
}

impl GroupBuffer {
    pub(crate) fn new(seed: Seed, start: u64, group: u32, first: u64, capacity: usize) -> Self {
        Self { bytes: Vec::with_capacity(capacity), seed, start, group, first, count: 0, crc: GroupCrc::default() }
    }

    /// Bytes that a group of these payloads takes.
    pub(crate) fn size(payloads: impl IntoIterator<Item = usize>) -> usize {
        payloads.into_iter().map(|length| length + FRAME_HEADER_BYTES).sum::<usize>() + COMMIT_FRAME_BYTES
    }

    /// Adds an entry; gives the offset of its frame in the chunk.
    pub(crate) fn push(&mut self, payload: &[u8]) -> u64 {
        let offset = self.start + self.bytes.len() as u64;
        let position = self.first + u64::from(self.count);
        self.crc.push(push_frame(&mut self.bytes, self.seed, Kind::Entry, self.group, position, payload));
        self.count += 1;
        offset
    }

    /// Adds the commit marker; gives all bytes and the marker's offset in the chunk.
    pub(crate) fn finish(mut self, at_ms: i64, root: Digest) -> (Vec<u8>, u64) {
        let (first, count, crc, start) = (self.first, self.count, self.crc.value(), self.start);
        let commit = Commit { first, count, crc, start, at_ms, root };
        let offset = start + self.bytes.len() as u64;
        push_frame(&mut self.bytes, self.seed, Kind::Commit, self.group, first + u64::from(count), &commit.encode());
        (self.bytes, offset)
    }
}

/// File name of a chunk.
pub(crate) fn chunk_name(number: u32) -> String {
    format!("{number:08}.chunk")
}

/// Number of a chunk, from its file name.
pub(crate) fn chunk_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(".chunk").filter(|digits| digits.len() == 8)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_in_a_header_shows() {
        let header = ChunkHeader { log_id: [7; 16], number: 3, first_position: 99, created_ms: -1 };
        let bytes = header.encode();
        assert_eq!(ChunkHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ChunkHeader::decode(&bytes), Err(HeaderFault::Unreadable), "bit {bit}");
        }
    }

    #[test]
    fn a_flipped_bit_in_a_frame_shows() {
        let seed = Seed::of(&[9; 16]);
        let mut buffer = GroupBuffer::new(seed, 64, 5, 10, 0);
        assert_eq!(buffer.push(b"payload"), 64);
        let (bytes, marker) = buffer.finish(1, Digest([1; 32]));
        assert_eq!(marker, 64 + 27);
        assert_eq!(bytes.len(), GroupBuffer::size([7]));
        for bit in 0..27 * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let header: [u8; FRAME_HEADER_BYTES] = bytes_at(&bytes, 0);
            let good = FrameHeader::decode(&header)
                .is_some_and(|frame| frame.length == 7 && FrameHeader::holds(seed, &header, &bytes[20..27]));
            assert!(!good, "bit {bit}");
        }
    }

    #[test]
    fn chunk_names_read_back() {
        assert_eq!(chunk_number(&chunk_name(42)), Some(42));
        for bad in ["42.chunk", "0000004x.chunk", "00000042", "+0000042.chunk", "000000420.chunk"] {
            assert_eq!(chunk_number(bad), None, "{bad}");
        }
    }
}
