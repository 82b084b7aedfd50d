//! The store that the exchange serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use httt_exchange::{BoxFuture, Receipts, Store, StoreError, revoked_members};
use httt_feed::{AgencyCode, Digest, FeedId, Head, Lane, Link, Refusal, VerifiedBatch};
use httt_log::{FeedHead, NewEvent, Transaction};
use httt_wire::exchange as wire;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::config::Settings;
use super::connect::{Connection, away};
use super::own::{MAX_CONFLICTS, Second};
use super::shared::{Found, MissingEntries, Own, Shared};
use super::status::StoreStatus;
use super::{JetStreamError, subject};

/// Ranges that are missing and not yet taken up by whoever asks for them.
const MAX_MISSING_QUEUED: usize = 1_024;
/// Entries given in one answer.
const MAX_READ_ENTRIES: usize = 4_096;

/// A store over JetStream, shared by every process of the gateway. Cheap to clone.
#[derive(Clone)]
pub struct JetStreamStore {
    shared: Arc<Shared>,
    /// Names this process: positions are counted by each for itself.
    id: Uuid,
}

impl JetStreamStore {
    /// Takes in what the streams have (made when missing), and follows them until `closing` turns true. What turns out
    /// to be missing comes through the receiver.
    ///
    /// # Errors
    /// [`JetStreamError::Start`]: the servers do not answer, or the gateway's own feeds are not what its log says;
    /// [`JetStreamError::Stream`]: a stream that is there would lose entries.
    pub async fn open(
        connection: Connection,
        settings: Settings,
        own: Own,
        closing: watch::Receiver<bool>,
    ) -> Result<(Self, mpsc::Receiver<MissingEntries>), JetStreamError> {
        let (sender, missing) = mpsc::channel(MAX_MISSING_QUEUED);
        let shared = Arc::new(Shared::new(connection, settings, own, sender));
        for head in shared.own.log.heads() {
            if shared.is_own(&head.feed) && head.feed.lane != Lane::Local {
                shared.index(|index| index.learn(&head.feed, head.head));
            }
        }
        let words = subject::wants(&shared.settings.prefix);
        let words = shared.connection.client().subscribe(words).await;
        let words = words.map_err(|error| JetStreamError::Start(away(error)))?;
        for lane in subject::LANES {
            let followed = shared.first_look(lane).await?;
            tokio::spawn(Arc::clone(&shared).follow(lane, followed, closing.clone()));
        }
        tokio::spawn(Arc::clone(&shared).hear_wants(words, closing));
        Ok((Self { shared, id: Uuid::now_v7() }, missing))
    }

    /// How it is, for operators.
    pub fn status(&self) -> StoreStatus {
        self.shared.status()
    }

    /// Publishes one batch, unless it is there. `tail`: the furthest one that proved to be there; it moves on.
    async fn take_one(&self, batch: &VerifiedBatch, tail: &mut Option<Head>) -> Result<(), StoreError> {
        let (shared, feed) = (&self.shared, batch.feed());
        for _ in 0..MAX_CONFLICTS {
            let expected = shared.index(|index| index.last(feed));
            *tail = shared.tail(feed, *tail).await?;
            match httt_feed::follow(tail.as_ref(), batch)? {
                Link::Held if *tail == Some(batch.head()) => return Ok(()),
                Link::Held => {
                    return match self.digest_of(feed, batch.sequence()).await? {
                        Some(digest) if digest == batch.digest() => Ok(()),
                        Some(_) => Err(Refusal::Fork { feed: feed.clone(), sequence: batch.sequence() }.into()),
                        None => {
                            let until = batch.sequence();
                            Err(StoreError::Away { feed: feed.clone(), after: until - 1, until })
                        }
                    };
                }
                Link::Next if shared.publish(batch, expected).await?.is_some() => {
                    *tail = Some(batch.head());
                    return Ok(());
                }
                // Another process took a batch of this feed, or JetStream lost some.
                Link::Next => {
                    shared.sync(feed).await?;
                    *tail = None;
                }
            }
        }
        Err(away(format!("other gateway processes write {feed} at the same time; come back")))
    }

    async fn take_all(
        &self,
        batches: Vec<VerifiedBatch>,
        receipts: Receipts,
    ) -> Result<Vec<wire::Receipt>, StoreError> {
        let Some(feed) = batches.first().map(|batch| batch.feed().clone()) else { return Ok(Vec::new()) };
        let shared = &self.shared;
        let _turn = shared.turn(&feed).await;
        if shared.is_own(&feed) {
            // It says what it has to say by `say`: this is what it said once, and comes back.
            for batch in &batches {
                shared.take_own(batch).await?;
            }
            return Ok(Vec::new());
        }
        // What it cannot give receipts for is better taken by another process.
        shared.may_seal()?;
        let (mut taken, mut tail, mut outcome) = (0, None, Ok(()));
        for batch in &batches {
            outcome = self.take_one(batch, &mut tail).await;
            if outcome.is_err() {
                break;
            }
            taken += 1;
        }
        // Each is taken on its own, so what was taken before a failure stays, and has its receipt.
        let taken = batches.get(..taken).unwrap_or_default();
        let given = shared.give_receipts(&feed, taken).await;
        outcome?;
        given?;
        let mut given = Vec::with_capacity(taken.len());
        for batch in taken {
            match shared.receipt_of(&feed, batch.head())? {
                Some(receipt) => given.push(receipt),
                None => return Err(self.give_up(batch).await),
            }
        }
        Ok(if receipts == Receipts::Issue { given } else { Vec::new() })
    }

    /// Why a batch that was published got no receipt. If it never will, it goes.
    async fn give_up(&self, batch: &VerifiedBatch) -> StoreError {
        let Err(refusal) = self.shared.still_good(batch) else {
            return away(format!("{} {} has no receipt yet; come back", batch.feed(), batch.sequence()));
        };
        tracing::warn!(%refusal, "revoked while it was being taken; it is not receipted");
        if let Err(error) = self.shared.let_go(batch).await {
            tracing::warn!(%error, "what was refused is still there");
        }
        refusal.into()
    }

    async fn digest_of(&self, feed: &FeedId, sequence: u64) -> Result<Option<Digest>, StoreError> {
        let shared = &self.shared;
        if shared.is_own(feed) {
            return Ok(shared.own.log.batch_digest(feed, sequence)?);
        }
        let head = shared.index(|index| index.head(feed));
        if let Some(head) = head.filter(|head| head.sequence == sequence) {
            return Ok(Some(head.digest));
        }
        if let Some(digest) = shared.receipted(feed, sequence)? {
            return Ok(Some(digest));
        }
        let Some(place) = shared.index(|index| index.place(feed, sequence)) else { return Ok(None) };
        Ok(match shared.find(feed, sequence, place).await? {
            Found::Batch(batch) => Some(batch.digest()),
            _ => None,
        })
    }

    async fn read_after(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        let shared = &self.shared;
        if shared.is_own(feed) {
            let entries = shared.own.log.read_feed(feed, after, max_bytes)?;
            return Ok(entries.into_iter().map(|entry| entry.bytes).collect());
        }
        // Nothing is given that has no receipt.
        let head = shared.index(|index| index.head(feed)).map_or(0, |head| head.sequence);
        let most = usize::try_from(head.saturating_sub(after)).unwrap_or(usize::MAX).min(MAX_READ_ENTRIES);
        let mut batches = shared.find_run(feed, after, max_bytes, most).await?;
        if batches.is_empty() && after < head {
            // Its receipt may have come before its header.
            shared.sync(feed).await?;
            batches = shared.find_run(feed, after, max_bytes, most).await?;
        }
        if batches.is_empty()
            && let Some(until) = shared.index(|index| index.missing_until(feed, after))
        {
            shared.tell_want(feed, after, until).await;
            return Err(StoreError::Away { feed: feed.clone(), after, until });
        }
        Ok(batches.into_iter().map(|batch| batch.bytes().clone()).collect())
    }

    async fn take_back(&self, batches: Vec<VerifiedBatch>) -> Result<(), StoreError> {
        let Some(feed) = batches.first().map(|batch| batch.feed().clone()) else { return Ok(()) };
        let shared = &self.shared;
        let _turn = shared.turn(&feed).await;
        // What is beyond the head was never here: it comes by an ordinary push.
        let head = shared.index(|index| index.head(&feed)).map_or(0, |head| head.sequence);
        let batches: Vec<_> = batches.into_iter().filter(|batch| batch.sequence() <= head).collect();
        for batch in &batches {
            let place = shared.index(|index| index.place(&feed, batch.sequence()));
            let there = match place {
                Some(place) => matches!(shared.find(&feed, batch.sequence(), place).await?, Found::Batch(_)),
                None => false,
            };
            if !there {
                shared.publish_again(batch).await?;
            }
        }
        shared.index(|index| index.tell(&feed));
        shared.give_receipts(&feed, &batches).await
    }

    async fn say_all(&self, events: Vec<NewEvent>, seen: Option<Head>) -> Result<(), StoreError> {
        let (shared, origin) = (&self.shared, self.shared.own.log.origin());
        let (local, mut travel): (Vec<_>, Vec<_>) = events.into_iter().partition(|event| event.lane == Lane::Local);
        if !local.is_empty() {
            shared.own.log.commit(Transaction::append(local)).await?;
        }
        while let Some(first) = travel.first() {
            let feed = FeedId::new(origin.clone(), first.audience.clone(), first.lane);
            let (said, rest): (Vec<_>, Vec<_>) =
                travel.into_iter().partition(|event| event.lane == feed.lane && event.audience == feed.audience);
            travel = rest;
            // What the directory is changed to depends on what it was.
            let second = if feed.lane == Lane::Directory { Second::GiveUp(seen) } else { Second::Insist };
            shared.say_in(&feed, || Ok(said.clone()), second).await?;
        }
        Ok(())
    }
}

impl Store for JetStreamStore {
    fn origin(&self) -> &AgencyCode {
        self.shared.own.log.origin()
    }

    fn id(&self) -> Vec<u8> {
        self.id.as_bytes().to_vec()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn heads(&self, after: u64) -> Vec<FeedHead> {
        self.shared.index(|index| index.heads(after))
    }

    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.shared.sync_own())
    }

    fn hold<'a>(
        &'a self,
        members: &'a BTreeSet<AgencyCode>,
        seen: Option<Head>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(self.shared.hold(members, seen))
    }

    fn head(&self, feed: &FeedId) -> Option<Head> {
        if feed.lane == Lane::Local {
            return self.shared.own.log.head(feed);
        }
        self.shared.index(|index| index.head(feed))
    }

    fn digest<'a>(&'a self, feed: &'a FeedId, sequence: u64) -> BoxFuture<'a, Result<Option<Digest>, StoreError>> {
        Box::pin(self.digest_of(feed, sequence))
    }

    fn read<'a>(
        &'a self,
        feed: &'a FeedId,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(self.read_after(feed, after, max_bytes))
    }

    fn take(
        &self,
        batches: Vec<VerifiedBatch>,
        receipts: Receipts,
    ) -> BoxFuture<'_, Result<Vec<wire::Receipt>, StoreError>> {
        Box::pin(self.take_all(batches, receipts))
    }

    fn take_again(&self, batches: Vec<VerifiedBatch>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.take_back(batches))
    }

    fn say(&self, events: Vec<NewEvent>) -> BoxFuture<'_, Result<(), StoreError>> {
        let directory = FeedId::directory(self.origin());
        let seen = self.shared.own.log.head(&directory);
        Box::pin(self.say_all(events, seen))
    }

    fn revise(&self, events: Vec<NewEvent>, seen: Option<Head>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let revoked = revoked_members(&events);
            if !self.shared.holds(&revoked, seen)? {
                return Err(away("keys are revoked that nobody was kept from giving receipts under; try again"));
            }
            self.say_all(events, seen).await
        })
    }
}
