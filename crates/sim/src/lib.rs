//! The exchange under a seeded simulator: the real [`Copier`](httt_exchange::Copier) of members and adapters and the real
//! [`Service`](httt_exchange::Service) of gateway and adapters, over disks in memory, links that lose, and a clock that
//! only the simulator moves. One seed decides everything, so every run repeats to the byte.
//!
//! ```text
//! Plan    how large this seed's world is, and what goes wrong in it
//! World   a queue of what is to come; Node = Disk + Copier, Service; Call = question over a link
//! Ledger  what every origin said: each entry that reaches a disk is compared with it at once
//! ```
//!
//! `docs/simulation.md` says what is modelled, what must hold, and what is left out. `httt sim` runs it.

mod carry;
mod chance;
mod checks;
mod disk;
mod faults;
mod ledger;
mod lies;
mod mutation;
mod names;
mod node;
mod operator;
mod plan;
mod serve;
mod store;
mod world;

use httt_exchange::Store as _;
use httt_feed::Lane;

pub use mutation::{Mutation, UnknownMutation};
use world::World;

/// Hears the schedule, step by step.
pub type Trace = Box<dyn FnMut(&str)>;

/// Once faults end, all heads meet within this virtual time. A reader may have been lied to about heads, and asks for all
/// of them every five minutes; a call that hangs is given up after 35 s; pauses and back-off are 5 s; an adapter in between
/// doubles what is not waiting for the five minutes.
pub const MEET_MS: i64 = (300 + 2 * (35 + 3 * 5) + 20) * 1_000;
/// From an emergency's commit until it is on every reader's disk, no link being cut: three hops of a call for heads under
/// way, a read or a push, and two syncs each (one may just have begun).
pub const EMERGENCY_MS: i64 = 3 * (4 * QUIET_DELAY_MS + 2 * QUIET_SYNC_MS) + 400;
/// Longest way of a message, and longest sync, while nothing goes wrong, ms.
const QUIET_DELAY_MS: i64 = 40;
const QUIET_SYNC_MS: i64 = 20;
/// After heads met: calls that hang are given up, and pauses end.
const PAUSES_END_MS: i64 = 45_000;
/// After a carrier lied about heads: everybody has asked for all of them.
const LIES_END_MS: i64 = 310_000;
/// How often it is looked whether heads met, ms.
const LOOK_EVERY_MS: i64 = 1_000;

/// What happened in a schedule, or in many.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Steps of the simulator.
    pub steps: u64,
    /// Calls made.
    pub calls: u64,
    /// Events that applications wrote.
    pub written: u64,
    /// Entries that reached a disk, copies included.
    pub entries: u64,
    /// Questions and answers lost.
    pub lost: u64,
    /// Pushes that arrived twice.
    pub doubled: u64,
    /// Answers that came twice, the second time soon or long after.
    pub answers_doubled: u64,
    /// Calls that found a busy peer.
    pub turned_away: u64,
    /// Processes that ended in the middle of something.
    pub crashes: u64,
    /// Links cut.
    pub cuts: u64,
    /// Disks that were replaced by an old backup.
    pub restores: u64,
    /// Times the gateway's store lost the end of what it carries.
    pub tails_lost: u64,
    /// Times the gateway's disk was replaced by an old backup.
    pub gateways_restored: u64,
    /// Answers and pushes falsified.
    pub lies: u64,
    /// Tampered entries that had to be noticed and were.
    pub noticed: u64,
    /// Alarms, all of them.
    pub alarms: u64,
    /// Records of tampering on disks in the end.
    pub recorded: u64,
    /// Provinces that went another way.
    pub switches: u64,
    /// Keys revoked.
    pub revocations: u64,
    /// Members suspended.
    pub suspensions: u64,
    /// Batches pushed with a stolen key.
    pub thefts: u64,
    /// Forks recorded.
    pub forks: u64,
    /// Times the gateway let entries go, and times they were brought again.
    pub let_go: u64,
    /// See `let_go`.
    pub wanted: u64,
    /// Virtual milliseconds from the end of faults until all heads met: the longest.
    pub met_after_ms: i64,
    /// Virtual milliseconds until an emergency was everywhere: the longest.
    pub emergency_ms: i64,
}

impl Tally {
    /// Adds another schedule's.
    pub fn add(&mut self, other: &Self) {
        let Self { met_after_ms, emergency_ms, .. } = *self;
        for ((_, mine), (_, theirs)) in self.counts().into_iter().zip(other.clone().counts()) {
            *mine += *theirs;
        }
        self.met_after_ms = met_after_ms.max(other.met_after_ms);
        self.emergency_ms = emergency_ms.max(other.emergency_ms);
    }

    /// Every count under its name, for people and programs.
    pub fn lines(&self) -> Vec<(&'static str, u64)> {
        let mut copy = self.clone();
        let longest = [
            ("heads met after ms", self.met_after_ms as u64),
            ("emergency everywhere after ms", self.emergency_ms as u64),
        ];
        copy.counts().into_iter().map(|(name, count)| (name, *count)).chain(longest).collect()
    }

    fn counts(&mut self) -> [(&'static str, &mut u64); 24] {
        [
            ("steps", &mut self.steps),
            ("calls", &mut self.calls),
            ("events written", &mut self.written),
            ("entries stored", &mut self.entries),
            ("messages lost", &mut self.lost),
            ("pushes doubled", &mut self.doubled),
            ("answers doubled", &mut self.answers_doubled),
            ("calls turned away", &mut self.turned_away),
            ("crashes", &mut self.crashes),
            ("cuts", &mut self.cuts),
            ("disks restored", &mut self.restores),
            ("tails lost", &mut self.tails_lost),
            ("gateways restored", &mut self.gateways_restored),
            ("lies", &mut self.lies),
            ("tampered entries noticed", &mut self.noticed),
            ("alarms", &mut self.alarms),
            ("records of tampering", &mut self.recorded),
            ("ways switched", &mut self.switches),
            ("keys revoked", &mut self.revocations),
            ("suspensions", &mut self.suspensions),
            ("thefts", &mut self.thefts),
            ("forks recorded", &mut self.forks),
            ("feeds let go", &mut self.let_go),
            ("entries brought again", &mut self.wanted),
        ]
    }
}

/// A schedule in which something that must hold did not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("seed {seed}: {what}\n  replay: {}", self.replay())]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// With this rule broken on purpose.
    pub mutation: Option<Mutation>,
    /// What did not hold, and when.
    pub what: String,
}

impl Failure {
    /// The command that shows the same schedule again, step by step.
    pub fn replay(&self) -> String {
        let mutation = self.mutation.map(|mutation| format!(" --mutation {mutation}")).unwrap_or_default();
        format!("httt sim --seed {} --seeds 1 --trace{mutation}", self.seed)
    }
}

/// Runs the schedule of one seed.
///
/// # Errors
/// Something that must hold did not.
pub fn simulate(seed: u64, mutation: Option<Mutation>, trace: Option<Trace>) -> Result<Tally, Failure> {
    let mut world = World::new(seed, mutation, trace);
    world.run_until(world.plan.faults_ms);
    world.heal();
    world.meet();
    world.last_words();
    world.meet();
    world.check_copies();
    world.check_records();
    match world.failure.take() {
        Some(what) => Err(Failure { seed, mutation, what }),
        None => Ok(world.tally),
    }
}

impl World {
    /// Goes on until all heads meet.
    fn meet(&mut self) {
        let began = self.now;
        loop {
            let now = self.now;
            self.run_until(now + LOOK_EVERY_MS);
            if self.failure.is_some() {
                return;
            }
            let Some(apart) = self.apart() else { break };
            if self.now - began > MEET_MS {
                return self.fail(format!("heads do not meet within {} s: {apart}", MEET_MS / 1_000));
            }
        }
        self.tally.met_after_ms = self.tally.met_after_ms.max(self.now - began);
        self.note(|_| "all heads met".into());
    }

    /// Everybody says something more, bulk first: whatever a feed hides comes out, and emergencies are not behind bulk.
    fn last_words(&mut self) {
        let now = self.now;
        self.run_until(now + if self.tally.lies > 0 { LIES_END_MS } else { PAUSES_END_MS });
        self.slow_bulk = true;
        let members = self.member_numbers();
        for urgent in [false, true] {
            for at in members.clone() {
                let feeds = self.feeds_of(at).into_iter().filter(|feed| (feed.lane == Lane::Emergency) == urgent);
                feeds.for_each(|feed| self.write(at, &feed));
            }
            // Bulk is under way when emergencies come.
            let now = self.now;
            self.run_until(now + if urgent { 0 } else { QUIET_SYNC_MS + 2 * QUIET_DELAY_MS });
        }
        let began = self.now;
        while self.failure.is_none() {
            let now = self.now;
            self.run_until(now + QUIET_SYNC_MS);
            let Some(late) = self.late_emergency() else { break };
            if self.now - began > EMERGENCY_MS {
                return self.fail(format!("an emergency is not everywhere within {EMERGENCY_MS} ms: {late}"));
            }
        }
        self.tally.emergency_ms = self.now - began;
        self.slow_bulk = false;
    }

    /// An emergency feed that somebody has not read to its end.
    fn late_emergency(&self) -> Option<String> {
        let directory = self.nodes[0].disk.directory().get();
        let feeds = self.ledger.said.iter().filter(|(feed, _)| feed.lane == Lane::Emergency);
        for (feed, said) in feeds.filter(|(feed, _)| !self.ledger.is_disputed(feed)) {
            for node in &self.nodes {
                let held = node.disk.head(feed).map_or(0, |head| head.sequence);
                if held < said.len() as u64 && directory.may_read(&node.code, feed).is_ok() {
                    return Some(format!("{} has {feed} up to {held} of {}", node.code, said.len()));
                }
            }
        }
        None
    }
}
