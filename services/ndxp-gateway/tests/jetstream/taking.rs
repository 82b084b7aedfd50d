//! What a gateway on JetStream takes, refuses and gives.

use httt_exchange::{Store as _, refusal_from_wire};
use httt_wire::exchange::RefusalCode;

use crate::exchange::{Gateway, Member, batches, feed, seldom, settings};
use crate::nats::{NatsServer, until};
use httt_feed::Lane;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_read_untouched_and_a_duplicate_has_the_receipt_it_got_at_first() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 3, "a");
    let first = gateway.push(&said).await;
    assert_eq!((first.refusal, first.receipts.len()), (None, 3));
    assert_eq!(first.head.expect("head").sequence, 3);
    let read = gateway.read_all("TW", "H24→TW/report", 3).await;
    assert_eq!(read, said.iter().map(|batch| batch.bytes().clone()).collect::<Vec<_>>());
    let again = gateway.push(&said).await;
    assert_eq!((again.refusal, again.receipts), (None, first.receipts));
    assert_eq!(gateway.receipts("H24").len(), 3);
    // They are on the subject that the issue names, each once.
    let mut stream = server.context().await.get_stream("httt-report").await.expect("stream");
    let subjects = stream.info_with_subjects("httt.H24.TW.report").await.expect("info");
    assert_eq!(subjects.info.state.messages, 4, "three entries, and one batch of receipts");
    assert_eq!(stream.info().await.expect("info").state.subjects_count, 2);
}

/// The servers remember messages that they do not have any more, and acknowledge them again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_once_and_is_gone_is_published_again_before_it_is_receipted() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], seldom()).await;
    let said = batches("H24→TW/report", 1, "a");
    let at = server.publish(&said[0], "httt.H24.TW.report").await;
    let stream = server.context().await.get_stream("httt-report").await.expect("stream");
    assert!(stream.delete_message(at).await.expect("deletes"));
    let answer = gateway.push(&said).await;
    assert_eq!((answer.refusal, answer.receipts.len()), (None, 1));
    let there = stream.get_first_raw_message_by_subject("httt.H24.TW.report", 1).await.expect("it is there");
    assert_eq!(there.payload, said[0].bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn gaps_and_forks_are_refused_as_by_a_log() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 5, "a");
    gateway.push(&said[..2]).await;
    let gap = gateway.push(&said[3..]).await.refusal.expect("gap");
    assert_eq!((refusal_from_wire(&gap), gap.expected_sequence), (RefusalCode::Gap, 3));
    let other = batches("H24→TW/report", 2, "other");
    let fork = gateway.push(&other[..1]).await.refusal.expect("fork");
    assert_eq!(refusal_from_wire(&fork), RefusalCode::Fork);
    assert!(gateway.stopped.contains(&feed("H24→TW/report")));
    let evidence = gateway.log.head(&feed("NDXP→NDXP/local"));
    assert!(evidence.is_some(), "both batches of a fork are kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_copy_through_it_as_through_a_log() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let (tw, h24) = (Member::open("TW").await, Member::open("H24").await);
    tw.copy_through(&gateway);
    h24.copy_through(&gateway);
    tw.say("*", Lane::Content, 5).await;
    tw.say("*", Lane::Emergency, 1).await;
    h24.say("TW", Lane::Status, 5).await;
    h24.holds("TW→*/content", 5).await;
    h24.holds("TW→*/emergency", 1).await;
    tw.holds("H24→TW/status", 5).await;
    h24.holds("NDXP→H24/report", 1).await;
    assert_eq!(tw.entries("TW→*/content"), h24.entries("TW→*/content"));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_servers_are_away_pushes_are_put_off_and_afterwards_they_are_taken() {
    let mut server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 2, "a");
    assert_eq!(gateway.push(&said[..1]).await.refusal, None);
    server.kill();
    let refusal = gateway.push(&said[1..]).await.refusal.expect("away");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Unavailable);
    assert!(refusal.retry_after_ms > 0, "{refusal:?}");
    until("the store says so", || async { (!gateway.store.status().connected).then_some(()) }).await;
    server.run();
    let taken = until("the push", || async { Some(gateway.push(&said[1..]).await).filter(|a| a.refusal.is_none()) });
    assert_eq!(taken.await.receipts.len(), 1);
    assert_eq!(gateway.store.head(&feed("H24→TW/report")).expect("head").sequence, 2);
    assert_eq!(gateway.receipts("H24").len(), 2);
}
