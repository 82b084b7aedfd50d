//! What a gateway has in an archive that is not there, or let go by retention, comes from its origin, through the gateway.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use common::tls::{Authority, identify};
use common::*;
use httt_exchange::carry::{Away, Exporter, Importer, Selection};
use httt_exchange::grpc::{GrpcPeer, serve};
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::*;
use httt_log::{Options, ReadError};
use httt_wire::exchange::{self as wire, RefusalCode};
use tokio::net::TcpListener;

const FEED: &str = "TW→*/content";
const BATCHES: u64 = 300;

/// Why entries are not at hand.
#[derive(Debug, Clone, Copy)]
enum Why {
    Archived,
    Retention,
}

/// A gateway that holds a long feed of the ministry, most of which is not at hand.
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
    /// `h24` knows the directory before, as it must.
    async fn new(h24: &Node, again_bytes: usize) -> Self {
        Self::with(h24, again_bytes, Why::Archived).await
    }

    async fn with(h24: &Node, again_bytes: usize, why: Why) -> Self {
        Self::of(Node::open("TW"), &[h24], again_bytes, why).await
    }

    async fn of(tw: Node, readers: &[&Node], again_bytes: usize, why: Why) -> Self {
        let gateway = Node::open_with("NDXP", Options { chunk_bytes: 16 * 1024, ..Options::default() });
        found(&gateway).await;
        let store = LogStore::new(gateway.log.clone()).keeping_again(again_bytes);
        let service = Arc::new(service_over(&gateway, store.clone(), Receipts::Issue));
        for node in [&[&tw], readers].concat() {
            let peer = Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), node.code.clone()));
            let link = node.copy_with(Arc::clone(&peer), &[node.code.as_str()]);
            node.holds("NDXP→*/directory", 2).await;
            drop(link);
            node.stop.send_replace(true);
        }
        // In many chunks, where they are small.
        for some in batches("TW", FEED, BATCHES, 0).chunks(10) {
            tw.log.commit(httt_log::Transaction::copy(some.to_vec())).await.expect("takes");
        }
        let batches = tw.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
        let mut receipts = Vec::new();
        for some in batches.chunks(10) {
            let entries = some.iter().map(|entry| entry.bytes.clone()).collect();
            let request = wire::PushRequest { feed: Some(feed().to_wire()), entries, ..Default::default() };
            let answer = service.push(&tw.code, request).await;
            assert_eq!((answer.refusal, answer.receipts.len()), (None, some.len()));
            receipts.extend(answer.receipts);
        }
        match why {
            Why::Archived => {
                let archive = tempfile::tempdir().expect("dir");
                let report = gateway.log.archive(archive.path(), 1, None).expect("archives");
                assert!(report.moved.len() > 5, "{report:?}");
            }
            Why::Retention => {
                let report = gateway.log.thin(&BTreeMap::from([(Lane::Content, i64::MAX)]), &|| true).expect("thins");
                assert!(report.chunks.len() > 5, "{report:?}");
                let read = gateway.log.read_feed(&feed(), 0, 1);
                assert!(matches!(read, Err(ReadError::Gone(_))), "{read:?}");
            }
        }
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

impl World {
    /// What `reader` holds is what the gateway has receipted.
    fn same_but_for_the_origin(&self, reader: &Node) {
        let held: Vec<_> = reader.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
        let digests = held.iter().map(|entry| httt_feed::body_digest(&entry.bytes).expect("a batch").0.to_vec());
        assert!(digests.eq(self.receipts.iter().map(|receipt| receipt.digest.clone())));
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
    over_grpc(Why::Archived, DEFAULT_AGAIN_BYTES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_by_retention_comes_from_its_origin_over_grpc() {
    over_grpc(Why::Retention, DEFAULT_AGAIN_BYTES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_by_retention_comes_in_parts_where_there_is_little_room() {
    over_grpc(Why::Retention, 64 * 1024).await;
}

async fn over_grpc(why: Why, again_bytes: usize) {
    let h24 = Node::open("H24");
    let world = World::with(&h24, again_bytes, why).await;
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
    let request = wire::HeadsRequest { log_id, after, wait_ms: MAX_WAIT_MS, ..Default::default() };
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
    forged(Why::Archived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_entries_than_those_that_went_by_retention_are_refused() {
    forged(Why::Retention).await;
}

async fn forged(why: Why) {
    let h24 = Node::open("H24");
    let world = World::with(&h24, DEFAULT_AGAIN_BYTES, why).await;
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
    duplicate(Why::Archived).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_what_went_by_retention_gets_the_original_receipt() {
    duplicate(Why::Retention).await;
}

async fn duplicate(why: Why) {
    let h24 = Node::open("H24");
    let world = World::with(&h24, DEFAULT_AGAIN_BYTES, why).await;
    let length = world.gateway.log.len();
    let entries = world.tw.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
    let entries = entries.into_iter().map(|entry| entry.bytes).collect();
    let request = wire::PushRequest { feed: Some(feed().to_wire()), entries, ..Default::default() };
    let answer = world.service.push(&code("TW"), request).await;
    assert_eq!((answer.refusal, answer.receipts), (None, world.receipts));
    assert_eq!(world.gateway.log.len(), length, "nothing was added");
}

/// The ministry, of which the older half is in an archive that was taken away; and another reader, which holds that half.
async fn a_ministry_without_its_older_half() -> (World, Node, Node) {
    let (h24, h55) = (Node::open("H24"), Node::open("H55"));
    let tw = Node::open_with("TW", Options { chunk_bytes: 16 * 1024, ..Options::default() });
    let world = World::of(tw, &[&h24, &h55], DEFAULT_AGAIN_BYTES, Why::Archived).await;
    let entries = world.tw.log.read_feed(&feed(), 0, usize::MAX).expect("reads");
    let archive = tempfile::tempdir().expect("dir");
    let full = world.tw.log.archive(archive.path(), 1_000, None).expect("reports").live;
    world.tw.log.archive(archive.path(), full / 2, None).expect("archives");
    drop(archive);
    let away = |log: &httt_log::Log, sequence| log.batch_away(&feed(), sequence).expect("known").is_some();
    let older = (1..=BATCHES).take_while(|sequence| away(&world.tw.log, *sequence)).count();
    assert!(older > 0 && away(&world.gateway.log, older as u64 + 1), "{older} of {full} chunks' batches are away");
    let older: Vec<_> = entries.iter().take(older).map(|entry| entry.bytes.clone()).collect();
    let admission = admit(&h55.directory.get(), &feed(), None, &older);
    assert!(admission.refused.is_none());
    h55.log.commit(httt_log::Transaction::copy(admission.batches)).await.expect("takes");
    (world, h24, h55)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_origin_lacks_does_not_keep_other_readers_from_what_it_has() {
    let (world, h24, h55) = a_ministry_without_its_older_half().await;
    // The first is wanted first.
    let read = wire::ReadRequest { feed: Some(feed().to_wire()), after: 0, max_bytes: 1_000, ..Default::default() };
    let refusal = world.service.read(&h24.code, &read).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Away);
    for node in [&world.tw, &h24, &h55] {
        again(node);
        let peer = MemoryPeer::new("gateway", Arc::clone(&world.service), node.code.clone());
        node.copy_with(Arc::new(peer), &[node.code.as_str()]);
    }
    h55.holds(FEED, BATCHES).await;
    world.same_but_for_the_origin(&h55);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_what_its_origin_lacks_hears_when_to_come_back() {
    let (world, h24, _) = a_ministry_without_its_older_half().await;
    again(&world.tw);
    let peer = MemoryPeer::new("gateway", Arc::clone(&world.service), world.tw.code.clone());
    world.tw.copy_with(Arc::new(peer), &["TW"]);
    let read = wire::ReadRequest { feed: Some(feed().to_wire()), after: 0, max_bytes: 1_000, ..Default::default() };
    loop {
        let refusal = world.service.read(&h24.code, &read).await.refusal.expect("refused");
        assert_eq!(refusal_from_wire(&refusal), RefusalCode::Away);
        if refusal.retry_after_ms >= 60_000 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
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
