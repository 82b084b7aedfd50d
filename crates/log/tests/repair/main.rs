//! Damaged chunks are made again exactly as they were, or nothing is changed and what is missing is said.

#[path = "../common/mod.rs"]
mod common;
mod refused;
mod repaired;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use common::{
    Foreign, NOW_MS, chunk, code, copy_dir, event, event_on, everything, open, options, overwrite, restore_dir, sealer,
};
use httt_feed::{Directory, FeedId, Lane};
use httt_log::{
    BackupOptions, Donor, Log, ManualClock, OpenError, Options, RepairError, RepairOptions, RepairReport, Transaction,
    archive, backup, repair,
};
use tempfile::TempDir;

/// A log of several chunks and feeds, a backup of it, and another node's log that holds the same feeds.
struct Nodes {
    log: TempDir,
    backup: TempDir,
    other: TempDir,
}

async fn nodes() -> Nodes {
    let (dir, out, other) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let options = Options { chunk_bytes: 3_500, clock: Arc::clone(&clock) as _, ..options() };
    let (log, _) = Log::open(dir.path(), sealer("H24", 1), options).expect("open");
    let (mut ministry, mut member) = (Foreign::new("TW→*/content", 9), Foreign::new("H19→*/report", 8));
    for n in 0..14_u128 {
        clock.set(NOW_MS + 1_000 * n as i64);
        let transaction = match n % 4 {
            0 => Transaction::append([event("s", n, "one event")]),
            1 => Transaction::copy(ministry.batches(3)),
            2 => Transaction {
                copies: [ministry.batches(1), member.batches(2)].concat(),
                ..Transaction::append([
                    event("s", n, "beside copies"),
                    event_on(Lane::Status, "t", n + 100, "two feeds"),
                ])
            },
            _ => Transaction::copy(member.batches(1)),
        };
        log.commit(transaction).await.expect("commit");
    }
    let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
    log.close().await;
    assert!(chunk(dir.path(), 2).exists() && !chunk(dir.path(), 9).exists());
    backup(dir.path(), out.path(), BackupOptions::default()).expect("backup");

    let (log, _) = Log::open(other.path(), sealer("H25", 7), common::options()).expect("open");
    let mut known = Directory::trusting(httt_feed::Digest([0; 32]));
    for (member, seed) in [("H24", 1), ("TW", 9), ("H19", 8)] {
        known = known.knowing_own(code(member), sealer(member, seed).key().public().clone());
        // Only one member can be one's own, so each is verified with a directory of its own.
        for entry in entries.iter().filter(|entry| entry.feed.origin == code(member)) {
            let batch = known.verify(httt_feed::parse(entry.bytes.clone()).expect("parse")).expect("verify");
            log.commit(Transaction::copy([batch])).await.expect("copy");
        }
    }
    log.close().await;
    Nodes { log: dir, backup: out, other }
}

fn with(folders: &[&Path]) -> RepairOptions<'static> {
    RepairOptions { folders: folders.iter().map(|folder| folder.to_path_buf()).collect(), ..RepairOptions::default() }
}

/// Contents of all chunks and the checkpoint.
fn truth(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let items = fs::read_dir(dir.join("chunks")).expect("list").map(|item| item.expect("item").path());
    let paths: Vec<_> = items.chain([dir.join("checkpoint")]).collect();
    paths
        .into_iter()
        .map(|path| (path.strip_prefix(dir).expect("in it").to_owned(), fs::read(&path).expect("read")))
        .collect()
}

fn chunk_count(dir: &Path) -> u32 {
    fs::read_dir(dir.join("chunks")).expect("list").count() as u32
}

/// Start and end of each frame in a chunk, and whether it is an entry.
fn frames(bytes: &[u8]) -> Vec<(usize, usize, bool)> {
    let (mut at, mut frames) = (64, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        frames.push((at, at + 20 + length, bytes[at + 8] == 1));
        at += 20 + length;
    }
    frames
}

/// All kinds of damage to a chunk, each with its name: bit flips, zeroed pieces, cuts, and `None` for a lost file.
fn harms(good: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut harms = vec![("lost".to_owned(), None), ("emptied".to_owned(), Some(Vec::new()))];
    for at in (0..good.len()).step_by(97).chain([3, 30, 45, 62, 64, good.len() - 1]) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        harms.push((format!("flip at {at}"), Some(bytes)));
    }
    for at in (0..good.len()).step_by(512) {
        let mut bytes = good.to_vec();
        let end = (at + 512).min(bytes.len());
        bytes[at..end].fill(0);
        harms.push((format!("zeros at {at}"), Some(bytes)));
    }
    let ends = frames(good).into_iter().map(|(_, end, _)| end);
    for at in ends.chain([1, 63, 64, 70, good.len() - 1]).filter(|at| *at < good.len()) {
        harms.push((format!("cut at {at}"), Some(good[..at].to_vec())));
    }
    let mut shifted = good.to_vec();
    shifted.splice(900..900, [7; 33]);
    harms.push(("bytes put in".to_owned(), Some(shifted)));
    harms.push(("bytes put behind".to_owned(), Some([good, &[9; 77]].concat())));
    harms
}

/// Harms every chunk in every way and repairs it; all chunks must be as before.
fn repairs_everything(base: &Path, with_index: bool, donors: &[&Path]) -> Vec<RepairReport> {
    let dir = tempfile::tempdir().expect("dir");
    let good = truth(base);
    let mut reports = Vec::new();
    for number in 0..chunk_count(base) {
        let bytes = fs::read(chunk(base, number)).expect("read");
        for (what, harmed) in harms(&bytes) {
            restore_dir(base, dir.path());
            if !with_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            match harmed {
                Some(harmed) => overwrite(&chunk(dir.path(), number), &harmed),
                None => fs::remove_file(chunk(dir.path(), number)).expect("remove"),
            }
            let before = fs::read(chunk(dir.path(), number)).ok();
            let last = number + 1 == chunk_count(base);
            let what = format!("chunk {number}: {what}");
            let report = repair(dir.path(), with(donors)).unwrap_or_else(|error| panic!("{what}: {error}"));
            // A tail that belongs to nothing is opening's to cut.
            if !(last && what.ends_with("behind")) {
                assert!(truth(dir.path()) == good, "{what}: {report:?}");
                assert_eq!(report.chunks, [format!("{number:08}.chunk")], "{what}");
                let kept = report.aside.as_ref().and_then(|aside| fs::read(aside.join(&report.chunks[0])).ok());
                assert!(kept == before, "{what}: the damaged file is kept");
            }
            assert!(!dir.path().join("chunks.repairing").exists());
            reports.push(report);
        }
    }
    reports
}
