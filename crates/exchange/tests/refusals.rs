//! Each wrong push is refused with its own error, over real gRPC with mutual TLS, and changes no feed: all that the
//! gateway adds is its own record of what cannot be right.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use common::tls::{Authority, identify};
use common::*;
use httt_exchange::grpc::{GrpcPeer, TlsIdentity, serve};
use httt_exchange::*;
use httt_feed::*;
use httt_wire::directory::{TamperingCounted, TamperingSeen};
use httt_wire::exchange::{self as wire, RefusalCode};
use httt_wire::{Message as _, Name as _, feed as feed_pb};
use tokio::net::TcpListener;

struct World {
    gateway: Node,
    authority: Authority,
    address: String,
}

impl World {
    async fn new() -> Self {
        let (gateway, service) = gateway().await;
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = format!("https://{}", listener.local_addr().expect("address"));
        let identity = authority.identity("NDXP");
        tokio::spawn(async move { serve(listener, &identity, service, identify, std::future::pending()).await });
        Self { gateway, authority, address }
    }

    fn peer(&self, member: &str) -> GrpcPeer {
        GrpcPeer::new(&self.address, "localhost", &self.authority.identity(member)).expect("peer")
    }

    /// Heads of everything but the gateway's own records.
    fn carried(&self) -> Vec<(FeedId, Head)> {
        let heads = self.gateway.log.heads().into_iter().filter(|head| head.feed.lane != Lane::Local);
        heads.map(|head| (head.feed, head.head)).collect()
    }

    /// What the gateway recorded.
    fn recorded(&self) -> Vec<TamperingSeen> {
        let local = FeedId::local(&self.gateway.code);
        let entries = self.gateway.log.read_feed(&local, 0, 1 << 20).expect("reads");
        let events = entries.iter().flat_map(|entry| entry.batch.events.clone());
        let seen = events.filter(|event| event.r#type == TamperingSeen::full_name());
        seen.map(|event| TamperingSeen::decode(event.data).expect("decodes")).collect()
    }

    /// Pushes as `member`, says what was answered, and that no feed grew unless it should.
    async fn push(&self, member: &str, feed: &FeedId, entries: Vec<Bytes>) -> Result<wire::PushResponse, RefusalCode> {
        let before = self.carried();
        let request = wire::PushRequest { feed: Some(feed.to_wire()), entries, ..Default::default() };
        let answer = self.peer(member).push(request).await.expect("answers");
        match &answer.refusal {
            None => Ok(answer),
            Some(refusal) => {
                assert_eq!(before, self.carried(), "a feed changed");
                assert!(!refusal.message.is_empty());
                Err(refusal_from_wire(refusal))
            }
        }
    }
}

fn feed(text: &str) -> FeedId {
    text.parse().expect("feed")
}

fn seal(signed_by: &str, feed: &FeedId, head: Option<&Head>, mark: u8) -> VerifiedBatch {
    let event = feed_pb::Event {
        id: vec![mark; 16],
        stream: "s".into(),
        version: u64::from(mark),
        r#type: "test.v1.Said".into(),
        ..Default::default()
    };
    Sealer::new(feed.origin.clone(), key(signed_by)).seal(feed, head, 0, vec![event]).expect("seals")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_push_has_its_own_refusal_and_changes_nothing() {
    let world = World::new().await;
    let report = feed("H24→TW/report");
    let first = seal("H24", &report, None, 1);
    let second = seal("H24", &report, Some(&first.head()), 2);
    let third = seal("H24", &report, Some(&second.head()), 3);

    let accepted = world.push("H24", &report, vec![first.bytes().clone()]).await.expect("accepted");
    assert_eq!(accepted.receipts.len(), 1);

    let wrong_key = seal("H55", &report, Some(&first.head()), 2);
    assert_eq!(world.push("H24", &report, vec![wrong_key.bytes().clone()]).await, Err(RefusalCode::UnknownKey));
    assert_eq!(world.push("H24", &report, vec![third.bytes().clone()]).await, Err(RefusalCode::Gap));
    let mut altered = second.bytes().to_vec();
    let middle = second.bytes().windows(4).position(|window| window == [2; 4]).expect("the event id");
    altered[middle] ^= 1;
    assert_eq!(world.push("H24", &report, vec![altered.into()]).await, Err(RefusalCode::BadSignature));
    assert_eq!(world.push("H55", &report, vec![second.bytes().clone()]).await, Err(RefusalCode::WrongMember));
    assert_eq!(world.push("X9", &report, vec![second.bytes().clone()]).await, Err(RefusalCode::NotAMember));
    let oversized = Bytes::from(vec![0; MAX_SEALED_BYTES + 1]);
    assert_eq!(world.push("H24", &report, vec![oversized]).await, Err(RefusalCode::TooLarge));
    assert_eq!(world.push("H24", &report, vec![Bytes::from_static(b"no batch")]).await, Err(RefusalCode::Malformed));
    let everybody = feed("H24→*/content");
    let loud = seal("H24", &everybody, None, 1);
    assert_eq!(world.push("H24", &everybody, vec![loud.bytes().clone()]).await, Err(RefusalCode::NoRight));

    // After all that the right one is taken, and told again it gets its first receipt.
    let taken = world.push("H24", &report, vec![second.bytes().clone()]).await.expect("accepted");
    let length = world.gateway.log.len();
    let again = world.push("H24", &report, vec![second.bytes().clone()]).await.expect("a duplicate is success");
    assert_eq!(again.receipts, taken.receipts);
    assert_eq!(world.gateway.log.len(), length);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_push_is_on_record_once_and_an_honest_mistake_is_not() {
    let world = World::new().await;
    let report = feed("H24→TW/report");
    let first = seal("H24", &report, None, 1);
    let mut altered = first.bytes().to_vec();
    let middle = first.bytes().windows(4).position(|window| window == [1; 4]).expect("the event id");
    altered[middle] ^= 2;
    let altered = Bytes::from(altered);
    for _ in 0..3 {
        assert_eq!(world.push("H24", &report, vec![altered.clone()]).await, Err(RefusalCode::BadSignature));
    }
    let recorded = world.recorded();
    assert_eq!(recorded.len(), 1);
    assert_eq!((recorded[0].peer.as_str(), recorded[0].feed.as_str()), ("H24", "H24→TW/report"));
    assert_eq!(recorded[0].sha256, Digest::of(&altered).0);
    let second = seal("H24", &report, Some(&first.head()), 2);
    assert_eq!(world.push("H24", &report, vec![second.bytes().clone()]).await, Err(RefusalCode::Gap));
    assert_eq!(world.recorded().len(), 1);
}

/// The counts told in a log, and how many records there are.
fn told(log: &httt_log::Log, code: &AgencyCode) -> (Vec<TamperingCounted>, usize) {
    let entries = log.read_feed(&FeedId::local(code), 0, 16 << 20).expect("reads");
    let events: Vec<_> = entries.iter().flat_map(|entry| entry.batch.events.clone()).collect();
    let counts = events.iter().filter(|event| event.r#type == TamperingCounted::full_name());
    let counts = counts.map(|event| TamperingCounted::decode(event.data.clone()).expect("decodes")).collect();
    (counts, events.iter().filter(|event| event.r#type == TamperingSeen::full_name()).count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_so_many_records_a_day_and_a_count_of_the_rest_when_the_gateway_stops() {
    let (gateway, _) = gateway().await;
    let tally = Tally::default();
    let service = plain_service(&gateway, Receipts::Issue).with_tally(tally.clone());
    let report = feed("H24→TW/report");
    let rubbish = |number: usize| wire::PushRequest {
        feed: Some(report.to_wire()),
        entries: vec![format!("rubbish {number}").into()],
        ..Default::default()
    };
    for number in 0..MAX_RECORDS_A_DAY + 50 {
        let refusal = service.push(&code("H24"), rubbish(number)).await.refusal.expect("refused");
        assert_eq!(refusal_from_wire(&refusal), RefusalCode::Malformed);
    }
    assert_eq!(told(&gateway.log, &gateway.code), (vec![], MAX_RECORDS_A_DAY));
    let (peer, kept) = ("H24".to_owned(), MAX_RECORDS_A_DAY as u64);
    assert_eq!(tally.suspects(), [Suspect { peer, kept, counted: 50 }]);
    gateway.stop.send_replace(true);
    until(|| !told(&gateway.log, &gateway.code).0.is_empty()).await;
    let (counts, records) = told(&gateway.log, &gateway.code);
    assert_eq!((counts.len(), counts[0].peer.as_str(), counts[0].more, records), (1, "H24", 50, MAX_RECORDS_A_DAY));
    // What still comes then is told at once.
    service.push(&code("H24"), rubbish(10_000)).await;
    assert_eq!(told(&gateway.log, &gateway.code).0.len(), 2);
}

/// A carrier that gives other rubbish whenever it is asked.
struct Rubbish(AtomicU64);

impl Peer for Rubbish {
    fn name(&self) -> &str {
        "https://carrier.example.vn"
    }
    async fn heads(&self, request: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        if request.wait_ms > 0 {
            std::future::pending::<()>().await;
        }
        let feeds = (10..50).map(|number| feed(&format!("H{number}→H99/report")));
        let heads = feeds.map(|feed| wire::Head { feed: Some(feed.to_wire()), sequence: 1, digest: vec![1; 32] });
        Ok(wire::HeadsResponse { log_id: vec![1], position: 1, heads: heads.collect(), ..Default::default() })
    }
    async fn read(&self, _request: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        let number = self.0.fetch_add(1, Ordering::Relaxed);
        Ok(wire::ReadResponse { entries: vec![format!("rubbish {number}").into()], head: 1, ..Default::default() })
    }
    async fn push(&self, _request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        Ok(wire::PushResponse::default())
    }
    async fn stat_media(&self, _request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        Ok(wire::StatMediaResponse::default())
    }
    async fn read_media(&self, _request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        Ok(wire::ReadMediaResponse::default())
    }
    async fn write_media(&self, _request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        Ok(wire::StatMediaResponse::default())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_carrier_does_not_fill_a_members_log_and_is_counted() {
    let member = Node::open("H99");
    let options = RunnerOptions {
        pushes_for: Arc::new(|_| vec![code("H99")]),
        settings: Settings { refusal_pause_ms: 1, ..Settings::default() },
        span_of: Arc::new(|_| tracing::Span::none()),
        stopped: StoppedFeeds::default(),
        meter: Meter::default(),
        tally: Tally::default(),
        bandwidth: None,
    };
    let (tally, peer, link) =
        (options.tally.clone(), Arc::new(Rubbish(AtomicU64::new(0))), httt_exchange::Link::default());
    let running =
        tokio::spawn(run(member.log.clone(), member.directory.clone(), peer, link, options, member.stop.subscribe()));
    until(|| tally.suspects().iter().any(|suspect| suspect.counted >= 50)).await;
    member.stop.send_replace(true);
    running.await.expect("ends");
    until(|| told(&member.log, &member.code).1 == MAX_RECORDS_A_DAY).await;
    let (counts, _) = told(&member.log, &member.code);
    assert_eq!(counts.iter().map(|count| count.more).sum::<u64>(), tally.suspects()[0].counted);
    assert_eq!(counts[0].peer, "https://carrier.example.vn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_keeps_both_batches_and_stops_the_feed() {
    let world = World::new().await;
    let report = feed("H24→TW/report");
    let first = seal("H24", &report, None, 1);
    let other = seal("H24", &report, None, 2);
    world.push("H24", &report, vec![first.bytes().clone()]).await.expect("accepted");
    let request =
        wire::PushRequest { feed: Some(report.to_wire()), entries: vec![other.bytes().clone()], ..Default::default() };
    let refusal = world.peer("H24").push(request).await.expect("answers").refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Fork);
    let local = FeedId::local(&world.gateway.code);
    let evidence = world.gateway.log.read_feed(&local, 0, 1).expect("reads").remove(0);
    assert!(evidence.batch.events[0].data.windows(other.bytes().len()).any(|window| window == other.bytes()));
    // Even what would follow is refused from now on.
    let second = seal("H24", &report, Some(&first.head()), 3);
    assert_eq!(world.push("H24", &report, vec![second.bytes().clone()]).await, Err(RefusalCode::Fork));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_another_history_is_a_fork_as_well() {
    let world = World::new().await;
    let report = feed("H24→TW/report");
    let first = seal("H24", &report, None, 1);
    let other = seal("H24", &report, None, 2);
    world.push("H24", &report, vec![first.bytes().clone()]).await.expect("accepted");
    let second = seal("H24", &report, Some(&other.head()), 3);
    let request =
        wire::PushRequest { feed: Some(report.to_wire()), entries: vec![second.bytes().clone()], ..Default::default() };
    let refusal = world.peer("H24").push(request).await.expect("answers").refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::BrokenChain);
    let honest = seal("H24", &report, Some(&first.head()), 4);
    assert_eq!(world.push("H24", &report, vec![honest.bytes().clone()]).await, Err(RefusalCode::Fork));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_a_right_and_a_certificate_of_the_authority() {
    let world = World::new().await;
    let report = feed("H24→TW/report");
    world.push("H24", &report, vec![seal("H24", &report, None, 1).bytes().clone()]).await.expect("accepted");
    let read = |member: &'static str| {
        let peer = world.peer(member);
        let request = wire::ReadRequest { feed: Some(report.to_wire()), after: 0, max_bytes: 1, ..Default::default() };
        async move { peer.read(request).await.expect("answers") }
    };
    assert_eq!(read("TW").await.entries.len(), 1);
    assert_eq!(read("H24").await.entries.len(), 1);
    let refusal = read("H55").await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::NoRight);
    let heads = world.peer("H55").heads(wire::HeadsRequest::default()).await.expect("answers").heads;
    assert!(heads.iter().all(|head| head.feed != Some(report.to_wire())), "a head it may not read is not even shown");

    let stranger = TlsIdentity { ca: world.authority.pem.clone(), ..Authority::new().identity("H24") };
    let peer = GrpcPeer::new(&world.address, "localhost", &stranger).expect("peer");
    assert!(peer.heads(wire::HeadsRequest::default()).await.is_err(), "another authority's certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_copy_over_grpc() {
    let world = World::new().await;
    let (tw, h24) = (Node::open("TW"), Node::open("H24"));
    tw.copy_with(Arc::new(world.peer("TW")), &["TW"]);
    h24.copy_with(Arc::new(world.peer("H24")), &["H24"]);
    tw.say("*", Lane::Emergency, "b1").await;
    h24.holds("TW→*/emergency", 1).await;
    h24.say("TW", Lane::Emergency, "d1").await;
    tw.holds("H24→TW/emergency", 1).await;
}
