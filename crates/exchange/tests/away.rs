//! What a gateway has in an archive that is not there comes from its origin, through the gateway.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::tls::{Authority, identify};
use common::*;
use httt_exchange::carry::{Away, Exporter, Importer, Selection};
use httt_exchange::grpc::{GrpcPeer, serve};
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::*;
use httt_log::Options;
use httt_wire::exchange::{self as wire, RefusalCode};
use tokio::net::TcpListener;

const FEED: &str = "TW→*/content";
const BATCHES: u64 = 300;

/// A gateway that holds a long feed of the ministry, most of it in an archive that was taken away.
struct World {
    gateway: Node,
    store: LogStore,
    service: Arc<Service>,
    tw: Node,
    /// The receipts that the ministry got.
    receipts: Vec<wire::Receipt>,
}

fn feed() -> FeedId {
    FEED.parse().expect("feed")
}

impl World {
    /// `h24` knows the directory before.
    async fn new(h24: &Node, again_bytes: usize) -> Self {
        let gateway = Node::open_with("NDXP", Options { chunk_bytes: 16 * 1024, ..Options::default() });
        found(&gateway).await;
        let store = LogStore::new(gateway.log.clone()).keeping_again(again_bytes);
        let service = Arc::new(service_over(&gateway, store.clone(), Receipts::Issue));
        let tw = Node::open("TW");
        for node in [&tw, h24] {
            let peer = Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), node.code.clone()));
            let link = node.copy_with(Arc::clone(&peer), &[node.code.as_str()]);
            node.holds("NDXP→*/directory", 2).await;
            drop(link);
            node.stop.send_replace(true);
        }
        tw.backlog(FEED, BATCHES).await;
        let batches = tw.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
        let mut receipts = Vec::new();
        for some in batches.chunks(10) {
            let entries = some.iter().map(|entry| entry.bytes.clone()).collect();
            let request = wire::PushRequest { feed: Some(feed().to_wire()), entries, ..Default::default() };
            let answer = service.push(&tw.code, request).await;
            assert_eq!((answer.refusal, answer.receipts.len()), (None, some.len()));
            receipts.extend(answer.receipts);
        }
        let archive = tempfile::tempdir().expect("dir");
        let report = gateway.log.archive(archive.path(), 1, None).expect("archives");
        assert!(report.moved.len() > 5, "{report:?}");
        drop(archive);
        let missing = gateway.log.batch_away(&feed(), 1).expect("known");
        assert!(missing.is_some() && gateway.log.batch_away(&feed(), BATCHES).expect("known").is_none());
        Self { gateway, store, service, tw, receipts }
    }

    /// What `reader` holds in the end is what the ministry said.
    fn same(&self, reader: &Node) {
        let of = |node: &Node| -> Vec<_> {
            let entries = node.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
            entries.into_iter().map(|entry| entry.bytes).collect()
        };
        assert_eq!(of(reader), of(&self.tw));
        assert_eq!(self.gateway.log.head(&feed()).map(|head| head.sequence), Some(BATCHES));
    }
}

fn again(node: &Node) {
    node.stop.send_replace(false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_behind_what_is_there_gets_it_from_the_origin_through_the_gateway() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, DEFAULT_AGAIN_BYTES).await;
    for node in [&world.tw, &h24] {
        again(node);
        let peer = MemoryPeer::new("gateway", Arc::clone(&world.service), node.code.clone());
        node.copy_with(Arc::new(peer), &[node.code.as_str()]);
    }
    h24.holds(FEED, BATCHES).await;
    world.same(&h24);
}

/// Less room than the feed needs: it comes in parts, and memory stays bounded.
#[tokio::test(flavor = "multi_thread")]
async fn it_comes_in_parts_where_there_is_little_room() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, 64 * 1024).await;
    for node in [&world.tw, &h24] {
        again(node);
        let peer = MemoryPeer::new("gateway", Arc::clone(&world.service), node.code.clone());
        node.copy_with(Arc::new(peer), &[node.code.as_str()]);
    }
    h24.holds(FEED, BATCHES).await;
    world.same(&h24);
    assert!(matches!(world.store.read(&feed(), 0, 1).await, Err(StoreError::Away { after: 0, .. }) | Ok(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_over_grpc_as_well() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, DEFAULT_AGAIN_BYTES).await;
    let (authority, service) = (Authority::new(), Arc::clone(&world.service));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = format!("https://{}", listener.local_addr().expect("address"));
    let identity = authority.identity("NDXP");
    tokio::spawn(async move { serve(listener, &identity, service, identify, std::future::pending()).await });
    for node in [&world.tw, &h24] {
        again(node);
        let identity = authority.identity(node.code.as_str());
        let peer = GrpcPeer::new(&address, "localhost", &identity).expect("peer");
        node.copy_with(Arc::new(peer), &[node.code.as_str()]);
    }
    h24.holds(FEED, BATCHES).await;
    world.same(&h24);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_is_told_to_come_back_and_the_origin_is_told_what_is_wanted() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, DEFAULT_AGAIN_BYTES).await;
    let (service, log_id) = (Arc::clone(&world.service), world.gateway.log.log_id().to_vec());
    let after = world.gateway.log.len();
    let request = wire::HeadsRequest { log_id, after, wait_ms: MAX_WAIT_MS };
    let waiting = tokio::spawn(async move { service.heads(&code("TW"), request).await });
    until(|| world.service.long_polls() == 1).await;
    let read = wire::ReadRequest { feed: Some(feed().to_wire()), after: 0, max_bytes: 1_000, ..Default::default() };
    let refusal = world.service.read(&code("H24"), &read).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Away);
    assert!(refusal.retry_after_ms > 0);
    let told = tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("woken").expect("answers");
    let want = &told.wants[0];
    assert_eq!((want.feed.clone(), want.after), (Some(feed().to_wire()), 0));
    assert!(want.until > 10 && want.until < BATCHES);
    // Nobody else is asked.
    let other = world.service.heads(&code("H55"), wire::HeadsRequest::default()).await;
    assert!(other.wants.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn other_entries_than_those_that_were_held_are_refused() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, DEFAULT_AGAIN_BYTES).await;
    // The origin itself seals another history.
    let lies = batches("TW", FEED, 3, 77);
    let entries = lies.iter().map(|batch| batch.bytes().clone()).collect();
    let request = wire::PushRequest { feed: Some(feed().to_wire()), entries, again: true, ..Default::default() };
    let refusal = world.service.push(&code("TW"), request.clone()).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Fork);
    assert!(matches!(world.store.read(&feed(), 0, 1_000).await, Err(StoreError::Away { after: 0, .. })));
    let refusal = world.service.push(&code("H24"), request).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::WrongMember);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_what_is_away_gets_the_original_receipt() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, DEFAULT_AGAIN_BYTES).await;
    let length = world.gateway.log.len();
    let entries = world.tw.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
    let entries = entries.into_iter().map(|entry| entry.bytes).collect();
    let request = wire::PushRequest { feed: Some(feed().to_wire()), entries, ..Default::default() };
    let answer = world.service.push(&code("TW"), request).await;
    assert_eq!((answer.refusal, answer.receipts), (None, world.receipts));
    assert_eq!(world.gateway.log.len(), length, "nothing was added");
}

/// What is away now keeps nothing else back, and whoever takes the file is told what to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_by_hand_has_what_is_there_and_names_what_is_away() {
    let h24 = Node::open("H24");
    let world = World::new(&h24, DEFAULT_AGAIN_BYTES).await;
    world.tw.say("*", Lane::Report, "later").await;
    let report: FeedId = "TW→*/report".parse().expect("feed");
    let entries = world.tw.log.read_feed(&report, 0, usize::MAX).expect("reads");
    let entries = entries.into_iter().map(|entry| entry.bytes).collect();
    let request = wire::PushRequest { feed: Some(report.to_wire()), entries, ..Default::default() };
    assert_eq!(world.service.push(&code("TW"), request).await.refusal, None);

    let media = Arc::new(MemoryMedia::default());
    let exporter = Exporter::new(Arc::new(world.store.clone()), world.gateway.directory.clone(), media.clone());
    // Its own words are in the archive, too, and nobody else could bring them.
    let selection = Selection { feeds: vec![feed(), report.clone()], ..Selection::all_for(code("H24")) };
    let mut export = exporter.begin(&selection, None, 0).await.expect("exports");
    let [Away { feed: away, after, until }] = export.manifest().away.as_slice() else {
        panic!("{:?}", export.manifest())
    };
    assert_eq!((away, *after), (&feed(), 0));
    assert!(*until > 10 && *until < BATCHES, "{until}");
    let store = Arc::new(LogStore::new(h24.log.clone()));
    let importer = Importer::new(store, h24.directory.clone(), media, StoppedFeeds::default(), Gate::default());
    let mut import = importer.begin();
    while let Some(bytes) = export.next().await.expect("reads") {
        assert!(import.push(&bytes).await);
    }
    let told = import.finish();
    assert!(told.ok, "{told:#?}");
    assert_eq!((h24.log.head(&feed()), h24.log.head(&report).map(|head| head.sequence)), (None, Some(1)));
}
