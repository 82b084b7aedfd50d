//! The last group, torn: opening cuts it and says so, if no checkpoint vouches for it.

use std::fs;
use std::path::Path;

use crate::common::{chunk, overwrite};
use crate::format::{COMMIT, Chunk, FRAME_BYTES};
use crate::healthy::Healthy;
use crate::{Case, Find, Opens, find, of_checkpoint};

/// The last group: its chunk, where it begins, the position of its first entry, and the whole chunk.
pub(crate) struct LastGroup {
    pub(crate) number: u32,
    pub(crate) start: usize,
    pub(crate) first: u64,
    pub(crate) chunk: Chunk,
    pub(crate) bytes: Vec<u8>,
}

impl LastGroup {
    pub(crate) fn of(dir: &Path) -> Self {
        let number = fs::read_dir(dir.join("chunks")).expect("chunks").count() as u32 - 1;
        let bytes = fs::read(chunk(dir, number)).expect("chunk");
        let chunk = Chunk::read(dir, number);
        let group = chunk.frames.last().expect("frame").group;
        let frame = chunk.frames.iter().find(|frame| frame.group == group).expect("frame");
        let (start, first) = (frame.offset, frame.position);
        Self { number, start, first, chunk, bytes }
    }
}

/// As `now`, with a checkpoint that vouches for the first part only.
pub(crate) fn stale_checkpoint(healthy: &Healthy, dir: &Path) {
    overwrite(&dir.join("checkpoint"), &fs::read(healthy.older.dir.join("checkpoint")).expect("checkpoint"));
}

fn cut(last: &LastGroup) -> Opens {
    Opens::Cut { chunk: last.number, offset: last.start as u64, entries: last.first }
}

#[tokio::test]
async fn torn_at_every_byte() {
    let healthy = Healthy::new().await;
    let last = LastGroup::of(&healthy.now.dir);
    // Each byte of the frames' headers and of the marker, and every 97th of the long payloads.
    let near = |at: usize| {
        last.chunk.frames.iter().any(|frame| {
            frame.offset >= last.start
                && (at.abs_diff(frame.offset) <= FRAME_BYTES || (frame.kind == COMMIT && at >= frame.offset))
        })
    };
    for length in (last.start..last.bytes.len()).filter(|at| near(*at) || at % 97 == 0) {
        let harm = |dir: &Path| {
            stale_checkpoint(&healthy, dir);
            overwrite(&chunk(dir, last.number), &last.bytes[..length]);
        };
        let frame = last.chunk.frames.iter().rev().find(|frame| frame.offset <= length).expect("frame");
        let (opens, finds) = if length == last.start {
            // Cut just where a group ended, and vouched for by nobody: no trace is left that there was more.
            (Opens::Shorter(last.first), vec![])
        } else {
            let torn = find(last.number, frame.offset as u64, frame.position, "nothing readable follows: a torn tail");
            (cut(&last), vec![torn])
        };
        Case::new(format!("cut to {length} bytes"), opens, finds, harm).check(&healthy).await;
    }
}

#[tokio::test]
async fn torn_otherwise() {
    let healthy = Healthy::new().await;
    let last = LastGroup::of(&healthy.now.dir);
    let frames: Vec<_> = last.chunk.frames.iter().filter(|frame| frame.offset >= last.start).cloned().collect();
    let torn = |frame: &crate::format::Frame| -> Vec<Find> {
        vec![find(last.number, frame.offset as u64, frame.position, "nothing readable follows: a torn tail")]
    };
    for frame in &frames {
        // Length, checksum, kind, group, position, payload: each with a bit flipped.
        for (field, at) in [("length", 0), ("CRC", 4), ("kind", 8), ("group", 9), ("position", 12), ("payload", 20)] {
            let harm = |dir: &Path| {
                stale_checkpoint(&healthy, dir);
                let mut bytes = last.bytes.clone();
                bytes[frame.offset + at] ^= 4;
                overwrite(&chunk(dir, last.number), &bytes);
            };
            let name = format!("a bit of the {field} of the last group's frame at byte {}", frame.offset);
            Case::new(name, cut(&last), torn(frame), harm).check(&healthy).await;
        }
    }
    // A page that never reached the disk.
    let page = last.start.next_multiple_of(4096);
    assert!(page + 4096 <= last.bytes.len(), "the last group holds a whole page");
    let hit = frames.iter().find(|frame| frame.end() > page).expect("frame");
    let zeroed = |dir: &Path| {
        stale_checkpoint(&healthy, dir);
        let mut bytes = last.bytes.clone();
        bytes[page..page + 4096].fill(0);
        overwrite(&chunk(dir, last.number), &bytes);
    };
    Case::new("a zeroed page in the last group", cut(&last), torn(hit), zeroed).check(&healthy).await;
    // With the present checkpoint the same is loss of what was promised, and opening refuses.
    let lost = |dir: &Path| overwrite(&chunk(dir, last.number), &last.bytes[..last.bytes.len() - 1]);
    let opens = Opens::Lost { entries: last.first, checkpoint: healthy.now.entries };
    let mut finds = torn(frames.last().expect("frame"));
    finds.push(of_checkpoint(healthy.now.entries, "it vouches for"));
    Case::new("torn where the checkpoint vouches", opens, finds, lost).check(&healthy).await;
}
