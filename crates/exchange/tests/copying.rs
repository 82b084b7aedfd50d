//! Members copy through a gateway and an adapter over real logs.

mod common;

use std::sync::Arc;

use common::*;
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::{Audience, Lane};
use httt_log::{NewEvent, Transaction};
use httt_wire::Message as _;
use httt_wire::exchange::Receipt;
use httt_wire::exchange::RefusalCode;

#[tokio::test(flavor = "multi_thread")]
async fn what_the_ministry_says_reaches_provinces_and_their_answers_reach_the_ministry() {
    let (gateway, service) = gateway().await;
    let (tw, h24) = (Node::open("TW"), Node::open("H24"));
    for node in [&tw, &h24] {
        let peer = Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), node.code.clone()));
        node.copy_with(peer, &[node.code.as_str()]);
    }
    tw.say("*", Lane::Content, "b1").await;
    tw.say("*", Lane::Emergency, "b2").await;
    h24.say("TW", Lane::Report, "r1").await;
    h24.holds("TW→*/content", 1).await;
    h24.holds("TW→*/emergency", 1).await;
    tw.holds("H24→TW/report", 1).await;
    // Receipts come as signed events of the gateway.
    h24.holds("NDXP→H24/report", 1).await;
    let feed = "NDXP→H24/report".parse().expect("feed");
    let entry = h24.log.read_feed(&feed, 0, 1).expect("reads").remove(0);
    let receipt = Receipt::decode(entry.batch.events[0].data.clone()).expect("receipt");
    let held = h24.log.head(&"H24→TW/report".parse().expect("feed")).expect("own");
    assert_eq!((receipt.sequence, receipt.digest), (1, held.digest.0.to_vec()));
    assert_eq!(
        receipt.position,
        gateway.log.heads().into_iter().find(|head| head.feed.to_string() == "H24→TW/report").expect("held").position
    );
    // What is local stays.
    assert!(gateway.log.heads().iter().all(|head| head.feed.lane != Lane::Local || head.feed.origin == gateway.code));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_loses_nothing_and_doubles_nothing() {
    let (gateway, service) = gateway().await;
    let (tw, h24) = (Node::open("TW"), Node::open("H24"));
    let peer = |node: &Node| Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), node.code.clone()));
    let (near, far) = (peer(&tw), peer(&h24));
    tw.copy_with(Arc::clone(&near), &["TW"]);
    h24.copy_with(Arc::clone(&far), &["H24"]);
    tw.say("*", Lane::Content, "b0").await;
    h24.holds("TW→*/content", 1).await;
    far.cut(true);
    for round in 1..=20 {
        tw.say("*", Lane::Content, &format!("b{round}")).await;
        h24.say("TW", Lane::Report, &format!("r{round}")).await;
    }
    gateway.holds("TW→*/content", 21).await;
    far.cut(false);
    h24.holds("TW→*/content", 21).await;
    tw.holds("H24→TW/report", 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_province_behind_an_adapter_is_a_member_like_any_other() {
    let (_gateway, service) = gateway().await;
    let (tw, h55, adapter) = (Node::open("TW"), Node::open("H55"), Node::open("H55.LGSP"));
    tw.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("TW"))), &["TW"]);
    let north = Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("H55.LGSP")));
    adapter.copy_with(Arc::clone(&north), &["H55"]);
    let platform = common::service(&adapter, Receipts::None);
    h55.copy_with(Arc::new(MemoryPeer::new("adapter", platform, code("H55"))), &["H55"]);
    tw.say("*", Lane::Content, "b1").await;
    h55.say("TW", Lane::Report, "r1").await;
    h55.holds("TW→*/content", 1).await;
    tw.holds("H55→TW/report", 1).await;
    h55.holds("NDXP→H55/report", 1).await;
    // While NDXP is away the adapter goes on accepting, and drains afterwards.
    north.cut(true);
    h55.say("TW", Lane::Report, "r2").await;
    adapter.holds("H55→TW/report", 2).await;
    north.cut(false);
    tw.holds("H55→TW/report", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_tail_takes_it_back_before_it_is_level() {
    let (gateway, service) = gateway().await;
    let peer = || Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("H24")));
    let h24 = Node::open("H24");
    h24.copy_with(peer(), &["H24"]);
    for round in 1..=5 {
        h24.say("TW", Lane::Report, &format!("r{round}")).await;
    }
    gateway.holds("H24→TW/report", 5).await;
    // The same member from an empty disk: it must not speak before it has its own words back.
    let again = Node::open("H24");
    let link = again.copy_with(peer(), &["H24"]);
    assert!(!link.watch().borrow().own_level);
    link.watch().wait_for(|link| link.own_level).await.expect("link");
    assert_eq!(again.log.head(&"H24→TW/report".parse().expect("feed")).expect("taken back").sequence, 5);
    again.say("TW", Lane::Report, "r6").await;
    gateway.holds("H24→TW/report", 6).await;
    assert!(link.watch().borrow().stopped.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_enrolled_later_hears_what_was_said_before() {
    let (gateway, service) = gateway().await;
    let (tw, late) = (Node::open("TW"), Node::open("H99"));
    tw.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("TW"))), &["TW"]);
    tw.say("*", Lane::Content, "b1").await;
    gateway.holds("TW→*/content", 1).await;
    let link = late.copy_with(Arc::new(MemoryPeer::new("gateway", service, code("H99"))), &["H99"]);
    // It asks, is told that it is no member, and comes back.
    link.watch().wait_for(|link| link.refused == Some(RefusalCode::NotAMember)).await.expect("link");
    assert!(late.log.is_empty());
    gateway.enrol("H99").await;
    late.holds("TW→*/content", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_of_small_batches_drains() {
    let (gateway, service) = gateway().await;
    let h24 = Node::open("H24");
    let batches = 2 * MAX_ENTRIES_PER_PUSH as u64 + 10;
    h24.backlog("H24→TW/status", batches).await;
    h24.copy_with(Arc::new(MemoryPeer::new("gateway", service, code("H24"))), &["H24"]);
    gateway.holds("H24→TW/status", batches).await;
}

/// A carrier that takes what is pushed and drops it gives no receipts.
#[tokio::test(flavor = "multi_thread")]
async fn only_the_gateway_gives_receipts() {
    let (_gateway, service) = gateway().await;
    let (h55, adapter) = (Node::open("H55"), Node::open("H55.LGSP"));
    let north = Arc::new(MemoryPeer::new("gateway", service, code("H55.LGSP")));
    adapter.copy_with(Arc::clone(&north), &["H55"]);
    let platform = common::service(&adapter, Receipts::None);
    h55.copy_with(Arc::new(MemoryPeer::new("adapter", platform, code("H55"))), &["H55"]);
    adapter.holds("NDXP→*/directory", 1).await;
    north.cut(true);
    h55.say("TW", Lane::Report, "r1").await;
    adapter.holds("H55→TW/report", 1).await;
    assert_eq!(h55.log.head(&"NDXP→H55/report".parse().expect("feed")), None, "nobody has receipted it");
    north.cut(false);
    h55.holds("NDXP→H55/report", 1).await;
}

/// A node says its status ten times; the batches 4 and 8 say all of it again.
async fn says_its_status(node: &Node) {
    for number in 1..=10 {
        let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: "b".into(), reason: "r".repeat(300) };
        let event = NewEvent::of(Audience::One(code("TW")), Lane::Status, "clusters", &said);
        let transaction = Transaction::append([event]);
        let transaction = if number % 4 == 0 { transaction.restating() } else { transaction };
        node.log.commit(transaction).await.expect("commits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_reader_of_status_begins_where_it_was_last_restated() {
    let (gateway, service) = gateway().await;
    let (tw, h24) = (Node::open("TW"), Node::open("H24"));
    let peer = |node: &Node| Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), node.code.clone()));
    says_its_status(&h24).await;
    h24.copy_with(peer(&h24), &["H24"]);
    gateway.holds("H24→TW/status", 10).await;
    let feed = "H24→TW/status".parse().expect("feed");
    assert_eq!(gateway.log.begins(&feed), Ok(Some(1)), "who carries holds all of it");
    tw.copy_with(peer(&tw), &["TW"]);
    tw.holds("H24→TW/status", 10).await;
    assert_eq!(tw.log.begins(&feed), Ok(Some(8)));
    // And it goes on from there.
    h24.say("TW", Lane::Status, "more").await;
    tw.holds("H24→TW/status", 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_its_own_status_back_whole() {
    let (gateway, service) = gateway().await;
    let peer = |node: &Node| Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), node.code.clone()));
    let h24 = Node::open("H24");
    says_its_status(&h24).await;
    h24.copy_with(peer(&h24), &["H24"]);
    gateway.holds("H24→TW/status", 10).await;
    drop(h24);
    let again = Node::open("H24");
    again.copy_with(peer(&again), &["H24"]);
    again.holds("H24→TW/status", 10).await;
    assert_eq!(again.log.begins(&"H24→TW/status".parse().expect("feed")), Ok(Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_over_the_wire_is_packed_and_counted_on_both_sides() {
    let (gateway, _) = gateway().await;
    let media = Arc::new(MemoryMedia::default());
    let stopped = StoppedFeeds::default();
    let closing = gateway.stop.subscribe();
    let (log, directory) = (gateway.log.clone(), gateway.directory.clone());
    let there = Meter::default();
    let service = Service::new(Arc::new(LogStore::new(log)), directory, media, Receipts::Issue, stopped, closing)
        .with_meter(there.clone());
    let h24 = Node::open("H24");
    says_its_status(&h24).await;
    let here = Meter::default();
    let peer = Arc::new(MemoryPeer::new("gateway", Arc::new(service), h24.code.clone()));
    h24.copy_counting(peer, &["H24"], here.clone());
    gateway.holds("H24→TW/status", 10).await;
    let of = |meter: &Meter, peer: &str| {
        let rows = meter.read();
        let found = rows.iter().find(|row| row.0 == peer && row.1 == Topic::Lane(Lane::Status));
        found.map(|row| row.2)
    };
    // The call is counted when it has been answered.
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    let sent = loop {
        if let Some(passed) = of(&here, "gateway") {
            break passed.sent;
        }
        assert!(tokio::time::Instant::now() < limit, "never counted");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let received = of(&there, "H24").expect("counted before it was answered").received;
    assert_eq!(sent, received, "both sides count the same");
    assert_eq!(sent.entries, 10);
    assert!(sent.content_bytes > 4_000 && sent.wire_bytes < sent.content_bytes / 2, "{sent:?}");
    assert!(here.read().iter().any(|(_, topic, passed)| *topic == Topic::Heads && passed.sent.messages > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_packed_entries_gets_them_plain() {
    let (gateway, service) = gateway().await;
    let tw = Node::open("TW");
    tw.backlog("TW→*/content", 30).await;
    tw.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("TW"))), &["TW"]);
    gateway.holds("TW→*/content", 30).await;
    let feed: httt_feed::FeedId = "TW→*/content".parse().expect("feed");
    let ask = |accept_zstd| httt_wire::exchange::ReadRequest {
        feed: Some(feed.to_wire()),
        max_bytes: u32::MAX,
        accept_zstd,
        ..Default::default()
    };
    let plain = service.read(&code("H24"), &ask(false)).await;
    let packed = service.read(&code("H24"), &ask(true)).await;
    assert_eq!((plain.entries.len(), plain.packed.len(), packed.entries.len()), (30, 0, 0));
    let unpacked = unpack(OnTheWire { entries: packed.entries, packed: packed.packed });
    assert_eq!(unpacked, Ok(plain.entries));
}
