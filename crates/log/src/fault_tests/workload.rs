//! A scripted workload on a disk that fails, and what the log must hold afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use httt_feed::{Audience, Lane};
use uuid::Uuid;

use super::disk::{Disk, Mishap, Site};
use super::judge::{Judge, Told};
use super::{options, sealer};
use crate::{AuditOptions, Log, NewEvent, OpenError, Transaction, audit};

/// Opening, a commit and closing do about so much with files.
const OPERATIONS_OF_A_RECOVERY: u64 = 17;

/// A step of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    /// A transaction of so many events with so many bytes each, and one event of another feed.
    Commit(usize, usize),
    Checkpoint,
    Close,
}

#[derive(Debug)]
pub(super) struct Script {
    pub(super) name: &'static str,
    pub(super) chunk_bytes: u64,
    pub(super) steps: &'static [Step],
}

/// Small chunks, each begun after a few commits.
pub(super) const ROLLING: Script = {
    use Step::{Checkpoint, Close, Commit, Open};
    Script {
        name: "rolling",
        chunk_bytes: 2_600,
        steps: &[
            Open,
            Commit(1, 10),
            Commit(2, 100),
            Commit(1, 700),
            Checkpoint,
            Commit(3, 300),
            Commit(1, 10),
            Commit(2, 4_000),
            Commit(1, 10),
            Checkpoint,
            Commit(1, 500),
            Close,
            Open,
            Commit(1, 10),
            Commit(1, 1_500),
            Close,
        ],
    }
};

/// Chunks that grow beyond where they are filled ahead.
pub(super) const FILLED: Script = {
    use Step::{Checkpoint, Close, Commit, Open};
    Script {
        name: "filled",
        chunk_bytes: 600_000,
        steps: &[
            Open,
            Commit(6, 45_000),
            Commit(1, 10),
            Commit(3, 45_000),
            Commit(1, 10),
            Checkpoint,
            Close,
            Open,
            Commit(3, 45_000),
            Commit(1, 10),
            Commit(2, 45_000),
            Commit(1, 10),
            Close,
        ],
    }
};

fn transaction(number: usize, events: usize, bytes: usize) -> Transaction {
    let event = |k: usize, lane, stream: &str, data: Vec<u8>| NewEvent {
        id: Uuid::from_u128((number * 1_000 + k) as u128 + 1),
        audience: Audience::All,
        lane,
        stream: stream.to_owned(),
        kind: "test.v1.Said".to_owned(),
        actor: String::new(),
        traceparent: String::new(),
        occurred_at_ms: None,
        data: data.into(),
    };
    let said = (0..events).map(|k| event(k, Lane::Content, "content", data(number, k, bytes)));
    let status = event(events, Lane::Status, "status", data(number, events, 20));
    Transaction::append(said.chain([status]))
}

fn data(number: usize, k: usize, bytes: usize) -> Vec<u8> {
    let pattern: Vec<u8> = (0..251).map(|n| (n * 31 + number * 7 + k) as u8).collect();
    let mut data = pattern.repeat(bytes / pattern.len() + 1);
    data.truncate(bytes);
    data
}

/// Numbers of the commits that the log must hold, in order, and of the one that it may hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Expectation {
    acknowledged: Vec<(usize, usize, usize)>,
    unknown: Option<(usize, usize, usize)>,
    next: usize,
}

impl Expectation {
    async fn commit(&mut self, log: &Log, events: usize, bytes: usize) -> Told {
        let commit = (self.next, events, bytes);
        self.next += 1;
        let told = Told::of(log.commit(transaction(commit.0, events, bytes)).await);
        if told == Told::Done {
            self.acknowledged.push(commit);
        }
        told
    }

    /// Checks all that the log says; what was unknown is known then.
    fn check(&mut self, log: &Log) {
        let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
        assert_eq!(entries.len() as u64, log.len());
        let mut found: Vec<(usize, BTreeMap<usize, Vec<u8>>)> = Vec::new();
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        for (position, entry) in (0..).zip(&entries) {
            assert_eq!(entry.position, position);
            for event in entry.events() {
                let id = event.id().as_u128() as usize - 1;
                if found.last().is_none_or(|(number, _)| *number != id / 1_000) {
                    found.push((id / 1_000, BTreeMap::new()));
                }
                let (_, events) = found.last_mut().expect("one");
                assert!(events.insert(id % 1_000, event.event.data.to_vec()).is_none(), "an event is there twice");
                let version = versions.entry(event.event.stream.clone()).or_default();
                *version += 1;
                assert_eq!(event.event.version, *version, "versions of {} have a gap", event.event.stream);
                assert_eq!(log.event(event.id()).expect("event").expect("indexed").position, event.position);
            }
        }
        for (stream, version) in &versions {
            assert_eq!(log.stream_version(log.origin(), stream).expect("version"), Some(*version));
        }
        let numbers: Vec<_> = found.iter().map(|(number, _)| *number).collect();
        if let Some(unknown) = self.unknown.take().filter(|unknown| numbers.last() == Some(&unknown.0)) {
            self.acknowledged.push(unknown);
        }
        let acknowledged: Vec<_> = self.acknowledged.iter().map(|commit| commit.0).collect();
        assert_eq!(numbers, acknowledged, "the commits there are, and those that must be");
        for ((number, found), (_, events, bytes)) in found.iter().zip(&self.acknowledged) {
            assert_eq!(found.len(), events + 1, "commit {number} is there by half");
            for (k, found) in found {
                let bytes = if k == events { 20 } else { *bytes };
                assert_eq!(*found, data(*number, *k, bytes), "event {k} of commit {number}");
            }
        }
    }
}

/// Opens, checks, commits once more, and checks the files from outside.
pub(super) async fn check_whole(dir: &Path, disk: &Disk, chunk_bytes: u64, expectation: &mut Expectation) {
    let log = open(dir, disk, chunk_bytes).expect("it opens");
    expectation.check(&log);
    assert_eq!(expectation.commit(&log, 1, 10).await, Told::Done, "it takes writes again");
    let (length, root) = (log.len(), log.root(log.len()).expect("root"));
    log.close().await;
    let report = audit(dir, AuditOptions::default()).expect("audit");
    let known = ["no key of this", "does not begin with"];
    let findings: Vec<_> =
        report.findings.iter().filter(|finding| !known.iter().any(|known| finding.what.contains(known))).collect();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((report.entries, report.root), (length, Some(root)));
    assert!(report.checkpoint.is_some_and(|checkpoint| checkpoint.size == length), "{:?}", report.checkpoint);
}

fn open(dir: &Path, disk: &Disk, chunk_bytes: u64) -> Result<Log, OpenError> {
    Log::open_with(dir, sealer(), options(chunk_bytes), Arc::new(disk.clone())).map(|(log, _)| log)
}

/// How a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// After the last step.
    Ran,
    /// The power is cut after the step that met the last fault.
    PowerCut,
    /// The process is killed then, another one goes on, and then the power is cut.
    Killed,
}

/// What a run was like.
#[derive(Debug)]
pub(super) struct Ran {
    /// The operations of each step.
    pub(super) sites: Vec<(usize, Step, Vec<Site>)>,
    /// Step and operation of the first fault, and the operations of that step after it.
    pub(super) after_fault: Option<(Step, Vec<Site>)>,
}

/// Runs a script on a disk with planned mishaps, judging every step, and checks the log in the end.
pub(super) async fn run(dir: &Path, script: &Script, plan: &[(Site, Mishap)], ending: Ending, seed: u64) -> Ran {
    let disk = Disk::new(dir, seed, plan);
    let mut expectation = Expectation::default();
    let mut judge = Judge::default();
    let mut ran = Ran { sites: Vec::new(), after_fault: None };
    let mut log = None;
    // Operations and faults seen so far. The thread that fills chunks meets some between two steps: they count for the
    // next one.
    let (mut seen, mut judged) = (0, 0);
    let chunk_bytes = script.chunk_bytes;
    for (n, step) in script.steps.iter().copied().enumerate() {
        if step == Step::Close && !disk.delivered().is_empty() {
            disk.heal();
            let log = log.as_ref().expect("open");
            let told = expectation.commit(log, 1, 10).await;
            let operations = disk.trace().split_off(seen);
            seen += operations.len();
            if matches!(told, Told::Poisoned(_)) && !judge.poisoned {
                expectation.unknown = Some((expectation.next - 1, 1, 10));
            }
            // Space has returned, so without opening anew it goes on, unless it is poisoned.
            let met = disk.delivered().split_off(judged);
            judged += met.len();
            judge.judge(Step::Commit(1, 10), &told, &met, &operations);
        }
        let told = match (step, &log) {
            (Step::Open, _) => match open(dir, &disk, chunk_bytes) {
                Ok(opened) => {
                    expectation.check(&opened);
                    log = Some(opened);
                    Told::Done
                }
                Err(OpenError::Io { what, source }) => Told::NotOpened(format!("{what}: {source}")),
                Err(other) => Told::Other(other.to_string()),
            },
            (Step::Commit(events, bytes), Some(log)) => expectation.commit(log, events, bytes).await,
            (Step::Checkpoint, Some(log)) => Told::of(log.write_checkpoint().await),
            (Step::Close, Some(_)) => {
                log.take().expect("open").close().await;
                Told::Done
            }
            (_, None) => panic!("the script does not open the log"),
        };
        let done = disk.trace().split_off(seen);
        seen += done.len();
        if let Step::Commit(events, bytes) = step
            && (disk.is_off() || matches!(told, Told::Poisoned(_)))
            && told != Told::Done
            && !judge.poisoned
        {
            // What broke the log is unknown; what was refused otherwise is not there.
            expectation.unknown = Some((expectation.next - 1, events, bytes));
        }
        if disk.is_off() {
            break;
        }
        let met = disk.delivered().split_off(judged);
        judged += met.len();
        judge.judge(step, &told, &met, &done);
        if let Some(first) = met.first().filter(|_| ran.after_fault.is_none()) {
            let after = done.iter().skip_while(|site| **site != first.site).skip(1).cloned().collect();
            ran.after_fault = Some((step, after));
        }
        ran.sites.push((n, step, done));
        if matches!(told, Told::NotOpened(_)) {
            disk.heal();
            log = Some(open(dir, &disk, chunk_bytes).expect("it opens once the disk works"));
            expectation.check(log.as_ref().expect("open"));
        }
        if ending != Ending::Ran && !plan.is_empty() && disk.all_met() {
            break;
        }
    }
    assert!(disk.all_met(), "a mishap was not met");
    if disk.is_off() || ending == Ending::PowerCut {
        disk.power_cut();
    } else {
        disk.kill();
    }
    if let Some(log) = log {
        log.close().await;
    }
    if ending != Ending::PowerCut && !plan.iter().any(|(_, mishap)| *mishap == Mishap::PowerCut) {
        disk.restart();
        if ending == Ending::Killed {
            recover_until_power_cut(dir, &disk, chunk_bytes, &mut expectation, seed).await;
        } else {
            check_whole(dir, &disk, chunk_bytes, &mut expectation).await;
            disk.power_cut();
        }
    }
    let first = TellOnPanic(disk.image().restore());
    let disk = Disk::new(dir, !seed, &[]);
    recover_until_power_cut(dir, &disk, chunk_bytes, &mut expectation, seed / OPERATIONS_OF_A_RECOVERY).await;
    let second = TellOnPanic(disk.image().restore());
    check_whole(dir, &Disk::new(dir, seed, &[]), chunk_bytes, &mut expectation).await;
    drop((first, second));
    ran
}

/// Opens, checks and commits; somewhere there the power is cut.
async fn recover_until_power_cut(dir: &Path, disk: &Disk, chunk_bytes: u64, expectation: &mut Expectation, seed: u64) {
    disk.power_cut_in(1 + seed % OPERATIONS_OF_A_RECOVERY);
    match open(dir, disk, chunk_bytes) {
        Ok(log) => {
            expectation.check(&log);
            if expectation.commit(&log, 1, 10).await != Told::Done {
                assert!(disk.is_off(), "it takes writes again");
                expectation.unknown = Some((expectation.next - 1, 1, 10));
            }
            log.close().await;
        }
        Err(error) => assert!(disk.is_off(), "it opens: {error}"),
    }
    disk.power_cut();
}

/// Says what there was when a check fails.
struct TellOnPanic(String);

impl Drop for TellOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("after the power cut: {}", self.0);
        }
    }
}
