//! A backup is a prefix of the log that ends at a commit and holds what its checkpoint vouches for, also while the log
//! is written; a later one copies what is new only, and none replaces a better one.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{append, chunk, copy_dir, event, everything, open, overwrite, restore_dir, small_chunks, try_open_with};
use httt_log::{
    BackupOptions, BackupReport, KeepError, Log, OpenError, Options, Transaction, backup, restore, scan_entries,
};

const CHUNK_BYTES: u64 = 3_000;

async fn fill(log: &Log, ids: std::ops::Range<u128>) {
    for id in ids {
        log.commit(append("s", id, "text")).await.expect("commit");
    }
}

fn make(dir: &Path, out: &Path) -> BackupReport {
    backup(dir, out, BackupOptions::default()).expect("backup")
}

/// A log of 22 entries in `dir`, backed up to `out`, and an older copy of it with 20 in `old`.
async fn backed_up_after_a_copy(dir: &Path, old: &Path, out: &Path) {
    let (log, _) = try_open_with(dir, small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 0..20).await;
    log.close().await;
    copy_dir(dir, old);
    let (log, _) = try_open_with(dir, small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 20..22).await;
    log.close().await;
    make(dir, out);
}

fn verify(dir: &Path, out: &Path) -> BackupReport {
    backup(dir, out, BackupOptions { verify: true, ..BackupOptions::default() }).expect("backup")
}

/// What a log opened on a copy of `dir` says.
fn says(dir: &Path) -> String {
    let scratch = tempfile::tempdir().expect("dir");
    copy_dir(dir, scratch.path());
    everything(&open(scratch.path()))
}

/// Chunks by name: contents and inode.
fn chunks(dir: &Path) -> BTreeMap<String, (Vec<u8>, u64)> {
    let items = fs::read_dir(dir.join("chunks")).expect("list").map(|item| item.expect("item").path());
    items
        .map(|path| {
            let inode = fs::metadata(&path).expect("metadata").ino();
            (path.file_name().expect("name").to_string_lossy().into_owned(), (fs::read(&path).expect("read"), inode))
        })
        .collect()
}

#[tokio::test]
async fn it_equals_the_log_and_later_runs_copy_what_is_new() {
    let (dir, out) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (log, _) = try_open_with(dir.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 0..50).await;
    log.write_checkpoint().await.expect("checkpoint");
    fill(&log, 50..55).await;
    let first = log.backup(out.path(), BackupOptions::default()).expect("backup");
    assert_eq!((first.entries, first.checkpoint, first.kept), (55, Some(50), 0));
    assert_eq!(first.root, log.root(55).expect("root"));
    assert!(first.copied > 3, "{first:?}");
    assert_eq!(says(out.path()), everything(&log));
    let before = chunks(out.path());

    fill(&log, 55..100).await;
    log.write_checkpoint().await.expect("checkpoint");
    let second = log.backup(out.path(), BackupOptions::default()).expect("backup");
    assert_eq!((second.entries, second.checkpoint), (100, Some(100)));
    assert_eq!(second.kept, first.copied - 1, "all but the one that was the last");
    let after = chunks(out.path());
    for (name, kept) in before.iter().take(before.len() - 1) {
        assert_eq!(after.get(name), Some(kept), "{name} was left alone");
    }
    log.close().await;
    assert_eq!(says(out.path()), says(dir.path()));
    for (name, (bytes, _)) in chunks(dir.path()) {
        assert_eq!(after[&name].0, bytes, "{name}");
    }
    // Nothing is new: only the last chunk is copied.
    assert_eq!(make(dir.path(), out.path()).copied, 1);
    assert_eq!(verify(dir.path(), out.path()).copied, 1);
    assert!(!out.path().join("index").exists());
}

#[tokio::test]
async fn full_verification_finds_and_mends_a_rotten_copy() {
    let (dir, base, out) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (log, _) = try_open_with(dir.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 0..40).await;
    log.close().await;
    make(dir.path(), base.path());
    let good = fs::read(chunk(base.path(), 1)).expect("read");
    for at in (0..good.len()).step_by(37) {
        restore_dir(base.path(), out.path());
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        overwrite(&chunk(out.path(), 1), &bytes);
        assert_eq!(verify(dir.path(), out.path()).copied, 2, "byte {at}: the rotten one and the last");
        assert_eq!(fs::read(chunk(out.path(), 1)).expect("read"), good, "byte {at}");
    }
    // Without it, length, header and last marker are compared.
    for (at, copied) in [(200, 1), (20, 2), (good.len() - 10, 2)] {
        restore_dir(base.path(), out.path());
        let mut bytes = good.clone();
        bytes[at] ^= 4;
        overwrite(&chunk(out.path(), 1), &bytes);
        assert_eq!(make(dir.path(), out.path()).copied, copied, "byte {at}");
    }
    restore_dir(base.path(), out.path());
    overwrite(&chunk(out.path(), 1), &good[..good.len() - 1]);
    assert_eq!(make(dir.path(), out.path()).copied, 2);
    fs::remove_file(chunk(out.path(), 0)).expect("remove");
    fs::remove_file(out.path().join("backup.json")).expect("remove");
    let report = make(dir.path(), out.path());
    assert_eq!(report.kept, 0, "nothing is believed without a manifest");
    assert_eq!(says(out.path()), says(dir.path()));
}

/// A backup made at any moment of writing is consistent: the writer never stops.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_consistent_while_the_log_is_written() {
    let dir = tempfile::tempdir().expect("dir");
    let options = Options { checkpoint_every: Duration::from_millis(2), ..small_chunks(60_000) };
    let (log, _) = try_open_with(dir.path(), options).expect("open");
    static STOP: AtomicBool = AtomicBool::new(false);
    let writers: Vec<_> = (0..4_u128)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut id = task << 64;
                while !STOP.load(Ordering::Relaxed) {
                    id += 2;
                    let stream = format!("s{task}");
                    let pair = [event(&stream, id, "one"), event(&stream, id + 1, &"two".repeat(id as usize % 300))];
                    log.commit(Transaction::append(pair)).await.expect("commit");
                }
            })
        })
        .collect();
    let outs = tempfile::tempdir().expect("dir");
    let (path, mut lengths) = (dir.path().to_owned(), Vec::new());
    for round in 0..40 {
        // Half of them into one folder, half each into its own; half by the log, half from outside.
        let out = outs.path().join(if round % 2 == 0 { "same".to_owned() } else { format!("{round}") });
        let (path, log) = (path.clone(), log.clone());
        let target = out.clone();
        let made = tokio::task::spawn_blocking(move || match round % 4 {
            0 | 1 => log.backup(&target, BackupOptions::default()),
            _ => backup(&path, &target, BackupOptions { verify: round == 38, ..BackupOptions::default() }),
        });
        let report = made.await.expect("task").expect("backup");
        assert!(report.checkpoint.is_none_or(|size| size <= report.entries));
        let read: Vec<_> = scan_entries(&out).expect("scan").collect::<Result<_, _>>().expect("entries");
        assert_eq!(read.len() as u64, report.entries);
        lengths.push((out, report));
    }
    STOP.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("writer");
    }
    for (out, report) in lengths.iter().skip(1).step_by(2).chain(lengths.get(38)) {
        assert_eq!(log.root(report.entries).expect("root"), report.root, "a prefix of the log");
        let opened = open(out);
        assert_eq!((opened.len(), opened.root(report.entries).expect("root")), (report.entries, report.root));
        let streams = opened.heads().len();
        assert!(streams <= 1, "one feed");
        for task in 0..4 {
            let version = opened.stream_version(opened.origin(), &format!("s{task}")).expect("version");
            assert_eq!(version.unwrap_or(0) % 2, 0, "no half commit");
        }
        opened.close().await;
    }
    log.close().await;
}

#[tokio::test]
async fn none_replaces_another_logs_or_a_longer_one() {
    let (dir, old, other) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let out = tempfile::tempdir().expect("dir");
    backed_up_after_a_copy(dir.path(), old.path(), out.path()).await;
    let before = chunks(out.path());
    let refused = |dir: &Path| backup(dir, out.path(), BackupOptions::default()).expect_err("refused");
    assert!(matches!(refused(old.path()), KeepError::BackupAhead { backup: 22, log: 20, .. }));
    // Without the manifest the chunks say so, where there are more of them.
    let (log, _) = try_open_with(other.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 0..22).await;
    log.close().await;
    assert!(matches!(refused(other.path()), KeepError::AnotherLog { .. }));
    let manifest = fs::read(out.path().join("backup.json")).expect("read");
    fs::remove_file(out.path().join("backup.json")).expect("remove");
    assert!(matches!(refused(other.path()), KeepError::AnotherLog { .. }));
    fs::write(out.path().join("backup.json"), &manifest).expect("write");
    // The old copy goes on differently: as long as the backup, but another history.
    let (log, _) = try_open_with(old.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 900..910).await;
    log.close().await;
    let error = refused(old.path());
    assert!(matches!(&error, KeepError::RootDiffers { size: 22, .. }), "{error}");
    assert!(chunks(out.path()) == before, "nothing was replaced");
    // The same without the manifest, which an interrupted first backup does not have; and when the histories part in
    // an earlier chunk, which would be replaced first.
    fs::remove_file(out.path().join("backup.json")).expect("remove");
    assert!(matches!(refused(old.path()), KeepError::RootDiffers { size: 22, .. }));
    let (log, _) = try_open_with(dir.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 22..60).await;
    log.close().await;
    let before = make(dir.path(), out.path()).entries;
    let (log, _) = try_open_with(old.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 910..960).await;
    log.close().await;
    for manifest in [true, false] {
        if !manifest {
            fs::remove_file(out.path().join("backup.json")).expect("remove");
        }
        let bytes = || chunks(out.path()).into_values().map(|(bytes, _)| bytes).collect::<Vec<_>>();
        let held = bytes();
        assert!(matches!(refused(old.path()), KeepError::RootDiffers { .. }));
        assert!(bytes() == held, "nothing was replaced by anything else");
    }
    assert_eq!(make(dir.path(), out.path()).entries, before);
    assert!(matches!(refused(out.path()), KeepError::SameFolder { .. }));
    assert!(matches!(
        backup(dir.path(), &dir.path().join("backup"), BackupOptions::default()),
        Err(KeepError::SameFolder { .. })
    ));
}

/// Chunks take their places one by one, the checkpoint after them, the manifest last.
#[tokio::test]
async fn a_run_interrupted_anywhere_leaves_a_good_backup() {
    let (dir, old, new) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (log, _) = try_open_with(dir.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 0..20).await;
    log.write_checkpoint().await.expect("checkpoint");
    log.backup(old.path(), BackupOptions::default()).expect("backup");
    fill(&log, 20..60).await;
    log.close().await;
    copy_dir(old.path(), new.path());
    make(dir.path(), new.path());
    let changed: Vec<_> = chunks(new.path())
        .into_iter()
        .filter(|(name, file)| chunks(old.path()).get(name).is_none_or(|before| before.0 != file.0))
        .map(|(name, _)| Path::new("chunks").join(name))
        .chain(["checkpoint".into(), "backup.json".into()])
        .collect();
    assert!(changed.len() > 4);
    let scratch = tempfile::tempdir().expect("dir");
    for done in 0..=changed.len() {
        let (out, restored) = (scratch.path().join("out"), scratch.path().join(done.to_string()));
        restore_dir(old.path(), &out);
        for file in &changed[..done] {
            overwrite(&out.join(file), &fs::read(new.path().join(file)).expect("read"));
        }
        fs::write(out.join("chunks/00000003.chunk.new"), "half").expect("write");
        let report = restore(&out, &restored, None).unwrap_or_else(|error| panic!("{done} done: {error}"));
        assert!(report.entries >= 20);
        assert_eq!(report.checkpoint, Some(if done + 1 >= changed.len() { 60 } else { 20 }));
        assert_eq!(make(dir.path(), &out).entries, 60);
        assert_eq!(says(&out), says(new.path()), "{done} done");
    }
}

#[tokio::test]
async fn a_damaged_log_is_not_backed_up_over_a_good_copy() {
    let (base, dir, out) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (log, _) = try_open_with(base.path(), small_chunks(CHUNK_BYTES)).expect("open");
    fill(&log, 0..30).await;
    log.close().await;
    let count = chunks(base.path()).len() as u32;
    for number in 0..count {
        let good = fs::read(chunk(base.path(), number)).expect("read");
        for at in (0..good.len() - 400).step_by(61) {
            restore_dir(base.path(), dir.path());
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            overwrite(&chunk(dir.path(), number), &bytes);
            let error = backup(dir.path(), &out.path().join("x"), BackupOptions::default()).expect_err("damaged");
            let named = format!("{number:08}.chunk");
            assert!(
                matches!(&error, KeepError::Log(OpenError::Damaged(damage)) if damage.chunk == named),
                "byte {at} of {number}: {error}"
            );
        }
    }
    // A log that lost its end is no prefix that the checkpoint vouches for.
    restore_dir(base.path(), dir.path());
    let last = chunk(dir.path(), count - 1);
    let bytes = fs::read(&last).expect("read");
    overwrite(&last, &bytes[..bytes.len() - 5]);
    let error = backup(dir.path(), &out.path().join("y"), BackupOptions::default()).expect_err("short");
    assert!(matches!(error, KeepError::Log(OpenError::ShorterThanCheckpoint { entries: 29, checkpoint: 30, .. })));
}

/// Another history need not have a commit where the backup ends: nothing is replaced before that is known.
#[tokio::test]
async fn another_history_in_larger_groups_replaces_nothing() {
    let (dir, old) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let out = tempfile::tempdir().expect("dir");
    backed_up_after_a_copy(dir.path(), old.path(), out.path()).await;
    let before = chunks(out.path());
    let (log, _) = try_open_with(old.path(), small_chunks(CHUNK_BYTES)).expect("open");
    let mut foreign = common::Foreign::new("TW→*/content", 9);
    log.commit(httt_log::Transaction::copy(foreign.batches(7))).await.expect("commit");
    assert_eq!(log.len(), 27);
    log.close().await;
    for manifest in [true, false] {
        if !manifest {
            fs::remove_file(out.path().join("backup.json")).expect("remove");
        }
        let refused = backup(old.path(), out.path(), BackupOptions::default()).expect_err("refused");
        assert!(matches!(&refused, KeepError::RootDiffers { size: 22, .. }), "{refused}");
        // What both histories have may be copied anew.
        let bytes = |(name, (bytes, _)): (&String, &(Vec<u8>, u64))| (name.clone(), bytes.clone());
        let now: Vec<_> = chunks(out.path()).iter().map(bytes).collect();
        assert!(now == before.iter().map(bytes).collect::<Vec<_>>(), "nothing was lost");
    }
}
