//! `httt models` on a folder: what it prints, and its exit code.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_node::carrier::CarrierModels;
use httt_node::models::{Models, SnapshotOptions, SnapshotStore};
use httt_wire::bulletin::BulletinWithdrawn;
use serde_json::Value;

/// A gateway's folder with a log of `count` entries and its snapshots.
fn node(dir: &Path, count: usize) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let sealer = Sealer::new(AgencyCode::new("NDXP").unwrap(), SigningKey::from_seed(&[1; 32]).unwrap());
        let (log, _) = Log::open(&dir.join("log"), Arc::new(sealer), Options::default()).unwrap();
        for number in 0..count {
            let event = BulletinWithdrawn { bulletin: number.to_string(), reason: "nhầm".into() };
            let event = NewEvent::of(Audience::All, Lane::Content, format!("bulletin/{number}"), &event);
            log.commit(Transaction::append([event])).await.unwrap();
        }
        let options = SnapshotOptions { dir: dir.join("models"), every: 1 };
        let models = Models::<CarrierModels>::open(&log, Some(options)).await.unwrap();
        models.close().await;
        log.close().await;
    });
}

fn httt(what: &str, dir: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_httt"));
    command.args(["models", what]).arg(dir).args(["--service", "ndxp-gateway"]).args(more).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn snapshots_are_compared_and_rebuilt_from_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    node(dir.path(), 7);
    let output = httt("compare", dir.path(), &["--json"]);
    assert!(output.status.success(), "{output:?}");
    let compared = json(&output);
    assert_eq!((&compared["ok"], &compared["entries"], &compared["events"]), (&true.into(), &7.into(), &7.into()));
    let models = compared["models"].as_array().unwrap();
    assert_eq!(models.len(), 4);
    assert!(models.iter().all(|one| one["verdict"] == "equal" && one["position"] == 7), "{models:?}");

    let store = SnapshotStore::open(&dir.path().join("models")).unwrap();
    let mut traffic = store.read("traffic").unwrap().unwrap();
    traffic.bytes = String::from_utf8(traffic.bytes).unwrap().replace("\"events\":7", "\"events\":8").into_bytes();
    store.write(&traffic).unwrap();
    drop(store);
    let output = httt("compare", dir.path(), &[]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().any(|line| line.contains("traffic") && line.contains("DIFFERS")), "{text}");

    let output = httt("rebuild", dir.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1), "it tells what was wrong before");
    assert_eq!(json(&output)["models"].as_array().unwrap().iter().filter(|one| one["equal"] == true).count(), 3);
    assert!(httt("compare", dir.path(), &[]).status.success());
}

#[test]
fn a_folder_without_a_log_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = httt("compare", dir.path(), &[]);
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("cannot be judged") && text.contains("chunks"), "{text}");
}
