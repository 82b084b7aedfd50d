//! A subscription catches up, turns live, ends with the log.

mod common;

use common::{append, open};
use httt_log::{CommitError, ReadError};

#[tokio::test]
async fn catches_up_then_waits_then_ends() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    for id in 0..200 {
        log.commit(append("s", id, "x")).await.expect("commit");
    }
    let mut subscription = log.subscribe(5);
    let mut late = log.subscribe(202);
    for position in 5..200 {
        assert_eq!(subscription.next().await.expect("next").position, position);
    }
    assert_eq!(subscription.position(), 200);
    let waiting = tokio::spawn(async move {
        let first = subscription.next().await.expect("next").position;
        (first, subscription)
    });
    log.commit(append("s", 200, "x")).await.expect("commit");
    let (first, mut subscription) = waiting.await.expect("task");
    assert_eq!(first, 200);
    for id in 201..204 {
        log.commit(append("s", id, "x")).await.expect("commit");
    }
    let clone = log.clone();
    log.close().await;
    // What was committed before the end is still delivered.
    for position in 201..204 {
        assert_eq!(subscription.next().await.expect("next").position, position);
    }
    assert_eq!(subscription.next().await.expect_err("end"), ReadError::Closed);
    assert_eq!(subscription.next().await.expect_err("end"), ReadError::Closed);
    assert_eq!(late.next().await.expect("next").position, 202);
    assert_eq!(clone.commit(append("s", 9_999, "x")).await, Err(CommitError::Closed));
    assert_eq!(clone.len(), 204);
}

#[tokio::test]
async fn the_watched_length_is_readable() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let mut length = log.watch();
    assert_eq!(*length.borrow(), 0);
    log.commit(append("s", 1, "x")).await.expect("commit");
    length.changed().await.expect("changed");
    assert_eq!(*length.borrow(), 1);
    assert_eq!(log.read(0, 9, 9).expect("read").len(), 1);
    drop(log);
    length.changed().await.expect_err("the writer ends when nobody can ask it");
}
