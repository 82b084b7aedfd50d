//! What a correction changes for clusters that have the version before it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::http::Method;
use bytes::Bytes;
use common::*;
use httt_domain::bulletin::{Content, Kind, Media};
use httt_domain::device::vietnam_date;
use httt_feed::Digest;
use httt_wire::cluster::PlaybackRecorded;
use serde_json::{Value, json};

const WRONG: &[u8] = b"RIFF the sound that was wrong";
const RIGHT: &[u8] = b"RIFF the sound that is right";

fn to(targets: &[&str], content: Content) -> Content {
    Content { target_areas: targets.iter().map(|&code| code.to_owned()).collect(), ..content }
}

fn sounding(sound: &[u8], content: Content) -> Content {
    let media = Media {
        sha256: Digest::of(sound).to_string(),
        size: sound.len() as u64,
        content_type: "audio/wav".into(),
        name: "a.wav".into(),
        duration_ms: 5_000,
    };
    Content { kind: Kind::Audio, media: Some(media), body: String::new(), ..content }
}

/// Identifiers of what sounds, and of what was taken back.
async fn heard(device: &Box_) -> (Vec<String>, Value) {
    let orders = device.poll(0, 0).await;
    let sounding = orders["BanTinKhanCap"].as_array().unwrap().iter();
    (sounding.map(|one| one["BanTinID"].as_str().unwrap().to_owned()).collect(), orders["BanTinThuHoi"].clone())
}

async fn sounds(device: &Box_, id: &str) {
    until("it sounds", || async { heard(device).await == (vec![id.to_owned()], json!([])) }).await;
}

async fn is_taken_back(device: &Box_, id: &str) {
    until("it is taken back", || async { heard(device).await == (vec![], json!([id])) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_corrected_away_from_a_commune_is_taken_back_there() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let (stays, leaves) = (running.device(&imei(1), COMMUNE).await, running.device(&imei(2), OTHER_COMMUNE).await);
    outside.publish(&running, "TW", "e1", 1, &to(&[COMMUNE, OTHER_COMMUNE], emergency("Xả lũ"))).await;
    sounds(&stays, "e1").await;
    sounds(&leaves, "e1").await;
    until("offered", || async { running.stream("delivery/e1").len() == 2 }).await;

    let revision = leaves.poll(0, 0).await["PhienBan"].as_u64().unwrap();
    let waiting = tokio::spawn({
        let leaves = leaves.clone();
        async move { leaves.poll(30, revision).await }
    });
    // The corrected file is not here, and may be long in coming: who is no longer meant does not wait for it.
    let corrected = sounding(b"never fetched", to(&[COMMUNE], emergency("Xả lũ")));
    outside.publish(&running, "TW", "e1", 2, &corrected).await;
    let orders = waiting.await.unwrap();
    assert_eq!((&orders["BanTinKhanCap"], &orders["BanTinThuHoi"]), (&json!([]), &json!(["e1"])));
    assert_eq!(heard(&stays).await, (vec![], json!([])), "neither the wrong version nor an end of it");

    let corrected = to(&[COMMUNE], emergency("Xả lũ hạ lưu"));
    outside.publish(&running, "TW", "e1", 3, &corrected).await;
    sounds(&stays, "e1").await;
    is_taken_back(&leaves, "e1").await;
    running.stop().await;

    let running = place.start().await;
    let again = |device: Box_| Box_ { base: running.base.clone(), ..device };
    let (stays, leaves) = (again(stays), again(leaves));
    sounds(&stays, "e1").await;
    is_taken_back(&leaves, "e1").await;
    outside.publish(&running, "TW", "e1", 4, &to(&[COMMUNE, OTHER_COMMUNE], emergency("Xả lũ"))).await;
    sounds(&leaves, "e1").await;
    running.compare().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_corrected_away_from_the_province_is_taken_back_until_its_end() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let content = |until_ms| Content { valid_until_ms: until_ms, ..emergency("Bão") };
    let end_ms = now_ms() + 4_000;
    outside.publish(&running, "TW", "e1", 1, &to(&["31"], content(end_ms))).await;
    outside.publish(&running, "TW", "e2", 1, &to(&[], content(0))).await;
    until("both sound", || async { heard(&device).await.0 == ["e1", "e2"] }).await;
    outside.publish(&running, "TW", "e1", 2, &to(&["19"], content(end_ms))).await;
    outside.publish(&running, "TW", "e2", 2, &to(&["19"], content(0))).await;
    until("both are taken back", || async { heard(&device).await == (vec![], json!(["e1", "e2"])) }).await;
    until("the end comes", || async { now_ms() > end_ms }).await;
    assert_eq!(heard(&device).await, (vec![], json!(["e2"])), "after its end nothing needs to be stopped");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_is_withdrawn_though_its_corrected_file_never_came() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    outside.publish(&running, "TW", "e1", 1, &emergency("Bão")).await;
    sounds(&device, "e1").await;
    outside.publish(&running, "TW", "e1", 2, &sounding(b"never fetched", emergency("Bão"))).await;
    outside.withdraw(&running, "e1", true).await;
    is_taken_back(&device, "e1").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_stops_playing_what_was_corrected_away() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let commune = running.person("commune").await;
    outside.publish(&running, "TW", "b1", 1, &text("Lịch cắt điện")).await;
    until("offered", || async { running.stream("delivery/b1").len() == 2 }).await;
    let today = vietnam_date(now_ms()).to_string();
    let schedule = json!({ "commune": COMMUNE, "name": "Sáng", "bulletins": [{ "bulletin": "b1",
        "days": [{ "date": today, "times": [{ "starts": "00:00:00", "ends": "23:59:59" }] }] }] });
    commune.post("/api/v1/schedules", &schedule).await;
    let playing = || async { good(device.get("/thiet-bi/lich-phat").await)[0]["DanhSachBanTin"].clone() };
    assert_eq!(playing().await[0]["BanTinID"], "b1");

    outside.publish(&running, "TW", "b1", 2, &to(&[OTHER_COMMUNE], text("Lịch cắt điện"))).await;
    assert_eq!(playing().await, json!([]));
    let (_, codes, _) = commune.refused(Method::POST, "/api/v1/schedules", &schedule).await;
    assert_eq!(codes, ["not-offered"]);
    outside.publish(&running, "TW", "b1", 3, &to(&["31"], text("Lịch cắt điện"))).await;
    assert_eq!(playing().await[0]["BanTinID"], "b1", "and plays again when it is meant again");
    running.stop().await;
}

/// Reports a bulletin as it was told, the way vendors' boxes do.
async fn reports(device: &Box_, told: &Value, started_s: i64) {
    let mut body = told.clone();
    body["CumLoaID"] = json!(device.imei);
    body["ThoiDiemBatDau"] = json!(started_s);
    body["AmLuong"] = json!("70");
    good(device.post("/thiet-bi/nhat-ky", &body).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_report_counts_for_the_version_it_is_about() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    for sound in [WRONG, RIGHT] {
        running.started.node.media.put_bytes(Bytes::from_static(sound)).await.unwrap();
    }
    let (device, silent) = (running.device(&imei(1), COMMUNE).await, running.device(&imei(2), COMMUNE).await);
    let now_s = now_ms() / 1_000;
    outside.publish(&running, "TW", "e1", 1, &sounding(WRONG, emergency("Bão"))).await;
    sounds(&device, "e1").await;
    let first = device.poll(0, 0).await["BanTinKhanCap"][0].clone();
    outside.publish(&running, "TW", "e1", 2, &sounding(RIGHT, emergency("Bão"))).await;
    let right = Digest::of(RIGHT).to_string();
    let told = || async { device.poll(0, 0).await["BanTinKhanCap"][0].clone() };
    until("corrected", || async { told().await["ThongTinChiTietBanTin"][0]["GiaTri"] == right }).await;
    let mut second = told().await;

    reports(&device, &first, now_s - 2).await;
    assert_eq!(heard(&device).await.0, ["e1"], "the correction was not played yet");
    // Some boxes write digests their own way.
    second["ThongTinChiTietBanTin"][0]["GiaTri"] = json!(right.to_uppercase());
    reports(&device, &second, now_s - 1).await;
    assert_eq!(heard(&device).await.0, Vec::<String>::new());
    reports(&device, &first, now_s - 3).await;
    assert_eq!(heard(&device).await.0, Vec::<String>::new(), "an older one takes nothing back");
    // A digest that no version had, or none at all: what is in force when the report comes.
    let mut strange = first.clone();
    strange["ThongTinChiTietBanTin"][0]["GiaTri"] = json!("00");
    reports(&silent, &strange, now_s).await;
    assert_eq!(heard(&silent).await.0, Vec::<String>::new());
    let records = running.messages::<PlaybackRecorded>(&format!("playback/{COMMUNE}"));
    assert_eq!(records.iter().map(|record| record.bulletin_version).collect::<Vec<_>>(), [1, 2, 1, 0]);

    // What is read out by the box itself has no file: its words tell versions apart.
    outside.publish(&running, "TW", "e2", 1, &emergency("Lũ")).await;
    sounds(&device, "e2").await;
    let first = told().await;
    outside.publish(&running, "TW", "e2", 2, &Content { body: "Đã sửa.".into(), ..emergency("Lũ") }).await;
    until("corrected", || async { told().await["NoiDung"] == "Đã sửa." }).await;
    reports(&device, &first, now_s).await;
    assert_eq!(heard(&device).await.0, ["e2"]);
    reports(&device, &told().await, now_s).await;
    assert_eq!(heard(&device).await.0, ["e2"], "the same moment is the same report");
    reports(&device, &told().await, now_s + 1).await;
    assert_eq!(heard(&device).await.0, Vec::<String>::new());
    running.compare().await;
    running.stop().await;
}
