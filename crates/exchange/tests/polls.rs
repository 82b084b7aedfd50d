//! Long-polls: who is woken by what.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use httt_exchange::*;
use httt_log::Transaction;
use httt_wire::exchange as wire;
use tokio::task::JoinHandle;

/// A long-poll of `member` about what comes from now on.
fn poll(gateway: &Node, service: &Arc<Service>, member: &str) -> JoinHandle<wire::HeadsResponse> {
    let (service, member) = (Arc::clone(service), code(member));
    let (log_id, after) = (gateway.log.log_id().to_vec(), gateway.log.len());
    tokio::spawn(async move {
        service.heads(&member, wire::HeadsRequest { log_id, after, wait_ms: MAX_WAIT_MS, ..Default::default() }).await
    })
}

async fn said(gateway: &Node, origin: &str, feed: &str) {
    gateway.log.commit(Transaction::copy(batches(origin, feed, 1, 10))).await.expect("takes");
}

fn feeds(answer: &wire::HeadsResponse) -> Vec<String> {
    let feeds = answer.heads.iter().filter_map(|head| httt_feed::FeedId::from_wire(head.feed.as_ref()?).ok());
    feeds.map(|feed| feed.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_wakes_those_who_may_read_it_and_nobody_else() {
    let (gateway, service) = gateway().await;
    let (h24, h55) = (poll(&gateway, &service, "H24"), poll(&gateway, &service, "H55"));
    let carrier = poll(&gateway, &service, "H55.LGSP");
    until(|| service.long_polls() == 3).await;
    said(&gateway, "TW", "TW→H55/content").await;
    assert_eq!(feeds(&h55.await.expect("answers")), ["TW→H55/content"]);
    assert_eq!(feeds(&carrier.await.expect("answers")), ["TW→H55/content"], "it carries for H55");
    assert_eq!(service.long_polls(), 1, "H24 waits on");
    said(&gateway, "TW", "TW→*/emergency").await;
    assert_eq!(feeds(&h24.await.expect("answers")), ["TW→*/emergency"]);
    assert_eq!(service.long_polls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_before_a_poll_waits_is_not_missed() {
    let (gateway, service) = gateway().await;
    for _ in 0..300 {
        let waiting = poll(&gateway, &service, "H24");
        gateway.say("H24", httt_feed::Lane::Report, "s").await;
        let answer = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("woken").expect("answers");
        assert_eq!(feeds(&answer), ["NDXP→H24/report"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_long_poll_too_many_ends_the_oldest_of_that_member() {
    let (gateway, _) = gateway().await;
    let limits = Limits { long_polls: 2, ..Limits::default() };
    let service = Arc::new(plain_service(&gateway, Receipts::Issue).with_limits(limits));
    let other = poll(&gateway, &service, "H55");
    until(|| service.long_polls() == 1).await;
    let mut polls = Vec::new();
    for count in 2..=3 {
        polls.push(poll(&gateway, &service, "H24"));
        until(|| service.long_polls() == count).await;
    }
    let newest = poll(&gateway, &service, "H24");
    let ended = polls.remove(0).await.expect("answers");
    assert!(ended.heads.is_empty() && ended.refusal.is_none());
    until(|| service.long_polls() == 3).await;
    said(&gateway, "TW", "TW→*/content").await;
    for woken in [polls.remove(0), newest, other] {
        assert_eq!(feeds(&woken.await.expect("answers")), ["TW→*/content"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_suspended_is_told_so_while_it_waits() {
    let (gateway, service) = gateway().await;
    let waiting = poll(&gateway, &service, "H24");
    until(|| service.long_polls() == 1).await;
    let suspended = httt_wire::directory::MemberSuspended { member: "H24".into(), reason: "r".into() };
    let stream = "member/H24";
    let event = httt_log::NewEvent::of(httt_feed::Audience::All, httt_feed::Lane::Directory, stream, &suspended);
    gateway.log.commit(Transaction::append([event])).await.expect("suspends");
    let refusal = waiting.await.expect("answers").refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), wire::RefusalCode::Suspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_end_when_the_service_stops_and_leave_nothing() {
    let (gateway, service) = gateway().await;
    let waiting: Vec<_> = (0..10).map(|_| poll(&gateway, &service, "H24")).collect();
    until(|| service.long_polls() == 10).await;
    waiting[0].abort();
    until(|| service.long_polls() == 9).await;
    gateway.stop.send_replace(true);
    for one in waiting.into_iter().skip(1) {
        assert!(one.await.expect("answers").heads.is_empty());
    }
    assert_eq!(service.long_polls(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_readers_hold_is_known_by_what_they_ask_for() {
    let (gateway, _) = gateway().await;
    let deliveries = Deliveries::default();
    let service = plain_service(&gateway, Receipts::Issue).with_deliveries(deliveries.clone());
    gateway.log.commit(Transaction::copy(batches("TW", "TW→*/content", 5, 10))).await.expect("takes");
    let feed: httt_feed::FeedId = "TW→*/content".parse().expect("feed");
    let read = |member: &'static str, after, max_bytes| {
        let request = wire::ReadRequest { feed: Some(feed.to_wire()), after, max_bytes, ..Default::default() };
        let service = &service;
        async move { service.read(&code(member), &request).await }
    };
    let held = |member: &str| deliveries.readers().get(&code(member)).and_then(|state| state.feeds.get(&feed).copied());
    assert_eq!(held("H24"), None);
    read("H24", 0, 1).await;
    assert_eq!(held("H24"), Some(1), "it was given one");
    read("H24", 1, MAX_CALL_BYTES as u32).await;
    assert_eq!(held("H24"), Some(5));
    read("H24", 2, 1).await;
    assert_eq!(held("H24"), Some(3), "it went back");
    read("H24", u64::MAX, 1).await;
    assert_eq!(held("H24"), Some(5), "nobody holds more than there is");
    assert_eq!(held("H55"), None);
    let nothing: httt_feed::FeedId = "TW→*/report".parse().expect("feed");
    let request = wire::ReadRequest { feed: Some(nothing.to_wire()), ..Default::default() };
    service.read(&code("H24"), &request).await;
    assert!(!deliveries.readers()[&code("H24")].feeds.contains_key(&nothing), "there is no such feed");
    assert!(deliveries.readers()[&code("H24")].seen_at_ms > 0);
}
