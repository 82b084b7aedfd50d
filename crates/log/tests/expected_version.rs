//! Expected versions guard streams; all events of a stream are in one feed.

mod common;

use common::{append, event, event_on, open};
use httt_feed::{Lane, Refusal};
use httt_log::{CommitError, Expected, Transaction};

#[tokio::test]
async fn a_stream_must_be_where_it_is_expected() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let wrong = |expected, actual| Err(CommitError::WrongExpectedVersion { stream: "s".into(), expected, actual });
    assert_eq!(
        log.commit(append("s", 1, "x").expecting("s", Expected::Exact(1))).await,
        wrong(Expected::Exact(1), None)
    );
    log.commit(append("s", 1, "x").expecting("s", Expected::NoStream)).await.expect("commit");
    assert_eq!(
        log.commit(append("s", 2, "x").expecting("s", Expected::NoStream)).await,
        wrong(Expected::NoStream, Some(1))
    );
    assert_eq!(
        log.commit(append("s", 2, "x").expecting("s", Expected::Exact(0))).await,
        wrong(Expected::Exact(0), Some(1))
    );
    log.commit(append("s", 2, "x").expecting("s", Expected::Exact(1))).await.expect("commit");
    log.commit(append("s", 3, "x").expecting("s", Expected::Any)).await.expect("commit");
    log.commit(append("t", 4, "x").expecting("t", Expected::Exact(0))).await.expect("commit");
    // A stream may be guarded without being written.
    assert_eq!(
        log.commit(append("u", 5, "x").expecting("s", Expected::Exact(9))).await,
        wrong(Expected::Exact(9), Some(3))
    );
    assert_eq!(log.len(), 4);
}

#[tokio::test]
async fn several_streams_are_appended_together_or_not_at_all() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let both = |a, b| Transaction::append([event("a", a, "x"), event("b", b, "x"), event("a", a + 1, "x")]);
    let done = log.commit(both(1, 3).expecting("a", Expected::NoStream)).await.expect("commit");
    assert_eq!(done.versions, [1, 1, 2]);
    let refused = log.commit(both(11, 13).expecting("a", Expected::Exact(2)).expecting("b", Expected::NoStream)).await;
    assert!(matches!(refused, Err(CommitError::WrongExpectedVersion { stream, .. }) if stream == "b"));
    assert_eq!(log.len(), 1);
    let done = log.commit(both(11, 13).expecting("a", Expected::Exact(2)).expecting("b", Expected::Exact(1))).await;
    assert_eq!(done.expect("commit").versions, [3, 2, 4]);
}

#[tokio::test]
async fn a_stream_stays_in_its_feed() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(append("s", 1, "x")).await.expect("commit");
    let feed = log.heads()[0].feed.clone();
    let elsewhere = Transaction::append([event_on(Lane::Emergency, "s", 2, "x")]);
    assert_eq!(log.commit(elsewhere).await, Err(CommitError::StreamElsewhere { stream: "s".into(), feed }));
    let torn = Transaction::append([event("n", 3, "x"), event_on(Lane::Emergency, "n", 4, "x")]);
    assert!(matches!(log.commit(torn).await, Err(CommitError::StreamElsewhere { .. })));
    assert_eq!(log.len(), 1);
}

#[tokio::test]
async fn events_that_no_batch_may_hold_are_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let large = append("s", 1, &"x".repeat(httt_feed::MAX_EVENT_BYTES + 1));
    assert!(matches!(log.commit(large).await, Err(CommitError::Refused(Refusal::TooLarge { .. }))));
    assert!(matches!(log.commit(append("", 1, "x")).await, Err(CommitError::Refused(Refusal::Malformed(_)))));
    assert!(log.is_empty());
}
