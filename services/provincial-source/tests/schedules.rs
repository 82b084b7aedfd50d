//! Schedules, media and commands, from the officer's desk to the pole and back.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::http::{Method, StatusCode};
use bytes::Bytes;
use common::*;
use httt_domain::bulletin::{Content, Kind, Media};
use httt_domain::device::vietnam_date;
use httt_feed::Digest;
use httt_wire::bulletin::BulletinScheduled;
use httt_wire::cluster::{CommandSent, ScheduleAnswered};
use serde_json::{Value, json};

const SOUND: &[u8] = b"RIFF a short real sound file, as far as anybody here can tell";

fn audio(title: &str) -> Content {
    let media = Media {
        sha256: Digest::of(SOUND).to_string(),
        size: SOUND.len() as u64,
        content_type: "audio/wav".into(),
        name: "a.wav".into(),
        duration_ms: 90_000,
    };
    Content { kind: Kind::Audio, media: Some(media), body: String::new(), ..text(title) }
}

fn schedule(bulletin: &str) -> Value {
    let today = vietnam_date(now_ms()).to_string();
    json!({ "commune": COMMUNE, "name": "Buổi sáng", "bulletins": [
        { "bulletin": bulletin, "days": [{ "date": today, "times": [{ "starts": "00:00:00", "ends": "23:59:59" }] }] }] })
}

/// A bulletin with a file, here and offered.
async fn with_bulletin(running: &Running) -> Outside {
    let mut outside = Outside::arrives(running).await;
    running.started.node.media.put_bytes(Bytes::from_static(SOUND)).await.unwrap();
    outside.publish(running, "TW", "b1", 1, &audio("Chương trình sáng")).await;
    until("offered", || async { running.stream("delivery/b1").len() == 2 }).await;
    outside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_reaches_the_pole_is_answered_and_played() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = with_bulletin(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let commune = running.person("commune").await;
    let orders = device.poll(0, 0).await;
    assert_eq!(orders["PhienBanLichPhat"], 0);
    assert_eq!(good(device.get("/thiet-bi/lich-phat").await), json!([]));

    let waiting = tokio::spawn({
        let (device, revision) = (device.clone(), orders["PhienBan"].as_u64().unwrap());
        async move { device.poll(30, revision).await }
    });
    let set = commune.post("/api/v1/schedules", &schedule("b1")).await;
    let id = set["schedule"].as_str().unwrap();
    assert_eq!(waiting.await.unwrap()["PhienBanLichPhat"], 1);
    let told = running.messages::<BulletinScheduled>("delivery/b1");
    assert_eq!((told[0].commune.as_str(), told[0].schedule.as_str()), (COMMUNE, id));

    let schedules = good(device.get("/thiet-bi/lich-phat").await);
    let bulletin = &schedules[0]["DanhSachBanTin"][0];
    assert_eq!((&schedules[0]["LichPhatID"], &bulletin["ThoiLuong"]), (&json!(id), &json!("00:01:30")));
    let digest = Digest::of(SOUND).to_string();
    assert_eq!(bulletin["NoiDung"], format!("/thiet-bi/media/{digest}"));
    assert_eq!(bulletin["ThongTinChiTietBanTin"][0], json!({ "Ten": "SHA256", "GiaTri": digest }));
    assert_eq!(bulletin["DanhSachNgayPhat"][0]["ThoiDiemPhat"][0]["ThoiGianBatDau"], "00:00:00");

    let answer = |imei: &str, schedule: &str, accepted: Value| json!({ "CumLoaId": imei, "LichPhatId": schedule, "TrangThai": accepted });
    for accepted in [json!("1"), json!(1), json!("0"), json!("1")] {
        good(device.post("/thiet-bi/lich-phat/tra-loi", &answer(&device.imei, id, accepted)).await);
    }
    assert_eq!(running.messages::<ScheduleAnswered>(&format!("schedule/{id}")).len(), 3, "the same answer once");
    let elsewhere = running.device(&imei(2), OTHER_COMMUNE).await;
    bad(elsewhere.post("/thiet-bi/lich-phat/tra-loi", &answer(&elsewhere.imei, id, json!("1"))).await);
    bad(device.post("/thiet-bi/lich-phat/tra-loi", &answer(&device.imei, "none", json!("1"))).await);
    let shown = commune.get(&format!("/api/v1/schedules?commune={COMMUNE}")).await;
    assert_eq!((&shown[0]["accepted"], &shown[0]["declined"]), (&json!(1), &json!(0)));

    device.played("b1", 1_763_700_000).await;
    let playback = commune.get("/api/v1/playback/b1").await;
    assert_eq!((&playback["clusters_played"], &playback["total"]["seconds"]), (&json!(1), &json!(90)));
    let shown = commune.get("/api/v1/bulletins/b1").await;
    let here = shown["communes"].as_array().unwrap().iter().find(|row| row["commune"] == COMMUNE).unwrap();
    assert_eq!(
        (&here["offered"], &here["scheduled"], &here["clusters"], &here["clusters_played"], &here["plays"]),
        (&json!(true), &json!(true), &json!(1), &json!(1), &json!(1))
    );
    assert_eq!((&shown["offered"], &shown["scheduled"], &shown["media_held"]), (&json!(1), &json!(1), &json!(true)));

    // Withdrawn: the schedule stays, without it.
    let revision = device.poll(0, 0).await["PhienBan"].as_u64().unwrap();
    outside.withdraw(&running, "b1", false).await;
    assert_eq!(device.poll(30, revision).await["PhienBanLichPhat"], 2);
    assert_eq!(good(device.get("/thiet-bi/lich-phat").await)[0]["DanhSachBanTin"], json!([]));
    running.compare().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_do_not_overwrite_each_other() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = with_bulletin(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let (commune, officer, other) =
        (running.person("commune").await, running.person("officer").await, running.person("other").await);
    let set = commune.post("/api/v1/schedules", &schedule("b1")).await;
    let id = set["schedule"].as_str().unwrap();
    // Devices that answer move the stream, and are in nobody's way.
    let answer = json!({ "CumLoaID": device.imei, "LichPhatID": id, "TrangThai": "1" });
    good(device.post("/thiet-bi/lich-phat/tra-loi", &answer).await);

    let mut changed = schedule("b1");
    changed["schedule"] = json!(id);
    let (status, codes, _) = commune.refused(Method::POST, "/api/v1/schedules", &changed).await;
    assert_eq!((status, codes), (StatusCode::UNPROCESSABLE_ENTITY, vec!["required".to_owned()]));
    changed["version"] = set["version"].clone();
    changed["name"] = json!("Buổi sáng, sửa");
    let replaced = officer.post("/api/v1/schedules", &changed).await;
    assert_ne!(replaced["version"], set["version"]);
    assert_eq!(replaced["accepted"], 0, "a new one is to be answered anew");
    let (status, codes, _) = commune.refused(Method::POST, "/api/v1/schedules", &changed).await;
    assert_eq!((status, codes), (StatusCode::CONFLICT, vec!["conflict".to_owned()]));

    let path = format!("/api/v1/schedules/{id}");
    let (status, _, _) = other.refused(Method::DELETE, &path, &json!({ "reason": "x" })).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "another commune's officer");
    let (status, _, _) = other.refused(Method::POST, "/api/v1/schedules", &schedule("b1")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, _, _) =
        running.person("auditor").await.refused(Method::POST, "/api/v1/schedules", &schedule("b1")).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (_, codes, _) = commune.refused(Method::DELETE, &path, &json!({ "reason": " " })).await;
    assert_eq!(codes, ["required"]);
    let (status, _, _) =
        commune.refused(Method::DELETE, &path, &json!({ "reason": "x", "version": set["version"] })).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let (status, gone) = commune.send(Method::DELETE, &path, Some(&json!({ "reason": "Đổi lịch" }))).await;
    assert_eq!((status, &gone["cancelled"]), (StatusCode::OK, &json!(true)));
    assert_eq!(good(device.get("/thiet-bi/lich-phat").await), json!([]));
    let (status, _, _) = commune.refused(Method::DELETE, "/api/v1/schedules/none", &json!({ "reason": "x" })).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    outside.publish(&running, "TW", "e1", 1, &emergency("Khẩn")).await;
    let (status, codes, _) = commune.refused(Method::POST, "/api/v1/schedules", &schedule("e1")).await;
    assert_eq!((status, codes), (StatusCode::UNPROCESSABLE_ENTITY, vec!["emergency-not-scheduled".to_owned()]));
    let (_, codes, _) = commune.refused(Method::POST, "/api/v1/schedules", &schedule("none")).await;
    assert_eq!(codes, ["not-found"]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn media_come_in_ranges_and_are_offered_once_they_are_here() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let path = format!("/thiet-bi/media/{}", Digest::of(SOUND));
    outside.publish(&running, "TW", "b1", 1, &audio("Chưa có tệp")).await;
    until("received", || async { !running.stream("delivery/b1").is_empty() }).await;
    let commune = running.person("commune").await;
    let (_, codes, _) = commune.refused(Method::POST, "/api/v1/schedules", &schedule("b1")).await;
    assert_eq!(codes, ["not-offered"]);
    assert_eq!(device.get(&path).await.0, StatusCode::NOT_FOUND);

    running.started.node.media.put_bytes(Bytes::from_static(SOUND)).await.unwrap();
    until("offered", || async { running.stream("delivery/b1").len() == 2 }).await;
    let url = format!("{}{path}", running.base);
    let whole = running.http.get(&url).bearer(&device.token).send().await.unwrap();
    assert_eq!((whole.status, &whole.body[..]), (StatusCode::OK, SOUND));
    assert_eq!(whole.headers["content-type"], "audio/wav");
    let part = running.http.get(&url).bearer(&device.token).range(5, 7).send().await.unwrap();
    assert_eq!((part.status, &part.body[..]), (StatusCode::PARTIAL_CONTENT, &SOUND[5..12]));
    assert_eq!(part.headers["content-range"], format!("bytes 5-11/{}", SOUND.len()));
    let past = running.http.get(&url).bearer(&device.token).range(500, 7).send_any().await.unwrap();
    assert_eq!(past.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let nobody = running.http.get(&url).send_any().await.unwrap();
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    assert_eq!(device.get("/thiet-bi/media/..%2F..%2Fconfig.toml").await.0, StatusCode::NOT_FOUND);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_go_to_the_clusters_they_are_for_once() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let (device, elsewhere) = (running.device(&imei(1), COMMUNE).await, running.device(&imei(2), OTHER_COMMUNE).await);
    let path = "/api/v1/clusters/commands";
    let (commune, operator) = (running.person("commune").await, running.person("operator").await);
    let revision = device.poll(0, 0).await["PhienBan"].as_u64().unwrap();
    let waiting = tokio::spawn({
        let device = device.clone();
        async move { device.poll(30, revision).await }
    });
    let sent = commune.post(path, &json!({ "commune": COMMUNE, "command": { "volume": 35 } })).await;
    assert_eq!(sent, json!({ "clusters": 1, "code": "0", "parameter": "35" }));
    let orders = waiting.await.unwrap();
    let command = &orders["DanhSachLenh"][0];
    assert_eq!(command["DieuKhienThietBi"], json!({ "MaLenh": "0", "ThamSo": "35" }));
    assert_eq!((&command["NguonID"], &command["DanhSachThietBi"]["CumLoaID"][0]), (&json!("31"), &json!(device.imei)));
    assert_eq!(device.poll(0, 0).await["DanhSachLenh"], json!([]), "once");
    assert_eq!(elsewhere.poll(0, 0).await["DanhSachLenh"], json!([]));
    let both = json!([device.imei, elsewhere.imei]);
    operator.post(path, &json!({ "clusters": both, "command": { "stop": "skip" } })).await;
    operator.post(path, &json!({ "clusters": both, "command": "restart" })).await;
    let codes: Vec<Value> = elsewhere.poll(0, 0).await["DanhSachLenh"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["DieuKhienThietBi"].clone())
        .collect();
    assert_eq!(codes, [json!({ "MaLenh": "1", "ThamSo": "1" }), json!({ "MaLenh": "2", "ThamSo": "" })]);
    let recorded = running.stream(&format!("commands/{COMMUNE}"));
    assert_eq!(recorded.len(), 3);
    assert_eq!((recorded[0].event.actor.as_str(), recorded[2].event.actor.as_str()), ("commune", "operator"));
    assert_eq!(running.messages::<CommandSent>(&format!("commands/{COMMUNE}"))[0].cluster_deltas, [1]);

    for (who, body, status) in [
        (&commune, json!({ "clusters": both, "command": "restart" }), StatusCode::FORBIDDEN),
        (&commune, json!({ "commune": OTHER_COMMUNE, "command": "restart" }), StatusCode::FORBIDDEN),
        (&operator, json!({ "clusters": [imei(7)], "command": "restart" }), StatusCode::UNPROCESSABLE_ENTITY),
        (&operator, json!({ "clusters": [], "command": "restart" }), StatusCode::UNPROCESSABLE_ENTITY),
        (&operator, json!({ "commune": "nowhere", "command": "restart" }), StatusCode::UNPROCESSABLE_ENTITY),
        (&operator, json!({ "commune": COMMUNE, "command": { "volume": 101 } }), StatusCode::UNPROCESSABLE_ENTITY),
        (&operator, json!({ "commune": COMMUNE, "command": "format" }), StatusCode::UNPROCESSABLE_ENTITY),
    ] {
        assert_eq!(who.refused(Method::POST, path, &body).await.0, status, "{body}");
    }
    let (status, _, _) = running
        .person("officer")
        .await
        .refused(Method::POST, path, &json!({ "commune": COMMUNE, "command": "restart" }))
        .await;
    assert_eq!(status, StatusCode::FORBIDDEN, "a province officer commands nothing");
    assert_eq!(running.stream(&format!("commands/{COMMUNE}")).len(), 3);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_fetches_in_time_is_not_carried_out() {
    let place = Place::new(QUICK);
    place.write("config.toml", &place.config_text().replace("[devices]", "[devices]\ncommand_expiry_s = 1"));
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    let operator = running.person("operator").await;
    let send = |command: Value| {
        let operator = &operator;
        async move { operator.post("/api/v1/clusters/commands", &json!({ "commune": COMMUNE, "command": command })).await }
    };
    send(json!("restart")).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    send(json!({ "volume": 35 })).await;
    let commands = device.poll(0, 0).await["DanhSachLenh"].clone();
    assert_eq!(commands.as_array().unwrap().len(), 1, "{commands}");
    assert_eq!(commands[0]["DieuKhienThietBi"]["ThamSo"], "35");
    running.stop().await;
}
