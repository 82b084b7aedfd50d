//! The REST driver: what platforms see of it, and what members make of what platforms answer.

mod common;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use axum::{Router, routing};
use bytes::Bytes;
use common::*;
use httt_exchange::quota::{CallRates, Rate};
use httt_exchange::rest::*;
use httt_exchange::{LogStore, MAX_MESSAGE_BYTES, Peer, PeerError, Receipts};
use httt_feed::{Digest, Lane};
use httt_wire::Message as _;
use httt_wire::exchange::{self as wire, RefusalCode};
use serde_json::{Value, json};
use tonic::codegen::Service as _;

const SECRET: &str = "one+two/three=%";
type Records = Arc<Mutex<Vec<CallRecord>>>;

fn oauth(id: &str, member: &str) -> Client {
    let key = ClientKey::OAuth2 { id: id.into(), secret_sha256: Digest::of(SECRET.as_bytes()) };
    Client { key, member: code(member), rates: CallRates::UNLIMITED, disabled: false }
}

fn keyed(member: &str) -> Client {
    let (app_name, access_key) = ("httt".to_owned(), "K1".to_owned());
    let key = ClientKey::Headers { app_name, access_key, secret_key_sha256: Digest::of(SECRET.as_bytes()) };
    Client { key, ..oauth("", member) }
}

/// A platform over a gateway's log, and what it recorded.
async fn platform(clients: Vec<Client>) -> (Node, Router, Records) {
    let (node, service) = gateway().await;
    let (router, records) = over(service, clients);
    (node, router, records)
}

fn over(service: Arc<httt_exchange::Service>, clients: Vec<Client>) -> (Router, Records) {
    let records = Records::default();
    let kept = Arc::clone(&records);
    let options = PlatformOptions {
        clients: Clients::new(clients).expect("clients"),
        records: Arc::new(move |record| kept.lock().expect("lock").push(record)),
        address_of: |_| IpAddr::V4(Ipv4Addr::LOCALHOST),
        clock: Arc::new(|| 1_000),
        uptime: Arc::new(|| UPTIME.with(Cell::get)),
    };
    (router(service, options), records)
}

thread_local! {
    /// What time it is for quotas and tokens. Tests run on one thread each.
    static UPTIME: Cell<i64> = const { Cell::new(0) };
}

async fn ask(router: &Router, request: Request<Bytes>) -> Response<Bytes> {
    let response = router.clone().call(request.map(Body::from)).await.expect("infallible");
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, axum::body::to_bytes(body, 1 << 24).await.expect("body"))
}

fn send(router: &Router) -> HttpSend {
    let router = router.clone();
    Arc::new(move |request, _| {
        let router = router.clone();
        Box::pin(async move { Ok(ask(&router, request).await) })
    })
}

fn peer(router: &Router, credentials: Credentials, format: BodyFormat) -> RestPeer {
    RestPeer::new("https://lgsp.example", credentials, format, send(router), send(router))
}

fn by_oauth(id: &str) -> Credentials {
    Credentials::OAuth2 { client_id: id.into(), client_secret: SECRET.into() }
}

fn by_keys() -> Credentials {
    Credentials::Headers { app_name: "httt".into(), access_key: "K1".into(), secret_key: SECRET.into() }
}

/// A request by keys, in JSON.
fn json_request(method: Method, path: &str, body: Value, more: &[(&str, &str)]) -> Request<Bytes> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("appname", "httt")
        .header("AccessKey", "K1")
        .header("SECRETKEY", SECRET)
        .header("accept", "application/json")
        .header("content-type", "application/json");
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    request.body(Bytes::from(body.to_string())).expect("request")
}

fn get(path: &str, more: &[(&str, &str)]) -> Request<Bytes> {
    json_request(Method::GET, path, Value::Null, more)
}

fn read_json(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).expect("JSON")
}

fn etag(response: &Response<Bytes>) -> String {
    response.headers()[header::ETAG].to_str().expect("text").to_owned()
}

const REPORT: &str = "/exchange/v1/feeds/H24/TW/report";

#[tokio::test]
async fn members_copy_over_rest_in_every_format_and_with_every_credential() {
    for (format, keys) in [(BodyFormat::Protobuf, false), (BodyFormat::Json, false), (BodyFormat::Json, true)] {
        let (gateway, router, _) = platform(vec![oauth("h24", "H24"), keyed("H24")]).await;
        let province = Node::open("H24");
        let credentials = if keys { by_keys() } else { by_oauth("h24") };
        province.copy_with(Arc::new(peer(&router, credentials, format)), &["H24"]);
        province.say("TW", Lane::Report, "r1").await;
        province.say("TW", Lane::Emergency, "e1").await;
        for feed in ["H24→TW/report", "H24→TW/emergency"] {
            gateway.holds(feed, 1).await;
            let feed = feed.parse().expect("feed");
            let bytes = |node: &Node| node.log.read_feed(&feed, 0, 1 << 20).expect("entries")[0].bytes.clone();
            assert_eq!(bytes(&gateway), bytes(&province), "untouched");
        }
        province.holds("NDXP→H24/report", 1).await;
        gateway.stop.send_replace(true);
        province.stop.send_replace(true);
    }
}

#[tokio::test]
async fn every_refusal_has_a_status_and_stands_in_the_body() {
    let (_gateway, router, records) = platform(vec![keyed("H24")]).await;
    let origin = Node::open("H24");
    origin.backlog("H24→TW/report", 3).await;
    let own = "H24→TW/report".parse().expect("feed");
    let entries: Vec<Value> = origin
        .log
        .read_feed(&own, 0, 1 << 20)
        .expect("entries")
        .into_iter()
        .map(|entry| json!(base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &entry.bytes)))
        .collect();
    let other = Node::open("H24");
    other.say("TW", Lane::Report, "another history").await;
    let fork = other.log.read_feed(&own, 0, 1 << 20).expect("entries")[0].bytes.clone();
    let fork = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, &fork);
    let push = |path: &str, body: Value| json_request(Method::POST, path, body, &[]);
    let absent = "00".repeat(32);
    let range = Bytes::from(vec![0; (1 << 20) + 1]);
    let mut too_large = get(&format!("/exchange/v1/media/{absent}?size=9999999&offset=0"), &[]);
    *too_large.method_mut() = Method::PATCH;
    *too_large.body_mut() = range;
    let mut no_kind = push(REPORT, json!({}));
    no_kind.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain"));

    for (request, status, refusal) in [
        (push(REPORT, json!({ "entries": [entries[1]] })), 409, "GAP"),
        (push(REPORT, json!({ "entries": [entries[0]] })), 200, ""),
        (push(REPORT, json!({ "entries": [fork] })), 409, "FORK"),
        (push(REPORT, json!({ "entries": ["AAAA"] })), 409, "FORK"),
        (push("/exchange/v1/feeds/H55/TW/report", json!({ "entries": [entries[0]] })), 403, "WRONG_MEMBER"),
        (push("/exchange/v1/feeds/H24/TW/content", json!({ "entries": ["AAAA"] })), 400, "MALFORMED"),
        (push(REPORT, json!({ "entires": [] })), 400, "MALFORMED"),
        (push(REPORT, json!({ "feed": { "origin": "H55" } })), 400, "MALFORMED"),
        (push("/exchange/v1/feeds/H24/TW/nonsense", json!({})), 400, "MALFORMED"),
        (no_kind, 415, "MALFORMED"),
        (get("/exchange/v1/feeds/H55/TW/report", &[]), 403, "NO_RIGHT"),
        (get(&format!("/exchange/v1/media/{absent}"), &[]), 404, "NOT_FOUND"),
        (get("/exchange/v1/media/xyz", &[]), 400, "MALFORMED"),
        (get(&format!("/exchange/v1/media/{absent}/state?urgent=very"), &[]), 400, "MALFORMED"),
        (get("/exchange/v1/heads?after=x", &[]), 400, "MALFORMED"),
        (get("/exchange/v1/heads?log_id=x", &[]), 400, "MALFORMED"),
        (too_large, 413, "TOO_LARGE"),
    ] {
        let what = format!("{} {}", request.method(), request.uri());
        let response = ask(&router, request).await;
        let told = &read_json(&response)["refusal"]["code"];
        let code = if refusal.is_empty() { Value::Null } else { json!(format!("REFUSAL_CODE_{refusal}")) };
        assert_eq!((response.status().as_u16(), told), (status, &code), "{what}");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        let records = records.lock().expect("lock");
        let last = records.last().expect("a record");
        assert_eq!((last.status, last.refusal.as_str()), (status, refusal), "{what}");
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whether_it_says_so_or_not() {
    let (_gateway, router, records) = platform(vec![keyed("H24")]).await;
    let mut request = json_request(Method::POST, REPORT, Value::Null, &[]);
    *request.body_mut() = vec![b' '; MAX_MESSAGE_BYTES + 1].into();
    let mut announced = json_request(Method::POST, REPORT, Value::Null, &[("content-length", "2097153")]);
    *announced.body_mut() = Bytes::from_static(b"never read");
    for request in [request, announced] {
        let response = ask(&router, request).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(read_json(&response)["refusal"]["code"], "REFUSAL_CODE_TOO_LARGE");
        assert_eq!(records.lock().expect("lock").last().expect("a record").refusal, "TOO_LARGE");
    }
}

#[tokio::test]
async fn heads_are_told_once_and_again_when_something_changed() {
    let (gateway, router, _) = platform(vec![keyed("H24")]).await;
    let first = ask(&router, get("/exchange/v1/heads", &[])).await;
    assert_eq!((first.status(), read_json(&first)["heads"].as_array().map(Vec::len)), (StatusCode::OK, Some(1)));
    let known = etag(&first);
    let again = ask(&router, get("/exchange/v1/heads", &[("if-none-match", &known)])).await;
    assert_eq!((again.status(), again.body().len(), etag(&again)), (StatusCode::NOT_MODIFIED, 0, known.clone()));

    // What others may read is no news to this one.
    gateway.say("TW", Lane::Report, "for the ministry").await;
    let again = ask(&router, get("/exchange/v1/heads", &[("if-none-match", &known)])).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);

    let waiting = tokio::spawn({
        let (router, known) = (router.clone(), known.clone());
        async move { ask(&router, get("/exchange/v1/heads?wait_ms=30000", &[("if-none-match", &known)])).await }
    });
    gateway.say("H24", Lane::Report, "for H24").await;
    let changed = waiting.await.expect("answer");
    assert_eq!((changed.status(), read_json(&changed)["heads"].as_array().map(Vec::len)), (StatusCode::OK, Some(2)));
    assert_ne!(etag(&changed), known);

    // An ETag of another log says nothing about this one.
    let other = ask(&router, get("/exchange/v1/heads", &[("if-none-match", "\"0102.1\"")])).await;
    assert_eq!(read_json(&other)["heads"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_feed_is_read_waited_for_and_not_sent_twice() {
    let (gateway, router, _) = platform(vec![keyed("H24")]).await;
    let path = "/exchange/v1/feeds/NDXP/H24/report";
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { ask(&router, get(&format!("{path}?wait_ms=30000"), &[])).await }
    });
    gateway.say("H24", Lane::Report, "for H24").await;
    let first = waiting.await.expect("answer");
    assert_eq!(
        (read_json(&first)["entries"].as_array().map(Vec::len), &read_json(&first)["head"]),
        (Some(1), &json!("1"))
    );
    let again = ask(&router, get(path, &[("if-none-match", &etag(&first))])).await;
    assert_eq!((again.status(), again.body().len()), (StatusCode::NOT_MODIFIED, 0));

    let nothing = ask(&router, get(&format!("{path}?after=1"), &[])).await;
    assert_eq!(nothing.status(), StatusCode::OK);
    let known = etag(&nothing);
    let short = ask(&router, get(&format!("{path}?after=1&wait_ms=1"), &[("if-none-match", &known)])).await;
    assert_eq!(short.status(), StatusCode::NOT_MODIFIED);
    gateway.say("H24", Lane::Report, "more").await;
    let more = ask(&router, get(&format!("{path}?after=1"), &[("if-none-match", &known)])).await;
    assert_eq!(read_json(&more)["entries"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn who_asks_for_too_much_is_told_when_to_come_back_and_is_still_heard_in_an_emergency() {
    let rates = CallRates { calls: Rate::per_minute(3), bytes: Rate::UNLIMITED };
    let (gateway, router, records) = platform(vec![Client { rates, ..oauth("h24", "H24") }]).await;
    let peer = peer(&router, by_oauth("h24"), BodyFormat::Protobuf);
    let feed = |lane: Lane| wire::FeedId { origin: "NDXP".into(), audience: "H24".into(), lane: lane.to_wire() };
    let read = async |lane| {
        let request = wire::ReadRequest { feed: Some(feed(lane)), max_bytes: 1, ..Default::default() };
        peer.read(request).await.expect("an answer").refusal
    };
    for _ in 0..3 {
        assert_eq!(read(Lane::Report).await, None);
    }
    let refusal = read(Lane::Report).await.expect("refused");
    assert_eq!((refusal.code(), refusal.retry_after_ms), (RefusalCode::Busy, 20_000));
    assert_eq!(read(Lane::Emergency).await, None);
    assert_eq!(peer.heads(wire::HeadsRequest::default()).await.expect("heads").refusal, None);
    assert_eq!(records.lock().expect("lock").iter().filter(|record| record.status == 429).count(), 1);

    UPTIME.set(20_000);
    assert_eq!(read(Lane::Report).await, None);
    for _ in 0..3 {
        peer.heads(wire::HeadsRequest::default()).await.expect("heads");
    }
    let refusal = peer.heads(wire::HeadsRequest::default()).await.expect("an answer").refusal.expect("refused");
    assert_eq!(refusal.code(), RefusalCode::Busy);
    drop(gateway);
}

#[tokio::test]
async fn media_of_an_emergency_pass_where_ordinary_ones_must_wait() {
    let rates = CallRates { calls: Rate::per_minute(3), bytes: Rate::UNLIMITED };
    let (gateway, _) = gateway().await;
    let media = Arc::new(MemoryMedia::default());
    let store = LogStore::new(gateway.log.clone());
    let service = Arc::new(service_with(&gateway, store, Arc::clone(&media), Receipts::Issue));
    let (router, _) = over(service, vec![Client { rates, ..oauth("h24", "H24") }]);
    let peer = peer(&router, by_oauth("h24"), BodyFormat::Protobuf);
    let data = Bytes::from_static(b"a siren");
    let (sha256, size) = (Digest::of(&data).0.to_vec(), data.len() as u64);
    let stat = async |urgent| {
        let request = wire::StatMediaRequest { sha256: sha256.clone(), urgent };
        peer.stat_media(request).await.expect("an answer").refusal.map(|refusal| refusal.code())
    };
    for _ in 0..3 {
        assert_eq!(stat(false).await, None);
    }
    assert_eq!(stat(false).await, Some(RefusalCode::Busy));

    media.urgent.lock().expect("lock").clear();
    assert_eq!(stat(true).await, None);
    let write = wire::WriteMediaRequest { sha256: sha256.clone(), size, offset: 0, data: data.clone(), urgent: true };
    assert!(peer.write_media(write).await.expect("an answer").complete);
    let read = wire::ReadMediaRequest { sha256: sha256.clone(), offset: 0, max_bytes: 100, urgent: true };
    assert_eq!(peer.read_media(read).await.expect("an answer").data, data);
    let told = media.urgent.lock().expect("lock").clone();
    assert!(!told.is_empty() && told.iter().all(|urgent| *urgent), "{told:?}");
    assert_eq!(stat(true).await, Some(RefusalCode::Busy), "and they are bounded themselves");
}

#[tokio::test]
async fn the_status_and_a_header_say_when_to_come_back() {
    let rates = CallRates { calls: Rate::UNLIMITED, bytes: Rate::per_minute(100) };
    let (_gateway, router, _) = platform(vec![Client { rates, ..keyed("H24") }]).await;
    let body = json!({ "entries": [base64::Engine::encode(&base64::prelude::BASE64_STANDARD, [0; 400])] });
    // Larger than a minute's worth: let in once, and paid for afterwards.
    assert_eq!(ask(&router, json_request(Method::POST, REPORT, body.clone(), &[])).await.status(), 400);
    let response = ask(&router, json_request(Method::POST, REPORT, body, &[])).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let seconds: u64 = response.headers()[header::RETRY_AFTER].to_str().expect("text").parse().expect("seconds");
    let told = read_json(&response)["refusal"]["retryAfterMs"].as_u64().expect("milliseconds");
    assert_eq!(seconds, told.div_ceil(1_000));
    assert!(told > 60_000, "{told}");
}

#[tokio::test]
async fn wrong_credentials_are_refused_and_then_slowed_down() {
    let (_gateway, router, records) = platform(vec![keyed("H24"), oauth("h24", "H24")]).await;
    let form = |secret: &str| {
        Request::post("/oauth2/token")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(format!("grant_type=client_credentials&client_id=h24&client_secret={secret}")))
            .expect("request")
    };
    for _ in 0..10 {
        let response = ask(&router, form("wrong")).await;
        assert_eq!(
            (response.status(), &read_json(&response)["error"]),
            (StatusCode::UNAUTHORIZED, &json!("invalid_client"))
        );
    }
    let response = ask(&router, form("wrong")).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    assert_eq!(ask(&router, form("one%2Btwo%2Fthree%3D%25")).await.status(), StatusCode::OK, "who is right is let in");

    let mut wrong = get("/exchange/v1/heads", &[]);
    wrong.headers_mut().insert("secretkey", header::HeaderValue::from_static("wrong"));
    let response = ask(&router, wrong).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    let bare = Request::get("/exchange/v1/heads").header("authorization", "Bearer guess").body(Bytes::new());
    assert_eq!(ask(&router, bare.expect("request")).await.status(), StatusCode::UNAUTHORIZED);

    let records = records.lock().expect("lock");
    assert_eq!(records.iter().filter(|record| !record.client.is_empty()).count(), 1, "only who proved it has a name");
    let told = serde_json::to_string(&*records).expect("JSON");
    assert!(!told.contains("wrong") && !told.contains("one+two") && !told.contains("guess"), "{told}");
}

#[tokio::test]
async fn every_call_is_recorded_with_who_what_and_how_much() {
    let (gateway, router, records) = platform(vec![keyed("H24")]).await;
    gateway.say("H24", Lane::Report, "for H24").await;
    let response = ask(&router, get("/exchange/v1/feeds/NDXP/H24/report", &[])).await;
    let record = records.lock().expect("lock").pop().expect("a record");
    assert_eq!(
        record,
        CallRecord {
            at_ms: 1_000,
            client: "httt/K1".into(),
            member: "H24".into(),
            address: "127.0.0.1".into(),
            method: "GET".into(),
            route: "/exchange/v1/feeds/{origin}/{audience}/{lane}".into(),
            feed: "NDXP→H24/report".into(),
            bytes_in: 4,
            bytes_out: response.body().len() as u64,
            status: 200,
            refusal: String::new(),
            duration_ms: record.duration_ms,
        }
    );
    // A caller that goes away while it waits leaves a record, too.
    let waiting = tokio::spawn({
        let router = router.clone();
        let known = etag(&ask(&router, get("/exchange/v1/heads", &[])).await);
        async move { ask(&router, get("/exchange/v1/heads?wait_ms=30000", &[("if-none-match", &known)])).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    waiting.abort();
    waiting.await.expect_err("gone");
    assert_eq!(records.lock().expect("lock").last().expect("a record").status, CUT);
}

#[tokio::test]
async fn a_platform_that_forgot_its_tokens_is_asked_for_another() {
    let (gateway, service) = gateway().await;
    let current = Arc::new(Mutex::new(over(Arc::clone(&service), vec![oauth("h24", "H24")]).0));
    let router = Arc::clone(&current);
    let send: HttpSend = Arc::new(move |request, _| {
        let router = router.lock().expect("lock").clone();
        Box::pin(async move { Ok(ask(&router, request).await) })
    });
    let peer = RestPeer::new("https://lgsp.example", by_oauth("h24"), BodyFormat::Json, Arc::clone(&send), send);
    assert!(peer.heads(wire::HeadsRequest::default()).await.is_ok());
    *current.lock().expect("lock") = over(service, vec![oauth("h24", "H24")]).0;
    assert!(peer.heads(wire::HeadsRequest::default()).await.is_ok());
    let disabled = Client { disabled: true, ..oauth("h24", "H24") };
    *current.lock().expect("lock") = over(common::service(&gateway, Receipts::Issue), vec![disabled]).0;
    assert!(matches!(peer.heads(wire::HeadsRequest::default()).await, Err(PeerError::Answer { .. })));
}

/// A platform that answers everything in the same way.
fn always(status: u16, headers: &'static [(&'static str, &'static str)], body: &'static [u8]) -> RestPeer {
    let answer = move || async move {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Body::from(body)).expect("response")
    };
    peer(&Router::new().fallback(routing::any(answer)), by_keys(), BodyFormat::Json)
}

#[tokio::test]
async fn a_platform_that_says_not_now_in_its_own_words_is_understood() {
    for (peer, wait_ms) in [
        (always(429, &[("retry-after", "7")], b"<html>slow down</html>"), 7_000),
        (always(503, &[("content-type", "application/json")], br#"{"error": "maintenance"}"#), 5_000),
        (always(503, &[("retry-after", "999999999999")], b""), 600_000),
        (always(429, &[("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")], b""), 5_000),
    ] {
        let pushed = peer.push(wire::PushRequest::default()).await.expect("an answer").refusal.expect("refused");
        assert_eq!((pushed.code(), pushed.retry_after_ms), (RefusalCode::Busy, wait_ms));
        let heads = peer.heads(wire::HeadsRequest::default()).await.expect("an answer").refusal.expect("refused");
        assert_eq!(heads.code(), RefusalCode::Busy);
        assert_eq!(peer.witness(wire::WitnessRequest::default()).await.expect("an answer").status, 503);
    }
}

#[tokio::test]
async fn what_is_no_answer_is_not_taken_for_one() {
    for peer in [
        always(200, &[("content-type", "application/json")], br#"{"code": "00", "message": "Thanh cong"}"#),
        always(200, &[("content-type", "application/x-protobuf")], b""),
        always(500, &[("content-type", "application/json")], b"{}"),
        always(403, &[("content-type", "text/html")], b"<html>forbidden</html>"),
        always(302, &[("location", "https://elsewhere")], b""),
    ] {
        let heads = peer.heads(wire::HeadsRequest::default()).await;
        assert!(matches!(heads, Err(PeerError::Answer { .. })), "{heads:?}");
        assert!(peer.push(wire::PushRequest::default()).await.is_err());
    }
}

#[tokio::test]
async fn a_refusal_is_read_whatever_the_status_and_the_format() {
    let refusal = wire::Refusal { code: RefusalCode::Gap.into(), expected_sequence: 7, ..Default::default() };
    let body = wire::PushResponse { refusal: Some(refusal), ..Default::default() }.encode_to_vec();
    let body: &'static [u8] = Box::leak(body.into_boxed_slice());
    for status in [200, 400, 409, 500] {
        // Asked in JSON, answered in protobuf: the answer says what it is.
        let peer = always(status, &[("content-type", "application/x-protobuf")], body);
        let pushed = peer.push(wire::PushRequest::default()).await.expect("an answer");
        assert_eq!(pushed.refusal.expect("refused").expected_sequence, 7);
    }
}
