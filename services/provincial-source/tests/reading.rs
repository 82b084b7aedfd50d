//! What an account sees: its own area, and nothing of others.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::http::{Method, StatusCode};
use common::*;
use httt_domain::bulletin::Content;
use httt_domain::device::vietnam_date;
use serde_json::{Value, json};

const FORM: &str = "/api/v1/reports/commune-station/2026-Q3";

async fn outside_of(person: &Person<'_>, path: &str) {
    let (status, answer) = person.send(Method::GET, path, None).await;
    assert_eq!((status, &answer["error"]["code"]), (StatusCode::FORBIDDEN, &json!("area-outside")), "{path}: {answer}");
}

fn report() -> Value {
    json!({
        "station_kind": "it", "stations": 1, "investment_year": 2024,
        "clusters_all": 12, "clusters_working": 10, "clusters_broken": 2, "horns": 24,
        "villages_all": 9, "villages_with": 8, "villages_without": 1,
        "hours_own": "40,5", "hours_on_air": 120, "hours_relayed_central": 30, "hours_relayed_province": 10.5,
        "languages": "vi", "staff": 3, "staff_part_time": 2,
        "operating_cost": 12_500_000, "investment": 0, "notice_boards": 1,
    })
}

fn codes(list: &Value, field: &str) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one[field].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_are_read_by_those_whose_area_they_are_of() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let (commune, other, officer) =
        (running.person("commune").await, running.person("other").await, running.person("officer").await);
    for code in [COMMUNE, OTHER_COMMUNE] {
        let (status, _) = officer.send(Method::PUT, &format!("{FORM}/{code}"), Some(&report())).await;
        assert_eq!(status, StatusCode::OK);
    }
    let own = commune.get(FORM).await;
    assert_eq!((&own["area"], codes(&own["filed"], "area")), (&json!(COMMUNE), vec![COMMUNE.to_owned()]));
    assert_eq!((&own["sums"]["horns"]["sum"], &own["missing"]), (&json!(24), &json!([])));
    assert_eq!(officer.get(FORM).await["sums"]["horns"]["sum"], 48);
    assert_eq!(officer.get(&format!("{FORM}?area={COMMUNE}")).await["sums"]["horns"]["sum"], 24);
    assert_eq!(commune.get(&format!("{FORM}/{COMMUNE}")).await["values"]["horns"], 24);
    for path in [format!("{FORM}?area={COMMUNE}"), format!("{FORM}?area=31"), format!("{FORM}/{COMMUNE}")] {
        outside_of(&other, &path).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clusters_and_where_they_are_are_seen_by_their_own_commune() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let (own, foreign) = (running.device(&imei(1), COMMUNE).await, running.device(&imei(2), OTHER_COMMUNE).await);
    for device in [&own, &foreign] {
        let body = json!({ "CumLoaID": device.imei, "AmLuong": "70", "TrangThaiHoatDong": "0", "ViDo": "20.9",
                           "KinhDo": "106.3" });
        good(device.post("/thiet-bi/trang-thai", &body).await);
    }
    let (commune, auditor) = (running.person("commune").await, running.person("auditor").await);
    let page = commune.get("/api/v1/clusters").await;
    assert_eq!((&page["total"], codes(&page["clusters"], "imei")), (&json!(1), vec![own.imei.clone()]));
    assert_eq!(page["clusters"][0]["latest"]["latitude"], 20.9);
    assert_eq!(auditor.get("/api/v1/clusters").await["total"], 2);
    let totals = commune.get("/api/v1/clusters/totals").await;
    assert_eq!((&totals["area"], &totals["total"], &totals["breakdown"]), (&json!(COMMUNE), &json!(1), &json!([])));
    for path in ["/api/v1/clusters", "/api/v1/clusters/totals"] {
        outside_of(&commune, &format!("{path}?area={OTHER_COMMUNE}")).await;
        outside_of(&commune, &format!("{path}?area=31")).await;
        assert_eq!(commune.get(&format!("{path}?area={COMMUNE}")).await["total"], 1);
        let (status, _) = auditor.send(Method::GET, &format!("{path}?area=19"), None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "no part of this province");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schedules_and_bulletins_are_seen_by_those_they_are_for() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let (device, foreign) = (running.device(&imei(1), COMMUNE).await, running.device(&imei(2), OTHER_COMMUNE).await);
    outside.publish(&running, "TW", "all", 1, &text("Cả tỉnh")).await;
    let theirs = Content { target_areas: vec![OTHER_COMMUNE.into()], ..text("Xã khác") };
    outside.publish(&running, "TW", "theirs", 1, &theirs).await;
    until("offered", || async {
        ["all", "theirs"].iter().all(|id| running.stream(&format!("delivery/{id}")).len() == 2)
    })
    .await;
    let (commune, other, officer) =
        (running.person("commune").await, running.person("other").await, running.person("officer").await);
    let today = vietnam_date(now_ms()).to_string();
    let schedule = |commune: &str, bulletin: &str| {
        json!({ "commune": commune, "name": "Sáng", "bulletins": [{ "bulletin": bulletin,
            "days": [{ "date": today, "times": [{ "starts": "05:00:00", "ends": "06:00:00" }] }] }] })
    };
    commune.post("/api/v1/schedules", &schedule(COMMUNE, "all")).await;
    let set = other.post("/api/v1/schedules", &schedule(OTHER_COMMUNE, "theirs")).await;
    assert_eq!(codes(&commune.get("/api/v1/schedules").await, "commune"), [COMMUNE]);
    assert_eq!(officer.get("/api/v1/schedules").await.as_array().unwrap().len(), 2);
    let path = format!("/api/v1/schedules/{}", set["schedule"].as_str().unwrap());
    outside_of(&commune, &path).await;
    outside_of(&commune, &format!("/api/v1/schedules?commune={OTHER_COMMUNE}")).await;
    assert_eq!(officer.get(&path).await["name"], "Sáng");

    device.played("all", now_ms() / 1_000).await;
    foreign.played("all", now_ms() / 1_000).await;
    foreign.played("theirs", now_ms() / 1_000).await;
    let page = commune.get("/api/v1/bulletins").await;
    assert_eq!(codes(&page["bulletins"], "bulletin"), ["all"]);
    let row = &page["bulletins"][0];
    assert_eq!((&row["offered"], &row["scheduled"], &row["played"]), (&json!(1), &json!(1), &json!(1)));
    let all = officer.get("/api/v1/bulletins").await;
    let row = all["bulletins"].as_array().unwrap().iter().find(|row| row["bulletin"] == "all").unwrap();
    assert_eq!((&row["offered"], &row["scheduled"], &row["played"]), (&json!(114), &json!(1), &json!(2)));

    assert_eq!(codes(&commune.get("/api/v1/bulletins/all").await["communes"], "commune"), [COMMUNE]);
    assert_eq!(officer.get("/api/v1/bulletins/all").await["communes"].as_array().unwrap().len(), 114);
    let narrowed = officer.get(&format!("/api/v1/bulletins/all?area={OTHER_COMMUNE}")).await;
    assert_eq!((codes(&narrowed["communes"], "commune"), &narrowed["played"]), (vec![OTHER_COMMUNE.into()], &json!(1)));
    let playback = commune.get("/api/v1/playback/all").await;
    assert_eq!(
        (codes(&playback["communes"], "commune"), &playback["clusters_played"]),
        (vec![COMMUNE.into()], &json!(1))
    );
    assert_eq!(playback["total"]["plays"], 1);
    assert_eq!(officer.get("/api/v1/playback/all").await["total"]["plays"], 2);
    for path in ["/api/v1/bulletins/theirs", "/api/v1/playback/theirs"] {
        let (status, _) = commune.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(other.send(Method::GET, path, None).await.0, StatusCode::OK, "{path}");
    }
    for path in ["/api/v1/bulletins", "/api/v1/bulletins/all", "/api/v1/playback/all"] {
        outside_of(&commune, &format!("{path}?area={OTHER_COMMUNE}")).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_another_province_reads_nothing_here() {
    let place = Place::new(QUICK);
    let accounts = std::fs::read_to_string(place.path("accounts.toml")).unwrap();
    let foreign = accounts.replace("name = 'auditor'\n", "name = 'foreign'\n");
    let (before, after) = foreign.split_once("name = 'foreign'").unwrap();
    place.write(
        "accounts.toml",
        &format!("{before}name = 'foreign'{}", after.replacen("area = '31'", "area = '19'", 1)),
    );
    let running = place.start().await;
    let foreign = running.person("foreign").await;
    for path in ["/api/v1/clusters", "/api/v1/clusters/totals", "/api/v1/schedules", "/api/v1/bulletins", FORM] {
        outside_of(&foreign, path).await;
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_who_may_read_the_audit_trail() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let nobody = running.http.get(&format!("{}/metrics", running.base)).send_any().await.unwrap();
    assert_eq!(nobody.status, StatusCode::UNAUTHORIZED);
    let officer = running.person("officer").await;
    let (status, _) = officer.send(Method::GET, "/metrics", None).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    let (status, rows) = officer.send(Method::GET, "/api/v1/wire", None).await;
    assert_eq!((status, rows), (StatusCode::OK, json!([])), "nobody was reached");
}
