//! Headers that are lost on the way from the server are noticed, without waiting for the next look.

use httt_exchange::Store as _;

use crate::exchange::{Gateway, batches, feed, seldom};
use crate::nats::{NatsServer, until};
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_into_a_connection_that_was_cut_is_looked_at_again() {
    let server = NatsServer::start().await;
    let proxy = Proxy::before(&server).await;
    let direct = Gateway::open(&[&server], seldom()).await;
    let beyond = Gateway::open_through(&proxy, seldom()).await;
    let said = batches("H24→TW/report", 4, "a");
    direct.push(&said[..1]).await;
    beyond.has_head("H24→TW/report", 1).await;
    until("its receipt", || async { (beyond.receipts("H24").len() == 1).then_some(()) }).await;
    // Three entries, and the receipts of each: told to nobody, and nothing after them shows the gap.
    proxy.lose(usize::MAX);
    let lost = proxy.lost();
    direct.push(&said[1..]).await;
    until("they are told", || async { (proxy.lost() >= lost + 4).then_some(()) }).await;
    proxy.lose(0);
    assert_eq!(beyond.store.head(&feed("H24→TW/report")), Some(said[0].head()));
    proxy.cut();
    beyond.has_head("H24→TW/report", 4).await;
    assert_eq!(beyond.read_all("TW", "H24→TW/report", 4).await.len(), 4);
    until("receipts", || async { (beyond.receipts("H24").len() == 4).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_is_left_out_is_looked_for() {
    let server = NatsServer::start().await;
    let proxy = Proxy::before(&server).await;
    let direct = Gateway::open(&[&server], seldom()).await;
    let beyond = Gateway::open_through(&proxy, seldom()).await;
    let said = batches("H24→TW/status", 3, "a");
    direct.push(&said[..1]).await;
    beyond.has_head("H24→TW/status", 1).await;
    until("its receipt", || async { (beyond.receipts("H24").len() == 1).then_some(()) }).await;
    proxy.lose(1);
    direct.push(&said[1..2]).await;
    until("it is told", || async { (proxy.lost() == 1).then_some(()) }).await;
    direct.push(&said[2..]).await;
    beyond.has_head("H24→TW/status", 3).await;
    until("all three", || async {
        let read = beyond.store.read(&feed("H24→TW/status"), 0, 100_000).await.ok()?;
        (read.len() == 3).then_some(())
    })
    .await;
    assert!(beyond.asked.lock().expect("lock").is_empty(), "nothing is missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_whose_last_headers_do_not_come_begins_anew() {
    let server = NatsServer::start().await;
    let proxy = Proxy::before(&server).await;
    let direct = Gateway::open(&[&server], seldom()).await;
    direct.push(&batches("H24→TW/report", 3, "a")).await;
    // The directory is looked at first: all of it gets lost.
    proxy.lose(2);
    let beyond = Gateway::open_through(&proxy, seldom()).await;
    assert_eq!(proxy.lost(), 2);
    assert_eq!(beyond.store.head(&feed("NDXP→*/directory")), direct.store.head(&feed("NDXP→*/directory")));
    assert_eq!(beyond.read_all("TW", "H24→TW/report", 3).await.len(), 3);
}
