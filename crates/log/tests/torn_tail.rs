//! Whatever a crash left of the last group is cut and reported; what was acknowledged before stays.

mod common;

use std::fs;
use std::path::Path;

use common::{append, chunk, copy_dir, event, everything, open, overwrite, restore_dir, try_open};
use httt_log::{CutTail, Transaction};
use tempfile::TempDir;

/// A log of some groups: its folder as of before the last group, the bytes of its chunk with it, and what it said.
struct Torn {
    base: TempDir,
    before: u64,
    full: Vec<u8>,
    said: String,
}

async fn torn() -> Torn {
    let (dir, base) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(dir.path());
    for n in 0..3 {
        log.commit(append("s", n, "x")).await.expect("commit");
    }
    let said = everything(&log);
    log.close().await;
    let before = fs::metadata(chunk(dir.path(), 0)).expect("metadata").len();
    copy_dir(dir.path(), base.path());
    let log = open(dir.path());
    log.commit(Transaction::append([event("s", 10, "y"), event("t", 11, "z")])).await.expect("commit");
    log.close().await;
    Torn { base, before, full: fs::read(chunk(dir.path(), 0)).expect("read"), said }
}

async fn check(torn: &Torn, dir: &Path, bytes: &[u8], what: &str) {
    restore_dir(torn.base.path(), dir);
    overwrite(&chunk(dir, 0), bytes);
    let (log, report) = try_open(dir).expect(what);
    assert_eq!(report.entries, 3, "{what}");
    let left = bytes.len() as u64 - torn.before;
    let zeros = bytes[torn.before as usize..].iter().all(|byte| *byte == 0);
    let cut = CutTail { chunk: "00000000.chunk".into(), offset: torn.before, bytes: left, position: 3 };
    assert_eq!(report.cut, (!zeros).then_some(cut), "{what}");
    assert_eq!(fs::metadata(chunk(dir, 0)).expect("metadata").len(), torn.before, "{what}");
    assert_eq!(everything(&log), torn.said, "{what}");
    let done = log.commit(append("s", 10, "another y")).await.expect("commit");
    assert_eq!((done.events[0].entry, done.versions[0]), (3, 4), "{what}");
    log.close().await;
}

#[tokio::test]
async fn every_length_of_the_last_group_is_cut() {
    let torn = torn().await;
    let dir = tempfile::tempdir().expect("dir");
    for length in torn.before as usize..torn.full.len() {
        check(&torn, dir.path(), &torn.full[..length], &format!("cut to {length} bytes")).await;
    }
}

#[tokio::test]
async fn pages_lost_out_of_order_are_cut() {
    let torn = torn().await;
    let dir = tempfile::tempdir().expect("dir");
    let group = torn.before as usize..torn.full.len();
    for at in group.clone().step_by(13) {
        // Zeros from there on, up to there, and just there.
        let mut bytes = torn.full.clone();
        bytes[at..].fill(0);
        check(&torn, dir.path(), &bytes, &format!("zeros from {at}")).await;
        let mut bytes = torn.full.clone();
        bytes[group.start..=at].fill(0);
        if at + 1 < group.end {
            check(&torn, dir.path(), &bytes, &format!("zeros up to {at}")).await;
        }
        let mut bytes = torn.full.clone();
        bytes[at] = !bytes[at];
        check(&torn, dir.path(), &bytes, &format!("byte {at} wrong")).await;
    }
}

#[tokio::test]
async fn zeros_after_the_last_group_are_no_damage() {
    let torn = torn().await;
    let dir = tempfile::tempdir().expect("dir");
    for zeros in [1, 19, 20, 21, 5_000] {
        let bytes = [&torn.full[..torn.before as usize], &vec![0; zeros]].concat();
        check(&torn, dir.path(), &bytes, &format!("{zeros} zeros")).await;
    }
}

#[tokio::test]
async fn a_torn_tail_that_the_index_knew_is_damage() {
    let torn = torn().await;
    let (ahead, dir) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    // The index of the whole log beside the chunk of the torn one.
    restore_dir(torn.base.path(), ahead.path());
    overwrite(&chunk(ahead.path(), 0), &torn.full);
    open(ahead.path()).close().await;
    restore_dir(torn.base.path(), dir.path());
    restore_dir(&ahead.path().join("index"), &dir.path().join("index"));
    overwrite(&chunk(dir.path(), 0), &torn.full[..torn.full.len() - 1]);
    // It was on disk, since the index knew it, so somebody may have been told.
    for attempt in ["first", "second", "third"] {
        let refused = try_open(dir.path()).expect_err(attempt);
        assert!(
            matches!(&refused, httt_log::OpenError::Damaged(damage) if damage.what.contains("index knew")),
            "{attempt}: {refused}"
        );
    }
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    // Cut at the end of a group, the chunk may as well be an older copy put there by somebody: told, not refused.
    restore_dir(&ahead.path().join("index"), &dir.path().join("index"));
    overwrite(&chunk(dir.path(), 0), &torn.full[..torn.before as usize]);
    let (log, report) = try_open(dir.path()).expect("open");
    assert!(
        matches!(&report.index, httt_log::IndexState::Rebuilt { reason } if reason.contains("it knew")),
        "{:?}",
        report.index
    );
    assert_eq!(everything(&log), torn.said);
}

#[tokio::test]
async fn a_chunk_whose_creation_was_interrupted_is_removed() {
    let torn = torn().await;
    let dir = tempfile::tempdir().expect("dir");
    for left in [vec![], vec![0; 64], vec![0; 4096], vec![7; 40]] {
        restore_dir(torn.base.path(), dir.path());
        overwrite(&chunk(dir.path(), 1), &left);
        let (log, report) = try_open(dir.path()).expect("open");
        assert_eq!(report.cut.expect("cut").chunk, "00000001.chunk");
        assert_eq!(everything(&log), torn.said);
        assert!(!chunk(dir.path(), 1).exists());
        log.close().await;
    }
}
