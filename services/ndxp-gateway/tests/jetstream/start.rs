//! What a start refuses, and what it puts right.

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use httt_exchange::Store as _;
use httt_ndxp_gateway::jetstream::{Connection, JetStreamError};

use crate::exchange::{Gateway, batches, config, feed, settings};
use crate::nats::{NatsServer, until};

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_promise_nothing_are_refused_unless_that_is_allowed() {
    let server = NatsServer::start().await;
    let refused = Connection::open(&config(&[&server], false), "test").await.expect_err("refused");
    let JetStreamError::Volatile(why) = &refused else { panic!("{refused}") };
    assert!(why.contains("2.9") || why.contains("monitors"), "{why}");
    let text = refused.to_string();
    assert!(text.starts_with("máy chủ NATS") && text.contains("allow_volatile = true"), "{text}");
    let allowed = Connection::open(&config(&[&server], true), "test").await.expect("allowed");
    assert_eq!(allowed.volatile(), Some(why.as_str()));
    let gateway = Gateway::open(&[&server], settings(1)).await;
    assert_eq!(gateway.store.status().volatile.as_ref(), Some(why));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_would_lose_entries_is_refused_and_says_what_to_change() {
    let server = NatsServer::start().await;
    let context = server.context().await;
    let good = stream::Config {
        name: "httt-content".into(),
        subjects: vec!["httt.*.*.content".into()],
        discard: stream::DiscardPolicy::New,
        ..stream::Config::default()
    };
    for (made, named) in [
        (stream::Config { subjects: vec!["elsewhere.>".into()], ..good.clone() }, "elsewhere.>"),
        (stream::Config { discard: stream::DiscardPolicy::Old, ..good.clone() }, "discard"),
        (stream::Config { max_messages: 1_000, ..good.clone() }, "max_msgs"),
        (stream::Config { max_bytes: 1 << 20, ..good.clone() }, "max_bytes"),
    ] {
        context.create_stream(made).await.expect("makes");
        let folder = tempfile::tempdir().expect("dir");
        let refused = Gateway::open_in(folder, &[&server], settings(1)).await;
        let Err(error) = refused else { panic!("{named} is taken") };
        assert!(matches!(&error, JetStreamError::Stream { stream, .. } if stream == "httt-content"), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("luồng httt-content") && text.matches(named).count() == 2, "{text}");
        context.delete_stream("httt-content").await.expect("deletes");
    }
    // These servers are volatile anyway, and that is allowed here; so is memory.
    context.create_stream(stream::Config { storage: stream::StorageType::Memory, ..good }).await.expect("makes");
    let gateway = Gateway::open(&[&server], settings(1)).await;
    assert_eq!(gateway.store.status().streams[3].away, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_taker_ended_before_its_receipt_gets_one_at_the_next_start() {
    let server = NatsServer::start().await;
    let one = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 3, "a");
    one.push(&said[..1]).await;
    let folder = one.end().await;
    // What a process has done when it ends between the entry and its receipt.
    let context = server.context().await;
    for batch in &said[1..] {
        let message = PublishMessage::build()
            .payload(batch.bytes().clone())
            .header("Httt-Sequence", batch.sequence().to_string().as_str())
            .header("Httt-Digest", batch.digest().to_string().as_str());
        context.send_publish("httt.H24.TW.report", message).await.expect("sends").await.expect("publishes");
    }
    let two = Gateway::open_in(folder, &[&server], settings(1)).await.expect("starts");
    assert_eq!(two.store.head(&feed("H24→TW/report")).expect("head").sequence, 3);
    assert_eq!(two.receipts("H24").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_is_not_believed() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 2, "a");
    gateway.push(&said[..1]).await;
    // Somebody who may write to the streams, and says that this is the next entry.
    let context = server.context().await;
    let message = PublishMessage::build().payload("no entry".into()).header("Httt-Sequence", "2");
    context.send_publish("httt.H24.TW.report", message).await.expect("sends").await.expect("publishes");
    let taken = until("the true one", || async {
        let answer = gateway.push(&said[1..]).await;
        answer.refusal.is_none().then_some(answer)
    });
    assert_eq!(taken.await.head.expect("head").digest, said[1].digest().0.to_vec());
    let read = gateway.read_all("TW", "H24→TW/report", 2).await;
    assert_eq!(read[1], said[1].bytes());
    assert!(gateway.stopped.list().is_empty(), "the origin did nothing wrong");
}

#[test]
fn the_sample_names_a_cluster_that_a_gateway_would_connect_to() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/ndxp-gateway.toml");
    let config: httt_ndxp_gateway::Config = httt_node::config::load(sample.as_ref()).expect("sample");
    assert_eq!(config.exchange.store.kind, httt_ndxp_gateway::StoreKind::Log);
    let servers = config.exchange.store.jetstream.expect("section");
    let settings = servers.settings().expect("good");
    assert_eq!((settings.replicas, servers.servers.len(), servers.monitors.len()), (3, 3, 3));
    assert!(!servers.allow_volatile && settings.max_age.is_empty());
}
