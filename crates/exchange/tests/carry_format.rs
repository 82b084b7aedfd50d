//! The file format: whatever the bytes are, the reader says so and stays within its limits.

use bytes::Bytes;
use httt_exchange::MAX_MEDIA_RANGE;
use httt_exchange::carry::*;
use httt_feed::{AgencyCode, Digest, FeedId, Head};
use proptest::prelude::*;

fn feed(text: &str) -> FeedId {
    text.parse().expect("feed")
}

fn head(sequence: u64) -> Head {
    Head { sequence, digest: Digest::of(&sequence.to_be_bytes()) }
}

fn manifest() -> Manifest {
    let media = Digest::of(b"media");
    let part = |until| MediaPart { digest: media, size: 10, from: 0, until };
    Manifest {
        maker: AgencyCode::new("NDXP").expect("code"),
        reader: AgencyCode::new("H24").expect("code"),
        made_at_ms: 1_763_700_000_000,
        log_id: vec![7; 16],
        position: 99,
        ranges: vec![Range { feed: feed("TW→*/content"), first: 3, last: head(5) }],
        held: vec![(feed("H24→TW/report"), head(2))],
        reached: vec![(feed("TW→*/content"), head(5))],
        media: vec![part(4)],
        wanted: vec![part(6)],
        more: true,
        away: vec![Away { feed: feed("TW→*/emergency"), after: 4, until: 6 }],
    }
}

fn piece() -> MediaPiece {
    MediaPiece { digest: Digest::of(b"media"), size: 10, offset: 0, data: Bytes::from_static(b"half") }
}

fn entries() -> Vec<Bytes> {
    vec![Bytes::from_static(b"three"), Bytes::from_static(b"four"), Bytes::from_static(b"five")]
}

/// A small file, and where each of its frames begins.
fn file() -> (Vec<u8>, Vec<usize>) {
    let (mut encoder, first) = Encoder::begin(&manifest());
    let mut bytes = first.to_vec();
    let mut starts = vec![0, 12];
    for frame in [encoder.entries(&feed("TW→*/content"), entries()).expect("packs"), encoder.media(piece())] {
        starts.push(bytes.len());
        bytes.extend_from_slice(&frame);
    }
    starts.push(bytes.len());
    bytes.extend_from_slice(&encoder.end());
    (bytes, starts)
}

/// Reads in pieces of the sizes given, over and over.
fn read(bytes: &[u8], sizes: &[usize]) -> (Vec<Part>, Result<(), FormatError>) {
    let (mut decoder, mut parts, mut rest) = (Decoder::default(), Vec::new(), bytes);
    for size in sizes.iter().cycle() {
        let (now, later) = rest.split_at((*size).min(rest.len()));
        decoder.push(now);
        rest = later;
        loop {
            match decoder.next_part() {
                Ok(Some(part)) => parts.push(part),
                Ok(None) => break,
                Err(error) => return (parts, Err(error)),
            }
        }
        if rest.is_empty() {
            break;
        }
    }
    (parts, decoder.finish())
}

fn whole() -> Vec<Part> {
    vec![
        Part::Manifest(Box::new(manifest())),
        Part::Entries { feed: feed("TW→*/content"), entries: entries() },
        Part::Media(piece()),
        Part::End,
    ]
}

#[test]
fn a_file_reads_as_it_was_written() {
    let (bytes, _) = file();
    assert_eq!(read(&bytes, &[bytes.len()]), (whole(), Ok(())));
}

#[test]
fn a_file_cut_anywhere_is_torn_and_gives_what_was_whole() {
    let (bytes, starts) = file();
    for length in 0..bytes.len() {
        let (parts, end) = read(&bytes[..length], &[64]);
        let FormatError { offset, fault } = end.expect_err("torn");
        assert_eq!(fault, Fault::Torn, "{length}");
        assert!(starts.contains(&(offset as usize)) && offset as usize <= length, "{length}: {offset}");
        assert_eq!(parts, whole()[..parts.len()], "{length}");
        // Of the header nothing is given out; every frame that is whole is.
        let frames = starts[2..].iter().filter(|start| **start <= length).count();
        assert_eq!(parts.len(), frames, "{length}");
    }
}

#[test]
fn a_flipped_bit_anywhere_is_told_at_its_frame() {
    let (bytes, starts) = file();
    for at in 0..bytes.len() {
        for bit in [0x01, 0x80] {
            let mut bad = bytes.clone();
            bad[at] ^= bit;
            let (parts, end) = read(&bad, &[bytes.len()]);
            let error = end.expect_err("damaged");
            let frame = *starts.iter().rfind(|start| **start <= at).expect("frame");
            assert_eq!(error.offset as usize, frame, "byte {at}: {error}");
            assert_eq!(parts, whole()[..parts.len()], "nothing of it is believed: byte {at}");
            assert!(!parts.contains(&Part::End), "byte {at}");
        }
    }
}

#[test]
fn what_is_intact_and_not_allowed_is_refused() {
    let refused = |bytes: Vec<u8>, what: &str| {
        let text = read(&bytes, &[1_000]).1.expect_err(what).to_string();
        assert!(text.contains(what), "{text}");
    };
    let begun = || {
        let (encoder, first) = Encoder::begin(&manifest());
        (encoder, first.to_vec())
    };
    let (mut encoder, mut bytes) = begun();
    bytes.extend_from_slice(&encoder.entries(&feed("H55→TW/report"), entries()).expect("packs"));
    refused(bytes, "which the manifest does not name");

    let (mut encoder, mut bytes) = begun();
    bytes.extend_from_slice(&encoder.entries(&feed("TW→*/content"), Vec::new()).expect("packs"));
    refused(bytes, "a pack of 0 entries");

    // A bomb: a few bytes that unpack to more than a pack may have.
    let (mut encoder, mut bytes) = begun();
    let bomb = vec![Bytes::from(vec![0; MAX_PACK_BYTES + 1])];
    let frame = encoder.entries(&feed("TW→*/content"), bomb).expect("packs");
    assert!(frame.len() < 1_000, "{}", frame.len());
    bytes.extend_from_slice(&frame);
    refused(bytes, "does not unpack");

    let (mut encoder, mut bytes) = begun();
    bytes.extend_from_slice(&encoder.media(MediaPiece { digest: Digest::of(b"other"), ..piece() }));
    refused(bytes, "which the manifest does not name");

    for offset in [7, u64::MAX] {
        let (mut encoder, mut bytes) = begun();
        bytes.extend_from_slice(&encoder.media(MediaPiece { offset, ..piece() }));
        refused(bytes, "cannot be part of it");
    }
    let (mut encoder, mut bytes) = begun();
    let size = 10 * MAX_MEDIA_RANGE as u64;
    let data = Bytes::from(vec![0; MAX_MEDIA_RANGE + 1]);
    bytes.extend_from_slice(&encoder.media(MediaPiece { size, data, ..piece() }));
    refused(bytes, "cannot be part of it");

    // Entries after media, and anything after the end.
    let (mut encoder, mut bytes) = begun();
    bytes.extend_from_slice(&encoder.media(piece()));
    bytes.extend_from_slice(&encoder.entries(&feed("TW→*/content"), entries()).expect("packs"));
    refused(bytes, "does not belong here");
    let (mut bytes, _) = file();
    bytes.push(0);
    refused(bytes, "bytes follow");
}

#[test]
fn a_manifest_that_names_too_much_is_refused() {
    let refused = |manifest: Manifest, what: &str| {
        let (_, bytes) = Encoder::begin(&manifest);
        let text = read(&bytes, &[bytes.len()]).1.expect_err(what).to_string();
        assert!(text.contains(what), "{text}");
    };
    let heads = vec![(feed("TW→*/content"), head(1)); MAX_CARRIED_FEEDS + 1];
    let parts = vec![manifest().media[0]; MAX_CARRIED_MEDIA + 1];
    let ranges = vec![manifest().ranges[0].clone(); MAX_CARRIED_FEEDS + 1];
    refused(Manifest { held: heads.clone(), ..manifest() }, "held: 8193");
    refused(Manifest { reached: heads, ..manifest() }, "reached: 8193");
    refused(Manifest { media: parts.clone(), ..manifest() }, "media: 8193");
    refused(Manifest { wanted: parts, ..manifest() }, "wanted: 8193");
    refused(Manifest { ranges, ..manifest() }, "ranges: 8193");
    refused(Manifest { log_id: vec![1; 15], ..manifest() }, "log_id");
    let backwards = Range { first: 9, ..manifest().ranges[0].clone() };
    refused(Manifest { ranges: vec![backwards], ..manifest() }, "ranges");
    let beyond = MediaPart { until: 11, ..manifest().media[0] };
    refused(Manifest { media: vec![beyond], ..manifest() }, "media");
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_anything_is_kept() {
    let (_, first) = Encoder::begin(&manifest());
    let frame = |kind: u8, length: usize| {
        let mut bytes = if kind == 1 { first[..12].to_vec() } else { first.to_vec() };
        bytes.push(kind);
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        read(&bytes, &[bytes.len()]).1.expect_err("refused").fault
    };
    for (kind, limit) in [(1, MAX_MANIFEST_BYTES), (2, MAX_FRAME_BYTES), (3, MAX_FRAME_BYTES), (4, 0)] {
        assert_eq!(frame(kind, limit), Fault::Torn, "kind {kind}: the limit itself is allowed");
        assert!(matches!(frame(kind, limit + 1), Fault::TooLarge { .. }), "kind {kind}");
    }
}

#[test]
fn another_kind_of_file_and_a_later_version_are_told_apart() {
    assert_eq!(read(b"PK\x03\x04 and so on", &[4]).1.expect_err("zip").fault, Fault::NotFeeds);
    let (mut bytes, _) = file();
    bytes[8] = 2;
    assert_eq!(read(&bytes, &[4]).1.expect_err("later").fault, Fault::Version(2));
    assert_eq!(read(b"", &[4]).1.expect_err("empty").fault, Fault::Torn);
}

proptest! {
    #[test]
    fn how_the_bytes_arrive_changes_nothing(sizes in prop::collection::vec(1_usize..300, 1..20)) {
        let (bytes, _) = file();
        prop_assert_eq!(read(&bytes, &sizes), (whole(), Ok(())));
    }

    #[test]
    fn no_bytes_make_the_reader_believe_or_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..2_000),
        keep in 0_usize..600,
        sizes in prop::collection::vec(1_usize..300, 1..5),
    ) {
        // A good beginning of any length, and rubbish after it.
        let (good, _) = file();
        let keep = keep.min(good.len() - 1);
        prop_assume!(!good[keep..].starts_with(&bytes));
        let file = [&good[..keep], bytes.as_slice()].concat();
        let (parts, end) = read(&file, &sizes);
        prop_assert!(end.is_err());
        prop_assert_eq!(&parts, &whole()[..parts.len()]);
    }
}
