//! A gateway whose disk is older than what it said takes that back from its members, over real TLS, and contradicts
//! nothing of it.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::tls::{Authority, identify};
use common::*;
use httt_exchange::grpc::{GrpcPeer, serve};
use httt_exchange::memory::MemoryPeer;
use httt_exchange::quota::{CallRates, Rate};
use httt_exchange::*;
use httt_feed::*;
use httt_log::{BackupOptions, ManualClock, NewEvent, Options, restore};
use httt_wire::directory as pb;
use httt_wire::exchange as wire;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;

const DIRECTORY: &str = "NDXP→*/directory";
const RECEIPTS: &str = "NDXP→H24/report";
const SAID: &str = "H24→TW/report";

fn feed(text: &str) -> FeedId {
    text.parse().expect("feed")
}

/// A gateway that listens.
struct Serving {
    gateway: Node,
    service: Arc<Service>,
    address: String,
    end: watch::Sender<bool>,
}

impl Serving {
    async fn over(gateway: Node, authority: &Authority, asks: Asks) -> Self {
        let service = Arc::new(plain_service(&gateway, Receipts::Issue).with_own_feeds(OwnFeeds::asking(asks)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = format!("https://{}", listener.local_addr().expect("address"));
        let (identity, serving, end) = (authority.identity("NDXP"), Arc::clone(&service), watch::Sender::new(false));
        let mut ended = end.subscribe();
        tokio::spawn(async move {
            let ended = async move {
                let _ = ended.wait_for(|end| *end).await;
            };
            serve(listener, &identity, serving, identify, ended).await
        });
        Self { gateway, service, address, end }
    }

    fn copy(&self, node: &Node, authority: &Authority) -> httt_exchange::Link {
        node.stop.send_replace(false);
        let identity = authority.identity(node.code.as_str());
        let peer = GrpcPeer::new(&self.address, "localhost", &identity).expect("peer");
        node.copy_with(Arc::new(peer), &[node.code.as_str()])
    }

    async fn revise<M: httt_wire::Message + httt_wire::Name>(&self, message: &M) -> Result<(), StoreError> {
        let event = NewEvent::of(Audience::All, Lane::Directory, "member", message);
        self.service.revise(|_, _| Ok(vec![event])).await
    }
}

fn sequence(node: &Node, name: &str) -> u64 {
    node.log.head(&feed(name)).map_or(0, |head| head.sequence)
}

fn bytes(node: &Node, name: &str) -> Vec<bytes::Bytes> {
    let entries = node.log.read_feed(&feed(name), 0, usize::MAX).expect("reads");
    entries.into_iter().map(|entry| entry.bytes).collect()
}

fn is_recorded(node: &Node, name: &str) -> bool {
    node.log.stream_version(&node.code, &format!("went-back/{name}")).expect("reads").is_some()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waited = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waited).await.unwrap_or_else(|_| panic!("{what}"));
}

/// A gateway on the disk of yesterday, and members that know today.
struct World {
    authority: Authority,
    tw: Node,
    h24: Node,
    others: Vec<Node>,
    restored: Node,
    /// Today's copies of what the gateway says, as its disk had them.
    directory: Vec<bytes::Bytes>,
    receipts: Vec<bytes::Bytes>,
    _backup: TempDir,
}

impl World {
    async fn new() -> Self {
        let authority = Authority::new();
        let gateway = Node::open("NDXP");
        found(&gateway).await;
        let serving = Serving::over(gateway, &authority, Asks::EachBefore).await;
        let (tw, h24) = (Node::open("TW"), Node::open("H24"));
        for node in [&tw, &h24] {
            serving.copy(node, &authority);
            node.holds(DIRECTORY, 2).await;
        }
        h24.say("TW", Lane::Report, "yesterday").await;
        tw.holds(SAID, 1).await;
        h24.holds(RECEIPTS, 1).await;
        let backup = tempfile::tempdir().expect("dir");
        serving.gateway.log.backup(&backup.path().join("log"), BackupOptions::default()).expect("backs up");
        for today in 2..=4 {
            h24.say("TW", Lane::Report, "today").await;
            h24.holds(RECEIPTS, today).await;
        }
        serving.gateway.enrol("H99").await;
        for node in [&tw, &h24] {
            node.holds(DIRECTORY, 3).await;
            node.stop.send_replace(true);
        }
        let (directory, receipts) = (bytes(&serving.gateway, DIRECTORY), bytes(&serving.gateway, RECEIPTS));
        serving.end.send_replace(true);
        let restored = Node::at("NDXP", Options::default(), |dir| {
            restore(&backup.path().join("log"), dir, None).expect("restores");
        });
        assert_eq!((sequence(&restored, DIRECTORY), sequence(&restored, RECEIPTS)), (2, 1));
        let others = ["H55", "H55.LGSP", "H99"].map(Node::open).into();
        Self { authority, tw, h24, others, restored, directory, receipts, _backup: backup }
    }

    /// All that it had said is there again, and each batch got its receipt once.
    fn is_one_history(gateway: &Node, directory: &[bytes::Bytes], receipts: &[bytes::Bytes], h24: &Node) {
        assert_eq!(bytes(gateway, DIRECTORY)[..directory.len()], *directory);
        assert_eq!(bytes(gateway, RECEIPTS)[..receipts.len()], *receipts);
        assert_eq!(bytes(gateway, SAID), bytes(h24, SAID));
        let given = gateway.log.read_feed(&feed(RECEIPTS), 0, usize::MAX).expect("reads");
        let given = given.iter().flat_map(|entry| &entry.batch.events);
        let given =
            given.map(|event| <wire::Receipt as httt_wire::Message>::decode(event.data.clone()).expect("receipt"));
        let sequences: Vec<u64> = given.map(|receipt| receipt.sequence).collect();
        assert_eq!(sequences, (1..=sequence(h24, SAID)).collect::<Vec<_>>());
        assert!(gateway.log.stream_version(&gateway.code, "fork/NDXP→*/directory").expect("reads").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_gateway_says_and_takes_nothing_before_every_member_was_heard() {
    let World { authority, tw, h24, others, restored, directory, receipts, _backup } = World::new().await;
    let serving = Serving::over(restored, &authority, Asks::AllFirst(BTreeSet::from([code("H99")]))).await;
    h24.say("TW", Lane::Report, "meanwhile").await;
    serving.copy(&h24, &authority);
    let gateway = &serving.gateway;
    until("H24 brings what it holds", || sequence(gateway, DIRECTORY) == 3 && sequence(gateway, RECEIPTS) == 4).await;
    let silent = ["H55", "H55.LGSP", "H99", "TW"].map(code).to_vec();
    assert_eq!(serving.service.waits(), Some(NotYet { silent, missing: vec![] }));
    assert!(matches!(serving.revise(&pb::KeyAdded::default()).await, Err(StoreError::Unavailable(_))));
    let entries = bytes(&h24, SAID);
    let push = wire::PushRequest { feed: Some(feed(SAID).to_wire()), entries, ..Default::default() };
    let refusal = serving.service.push(&h24.code, push).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Unavailable);
    assert!(refusal.message.contains("not heard yet: H55, H55.LGSP, H99, TW"), "{}", refusal.message);
    let read = wire::ReadRequest { feed: Some(feed(DIRECTORY).to_wire()), max_bytes: 1, ..Default::default() };
    let refusal = serving.service.read(&tw.code, &read).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Unavailable);
    assert_eq!(sequence(gateway, SAID), 1);

    others.iter().chain([&tw]).for_each(|node| drop(serving.copy(node, &authority)));
    until("the gateway waits for nobody", || serving.service.waits().is_none()).await;
    tw.holds(SAID, 5).await;
    h24.holds(RECEIPTS, 5).await;
    serving.revise(&pb::MemberSuspended { member: "H99".into(), reason: "r".into() }).await.expect("revises");
    tw.holds(DIRECTORY, 4).await;
    World::is_one_history(gateway, &directory, &receipts, &h24);
    assert!(is_recorded(gateway, DIRECTORY) && is_recorded(gateway, RECEIPTS) && is_recorded(&h24, RECEIPTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_disk_that_nobody_knew_of_is_noticed_when_a_member_calls() {
    let World { authority, tw, h24, restored, directory, receipts, _backup, .. } = World::new().await;
    let serving = Serving::over(restored, &authority, Asks::EachBefore).await;
    h24.say("TW", Lane::Report, "afterwards").await;
    [&h24, &tw].into_iter().for_each(|node| drop(serving.copy(node, &authority)));
    tw.holds(SAID, 5).await;
    h24.holds(RECEIPTS, 5).await;
    World::is_one_history(&serving.gateway, &directory, &receipts, &h24);
    assert!(is_recorded(&serving.gateway, DIRECTORY) && is_recorded(&serving.gateway, RECEIPTS));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_lost_everything_gets_its_directory_and_receipts_back() {
    let World { authority, tw, h24, others, directory, receipts, _backup, .. } = World::new().await;
    let enrolled = ["NDXP", "TW", "H24", "H55", "H55.LGSP", "H99"].map(code);
    let serving = Serving::over(Node::open("NDXP"), &authority, Asks::AllFirst(enrolled.into())).await;
    others.iter().chain([&h24, &tw]).for_each(|node| drop(serving.copy(node, &authority)));
    tw.holds(SAID, 4).await;
    until("what H24 said is there", || sequence(&serving.gateway, SAID) == 4).await;
    World::is_one_history(&serving.gateway, &directory, &receipts, &h24);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspended_by_the_old_directory_alone_may_bring_the_newer_one() {
    let authority = Authority::new();
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let serving = Serving::over(gateway, &authority, Asks::EachBefore).await;
    let h24 = Node::open("H24");
    serving.revise(&pb::MemberSuspended { member: "H24".into(), reason: "r".into() }).await.expect("suspends");
    let backup = tempfile::tempdir().expect("dir");
    serving.gateway.log.backup(&backup.path().join("log"), BackupOptions::default()).expect("backs up");
    serving.revise(&pb::MemberResumed { member: "H24".into(), reason: "r".into() }).await.expect("resumes");
    serving.copy(&h24, &authority);
    h24.holds(DIRECTORY, 4).await;
    h24.stop.send_replace(true);
    let restored = Node::at("NDXP", Options::default(), |dir| {
        restore(&backup.path().join("log"), dir, None).expect("restores");
    });
    let serving = Serving::over(restored, &authority, Asks::AllFirst(BTreeSet::new())).await;
    serving.copy(&h24, &authority);
    until("H24 brings the directory", || sequence(&serving.gateway, DIRECTORY) == 4).await;
    let silent = ["H55", "H55.LGSP", "TW"].map(code).to_vec();
    assert_eq!(serving.service.waits(), Some(NotYet { silent, missing: vec![] }));
}

/// What a caller says that it holds, as all heads are asked for.
fn asking(held: Vec<(FeedId, Head)>) -> wire::HeadsRequest {
    let held = held.iter().map(|(feed, head)| head_to_wire(feed, *head)).collect();
    wire::HeadsRequest { held, ..Default::default() }
}

#[tokio::test]
async fn who_only_says_that_it_holds_more_stops_itself_and_the_directory_for_half_a_minute() {
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let clock = Arc::new(ManualClock::new(1_000_000));
    let service = plain_service(&gateway, Receipts::Issue).with_own_feeds(OwnFeeds::asking(Asks::EachBefore));
    let service = service.with_clock(Arc::clone(&clock) as Arc<dyn httt_log::Clock>);
    let revise = || service.revise(|_, _| Ok::<_, StoreError>(vec![]));
    let far = Head { sequence: 1_000, digest: Digest([9; 32]) };
    let claimed = vec![(feed(DIRECTORY), far), (feed("NDXP→H55/report"), far)];
    let told = service.heads(&code("H24"), asking(claimed)).await;
    assert_eq!((told.wants[0].after, told.wants[0].until), (2, 1_000));
    service.heads(&code("H55"), asking(vec![])).await;
    let push = |origin: &str| {
        let name = format!("{origin}→TW/report");
        let entries = batches(origin, &name, 1, 0).iter().map(|batch| batch.bytes().clone()).collect();
        wire::PushRequest { feed: Some(feed(&name).to_wire()), entries, ..Default::default() }
    };
    assert!(service.push(&code("H24"), push("H24")).await.refusal.is_some());
    assert_eq!(service.push(&code("H55"), push("H55")).await.refusal, None);
    assert!(matches!(revise().await, Err(StoreError::Unavailable(_))));
    clock.set(1_029_999);
    assert!(matches!(revise().await, Err(StoreError::Unavailable(_))));
    clock.set(1_030_000);
    revise().await.expect("nobody brought anything");
    // Told again, it is as little worth.
    service
        .heads(&code("H24"), asking(vec![(feed(DIRECTORY), Head { sequence: 2_000, digest: Digest([9; 32]) })]))
        .await;
    revise().await.expect("as before");
}

#[tokio::test]
async fn who_was_not_heard_since_the_start_is_asked_to_begin_anew() {
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let service = plain_service(&gateway, Receipts::Issue).with_own_feeds(OwnFeeds::asking(Asks::EachBefore));
    let known = wire::HeadsRequest { log_id: gateway.log.log_id().to_vec(), after: 1, ..Default::default() };
    let answer = service.heads(&code("H24"), known.clone()).await;
    assert_eq!(answer, wire::HeadsResponse { more: true, ..Default::default() });
    service.heads(&code("H24"), asking(vec![])).await;
    let answer = service.heads(&code("H24"), known).await;
    assert_eq!((answer.log_id, answer.heads.len()), (gateway.log.log_id().to_vec(), 1));
}

#[tokio::test]
async fn a_gateway_that_told_two_stories_is_shown_so_and_keeps_the_evidence() {
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let own = OwnFeeds::asking(Asks::EachBefore);
    let stopped = StoppedFeeds::default();
    let service = Service::new(
        Arc::new(LogStore::new(gateway.log.clone())),
        gateway.directory.clone(),
        Arc::<MemoryMedia>::default(),
        Receipts::Issue,
        stopped.clone(),
        gateway.stop.subscribe(),
    );
    let service = service.with_own_feeds(own);
    // What it said before its disk was replaced, in place of its second batch.
    let first = gateway.log.read_feed(&feed(DIRECTORY), 0, 1).expect("reads");
    let first = Head { sequence: 1, digest: body_digest(&first[0].bytes).expect("digest") };
    let event = httt_wire::feed::Event {
        id: vec![7; 16],
        stream: "s".into(),
        version: 1,
        r#type: "test.v1.Said".into(),
        ..Default::default()
    };
    let other =
        Sealer::new(code("NDXP"), key("NDXP")).seal(&feed(DIRECTORY), Some(&first), 0, vec![event]).expect("seals");
    let told = service.heads(&code("H24"), asking(vec![(feed(DIRECTORY), other.head())])).await;
    assert_eq!((told.wants[0].after, told.wants[0].until), (1, 2));
    let entries = vec![other.bytes().clone()];
    let push = wire::PushRequest { feed: Some(feed(DIRECTORY).to_wire()), entries, again: true, ..Default::default() };
    let refusal = service.push(&code("H24"), push).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Fork);
    assert!(stopped.contains(&feed(DIRECTORY)));
    assert!(gateway.log.stream_version(&gateway.code, "fork/NDXP→*/directory").expect("reads").is_some());
    // Nothing more is asked for: it is for an operator now.
    assert!(service.heads(&code("H24"), asking(vec![(feed(DIRECTORY), other.head())])).await.wants.is_empty());
}

/// A gateway that knows everybody, and its clock.
async fn at_noon(asks: Asks) -> (Node, Service, Arc<ManualClock>) {
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let clock = Arc::new(ManualClock::new(1_000_000));
    let service = plain_service(&gateway, Receipts::Issue).with_own_feeds(OwnFeeds::asking(asks));
    let service = service.with_clock(Arc::clone(&clock) as Arc<dyn httt_log::Clock>);
    (gateway, service, clock)
}

/// Says that it holds what nobody can bring.
async fn claims(service: &Service, member: &str, name: &str) -> wire::HeadsResponse {
    let far = Head { sequence: 1 << 60, digest: Digest([9; 32]) };
    service.heads(&code(member), asking(vec![(feed(name), far)])).await
}

/// Why what a member says first is not taken.
async fn refusal_of(service: &Service, origin: &str, lane: &str) -> Option<wire::Refusal> {
    let name = format!("{origin}→TW/{lane}");
    let entries = batches(origin, &name, 1, 0).iter().map(|batch| batch.bytes().clone()).collect();
    let push = wire::PushRequest { feed: Some(feed(&name).to_wire()), entries, ..Default::default() };
    service.push(&code(origin), push).await.refusal
}

#[tokio::test]
async fn a_carrier_that_brings_no_receipts_holds_up_others_for_half_a_minute() {
    let (_gateway, service, clock) = at_noon(Asks::EachBefore).await;
    claims(&service, "H55.LGSP", "NDXP→H55/report").await;
    service.heads(&code("H55"), asking(vec![])).await;
    assert!(refusal_of(&service, "H55", "report").await.is_some());
    clock.set(1_029_999);
    assert!(refusal_of(&service, "H55", "report").await.is_some());
    clock.set(1_030_000);
    assert_eq!(refusal_of(&service, "H55", "report").await, None);
    claims(&service, "H55.LGSP", "NDXP→H55/report").await;
    assert_eq!(refusal_of(&service, "H55", "status").await, None, "told again it is as little worth");
}

#[tokio::test]
async fn the_word_of_who_is_suspended_or_a_stranger_counts_no_more() {
    let (gateway, service, _clock) = at_noon(Asks::EachBefore).await;
    claims(&service, "H55.LGSP", "NDXP→H55/report").await;
    claims(&service, "H77", DIRECTORY).await;
    service.heads(&code("H55"), asking(vec![])).await;
    assert!(refusal_of(&service, "H55", "report").await.is_some());
    let suspended = pb::MemberSuspended { member: "H55.LGSP".into(), reason: "r".into() };
    let event = NewEvent::of(Audience::All, Lane::Directory, "member", &suspended);
    service.revise(|_, _| Ok::<_, StoreError>(vec![event])).await.expect("no stranger holds it up");
    assert_eq!(sequence(&gateway, DIRECTORY), 3);
    assert_eq!(refusal_of(&service, "H55", "report").await, None);
}

#[tokio::test]
async fn a_restored_gateway_waits_for_no_stranger_and_for_half_a_minute_for_a_liar() {
    let (_gateway, service, clock) = at_noon(Asks::AllFirst(BTreeSet::new())).await;
    for member in ["TW", "H55", "H55.LGSP"] {
        service.heads(&code(member), asking(vec![])).await;
    }
    claims(&service, "H77", DIRECTORY).await;
    claims(&service, "H55", "NDXP→TW/report").await;
    claims(&service, "H24", DIRECTORY).await;
    let missing = vec![(feed(DIRECTORY), 1 << 60, code("H24"))];
    assert_eq!(service.waits(), Some(NotYet { silent: vec![], missing }));
    clock.set(1_030_000);
    assert_eq!(service.waits(), None);
}

#[tokio::test]
async fn who_cannot_bring_back_what_it_holds_says_so_and_goes_on() {
    let (_gateway, service, _clock) = at_noon(Asks::EachBefore).await;
    claims(&service, "H24", RECEIPTS).await;
    assert!(refusal_of(&service, "H24", "report").await.is_some());
    let wanted = Some(feed(RECEIPTS).to_wire());
    let lacks = Some(wire::Want { feed: wanted.clone(), after: 0, until: 1 << 60 });
    let push = wire::PushRequest { feed: wanted, again: true, lacks, ..Default::default() };
    assert_eq!(service.push(&code("H24"), push).await.refusal, None);
    assert_eq!(refusal_of(&service, "H24", "report").await, None);
    assert_eq!(refusal_of(&service, "H24", "emergency").await, None);
    claims(&service, "H24", RECEIPTS).await;
    assert_eq!(refusal_of(&service, "H24", "status").await, None, "it lacks them still");
}

#[tokio::test]
async fn who_asks_too_often_is_not_listened_to() {
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let rates = CallRates { calls: Rate::per_minute(3), bytes: Rate::UNLIMITED };
    let service = plain_service(&gateway, Receipts::Issue).with_limits(Limits { rates, ..Limits::default() });
    let service = service.with_own_feeds(OwnFeeds::asking(Asks::EachBefore));
    let mut let_in = 0;
    loop {
        let refusal = claims(&service, "H77", DIRECTORY).await.refusal.expect("a stranger");
        if refusal_from_wire(&refusal) == RefusalCode::Busy {
            break;
        }
        let_in += 1;
        assert!(let_in < 1_000, "a stranger asks for ever");
    }
}

/// A gateway that wants its directory back, now up to its first batch and now up to its second.
struct Wanting {
    takes: bool,
    pushed: Arc<AtomicUsize>,
}

impl Peer for Wanting {
    fn name(&self) -> &str {
        "wanting"
    }

    async fn heads(&self, _: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        let until = 1 + self.pushed.load(Ordering::SeqCst) as u64 % 2;
        let wants = vec![wire::Want { feed: Some(feed(DIRECTORY).to_wire()), after: 0, until }];
        Ok(wire::HeadsResponse { log_id: vec![1], position: 1, wants, ..Default::default() })
    }

    async fn read(&self, _: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        Ok(wire::ReadResponse::default())
    }

    async fn push(&self, request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        assert!(request.again);
        self.pushed.fetch_add(1, Ordering::SeqCst);
        let refusal = wire::Refusal { code: RefusalCode::Busy.into(), ..Default::default() };
        Ok(wire::PushResponse { refusal: (!self.takes).then_some(refusal), ..Default::default() })
    }

    async fn stat_media(&self, _: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        Ok(wire::StatMediaResponse::default())
    }

    async fn read_media(&self, _: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        Ok(wire::ReadMediaResponse::default())
    }

    async fn write_media(&self, _: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        Ok(wire::StatMediaResponse::default())
    }
}

/// How often it is recorded that the directory went back, after a peer wanted it six times.
async fn recorded_of(takes: bool) -> Option<u64> {
    let gateway = Node::open("NDXP");
    found(&gateway).await;
    let h24 = Node::open("H24");
    h24.copy_with(Arc::new(MemoryPeer::new("gateway", service(&gateway, Receipts::Issue), code("H24"))), &["H24"]);
    h24.holds(DIRECTORY, 2).await;
    let pushed = Arc::new(AtomicUsize::new(0));
    h24.copy_with(Arc::new(Wanting { takes, pushed: Arc::clone(&pushed) }), &["H24"]);
    until("it is wanted again and again", || pushed.load(Ordering::SeqCst) >= 6).await;
    h24.log.stream_version(&h24.code, &format!("went-back/{DIRECTORY}")).expect("reads")
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_feed_went_back_is_recorded_once_whatever_a_peer_wants() {
    assert_eq!(recorded_of(true).await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_peer_wants_and_does_not_take_nothing_is_recorded() {
    assert_eq!(recorded_of(false).await, None);
}
