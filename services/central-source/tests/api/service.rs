//! The service itself: configuration, what anybody may ask, events as they happen.

use std::time::Duration;

use crate::common::World;
use axum::http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn an_unknown_key_is_refused() {
    let world = World::new(vec![]).await;
    world.write_config("retries = 3");
    let refusal = world.config().expect_err("unknown").to_string();
    assert!(refusal.contains("unknown field `retries`") && refusal.contains("central-source.toml:1:1"), "{refusal}");
}

#[tokio::test]
async fn health_and_description_need_no_session() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    for path in ["/healthz", "/readyz"] {
        let health: Value = central.client().get_json(&central.url(path)).await.expect(path);
        assert!(health["status"].is_string());
    }
    let description: Value =
        central.client().get_json(&central.url("/api/v1/openapi.json")).await.expect("description");
    assert_eq!(description["openapi"], "3.1.0");

    // Every described address is there, and wants a session where the description says so.
    for (path, item) in description["paths"].as_object().expect("paths") {
        let url = central.url(&path.replace(['{', '}'], "x"));
        for (method, operation) in item.as_object().expect("item") {
            let method: Method = method.to_uppercase().parse().expect("method");
            let status = central.client().request(method.clone(), &url).send_any().await.expect(path).status.as_u16();
            let expected = if operation.get("security").is_none() { vec![401] } else { vec![200, 415] };
            assert!(expected.contains(&status), "{method} {path}: {status}");
        }
    }
    central.stop().await;
}

#[tokio::test]
async fn changes_are_told_as_they_happen() {
    let world = World::new(vec![]).await;
    let central = world.start_plain().await;
    let author = central.log_in("bientap").await;
    let mut stream = central.listen(author.token()).await;
    let told = stream.read_until("\"reload\":true").await;
    assert!(told.contains("content-type: text/event-stream"), "{told}");
    let id = author.draft(json!({ "title": "Tin", "body": "x" })).await;
    let told = stream.read_until(&format!("\"bulletins\":[\"{id}\"]")).await;
    assert!(told.contains("event: change"), "{told}");

    // A stream that is open does not hold up the stop.
    let stopped = tokio::time::timeout(Duration::from_secs(10), central.stop()).await;
    assert!(stopped.is_ok(), "stops in time");
}
