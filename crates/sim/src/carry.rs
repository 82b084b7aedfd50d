//! Calls between nodes: from a copier's action over the link to the real service and back. What a driver over gRPC does,
//! with virtual time, loss, doubling and delay.

use std::sync::Arc;

use bytes::Bytes;
use httt_exchange::{Action, Evidence, Input, RefusalCode, head_to_wire, refusal_from_wire, refused};
use httt_feed::{Digest, FeedId, Lane};
use httt_log::Transaction;
use httt_wire::exchange as wire;

use crate::mutation::Mutation;
use crate::node::Outcome;
use crate::world::{Event, World};

/// How long a caller waits for an answer, ms.
const CALL_TIMEOUT_MS: i64 = 5_000;
/// How long a call for heads may wait for news, as in the real protocol, ms.
pub(crate) const LONG_POLL_MS: i64 = 30_000;
/// A process that is not there refuses connections soon, ms.
pub(crate) const REFUSED_MS: i64 = 50;
/// Entries in one push: as many as are verified without a thread of their own.
pub(crate) const MAX_PUSH: usize = 12;
/// Where ticks have become rarer than this and something happens, they begin anew.
const RELAXED_TICK_MS: i64 = 1_000;
/// How long some trouble with a feed may keep its next call back: the longest back-off or pause, and a tick.
const EXCUSED_MS: i64 = 12_000;

/// A question under way.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) from: usize,
    pub(crate) life: u32,
    pub(crate) to: usize,
    pub(crate) what: What,
    /// Its answer came already; this one comes again.
    pub(crate) is_answered: bool,
}

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) enum What {
    Heads { call: u64, log_id: Vec<u8>, after: u64, wait: bool, held: Vec<wire::Head> },
    Ask { call: u64, feed: FeedId, after: u64, max_bytes: usize, from_restated: bool },
    Push { call: u64, feed: FeedId, entries: Vec<Bytes> },
    Again { call: u64, feed: FeedId, entries: Vec<Bytes>, last: u64 },
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Heads(wire::HeadsResponse),
    Read(wire::ReadResponse),
    Push(wire::PushResponse),
}

impl Call {
    pub(crate) fn feed(&self) -> Option<&FeedId> {
        match &self.what {
            What::Heads { .. } => None,
            What::Ask { feed, .. } | What::Push { feed, .. } | What::Again { feed, .. } => Some(feed),
        }
    }

    fn is_bulk(&self) -> bool {
        self.feed().is_some_and(|feed| !matches!(feed.lane, Lane::Directory | Lane::Emergency))
    }

    pub(crate) fn timeout_ms(&self) -> i64 {
        match self.what {
            What::Heads { wait: true, .. } => LONG_POLL_MS + CALL_TIMEOUT_MS,
            _ => CALL_TIMEOUT_MS,
        }
    }
}

impl World {
    /// Tells a node's copier something, and does what it wants.
    pub(crate) fn tell(&mut self, at: usize, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[at];
        let Some(copier) = node.copier.as_mut().filter(|_| node.up) else { return };
        if let Input::LocalHead(feed, head) | Input::Stored { feed, result: Ok(head) } = &input {
            let (feed, sequence) = (feed.clone(), head.sequence);
            let known = node.known.entry(feed).or_default();
            *known = sequence.max(*known);
        }
        // After an answer with nothing in it all it has to do is to wait a little.
        let is_answer = matches!(input, Input::Heads { .. });
        let actions = copier.handle(now, input);
        let level = copier.own_level();
        if node.restored && level {
            node.restored = false;
            self.note(|world| format!("{} has taken back what it had said", world.nodes[at].code));
            let feed = self.any_feed_of(at);
            self.write(at, &feed);
        }
        if (is_answer || !actions.is_empty()) && self.nodes[at].tick_pause > RELAXED_TICK_MS {
            self.tick_soon(at);
        }
        for action in actions {
            self.perform(at, action);
        }
        self.check_urgent(at);
    }

    fn perform(&mut self, at: usize, action: Action) {
        self.note(|world| format!("{} {}", world.nodes[at].code, shown(&action)));
        if let Action::Ask { feed, .. } | Action::Push { feed, .. } | Action::PushAgain { feed, .. } = &action {
            self.check_patience(at, feed);
        }
        if self.hearing_again && matches!(action, Action::Store { .. } | Action::Alarm(_)) {
            self.fail(format!("{} acts on an answer that it had: {}", self.nodes[at].code, shown(&action)));
        }
        match action {
            Action::AskHeads { call, log_id, after, wait, held } => {
                let says = self.mutation != Some(Mutation::SayNothing);
                let held = held.iter().filter(|_| says).map(|(feed, head)| head_to_wire(feed, *head)).collect();
                self.call(at, What::Heads { call, log_id, after, wait, held });
            }
            Action::Ask { call, feed, after, max_bytes, from_restated } => {
                self.nodes[at].began(&feed, call);
                self.call(at, What::Ask { call, feed, after, max_bytes, from_restated });
            }
            Action::Push { call, feed, after, max_bytes: _ } => {
                self.nodes[at].began(&feed, call);
                let most = 1 + self.chance.below(MAX_PUSH);
                let entries = self.nodes[at].disk.some(&feed, after, u64::MAX, most);
                let entries = entries.iter().map(|batch| batch.bytes().clone()).collect();
                self.call(at, What::Push { call, feed, entries });
            }
            Action::PushAgain { call, feed, after, until, max_bytes: _ } => {
                self.nodes[at].began(&feed, call);
                self.tally.wanted += 1;
                let most = 1 + self.chance.below(MAX_PUSH);
                let batches = self.nodes[at].disk.some(&feed, after, until, most);
                let Some(last) = batches.last().filter(|_| self.mutation != Some(Mutation::IgnoreWants)) else {
                    return self.fail_call_about(at, call, feed);
                };
                let last = last.sequence();
                let entries = batches.iter().map(|batch| batch.bytes().clone()).collect();
                self.call(at, What::Again { call, feed, entries, last });
            }
            Action::Store { feed, batches } => {
                *self.nodes[at].busy.entry(feed.clone()).or_default() += 1;
                let (disk, stopped) = (Arc::clone(&self.nodes[at].disk), self.nodes[at].stopped.clone());
                let task = async move {
                    match disk.commit(Transaction::copy(batches.clone())).await {
                        Ok(placed) => Outcome::Stored(feed, placed.last().map(|placed| placed.head).ok_or(None)),
                        Err(httt_exchange::StoreError::Refused(refusal)) => {
                            Evidence::new(disk.as_ref(), &stopped).keep_from(&feed, &refusal, &batches).await;
                            Outcome::Stored(feed, Err(Some(refusal)))
                        }
                        Err(_) => Outcome::Stored(feed, Err(None)),
                    }
                };
                self.begin(at, Box::pin(task));
            }
            Action::Alarm(alarm) => {
                self.on_alarm(at, &alarm);
                if self.mutation == Some(Mutation::ForgetEvidence) {
                    return;
                }
                let (disk, stopped) = (Arc::clone(&self.nodes[at].disk), self.nodes[at].stopped.clone());
                let peer = self.nodes[self.nodes[at].peer].code.clone();
                let digest = alarm.evidence.as_ref().map(|bytes| Digest::of(bytes)).unwrap_or(Digest([0; 32]));
                let task = async move {
                    Evidence::new(disk.as_ref(), &stopped).keep_alarm(peer.as_str(), alarm).await;
                    Outcome::Kept(digest)
                };
                self.begin(at, Box::pin(task));
            }
        }
    }

    fn fail_call_about(&mut self, at: usize, number: u64, feed: FeedId) {
        let (id, life, to) = (self.next_id(), self.nodes[at].life, self.nodes[at].peer);
        let call = Call {
            id,
            from: at,
            life,
            to,
            what: What::Ask { call: number, feed, after: 0, max_bytes: 0, from_restated: false },
            is_answered: false,
        };
        self.schedule(1, Event::Answer(call, None));
    }

    /// Sends a question.
    fn call(&mut self, at: usize, what: What) {
        let to = self.nodes[at].peer;
        let call = Call { id: self.next_id(), from: at, life: self.nodes[at].life, to, what, is_answered: false };
        self.tally.calls += 1;
        let cut = self.is_cut(at);
        if !cut && !self.nodes[to].up {
            return self.schedule(REFUSED_MS, Event::Answer(call, None));
        }
        let loss = self.rate(self.plan.loss);
        if cut || self.happens(loss) {
            self.tally.lost += 1;
            let wait = call.timeout_ms();
            return self.schedule(wait, Event::Answer(call, None));
        }
        let delay = self.way(&call);
        let doubling = self.rate(self.plan.doubling);
        if matches!(call.what, What::Push { .. } | What::Again { .. }) && self.happens(doubling) {
            // The second one arrives, too, and nobody waits for its answer.
            self.tally.doubled += 1;
            let again = Call { id: self.next_id(), life: u32::MAX, ..call.clone() };
            let later = delay + self.chance.between(0, 2_000);
            self.schedule(later, Event::Arrive(again));
        }
        self.schedule(delay, Event::Arrive(call));
    }

    /// How long a message is under way. Urgent calls have a connection of their own, so bulk does not delay them.
    pub(crate) fn way(&mut self, call: &Call) -> i64 {
        let longest = if self.faults { self.plan.delay_ms } else { crate::QUIET_DELAY_MS };
        let mut delay = self.chance.between(1, longest);
        if call.is_bulk() && self.slow_bulk {
            delay += self.chance.between(500, 2_000);
        }
        if self.mutation == Some(Mutation::BulkBeforeEmergency) {
            let node = &mut self.nodes[call.from];
            if call.is_bulk() {
                node.bulk_until = node.bulk_until.max(self.now + delay);
            } else if call.feed().is_some() {
                delay += (node.bulk_until - self.now).max(0);
            }
        }
        delay
    }

    /// An answer arrives, or it is clear that none will.
    pub(crate) fn answered(&mut self, call: Call, reply: Option<Reply>) {
        let at = call.from;
        if self.nodes[at].life != call.life || !self.nodes[at].up {
            return;
        }
        let reply = reply.filter(|_| !self.is_cut(at));
        let reply = reply.map(|reply| self.hear_busy(at, call.feed().filter(|_| !call.is_answered), reply));
        if call.is_answered {
            return self.answered_again(call, reply);
        }
        let excused = self.now + EXCUSED_MS;
        let feed = call.feed().cloned();
        if let Some(feed) = &feed {
            self.nodes[at].ended(feed);
        }
        let excuse = |world: &mut Self| {
            if let Some(feed) = &feed {
                world.nodes[at].excused.insert(feed.clone(), excused);
            }
        };
        let input = match (call.what, reply) {
            (What::Heads { call, .. }, Some(Reply::Heads(answer))) => Input::of_heads(call, answer),
            (What::Heads { call, .. }, _) => Input::HeadsFailed(call),
            (What::Ask { call, feed, .. }, Some(Reply::Read(answer))) => {
                let expected = self.expected_alarm(at, &feed, &answer.entries);
                let known = self.nodes[at].known_of(&feed);
                let sequence = |entry: &Bytes| httt_feed::parse(entry.clone()).map_or(0, |batch| batch.sequence());
                let brings_nothing = answer.entries.iter().all(|entry| sequence(entry) <= known);
                if answer.refusal.is_some() || brings_nothing || !expected.is_none() || !self.directory_is_whole(at) {
                    excuse(self);
                }
                let refused = answer.refusal.as_ref().map(refused);
                if self.mutated(Mutation::SkipChainCheck) {
                    self.believe_gaps(at, &answer.entries);
                }
                self.expecting = Some(expected);
                self.tell(at, Input::Entries { call, feed, entries: answer.entries, refused });
                return self.check_alarm(at);
            }
            (What::Push { call, feed, .. }, Some(Reply::Push(answer))) => {
                if answer.refusal.is_some() {
                    excuse(self);
                }
                Input::of_push(call, feed, &answer)
            }
            (What::Again { call, feed, last, .. }, Some(Reply::Push(answer))) => {
                if answer.refusal.is_some() {
                    excuse(self);
                }
                Input::of_push_again(call, feed, last, &answer)
            }
            (What::Ask { call, feed, .. } | What::Push { call, feed, .. } | What::Again { call, feed, .. }, _) => {
                excuse(self);
                Input::CallFailed { call, feed }
            }
        };
        self.tell(at, input);
    }

    /// A busy peer says when to come back.
    fn hear_busy(&mut self, at: usize, feed: Option<&FeedId>, mut reply: Reply) -> Reply {
        let refusal = match &mut reply {
            Reply::Heads(answer) => &mut answer.refusal,
            Reply::Read(answer) => &mut answer.refusal,
            Reply::Push(answer) => &mut answer.refusal,
        };
        if let Some(refusal) = refusal.as_mut().filter(|refusal| refusal_from_wire(refusal) == RefusalCode::Busy) {
            let until = self.now + i64::from(refusal.retry_after_ms);
            if self.mutation == Some(Mutation::ComeBackAtOnce) {
                refusal.retry_after_ms = 0;
            }
            if let Some(feed) = feed {
                self.nodes[at].turned_away.insert(feed.clone(), until);
            }
        }
        reply
    }

    /// An answer comes a second time: it must change nothing, whatever is under way now.
    fn answered_again(&mut self, call: Call, reply: Option<Reply>) {
        let at = call.from;
        let hears = self.mutated(Mutation::HearAgain);
        let number = |world: &Self, feed: &FeedId, call: u64| {
            if hears { world.nodes[at].calls.get(feed).copied().unwrap_or(call) } else { call }
        };
        let input = match (call.what, reply) {
            (What::Heads { call, .. }, Some(Reply::Heads(answer))) => Input::of_heads(call, answer),
            (What::Ask { call, feed, .. }, Some(Reply::Read(answer))) => {
                let (call, refused) = (number(self, &feed, call), answer.refusal.as_ref().map(refused));
                Input::Entries { call, feed, entries: answer.entries, refused }
            }
            (What::Push { call, feed, .. }, Some(Reply::Push(answer))) => {
                Input::of_push(number(self, &feed, call), feed, &answer)
            }
            (What::Again { call, feed, last, .. }, Some(Reply::Push(answer))) => {
                Input::of_push_again(number(self, &feed, call), feed, last, &answer)
            }
            _ => return,
        };
        self.hearing_again = true;
        self.tell(at, input);
        self.hearing_again = false;
    }

    /// A mutated reader: whatever comes before a gap counts as held.
    fn believe_gaps(&mut self, at: usize, entries: &[Bytes]) {
        for batch in entries.iter().filter_map(|entry| httt_feed::parse(entry.clone()).ok()) {
            let before = batch.sequence() - 1;
            let digest = self.ledger.original(batch.feed(), before).map(|batch| batch.digest());
            if let Some(digest) = digest.filter(|_| before > self.nodes[at].known_of(batch.feed())) {
                let head = httt_feed::Head { sequence: before, digest };
                self.tell(at, Input::LocalHead(batch.feed().clone(), head));
            }
        }
    }

    /// Whether a caller's link is cut.
    pub(crate) fn is_cut(&self, from: usize) -> bool {
        self.now < self.nodes[from].cut_until
    }

    pub(crate) fn rate(&self, rate: usize) -> usize {
        if self.faults { rate } else { 0 }
    }

    pub(crate) fn happens(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.chance.one_in(one_in)
    }
}

/// Why, and when to come back (ms).
fn shown(action: &Action) -> String {
    match action {
        Action::AskHeads { call, after, wait, .. } => format!("asks heads #{call} after {after} wait={wait}"),
        Action::Ask { feed, after, .. } => format!("asks {feed} after {after}"),
        Action::Push { feed, after, .. } => format!("pushes {feed} after {after}"),
        Action::PushAgain { feed, after, until, .. } => format!("pushes {feed} again after {after} to {until}"),
        Action::Store { feed, batches } => {
            let sequences: Vec<_> = batches.iter().map(|batch| batch.sequence()).collect();
            format!("stores {feed} {sequences:?}")
        }
        Action::Alarm(alarm) => format!("ALARM {}: {}", alarm.feed, alarm.refusal),
    }
}
