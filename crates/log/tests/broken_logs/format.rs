//! The format of a chunk as the crate's front page documents it, written anew from that text alone: what is made here
//! is what any other program would make of it, so these tests prove the documentation as well.

use std::fs;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};
use httt_feed::Digest;

use crate::common::{chunk, overwrite};

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const FRAME_BYTES: usize = 20;
pub(crate) const ENTRY: u8 = 1;
pub(crate) const COMMIT: u8 = 2;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) log_id: [u8; 16],
    pub(crate) number: u32,
    pub(crate) first_position: u64,
    pub(crate) created_ms: i64,
}

impl Header {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!(&bytes[..8], b"HTTTLOG\0");
        assert_eq!(u32_at(bytes, 60), crc32c(&bytes[..60]));
        assert_eq!(&bytes[48..60], [0; 12]);
        Self {
            version: u32_at(bytes, 8),
            log_id: bytes[12..28].try_into().expect("sixteen bytes"),
            number: u32_at(bytes, 28),
            first_position: u64_at(bytes, 32),
            created_ms: u64_at(bytes, 40) as i64,
        }
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        let mut bytes = b"HTTTLOG\0".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.log_id);
        bytes.extend(self.number.to_le_bytes());
        bytes.extend(self.first_position.to_le_bytes());
        bytes.extend(self.created_ms.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend(crc32c(&bytes).to_le_bytes());
        bytes
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// Where it begins in its chunk.
    pub(crate) offset: usize,
    pub(crate) kind: u8,
    pub(crate) group: u32,
    pub(crate) position: u64,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn end(&self) -> usize {
        self.offset + FRAME_BYTES + self.payload.len()
    }

    pub(crate) fn write(&self, log_id: &[u8; 16]) -> Vec<u8> {
        let mut rest = vec![self.kind];
        rest.extend(&self.group.to_le_bytes()[..3]);
        rest.extend(self.position.to_le_bytes());
        rest.extend(&self.payload);
        let length = (self.payload.len() as u32).to_le_bytes();
        let crc = crc32c_append(crc32c_append(crc32c(log_id), &length), &rest);
        [&length[..], &crc.to_le_bytes(), &rest].concat()
    }
}

/// A chunk, taken apart. Its checksums are checked on the way.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) header: Header,
    pub(crate) frames: Vec<Frame>,
}

impl Chunk {
    pub(crate) fn read(dir: &Path, number: u32) -> Self {
        let bytes = fs::read(chunk(dir, number)).expect("chunk");
        let header = Header::read(&bytes);
        let (mut at, mut frames) = (HEADER_BYTES, Vec::new());
        while at < bytes.len() {
            let length = u32_at(&bytes, at) as usize;
            let group = u32::from_le_bytes([bytes[at + 9], bytes[at + 10], bytes[at + 11], 0]);
            let payload = bytes[at + FRAME_BYTES..][..length].to_vec();
            let (kind, position) = (bytes[at + 8], u64_at(&bytes, at + 12));
            let frame = Frame { offset: at, kind, group, position, payload };
            assert_eq!(frame.write(&header.log_id), bytes[at..frame.end()], "the front page says it all");
            at = frame.end();
            frames.push(frame);
        }
        Self { header, frames }
    }

    pub(crate) fn write(&self, dir: &Path) {
        let mut bytes = self.header.write();
        self.frames.iter().for_each(|frame| bytes.extend(frame.write(&self.header.log_id)));
        overwrite(&chunk(dir, self.header.number), &bytes);
    }

    /// Its groups' entries.
    pub(crate) fn groups(&self) -> Vec<Vec<Vec<u8>>> {
        let mut groups = vec![vec![]];
        for frame in &self.frames {
            match frame.kind {
                ENTRY => groups.last_mut().expect("a group").push(frame.payload.clone()),
                _ => groups.push(vec![]),
            }
        }
        groups.pop();
        groups
    }
}

/// A whole log, as lists of entries.
pub(crate) struct Whole {
    headers: Vec<Header>,
    /// Chunks of groups of entries.
    pub(crate) chunks: Vec<Vec<Vec<Vec<u8>>>>,
}

impl Whole {
    pub(crate) fn read(dir: &Path) -> Self {
        let count = fs::read_dir(dir.join("chunks")).expect("chunks").count() as u32;
        let chunks: Vec<Chunk> = (0..count).map(|number| Chunk::read(dir, number)).collect();
        let headers = chunks.iter().map(|chunk| chunk.header.clone()).collect();
        Self { headers, chunks: chunks.iter().map(Chunk::groups).collect() }
    }

    /// The entry at a position.
    pub(crate) fn entry(&mut self, position: usize) -> &mut Vec<u8> {
        self.chunks.iter_mut().flatten().flatten().nth(position).expect("entry")
    }

    /// Entries there are.
    pub(crate) fn entries(&self) -> u64 {
        self.chunks.iter().flatten().map(|group| group.len() as u64).sum()
    }

    /// Takes the entry at a position out.
    pub(crate) fn remove(&mut self, position: usize) {
        let mut left = position;
        for group in self.chunks.iter_mut().flatten() {
            if left < group.len() {
                group.remove(left);
                break;
            }
            left -= group.len();
        }
        self.chunks.iter_mut().for_each(|chunk| chunk.retain(|group| !group.is_empty()));
    }

    /// Writes it with everything right but what its entries say: positions, checksums, commit markers, roots.
    pub(crate) fn write(&self, dir: &Path) {
        let (mut position, mut leaves) = (0_u64, Vec::new());
        for (header, groups) in self.headers.iter().zip(&self.chunks) {
            let header = Header { first_position: position, ..header.clone() };
            let (mut offset, mut frames) = (HEADER_BYTES, Vec::new());
            for (number, group) in groups.iter().enumerate() {
                let (first, start, mut crcs) = (position, offset, 0);
                for payload in group {
                    let (payload, group) = (payload.clone(), number as u32);
                    leaves.push(leaf(&payload));
                    let frame = Frame { offset, kind: ENTRY, group, position, payload };
                    crcs = crc32c_append(crcs, &frame.write(&header.log_id)[4..8]);
                    (offset, position) = (frame.end(), position + 1);
                    frames.push(frame);
                }
                let marker = Marker { first, entries: group.len() as u32, crc: crcs, start: start as u64, at_ms: 7 };
                let payload = marker.write(&root(&leaves));
                let frame = Frame { offset, kind: COMMIT, group: number as u32, position, payload };
                offset = frame.end();
                frames.push(frame);
            }
            Chunk { header, frames }.write(dir);
        }
    }
}

/// The payload of a commit marker, but for the root.
struct Marker {
    first: u64,
    entries: u32,
    crc: u32,
    start: u64,
    at_ms: i64,
}

impl Marker {
    fn write(&self, root: &Digest) -> Vec<u8> {
        let mut bytes = self.first.to_le_bytes().to_vec();
        bytes.extend(self.entries.to_le_bytes());
        bytes.extend(self.crc.to_le_bytes());
        bytes.extend(self.start.to_le_bytes());
        bytes.extend(self.at_ms.to_le_bytes());
        bytes.extend(root.0);
        bytes
    }
}

/// RFC 6962, 2.1: the hash of a leaf.
fn leaf(entry: &[u8]) -> Digest {
    Digest::of(&[&[0], entry].concat())
}

/// RFC 6962, 2.1: the root over leaves' hashes.
pub(crate) fn root(leaves: &[Digest]) -> Digest {
    match leaves {
        [] => Digest::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            Digest::of(&[&[1], &root(left).0[..], &root(right).0].concat())
        }
    }
}
