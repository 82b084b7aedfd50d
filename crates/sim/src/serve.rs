//! The serving side: questions arrive at the real service, wait for news or for the disk, and are answered.

use futures_util::FutureExt as _;
use httt_exchange::busy;
use httt_wire::exchange as wire;

use crate::carry::{Call, LONG_POLL_MS, MAX_PUSH, REFUSED_MS, Reply, What};
use crate::node::{Outcome, Parked};
use crate::world::{Event, World};

/// Longest time after which a busy node asks a caller to come back, ms.
const LONGEST_BUSY_MS: i64 = 5_000;
/// Latest that an answer comes a second time, ms.
const STALE_MS: i64 = 30_000;

impl World {
    /// A question arrives.
    pub(crate) fn arrive(&mut self, call: Call) {
        if self.is_cut(call.from) || !self.nodes[call.to].up {
            let wait = if self.is_cut(call.from) { call.timeout_ms() } else { REFUSED_MS };
            return self.schedule(wait, Event::Answer(call, None));
        }
        let to = call.to;
        self.serving.insert(call.id, call.clone());
        let Some(service) = self.nodes[to].service.clone() else { return };
        let busy = self.rate(self.plan.busy);
        if self.happens(busy) {
            return self.turn_away(call);
        }
        let caller = self.nodes[call.from].code.clone();
        match &call.what {
            What::Heads { .. } => self.answer_heads(call, self.now + LONG_POLL_MS),
            What::Ask { feed, after, max_bytes, from_restated, .. } => {
                let (feed, after, max_bytes) = (Some(feed.to_wire()), *after, *max_bytes as u32);
                let request =
                    wire::ReadRequest { feed, after, max_bytes, from_restated: *from_restated, ..Default::default() };
                let answer = service.read(&caller, &request).now_or_never();
                let Some(mut answer) = answer else { return self.fail("a read from memory waits") };
                // A server may give less than was asked for.
                let most = 1 + self.chance.below(MAX_PUSH);
                answer.entries.truncate(most);
                self.poll_parked(to);
                self.reply(call, Reply::Read(answer));
            }
            What::Push { feed, entries, .. } | What::Again { feed, entries, .. } => {
                let again = matches!(call.what, What::Again { .. });
                let entries = self.altered_push(&call, feed, entries.clone());
                let request = wire::PushRequest {
                    feed: Some(feed.to_wire()),
                    entries: entries.clone(),
                    again,
                    ..Default::default()
                };
                let mut call = call;
                if let What::Push { entries: sent, .. } = &mut call.what {
                    *sent = entries;
                }
                let task = async move {
                    let answer = service.push(&caller, request).await;
                    Outcome::Answer(call, Reply::Push(answer))
                };
                self.begin(to, Box::pin(task));
            }
        }
    }

    /// A busy node says when to come back.
    fn turn_away(&mut self, call: Call) {
        self.tally.turned_away += 1;
        let refusal = Some(busy("busy", self.chance.between(100, LONGEST_BUSY_MS) as u32));
        let reply = match call.what {
            What::Heads { .. } => Reply::Heads(wire::HeadsResponse { refusal, ..Default::default() }),
            What::Ask { .. } => Reply::Read(wire::ReadResponse { refusal, ..Default::default() }),
            What::Push { .. } | What::Again { .. } => Reply::Push(wire::PushResponse { refusal, ..Default::default() }),
        };
        self.reply(call, reply);
    }

    /// Answers a call for heads, or lets it wait until then.
    fn answer_heads(&mut self, call: Call, until: i64) {
        let What::Heads { log_id, after, wait, held, .. } = &call.what else { return };
        let Some(service) = self.nodes[call.to].service.clone() else { return };
        let caller = self.nodes[call.from].code.clone();
        let request = wire::HeadsRequest { log_id: log_id.clone(), after: *after, wait_ms: 0, held: held.clone() };
        let Some(answer) = service.heads(&caller, request).now_or_never() else {
            return self.fail("heads that are not to wait do wait");
        };
        let news = !answer.heads.is_empty() || !answer.wants.is_empty() || answer.refusal.is_some();
        if *wait && !news && self.now < until {
            let (to, id) = (call.to, call.id);
            self.schedule(until - self.now, Event::Unpark(to, id));
            return self.nodes[to].parked.push(Parked { call, until });
        }
        self.reply(call, Reply::Heads(answer));
    }

    /// Something changed at a serving node: whoever waits for news may have some.
    pub(crate) fn poll_parked(&mut self, at: usize) {
        for Parked { call, until } in std::mem::take(&mut self.nodes[at].parked) {
            let What::Heads { log_id, after, .. } = &call.what else { continue };
            let Some(service) = &self.nodes[at].service else { continue };
            let request = wire::HeadsRequest { log_id: log_id.clone(), after: *after, ..Default::default() };
            let answer = service.heads(&self.nodes[call.from].code, request).now_or_never();
            let news = |answer: &wire::HeadsResponse| {
                !answer.heads.is_empty() || !answer.wants.is_empty() || answer.refusal.is_some()
            };
            match answer.filter(news) {
                Some(answer) => self.reply(call, Reply::Heads(answer)),
                None => self.nodes[at].parked.push(Parked { call, until }),
            }
        }
    }

    /// A long poll has waited long enough.
    pub(crate) fn unpark(&mut self, at: usize, id: u64) {
        if let Some(place) = self.nodes[at].parked.iter().position(|parked| parked.call.id == id) {
            let Parked { call, until } = self.nodes[at].parked.remove(place);
            self.answer_heads(call, until);
        }
    }

    /// An answer leaves, whatever a lying carrier makes of it.
    pub(crate) fn reply(&mut self, call: Call, reply: Reply) {
        if self.serving.remove(&call.id).is_none() {
            return;
        }
        if let Reply::Push(answer) = &reply {
            self.check_push_recorded(&call, answer);
            self.on_acknowledged(&call, answer);
        }
        let reply = self.altered_reply(&call, reply);
        let loss = self.rate(self.plan.answer_loss);
        if self.is_cut(call.from) || self.happens(loss) {
            self.tally.lost += 1;
            let wait = call.timeout_ms();
            return self.schedule(wait, Event::Answer(call, None));
        }
        let delay = self.way(&call);
        let doubling = self.rate(self.plan.doubling);
        self.schedule(delay, Event::Answer(call.clone(), Some(reply.clone())));
        if self.happens(doubling) {
            // It comes again, soon or long after, when the same has been asked and answered anew.
            self.tally.answers_doubled += 1;
            let longest = if self.chance.one_in(2) { 2_000 } else { STALE_MS };
            let later = delay + self.chance.between(0, longest);
            let second = Call { is_answered: true, ..call };
            self.schedule(later, Event::Answer(second, Some(reply)));
        }
    }

    /// Serving ended: whoever waits for an answer hears so soon, or not before it gives up.
    pub(crate) fn break_connections(&mut self, to: usize) {
        let calls: Vec<Call> = self.serving.values().filter(|call| call.to == to).cloned().collect();
        for call in calls {
            self.serving.remove(&call.id);
            let wait = if self.chance.one_in(3) { call.timeout_ms() } else { REFUSED_MS };
            self.schedule(wait, Event::Answer(call, None));
        }
    }
}
