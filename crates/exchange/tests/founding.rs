//! A new member is configured with the gateway's present key, years after the directory began under an older one.

mod common;

use std::sync::Arc;

use common::*;
use httt_exchange::carry::{Exporter, Importer, Selection};
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::*;
use httt_log::{Log, Options, Transaction};
use httt_wire::{directory as pb, feed as feed_pb};

const FEED: &str = "NDXP→*/directory";

fn event<M: httt_wire::Message + httt_wire::Name>(number: u64, message: &M) -> feed_pb::Event {
    filler(number, M::full_name(), message.encode_to_vec())
}

fn filler(number: u64, r#type: String, data: Vec<u8>) -> feed_pb::Event {
    let id = Digest::of(&number.to_be_bytes()).0[..16].to_vec();
    feed_pb::Event { id, stream: format!("s{number}"), version: 1, r#type, data: data.into(), ..Default::default() }
}

/// A gateway whose directory is of about three megabytes: it changed its key, sealed with "old", only at the end.
async fn old_gateway() -> (Node, u64) {
    let node = Node::open("NDXP");
    let feed: FeedId = FEED.parse().expect("feed");
    let mut events = Vec::new();
    for (member, kind, signer) in
        [("NDXP", MemberKind::Gateway, "old"), ("H24", MemberKind::Province, "H24"), ("TW", MemberKind::Central, "TW")]
    {
        let enrolled = pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
        let added = pb::KeyAdded { member: member.into(), key: Some(key(signer).public().to_wire()) };
        let number = events.len() as u64;
        events.extend([event(number, &enrolled), event(number + 1, &added)]);
    }
    let mut batches: Vec<VerifiedBatch> = Vec::new();
    let mut say = |signer: &str, events: Vec<feed_pb::Event>| {
        let head = batches.last().map(VerifiedBatch::head);
        let sealer = Sealer::new(code("NDXP"), key(signer));
        batches.push(sealer.seal(&feed, head.as_ref(), 0, events).expect("seals"));
    };
    say("old", events);
    for number in 100..175 {
        say("old", vec![filler(number, "a.later.Version".into(), vec![number as u8; 40_000])]);
    }
    let added = pb::KeyAdded { member: "NDXP".into(), key: Some(key("NDXP").public().to_wire()) };
    say("old", vec![event(200, &added)]);
    say("NDXP", vec![filler(201, "a.later.Version".into(), vec![1])]);
    let count = batches.len() as u64;
    node.log.commit(Transaction::copy(batches)).await.expect("takes");
    (node, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_finds_the_batch_that_vouches_however_far_it_is() {
    let (gateway, count) = old_gateway().await;
    let h24 = Node::open("H24");
    assert!(h24.directory.get().gateway().is_none());
    let peer = MemoryPeer::new("gateway", service(&gateway, Receipts::Issue), h24.code.clone());
    h24.copy_with(Arc::new(peer), &["H24"]);
    h24.holds(FEED, count).await;
    assert_eq!(h24.directory.get().members().count(), 3);
    // And takes part.
    h24.say("TW", Lane::Report, "r1").await;
    gateway.holds("H24→TW/report", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_does_one_that_gets_it_by_hand() {
    let (gateway, count) = old_gateway().await;
    let media = Arc::new(MemoryMedia::default());
    let exporter =
        Exporter::new(Arc::new(LogStore::new(gateway.log.clone())), gateway.directory.clone(), media.clone());
    let mut export = exporter.begin(&Selection::all_for(code("H24")), None, 0).await.expect("begins");
    let h24 = Node::open("H24");
    let (stopped, gate) = (StoppedFeeds::default(), Gate::default());
    let mut import =
        Importer::new(Arc::new(LogStore::new(h24.log.clone())), h24.directory.clone(), media, stopped, gate).begin();
    while let Some(bytes) = export.next().await.expect("reads") {
        assert!(import.push(&bytes).await);
    }
    let report = import.finish();
    assert!(report.ok, "{:?}", report.feeds.iter().map(|feed| &feed.message_en).collect::<Vec<_>>());
    assert_eq!(h24.log.head(&FEED.parse().expect("feed")).map(|head| head.sequence), Some(count));
    assert_eq!(h24.directory.get().members().count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_fingerprint_takes_nothing_of_it() {
    let (gateway, _) = old_gateway().await;
    let dir = tempfile::tempdir().expect("dir");
    let sealer = Arc::new(Sealer::new(code("H24"), key("H24")));
    let (log, _) = Log::open(dir.path(), sealer, Options::default()).expect("opens");
    let directory = SharedDirectory::new(log.clone(), Directory::trusting(key("nobody").public().fingerprint()));
    let (stop, meter) = (tokio::sync::watch::Sender::new(false), Meter::default());
    let options = RunnerOptions {
        pushes_for: Arc::new(|_| vec![code("H24")]),
        settings: Settings { refusal_pause_ms: 50, ask_all_every_ms: 500, ..Settings::default() },
        span_of: Arc::new(|_| tracing::Span::none()),
        stopped: StoppedFeeds::default(),
        meter: meter.clone(),
        tally: Tally::default(),
        bandwidth: None,
    };
    let peer = Arc::new(MemoryPeer::new("gateway", service(&gateway, Receipts::Issue), code("H24")));
    tokio::spawn(run(log.clone(), directory, peer, httt_exchange::Link::default(), options, stop.subscribe()));
    // It looks at all of it, and then again.
    let came = || meter.read().iter().map(|(_, _, passed)| passed.received.content_bytes).sum::<u64>();
    until(|| came() > 7_000_000).await;
    assert_eq!(log.head(&FEED.parse().expect("feed")), None);
    stop.send_replace(true);
}
