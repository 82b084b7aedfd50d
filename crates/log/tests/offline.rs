//! A log's files can be read without its node, also while the node writes.

mod common;

use common::{append, chunk, open, overwrite, small_chunks, try_open_with};
use httt_log::{Entry, ReadError, scan_entries};

fn positions(entries: impl Iterator<Item = Result<Entry, ReadError>>) -> Vec<u64> {
    entries.map(|entry| entry.expect("entry").position).collect()
}

#[tokio::test]
async fn entries_come_in_order_across_chunks_while_the_log_is_open() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = try_open_with(dir.path(), small_chunks(2_000)).expect("open");
    for n in 0..40 {
        log.commit(append("s", n, "x")).await.expect("commit");
    }
    assert!(chunk(dir.path(), 1).exists(), "several chunks");
    let read: Vec<Entry> = scan_entries(dir.path()).expect("scan").collect::<Result<_, _>>().expect("entries");
    let bytes = |entries: &[Entry]| entries.iter().map(|entry| entry.bytes.clone()).collect::<Vec<_>>();
    assert_eq!(bytes(&read), bytes(&log.read(0, 100, 1 << 20).expect("read")));
    log.close().await;
}

#[tokio::test]
async fn a_torn_tail_ends_it_and_damage_is_an_error() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    for n in 0..10 {
        log.commit(append("s", n, "x")).await.expect("commit");
    }
    log.close().await;
    let path = chunk(dir.path(), 0);
    let whole = std::fs::read(&path).expect("chunk");
    overwrite(&path, &whole[..whole.len() - 5]);
    assert_eq!(positions(scan_entries(dir.path()).expect("scan")), (0..9).collect::<Vec<_>>());
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle] ^= 1;
    overwrite(&path, &flipped);
    let results: Vec<_> = scan_entries(dir.path()).expect("scan").collect();
    assert!(matches!(results.last(), Some(Err(ReadError::Damaged(damage))) if damage.offset as usize <= middle));
    assert!(results[..results.len() - 1].iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_missing_or_shortened_chunk_is_not_passed_over() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = try_open_with(dir.path(), small_chunks(2_000)).expect("open");
    for n in 0..40 {
        log.commit(append("s", n, "x")).await.expect("commit");
    }
    log.close().await;
    let ends_damaged = || matches!(scan_entries(dir.path()).expect("scan").last(), Some(Err(ReadError::Damaged(_))));
    assert!(!ends_damaged());
    let aside = dir.path().join("aside");
    std::fs::rename(chunk(dir.path(), 1), &aside).expect("rename");
    assert!(ends_damaged(), "chunk 1 is gone");
    std::fs::rename(&aside, chunk(dir.path(), 1)).expect("rename");
    let first = std::fs::read(chunk(dir.path(), 0)).expect("chunk");
    overwrite(&chunk(dir.path(), 0), &first[..64]);
    assert!(ends_damaged(), "chunk 0 has lost its groups");
}
