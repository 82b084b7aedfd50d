//! What is intact in the midst of damage: frames whose checksum holds, wherever they stand.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::files::read_exact_at;
use crate::frame::{Commit, FRAME_HEADER_BYTES, FrameHeader, Kind, Seed};

/// A commit marker among damaged bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marker {
    pub(super) offset: u64,
    pub(super) group: u32,
    pub(super) commit: Commit,
}

/// Intact frames of a damaged span.
#[derive(Debug, Default)]
pub(super) struct Salvage {
    /// Entries by position.
    pub(super) entries: BTreeMap<u64, Bytes>,
    /// Commit markers by the position of their group's first entry.
    pub(super) markers: BTreeMap<u64, Marker>,
}

impl Salvage {
    /// Looks at every byte offset of `from..to` of a chunk, which is read into memory: a chunk has room there.
    pub(super) fn of(path: &Path, seed: Seed, from: u64, to: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let to = to.min(file.metadata()?.len());
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?];
        read_exact_at(&file, &mut bytes, from)?;
        let bytes = Bytes::from(bytes);
        let mut salvage = Self::default();
        let mut at = 0;
        while let Some(header) = bytes[at..].first_chunk::<FRAME_HEADER_BYTES>() {
            let here = at;
            at += 1;
            let Some(frame) = FrameHeader::decode(header) else { continue };
            let (start, end) = (here + FRAME_HEADER_BYTES, here + FRAME_HEADER_BYTES + frame.length as usize);
            if end > bytes.len() || !FrameHeader::holds(seed, header, &bytes[start..end]) {
                continue;
            }
            // What looks like a frame inside an intact one is the sender's data.
            at = end;
            let payload = bytes.slice(start..end);
            match frame.kind {
                Kind::Entry => drop(salvage.entries.entry(frame.position).or_insert(payload)),
                Kind::Commit => {
                    if let Some(commit) = Commit::decode(&payload) {
                        let marker = Marker { offset: from + here as u64, group: frame.group, commit };
                        salvage.markers.entry(commit.first).or_insert(marker);
                    }
                }
                Kind::Gone => {}
            }
        }
        Ok(salvage)
    }
}
