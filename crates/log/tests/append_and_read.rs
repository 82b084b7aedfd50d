//! What was appended is read back, by position, stream, id, feed and filter, in both directions.

mod common;

use common::{append, code, event, event_on, open};
use httt_feed::Lane;
use httt_log::{Direction, EventPosition, Filter, NewEvent, Options, ReadError, Transaction};
use uuid::Uuid;

#[tokio::test]
async fn an_empty_transaction_says_how_long_the_log_is() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let done = log.commit(Transaction::default()).await.expect("commit");
    assert_eq!((done.next, done.events.len()), (0, 0));
    log.commit(append("s", 1, "x")).await.expect("commit");
    assert_eq!(log.commit(Transaction::default()).await.expect("commit").next, 1);
}

#[tokio::test]
async fn a_stream_reads_in_both_directions_from_any_version() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    let mut id = 0;
    // Batches of one, two and three events of the stream, with another stream between them.
    for count in [1, 2, 3, 1, 2] {
        let mut events = vec![];
        for _ in 0..count {
            id += 1;
            events.push(event("wanted", id, &format!("w{id}")));
            events.push(event("other", 1_000 + id, "o"));
        }
        log.commit(Transaction::append(events)).await.expect("commit");
    }
    assert_eq!(log.stream_version(&code("H24"), "wanted").expect("version"), Some(9));
    assert_eq!(log.stream_version(&code("H25"), "wanted").expect("version"), None);
    let versions = |from, direction, max| -> Vec<u64> {
        let events = log.read_stream(&code("H24"), "wanted", from, direction, max).expect("read");
        assert!(events.iter().all(|event| event.event.stream == "wanted"));
        events.iter().map(|event| event.event.version).collect()
    };
    for from in 0..12_u64 {
        for max in [0, 1, 2, 5, 100] {
            let forward: Vec<_> = (from.max(1)..=9).take(max).collect();
            assert_eq!(versions(from, Direction::Forward, max), forward, "from {from}, {max}");
            let backward: Vec<_> = (1..=from.min(9)).rev().take(max).collect();
            assert_eq!(versions(from, Direction::Backward, max), backward, "from {from} back, {max}");
        }
    }
    assert_eq!(versions(u64::MAX, Direction::Backward, 2), [9, 8]);
    assert!(versions(u64::MAX, Direction::Forward, 2).is_empty());
    assert!(log.read_stream(&code("H24"), "want", 0, Direction::Forward, 9).expect("read").is_empty());
}

#[tokio::test]
async fn filtered_pages_join_to_the_whole() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    for i in 0..30_u128 {
        let lane = if i % 3 == 0 { Lane::Report } else { Lane::Content };
        let mut events = vec![event_on(lane, &format!("{lane}/{}", i % 4), 10 * i, "a").at(i as i64)];
        events.push(event_on(lane, &format!("{lane}/x"), 10 * i + 1, "b").at(i as i64));
        events[1].kind = "test.v1.Other".into();
        log.commit(Transaction::append(events)).await.expect("commit");
    }
    let all: Vec<_> = log
        .read(0, usize::MAX, usize::MAX)
        .expect("read")
        .iter()
        .flat_map(|entry| entry.events().collect::<Vec<_>>())
        .collect();
    assert_eq!(all.len(), 60);
    let filters = [
        Filter::default(),
        Filter { stream_prefix: Some("content/".into()), ..Filter::default() },
        Filter { kinds: vec!["test.v1.Other".into()], ..Filter::default() },
        Filter { lane: Some(Lane::Report), ..Filter::default() },
        Filter { origin: Some(code("H25")), ..Filter::default() },
        Filter { since_ms: Some(5), until_ms: Some(9), ..Filter::default() },
    ];
    for filter in filters {
        let wanted: Vec<_> = all.iter().filter(|event| filter.matches(&event.feed, &event.event)).cloned().collect();
        for max in [1, 2, 7, 1_000] {
            for direction in [Direction::Forward, Direction::Backward] {
                let mut from = if direction == Direction::Forward { EventPosition::START } else { EventPosition::END };
                let mut found = Vec::new();
                loop {
                    let page = log.events(from, &filter, direction, max).expect("events");
                    assert!(page.events.len() <= max);
                    found.extend(page.events);
                    from = page.next;
                    if !page.more {
                        break;
                    }
                }
                if direction == Direction::Backward {
                    found.reverse();
                }
                assert_eq!(found, wanted, "{filter:?} {direction:?} {max}");
            }
        }
    }
}

#[tokio::test]
async fn entries_read_within_limits_but_always_one() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    for i in 0..5 {
        log.commit(append("s", i, "some text")).await.expect("commit");
    }
    let positions = |entries: Vec<httt_log::Entry>| entries.iter().map(|entry| entry.position).collect::<Vec<_>>();
    let size = log.read(1, 1, 1).expect("read")[0].bytes.len();
    assert_eq!(positions(log.read(1, 10, 0).expect("read")), [1]);
    assert_eq!(positions(log.read(1, 10, 2 * size).expect("read")), [1, 2]);
    assert_eq!(positions(log.read(3, 10, usize::MAX).expect("read")), [3, 4]);
    assert_eq!(positions(log.read(5, 10, usize::MAX).expect("read")), [0; 0]);
    assert_eq!(positions(log.read_backward(u64::MAX, 2, usize::MAX).expect("read")), [4, 3]);
    assert_eq!(positions(log.read_backward(2, 9, usize::MAX).expect("read")), [1, 0]);
    let feed = log.heads()[0].feed.clone();
    assert_eq!(positions(log.read_feed(&feed, 0, 0).expect("read")), [0]);
    assert_eq!(positions(log.read_feed(&feed, 2, usize::MAX).expect("read")), [2, 3, 4]);
    assert_eq!(positions(log.read_feed(&feed, 5, usize::MAX).expect("read")), [0; 0]);
    assert_eq!(log.event(Uuid::from_u128(99)).expect("event"), None);
    assert_eq!(log.root(6), Err(ReadError::BeyondEnd { size: 6, entries: 5 }));
}

#[tokio::test]
async fn what_is_local_stays_in_the_local_feed() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(Transaction::append([event_on(Lane::Local, "draft", 1, "x")])).await.expect("commit");
    assert_eq!(log.heads()[0].feed, httt_feed::FeedId::local(&code("H24")));
}

/// A stream with many more spans than a run holds or is read at a time, between others, read from every version.
#[tokio::test]
async fn a_long_stream_is_read_from_any_version_either_way() {
    let dir = tempfile::tempdir().expect("dir");
    let options = Options { index_run_events: 300, ..common::options() };
    let (log, _) = common::try_open_with(dir.path(), options).expect("open");
    let mut id = 0;
    let mut last = 0;
    for n in 0..900_u64 {
        // Some batches hold two events of the stream, some with another stream's between.
        let streams: &[&str] = match n % 3 {
            0 => &["long"],
            1 => &["long", "long"],
            _ => &["long", "other", "long"],
        };
        let events = streams.iter().map(|stream| {
            id += 1;
            event(stream, id, "x")
        });
        log.commit(Transaction::append(events.collect::<Vec<_>>())).await.expect("commit");
        last += streams.iter().filter(|stream| **stream == "long").count() as u64;
    }
    let versions = |from: u64, direction: Direction, max: usize| -> Vec<u64> {
        let events = log.read_stream(log.origin(), "long", from, direction, max).expect("read");
        events.iter().map(|event| event.event.version).collect()
    };
    for from in (0..last + 3).step_by(97).chain([1, last - 1, last, u64::MAX]) {
        for max in [1, 2, 300, usize::MAX] {
            let forward: Vec<_> = (from.max(1)..=last).take(max).collect();
            assert_eq!(versions(from, Direction::Forward, max), forward, "from {from}, {max} at most");
            let backward: Vec<_> = (1..=from.min(last)).rev().take(max).collect();
            assert_eq!(versions(from, Direction::Backward, max), backward, "back from {from}, {max} at most");
        }
    }
    log.close().await;
}

/// One log of wanted entries and others, the others damaged; which of these filters still read it.
async fn filters_that_pass_over_damage() -> [bool; 4] {
    use std::os::unix::fs::FileExt as _;
    let dir = tempfile::tempdir().expect("dir");
    // Some of the index in memory, most of it in runs.
    let (log, _) = common::try_open_with(dir.path(), common::options()).expect("open");
    for n in 0..60_u64 {
        let (lane, group, kind, at_ms) = match n % 2 {
            0 => (Lane::Content, "wanted", "httt.test.Wanted", 1_000),
            _ => (Lane::Report, "other", "httt.test.Other", 2_000),
        };
        let event = event_on(lane, &format!("{group}/{n}"), u128::from(n) + 1, "text").at(at_ms);
        let event = NewEvent { kind: kind.into(), ..event };
        log.commit(Transaction::append([event])).await.expect("commit");
    }
    let path = common::chunk(dir.path(), 0);
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("chunk");
    let bytes = std::fs::read(&path).expect("chunk");
    for (at, _) in bytes.windows(6).enumerate().filter(|(_, window)| *window == b"other/") {
        file.write_all_at(b"?", at as u64).expect("write");
    }
    let all = log.events(EventPosition::START, &Filter::default(), Direction::Forward, 100);
    assert!(matches!(all, Err(ReadError::Damaged(_))), "{all:?}");
    let filters = [
        Filter { lane: Some(Lane::Content), ..Filter::default() },
        Filter { until_ms: Some(1_500), ..Filter::default() },
        Filter { stream_prefix: Some("wanted/".into()), ..Filter::default() },
        Filter { kinds: vec!["httt.test.Wanted".into()], ..Filter::default() },
    ];
    let ways = [(EventPosition::START, Direction::Forward), (EventPosition::END, Direction::Backward)];
    filters.map(|filter| {
        ways.iter().all(|(from, direction)| match log.events(*from, &filter, *direction, 100) {
            Ok(page) => {
                assert_eq!((page.events.len(), page.more), (30, false), "{filter:?}");
                true
            }
            Err(error) => {
                assert!(matches!(error, ReadError::Damaged(_)), "{filter:?}: {error}");
                false
            }
        })
    })
}

/// Entries that the index rules out are not even read. Lanes and times are exact; two types, or two groups of streams,
/// share a bit of 64 in one log, but hardly in six.
#[tokio::test]
async fn what_is_filtered_out_is_not_read() {
    let mut ever = [false; 4];
    for _ in 0..6 {
        let passed = filters_that_pass_over_damage().await;
        assert_eq!(passed[..2], [true, true], "lanes and times");
        ever = [0, 1, 2, 3].map(|n| ever[n] || passed[n]);
    }
    assert_eq!(ever, [true; 4]);
}
