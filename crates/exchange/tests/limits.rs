//! What members may ask of a gateway, over real gRPC with mutual TLS.

mod common;

use std::sync::Arc;

use common::tls::{Authority, identify};
use common::*;
use httt_exchange::grpc::{GrpcPeer, serve};
use httt_exchange::quota::{CallRates, Class, Rate};
use httt_exchange::*;
use httt_feed::*;
use httt_log::Transaction;
use httt_wire::exchange::{self as wire, RefusalCode};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

struct World {
    gateway: Node,
    service: Arc<Service>,
    authority: Authority,
    address: String,
}

impl World {
    async fn new(limits: Limits) -> Self {
        let (gateway, _) = gateway().await;
        let service = Arc::new(plain_service(&gateway, Receipts::Issue).with_limits(limits));
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("address").to_string();
        let (identity, serving) = (authority.identity("NDXP"), Arc::clone(&service));
        tokio::spawn(async move { serve(listener, &identity, serving, identify, std::future::pending()).await });
        Self { gateway, service, authority, address }
    }

    fn peer(&self, member: &str) -> Arc<GrpcPeer> {
        self.peer_at(member, &self.address)
    }

    fn peer_at(&self, member: &str, address: &str) -> Arc<GrpcPeer> {
        let address = format!("https://{address}");
        Arc::new(GrpcPeer::new(&address, "localhost", &self.authority.identity(member)).expect("peer"))
    }

    fn in_use(&self, class: Class) -> Use {
        let all = self.service.limiter().in_use();
        all.into_iter().find(|(one, _)| *one == class).expect("class").1
    }
}

fn push_of(batch: &VerifiedBatch) -> wire::PushRequest {
    let entries = vec![batch.bytes().clone()];
    wire::PushRequest { feed: Some(batch.feed().to_wire()), entries, ..Default::default() }
}

fn read_of(feed: &str) -> wire::ReadRequest {
    let feed: FeedId = feed.parse().expect("feed");
    wire::ReadRequest { feed: Some(feed.to_wire()), max_bytes: MAX_CALL_BYTES as u32, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn emergencies_pass_while_bulk_is_at_its_limit() {
    let rates = CallRates { calls: Rate::per_minute(100), bytes: Rate::UNLIMITED };
    let world = World::new(Limits { rates, ..Limits::default() }).await;
    let bulk = batches("H24", "H24→TW/status", 1, 100).remove(0);
    let (stop, mut flood) = (watch::Sender::new(false), JoinSet::new());
    for _ in 0..8 {
        let (peer, request, stop) = (world.peer("H24"), push_of(&bulk), stop.subscribe());
        flood.spawn(async move {
            let mut refused = Vec::new();
            while !*stop.borrow() {
                let answer = peer.push(request.clone()).await.expect("answers");
                refused.extend(answer.refusal.map(|refusal| (refusal_from_wire(&refusal), refusal.retry_after_ms)));
            }
            refused
        });
    }
    until(|| world.in_use(Class::Bulk).over_rate > 0).await;
    for (member, feed) in [("H24", "H24→TW/emergency"), ("TW", "TW→*/emergency")] {
        let peer = world.peer(member);
        for batch in batches(member, feed, 20, 100) {
            let answer = peer.push(push_of(&batch)).await.expect("answers");
            assert_eq!((answer.refusal, answer.receipts.len()), (None, 1), "{feed}");
        }
    }
    let answer = world.peer("H55").read(read_of("TW→*/emergency")).await.expect("answers");
    assert_eq!((answer.refusal, answer.entries.len()), (None, 20));
    stop.send_replace(true);
    let refused = flood.join_all().await.concat();
    // A minute's worth at once, and what a minute's hundred fills in: one in 600 ms.
    assert!(refused.iter().all(|(code, retry_ms)| *code == RefusalCode::Busy && (1..=600).contains(retry_ms)));
    assert_eq!(world.in_use(Class::Urgent).over_rate, 0);
}

/// Passes bytes through, until it is told not to pass on what the server says.
async fn proxy(to: String, open: watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("address").to_string();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(&to).await.expect("connects");
            let ((mut near_in, mut near_out), (far_in, mut far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
            let mut open = open.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 16 * 1024];
                while open.wait_for(|open| *open).await.is_ok() && far_in.readable().await.is_ok() {
                    match far_in.try_read(&mut bytes) {
                        Ok(0) => return,
                        Ok(count) if near_out.write_all(&bytes[..count]).await.is_err() => return,
                        _ => {}
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_take_its_answers_holds_bounded_memory_and_nobody_up() {
    let member_bytes = 3 * MAX_CALL_BYTES;
    let world = World::new(Limits { member_bytes, ..Limits::default() }).await;
    world.gateway.log.commit(Transaction::copy(batches("TW", "TW→*/content", 60, 30_000))).await.expect("takes");
    let open = watch::Sender::new(true);
    let slow = world.peer_at("H24", &proxy(world.address.clone(), open.subscribe()).await);
    slow.read(read_of("TW→*/report")).await.expect("connects");
    open.send_replace(false);
    // The reader's windows and the system's buffers take the first answers away; those after them are held.
    let mut answers = JoinSet::new();
    while world.in_use(Class::Bulk).no_place < 20 {
        let slow = Arc::clone(&slow);
        answers.spawn(async move { slow.read(read_of("TW→*/content")).await });
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        let held = world.in_use(Class::Bulk);
        assert!(held.calls <= 3 && held.bytes <= member_bytes, "{held:?}");
    }
    assert!(world.in_use(Class::Bulk).bytes >= MAX_CALL_BYTES, "nothing is held");
    // Others read on, and so does the same member on another connection, of what is urgent.
    let other = world.peer("H55").read(read_of("TW→*/content")).await.expect("answers");
    assert!(other.refusal.is_none() && !other.entries.is_empty());
    let urgent = world.peer("H24").read(read_of("NDXP→*/directory")).await.expect("answers");
    assert!(urgent.refusal.is_none() && !urgent.entries.is_empty());
    open.send_replace(true);
    let answers: Vec<_> = answers.join_all().await.into_iter().map(|answer| answer.expect("arrives")).collect();
    let (given, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.refusal.is_none());
    assert!(given.iter().all(|answer| !answer.entries.is_empty()));
    assert!(refused.iter().all(|answer| answer.refusal.as_ref().map(refusal_from_wire) == Some(RefusalCode::Busy)));
    assert_eq!(refused.len() as u64, world.in_use(Class::Bulk).no_place);
    until(|| world.in_use(Class::Bulk).bytes == 0 && world.in_use(Class::Bulk).calls == 0).await;
}

/// A push of one entry that packs to next to nothing.
fn bomb(bytes: usize) -> (wire::PushRequest, usize) {
    let entries = wire::Entries { entries: vec![vec![0; bytes].into()] };
    let OnTheWire { packed, .. } = pack(Lane::Status, entries.entries);
    let feed: FeedId = "H24→TW/status".parse().expect("feed");
    let request = wire::PushRequest { feed: Some(feed.to_wire()), packed, ..Default::default() };
    let size = httt_wire::Message::encoded_len(&request);
    assert!(size < bytes / 1_000, "{size}");
    (request, size)
}

#[tokio::test]
async fn what_unpacks_into_much_costs_its_sender_what_it_unpacks_into() {
    let rates = CallRates { calls: Rate::UNLIMITED, bytes: Rate::per_minute(4 * 1024 * 1024) };
    let (gateway, _) = gateway().await;
    let service = plain_service(&gateway, Receipts::Issue).with_limits(Limits { rates, ..Limits::default() });
    let (request, size) = bomb(MAX_CALL_BYTES);
    let mut let_in = 0;
    loop {
        let answer = service.push(&code("H24"), request.clone()).await;
        if answer.refusal.as_ref().map(refusal_from_wire) == Some(RefusalCode::Busy) {
            break;
        }
        let_in += 1;
        assert!(let_in * size < MAX_CALL_BYTES, "thousands of megabytes for {size} bytes each");
    }
    // A minute's worth, and what the minute's share of the time that this takes fills in.
    assert!((4..20).contains(&let_in), "{let_in}");
    assert_eq!(service.limiter().in_use().iter().map(|(_, used)| used.bytes).sum::<usize>(), 0, "nothing stays held");
}

#[tokio::test]
async fn a_frame_that_does_not_unpack_costs_as_much_as_the_largest_that_does() {
    let rates = CallRates { calls: Rate::UNLIMITED, bytes: Rate::per_minute(4 * 1024 * 1024) };
    let (gateway, _) = gateway().await;
    let service = plain_service(&gateway, Receipts::Issue).with_limits(Limits { rates, ..Limits::default() });
    let feed: FeedId = "H24→TW/status".parse().expect("feed");
    let packed = bytes::Bytes::from_static(b"no frame at all");
    let request = wire::PushRequest { feed: Some(feed.to_wire()), packed, ..Default::default() };
    let mut answers = Vec::new();
    for _ in 0..20 {
        let answer = service.push(&code("H24"), request.clone()).await;
        answers.extend(answer.refusal.as_ref().map(refusal_from_wire));
    }
    assert_eq!(answers[0], RefusalCode::Malformed);
    assert!(answers.contains(&RefusalCode::Busy), "{answers:?}");
}

#[tokio::test]
async fn media_of_an_emergency_are_urgent_calls() {
    let (gateway, _) = gateway().await;
    let service = plain_service(&gateway, Receipts::Issue);
    let (member, data) = (code("H24"), bytes::Bytes::from_static(b"a siren"));
    let (sha256, size) = (Digest::of(&data).0.to_vec(), data.len() as u64);
    let write = wire::WriteMediaRequest { sha256: sha256.clone(), size, offset: 0, data, urgent: false };
    assert!(service.write_media(&member, write).await.complete);
    for (urgent, class) in [(false, Class::Bulk), (true, Class::Urgent)] {
        let request = wire::ReadMediaRequest { sha256: sha256.clone(), offset: 0, max_bytes: 100, urgent };
        let (_, held) = service.read_media_held(&member, request).await;
        assert!(held.is_some(), "it counts until the answer was taken");
        let under_way = service.limiter().in_use().into_iter().filter(|(_, used)| used.calls > 0);
        assert_eq!(under_way.map(|(class, _)| class).collect::<Vec<_>>(), [class]);
    }
}
