//! The gateway's own feeds: the directory, and receipts.
//!
//! Every process of a gateway keeps them whole in its own log, so they outlive JetStream, and nobody but JetStream
//! decides which process's batch is the next one: sealed after the head in the log, published with the guard, and only
//! then appended to the log. Who comes second takes home what the first one said, and seals again.

use std::collections::BTreeMap;

use httt_exchange::{MAX_CALL_BYTES, StoreError, receipt_events};
use httt_feed::{Audience, FeedId, Head, Lane, Link, MAX_BATCH_BYTES, MAX_EVENTS_PER_BATCH, Refusal, VerifiedBatch};
use httt_log::{NewEvent, Placed, Transaction};
use httt_wire::{Message as _, Name as _, exchange as wire};

use super::connect::away;
use super::shared::{Found, Shared};

/// How often a batch is sealed again because another process was quicker.
pub(super) const MAX_CONFLICTS: usize = 16;
/// Batches of an own feed taken home at once.
const HOME_BATCHES: usize = 512;
/// Batches without a receipt that are looked for behind the one at hand.
const MAX_UNRECEIPTED: usize = 4_096;
/// Ranges of an own feed brought back into JetStream at once.
const MAX_RESTORED_RANGES: usize = 1_024;
/// What a batch has beside its events, and an event beside its own bytes.
const BATCH_FRAMING: usize = 512;
const EVENT_FRAMING: usize = 8;

/// What to do when another process said something first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Second {
    /// Say it after that.
    Insist,
    /// Tell the caller, whose word depends on what the feed said up to this head.
    GiveUp(Option<Head>),
}

impl Shared {
    /// Says events of one own feed that travels, as `say` decides on them once everything said there is in the log, and
    /// the directory that its latest fence asks for. What is said already is not said again.
    pub(super) async fn say_in(
        &self,
        feed: &FeedId,
        say: impl Fn() -> Result<Vec<NewEvent>, StoreError> + Send + Sync,
        second: Second,
    ) -> Result<(), StoreError> {
        let _turn = self.turn(feed).await;
        for _ in 0..MAX_CONFLICTS {
            let expected = self.index(|index| index.last(feed));
            self.come_home(feed).await?;
            // Before it is decided: the directory may come in between.
            let past = self.is_past_fence(feed)?;
            let mut fresh = self.unsaid(say()?)?;
            if !past && !fresh.is_empty() {
                self.await_directory(feed).await?;
                fresh = self.unsaid(say()?)?;
            }
            if !fresh.is_empty() {
                self.may_seal()?;
            }
            let head = self.own.log.head(feed);
            if second != Second::Insist && second != Second::GiveUp(head) {
                return Err(away(format!("another gateway process changed {feed} meanwhile; try again")));
            }
            if fresh.is_empty() || self.seal(feed, head, expected, fresh).await? {
                return Ok(());
            }
            self.sync(feed).await?;
        }
        Err(away(format!("other gateway processes are always quicker on {feed}; try again")))
    }

    /// Those that the log does not have.
    fn unsaid(&self, events: Vec<NewEvent>) -> Result<Vec<NewEvent>, StoreError> {
        let mut fresh = Vec::new();
        for event in events {
            if self.own.log.event(event.id)?.is_none() {
                fresh.push(event);
            }
        }
        Ok(fresh)
    }

    /// Takes one batch that this gateway said once and that comes back from elsewhere. The caller has the feed's turn.
    pub(super) async fn take_own(&self, batch: &VerifiedBatch) -> Result<(), StoreError> {
        let (feed, sequence) = (batch.feed(), batch.sequence());
        for _ in 0..MAX_CONFLICTS {
            let expected = self.index(|index| index.last(feed));
            self.come_home(feed).await?;
            match httt_feed::follow(self.own.log.head(feed).as_ref(), batch)? {
                Link::Held if self.own.log.batch_digest(feed, sequence)? == Some(batch.digest()) => return Ok(()),
                Link::Held => return Err(Refusal::Fork { feed: feed.clone(), sequence }.into()),
                Link::Next if self.publish(batch, expected).await?.is_some() => {
                    return self.keep(vec![batch.clone()]).await;
                }
                Link::Next => self.sync(feed).await?,
            }
        }
        Err(away(format!("other gateway processes are always quicker on {feed}; try again")))
    }

    /// Takes all of a feed home that is known to be there.
    async fn come_home(&self, feed: &FeedId) -> Result<(), StoreError> {
        self.take_home(feed).await?;
        if !self.has_more(feed).await? {
            return Ok(());
        }
        if feed.lane != Lane::Directory {
            // It may be sealed with a key that the directory brings.
            self.directory_home().await?;
            self.take_home(feed).await?;
            if !self.has_more(feed).await? {
                return Ok(());
            }
        }
        Err(away(format!(
            "{feed} has entries there that this process cannot take home; start the process whose log has them"
        )))
    }

    /// Whether an own feed has something there that is not in the log.
    async fn has_more(&self, feed: &FeedId) -> Result<bool, StoreError> {
        while let Some((sequence, place)) = self.index(|index| index.ahead(feed, self.own.log.head(feed))) {
            if !matches!(self.find(feed, sequence, place).await?, Found::Missing) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Seals and publishes, the first batch with the guard `expected`; `false`: another process was quicker with (the
    /// rest of) it.
    async fn seal(
        &self,
        feed: &FeedId,
        mut head: Option<Head>,
        mut expected: u64,
        events: Vec<NewEvent>,
    ) -> Result<bool, StoreError> {
        let (log, now) = (&self.own.log, self.own.clock.now_ms());
        let mut versions = BTreeMap::<String, u64>::new();
        let mut rest = Vec::with_capacity(events.len());
        for event in events {
            let version = match versions.get(&event.stream) {
                Some(version) => version + 1,
                None => log.stream_version(log.origin(), &event.stream)?.unwrap_or(0) + 1,
            };
            versions.insert(event.stream.clone(), version);
            rest.push(event.into_wire(version, now));
        }
        let mut rest = rest.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut group, mut bytes) = (Vec::new(), BATCH_FRAMING);
            while let Some(event) = rest.next_if(|event| {
                bytes += event.encoded_len() + EVENT_FRAMING;
                group.is_empty() || (bytes <= MAX_BATCH_BYTES && group.len() < MAX_EVENTS_PER_BATCH)
            }) {
                group.push(event);
            }
            let batch = self.own.log.sealer().seal(feed, head.as_ref(), now, group)?;
            let Some(at) = self.publish(&batch, expected).await? else { return Ok(false) };
            expected = at;
            head = Some(batch.head());
            self.keep(vec![batch]).await?;
        }
        Ok(true)
    }

    /// Appends own batches to the log, and learns what they say.
    async fn keep(&self, batches: Vec<VerifiedBatch>) -> Result<(), StoreError> {
        self.own.log.commit(Transaction::copy(batches.clone())).await.map_err(|error| {
            tracing::error!(%error, "what this gateway said is not in its own log");
            away(format!("the gateway's own log: {error}"))
        })?;
        for batch in &batches {
            self.index(|index| index.learn(batch.feed(), batch.head()));
            let receipts = batch.batch().events.iter().filter(|event| event.r#type == wire::Receipt::full_name());
            for receipt in receipts.filter_map(|event| wire::Receipt::decode(event.data.clone()).ok()) {
                self.learn_receipt(&receipt);
            }
        }
        Ok(())
    }

    /// What was receipted is known, whatever JetStream still has of it.
    fn learn_receipt(&self, receipt: &wire::Receipt) {
        let feed = receipt.feed.as_ref().and_then(|feed| FeedId::from_wire(feed).ok());
        if let (Some(feed), Some(digest)) = (feed, httt_feed::Digest::from_slice(&receipt.digest)) {
            self.index(|index| index.learn(&feed, Head { sequence: receipt.sequence, digest }));
        }
    }

    /// Appends to the log what other processes said. The caller has the feed's turn.
    pub(super) async fn take_home(&self, feed: &FeedId) -> Result<(), StoreError> {
        if feed.lane == Lane::Directory && self.own.directory.get().gateway().is_none() {
            self.found(feed).await?;
        }
        loop {
            let after = self.own.log.head(feed).map_or(0, |head| head.sequence);
            let batches = self.find_run(feed, after, MAX_CALL_BYTES, HOME_BATCHES).await?;
            if batches.is_empty() {
                return Ok(());
            }
            tracing::debug!(%feed, batches = batches.len(), "taken home");
            self.keep(batches).await?;
        }
    }

    /// Takes the beginning of the directory home, which an older key of this gateway may have sealed.
    async fn found(&self, feed: &FeedId) -> Result<(), StoreError> {
        let mut entries = Vec::new();
        for (_, place) in self.index(|index| index.run(feed, 0, MAX_CALL_BYTES)) {
            entries.extend(self.connection.get(&self.settings.prefix, feed.lane, place.at).await?);
        }
        let admitted = httt_exchange::admit(&self.own.directory.get(), feed, None, &entries);
        if admitted.batches.is_empty() { Ok(()) } else { self.keep(admitted.batches).await }
    }

    /// Brings back into JetStream what it lost of an own feed. The caller has the feed's turn.
    pub(super) async fn bring_back(&self, feed: &FeedId) -> Result<(), StoreError> {
        for (after, until) in self.index(|index| index.missing(feed, MAX_RESTORED_RANGES)).into_iter().rev() {
            let mut after = after;
            while after < until {
                let entries = self.own.log.read_feed(feed, after, MAX_CALL_BYTES)?;
                if entries.is_empty() {
                    break;
                }
                for entry in entries.into_iter().take_while(|entry| entry.sequence <= until) {
                    after = entry.sequence;
                    let batch = self.own.directory.get().verify(httt_feed::parse(entry.bytes)?)?;
                    tracing::info!(%feed, sequence = after, "brought back into JetStream");
                    self.publish_again(&batch).await?;
                }
            }
        }
        Ok(())
    }

    /// Gives every batch its receipt, and those before them that have none: a process that ended between a batch and
    /// its receipt leaves that to whoever comes next. The caller has the feed's turn.
    pub(super) async fn give_receipts(&self, feed: &FeedId, taken: &[VerifiedBatch]) -> Result<(), StoreError> {
        let mut unreceipted = Vec::new();
        for batch in taken {
            if self.receipt_of(feed, batch.head())?.is_none() {
                unreceipted.push(batch.clone());
            }
        }
        let Some(mut first) = unreceipted.first().cloned() else { return Ok(()) };
        let mut behind = Vec::new();
        while let Some(digest) = first.previous()
            && behind.len() < MAX_UNRECEIPTED
        {
            let before = Head { sequence: first.sequence() - 1, digest };
            let place = self.index(|index| index.place(feed, before.sequence));
            let Some(place) = place.filter(|_| !taken.iter().any(|batch| batch.head() == before)) else { break };
            if self.receipt_of(feed, before)?.is_some() {
                break;
            }
            let Found::Batch(batch) = self.find(feed, before.sequence, place).await? else { break };
            behind.push(batch.clone());
            first = batch;
        }
        let batches: Vec<_> = behind.into_iter().rev().chain(unreceipted).collect();
        let events = || {
            // Those before one that is not good any more: whoever brought that is told.
            let good = batches.iter().take_while(|batch| self.still_good(batch).is_ok());
            Ok(receipt_events(&good.map(|batch| self.placed(batch)).collect::<Vec<_>>()))
        };
        let audience = Audience::One(feed.origin.clone());
        let receipts = FeedId::new(self.own.log.origin().clone(), audience, Lane::Report);
        self.say_in(&receipts, events, Second::Insist).await
    }

    fn placed(&self, batch: &VerifiedBatch) -> Placed {
        let place = self.index(|index| index.place(batch.feed(), batch.sequence()));
        Placed {
            feed: batch.feed().clone(),
            head: batch.head(),
            position: place.map_or(0, |place| place.at),
            duplicate: false,
            at_ms: self.own.clock.now_ms(),
        }
    }

    /// Gives receipts for the end of a feed, if somebody left it without. The caller has the feed's turn.
    pub(super) async fn receipt_end(&self, feed: &FeedId) -> Result<(), StoreError> {
        let Some(head) = self.tail(feed, None).await? else { return Ok(()) };
        if self.receipt_of(feed, head)?.is_some() {
            return Ok(());
        }
        let Some(place) = self.index(|index| index.place(feed, head.sequence)) else { return Ok(()) };
        match self.find(feed, head.sequence, place).await? {
            Found::Batch(batch) => self.give_receipts(feed, &[batch]).await,
            _ => Ok(()),
        }
    }

    /// Learns heads from the receipts in the log: what was taken, even if JetStream let it go or lost it.
    pub(super) fn learn_receipted(&self) -> Result<(), StoreError> {
        let directory = self.own.directory.get();
        for origin in directory.members() {
            let members = directory.members().map(|member| Audience::One(member.code.clone()));
            for audience in members.chain([Audience::All]) {
                for lane in super::subject::LANES {
                    let feed = FeedId::new(origin.code.clone(), audience.clone(), lane);
                    if let Some(head) = self.latest_receipt(&feed)? {
                        self.index(|index| index.learn(&feed, head));
                    }
                }
            }
        }
        Ok(())
    }
}
