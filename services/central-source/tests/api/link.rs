//! The link comes up late: what was published meanwhile goes up with its media, what provinces said comes down.

use std::sync::Arc;
use std::time::Duration;

use httt_feed::Digest;
use httt_log::Transaction;
use httt_node::assembly::{Node, NodeConfig, Trust};
use httt_node::config::{ConfigPath, TlsConfig};
use httt_node::exchange::{LogStore, Receipts, Service, grpc};
use httt_node::media::MediaConfig;
use httt_node::shutdown::Shutdown;
use httt_node::tlog::TlogConfig;
use httt_node::{tls, upstream};
use serde_json::{Value, json};

use crate::common::{Person, World, clusters, otp};

/// Waits for what happens in a moment.
async fn until<T>(what: &str, look: impl AsyncFn() -> Option<T>) -> T {
    let found = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    found.await.unwrap_or_else(|_| panic!("{what}"))
}

/// An exchange where the central source looks for it, which knows what the founding batch says.
async fn gateway(world: &World, shutdown: &Shutdown) -> Node {
    let config = NodeConfig {
        member: "NDXP".to_owned(),
        data_dir: ConfigPath::new(world.path("gateway")),
        signing_key: ConfigPath::new(world.path("gateway.signing.pem")),
        gateway_fingerprint: None,
        chunk_mib: 1,
        index_cache_mib: 1,
        checkpoint_ms: 1_000,
        open_metrics: false,
        tlog: TlogConfig::default(),
        media: MediaConfig::default(),
        snapshot_entries: 0,
    };
    let node = Node::open(&config, Trust::Own, "test").await.expect("gateway");
    node.log.commit(Transaction::copy([world.founding.clone()])).await.expect("directory");
    let service = Service::new(
        Arc::new(LogStore::new(node.log.clone())),
        node.directory.clone(),
        node.media.clone(),
        Receipts::Issue,
        node.stopped.clone(),
        shutdown.watch(),
    );
    let file = |name: &str| ConfigPath::new(world.path(name));
    let identity = TlsConfig { certificate: file("gateway.pem"), key: file("gateway.key"), ca: Some(file("ca.pem")) };
    let identity = upstream::tls_identity(&identity).expect("identity");
    let listener = tokio::net::TcpListener::bind(world.exchange).await.expect("the port is still free");
    let stop = shutdown.cancelled();
    shutdown.spawn("exchange", async move {
        grpc::serve(listener, &identity, Arc::new(service), tls::member_identity, stop).await
    });
    node
}

/// A bulletin with its file, submitted.
async fn submitted_with(author: &Person<'_>, data: Vec<u8>, priority: &str) -> String {
    let media = json!({ "sha256": Digest::of(&data).to_string(), "size": data.len(), "content_type": "audio/mpeg" });
    author.upload(data).await;
    let content = json!({ "title": "Có tiếng", "kind": "audio", "media": media, "priority": priority });
    let id = author.draft(content).await;
    author.post(&format!("/bulletins/{id}/submit"), json!({})).await;
    id
}

#[tokio::test]
async fn what_waited_for_the_link_goes_up_and_down() {
    let world = World::new(vec![]).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let data = vec![7; 300_000];
    let digest = Digest::of(&data);
    let id = submitted_with(&author, data, "ordinary").await;
    approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
    author.post(&format!("/bulletins/{id}/publish"), json!({})).await;
    assert_eq!(author.get("/link").await["connected"], false);

    let shutdown = Shutdown::new();
    let gateway = gateway(&world, &shutdown).await;
    gateway.log.commit(Transaction::copy([clusters()])).await.expect("a province pushed");
    let feed = "TW→*/content".parse().expect("feed");
    until("the bulletin is at the exchange", async || gateway.log.head(&feed)).await;
    until("its file is at the exchange", async || gateway.media.stat(digest).await.ok().filter(|stat| stat.complete))
        .await;
    until("the province's clusters are here", async || {
        (author.get("/clusters/totals").await["totals"]["total"] == json!(4)).then_some(())
    })
    .await;
    let members = author.get("/members").await;
    assert_eq!(members.as_array().map(Vec::len), Some(4));
    let level = until("the link is level", async || {
        let link: Value = author.get("/link").await;
        (link["connected"] == true && link["behind"] == json!([])).then_some(link)
    })
    .await;
    assert_eq!(level["stopped"], json!([]));
    central.stop().await;
    shutdown.trigger();
    gateway.close(&shutdown).await;
}

#[tokio::test]
async fn a_file_that_cannot_be_sent_holds_up_no_other() {
    let world = World::new(vec![]).await;
    let shutdown = Shutdown::new();
    let gateway = gateway(&world, &shutdown).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let publish = async |id: &str| {
        approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
        approver.post(&format!("/bulletins/{id}/publish"), json!({})).await;
    };
    let lost = vec![1; 10_000];
    let id = submitted_with(&author, lost.clone(), "ordinary").await;
    approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
    std::fs::remove_file(central.node().media.path(Digest::of(&lost))).expect("removed");
    approver.post(&format!("/bulletins/{id}/publish"), json!({})).await;
    // By now it failed several times, and the next try is seconds away.
    tokio::time::sleep(Duration::from_millis(3_300)).await;

    let arrives = async |digest: Digest| {
        let there =
            until("at the exchange", async || gateway.media.stat(digest).await.ok().filter(|stat| stat.complete));
        tokio::time::timeout(Duration::from_millis(1_500), there).await.is_ok()
    };
    let urgent = vec![2; 10_000];
    let id = submitted_with(&author, urgent.clone(), "emergency").await;
    approver.post(&format!("/bulletins/{id}/approve"), json!({ "otp": otp() })).await;
    assert!(arrives(Digest::of(&urgent)).await, "the emergency's file waited");
    let next = vec![3; 10_000];
    publish(&submitted_with(&author, next.clone(), "ordinary").await).await;
    assert!(arrives(Digest::of(&next)).await, "the next file waited");
    central.stop().await;
    shutdown.trigger();
    gateway.close(&shutdown).await;
}

#[tokio::test]
async fn a_file_that_is_lost_here_comes_back_from_the_exchange() {
    let world = World::new(vec![]).await;
    let shutdown = Shutdown::new();
    let gateway = gateway(&world, &shutdown).await;
    let central = world.start().await;
    let (author, approver) = (central.log_in("bientap").await, central.log_in("duyet").await);
    let data = vec![5; 20_000];
    let digest = Digest::of(&data);
    let id = submitted_with(&author, data, "ordinary").await;
    approver.post(&format!("/bulletins/{id}/approve"), json!({})).await;
    approver.post(&format!("/bulletins/{id}/publish"), json!({})).await;
    until("at the exchange", async || gateway.media.stat(digest).await.ok().filter(|stat| stat.complete)).await;
    std::fs::remove_file(central.node().media.path(digest)).expect("removed");
    central.stop().await;

    let central = world.start().await;
    let media = central.node().media.clone();
    until("here again", async || media.stat(digest).await.ok().filter(|stat| stat.complete)).await;
    central.stop().await;
    shutdown.trigger();
    gateway.close(&shutdown).await;
}
