//! Once a day the node says its clusters again.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use common::*;
use httt_feed::{Audience, Lane, Sealer, SigningKey};
use httt_log::{Log, ManualClock, NewEvent, Options, Transaction};
use httt_wire::cluster::{Cluster, ClusterStatusChanged, ClusterStatusRestated, ClustersRegistered};
use httt_wire::directory::LogOpened;

/// The province's log as it was left a day and an hour ago.
async fn a_day_old(place: &Place) {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let clock = Arc::new(ManualClock::new(now_ms - 25 * 3_600_000));
    let key = SigningKey::from_pem(&std::fs::read_to_string(place.path("signing.key")).unwrap()).unwrap();
    let public = key.public().to_wire();
    let sealer = Arc::new(Sealer::new(code(OWN), key));
    let (log, _) = Log::open(&place.path("data/log"), sealer, Options { clock, ..Options::default() }).unwrap();
    let opened =
        LogOpened { member: OWN.into(), log_id: log.log_id().to_vec(), key: Some(public), software: "test".into() };
    log.commit(Transaction::append([NewEvent::of(Audience::All, Lane::Local, "log", &opened)])).await.unwrap();
    let cluster = |ordinal: u32| Cluster {
        ordinal,
        imei: imei(ordinal.into()),
        commune: COMMUNE.into(),
        name: format!("Thôn {ordinal}"),
        vendor: "ACME".into(),
    };
    let registered = ClustersRegistered { clusters: (1..=3).map(cluster).collect() };
    let changed = ClusterStatusChanged { at_ms: 77, idle: vec![1, 1], ..Default::default() };
    let upward = || Audience::One(code("TW"));
    for event in [
        NewEvent::of(upward(), Lane::Status, "clusters", &registered),
        NewEvent::of(upward(), Lane::Status, "clusters", &changed),
    ] {
        log.commit(Transaction::append([event])).await.unwrap();
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_last_restatement_is_a_day_old_restates_once() {
    let place = Place::new(QUICK);
    a_day_old(&place).await;
    let feed = feed(OWN, "TW", Lane::Status);
    let running = place.start().await;
    let restated = || running.started.node.log.restated(&feed).unwrap();
    until("it is restated", || async { restated().is_some() }).await;
    let sequence = restated().unwrap();
    let entry = running.started.node.log.read_feed(&feed, sequence - 1, 1).unwrap().remove(0);
    let registered = running.messages::<ClustersRegistered>("clusters");
    assert_eq!(registered.len(), 2);
    assert_eq!(registered[0], registered[1], "with the ordinals they had");
    let statuses = running.messages::<ClusterStatusRestated>("clusters");
    let changed = ClusterStatusChanged { at_ms: 77, idle: vec![1, 1], ..Default::default() };
    assert_eq!(statuses, [ClusterStatusRestated { changes: vec![changed] }]);
    assert_eq!(entry.batch.events.len(), 2, "one batch holds both");
    running.stop().await;
    // The next start finds that it was done: a tick goes by without another.
    let running = place.start().await;
    let (officer, length) = (running.person("officer").await, running.started.node.log.len());
    let one = serde_json::json!([{ "imei": imei(9), "commune": COMMUNE, "name": "Thôn 9", "vendor": "" }]);
    let answer = officer.post("/api/v1/clusters", &one).await;
    let device = running.log_in(&imei(9), answer[0]["password"].as_str().unwrap()).await;
    device.status("2").await;
    until("a tick went by", || async {
        running.messages::<ClusterStatusChanged>("clusters").len() > 1 && running.started.node.log.len() > length
    })
    .await;
    assert_eq!(running.started.node.log.restated(&feed).unwrap(), Some(sequence));
}
