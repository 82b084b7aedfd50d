//! What is kept of something that honest parties do not do, so that an auditor can see it later.

use bytes::Bytes;
use httt_feed::{Audience, Digest, FeedId, Lane, Refusal, VerifiedBatch, parse};
use httt_log::NewEvent;
use httt_wire::Name as _;
use httt_wire::directory::{FeedWentBack, ForkSeen, TamperingSeen};
use uuid::Uuid;

use crate::tally::Noted;
use crate::{Alarm, Receipts, StoppedFeeds, Store, Tally};

/// Largest part of a forked batch kept in one event.
const EVIDENCE_PART_BYTES: usize = 32 * 1024;
/// Where counts are told.
const COUNTS_STREAM: &str = "tampering";

/// A UUID made from what it stands for, so that the same fact gets the same id wherever and whenever it is told.
pub fn derived_id(parts: &[&[u8]]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(&parts.concat()).0[..16]);
    Uuid::new_v8(bytes)
}

/// Whether a refusal proves that the origin signed two histories: both are said of batches whose signature holds.
pub(crate) fn two_stories(refusal: &Refusal) -> Option<u64> {
    match refusal {
        Refusal::Fork { sequence, .. } | Refusal::BrokenChain { sequence, .. } => Some(*sequence),
        _ => None,
    }
}

/// Whether a push refused so is to be recorded: somebody altered it, or signs with a key that is nobody's or revoked. A
/// carrier may know fewer keys, and fewer batches that were admitted, than there are; the gateway gives them.
pub(crate) fn certain(refusal: &Refusal, receipts: Receipts) -> bool {
    match refusal {
        Refusal::BadSignature { .. } | Refusal::Malformed(_) => true,
        Refusal::UnknownKey { .. } | Refusal::RevokedKey { .. } => receipts == Receipts::Issue,
        _ => false,
    }
}

/// Keeps evidence among a node's own events and stops forked feeds.
pub struct Evidence<'a> {
    store: &'a dyn Store,
    stopped: &'a StoppedFeeds,
}

impl<'a> Evidence<'a> {
    /// Keeps evidence in `store` and stops feeds among `stopped`.
    pub fn new(store: &'a dyn Store, stopped: &'a StoppedFeeds) -> Self {
        Self { store, stopped }
    }

    /// If the refusal proves two histories: the feed stops, and the other batch is kept beside the one held. Told
    /// again, it changes nothing.
    pub(crate) async fn keep(&self, feed: &FeedId, refusal: &Refusal, other: &Bytes) {
        let Some(sequence) = two_stories(refusal) else { return };
        tracing::error!(%feed, sequence, "the origin signed two histories; the feed stops here");
        self.stopped.stop(feed.clone());
        let held = self.store.digest(feed, sequence).await.ok().flatten();
        let _ = self.commit(feed, self.fork_events(feed, sequence, held, other)).await;
    }

    /// As `keep`, the other batch being among `batches`.
    pub async fn keep_from(&self, feed: &FeedId, refusal: &Refusal, batches: &[VerifiedBatch]) {
        let other = two_stories(refusal).and_then(|at| batches.iter().find(|batch| batch.sequence() == at));
        if let Some(other) = other {
            self.keep(feed, refusal, other.bytes()).await;
        }
    }

    /// Keeps an alarm, once for each thing that is wrong however often it is seen.
    pub async fn keep_alarm(&self, peer: &str, alarm: Alarm) {
        tell(peer, &alarm);
        self.keep_fork(&alarm).await;
        self.record(peer, alarm).await;
    }

    /// The same for what `tally` noted: of one peer no more is recorded a day than that allows. What proves a fork is kept
    /// always; it stops its feed, so it comes once.
    pub(crate) async fn keep_noted(&self, tally: &Tally, noted: Noted, peer: &str, alarm: Alarm) {
        tell(peer, &alarm);
        self.keep_fork(&alarm).await;
        if noted == Noted::Kept && !self.record(peer, alarm.clone()).await {
            tally.was_not_kept(peer, &alarm);
        }
    }

    /// Tells how much was only counted, where that is due; `all`: since this is the end.
    pub(crate) async fn tell_counts(&self, tally: &Tally, all: bool) {
        for count in tally.due(all) {
            tracing::error!(peer = count.peer, more = count.more, "more came that cannot be right than is recorded");
            let event = NewEvent::of(self.own(), Lane::Local, COUNTS_STREAM, &count).with_actor("exchange");
            if let Err(error) = self.store.say(vec![event]).await {
                tracing::error!(%error, "a count of evidence could not be kept");
                tally.was_not_told(&count);
            }
        }
    }

    async fn keep_fork(&self, Alarm { feed, refusal, evidence }: &Alarm) {
        if let Some(other) = evidence {
            self.keep(feed, refusal, other).await;
        }
    }

    async fn record(&self, peer: &str, alarm: Alarm) -> bool {
        let Alarm { feed, refusal, evidence } = alarm;
        let sequence = evidence.clone().and_then(|bytes| parse(bytes).ok()).map_or(0, |batch| batch.sequence());
        let sha256 = evidence.map(|bytes| Digest::of(&bytes).0.to_vec()).unwrap_or_default();
        let (text, name) = (refusal.to_string(), feed.to_string());
        let id = derived_id(&[TamperingSeen::full_name().as_bytes(), name.as_bytes(), text.as_bytes(), &sha256]);
        let seen = TamperingSeen { feed: name, sequence, peer: peer.to_owned(), refusal: text, sha256 };
        let event = NewEvent::of(self.own(), Lane::Local, format!("tampering/{feed}"), &seen);
        self.commit(&feed, vec![event.with_id(id).with_actor("exchange")]).await
    }

    /// Keeps that a gateway showed less of a feed of its own than it had said: entries after `after`, up to `until`.
    /// `peer`: who brought them back, or to whom. Told again of the same `until`, it changes nothing.
    pub async fn keep_went_back(&self, feed: &FeedId, after: u64, until: u64, peer: &str) {
        tracing::error!(%feed, after, until, peer, "a disk older than what was said: entries were to be brought back");
        let name = feed.to_string();
        let id = derived_id(&[FeedWentBack::full_name().as_bytes(), name.as_bytes(), &until.to_be_bytes()]);
        let event = FeedWentBack { feed: name, after, until, peer: peer.to_owned() };
        let event = NewEvent::of(self.own(), Lane::Local, format!("went-back/{feed}"), &event);
        self.commit(feed, vec![event.with_id(id).with_actor("exchange")]).await;
    }

    fn own(&self) -> Audience {
        Audience::One(self.store.origin().clone())
    }

    async fn commit(&self, feed: &FeedId, events: Vec<NewEvent>) -> bool {
        let said = self.store.say(events).await;
        if let Err(error) = &said {
            tracing::error!(%feed, %error, "evidence could not be kept");
        }
        said.is_ok()
    }

    fn fork_events(&self, feed: &FeedId, sequence: u64, held: Option<Digest>, other: &Bytes) -> Vec<NewEvent> {
        // As chains name batches: by their body.
        let digest = httt_feed::body_digest(other).unwrap_or_else(|| Digest::of(other));
        let parts = other.len().div_ceil(EVIDENCE_PART_BYTES);
        other
            .chunks(EVIDENCE_PART_BYTES)
            .enumerate()
            .map(|(part, bytes)| {
                let seen = ForkSeen {
                    feed: feed.to_string(),
                    sequence,
                    held_digest: held.map(|digest| digest.0.to_vec()).unwrap_or_default(),
                    other_digest: digest.0.to_vec(),
                    part: part as u32,
                    parts: parts as u32,
                    other: bytes.to_vec(),
                };
                let id = derived_id(&[ForkSeen::full_name().as_bytes(), &digest.0, &(part as u64).to_be_bytes()]);
                NewEvent::of(self.own(), Lane::Local, format!("fork/{feed}"), &seen).with_id(id).with_actor("exchange")
            })
            .collect()
    }
}

fn tell(peer: &str, Alarm { feed, refusal, .. }: &Alarm) {
    tracing::error!(%feed, peer, %refusal, "what came cannot be right");
}
