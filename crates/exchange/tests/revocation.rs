//! A revoked key, seen from each place a batch passes: what was receipted before stays, what comes after is refused,
//! whatever time it claims.

mod common;

use std::sync::Arc;

use common::*;
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::*;
use httt_log::{NewEvent, Transaction};
use httt_wire::directory as pb;
use httt_wire::exchange::{self as wire, RefusalCode};
use httt_wire::feed as feed_pb;

const REPORT: &str = "H55→TW/report";

fn seal(head: Option<&Head>, mark: u8, sealed_at_ms: i64) -> VerifiedBatch {
    let event = feed_pb::Event {
        id: vec![mark; 16],
        stream: "s".into(),
        version: u64::from(mark),
        r#type: "test.v1.Said".into(),
        ..Default::default()
    };
    let feed: FeedId = REPORT.parse().expect("feed");
    Sealer::new(code("H55"), key("H55")).seal(&feed, head, sealed_at_ms, vec![event]).expect("seals")
}

async fn push(service: &Service, caller: &str, batch: &VerifiedBatch) -> Result<usize, RefusalCode> {
    let (feed, entries) = (Some(batch.feed().to_wire()), vec![batch.bytes().clone()]);
    let answer = service.push(&code(caller), wire::PushRequest { feed, entries, ..Default::default() }).await;
    match answer.refusal {
        None => Ok(answer.receipts.len()),
        Some(refusal) => Err(refusal_from_wire(&refusal)),
    }
}

/// The gateway's operator revokes the province's key, by way of the gate.
async fn revoke(service: &Service) -> u64 {
    let mut last = 0;
    let revised: Result<(), StoreError> = service
        .revise(|_, heads| {
            last = heads.iter().find(|head| head.feed.to_string() == REPORT).map_or(0, |head| head.head.sequence);
            let revoked = pb::KeyRevoked {
                member: "H55".into(),
                fingerprint: key("H55").public().fingerprint().0.to_vec(),
                reason: "mất khoá".into(),
                last_accepted: vec![pb::LastAccepted {
                    audience: "TW".into(),
                    lane: Lane::Report.to_wire(),
                    sequence: last,
                }],
            };
            Ok(vec![NewEvent::of(Audience::All, Lane::Directory, "member/H55", &revoked)])
        })
        .await;
    revised.expect("revoked");
    last
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_receipted_before_the_revocation_stays_and_the_next_one_is_refused_everywhere() {
    let (gateway, service) = gateway().await;
    let (tw, adapter) = (Node::open("TW"), Node::open("H55.LGSP"));
    let first = seal(None, 1, 1_000);
    assert_eq!(push(&service, "H55", &first).await, Ok(1));
    assert_eq!(revoke(&service).await, 1);

    // Sealed long before the revocation, so it says: that is the signer's word, and counts for nothing.
    let second = seal(Some(&first.head()), 2, 1);
    assert_eq!(push(&service, "H55", &second).await, Err(RefusalCode::RevokedKey));
    assert_eq!(push(&service, "H55", &first).await, Ok(1), "a duplicate gets its receipt");

    // The adapter copies the directory and judges alike.
    adapter.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("H55.LGSP"))), &["H55"]);
    adapter.holds("NDXP→*/directory", 3).await;
    adapter.holds(REPORT, 1).await;
    let platform = common::service(&adapter, Receipts::None);
    assert_eq!(push(&platform, "H55", &second).await, Err(RefusalCode::RevokedKey));

    // A gateway that took it all the same is found out by the reader.
    tw.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("TW"))), &["TW"]);
    tw.holds(REPORT, 1).await;
    gateway.log.commit(Transaction::copy(vec![second])).await.expect("a log looks at the chain alone");
    let mut length = tw.log.watch();
    let seen = async {
        loop {
            let local = tw.log.read_feed(&FeedId::local(&tw.code), 0, MAX_CALL_BYTES).expect("reads");
            let events = local.iter().flat_map(|entry| entry.batch.events.iter());
            let mut tampering = events.filter(|event| event.stream == format!("tampering/{REPORT}"));
            if let Some(event) = tampering.next() {
                return event.data.clone();
            }
            length.changed().await.expect("log open");
        }
    };
    let seen = tokio::time::timeout(std::time::Duration::from_secs(30), seen).await.expect("noticed");
    let seen: pb::TamperingSeen = httt_wire::Message::decode(seen).expect("message");
    assert!(seen.refusal.contains("was revoked before sequence 2"), "{}", seen.refusal);
    assert_eq!(tw.log.head(&REPORT.parse().expect("feed")).expect("held").sequence, 1);
}

/// Revoking and pushing at once: whatever the revocation names as accepted is what the gateway holds for ever.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_slips_in_between_a_revocation_and_what_it_names() {
    for _ in 0..20 {
        let (gateway, service) = gateway().await;
        let pushing = {
            let service = Arc::clone(&service);
            tokio::spawn(async move {
                let mut head = None;
                for mark in 1..=50 {
                    let batch = seal(head.as_ref(), mark, 0);
                    head = Some(batch.head());
                    if push(&service, "H55", &batch).await.is_err() {
                        break;
                    }
                }
            })
        };
        tokio::task::yield_now().await;
        let named = revoke(&service).await;
        pushing.await.expect("pushes");
        let held = gateway.log.head(&REPORT.parse().expect("feed")).map_or(0, |head| head.sequence);
        assert_eq!(held, named);
    }
}

/// On the way through a platform there is no certificate: what its token still opens is refused call by call.
#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_members_waiting_call_at_an_adapter_ends_with_the_refusal() {
    let (_gateway, service) = gateway().await;
    let adapter = Node::open("H55.LGSP");
    adapter.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("H55.LGSP"))), &["H55"]);
    adapter.holds("NDXP→*/directory", 2).await;
    let platform = common::service(&adapter, Receipts::None);
    let now = platform.heads(&code("H55"), wire::HeadsRequest::default()).await;
    assert_eq!(now.refusal, None);
    let request =
        wire::HeadsRequest { after: now.position, log_id: now.log_id, wait_ms: MAX_WAIT_MS, ..Default::default() };
    let waiting = {
        let platform = Arc::clone(&platform);
        tokio::spawn(async move { platform.heads(&code("H55"), request).await })
    };
    let suspended = pb::MemberSuspended { member: "H55".into(), reason: "vi phạm".into() };
    let event = NewEvent::of(Audience::All, Lane::Directory, "member/H55", &suspended);
    let told: Result<(), StoreError> = service.revise(|_, _| Ok(vec![event])).await;
    told.expect("told");
    let refusal = waiting.await.expect("joins").refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::Suspended);
    assert_eq!(push(&platform, "H55", &seal(None, 1, 0)).await, Err(RefusalCode::Suspended));
    let media = platform.stat_media(&code("H55"), wire::StatMediaRequest { sha256: vec![0; 32], urgent: false }).await;
    assert_eq!(media.refusal.map(|refusal| refusal_from_wire(&refusal)), Some(RefusalCode::Suspended));
}

/// Every process on the way judges by the same directory: gateway, adapter and reader take what was admitted, and that
/// alone; a carrier that has not heard of it yet accuses nobody.
#[tokio::test(flavor = "multi_thread")]
async fn an_admitted_batch_passes_every_place_and_another_one_in_its_stead_does_not() {
    let (_gateway, service) = gateway().await;
    let (tw, adapter) = (Node::open("TW"), Node::open("H55.LGSP"));
    let first = seal(None, 1, 1_000);
    assert_eq!(push(&service, "H55", &first).await, Ok(1));
    revoke(&service).await;
    adapter.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("H55.LGSP"))), &["H55"]);
    adapter.holds("NDXP→*/directory", 3).await;
    adapter.holds(REPORT, 1).await;
    let platform = common::service(&adapter, Receipts::None);
    let (owners, thiefs) = (seal(Some(&first.head()), 2, 0), seal(Some(&first.head()), 3, 0));
    assert_eq!(push(&platform, "H55", &owners).await, Err(RefusalCode::RevokedKey));
    let local = adapter.log.read_feed(&FeedId::local(&adapter.code), 0, MAX_CALL_BYTES).expect("reads");
    let mut events = local.iter().flat_map(|entry| entry.batch.events.iter());
    assert!(events.all(|event| !event.stream.starts_with("tampering/")), "the gateway may know better");

    let admitted = pb::BatchesAdmitted {
        member: "H55".into(),
        audience: "TW".into(),
        lane: Lane::Report.to_wire(),
        first_sequence: 2,
        digests: vec![owners.digest().0.to_vec()],
        reason: "người giữ khoá mang đến".into(),
    };
    let event = NewEvent::of(Audience::All, Lane::Directory, "member/H55", &admitted);
    let told: Result<(), StoreError> = service.revise(|_, _| Ok(vec![event])).await;
    told.expect("told");
    adapter.holds("NDXP→*/directory", 4).await;
    for place in [&service, &platform] {
        assert_eq!(push(place, "H55", &thiefs).await, Err(RefusalCode::RevokedKey));
    }
    assert_eq!(push(&platform, "H55", &owners).await, Ok(0), "a carrier gives no receipt");
    tw.copy_with(Arc::new(MemoryPeer::new("gateway", Arc::clone(&service), code("TW"))), &["TW"]);
    tw.holds(REPORT, 2).await;
    assert_eq!(tw.log.head(&REPORT.parse().expect("feed")), Some(owners.head()));
}
