//! What provinces report: delivery, clusters, statistics; by area, and for accounts bound to one.

use crate::common::{Feed, World, clusters, delivery, reports};
use httt_feed::Lane;
use serde_json::{Value, json};

#[tokio::test]
async fn a_restart_keeps_everything_and_delivery_counts_from_the_approval() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let id = author.submitted("Phòng chống cháy rừng", "ordinary").await;
    let path = format!("/bulletins/{id}");
    approver.post(&format!("{path}/approve"), json!({})).await;
    let before = approver.post(&format!("{path}/publish"), json!({})).await;
    let delivered = author.get(&format!("{path}/delivery")).await;
    assert_eq!((&delivered["totals"]["provinces"], &delivered["totals"]["received"]), (&json!(2), &json!(0)));
    let approved_at = before["approved_at_ms"].as_i64().expect("time");
    assert_eq!(delivered["approved_at_ms"], json!(approved_at));
    central.stop().await;

    let mut feed = Feed::new("H24", "TW", Lane::Report);
    world.copy(vec![delivery(&mut feed, &id, approved_at, 850)]).await;
    let central = world.start().await;
    let author = central.log_in("bientap").await;
    assert_eq!(author.get(&path).await, before);
    let delivered = author.get(&format!("{path}/delivery")).await;
    let expected = json!({
        "provinces": 2, "targeted": 2, "received": 1, "communes": 114 + 92, "offered": 2, "scheduled": 1, "played": 3,
        "slowest_ms": 850
    });
    assert_eq!(delivered["totals"], expected);
    let province = |code: &str| {
        let all = delivered["provinces"].as_array().expect("list");
        all.iter().find(|province| province["code"] == code).expect(code).clone()
    };
    let expected = json!({
        "code": "H24", "name": "Đơn vị H24",
        "area": { "code": "31", "name": "Thành phố Hải Phòng", "level": "province" },
        "communes": 114, "received_at_ms": approved_at + 850, "latency_ms": 850, "has_latest": true,
        "offered": 2, "scheduled": 1, "played": 3
    });
    assert_eq!(province("H24"), expected);
    assert_eq!((&province("H55")["received_at_ms"], &province("H55")["has_latest"]), (&Value::Null, &json!(false)));
    let row = author.get("/bulletins").await["bulletins"][0].clone();
    assert_eq!((&row["received"], &row["played"]), (&json!(1), &json!(3)));

    let auditor = central.log_in("kiemtra").await;
    let comparison = auditor.post("/models/compare", json!({})).await;
    let comparison = comparison.as_array().expect("list");
    assert_eq!(comparison.len(), 9);
    assert!(comparison.iter().all(|model| model["equal"] == true), "{comparison:?}");
    assert_eq!(auditor.get("/link").await["connected"], false);
    assert_eq!(auditor.get("/log").await["member"], "TW");
    central.stop().await;
}

#[tokio::test]
async fn clusters_and_reports_add_up_by_area() {
    let mut feed = Feed::new("H24", "TW", Lane::Report);
    let world = World::new(vec![clusters(), reports(&mut feed)]).await;
    let central = world.start().await;
    let reader = central.log_in("kiemtra").await;

    let nation = reader.get("/clusters/totals").await;
    let counts = json!({ "total": 4, "online": 3, "offline": 1, "idle": 2, "playing": 1, "paused": 0 });
    assert_eq!((&nation["area"]["code"], &nation["totals"]), (&json!("VN"), &counts));
    assert_eq!(nation["children"].as_array().map(Vec::len), Some(34));
    let own = nation["children"].as_array().and_then(|rows| rows.iter().find(|row| row["area"]["code"] == "31"));
    assert_eq!(own.expect("Hải Phòng")["totals"], counts);
    let commune = reader.get("/clusters/totals?area=10525").await;
    assert_eq!((&commune["totals"]["playing"], &commune["children"]), (&json!(1), &json!([])));

    let nation = reader.get("/reports/commune-station/2026-Q3").await;
    assert_eq!((&nation["filed"], &nation["missing"], &nation["expected"]), (&json!(2), &json!(3_319), &json!(3_321)));
    let indicator = |sums: &Value, code: &str| {
        let all = sums["indicators"].as_array().expect("list").clone();
        all.into_iter().find(|indicator| indicator["code"] == code).expect("indicator")
    };
    let hours = indicator(&nation, "hours_on_air");
    assert_eq!((&hours["sum"], &hours["unit"], &hours["shown_vi"]), (&json!(150), &json!("minutes"), &json!("2,5")));
    assert_eq!(indicator(&nation, "operating_cost")["shown_vi"], "25");
    let kinds = indicator(&nation, "station_kind");
    assert_eq!(kinds["counts"], json!([{ "value": "it", "vi": "Ứng dụng CNTT-VT", "en": "IT-telecom", "count": 2 }]));
    let row = nation["children"].as_array().and_then(|rows| rows.iter().find(|row| row["area"]["code"] == "31"));
    let row = row.expect("Hải Phòng");
    assert_eq!((&row["filed"], &row["missing"], &row["sums"]["stations"]), (&json!(2), &json!(112), &json!(2)));
    assert!(row["submitted_at_ms"].is_i64());

    let province = reader.get("/reports/commune-station/2026-Q3?area=31").await;
    assert_eq!(province["children"].as_array().map(Vec::len), Some(114));
    assert_eq!(indicator(&province, "stations")["sum"], 2);
    assert!(province["submitted_at_ms"].is_i64());
    let commune = reader.get("/reports/commune-station/2026-Q3?area=10525").await;
    assert_eq!(indicator(&commune, "hours_on_air")["sum"], 90);
    assert_eq!(
        (&commune["report"]["origin"], &commune["report"]["values"][0]["shown_vi"]),
        (&json!("H24"), &json!("Ứng dụng CNTT-VT"))
    );
    let missing = reader.get("/reports/commune-station/2026-Q3/missing?area=31").await;
    assert_eq!(missing["missing"].as_array().map(Vec::len), Some(112));
    assert_eq!(missing["missing"][0]["province"]["name"], "Thành phố Hải Phòng");

    let forms = reader.get("/forms").await;
    assert_eq!(forms["forms"][0]["code"], "commune-station");
    let form = reader.get("/forms/commune-station").await;
    assert_eq!((&form["form"]["version"], &form["periods"]), (&json!(1), &json!(["2026-Q3"])));
    let area = reader.get("/areas/31").await;
    assert_eq!((&area["name"], &area["parent"]), (&json!("Thành phố Hải Phòng"), &json!("VN")));
    assert_eq!(area["children"].as_array().map(Vec::len), Some(114));
    assert_eq!(reader.get("/areas/VN").await["children"].as_array().map(Vec::len), Some(34));
    central.stop().await;
}
