//! Archived chunks stay part of the log: read, audited and rebuilt from where they are, and missed loudly.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{append, chunk, copy_dir, everything, open, options, restore_dir, small_chunks, try_open, try_open_with};
use httt_log::{
    AuditOptions, BackupOptions, IndexState, KeepError, OpenError, Options, ReadError, archive, audit, backup,
    scan_entries,
};

async fn filled(dir: &Path) -> String {
    let (log, _) = try_open_with(dir, small_chunks(2_000)).expect("open");
    for id in 0..50 {
        log.commit(append("s", id, "text")).await.expect("commit");
    }
    let said = everything(&log);
    log.close().await;
    said
}

/// What the log says; it is closed afterwards.
async fn says(dir: &Path) -> String {
    let log = open(dir);
    let said = everything(&log);
    log.close().await;
    said
}

fn live(dir: &Path) -> Vec<u32> {
    (0..100).filter(|number| chunk(dir, *number).exists()).collect()
}

fn findings(dir: &Path) -> Vec<String> {
    let report = audit(dir, AuditOptions::default()).expect("audit");
    let of_the_tests = ["does not begin with", "no key of this node"];
    let found = report.findings.into_iter().map(|finding| format!("{}: {}", finding.chunk, finding.what));
    found.filter(|what| !of_the_tests.iter().any(|known| what.contains(known))).collect()
}

#[tokio::test]
async fn a_log_with_archived_chunks_is_the_same_log() {
    let (dir, to) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let said = filled(dir.path()).await;
    let all = live(dir.path());
    let report = archive(dir.path(), to.path(), 2, None).expect("archive");
    assert_eq!(report.moved, all[..all.len() - 3], "all but two full ones and the last");
    assert_eq!(live(dir.path()), all[all.len() - 3..]);
    assert_eq!((report.archived, report.live), (all.len() as u32 - 3, 3));

    let (log, report) = try_open(dir.path()).expect("open");
    assert_eq!(report.index, IndexState::Kept { caught_up: 0 });
    assert_eq!(everything(&log), said);
    log.close().await;
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    assert_eq!(says(dir.path()).await, said, "rebuilt from chunks here and there");
    let read: Vec<_> = scan_entries(dir.path()).expect("scan").collect::<Result<_, _>>().expect("entries");
    assert_eq!(read.len(), 50);
    assert_eq!(findings(dir.path()), [""; 0]);
    // A backup holds all of it in one place.
    let out = tempfile::tempdir().expect("dir");
    backup(dir.path(), out.path(), BackupOptions::default()).expect("backup");
    assert_eq!(live(out.path()), all);
    assert_eq!(says(out.path()).await, said);
}

#[tokio::test]
async fn it_works_on_an_open_log_and_again_and_again() {
    let (dir, to) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (log, _) = try_open_with(dir.path(), small_chunks(2_000)).expect("open");
    let mut moved = Vec::new();
    for round in 0..6_u128 {
        for id in round * 20..round * 20 + 20 {
            log.commit(append("s", id, "text")).await.expect("commit");
        }
        moved.extend(log.archive(to.path(), 0, None).expect("archive").moved);
        assert_eq!(live(dir.path()).len(), 2, "the newest full one always stays");
        assert_eq!(log.read(0, usize::MAX, usize::MAX).expect("read").len() as u128, round * 20 + 20);
    }
    assert_eq!(moved, (0..moved.len() as u32).collect::<Vec<_>>(), "each once");
    assert!(matches!(archive(dir.path(), to.path(), 1, None), Err(KeepError::Log(OpenError::Locked { .. }))));
    let said = everything(&log);
    log.close().await;
    let (log, _) = try_open_with(dir.path(), Options { read_only: true, ..options() }).expect("open");
    assert!(matches!(log.archive(to.path(), 1, None), Err(KeepError::ReadOnly)));
    assert_eq!(everything(&log), said);
}

fn missing(error: &ReadError, path: &Path) -> bool {
    matches!(error, ReadError::ArchiveMissing { chunk, path: named } if chunk == "00000000.chunk" && named == path)
}

#[tokio::test]
async fn without_its_archive_it_opens_serves_what_it_has_and_says_what_is_missing() {
    let (dir, far) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let said = filled(dir.path()).await;
    let to = far.path().canonicalize().expect("path").join("archive");
    let report = archive(dir.path(), &to, 2, None).expect("archive");
    let away = far.path().join("away");
    fs::rename(&to, &away).expect("rename");
    let first = to.join("00000000.chunk");

    let (log, report_open) = try_open(dir.path()).expect("opens all the same");
    assert_eq!((report_open.entries, report_open.index), (50, IndexState::Kept { caught_up: 0 }));
    assert!(missing(&log.read(0, 1, 1 << 20).expect_err("archived"), &first));
    let newest = log.read_backward(u64::MAX, 5, 1 << 20).expect("read");
    assert_eq!(newest.iter().map(|entry| entry.position).collect::<Vec<_>>(), [49, 48, 47, 46, 45]);
    log.commit(append("s", 1_000, "more")).await.expect("commit");
    log.close().await;
    assert!(missing(&scan_entries(dir.path()).expect("scan").next().expect("one").expect_err("archived"), &first));
    let found = findings(dir.path());
    assert!(found[0].contains("00000000.chunk") && found[0].contains(to.to_str().expect("path")), "{found:?}");
    assert_eq!(found.iter().filter(|what| what.contains("is not there")).count() as u32, report.archived);

    let rebuilding = tempfile::tempdir().expect("dir");
    restore_dir(dir.path(), rebuilding.path());
    fs::remove_dir_all(rebuilding.path().join("index")).expect("remove");
    match try_open(rebuilding.path()) {
        Err(OpenError::ArchiveMissing { chunk, path }) => assert_eq!((chunk.as_str(), path), ("00000000.chunk", first)),
        other => panic!("{other:?}"),
    }
    // The folder may come back elsewhere: one line says where.
    fs::write(rebuilding.path().join("archive"), format!("{}\n", away.display())).expect("write");
    let log = open(rebuilding.path());
    assert_eq!(log.len(), 51);
    assert!(everything(&log).starts_with(said.lines().next().expect("line")));
}

/// What a crash leaves after each step: the chunk and its copy, whole or half, with and without the stub.
#[tokio::test]
async fn a_crash_at_any_step_leaves_a_log_that_opens_and_archives_again() {
    let (base, dir, to) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let said = filled(base.path()).await;
    let done = tempfile::tempdir().expect("dir");
    copy_dir(base.path(), done.path());
    let folder = tempfile::tempdir().expect("dir");
    archive(done.path(), folder.path(), 2, None).expect("archive");
    let stub = |dir: &Path| dir.join("chunks/00000000.archived");
    let whole = fs::read(chunk(base.path(), 0)).expect("read");
    type Step<'a> = &'a dyn Fn(&Path, &Path);
    let named: Step<'_> = &|dir, to| fs::write(dir.join("archive"), format!("{}\n", to.display())).expect("write");
    let half: Step<'_> = &|_, to| fs::write(to.join("00000000.chunk.new"), &whole[..100]).expect("write");
    let copied: Step<'_> = &|_, to| fs::write(to.join("00000000.chunk"), &whole).expect("write");
    let stubbed: Step<'_> = &|dir, _| {
        fs::copy(stub(done.path()), stub(dir)).expect("copy");
    };
    let half_stub: Step<'_> = &|dir, _| fs::write(stub(dir).with_extension("archived.new"), "{").expect("write");
    let steps = [named, half, copied, half_stub, stubbed];
    for crash in 0..=steps.len() {
        restore_dir(base.path(), dir.path());
        let to: PathBuf = to.path().canonicalize().expect("path").join(crash.to_string());
        fs::create_dir(&to).expect("create");
        steps[..crash].iter().for_each(|step| step(dir.path(), &to));
        for keep_index in [true, false] {
            if !keep_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            let log = open(dir.path());
            assert_eq!(everything(&log), said, "crash {crash}");
            log.close().await;
        }
        archive(dir.path(), &to, 2, None).expect("archive");
        assert!(!chunk(dir.path(), 0).exists());
        let log = open(dir.path());
        assert_eq!(everything(&log), said, "crash {crash}");
        log.close().await;
    }
}

#[tokio::test]
async fn an_archive_is_one_logs_in_one_folder_and_holds_nothing_damaged() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (to, elsewhere) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    filled(dir.path()).await;
    filled(other.path()).await;
    archive(dir.path(), to.path(), 5, None).expect("archive");
    let error = archive(dir.path(), elsewhere.path(), 2, None).expect_err("refused");
    assert!(
        matches!(&error, KeepError::ArchivedElsewhere { folder } if *folder == to.path().canonicalize().expect("path"))
    );
    assert!(matches!(archive(other.path(), to.path(), 2, None), Err(KeepError::AnotherLog { .. })));
    let number = live(dir.path())[0];
    let mut bytes = fs::read(chunk(dir.path(), number)).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    common::overwrite(&chunk(dir.path(), number), &bytes);
    let error = archive(dir.path(), to.path(), 2, None).expect_err("damaged");
    assert!(matches!(error, KeepError::Log(OpenError::Damaged(_))), "{error}");
    assert!(chunk(dir.path(), number).exists());
    let inside = dir.path().join("chunks/old");
    assert!(matches!(archive(dir.path(), &inside, 2, None), Err(KeepError::SameFolder { .. })));
    let nothing = tempfile::tempdir().expect("dir");
    assert!(archive(nothing.path(), to.path(), 2, None).is_err());
    assert_eq!(fs::read_dir(nothing.path()).expect("list").count(), 0, "nothing was made there");
}

/// Two histories of one log, as after a restore, do not share an archive.
#[tokio::test]
async fn another_historys_archived_chunk_is_not_replaced() {
    let (dir, fork, to) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    open(dir.path()).close().await;
    common::restore_dir(dir.path(), fork.path());
    for (dir, text) in [(dir.path(), "this"), (fork.path(), "that")] {
        let (log, _) = try_open_with(dir, small_chunks(2_000)).expect("open");
        for id in 0..50 {
            log.commit(append("s", id, text)).await.expect("commit");
        }
        log.close().await;
    }
    archive(dir.path(), to.path(), 1, None).expect("archive");
    let before = common::files(to.path()).iter().map(|path| fs::read(path).expect("read")).collect::<Vec<_>>();
    let refused = archive(fork.path(), to.path(), 1, None).expect_err("another history");
    assert!(refused.to_string().contains("another history"), "{refused}");
    let after = common::files(to.path()).iter().map(|path| fs::read(path).expect("read")).collect::<Vec<_>>();
    assert!(before == after, "nothing was replaced");
    says(dir.path()).await;
    says(fork.path()).await;
}
