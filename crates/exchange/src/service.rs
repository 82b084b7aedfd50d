//! The serving side over a log: what gateway and adapter answer, whatever driver asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, Digest, Directory, FeedId, Head, Lane, Refusal};
use httt_log::{CommitError, Log, NewEvent, Placed, ReadError, Transaction};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::watch;
use uuid::Uuid;

use crate::admit::Admission;
use crate::evidence::{Evidence, derived_id};
use crate::refusal::{not_found, refusal_to_wire, unavailable};
use crate::{MAX_CALL_BYTES, MAX_ENTRIES_PER_PUSH, MAX_MEDIA_RANGE, MAX_WAIT_MS, Media, MediaError, Witnessing, admit};

/// Batches of a push that are verified where they arrive; more go to a thread of their own.
const VERIFIED_INLINE: usize = 16;

/// The directory as folded from a log, shared between the parts of a node. It is folded when it is asked for, so that
/// nobody ever verifies against an older directory than the log holds.
#[derive(Debug, Clone)]
pub struct SharedDirectory {
    log: Log,
    folded: Arc<RwLock<Folded>>,
}

#[derive(Debug)]
struct Folded {
    directory: Arc<Directory>,
    /// Last sequence folded of each directory feed.
    sequences: BTreeMap<FeedId, u64>,
}

impl SharedDirectory {
    /// Starts from what is known without any log, and folds what `log` holds.
    pub fn new(log: Log, directory: Directory) -> Self {
        let folded = Folded { directory: Arc::new(directory), sequences: BTreeMap::new() };
        Self { log, folded: Arc::new(RwLock::new(folded)) }
    }

    /// The directory with everything the log holds at this moment. If the log cannot be read it is the one before,
    /// which refuses more, never less.
    pub fn get(&self) -> Arc<Directory> {
        let feeds = self.feeds();
        {
            let folded = self.folded.read().unwrap_or_else(PoisonError::into_inner);
            if feeds.iter().all(|(feed, sequence)| folded.sequences.get(feed) == Some(sequence)) {
                return Arc::clone(&folded.directory);
            }
        }
        let mut folded = self.folded.write().unwrap_or_else(PoisonError::into_inner);
        for (feed, _) in feeds {
            if let Err(error) = folded.catch_up(&self.log, &feed) {
                tracing::error!(%feed, %error, "the directory cannot be read");
            }
        }
        Arc::clone(&folded.directory)
    }

    /// Directory feeds held: the gateway's, once it is known.
    fn feeds(&self) -> Vec<(FeedId, u64)> {
        let gateway = {
            let folded = self.folded.read().unwrap_or_else(PoisonError::into_inner);
            folded.directory.gateway().cloned()
        };
        match gateway {
            Some(gateway) => {
                let feed = FeedId::new(gateway, Audience::All, Lane::Directory);
                self.log.head(&feed).map(|head| (feed, head.sequence)).into_iter().collect()
            }
            None => self
                .log
                .heads()
                .into_iter()
                .filter(|head| head.feed.lane == Lane::Directory)
                .map(|head| (head.feed, head.head.sequence))
                .collect(),
        }
    }
}

impl Folded {
    fn catch_up(&mut self, log: &Log, feed: &FeedId) -> Result<(), ReadError> {
        loop {
            let after = self.sequences.get(feed).copied().unwrap_or(0);
            let entries = log.read_feed(feed, after, MAX_CALL_BYTES)?;
            let Some(last) = entries.last() else { return Ok(()) };
            let directory = Arc::make_mut(&mut self.directory);
            entries.iter().for_each(|entry| directory.apply(feed, &entry.batch.events));
            self.sequences.insert(feed.clone(), last.sequence);
        }
    }
}

/// Feeds that forked; nothing more is taken from them until an operator decides. Shared by all parts of a node, and
/// told again from the log's `ForkSeen` events after a restart.
#[derive(Debug, Clone, Default)]
pub struct StoppedFeeds(Arc<RwLock<BTreeSet<FeedId>>>);

impl StoppedFeeds {
    /// Stops a feed.
    pub fn stop(&self, feed: FeedId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(feed);
    }

    /// Whether it is stopped.
    pub fn contains(&self, feed: &FeedId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(feed)
    }

    /// All of them.
    pub fn list(&self) -> Vec<FeedId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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
    stopped: StoppedFeeds,
    closing: watch::Receiver<bool>,
    witness: Arc<Witnessing>,
}

impl Service {
    /// Serves `log` until `closing` turns true; from then on nobody is kept waiting.
    pub fn new(
        log: Log,
        directory: SharedDirectory,
        media: Arc<dyn Media>,
        receipts: Receipts,
        stopped: StoppedFeeds,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let witness = Arc::new(Witnessing::new(log.clone(), directory.clone()));
        Self { log, directory, media, receipts, stopped, closing, witness }
    }

    /// Shares the witness with the rest of the node.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<Witnessing>) -> Self {
        self.witness = witness;
        self
    }

    /// Witnessing, in both directions.
    pub async fn witness(&self, request: wire::WitnessRequest) -> wire::WitnessResponse {
        self.witness.answer(request).await
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
            let all = self.log.heads();
            // A changed directory may have given rights: feeds that did not change are news then, too.
            let rights_changed = all.iter().any(|head| head.feed.lane == Lane::Directory && head.position >= after);
            let after = if rights_changed { 0 } else { after };
            let heads: Vec<wire::Head> = all
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
                return wire::HeadsResponse { log_id: log_id.to_vec(), position, heads, ..Default::default() };
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
                ..Default::default()
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
        if self.stopped.contains(&feed) {
            let sequence = head.map_or(0, |head| head.sequence);
            return self.answer(&feed, vec![], Some(refusal_to_wire(&Refusal::Fork { feed: feed.clone(), sequence })));
        }
        let admission = self.admit(directory, &feed, head, request.entries).await;
        if let Some((_, refusal)) = &admission.refused {
            tracing::warn!(%caller, %refusal, "push refused");
        }
        if let Some((bytes, refusal)) = &admission.refused {
            self.evidence().keep(&feed, refusal, bytes).await;
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
                self.evidence().keep_from(&feed, &refusal, &batches).await;
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

    fn evidence(&self) -> Evidence<'_> {
        Evidence { log: &self.log, stopped: &self.stopped }
    }

    /// Verifying a long push is work for a thread that may be busy.
    async fn admit(
        &self,
        directory: Arc<Directory>,
        feed: &FeedId,
        head: Option<Head>,
        entries: Vec<Bytes>,
    ) -> Admission {
        if entries.len() <= VERIFIED_INLINE {
            return admit(&directory, feed, head, &entries);
        }
        let feed = feed.clone();
        tokio::task::spawn_blocking(move || admit(&directory, &feed, head, &entries)).await.unwrap_or_default()
    }

    /// How much of a media file is held.
    pub async fn stat_media(&self, caller: &AgencyCode, request: wire::StatMediaRequest) -> wire::StatMediaResponse {
        let refused = |refusal| wire::StatMediaResponse { refusal: Some(refusal), ..Default::default() };
        if let Err(refusal) = self.member(caller) {
            return refused(refusal);
        }
        match media_digest(&request.sha256) {
            Ok(digest) => stat_response(self.media.stat(caller, digest).await),
            Err(refusal) => refused(refusal),
        }
    }

    fn member(&self, caller: &AgencyCode) -> Result<(), wire::Refusal> {
        match self.directory.get().member(caller) {
            Some(_) => Ok(()),
            None => Err(refusal_to_wire(&Refusal::NotAMember(caller.to_string()))),
        }
    }

    /// One range of a media file. Any member may read any media whose digest it knows: digests travel in feeds.
    pub async fn read_media(&self, caller: &AgencyCode, request: wire::ReadMediaRequest) -> wire::ReadMediaResponse {
        let refused = |refusal| wire::ReadMediaResponse { refusal: Some(refusal), ..Default::default() };
        if let Err(refusal) = self.member(caller) {
            return refused(refusal);
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
        if let Err(refusal) = self.member(caller) {
            return refused(refusal);
        }
        if request.data.len() > MAX_MEDIA_RANGE {
            let (size, limit) = (request.data.len(), MAX_MEDIA_RANGE);
            return refused(refusal_to_wire(&Refusal::TooLarge { what: "a range of media", size, limit }));
        }
        match media_digest(&request.sha256) {
            Ok(digest) => {
                stat_response(self.media.write(caller, digest, request.size, request.offset, request.data).await)
            }
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

fn receipt_id(feed: &FeedId, sequence: u64, digest: Digest) -> Uuid {
    derived_id(&[b"receipt\0", feed.to_string().as_bytes(), &sequence.to_be_bytes(), &digest.0])
}

/// One receipt an accepted batch, to its origin. A duplicate has its receipt already.
pub(crate) fn receipt_events(placed: &[Placed]) -> Vec<NewEvent> {
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
