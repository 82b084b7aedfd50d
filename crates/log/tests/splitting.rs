//! Large transactions are split over batches, never over commits; too large ones are refused.

mod common;

use common::{event, open};
use httt_feed::{MAX_BATCH_BYTES, MAX_EVENTS_PER_BATCH, VerifiedBatch};
use httt_log::{CommitError, Log, MAX_TRANSACTION_ITEMS, Transaction};

fn batches(log: &Log) -> Vec<usize> {
    let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
    // Parsing checks the limits again.
    entries.iter().for_each(|entry| drop(httt_feed::parse(entry.bytes.clone()).expect("within limits")));
    entries.iter().map(|entry| entry.batch.events.len()).collect()
}

#[tokio::test]
async fn a_batch_holds_so_many_events_and_no_more() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let small = |id| {
        let mut event = event("s", id, "");
        (event.actor, event.kind) = (String::new(), "t".into());
        event.at(0)
    };
    let count = 2 * MAX_EVENTS_PER_BATCH + 1;
    let done = log.commit(Transaction::append((0..count as u128).map(small))).await.expect("commit");
    assert_eq!(done.versions, (1..=count as u64).collect::<Vec<_>>());
    let batches = batches(&log);
    assert_eq!(batches.iter().sum::<usize>(), count);
    assert!(batches.iter().all(|events| *events <= MAX_EVENTS_PER_BATCH));
    assert!(done.events.windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test]
async fn every_size_around_the_limit_fits_some_batch() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    // Two events whose sizes together sweep over the limit byte by byte.
    let first = 40_000;
    for (n, second) in (MAX_BATCH_BYTES - first - 450..MAX_BATCH_BYTES - first).step_by(3).enumerate() {
        let id = 2 * n as u128;
        let events = [event("s", id, &"a".repeat(first)), event("s", id + 1, &"b".repeat(second))];
        log.commit(Transaction::append(events)).await.expect("commit");
    }
    let batches = batches(&log);
    assert!(batches.contains(&1) && batches.contains(&2), "{batches:?}");
}

#[tokio::test]
async fn too_much_for_one_transaction_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let many = Transaction::append((0..=MAX_TRANSACTION_ITEMS as u128).map(|id| event("s", id, "")));
    assert!(matches!(log.commit(many).await, Err(CommitError::TransactionTooLarge { what: "events", .. })));
    let large = Transaction::append((0..300).map(|id| event("s", id, &"x".repeat(40_000))));
    assert!(matches!(log.commit(large).await, Err(CommitError::TransactionTooLarge { what: "bytes", .. })));
    let none: [VerifiedBatch; 0] = [];
    assert_eq!(log.commit(Transaction::copy(none)).await.expect("commit").next, 0);
}
