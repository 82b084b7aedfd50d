//! Chunks: bits flipped in each field, pages zeroed, files cut, swapped, doubled, missing, of another log.

use std::fs;
use std::path::Path;

use crate::common::{chunk, overwrite};
use crate::format::{COMMIT, Chunk, ENTRY, FRAME_BYTES, Frame, HEADER_BYTES};
use crate::healthy::Healthy;
use crate::tails::LastGroup;
use crate::{Case, Find, Opens, find, never_wrong, of_checkpoint};

/// Fields of a frame: name and a byte of it.
const FRAME_FIELDS: [(&str, usize); 6] =
    [("length", 0), ("CRC", 5), ("kind", 8), ("group", 9), ("position", 12), ("payload", 30)];
/// Fields of a header.
const HEADER_FIELDS: [(&str, usize); 8] = [
    ("magic", 3),
    ("version", 8),
    ("log id", 20),
    ("number", 28),
    ("first position", 32),
    ("created", 40),
    ("zeros", 50),
    ("CRC", 61),
];

fn flip(dir: &Path, number: u32, at: usize) {
    let path = chunk(dir, number);
    let mut bytes = fs::read(&path).expect("chunk");
    bytes[at] ^= 4;
    overwrite(&path, &bytes);
}

/// What the audit says when entries are missing: the checkpoint cannot be compared.
fn unchecked(healthy: &Healthy) -> Find {
    of_checkpoint(healthy.now.entries, "its root cannot be checked")
}

#[tokio::test]
async fn a_bit_flipped_in_every_field() {
    let healthy = Healthy::new().await;
    let last = LastGroup::of(&healthy.now.dir);
    for number in 0..=last.number {
        let whole = Chunk::read(&healthy.now.dir, number);
        let position = whole.header.first_position;
        for (field, at) in HEADER_FIELDS {
            let what = format!("a bit of the {field} in the header of chunk {number}");
            let opens = Opens::Damaged {
                chunk: number,
                offset: 0,
                // Only a header says where a chunk begins; without it, this is where the one before it began.
                position: number.checked_sub(1).map_or(0, |n| Chunk::read(&healthy.now.dir, n).header.first_position),
                what: "the chunk's header is unreadable",
            };
            let case = Case::new(what, opens, vec![], |dir: &Path| flip(dir, number, at));
            case.check_damage(&healthy, number, 0, position).await;
        }
        // An entry and a marker, at the beginning, in the middle and at the end, but not in the log's last group.
        let frames: Vec<&Frame> =
            whole.frames.iter().filter(|frame| number < last.number || frame.offset < last.start).collect();
        let of = |kind| frames.iter().filter(move |frame| frame.kind == kind).collect::<Vec<_>>();
        for frame in [ENTRY, COMMIT].into_iter().flat_map(|kind| {
            let frames = of(kind);
            [frames[0], frames[frames.len() / 2], frames[frames.len() - 1]]
        }) {
            for (field, at) in FRAME_FIELDS {
                let what = format!("a bit of the {field} of chunk {number}'s frame at byte {}", frame.offset);
                let (offset, position) = (frame.offset as u64, frame.position);
                let opens = Opens::Damaged { chunk: number, offset, position, what: "a later" };
                let harm = |dir: &Path| flip(dir, number, frame.offset + at);
                Case::new(&what, opens, vec![], harm).check_damage(&healthy, number, offset, position).await;
                never_wrong(&healthy, &what, harm).await;
            }
        }
    }
}

fn chunk_length(healthy: &Healthy, number: u32) -> u64 {
    fs::metadata(chunk(&healthy.now.dir, number)).expect("chunk").len()
}

#[tokio::test]
async fn fields_that_lie_under_a_right_checksum() {
    let healthy = Healthy::new().await;
    let dir = &healthy.now.dir;
    let number = 1;
    let whole = Chunk::read(dir, number);
    let middle = whole.frames.iter().filter(|frame| frame.kind == COMMIT).nth(3).expect("marker");
    let entry = whole.frames.iter().filter(|frame| frame.kind == ENTRY).nth(3).expect("entry");
    let place = |frame: &Frame, what| Opens::Damaged {
        chunk: number,
        offset: frame.offset as u64,
        position: frame.position,
        what,
    };
    // Commit marker: first position, entries, CRC, group start.
    for (field, at) in [("first", 0), ("entries", 8), ("CRC", 12), ("start", 16)] {
        let opens = place(middle, "a commit marker does not fit its group");
        let harm = |dir: &Path| forge(dir, number, middle.offset, |frame| frame.payload[at] ^= 4);
        let case = Case::new(format!("a marker's {field}"), opens, vec![], harm);
        case.check_damage(&healthy, number, middle.offset as u64, middle.position).await;
    }
    // Its time is nobody's proof; its root is that of the entries, which are all there.
    let harm = |dir: &Path| forge(dir, number, middle.offset, |frame| frame.payload[24] ^= 4);
    Case::new("a marker's time", Opens::Whole, vec![], harm).check(&healthy).await;
    let harm = |dir: &Path| forge(dir, number, middle.offset, |frame| frame.payload[40] ^= 4);
    let what = "the commit marker says another Merkle root";
    let finds = vec![find(number, middle.offset as u64, middle.position, what)];
    Case::new("a marker's root", place(middle, what), finds, harm).check(&healthy).await;
    // Frames that were good elsewhere.
    for (field, lie) in
        [("group", (|frame: &mut Frame| frame.group += 1) as fn(&mut Frame)), ("position", |frame| frame.position += 1)]
    {
        let harm = |dir: &Path| forge(dir, number, entry.offset, lie);
        let opens = place(entry, "a frame of another place stands here");
        let case = Case::new(format!("an entry's {field}"), opens, vec![], harm);
        case.check_damage(&healthy, number, entry.offset as u64, entry.position).await;
    }
    // The chunk's header.
    let first = whole.header.first_position;
    let header = |change: fn(&mut Chunk)| {
        move |dir: &Path| {
            let mut whole = Chunk::read(dir, 1);
            change(&mut whole);
            whole.header.write().iter().enumerate().for_each(|(at, byte)| set(dir, 1, at, *byte));
        }
    };
    let before = Chunk::read(dir, 0).header.first_position;
    let at = |offset, position, what| Opens::Damaged { chunk: 1, offset, position, what };
    let case = |name, opens, change| Case::new(name, opens, vec![], header(change));
    let cases = [
        case("another number", at(0, before, "the file holds chunk 2"), |whole| whole.header.number = 2),
        case("another log", at(0, before, "belongs to another log"), |whole| whole.header.log_id[3] ^= 1),
        case("another format", Opens::Format { chunk: 1, version: 2 }, |whole| whole.header.version = 2),
    ];
    for case in cases {
        case.check_opening(&healthy).await;
    }
    let end = chunk_length(&healthy, 0);
    let gap = Opens::Damaged { chunk: 0, offset: end, position: first, what: "begins at" };
    case("a later first position", gap, |whole| whole.header.first_position += 1).check_opening(&healthy).await;
}

fn set(dir: &Path, number: u32, at: usize, byte: u8) {
    let path = chunk(dir, number);
    let mut bytes = fs::read(&path).expect("chunk");
    bytes[at] = byte;
    overwrite(&path, &bytes);
}

/// Changes one frame and makes its checksum right again.
fn forge(dir: &Path, number: u32, offset: usize, change: impl Fn(&mut Frame)) {
    let mut whole = Chunk::read(dir, number);
    change(whole.frames.iter_mut().find(|frame| frame.offset == offset).expect("frame"));
    whole.write(dir);
}

#[tokio::test]
async fn pages_and_files() {
    let healthy = Healthy::new().await;
    let dir = &healthy.now.dir;
    let last = LastGroup::of(dir);
    let first_of = |number: u32| Chunk::read(dir, number).header.first_position;
    let read = |number: u32| fs::read(chunk(dir, number)).expect("chunk");

    // A page of zeros in the middle of a chunk.
    let middle = Chunk::read(dir, 1);
    let hit = middle.frames.iter().find(|frame| frame.end() > 4096).expect("frame");
    let (offset, position) = (hit.offset as u64, hit.position);
    let zeroed = |dir: &Path| {
        let mut bytes = read(1);
        bytes[4096..8192].fill(0);
        overwrite(&chunk(dir, 1), &bytes);
    };
    let opens = Opens::Damaged { chunk: 1, offset, position, what: "a later group begins at byte" };
    Case::new("a zeroed page", opens, vec![], zeroed).check_damage(&healthy, 1, offset, position).await;
    never_wrong(&healthy, "a zeroed page", zeroed).await;

    // The middle chunk cut: inside a frame, and where a group ends.
    let short =
        |length: usize| move |dir: &Path| overwrite(&chunk(dir, 1), &fs::read(chunk(dir, 1)).expect("chunk")[..length]);
    let opens = Opens::Damaged { chunk: 1, offset, position, what: "and a later chunk follows" };
    let inside = short(hit.offset + FRAME_BYTES + 1);
    Case::new("the middle chunk cut in a frame", opens, vec![], inside)
        .check_damage(&healthy, 1, offset, position)
        .await;
    let marker = middle.frames.iter().filter(|frame| frame.kind == COMMIT).nth(5).expect("marker");
    let (end, left) = (marker.end() as u64, marker.position);
    let what = "begins at";
    let opens = Opens::Damaged { chunk: 1, offset: end, position: left, what };
    Case::new("the middle chunk cut after a group", opens, vec![], short(marker.end()))
        .check_damage(&healthy, 1, end, left)
        .await;

    // The last chunk cut where a group ends: only the checkpoint knows.
    let before = last.first;
    let vouched = Opens::Lost { entries: before, checkpoint: healthy.now.entries };
    let lost = vec![of_checkpoint(healthy.now.entries, "it vouches for")];
    let cut = |dir: &Path| overwrite(&chunk(dir, last.number), &last.bytes[..last.start]);
    Case::new("the last chunk cut after a group", vouched, lost.clone(), cut).check(&healthy).await;

    // Files that changed places.
    let swapped = |dir: &Path| {
        overwrite(&chunk(dir, 1), &read(2));
        overwrite(&chunk(dir, 2), &read(1));
    };
    let opens = Opens::Damaged { chunk: 1, offset: 0, position: 0, what: "the file holds chunk 2" };
    Case::new("two chunks swapped", opens, vec![], swapped).check_opening(&healthy).await;
    let doubled = |dir: &Path| overwrite(&chunk(dir, last.number + 1), &read(1));
    let position = first_of(last.number);
    let opens = Opens::Damaged { chunk: last.number + 1, offset: 0, position, what: "the file holds chunk 1" };
    Case::new("a chunk twice", opens, vec![], doubled).check_opening(&healthy).await;

    // Files that are gone.
    let gone = |number: u32| move |dir: &Path| fs::remove_file(chunk(dir, number)).expect("chunk");
    let missing = |chunk, position| Opens::Damaged { chunk, offset: 0, position, what: "the chunk is missing" };
    let finds = vec![find(0, 0, 0, "the chunk is missing"), find(0, 0, 0, "begins at position"), unchecked(&healthy)];
    Case::new("the first chunk gone", missing(0, 0), finds, gone(0)).check_opening(&healthy).await;
    let finds = vec![
        find(1, 0, first_of(1), "the chunk is missing"),
        find(1, 0, first_of(1), "begins at position"),
        unchecked(&healthy),
    ];
    Case::new("a middle chunk gone", missing(1, 0), finds, gone(1)).check_opening(&healthy).await;
    let opens = Opens::Lost { entries: first_of(last.number), checkpoint: healthy.now.entries };
    Case::new("the last chunk gone", opens, lost, gone(last.number)).check(&healthy).await;

    // A chunk of another log, even of the same node and with the right number and position.
    let foreign = fs::read(chunk(&healthy.again.dir, 1)).expect("chunk");
    let mixed = |dir: &Path| overwrite(&chunk(dir, 1), &foreign);
    let opens = Opens::Damaged { chunk: 1, offset: 0, position: 0, what: "the chunk belongs to another log" };
    Case::new("a chunk of another log", opens, vec![], mixed).check_opening(&healthy).await;

    // A file that was begun and has no header yet holds nothing.
    let begun = |dir: &Path| overwrite(&chunk(dir, last.number + 1), &[0; HEADER_BYTES]);
    let opens = Opens::Cut { chunk: last.number + 1, offset: 0, entries: healthy.now.entries };
    let finds = vec![find(last.number + 1, 0, healthy.now.entries, "an empty chunk without header")];
    Case::new("a chunk just begun", opens, finds, begun).check(&healthy).await;
}
