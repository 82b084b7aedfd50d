//! Drives a [`Copier`] over a log and a peer: the only place where the protocol meets time and I/O.

use std::sync::Arc;
use std::time::{Duration, Instant};

use httt_feed::{AgencyCode, FeedId, Lane, VerifiedBatch};
use httt_log::{CommitError, Entry, Log, Transaction};
use httt_wire::exchange::{self as wire, RefusalCode};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tracing::Instrument as _;

use crate::copier::{head_from_wire, want_from_wire};
use crate::evidence::Evidence;
use crate::{
    Action, Copier, Input, LogStore, MAX_ENTRIES_PER_PUSH, MAX_WAIT_MS, Peer, Settings, SharedDirectory, StoppedFeeds,
    refusal_from_wire,
};

/// How often a copier hears that time passed.
const TICK: Duration = Duration::from_millis(100);

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
    tokio::select! {
        () = session.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    link.state.send_modify(|state| state.connected = false);
}

struct Session<'a, P> {
    log: &'a Log,
    directory: &'a SharedDirectory,
    peer: &'a Arc<P>,
    link: &'a Link,
    options: &'a RunnerOptions,
    copier: Copier,
    calls: JoinSet<Input>,
    /// The call for heads under way; a new one replaces it.
    heads_call: Option<AbortHandle>,
    began: Instant,
    heads_known: u64,
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
        let copier = Copier::new((options.pushes_for)(&known), known, options.settings.clone());
        let (calls, began) = (JoinSet::new(), Instant::now());
        Self { log, directory, peer, link, options, copier, calls, heads_call: None, began, heads_known: 0 }
    }

    async fn run(mut self) {
        let mut length = self.log.watch();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.tell_local_heads(*length.borrow_and_update());
        loop {
            let input = tokio::select! {
                Some(done) = self.calls.join_next() => match done {
                    Ok(input) => input,
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
        for head in self.log.heads().into_iter().filter(|head| head.position >= since) {
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

    fn take(&mut self, input: Input) {
        let now = self.began.elapsed().as_millis() as i64;
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
        let (peer, log) = (Arc::clone(self.peer), self.log.clone());
        match action {
            Action::AskHeads { call, log_id, after, wait } => {
                let wait_ms = if wait { MAX_WAIT_MS } else { 0 };
                let spawned = self.calls.spawn(async move {
                    match peer.heads(wire::HeadsRequest { log_id, after, wait_ms }).await {
                        Ok(wire::HeadsResponse { refusal: Some(refusal), .. }) => {
                            tracing::warn!(peer = peer.name(), refusal = refusal.message, "heads refused");
                            Input::HeadsRefused { call, refused: refused(&refusal) }
                        }
                        Ok(answer) => Input::Heads {
                            call,
                            heads: answer.heads.iter().filter_map(head_from_wire).collect(),
                            wants: answer.wants.iter().filter_map(want_from_wire).collect(),
                            log_id: answer.log_id,
                            position: answer.position,
                            more: answer.more,
                        },
                        Err(error) => {
                            tracing::debug!(%error, "heads");
                            Input::HeadsFailed(call)
                        }
                    }
                });
                if let Some(given_up) = self.heads_call.replace(spawned) {
                    given_up.abort();
                }
            }
            Action::Ask { feed, after, max_bytes } => {
                self.calls.spawn(async move { ask(peer.as_ref(), feed, after, max_bytes).await });
            }
            Action::Push { feed, after, max_bytes } => {
                self.calls.spawn(async move { push(peer.as_ref(), &log, feed, after, max_bytes).await });
            }
            Action::PushAgain { feed, after, until, max_bytes } => {
                self.calls.spawn(async move { push_again(peer.as_ref(), &log, feed, after, until, max_bytes).await });
            }
            Action::Store { feed, batches } => {
                let (span, stopped) = ((self.options.span_of)(&batches), self.options.stopped.clone());
                self.calls.spawn(async move { store(&log, &stopped, feed, batches).await }.instrument(span));
            }
            Action::Alarm(alarm) => {
                // Not a call: it answers nothing, and must outlive the session.
                let stopped = self.options.stopped.clone();
                tokio::spawn(async move {
                    let store = LogStore::new(log);
                    Evidence::new(&store, &stopped).keep_alarm(peer.name(), alarm).await;
                });
            }
        }
    }
}

async fn ask<P: Peer>(peer: &P, feed: FeedId, after: u64, max_bytes: usize) -> Input {
    let request =
        wire::ReadRequest { feed: Some(feed.to_wire()), after, max_bytes: max_bytes as u32, ..Default::default() };
    match peer.read(request).await {
        Ok(answer) => {
            if let Some(refusal) = &answer.refusal {
                tracing::warn!(%feed, peer = peer.name(), refusal = refusal.message, "reading refused");
            }
            let refused = answer.refusal.as_ref().map(refused);
            Input::Entries { feed, entries: answer.entries, refused }
        }
        Err(error) => {
            tracing::debug!(%feed, %error, "read");
            Input::CallFailed(feed)
        }
    }
}

async fn push<P: Peer>(peer: &P, log: &Log, feed: FeedId, after: u64, max_bytes: usize) -> Input {
    let Some(entries) = own_entries(log, &feed, after, u64::MAX, max_bytes) else { return Input::CallFailed(feed) };
    let entries = entries.into_iter().map(|entry| entry.bytes).collect();
    match peer.push(wire::PushRequest { feed: Some(feed.to_wire()), entries, ..Default::default() }).await {
        Ok(answer) => {
            if let Some(refusal) = &answer.refusal {
                tracing::warn!(%feed, peer = peer.name(), refusal = refusal.message, "push refused");
            }
            let refused = answer.refusal.as_ref().map(refused);
            let head = answer.head.as_ref().and_then(head_from_wire).map(|(_, head)| head);
            Input::Pushed { feed, head, refused }
        }
        Err(error) => {
            tracing::debug!(%feed, %error, "push");
            Input::CallFailed(feed)
        }
    }
}

async fn push_again<P: Peer>(peer: &P, log: &Log, feed: FeedId, after: u64, until: u64, max_bytes: usize) -> Input {
    let entries = own_entries(log, &feed, after, until, max_bytes).unwrap_or_default();
    let Some(last) = entries.last().map(|entry| entry.sequence) else { return Input::CallFailed(feed) };
    let entries = entries.into_iter().map(|entry| entry.bytes).collect();
    let request = wire::PushRequest { feed: Some(feed.to_wire()), entries, again: true, ..Default::default() };
    match peer.push(request).await {
        Ok(answer) => {
            if let Some(refusal) = &answer.refusal {
                tracing::warn!(%feed, peer = peer.name(), refusal = refusal.message, "push of what was wanted refused");
            }
            Input::PushedAgain { feed, last, refused: answer.refusal.as_ref().map(refused) }
        }
        Err(error) => {
            tracing::debug!(%feed, %error, "push again");
            Input::CallFailed(feed)
        }
    }
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

/// Why, and when to come back (ms).
fn refused(refusal: &wire::Refusal) -> (RefusalCode, u32) {
    (refusal_from_wire(refusal), refusal.retry_after_ms)
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
