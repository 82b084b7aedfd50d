//! What all parts of the store share: reading that trusts nothing, writing that is guarded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use httt_exchange::{SharedDirectory, StoreError, receipt_id};
use httt_feed::{Digest, FeedId, Head, Lane, Refusal, VerifiedBatch};
use httt_log::{Clock, Direction, Log};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::{Mutex as TurnMutex, OwnedMutexGuard, RwLock, mpsc, watch};

use super::config::Settings;
use super::connect::{Connection, away};
use super::index::{Index, Place};
use super::status::LaneState;
use super::subject;

/// Messages asked for at once when a feed is read, and feeds when all are looked at.
pub(super) const READ_AHEAD: usize = 16;
/// Ranges of a feed that are told missing at once.
const MAX_TOLD_MISSING: usize = 16;

/// What the node itself brings: its log has its own feeds, and what never leaves it.
#[derive(Clone)]
pub struct Own {
    /// The process's log.
    pub log: Log,
    /// Folded from the log.
    pub directory: SharedDirectory,
    /// Times of receipts.
    pub clock: Arc<dyn Clock>,
}

/// Entries of a feed that are to be asked of its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingEntries {
    /// The feed.
    pub feed: FeedId,
    /// What is missing begins after this sequence,
    pub after: u64,
    /// and ends with this one.
    pub until: u64,
}

/// What a place held.
pub(super) enum Found {
    Batch(VerifiedBatch),
    /// Nothing, or nothing good.
    Missing,
    /// A batch that the directory does not let verify (yet).
    Unverified(Refusal),
}

pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) settings: Settings,
    pub(super) own: Own,
    index: Mutex<Index>,
    pub(super) changed: watch::Sender<u64>,
    turns: Mutex<BTreeMap<FeedId, Arc<TurnMutex<()>>>>,
    /// Held for reading while a message is published; for writing while what is known of the lane is replaced.
    gates: BTreeMap<Lane, RwLock<()>>,
    missing: mpsc::Sender<MissingEntries>,
    pub(super) lanes: Mutex<BTreeMap<Lane, LaneState>>,
}

impl Shared {
    pub(super) fn new(
        connection: Connection,
        settings: Settings,
        own: Own,
        missing: mpsc::Sender<MissingEntries>,
    ) -> Self {
        Self {
            connection,
            settings,
            own,
            index: Mutex::default(),
            changed: watch::Sender::new(0),
            turns: Mutex::default(),
            gates: subject::LANES.into_iter().map(|lane| (lane, RwLock::new(()))).collect(),
            missing,
            lanes: Mutex::default(),
        }
    }

    /// Looks at the index, or changes it; who waits for news hears of it.
    pub(super) fn index<T>(&self, look: impl FnOnce(&mut Index) -> T) -> T {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = look(&mut index);
        let next = index.next();
        drop(index);
        self.changed.send_if_modified(|position| {
            let news = next > *position;
            *position = next.max(*position);
            news
        });
        seen
    }

    /// One task of this process at a time writes a feed, or moves its head.
    pub(super) async fn turn(&self, feed: &FeedId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(feed.clone()).or_default())
        };
        turn.lock_owned().await
    }

    /// Nobody publishes on the lane while this is held.
    pub(super) fn gate(&self, lane: Lane) -> Result<&RwLock<()>, StoreError> {
        self.gates.get(&lane).ok_or_else(|| away(format!("nothing of lane {lane} is kept there")))
    }

    pub(super) fn is_own(&self, feed: &FeedId) -> bool {
        feed.origin == *self.own.log.origin()
    }

    /// Publishes the next batch of its feed; `None`: somebody else published first, or the subject lost its tail.
    ///
    /// `expected` is the subject's latest message as it was known before the feed's head was looked at. Known any
    /// later, it may be the message of somebody who was quicker: the guard would hold, and the sequence be said twice.
    pub(super) async fn publish(&self, batch: &VerifiedBatch, expected: u64) -> Result<Option<u64>, StoreError> {
        let feed = batch.feed();
        let _open = self.gate(feed.lane)?.read().await;
        self.connection.check()?;
        let at = self.connection.publish(&self.settings.prefix, batch, expected).await?;
        if let Some(at) = at {
            self.index(|index| index.note(feed, batch.sequence(), place(batch, at)));
        }
        Ok(at)
    }

    /// Publishes a batch that was lost. The next guarded message of the feed is refused until what others published
    /// meanwhile was looked at.
    pub(super) async fn publish_again(&self, batch: &VerifiedBatch) -> Result<(), StoreError> {
        let _open = self.gate(batch.feed().lane)?.read().await;
        let at = self.connection.publish_again(&self.settings.prefix, batch).await?;
        self.index(|index| index.note_again(batch.feed(), batch.sequence(), place(batch, at)));
        Ok(())
    }

    /// Asks the servers where the subject stands, and notes what was not known of it.
    pub(super) async fn sync(&self, feed: &FeedId) -> Result<(), StoreError> {
        let prefix = &self.settings.prefix;
        let last = self.connection.last(prefix, feed).await?;
        let mut from = self.index(|index| index.last(feed)) + 1;
        while from <= last {
            let Some(message) = self.connection.next(prefix, feed, from).await? else { break };
            if let Some(sequence) = message.sequence {
                let bytes = u32::try_from(message.bytes).unwrap_or(u32::MAX);
                self.index(|index| index.note(feed, sequence, Place { at: message.at, bytes }));
            }
            from = message.at + 1;
        }
        self.index(|index| index.set_last(feed, last));
        Ok(())
    }

    /// Takes in what the gateway's processes have said up to this moment: the directory, and what was taken.
    pub(super) async fn sync_own(&self) -> Result<(), StoreError> {
        // The directory comes first: the others are verified by it.
        for lane in [Lane::Directory, Lane::Report] {
            let mut feeds: BTreeSet<FeedId> = self.index(|index| index.feeds(lane)).into_iter().collect();
            feeds.extend(self.connection.feeds(&self.settings.prefix, lane).await?);
            let own = feeds.into_iter().filter(|feed| self.is_own(feed));
            let syncs = own.map(|feed| async move {
                let _turn = self.turn(&feed).await;
                self.sync(&feed).await?;
                self.take_home(&feed).await
            });
            let mut syncs = futures_util::stream::iter(syncs).buffer_unordered(READ_AHEAD);
            while let Some(synced) = syncs.next().await {
                synced?;
            }
        }
        Ok(())
    }

    /// Reads a batch from where it is said to be. What it says is believed when the directory verifies it and no
    /// receipt names another one; a place that does not hold it is forgotten.
    pub(super) async fn find(&self, feed: &FeedId, sequence: u64, place: Place) -> Result<Found, StoreError> {
        let bytes = self.connection.get(&self.settings.prefix, feed.lane, place.at).await?;
        let verdict = match bytes {
            None => Err("the message is gone".to_owned()),
            Some(bytes) => httt_feed::parse(bytes).map_err(|refusal| refusal.to_string()).and_then(|batch| {
                if (batch.feed(), batch.sequence()) == (feed, sequence) {
                    Ok(batch)
                } else {
                    Err(format!("it is sequence {} of {}", batch.sequence(), batch.feed()))
                }
            }),
        };
        let verdict = match verdict.map(|batch| self.own.directory.get().verify(batch)) {
            Ok(Ok(batch)) => match self.receipted(feed, sequence)? {
                Some(digest) if digest != batch.digest() => Err(format!("it was receipted as {digest}")),
                _ => Ok(batch),
            },
            Ok(Err(refusal @ (Refusal::UnknownKey { .. } | Refusal::NotAMember(_) | Refusal::NoRight { .. }))) => {
                return Ok(Found::Unverified(refusal));
            }
            Ok(Err(refusal)) => Err(refusal.to_string()),
            Err(why) => Err(why),
        };
        match verdict {
            Ok(batch) => Ok(Found::Batch(batch)),
            Err(why) => {
                tracing::warn!(%feed, sequence, message = place.at, why, "an entry is missing in JetStream");
                self.index(|index| index.lost(feed, sequence, place.at));
                Ok(Found::Missing)
            }
        }
    }

    /// Batches after `after` as far as they are there and chained: one if there is any, more while they fit.
    pub(super) async fn find_run(
        &self,
        feed: &FeedId,
        after: u64,
        max_bytes: usize,
        most: usize,
    ) -> Result<Vec<VerifiedBatch>, StoreError> {
        let mut run = self.index(|index| index.run(feed, after, max_bytes));
        run.truncate(most);
        let finds = run
            .into_iter()
            .map(|(sequence, place)| async move { (sequence, place, self.find(feed, sequence, place).await) });
        let mut finds = futures_util::stream::iter(finds).buffered(READ_AHEAD);
        let mut batches: Vec<VerifiedBatch> = Vec::new();
        while let Some((sequence, place, found)) = finds.next().await {
            let Found::Batch(batch) = found? else { break };
            if batches.last().is_some_and(|before| batch.previous() != Some(before.digest())) {
                tracing::error!(%feed, sequence, "an entry in JetStream does not follow the one before it");
                self.index(|index| index.lost(feed, sequence, place.at));
                break;
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    /// The furthest batch of another origin's feed that proves to be there, whether or not it has its receipt yet; `known`
    /// proved to be. The caller has the feed's turn.
    pub(super) async fn tail(&self, feed: &FeedId, known: Option<Head>) -> Result<Option<Head>, StoreError> {
        let head = self.index(|index| index.head(feed));
        let mut known = head.into_iter().chain(known).max_by_key(|head| head.sequence);
        while let Some((sequence, place)) = self.index(|index| index.ahead(feed, known)) {
            match self.find(feed, sequence, place).await? {
                Found::Missing => {}
                Found::Unverified(refusal) => {
                    tracing::debug!(%feed, sequence, %refusal, "an entry waits for the directory");
                    break;
                }
                Found::Batch(batch) => {
                    if let Err(refusal @ (Refusal::Fork { .. } | Refusal::BrokenChain { .. })) =
                        httt_feed::follow(known.as_ref(), &batch)
                    {
                        tracing::error!(%feed, %refusal, "JetStream has another history than was taken");
                        self.index(|index| index.lost(feed, sequence, place.at));
                        continue;
                    }
                    known = Some(batch.head());
                }
            }
        }
        Ok(known)
    }

    /// Deletes a batch from where it was published, since it is not good any more. If the servers do not, readers take it
    /// for missing all the same.
    pub(super) async fn let_go(&self, batch: &VerifiedBatch) -> Result<(), StoreError> {
        let (feed, prefix) = (batch.feed(), &self.settings.prefix);
        let Some(place) = self.index(|index| index.place(feed, batch.sequence())) else { return Ok(()) };
        // Another one may have come there since.
        if self.connection.get(prefix, feed.lane, place.at).await?.as_ref() == Some(batch.bytes()) {
            self.connection.delete(prefix, feed.lane, place.at).await?;
            self.index(|index| index.lost(feed, batch.sequence(), place.at));
        }
        Ok(())
    }

    /// Tells what is missing of a feed and was not let go for its age.
    pub(super) fn tell_missing(&self, feed: &FeedId) -> Result<(), StoreError> {
        for (after, until) in self.index(|index| index.missing(feed, MAX_TOLD_MISSING)) {
            if let Some(after) = self.young(feed, after, until)? {
                tracing::warn!(%feed, after, until, "entries are missing in JetStream; their origin is asked");
                self.want(MissingEntries { feed: feed.clone(), after, until });
            }
        }
        Ok(())
    }

    /// Hands on what is to be asked for again. If nobody takes it now, the next look finds it again.
    pub(super) fn want(&self, missing: MissingEntries) {
        let _full = self.missing.try_send(missing);
    }

    /// Where in the range begins what retention had no reason to let go.
    fn young(&self, feed: &FeedId, after: u64, until: u64) -> Result<Option<u64>, StoreError> {
        let Some(max_age) = self.settings.max_age.get(&feed.lane) else { return Ok(Some(after)) };
        let since = self.own.clock.now_ms() - i64::try_from(max_age.as_millis()).unwrap_or(i64::MAX);
        // Receipts are given in the order of sequences, so their times ascend.
        let is_old = |sequence| -> Result<bool, StoreError> {
            Ok(self.receipt(feed, sequence)?.is_some_and(|receipt| receipt.received_at_ms < since))
        };
        let (mut low, mut high) = (after, until);
        while low < high {
            let middle = low + (high - low) / 2 + 1;
            if is_old(middle)? { low = middle } else { high = middle - 1 }
        }
        Ok((low < until).then_some(low))
    }

    /// The digest that a batch was receipted with.
    pub(super) fn receipted(&self, feed: &FeedId, sequence: u64) -> Result<Option<Digest>, StoreError> {
        Ok(self.receipt(feed, sequence)?.and_then(|receipt| Digest::from_slice(&receipt.digest)))
    }

    /// The latest receipt given for a feed.
    pub(super) fn latest_receipt(&self, feed: &FeedId) -> Result<Option<Head>, StoreError> {
        let receipt = self.receipt_event(feed, u64::MAX)?;
        Ok(receipt.and_then(|receipt| {
            Some(Head { sequence: receipt.sequence, digest: Digest::from_slice(&receipt.digest)? })
        }))
    }

    /// Every batch of a feed has one receipt, in order: the version in the stream of receipts is the sequence.
    fn receipt(&self, feed: &FeedId, sequence: u64) -> Result<Option<wire::Receipt>, StoreError> {
        Ok(self.receipt_event(feed, sequence)?.filter(|receipt| receipt.sequence == sequence))
    }

    fn receipt_event(&self, feed: &FeedId, version: u64) -> Result<Option<wire::Receipt>, StoreError> {
        if self.is_own(feed) {
            return Ok(None);
        }
        let (log, stream) = (&self.own.log, httt_exchange::receipts_stream(feed));
        let event = log.read_stream(log.origin(), &stream, version, Direction::Backward, 1)?.pop();
        Ok(event.and_then(|event| wire::Receipt::decode(event.event.data).ok()))
    }

    /// The receipt given for a batch.
    pub(super) fn receipt_of(&self, feed: &FeedId, head: Head) -> Result<Option<wire::Receipt>, StoreError> {
        let event = self.own.log.event(receipt_id(feed, head))?;
        Ok(event.and_then(|event| wire::Receipt::decode(event.event.data).ok()))
    }
}

/// Where a batch is that was published as message `at`.
fn place(batch: &VerifiedBatch, at: u64) -> Place {
    Place { at, bytes: u32::try_from(batch.bytes().len()).unwrap_or(u32::MAX) }
}
