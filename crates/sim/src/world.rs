//! The world: nodes, a queue of what is to come, and one step after the other.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};

use futures_util::future::BoxFuture;
use httt_exchange::{Input, Settings};
use httt_feed::{Audience, FeedId, Lane};
use httt_log::{NewEvent, Transaction};
use httt_wire::exchange as wire;

use crate::carry::{Call, Reply};
use crate::chance::Chance;
use crate::checks::Expected;
use crate::ledger::Ledger;
use crate::mutation::Mutation;
use crate::names;
use crate::node::{Node, Outcome, Role};
use crate::plan::Plan;
use crate::{Tally, Trace};

/// A copier hears at least so often that time passed; a node where nothing goes on hears it less and less often.
const TICK_MS: i64 = 100;
const LONGEST_TICK_MS: i64 = 5_000;

/// What is to come.
pub(crate) enum Event {
    Tick(usize, u64),
    Sync(usize, u32),
    Arrive(Call),
    Answer(Call, Option<Reply>),
    Unpark(usize, u64),
    Start(usize),
    Crash(usize),
    Write,
    Fault,
    Operator(crate::operator::Step),
}

/// See the module.
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) plan: Plan,
    pub(crate) mutation: Option<Mutation>,
    pub(crate) now: i64,
    order: u64,
    ids: u64,
    queue: BTreeMap<(i64, u64), Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) ledger: Ledger,
    /// Questions that arrived and are not answered.
    pub(crate) serving: BTreeMap<u64, Call>,
    /// Whether anything goes wrong just now.
    pub(crate) faults: bool,
    /// Until then the operator looks after those who are suspended.
    pub(crate) operator_ends: i64,
    /// Bulk calls take long, as over a thin link.
    pub(crate) slow_bulk: bool,
    /// What is being told was told before.
    pub(crate) hearing_again: bool,
    /// What the entries that are being told must lead to.
    pub(crate) expecting: Option<Expected>,
    pub(crate) tally: Tally,
    pub(crate) failure: Option<String>,
    trace: Option<Trace>,
}

impl World {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>, trace: Option<Trace>) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let mut nodes = vec![
            Node::new(names::gateway(), Role::Gateway, mutation),
            Node::new(names::central(), Role::Central, mutation),
        ];
        nodes.extend((0..plan.provinces).map(|number| Node::new(names::province(number), Role::Province, mutation)));
        nodes.extend((0..plan.adapters).map(|number| Node::new(names::adapter(number), Role::Adapter, mutation)));
        for node in &mut nodes {
            // Clocks may be off by hours, either way.
            node.skew_ms = chance.between(-12 * 3_600_000, 12 * 3_600_000);
        }
        let mut world = Self {
            chance,
            plan,
            mutation,
            now: 0,
            order: 0,
            ids: 0,
            queue: BTreeMap::new(),
            nodes,
            ledger: Ledger::default(),
            serving: BTreeMap::new(),
            faults: true,
            operator_ends: 0,
            slow_bulk: false,
            hearing_again: false,
            expecting: None,
            tally: Tally::default(),
            failure: None,
            trace,
        };
        world.note(|world| format!("seed {seed}: {:?}", world.plan));
        world.enrol();
        for at in 0..world.nodes.len() {
            world.start(at);
        }
        world.schedule(world.plan.write_every_ms, Event::Write);
        world.schedule(world.plan.fault_every_ms, Event::Fault);
        world
    }

    /// Adds a line to the trace, if there is one.
    pub(crate) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>12.3} s  {}", self.now as f64 / 1_000.0, line(self));
            if let Some(trace) = &mut self.trace {
                trace(&line);
            }
        }
    }

    /// Something is wrong; the first thing that is counts.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(|_| format!("WRONG: {what}"));
        self.failure.get_or_insert_with(|| format!("at {} ms: {what}", self.now));
    }

    pub(crate) fn schedule(&mut self, delay: i64, event: Event) {
        self.order += 1;
        self.queue.insert((self.now + delay.max(0), self.order), event);
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn member_numbers(&self) -> std::ops::Range<usize> {
        1..2 + self.plan.provinces
    }

    pub(crate) fn province_numbers(&self) -> std::ops::Range<usize> {
        2..2 + self.plan.provinces
    }

    pub(crate) fn adapter_numbers(&self) -> std::ops::Range<usize> {
        2 + self.plan.provinces..self.nodes.len()
    }

    /// A node's process starts, over what its disk holds.
    pub(crate) fn start(&mut self, at: usize) {
        if self.nodes[at].up || self.starts_later(at) {
            return;
        }
        let seed = self.chance.draw();
        let forgets = self.mutation == Some(Mutation::ForgetStopped);
        self.set_clocks(at);
        let restored = self.nodes[at].restored;
        if restored {
            self.settle_after_restore(at);
        }
        let mut settings = Settings::default();
        if self.mutation == Some(Mutation::NeverAskAll) {
            settings.ask_all_every_ms = i64::MAX;
        }
        let enrolled = self.nodes.iter().map(|node| node.code.clone()).collect();
        let own = self.nodes[at].asks(enrolled, self.mutation);
        if at == 0 && !restored {
            self.enrol_unknown();
        }
        self.nodes[at].start(seed, settings, own, forgets);
        if self.mutation == Some(Mutation::WriteBeforeLevel) {
            self.nodes[at].restored = false;
        }
        self.note(|world| format!("{} starts with {} entries", world.nodes[at].code, world.nodes[at].disk.len()));
        self.tell_heads(at);
        self.tick_soon(at);
        // Applications have something to say as soon as they may.
        if (self.faults || restored) && self.member_numbers().contains(&at) {
            let feed = self.any_feed_of(at);
            self.write(at, &feed);
        }
    }

    pub(crate) fn tick_soon(&mut self, at: usize) {
        self.nodes[at].tick += 1;
        self.nodes[at].tick_pause = TICK_MS;
        let tick = self.nodes[at].tick;
        self.schedule(TICK_MS, Event::Tick(at, tick));
    }

    pub(crate) fn set_clocks(&mut self, at: usize) {
        let now = self.now + self.nodes[at].skew_ms;
        self.nodes[at].disk.set_clock(now);
    }

    /// Tells a copier of everything that is new on its node's disk.
    fn tell_heads(&mut self, at: usize) {
        let since = self.nodes[at].told;
        self.nodes[at].told = self.nodes[at].disk.len();
        let heads = httt_exchange::Store::heads(self.nodes[at].disk.as_ref(), since as u64);
        for head in heads {
            if head.feed.lane == Lane::Directory {
                self.tell_directory(at);
            }
            self.tell(at, Input::LocalHead(head.feed, head.head));
        }
    }

    pub(crate) fn tell_directory(&mut self, at: usize) {
        let directory = self.nodes[at].disk.directory().get();
        self.nodes[at].suspected.values_mut().for_each(|must| *must = false);
        self.take_up_key(at, &directory);
        let pushes_for = self.nodes[at].pushes_for(&directory);
        if let Some(copier) = &mut self.nodes[at].copier {
            copier.set_pushes_for(pushes_for);
        }
        self.tell(at, Input::Directory(directory));
    }

    /// Begins something that waits for a node's disk.
    pub(crate) fn begin(&mut self, at: usize, task: BoxFuture<'static, Outcome>) {
        self.nodes[at].tasks.push(task);
        self.poll_tasks(at);
    }

    /// Lets everything in a node go on as far as it can.
    pub(crate) fn poll_tasks(&mut self, at: usize) {
        let mut context = Context::from_waker(Waker::noop());
        loop {
            let tasks = std::mem::take(&mut self.nodes[at].tasks);
            let mut ended = Vec::new();
            let mut waiting = Vec::new();
            for mut task in tasks {
                match task.as_mut().poll(&mut context) {
                    std::task::Poll::Ready(outcome) => ended.push(outcome),
                    std::task::Poll::Pending => waiting.push(task),
                }
            }
            // What came meanwhile goes behind.
            waiting.append(&mut self.nodes[at].tasks);
            self.nodes[at].tasks = waiting;
            let progress = !ended.is_empty();
            for outcome in ended {
                self.on_outcome(at, outcome);
            }
            if !progress {
                break;
            }
        }
        self.sync_soon(at);
    }

    fn sync_soon(&mut self, at: usize) {
        if self.nodes[at].up && !self.nodes[at].syncing && self.nodes[at].disk.waits() {
            self.nodes[at].syncing = true;
            let longest = if self.faults { self.plan.sync_ms } else { crate::QUIET_SYNC_MS };
            let delay = self.chance.between(1, longest);
            let life = self.nodes[at].life;
            self.schedule(delay, Event::Sync(at, life));
        }
    }

    fn on_outcome(&mut self, at: usize, outcome: Outcome) {
        match outcome {
            Outcome::Answer(call, reply) => self.reply(call, reply),
            Outcome::Stored(feed, result) => {
                self.nodes[at].ended(&feed);
                if result.is_err() {
                    self.nodes[at].excused.insert(feed.clone(), self.now + LONGEST_TICK_MS * 2);
                }
                if feed.lane == Lane::Directory {
                    self.tell_directory(at);
                }
                self.tell(at, Input::Stored { feed, result });
            }
            Outcome::Wrote => self.nodes[at].acknowledged = self.nodes[at].disk.len(),
            Outcome::Revised => {}
            Outcome::Kept(digest) => self.nodes[at].owed.retain(|owed| *owed != digest),
        }
    }

    /// The gateway (or an adapter) told a caller that something is taken: from now on a crash must not lose it.
    pub(crate) fn on_acknowledged(&mut self, call: &Call, answer: &wire::PushResponse) {
        if answer.head.is_some() {
            self.nodes[call.to].acknowledged = self.nodes[call.to].disk.len();
        }
    }

    fn synced(&mut self, at: usize, life: u32) {
        if self.nodes[at].life != life || !self.nodes[at].up {
            return;
        }
        self.set_clocks(at);
        self.nodes[at].syncing = false;
        self.nodes[at].disk.sync();
        self.look_at_new(at);
        // The log tells everybody of its new heads; who stored may hear before or after that.
        if self.chance.one_in(2) {
            self.tell_heads(at);
            self.poll_tasks(at);
        } else {
            self.poll_tasks(at);
            self.tell_heads(at);
        }
        self.poll_parked(at);
        self.sync_soon(at);
    }

    fn ticked(&mut self, at: usize, tick: u64) {
        if self.nodes[at].tick != tick || !self.nodes[at].up {
            return;
        }
        self.nodes[at].tick_pause = (self.nodes[at].tick_pause * 2).min(LONGEST_TICK_MS);
        for feed in self.nodes[at].stopped.list() {
            self.tell(at, Input::Stopped(feed));
        }
        self.tell(at, Input::Tick);
        // Unless they began anew, since something was done.
        if self.nodes[at].tick == tick {
            let pause = self.nodes[at].tick_pause;
            self.schedule(pause, Event::Tick(at, tick));
        }
    }

    /// Goes on until `end`, or until something is wrong.
    pub(crate) fn run_until(&mut self, end: i64) {
        while self.failure.is_none() {
            let Some(((at, _), event)) = self.queue.pop_first() else { break };
            if at > end {
                self.order += 1;
                self.queue.insert((at, self.order), event);
                break;
            }
            self.now = at;
            self.tally.steps += 1;
            match event {
                Event::Tick(at, tick) => self.ticked(at, tick),
                Event::Sync(at, life) => self.synced(at, life),
                Event::Arrive(call) => self.arrive(call),
                Event::Answer(call, reply) => self.answered(call, reply),
                Event::Unpark(at, id) => self.unpark(at, id),
                Event::Start(at) => self.start(at),
                Event::Crash(at) => {
                    if self.faults {
                        self.crash(at);
                    }
                }
                Event::Write => {
                    if self.faults {
                        self.write_somewhere();
                        let pause = self.chance.between(1, self.plan.write_every_ms * 2);
                        self.schedule(pause, Event::Write);
                    }
                }
                Event::Fault => {
                    if self.faults {
                        self.inject();
                        let pause = self.chance.between(1, self.plan.fault_every_ms * 2);
                        self.schedule(pause, Event::Fault);
                    }
                }
                Event::Operator(step) => self.operate(step),
            }
            self.look_whether_gateway_is_whole();
        }
        self.now = self.now.max(end);
    }

    fn write_somewhere(&mut self) {
        let members = self.member_numbers();
        let at = if self.chance.one_in(3) { 1 } else { members.start + self.chance.below(members.len()) };
        let feed = self.any_feed_of(at);
        for _ in 0..1 + self.chance.below(3) {
            self.write(at, &feed);
        }
    }

    /// Feeds that a member writes.
    pub(crate) fn feeds_of(&self, at: usize) -> Vec<FeedId> {
        let code = &self.nodes[at].code;
        let feed = |audience: Audience, lane| FeedId::new(code.clone(), audience, lane);
        let to = |code: &httt_feed::AgencyCode| Audience::One(code.clone());
        match self.nodes[at].role {
            Role::Central => {
                let first = self.nodes[2].code.clone();
                vec![
                    feed(Audience::All, Lane::Emergency),
                    feed(Audience::All, Lane::Content),
                    feed(to(&first), Lane::Report),
                ]
            }
            Role::Province => {
                let central = names::central();
                let lanes = [Lane::Emergency, Lane::Report, Lane::Status];
                lanes.into_iter().map(|lane| feed(to(&central), lane)).collect()
            }
            Role::Gateway | Role::Adapter => Vec::new(),
        }
    }

    pub(crate) fn any_feed_of(&mut self, at: usize) -> FeedId {
        let mut feeds = self.feeds_of(at);
        let place = self.chance.below(feeds.len());
        feeds.swap_remove(place)
    }

    /// An application of a member says something, if its node is up and may write.
    pub(crate) fn write(&mut self, at: usize, feed: &FeedId) {
        let node = &self.nodes[at];
        if !node.up || node.restored {
            return;
        }
        let id = self.chance.id();
        let text = vec![0x2E; 16 << self.chance.below(7)];
        let event = NewEvent {
            id,
            audience: feed.audience.clone(),
            lane: feed.lane,
            stream: format!("said/{feed}"),
            kind: "test.v1.Said".into(),
            actor: String::new(),
            traceparent: String::new(),
            occurred_at_ms: None,
            data: text.into(),
        };
        self.tally.written += 1;
        self.note(|_| format!("{} writes to {feed}", feed.origin));
        let disk = Arc::clone(&self.nodes[at].disk);
        self.begin(
            at,
            Box::pin(async move {
                // A crash forgets it; nobody was told that it is kept.
                let _ = disk.commit(Transaction::append([event])).await;
                Outcome::Wrote
            }),
        );
    }
}
