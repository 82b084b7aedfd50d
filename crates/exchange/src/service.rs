//! The serving side over a store: what gateway and adapter answer, whatever driver asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Head, Refusal, VerifiedBatch};
use httt_log::{FeedHead, NewEvent};
use httt_wire::exchange as wire;
use tokio::sync::{RwLock, watch};

use crate::admit::Admission;
use crate::evidence::{BadPushes, Evidence};
use crate::refusal::{away, not_found, refusal_to_wire, unavailable};
use crate::wants::Wants;
use crate::{
    Alarm, MAX_CALL_BYTES, MAX_ENTRIES_PER_PUSH, MAX_HEADS, MAX_MEDIA_RANGE, MAX_WAIT_MS, Media, MediaError, Receipts,
    SharedDirectory, StoppedFeeds, Store, StoreError, Witnessing, admit,
};

/// Batches of a push that are verified where they arrive; more go to a thread of their own.
const VERIFIED_INLINE: usize = 16;
/// When a reader is to come back for what must be asked of its origin, ms.
const AWAY_RETRY_MS: u32 = 1_000;

/// Serves the exchange over a store.
pub struct Service {
    store: Arc<dyn Store>,
    directory: SharedDirectory,
    media: Arc<dyn Media>,
    receipts: Receipts,
    stopped: StoppedFeeds,
    closing: watch::Receiver<bool>,
    witness: Option<Arc<Witnessing>>,
    wants: Wants,
    bad_pushes: BadPushes,
    /// Held for reading from looking at the directory until the store has taken what was judged by it; for writing
    /// while keys and rights change. So what a revocation says was accepted before is all that was.
    gate: RwLock<()>,
}

impl Service {
    /// Serves `store` until `closing` turns true; from then on nobody is kept waiting.
    pub fn new(
        store: Arc<dyn Store>,
        directory: SharedDirectory,
        media: Arc<dyn Media>,
        receipts: Receipts,
        stopped: StoppedFeeds,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let (wants, bad_pushes, gate) = (Wants::default(), BadPushes::default(), RwLock::new(()));
        Self { store, directory, media, receipts, stopped, closing, witness: None, wants, bad_pushes, gate }
    }

    /// Shares the witness with the rest of the node.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<Witnessing>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Witnessing, in both directions.
    pub async fn witness(&self, request: wire::WitnessRequest) -> wire::WitnessResponse {
        match &self.witness {
            Some(witness) => witness.answer(request).await,
            None => wire::WitnessResponse { status: 404, body: "this node does not witness".into() },
        }
    }

    /// Changes who takes part, with which keys and rights. `revise` sees the directory and all heads as they stay until
    /// what it gives is in the store.
    ///
    /// # Errors
    /// What `revise` says, or the store.
    pub async fn revise<E: From<StoreError>>(
        &self,
        revise: impl FnOnce(&Directory, &[FeedHead]) -> Result<Vec<NewEvent>, E>,
    ) -> Result<(), E> {
        let _alone = self.gate.write().await;
        let events = revise(&self.directory.get(), &self.store.heads(0))?;
        if !events.is_empty() {
            self.store.say(events).await?;
        }
        Ok(())
    }

    /// Heads that changed at or after `request.after` and that `caller` may read; waits for one if asked to.
    pub async fn heads(&self, caller: &AgencyCode, request: wire::HeadsRequest) -> wire::HeadsResponse {
        let (mut length, mut wanted) = (self.store.watch(), self.wants.watch());
        let log_id = self.store.id();
        let after = if request.log_id == log_id && request.after <= *length.borrow() { request.after } else { 0 };
        let wait = Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS).into());
        let deadline = (!wait.is_zero()).then(|| tokio::time::Instant::now() + wait);
        let mut closing = self.closing.clone();
        loop {
            // Taken before the heads are read: what comes in between is told again, never missed.
            let position = *length.borrow_and_update();
            wanted.borrow_and_update();
            let directory = self.directory.get();
            if let Err(refusal) = directory.admits(caller) {
                let refusal = Some(refusal_to_wire(&refusal));
                return wire::HeadsResponse { log_id, refusal, ..Default::default() };
            }
            let answer = self.news(caller, &directory, after, position);
            let more = answer.heads.is_empty()
                && answer.wants.is_empty()
                && match deadline {
                    None => false,
                    Some(deadline) => tokio::select! {
                        changed = length.changed() => changed.is_ok(),
                        changed = wanted.changed() => changed.is_ok(),
                        () = tokio::time::sleep_until(deadline) => false,
                        _ = closing.wait_for(|closing| *closing) => false,
                    },
                };
            if !more {
                return wire::HeadsResponse { log_id, ..answer };
            }
        }
    }

    /// What is new to `caller` since `after`, the store standing at `position`.
    fn news(&self, caller: &AgencyCode, directory: &Directory, after: u64, position: u64) -> wire::HeadsResponse {
        let mut changed = self.store.heads(after);
        changed.retain(|head| directory.may_read(caller, &head.feed).is_ok());
        let more = changed.len() > MAX_HEADS;
        let mut position = position;
        if more {
            // The rest changed later, so that is where to go on.
            changed.sort_by_key(|head| head.position);
            position = changed.get(MAX_HEADS).map_or(position, |next| next.position);
            changed.truncate(MAX_HEADS);
        }
        let heads = changed.iter().map(|head| wire_head(&head.feed, head.head)).collect();
        let wants = self.wants.of(|feed| directory.may_push(caller, feed).is_ok());
        wire::HeadsResponse { position, heads, more, wants, ..Default::default() }
    }

    /// Entries of one feed after a sequence.
    pub async fn read(&self, caller: &AgencyCode, request: &wire::ReadRequest) -> wire::ReadResponse {
        let refused = |refusal| wire::ReadResponse { refusal: Some(refusal), ..Default::default() };
        let feed = match feed_of(request.feed.as_ref()) {
            Ok(feed) => feed,
            Err(refusal) => return refused(refusal_to_wire(&refusal)),
        };
        if let Err(refusal) = self.directory.get().may_read(caller, &feed) {
            return refused(refusal_to_wire(&refusal));
        }
        let most = (request.max_bytes as usize).clamp(1, MAX_CALL_BYTES);
        let head = self.store.head(&feed).map_or(0, |head| head.sequence);
        match self.store.read(&feed, request.after, most).await {
            Ok(entries) => wire::ReadResponse { entries, head, ..Default::default() },
            Err(StoreError::Away { feed, after, until }) => {
                self.wants.add(&feed, after, until);
                let refusal = away(&feed, after, until, AWAY_RETRY_MS);
                wire::ReadResponse { head, refusal: Some(refusal), ..Default::default() }
            }
            Err(error) => {
                tracing::error!(%feed, %error, "a feed cannot be read");
                refused(unavailable(error.to_string()))
            }
        }
    }

    /// Takes the good prefix of what is pushed; says why the rest is refused. The store is untouched by what is refused.
    pub async fn push(&self, caller: &AgencyCode, request: wire::PushRequest) -> wire::PushResponse {
        let refused = |refusal: &Refusal| {
            tracing::warn!(%caller, %refusal, "push refused");
            wire::PushResponse { refusal: Some(refusal_to_wire(refusal)), ..Default::default() }
        };
        let feed = match feed_of(request.feed.as_ref()) {
            Ok(feed) => feed,
            Err(refusal) => return refused(&refusal),
        };
        let _open = self.gate.read().await;
        let directory = self.directory.get();
        if let Err(refusal) = directory.may_push(caller, &feed) {
            return refused(&refusal);
        }
        if request.entries.len() > MAX_ENTRIES_PER_PUSH {
            let (size, limit) = (request.entries.len(), MAX_ENTRIES_PER_PUSH);
            return refused(&Refusal::TooLarge { what: "a push (in batches)", size, limit });
        }
        if request.again {
            return self.push_again(caller, &directory, &feed, request.entries).await;
        }
        let head = self.store.head(&feed);
        if self.stopped.contains(&feed) {
            let sequence = head.map_or(0, |head| head.sequence);
            return self.answer(&feed, vec![], Some(refusal_to_wire(&Refusal::Fork { feed: feed.clone(), sequence })));
        }
        let admission = self.admit(directory, &feed, head, request.entries).await;
        if let Some((bytes, refusal)) = &admission.refused {
            tracing::warn!(%caller, %refusal, "push refused");
            if self.bad_pushes.record(caller, refusal, self.receipts) {
                let alarm = Alarm { feed: feed.clone(), refusal: refusal.clone(), evidence: Some(bytes.clone()) };
                self.evidence().keep_alarm(caller.as_str(), alarm).await;
            } else {
                self.evidence().keep(&feed, refusal, bytes).await;
            }
        }
        let refusal = admission.refused.as_ref().map(|(_, refusal)| refusal_to_wire(refusal));
        if admission.batches.is_empty() {
            return self.answer(&feed, vec![], refusal);
        }
        let batches = admission.batches.clone();
        match self.store.take(admission.batches, self.receipts).await {
            Ok(receipts) => self.answer(&feed, receipts, refusal),
            Err(StoreError::Refused(refusal)) => {
                self.evidence().keep_from(&feed, &refusal, &batches).await;
                self.answer(&feed, vec![], Some(refusal_to_wire(&refusal)))
            }
            Err(error) => {
                tracing::error!(%feed, %error, "the store does not take a push");
                self.answer(&feed, vec![], Some(unavailable(error.to_string())))
            }
        }
    }

    /// Takes back what was let go or lost. It must be what it was: its digest is known, or it is chained to what is.
    async fn push_again(
        &self,
        caller: &AgencyCode,
        directory: &Directory,
        feed: &FeedId,
        entries: Vec<Bytes>,
    ) -> wire::PushResponse {
        let taken = self.verify_again(directory, feed, entries).await;
        let last = taken.as_ref().ok().and_then(|batches| batches.last().map(VerifiedBatch::sequence));
        let outcome = match taken {
            Ok(batches) => self.store.take_again(batches).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                last.into_iter().for_each(|last| self.wants.got(feed, last));
                self.answer(feed, vec![], None)
            }
            Err(StoreError::Refused(refusal)) => {
                tracing::warn!(%caller, %refusal, "entries brought again are not those that were held");
                self.answer(feed, vec![], Some(refusal_to_wire(&refusal)))
            }
            Err(error) => self.answer(feed, vec![], Some(unavailable(error.to_string()))),
        }
    }

    /// Entries that are away were verified when they came first. Now each must be the very same one.
    async fn verify_again(
        &self,
        directory: &Directory,
        feed: &FeedId,
        entries: Vec<Bytes>,
    ) -> Result<Vec<VerifiedBatch>, StoreError> {
        let mut batches: Vec<VerifiedBatch> = Vec::new();
        for bytes in entries {
            let batch = httt_feed::parse(bytes)?;
            if batch.feed() != feed {
                return Err(Refusal::Malformed(format!("it belongs to {}, not to {feed}", batch.feed())).into());
            }
            let batch = directory.verify(batch)?;
            let sequence = batch.sequence();
            let known = self.store.digest(feed, sequence).await?;
            let chained = batches
                .last()
                .is_none_or(|before| before.sequence() + 1 == sequence && batch.previous() == Some(before.digest()));
            if !chained || known.is_some_and(|known| known != batch.digest()) {
                return Err(Refusal::Fork { feed: feed.clone(), sequence }.into());
            }
            batches.push(batch);
        }
        Ok(batches)
    }

    fn answer(
        &self,
        feed: &FeedId,
        receipts: Vec<wire::Receipt>,
        refusal: Option<wire::Refusal>,
    ) -> wire::PushResponse {
        wire::PushResponse { head: self.store.head(feed).map(|head| wire_head(feed, head)), receipts, refusal }
    }

    fn evidence(&self) -> Evidence<'_> {
        Evidence::new(self.store.as_ref(), &self.stopped)
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
        self.directory.get().admits(caller).map_err(|refusal| refusal_to_wire(&refusal))
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
