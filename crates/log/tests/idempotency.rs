//! The same event again is success; the same id for something else is not.

mod common;

use common::{Foreign, append, event, event_on, open, try_open};
use httt_feed::Lane;
use httt_log::{CommitError, EventPosition, Expected, Transaction};
use uuid::Uuid;

#[tokio::test]
async fn appending_again_gives_the_original_position_even_after_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let first = log.commit(append("s", 1, "x")).await.expect("commit");
    log.commit(append("s", 2, "y")).await.expect("commit");
    for stale in [Expected::NoStream, Expected::Exact(77)] {
        let again = log.commit(append("s", 1, "x").expecting("s", stale)).await.expect("commit");
        assert_eq!((again.events, again.versions, again.next), (first.events.clone(), vec![1], 2));
    }
    log.close().await;
    let (log, _) = try_open(dir.path()).expect("open");
    let again = log.commit(append("s", 1, "x").expecting("s", Expected::NoStream)).await.expect("commit");
    assert_eq!((again.events, again.next), (first.events, 2));
}

#[tokio::test]
async fn other_content_under_the_same_id_is_refused_and_leaves_no_trace() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(append("s", 1, "x")).await.expect("commit");
    let mut other_kind = event("s", 1, "x");
    other_kind.kind = "test.v1.Other".into();
    let variants = [event("s", 1, "y"), event("t", 1, "x"), other_kind, event_on(Lane::Status, "s", 1, "x")];
    for variant in variants {
        let refused = log.commit(Transaction::append([event("fresh", 50, "z"), variant])).await;
        let position = Some(EventPosition::new(0, 0));
        assert_eq!(refused, Err(CommitError::IdConflict { id: Uuid::from_u128(1), position }));
    }
    assert_eq!(log.len(), 1);
    assert_eq!(log.event(Uuid::from_u128(50)).expect("event"), None);
}

#[tokio::test]
async fn actor_trace_and_time_do_not_make_it_another_event() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(append("s", 1, "x")).await.expect("commit");
    let again = event("s", 1, "x").with_actor("somebody else").with_traceparent("00-1").at(5);
    assert_eq!(log.commit(Transaction::append([again])).await.expect("commit").next, 1);
}

#[tokio::test]
async fn a_repeated_id_within_one_transaction_is_one_event() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let done = log
        .commit(Transaction::append([event("s", 1, "x"), event("s", 2, "y"), event("s", 1, "x")]))
        .await
        .expect("commit");
    assert_eq!(done.versions, [1, 2, 1]);
    assert_eq!(done.events[0], done.events[2]);
    let refused = log.commit(Transaction::append([event("s", 3, "x"), event("s", 3, "y")])).await;
    assert_eq!(refused, Err(CommitError::IdConflict { id: Uuid::from_u128(3), position: None }));
}

#[tokio::test]
async fn half_old_half_new_is_judged_by_its_new_half() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(append("s", 1, "x")).await.expect("commit");
    let mixed = || Transaction::append([event("s", 1, "x"), event("t", 2, "y")]);
    // `s` only repeats what is there, so its expectation is moot; `t` gets something new.
    let refused = log.commit(mixed().expecting("t", Expected::Exact(4))).await;
    assert!(matches!(refused, Err(CommitError::WrongExpectedVersion { .. })));
    let done = log.commit(mixed().expecting("s", Expected::NoStream).expecting("t", Expected::NoStream)).await;
    assert_eq!(done.expect("commit").versions, [1, 1]);
}

#[tokio::test]
async fn nobody_else_can_take_an_id() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let mut foreign = Foreign::new("TW→*/content", 9);
    let mut stolen = foreign.event("f", 1, "stolen");
    stolen.id = Uuid::from_u128(1).as_bytes().to_vec();
    let batch = foreign.seal(vec![stolen]);
    log.commit(Transaction::copy([batch])).await.expect("copy");
    assert_eq!(log.event(Uuid::from_u128(1)).expect("event").expect("foreign").feed, foreign.feed);
    let done = log.commit(append("s", 1, "ours")).await.expect("commit");
    assert_eq!(done.next, 2);
    assert_eq!(log.event(Uuid::from_u128(1)).expect("event").expect("ours").position, done.events[0]);
}
