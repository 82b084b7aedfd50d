//! The serving side over a store: what gateway and adapter answer, whatever driver asks.

mod own;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Head, MAX_SEALED_BYTES, Refusal, VerifiedBatch};
use httt_log::{Clock, FeedHead, NewEvent, SystemClock};
use httt_wire::{Message as _, exchange as wire};
use tokio::sync::watch;

use crate::admit::Admission;
use crate::evidence::{Evidence, certain};
use crate::limits::{Held, Limiter, Limits};
use crate::meter::{Flow, Meter, Topic};
use crate::own::OwnFeeds;
use crate::pack::{MAX_UNPACKED_BYTES, OnTheWire, pack, unpack};
use crate::polls::News;
use crate::quota::Class;
use crate::refusal::{away, busy, not_found, refusal_to_wire, unavailable};
use crate::tally::Noted;
use crate::wants::{LACK_PAUSE_MS, Wants};
use crate::{
    Alarm, Deliveries, Gate, MAX_CALL_BYTES, MAX_ENTRIES_PER_PUSH, MAX_HEADS, MAX_MEDIA_RANGE, MAX_WAIT_MS, Media,
    MediaError, Receipts, SharedDirectory, StoppedFeeds, Store, StoreError, Tally, Witnessing, admit, head_to_wire,
};

/// Batches of a push that are verified where they arrive; more go to a thread of their own.
const VERIFIED_INLINE: usize = 16;
/// When a reader is to come back for what must be asked of its origin, ms.
const AWAY_RETRY_MS: u32 = 1_000;
/// How long a member waits before it brings media again for which there was no room, ms.
const MEDIA_FULL_PAUSE_MS: u32 = 60_000;

/// How often it is looked for counts of evidence that are to be told.
const COUNTS_LOOK: Duration = Duration::from_secs(10);

/// Pause before a caller that waits is told what is wanted of it.
const WANTS_PAUSE: Duration = Duration::from_millis(200);

/// Serves the exchange over a store.
pub struct Service {
    store: Arc<dyn Store>,
    directory: SharedDirectory,
    media: Arc<dyn Media>,
    receipts: Receipts,
    stopped: StoppedFeeds,
    closing: watch::Receiver<bool>,
    witness: Option<Arc<Witnessing>>,
    meter: Meter,
    limiter: Limiter,
    news: Arc<News>,
    wants: Wants,
    deliveries: Deliveries,
    clock: Arc<dyn Clock>,
    tally: Tally,
    /// Somebody tells what is only counted.
    counting: AtomicBool,
    gate: Gate,
    own: OwnFeeds,
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
        let limiter = Limiter::new(Limits::default());
        let news = Arc::new(News::new(Arc::clone(&store), directory.clone(), limiter.limits().long_polls));
        Self {
            store,
            directory,
            media,
            receipts,
            stopped,
            closing,
            witness: None,
            meter: Meter::default(),
            limiter,
            news,
            wants: Wants::default(),
            tally: Tally::default(),
            counting: AtomicBool::new(false),
            deliveries: Deliveries::default(),
            clock: Arc::new(SystemClock),
            gate: Gate::default(),
            own: OwnFeeds::default(),
        }
    }

    /// Lets members ask for so much.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.news = Arc::new(News::new(Arc::clone(&self.store), self.directory.clone(), limits.long_polls));
        self.limiter = Limiter::new(limits);
        self
    }

    /// Notes there how far readers have read.
    #[must_use]
    pub fn with_deliveries(mut self, deliveries: Deliveries) -> Self {
        self.deliveries = deliveries;
        self
    }

    /// Shares the gate with whatever else takes entries into this store.
    #[must_use]
    pub fn with_gate(mut self, gate: Gate) -> Self {
        self.gate = gate;
        self
    }

    /// Asks members what they hold of this node's own feeds, and shares with others what they say.
    #[must_use]
    pub fn with_own_feeds(mut self, own: OwnFeeds) -> Self {
        self.own = own;
        self
    }

    /// Tells the time by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Who is let in, and what is under way.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// Long-polls under way.
    pub fn long_polls(&self) -> usize {
        self.news.count()
    }

    /// Shares the witness with the rest of the node.
    #[must_use]
    pub fn with_witness(mut self, witness: Arc<Witnessing>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Counts what cannot be right together with the rest of the node.
    #[must_use]
    pub fn with_tally(mut self, tally: Tally) -> Self {
        self.tally = tally;
        self
    }

    /// Counts what goes over the wire together with the rest of the node.
    #[must_use]
    pub fn with_meter(mut self, meter: Meter) -> Self {
        self.meter = meter;
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
    /// what it gives is in the store; where other processes write the store, too, as they are when it is called.
    ///
    /// # Errors
    /// What `revise` says, or the store.
    pub async fn revise<E: From<StoreError>>(
        &self,
        revise: impl FnOnce(&Directory, &[FeedHead]) -> Result<Vec<NewEvent>, E>,
    ) -> Result<(), E> {
        self.revise_keys(&BTreeSet::new(), revise).await
    }

    /// As [`Service::revise`], where keys of `revoked` may be revoked: `revise` sees what was taken of their feeds as it
    /// stays until then, whoever writes the store.
    ///
    /// # Errors
    /// What `revise` says, or the store.
    pub async fn revise_keys<E: From<StoreError>>(
        &self,
        revoked: &BTreeSet<AgencyCode>,
        revise: impl FnOnce(&Directory, &[FeedHead]) -> Result<Vec<NewEvent>, E>,
    ) -> Result<(), E> {
        let _alone = self.gate.close().await;
        self.speaks()?;
        self.store.settle().await?;
        // The head before what it stands for: a directory that went on in between is noticed, never passed by.
        let seen = self.store.head(&FeedId::directory(self.store.origin()));
        if !revoked.is_empty() {
            self.store.hold(revoked, seen).await?;
        }
        let events = revise(&self.directory.get(), &self.store.heads(0))?;
        if !events.is_empty() {
            self.store.revise(events, seen).await?;
        }
        Ok(())
    }

    /// The directory as it is at this moment.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.get()
    }

    /// Told whenever something was added to the store, so also when the directory changed.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.store.watch()
    }

    /// Asks the origin of `feed` for what the store found missing: after `after`, up to `until`.
    pub fn want_again(&self, feed: &FeedId, after: u64, until: u64) {
        if self.wants.add(feed, after, until, self.clock.now_ms()) {
            self.news.tell_pushers(&self.directory.get(), feed);
        }
    }

    /// Heads that changed at or after `request.after` and that `caller` may read; waits for one if asked to.
    pub async fn heads(&self, caller: &AgencyCode, request: wire::HeadsRequest) -> wire::HeadsResponse {
        let (length, log_id) = (self.store.watch(), self.store.id());
        // Before anything is looked at: who is no member asks as often as it likes, too.
        let mut held = match self.limiter.enter(caller, Class::Heads, 0, 0) {
            Ok(held) => Some(held),
            Err(refusal) => return wire::HeadsResponse { log_id, refusal: Some(refusal), ..Default::default() },
        };
        self.hear(caller, &request).await;
        // What is wanted is told to those as well who are refused: they may know what made them members.
        let refused = |refusal| {
            let wants = self.own_wants(caller);
            wire::HeadsResponse { log_id: log_id.clone(), refusal: Some(refusal), wants, ..Default::default() }
        };
        if let Err(refusal) = self.member(caller).and_then(|()| self.is_whole()) {
            return refused(refusal);
        }
        if !self.own.heard(caller) {
            // It knows this node from before a restart. Asked to begin anew, it says what it holds.
            return wire::HeadsResponse { more: true, ..Default::default() };
        }
        self.deliveries.seen(caller, self.clock.now_ms());
        let after = if request.log_id == log_id && request.after <= *length.borrow() { request.after } else { 0 };
        let wait = Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS).into());
        let deadline = tokio::time::Instant::now() + wait;
        // Begun before the heads are read: what comes in between wakes it.
        let poll = (!wait.is_zero()).then(|| self.news.poll(caller));
        let mut closing = self.closing.clone();
        let mut rested = false;
        loop {
            // Taken before the heads are read: what comes in between is told again, never missed.
            let position = *length.borrow();
            let directory = self.directory.get();
            if let Err(refusal) = directory.admits(caller) {
                return refused(refusal_to_wire(&refusal));
            }
            let answer = self.news(caller, &directory, after, position);
            if let Some(mut held) = held.take() {
                held.answered(answer.encoded_len());
            }
            // Who brings what is wanted, or cannot, would else be told so again and again without a pause.
            let pause = (!answer.wants.is_empty()).then(|| tokio::time::Instant::now() + WANTS_PAUSE);
            let waits = answer.heads.is_empty() && (pause.is_none() || !rested);
            rested = true;
            let wait_on = waits
                && match &poll {
                    None => false,
                    Some(poll) => tokio::select! {
                        goes_on = poll.woken() => goes_on,
                        () = tokio::time::sleep_until(pause.map_or(deadline, |pause| pause.min(deadline))) => pause.is_some(),
                        _ = closing.wait_for(|closing| *closing) => false,
                    },
                };
            if !wait_on {
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
        let heads = changed.iter().map(|head| head_to_wire(&head.feed, head.head)).collect();
        let may_push = |feed: &FeedId| directory.may_push(caller, feed).is_ok();
        let mut wants = self.wants.of(caller, self.clock.now_ms(), may_push);
        wants.extend(self.own_wants(caller));
        wire::HeadsResponse { position, heads, more, wants, ..Default::default() }
    }

    /// Entries of one feed after a sequence.
    pub async fn read(&self, caller: &AgencyCode, request: &wire::ReadRequest) -> wire::ReadResponse {
        self.read_held(caller, request).await.0
    }

    /// The same, and what is to be kept until the answer has been sent: a reader that takes its answers slowly is not
    /// given more of them than its limits allow.
    pub async fn read_held(
        &self,
        caller: &AgencyCode,
        request: &wire::ReadRequest,
    ) -> (wire::ReadResponse, Option<Held>) {
        let refused = |refusal| (wire::ReadResponse { refusal: Some(refusal), ..Default::default() }, None);
        let feed = match feed_of(request.feed.as_ref()) {
            Ok(feed) => feed,
            Err(refusal) => return refused(refusal_to_wire(&refusal)),
        };
        if let Err(refusal) = self.directory.get().may_read(caller, &feed) {
            return refused(refusal_to_wire(&refusal));
        }
        if let Err(refusal) = self.is_whole() {
            return refused(refusal);
        }
        let most = (request.max_bytes as usize).clamp(1, MAX_CALL_BYTES);
        // One entry is given however little was asked for.
        let memory = most.max(MAX_SEALED_BYTES);
        let mut held = match self.limiter.enter(caller, Class::of_lane(Some(feed.lane)), 0, memory) {
            Ok(held) => held,
            Err(refusal) => return refused(refusal),
        };
        let answer = self.read_feed(caller, request, &feed, most).await;
        held.answered(answer.encoded_len());
        (answer, Some(held))
    }

    async fn read_feed(
        &self,
        caller: &AgencyCode,
        request: &wire::ReadRequest,
        feed: &FeedId,
        most: usize,
    ) -> wire::ReadResponse {
        let head = self.store.head(feed).map_or(0, |head| head.sequence);
        let held = |after: u64, given: usize| {
            if head > 0 {
                let sequence = after.saturating_add(given as u64).min(head);
                self.deliveries.holds(caller, feed, sequence, self.clock.now_ms());
            }
        };
        let after = self.begin(feed, request).await;
        match self.store.read(feed, after, most).await {
            Ok(entries) => {
                held(after, entries.len());
                let content = (entries.len(), entries.iter().map(Bytes::len).sum());
                let OnTheWire { entries, packed } =
                    if request.accept_zstd { pack(feed.lane, entries) } else { OnTheWire::plain(entries) };
                let answer = wire::ReadResponse { entries, head, packed, ..Default::default() };
                let sent = Flow::message(&answer).with_content(content);
                self.meter.count(caller.as_str(), Topic::Lane(feed.lane), sent, Flow::message(request));
                answer
            }
            Err(StoreError::Away { after: missing, until, .. }) => {
                held(after, 0);
                self.want_again(feed, missing, until);
                let in_vain = self.wants.in_vain(feed, missing, self.clock.now_ms());
                let refusal = away(feed, missing, until, if in_vain { LACK_PAUSE_MS } else { AWAY_RETRY_MS });
                wire::ReadResponse { head, refusal: Some(refusal), ..Default::default() }
            }
            Err(StoreError::BeginsLater(why)) => {
                let refusal = Some(not_found(why));
                wire::ReadResponse { head, refusal, ..Default::default() }
            }
            Err(error) => {
                tracing::error!(%feed, %error, "a feed cannot be read");
                let refusal = Some(unavailable(error.to_string()));
                wire::ReadResponse { refusal, ..Default::default() }
            }
        }
    }

    /// After which sequence to read.
    async fn begin(&self, feed: &FeedId, request: &wire::ReadRequest) -> u64 {
        if !request.from_restated || request.after > 0 {
            return request.after;
        }
        match self.store.restated(feed).await {
            Ok(restated) => restated.map_or(0, |sequence| sequence - 1),
            // Reading the feed says the same, and it is answered there.
            Err(_) => 0,
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
        let _open = self.gate.pass(feed.lane).await;
        let directory = self.directory.get();
        let brings_back = request.again && self.own.asks() && feed.origin == *self.store.origin();
        if !brings_back {
            if let Err(refusal) = directory.may_push(caller, &feed) {
                return refused(&refusal);
            }
            if let Err(refusal) = self.is_whole().and_then(|()| self.may_take(caller, &feed.origin)) {
                return self.answer(&feed, vec![], Some(refusal));
            }
        }
        let (brought, is_packed) = (request.encoded_len(), !request.packed.is_empty());
        // Before it is unpacked nobody knows what it comes to; a frame says what it likes.
        let memory = if is_packed { brought + MAX_UNPACKED_BYTES } else { brought };
        let mut held = match self.limiter.enter(caller, Class::of_lane(Some(feed.lane)), brought, memory) {
            Ok(held) => held,
            Err(refusal) => return self.answer(&feed, vec![], Some(refusal)),
        };
        self.deliveries.seen(caller, self.clock.now_ms());
        let received = Flow::message(&request);
        if let (true, Some(lacks)) = (request.again, &request.lacks) {
            tracing::info!(%caller, %feed, after = lacks.after, "what is wanted is not there either");
            self.wants.lacks(&feed, lacks.after, caller, self.clock.now_ms());
            if brings_back {
                self.own.lacks(caller, &feed);
            }
        }
        let unpacking = unpack(OnTheWire { entries: request.entries, packed: request.packed });
        if is_packed {
            // What does not unpack took as much trouble as the largest that does.
            let size = |entries: &Vec<Bytes>| entries.iter().map(Bytes::len).sum();
            held.unpacked(brought, unpacking.as_ref().map_or(MAX_UNPACKED_BYTES, size));
        }
        let entries = match unpacking {
            Ok(entries) => entries,
            Err(refusal) => return refused(&refusal),
        };
        let received = received.with_entries(&entries);
        let answer = if entries.len() > MAX_ENTRIES_PER_PUSH {
            let (size, limit) = (entries.len(), MAX_ENTRIES_PER_PUSH);
            refused(&Refusal::TooLarge { what: "a push (in batches)", size, limit })
        } else if brings_back {
            self.take_back(caller, directory, feed.clone(), entries).await
        } else if request.again {
            self.take_again(caller, &directory, &feed, entries).await
        } else {
            self.take(caller, directory, feed.clone(), entries, self.receipts).await
        };
        self.meter.count(caller.as_str(), Topic::Lane(feed.lane), Flow::message(&answer), received);
        answer
    }

    /// Takes what a member may push.
    async fn take(
        &self,
        caller: &AgencyCode,
        directory: Arc<Directory>,
        feed: FeedId,
        entries: Vec<Bytes>,
        receipts: Receipts,
    ) -> wire::PushResponse {
        let head = self.store.head(&feed);
        if self.stopped.contains(&feed) {
            let sequence = head.map_or(0, |head| head.sequence);
            return self.answer(&feed, vec![], Some(refusal_to_wire(&Refusal::Fork { feed: feed.clone(), sequence })));
        }
        let admission = self.admit(directory, &feed, head, entries).await;
        if let Some((bytes, refusal)) = &admission.refused {
            tracing::warn!(%caller, %refusal, "push refused");
            if certain(refusal, receipts) {
                let alarm = Alarm { feed: feed.clone(), refusal: refusal.clone(), evidence: Some(bytes.clone()) };
                self.keep_noted(caller, alarm).await;
            } else {
                self.evidence().keep(&feed, refusal, bytes).await;
            }
        }
        let refusal = admission.refused.as_ref().map(|(_, refusal)| refusal_to_wire(refusal));
        if admission.batches.is_empty() {
            return self.answer(&feed, vec![], refusal);
        }
        let batches = admission.batches.clone();
        match self.store.take(admission.batches, receipts).await {
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
    async fn take_again(
        &self,
        caller: &AgencyCode,
        directory: &Directory,
        feed: &FeedId,
        entries: Vec<Bytes>,
    ) -> wire::PushResponse {
        let taken = self.verify_again(directory, feed, entries).await;
        let range =
            taken.as_ref().ok().and_then(|batches| Some((batches.first()?.sequence() - 1, batches.last()?.sequence())));
        let outcome = match taken {
            Ok(batches) => self.store.take_again(batches).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                range.into_iter().for_each(|(after, until)| self.wants.got(feed, after, until));
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
        wire::PushResponse { head: self.store.head(feed).map(|head| head_to_wire(feed, head)), receipts, refusal }
    }

    async fn keep_noted(&self, caller: &AgencyCode, alarm: Alarm) {
        let noted = self.tally.note(caller.as_str(), &alarm);
        self.evidence().keep_noted(&self.tally, noted, caller.as_str(), alarm).await;
        if *self.closing.borrow() {
            self.evidence().tell_counts(&self.tally, true).await;
        } else if noted == Noted::Counted && !self.counting.swap(true, Ordering::Relaxed) {
            self.tell_counts();
        }
    }

    /// Tells from now on what is only counted, and at the end what is left.
    fn tell_counts(&self) {
        // Not kept alive by the task: the log's folder is to be free when the service is gone.
        let (store, stopped) = (Arc::downgrade(&self.store), self.stopped.clone());
        let (tally, mut closing) = (self.tally.clone(), self.closing.clone());
        tokio::spawn(async move {
            let mut ends = false;
            while !ends {
                ends = tokio::select! {
                    () = tokio::time::sleep(COUNTS_LOOK) => false,
                    _ = closing.wait_for(|closing| *closing) => true,
                };
                let Some(store) = store.upgrade() else { return };
                Evidence::new(store.as_ref(), &stopped).tell_counts(&tally, ends).await;
            }
        });
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
        let _held = match self.enter_media(caller, request.urgent, 0, 0) {
            Ok(held) => held,
            Err(refusal) => return refused(refusal),
        };
        match media_digest(&request.sha256) {
            Ok(digest) => stat_response(self.media.stat(caller, digest, request.urgent).await),
            Err(refusal) => refused(refusal),
        }
    }

    /// Lets a member's call about media in.
    fn enter_media(
        &self,
        caller: &AgencyCode,
        urgent: bool,
        brought: usize,
        memory: usize,
    ) -> Result<Held, wire::Refusal> {
        self.member(caller)?;
        self.limiter.enter(caller, Class::of_media(urgent), brought, memory)
    }

    fn member(&self, caller: &AgencyCode) -> Result<(), wire::Refusal> {
        self.directory.get().admits(caller).map_err(|refusal| refusal_to_wire(&refusal))
    }

    /// One range of a media file. Any member may read any media whose digest it knows: digests travel in feeds.
    pub async fn read_media(&self, caller: &AgencyCode, request: wire::ReadMediaRequest) -> wire::ReadMediaResponse {
        self.read_media_held(caller, request).await.0
    }

    /// The same, and what is to be kept until the answer has been sent; see [`Service::read_held`].
    pub async fn read_media_held(
        &self,
        caller: &AgencyCode,
        request: wire::ReadMediaRequest,
    ) -> (wire::ReadMediaResponse, Option<Held>) {
        let refused = |refusal| (wire::ReadMediaResponse { refusal: Some(refusal), ..Default::default() }, None);
        let most = (request.max_bytes as usize).clamp(1, MAX_MEDIA_RANGE);
        let mut held = match self.enter_media(caller, request.urgent, 0, most) {
            Ok(held) => held,
            Err(refusal) => return refused(refusal),
        };
        let digest = match media_digest(&request.sha256) {
            Ok(digest) => digest,
            Err(refusal) => return refused(refusal),
        };
        match self.media.read(digest, request.offset, most, request.urgent).await {
            Ok((data, size)) => {
                held.answered(data.len());
                (wire::ReadMediaResponse { data, size, refusal: None }, Some(held))
            }
            Err(error) => refused(media_refusal(&error)),
        }
    }

    /// The next range of a media file.
    pub async fn write_media(&self, caller: &AgencyCode, request: wire::WriteMediaRequest) -> wire::StatMediaResponse {
        let refused = |refusal| wire::StatMediaResponse { refusal: Some(refusal), ..Default::default() };
        if request.data.len() > MAX_MEDIA_RANGE {
            let (size, limit) = (request.data.len(), MAX_MEDIA_RANGE);
            return refused(refusal_to_wire(&Refusal::TooLarge { what: "a range of media", size, limit }));
        }
        let _held = match self.enter_media(caller, request.urgent, request.data.len(), request.data.len()) {
            Ok(held) => held,
            Err(refusal) => return refused(refusal),
        };
        match media_digest(&request.sha256) {
            Ok(digest) => {
                let wire::WriteMediaRequest { size, offset, data, urgent, .. } = request;
                stat_response(self.media.write(caller, digest, size, offset, data, urgent).await)
            }
            Err(refusal) => refused(refusal),
        }
    }
}

fn feed_of(feed: Option<&wire::FeedId>) -> Result<FeedId, Refusal> {
    let feed = feed.ok_or_else(|| Refusal::Malformed("the request names no feed".into()))?;
    FeedId::from_wire(feed).map_err(|error| Refusal::Malformed(error.to_string()))
}

fn media_digest(bytes: &[u8]) -> Result<Digest, wire::Refusal> {
    Digest::from_slice(bytes)
        .ok_or_else(|| refusal_to_wire(&Refusal::Malformed("a media digest has 32 bytes (SHA-256)".into())))
}

fn media_refusal(error: &MediaError) -> wire::Refusal {
    match error {
        MediaError::NotHeld(_) => not_found(error.to_string()),
        MediaError::Refused(what) => refusal_to_wire(&Refusal::Malformed(what.clone())),
        MediaError::Full(what) => {
            tracing::warn!(what, "media not taken");
            busy(what.clone(), MEDIA_FULL_PAUSE_MS)
        }
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
