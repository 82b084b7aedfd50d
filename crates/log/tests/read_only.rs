//! A log opened for reading only can be looked at, and is left as it was: nothing is written, cut or signed.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{append, chunk, event, everything, open, options, overwrite, sealer, small_chunks, try_open_with};
use httt_log::{CommitError, CutTail, IndexState, Log, OpenError, Options, ReadError, Transaction};

fn read_only() -> Options {
    Options { read_only: true, ..options() }
}

/// Chunks and checkpoint, by name, with their permissions.
fn truth(dir: &Path) -> BTreeMap<String, (Vec<u8>, bool)> {
    let mut files = BTreeMap::new();
    for folder in [dir.join("chunks"), dir.to_owned()] {
        for item in fs::read_dir(folder).expect("list") {
            let path = item.expect("item").path();
            if path.is_file() && !path.ends_with("lock") {
                let readonly = fs::metadata(&path).expect("metadata").permissions().readonly();
                files.insert(path.display().to_string(), (fs::read(&path).expect("read"), readonly));
            }
        }
    }
    files
}

async fn filled(dir: &Path) -> String {
    let (log, _) = try_open_with(dir, small_chunks(1_500)).expect("open");
    for n in 0..20 {
        log.commit(append("s", n, "text")).await.expect("commit");
    }
    let said = everything(&log);
    log.close().await;
    said
}

#[tokio::test]
async fn everything_reads_and_every_write_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let said = filled(dir.path()).await;
    let before = truth(dir.path());
    // Looking needs nobody's key.
    let (log, report) = Log::open(dir.path(), sealer("H24", 99), read_only()).expect("open");
    assert_eq!((report.entries, report.index), (20, IndexState::Kept { caught_up: 0 }));
    assert_eq!(everything(&log), said);
    assert_eq!(log.commit(append("s", 100, "more")).await, Err(CommitError::ReadOnly));
    assert_eq!(log.commit(append("s", 1, "text")).await, Err(CommitError::ReadOnly));
    assert_eq!(log.write_checkpoint().await, Err(CommitError::ReadOnly));
    let mut subscription = log.subscribe(18);
    for position in 18..20 {
        assert_eq!(subscription.next().await.expect("entry").position, position);
    }
    assert!(matches!(subscription.next().await, Err(ReadError::Closed)), "nothing will ever be added");
    drop(subscription);
    log.close().await;
    assert_eq!(truth(dir.path()), before);
    // And the lock is free again.
    let log = open(dir.path());
    log.commit(append("s", 100, "more")).await.expect("commit");
    log.close().await;
}

#[tokio::test]
async fn a_torn_tail_is_reported_and_left() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(append("s", 1, "x")).await.expect("commit");
    let said = everything(&log);
    log.close().await;
    let end = fs::metadata(chunk(dir.path(), 0)).expect("metadata").len();
    let log = open(dir.path());
    log.commit(Transaction::append([event("s", 2, "y"), event("s", 3, "z")])).await.expect("commit");
    log.close().await;
    fs::remove_file(dir.path().join("checkpoint")).expect("remove");
    let whole = fs::read(chunk(dir.path(), 0)).expect("read");
    for length in [end + 1, end + 30, whole.len() as u64 - 1] {
        // An index that knew the second group would make it damage.
        for keep_index in [false, true] {
            overwrite(&chunk(dir.path(), 0), &whole[..length as usize]);
            if !keep_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            let before = truth(dir.path());
            let (log, report) = try_open_with(dir.path(), read_only()).expect("open");
            let cut = CutTail { chunk: "00000000.chunk".into(), offset: end, bytes: length - end, position: 1 };
            assert_eq!((report.entries, report.cut), (1, Some(cut)));
            assert_eq!(everything(&log), said);
            log.close().await;
            assert_eq!(truth(dir.path()), before);
        }
    }
    // A chunk whose creation was interrupted is left, too.
    overwrite(&chunk(dir.path(), 0), &whole);
    fs::write(chunk(dir.path(), 1), [7; 12]).expect("write");
    let before = truth(dir.path());
    let (log, report) = try_open_with(dir.path(), read_only()).expect("open");
    assert_eq!(report.cut.map(|cut| (cut.chunk, cut.bytes)), Some(("00000001.chunk".into(), 12)));
    log.close().await;
    assert_eq!(truth(dir.path()), before);
}

#[tokio::test]
async fn no_log_is_made_where_there_is_none() {
    let dir = tempfile::tempdir().expect("dir");
    for made in ["", "chunks"] {
        fs::create_dir_all(dir.path().join(made)).expect("create");
        assert!(matches!(try_open_with(dir.path(), read_only()), Err(OpenError::NoLog { .. })), "{made}");
        assert!(!chunk(dir.path(), 0).exists());
    }
}

#[tokio::test]
async fn it_is_locked_like_any_other() {
    let dir = tempfile::tempdir().expect("dir");
    filled(dir.path()).await;
    let (log, _) = try_open_with(dir.path(), read_only()).expect("open");
    assert!(matches!(try_open_with(dir.path(), options()), Err(OpenError::Locked { .. })));
    assert!(matches!(try_open_with(dir.path(), read_only()), Err(OpenError::Locked { .. })));
    log.close().await;
}
