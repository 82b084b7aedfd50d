//! Chosen faults, one at a time.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use httt_feed::{Audience, Lane};
use httt_wire::bulletin::BulletinWithdrawn;

use super::{EIO, ENOSPC, Fault, Op, options, sealer};
use crate::files::{Files, SystemFiles, WriteFile};
use crate::{CommitError, IndexState, Log, NewEvent, OpenReport, Options, Transaction};

/// Faults to come, in order; each waits for its operation.
#[derive(Debug, Clone, Default)]
struct FaultyFiles(Arc<Mutex<VecDeque<(Op, Fault)>>>);

impl FaultyFiles {
    fn plan(&self, faults: impl IntoIterator<Item = (Op, Fault)>) {
        self.0.lock().expect("lock").extend(faults);
    }

    fn left(&self) -> usize {
        self.0.lock().expect("lock").len()
    }

    fn meet(&self, op: Op) -> io::Result<Option<usize>> {
        let mut faults = self.0.lock().expect("lock");
        if faults.front().is_none_or(|(planned, _)| *planned != op) {
            return Ok(None);
        }
        match faults.pop_front() {
            Some((_, Fault::Errno(number))) => Err(io::Error::from_raw_os_error(number)),
            Some((_, Fault::Short(bytes))) => Ok(Some(bytes)),
            None => Ok(None),
        }
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Box<dyn WriteFile>,
    faults: FaultyFiles,
}

impl WriteFile for FaultyFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let short = self.faults.meet(Op::Write)?.unwrap_or(bytes.len()).min(bytes.len());
        if short == 0 { Ok(0) } else { self.file.write_at(&bytes[..short], offset) }
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.faults.meet(Op::SetLen)?;
        self.file.set_len(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.faults.meet(Op::Sync)?;
        self.file.sync()
    }
}

impl Files for FaultyFiles {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        self.meet(Op::Create)?;
        Ok(Box::new(FaultyFile { file: SystemFiles.create(path)?, faults: self.clone() }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        Ok(Box::new(FaultyFile { file: SystemFiles.open(path)?, faults: self.clone() }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.meet(Op::SyncDir)?;
        SystemFiles.sync_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.meet(Op::Rename)?;
        SystemFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.meet(Op::Remove)?;
        SystemFiles.remove(path)
    }

    fn set_readonly(&self, path: &Path, readonly: bool) -> io::Result<()> {
        SystemFiles.set_readonly(path, readonly)
    }
}

fn open(dir: &Path, files: &FaultyFiles, chunk_bytes: u64) -> (Log, OpenReport) {
    Log::open_with(dir, sealer(), options(chunk_bytes), Arc::new(files.clone())).expect("open")
}

fn one() -> Transaction {
    let message = BulletinWithdrawn { bulletin: "b".into(), reason: "r".into() };
    Transaction::append([NewEvent::of(Audience::All, Lane::Content, "s", &message)])
}

/// Lets two commits through, a third meet `faults`, and gives what it was told, and how many entries a log opened
/// afterwards has.
async fn third_commit(
    faults: &[(Op, Fault)],
    chunk_bytes: u64,
) -> (Result<(), CommitError>, Log, FaultyFiles, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("dir");
    let files = FaultyFiles::default();
    let (log, _) = open(dir.path(), &files, chunk_bytes);
    for _ in 0..2 {
        log.commit(one()).await.expect("commit");
    }
    files.plan(faults.iter().copied());
    let told = log.commit(one()).await.map(|_| ());
    assert_eq!(files.left(), 0, "all faults were met");
    (told, log, files, dir)
}

/// Opens anew without faults; gives the number of entries.
async fn reopened(log: Log, dir: &Path) -> u64 {
    log.close().await;
    let (log, _) = open(dir, &FaultyFiles::default(), 1 << 20);
    let entries = log.len();
    assert_eq!(log.read(0, 100, usize::MAX).expect("read").len() as u64, entries);
    log.commit(one()).await.expect("it takes writes again");
    log.close().await;
    entries
}

#[tokio::test]
async fn a_failed_fsync_poisons_and_is_never_tried_again() {
    let (told, log, files, dir) = third_commit(&[(Op::Sync, EIO)], 1 << 20).await;
    assert!(matches!(told, Err(CommitError::Poisoned(_))));
    files.plan([(Op::Sync, EIO), (Op::Write, EIO)]);
    for _ in 0..3 {
        assert!(matches!(log.commit(one()).await, Err(CommitError::Poisoned(_))));
        assert!(matches!(log.write_checkpoint().await, Err(CommitError::Poisoned(_))));
    }
    assert_eq!(files.left(), 2, "nothing was written or synced any more");
    assert_eq!(log.read(0, 100, usize::MAX).expect("reading goes on").len(), 2);
    assert_eq!(*log.watch().borrow(), 2);
    // Whether the third is there is for the disk to say; here it is.
    assert!((2..=3).contains(&reopened(log, dir.path()).await));
}

#[tokio::test]
async fn a_full_disk_fails_the_commit_and_nothing_else() {
    for faults in [&[(Op::Write, ENOSPC)][..], &[(Op::Write, Fault::Short(30)), (Op::Write, ENOSPC)]] {
        let (told, log, _, dir) = third_commit(faults, 1 << 20).await;
        assert!(matches!(told, Err(CommitError::DiskFull(_))), "{told:?}");
        log.commit(one()).await.expect("there is space again");
        assert_eq!(reopened(log, dir.path()).await, 3);
    }
}

#[tokio::test]
async fn a_short_write_is_continued() {
    let faults = [(Op::Write, Fault::Short(1)), (Op::Write, Fault::Short(50)), (Op::Write, Fault::Errno(4))];
    let (told, log, _, dir) = third_commit(&faults, 1 << 20).await;
    assert_eq!(told, Ok(()));
    assert_eq!(reopened(log, dir.path()).await, 3);
}

#[tokio::test]
async fn a_failed_write_is_undone() {
    for faults in [&[(Op::Write, EIO)][..], &[(Op::Write, Fault::Short(9)), (Op::Write, Fault::Short(0))]] {
        let (told, log, _, dir) = third_commit(faults, 1 << 20).await;
        assert!(matches!(told, Err(CommitError::WriteFailed(_))), "{told:?}");
        log.commit(one()).await.expect("the log goes on");
        assert_eq!(reopened(log, dir.path()).await, 3);
    }
}

#[tokio::test]
async fn a_write_that_cannot_be_undone_poisons() {
    let faults = [(Op::Write, Fault::Short(40)), (Op::Write, ENOSPC), (Op::SetLen, EIO)];
    let (told, log, _, dir) = third_commit(&faults, 1 << 20).await;
    assert!(matches!(told, Err(CommitError::Poisoned(_))), "{told:?}");
    assert!(matches!(log.commit(one()).await, Err(CommitError::Poisoned(_))));
    assert_eq!(reopened(log, dir.path()).await, 2, "what was left of the third is cut");
}

#[tokio::test]
async fn a_chunk_that_cannot_be_created_fails_the_commit() {
    let cases: [(&[(Op, Fault)], bool); 5] = [
        (&[(Op::Create, ENOSPC)], false),
        (&[(Op::Write, Fault::Short(20)), (Op::Write, ENOSPC)], false),
        (&[(Op::Write, ENOSPC), (Op::Remove, EIO)], true),
        (&[(Op::Sync, EIO)], true),
        (&[(Op::SyncDir, EIO)], true),
    ];
    for (faults, poisons) in cases {
        // Every group is larger than a chunk, so every commit begins one.
        let (told, log, _, dir) = third_commit(faults, 100).await;
        let next = log.commit(one()).await;
        if poisons {
            assert!(matches!(told, Err(CommitError::Poisoned(_))), "{told:?}");
            assert!(matches!(next, Err(CommitError::Poisoned(_))));
        } else {
            assert!(matches!(told, Err(CommitError::DiskFull(_))), "{told:?}");
            next.expect("there is space again");
        }
        assert_eq!(reopened(log, dir.path()).await, if poisons { 2 } else { 3 }, "{faults:?}");
    }
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_harms_nothing() {
    for fault in [(Op::Create, EIO), (Op::Write, ENOSPC), (Op::Sync, EIO), (Op::Rename, EIO), (Op::SyncDir, EIO)] {
        let dir = tempfile::tempdir().expect("dir");
        let files = FaultyFiles::default();
        let (log, _) = open(dir.path(), &files, 1 << 20);
        log.commit(one()).await.expect("commit");
        files.plan([fault]);
        assert!(matches!(log.write_checkpoint().await, Err(CommitError::WriteFailed(_))), "{fault:?}");
        log.commit(one()).await.expect("commit");
        assert!(!log.write_checkpoint().await.expect("the next one").is_empty());
        assert_eq!(reopened(log, dir.path()).await, 2);
    }
}

#[tokio::test]
async fn everybody_in_a_failed_group_is_told() {
    let dir = tempfile::tempdir().expect("dir");
    let files = FaultyFiles::default();
    let (log, _) = open(dir.path(), &files, 1 << 20);
    files.plan([(Op::Write, ENOSPC)]);
    // On one thread all of them are queued before the writer answers the first; how many share its group is open.
    let commits: Vec<_> = (0..20)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move { log.commit(one()).await })
        })
        .collect();
    let mut failed = 0;
    for commit in commits {
        match commit.await.expect("task") {
            Ok(_) => {}
            Err(CommitError::DiskFull(_)) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(failed > 0);
    let versions: Vec<_> = log
        .read_stream(log.origin(), "s", 0, crate::Direction::Forward, 100)
        .expect("read")
        .iter()
        .map(|event| event.event.version)
        .collect();
    assert_eq!(versions, (1..=20 - failed).collect::<Vec<_>>(), "versions have no gap where commits failed");
}

#[tokio::test]
async fn a_damaged_index_stops_writing_but_loses_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let files: Arc<dyn Files> = Arc::new(SystemFiles);
    let opened = crate::open::open(dir.path(), sealer(), &options(1 << 20), Arc::clone(&files)).expect("open");
    let shared = Arc::new(opened.shared);
    let opened = crate::open::Opened { shared: Arc::clone(&shared), ..opened };
    let (log, _) = Log::start(opened, options(1 << 20), files).expect("start");
    for _ in 0..3 {
        log.commit(one()).await.expect("commit");
    }
    shared.index.fail("a bucket of it is damaged");
    assert!(log.poisoned().is_some_and(|reason| reason.contains("bucket")));
    assert_eq!(log.read(0, 9, usize::MAX).expect("reading goes on").len(), 3);
    assert!(matches!(log.commit(one()).await, Err(CommitError::Poisoned(reason)) if reason.contains("bucket")));
    log.close().await;
    drop(shared);
    let (log, report) = open(dir.path(), &FaultyFiles::default(), 1 << 20);
    assert!(matches!(report.index, IndexState::Rebuilt { .. }), "{:?}", report.index);
    assert_eq!(log.read(0, 9, usize::MAX).expect("read").len(), 3);
}

/// A folder that takes no files stands for a full disk: the index waits, the log goes on as long as memory allows, then
/// refuses with a reason, and goes on by itself once the folder is back.
#[tokio::test]
async fn an_index_that_cannot_be_written_holds_commits_back_and_recovers() {
    let dir = tempfile::tempdir().expect("dir");
    let options = Options { index_run_events: 4, ..options(1 << 20) };
    let (log, _) = Log::open(dir.path(), sealer(), options.clone()).expect("open");
    let (index, away) = (dir.path().join("index"), dir.path().join("away"));
    std::fs::rename(&index, &away).expect("move");
    std::fs::write(&index, "no folder").expect("write");
    let mut committed = 0;
    let refusal = loop {
        match log.commit(one()).await {
            Ok(_) => committed += 1,
            Err(refusal) => break refusal,
        }
        assert!(committed < 100, "nothing holds commits back");
    };
    assert!(matches!(&refusal, CommitError::IndexFull(reason) if reason.contains("index")), "{refusal}");
    assert!(committed >= 12, "two parts wait and a third fills: {committed}");
    assert_eq!(log.read(0, 99, usize::MAX).expect("read").len(), committed);
    std::fs::remove_file(&index).expect("remove");
    std::fs::rename(&away, &index).expect("move back");
    let mut tries = 0;
    while let Err(refusal) = log.commit(one()).await {
        assert!(matches!(refusal, CommitError::IndexFull(_)), "{refusal}");
        tries += 1;
        assert!(tries < 1_000, "it never recovers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(log.len() as usize, committed + 1);
    log.close().await;
    let (log, report) = Log::open(dir.path(), sealer(), options).expect("open");
    assert!(matches!(report.index, IndexState::Kept { .. }), "{:?}", report.index);
    assert_eq!(log.len() as usize, committed + 1);
}

/// What was only in the page cache, after a kill or a failed fsync, is put on disk before anybody is told of it.
#[tokio::test]
async fn opening_puts_what_it_recovered_on_disk_or_does_not_open() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = open(dir.path(), &FaultyFiles::default(), 1 << 20);
    log.commit(one()).await.expect("commit");
    log.close().await;
    for op in [Op::Write, Op::Sync, Op::SyncDir] {
        let files = FaultyFiles::default();
        files.plan([(op, EIO)]);
        let opened = Log::open_with(dir.path(), sealer(), options(1 << 20), Arc::new(files.clone()));
        assert!(opened.is_err(), "{op:?} failed and the log opened");
        assert_eq!(files.left(), 0, "{op:?} was met");
    }
    let (log, report) = open(dir.path(), &FaultyFiles::default(), 1 << 20);
    assert_eq!((report.entries, report.cut), (1, None));
    log.close().await;
}

/// The next chunk is begun only when the one before is on disk whole.
#[tokio::test]
async fn a_chunk_is_on_disk_before_the_next_one_is_begun() {
    let (told, log, _, dir) = third_commit(&[(Op::Sync, EIO)], 1_000).await;
    assert!(matches!(told, Err(CommitError::Poisoned(_))), "{told:?}");
    assert!(log.poisoned().is_some());
    let chunks = std::fs::read_dir(dir.path().join(crate::open::CHUNKS_DIR)).expect("chunks").count();
    assert_eq!(chunks, 1, "a chunk follows one that may not be whole");
}
