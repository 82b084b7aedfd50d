//! A process killed while it writes loses nothing that it acknowledged.
//!
//! `HTTT_FAULT_ROUNDS` says how often it is killed, `HTTT_FAULT_SEED` from which number the moments are drawn.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{event_on, small_chunks, try_open_with};
use httt_feed::Lane;
use httt_log::{AuditOptions, IndexState, Log, NewEvent, Options, Transaction};

const DIR: &str = "HTTT_LOG_KILL_DIR";
const ROUND: &str = "HTTT_LOG_KILL_ROUND";
const TASKS: u64 = 6;
const DEFAULT_ROUNDS: u64 = 16;
/// After so many kills another log is begun, so that checking all of it stays quick.
const ROUNDS_OF_A_LOG: u64 = 8;
const SIGKILL: i32 = 9;

/// Numbers that look random and depend on nothing but what is given.
fn mixed(seed: u64, n: u64) -> u64 {
    let mut mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ n.wrapping_mul(0xD1B5_4A32_D192_ED03);
    for _ in 0..2 {
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
    }
    mixed
}

/// Every second log has chunks so large that they are filled ahead.
fn log_options(round: u64) -> Options {
    let chunk_bytes = if (round / ROUNDS_OF_A_LOG).is_multiple_of(2) { 20_000 } else { 1_500_000 };
    Options { index_run_events: 16, checkpoint_every: Duration::from_millis(7), ..small_chunks(chunk_bytes) }
}

/// The events of a task's transaction: few and small as a rule, sometimes many, in several entries of two feeds.
fn events(round: u64, task: u64, n: u64) -> Vec<NewEvent> {
    let (count, bytes) = match mixed(round * TASKS + task, n) % 24 {
        0 => (40, 5_000),
        1..4 => (12, 600),
        _ => (2, 20),
    };
    (0..count)
        .map(|k| {
            let id = ((round * TASKS + task) * 1_000_000 + n) * 100 + k + 1;
            let (lane, stream) = if k == 1 { (Lane::Status, "status") } else { (Lane::Content, "content") };
            let text = format!("{round}/{task}/{n}/{k}/{count} {}", "x".repeat(bytes));
            event_on(lane, &format!("{stream}/{task}"), u128::from(id), &text)
        })
        .collect()
}

/// The child: tasks that append and tell each acknowledged transaction, and one that writes checkpoints, until killed.
fn write_until_killed(dir: &Path, round: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("runtime");
    runtime.block_on(async {
        let (log, _) = try_open_with(dir, log_options(round)).expect("open");
        let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(append_for_ever(log.clone(), round, task))).collect();
        tokio::spawn(async move {
            loop {
                log.write_checkpoint().await.expect("checkpoint");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        for task in tasks {
            task.await.expect("task");
        }
    });
}

async fn append_for_ever(log: Log, round: u64, task: u64) {
    for n in 0.. {
        log.commit(Transaction::append(events(round, task, n))).await.expect("commit");
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {task} {n} .").and_then(|()| out.flush()).expect("tell");
    }
}

/// Task and number of an acknowledged transaction. A line cut short is no acknowledgement; the test harness may have
/// written the beginning of the first.
fn acknowledged(line: &str) -> Option<(u64, u64)> {
    let (_, said) = line.split_once("ack ")?;
    let (task, n) = said.strip_suffix(" .\n")?.split_once(' ')?;
    Some((task.parse().expect("task"), n.parse().expect("number")))
}

/// Runs the child and kills it at a moment that the seed says; gives how many transactions each task was acknowledged.
fn kill_once(dir: &Path, round: u64, seed: u64) -> BTreeMap<u64, u64> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_killed_writer_keeps_its_word", "--nocapture"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .expect("child");
    let mut reader = BufReader::new(child.stdout.take().expect("stdout"));
    let mut told: BTreeMap<u64, u64> = BTreeMap::new();
    let mut next = |told: &mut BTreeMap<u64, u64>| {
        let mut line = String::new();
        let bytes = reader.read_line(&mut line).expect("line");
        let heard = acknowledged(&line);
        if let Some((task, n)) = heard {
            assert_eq!(told.insert(task, n + 1).unwrap_or(0), n, "a task is told one after the other");
        }
        (bytes > 0, heard.is_some())
    };
    // One in eight dies while it opens the log or soon after, the others after some acknowledgements.
    let draw = mixed(seed, round);
    let (wanted, pause_us) =
        if draw.is_multiple_of(8) { (0, draw >> 8 & 0x7FFF) } else { (draw >> 8 & 0xFF, draw >> 16 & 0xFFF) };
    let mut heard = 0;
    while heard < wanted {
        let (more, acknowledged) = next(&mut told);
        assert!(more, "round {round}: the child ended by itself");
        heard += u64::from(acknowledged);
    }
    std::thread::sleep(Duration::from_micros(pause_us));
    child.kill().expect("kill");
    let status = child.wait().expect("wait");
    assert_eq!(status.signal(), Some(SIGKILL), "round {round}: the child ended by itself: {status}");
    // What it managed to say before it died counts too.
    while next(&mut told).0 {}
    told
}

/// What one log was told and must hold.
#[derive(Debug, Default)]
struct Ledger {
    /// Acknowledged transactions by round and task.
    told: BTreeMap<(u64, u64), u64>,
    /// Those that were found; they must never go again.
    found: BTreeMap<(u64, u64), u64>,
    torn: u64,
    rebuilt: u64,
}

impl Ledger {
    /// Opens the log and checks all of it.
    async fn check(&mut self, dir: &Path, round: u64) {
        let (log, report) = try_open_with(dir, log_options(round)).expect("open");
        if report.cut.is_some() {
            self.torn += 1;
        }
        if let IndexState::Rebuilt { reason } = &report.index {
            println!("round {round}: the index was rebuilt: {reason}");
            self.rebuilt += 1;
        }
        let mut found: BTreeMap<(u64, u64), BTreeMap<u64, BTreeMap<u64, String>>> = BTreeMap::new();
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
        assert_eq!(entries.len() as u64, log.len());
        let mut count = 0;
        for (position, entry) in (0..).zip(&entries) {
            assert_eq!(entry.position, position);
            for event in entry.events() {
                count += 1;
                let text = String::from_utf8(event.event.data.to_vec()).expect("text");
                let numbers: Vec<u64> =
                    text.split(['/', ' ']).take(4).map(|number| number.parse().expect("number")).collect();
                let [of, task, n, k] = numbers[..] else { panic!("{text}") };
                let version = versions.entry(event.event.stream.clone()).or_default();
                *version += 1;
                assert_eq!(event.event.version, *version, "round {round}: a gap in {}", event.event.stream);
                if of == round || count % 7 == 0 {
                    let by_id = log.event(event.id()).expect("event").expect("indexed");
                    assert_eq!((by_id.position, &by_id.event.data), (event.position, &event.event.data));
                }
                let twice = found.entry((of, task)).or_default().entry(n).or_default().insert(k, text);
                assert!(twice.is_none(), "round {round}: an event is there twice");
            }
        }
        for ((of, task), transactions) in &found {
            for ((n, texts), expected) in transactions.iter().zip(0..) {
                assert_eq!(*n, expected, "round {round}: a gap in task {task} of round {of}");
                let events = events(*of, *task, *n);
                assert_eq!(texts.len(), events.len(), "round {round}: half of transaction {of}/{task}/{n}");
                for (text, event) in texts.values().zip(events) {
                    assert_eq!(text.as_bytes(), event.data, "round {round}");
                }
            }
        }
        let found: BTreeMap<_, _> =
            found.into_iter().map(|(of, transactions)| (of, transactions.len() as u64)).collect();
        for (of, told) in &self.told {
            let there = found.get(of).copied().unwrap_or(0);
            assert!(there >= *told, "round {round}: of {told} transactions acknowledged to {of:?}, {there} are there");
            assert!(there <= told + 1, "round {round}: {there} of {of:?} are there, and only one can be unanswered");
        }
        for (of, before) in &self.found {
            assert_eq!(found.get(of), Some(before), "round {round}: what had been recovered has changed");
        }
        self.found = found;
        let (length, root) = (log.len(), log.root(log.len()).expect("root"));
        log.close().await;
        let report = httt_log::audit(dir, AuditOptions::default()).expect("audit");
        let known = ["does not begin with", "no key of this"];
        let real: Vec<_> =
            report.findings.iter().filter(|finding| !known.iter().any(|known| finding.what.contains(known))).collect();
        assert!(real.is_empty(), "round {round}: {real:?}");
        assert_eq!((report.entries, report.events), (length, count));
        assert_eq!(report.root, Some(root), "round {round}");
    }
}

#[test]
fn a_killed_writer_keeps_its_word() {
    if let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) {
        return write_until_killed(dir.as_ref(), round.parse().expect("number"));
    }
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect(name));
    let (rounds, seed) = (number("HTTT_FAULT_ROUNDS", DEFAULT_ROUNDS), number("HTTT_FAULT_SEED", 1));
    println!("HTTT_FAULT_ROUNDS={rounds} HTTT_FAULT_SEED={seed}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
    let (mut told, mut found, mut torn, mut rebuilt, mut removed) = (0, 0, 0, 0, 0);
    for first in (0..rounds).step_by(ROUNDS_OF_A_LOG as usize) {
        let dir = tempfile::tempdir().expect("dir");
        let mut ledger = Ledger::default();
        for round in first..rounds.min(first + ROUNDS_OF_A_LOG) {
            for (task, count) in kill_once(dir.path(), round, seed) {
                ledger.told.insert((round, task), count);
            }
            let index = dir.path().join("index");
            if round % 2 == 1 && index.is_dir() {
                std::fs::remove_dir_all(&index).expect("remove");
                removed += 1;
            }
            runtime.block_on(ledger.check(dir.path(), round));
        }
        told += ledger.told.values().sum::<u64>();
        found += ledger.found.values().sum::<u64>();
        (torn, rebuilt) = (torn + ledger.torn, rebuilt + ledger.rebuilt);
    }
    println!(
        "{rounds} kills: {told} transactions acknowledged, all there; {} more were there; {torn} torn tails cut; the index \
         was removed {removed} times and rebuilt {rebuilt} times",
        found - told
    );
    assert!(told > 0, "nothing was acknowledged before any kill");
}
