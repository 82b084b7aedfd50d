//! What JetStream loses is found, and filled again from the origins.

use std::path::Path;
use std::time::Duration;

use httt_exchange::{Store as _, StoreError};
use httt_feed::Lane;

use crate::exchange::{Gateway, Member, batches, feed, seldom, settings};
use crate::nats::{NatsServer, until};

/// Message sequences of a subject.
async fn messages(server: &NatsServer, stream: &str, subject: &str) -> Vec<u64> {
    let stream = server.context().await.get_stream(stream).await.expect("stream");
    let (mut messages, mut from) = (Vec::new(), 1);
    while let Ok(message) = stream.get_first_raw_message_by_subject(subject, from).await {
        messages.push(message.sequence);
        from = message.sequence + 1;
    }
    messages
}

async fn delete(server: &NatsServer, stream: &str, messages: &[u64]) {
    let stream = server.context().await.get_stream(stream).await.expect("stream");
    for message in messages {
        assert!(stream.delete_message(*message).await.expect("deletes"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_messages_are_found_by_a_look_and_filled_again_from_the_origin() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let h24 = Member::open("H24").await;
    h24.copy_through(&gateway);
    h24.say("TW", Lane::Report, 12).await;
    gateway.has_head("H24→TW/report", 12).await;
    let held = messages(&server, "httt-report", "httt.H24.TW.report").await;
    // The first, two in the middle, and the last two.
    delete(&server, "httt-report", &[held[0], held[4], held[5], held[10], held[11]]).await;
    until("twelve entries", || async {
        (messages(&server, "httt-report", "httt.H24.TW.report").await.len() == 12).then_some(())
    })
    .await;
    // A process that knows nothing yet finds the whole feed.
    let fresh = Gateway::open(&[&server], settings(1)).await;
    assert_eq!(fresh.read_all("TW", "H24→TW/report", 12).await, h24.entries("H24→TW/report"));
    assert_eq!(fresh.receipts("H24").len(), 12, "no batch got a second receipt");
    // And the origin goes on where it was.
    h24.say("TW", Lane::Report, 1).await;
    fresh.has_head("H24→TW/report", 13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_message_that_a_reader_meets_is_asked_of_an_origin_at_another_process() {
    let server = NatsServer::start().await;
    // No look comes: only the reader can find it.
    let (one, two) = (Gateway::open(&[&server], seldom()).await, Gateway::open(&[&server], seldom()).await);
    let h24 = Member::open("H24").await;
    h24.copy_through(&one);
    h24.say("TW", Lane::Report, 3).await;
    two.has_head("H24→TW/report", 3).await;
    let held = messages(&server, "httt-report", "httt.H24.TW.report").await;
    delete(&server, "httt-report", &held[1..2]).await;
    let away = two.store.read(&feed("H24→TW/report"), 1, 1).await.expect_err("away");
    assert!(matches!(away, StoreError::Away { after: 1, until: 2, .. }), "{away}");
    let tw = Member::open("TW").await;
    tw.copy_through(&two);
    tw.holds("H24→TW/report", 3).await;
    assert_eq!(tw.entries("H24→TW/report"), h24.entries("H24→TW/report"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_itself_said_is_brought_back_from_its_own_log() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    gateway.push(&batches("H24→TW/report", 2, "a")).await;
    for (stream, subject) in [("httt-directory", "httt.NDXP.all.directory"), ("httt-report", "httt.NDXP.H24.report")] {
        let held = messages(&server, stream, subject).await;
        delete(&server, stream, &held).await;
        until("all of it", || async { (messages(&server, stream, subject).await.len() == held.len()).then_some(()) })
            .await;
    }
    let fresh = Gateway::open(&[&server], settings(1)).await;
    assert_eq!(fresh.log.head(&feed("NDXP→*/directory")), gateway.log.head(&feed("NDXP→*/directory")));
    assert_eq!(fresh.receipts("H24").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_back_to_an_older_state_gets_its_tail_from_the_origins() {
    let mut server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let (tw, h24) = (Member::open("TW").await, Member::open("H24").await);
    tw.copy_through(&gateway);
    h24.copy_through(&gateway);
    h24.say("TW", Lane::Report, 3).await;
    tw.say("*", Lane::Content, 3).await;
    gateway.has_head("H24→TW/report", 3).await;
    gateway.has_head("TW→*/content", 3).await;
    server.kill();
    let older = tempfile::tempdir().expect("dir");
    copy(&server.store(), older.path());
    server.run();
    h24.say("TW", Lane::Report, 4).await;
    tw.say("*", Lane::Content, 4).await;
    gateway.has_head("H24→TW/report", 7).await;
    gateway.has_head("TW→*/content", 7).await;
    server.kill();
    server.wipe();
    copy(older.path(), &server.store());
    server.run();
    server.ready().await;
    // Everything comes back, from origins and from the gateway's log, without a word of theirs.
    until("the tail", || async {
        let report = messages(&server, "httt-report", "httt.H24.TW.report").await.len();
        let content = messages(&server, "httt-content", "httt.TW.all.content").await.len();
        (report >= 7 && content >= 7).then_some(())
    })
    .await;
    let fresh = Gateway::open(&[&server], settings(1)).await;
    assert_eq!(fresh.read_all("TW", "H24→TW/report", 7).await, h24.entries("H24→TW/report"));
    assert_eq!(fresh.read_all("H24", "TW→*/content", 7).await, tw.entries("TW→*/content"));
    h24.say("TW", Lane::Report, 1).await;
    fresh.has_head("H24→TW/report", 8).await;
    assert!(gateway.stopped.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_does_not_let_an_origin_tell_another_story() {
    let mut server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 3, "a");
    gateway.push(&said).await;
    server.kill();
    server.wipe();
    server.run();
    server.ready().await;
    let other = batches("H24→TW/report", 3, "other");
    let refusal = until("an answer", || async {
        let answer = gateway.push(&other[2..]).await;
        answer.refusal.filter(|refusal| refusal.retry_after_ms == 0)
    });
    let refusal = refusal.await;
    assert_eq!(httt_exchange::refusal_from_wire(&refusal), httt_wire::exchange::RefusalCode::Fork, "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_let_go_for_its_age_is_served_from_its_origin_and_not_asked_for_before() {
    let server = NatsServer::start().await;
    let mut brief = settings(1);
    brief.max_age.insert(Lane::Status, Duration::from_secs(3));
    let gateway = Gateway::open(&[&server], brief).await;
    let h24 = Member::open("H24").await;
    let peer = h24.copy_through(&gateway);
    h24.say("TW", Lane::Status, 5).await;
    gateway.has_head("H24→TW/status", 5).await;
    until("it is let go", || async {
        messages(&server, "httt-status", "httt.H24.TW.status").await.is_empty().then_some(())
    })
    .await;
    peer.cut(true);
    until("looks went over it", || async {
        let streams = gateway.store.status().streams;
        streams.iter().any(|stream| stream.stream == "httt-status" && stream.entries == 0).then_some(())
    })
    .await;
    assert!(gateway.asked.lock().expect("lock").iter().all(|(of, ..)| of.lane != Lane::Status));
    assert_eq!(gateway.store.head(&feed("H24→TW/status")).expect("it is known").sequence, 5);
    peer.cut(false);
    let tw = Member::open("TW").await;
    tw.copy_through(&gateway);
    tw.holds("H24→TW/status", 5).await;
    assert_eq!(tw.entries("H24→TW/status"), h24.entries("H24→TW/status"));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("makes");
    for item in std::fs::read_dir(from).expect("lists") {
        let item = item.expect("item");
        let there = to.join(item.file_name());
        if item.file_type().expect("type").is_dir() {
            copy(&item.path(), &there);
        } else {
            std::fs::copy(item.path(), there).expect("copies");
        }
    }
}
