//! A member's word counts for its own area and no further: of two provinces one lies.

use crate::common::{Feed, World, clusters, event, now_ms, reports};
use httt_domain::bulletin::{Content, Priority};
use httt_domain::cluster::encode_deltas;
use httt_feed::{Lane, VerifiedBatch};
use httt_wire::bulletin::{BulletinOffered, BulletinPublished, BulletinScheduled};
use httt_wire::cluster::{Cluster, ClusterStatusChanged, ClustersRegistered};
use httt_wire::report::{ReportFiled, SummarySubmitted, Value as FiledValue, value};
use serde_json::{Value, json};

/// A commune of Hải Phòng, and one of Thái Nguyên.
const THEIRS: &str = "10525";
const OWN: &str = "01840";

/// Thái Nguyên registers a cluster in each commune, and has both playing.
fn lying_clusters() -> VerifiedBatch {
    let cluster = |ordinal: u32, commune: &str| Cluster {
        ordinal,
        imei: format!("86000000000001{ordinal}"),
        commune: commune.to_owned(),
        name: format!("Cụm {ordinal}"),
        vendor: "TN".to_owned(),
    };
    let registered = ClustersRegistered { clusters: vec![cluster(1, THEIRS), cluster(2, OWN)] };
    let changed = ClusterStatusChanged { at_ms: now_ms(), playing: encode_deltas([1, 2]), ..Default::default() };
    Feed::new("H55", "TW", Lane::Status).seal(vec![event("clusters", 1, &registered), event("clusters", 2, &changed)])
}

/// Thái Nguyên reports for both communes, and is first to say that both provinces are complete.
fn lying_reports(feed: &mut Feed) -> VerifiedBatch {
    let (form, period) = ("commune-station", "2026-Q3");
    let filed = |area: &str| {
        let values =
            vec![FiledValue { indicator: "hours_on_air".to_owned(), value: Some(value::Value::Number(6_000)) }];
        let report =
            ReportFiled { form: form.into(), form_version: 1, period: period.into(), area: area.into(), values };
        event(format!("report/{form}/{period}/{area}"), 1, &report)
    };
    let summary = |version: u64, area: &str| {
        let summary = SummarySubmitted {
            form: form.into(),
            form_version: 1,
            period: period.into(),
            area: area.into(),
            reports: 1,
        };
        event(format!("summary/{form}/{period}"), version, &summary)
    };
    feed.seal(vec![filed(THEIRS), filed(OWN), summary(1, "31"), summary(2, "VN"), summary(3, "19")])
}

#[tokio::test]
async fn a_province_speaks_for_its_own_communes_only() {
    let mut honest = Feed::new("H24", "TW", Lane::Report);
    let mut liar = Feed::new("H55", "TW", Lane::Report);
    // The lie comes first: whoever comes first must not keep the others' place.
    let batches = vec![lying_clusters(), lying_reports(&mut liar), clusters(), reports(&mut honest)];
    let world = World::new(batches).await;
    let central = world.start().await;
    let reader = central.log_in("kiemtra").await;

    let totals = async |area: &str| reader.get(&format!("/clusters/totals?area={area}")).await["totals"].clone();
    let (theirs, own, nation) = (totals("31").await, totals("19").await, totals("VN").await);
    assert_eq!((&theirs["total"], &theirs["playing"]), (&json!(4), &json!(1)));
    assert_eq!((&own["total"], &own["playing"]), (&json!(1), &json!(1)));
    assert_eq!((&nation["total"], &nation["playing"]), (&json!(5), &json!(2)));

    let sums = async |area: &str| reader.get(&format!("/reports/commune-station/2026-Q3?area={area}")).await;
    let commune = sums(THEIRS).await;
    assert_eq!(commune["report"]["origin"], "H24");
    assert_eq!(sums(OWN).await["report"]["origin"], "H55");
    let nation = sums("VN").await;
    assert_eq!(nation["filed"], json!(3));
    let hours = nation["indicators"].as_array().and_then(|all| all.iter().find(|one| one["code"] == "hours_on_air"));
    assert_eq!(hours.map(|hours| &hours["sum"]), Some(&json!(6_000 + 150)));
    assert_eq!(nation["submitted_at_ms"], Value::Null, "no province speaks for the nation");
    for (area, expected) in [("31", true), ("19", true)] {
        assert_eq!(sums(area).await["submitted_at_ms"].is_i64(), expected, "{area}");
    }
    let auditor = reader.post("/models/compare", json!({})).await;
    assert!(auditor.as_array().expect("list").iter().all(|model| model["equal"] == true), "{auditor}");
    central.stop().await;
}

#[tokio::test]
async fn a_delivery_counts_the_senders_communes_only() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let id = author.submitted("Phòng chống cháy rừng", "ordinary").await;
    approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
    approver.post(&format!("/bulletins/{id}/publish"), json!({})).await;
    central.stop().await;

    let offered = BulletinOffered { bulletin: id.clone(), communes: vec![THEIRS.into(), OWN.into(), "99999".into()] };
    let scheduled = |commune: &str| BulletinScheduled {
        bulletin: id.clone(),
        commune: commune.to_owned(),
        schedule: "s1".to_owned(),
    };
    let stream = format!("delivery/{id}");
    let batch = Feed::new("H55", "TW", Lane::Report).seal(vec![
        event(&stream, 1, &offered),
        event(&stream, 2, &scheduled(THEIRS)),
        event(&stream, 3, &scheduled(OWN)),
    ]);
    world.copy(vec![batch]).await;
    let central = world.start().await;
    let totals = central.log_in("kiemtra").await.get(&format!("/bulletins/{id}/delivery")).await["totals"].clone();
    assert_eq!((&totals["offered"], &totals["scheduled"]), (&json!(1), &json!(1)));
    central.stop().await;
}

#[tokio::test]
async fn nobody_publishes_the_ministrys_draft() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let id = central.log_in("bientap").await.submitted("Bản thật", "ordinary").await;
    central.stop().await;

    let content =
        Content { title: "Bản giả".into(), body: "x".into(), priority: Priority::Ordinary, ..Default::default() };
    let forged = BulletinPublished {
        bulletin: id.clone(),
        version: 1,
        content: Some(content.to_wire()),
        author: "x".to_owned(),
        approver: "y".to_owned(),
        approved_at_ms: now_ms(),
    };
    let batch = Feed::new("H55", "TW", Lane::Content).seal(vec![event(format!("bulletin/{id}"), 1, &forged)]);
    world.copy(vec![batch]).await;
    let central = world.start().await;
    let approver = central.log_in("duyet").await;
    assert_eq!(approver.get(&format!("/bulletins/{id}")).await["published"], Value::Null);
    approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
    let published = approver.post(&format!("/bulletins/{id}/publish"), json!({})).await;
    assert_eq!(published["published"]["content"]["title"], "Bản thật");
    central.stop().await;
}
