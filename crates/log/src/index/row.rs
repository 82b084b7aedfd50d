//! What the index knows of one entry without opening its chunk.
//!
//! ```text
//! 0        4          12       16     20         28           36              52      60        68     100   104
//! │chunk   │offset    │length  │feed  │sequence  │committed ms│occurred from to│types  │streams  │leaf  │CRC32C│
//! ```
//! Integers are little-endian. The CRC covers the position too, so a row that stands elsewhere is noticed.

use crc32c::{crc32c, crc32c_append};
use httt_feed::Digest;
use httt_wire::feed as pb;

use super::IndexError;
use super::hash::Hasher;
use crate::chunks::Location;
use crate::frame::{MAX_PAYLOAD_BYTES, bytes_at};

/// Bytes of a row.
pub(crate) const ROW_BYTES: usize = 104;

/// One entry, as far as a reader needs to know to find it or to pass it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryRow {
    pub(crate) at: Location,
    /// Number of its feed in this index.
    pub(crate) feed: u32,
    pub(crate) sequence: u64,
    /// When this log committed it, Unix milliseconds.
    pub(crate) at_ms: i64,
    pub(crate) traits: Traits,
    /// RFC 6962 leaf hash.
    pub(crate) leaf: Digest,
}

/// What the events of an entry have in common: enough to say that none of them can match a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits {
    /// Earliest and latest `occurred_at_ms`.
    pub(crate) occurred: (i64, i64),
    /// One bit per event type, by hash.
    pub(crate) types: u64,
    /// One bit per stream group (see [`stream_group`]), by hash.
    pub(crate) streams: u64,
}

impl Default for Traits {
    fn default() -> Self {
        Self { occurred: (i64::MAX, i64::MIN), types: 0, streams: 0 }
    }
}

impl Traits {
    pub(crate) fn add(&mut self, hasher: &Hasher, event: &pb::Event) {
        let (from, to) = self.occurred;
        self.occurred = (from.min(event.occurred_at_ms), to.max(event.occurred_at_ms));
        self.types |= hasher.bit(&event.r#type);
        self.streams |= hasher.bit(stream_group(&event.stream));
    }
}

/// A stream's name up to and including its first slash, or all of it.
pub(crate) fn stream_group(stream: &str) -> &str {
    stream.split_inclusive('/').next().unwrap_or_default()
}

impl EntryRow {
    pub(crate) fn encode(&self, position: u64) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..4].copy_from_slice(&self.at.chunk.to_le_bytes());
        bytes[4..12].copy_from_slice(&self.at.offset.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.at.length.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.feed.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.at_ms.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.traits.occurred.0.to_le_bytes());
        bytes[44..52].copy_from_slice(&self.traits.occurred.1.to_le_bytes());
        bytes[52..60].copy_from_slice(&self.traits.types.to_le_bytes());
        bytes[60..68].copy_from_slice(&self.traits.streams.to_le_bytes());
        bytes[68..100].copy_from_slice(&self.leaf.0);
        let crc = Self::crc(position, &bytes);
        bytes[100..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(position: u64, bytes: &[u8; ROW_BYTES]) -> Result<Self, IndexError> {
        let length = u32::from_le_bytes(bytes_at(bytes, 12));
        let good = Self::crc(position, bytes) == u32::from_le_bytes(bytes_at(bytes, 100));
        // A lying row must not make a reader allocate more than a frame can hold.
        if !good || length as usize > MAX_PAYLOAD_BYTES {
            return Err(IndexError(format!("its row of entry {position} is damaged")));
        }
        Ok(Self {
            at: Location {
                chunk: u32::from_le_bytes(bytes_at(bytes, 0)),
                offset: u64::from_le_bytes(bytes_at(bytes, 4)),
                length,
            },
            feed: u32::from_le_bytes(bytes_at(bytes, 16)),
            sequence: u64::from_le_bytes(bytes_at(bytes, 20)),
            at_ms: i64::from_le_bytes(bytes_at(bytes, 28)),
            traits: Traits {
                occurred: (i64::from_le_bytes(bytes_at(bytes, 36)), i64::from_le_bytes(bytes_at(bytes, 44))),
                types: u64::from_le_bytes(bytes_at(bytes, 52)),
                streams: u64::from_le_bytes(bytes_at(bytes, 60)),
            },
            leaf: Digest(bytes_at(bytes, 68)),
        })
    }

    fn crc(position: u64, bytes: &[u8; ROW_BYTES]) -> u32 {
        crc32c_append(crc32c(&position.to_le_bytes()), &bytes[..100])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_another_place_shows() {
        let row = EntryRow {
            at: Location { chunk: 3, offset: 1 << 33, length: 900 },
            feed: 7,
            sequence: 12,
            at_ms: -5,
            traits: Traits { occurred: (-1, 99), types: 5, streams: 1 << 63 },
            leaf: Digest([9; 32]),
        };
        let bytes = row.encode(42);
        assert_eq!(EntryRow::decode(42, &bytes), Ok(row));
        assert!(EntryRow::decode(43, &bytes).is_err());
        for bit in 0..ROW_BYTES * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(EntryRow::decode(42, &bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_streams_group_ends_with_its_first_slash() {
        assert_eq!(stream_group("bulletin/b1/x"), "bulletin/");
        assert_eq!(stream_group("node"), "node");
        assert_eq!(stream_group(""), "");
    }
}
