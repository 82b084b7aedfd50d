//! A backup becomes a log again, verified on the way; what is not as it was vouched for is refused.

mod common;

use std::fs;
use std::path::Path;

use common::{append, chunk, everything, open, overwrite, restore_dir, small_chunks, try_open, try_open_with};
use httt_log::{BackupOptions, KeepError, OpenError, RestoreReport, backup, restore};
use tempfile::TempDir;

/// A backup of a log of several chunks, and what the log said.
async fn backed_up() -> (TempDir, String) {
    let (dir, out) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (log, _) = try_open_with(dir.path(), small_chunks(2_000)).expect("open");
    for id in 0..30 {
        log.commit(append("s", id, "text")).await.expect("commit");
    }
    let said = everything(&log);
    log.close().await;
    backup(dir.path(), out.path(), BackupOptions::default()).expect("backup");
    (out, said)
}

fn into(backup: &Path, dir: &Path) -> Result<RestoreReport, KeepError> {
    restore(backup, dir, None)
}

#[tokio::test]
async fn the_restored_log_says_the_same_and_goes_on() {
    let (out, said) = backed_up().await;
    let parent = tempfile::tempdir().expect("dir");
    let dir = parent.path().join("new/log");
    let mut told = Vec::new();
    let report = restore(out.path(), &dir, Some(Box::new(|progress| told.push(*progress)))).expect("restore");
    assert_eq!((report.entries, report.checkpoint), (30, Some(30)));
    assert_eq!(report.origin.as_deref(), Some("httt/H24"));
    assert!(report.made_at_ms.is_some() && report.last_commit_ms == Some(common::NOW_MS));
    assert_eq!(told.last().map(|told| (told.bytes, told.total_bytes)), Some((report.bytes, report.bytes)));
    let log = open(&dir);
    assert_eq!(everything(&log), said);
    let done = log.commit(append("s", 100, "after")).await.expect("commit");
    assert_eq!((done.events[0].entry, done.versions[0]), (30, 31));
    log.close().await;
    // A log's own folder is as good as a backup, as long as nobody has it open.
    let again = parent.path().join("again");
    let log = open(&dir);
    assert!(matches!(into(&dir, &again), Err(KeepError::Log(OpenError::Locked { .. }))));
    let said = everything(&log);
    log.close().await;
    let report = into(&dir, &again).expect("restore");
    assert_eq!((report.entries, report.made_at_ms), (31, None));
    assert_eq!(everything(&open(&again)), said);
}

#[tokio::test]
async fn it_goes_into_an_empty_folder_only() {
    let (out, _) = backed_up().await;
    let dir = tempfile::tempdir().expect("dir");
    fs::write(dir.path().join("something"), "x").expect("write");
    assert!(matches!(into(out.path(), dir.path()), Err(KeepError::NotEmpty { .. })));
    fs::remove_file(dir.path().join("something")).expect("remove");
    into(out.path(), dir.path()).expect("restore");
    assert!(matches!(into(out.path(), dir.path()), Err(KeepError::NotEmpty { .. })));
    assert!(matches!(into(out.path(), &out.path().join("in")), Err(KeepError::SameFolder { .. })));
    let empty = tempfile::tempdir().expect("dir");
    assert!(into(empty.path(), &empty.path().join("x")).is_err());
}

#[tokio::test]
async fn a_flipped_bit_anywhere_in_a_backup_is_refused() {
    let (out, _) = backed_up().await;
    let (bad, target) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let dir = target.path().join("log");
    let count = fs::read_dir(out.path().join("chunks")).expect("list").count() as u32;
    for with_manifest in [true, false] {
        restore_dir(out.path(), bad.path());
        if !with_manifest {
            fs::remove_file(bad.path().join("backup.json")).expect("remove");
        }
        for number in 0..count {
            let good = fs::read(chunk(out.path(), number)).expect("read");
            for at in (0..good.len()).step_by(67) {
                let mut bytes = good.clone();
                bytes[at] ^= 2;
                overwrite(&chunk(bad.path(), number), &bytes);
                into(bad.path(), &dir).expect_err(&format!("byte {at} of chunk {number}"));
                assert!(!dir.join("chunks").exists());
            }
            overwrite(&chunk(bad.path(), number), &good);
        }
        // What failed before is no obstacle.
        into(bad.path(), &dir).expect("restore");
        fs::remove_dir_all(&dir).expect("remove");
    }
    restore_dir(out.path(), bad.path());
    fs::remove_file(chunk(bad.path(), count - 1)).expect("remove");
    let error = into(bad.path(), &dir).expect_err("a chunk is missing");
    assert!(matches!(error, KeepError::RootDiffers { size: 30, .. }), "{error}");
}

#[tokio::test]
async fn an_interrupted_restore_opens_as_no_new_log_and_can_be_done_again() {
    let (out, said) = backed_up().await;
    let target = tempfile::tempdir().expect("dir");
    let dir = target.path().join("log");
    fs::create_dir_all(dir.join("chunks.restoring")).expect("create");
    fs::write(dir.join("chunks.restoring/00000000.chunk"), "half").expect("write");
    fs::copy(out.path().join("checkpoint"), dir.join("checkpoint")).expect("copy");
    assert!(matches!(try_open(&dir), Err(OpenError::ShorterThanCheckpoint { entries: 0, .. })));
    fs::remove_dir(dir.join("chunks")).expect("remove");
    into(out.path(), &dir).expect("restore");
    assert_eq!(everything(&open(&dir)), said);
    assert!(!dir.join("chunks.restoring").exists());
}
