//! Where a serving node keeps the feeds it carries.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use httt_feed::{AgencyCode, Audience, Digest, FeedId, Head, Lane, Refusal, VerifiedBatch};
use httt_log::{CommitError, FeedHead, Log, NewEvent, Placed, ReadError, Transaction};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::watch;
use uuid::Uuid;

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
    /// The disk, or the servers behind the store.
    #[error("{0}")]
    Unavailable(String),
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
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

    /// The head of one feed; `None`: nothing of it is known.
    fn head(&self, feed: &FeedId) -> Option<Head>;

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
}

/// A store over a log: carrying is appending.
#[derive(Debug, Clone)]
pub struct LogStore {
    log: Log,
}

impl LogStore {
    /// Keeps everything in `log`.
    pub fn new(log: Log) -> Self {
        Self { log }
    }

    /// The receipt given for a batch: made with it, or found again for a duplicate.
    fn receipt_of(&self, placed: &Placed) -> Option<wire::Receipt> {
        let event = self.log.event(receipt_id(&placed.feed, placed.head)).ok()??;
        wire::Receipt::decode(event.event.data).ok()
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
        self.log.heads().into_iter().filter(|head| head.position >= after).collect()
    }

    fn head(&self, feed: &FeedId) -> Option<Head> {
        self.log.head(feed)
    }

    fn digest<'a>(&'a self, feed: &'a FeedId, sequence: u64) -> BoxFuture<'a, Result<Option<Digest>, StoreError>> {
        Box::pin(async move { Ok(self.log.batch_digest(feed, sequence)?) })
    }

    fn read<'a>(
        &'a self,
        feed: &'a FeedId,
        after: u64,
        max_bytes: usize,
    ) -> BoxFuture<'a, Result<Vec<Bytes>, StoreError>> {
        Box::pin(async move {
            let entries = self.log.read_feed(feed, after, max_bytes)?;
            Ok(entries.into_iter().map(|entry| entry.bytes).collect())
        })
    }

    fn take(
        &self,
        batches: Vec<VerifiedBatch>,
        receipts: Receipts,
    ) -> BoxFuture<'_, Result<Vec<wire::Receipt>, StoreError>> {
        Box::pin(async move {
            let mut transaction = Transaction::copy(batches);
            if receipts == Receipts::Issue {
                transaction = transaction.deriving(receipt_events);
            }
            let committed = self.log.commit(transaction).await?;
            Ok(match receipts {
                Receipts::Issue => committed.copied.iter().filter_map(|placed| self.receipt_of(placed)).collect(),
                Receipts::None => Vec::new(),
            })
        })
    }

    fn take_again(&self, _batches: Vec<VerifiedBatch>) -> BoxFuture<'_, Result<(), StoreError>> {
        // A log that holds a batch has nothing to take back.
        Box::pin(async { Ok(()) })
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

/// One receipt an accepted batch, to its origin. A duplicate has its receipt already.
pub fn receipt_events(placed: &[Placed]) -> Vec<NewEvent> {
    placed
        .iter()
        .filter(|placed| !placed.duplicate)
        .map(|placed| {
            let receipt = wire::Receipt {
                feed: Some(placed.feed.to_wire()),
                sequence: placed.head.sequence,
                digest: placed.head.digest.0.to_vec(),
                position: placed.position,
                received_at_ms: placed.at_ms,
            };
            let audience = Audience::One(placed.feed.origin.clone());
            NewEvent::of(audience, Lane::Report, receipts_stream(&placed.feed), &receipt)
                .with_id(receipt_id(&placed.feed, placed.head))
                .with_actor("gateway")
        })
        .collect()
}
