//! Against a simple model: any sequence of appends, repeats, copies and reopenings gives what the model says.

mod common;

use std::collections::BTreeMap;

use common::{Foreign, code, event, small_chunks, try_open_with};
use httt_log::{CommitError, Direction, Expected, Log, Transaction};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Debug, Clone)]
enum Step {
    /// Events of (stream, id, text), with an expectation for a stream.
    Append(Vec<(u8, u8, u8)>, Option<(u8, Expected)>),
    /// So many batches of the foreign feed, from so many before its head on.
    Copy(usize, usize),
    Reopen {
        without_index: bool,
    },
}

fn expected() -> impl Strategy<Value = Expected> {
    prop_oneof![Just(Expected::Any), Just(Expected::NoStream), (0..6_u64).prop_map(Expected::Exact)]
}

fn step() -> impl Strategy<Value = Step> {
    let events = prop::collection::vec((0..3_u8, 0..24_u8, 0..2_u8), 0..5);
    prop_oneof![
        8 => (events, prop::option::of((0..3_u8, expected()))).prop_map(|(events, guard)| Step::Append(events, guard)),
        2 => (0..3_usize, 0..3_usize).prop_map(|(count, back)| Step::Copy(count, back)),
        1 => any::<bool>().prop_map(|without_index| Step::Reopen { without_index }),
    ]
}

/// Events by id: stream, text, version. Streams: ids in order.
#[derive(Debug, Default, Clone)]
struct Model {
    events: BTreeMap<u8, (u8, u8, u64)>,
    streams: BTreeMap<u8, Vec<u8>>,
    foreign: usize,
}

impl Model {
    fn append(&mut self, events: &[(u8, u8, u8)], guard: Option<(u8, Expected)>) -> Result<Vec<u64>, &'static str> {
        let mut next = self.clone();
        let mut fresh = Vec::new();
        for (stream, id, text) in events {
            match self.events.get(id).or_else(|| next.events.get(id)) {
                Some((held_stream, held_text, _)) if held_stream == stream && held_text == text => {}
                Some(_) => return Err("conflict"),
                None => {
                    let versions = next.streams.entry(*stream).or_default();
                    versions.push(*id);
                    next.events.insert(*id, (*stream, *text, versions.len() as u64));
                    fresh.push(*stream);
                }
            }
        }
        if let Some((stream, expected)) = guard {
            let all_held = !events.is_empty() && fresh.is_empty();
            let repeats = events.iter().any(|(of, ..)| *of == stream) && !fresh.contains(&stream);
            let actual = self.streams.get(&stream).map_or(0, Vec::len) as u64;
            let met = match expected {
                Expected::Any => true,
                Expected::NoStream => actual == 0,
                Expected::Exact(version) => actual == version,
            };
            if !all_held && !repeats && !met {
                return Err("version");
            }
        }
        *self = next;
        Ok(events.iter().map(|(_, id, _)| self.events[id].2).collect())
    }
}

fn name(stream: u8) -> String {
    // One name is the beginning of another on purpose.
    "s".repeat(usize::from(stream) + 1)
}

fn compare(log: &Log, model: &Model) {
    for stream in 0..3 {
        let events = log.read_stream(&code("H24"), &name(stream), 0, Direction::Forward, usize::MAX).expect("read");
        let ids: Vec<_> = events.iter().map(|event| event.id().as_u128() as u8).collect();
        assert_eq!(ids, model.streams.get(&stream).cloned().unwrap_or_default());
        let versions: Vec<_> = events.iter().map(|event| event.event.version).collect();
        assert_eq!(versions, (1..=ids.len() as u64).collect::<Vec<_>>());
        assert_eq!(log.stream_version(&code("H24"), &name(stream)).expect("version"), versions.last().copied());
    }
    for id in 0..24_u8 {
        let held = log.event(Uuid::from_u128(u128::from(id))).expect("event").map(|event| event.event.version);
        assert_eq!(held, model.events.get(&id).map(|(_, _, version)| *version));
    }
    let foreign = log.head(&"TW→*/content".parse().expect("feed")).map_or(0, |head| head.sequence);
    assert_eq!(foreign, model.foreign as u64);
}

async fn run(steps: Vec<Step>) {
    let dir = tempfile::tempdir().expect("dir");
    let mut foreign = Foreign::new("TW→*/content", 9);
    let batches = foreign.batches(64);
    let mut model = Model::default();
    let (mut log, _) = try_open_with(dir.path(), small_chunks(1_500)).expect("open");
    for step in steps {
        match step {
            Step::Append(events, guard) => {
                let wanted = model.append(&events, guard);
                let news =
                    events.iter().map(|(stream, id, text)| event(&name(*stream), u128::from(*id), &text.to_string()));
                let mut transaction = Transaction::append(news);
                if let Some((stream, expected)) = guard {
                    transaction = transaction.expecting(name(stream), expected);
                }
                let done = log.commit(transaction).await;
                match (&wanted, &done) {
                    (Ok(versions), Ok(done)) => assert_eq!(*versions, done.versions),
                    (Err("conflict"), Err(CommitError::IdConflict { .. })) => {}
                    (Err("version"), Err(CommitError::WrongExpectedVersion { .. })) => {}
                    _ => panic!("{events:?} {guard:?}: {wanted:?}, but {done:?}"),
                }
            }
            Step::Copy(count, back) => {
                let from = model.foreign.saturating_sub(back);
                let to = (from + count).min(batches.len());
                let done = log.commit(Transaction::copy(batches[from..to].to_vec())).await.expect("copy");
                let fresh = done.copied.iter().filter(|placed| !placed.duplicate).count();
                assert_eq!(fresh, to.saturating_sub(model.foreign));
                model.foreign = model.foreign.max(to);
            }
            Step::Reopen { without_index } => {
                log.close().await;
                if without_index {
                    std::fs::remove_dir_all(dir.path().join("index")).expect("remove");
                }
                (log, _) = try_open_with(dir.path(), small_chunks(1_500)).expect("open");
            }
        }
    }
    compare(&log, &model);
    log.close().await;
}

/// Each case opens real files again and again, so there are few unless more are asked for.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(48, |cases| cases.parse().expect("PROPTEST_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_the_model_does(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(run(steps));
    }
}
