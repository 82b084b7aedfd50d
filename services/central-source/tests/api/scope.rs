//! What an account bound to an area sees: its part of the nation, and of what is being written only what is its own.

use std::time::Duration;

use crate::common::{Central, Person, World, clusters};
use axum::http::Method;
use serde_json::{Value, json};

async fn publish(author: &Person<'_>, approver: &Person<'_>, id: &str) {
    author.post(&format!("/bulletins/{id}/submit"), json!({})).await;
    approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
    author.post(&format!("/bulletins/{id}/publish"), json!({})).await;
}

/// Identifiers in the list, in order of their own.
async fn listed(person: &Person<'_>) -> Vec<String> {
    let list = person.get("/bulletins").await;
    let rows = list["bulletins"].as_array().expect("list");
    let mut seen: Vec<String> = rows.iter().filter_map(|row| Some(row["bulletin"].as_str()?.to_owned())).collect();
    seen.sort_unstable();
    seen
}

#[tokio::test]
async fn an_account_bound_to_an_area_sees_that_area() {
    let world = World::new(vec![clusters()]).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let bound = central.log_in("haiphong").await;
    let for_all = author.draft(json!({ "title": "Cả nước", "body": "x" })).await;
    let own = author.draft(json!({ "title": "Phường", "body": "x", "target_areas": ["10525"] })).await;
    let other = author.draft(json!({ "title": "Thái Nguyên", "body": "x", "target_areas": ["19"] })).await;
    for id in [&for_all, &own, &other] {
        publish(&author, &approver, id).await;
    }
    assert_eq!(listed(&bound).await, [for_all.as_str(), own.as_str()]);
    assert_eq!(bound.refused(Method::GET, &format!("/bulletins/{other}"), None).await.0, 404);
    let delivery = bound.get(&format!("/bulletins/{for_all}/delivery")).await;
    assert_eq!(delivery["provinces"].as_array().map(Vec::len), Some(1));

    assert_eq!(bound.get("/clusters/totals").await["area"]["code"], "31");
    for path in ["/clusters/totals?area=VN", "/clusters/totals?area=19", "/reports/commune-station/2026-Q3?area=19"] {
        let (status, error) = bound.refused(Method::GET, path, None).await;
        assert_eq!((status, &error["code"]), (403, &json!("area-outside")), "{path}");
    }
    assert_eq!(bound.get("/reports/commune-station/2026-Q3?area=10525").await["report"], Value::Null);
    central.stop().await;
}

#[tokio::test]
async fn what_was_never_published_is_for_those_whose_area_it_is() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let author = central.log_in("bientap").await;
    let (bound, writer) = (central.log_in("haiphong").await, central.log_in("haiphong2").await);
    let draft =
        async |targets: Value| author.draft(json!({ "title": "T", "body": "x", "target_areas": targets })).await;
    let (for_all, own) = (draft(json!([])).await, draft(json!(["10525"])).await);
    let (both, submitted) = (draft(json!(["10525", "19"])).await, draft(json!([])).await);
    author.post(&format!("/bulletins/{submitted}/submit"), json!({})).await;

    for person in [&bound, &writer] {
        assert_eq!(listed(person).await, [own.as_str()]);
        for id in [&for_all, &both, &submitted] {
            for path in [format!("/bulletins/{id}"), format!("/bulletins/{id}/delivery")] {
                assert_eq!(person.refused(Method::GET, &path, None).await.0, 404, "{path}");
            }
        }
        assert_eq!(person.get(&format!("/bulletins/{own}")).await["stage"], "draft");
    }
    let refused = writer.post_refused(&format!("/bulletins/{for_all}/submit"), json!({})).await;
    assert_eq!(refused, (404, "not_found".to_owned()));
    let auditor = central.log_in("kiemtra").await;
    assert_eq!(listed(&auditor).await.len(), 4);

    // It is not theirs to give, and said so.
    let wide = json!({ "content": { "title": "T", "body": "x", "target_areas": ["19"] } });
    assert_eq!(writer.post_refused("/bulletins", wide).await, (403, "area-outside".to_owned()));
    central.stop().await;
}

#[tokio::test]
async fn a_correction_is_a_draft_until_it_is_published() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let bound = central.log_in("haiphong").await;
    let id = author.draft(json!({ "title": "Cũ", "body": "x", "target_areas": ["31", "19"] })).await;
    publish(&author, &approver, &id).await;
    let path = format!("/bulletins/{id}");
    let out = bound.get(&path).await;

    let correction = json!({ "title": "Mới", "body": "x", "target_areas": ["19"] });
    author.put(&path, json!({ "content": correction })).await;
    author.post(&format!("{path}/submit"), json!({})).await;
    approver.post(&format!("{path}/return"), json!({ "reason": "Chưa rõ" })).await;
    let seen = bound.get(&path).await;
    for field in ["stage", "content", "published", "history", "reason", "approver", "approved_at_ms", "changed_at_ms"] {
        assert_eq!(seen[field], out[field], "{field}");
    }
    let list = bound.get("/bulletins?stage=published").await;
    assert_eq!(list["bulletins"][0]["title"], "Cũ");
    assert_eq!(bound.get("/bulletins?stage=returned").await["bulletins"], json!([]));
    assert_eq!(bound.get(&format!("{path}/delivery")).await["stage"], "published");
    assert_eq!(author.get(&path).await["content"]["title"], "Mới");

    approver.post(&format!("{path}/withdraw"), json!({ "reason": "Nhầm" })).await;
    let seen = bound.get(&path).await;
    assert_eq!((&seen["stage"], &seen["reason"]), (&json!("withdrawn"), &json!("Nhầm")));
    let history: Vec<&str> =
        seen["history"].as_array().expect("list").iter().filter_map(|one| one["what"].as_str()).collect();
    assert_eq!(history, ["created", "submitted", "approved", "published", "withdrawn"]);
    assert_eq!(seen["content"]["title"], "Cũ");
    central.stop().await;
}

/// What a stream of events told until `wanted` was in it.
async fn told_until(central: &Central, person: &Person<'_>, wanted: impl AsyncFnOnce() -> String) -> String {
    let mut stream = central.listen(person.token()).await;
    stream.read_until("\"reload\":true").await;
    let wanted = wanted().await;
    stream.read_until(&wanted).await
}

#[tokio::test]
async fn drafts_are_named_only_to_those_who_may_see_them() {
    let world = World::new(vec![]).await;
    let central = world.start_plain().await;
    let author = central.log_in("bientap").await;
    let bound = central.log_in("haiphong").await;
    let hidden = std::cell::OnceCell::new();
    let told = told_until(&central, &bound, async || {
        hidden.set(author.draft(json!({ "title": "T", "body": "x" })).await).expect("once");
        // Told apart from the next, or the two would be one change.
        tokio::time::sleep(Duration::from_millis(400)).await;
        author.draft(json!({ "title": "T", "body": "x", "target_areas": ["31"] })).await
    })
    .await;
    assert!(!told.contains(hidden.get().expect("set")), "{told}");
    central.stop().await;
}
