//! What strangers, auditors and other logs get from a node over HTTP.

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use httt_exchange::AddCheckpoint;
use httt_feed::{AgencyCode, Sealer, SigningKey};
use httt_log::tlog::{SignedCheckpoint, split_bundle};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_wire::bulletin::BulletinWithdrawn;
use httt_wire::directory as pb;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::*;
use crate::accounts::hash_password;
use crate::assembly::{NodeConfig, Trust};
use crate::carrier::CarrierModels;
use crate::config::{AccountsConfig, ConfigPath};
use crate::desk::open_accounts;
use crate::media::MediaConfig;
use crate::models::Models;

const PASSWORD: &str = "mat-khau-thu-nghiem";

struct Fixture {
    node: Node,
    router: Router,
    accounts: Arc<Authenticator>,
    _dir: tempfile::TempDir,
}

fn said(audience: Audience, lane: Lane) -> NewEvent {
    let said = BulletinWithdrawn { bulletin: "b".into(), reason: "r".into() };
    NewEvent::of(audience, lane, format!("s/{lane}"), &said)
}

/// A gateway whose first 256 entries hold a local one, and the next 256 do not.
async fn fixture(public_entries: bool) -> Fixture {
    let dir = tempfile::tempdir().expect("dir");
    let (_, pem) = SigningKey::generate().expect("key");
    std::fs::write(dir.path().join("signing.key"), pem).expect("write");
    let hash = hash_password(PASSWORD).expect("hash");
    let account = |name: &str| {
        format!("[[account]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\nroles = [\"{name}\"]\narea = \"VN\"\n")
    };
    let file = ["auditor", "author", "operator"].map(account).concat();
    std::fs::write(dir.path().join("accounts.toml"), file).expect("write");
    let path = |name: &str| ConfigPath::new(dir.path().join(name));
    let config = NodeConfig {
        member: "NDXP".into(),
        data_dir: path("data"),
        signing_key: path("signing.key"),
        gateway_fingerprint: None,
        chunk_mib: 64,
        index_cache_mib: 8,
        checkpoint_ms: 3_600_000,
        media: MediaConfig::default(),
        snapshot_entries: 0,
        open_metrics: public_entries,
        tlog: TlogConfig { public_entries, ..TlogConfig::default() },
    };
    let node = Node::open(&config, Trust::Own, "test").await.expect("opens");
    let own = node.log.vkey().expect("key").key().to_wire();
    let member = |code: &str, kind: pb::MemberKind, key: pb::PublicKey| {
        let enrolled = pb::MemberEnrolled { member: code.into(), kind: kind.into(), ..Default::default() };
        let added = pb::KeyAdded { member: code.into(), key: Some(key) };
        let stream = format!("member/{code}");
        [
            NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &enrolled),
            NewEvent::of(Audience::All, Lane::Directory, stream, &added),
        ]
    };
    let events = [
        member("NDXP", pb::MemberKind::Gateway, own),
        member("H24", pb::MemberKind::Province, sealer("H24").key().public().to_wire()),
    ];
    node.log.commit(Transaction::append(events.concat())).await.expect("commit");
    while node.log.len() < 520 {
        node.log.commit(Transaction::append([said(Audience::All, Lane::Content)])).await.expect("commit");
    }
    let accounts = AccountsConfig {
        file: path("accounts.toml"),
        idle_minutes: 30.try_into().expect("number"),
        absolute_minutes: 720.try_into().expect("number"),
    };
    let accounts = open_accounts(&accounts).expect("accounts");
    let models = Models::<CarrierModels>::start(&node, &crate::shutdown::Shutdown::new()).await.expect("models");
    let desk = Desk { node: node.clone(), models, accounts: accounts.clone(), upstream: None };
    Fixture { node, router: crate::api::routes(&desk, Router::new()), accounts, _dir: dir }
}

fn sealer(code: &str) -> Arc<Sealer> {
    Arc::new(Sealer::new(AgencyCode::new(code).expect("code"), SigningKey::from_seed(&[24; 32]).expect("seed")))
}

impl Fixture {
    async fn token(&self, account: &str) -> String {
        self.accounts.login(account, PASSWORD).await.expect("logs in").1.token
    }

    async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
        let response = TowerToHyperService::new(self.router.clone()).call(request).await.expect("infallible");
        let (status, headers) = (response.status(), response.headers().clone());
        (status, headers, to_bytes(response.into_body(), 1 << 24).await.expect("body"))
    }

    async fn get(&self, path: &str, token: Option<&str>) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = Request::get(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.send(request.body(Body::empty()).expect("request")).await
    }

    async fn add(&self, body: String) -> (StatusCode, HeaderMap, Bytes) {
        self.send(Request::post("/tlog/add-checkpoint").body(Body::from(body)).expect("request")).await
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn anybody_gets_checkpoints_and_hashes_and_can_keep_full_tiles() {
    let node = fixture(false).await;
    assert_eq!(node.get("/tlog/checkpoint", None).await.0, StatusCode::NOT_FOUND, "none yet");
    let text = node.node.log.write_checkpoint().await.expect("checkpoint");
    let (status, headers, body) = node.get("/tlog/checkpoint", None).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, text.as_bytes()));
    assert_eq!(header(&headers, "content-type"), "text/plain; charset=utf-8");
    assert_eq!(header(&headers, "cache-control"), "no-cache");
    assert_eq!(node.get("/tlog/cosigned/checkpoint", None).await.0, StatusCode::NOT_FOUND);

    for (path, bytes, cache) in [
        ("/tlog/tile/0/000", 8192, FOR_EVER),
        ("/tlog/cosigned/tile/0/001", 8192, FOR_EVER),
        ("/tlog/tile/0/002.p/8", 256, FOR_A_WHILE),
        ("/tlog/tile/1/000.p/2", 64, FOR_A_WHILE),
    ] {
        let (status, headers, body) = node.get(path, None).await;
        assert_eq!((status, body.len()), (StatusCode::OK, bytes), "{path}");
        assert_eq!(header(&headers, "content-type"), "application/octet-stream");
        assert_eq!(header(&headers, "cache-control"), cache, "{path}");
    }
    for path in
        ["tile/0/002", "tile/0/002.p/9", "tile/64/000", "tile/0/0", "tile/0/%2e%2e/000", "tile/x", "tile/0/000.p/0"]
    {
        assert_eq!(node.get(&format!("/tlog/{path}"), None).await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn entries_are_for_auditors() {
    let node = fixture(false).await;
    let (auditor, author) = (node.token("auditor").await, node.token("author").await);
    for path in ["/tlog/tile/entries/000", "/tlog/tile/entries/001", "/tlog/tile/entries/002.p/8"] {
        assert_eq!(node.get(path, None).await.0, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(node.get(path, Some("guess")).await.0, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(node.get(path, Some(&author)).await.0, StatusCode::FORBIDDEN, "{path}");
        let (status, headers, body) = node.get(path, Some(&auditor)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(header(&headers, "cache-control").starts_with("private"), "no shared cache may keep it");
        assert!(!split_bundle(&body).expect("bundle").is_empty());
    }
    assert_eq!(node.get("/tlog/tile/entries/003", Some(&auditor)).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn only_what_is_for_everybody_is_made_public() {
    let node = fixture(true).await;
    node.node
        .log
        .commit(Transaction::append([said(Audience::One(AgencyCode::new("H24").expect("code")), Lane::Report)]))
        .await
        .expect("commit");
    let (auditor, author) = (node.token("auditor").await, node.token("author").await);
    // Bundle 0 has the local entry that begins every log; the last has one for H24 alone.
    for (path, public) in [
        ("/tlog/tile/entries/000", false),
        ("/tlog/tile/entries/001", true),
        ("/tlog/tile/entries/002.p/8", true),
        ("/tlog/tile/entries/002.p/9", false),
    ] {
        let (status, headers, _) = node.get(path, None).await;
        assert_eq!(status == StatusCode::OK, public, "{path}: {status}");
        assert!(!public || header(&headers, "cache-control").starts_with("public"), "{path}");
        assert_eq!(node.get(path, Some(&author)).await.0 == StatusCode::OK, public, "{path}");
        let (status, headers, _) = node.get(path, Some(&auditor)).await;
        assert_eq!(status, StatusCode::OK, "{path}");
        assert!(header(&headers, "cache-control").starts_with("private"), "{path}");
    }
}

async fn submission(log: &Log, old: u64) -> String {
    let checkpoint = SignedCheckpoint::parse(&log.write_checkpoint().await.expect("writes")).expect("parse");
    let proof = log.consistency_proof(old.min(checkpoint.size()), checkpoint.size()).expect("proof");
    AddCheckpoint { old, proof, checkpoint }.to_string()
}

fn other_log(dir: &FilePath) -> Log {
    Log::open(dir, sealer("H24"), Options::default()).expect("opens").0
}

#[tokio::test]
async fn a_standard_witness_client_is_answered() {
    let node = fixture(false).await;
    let dir = tempfile::tempdir().expect("dir");
    let log = other_log(dir.path());
    log.commit(Transaction::append([said(Audience::All, Lane::Content)])).await.expect("commit");
    let (status, headers, body) = node.add(submission(&log, 0).await).await;
    assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, "text/plain; charset=utf-8"));
    let note = log.checkpoint() + std::str::from_utf8(&body).expect("text");
    let signers = [node.node.log.cosigner_vkey().expect("key")];
    assert_eq!(SignedCheckpoint::parse(&note).expect("note").signers(&signers).expect("verifies").len(), 1);

    let (status, headers, body) = node.add(submission(&log, 0).await).await;
    assert_eq!((status, &body[..]), (StatusCode::CONFLICT, &b"1\n"[..]));
    assert_eq!(header(&headers, "content-type"), "text/x.tlog.size");
    assert_eq!(node.add("nonsense".into()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(node.add("x".repeat(MAX_ADD_CHECKPOINT_BYTES + 1)).await.0, StatusCode::PAYLOAD_TOO_LARGE);

    // Another history of the same length: refused, and seen on the status page.
    let dir = tempfile::tempdir().expect("dir");
    let forked = other_log(dir.path());
    forked.commit(Transaction::append([said(Audience::All, Lane::Report)])).await.expect("commit");
    assert_eq!(node.add(submission(&forked, 1).await).await.0, StatusCode::CONFLICT);
    let (auditor, author, operator) =
        (node.token("auditor").await, node.token("author").await, node.token("operator").await);
    assert_eq!(node.get("/api/v1/witness", None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(node.get("/api/v1/witness", Some(&author)).await.0, StatusCode::FORBIDDEN);
    let (status, _, body) = node.get("/api/v1/witness", Some(&auditor)).await;
    let seen: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(seen["watched"][0]["origin"], "httt/H24");
    assert_eq!((&seen["watched"][0]["size"], &seen["watched"][0]["refused"]), (&1.into(), &1.into()), "{seen:#}");
    assert!(seen["log_key"].as_str().is_some_and(|key| key.starts_with("httt/NDXP+")));

    // An operator lets it begin anew.
    let forget = async |token: &str, body: &str| {
        let request = Request::post("/api/v1/witness/forget")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json");
        node.send(request.body(Body::from(body.to_owned())).expect("request")).await.0
    };
    let body = r#"{ "origin": "httt/H24", "reason": "khôi phục từ bản sao lưu" }"#;
    assert_eq!(forget(&auditor, body).await, StatusCode::FORBIDDEN);
    assert_eq!(forget(&operator, &body.replace("H24", "H99")).await, StatusCode::NOT_FOUND);
    assert_eq!(forget(&operator, r#"{ "origin": "httt/H24", "reason": " " }"#).await, StatusCode::BAD_REQUEST);
    assert_eq!(forget(&operator, body).await, StatusCode::NO_CONTENT);
    assert_eq!(node.add(submission(&forked, 0).await).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_cosigned_checkpoint_is_shown_with_its_lines() {
    let node = fixture(false).await;
    let shown = node.node.witness.own_checkpoint(0).await.expect("checkpoint").checkpoint;
    let dir = tempfile::tempdir().expect("dir");
    let line = other_log(dir.path()).cosign(&shown, 1_760_000_000).expect("cosigns");
    assert!(node.node.witness.gather(&line).expect("takes"));
    for path in ["/tlog/checkpoint", "/tlog/cosigned/checkpoint"] {
        let (status, _, body) = node.get(path, None).await;
        assert_eq!(
            (status, std::str::from_utf8(&body).expect("text")),
            (StatusCode::OK, &*(shown.text().to_owned() + &line))
        );
    }
    // The log goes on: the newest is bare, the cosigned one stays.
    node.node.log.commit(Transaction::append([said(Audience::All, Lane::Content)])).await.expect("commit");
    let newest = node.node.log.write_checkpoint().await.expect("checkpoint");
    assert_eq!(node.get("/tlog/checkpoint", None).await.2, newest);
    assert_eq!(node.get("/tlog/cosigned/checkpoint", None).await.2, shown.text().to_owned() + &line);
}

#[tokio::test]
async fn figures_for_monitors_need_an_auditor_unless_they_are_open() {
    let node = fixture(false).await;
    assert_eq!(node.get("/metrics", None).await.0, StatusCode::UNAUTHORIZED);
    let (author, auditor) = (node.token("author").await, node.token("auditor").await);
    assert_eq!(node.get("/metrics", Some(&author)).await.0, StatusCode::FORBIDDEN);
    let (status, headers, text) = node.get("/metrics", Some(&auditor)).await;
    assert_eq!((status, header(&headers, "content-type")), (StatusCode::OK, crate::metrics::CONTENT_TYPE));
    assert!(std::str::from_utf8(&text).expect("text").contains("\nhttt_log_entries 520\n"));
    assert_eq!(fixture(true).await.get("/metrics", None).await.0, StatusCode::OK);
}
