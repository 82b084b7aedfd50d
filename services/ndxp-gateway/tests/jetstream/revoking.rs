//! Keys are revoked by one process while another one is in the middle of taking what they signed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use httt_exchange::{StoreError, refusal_from_wire};
use httt_feed::{AgencyCode, Audience, Digest, Lane, Sealer, VerifiedBatch};
use httt_log::{FeedHead, NewEvent};
use httt_ndxp_gateway::jetstream::Settings;
use httt_wire::directory as pb;
use httt_wire::exchange::{PushResponse, RefusalCode};

use crate::exchange::{Gateway, batches, code, event, feed, key, seldom};
use crate::nats::{NatsServer, until};
use crate::proxy::Proxy;

const REPORT: &str = "H24→TW/report";
const RECEIPTS: &str = "httt.NDXP.H24.report";

/// No look gives receipts that a test holds back, and nobody gives a revocation up that a slow machine is still making.
fn patient() -> Settings {
    Settings { fence_patience: Duration::from_secs(60), ..seldom() }
}

/// What was begun and is not made is given up soon.
fn hasty() -> Settings {
    Settings { fence_patience: Duration::from_millis(300), ..seldom() }
}

/// What of a member's feeds was received, by these heads.
fn received(heads: &[FeedHead], member: &str) -> Vec<pb::LastAccepted> {
    let own = heads.iter().filter(|head| head.feed.origin.as_str() == member);
    own.map(|head| pb::LastAccepted {
        audience: head.feed.audience.to_string(),
        lane: head.feed.lane.to_wire(),
        sequence: head.head.sequence,
    })
    .collect()
}

/// Revokes a member's first key and gives it another one.
fn revocation(member: &str, last_accepted: Vec<pb::LastAccepted>) -> Vec<NewEvent> {
    let new = key(&format!("{member} new"));
    let added = pb::KeyAdded { member: member.into(), key: Some(new.public().to_wire()) };
    let revoked = pb::KeyRevoked {
        member: member.into(),
        fingerprint: key(member).public().fingerprint().0.to_vec(),
        reason: "mất khoá".into(),
        last_accepted,
    };
    let stream = format!("member/{member}");
    vec![
        NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &added),
        NewEvent::of(Audience::All, Lane::Directory, stream, &revoked),
    ]
}

fn of(member: &str) -> BTreeSet<AgencyCode> {
    BTreeSet::from([code(member)])
}

/// How many entries of the feed the streams hold.
async fn entries(server: &NatsServer) -> u64 {
    let stream = server.context().await.get_stream("httt-report").await.expect("stream");
    let mut subjects = stream.info_with_subjects("httt.H24.TW.report").await.expect("info");
    let mut count = 0;
    while let Some(subject) = futures_util::StreamExt::next(&mut subjects).await {
        count += subject.expect("subject").1 as u64;
    }
    count
}

/// Asks again until it is told for good.
async fn told(gateway: &Gateway, batches: &[VerifiedBatch]) -> PushResponse {
    until("a final answer", || async {
        let answer = gateway.push(batches).await;
        answer.refusal.as_ref().is_none_or(|refusal| refusal.retry_after_ms == 0).then_some(answer)
    })
    .await
}

/// What the member seals next with its new key, after `head`.
fn next(head: &VerifiedBatch) -> VerifiedBatch {
    let sealer = Sealer::new(code("H24"), key("H24 new"));
    sealer.seal(&feed(REPORT), Some(&head.head()), 0, vec![event(REPORT, head.sequence() + 1, "new")]).expect("seals")
}

/// Both processes hold the same, and every batch with a receipt is good by the directory.
async fn agree(gateways: [&Gateway; 2], said: &[VerifiedBatch]) {
    for gateway in gateways {
        gateway.has_head(REPORT, said.len() as u64).await;
        let read = gateway.read_all("TW", REPORT, said.len() as u64).await;
        assert_eq!(read, said.iter().map(|batch| batch.bytes().clone()).collect::<Vec<_>>());
        until("receipts", || async { (gateway.receipts("H24").len() == said.len()).then_some(()) }).await;
        let receipts = gateway.receipts("H24");
        for batch in said {
            assert_eq!(Digest::from_slice(&receipts[&batch.sequence()].digest), Some(batch.digest()));
            let parsed = httt_feed::parse(batch.bytes().clone()).expect("parses");
            gateway.directory.get().verify(parsed).expect("what was receipted is good");
        }
    }
    let head = |gateway: &Gateway| gateway.log.head(&feed("NDXP→H24/report"));
    until("the same words", || async { (head(gateways[0]) == head(gateways[1])).then_some(()) }).await;
}

/// The process that takes the batch stands still between the batch and its receipt; meanwhile all of the revocation is
/// said.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_and_not_receipted_before_a_revocation_is_refused_and_goes() {
    let (server, h24) = (NatsServer::start().await, of("H24"));
    let proxy = Proxy::before(&server).await;
    let one = Gateway::open(&[&server], patient()).await;
    let two = Arc::new(Gateway::open_through(&proxy, patient()).await);
    let said = batches(REPORT, 2, "a");
    assert_eq!(two.push(&said[..1]).await.refusal, None);
    one.has_head(REPORT, 1).await;

    proxy.hold(RECEIPTS);
    let pushing = tokio::spawn({
        let (two, second) = (Arc::clone(&two), said[1].clone());
        async move { two.push(&[second]).await }
    });
    until("it is about to be receipted", || async { (proxy.held() > 0).then_some(()) }).await;
    assert_eq!(entries(&server).await, 2, "it is published");
    let mut last = Vec::new();
    let revoked = one.service.revise_keys(&h24, |_, heads| {
        last = received(heads, "H24");
        Ok::<_, StoreError>(revocation("H24", last.clone()))
    });
    revoked.await.expect("revokes");
    assert_eq!(last.iter().map(|last| last.sequence).collect::<Vec<_>>(), [1], "what is not receipted was not taken");
    let read = httt_exchange::Store::read(&one.store, &feed(REPORT), 1, 1_000).await.expect("reads");
    assert!(read.is_empty(), "and is not given to readers");
    proxy.release();

    let answer = pushing.await.expect("answers");
    assert!(answer.receipts.is_empty(), "{answer:?}");
    let first = refusal_from_wire(&answer.refusal.expect("refused"));
    let refusal = told(&two, &said[1..]).await.refusal.expect("refused");
    assert_eq!(refusal_from_wire(&refusal), RefusalCode::RevokedKey);
    // Whose servers did not answer in time was not told why, and leaves it: readers take it for missing.
    if first == RefusalCode::RevokedKey {
        until("it goes", || async { (entries(&server).await == 1).then_some(()) }).await;
    }
    let new = next(&said[0]);
    assert_eq!(told(&two, std::slice::from_ref(&new)).await.refusal, None);
    agree([&one, &two], &[said[0].clone(), new]).await;
}

/// The process that revokes stands still between its look at what was received and the directory.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_between_the_look_and_the_directory_waits_and_is_judged_by_it() {
    let (server, h24) = (NatsServer::start().await, of("H24"));
    let one = Gateway::open(&[&server], patient()).await;
    let two = Arc::new(Gateway::open(&[&server], patient()).await);
    let said = batches(REPORT, 2, "a");
    assert_eq!(two.push(&said[..1]).await.refusal, None);
    one.has_head(REPORT, 1).await;
    let mut pushing = None;
    let revoked = one.service.revise_keys(&h24, |_, heads| {
        let last = received(heads, "H24");
        pushing = Some(begin(&server, &two, &said[1]));
        Ok::<_, StoreError>(revocation("H24", last))
    });
    revoked.await.expect("revokes");
    let answer = pushing.expect("begun").await.expect("answers");
    let refusal = answer.refusal.expect("refused");
    assert_eq!((refusal_from_wire(&refusal), answer.receipts.len()), (RefusalCode::RevokedKey, 0));
    let new = next(&said[0]);
    assert_eq!(told(&two, std::slice::from_ref(&new)).await.refusal, None);
    agree([&one, &two], &[said[0].clone(), new]).await;
}

/// As when a member retires a key and has said what is still on its way.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_and_is_named_by_the_revocation_gets_its_receipt() {
    let (server, h24) = (NatsServer::start().await, of("H24"));
    let one = Gateway::open(&[&server], patient()).await;
    let two = Arc::new(Gateway::open(&[&server], patient()).await);
    let said = batches(REPORT, 2, "a");
    assert_eq!(two.push(&said[..1]).await.refusal, None);
    one.has_head(REPORT, 1).await;
    let mut pushing = None;
    let revoked = one.service.revise_keys(&h24, |_, heads| {
        let mut last = received(heads, "H24");
        last.iter_mut().for_each(|last| last.sequence += 1);
        pushing = Some(begin(&server, &two, &said[1]));
        Ok::<_, StoreError>(revocation("H24", last))
    });
    revoked.await.expect("revokes");
    let answer = pushing.expect("begun").await.expect("answers");
    assert_eq!((answer.refusal, answer.receipts.len()), (None, 1));
    agree([&one, &two], &said).await;
}

/// The process that was about to revoke ends, or changes its mind: nobody waits for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_was_begun_and_is_not_made_keeps_nobody_waiting() {
    let (server, h24) = (NatsServer::start().await, of("H24"));
    let one = Gateway::open(&[&server], hasty()).await;
    let two = Arc::new(Gateway::open(&[&server], hasty()).await);
    let said = batches(REPORT, 2, "a");
    assert_eq!(two.push(&said[..1]).await.refusal, None);
    let ended = one.service.revise_keys(&h24, |_, _| Err(StoreError::Unavailable("it ends here".into())));
    ended.await.expect_err("ends");
    let answer = told(&two, &said[1..]).await;
    assert_eq!((answer.refusal, answer.receipts.len()), (None, 1));
    agree([&one, &two], &said).await;
    // And it can be made after all.
    let revoked =
        one.service.revise_keys(&h24, |_, heads| Ok::<_, StoreError>(revocation("H24", received(heads, "H24"))));
    revoked.await.expect("revokes");
    agree([&one, &two], &said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_not_revoked_where_others_were_not_kept_from_giving_receipts() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], patient()).await;
    let unguarded = gateway.service.revise(|_, _| Ok::<_, StoreError>(revocation("H24", vec![])));
    assert!(unguarded.await.expect_err("refused").to_string().contains("try again"));
}

/// The gateway's own key: a process that lacks the new one is about to seal with the old one when that is revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_the_gateways_new_key_says_nothing_more_and_nothing_forks() {
    let (server, ndxp) = (NatsServer::start().await, of("NDXP"));
    let proxy = Proxy::before(&server).await;
    let one = Gateway::open(&[&server], patient()).await;
    let two = Arc::new(Gateway::open_through(&proxy, patient()).await);
    let said = batches(REPORT, 3, "a");
    assert_eq!(two.push(&said[..1]).await.refusal, None);
    one.has_head(REPORT, 1).await;
    one.service.revise(|_, _| Ok::<_, StoreError>(vec![added_own()])).await.expect("adds");
    one.log.change_key(key("NDXP new"));

    proxy.hold(RECEIPTS);
    let pushing = tokio::spawn({
        let (two, second) = (Arc::clone(&two), said[1].clone());
        async move { two.push(&[second]).await }
    });
    until("it seals a receipt with the old key", || async { (proxy.held() > 0).then_some(()) }).await;
    let revoked = one.service.revise_keys(&ndxp, |_, heads| Ok::<_, StoreError>(vec![revoked_own(heads)]));
    revoked.await.expect("revokes");
    proxy.release();
    let answer = pushing.await.expect("answers");
    let refusal = answer.refusal.expect("it cannot give a receipt");
    assert_eq!((refusal_from_wire(&refusal), answer.receipts.len()), (RefusalCode::Unavailable, 0));
    until("it says why", || async { two.store.status().silent.filter(|why| why.contains("đã bị thu hồi")) }).await;
    let refusal = two.push(&said[1..2]).await.refusal.expect("refused");
    assert!(refusal.retry_after_ms > 0 && refusal.message.contains(".next"), "{refusal:?}");

    // The other one goes on, with what the silent one published, and members may call either to read.
    assert_eq!(told(&one, &said[1..2]).await.refusal, None);
    two.has_head(REPORT, 2).await;
    assert_eq!(two.read_all("TW", REPORT, 2).await.len(), 2);
    // Given the key it goes on as well, and a new process founds itself on what two keys sealed.
    two.log.change_key(key("NDXP new"));
    assert_eq!(told(&two, &said[2..]).await.refusal, None);
    assert_eq!(two.store.status().silent, None);
    agree([&one, &two], &said).await;
    let fresh = Gateway::with_key(&[&server], patient(), "NDXP new").await;
    for own in ["NDXP→*/directory", "NDXP→H24/report"] {
        assert_eq!(fresh.log.head(&feed(own)), one.log.head(&feed(own)));
    }
    agree([&one, &fresh], &said).await;
}

/// It keeps serving, and leaves to others what only they can receipt.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_the_gateways_new_key_publishes_nothing_and_starts_all_the_same() {
    let (server, ndxp) = (NatsServer::start().await, of("NDXP"));
    let one = Gateway::open(&[&server], patient()).await;
    let two = Gateway::open(&[&server], patient()).await;
    let said = batches(REPORT, 2, "a");
    assert_eq!(two.push(&said[..1]).await.refusal, None);
    one.has_head(REPORT, 1).await;
    one.service.revise(|_, _| Ok::<_, StoreError>(vec![added_own()])).await.expect("adds");
    one.log.change_key(key("NDXP new"));
    let revoked = one.service.revise_keys(&ndxp, |_, heads| Ok::<_, StoreError>(vec![revoked_own(heads)]));
    revoked.await.expect("revokes");
    until("it is silent", || async { two.store.status().silent }).await;
    assert!(two.push(&batches("H24→TW/status", 1, "a")).await.refusal.is_some());
    let status = server.context().await.get_stream("httt-status").await.expect("stream").cached_info().state.messages;
    assert_eq!(status, 0, "what it cannot receipt it does not publish");

    // A batch whose process ended before the receipt; the other one does not look.
    let dir = two.end().await;
    server.publish(&said[1], "httt.H24.TW.report").await;
    let two = Gateway::open_in(dir, &[&server], patient()).await.expect("starts");
    assert!(two.store.status().silent.is_some());
    assert_eq!(told(&one, &said[1..]).await.refusal, None);
    agree([&one, &two], &said).await;
}

fn added_own() -> NewEvent {
    let added = pb::KeyAdded { member: "NDXP".into(), key: Some(key("NDXP new").public().to_wire()) };
    NewEvent::of(Audience::All, Lane::Directory, "member/NDXP", &added)
}

fn revoked_own(heads: &[FeedHead]) -> NewEvent {
    let revoked = pb::KeyRevoked {
        member: "NDXP".into(),
        fingerprint: key("NDXP").public().fingerprint().0.to_vec(),
        reason: "thay khoá".into(),
        last_accepted: received(heads, "NDXP"),
    };
    NewEvent::of(Audience::All, Lane::Directory, "member/NDXP", &revoked)
}

/// Begins to push at `two`, and returns when the batch is published.
fn begin(server: &NatsServer, two: &Arc<Gateway>, batch: &VerifiedBatch) -> tokio::task::JoinHandle<PushResponse> {
    let (two, batch) = (Arc::clone(two), batch.clone());
    let pushing = tokio::spawn(async move { two.push(&[batch]).await });
    tokio::task::block_in_place(|| {
        let published = until("it is published", || async { (entries(server).await == 2).then_some(()) });
        tokio::runtime::Handle::current().block_on(published);
    });
    pushing
}
