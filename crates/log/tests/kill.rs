//! A process killed while it writes loses nothing that it acknowledged.

mod common;

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};

use common::{event, small_chunks, try_open_with};
use httt_log::{AuditOptions, IndexState, Log, Transaction};
use uuid::Uuid;

const DIR: &str = "HTTT_LOG_KILL_DIR";
const FIRST_ID: &str = "HTTT_LOG_KILL_FIRST_ID";
const TASKS: u128 = 8;
const CHUNK_BYTES: u64 = 20_000;

/// The child: several tasks that append and tell each acknowledged id, until killed.
fn write_until_killed(dir: &str, first: u128) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("runtime");
    runtime.block_on(async {
        let (log, _) = try_open_with(dir.as_ref(), small_chunks(CHUNK_BYTES)).expect("open");
        let tasks: Vec<_> = (0..TASKS).map(|task| tokio::spawn(append_for_ever(log.clone(), first, task))).collect();
        for task in tasks {
            task.await.expect("task");
        }
    });
}

async fn append_for_ever(log: Log, first: u128, task: u128) {
    for n in 0.. {
        let id = first + TASKS * 2 * n + 2 * task;
        let stream = format!("s{task}");
        let events = [event(&stream, id, "first of two"), event(&stream, id + 1, "second of two")];
        log.commit(Transaction::append(events)).await.expect("commit");
        let mut out = std::io::stdout().lock();
        writeln!(out, "ack {id}").and_then(|()| out.flush()).expect("tell");
    }
}

#[test]
fn a_killed_writer_keeps_its_word() {
    if let (Ok(dir), Ok(first)) = (std::env::var(DIR), std::env::var(FIRST_ID)) {
        return write_until_killed(&dir, first.parse().expect("number"));
    }
    let dir = tempfile::tempdir().expect("dir");
    let mut acknowledged = HashSet::new();
    let mut before = 0;
    for (round, wanted) in [40, 3, 171, 1, 300, 77].into_iter().enumerate() {
        let first = 1_000_000 * (round as u128 + 1);
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "a_killed_writer_keeps_its_word", "--nocapture"])
            .env(DIR, dir.path())
            .env(FIRST_ID, first.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("child");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let mut heard = 0;
        let mut note = |line: &str| {
            // The test harness may have written the beginning of the first line.
            if let Some((_, id)) = line.split_once("ack ") {
                acknowledged.insert(id.trim().parse::<u128>().expect("id"));
                return true;
            }
            false
        };
        while heard < wanted {
            let line = lines.next().expect("the child writes on").expect("line");
            heard += usize::from(note(&line));
        }
        child.kill().expect("kill");
        child.wait().expect("wait");
        // What it managed to say before it died counts too. A line cut short is no acknowledgement.
        lines.map_while(Result::ok).filter(|line| line.len() == "ack 1000000".len()).for_each(|line| {
            note(&line);
        });

        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let (log, report) = try_open_with(dir.path(), small_chunks(CHUNK_BYTES)).expect("open");
            assert!(report.entries >= before && report.entries > 0);
            before = report.entries;
            if let IndexState::Rebuilt { reason } = &report.index {
                println!("round {round}: {reason}");
            }
            for id in &acknowledged {
                for (id, text) in [(*id, "first of two"), (id + 1, "second of two")] {
                    let event = log.event(Uuid::from_u128(id)).expect("event").expect("acknowledged");
                    assert_eq!(event.event.data, text, "round {round}");
                }
            }
            log.close().await;
        });
        let report = httt_log::audit(dir.path(), AuditOptions::default()).expect("audit");
        let real: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| !finding.what.contains("does not begin with") && !finding.what.contains("no key of this"))
            .collect();
        assert!(real.is_empty(), "round {round}: {real:?}");
        assert_eq!(report.events % 2, 0, "both events of each transaction or none");
    }
}
