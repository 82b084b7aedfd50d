//! `httt log thin` on a folder: what goes, what it prints, what verify says then.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use httt_feed::{AgencyCode, Audience, FeedId, Lane, Sealer, SigningKey};
use httt_log::{Log, ManualClock, NewEvent, Options, Transaction};
use httt_wire::bulletin::BulletinWithdrawn;
use httt_wire::feed::Event;
use serde_json::Value;

fn sealer(origin: &str) -> Sealer {
    Sealer::new(AgencyCode::new(origin).unwrap(), SigningKey::from_seed(&[1; 32]).unwrap())
}

/// A log in small chunks: 60 batches of others' status, taken in 1970.
fn log(dir: &Path, gateway: bool) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let options = Options { chunk_bytes: 4_000, clock: Arc::new(ManualClock::new(1_000)), ..Options::default() };
        let (log, _) = Log::open(&dir.join("log"), Arc::new(sealer("NDXP")), options).unwrap();
        let own = BulletinWithdrawn { bulletin: "b".into(), reason: "nhầm".into() };
        let own = NewEvent::of(Audience::One(log.origin().clone()), Lane::Local, "own", &own);
        log.commit(Transaction::append([own.clone()])).await.unwrap();
        if gateway {
            let said = NewEvent { id: uuid::Uuid::now_v7(), stream: "d".into(), ..own };
            let said = NewEvent { audience: Audience::All, lane: Lane::Directory, ..said };
            log.commit(Transaction::append([said])).await.unwrap();
        }
        let (sealer, feed): (_, FeedId) = (sealer("H24"), "H24→TW/status".parse().unwrap());
        let mut head = None;
        for version in 1..=60_u64 {
            let event = Event {
                id: uuid::Uuid::from_u128(version.into()).as_bytes().to_vec(),
                stream: "clusters".into(),
                version,
                r#type: "test.v1.Said".into(),
                data: vec![7; 300].into(),
                ..Event::default()
            };
            let batch = sealer.seal(&feed, head.as_ref(), 0, vec![event]).unwrap();
            head = Some(batch.head());
            log.commit(Transaction::copy([batch])).await.unwrap();
        }
        log.write_checkpoint().await.unwrap();
        log.close().await;
    });
}

fn httt(args: &[&str], dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_httt")).args(args).arg(dir).args(more).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn what_is_too_old_goes_once_and_verify_counts_it() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), true);
    let nothing = httt(&["log", "thin"], dir.path(), &["--lane", "content=1d", "--json"]);
    assert_eq!((json(&nothing)["entries"].as_u64(), nothing.status.code()), (Some(0), Some(0)));
    let done = json(&httt(&["log", "thin"], dir.path(), &["--lane", "status=30d", "--lane", "content=1d", "--json"]));
    let gone = done["entries"].as_u64().unwrap();
    assert!(gone > 30 && done["lanes"]["status"]["entries"] == gone && done["bytes"].as_u64().unwrap() > 0, "{done}");
    let again = text(&httt(&["log", "thin"], dir.path(), &["--lane", "status=30d"]).stdout);
    assert!(again.starts_with("0 mục"), "{again}");
    let verified = json(&httt(&["audit", "verify"], dir.path(), &["--json"]));
    assert_eq!((verified["gone"].as_u64(), verified["entries"].as_u64()), (Some(gone), Some(62)));
    let shown = text(&httt(&["audit", "verify"], dir.path(), &[]).stdout);
    assert!(shown.contains(&format!("{gone} mục đã hết hạn lưu giữ")), "{shown}");
    let dumped = httt(&["log", "dump"], dir.path(), &[]);
    assert_eq!(text(&dumped.stdout).lines().count() as u64, 62 - gone);
    assert!(text(&dumped.stderr).contains(&format!("{gone} entries went by retention")));
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), true);
    for (lanes, says) in [
        (&["--lane", "directory=1d"][..], "kept for good"),
        (&["--lane", "local=1d"], "kept for good"),
        (&["--lane", "report=1d"], "kept for good"),
        (&["--lane", "status=0d"], "for good"),
        (&["--lane", "status=1d", "--lane", "status=2d"], "twice"),
        (&["--lane", "status=soon"], "30d"),
        (&[], "--lane"),
    ] {
        let refused = httt(&["log", "thin"], dir.path(), lanes);
        assert!(!refused.status.success() && text(&refused.stderr).contains(says), "{refused:?}");
    }
    let chunks = std::fs::read_dir(dir.path().join("log/chunks")).unwrap();
    assert!(chunks.map(|item| item.unwrap().path()).all(|path| path.extension().unwrap() == "chunk"));
}

#[test]
fn nobody_but_a_gateway_lets_others_entries_go() {
    let dir = tempfile::tempdir().unwrap();
    log(dir.path(), false);
    let refused = httt(&["log", "thin"], dir.path(), &["--lane", "status=30d"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("not a gateway's log"), "{refused:?}");
    let verified = json(&httt(&["audit", "verify"], dir.path(), &["--json"]));
    assert_eq!((verified["gone"].as_u64(), verified["entries"].as_u64()), (Some(0), Some(61)));
}
