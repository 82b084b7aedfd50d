//! The signed checkpoint: anybody can verify it, and the log never falls behind it.

mod common;

use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::{append, chunk, open, options, overwrite, sealer, small_chunks, try_open, try_open_with};
use httt_log::{Log, OpenError, Options};
use signed_note::{Note, StandardVerifier, VerifierList};
use tlog_tiles::Checkpoint;

#[tokio::test]
async fn anybody_can_verify_it() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    assert_eq!(log.checkpoint(), "");
    for id in 0..7 {
        log.commit(append("s", id, "x")).await.expect("commit");
    }
    let text = log.write_checkpoint().await.expect("checkpoint");
    assert_eq!(text, log.checkpoint());
    assert_eq!(text, fs::read_to_string(dir.path().join("checkpoint")).expect("read"));

    let sealer = sealer("H24", 1);
    let key = [&[1], sealer.key().public().value()].concat();
    let verifier = format!("httt/H24+{:08x}+{}", signed_note::key_id("httt/H24", &key), BASE64_STANDARD.encode(&key));
    let list = VerifierList::new(vec![Box::new(StandardVerifier::new(&verifier).expect("key"))]);
    let note = Note::from_bytes(text.as_bytes()).expect("note");
    assert_eq!(note.verify(&list).expect("verifies").0.len(), 1);
    let checkpoint = Checkpoint::from_bytes(note.text()).expect("checkpoint");
    assert_eq!((checkpoint.origin(), checkpoint.size()), ("httt/H24", 7));
    assert_eq!(checkpoint.hash().0, log.root(7).expect("root").0);
}

#[tokio::test]
async fn it_comes_by_itself_and_at_the_end() {
    let dir = tempfile::tempdir().expect("dir");
    let soon = Options { checkpoint_every: Duration::ZERO, ..options() };
    let (log, _) = try_open_with(dir.path(), soon).expect("open");
    log.commit(append("s", 1, "x")).await.expect("commit");
    // The writer looks whether one is due before it takes the next request.
    log.commit(append("s", 2, "x")).await.expect("commit");
    assert!(log.checkpoint().contains("httt/H24"));
    log.close().await;
    let (log, report) = try_open(dir.path()).expect("open");
    assert_eq!(report.checkpoint, Some(2));
    log.commit(append("s", 3, "x")).await.expect("commit");
    log.close().await;
    assert_eq!(try_open(dir.path()).expect("open").1.checkpoint, Some(3));
}

#[tokio::test]
async fn a_log_shorter_than_its_checkpoint_does_not_open() {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = try_open_with(dir.path(), small_chunks(700)).expect("open");
    let mut ends = Vec::new();
    for id in 0..9 {
        log.commit(append("s", id, "x")).await.expect("commit");
        ends.push(fs::metadata(chunk(dir.path(), 0)).expect("metadata").len());
    }
    log.close().await;
    let last = fs::read_dir(dir.path().join("chunks")).expect("list").count() as u32 - 1;
    let path = chunk(dir.path(), last);
    let good = fs::read(&path).expect("read");
    for length in [good.len() - 1, good.len() - 90, 64] {
        overwrite(&path, &good[..length]);
        let refused = try_open(dir.path()).expect_err("too short");
        assert!(matches!(refused, OpenError::ShorterThanCheckpoint { checkpoint: 9, .. }), "{refused}");
        assert_eq!(fs::metadata(&path).expect("metadata").len(), length as u64, "evidence is left as it is");
    }
    // The last chunk gone altogether, then all of them.
    fs::remove_file(&path).expect("remove");
    assert!(matches!(try_open(dir.path()), Err(OpenError::ShorterThanCheckpoint { checkpoint: 9, .. })));
    fs::remove_dir_all(dir.path().join("chunks")).expect("remove");
    assert!(matches!(try_open(dir.path()), Err(OpenError::ShorterThanCheckpoint { entries: 0, .. })));
}

#[tokio::test]
async fn another_history_than_the_signed_one_does_not_open() {
    let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    for (dir, text) in [(&one, "one"), (&two, "two")] {
        let log = open(dir.path());
        for id in 0..3 {
            log.commit(append("s", id, text)).await.expect("commit");
        }
        log.write_checkpoint().await.expect("checkpoint");
        log.commit(append("s", 3, text)).await.expect("commit");
        log.write_checkpoint().await.expect("checkpoint");
        log.close().await;
    }
    fs::copy(one.path().join("checkpoint"), two.path().join("checkpoint")).expect("copy");
    assert!(matches!(try_open(two.path()), Err(OpenError::RootDiffers { size: 4, .. })));
    // Also when the log has grown beyond the checkpoint.
    fs::remove_file(two.path().join("checkpoint")).expect("remove");
    let log = open(two.path());
    log.commit(append("s", 9, "more")).await.expect("commit");
    log.close().await;
    fs::copy(one.path().join("checkpoint"), two.path().join("checkpoint")).expect("copy");
    assert!(matches!(try_open(two.path()), Err(OpenError::RootDiffers { size: 4, .. })));
}

#[tokio::test]
async fn a_checkpoint_that_is_none_does_not_open() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    log.commit(append("s", 1, "x")).await.expect("commit");
    log.close().await;
    let path = dir.path().join("checkpoint");
    let good = fs::read_to_string(&path).expect("read");
    for bad in ["", "nonsense", &good.replacen("\n1\n", "\n0\n", 1), &good.replace("H24", "H25")] {
        fs::write(&path, bad).expect("write");
        assert!(matches!(try_open(dir.path()), Err(OpenError::Checkpoint(_))), "{bad}");
    }
    fs::write(&path, good).expect("write");
    // After a change of key the old signature cannot be checked here, the content still is.
    let (log, report) = Log::open(dir.path(), sealer("H24", 2), options()).expect("open");
    assert_eq!(report.checkpoint, Some(1));
    let text = log.write_checkpoint().await.expect("checkpoint");
    log.close().await;
    Log::open(dir.path(), sealer("H24", 2), options()).expect("open");
    assert!(text.contains("httt/H24"));
}
