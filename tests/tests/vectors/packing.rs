//! Packed entries: what unpacks, into what, and what is refused.

use bytes::Bytes;
use httt_feed::{Digest, Lane};
use httt_node::exchange::{DICTIONARY, MAX_UNPACKED_BYTES, OnTheWire, pack, unpack};
use httt_wire::Message as _;
use httt_wire::exchange::{Entries, RefusalCode};
use serde_json::{Value, json};

use super::judge::told;
use super::make::chain;
use super::parts::{bytes_json, bytes_of};

/// What a zstd frame begins with.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Largest block of a zstd frame.
const MAX_BLOCK: usize = 128 * 1024;

fn encoded(entries: &[Bytes]) -> Vec<u8> {
    Entries { entries: entries.to_vec() }.encode_to_vec()
}

/// A zstd frame written by hand (RFC 8878): `head` as a raw block, then so many zeros as blocks of one repeated byte.
fn frame(head: &[u8], zeros: usize) -> Bytes {
    let block = |last: bool, kind: u32, size: usize, content: &[u8]| {
        let header = u32::from(last) | kind << 1 | (size as u32) << 3;
        [&header.to_le_bytes()[..3], content].concat()
    };
    // No content size, no checksum, no dictionary; a window of 1 MiB.
    let mut frame = [&MAGIC[..], &[0x00, 0x50]].concat();
    frame.extend(block(zeros == 0, 0, head.len(), head));
    let mut left = zeros;
    while left > 0 {
        let size = left.min(MAX_BLOCK);
        left -= size;
        frame.extend(block(left == 0, 1, size, &[0]));
    }
    frame.into()
}

/// One entry of zeros, its message of `size` bytes, as a frame of a few bytes.
fn zeros(size: usize) -> Bytes {
    let head = 4;
    let message = encoded(&[Bytes::from(vec![0; size - head])]);
    assert_eq!(message.len(), size, "a length of three bytes");
    frame(&message[..head], size - head)
}

/// What a compressor made, kept as it is: another version of it makes other bytes of the same entries.
fn kept(name: &str, make: impl FnOnce() -> Bytes) -> Bytes {
    if super::writes() {
        return make();
    }
    let stored = super::stored("packing.json");
    let case = stored["cases"].as_array().expect("list").iter().find(|case| case["name"] == name);
    bytes_of(&case.unwrap_or_else(|| panic!("no case {name}"))["packed"]).into()
}

fn case(name: &str, about: &str, message: OnTheWire, expected: RefusalCode, entries: Option<&[Bytes]>) -> Value {
    let unpacked = unpack(message.clone());
    let told = told(unpacked.as_ref().err());
    assert_eq!(told["number"], i32::from(expected), "{name}: {unpacked:?}");
    assert_eq!(unpacked.as_deref().ok(), entries, "{name}");
    let list = |entries: &[Bytes]| entries.iter().map(|entry| bytes_json(entry)).collect::<Vec<_>>();
    json!({
        "name": name,
        "about": about,
        "entries": list(&message.entries),
        "packed": bytes_json(&message.packed),
        "expected": told,
        "unpacked": entries.map(list),
    })
}

pub(crate) fn packing() -> Value {
    use RefusalCode::{Malformed, Unspecified as Good};
    let entries = chain().map(|sealed| sealed.bytes).to_vec();
    let packed = |packed: Bytes| OnTheWire { entries: vec![], packed };
    let with = kept("with-dictionary", || pack(Lane::Content, entries.clone()).packed);
    let without =
        kept("without-dictionary", || zstd::bulk::compress(&encoded(&entries), 3).expect("compresses").into());
    let both = OnTheWire { entries: entries.clone(), packed: with.clone() };
    let largest = [Bytes::from(vec![0; MAX_UNPACKED_BYTES - 4])];
    let cut = with.slice(..with.len() - 1);
    let cases = [
        case("plain", "not packed", OnTheWire::plain(entries.clone()), Good, Some(&entries)),
        case("with-dictionary", "a frame made with the dictionary", packed(with), Good, Some(&entries)),
        case("without-dictionary", "a frame made without it", packed(without), Good, Some(&entries)),
        case("by-hand", "a frame that compresses nothing", packed(frame(&encoded(&entries), 0)), Good, Some(&entries)),
        case("none", "neither: no entries", OnTheWire::default(), Good, Some(&[])),
        case("largest", "as much as may be packed", packed(zeros(MAX_UNPACKED_BYTES)), Good, Some(&largest)),
        case(
            "bomb",
            "one byte more, and the frame does not say so",
            packed(zeros(MAX_UNPACKED_BYTES + 1)),
            Malformed,
            None,
        ),
        case("large-bomb", "64 MiB in 2 kB", packed(zeros_of_64_mib()), Malformed, None),
        case("both", "packed and plain at once", both, Malformed, None),
        case("cut", "a frame without its last byte", packed(cut), Malformed, None),
        case("no-frame", "no zstd frame", packed(Bytes::from_static(&[0xff; 16])), Malformed, None),
        case("no-entries", "a frame of what is no Entries", packed(frame(&[0xff; 16], 0)), Malformed, None),
    ];
    json!({
        "dictionary": { "bytes": hex::encode(DICTIONARY), "sha256": Digest::of(DICTIONARY).to_string() },
        "max_unpacked_bytes": MAX_UNPACKED_BYTES,
        "cases": cases,
    })
}

fn zeros_of_64_mib() -> Bytes {
    frame(&[], 64 * 1024 * 1024)
}
