//! Inner parts, for `benches/inner.rs` alone (feature `bench`). No part of the interface: it changes without notice.

use std::io;
use std::path::Path;

use httt_feed::Digest;

use crate::Entry;
use crate::frame::{GroupBuffer, Seed};
use crate::merkle::{CompactRange, leaf_hash};
use crate::scan::{Scanner, Step};

/// Any log's id.
const LOG_ID: [u8; 16] = [9; 16];

/// One group of these payloads, as it is written; it would be the first of a file that is nothing else.
pub fn encode_group(payloads: &[bytes::Bytes]) -> Vec<u8> {
    let size = GroupBuffer::size(payloads.iter().map(bytes::Bytes::len));
    let mut buffer = GroupBuffer::new(Seed::of(&LOG_ID), 0, 0, 0, size);
    for payload in payloads {
        buffer.push(payload);
    }
    buffer.finish(0, Digest([0; 32])).0
}

/// Scans a file of one such group; gives the entries.
///
/// # Errors
/// It cannot be read, or is none.
pub fn scan_group(path: &Path) -> io::Result<usize> {
    match Scanner::new(path, Seed::of(&LOG_ID), 0, 0, 0)?.step()? {
        Step::Group(group) => Ok(group.entries.len()),
        Step::End | Step::Bad(_) => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// RFC 6962 hash of a leaf.
pub fn hash_leaf(entry: &[u8]) -> Digest {
    leaf_hash(entry)
}

/// Pushes leaves into an empty tree; gives its root.
pub fn push_leaves(leaves: &[Digest]) -> Digest {
    let mut range = CompactRange::default();
    leaves.iter().for_each(|leaf| range.push(*leaf, |_| {}));
    range.root()
}

/// Decodes what is stored for an entry.
///
/// # Errors
/// It is none.
pub fn decode_entry(bytes: bytes::Bytes) -> Result<Entry, String> {
    Entry::decode(0, bytes)
}
