//! Backup, restore, archive and repair as an operator does them: with the `httt` program, on folders.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_tests::{Outcome, httt};
use httt_wire::bulletin::BulletinWithdrawn;
use httt_wire::directory::LogOpened;

fn run(args: &[&str]) -> Outcome {
    httt(args)
}

fn good(args: &[&str]) -> Outcome {
    let outcome = run(args);
    assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:#?}");
    outcome
}

/// A node's log with chunks of a few entries; open, as a running node has it.
async fn open_log(dir: &Path) -> Log {
    let code = AgencyCode::new("H24").expect("code");
    let key = SigningKey::from_seed(&[1; 32]).expect("key");
    let public = key.public().to_wire();
    let options = Options { chunk_bytes: 2_000, ..Options::default() };
    let (log, _) = Log::open(dir, Arc::new(Sealer::new(code.clone(), key)), options).expect("open");
    if log.is_empty() {
        let opened = LogOpened {
            member: code.to_string(),
            log_id: log.log_id().to_vec(),
            key: Some(public),
            software: "test".into(),
        };
        let event = NewEvent::of(Audience::One(code), Lane::Local, "log", &opened);
        log.commit(Transaction::append([event])).await.expect("commit");
    }
    for n in 0..30 {
        let withdrawn = BulletinWithdrawn { bulletin: format!("b{n}"), reason: "superseded".into() };
        let event = NewEvent::of(Audience::All, Lane::Content, format!("bulletin/b{n}"), &withdrawn);
        log.commit(Transaction::append([event])).await.expect("commit");
    }
    log.write_checkpoint().await.expect("checkpoint");
    log
}

fn chunks(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut chunks: Vec<_> = fs::read_dir(dir.join("chunks"))
        .expect("chunks")
        .map(|item| item.expect("item"))
        .map(|item| (item.file_name().to_string_lossy().into_owned(), fs::read(item.path()).expect("read")))
        .collect();
    chunks.sort();
    chunks
}

#[tokio::test]
async fn an_operator_backs_up_restores_archives_and_repairs() {
    let folder = tempfile::tempdir().expect("dir");
    let path = |name: &str| folder.path().join(name).to_str().expect("path").to_owned();
    let (data, out, restored, archive) = (path("data"), path("backup"), path("restored"), path("archive"));
    let log_dir = folder.path().join("data/log");
    let log = open_log(&log_dir).await;

    // While the node runs, and by the node's data folder.
    let report = good(&["log", "backup", &data, &out, "--json"]).json();
    assert_eq!(
        (&report["entries"], &report["checkpoint"], &report["chunks_kept"]),
        (&31.into(), &31.into(), &0.into())
    );
    let report = good(&["log", "backup", &data, &out, "--json", "--verify"]).json();
    assert_eq!(report["chunks_copied"], 1, "only the chunk that is written");
    good(&["audit", "verify", &out]);
    for refused in [vec!["log", "archive", &data, &archive], vec!["log", "repair", &data]] {
        let outcome = run(&refused);
        assert!(outcome.code == Some(1) && outcome.stderr.contains("open already"), "{outcome:#?}");
    }
    log.close().await;

    let told = good(&["log", "restore", &out, &restored]).stdout;
    assert!(told.contains("restored 31 entries") && told.contains("start_alone_after_ms"), "{told}");
    assert!(told.contains("intact"), "it was audited: {told}");
    assert_eq!(chunks(Path::new(&restored)), chunks(&log_dir));
    let outcome = run(&["log", "restore", &out, &restored]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("not empty"), "{outcome:#?}");

    // Damage, and what repair says without and with help.
    let before = chunks(&log_dir);
    let victim = log_dir.join("chunks").join(&before[1].0);
    let mut bytes = before[1].1.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::remove_file(&victim).and_then(|()| fs::write(&victim, &bytes)).expect("write");
    assert_eq!(run(&["audit", "verify", &data]).code, Some(1));
    let outcome = run(&["log", "repair", &data]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("left as it is"), "{outcome:#?}");
    let told = good(&["log", "repair", &data, "--from", &out]).stdout;
    assert!(told.contains(&before[1].0) && told.contains("chunks.damaged-1"), "{told}");
    assert_eq!(chunks(&log_dir), before);
    assert!(good(&["log", "repair", &data]).stdout.contains("nothing was damaged"));

    let told = good(&["log", "archive", &data, &archive, "--keep", "1"]).stdout;
    assert!(told.contains("2 are in"), "{told}");
    good(&["audit", "verify", &data]);
    assert_eq!(good(&["log", "dump", &data]).stdout.lines().count(), 31);
    fs::rename(&archive, path("away")).expect("rename");
    let outcome = run(&["log", "dump", &data]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("is archived as"), "{outcome:#?}");
}
