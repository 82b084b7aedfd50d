//! The serving side over a log: what gateway and adapter answer, whatever driver asks.

use std::collections::BTreeSet;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, Digest, Directory, FeedId, Lane, Refusal, VerifiedBatch};
use httt_log::{CommitError, Log, NewEvent, Placed, Transaction};
use httt_wire::directory::ForkSeen;
use httt_wire::{Message as _, Name as _, exchange as wire, feed as feed_pb};
use tokio::sync::watch;
use uuid::Uuid;

use crate::refusal::{not_found, refusal_to_wire, unavailable};
use crate::{MAX_CALL_BYTES, MAX_ENTRIES_PER_PUSH, MAX_MEDIA_RANGE, MAX_WAIT_MS, Media, MediaError, admit};

/// Largest part of a forked batch kept in one event.
const EVIDENCE_PART_BYTES: usize = 32 * 1024;

/// The directory as folded from a log, shared between the parts of a node.
#[derive(Debug, Clone)]
pub struct SharedDirectory {
    current: Arc<RwLock<Arc<Directory>>>,
    version: Arc<watch::Sender<u64>>,
}

impl SharedDirectory {
    /// Starts from what is known without any log.
    pub fn new(directory: Directory) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(directory))), version: Arc::new(watch::Sender::new(0)) }
    }

    /// The directory now.
    pub fn get(&self) -> Arc<Directory> {
        Arc::clone(&self.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// Folds one entry's events; readers of [`SharedDirectory::watch`] are told when it was a directory entry.
    pub fn apply(&self, feed: &FeedId, events: &[feed_pb::Event]) {
        if feed.lane != Lane::Directory {
            return;
        }
        {
            let mut current = self.current.write().unwrap_or_else(|poisoned| poisoned.into_inner());
            Arc::make_mut(&mut current).apply(feed, events);
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// Changes whenever the directory did.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }
}

/// Whether this node gives signed receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// The gateway does: an event of its own for each batch it takes, in the same commit.
    Issue,
    /// An adapter does not: it is only a carrier.
    None,
}

/// Serves the exchange over a log.
pub struct Service {
    log: Log,
    directory: SharedDirectory,
    media: Arc<dyn Media>,
    receipts: Receipts,
    /// Feeds that forked; nothing more is taken from them.
    stopped: RwLock<BTreeSet<FeedId>>,
    closing: watch::Receiver<bool>,
}

impl Service {
    /// Serves `log` until `closing` turns true; from then on nobody is kept waiting.
    pub fn new(
        log: Log,
        directory: SharedDirectory,
        media: Arc<dyn Media>,
        receipts: Receipts,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self { log, directory, media, receipts, stopped: RwLock::default(), closing }
    }

    /// Marks a feed as forked, as a replayed `ForkSeen` says.
    pub fn stop_feed(&self, feed: FeedId) {
        self.stopped.write().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(feed);
    }

    /// Feeds that forked.
    pub fn stopped_feeds(&self) -> Vec<FeedId> {
        self.stopped.read().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().cloned().collect()
    }

    /// Heads that changed at or after `request.after` and that `caller` may read; waits for one if asked to.
    pub async fn heads(&self, caller: &AgencyCode, request: wire::HeadsRequest) -> wire::HeadsResponse {
        let mut length = self.log.watch();
        let log_id = self.log.log_id();
        let after = if request.log_id == log_id && request.after <= *length.borrow() { request.after } else { 0 };
        let wait = Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS).into());
        let deadline = tokio::time::Instant::now() + wait;
        let mut closing = self.closing.clone();
        loop {
            // Taken before the heads are read: what comes in between is told again, never missed.
            let position = *length.borrow_and_update();
            let directory = self.directory.get();
            let heads: Vec<wire::Head> = self
                .log
                .heads()
                .into_iter()
                .filter(|head| head.position >= after && directory.may_read(caller, &head.feed).is_ok())
                .map(|head| wire_head(&head.feed, head.head))
                .collect();
            let more = heads.is_empty()
                && !wait.is_zero()
                && tokio::select! {
                    changed = length.changed() => changed.is_ok(),
                    () = tokio::time::sleep_until(deadline) => false,
                    _ = closing.wait_for(|closing| *closing) => false,
                };
            if !more {
                return wire::HeadsResponse { log_id: log_id.to_vec(), position, heads };
            }
        }
    }

    /// Entries of one feed after a sequence.
    pub fn read(&self, caller: &AgencyCode, request: &wire::ReadRequest) -> wire::ReadResponse {
        let refused = |refusal| wire::ReadResponse { refusal: Some(refusal), ..Default::default() };
        let feed = match feed_of(request.feed.as_ref()) {
            Ok(feed) => feed,
            Err(refusal) => return refused(refusal_to_wire(&refusal)),
        };
        if let Err(refusal) = self.directory.get().may_read(caller, &feed) {
            return refused(refusal_to_wire(&refusal));
        }
        let most = (request.max_bytes as usize).clamp(1, MAX_CALL_BYTES);
        match self.log.read_feed(&feed, request.after, most) {
            Ok(entries) => wire::ReadResponse {
                entries: entries.into_iter().map(|entry| entry.bytes).collect(),
                head: self.log.head(&feed).map_or(0, |head| head.sequence),
                refusal: None,
            },
            Err(error) => {
                tracing::error!(%feed, %error, "a feed cannot be read");
                refused(unavailable(error.to_string()))
            }
        }
    }

    /// Takes the good prefix of what is pushed; says why the rest is refused. The log is untouched by what is refused.
    pub async fn push(&self, caller: &AgencyCode, request: wire::PushRequest) -> wire::PushResponse {
        let refused = |refusal: &Refusal| {
            tracing::warn!(%caller, %refusal, "push refused");
            wire::PushResponse { refusal: Some(refusal_to_wire(refusal)), ..Default::default() }
        };
        let feed = match feed_of(request.feed.as_ref()) {
            Ok(feed) => feed,
            Err(refusal) => return refused(&refusal),
        };
        let directory = self.directory.get();
        if let Err(refusal) = directory.may_push(caller, &feed) {
            return refused(&refusal);
        }
        if request.entries.len() > MAX_ENTRIES_PER_PUSH {
            let (size, limit) = (request.entries.len(), MAX_ENTRIES_PER_PUSH);
            return refused(&Refusal::TooLarge { what: "a push (in batches)", size, limit });
        }
        let head = self.log.head(&feed);
        if self.stopped.read().unwrap_or_else(|poisoned| poisoned.into_inner()).contains(&feed) {
            let sequence = head.map_or(0, |head| head.sequence);
            return self.answer(&feed, vec![], Some(refusal_to_wire(&Refusal::Fork { feed: feed.clone(), sequence })));
        }
        let admission = admit(&directory, &feed, head, &request.entries);
        if let Some((_, refusal)) = &admission.refused {
            tracing::warn!(%caller, %refusal, "push refused");
        }
        if let Some((bytes, refusal @ Refusal::Fork { .. })) = &admission.refused {
            self.keep_fork(&feed, refusal, bytes).await;
        }
        let refusal = admission.refused.as_ref().map(|(_, refusal)| refusal_to_wire(refusal));
        if admission.batches.is_empty() {
            return self.answer(&feed, vec![], refusal);
        }
        let batches = admission.batches.clone();
        let mut transaction = Transaction::copy(admission.batches);
        if self.receipts == Receipts::Issue {
            transaction = transaction.deriving(receipt_events);
        }
        match self.log.commit(transaction).await {
            Ok(committed) => {
                let receipts = committed.copied.iter().filter_map(|placed| self.receipt_of(placed)).collect();
                self.answer(&feed, receipts, refusal)
            }
            Err(CommitError::Refused(refusal)) => {
                if let Refusal::Fork { sequence, .. } = &refusal
                    && let Some(other) = batches.iter().find(|batch| batch.sequence() == *sequence)
                {
                    self.keep_fork(&feed, &refusal, other.bytes()).await;
                }
                self.answer(&feed, vec![], Some(refusal_to_wire(&refusal)))
            }
            Err(error) => {
                tracing::error!(%feed, %error, "the log does not take a push");
                self.answer(&feed, vec![], Some(unavailable(error.to_string())))
            }
        }
    }

    fn answer(
        &self,
        feed: &FeedId,
        receipts: Vec<wire::Receipt>,
        refusal: Option<wire::Refusal>,
    ) -> wire::PushResponse {
        wire::PushResponse { head: self.log.head(feed).map(|head| wire_head(feed, head)), receipts, refusal }
    }

    /// The receipt given for a batch: made with it, or found again for a duplicate.
    fn receipt_of(&self, placed: &Placed) -> Option<wire::Receipt> {
        if self.receipts == Receipts::None {
            return None;
        }
        let event = self.log.event(receipt_id(&placed.feed, placed.head.sequence, placed.head.digest)).ok()??;
        wire::Receipt::decode(event.event.data).ok()
    }

    /// Both batches are kept: the one held is in the log, the other one becomes events. The feed stops.
    async fn keep_fork(&self, feed: &FeedId, refusal: &Refusal, other: &Bytes) {
        let Refusal::Fork { sequence, .. } = refusal else { return };
        tracing::error!(%feed, sequence, "two batches hold one sequence; the feed stops here");
        self.stop_feed(feed.clone());
        let held = self.log.batch_digest(feed, *sequence).ok().flatten();
        if let Err(error) =
            self.log.commit(Transaction::append(fork_events(&self.log, feed, *sequence, held, other))).await
        {
            tracing::error!(%feed, %error, "the evidence of a fork could not be kept");
        }
    }

    /// How much of a media file is held.
    pub async fn stat_media(&self, request: wire::StatMediaRequest) -> wire::StatMediaResponse {
        match media_digest(&request.sha256) {
            Ok(digest) => stat_response(self.media.stat(digest).await),
            Err(refusal) => wire::StatMediaResponse { refusal: Some(refusal), ..Default::default() },
        }
    }

    /// One range of a media file. Any member may read any media whose digest it knows: digests travel in feeds.
    pub async fn read_media(&self, caller: &AgencyCode, request: wire::ReadMediaRequest) -> wire::ReadMediaResponse {
        let refused = |refusal| wire::ReadMediaResponse { refusal: Some(refusal), ..Default::default() };
        if self.directory.get().member(caller).is_none() {
            return refused(refusal_to_wire(&Refusal::NotAMember(caller.to_string())));
        }
        let digest = match media_digest(&request.sha256) {
            Ok(digest) => digest,
            Err(refusal) => return refused(refusal),
        };
        let most = (request.max_bytes as usize).clamp(1, MAX_MEDIA_RANGE);
        match self.media.read(digest, request.offset, most).await {
            Ok((data, size)) => wire::ReadMediaResponse { data, size, refusal: None },
            Err(error) => refused(media_refusal(&error)),
        }
    }

    /// The next range of a media file.
    pub async fn write_media(&self, caller: &AgencyCode, request: wire::WriteMediaRequest) -> wire::StatMediaResponse {
        let refused = |refusal| wire::StatMediaResponse { refusal: Some(refusal), ..Default::default() };
        if self.directory.get().member(caller).is_none() {
            return refused(refusal_to_wire(&Refusal::NotAMember(caller.to_string())));
        }
        if request.data.len() > MAX_MEDIA_RANGE {
            let (size, limit) = (request.data.len(), MAX_MEDIA_RANGE);
            return refused(refusal_to_wire(&Refusal::TooLarge { what: "a range of media", size, limit }));
        }
        match media_digest(&request.sha256) {
            Ok(digest) => stat_response(self.media.write(digest, request.size, request.offset, request.data).await),
            Err(refusal) => refused(refusal),
        }
    }
}

fn feed_of(feed: Option<&wire::FeedId>) -> Result<FeedId, Refusal> {
    let feed = feed.ok_or_else(|| Refusal::Malformed("the request names no feed".into()))?;
    FeedId::from_wire(feed).map_err(|error| Refusal::Malformed(error.to_string()))
}

fn wire_head(feed: &FeedId, head: httt_feed::Head) -> wire::Head {
    wire::Head { feed: Some(feed.to_wire()), sequence: head.sequence, digest: head.digest.0.to_vec() }
}

fn media_digest(bytes: &[u8]) -> Result<Digest, wire::Refusal> {
    Digest::from_slice(bytes)
        .ok_or_else(|| refusal_to_wire(&Refusal::Malformed("a media digest has 32 bytes (SHA-256)".into())))
}

fn media_refusal(error: &MediaError) -> wire::Refusal {
    match error {
        MediaError::NotHeld(_) => not_found(error.to_string()),
        MediaError::Refused(what) => refusal_to_wire(&Refusal::Malformed(what.clone())),
        MediaError::Io(_) => {
            tracing::error!(%error, "media");
            unavailable(error.to_string())
        }
    }
}

fn stat_response(stat: Result<crate::MediaStat, MediaError>) -> wire::StatMediaResponse {
    match stat {
        Ok(stat) => {
            wire::StatMediaResponse { held: stat.held, size: stat.size, complete: stat.complete, refusal: None }
        }
        Err(error) => wire::StatMediaResponse { refusal: Some(media_refusal(&error)), ..Default::default() },
    }
}

/// A UUID made from what it stands for, so that the same fact gets the same id wherever and whenever it is told.
fn derived_id(parts: &[&[u8]]) -> Uuid {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Digest::of(&parts.concat()).0[..16]);
    Uuid::new_v8(bytes)
}

fn receipt_id(feed: &FeedId, sequence: u64, digest: Digest) -> Uuid {
    derived_id(&[b"receipt\0", feed.to_string().as_bytes(), &sequence.to_be_bytes(), &digest.0])
}

/// One receipt an accepted batch, to its origin. A duplicate has its receipt already.
fn receipt_events(placed: &[Placed]) -> Vec<NewEvent> {
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
            let stream = format!("receipts/{}/{}/{}", placed.feed.origin, placed.feed.audience, placed.feed.lane);
            NewEvent::of(audience, Lane::Report, stream, &receipt)
                .with_id(receipt_id(&placed.feed, placed.head.sequence, placed.head.digest))
                .with_actor("gateway")
        })
        .collect()
}

/// The events that keep the other batch of a fork.
pub(crate) fn fork_events(
    log: &Log,
    feed: &FeedId,
    sequence: u64,
    held: Option<Digest>,
    other: &Bytes,
) -> Vec<NewEvent> {
    let digest = Digest::of(other);
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
            NewEvent::of(Audience::One(log.origin().clone()), Lane::Local, format!("fork/{feed}"), &seen)
                .with_id(derived_id(&[ForkSeen::full_name().as_bytes(), &digest.0, &(part as u64).to_be_bytes()]))
                .with_actor("exchange")
        })
        .collect()
}

/// Batches whose signature holds but which contradict the log: for the runner's evidence.
pub(crate) fn evidence_of(batches: &[VerifiedBatch], sequence: u64) -> Option<Bytes> {
    batches.iter().find(|batch| batch.sequence() == sequence).map(|batch| batch.bytes().clone())
}
