//! Damage that is no torn tail is never silent: opening refuses, reading says where, audit names it.

mod common;

use std::fs;
use std::path::Path;

use common::{append, chunk, copy_dir, open, overwrite, restore_dir, small_chunks, try_open, try_open_with};
use httt_log::{AuditOptions, Damage, Log, OpenError, ReadError};

/// Three chunks of several groups each, closed.
async fn three_chunks(dir: &Path) {
    let (log, _) = try_open_with(dir, small_chunks(1_100)).expect("open");
    let mut id = 0;
    while !chunk(dir, 2).exists() {
        id += 1;
        log.commit(append("s", id, "text")).await.expect("commit");
    }
    for id in 1_000..1_002 {
        log.commit(append("s", id, "text")).await.expect("commit");
    }
    log.close().await;
}

/// Start of each frame in a chunk, with its length and whether it is an entry.
fn frames(bytes: &[u8]) -> Vec<(usize, usize, bool)> {
    let (mut at, mut frames) = (64, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        frames.push((at, 20 + length, bytes[at + 8] == 1));
        at += 20 + length;
    }
    frames
}

fn findings(dir: &Path) -> Vec<httt_log::Finding> {
    let report = httt_log::audit(dir, AuditOptions::default()).expect("audit");
    // The logs of these tests do not begin with LogOpened, which is a finding of its own, and so is that nobody
    // vouches for the checkpoint's key.
    report
        .findings
        .into_iter()
        .filter(|finding| {
            !finding.what.contains("does not begin with") && !finding.what.contains("no key of this node")
        })
        .collect()
}

#[tokio::test]
async fn a_flipped_bit_anywhere_before_the_last_group_is_named_by_audit() {
    let dir = tempfile::tempdir().expect("dir");
    three_chunks(dir.path()).await;
    assert_eq!(findings(dir.path()), []);
    for number in 0..3 {
        let name = format!("{number:08}.chunk");
        let path = chunk(dir.path(), number);
        let good = fs::read(&path).expect("read");
        let frames = frames(&good);
        let last_group = if number == 2 { frames[frames.len() - 2].0 } else { good.len() };
        for at in 0..last_group {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            overwrite(&path, &bytes);
            let found = findings(dir.path());
            let start = frames.iter().rev().find(|(start, ..)| *start <= at).map_or(0, |(start, ..)| *start);
            assert!(
                found.iter().any(|finding| finding.chunk == name && finding.offset == start as u64),
                "byte {at} of {name}: {found:?}"
            );
        }
        overwrite(&path, &good);
    }
}

#[tokio::test]
async fn opening_refuses_a_flipped_bit_and_says_where() {
    let (base, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    three_chunks(base.path()).await;
    fs::remove_dir_all(base.path().join("index")).expect("remove");
    let mut position = 0;
    for number in 0..3 {
        let good = fs::read(chunk(base.path(), number)).expect("read");
        let frames = frames(&good);
        let until = if number == 2 { frames.len() - 2 } else { frames.len() };
        for (start, length, is_entry) in &frames[..until] {
            // Length, checksum, kind, group, position, first and last byte of the payload.
            for at in [0, 4, 8, 9, 12, 20, length - 1].map(|at| start + at) {
                restore_dir(base.path(), dir.path());
                let mut bytes = good.clone();
                bytes[at] ^= 0x10;
                overwrite(&chunk(dir.path(), number), &bytes);
                match try_open(dir.path()) {
                    Err(OpenError::Damaged(Damage { chunk, offset, position: at, .. })) => {
                        assert_eq!((chunk, offset), (format!("{number:08}.chunk"), *start as u64));
                        assert_eq!(at, position);
                    }
                    other => panic!("byte {at} of chunk {number}: {other:?}"),
                }
                assert_eq!(fs::read(chunk(dir.path(), number)).expect("read"), bytes, "evidence is left as it is");
            }
            position += u64::from(*is_entry);
        }
    }
}

fn read_all(log: &Log) -> Result<usize, ReadError> {
    log.read(0, usize::MAX, usize::MAX).map(|entries| entries.len())
}

#[tokio::test]
async fn reading_says_where_the_damage_is_and_leaves_the_rest_readable() {
    let dir = tempfile::tempdir().expect("dir");
    three_chunks(dir.path()).await;
    let log = open(dir.path());
    let all = read_all(&log).expect("read");
    let path = chunk(dir.path(), 0);
    let good = fs::read(&path).expect("read");
    let write = |bytes: &[u8]| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
        fs::write(&path, bytes).expect("write");
    };
    let entries: Vec<_> = frames(&good).into_iter().filter(|(.., is_entry)| *is_entry).collect();
    for (position, (start, length, _)) in entries.iter().enumerate() {
        for at in *start..start + length {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            write(&bytes);
            let Err(ReadError::Damaged(damage)) = read_all(&log) else { panic!("byte {at} went unnoticed") };
            assert_eq!((damage.chunk.as_str(), damage.offset), ("00000000.chunk", *start as u64));
            assert_eq!(damage.position, position as u64);
        }
    }
    assert_eq!(log.read(entries.len() as u64, usize::MAX, usize::MAX).expect("read").len(), all - entries.len());
    write(&good[..200]);
    assert!(matches!(read_all(&log), Err(ReadError::Damaged(_))));
    write(&good);
    assert_eq!(read_all(&log), Ok(all));
}

type Harm<'a> = &'a dyn Fn(&Path);

#[tokio::test]
async fn missing_swapped_and_foreign_chunks_are_refused() {
    let (base, other, dir) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    three_chunks(base.path()).await;
    three_chunks(other.path()).await;
    let harm: [(&str, u32, Harm<'_>); 6] = [
        ("missing first", 0, &|dir| fs::remove_file(chunk(dir, 0)).expect("remove")),
        ("missing", 1, &|dir| fs::remove_file(chunk(dir, 1)).expect("remove")),
        ("swapped", 0, &|dir| {
            fs::rename(chunk(dir, 0), dir.join("x")).expect("rename");
            fs::rename(chunk(dir, 1), chunk(dir, 0)).expect("rename");
            fs::rename(dir.join("x"), chunk(dir, 1)).expect("rename");
        }),
        ("foreign", 1, &|dir| overwrite(&chunk(dir, 1), &fs::read(chunk(other.path(), 1)).expect("read"))),
        ("shortened by a group", 0, &|dir| {
            let bytes = fs::read(chunk(dir, 0)).expect("read");
            let frames = frames(&bytes);
            overwrite(&chunk(dir, 0), &bytes[..frames[frames.len() - 2].0]);
        }),
        ("shortened within a group", 0, &|dir| {
            let bytes = fs::read(chunk(dir, 0)).expect("read");
            overwrite(&chunk(dir, 0), &bytes[..bytes.len() - 5]);
        }),
    ];
    for (what, number, harm) in harm {
        for keep_index in [true, false] {
            restore_dir(base.path(), dir.path());
            harm(dir.path());
            if !keep_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            let named = |name: &str| name == format!("{number:08}.chunk");
            match try_open(dir.path()) {
                Err(OpenError::Damaged(damage)) => assert!(named(&damage.chunk), "{what}: {damage}"),
                other => panic!("{what}: {other:?}"),
            }
            let found = findings(dir.path());
            assert!(found.iter().any(|finding| named(&finding.chunk)), "{what}: {found:?}");
        }
    }
}

#[tokio::test]
async fn a_header_of_a_later_format_is_refused_as_such() {
    let (base, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    three_chunks(base.path()).await;
    copy_dir(base.path(), &dir.path().join("log"));
    let dir = dir.path().join("log");
    let mut bytes = fs::read(chunk(&dir, 1)).expect("read");
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    overwrite(&chunk(&dir, 1), &bytes);
    assert!(matches!(try_open(&dir), Err(OpenError::Format { version: 2, .. })));
}
