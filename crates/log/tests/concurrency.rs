//! Many callers at once: order, versions and exactly-once delivery hold while commits are coalesced.

mod common;

use std::collections::{BTreeMap, HashSet};

use common::{code, event, open, small_chunks, try_open_with};
use httt_log::{CommitError, Direction, Expected, Transaction};

const TASKS: u128 = 16;
const EVENTS: u128 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn streams_stay_ordered_and_share_batches() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let stream = format!("s{task}");
                for n in 0..EVENTS {
                    let events = [
                        event(&stream, task * 1_000 + n, &n.to_string()),
                        event("shared", 1_000_000 + task * 1_000 + n, "x"),
                    ];
                    let transaction = Transaction::append(events).expecting(&stream, Expected::Exact(n as u64));
                    let done = log.commit(transaction).await.expect("commit");
                    assert_eq!(done.versions[0], n as u64 + 1);
                    assert!(log.len() > done.events[1].entry, "acknowledged is readable");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("task");
    }
    for task in 0..TASKS {
        let events =
            log.read_stream(&code("H24"), &format!("s{task}"), 0, Direction::Forward, usize::MAX).expect("read");
        let texts: Vec<_> =
            events.iter().map(|event| String::from_utf8_lossy(&event.event.data).into_owned()).collect();
        assert_eq!(texts, (0..EVENTS).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(events.windows(2).all(|pair| pair[0].position < pair[1].position));
    }
    assert_eq!(log.stream_version(&code("H24"), "shared").expect("version"), Some((TASKS * EVENTS) as u64));
    assert!(log.len() < (TASKS * EVENTS) as u64, "some commits shared a batch");
    log.close().await;
    assert!(httt_log::audit(dir.path(), httt_log::AuditOptions::default()).expect("audit").findings.len() <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_wins_an_expected_version() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let tasks: Vec<_> = (0..32)
        .map(|id| {
            let log = log.clone();
            tokio::spawn(async move {
                log.commit(Transaction::append([event("s", id, "x")]).expecting("s", Expected::NoStream)).await
            })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.expect("task") {
            Ok(done) => {
                won += 1;
                assert_eq!(done.versions, [1]);
            }
            Err(CommitError::WrongExpectedVersion { actual, .. }) => assert_eq!(actual, Some(1)),
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(won, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_event_from_many_callers_is_there_once() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let tasks: Vec<_> = (0..32)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.commit(common::append("s", 1, "x")).await.expect("commit").events[0] })
        })
        .collect();
    let mut positions = HashSet::new();
    for task in tasks {
        positions.insert(task.await.expect("task"));
    }
    assert_eq!((positions.len(), log.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subscriptions_see_everything_once_while_chunks_roll() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = try_open_with(dir.path(), small_chunks(8_192)).expect("open");
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut subscription = log.subscribe(0);
        readers.push(tokio::spawn(async move {
            let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            let mut count = 0;
            let mut next = 0;
            while count < TASKS * EVENTS {
                let entry = subscription.next().await.expect("next");
                assert_eq!(entry.position, next);
                next += 1;
                for event in entry.events() {
                    seen.entry(event.event.stream).or_default().push(event.event.version);
                    count += 1;
                }
            }
            seen
        }));
    }
    let writers: Vec<_> = (0..TASKS)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                for n in 0..EVENTS {
                    let transaction = Transaction::append([event(&format!("s{task}"), task * 1_000 + n, "x")]);
                    log.commit(transaction).await.expect("commit");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("writer");
    }
    for reader in readers {
        let seen = reader.await.expect("reader");
        assert_eq!(seen.len() as u128, TASKS);
        assert!(seen.values().all(|versions| *versions == (1..=EVENTS as u64).collect::<Vec<_>>()));
    }
}
