//! What a restart keeps, and the configuration it starts from.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::http::{Method, StatusCode};
use common::*;
use httt_domain::device::vietnam_date;
use httt_node::config::load;
use httt_node::shutdown::Shutdown;
use httt_provincial_source::{Config, DevicesConfig, start};
use httt_wire::bulletin::{BulletinOffered, BulletinPlayed, BulletinReceived};
use httt_wire::cluster::ClusterStatusChanged;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_loses_nothing_and_repeats_nothing() {
    // A tick so slow that what is played waits for it, and the restart comes before.
    let place = Place::new(Pace { tick: 3_600_000, ..QUICK });
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    outside.publish(&running, "TW", "b1", 1, &text("Thông báo")).await;
    outside.publish(&running, "TW", "e1", 1, &emergency("Khẩn")).await;
    until("offered", || async {
        ["b1", "e1"].iter().all(|id| running.messages::<BulletinOffered>(&format!("delivery/{id}")).len() == 1)
    })
    .await;
    let today = vietnam_date(now_ms()).to_string();
    let schedule = json!({ "commune": COMMUNE, "name": "Sáng", "bulletins": [{ "bulletin": "b1",
        "days": [{ "date": today, "times": [{ "starts": "05:00:00", "ends": "06:00:00" }] }] }] });
    running.person("commune").await.post("/api/v1/schedules", &schedule).await;
    device.played("b1", 1_763_700_000).await;
    let before = device.poll(0, 0).await;
    assert_eq!(before["BanTinKhanCap"][0]["BanTinID"], "e1");
    assert!(running.messages::<BulletinPlayed>("delivery/b1").is_empty(), "not told yet");
    running.stop().await;

    let running = place.start().await;
    let device = Box_ { base: running.base.clone(), ..device };
    let after = device.poll(20, before["PhienBan"].as_u64().unwrap()).await;
    assert_eq!(after["PhienBanLichPhat"], before["PhienBanLichPhat"], "the token and the schedule hold");
    assert_eq!(after["BanTinKhanCap"][0]["BanTinID"], "e1", "still sounding");
    until("what was played is told", || async { running.messages::<BulletinPlayed>("delivery/b1").len() == 1 }).await;
    running.log_in(&device.imei, &device.password).await;
    device.played("e1", 1_763_700_001).await;
    device.played("b1", 1_763_700_000).await;
    until("the emergency is told", || async { running.messages::<BulletinPlayed>("delivery/e1").len() == 1 }).await;
    running.compare().await;
    for id in ["b1", "e1"] {
        let stream = format!("delivery/{id}");
        assert_eq!(running.messages::<BulletinReceived>(&stream).len(), 1);
        assert_eq!(running.messages::<BulletinOffered>(&stream).len(), 1);
        assert_eq!(running.messages::<BulletinPlayed>(&stream).len(), 1);
    }
    let shown = running.person("auditor").await.get("/api/v1/playback/b1").await;
    assert_eq!(shown["total"]["plays"], 1);
    let (status, compared) = running.person("auditor").await.send(Method::POST, "/api/v1/models/compare", None).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(compared.as_array().unwrap().len(), 14);
    running.stop().await;

    // Over a third start nothing is said again.
    let running = place.start().await;
    until("the models stand", || async { running.started.models.read(|models| models.credentials.len()) == 1 }).await;
    running.compare().await;
    assert_eq!(running.stream("delivery/e1").len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_that_were_online_get_their_time_after_a_restart() {
    let place = Place::new(Pace { every: 100, offline: 700, tick: 100 });
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    device.status("0").await;
    until("told", || async { running.messages::<ClusterStatusChanged>("clusters").len() == 1 }).await;
    running.stop().await;
    let running = place.start().await;
    let device = Box_ { base: running.base.clone(), ..device };
    device.status("0").await;
    assert!(running.messages::<ClusterStatusChanged>("clusters").iter().all(|change| change.offline.is_empty()));
    until("silence is noticed", || async {
        running.messages::<ClusterStatusChanged>("clusters").iter().any(|change| change.offline == [1])
    })
    .await;
    running.stop().await;
}

#[test]
fn the_sample_configuration_is_the_default_one() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/provincial-source.toml");
    let config: Config = load(sample.as_ref()).unwrap();
    assert_eq!(config.devices, DevicesConfig::default());
    assert_eq!((config.area.as_str(), config.worker_threads), ("31", None));
    // Every key that is commented out is one that exists.
    let text = std::fs::read_to_string(sample).unwrap();
    let place = Place::new(QUICK);
    let all: String = text
        .lines()
        .map(|line| {
            match line.strip_prefix("# ").filter(|rest| {
                rest.split_once(" = ")
                    .is_some_and(|(key, _)| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
            }) {
                Some(key) => format!("{key}\n"),
                None => format!("{line}\n"),
            }
        })
        .collect();
    place.write("all.toml", &all);
    let config: Config = load(&place.path("all.toml")).unwrap();
    assert!(config.devices.public_url.is_some() && config.worker_threads.is_some());
}

#[tokio::test]
async fn configurations_that_make_no_sense_are_refused() {
    let place = Place::new(QUICK);
    let good = place.config_text();
    for (from, to, told) in [
        ("area = '31'", "area = '31'\nprovince = '31'", "province"),
        ("status_tick_ms", "status_tick_s", "status_tick_s"),
        ("area = '31'", "area = '999'", "999"),
        ("area = '31'", "area = '10525'", "not a province"),
        ("offline_after_ms = 60000", "offline_after_ms = 1000", "offline_after_ms"),
        ("status_tick_ms = 100", "status_tick_ms = 1", "status_tick_ms"),
        ("[devices]", "[devices]\ncommand_expiry_s = 0", "command_expiry_s"),
        ("[devices]", "[devices]\npublisher = 'bộ'", "publisher"),
        ("[devices]", "[devices]\npublic_url = 'http://x'", "public_url"),
        ("[devices]", "[devices]\ncommand_codes = { volume = '1' }", "devices"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good, "{from}");
        place.write("config.toml", &text);
        let error = match load::<Config>(&place.path("config.toml")) {
            Ok(config) => match start(config, &Shutdown::new()).await {
                Ok(_) => panic!("{to} was taken"),
                Err(error) => format!("{error:#}"),
            },
            Err(error) => error.to_string(),
        };
        assert!(error.contains(told), "{to}: {error}");
    }
    assert!(!place.path("data").exists(), "nothing was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_described_is_there() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    let officer = running.person("officer").await;
    let reply = running.http.get(&format!("{}/api/v1/openapi.json", running.base)).send().await.unwrap();
    let description: Value = reply.json().unwrap();
    let mut operations = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        let address: String =
            path.split('/').map(|part| if part.starts_with('{') { "0" } else { part }).collect::<Vec<_>>().join("/");
        for method in methods.as_object().unwrap().keys() {
            if path == "/api/v1/session" {
                continue; // it would log the caller out
            }
            operations += 1;
            let method: Method = method.to_uppercase().parse().unwrap();
            let (status, answer) = if path.starts_with("/thiet-bi") {
                let url = format!("{}{address}", running.base);
                let reply = running.http.request(method.clone(), &url).bearer(&device.token).send_any().await.unwrap();
                (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
            } else {
                let (status, answer) = officer.send(method.clone(), &address, None).await;
                (status, answer.to_string())
            };
            assert_ne!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert!(!answer.contains("Địa chỉ này không tồn tại"), "{method} {path}: {answer}");
            assert!(
                !status.is_server_error() && status != StatusCode::UNAUTHORIZED,
                "{method} {path}: {status} {answer}"
            );
        }
    }
    assert!(operations >= 30, "{operations}");
    // Without a session none of people's addresses says anything.
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if operation.get("security").is_some() {
                let url = format!("{}{}", running.base, path.replace(['{', '}'], ""));
                let method: Method = method.to_uppercase().parse().unwrap();
                let reply = running.http.request(method.clone(), &url).send_any().await.unwrap();
                assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{method} {path}");
            }
        }
    }
    running.stop().await;
}
