//! Drives a [`Copier`] over a log and a peer: the only place where the protocol meets time and I/O.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use httt_feed::{AgencyCode, FeedId, Lane, VerifiedBatch};
use httt_log::{CommitError, Entry, Log, Transaction};
use httt_wire::exchange::{self as wire, RefusalCode};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

use crate::evidence::Evidence;
use crate::meter::{Flow, Meter, Topic};
use crate::pack::{OnTheWire, pack, unpack};
use crate::{
    Action, Bandwidth, Copier, Input, LogStore, MAX_ENTRIES_PER_PUSH, MAX_WAIT_MS, Peer, Settings, SharedDirectory,
    StoppedFeeds, Tally, head_to_wire, refused,
};

/// How often a copier hears that time passed.
const TICK: Duration = Duration::from_millis(100);

/// How often it is looked for counts of evidence that are to be told.
const COUNTS_LOOK: Duration = Duration::from_secs(10);

/// What the link to a peer is doing, for `/readyz`, status pages and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkState {
    /// The last call got through.
    pub connected: bool,
    /// Why the peer answers and yet gives nothing, if so.
    pub refused: Option<RefusalCode>,
    /// Feeds whose heads differ: (feed, sequence here, sequence there).
    pub behind: Vec<(FeedId, u64, u64)>,
    /// Feeds that forked.
    pub stopped: Vec<FeedId>,
    /// The peer was asked and holds nothing of this node's own feeds that this node lacks.
    pub own_level: bool,
}

/// What the link is doing, for whoever shows it.
#[derive(Debug, Clone)]
pub struct Link {
    state: Arc<watch::Sender<LinkState>>,
}

impl Default for Link {
    fn default() -> Self {
        let state =
            LinkState { connected: false, refused: None, behind: Vec::new(), stopped: Vec::new(), own_level: false };
        Self { state: Arc::new(watch::Sender::new(state)) }
    }
}

impl Link {
    /// The state; changes are told.
    pub fn watch(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }
}

/// Names the span in which copied batches are appended, so that the origin's trace goes on here.
pub type SpanOf = Arc<dyn Fn(&[VerifiedBatch]) -> tracing::Span + Send + Sync>;

/// Says whose feeds are pushed, by the directory as it is.
pub type PushesFor = Arc<dyn Fn(&httt_feed::Directory) -> Vec<AgencyCode> + Send + Sync>;

/// What [`run`] needs besides log and peer.
#[derive(Clone)]
pub struct RunnerOptions {
    /// Whose feeds are pushed to this peer: for an adapter, those it carries for. Asked again when the directory changes.
    pub pushes_for: PushesFor,
    /// Patience and limits.
    pub settings: Settings,
    /// See [`SpanOf`].
    pub span_of: SpanOf,
    /// Feeds that forked, shared with whatever else serves this log.
    pub stopped: StoppedFeeds,
    /// Counts what goes over the wire.
    pub meter: Meter,
    /// Counts what cannot be right.
    pub tally: Tally,
    /// What the link may carry; `None`: whatever it can.
    pub bandwidth: Option<Bandwidth>,
}

/// Copies between `log` and `peer` until `stop` turns true. What a peer sends that cannot be right is logged, kept as
/// an event and not copied.
pub async fn run<P: Peer>(
    log: Log,
    directory: SharedDirectory,
    peer: Arc<P>,
    link: Link,
    options: RunnerOptions,
    mut stop: watch::Receiver<bool>,
) {
    let session = Session::new(&log, &directory, &peer, &link, &options);
    let counts = async {
        loop {
            tokio::time::sleep(COUNTS_LOOK).await;
            tell_counts(&log, &options, false).await;
        }
    };
    tokio::select! {
        () = session.run() => {}
        () = counts => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    link.state.send_modify(|state| state.connected = false);
    tell_counts(&log, &options, true).await;
}

/// Tells what was only counted of what cannot be right.
async fn tell_counts(log: &Log, options: &RunnerOptions, all: bool) {
    Evidence::new(&LogStore::new(log.clone()), &options.stopped).tell_counts(&options.tally, all).await;
}

/// What became of a call, and what it came to on the wire, both ways.
struct Answer {
    input: Input,
    wire_bytes: Option<usize>,
}

impl Answer {
    /// The feed of which the peer took something again.
    fn taken_back(&self) -> Option<&FeedId> {
        match &self.input {
            Input::PushedAgain { feed, refused: None, .. } => Some(feed),
            _ => None,
        }
    }
}

impl From<Input> for Answer {
    fn from(input: Input) -> Self {
        Self { input, wire_bytes: None }
    }
}

struct Session<'a, P> {
    log: &'a Log,
    directory: &'a SharedDirectory,
    peer: &'a Arc<P>,
    link: &'a Link,
    options: &'a RunnerOptions,
    copier: Copier,
    calls: JoinSet<Answer>,
    /// The call for heads under way; a new one replaces it.
    heads_call: Option<AbortHandle>,
    began: Instant,
    heads_known: u64,
    /// Feeds of the gateway of which it is recorded that they went back.
    went_back: BTreeSet<FeedId>,
}

impl<'a, P: Peer> Session<'a, P> {
    fn new(
        log: &'a Log,
        directory: &'a SharedDirectory,
        peer: &'a Arc<P>,
        link: &'a Link,
        options: &'a RunnerOptions,
    ) -> Self {
        let known = directory.get();
        let heads = log.heads_since(0).into_iter().map(|head| (head.feed, head.head));
        let copier = Copier::new((options.pushes_for)(&known), known, options.settings.clone());
        let mut copier = copier.holding(heads);
        if let Some(bandwidth) = &options.bandwidth {
            copier = copier.within(bandwidth.clone());
        }
        let (calls, began) = (JoinSet::new(), Instant::now());
        let (heads_call, went_back) = (None, BTreeSet::new());
        Self { log, directory, peer, link, options, copier, calls, heads_call, began, heads_known: 0, went_back }
    }

    async fn run(mut self) {
        let mut length = self.log.watch();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.tell_local_heads(*length.borrow_and_update());
        loop {
            let input = tokio::select! {
                Some(done) = self.calls.join_next() => match done {
                    Ok(answer) => {
                        self.measured(&answer);
                        if let Some(feed) = answer.taken_back() {
                            self.went_back.insert(feed.clone());
                        }
                        answer.input
                    }
                    // A call for heads that was replaced.
                    Err(error) if error.is_cancelled() => continue,
                    // A defect of ours: better a service that stops and says so than a feed that stands still.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                changed = length.changed() => {
                    if changed.is_err() { return }
                    let now = *length.borrow_and_update();
                    self.tell_local_heads(now);
                    continue;
                }
                _ = tick.tick() => {
                    self.options.stopped.list().into_iter().for_each(|feed| self.take(Input::Stopped(feed)));
                    Input::Tick
                }
            };
            // What was stored may be what the next entries are verified by.
            if matches!(&input, Input::Stored { feed, .. } if feed.lane == Lane::Directory) {
                self.tell_directory();
            }
            self.take(input);
            self.tell_state();
        }
    }

    fn tell_local_heads(&mut self, length: u64) {
        let since = self.heads_known;
        self.heads_known = length;
        for head in self.log.heads_since(since) {
            if head.feed.lane == Lane::Directory {
                self.tell_directory();
            }
            self.take(Input::LocalHead(head.feed, head.head));
        }
    }

    fn tell_directory(&mut self) {
        let directory = self.directory.get();
        self.copier.set_pushes_for((self.options.pushes_for)(&directory));
        self.take(Input::Directory(directory));
    }

    fn measured(&mut self, answer: &Answer) {
        let Some(bytes) = answer.wire_bytes else { return };
        match answer.input.answers() {
            Some((_, feed)) => self.copier.measured(feed, bytes),
            // Small, and what brings news of emergencies.
            None => self.options.bandwidth.iter().for_each(|bandwidth| bandwidth.urgent(bandwidth.now_ms(), bytes)),
        }
    }

    /// One clock for the copier and for the bandwidth that it shares.
    fn now_ms(&self) -> i64 {
        let bandwidth = self.options.bandwidth.as_ref();
        bandwidth.map_or_else(|| self.began.elapsed().as_millis() as i64, Bandwidth::now_ms)
    }

    fn take(&mut self, input: Input) {
        let now = self.now_ms();
        for action in self.copier.handle(now, input) {
            self.start(action);
        }
    }

    fn tell_state(&self) {
        self.link.state.send_if_modified(|state| {
            let behind = self.copier.behind().map(|(feed, local, remote)| (feed.clone(), local, remote)).collect();
            let stopped = self.copier.stopped().cloned().collect();
            let own_level = self.copier.own_level();
            let (connected, refused) = (self.copier.connected(), self.copier.refused());
            let now = LinkState { connected, refused, behind, stopped, own_level };
            let changed = *state != now;
            if changed && state.connected != now.connected {
                tracing::info!(peer = self.peer.name(), connected = now.connected, "link");
            }
            *state = now;
            changed
        });
    }

    fn start(&mut self, action: Action) {
        let (peer, log, meter) = (Arc::clone(self.peer), self.log.clone(), self.options.meter.clone());
        match action {
            Action::AskHeads { call, log_id, after, wait, held } => {
                let wait_ms = if wait { MAX_WAIT_MS } else { 0 };
                let spawned = self.calls.spawn(async move {
                    let held = held.iter().map(|(feed, head)| head_to_wire(feed, *head)).collect();
                    let request = wire::HeadsRequest { log_id, after, wait_ms, held };
                    let sent = Flow::message(&request);
                    match peer.heads(request).await {
                        Ok(answer) => {
                            let received = Flow::message(&answer);
                            meter.count(peer.name(), Topic::Heads, sent, received);
                            if let Some(refusal) = &answer.refusal {
                                tracing::warn!(peer = peer.name(), refusal = refusal.message, "heads refused");
                            }
                            let input = Input::of_heads(call, answer);
                            Answer { input, wire_bytes: Some(both(sent, received)) }
                        }
                        Err(error) => {
                            tracing::debug!(%error, "heads");
                            Input::HeadsFailed(call).into()
                        }
                    }
                });
                if let Some(given_up) = self.heads_call.replace(spawned) {
                    given_up.abort();
                }
            }
            Action::Ask { call, feed, after, max_bytes, from_restated } => {
                let about = About { call, feed };
                self.calls
                    .spawn(async move { ask(peer.as_ref(), &meter, about, (after, from_restated), max_bytes).await });
            }
            Action::Push { call, feed, after, max_bytes } => {
                let about = About { call, feed };
                self.calls.spawn(async move { push(peer.as_ref(), &log, &meter, about, after, max_bytes).await });
            }
            Action::PushAgain { call, feed, after, until, max_bytes } => {
                // Anybody can want what it likes, so once is enough.
                let is_news = self.directory.get().gateway() == Some(&feed.origin) && !self.went_back.contains(&feed);
                let stopped = self.options.stopped.clone();
                self.calls.spawn(async move {
                    let about = About { call, feed };
                    let answer = push_again(peer.as_ref(), &log, &meter, about, (after, until), max_bytes).await;
                    if let Some(feed) = answer.taken_back().filter(|_| is_news) {
                        let store = LogStore::new(log.clone());
                        Evidence::new(&store, &stopped).keep_went_back(feed, after, until, peer.name()).await;
                    }
                    answer
                });
            }
            Action::Store { feed, batches } => {
                let (span, stopped) = ((self.options.span_of)(&batches), self.options.stopped.clone());
                self.calls.spawn(async move { store(&log, &stopped, feed, batches).await.into() }.instrument(span));
            }
            Action::Alarm(alarm) => {
                // Not a call: it answers nothing, and must outlive the session.
                let (stopped, tally) = (self.options.stopped.clone(), self.options.tally.clone());
                // Noted here, so that what is told at the end is all there was.
                let noted = tally.note(peer.name(), &alarm);
                tokio::spawn(async move {
                    let store = LogStore::new(log);
                    Evidence::new(&store, &stopped).keep_noted(&tally, noted, peer.name(), alarm).await;
                });
            }
        }
    }
}

/// What a call is about.
struct About {
    call: u64,
    feed: FeedId,
}

/// Bytes both ways.
fn both(sent: Flow, received: Flow) -> usize {
    usize::try_from(sent.wire_bytes + received.wire_bytes).unwrap_or(usize::MAX)
}

async fn ask<P: Peer>(
    peer: &P,
    meter: &Meter,
    About { call, feed }: About,
    (after, from_restated): (u64, bool),
    max_bytes: usize,
) -> Answer {
    let request = wire::ReadRequest {
        feed: Some(feed.to_wire()),
        after,
        max_bytes: max_bytes as u32,
        accept_zstd: true,
        from_restated,
    };
    let (lane, sent) = (Topic::Lane(feed.lane), Flow::message(&request));
    let answer = match peer.read(request).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(%feed, %error, "read");
            return Input::CallFailed { call, feed }.into();
        }
    };
    if let Some(refusal) = &answer.refusal {
        tracing::warn!(%feed, peer = peer.name(), refusal = refusal.message, "reading refused");
    }
    let (received, refused) = (Flow::message(&answer), answer.refusal.as_ref().map(refused));
    let wire_bytes = Some(both(sent, received));
    match unpack(OnTheWire { entries: answer.entries, packed: answer.packed }) {
        Ok(entries) => {
            meter.count(peer.name(), lane, sent, received.with_entries(&entries));
            Answer { input: Input::Entries { call, feed, entries, refused }, wire_bytes }
        }
        Err(refusal) => {
            meter.count(peer.name(), lane, sent, received);
            tracing::warn!(%feed, peer = peer.name(), %refusal, "an answer makes no sense");
            Answer { input: Input::CallFailed { call, feed }, wire_bytes }
        }
    }
}

async fn push<P: Peer>(peer: &P, log: &Log, meter: &Meter, about: About, after: u64, max_bytes: usize) -> Answer {
    let About { call, feed } = about;
    let Some(entries) = own_entries(log, &feed, after, u64::MAX, max_bytes) else {
        return Input::CallFailed { call, feed }.into();
    };
    let (request, sent) = push_request(&feed, entries);
    send(peer, meter, About { call, feed }, (request, sent), Input::of_push).await
}

async fn push_again<P: Peer>(
    peer: &P,
    log: &Log,
    meter: &Meter,
    About { call, feed }: About,
    (after, until): (u64, u64),
    max_bytes: usize,
) -> Answer {
    let entries = own_entries(log, &feed, after, until, max_bytes).unwrap_or_default();
    let Some(last) = entries.last().map(|entry| entry.sequence) else {
        // Not at hand here either. Said, so that the peer asks for something else.
        tracing::warn!(%feed, after, until, peer = peer.name(), "entries that are wanted again are not here");
        let wanted = Some(feed.to_wire());
        let lacks = Some(wire::Want { feed: wanted.clone(), after, until });
        let request = wire::PushRequest { feed: wanted, again: true, lacks, ..Default::default() };
        let sent = Flow::message(&request);
        let lacked = Some((RefusalCode::NotFound, 0));
        let read = |call, feed, answer: &wire::PushResponse| Input::PushedAgain {
            call,
            feed,
            last: after,
            refused: answer.refusal.as_ref().map(refused).or(lacked),
        };
        return send(peer, meter, About { call, feed }, (request, sent), read).await;
    };
    let (request, sent) = push_request(&feed, entries);
    let request = wire::PushRequest { again: true, ..request };
    let read = |call, feed, answer: &wire::PushResponse| Input::of_push_again(call, feed, last, answer);
    send(peer, meter, About { call, feed }, (request, sent), read).await
}

/// Sends a push; `read` makes the input of its answer.
async fn send<P: Peer>(
    peer: &P,
    meter: &Meter,
    About { call, feed }: About,
    (request, sent): (wire::PushRequest, Flow),
    read: impl FnOnce(u64, FeedId, &wire::PushResponse) -> Input,
) -> Answer {
    let again = request.again;
    match peer.push(request).await {
        Ok(answer) => {
            let received = Flow::message(&answer);
            meter.count(peer.name(), Topic::Lane(feed.lane), sent, received);
            if let Some(refusal) = &answer.refusal {
                tracing::warn!(%feed, again, peer = peer.name(), refusal = refusal.message, "push refused");
            }
            Answer { input: read(call, feed, &answer), wire_bytes: Some(both(sent, received)) }
        }
        Err(error) => {
            tracing::debug!(%feed, again, %error, "push");
            Input::CallFailed { call, feed }.into()
        }
    }
}

/// Entries as they go over the wire, and what goes there.
fn push_request(feed: &FeedId, entries: Vec<Entry>) -> (wire::PushRequest, Flow) {
    let content = (entries.len(), entries.iter().map(|entry| entry.bytes.len()).sum());
    let entries = entries.into_iter().map(|entry| entry.bytes).collect();
    let OnTheWire { entries, packed } = pack(feed.lane, entries);
    let request = wire::PushRequest { feed: Some(feed.to_wire()), entries, packed, ..Default::default() };
    let sent = Flow::message(&request).with_content(content);
    (request, sent)
}

/// Entries after `after` and up to `until`; `None`: the log cannot be read.
fn own_entries(log: &Log, feed: &FeedId, after: u64, until: u64, max_bytes: usize) -> Option<Vec<Entry>> {
    match log.read_feed(feed, after, max_bytes) {
        Ok(entries) => {
            let wanted = entries.into_iter().take(MAX_ENTRIES_PER_PUSH);
            Some(wanted.take_while(|entry| entry.sequence <= until).collect())
        }
        Err(error) => {
            tracing::error!(%feed, %error, "own entries cannot be read");
            None
        }
    }
}

async fn store(log: &Log, stopped: &StoppedFeeds, feed: FeedId, batches: Vec<VerifiedBatch>) -> Input {
    match log.commit(Transaction::copy(batches.clone())).await {
        Ok(committed) => {
            let head = committed.copied.last().map(|placed| placed.head);
            tracing::debug!(%feed, sequence = head.map(|head| head.sequence), "copied");
            Input::Stored { feed, result: head.ok_or(None) }
        }
        Err(CommitError::Refused(refusal)) => {
            let store = LogStore::new(log.clone());
            Evidence::new(&store, stopped).keep_from(&feed, &refusal, &batches).await;
            Input::Stored { feed, result: Err(Some(refusal)) }
        }
        Err(error) => {
            tracing::error!(%feed, %error, "the log does not take copied batches");
            Input::Stored { feed, result: Err(None) }
        }
    }
}
