//! Members change their keys: an offer is answered with the key, a retirement with the revocation of the old one.
//!
//! Members say nothing else to the gateway itself on the lane report, so these feeds are short and read from their
//! beginning at every start. What was answered already is seen in the directory and not answered again.

use std::collections::BTreeMap;
use std::sync::Arc;

use httt_feed::{AgencyCode, Audience, Digest, Directory, FeedId, KeyId, Lane, UnverifiedBatch};
use httt_log::{FeedHead, NewEvent};
use httt_node::exchange::{BoxFuture, Service, Store, StoreError, derived_id, revoked_members};
use httt_node::rotation::{Announce, offered_key};
use httt_wire::directory as pb;
use httt_wire::feed::Event;
use httt_wire::{Message, Name};
use tokio::sync::watch;

use super::{MAX_KEYS, decide::received};

/// Keys that a member had in all; its operator's way out is the gateway's operator.
const MAX_KEYS_EVER: usize = 128;
/// Feeds that a retiring key may be said to have sealed.
const MAX_RETIRED_FEEDS: usize = 256;
/// Largest last sequence a retiring member is believed: more than any feed gets in a century of a batch a second.
const MAX_LAST_SEALED: u64 = 1 << 32;
/// Most bytes read of such a feed at a time.
const MAX_READ_BYTES: usize = 256 * 1024;
/// Who says these events.
const ACTOR: &str = "gateway";

/// Answers members that change their keys, until `stop` turns true.
pub(crate) async fn answer(store: Arc<dyn Store>, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut changes = store.watch();
    let mut seen = BTreeMap::new();
    loop {
        changes.borrow_and_update();
        catch_up(store.as_ref(), &service, &mut seen).await;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

async fn catch_up(store: &dyn Store, service: &Service, seen: &mut BTreeMap<FeedId, u64>) {
    let own = Audience::One(store.origin().clone());
    let told = store.heads(0).into_iter().filter(|head| head.feed.lane == Lane::Report && head.feed.audience == own);
    for head in told {
        // What a suspended member said is answered when it is resumed.
        if service.directory().admits(&head.feed.origin).is_err() {
            continue;
        }
        // One member's trouble is nobody else's.
        if let Err(error) = catch_up_feed(store, service, seen, &head).await {
            tracing::error!(feed = %head.feed, %error, "a member that changes its key cannot be answered; it is tried again");
        }
    }
}

async fn catch_up_feed(
    store: &dyn Store,
    service: &Service,
    seen: &mut BTreeMap<FeedId, u64>,
    FeedHead { feed, head, .. }: &FeedHead,
) -> Result<(), StoreError> {
    let mut after = seen.get(feed).copied().unwrap_or(0);
    while after < head.sequence {
        let entries = store.read(feed, after, MAX_READ_BYTES).await?;
        if entries.is_empty() {
            break;
        }
        for bytes in entries {
            let batch = httt_feed::parse(bytes)?;
            match answer_batch(service, &batch).await {
                // What cannot be said is no better the next time.
                Err(StoreError::Refused(refusal)) => {
                    tracing::error!(%feed, %refusal, "a member's change of its key cannot be answered");
                }
                answered => answered?,
            }
            after = batch.sequence();
            seen.insert(feed.clone(), after);
        }
    }
    Ok(())
}

async fn answer_batch(service: &Service, batch: &UnverifiedBatch) -> Result<(), StoreError> {
    for event in &batch.batch().events {
        let said = |directory: &Directory, heads: &[FeedHead]| {
            answer_to(directory, heads, &batch.feed().origin, batch.key(), event)
        };
        let answer = said(&service.directory(), &[]);
        if answer.is_empty() {
            continue;
        }
        let revoked = revoked_members(&answer);
        service.revise_keys(&revoked, |directory, heads| Ok::<_, StoreError>(said(directory, heads))).await?;
        tracing::info!(member = %batch.feed().origin, kind = event.r#type, "a member changes its key");
    }
    Ok(())
}

/// What the gateway says to one event of `member` that was sealed with `sealed_with`; nothing when it is no such event,
/// was answered already, or is not good.
pub fn answer_to(
    directory: &Directory,
    heads: &[FeedHead],
    member: &AgencyCode,
    sealed_with: KeyId,
    event: &Event,
) -> Vec<NewEvent> {
    let Some(known) = directory.member(member).filter(|known| known.suspended.is_none()) else { return vec![] };
    let stream = format!("member/{member}");
    if let Some(offered) = decode::<pb::KeyOffered>(event).filter(|offered| offered.member == member.as_str()) {
        let Some(key) = offered_key(&offered) else {
            tracing::warn!(%member, "a key was offered that the member does not prove to have");
            return vec![];
        };
        let taken = directory.members().any(|other| other.knows_key(&key));
        if taken || known.keys().count() >= MAX_KEYS || known.all_keys().count() >= MAX_KEYS_EVER {
            tracing::warn!(%member, taken, "a key was offered that is taken, or the member has too many; it is not added");
            return vec![];
        }
        let added = pb::KeyAdded { member: member.to_string(), key: Some(key.to_wire()) };
        let id = derived_id(&[b"key added\0", member.as_str().as_bytes(), &key.fingerprint().0]);
        return vec![NewEvent::of(Audience::All, Lane::Directory, stream, &added).with_id(id).with_actor(ACTOR)];
    }
    if let Some(retired) = decode::<pb::KeyRetired>(event).filter(|retired| retired.member == member.as_str()) {
        let good = |fingerprint: Digest| known.keys().any(|key| key.fingerprint() == fingerprint);
        let Some(fingerprint) = Digest::from_slice(&retired.fingerprint).filter(|one| good(*one)) else {
            return vec![];
        };
        // A key does not retire itself, so another one is left.
        if sealed_with.0 == fingerprint.0[..8] {
            tracing::warn!(%member, "a key cannot be retired by itself");
            return vec![];
        }
        let revoked = pb::KeyRevoked {
            member: member.to_string(),
            fingerprint: retired.fingerprint.clone(),
            reason: retired.reason.chars().take(200).collect(),
            last_accepted: later(believed(member, directory, retired.last_sealed), received(member, heads)),
        };
        let id = derived_id(&[b"key revoked\0", member.as_str().as_bytes(), &fingerprint.0]);
        return vec![NewEvent::of(Audience::All, Lane::Directory, stream, &revoked).with_id(id).with_actor(ACTOR)];
    }
    vec![]
}

/// What a retiring member may say of what is still on its way: of feeds it can have, and not more of it than a long time
/// without a link makes. Without an end the key would stay good for ever.
fn believed(member: &AgencyCode, directory: &Directory, said: Vec<pb::LastAccepted>) -> Vec<pb::LastAccepted> {
    let possible = |last: &pb::LastAccepted| {
        last.sequence <= MAX_LAST_SEALED
            && Lane::from_wire(last.lane).is_some_and(|lane| lane != Lane::Local)
            && Audience::new(&last.audience).is_ok_and(|audience| match &audience {
                Audience::All => true,
                Audience::One(one) => one != member && directory.member(one).is_some(),
            })
    };
    said.into_iter().filter(possible).take(MAX_RETIRED_FEEDS).collect()
}

/// Of each feed the later of what the member sealed and what was received: the first may still be on its way, the second
/// has its receipt and stays valid whatever the member says.
fn later(said: Vec<pb::LastAccepted>, held: Vec<pb::LastAccepted>) -> Vec<pb::LastAccepted> {
    let mut last: BTreeMap<(String, i32), u64> = BTreeMap::new();
    for one in said.into_iter().chain(held) {
        let sequence = last.entry((one.audience, one.lane)).or_default();
        *sequence = one.sequence.max(*sequence);
    }
    let whole = |((audience, lane), sequence)| pb::LastAccepted { audience, lane, sequence };
    last.into_iter().map(whole).collect()
}

fn decode<M: Message + Name + Default>(event: &Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).ok()).flatten()
}

/// How the gateway says that its own key changes: through the gate, as everything in the directory. `shared`: it is
/// several processes.
pub(crate) fn announce(service: Arc<Service>, shared: bool) -> Announce {
    let say = move |event: NewEvent| -> BoxFuture<'static, Result<(), String>> {
        let service = Arc::clone(&service);
        Box::pin(async move {
            let said: Result<(), StoreError> = service.revise(|_, _| Ok(vec![event])).await;
            said.map_err(|error| error.to_string())
        })
    };
    Announce { say: Arc::new(say), shared }
}
