//! The gateway lets old entries go; who comes later gets them from their origin through it, over real sockets.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use httt_feed::{FeedId, Sealer, VerifiedBatch};
use httt_log::{AuditOptions, Log, ManualClock, Options, Transaction, audit};
use httt_ndxp_gateway::Config;
use httt_node::exchange::grpc::GrpcPeer;
use httt_node::exchange::{Peer as _, receipt_events};
use httt_node::shutdown::Shutdown;
use httt_node::upstream::tls_identity;
use httt_wire::bulletin::BulletinWithdrawn;
use httt_wire::exchange as wire;
use httt_wire::feed::Event;
use httt_wire::{Message as _, Name as _};
use uuid::Uuid;

use crate::common::{Gateway, Pki, code, key, now_ms, prepare};
use crate::member::{Member, feed, open, until};

const CONTENT: &str = "TW→*/content";
const BATCHES: u64 = 300;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// What the ministry said some time ago.
fn said(feed: &FeedId) -> Vec<VerifiedBatch> {
    let sealer = Sealer::new(code("TW"), key("TW"));
    let mut head = None;
    let seal = |n: u64| {
        let said = BulletinWithdrawn { bulletin: format!("b{n}"), reason: "lý do ".repeat(40) };
        let event = Event {
            id: Uuid::from_u128(n.into()).as_bytes().to_vec(),
            stream: format!("bulletin/b{n}"),
            version: 1,
            r#type: BulletinWithdrawn::full_name(),
            occurred_at_ms: now_ms() - 10 * DAY_MS,
            data: said.encode_to_vec().into(),
            ..Event::default()
        };
        let batch = sealer.seal(feed, head.as_ref(), now_ms() - 10 * DAY_MS, vec![event]).expect("seals");
        head = Some(batch.head());
        batch
    };
    (1..=BATCHES).map(seal).collect()
}

/// A stopped gateway that took the batches ten days ago, in small chunks, and its ministry that said them.
async fn old(pki: &Pki, config: &Path, batches: &[VerifiedBatch]) {
    Gateway::start(pki, config).await.stop().await;
    let options = Options {
        chunk_bytes: 16 << 10,
        clock: Arc::new(ManualClock::new(now_ms() - 10 * DAY_MS)),
        ..Options::default()
    };
    let sealer = Arc::new(Sealer::new(code("NDXP"), key("NDXP")));
    let (log, _) = Log::open(&pki.path("data").join("log"), sealer, options).expect("opens");
    for some in batches.chunks(5) {
        log.commit(Transaction::copy(some.to_vec()).deriving(receipt_events)).await.expect("commits");
    }
    log.close().await;
    let tw = open(pki, "TW", key("NDXP").public().fingerprint()).await;
    tw.log.commit(Transaction::copy(batches.to_vec())).await.expect("commits");
    tw.close(&Shutdown::new()).await;
    crate::common::free(&pki.path("TW.data")).await;
}

fn with_retention(pki: &Pki) -> std::path::PathBuf {
    let path = prepare(pki);
    let text = std::fs::read_to_string(&path).expect("reads");
    let text = text.replace("[tls]", "open_metrics = true\n[tls]");
    std::fs::write(&path, text + "[exchange.store.log]\nmax_age_days = { content = 2 }\n").expect("writes");
    path
}

fn thinned(pki: &Pki) -> usize {
    let items = std::fs::read_dir(pki.path("data").join("log").join("chunks")).expect("lists");
    items.filter(|item| item.as_ref().expect("item").path().extension().is_some_and(|name| name == "thin")).count()
}

fn holds(member: &Member, batches: &[VerifiedBatch]) {
    let read = member.node.log.read_feed(&feed(CONTENT), 0, usize::MAX).expect("reads");
    assert!(read.iter().map(|entry| &entry.bytes).eq(batches.iter().map(VerifiedBatch::bytes)), "byte for byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_entries_go_and_who_comes_later_gets_them_from_their_origin() {
    let pki = Pki::new();
    let config = with_retention(&pki);
    let batches = said(&feed(CONTENT));
    old(&pki, &config, &batches).await;

    let gateway = Gateway::start(&pki, &config).await;
    until("old chunks are thinned", || thinned(&pki) > 5).await;
    let trusted = key("NDXP").public().fingerprint();
    let tw = Member::start(&pki, &gateway, "TW", trusted).await;
    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    until("H24 has all of it", || h24.sequence(&feed(CONTENT)) == BATCHES).await;
    holds(&h24, &batches);
    let figures = gateway.figures().await;
    let gone = figures.lines().find_map(|line| line.strip_prefix("httt_retention_entries_total{lane=\"content\"} "));
    assert!(gone.and_then(|gone| gone.parse::<u64>().ok()).is_some_and(|gone| gone > 100), "{figures}");

    // An auditor's bundle with a hole is not given, and says which entry it lacks; hashes are whole.
    let (status, says) = gateway.plain("auditor", "/tlog/tile/entries/000").await;
    assert!(status == 404 && says.contains("went by retention") && says.contains(CONTENT), "{status} {says}");
    assert_eq!(gateway.plain("auditor", "/tlog/tile/0/000").await.0, 200);

    // Pushed again, it gets the receipts that it got then.
    let identity = tls_identity(&tw.tls).expect("identity");
    let peer = GrpcPeer::new(&format!("https://{}", gateway.running.exchange), "localhost", &identity).expect("peer");
    let entries = batches[..5].iter().map(|batch| batch.bytes().clone()).collect();
    let request = wire::PushRequest { feed: Some(feed(CONTENT).to_wire()), entries, ..Default::default() };
    let answer = peer.push(request).await.expect("answers");
    assert_eq!((answer.refusal, answer.receipts.len()), (None, 5));
    assert!(answer.receipts.iter().all(|receipt| receipt.received_at_ms < now_ms() - 9 * DAY_MS));
    let positions: BTreeSet<_> = answer.receipts.iter().map(|receipt| receipt.position).collect();
    assert_eq!(positions.len(), 5);
    drop(peer);
    h24.stop().await;
    tw.stop().await;
    gateway.stop().await;

    // Started anew, be it without its index: the same for the next.
    for reader in ["H55", "H25"] {
        if reader == "H25" {
            std::fs::remove_dir_all(pki.path("data").join("log").join("index")).expect("removes");
            let file = crate::common::file("H25", httt_ndxp_gateway::Kind::Province, &[]);
            let text = toml::to_string(&file).expect("toml");
            std::fs::write(pki.path("members").join("H25.toml"), text).expect("writes");
        }
        let gateway = Gateway::start(&pki, &config).await;
        let tw = Member::start(&pki, &gateway, "TW", trusted).await;
        tw.say(format!("goes-on-{reader}")).await;
        let member = Member::start(&pki, &gateway, reader, trusted).await;
        until("the reader has all of it", || member.sequence(&feed(CONTENT)) == BATCHES).await;
        holds(&member, &batches);
        for node in [member, tw] {
            node.stop().await;
        }
        gateway.stop().await;
    }
    let options = AuditOptions { trusted: Some(trusted), ..AuditOptions::default() };
    let report = audit(&pki.path("data").join("log"), options).expect("audits");
    assert!(report.is_clean() && report.gone > 100, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_age_nothing_goes() {
    let pki = Pki::new();
    let config = prepare(&pki);
    let batches = said(&feed(CONTENT));
    old(&pki, &config, &batches).await;
    let gateway = Gateway::start(&pki, &config).await;
    let h24 = Member::start(&pki, &gateway, "H24", key("NDXP").public().fingerprint()).await;
    until("H24 has all of it", || h24.sequence(&feed(CONTENT)) == BATCHES).await;
    h24.stop().await;
    gateway.stop().await;
    assert_eq!(thinned(&pki), 0);
}

fn ages(text: &str) -> Result<std::collections::BTreeMap<httt_feed::Lane, std::time::Duration>, String> {
    toml::from_str::<httt_ndxp_gateway::LogStoreConfig>(text).map_err(|error| error.to_string())?.max_age_days.ages()
}

#[test]
fn ages_are_days_of_three_lanes() {
    let days = |days: u64| std::time::Duration::from_secs(days * 24 * 60 * 60);
    let all = ages("max_age_days = { emergency = 1, content = 365, status = 30 }").expect("good");
    let expected = [days(1), days(365), days(30)];
    assert_eq!(all.values().copied().collect::<Vec<_>>(), expected);
    assert!(ages("").expect("none").is_empty() && ages("max_age_days = { status = 0 }").expect("none").is_empty());
    for (wrong, named) in
        [("{ status = 9999 }", "3660"), ("{ directory = 1 }", "directory"), ("{ local = 1 }", "local")]
    {
        let error = ages(&format!("max_age_days = {wrong}")).expect_err(wrong);
        assert!(error.contains(named), "{error}");
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/ndxp-gateway.toml");
    let config: Config = httt_node::config::load(&sample).expect("loads");
    assert!(config.exchange.store.log.max_age_days.ages().expect("good").is_empty());
}
