//! A bulletin's way: written, submitted, approved by somebody else, published, withdrawn.

use crate::common::{World, otp};
use axum::http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn from_draft_to_publication_and_back() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let author = central.log_in("kiemnhiem").await;
    let approver = central.log_in("duyet").await;

    let id = author.draft(json!({ "title": "Lịch tiêm chủng", "body": "Sáng thứ bảy", "target_areas": ["31"] })).await;
    let path = format!("/bulletins/{id}");
    let edited = json!({ "title": "Lịch tiêm chủng", "body": "Sáng chủ nhật", "target_areas": ["31"] });
    let draft = author.put(&path, json!({ "content": edited, "version": 1 })).await;
    assert_eq!((&draft["version"], &draft["content"]["body"]), (&json!(2), &json!("Sáng chủ nhật")));
    assert_eq!(author.post_nothing(&format!("{path}/submit")).await.0, 200, "a body is not needed");

    // The author has the role, and still may not.
    let refused = author.post_refused(&format!("{path}/approve"), json!({})).await;
    assert_eq!(refused, (403, "own-work".to_owned()));
    let refused = approver.post_refused(&format!("{path}/publish"), json!({})).await;
    assert_eq!(refused, (409, "wrong-state".to_owned()));
    let refused = approver.post_refused(&format!("{path}/return"), json!({ "reason": " " })).await;
    assert_eq!(refused, (422, "required".to_owned()));
    let returned = approver.post(&format!("{path}/return"), json!({ "reason": "Thiếu địa điểm" })).await;
    assert_eq!((&returned["stage"], &returned["reason"]), (&json!("returned"), &json!("Thiếu địa điểm")));
    author.post(&format!("{path}/submit"), json!({})).await;
    let approved = approver.post(&format!("{path}/approve"), json!({})).await;
    assert_eq!((&approved["stage"], &approved["approver"]), (&json!("approved"), &json!("duyet")));
    assert_eq!(approved["published"], Value::Null);
    let published = author.post(&format!("{path}/publish"), json!({})).await;
    assert_eq!((&published["stage"], &published["published"]["version"]), (&json!("published"), &json!(1)));

    // A correction is approved anew; what is out stays out meanwhile.
    let correction = json!({ "title": "Lịch tiêm chủng", "body": "Nhà văn hóa", "target_areas": ["31"] });
    let draft = author.put(&path, json!({ "content": correction })).await;
    assert_eq!((&draft["stage"], &draft["published"]["content"]["body"]), (&json!("draft"), &json!("Sáng chủ nhật")));
    author.post(&format!("{path}/submit"), json!({})).await;
    approver.post(&format!("{path}/approve"), json!({})).await;
    let published = approver.post(&format!("{path}/publish"), json!({})).await;
    assert_eq!(published["published"]["version"], 2);
    let withdrawn = approver.post(&format!("{path}/withdraw"), json!({ "reason": "Hủy buổi tiêm" })).await;
    assert_eq!(
        (&withdrawn["stage"], &withdrawn["published"]["withdrawn_reason"]),
        (&json!("withdrawn"), &json!("Hủy buổi tiêm"))
    );
    let refused = author.post_refused(&format!("{path}/submit"), json!({})).await;
    assert_eq!(refused.0, 409);

    let read = author.get(&path).await;
    let history: Vec<&str> =
        read["history"].as_array().expect("list").iter().filter_map(|one| one["what"].as_str()).collect();
    let expected =
        "created edited submitted returned submitted approved published edited submitted approved published withdrawn";
    assert_eq!(history.join(" "), expected);

    let other = author.submitted("Bản tin khác", "ordinary").await;
    let list = author.get("/bulletins").await;
    assert_eq!(list["bulletins"].as_array().map(Vec::len), Some(2));
    assert_eq!((&list["bulletins"][0]["bulletin"], &list["more"]), (&json!(other), &json!(false)));
    let list = author.get("/bulletins?stage=withdrawn&limit=1").await;
    assert_eq!(list["bulletins"][0]["bulletin"], json!(id));
    assert_eq!(list["bulletins"][0]["stage_vi"], "đã bị thu hồi");
    central.stop().await;
}

#[tokio::test]
async fn an_emergency_needs_a_code_and_is_published_by_its_approval() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let id = author.submitted("Lũ về", "emergency").await;
    let path = format!("/bulletins/{id}/approve");
    assert_eq!(approver.post_refused(&path, json!({})).await, (403, "step-up-needed".to_owned()));
    assert_eq!(approver.post_refused(&path, json!({ "otp": "12345" })).await, (403, "wrong_otp".to_owned()));
    let code = otp();
    // What is refused anyway does not use up the code.
    let refused = approver.post_refused(&path, json!({ "otp": code, "version": 1 })).await;
    assert_eq!(refused, (409, "conflict".to_owned()));
    let published = approver.post(&path, json!({ "otp": code })).await;
    assert_eq!((&published["stage"], &published["published"]["version"]), (&json!("published"), &json!(1)));

    let second = author.submitted("Lũ rút", "emergency").await;
    let refused = approver.post_refused(&format!("/bulletins/{second}/approve"), json!({ "otp": code })).await;
    assert_eq!(refused, (403, "wrong_otp".to_owned()), "a code is good once");
    central.stop().await;
}

#[tokio::test]
async fn of_two_commands_on_one_state_one_wins() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let author = central.log_in("bientap").await;
    let (one, two) = (central.log_in("duyet").await, central.log_in("duyet2").await);
    let id = author.submitted("Bản tin", "ordinary").await;
    let seen = author.get(&format!("/bulletins/{id}")).await["version"].clone();

    let (approve, reject) = (format!("/bulletins/{id}/approve"), format!("/bulletins/{id}/reject"));
    one.post(&approve, json!({ "version": seen })).await;
    let refused = two.post_refused(&reject, json!({ "version": seen, "reason": "Sai nội dung" })).await;
    assert_eq!(refused, (409, "conflict".to_owned()));

    // At the same moment, again and again: never both.
    for _ in 0..10 {
        let id = author.submitted("Bản tin", "ordinary").await;
        let (approve, reject) = (format!("/bulletins/{id}/approve"), format!("/bulletins/{id}/reject"));
        let reason = json!({ "reason": "Sai nội dung" });
        let none = json!({});
        let both = tokio::join!(one.try_post(&approve, &none), two.try_post(&reject, &reason));
        let mut statuses = [both.0, both.1];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
    }
    central.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_with_their_fields() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let author = central.log_in("bientap").await;

    let wrong = json!({ "content": { "title": "", "kind": "audio", "target_areas": ["99999"] } });
    let (status, error) = author.refused(Method::POST, "/bulletins", Some(wrong)).await;
    assert_eq!((status, &error["code"], &error["field"]), (422, &json!("several-mistakes"), &json!("content.title")));
    let fields: Vec<&str> =
        error["details"].as_array().expect("list").iter().filter_map(|mistake| mistake["field"].as_str()).collect();
    assert_eq!(fields, ["content.title", "content.media", "content.target_areas[0]"]);

    let (status, error) =
        author.refused(Method::POST, "/bulletins", Some(json!({ "content": { "titel": "x" } }))).await;
    assert_eq!((status, &error["code"]), (422, &json!("wrong_data")));
    for (path, status, code) in [
        ("/bulletins/nothing", 404, "not_found"),
        ("/bulletins/nothing/delivery", 404, "not_found"),
        ("/bulletins?stage=lost", 400, "wrong_query"),
        ("/bulletins?page=2", 400, "wrong_query"),
        ("/nowhere", 404, "not_found"),
        ("/areas/99999", 404, "unknown-area"),
        ("/clusters/totals?area=99999", 404, "unknown-area"),
        ("/forms/nothing", 404, "unknown-form"),
        ("/forms/commune-station?version=9", 404, "unknown-form"),
        ("/reports/commune-station/2026-Q9", 422, "unknown-period"),
        ("/reports/commune-station/2024-Q1", 422, "form-not-in-force"),
        ("/reports/nothing/2026-Q3", 404, "unknown-form"),
        ("/media/abc", 404, "not_found"),
        ("/log", 403, "not-allowed"),
    ] {
        let (got, error) = author.refused(Method::GET, path, None).await;
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{path}: {error}");
    }
    let reader = central.log_in("kiemtra").await;
    let refused = reader.post_refused("/bulletins", json!({ "content": { "title": "x", "body": "y" } })).await;
    assert_eq!(refused, (403, "not-allowed".to_owned()));

    let stranger = central.client().get(&central.url("/api/v1/bulletins")).send_any().await.expect("answer");
    assert_eq!(stranger.status.as_u16(), 401);
    central.stop().await;
}
