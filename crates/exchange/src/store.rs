//! Where a serving node keeps the feeds it carries.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use httt_feed::{AgencyCode, Audience, Digest, FeedId, Head, Lane, Refusal, VerifiedBatch};
use httt_log::tlog::leaf_hash;
use httt_log::{CommitError, Committed, FeedHead, Log, NewEvent, Placed, ReadError, Transaction};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::watch;
use uuid::Uuid;

use crate::again::Again;
use crate::evidence::derived_id;

/// Why a store did not do what it was asked to.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The batches do not continue what is held.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The entries were let go, or lost; their origin has them.
    #[error("{feed} is not held from sequence {} to {until}", after + 1)]
    Away {
        /// The feed.
        feed: FeedId,
        /// What is missing begins after this sequence,
        after: u64,
        /// and ends with this one.
        until: u64,
    },
    /// The feed is held from some sequence on only, and what was asked for comes before that.
    #[error("{0}")]
    BeginsLater(String),
    /// The disk, or the servers behind the store.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            error @ ReadError::BeginsLater { .. } => Self::BeginsLater(error.to_string()),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<CommitError> for StoreError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Unavailable(error.to_string()),
        }
    }
}

/// Whether this node gives signed receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// The gateway does: an event of its own for each batch it takes.
    Issue,
    /// An adapter does not: it is only a carrier.
    None,
}

/// The feeds a serving node carries, and its own. What it gives is what was put in, or nothing: readers verify all the same.
pub trait Store: Send + Sync + 'static {
    /// Who this node is.
    fn origin(&self) -> &AgencyCode;

    /// Names the store's history. A caller that knows another one, or a later position, begins anew.
    fn id(&self) -> Vec<u8>;

    /// The position that comes next; told whenever something was added.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Feeds whose latest batch stands at `after` or later.
    fn heads(&self, after: u64) -> Vec<FeedHead>;

    /// Takes in what others took where this store keeps its feeds, so that [`Store::heads`] tells it. A store that nobody
    /// else writes has nothing to take in.
    fn settle(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// Keys of `members` are about to be revoked by a directory that says more than `seen`. When this returns,
    /// [`Store::heads`] tells all that was taken of their feeds, and until the directory has said more, nobody takes more. A
    /// store that nobody else writes has nothing to see to.
    fn hold<'a>(
        &'a self,
        _members: &'a BTreeSet<AgencyCode>,
        _seen: Option<Head>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    /// The head of one feed; `None`: nothing of it is known.
    fn head(&self, feed: &FeedId) -> Option<Head>;

    /// When this node took one batch, Unix ms, where that is known.
    fn taken_ms<'a>(&'a self, _feed: &'a FeedId, _sequence: u64) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// Digest of one batch, where it is known; also of one that is away.
    fn digest<'a>(&'a self, feed: &'a FeedId, sequence: u64) -> BoxFuture<'a, Result<Option<Digest>, StoreError>>;

    /// Encoded batches of `feed` after sequence `after`, without a gap: at least one if there is any, more while they
    /// fit in `max_bytes`.
    fn read<'a>(
        &'a self,
        feed: &'a FeedId,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>>;

    /// The sequence of the latest batch of `feed` that restates what the feed stands for, where that is known.
    fn restated<'a>(&'a self, _feed: &'a FeedId) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async { Ok(None) })
    }

    /// Adds verified batches of one feed, all of them or none, and gives a receipt for each, if any are given: a
    /// duplicate has the one it got at first. When this returns, they are durable.
    fn take(
        &self,
        batches: Vec<VerifiedBatch>,
        receipts: Receipts,
    ) -> BoxFuture<'_, Result<Vec<wire::Receipt>, StoreError>>;

    /// Takes back batches that were away. Each has the digest that [`Store::digest`] tells, or is held together with
    /// its neighbours by the chain.
    fn take_again(&self, batches: Vec<VerifiedBatch>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Appends events of this node's own feeds.
    fn say(&self, events: Vec<NewEvent>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// As [`Store::say`], for events of the directory that were decided on what it said up to `_seen`. Only a store
    /// that other processes write, too, has to look whether it said more meanwhile, and whether [`Store::hold`] was called
    /// for every member whose keys are revoked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: it did, or was not; whoever decided is to decide again.
    fn revise(&self, events: Vec<NewEvent>, _seen: Option<Head>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.say(events)
    }
}

/// Bytes of entries that came again from their origin, kept for those who asked for them.
pub const DEFAULT_AGAIN_BYTES: usize = 64 * 1024 * 1024;
/// Entries asked for again at a time: what comes is to be read before more comes.
const MAX_WANTED: u64 = 1_024;
/// So many ranges that are asked for have room at once.
const ROOM_FOR_RANGES: usize = 8;

/// A store over a log: carrying is appending. What went from the log by retention, and what it has in an archive that is
/// not there, is asked of its origin again, and kept in memory for a while.
#[derive(Debug, Clone)]
pub struct LogStore {
    log: Log,
    again: Arc<Mutex<Again>>,
}

impl LogStore {
    /// Keeps everything in `log`.
    pub fn new(log: Log) -> Self {
        Self { log, again: Arc::new(Mutex::new(Again::new(DEFAULT_AGAIN_BYTES))) }
    }

    /// Keeps so many bytes of what comes again.
    #[must_use]
    pub fn keeping_again(self, bytes: usize) -> Self {
        Self { again: Arc::new(Mutex::new(Again::new(bytes))), ..self }
    }

    fn again(&self) -> MutexGuard<'_, Again> {
        self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries that went, or whose chunk is archived elsewhere: what came again, or an error that says what is missing.
    fn read_away(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Result<Vec<Bytes>, StoreError> {
        let came = self.again().read(feed, after, max_bytes);
        if !came.is_empty() {
            return Ok(came);
        }
        // No more than there is room for, so that it is read before it has to go again.
        let (mut until, mut bytes) = (after, 0);
        let room = self.again().capacity() / ROOM_FOR_RANGES;
        while until - after < MAX_WANTED
            && (bytes < room || until == after)
            && let Some(length) = self.log.batch_away(feed, until + 1)?
        {
            (until, bytes) = (until + 1, bytes + length as usize);
        }
        if until == after {
            return Err(StoreError::Unavailable(format!("the archive that holds {feed} was away a moment ago")));
        }
        Err(StoreError::Away { feed: feed.clone(), after, until })
    }

    /// The receipt given for a batch: made with it, or found again for a duplicate.
    fn receipt_of(&self, placed: &Placed) -> Option<wire::Receipt> {
        match self.log.event(receipt_id(&placed.feed, placed.head)) {
            Ok(event) => wire::Receipt::decode(event?.event.data).ok(),
            // It stands beside its batch, and says nothing that is not known of it.
            Err(ReadError::ArchiveMissing { .. }) => Some(receipt(placed)),
            Err(_) => None,
        }
    }
}

impl Store for LogStore {
    fn origin(&self) -> &AgencyCode {
        self.log.origin()
    }

    fn id(&self) -> Vec<u8> {
        self.log.log_id().to_vec()
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.log.watch()
    }

    fn heads(&self, after: u64) -> Vec<FeedHead> {
        self.log.heads_since(after)
    }

    fn head(&self, feed: &FeedId) -> Option<Head> {
        self.log.head(feed)
    }

    fn taken_ms<'a>(&'a self, feed: &'a FeedId, sequence: u64) -> BoxFuture<'a, Result<Option<i64>, StoreError>> {
        Box::pin(async move { Ok(self.log.batch_committed_ms(feed, sequence)?) })
    }

    fn digest<'a>(&'a self, feed: &'a FeedId, sequence: u64) -> BoxFuture<'a, Result<Option<Digest>, StoreError>> {
        Box::pin(async move {
            // What comes again is compared with its leaf hash, which the tree proves.
            if self.log.batch_away(feed, sequence)?.is_some() {
                return Ok(None);
            }
            match self.log.batch_digest(feed, sequence) {
                Err(ReadError::ArchiveMissing { .. }) => Ok(None),
                digest => Ok(digest?),
            }
        })
    }

    fn read<'a>(
        &'a self,
        feed: &'a FeedId,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move {
            match self.log.read_feed(feed, after, max_bytes) {
                Ok(entries) => Ok(entries.into_iter().map(|entry| entry.bytes).collect()),
                // This node is the origin of its own feeds: nobody else could bring them again.
                Err(ReadError::Gone(_) | ReadError::ArchiveMissing { .. }) if feed.origin != *self.log.origin() => {
                    self.read_away(feed, after, max_bytes)
                }
                Err(error) => Err(error.into()),
            }
        })
    }

    fn restated<'a>(&'a self, feed: &'a FeedId) -> BoxFuture<'a, Result<Option<u64>, StoreError>> {
        Box::pin(async move { Ok(self.log.restated(feed)?) })
    }

    fn take(
        &self,
        batches: Vec<VerifiedBatch>,
        receipts: Receipts,
    ) -> BoxFuture<'_, Result<Vec<wire::Receipt>, StoreError>> {
        Box::pin(async move {
            let committed = match receipts {
                Receipts::Issue => commit_with_receipts(&self.log, batches).await?,
                Receipts::None => self.log.commit(Transaction::copy(batches)).await?,
            };
            Ok(match receipts {
                Receipts::Issue => committed.copied.iter().filter_map(|placed| self.receipt_of(placed)).collect(),
                Receipts::None => Vec::new(),
            })
        })
    }

    fn take_again(&self, batches: Vec<VerifiedBatch>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            for batch in &batches {
                let (feed, sequence) = (batch.feed(), batch.sequence());
                // The log's tree still knows it: nothing but the very same bytes is taken.
                if self.log.batch_leaf(feed, sequence)? != Some(leaf_hash(batch.bytes())) {
                    return Err(Refusal::Fork { feed: feed.clone(), sequence }.into());
                }
            }
            for batch in batches {
                // What is here needs no room in memory.
                if self.log.batch_away(batch.feed(), batch.sequence())?.is_some() {
                    self.again().keep(batch.feed(), batch.sequence(), batch.bytes().clone());
                }
            }
            Ok(())
        })
    }

    fn say(&self, events: Vec<NewEvent>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            self.log.commit(Transaction::append(events)).await?;
            Ok(())
        })
    }
}

/// The id of the receipt's event: the same batch never gets a second one.
pub fn receipt_id(feed: &FeedId, head: Head) -> Uuid {
    derived_id(&[b"receipt\0", feed.to_string().as_bytes(), &head.sequence.to_be_bytes(), &head.digest.0])
}

/// The stream of a feed's receipts: one event a batch, in the order of sequences.
pub fn receipts_stream(feed: &FeedId) -> String {
    format!("receipts/{}/{}/{}", feed.origin, feed.audience, feed.lane)
}

fn receipt(placed: &Placed) -> wire::Receipt {
    wire::Receipt {
        feed: Some(placed.feed.to_wire()),
        sequence: placed.head.sequence,
        digest: placed.head.digest.0.to_vec(),
        position: placed.position,
        received_at_ms: placed.at_ms,
    }
}

/// Appends batches and a receipt for each. A batch that this node had lost, and of which it has the receipt back, gets
/// no other one.
pub(crate) async fn commit_with_receipts(log: &Log, batches: Vec<VerifiedBatch>) -> Result<Committed, CommitError> {
    match log.commit(Transaction::copy(batches.clone()).deriving(receipt_events)).await {
        Err(CommitError::IdConflict { .. }) => {}
        committed => return committed,
    }
    let mut given = BTreeSet::new();
    for batch in &batches {
        let id = receipt_id(batch.feed(), batch.head());
        if log.event(id)?.is_some() {
            given.insert(id);
        }
    }
    let others = move |placed: &[Placed]| {
        let mut events = receipt_events(placed);
        events.retain(|event| !given.contains(&event.id));
        events
    };
    log.commit(Transaction::copy(batches).deriving(others)).await
}

/// One receipt an accepted batch, to its origin. A duplicate has its receipt already.
pub fn receipt_events(placed: &[Placed]) -> Vec<NewEvent> {
    placed
        .iter()
        .filter(|placed| !placed.duplicate)
        .map(|placed| {
            let receipt = receipt(placed);
            let audience = Audience::One(placed.feed.origin.clone());
            NewEvent::of(audience, Lane::Report, receipts_stream(&placed.feed), &receipt)
                .with_id(receipt_id(&placed.feed, placed.head))
                .with_actor("gateway")
        })
        .collect()
}
