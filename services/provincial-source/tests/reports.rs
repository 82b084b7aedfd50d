//! Quarterly reports, with the mistakes that districts really made.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use axum::http::{Method, StatusCode};
use common::*;
use httt_domain::area::Areas;
use httt_wire::report::{ReportFiled, SummarySubmitted};
use serde_json::{Value, json};

const FORM: &str = "/api/v1/reports/commune-station/2026-Q3";

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

fn with(changes: &[(&str, Value)]) -> Value {
    let mut report = report();
    changes.iter().for_each(|(field, value)| report[field] = value.clone());
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_is_named_with_its_field() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let commune = running.person("commune").await;
    let path = format!("{FORM}/{COMMUNE}");
    for (changes, code, field) in [
        (vec![("stations", json!(3))], "stations-wrong", "values.stations"),
        (vec![("villages_without", json!(5))], "villages-do-not-add-up", "values.villages_all"),
        (vec![("operating_cost", json!(12))], "operating-cost-unit", "values.operating_cost"),
        (vec![("hours_on_air", json!(7_200))], "more-hours-than-quarter", "values.hours_on_air"),
        (vec![("hours_own", json!(130))], "own-longer-than-air", "values.hours_own"),
        (vec![("hours_own", json!("40 giờ"))], "not-a-number", "values.hours_own"),
        (vec![("clusters_broken", json!(-2))], "negative", "values.clusters_broken"),
        (vec![("horns", Value::Null)], "required", "values.horns"),
        (vec![("tivi", json!(1))], "unknown-indicator", "values"),
    ] {
        let (status, codes, answer) = commune.refused(Method::PUT, &path, &with(&changes)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert_eq!(codes, [code], "{answer}");
        assert_eq!(answer["error"]["details"][0]["field"], field);
        assert!(!answer["error"]["details"][0]["vi"].as_str().unwrap().is_empty());
    }
    let (_, codes, _) =
        commune.refused(Method::PUT, &path, &with(&[("stations", json!(3)), ("operating_cost", json!(12))])).await;
    assert_eq!(codes.len(), 2, "all at once: {codes:?}");
    for (path, code) in [
        (format!("/api/v1/reports/commune-station/2026-Q9/{COMMUNE}"), "unknown-period"),
        (format!("/api/v1/reports/commune-station/2098-Q4/{COMMUNE}"), "period-not-ended"),
        (format!("/api/v1/reports/commune-station/2024-Q1/{COMMUNE}"), "form-not-in-force"),
    ] {
        assert_eq!(commune.refused(Method::PUT, &path, &report()).await.1, [code]);
    }
    let (status, _, _) =
        commune.refused(Method::PUT, &format!("/api/v1/reports/nothing/2026-Q3/{COMMUNE}"), &report()).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(running.stream(&format!("report/commune-station/2026-Q3/{COMMUNE}")).is_empty());
    let (status, _) = commune.send(Method::GET, &path, None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    let (status, filed) = commune.send(Method::PUT, &path, Some(&report())).await;
    assert_eq!(status, StatusCode::OK, "{filed}");
    assert_eq!(
        (&filed["values"]["hours_own"], &filed["filer"], &filed["version"]),
        (&json!(2_430), &json!("commune"), &json!(1))
    );
    let events = running.stream(&format!("report/commune-station/2026-Q3/{COMMUNE}"));
    assert_eq!((events[0].event.actor.as_str(), events[0].feed.to_string()), ("commune", format!("{OWN}→TW/report")));
    running.compare().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commune_reports_for_itself_alone_and_nobody_overwrites_unseen() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let path = format!("{FORM}/{COMMUNE}");
    let (commune, other, officer, auditor) = (
        running.person("commune").await,
        running.person("other").await,
        running.person("officer").await,
        running.person("auditor").await,
    );
    let (status, codes, answer) = other.refused(Method::PUT, &path, &report()).await;
    assert_eq!((status, codes), (StatusCode::FORBIDDEN, vec!["area-outside".to_owned()]));
    assert!(answer["error"]["message"].as_str().unwrap().contains("Phường Hải Dương"));
    assert_eq!(auditor.refused(Method::PUT, &path, &report()).await.0, StatusCode::FORBIDDEN);
    let elsewhere = Areas::in_force_2025().communes_of("19")[0].code.clone();
    assert_eq!(officer.refused(Method::PUT, &format!("{FORM}/{elsewhere}"), &report()).await.0, StatusCode::FORBIDDEN);
    let (status, codes, _) = officer.refused(Method::PUT, &format!("{FORM}/99999"), &report()).await;
    assert_eq!((status, codes), (StatusCode::UNPROCESSABLE_ENTITY, vec!["unknown-area".to_owned()]));

    let versioned = format!("{path}?version=0");
    assert_eq!(commune.send(Method::PUT, &versioned, Some(&report())).await.0, StatusCode::OK);
    assert_eq!(officer.send(Method::PUT, &versioned, Some(&report())).await.0, StatusCode::CONFLICT);
    let (status, again) =
        officer.send(Method::PUT, &format!("{path}?version=1"), Some(&with(&[("horns", json!(25))]))).await;
    assert_eq!((status, &again["version"], &again["filer"]), (StatusCode::OK, &json!(2), &json!("officer")));
    let seen = auditor.get(&path).await;
    assert_eq!(seen["values"]["horns"], 25);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_summary_waits_for_every_commune() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let officer = running.person("officer").await;
    let communes: Vec<String> = Areas::in_force_2025().communes_of("31").iter().map(|area| area.code.clone()).collect();
    let (last, others) = communes.split_last().unwrap();
    let file = |code: String| {
        let officer = &officer;
        async move { officer.send(Method::PUT, &format!("{FORM}/{code}"), Some(&report())).await.0 }
    };
    let filed = futures_util::future::join_all(others.iter().map(|code| file(code.clone()))).await;
    assert!(filed.iter().all(|status| *status == StatusCode::OK));

    let submit = format!("{FORM}/submit");
    let (status, codes, answer) = officer.refused(Method::POST, &submit, &json!({})).await;
    assert_eq!((status, codes), (StatusCode::UNPROCESSABLE_ENTITY, vec!["not-all-filed".to_owned()]));
    let name = Areas::in_force_2025().name(last);
    assert!(answer["error"]["message"].as_str().unwrap().contains(&name), "{answer}");
    let sheet = officer.get(FORM).await;
    assert_eq!(sheet["filed"].as_array().unwrap().len(), others.len());
    assert_eq!((&sheet["missing"], &sheet["submitted"]), (&json!([{ "area": last, "name": name }]), &Value::Null));
    assert_eq!(sheet["sums"]["stations"]["sum"], others.len());
    assert_eq!(sheet["sums"]["station_kind"]["counts"]["it"], others.len());
    assert_eq!(
        running.person("commune").await.refused(Method::POST, &submit, &json!({})).await.0,
        StatusCode::FORBIDDEN
    );

    assert_eq!(file(last.clone()).await, StatusCode::OK);
    let submitted = officer.post(&submit, &json!({})).await;
    assert_eq!(
        (&submitted["reports"], &submitted["actor"], &submitted["area"]),
        (&json!(communes.len()), &json!("officer"), &json!("31"))
    );
    let stream = "summary/commune-station/2026-Q3";
    assert_eq!(running.messages::<SummarySubmitted>(stream)[0].reports as usize, communes.len());
    assert_eq!(running.messages::<ReportFiled>(&format!("report/commune-station/2026-Q3/{last}")).len(), 1);
    let one = officer.get(&format!("{FORM}?area={COMMUNE}")).await;
    assert_eq!((&one["sums"]["horns"]["sum"], &one["submitted"]["actor"]), (&json!(24), &json!("officer")));
    assert_eq!(officer.get("/api/v1/forms").await[0]["code"], "commune-station");
    running.compare().await;
    running.stop().await;
}
