//! A log closed and opened again is the same log; chunks roll and are sealed.

mod common;

use std::fs;

use common::{Foreign, append, chunk, event, everything, open, options, small_chunks, try_open, try_open_with};
use httt_log::{IndexState, Log, Transaction};

#[tokio::test]
async fn nothing_changes_by_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, report) = try_open(dir.path()).expect("open");
    assert!(report.created && report.entries == 0 && report.cut.is_none());
    assert_eq!(report.index, IndexState::Created);
    let id = log.log_id();
    let mut foreign = Foreign::new("TW→*/content", 9);
    for n in 0..10 {
        log.commit(append("s", n, "x")).await.expect("commit");
        log.commit(Transaction::copy(foreign.batches(2))).await.expect("copy");
    }
    let before = everything(&log);
    log.close().await;
    for _ in 0..3 {
        let (log, report) = try_open(dir.path()).expect("open");
        assert!(!report.created && report.cut.is_none());
        assert_eq!((report.log_id, report.entries, report.checkpoint), (id, 30, Some(30)));
        assert_eq!(report.index, IndexState::Kept { caught_up: 0 });
        assert_eq!(everything(&log), before);
        log.close().await;
    }
    let log = open(dir.path());
    assert_eq!(log.commit(append("s", 100, "x")).await.expect("commit").versions, [11]);
}

#[tokio::test]
async fn full_chunks_are_read_only_and_groups_stay_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = try_open_with(dir.path(), small_chunks(2_000)).expect("open");
    for n in 0..40 {
        log.commit(append("s", n, "some text to fill chunks with")).await.expect("commit");
    }
    // A group larger than a chunk gets one of its own.
    let large = (100..200).map(|n| event("t", n, "x"));
    log.commit(Transaction::append(large)).await.expect("commit");
    log.commit(append("s", 300, "x")).await.expect("commit");
    let before = everything(&log);
    log.close().await;
    let count = fs::read_dir(dir.path().join("chunks")).expect("list").count() as u32;
    assert!(count > 5);
    for number in 0..count {
        let data = fs::metadata(chunk(dir.path(), number)).expect("metadata");
        assert_eq!(data.permissions().readonly(), number + 1 < count, "chunk {number}");
    }
    let (log, report) = try_open_with(dir.path(), small_chunks(2_000)).expect("open");
    assert!(matches!(report.index, IndexState::Kept { .. }));
    assert_eq!(everything(&log), before);
    log.close().await;
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let (log, report) = try_open_with(dir.path(), options()).expect("open");
    assert!(matches!(report.index, IndexState::Rebuilt { .. }));
    assert_eq!(everything(&log), before);
}

#[tokio::test]
async fn a_second_handle_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let refused = try_open(dir.path()).expect_err("locked");
    assert!(refused.to_string().contains("open already"), "{refused}");
    assert!(matches!(
        httt_log::audit(dir.path(), httt_log::AuditOptions::default()),
        Err(httt_log::AuditError::InUse { .. })
    ));
    let subscription = log.subscribe(0);
    log.close().await;
    try_open(dir.path()).expect_err("a reader is left");
    drop(subscription);
    let (log, _): (Log, _) = try_open(dir.path()).expect("open");
    assert!(log.is_empty());
}
