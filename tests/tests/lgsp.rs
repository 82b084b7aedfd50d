//! The way through a province's platform: the real services, real sockets, real TLS.

#[path = "lgsp/world.rs"]
mod world;

use std::collections::BTreeSet;
use std::fs;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_feed::{Lane, Sealer};
use httt_log::Log;
use httt_wire::Name as _;
use httt_wire::directory::ForkSeen;
use httt_wire::feed::Event;
use serde_json::{Value, json};
use world::*;

/// What the gateway holds of the province is what the province said, byte for byte; each batch has one receipt; and
/// nobody saw a fork.
fn all_is_well(world: &World, province: &Log, lanes: &[Lane]) {
    let gateway = world.log("NDXP");
    let mut said = 0;
    for lane in lanes {
        let bytes = |log: &Log| -> Vec<_> { entries(log, &own(*lane)).into_iter().map(|entry| entry.bytes).collect() };
        let here = bytes(province);
        assert!(!here.is_empty() && here == bytes(&gateway), "{lane}");
        said += here.len();
    }
    let receipts: Vec<_> = receipts(province).into_iter().filter(|(feed, _)| lanes.contains(&feed.lane)).collect();
    assert_eq!(receipts.len(), said, "one each");
    assert_eq!(receipts.into_iter().collect::<BTreeSet<_>>().len(), said);
    for log in [province, &gateway, &world.log("H55.LGSP")] {
        let forks = log.read(0, usize::MAX, usize::MAX).expect("reads").into_iter();
        assert!(forks.flat_map(|entry| entry.batch.events.clone()).all(|event| event.r#type != ForkSeen::full_name()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_province_switches_between_direct_and_adapter_in_mid_feed_by_configuration_alone() {
    let world = World::new();
    let lanes = [Lane::Status, Lane::Report, Lane::Emergency];
    let (mut gateway, mut adapter) = (world.gateway(), world.adapter());
    for way in [Way::Direct, Way::Adapter, Way::Direct, Way::AdapterByKeys] {
        let province = world.province(way).await;
        for lane in lanes {
            province.say(lane, 100).await;
            province.say(lane, 100).await;
        }
        for lane in lanes {
            province.receipted(lane).await;
        }
        province.stop().await;
    }

    // And with entries at the adapter that NDXP has not: it is away when they are said, and back when both have them.
    for way in [Way::Adapter, Way::AdapterByKeys] {
        gateway.stop().await;
        let province = world.province(way).await;
        for lane in lanes {
            province.say(lane, 100).await;
            let said = province.started.node.log.head(&own(lane)).expect("said").sequence;
            until("the adapter holds it", || async { adapter_holds(&world, lane, said) }).await;
        }
        province.stop().await;
        let province = world.province(Way::Direct).await;
        for lane in lanes {
            province.say(lane, 100).await;
        }
        gateway = world.gateway();
        for lane in lanes {
            province.receipted(lane).await;
        }
        province.stop().await;
        // The adapter, which is behind the gateway now, gets there, too.
        let said = world.log("H55").head(&own(Lane::Report)).expect("said").sequence;
        until("the adapter is level", || async { adapter_holds(&world, Lane::Report, said) }).await;
        adapter.stop().await;
        adapter = world.adapter();
    }
    adapter.stop().await;
    gateway.stop().await;
    all_is_well(&world, &world.log("H55"), &lanes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_goes_on_accepting_while_ndxp_is_away_and_drains_emergencies_first() {
    const STATUS: usize = 300;
    let world = World::new();
    let (gateway, adapter) = (world.gateway(), world.adapter());
    let province = world.province(Way::Adapter).await;
    province.say(Lane::Status, 100).await;
    province.receipted(Lane::Status).await;
    gateway.stop().await;

    // Many calls' worth of status, then content, and the emergency last of all.
    for _ in 0..STATUS {
        province.say(Lane::Status, 45_000).await;
    }
    province.say(Lane::Content, 45_000).await;
    province.say(Lane::Emergency, 100).await;
    for lane in [Lane::Status, Lane::Content, Lane::Emergency] {
        let said = province.started.node.log.head(&own(lane)).expect("said").sequence;
        until("the adapter holds it", || async { adapter_holds(&world, lane, said) }).await;
    }

    let gateway = world.gateway();
    for lane in [Lane::Emergency, Lane::Content, Lane::Status] {
        province.receipted(lane).await;
    }
    province.stop().await;
    adapter.stop().await;
    gateway.stop().await;
    let log = world.log("NDXP");
    let positions = |lane| entries(&log, &own(lane)).into_iter().map(|entry| entry.position).collect::<Vec<_>>();
    let status = positions(Lane::Status);
    assert_eq!(status.len(), STATUS + 1);
    for lane in [Lane::Emergency, Lane::Content] {
        let before = status.iter().filter(|position| **position < positions(lane)[0]).count();
        assert!(before < STATUS / 2, "{lane} came after {before} of {STATUS} status batches");
    }
    drop(log);
    all_is_well(&world, &world.log("H55"), &[Lane::Status, Lane::Content, Lane::Emergency]);
}

/// `curl` as docs/lgsp.md shows it: status and body.
fn curl(world: &World, args: &[&str]) -> (u16, String) {
    let base = format!("https://{}", world.adapter_at);
    let args = args.iter().map(|arg| arg.replace("$LGSP", &base));
    let output = httt_tests::curl()
        .args(["--silent", "--show-error", "--cacert"])
        .arg(world.path("ca.pem"))
        .args(["--write-out", "\n%{http_code}"])
        .args(args)
        .output()
        .expect("curl starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

fn curl_json(world: &World, args: &[&str]) -> (u16, Value) {
    let (status, body) = curl(world, args);
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

const KEYS: [&str; 6] = ["-H", "AppName: httt", "-H", "AccessKey: K1", "-H", "SecretKey: f3b1-2c7d-aa90-55e1"];
const JSON: [&str; 2] = ["-H", "Accept: application/json"];

fn with(args: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [args, more].concat()
}

/// Whether the adapter shows that it holds the province's feed as far as that.
fn adapter_holds(world: &World, lane: Lane, sequence: u64) -> bool {
    let (_, heads) = curl_json(world, &[&KEYS[..], &JSON[..], &["$LGSP/exchange/v1/heads"][..]].concat());
    heads["heads"].as_array().is_some_and(|heads| {
        heads.iter().any(|head| {
            head["feed"]["origin"] == "H55"
                && head["feed"]["lane"] == format!("LANE_{}", lane.as_str().to_uppercase())
                && head["sequence"].as_str().and_then(|held| held.parse().ok()) >= Some(sequence)
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_integrator_needs_nothing_but_curl() {
    let world = World::new();
    let (gateway, adapter) = (world.gateway(), world.adapter());
    until("the adapter knows the members", || async {
        let heads = curl_json(&world, &with(&[&KEYS[..], &JSON[..]].concat(), &["$LGSP/exchange/v1/heads"])).1;
        heads["heads"].as_array().is_some_and(|heads| {
            heads.iter().any(|head| head["feed"]["lane"] == "LANE_DIRECTORY" && head["sequence"] != "1")
        })
    })
    .await;

    // A token.
    let form = ["--user", "h55:f3b1-2c7d-aa90-55e1", "--data", "grant_type=client_credentials", "$LGSP/oauth2/token"];
    let (status, token) = curl_json(&world, &form);
    assert_eq!((status, &token["token_type"]), (200, &json!("Bearer")));
    let bearer = format!("Authorization: Bearer {}", token["access_token"].as_str().expect("a token"));
    let wrong = ["--user", "h55:wrong", "--data", "grant_type=client_credentials", "$LGSP/oauth2/token"];
    assert_eq!(curl(&world, &wrong).0, 401);
    let disabled =
        ["--user", "old:f3b1-2c7d-aa90-55e1", "--data", "grant_type=client_credentials", "$LGSP/oauth2/token"];
    assert_eq!(curl(&world, &disabled).0, 401);
    let ask = |more: &[&str]| {
        let args = [&["-H", &bearer, "-H", "Accept: application/json"][..], more].concat();
        curl(&world, &args)
    };

    // Pushing a batch that was sealed elsewhere.
    let event =
        Event { id: vec![1; 16], stream: "s".into(), version: 1, r#type: "test.v1.Said".into(), ..Event::default() };
    let batch = Sealer::new(code("H55"), key("H55")).seal(&own(Lane::Report), None, 0, vec![event]).expect("seals");
    let body = json!({ "entries": [BASE64_STANDARD.encode(batch.bytes())] }).to_string();
    fs::write(world.path("push.json"), body).expect("write");
    let file = format!("@{}", world.path("push.json").display());
    let report = "$LGSP/exchange/v1/feeds/H55/TW/report";
    let push = ["-H", "Content-Type: application/json", "--data-binary", &file, report];
    let (status, answer) = ask(&push);
    assert_eq!(status, 200, "{answer}");

    // A long poll ends when the receipt has come down from NDXP; a condition saves asking twice.
    let heads = "$LGSP/exchange/v1/heads";
    let etag = world.path("etag").display().to_string();
    let receipts = "$LGSP/exchange/v1/feeds/NDXP/H55/report?after=0&wait_ms=30000";
    let (status, read) = ask(&[receipts]);
    let read: Value = serde_json::from_str(&read).expect("JSON");
    assert_eq!((status, read["entries"].as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(ask(&["--etag-save", &etag, heads]).0, 200);
    assert_eq!(ask(&["--etag-compare", &etag, heads]).0, 304);

    // The feed as it was pushed.
    let (_, read) = ask(&[report]);
    let read: Value = serde_json::from_str(&read).expect("JSON");
    assert_eq!(read["entries"], json!([BASE64_STANDARD.encode(batch.bytes())]), "untouched");
    let (status, refused) = ask(&["$LGSP/exchange/v1/feeds/H24/TW/report"]);
    assert_eq!(status, 403);
    assert!(refused.contains("REFUSAL_CODE_NO_RIGHT"), "{refused}");

    // More than a client may ask for.
    let form =
        ["--user", "little:f3b1-2c7d-aa90-55e1", "--data", "grant_type=client_credentials", "$LGSP/oauth2/token"];
    let little =
        format!("Authorization: Bearer {}", curl_json(&world, &form).1["access_token"].as_str().expect("token"));
    let calls: Vec<u16> = (0..3).map(|_| curl(&world, &["-H", &little, report]).0).collect();
    assert_eq!(calls, [200, 200, 429]);
    let emergency = "$LGSP/exchange/v1/feeds/H55/TW/emergency";
    assert_eq!(curl(&world, &["-H", &little, emergency]).0, 200);

    records_are_shown_to_auditors(&world, &bearer);
    adapter.stop().await;
    gateway.stop().await;
}

fn records_are_shown_to_auditors(world: &World, client: &str) {
    let account = json!({ "username": "auditor", "password": PASSWORD }).to_string();
    let log_in = ["-H", "Content-Type: application/json", "--data", &account, "$LGSP/api/v1/session"];
    let (_, session) = curl_json(world, &log_in);
    let auditor = format!("Authorization: Bearer {}", session["token"].as_str().expect("a session"));
    let ask = |path: &str| curl(world, &["-H", &auditor, &format!("$LGSP{path}")]);

    let (status, csv) = ask("/api/v1/calls?format=csv&member=H55");
    assert_eq!(status, 200);
    let pushed = csv.lines().find(|line| line.contains(",h55,H55,127.0.0.1,POST,/exchange")).expect("the push");
    assert!(pushed.contains(",H55→TW/report,") && pushed.contains(",200,"), "{pushed}");
    assert!(csv.contains(",429,BUSY,"), "{csv}");
    let (_, lines) = ask("/api/v1/calls");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(records.iter().any(|record| record["status"] == 401 && record["client"] == ""));
    assert!(!lines.contains(CLIENT_SECRET) && !lines.contains(client.trim_start_matches("Authorization: Bearer ")));
    let (_, summary) = ask("/api/v1/calls/summary?member=H55");
    let summary: Value = serde_json::from_str(&summary).expect("JSON");
    let day = &summary["days"][0];
    assert_eq!(
        (&day["member"], &day["over_quota"], &summary["lost_since_start"]),
        (&json!("H55"), &json!(1), &json!(0))
    );
    assert!(day["bytes_in"].as_u64() > Some(0) && day["calls"].as_u64() >= Some(8), "{day}");
    for (path, status) in [
        ("/api/v1/calls?from=2001-01-01&to=2001-01-02", 200),
        ("/api/v1/calls?from=yesterday", 400),
        ("/api/v1/calls?format=xml", 400),
        ("/api/v1/calls/summary?to=-1", 400),
    ] {
        assert_eq!(ask(path).0, status, "{path}");
    }
    assert_eq!(ask("/api/v1/calls?from=2001-01-01&to=2001-01-02").1, "");
    assert_eq!(curl(world, &["-H", client, "$LGSP/api/v1/calls"]).0, 401, "a client is no auditor");
    let (status, description) = curl_json(world, &["$LGSP/openapi.json"]);
    assert_eq!((status, &description["openapi"]), (200, &json!("3.1.0")));
}
