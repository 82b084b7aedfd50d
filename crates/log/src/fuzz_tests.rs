//! Bytes from a disk or a carrier, thrown at what reads them. Nothing may panic, allocate beyond its limits, or take
//! for the original what is not. `PROPTEST_CASES=1000000 cargo test -p httt-log --release fuzz` runs as long as wanted.

use std::fs;
use std::path::PathBuf;

use httt_feed::{AgencyCode, Digest, Sealer, SigningKey};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::checkpoint::{self, Statement};
use crate::frame::{COMMIT_FRAME_BYTES, ChunkHeader, FRAME_HEADER_BYTES, GroupBuffer, MAX_PAYLOAD_BYTES, Seed};
use crate::scan::{self, Scanner, Step};

const LOG_ID: [u8; 16] = [9; 16];

fn seed() -> Seed {
    Seed::of(&LOG_ID)
}

/// Bytes, or an edit of good ones: overwritten, put in or taken out somewhere.
#[derive(Debug, Clone)]
struct Edit {
    at: prop::sample::Index,
    length: usize,
    with: Vec<u8>,
}

fn edits() -> impl Strategy<Value = Edit> {
    (any::<prop::sample::Index>(), 0_usize..60, prop::collection::vec(any::<u8>(), 0..60))
        .prop_map(|(at, length, with)| Edit { at, length, with })
}

impl Edit {
    fn of(&self, bytes: &[u8]) -> Vec<u8> {
        let from = self.at.index(bytes.len());
        let until = (from + self.length).min(bytes.len());
        [&bytes[..from], &self.with, &bytes[until..]].concat()
    }
}

/// Three groups of entries, each of which can be told by its bytes.
fn groups(entries: &[Vec<u8>]) -> Vec<u8> {
    let (mut bytes, mut first) = (Vec::new(), 0);
    for (number, group) in entries.chunks(2).enumerate() {
        let mut buffer = GroupBuffer::new(seed(), bytes.len() as u64, number as u32, first, 0);
        for entry in group {
            buffer.push(entry);
        }
        first += group.len() as u64;
        bytes.extend(buffer.finish(0, Digest([0; 32])).0);
    }
    bytes
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("chunk");
    fs::write(&path, bytes).expect("write");
    (dir, path)
}

/// Entries of the groups that a scan accepts, and whether it came to a clean end. Ends, whatever the bytes are.
fn scanned(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (_dir, path) = file(bytes);
    let mut scanner = Scanner::new(&path, seed(), 0, 0, 0).expect("open");
    let mut entries = Vec::new();
    loop {
        match scanner.step().expect("reading does not fail") {
            Step::Group(group) => {
                assert!(group.end <= bytes.len() as u64 && group.end - group.marker == COMMIT_FRAME_BYTES as u64);
                assert_eq!(group.commit.count as usize, group.entries.len());
                for entry in group.entries {
                    assert_eq!(entry.position, entries.len() as u64);
                    let bytes = entry.whole().expect("nothing is gone of a chunk that is not thinned");
                    assert!(bytes.len() <= MAX_PAYLOAD_BYTES);
                    entries.push(bytes.to_vec());
                }
            }
            Step::End => return (entries, true),
            Step::Bad(bad) => {
                assert!(bad.group_start <= bad.offset && bad.offset <= bytes.len() as u64);
                // The search for what may follow ends as well, and finds frames only where they are whole.
                let group = scanner.group();
                let found = scan::find_frame(&path, seed(), bad.group_start, |_| true).expect("reads");
                if let Some(found) = found {
                    let end = found.offset + FRAME_HEADER_BYTES as u64 + u64::from(found.header.length);
                    assert!(found.offset >= bad.group_start && end <= bytes.len() as u64);
                }
                scan::find_later_group(&path, seed(), bad.group_start, group).expect("reads");
                return (entries, false);
            }
        }
    }
}

proptest! {
    #[test]
    fn fuzz_a_scan_of_noise_finds_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
        let (entries, ended) = scanned(&bytes);
        prop_assert!(entries.is_empty());
        prop_assert_eq!(ended, bytes.iter().all(|byte| *byte == 0));
    }

    /// Frames that claim any length, kind, group and position: no claim makes the scanner read or allocate beyond
    /// what a frame may have, and none is believed without its checksum.
    #[test]
    fn fuzz_headers_that_lie(length in any::<u32>(), kind in 0_u8..4, rest in any::<[u8; 15]>(), tail in 0_usize..300) {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend(&rest[..4]);
        bytes.push(kind);
        bytes.extend(&rest[4..]);
        bytes.resize(bytes.len() + tail, 0xA5);
        prop_assert_eq!(scanned(&bytes), (vec![], false));
    }

    /// Whatever is done to a chunk, what a scan accepts is a beginning of what was written.
    #[test]
    fn fuzz_a_scan_accepts_only_what_was_written(
        entries in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 6),
        edit in edits(),
    ) {
        let good = groups(&entries);
        prop_assert_eq!(scanned(&good), (entries.clone(), true));
        let changed = edit.of(&good);
        let (found, _) = scanned(&changed);
        prop_assert!(found.len() <= entries.len() && found[..] == entries[..found.len()]);
        if found.len() == entries.len() {
            // Only zeros may follow.
            prop_assert!(changed.starts_with(&good));
        }
    }

    /// Bytes inside an entry that look like a group of the log are the sender's data, never part of the log.
    #[test]
    fn fuzz_a_group_inside_an_entry_is_data(lead in 0_usize..50, torn in 1_usize..100) {
        let inner = groups(&[vec![1; 30], vec![2; 30]]);
        let entry = [&vec![7; lead][..], &inner].concat();
        let good = groups(std::slice::from_ref(&entry));
        prop_assert_eq!(scanned(&good), (vec![entry], true));
        let (found, _) = scanned(&good[..good.len() - torn]);
        prop_assert!(found.is_empty());
    }

    #[test]
    fn fuzz_chunk_headers(bytes in any::<[u8; 32]>(), number in any::<u32>(), at in 0_usize..64, bit in 0_u32..8) {
        let mut noise = [0; 64];
        noise[..32].copy_from_slice(&bytes);
        prop_assert!(ChunkHeader::decode(&noise).is_err());
        let header = ChunkHeader { log_id: LOG_ID, number, first_position: 5, created_ms: -1 };
        let mut changed = header.encode();
        prop_assert_eq!(ChunkHeader::decode(&changed), Ok(header));
        changed[at] ^= 1 << bit;
        prop_assert!(ChunkHeader::decode(&changed).is_err());
    }

    /// A checkpoint that was changed is refused, or no longer counts as signed, or says the same as before (a carriage
    /// of further signatures is allowed by its format).
    #[test]
    fn fuzz_checkpoints(size in 0..u64::MAX / 2, root in any::<[u8; 32]>(), edit in edits()) {
        let key = SigningKey::from_seed(&[1; 32]).expect("seed");
        let sealer = Sealer::new(AgencyCode::new("H24").expect("code"), key);
        let keys = [sealer.key().public().clone()];
        let statement = Statement { size, root: Digest(root) };
        let good = checkpoint::sign(statement, &sealer).expect("sign");
        let changed = String::from_utf8_lossy(&edit.of(good.as_bytes())).into_owned();
        if let Ok(parsed) = checkpoint::parse(&changed, Some(sealer.origin()), &keys) {
            prop_assert!(!parsed.signed || parsed.statement == statement, "{changed:?}");
        }
    }

    #[test]
    fn fuzz_checkpoints_of_noise(text in "(httt/H24\n)?[0-9]{0,25}\n?[A-Za-z0-9+/=]{0,60}\n{0,3}(— .{0,80}\n)?\\PC{0,40}") {
        let key = SigningKey::from_seed(&[1; 32]).expect("seed");
        let parsed = checkpoint::parse(&text, None, &[key.public().clone()]);
        prop_assert!(parsed.is_err() || parsed.is_ok_and(|parsed| !parsed.signed));
    }
}
