//! The demo is the proof: the whole system as processes, what it leaves on disk, and what happens when that is damaged.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use httt_node::client::HttpClient;
use httt_node::tls::anonymous_client_config;
use httt_tests::{Collector, Outcome, httt, httt_command};
use serde_json::{Value, json};

/// How long a node may take to be ready again.
const PATIENCE: Duration = Duration::from_secs(60);

fn demo(dir: &Path, more: &[&str]) -> Value {
    let dir = dir.to_str().expect("path");
    let outcome = httt([&["demo", "--once", "--json", "--clusters", "12", "--dir", dir], more].concat());
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    outcome.json()
}

fn audit(data: &Path) -> Outcome {
    httt(["audit", "verify", "--json", data.to_str().expect("path")])
}

fn nodes(dir: &Path) -> Vec<PathBuf> {
    let mut nodes: Vec<PathBuf> = fs::read_dir(dir)
        .expect("demo folder")
        .map(|item| item.expect("item").path())
        .filter(|path| path.join("data/log/chunks").is_dir())
        .collect();
    nodes.sort();
    nodes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_main_job_runs_and_what_it_leaves_can_be_proved_and_repaired() {
    let dir = tempfile::tempdir().expect("dir");
    let collector = Collector::start().await;
    let endpoint = collector.endpoint.clone();
    let folder = dir.path().to_owned();
    let summary = tokio::task::spawn_blocking(move || demo(&folder, &["--otlp", &endpoint])).await.expect("demo");

    // The summary says what the issue asks for.
    assert_eq!(summary["ok"], true, "{summary:#}");
    assert_eq!((&summary["provinces"], &summary["clusters"]), (&json!(3), &json!(36)));
    let bulletins = &summary["bulletins"];
    assert_eq!((&bulletins["published"], &bulletins["delivered"]), (&json!(3), &json!(9)));
    assert_eq!(bulletins["played"], 72, "two bulletins on every cluster");
    assert_eq!(summary["emergency"]["resumed"], 36);
    assert!(summary["emergency_latency"]["max_ms"].as_i64() >= summary["emergency_latency"]["p50_ms"].as_i64());
    assert!(summary["reports"]["refused"].as_u64() >= Some(6), "{summary:#}");
    assert_eq!((&summary["rebuild_equal"], &summary["audit"]), (&json!(true), &json!("ok")));

    one_trace_spans_ministry_and_province(&collector);
    let nodes = nodes(dir.path());
    assert_eq!(nodes.len(), 6);
    flipped_bytes_are_named(&nodes);
    dumps_show_what_is_asked(dir.path());
    events_are_proved_with_the_gateway_as_witness(dir.path());
    nodes_answer_as_before_without_their_index(dir.path(), summary["period"].as_str().expect("period")).await;
}

/// One trace from the operator's request to the append in a province.
fn one_trace_spans_ministry_and_province(collector: &Collector) {
    let spans = collector.spans();
    let appended =
        spans.iter().filter(|span| span.service == "provincial-source" && span.name == "append copied batches");
    let requests: Vec<_> = spans.iter().filter(|span| span.service == "central-source").collect();
    let shared = appended.filter(|append| requests.iter().any(|request| request.trace == append.trace)).count();
    assert!(shared > 0, "no append in a province continues a trace of the ministry; {} spans", spans.len());
}

/// One flipped byte in the middle of any chunk: named by chunk, offset and position, and the exit code says so.
fn flipped_bytes_are_named(nodes: &[PathBuf]) {
    for node in nodes {
        let data = node.join("data");
        assert_eq!(audit(&data).code, Some(0), "{}", node.display());
        for item in fs::read_dir(data.join("log/chunks")).expect("chunks") {
            let chunk = item.expect("item").path();
            let good = fs::read(&chunk).expect("chunk");
            let middle = good.len() / 2;
            let mut bad = good.clone();
            bad[middle] ^= 0x10;
            rewrite(&chunk, &bad);
            let outcome = audit(&data);
            assert_eq!(outcome.code, Some(1), "{outcome:#?}");
            let report = outcome.json();
            let finding = &report["findings"][0];
            assert_eq!(finding["chunk"], chunk.file_name().and_then(|name| name.to_str()).expect("name"));
            let offset = finding["offset"].as_u64().expect("offset") as usize;
            assert!(offset <= middle && middle < offset + 128 * 1024, "{offset} for {middle}");
            assert!(finding["position"].is_u64());
            rewrite(&chunk, &good);
        }
        assert_eq!(audit(&data).code, Some(0), "{} restored", node.display());
    }
}

/// Also where the file is read-only.
fn rewrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("permissions");
    fs::File::create(path).and_then(|mut file| file.write_all(bytes)).expect("write");
}

fn dumps_show_what_is_asked(dir: &Path) {
    let lines = |more: &[&str]| -> Vec<Value> {
        let data = dir.join("TW/data");
        let outcome = httt([&["log", "dump", data.to_str().expect("path")], more].concat());
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        outcome.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON line")).collect()
    };
    let published = lines(&["--type", "httt.bulletin.v1.BulletinPublished"]);
    assert_eq!(published.len(), 3);
    assert!(published.iter().all(|event| event["data"]["content"]["title"].is_string()));
    let stream = published[0]["stream"].as_str().expect("stream");
    assert_eq!(lines(&["--stream", stream]).len(), 1);
    assert!(lines(&["--since", "2999-01-01T00:00:00Z"]).is_empty());
    let all = lines(&[]);
    let from_province = lines(&["--origin", "H24"]);
    assert!(!from_province.is_empty() && from_province.len() < all.len());
    assert_eq!(httt(["log", "dump", "/nonexistent"]).code, Some(1));
}

/// What the ministry published is provable out of its log and out of a province's, under checkpoints that the gateway
/// cosigned while all of them ran.
fn events_are_proved_with_the_gateway_as_witness(dir: &Path) {
    let data = |code: &str| dir.join(code).join("data").display().to_string();
    let key = |code: &str, kind: &str| {
        let outcome = httt(["log", "vkey", &data(code)]);
        let line = outcome.stdout.lines().find_map(|line| line.strip_prefix(kind));
        line.unwrap_or_else(|| panic!("{outcome:#?}")).trim().to_owned()
    };
    let (gateway, ministry) = (key("NDXP", "cosigner"), key("TW", "log"));
    for code in ["TW", "H24"] {
        // The first of them: it was there when a witness looked.
        let dumped = httt(["log", "dump", &data(code), "--type", "httt.directory.v1.MemberEnrolled"]);
        let event: Value = serde_json::from_str(dumped.stdout.lines().next().expect("an event")).expect("JSON");
        let file = dir.join(format!("{code}.tlog-proof")).display().to_string();
        let id = event["id"].as_str().expect("id");
        assert_eq!(httt(["audit", "prove", &data(code), id, "-o", &file]).code, Some(0), "{code}");
        let checked = httt(["audit", "check", &file, "--key", &key(code, "log"), "--witness", &gateway, "--json"]);
        assert_eq!(checked.code, Some(0), "{code}: {checked:#?}");
        assert_eq!(checked.json()["witnesses"], json!(["httt/NDXP"]));
        assert_eq!(checked.json()["events"][0]["id"], id);
    }
    let dumped = httt(["log", "dump", &data("H24"), "--type", "httt.bulletin.v1.BulletinPublished"]);
    let event: Value = serde_json::from_str(dumped.stdout.lines().next().expect("an event")).expect("JSON");
    let file = dir.join("published.tlog-proof").display().to_string();
    assert_eq!(httt(["audit", "prove", &data("H24"), event["id"].as_str().expect("id"), "-o", &file]).code, Some(0));
    let check = |origin: &str| httt(["audit", "check", &file, "--key", &key("H24", "log"), "--origin-key", origin]);
    assert_eq!(check(&ministry).code, Some(0));
    assert_eq!(check(&gateway).code, Some(1), "the gateway did not say it");
    // Nobody refused anybody.
    let refused = httt(["log", "dump", &data("NDXP"), "--type", "httt.directory.v1.CheckpointRefused"]);
    assert_eq!(refused.stdout, "");
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

fn start(dir: &Path, code: &str, service: &str) -> Running {
    let log = fs::File::create(dir.join(code).join("again.log")).expect("log file");
    let config = dir.join(code).join("config.toml");
    let mut command = httt_command();
    command.args(["run", service, "--config"]).arg(config).stdin(Stdio::null());
    Running(command.stdout(log.try_clone().expect("log file")).stderr(log).spawn().expect("starts"))
}

/// Starts a node, waits until it is ready, and takes what its auditor and readers see.
async fn answers(dir: &Path, code: &str, service: &str, account: &str, paths: &[&str]) -> Vec<Value> {
    let config = fs::read_to_string(dir.join(code).join("config.toml")).expect("config");
    let listen = config.lines().skip_while(|line| *line != "[http]").find_map(|line| line.strip_prefix("listen = "));
    let base = format!("https://{}", listen.expect("listen").trim_matches('"'));
    let accounts = dir.join("password");
    let password = fs::read_to_string(accounts).expect("password");
    let http = HttpClient::new(anonymous_client_config(&dir.join("pki/ca.pem")).expect("tls"));
    let _running = start(dir, code, service);
    let began = Instant::now();
    while !matches!(http.get(&format!("{base}/readyz")).send_any().await, Ok(reply) if reply.status.is_success()) {
        assert!(began.elapsed() < PATIENCE, "{code} is not ready: {}", again(dir, code));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let typed = json!({ "username": account, "password": password.trim() });
    let session: Value = http.post_json(&format!("{base}/api/v1/session"), &typed).await.expect("session");
    let mut seen = Vec::new();
    for path in paths {
        let reply = http.get(&format!("{base}/api/v1{path}")).bearer(session["token"].as_str().expect("token"));
        seen.push(reply.send().await.unwrap_or_else(|error| panic!("{error}")).json().expect("JSON"));
    }
    seen
}

fn again(dir: &Path, code: &str) -> String {
    fs::read_to_string(dir.join(code).join("again.log")).unwrap_or_default()
}

/// Without its sled folder, or with a garbled one, a node starts, says that it rebuilds, and answers as before.
async fn nodes_answer_as_before_without_their_index(dir: &Path, period: &str) {
    let reports = format!("/reports/commune-station/{period}");
    for (code, service, account, paths) in [
        ("TW", "central-source", "editor", &["/bulletins", &reports, "/clusters/totals"][..]),
        ("H24", "provincial-source", "officer", &["/bulletins", &reports][..]),
        ("NDXP", "ndxp-gateway", "auditor", &["/members"][..]),
        ("H55.LGSP", "lgsp-adapter", "auditor", &["/members"][..]),
    ] {
        let before = answers(dir, code, service, account, paths).await;
        let index = dir.join(code).join("data/log/index");
        let whole = copy_of(&index);
        for damage in ["missing", "garbled"] {
            fs::remove_dir_all(&index).expect("index folder");
            if damage == "garbled" {
                fs::create_dir(&index).expect("index folder");
                for (name, bytes) in &whole {
                    let garbled: Vec<u8> = bytes.iter().map(|byte| byte.wrapping_mul(37) ^ 0x5a).collect();
                    fs::write(index.join(name), garbled).expect("write");
                }
            }
            let after = answers(dir, code, service, account, paths).await;
            assert_eq!(before, after, "{code} with its index {damage}");
            assert!(again(dir, code).contains("rebuil"), "{code} does not say that it rebuilds: {}", again(dir, code));
        }
    }
}

fn copy_of(folder: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    fs::read_dir(folder)
        .expect("index folder")
        .map(|item| item.expect("item"))
        .filter(|item| item.path().is_file())
        .map(|item| (item.file_name(), fs::read(item.path()).expect("read")))
        .collect()
}

#[test]
fn programs_explain_themselves() {
    for args in [
        &["--help"][..],
        &["demo", "--help"],
        &["audit", "verify", "--help"],
        &["log", "dump", "--help"],
        &["pki", "member", "--help"],
        &["run", "central-source", "--help"],
    ] {
        let outcome = httt(args);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
        assert!(outcome.stdout.contains("Usage"), "{args:?}");
    }
    let wrong = httt(["demo", "--once", "--provinces", "99"]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("--provinces takes 3 to 34"), "{}", wrong.stderr);
    let missing = httt(["run", "central-source", "--config", "/nonexistent.toml"]);
    assert_eq!(missing.code, Some(78), "{missing:#?}");
}

#[test]
fn a_development_authority_is_made_once_and_members_are_named_by_their_key() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().to_str().expect("path");
    assert_eq!(httt(["pki", "member", path, "H24", "--kind", "province"]).code, Some(1), "no authority yet");
    assert_eq!(httt(["pki", "init", path]).code, Some(0));
    let again = httt(["pki", "init", path]);
    assert!(again.code == Some(1) && again.stderr.contains("already holds an authority"), "{again:#?}");
    let made = httt(["pki", "member", path, "H24", "--kind", "province", "--area", "31", "--carrier", "H24.LGSP"]);
    assert_eq!(made.code, Some(0), "{made:#?}");
    let fingerprint = made.stdout.trim().strip_prefix("H24 ").expect("code and fingerprint");
    assert_eq!(fingerprint.len(), 64);
    let member = fs::read_to_string(dir.path().join("members/H24.toml")).expect("member file");
    assert!(member.contains("carriers = [\"H24.LGSP\"]") && member.contains("area = \"31\""), "{member}");
    let secret = fs::metadata(dir.path().join("H24/signing.key")).expect("key");
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&secret.permissions()) & 0o077, 0, "a key others can read");
    let wrong = httt(["pki", "member", path, "h24", "--kind", "province"]);
    assert!(wrong.stderr.contains("is not an agency code"), "{wrong:#?}");
}
