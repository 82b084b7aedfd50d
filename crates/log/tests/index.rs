//! The index may vanish, be garbage, old, truncated or of another log: the log says the same.

mod common;

use std::fs;
use std::path::Path;

use common::{Foreign, append, event, everything, files, open, options, restore_dir, try_open};
use httt_log::{IndexState, Log, Transaction};

async fn fill(log: &Log, from: u128) {
    let mut foreign = Foreign::new(&format!("H{}→TW/content", 30 + from), 9);
    for n in 0..6 {
        let id = 100 * from + 10 * n;
        log.commit(Transaction::append([event("s", id, "x"), event("t", id + 1, "y")])).await.expect("commit");
        log.commit(Transaction::copy(foreign.batches(2))).await.expect("copy");
    }
}

/// Opens, compares, and gives the reason for rebuilding if there was one.
async fn same(dir: &Path, said: &str, what: &str) -> Option<String> {
    let (log, report) = try_open(dir).expect(what);
    assert_eq!(everything(&log), said, "{what}");
    log.close().await;
    match report.index {
        IndexState::Rebuilt { reason } => Some(reason),
        _ => None,
    }
}

#[tokio::test]
async fn a_missing_or_garbage_index_is_rebuilt() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 1).await;
    let said = everything(&log);
    log.close().await;
    let index = dir.path().join("index");
    assert_eq!(same(dir.path(), &said, "untouched").await, None);
    fs::remove_dir_all(&index).expect("remove");
    assert!(same(dir.path(), &said, "missing").await.is_some());
    fs::remove_dir_all(&index).expect("remove");
    fs::create_dir(&index).expect("create");
    assert!(same(dir.path(), &said, "an empty folder").await.is_some());
    fs::remove_dir_all(&index).expect("remove");
    fs::write(&index, "a file").expect("write");
    assert!(same(dir.path(), &said, "a file").await.is_some());
    for _ in 0..4 {
        for file in files(&index) {
            fs::write(file, "garbage that is no database at all").expect("write");
        }
        assert!(same(dir.path(), &said, "garbage").await.is_some());
        assert_eq!(same(dir.path(), &said, "rebuilt before").await, None, "once is enough");
    }
    let aside = fs::read_dir(dir.path())
        .expect("list")
        .filter(|item| item.as_ref().expect("item").file_name().to_string_lossy().starts_with("index.damaged-"))
        .count();
    assert_eq!(aside, 2, "only the last two are kept");
}

#[tokio::test]
async fn an_older_index_catches_up_and_a_foreign_one_is_rebuilt() {
    let (dir, older, other) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(dir.path());
    fill(&log, 1).await;
    log.close().await;
    let index = dir.path().join("index");
    restore_dir(&index, &older.path().join("index"));
    let log = open(dir.path());
    fill(&log, 2).await;
    let said = everything(&log);
    log.close().await;
    restore_dir(&older.path().join("index"), &index);
    let (log, report) = try_open(dir.path()).expect("open");
    assert_eq!(report.index, IndexState::Kept { caught_up: 18 });
    assert_eq!(everything(&log), said);
    log.close().await;

    let log = open(other.path());
    fill(&log, 1).await;
    log.close().await;
    restore_dir(&other.path().join("index"), &index);
    let reason = same(dir.path(), &said, "of another log").await.expect("rebuilt");
    assert!(reason.contains("another log"), "{reason}");
}

#[tokio::test]
async fn an_index_of_another_history_of_the_same_log_is_rebuilt() {
    let (dir, fork) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(dir.path());
    fill(&log, 1).await;
    log.close().await;
    fs::remove_file(dir.path().join("checkpoint")).expect("remove");
    restore_dir(dir.path(), fork.path());
    let log = open(fork.path());
    log.commit(append("s", 7_000, "!")).await.expect("commit");
    log.close().await;
    let log = open(dir.path());
    log.commit(append("s", 7_000, "?")).await.expect("commit");
    let said = everything(&log);
    log.close().await;
    restore_dir(&fork.path().join("index"), &dir.path().join("index"));
    let reason = same(dir.path(), &said, "a fork").await.expect("rebuilt");
    assert!(reason.contains("root"), "{reason}");
}

/// Harms the largest file of the index in many ways; each time the log must open and say the same.
async fn harmed(harm: impl Fn(&mut Vec<u8>, usize), steps: usize) {
    let (base, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(base.path());
    fill(&log, 1).await;
    let said = everything(&log);
    log.close().await;
    let mut rebuilt = 0;
    for file in files(&base.path().join("index")) {
        let good = fs::read(&file).expect("read");
        let name = file.strip_prefix(base.path()).expect("inside");
        // sled's file is mostly zeros; only what is not matters.
        let used = good.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for step in 0..steps.min(used) {
            restore_dir(base.path(), dir.path());
            let mut bytes = good.clone();
            harm(&mut bytes, step * used / steps.min(used));
            fs::write(dir.path().join(name), &bytes).expect("write");
            let what = format!("{} step {step}", name.display());
            let (log, report) = try_open(dir.path()).expect(&what);
            // What opening does not look at may turn out damaged later: then that is said, and the next open heals it.
            let now = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| everything(&log)));
            match &now {
                Ok(now) => assert_eq!(*now, said, "{what}"),
                Err(_) => assert!(log.poisoned().is_some(), "{what}"),
            }
            log.close().await;
            if now.is_err() {
                assert!(same(dir.path(), &said, &what).await.is_some(), "{what}");
            }
            rebuilt += usize::from(now.is_err() || matches!(report.index, IndexState::Rebuilt { .. }));
        }
    }
    assert!(rebuilt > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_index_tells_no_lies() {
    harmed(|bytes, at| bytes.truncate(at), 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_index_tells_no_lies() {
    harmed(|bytes, at| bytes[at] ^= 0xFF, 6).await;
}

#[tokio::test]
async fn commits_go_on_after_a_rebuild() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    fill(&log, 1).await;
    log.close().await;
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let (log, _) = Log::open(dir.path(), common::sealer("H24", 1), options()).expect("open");
    let again = log.commit(Transaction::append([event("s", 100, "x")])).await.expect("commit");
    assert_eq!((again.versions[0], again.next), (1, 18), "ids are known again");
    assert_eq!(log.commit(append("s", 9_000, "new")).await.expect("commit").versions, [7]);
}
