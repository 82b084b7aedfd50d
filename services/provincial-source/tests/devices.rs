//! Devices as vendors build them, over HTTPS: logging in, reporting, emergencies.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use common::*;
use httt_domain::bulletin::Content;
use httt_wire::bulletin::{BulletinOffered, BulletinPlayed, BulletinReceived};
use httt_wire::cluster::PlaybackRecorded;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_device_logs_in_and_reports_in_any_spelling() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    let status = |body: Value| {
        let device = device.clone();
        async move { device.post("/thiet-bi/trang-thai", &body).await }
    };

    good(status(json!({
        "NguonID": COMMUNE, "TenNguon": "Phường Hải Dương", "CumLoaID": device.imei, "TenThietBi": "Cụm 1",
        "AmLuong": "70", "TrangThaiHoatDong": "0", "TrangThaiKetNoi": "4G,-10dbm", "ViDo": "20.94", "KinhDo": 106.33,
        "ThongTinThietBi": { "CongSuat": 50, "NhietDo": "41", "DuLieuKhac": { "rssi": -70 } },
        "ThoiDiemBatDau": 1763700000, "NoiDungPhat": "", "PhienBanUngDung": "2.1", "Lạ": [1],
    })).await);
    // v1.0: a small d, numbers where there should be texts and texts where there should be numbers.
    good(
        status(json!({ "NguonId": 10525, "CumLoaId": device.imei, "AmLuong": 55.0, "TrangThaiHoatDong": 2,
                        "ThoiDiemBatDau": "1763700000" }))
        .await,
    );
    let page = running.person("auditor").await.get("/api/v1/clusters").await;
    assert_eq!(page["clusters"][0]["latest"]["volume"], 55);
    assert_eq!(page["clusters"][0]["imei"], device.imei.as_str());

    let told = bad(status(json!({ "CumLoaID": device.imei, "AmLuong": "700", "TrangThaiHoatDong": "0" })).await);
    assert!(told.contains("AmLuong") && told.contains("100"), "{told}");
    let told = bad(status(json!({ "CumLoaID": imei(2), "AmLuong": "70", "TrangThaiHoatDong": "0" })).await);
    assert!(told.contains(&imei(2)), "a foreign IMEI: {told}");
    let told = bad(device.post_text("/thiet-bi/trang-thai", "{\"CumLoaID\": ").await);
    assert!(told.contains("JSON"), "{told}");
    let large = json!({ "CumLoaID": device.imei, "NoiDungPhat": "x".repeat(70_000) });
    let told = bad(device.post("/thiet-bi/trang-thai", &large).await);
    assert!(told.contains("64 KB"), "{told}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_secrets_and_tokens_are_refused() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut device = running.device(&imei(1), COMMUNE).await;
    let other = running.device(&imei(2), COMMUNE).await;
    for (name, password) in [(&imei(1), "sai"), (&imei(3), other.password.as_str()), (&imei(1), &other.password)] {
        let body = json!({ "Username": name, "Password": password });
        bad(Box_ { token: String::new(), ..device.clone() }.post("/thiet-bi/dang-nhap", &body).await);
    }
    let token = device.token.clone();
    let foreign = token.replace(&imei(1), &imei(2));
    for wrong in ["", "nonsense", &foreign, &token[..token.len() - 1]] {
        device.token = wrong.to_owned();
        for path in ["/thiet-bi/lich-phat", "/thiet-bi/lenh", "/thiet-bi/media/00"] {
            let (status, answer) = device.get(path).await;
            assert_eq!((status, &answer["TrangThaiGui"]), (StatusCode::UNAUTHORIZED, &json!(1)), "{wrong} {answer}");
        }
        let (status, _) = device.post("/thiet-bi/trang-thai", &json!({})).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    // A person's session is no device's token, and the other way round.
    device.token = token;
    let reply = running.http.get(&format!("{}/api/v1/me", running.base)).bearer(&device.token).send_any().await;
    assert_eq!(reply.unwrap().status, StatusCode::UNAUTHORIZED);

    // A new password ends the old one and every token made with it.
    good(device.get("/thiet-bi/lich-phat").await);
    let path = format!("/api/v1/clusters/{}/credential", device.imei);
    let renewed = running.person("operator").await.post(&path, &json!({})).await;
    assert_eq!(device.get("/thiet-bi/lich-phat").await.0, StatusCode::UNAUTHORIZED);
    let body = json!({ "Username": device.imei, "Password": device.password });
    bad(device.post("/thiet-bi/dang-nhap", &body).await);
    let device = running.log_in(&device.imei, renewed["password"].as_str().unwrap()).await;
    good(device.get("/thiet-bi/lich-phat").await);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emergency_wakes_the_clusters_it_is_for_and_is_counted() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let (device, elsewhere) = (running.device(&imei(1), COMMUNE).await, running.device(&imei(2), OTHER_COMMUNE).await);
    let first = device.poll(0, 0).await["PhienBan"].as_u64().unwrap();
    let first_elsewhere = elsewhere.poll(0, 0).await["PhienBan"].as_u64().unwrap();

    let wait = |device: &Box_, revision: u64| {
        let device = device.clone();
        tokio::spawn(async move { device.poll(30, revision).await })
    };
    let (not_for_it, waiting) = (wait(&elsewhere, first_elsewhere), wait(&device, first));
    let content = Content { target_areas: vec![COMMUNE.into()], ..emergency("Xả lũ") };
    outside.publish(&running, "TW", "e1", 1, &content).await;
    let orders = waiting.await.unwrap();
    assert!(!not_for_it.is_finished(), "whom it is not for waits on, for as long as it asked to");
    not_for_it.abort();
    assert_ne!(orders["PhienBan"], first);
    let bulletin = &orders["BanTinKhanCap"][0];
    assert_eq!((&bulletin["BanTinID"], &bulletin["MucDoUuTien"]), (&json!("e1"), &json!(1)));
    assert_eq!(elsewhere.poll(0, first_elsewhere).await["PhienBan"], first_elsewhere, "not for that commune");
    assert_eq!(elsewhere.poll(0, 0).await["BanTinKhanCap"], json!([]));

    // Told once with this revision: a device that does not report waits like any other, and is then told again.
    let revision = orders["PhienBan"].as_u64().unwrap();
    let began = Instant::now();
    let again = device.poll(1, revision).await;
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    assert_eq!(again["BanTinKhanCap"][0]["BanTinID"], "e1");

    device.played("e1", 1_763_700_000).await;
    device.played("e1", 1_763_700_000).await;
    assert_eq!(device.poll(0, 0).await["BanTinKhanCap"], json!([]), "reported");
    assert_eq!(running.messages::<PlaybackRecorded>(&format!("playback/{COMMUNE}")).len(), 1);

    let stream = "delivery/e1";
    until("received, offered and played are told", || async { running.stream(stream).len() == 3 }).await;
    let received = running.messages::<BulletinReceived>(stream);
    assert_eq!((received[0].publisher.as_str(), received[0].sequence), ("TW", 1));
    assert!(received[0].durable_at_ms > 0);
    assert_eq!(running.messages::<BulletinOffered>(stream)[0].communes, [COMMUNE]);
    assert_eq!(running.messages::<BulletinPlayed>(stream)[0].cluster_deltas, [1]);
    for event in running.stream(stream) {
        assert_eq!(event.feed.to_string(), format!("{OWN}→TW/emergency"));
    }

    // A correction is to be played again; a withdrawal is told, and ends it.
    let corrected = Content { body: "Đã sửa.".into(), ..content.clone() };
    outside.publish(&running, "TW", "e1", 2, &corrected).await;
    until("the correction is offered", || async {
        device.poll(0, 0).await["BanTinKhanCap"][0]["NoiDung"] == "Đã sửa."
    })
    .await;
    let revision = device.poll(0, 0).await["PhienBan"].as_u64().unwrap();
    outside.withdraw(&running, "e1", true).await;
    let mut orders = device.poll(30, revision).await;
    if orders["BanTinThuHoi"] == json!([]) {
        // Woken by the correction's own offer, which says nothing new.
        orders = device.poll(30, orders["PhienBan"].as_u64().unwrap()).await;
    }
    assert_eq!((&orders["BanTinKhanCap"], &orders["BanTinThuHoi"]), (&json!([]), &json!(["e1"])));
    running.compare().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_sound_is_not_offered() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let sha256 = httt_feed::Digest::of(b"never fetched").to_string();
    let media = httt_domain::bulletin::Media {
        sha256,
        size: 13,
        content_type: "audio/wav".into(),
        name: String::new(),
        duration_ms: 0,
    };
    let without_file =
        Content { media: Some(media), kind: httt_domain::bulletin::Kind::Audio, ..emergency("Chưa có tệp") };
    outside.publish(&running, "H55", "foreign", 1, &emergency("Của tỉnh khác")).await;
    outside
        .publish(&running, "TW", "elsewhere", 1, &Content { target_areas: vec!["19".into()], ..emergency("Tỉnh khác") })
        .await;
    outside.publish(&running, "TW", "over", 1, &Content { valid_until_ms: now_ms() - 1, ..emergency("Đã qua") }).await;
    outside.publish(&running, "TW", "no-file", 1, &without_file).await;
    outside.publish(&running, "TW", "ordinary", 1, &text("Thông thường")).await;
    outside.publish(&running, "TW", "good", 1, &emergency("Cả nước")).await;
    until("the good one is offered", || async {
        device.poll(0, 0).await["BanTinKhanCap"].as_array().unwrap().iter().any(|one| one["BanTinID"] == "good")
    })
    .await;
    assert_eq!(device.poll(0, 0).await["BanTinKhanCap"].as_array().unwrap().len(), 1);

    // What is for this province is confirmed all the same, whatever becomes of it.
    until("receipts", || async {
        ["over", "no-file", "ordinary", "good"].iter().all(|id| !running.stream(&format!("delivery/{id}")).is_empty())
    })
    .await;
    assert_eq!(running.stream("delivery/ordinary")[0].feed.to_string(), format!("{OWN}→TW/report"));
    for id in ["foreign", "elsewhere"] {
        assert!(running.stream(&format!("delivery/{id}")).is_empty(), "{id}");
    }

    let told = |id: &str| json!({ "CumLoaID": device.imei, "BanTinID": id, "ThoiDiemBatDau": 1 });
    for id in ["unknown", "foreign"] {
        let words = bad(device.post("/thiet-bi/nhat-ky", &told(id)).await);
        assert!(words.contains("BanTinID"), "{words}");
    }
    let words = bad(device
        .post("/thiet-bi/nhat-ky", &json!({ "CumLoaID": imei(9), "BanTinID": "good", "ThoiDiemBatDau": 1 }))
        .await);
    assert!(words.contains(&imei(9)), "{words}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_of_what_was_never_for_the_cluster_is_refused() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    let to = |target: &str, content: Content| Content { target_areas: vec![target.into()], ..content };
    let refused = |id: &'static str| {
        let (device, running) = (&device, &running);
        async move {
            let before = running.stream(&format!("playback/{COMMUNE}")).len();
            let body = json!({ "CumLoaID": device.imei, "BanTinID": id, "ThoiDiemBatDau": now_ms() / 1_000 });
            let words = bad(device.post("/thiet-bi/nhat-ky", &body).await);
            assert!(words.contains("BanTinID"), "{words}");
            assert_eq!(running.stream(&format!("playback/{COMMUNE}")).len(), before);
        }
    };
    outside.publish(&running, "TW", "province", 1, &to("19", text("Tỉnh khác"))).await;
    outside.publish(&running, "TW", "commune", 1, &to(OTHER_COMMUNE, emergency("Xã khác"))).await;
    outside.publish(&running, "TW", "old", 1, &text("Thu hồi từ lâu")).await;
    outside.withdraw_at(&running, "old", false, now_ms() - 60 * 24 * 3_600_000).await;
    for id in ["province", "commune", "old"] {
        refused(id).await;
    }

    // What sounded before it was taken back or corrected away did sound; a box that was offline tells of it later.
    outside.publish(&running, "TW", "withdrawn", 1, &text("Vừa thu hồi")).await;
    outside.withdraw(&running, "withdrawn", false).await;
    outside.publish(&running, "TW", "corrected", 1, &to(COMMUNE, text("Đã sửa"))).await;
    outside.publish(&running, "TW", "corrected", 2, &to(OTHER_COMMUNE, text("Đã sửa"))).await;
    for id in ["withdrawn", "corrected"] {
        device.played(id, now_ms() / 1_000 - 60).await;
    }
    assert_eq!(running.messages::<PlaybackRecorded>(&format!("playback/{COMMUNE}")).len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_cannot_be_right_is_not_believed() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let device = running.device(&imei(1), COMMUNE).await;
    for id in ["b1", "b2", "b3"] {
        outside.publish(&running, "TW", id, 1, &text("Thông báo")).await;
    }
    let (before, tomorrow_s) = (now_ms(), now_ms() / 1_000 + 20 * 3_600);
    device.played("b1", 1).await;
    device.played("b2", now_ms() / 1_000 + 3 * 24 * 3_600).await;
    device.played("b3", tomorrow_s).await;
    let records = running.messages::<PlaybackRecorded>(&format!("playback/{COMMUNE}"));
    let started: Vec<i64> = records.iter().map(|record| record.started_at_ms).collect();
    assert!(started[..2].iter().all(|at_ms| (before..=now_ms()).contains(at_ms)), "{started:?}");
    assert_eq!(started[2], tomorrow_s * 1_000, "a day ahead is a clock that is set a little wrong");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_call_ends_with_the_service() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    let revision = device.poll(0, 0).await["PhienBan"].as_u64().unwrap();
    let began = Instant::now();
    let waiting = tokio::spawn(async move { device.poll(30, revision).await });
    tokio::task::yield_now().await;
    running.stop().await;
    assert!(began.elapsed() < Duration::from_secs(30), "it waited for as long as the call asked to");
    // Answered, or cut before it was heard; in no case left hanging.
    let _ = tokio::time::timeout(Duration::from_secs(5), waiting).await.expect("ended");
}
