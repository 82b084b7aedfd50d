//! Copying other origins' batches: in order, once, and never two stories.

mod common;

use common::{Foreign, NOW_MS, append, code, event, everything, open};
use httt_feed::{FeedId, Refusal};
use httt_log::{CommitError, Expected, Transaction};

#[tokio::test]
async fn copies_are_placed_and_duplicates_found_again() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let mut foreign = Foreign::new("TW→*/content", 9);
    let batches = foreign.batches(3);
    log.commit(append("s", 1, "own")).await.expect("commit");
    let done = log.commit(Transaction::copy(batches.clone())).await.expect("copy");
    let placed: Vec<_> = done.copied.iter().map(|placed| (placed.position, placed.duplicate, placed.at_ms)).collect();
    assert_eq!(placed, [(1, false, NOW_MS), (2, false, NOW_MS), (3, false, NOW_MS)]);
    assert_eq!(log.head(&foreign.feed), foreign.head);
    let again = log.commit(Transaction::copy(batches.clone())).await.expect("copy");
    let placed: Vec<_> = again.copied.iter().map(|placed| (placed.position, placed.duplicate, placed.at_ms)).collect();
    assert_eq!(placed, [(1, true, NOW_MS), (2, true, NOW_MS), (3, true, NOW_MS)]);
    assert_eq!(again.next, 4);
    assert_eq!(log.read_feed(&foreign.feed, 1, usize::MAX).expect("read")[0].bytes, *batches[1].bytes());
    // Old and new in one transaction, and the same batch twice.
    let next = foreign.next();
    let done = log.commit(Transaction::copy([batches[2].clone(), next.clone(), next])).await.expect("copy");
    let placed: Vec<_> = done.copied.iter().map(|placed| (placed.position, placed.duplicate)).collect();
    assert_eq!(placed, [(3, true), (4, false), (4, true)]);
}

#[tokio::test]
async fn gap_fork_and_broken_chain_change_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let mut foreign = Foreign::new("TW→*/content", 9);
    let good = foreign.batches(3);
    log.commit(Transaction::copy(good[..2].to_vec())).await.expect("copy");
    let before = everything(&log);
    let feed = foreign.feed.clone();

    let gap = foreign.batches(1);
    let refused = log.commit(Transaction::copy(gap)).await;
    assert_eq!(refused, Err(Refusal::Gap { feed: feed.clone(), expected: 3, got: 4 }.into()));

    // Another history from the first batch on, by the same key.
    let mut liar = Foreign::new("TW→*/content", 9);
    let lie = liar.event("foreign", 1, "a lie");
    let lies = [vec![liar.seal(vec![lie])], liar.batches(2)].concat();
    for (lie, sequence) in [(&lies[0], 1), (&lies[1], 2)] {
        let refused = log.commit(Transaction::copy([lie.clone()])).await;
        assert_eq!(refused, Err(Refusal::Fork { feed: feed.clone(), sequence }.into()));
    }
    let refused = log.commit(Transaction::copy([lies[2].clone()])).await;
    assert_eq!(refused, Err(Refusal::BrokenChain { feed: feed.clone(), sequence: 3 }.into()));

    // A good copy and an own event beside a bad one go with it.
    let mut mixed = Transaction::copy([good[2].clone(), lies[0].clone()]);
    mixed.events.push(event("s", 1, "own"));
    assert!(matches!(log.commit(mixed).await, Err(CommitError::Refused(Refusal::Fork { .. }))));
    assert_eq!(everything(&log), before);
    log.commit(Transaction::copy([good[2].clone()])).await.expect("the feed goes on");
}

#[tokio::test]
async fn own_batches_are_taken_back_before_writing_on() {
    let (old_dir, new_dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let old = open(old_dir.path());
    for id in 1..=3 {
        old.commit(append("s", id, "x")).await.expect("commit");
    }
    let feed: FeedId = "H24→TW/content".parse().expect("feed");
    let entries = old.read_feed(&feed, 0, usize::MAX).expect("read");
    let log = open(new_dir.path());
    let directory = httt_feed::Directory::trusting(httt_feed::Digest([0; 32]))
        .knowing_own(code("H24"), common::sealer("H24", 1).key().public().clone());
    let batches = entries
        .iter()
        .map(|entry| directory.verify(httt_feed::parse(entry.bytes.clone()).expect("parse")).expect("verify"));
    // Take back and write on in one go: the own event sees the versions and ids that came back.
    let mut transaction = Transaction::copy(batches).expecting("s", Expected::Exact(3));
    transaction.events = vec![event("s", 2, "x"), event("s", 4, "x")];
    let done = log.commit(transaction).await.expect("commit");
    assert_eq!((done.versions, done.next), (vec![2, 4], 4));
    assert_eq!((done.events[0].entry, done.events[1].entry), (1, 3));
    assert_eq!(log.head(&feed).expect("head").sequence, 4);
}
