//! The member's side of the protocol, without I/O.
//!
//! For each feed it compares two numbers, the sequence held here and the one the peer holds: where the peer has more it
//! asks, where this node has more (and may push the feed) it pushes. Everything else is about not asking twice, not
//! hammering a peer that is away, and serving small urgent lanes before bulk.

mod talk;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{AgencyCode, Audience, Directory, FeedId, Head, Lane, Refusal};
use httt_wire::exchange::RefusalCode;

use crate::bandwidth::Taken;
use crate::evidence::two_stories;
use crate::founding::Beginning;
use crate::{Bandwidth, MAX_CALL_BYTES, MAX_HELD, admit};

pub use talk::{Action, Alarm, Input, head_from_wire, head_to_wire};

/// Patience and limits.
#[derive(Debug, Clone)]
pub struct Settings {
    /// First pause after a failure, doubled each time.
    pub backoff_first_ms: i64,
    /// Longest pause.
    pub backoff_most_ms: i64,
    /// Pause of one feed after a refusal that time may heal.
    pub refusal_pause_ms: i64,
    /// Pause before a peer is told again that this node lacks what it wants.
    pub lack_pause_ms: i64,
    /// How often all heads are asked for, not only those that changed: a carrier may have withheld some, or shown false
    /// ones, and says nothing of it later.
    pub ask_all_every_ms: i64,
    /// Calls about bulk feeds under way at once; directory and emergency have their own.
    pub bulk_calls: usize,
    /// Calls about urgent feeds under way at once.
    pub urgent_calls: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backoff_first_ms: 200,
            backoff_most_ms: 5_000,
            refusal_pause_ms: 5_000,
            lack_pause_ms: 30_000,
            ask_all_every_ms: 300_000,
            bulk_calls: 4,
            urgent_calls: 64,
            seed: 1,
        }
    }
}

/// Least bytes asked for in one call, however thin the link: an entry or a few.
const MIN_CALL_BYTES: usize = 16 * 1024;

/// Entries of a feed that are kept until the directory tells whether to accuse somebody.
const MAX_SUSPECTS: usize = 8;
/// Pause after an answer to a call for heads that brought nothing, ms.
const MIN_HEADS_PAUSE_MS: i64 = 20;
/// Soonest and latest that a peer may ask this node to come back, ms.
const MIN_RETRY_MS: i64 = 50;
const MAX_RETRY_MS: i64 = 10 * 60 * 1_000;

#[derive(Debug)]
struct Track {
    local: Option<Head>,
    remote: Option<Head>,
    /// A call or a store is under way.
    busy: bool,
    /// The call, if it is one.
    call: Option<u64>,
    /// Nothing is tried before this time.
    paused_until: i64,
    /// Its origin's key is not known, or not good any more: tried again at once when the directory changes, and after
    /// the pause anyway, since that key may be a carrier's doing.
    awaits_directory: bool,
    /// Entries that the directory knows no good key or right for, though it seemed current, and the call for heads that was
    /// the last one then: they may be younger than what was shown of the directory.
    suspects: Vec<(u64, Bytes, Refusal)>,
    /// Forked: an operator must decide.
    stopped: bool,
    /// Calls that failed, one after the other.
    failures: u32,
    /// After which sequence the latest push began.
    pushed_after: u64,
    /// What the peer wants again: after the first sequence, up to the second.
    wanted: Option<(u64, u64)>,
    /// Of that, what is being pushed.
    brought: Option<(u64, u64)>,
    /// After which sequence this node lacks what was wanted, and until when the peer need not be told so again.
    lacking: Option<(u64, i64)>,
    /// Bytes taken of the bandwidth for the call under way, and what it came to if somebody measured that.
    taken: Option<Taken>,
    measured: Option<usize>,
    /// Asked for or sent in one call: halved when calls fail, since a thin link may not carry more in time.
    call_bytes: usize,
}

impl Default for Track {
    fn default() -> Self {
        Self {
            local: None,
            remote: None,
            busy: false,
            call: None,
            paused_until: 0,
            awaits_directory: false,
            suspects: Vec::new(),
            stopped: false,
            failures: 0,
            pushed_after: 0,
            wanted: None,
            brought: None,
            lacking: None,
            taken: None,
            measured: None,
            call_bytes: MAX_CALL_BYTES,
        }
    }
}

impl Track {
    fn advance(&mut self, head: Head) {
        if head.sequence > self.local_sequence() {
            self.local = Some(head);
        }
    }

    /// A call about it was answered.
    fn answered(&mut self) {
        (self.busy, self.call) = (false, None);
        // What it awaited before: a pause that this answer asks for is for something else.
        self.awaits_directory = false;
        self.failures = 0;
        self.call_bytes = (self.call_bytes * 2).min(MAX_CALL_BYTES);
    }

    fn local_sequence(&self) -> u64 {
        self.local.map_or(0, |head| head.sequence)
    }

    fn remote_sequence(&self) -> u64 {
        self.remote.map_or(0, |head| head.sequence)
    }
}

/// The member's side. Deterministic: same inputs and times, same actions.
#[derive(Debug)]
pub struct Copier {
    settings: Settings,
    /// Members whose feeds are pushed to this peer.
    pushes_for: Vec<AgencyCode>,
    directory: Arc<Directory>,
    feeds: BTreeMap<FeedId, Track>,
    /// Of the directory, until the gateway is known.
    beginning: Beginning,
    actions: Vec<Action>,
    /// The call for heads under way.
    heads_call: Option<u64>,
    heads_calls: u64,
    /// Calls about feeds so far.
    feed_calls: u64,
    /// Whether the call for heads under way (or the last one) asks for all of them.
    asked_all: bool,
    /// When all of them were told last.
    all_told: i64,
    /// Whether the last call got through.
    connected: bool,
    /// Why the peer gives no heads, if it answers at all.
    heads_refused: Option<RefusalCode>,
    heads_since: Option<(Vec<u8>, u64)>,
    /// The answer left heads out; the next question asks for the rest.
    more: bool,
    /// All heads are to be asked for at once: a call failed, and it must be known whether the link did.
    probe: bool,
    failures: u32,
    next_attempt: i64,
    jitter: u64,
    bandwidth: Option<Bandwidth>,
}

impl Copier {
    /// Copies what the peer shows, and pushes the feeds of `pushes_for`.
    pub fn new(pushes_for: Vec<AgencyCode>, directory: Arc<Directory>, settings: Settings) -> Self {
        Self {
            jitter: settings.seed | 1,
            settings,
            pushes_for,
            directory,
            feeds: BTreeMap::new(),
            beginning: Beginning::default(),
            actions: Vec::new(),
            heads_call: None,
            heads_calls: 0,
            feed_calls: 0,
            asked_all: true,
            all_told: 0,
            connected: false,
            heads_refused: None,
            heads_since: None,
            more: false,
            probe: false,
            failures: 0,
            next_attempt: 0,
            bandwidth: None,
        }
    }

    /// Begins with the heads of this node's log: its first question already says what is held here.
    #[must_use]
    pub fn holding(mut self, heads: impl IntoIterator<Item = (FeedId, Head)>) -> Self {
        heads.into_iter().for_each(|(feed, head)| self.feeds.entry(feed).or_default().advance(head));
        self
    }

    /// Keeps to a limit, which is shared with what else uses the link. Its times are those given to
    /// [`Copier::handle`].
    #[must_use]
    pub fn within(mut self, bandwidth: Bandwidth) -> Self {
        self.bandwidth = Some(bandwidth);
        self
    }

    /// The call about `feed` that is about to be answered came to so many bytes on the wire. Without this, what was
    /// asked for counts.
    pub fn measured(&mut self, feed: &FeedId, bytes: usize) {
        if let Some(track) = self.feeds.get_mut(feed) {
            track.measured = Some(bytes);
        }
    }

    /// Settles what the call about `feed` took of the bandwidth.
    fn settle(&mut self, now: i64, feed: &FeedId) {
        let (Some(bandwidth), Some(track)) = (&self.bandwidth, self.feeds.get_mut(feed)) else { return };
        match (track.taken.take(), track.measured.take()) {
            (Some(taken), Some(measured)) => taken.settle(measured),
            (None, Some(measured)) => bandwidth.urgent(now, measured),
            (_, None) => {}
        }
    }

    /// Whether the last call got through.
    pub fn connected(&self) -> bool {
        self.connected
    }

    /// Why the peer answers and yet gives no heads: this node is no member, say, or suspended.
    pub fn refused(&self) -> Option<RefusalCode> {
        self.heads_refused
    }

    /// Feeds whose heads here and at the peer differ, as (feed, sequence here, sequence there).
    pub fn behind(&self) -> impl Iterator<Item = (&FeedId, u64, u64)> {
        self.feeds
            .iter()
            .map(|(feed, track)| (feed, track.local_sequence(), track.remote_sequence()))
            .filter(|(feed, local, remote)| remote > local || (local > remote && self.pushes(feed)))
    }

    /// Whether the peer was asked and holds nothing of this node's own feeds that this node lacks. A node restored from
    /// a backup must not write before that: its words would contradict those it said already.
    pub fn own_level(&self) -> bool {
        let own = self.feeds.iter().filter(|(feed, _)| self.pushes(feed));
        self.heads_since.is_some()
            && !self.more
            && own.into_iter().all(|(_, track)| track.remote_sequence() <= track.local_sequence())
    }

    /// Feeds that stand still because they forked.
    pub fn stopped(&self) -> impl Iterator<Item = &FeedId> {
        self.feeds.iter().filter(|(_, track)| track.stopped).map(|(feed, _)| feed)
    }

    /// Members for whose feeds this node pushes to the peer (changes when an adapter is granted another).
    pub fn set_pushes_for(&mut self, members: Vec<AgencyCode>) {
        self.pushes_for = members;
    }

    /// Takes one input at `now` (ms of any monotone clock) and says what to do next.
    pub fn handle(&mut self, now: i64, input: Input) -> Vec<Action> {
        if let Some((call, feed)) = input.answers() {
            if self.feeds.get(feed).is_none_or(|track| track.call != Some(call)) {
                // It came before: what is under way now, if anything, is another call.
                return self.planned(now);
            }
            self.settle(now, feed);
        }
        match input {
            Input::LocalHead(feed, head) => self.feeds.entry(feed).or_default().advance(head),
            Input::Directory(directory) => {
                if !Arc::ptr_eq(&self.directory, &directory) {
                    // It may give rights: feeds that did not change since are news then, too.
                    self.ask_all_at_once();
                }
                self.directory = directory;
                for track in self.feeds.values_mut() {
                    track.suspects.clear();
                    if std::mem::take(&mut track.awaits_directory) {
                        track.paused_until = now;
                    }
                }
            }
            // An answer to a call that was given up tells nothing new: a later call asked for everything.
            Input::Heads { call, .. } | Input::HeadsRefused { call, .. } | Input::HeadsFailed(call)
                if Some(call) != self.heads_call => {}
            Input::Heads { log_id, position, heads, more, wants, .. } => {
                self.on_heads(now, log_id, position, heads);
                self.more = more;
                self.on_wants(now, wants);
                if self.asked_all && !more {
                    self.judge_suspects();
                }
            }
            Input::HeadsRefused { refused, wants, .. } => {
                self.on_heads_refused(now, refused);
                self.on_wants(now, wants);
            }
            Input::Entries { feed, entries, refused, .. } => self.on_entries(now, feed, entries, refused),
            Input::Stored { feed, result } => self.on_stored(now, feed, result),
            Input::Pushed { feed, head, refused, .. } => self.on_pushed(now, feed, head, refused),
            Input::PushedAgain { feed, last, refused, .. } => self.on_pushed_again(now, &feed, last, refused),
            Input::HeadsFailed(_) => {
                self.heads_refused = None;
                self.on_failure(now);
            }
            Input::CallFailed { feed, .. } => self.on_call_failed(now, &feed),
            Input::Stopped(feed) => self.feeds.entry(feed).or_default().stopped = true,
            Input::Tick => {}
        }
        self.planned(now)
    }

    fn planned(&mut self, now: i64) -> Vec<Action> {
        self.plan(now);
        std::mem::take(&mut self.actions)
    }

    fn on_heads(&mut self, now: i64, log_id: Vec<u8>, position: u64, heads: Vec<(FeedId, Head)>) {
        self.heads_call = None;
        self.failures = 0;
        // Answers that bring nothing, one after the other, are not asked for without a pause: a peer need not wait.
        let idle = heads.is_empty() && self.heads_since.as_ref().is_some_and(|(_, at)| *at >= position);
        self.next_attempt = if idle { now + MIN_HEADS_PAUSE_MS } else { now };
        // The answer tells all heads when all were asked for, and when the peer's log is another or shorter than
        // before; what was known of the peer may then be too much. Otherwise it tells changes only.
        let same_log = self.heads_since.as_ref().is_some_and(|(known, at)| *known == log_id && *at <= position);
        let begins = self.asked_all && !self.more;
        if begins || !same_log {
            self.feeds.values_mut().for_each(|track| track.remote = None);
        }
        if self.asked_all {
            self.all_told = now;
        }
        self.connected = true;
        self.heads_refused = None;
        self.heads_since = Some((log_id, position));
        for (feed, head) in heads {
            if !self.concerns(&feed) {
                continue;
            }
            let pushes = self.pushes(&feed);
            let track = self.feeds.entry(feed).or_default();
            // An answer made before our last push may arrive after the push's own answer. Of what others say the latest
            // answer counts: a lie must not outlive it.
            if !pushes || head.sequence >= track.remote_sequence() {
                track.remote = Some(head);
            }
        }
    }

    fn on_wants(&mut self, now: i64, wants: Vec<(FeedId, u64, u64)>) {
        for (feed, after, until) in wants {
            let (pushes, of_gateway) = (self.pushes(&feed), self.is_of_gateway(&feed));
            // Of the gateway's own feeds it wants what was said to be here.
            let brings = |track: &Track| pushes || (of_gateway && until <= track.local_sequence());
            if let Some(track) = self.feeds.get_mut(&feed).filter(|track| brings(track)) {
                // A peer that does not understand it asks on.
                let told = track.lacking.is_some_and(|(lacking, until)| lacking == after && now < until);
                track.wanted = (after < until && !told).then_some((after, until));
            }
        }
    }

    fn on_pushed_again(&mut self, now: i64, feed: &FeedId, last: u64, refused: Option<(RefusalCode, u32)>) {
        let Some(track) = self.feeds.get_mut(feed) else { return };
        track.answered();
        let brought = track.brought.take();
        match refused {
            Some((RefusalCode::NotFound, _)) => {
                track.lacking = brought.map(|(after, _)| (after, now + self.settings.lack_pause_ms));
                track.wanted = track.wanted.filter(|wanted| Some(*wanted) != brought);
            }
            Some(refused) => {
                // If it is still wanted, the peer says so again.
                track.wanted = None;
                track.paused_until = now + pause_of(&self.settings, refused);
            }
            // Meanwhile the peer may have wanted something else.
            None if track.wanted == brought => {
                track.wanted = brought.filter(|(_, until)| last < *until).map(|(_, until)| (last, until));
            }
            None => {}
        }
    }

    /// The peer talks, but gives no heads: it is busy, or this node is no member (any more).
    fn on_heads_refused(&mut self, now: i64, refused: (RefusalCode, u32)) {
        self.heads_call = None;
        self.heads_refused = Some(refused.0);
        if refused.0 == RefusalCode::Busy {
            // Whoever asked for all of them still wants to know.
            self.probe |= self.asked_all;
            self.next_attempt = now + pause_of(&self.settings, refused);
        } else {
            self.on_failure(now);
            self.next_attempt = self.next_attempt.max(now + pause_of(&self.settings, refused));
        }
    }

    /// One feed's trouble pauses that feed; whether the link is down, a call for heads must show.
    fn on_call_failed(&mut self, now: i64, feed: &FeedId) {
        let pause = self.pause_after(self.feeds.get(feed).map_or(1, |track| track.failures + 1));
        if let Some(track) = self.feeds.get_mut(feed) {
            (track.busy, track.call) = (false, None);
            if track.brought.take().is_some() {
                // If it is still wanted, the peer says so again.
                track.wanted = None;
            }
            track.failures = track.failures.saturating_add(1);
            track.call_bytes = (track.call_bytes / 2).max(MIN_CALL_BYTES);
            track.paused_until = now + pause;
        }
        self.ask_all_at_once();
    }

    /// The long-poll under way is given up: it may hang on a dead link for as long as it may wait, and tells changes only.
    fn ask_all_at_once(&mut self) {
        if self.connected && !self.asked_all {
            self.heads_call = None;
            self.probe = true;
            self.more = false;
        }
    }

    /// How long to pause after so many failures, with jitter.
    fn pause_after(&mut self, failures: u32) -> i64 {
        let first = self.settings.backoff_first_ms;
        let pause = first.saturating_mul(1 << failures.min(16).saturating_sub(1)).min(self.settings.backoff_most_ms);
        pause / 2 + self.random_below(pause / 2 + 1)
    }

    fn on_failure(&mut self, now: i64) {
        self.failures = self.failures.saturating_add(1);
        self.next_attempt = now + self.pause_after(self.failures);
        self.connected = false;
        self.heads_call = None;
    }

    fn random_below(&mut self, limit: i64) -> i64 {
        // xorshift64: jitter needs spread, not secrecy, and must repeat under a seed.
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        (self.jitter % limit.max(1) as u64) as i64
    }

    /// Whether a feed that the peer shows can be for this node. Otherwise a carrier could name feeds without end.
    fn concerns(&self, feed: &FeedId) -> bool {
        let known = |member: &AgencyCode| self.directory.member(member).is_some();
        let own = |member: &AgencyCode| self.pushes_for.contains(member);
        let granted = || self.pushes_for.iter().any(|member| self.directory.may_read(member, feed).is_ok());
        match (feed.lane, &feed.audience) {
            (Lane::Local, _) => false,
            // Until the gateway is known only its directory can be asked for.
            (Lane::Directory, _) => self.directory.gateway().is_none_or(|gateway| *gateway == feed.origin),
            // Its own feeds always: a restored node may hold too little of the directory to find itself in it.
            (_, Audience::All) => self.directory.gateway().is_none() || own(&feed.origin) || known(&feed.origin),
            (_, Audience::One(audience)) => own(audience) || own(&feed.origin) || granted(),
        }
    }

    fn on_entries(&mut self, now: i64, feed: FeedId, entries: Vec<Bytes>, refused: Option<(RefusalCode, u32)>) {
        let refusal_pause = refused.map(|refused| pause_of(&self.settings, refused));
        let pause = now + self.settings.refusal_pause_ms;
        let directory_is_current = self.directory_is_current();
        let Some(track) = self.feeds.get_mut(&feed) else { return };
        track.answered();
        if refused.is_some() || entries.is_empty() {
            // The peer showed a head and gives nothing: it must ask the origin first, it lost its tail, or the right was
            // withdrawn.
            track.paused_until = refusal_pause.map_or(pause, |pause| now + pause);
            return;
        }
        let (last, gathered) = (track.remote_sequence(), self.beginning.after(&feed).is_some());
        let Some(entries) = self.beginning.take(&self.directory, &feed, entries, last) else { return };
        let mut ask_all = false;
        let admission = admit(&self.directory, &feed, track.local, &entries);
        let brings_nothing = admission.batches.iter().all(|batch| batch.sequence() <= track.local_sequence());
        // A directory that was gathered in vain is large, and nothing makes it good but another configuration.
        let pause = if gathered && brings_nothing { now + self.settings.ask_all_every_ms } else { pause };
        if brings_nothing {
            track.paused_until = pause;
        }
        if let Some((bytes, refusal)) = admission.refused {
            match refusal {
                // Keys and rights may come, and what a revoked key signed may be admitted.
                refusal @ (Refusal::UnknownKey { .. }
                | Refusal::RevokedKey { .. }
                | Refusal::NotAMember(_)
                | Refusal::NoRight { .. }) => {
                    track.awaits_directory = true;
                    if directory_is_current {
                        if track.suspects.len() < MAX_SUSPECTS {
                            track.suspects.push((self.heads_calls, bytes, refusal));
                        }
                        ask_all = true;
                    }
                }
                refusal => {
                    track.stopped |= two_stories(&refusal).is_some();
                    self.actions.push(Action::Alarm(Alarm { feed: feed.clone(), refusal, evidence: Some(bytes) }));
                }
            }
            track.paused_until = pause;
        }
        if !admission.batches.is_empty() {
            track.busy = true;
            self.actions.push(Action::Store { feed, batches: admission.batches });
        }
        if ask_all {
            self.ask_all_at_once();
        }
    }

    /// All heads were told: where nothing of the directory is missing, what it knows no key for is somebody's doing.
    fn judge_suspects(&mut self) {
        let (current, call) = (self.directory_is_current(), self.heads_calls);
        let mut unjudged = false;
        for (feed, track) in &mut self.feeds {
            for (since, bytes, refusal) in std::mem::take(&mut track.suspects) {
                if since >= call {
                    track.suspects.push((since, bytes, refusal));
                } else if current {
                    let alarm = Alarm { feed: feed.clone(), refusal, evidence: Some(bytes) };
                    self.actions.push(Action::Alarm(alarm));
                }
            }
            unjudged |= !track.suspects.is_empty();
        }
        // That answer may have been made before the entry came.
        self.probe |= unjudged;
    }

    /// Whether everything the peer shows of the directory is here.
    fn directory_is_current(&self) -> bool {
        let mut directory = self.feeds.iter().filter(|(feed, _)| feed.lane == Lane::Directory).peekable();
        directory.peek().is_some() && directory.all(|(_, track)| track.local_sequence() >= track.remote_sequence())
    }

    fn on_stored(&mut self, now: i64, feed: FeedId, result: Result<Head, Option<Refusal>>) {
        let pause = now + self.settings.refusal_pause_ms;
        let Some(track) = self.feeds.get_mut(&feed) else { return };
        track.busy = false;
        match result {
            // The log's own news of this head may come later; asking again meanwhile would bring nothing.
            Ok(head) => track.advance(head),
            Err(refusal) => {
                track.paused_until = pause;
                if let Some(refusal) = refusal {
                    track.stopped |= two_stories(&refusal).is_some();
                    self.actions.push(Action::Alarm(Alarm { feed, refusal, evidence: None }));
                }
            }
        }
    }

    fn on_pushed(&mut self, now: i64, feed: FeedId, head: Option<Head>, refused: Option<(RefusalCode, u32)>) {
        let Some(track) = self.feeds.get_mut(&feed) else { return };
        track.answered();
        let before = track.remote;
        if head.is_some() {
            track.remote = head;
        }
        let Some(refused) = refused else {
            // A peer that takes nothing and says nothing is not pushed bulk to without a pause. Emergencies go on: they are
            // small, and an answer that crossed another must not hold them up.
            if is_bulk(feed.lane) && head.is_none_or(|head| head.sequence <= track.pushed_after) {
                track.paused_until = now + self.settings.refusal_pause_ms;
            }
            return;
        };
        track.paused_until = now + pause_of(&self.settings, refused);
        match refused.0 {
            RefusalCode::Gap => {
                // The head that came with it says where to go on; the same one again would be pushed for ever.
                track.remote = head;
                if head != before {
                    track.paused_until = now;
                }
            }
            // Only the peer's word so far: told, not believed. The other batch itself would stop the feed.
            RefusalCode::Fork | RefusalCode::BrokenChain => {
                let sequence = track.remote_sequence();
                let refusal = Refusal::Fork { feed: feed.clone(), sequence };
                self.actions.push(Action::Alarm(Alarm { feed, refusal, evidence: None }));
            }
            // The gateway may not know yet what is held here of its own feeds.
            RefusalCode::Unavailable => self.ask_all_at_once(),
            _ => {}
        }
    }

    fn pushes(&self, feed: &FeedId) -> bool {
        feed.lane != Lane::Local && self.pushes_for.contains(&feed.origin)
    }

    /// What the gateway says itself. Restored from a backup, it asks its members for what it had said since.
    fn is_of_gateway(&self, feed: &FeedId) -> bool {
        feed.lane != Lane::Local && self.directory.gateway() == Some(&feed.origin)
    }

    fn held_of_gateway(&self) -> Vec<(FeedId, Head)> {
        let of_gateway = self.feeds.iter().filter(|(feed, _)| self.is_of_gateway(feed));
        of_gateway.filter_map(|(feed, track)| Some((feed.clone(), track.local?))).take(MAX_HELD).collect()
    }

    /// Starts whatever may be started now.
    fn plan(&mut self, now: i64) {
        if now >= self.all_told.saturating_add(self.settings.ask_all_every_ms) {
            self.ask_all_at_once();
        }
        if self.heads_call.is_none() && now >= self.next_attempt {
            let (log_id, after) = match &self.heads_since {
                Some((log_id, after)) if self.connected && !self.probe => (log_id.clone(), *after),
                _ => (Vec::new(), 0),
            };
            let wait = self.connected && !self.probe && !self.more;
            self.probe = false;
            self.heads_calls += 1;
            self.heads_call = Some(self.heads_calls);
            // What a long answer left out is asked for after it, and belongs to it.
            self.asked_all = after == 0 || (self.more && self.asked_all);
            let held = if log_id.is_empty() { self.held_of_gateway() } else { Vec::new() };
            self.actions.push(Action::AskHeads { call: self.heads_calls, log_id, after, wait, held });
        }
        // A gateway that waits for what it had said itself refuses everything else.
        if !self.connected && self.heads_refused.is_none() {
            return;
        }
        // The peer shows less than it gave, and what follows would never be asked for. An answer under way may follow it.
        if self.connected && !self.more {
            let feeds = &self.feeds;
            let shown = |feed: &FeedId| feeds.get(feed).filter(|track| !track.busy).map(Track::remote_sequence);
            self.beginning.give_up(shown);
        }
        let busy =
            |bulk: bool| self.feeds.iter().filter(|(feed, track)| track.busy && is_bulk(feed.lane) == bulk).count();
        let (mut bulk, mut urgent) = (busy(true), busy(false));
        let mut order: Vec<&FeedId> = self.feeds.keys().collect();
        order.sort_by_key(|feed| feed.lane);
        let mut started = Vec::new();
        let mut waits = false;
        for feed in order {
            let track = &self.feeds[feed];
            // What is wanted of a feed that forked is the evidence.
            let wanted = track.wanted.filter(|_| self.connected || self.is_of_gateway(feed));
            let goes_on = self.connected && !track.stopped;
            if track.busy || now < track.paused_until || (!goes_on && wanted.is_none()) {
                continue;
            }
            let (calls, most) = match is_bulk(feed.lane) {
                true => (&mut bulk, self.settings.bulk_calls),
                false => (&mut urgent, self.settings.urgent_calls),
            };
            if *calls >= most {
                continue;
            }
            let local = self.beginning.after(feed).unwrap_or_else(|| track.local_sequence());
            let remote = track.remote_sequence();
            let asks = goes_on && (remote > local || differ(track));
            let pushes = goes_on && local > remote && self.pushes(feed);
            if !asks && !pushes && wanted.is_none() {
                continue;
            }
            let (room, taken) = match &self.bandwidth {
                Some(bandwidth) if is_bulk(feed.lane) => match bandwidth.take_for_entries(now) {
                    Some(taken) => (taken.bytes(), Some(taken)),
                    None => {
                        waits = true;
                        continue;
                    }
                },
                _ => (MAX_CALL_BYTES, None),
            };
            let max_bytes = track.call_bytes.min(room);
            // What is wanted and is not here is said before it is asked for: the peer may have nobody else to have it from.
            let lacks = wanted.is_some_and(|(after, _)| after >= local);
            self.feed_calls += 1;
            let call = self.feed_calls;
            if asks && !lacks {
                // Where the heads differ at one sequence, that batch is asked for again: it is the evidence.
                let local = if differ(track) { local - 1 } else { local };
                // What this node said itself it must hold whole, and what it carries it must hand on whole.
                let from_restated = feed.lane == Lane::Status && track.local.is_none() && !self.pushes(feed);
                started.push((Action::Ask { call, feed: feed.clone(), after: local, max_bytes, from_restated }, taken));
            } else if let Some((after, until)) = wanted.filter(|_| !pushes) {
                started.push((Action::PushAgain { call, feed: feed.clone(), after, until, max_bytes }, taken));
            } else {
                started.push((Action::Push { call, feed: feed.clone(), after: remote, max_bytes }, taken));
            }
            *calls += 1;
        }
        if let Some(bandwidth) = self.bandwidth.as_ref().filter(|_| !waits) {
            bandwidth.entries_rest();
        }
        for (action, taken) in started {
            if let Action::Ask { call, feed, .. }
            | Action::Push { call, feed, .. }
            | Action::PushAgain { call, feed, .. } = &action
                && let Some(track) = self.feeds.get_mut(feed)
            {
                (track.busy, track.call) = (true, Some(*call));
                (track.taken, track.measured) = (taken, None);
                match &action {
                    Action::Push { after, .. } => track.pushed_after = *after,
                    Action::PushAgain { after, until, .. } => track.brought = Some((*after, *until)),
                    _ => {}
                }
            }
            self.actions.push(action);
        }
    }
}

/// Same sequence, other digest: the peer lies, or the origin told two stories.
fn differ(track: &Track) -> bool {
    matches!((track.local, track.remote), (Some(local), Some(remote))
        if local.sequence == remote.sequence && local.digest != remote.digest)
}

/// How long a refusal pauses what was refused. A peer that says when to come back is believed; other refusals are
/// such as time may heal.
fn pause_of(settings: &Settings, (code, retry_after_ms): (RefusalCode, u32)) -> i64 {
    let asked = i64::from(retry_after_ms).clamp(MIN_RETRY_MS, MAX_RETRY_MS);
    match code {
        RefusalCode::Busy | RefusalCode::Away => asked,
        _ => settings.refusal_pause_ms.max(i64::from(retry_after_ms).min(MAX_RETRY_MS)),
    }
}

fn is_bulk(lane: Lane) -> bool {
    !matches!(lane, Lane::Directory | Lane::Emergency)
}
