//! Members copy through a gateway and an adapter over real logs.

mod common;

use std::sync::Arc;

use common::*;
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::Lane;
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
