//! Registering clusters, and what goes up of their status.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::http::{Method, StatusCode};
use common::*;
use httt_domain::cluster::decode_deltas;
use httt_wire::cluster::{ClusterStatusChanged, ClustersRegistered, DeviceCredentialIssued};
use serde_json::{Value, json};

fn cluster(number: u64, commune: &str) -> Value {
    json!({ "imei": imei(number), "commune": commune, "name": format!("Thôn {number}"), "vendor": "ACME" })
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_are_registered_all_or_none() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let (officer, commune) = (running.person("officer").await, running.person("commune").await);
    let path = "/api/v1/clusters";
    let many: Vec<Value> =
        (1..=2_000).map(|number| cluster(number, if number % 2 == 0 { COMMUNE } else { OTHER_COMMUNE })).collect();
    let registered = officer.post(path, &json!(many)).await;
    assert_eq!((registered.as_array().unwrap().len(), &registered[1_999]["ordinal"]), (2_000, &json!(2_000)));
    let messages = running.messages::<ClustersRegistered>("clusters");
    assert!(messages.len() > 1, "in events of bounded size");
    assert_eq!(messages.iter().map(|message| message.clusters.len()).sum::<usize>(), 2_000);
    assert_eq!(running.stream("clusters")[0].feed.to_string(), format!("{OWN}→TW/status"));
    let password = registered[0]["password"].as_str().unwrap();
    let issued = running.messages::<DeviceCredentialIssued>(&format!("device/{}", imei(1)));
    assert_eq!(issued[0].secret_sha256, httt_feed::Digest::of(password.as_bytes()).0, "only its digest is kept");
    running.log_in(&imei(1), password).await;

    let too_many: Vec<Value> = (3_000..5_001).map(|number| cluster(number, COMMUNE)).collect();
    for (body, code) in [
        (json!(too_many), "too-many"),
        (json!([]), "required"),
        (json!([cluster(1, COMMUNE)]), "duplicate"),
        (json!([cluster(9_000, COMMUNE), cluster(9_000, COMMUNE)]), "duplicate"),
        (json!([{ "imei": "12", "commune": COMMUNE, "name": "x" }]), "malformed"),
        (json!([cluster(9_000, "00000")]), "unknown-area"),
        (json!([cluster(9_000, "31")]), "not-a-commune"),
    ] {
        let (status, codes, _) = officer.refused(Method::POST, path, &body).await;
        assert_eq!((status, codes), (StatusCode::UNPROCESSABLE_ENTITY, vec![code.to_owned()]));
    }
    assert_eq!(commune.refused(Method::POST, path, &json!([cluster(9_000, COMMUNE)])).await.0, StatusCode::FORBIDDEN);

    let page = officer.get(&format!("/api/v1/clusters?area={COMMUNE}&limit=600")).await;
    assert_eq!(
        (&page["total"], &page["next"], page["clusters"].as_array().unwrap().len()),
        (&json!(1_000), &json!(600), 600)
    );
    let page = officer.get(&format!("/api/v1/clusters?area={COMMUNE}&limit=600&offset=600")).await;
    assert_eq!((&page["next"], page["clusters"].as_array().unwrap().len()), (&Value::Null, 400));
    assert_eq!(page["clusters"][399]["ordinal"], 2_000);
    let (status, _) = officer.send(Method::GET, "/api/v1/clusters?status=asleep", None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let (status, _) = officer.send(Method::GET, "/api/v1/clusters?area=19", None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    running.compare().await;
    running.stop().await;
}

/// What the models do not know yet: cluster 1 of the node's own register, said by the node itself.
async fn said_behind_the_models(running: &Running) {
    let event = ClustersRegistered {
        clusters: vec![httt_wire::cluster::Cluster {
            ordinal: 1,
            imei: imei(1),
            commune: COMMUNE.into(),
            name: "Thôn 1".into(),
            ..Default::default()
        }],
    };
    let audience = httt_feed::Audience::One(code("TW"));
    let event = httt_log::NewEvent::of(audience, httt_feed::Lane::Status, "clusters", &event);
    running.started.node.log.commit(httt_log::Transaction::append([event])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decided_on_models_that_are_behind_the_log() {
    let place = Place::new(Pace { tick: 3_600_000, ..QUICK });
    let running = place.start().await;
    let (officer, commune) = (running.person("officer").await, running.person("commune").await);
    let still = running.started.models.hold_still().await;
    said_behind_the_models(&running).await;
    let length = running.started.node.log.len();
    let set = json!({ "commune": COMMUNE, "name": "Buổi sáng", "bulletins": [] });
    for (person, method, path, body) in [
        (&officer, Method::POST, "/api/v1/clusters", json!([cluster(2, COMMUNE)])),
        (&commune, Method::POST, "/api/v1/schedules", set),
        (&commune, Method::DELETE, "/api/v1/schedules/s1", json!({ "reason": "thôi" })),
    ] {
        let (status, answer) = person.send(method, path, Some(&body)).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {answer}");
    }
    assert_eq!(running.started.node.log.len(), length, "nothing was written");
    drop(still);
    let registered = officer.post("/api/v1/clusters", &json!([cluster(2, COMMUNE)])).await;
    assert_eq!(registered[0]["ordinal"], 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_registrations_at_once_give_no_ordinal_twice() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let officer = running.person("officer").await;
    let one = |number: u64| {
        let officer = &officer;
        async move { officer.send(Method::POST, "/api/v1/clusters", Some(&json!([cluster(number, COMMUNE)]))).await }
    };
    let answers = futures_util::future::join_all((1..=20).map(|number| one(1 + number % 10))).await;
    let mut ordinals: Vec<u64> = answers.iter().filter_map(|(_, answer)| answer[0]["ordinal"].as_u64()).collect();
    ordinals.sort_unstable();
    assert_eq!(ordinals, (1..=10).collect::<Vec<_>>());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_compact_event_a_tick_says_what_changed() {
    let place = Place::new(Pace { tick: 700, ..QUICK });
    let running = place.start().await;
    let mut devices = Vec::new();
    for number in 1..=6 {
        devices.push(running.device(&imei(number), COMMUNE).await);
    }
    // All within one tick, as far as this machine goes: they are told in as few events as there were ticks.
    for (index, device) in devices.iter().enumerate() {
        device.status(["0", "1", "2"][index % 3]).await;
        device.status(["0", "1", "2"][index % 3]).await;
    }
    let told = || {
        let mut now = std::collections::BTreeMap::new();
        for change in running.messages::<ClusterStatusChanged>("clusters") {
            for (name, list) in [
                ("offline", &change.offline),
                ("idle", &change.idle),
                ("playing", &change.playing),
                ("paused", &change.paused),
            ] {
                for ordinal in decode_deltas(list).unwrap() {
                    now.insert(ordinal, name);
                }
            }
        }
        now
    };
    until("all are told", || async { told().len() == 6 }).await;
    assert_eq!(told().into_values().collect::<Vec<_>>(), ["playing", "paused", "idle", "playing", "paused", "idle"]);
    let events = running.messages::<ClusterStatusChanged>("clusters").len();
    assert!(events <= 2, "{events} events for twelve reports");

    let officer = running.person("officer").await;
    let totals = officer.get("/api/v1/clusters/totals").await;
    assert_eq!(
        (&totals["total"], &totals["online"], &totals["playing"], &totals["paused"], &totals["idle"]),
        (&json!(6), &json!(6), &json!(2), &json!(2), &json!(2))
    );
    let row = totals["breakdown"].as_array().unwrap().iter().find(|row| row["area"] == COMMUNE).unwrap();
    assert_eq!((&row["online"], &row["name"]), (&json!(6), &json!("Phường Hải Dương")));
    assert_eq!(officer.get("/api/v1/clusters?status=paused").await["total"], 2);

    // The same again is no news.
    for (index, device) in devices.iter().enumerate() {
        device.status(["0", "1", "2"][index % 3]).await;
    }
    devices[0].status("2").await;
    until("the change is told", || async { told()[&1] == "idle" }).await;
    let last = running.messages::<ClusterStatusChanged>("clusters").pop().unwrap();
    assert_eq!((last.idle, last.playing, last.paused, last.offline), (vec![1], vec![], vec![], vec![]));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_noticed() {
    let place = Place::new(Pace { every: 100, offline: 400, tick: 100 });
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    let silent = running.device(&imei(2), COMMUNE).await;
    silent.status("0").await;
    let officer = running.person("officer").await;
    until("the silent one is offline, the other is not", || async {
        device.status("2").await;
        let page = officer.get("/api/v1/clusters").await;
        let status = |index: usize| page["clusters"][index]["status"].as_str().unwrap().to_owned();
        status(0) == "idle" && status(1) == "offline" && page["clusters"][1]["since_ms"].as_i64().unwrap() > 0
    })
    .await;
    let seen: Vec<_> = running.messages::<ClusterStatusChanged>("clusters");
    assert!(
        seen.iter().any(|change| change.offline == [2]) && seen.iter().any(|change| change.playing == [2]),
        "{seen:?}"
    );
    running.stop().await;
}
