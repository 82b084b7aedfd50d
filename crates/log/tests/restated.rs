//! A feed of the lane status says again what it stands for, and who holds nothing of it begins there.

mod common;

use common::{Foreign, NOW_MS, code, event_on, open, sealer};
use httt_feed::{FeedId, Lane, Refusal, VerifiedBatch};
use httt_log::{AuditOptions, CommitError, Direction, Log, NewEvent, ReadError, Transaction, audit};
use httt_wire::directory::{KeyAdded, LogOpened, MemberEnrolled, MemberKind};
use httt_wire::{Message as _, Name as _};

const FEED: &str = "H55→TW/status";

fn status(id: u128, bytes: usize) -> NewEvent {
    event_on(Lane::Status, "clusters", id, &"x".repeat(bytes))
}

/// Nine batches of a feed of H55, of which the fourth and the seventh restate.
fn foreign() -> (FeedId, Vec<VerifiedBatch>) {
    let mut foreign = Foreign::new(FEED, 5);
    let mut batches = Vec::new();
    for version in 1..=9 {
        let event = foreign.event("clusters", version, "changed");
        let head = foreign.head;
        let seal = if matches!(version, 4 | 7) { httt_feed::Sealer::seal_restating } else { httt_feed::Sealer::seal };
        let batch = seal(&foreign.sealer, &foreign.feed, head.as_ref(), NOW_MS, vec![event]).expect("seals");
        foreign.head = Some(batch.head());
        batches.push(batch);
    }
    (foreign.feed, batches)
}

fn sequences(log: &Log, feed: &FeedId, after: u64) -> Vec<u64> {
    log.read_feed(feed, after, usize::MAX).expect("reads").iter().map(|entry| entry.sequence).collect()
}

#[tokio::test]
async fn what_restates_begins_a_batch_that_says_so() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(Transaction::append([status(1, 10)])).await.expect("commits");
    // More than one batch holds.
    let restated = (10..14).map(|id| status(id, 25_000));
    log.commit(Transaction::append(restated).restating()).await.expect("commits");
    log.commit(Transaction::append([status(20, 10)])).await.expect("commits");
    let feed: FeedId = "H24→TW/status".parse().expect("feed");
    let entries = log.read_feed(&feed, 0, usize::MAX).expect("reads");
    let said: Vec<_> = entries.iter().map(|entry| (entry.batch.restates, entry.batch.events.len())).collect();
    assert_eq!(said, [(false, 1), (true, 2), (false, 2), (false, 1)]);
    assert_eq!(log.restated(&feed), Ok(Some(2)));
}

#[tokio::test]
async fn events_that_wait_together_do_not_share_the_batch_that_restates() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let commits = (0..40).map(|id| {
        let transaction = Transaction::append([status(id, 10)]);
        let log = log.clone();
        async move { log.commit(if id % 8 == 3 { transaction.restating() } else { transaction }).await }
    });
    for done in all(commits).await {
        done.expect("commits");
    }
    let feed: FeedId = "H24→TW/status".parse().expect("feed");
    for entry in log.read_feed(&feed, 0, usize::MAX).expect("reads") {
        let restating = |event: &httt_wire::feed::Event| event.id[15] % 8 == 3;
        let events = &entry.batch.events;
        assert_eq!(entry.batch.restates, restating(&events[0]), "sequence {}", entry.sequence);
        assert!(!events[1..].iter().any(restating), "sequence {}: it stands first", entry.sequence);
    }
}

/// Starts all, then waits for all.
async fn all<F>(futures: impl Iterator<Item = F>) -> Vec<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    let started: Vec<_> = futures.map(tokio::spawn).collect();
    let mut done = Vec::new();
    for task in started {
        done.push(task.await.expect("no panic"));
    }
    done
}

#[tokio::test]
async fn only_the_lane_status_restates() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let event = event_on(Lane::Report, "reports", 1, "a report");
    let refused = log.commit(Transaction::append([event]).restating()).await;
    assert!(matches!(refused, Err(CommitError::Refused(Refusal::Malformed(_)))), "{refused:?}");
    assert!(log.is_empty());
}

#[tokio::test]
async fn a_feed_is_taken_up_where_it_restates_and_nowhere_else() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let (feed, batches) = foreign();
    let refused = log.commit(Transaction::copy(batches[4..].to_vec())).await;
    assert_eq!(refused, Err(Refusal::Gap { feed: feed.clone(), expected: 1, got: 5 }.into()));
    log.commit(Transaction::copy(batches[3..6].to_vec())).await.expect("takes it up");
    assert_eq!(log.begins(&feed), Ok(Some(4)));
    // Once something is held, a restatement is a batch like any other.
    let refused = log.commit(Transaction::copy(batches[7..].to_vec())).await;
    assert_eq!(refused, Err(Refusal::Gap { feed: feed.clone(), expected: 7, got: 8 }.into()));
    let done = log.commit(Transaction::copy(batches[5..].to_vec())).await.expect("goes on");
    assert_eq!(done.copied.iter().map(|placed| placed.duplicate).collect::<Vec<_>>(), [true, false, false, false]);
    assert_eq!(sequences(&log, &feed, 0), [4, 5, 6, 7, 8, 9]);
    assert_eq!(sequences(&log, &feed, 3), [4, 5, 6, 7, 8, 9]);
    assert_eq!(sequences(&log, &feed, 7), [8, 9]);
    let before = log.read_feed(&feed, 2, usize::MAX);
    assert_eq!(before.err(), Some(ReadError::BeginsLater { feed: feed.clone(), after: 2, first: 4 }));
    assert_eq!(log.restated(&feed), Ok(Some(7)));
}

#[tokio::test]
async fn what_came_before_is_not_taken_afterwards() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let (feed, batches) = foreign();
    log.commit(Transaction::copy(batches[3..].to_vec())).await.expect("takes it up");
    let refused = log.commit(Transaction::copy(batches[..2].to_vec())).await;
    assert_eq!(refused, Err(Refusal::Gap { feed: feed.clone(), expected: 10, got: 1 }.into()));
    assert_eq!(sequences(&log, &feed, 0), [4, 5, 6, 7, 8, 9]);
    assert_eq!(log.poisoned(), None);
}

#[tokio::test]
async fn a_feed_taken_up_late_survives_restarts_and_audits() {
    let dir = tempfile::tempdir().expect("dir");
    let (feed, batches) = foreign();
    {
        let log = open(dir.path());
        let message = LogOpened {
            member: "H24".into(),
            log_id: log.log_id().to_vec(),
            key: Some(sealer("H24", 1).key().public().to_wire()),
            software: "test".into(),
        };
        let opened = NewEvent::of(httt_feed::Audience::All, Lane::Local, "log", &message);
        log.commit(Transaction::append([opened])).await.expect("commits");
        log.commit(Transaction::copy([directory()])).await.expect("copies");
        log.commit(Transaction::copy(batches[3..].to_vec())).await.expect("takes it up");
        log.close().await;
    }
    for round in ["with its index", "with a rebuilt one"] {
        let log = open(dir.path());
        assert_eq!(log.begins(&feed), Ok(Some(4)), "{round}");
        assert_eq!(log.restated(&feed), Ok(Some(7)), "{round}");
        assert_eq!(sequences(&log, &feed, 0), [4, 5, 6, 7, 8, 9], "{round}");
        let events = log.read_stream(&code("H55"), "clusters", 0, Direction::Forward, 100).expect("reads");
        assert_eq!(events.iter().map(|event| event.event.version).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9], "{round}");
        log.close().await;
        std::fs::remove_dir_all(dir.path().join("index")).expect("removes");
    }
    let report = audit(dir.path(), AuditOptions::default()).expect("audits");
    assert_eq!(report.findings, []);
    assert_eq!((report.entries, report.unchecked_own), (8, 0));
}

/// The gateway's directory: itself, the ministry and H55.
fn directory() -> VerifiedBatch {
    let mut gateway = Foreign::new("NDXP→*/directory", 9);
    let mut events = Vec::new();
    for (member, kind, seed) in
        [("NDXP", MemberKind::Gateway, 9), ("TW", MemberKind::Central, 8), ("H55", MemberKind::Province, 5)]
    {
        let key = Some(sealer(member, seed).key().public().to_wire());
        let enrolled = MemberEnrolled { member: member.into(), kind: kind.into(), ..MemberEnrolled::default() };
        let added = KeyAdded { member: member.into(), key };
        for (kind, data) in
            [(MemberEnrolled::full_name(), enrolled.encode_to_vec()), (KeyAdded::full_name(), added.encode_to_vec())]
        {
            let event = gateway.event("directory", events.len() as u64 + 1, "");
            events.push(httt_wire::feed::Event { r#type: kind, data: data.into(), ..event });
        }
    }
    gateway.seal(events)
}
