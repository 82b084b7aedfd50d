//! Copies and the events derived from where they went are one commit.

mod common;

use common::{Foreign, event, event_on, everything, open};
use httt_feed::Lane;
use httt_log::{CommitError, EventPosition, NewEvent, Placed, Transaction};

fn receipts(placed: &[Placed]) -> Vec<NewEvent> {
    placed
        .iter()
        .map(|placed| {
            let text = format!("{} {} at {}", placed.feed, placed.head.sequence, placed.position);
            event_on(Lane::Report, "receipts", u128::from(placed.head.sequence), &text)
        })
        .collect()
}

#[tokio::test]
async fn receipts_join_the_commit_of_what_they_receipt() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let batches = Foreign::new("TW→*/content", 9).batches(2);
    let done = log.commit(Transaction::copy(batches.clone()).deriving(receipts)).await.expect("commit");
    assert_eq!(done.events, [EventPosition::new(2, 0), EventPosition::new(2, 1)]);
    let receipt = log.read(2, 1, 1).expect("read")[0].events().nth(1).expect("receipt");
    assert_eq!(receipt.event.data, "TW→*/content 2 at 1");
    // Asked again, the same receipts are found.
    let again = log.commit(Transaction::copy(batches).deriving(receipts)).await.expect("commit");
    assert_eq!((again.events, again.next), (done.events, 3));
}

#[tokio::test]
async fn a_refused_receipt_takes_the_copies_with_it() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(Transaction::append([event_on(Lane::Report, "receipts", 2, "something else")])).await.expect("commit");
    let before = everything(&log);
    let batches = Foreign::new("TW→*/content", 9).batches(2);
    let refused = log.commit(Transaction::copy(batches.clone()).deriving(receipts)).await;
    assert!(matches!(refused, Err(CommitError::IdConflict { .. })));
    assert_eq!(everything(&log), before);
    let refused = log.commit(Transaction::copy(batches.clone()).deriving(|_| panic!("a defect in the caller"))).await;
    assert_eq!(refused, Err(CommitError::DerivePanicked));
    assert_eq!(everything(&log), before);
    log.commit(Transaction::copy(batches)).await.expect("the writer goes on");
}

#[tokio::test]
async fn derived_events_come_after_the_given_ones() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let mut transaction = Transaction::copy(Foreign::new("TW→*/content", 9).batches(1)).deriving(receipts);
    transaction.events.push(event_on(Lane::Report, "receipts", 77, "given"));
    transaction.events.push(event("s", 78, "given"));
    let done = log.commit(transaction).await.expect("commit");
    assert_eq!(done.versions, [1, 1, 2]);
    assert_eq!(done.events[2], EventPosition::new(1, 1));
}
