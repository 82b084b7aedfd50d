//! What goes wrong, and when it may: one disk at a time, and never the last copy of something acknowledged.

use httt_exchange::Store as _;
use httt_feed::{FeedId, Lane};

use crate::node::Role;
use crate::operator::{SEES_TO_IT_MS, Step};
use crate::plan::Kind;
use crate::world::{Event, World};

/// A restored node comes back after this time, ms: later than any message that was under way.
const RESTORE_MS: i64 = 60_000;
/// After this time the operator asks why a restored gateway still waits, ms.
const ALONE_MS: i64 = 60_000;
/// How long a node that must wait with its start does so, ms.
const WAIT_MS: i64 = 2_000;

impl World {
    /// Something goes wrong.
    pub(crate) fn inject(&mut self) {
        let kinds = self.plan.kinds.clone();
        let Some(kind) = kinds.get(self.chance.below(kinds.len())) else { return };
        let anybody = self.chance.below(self.nodes.len());
        let member = 1 + self.chance.below(1 + self.plan.provinces);
        match kind {
            Kind::Crash => self.crash(anybody),
            Kind::Cut => self.cut(),
            Kind::RestoreMember => self.restore_member(member),
            Kind::RestoreAdapter => self.restore_adapter(),
            Kind::LoseTail => self.lose_tail(),
            Kind::RestoreGateway => self.restore_gateway(),
            Kind::Lie => self.lie(),
            Kind::Switch => self.switch(),
            Kind::Retention => self.let_go(member),
            Kind::Rotate | Kind::Suspend | Kind::Grant | Kind::Thief => self.order(*kind),
        }
    }

    /// Whether some node works on an old disk just now.
    pub(crate) fn somebody_is_restored(&self) -> bool {
        self.nodes.iter().any(|node| node.restored)
    }

    /// A node's process ends at this very step.
    fn stop(&mut self, at: usize, group_is_kept: bool) {
        let node = &mut self.nodes[at];
        node.up = false;
        node.tasks.clear();
        node.parked.clear();
        node.disk.crash(group_is_kept);
        self.break_connections(at);
        self.check_acknowledged(at);
        if self.nodes[at].seen > self.nodes[at].disk.len() {
            self.forget(at);
        }
        self.look_at_new(at);
    }

    pub(crate) fn crash(&mut self, at: usize) {
        if !self.nodes[at].up {
            return;
        }
        self.tally.crashes += 1;
        let kept = self.chance.one_in(2);
        self.note(|world| format!("{} crashes", world.nodes[at].code));
        self.stop(at, kept);
        if self.chance.one_in(4) {
            self.nodes[at].skew_ms = self.chance.between(-6 * 3_600_000, 6 * 3_600_000);
        }
        let pause = self.chance.between(10, 8_000);
        self.schedule(pause, Event::Start(at));
    }

    fn cut(&mut self) {
        self.tally.cuts += 1;
        let until = self.now + self.chance.between(500, self.plan.cut_ms);
        if self.chance.one_in(5) {
            self.note(|_| "every link is cut".into());
            self.nodes.iter_mut().for_each(|node| node.cut_until = until);
        } else {
            let at = 1 + self.chance.below(self.nodes.len() - 1);
            self.note(|world| format!("the link of {} is cut until {until} ms", world.nodes[at].code));
            self.nodes[at].cut_until = until;
        }
    }

    fn lie(&mut self) {
        let adapters = self.adapter_numbers();
        let at = if adapters.is_empty() || self.chance.one_in(2) {
            0
        } else {
            adapters.start + self.chance.below(adapters.len())
        };
        let to = (0..self.nodes.len()).filter(|_| self.chance.one_in(2)).collect();
        self.nodes[at].lies_until = self.now + self.chance.between(1_000, 20_000);
        self.nodes[at].lies_to = to;
        self.note(|world| format!("{} begins to lie", world.nodes[at].code));
    }

    /// An old backup takes the place of a member's disk, or nothing at all does.
    fn restore_member(&mut self, at: usize) {
        let own: Vec<FeedId> = self.feeds_of(at);
        let whole = |feed: &FeedId| self.nodes[0].disk.away(feed) == 0 && !self.ledger.is_disputed(feed);
        if self.somebody_is_restored() || !self.nodes[at].up || !own.iter().all(whole) || !self.can_take_back(at) {
            return;
        }
        self.tally.restores += 1;
        self.stop(at, false);
        let length = self.chance.below(self.nodes[at].disk.len() + 1);
        self.truncate(at, length);
        self.nodes[at].restored = true;
        let pause = RESTORE_MS + self.chance.between(0, RESTORE_MS);
        self.schedule(pause, Event::Start(at));
    }

    pub(crate) fn truncate(&mut self, at: usize, length: usize) {
        self.note(|world| {
            let node = &world.nodes[at];
            format!("the disk of {} is an old one: {length} entries of {}", node.code, node.disk.len())
        });
        self.nodes[at].disk.truncate(length);
        self.forget(at);
    }

    /// Whether whom a member asks holds all that anybody holds of the member's feeds.
    pub(crate) fn can_take_back(&self, at: usize) -> bool {
        let peer = &self.nodes[self.nodes[at].peer];
        let others = || self.nodes.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, node)| node);
        let refilled = |feed: &FeedId| {
            let lost = self.ledger.lost.get(feed).copied().unwrap_or(0);
            self.nodes[0].disk.head(feed).map_or(0, |head| head.sequence) >= lost
        };
        peer.up
            && self.feeds_of(at).iter().all(refilled)
            && self.feeds_of(at).iter().all(|feed| {
                let at_peer = peer.disk.head(feed).map_or(0, |head| head.sequence);
                others().all(|other| other.disk.head(feed).map_or(0, |head| head.sequence) <= at_peer)
            })
    }

    /// A restored member is started when whom it asks is in reach and knows what it had said: docs/backup.md.
    pub(crate) fn starts_later(&mut self, at: usize) -> bool {
        let later = self.nodes[at].restored && self.nodes[at].role != Role::Gateway && !self.can_take_back(at);
        if later {
            self.schedule(WAIT_MS, Event::Start(at));
        }
        later
    }

    fn restore_adapter(&mut self) {
        let adapters = self.adapter_numbers();
        if adapters.is_empty() || self.somebody_is_restored() {
            return;
        }
        let at = adapters.start + self.chance.below(adapters.len());
        if !self.nodes[at].up {
            return;
        }
        self.tally.restores += 1;
        self.stop(at, false);
        let length = self.chance.below(self.nodes[at].disk.len() + 1);
        self.truncate(at, length);
        self.settle_after_restore(at);
        let pause = self.chance.between(100, RESTORE_MS);
        self.schedule(pause, Event::Start(at));
    }

    /// The gateway's store loses the end of what it carries for others: all of it is on its origins' disks.
    fn lose_tail(&mut self) {
        if self.somebody_is_restored() || !self.nodes[0].up {
            return;
        }
        self.tally.tails_lost += 1;
        self.stop(0, true);
        let length = self.chance.below(self.nodes[0].disk.len() + 1);
        self.note(|world| {
            format!("the gateway loses what it carries from entry {length} of {}", world.nodes[0].disk.len())
        });
        for (feed, head) in self.nodes[0].disk.heads() {
            let lost = self.ledger.lost.entry(feed).or_default();
            *lost = head.sequence.max(*lost);
        }
        self.nodes[0].disk.lose_carried(length);
        self.forget(0);
        let pause = self.chance.between(100, 8_000);
        self.schedule(pause, Event::Start(0));
    }

    /// An old backup takes the place of the gateway's disk, or nothing at all does. Its operator knows that.
    fn restore_gateway(&mut self) {
        if self.somebody_is_restored() || !self.nodes[0].up || !self.members_can_tell() {
            return;
        }
        self.tally.gateways_restored += 1;
        self.stop(0, false);
        let length = self.chance.below(self.nodes[0].disk.len() + 1);
        for (feed, head) in self.nodes[0].disk.heads() {
            let lost = self.ledger.lost.entry(feed).or_default();
            *lost = head.sequence.max(*lost);
        }
        self.truncate(0, length);
        self.nodes[0].restored = true;
        let pause = RESTORE_MS + self.chance.between(0, RESTORE_MS);
        self.schedule(pause, Event::Start(0));
        self.schedule(pause + ALONE_MS, Event::Operator(Step::Alone));
    }

    /// Whether carriers hold all of the gateway's feeds that those hold for whom they carry: these may not call themselves.
    fn members_can_tell(&self) -> bool {
        let feeds = self.ledger.said.keys().filter(|feed| feed.origin == self.nodes[0].code);
        let held = |at: usize, feed: &FeedId| self.nodes[at].disk.head(feed).map_or(0, |head| head.sequence);
        let carried = |at: usize| Some((at, self.adapter_of(at)?));
        feeds.into_iter().all(|feed| {
            self.province_numbers().filter_map(carried).all(|(at, adapter)| held(at, feed) <= held(adapter, feed))
        })
    }

    /// A restored gateway has heard everybody and has back what it had said.
    pub(crate) fn look_whether_gateway_is_whole(&mut self) {
        let gateway = &self.nodes[0];
        let waits = gateway.service.as_ref().and_then(|service| service.waits());
        if gateway.restored && gateway.up && waits.is_none() {
            self.nodes[0].restored = false;
            self.note(|_| "the gateway has back what it had said".into());
            self.enrol_lost();
            if !self.faults {
                // Whom it suspended before, and resumed since.
                self.operator_ends = self.now + SEES_TO_IT_MS;
                self.schedule(0, Event::Operator(Step::ResumeAll));
            }
        }
    }

    /// What nobody holds nobody can bring: the operator finds that out, and lets the gateway begin without it.
    pub(crate) fn start_alone(&mut self) {
        if !self.nodes[0].restored {
            return;
        }
        let own = |feed: &FeedId| feed.origin == self.nodes[0].code;
        let held = |at: usize, feed: &FeedId| self.nodes[at].disk.head(feed).map_or(0, |head| head.sequence);
        let others = || 1..self.nodes.len();
        let feeds = || self.ledger.said.keys().filter(|feed| own(feed) && feed.lane != Lane::Local);
        if !self.nodes[0].up || feeds().any(|feed| others().any(|at| held(at, feed) > held(0, feed))) {
            return self.schedule(ALONE_MS, Event::Operator(Step::Alone));
        }
        self.note(|_| "the gateway is to begin without what nobody holds".into());
        self.stop(0, true);
        self.nodes[0].restored = false;
        self.schedule(WAIT_MS, Event::Start(0));
    }

    /// A province goes another way from now on: its process is stopped, configured anew and started.
    fn switch(&mut self) {
        let provinces = self.province_numbers();
        let at = provinces.start + self.chance.below(provinces.len());
        let Some(adapter) = self.adapter_of(at).filter(|_| self.nodes[at].up && !self.somebody_is_restored()) else {
            return;
        };
        self.tally.switches += 1;
        self.stop(at, true);
        self.nodes[at].peer = if self.nodes[at].peer == 0 { adapter } else { 0 };
        self.note(|world| format!("{} goes by {}", world.nodes[at].code, world.nodes[world.nodes[at].peer].code));
        let pause = self.chance.between(50, 3_000);
        self.schedule(pause, Event::Start(at));
    }

    /// The adapter that carries for a province, if any does.
    pub(crate) fn adapter_of(&self, at: usize) -> Option<usize> {
        let adapters = self.adapter_numbers();
        let number = at - self.province_numbers().start;
        // Every fourth province has none.
        (!adapters.is_empty() && number % 4 != 3).then(|| adapters.start + number % adapters.len())
    }

    /// The gateway lets go of what a member's own disk holds.
    fn let_go(&mut self, at: usize) {
        if self.somebody_is_restored() {
            return;
        }
        let feeds = self.feeds_of(at);
        let feed = &feeds[self.chance.below(feeds.len())];
        let held = |node: usize| self.nodes[node].disk.head(feed).map_or(0, |head| head.sequence);
        let until = held(0).min(held(at));
        if until == 0 || feed.lane == Lane::Directory {
            return;
        }
        let until = 1 + self.chance.below(until as usize) as u64;
        self.tally.let_go += 1;
        let what = format!("the gateway lets go of {feed} up to {until}");
        self.note(|_| what);
        self.nodes[0].disk.let_go(feed, until);
    }

    /// Faults end: links are whole, nobody lies, everything starts.
    pub(crate) fn heal(&mut self) {
        self.note(|_| "faults end".into());
        self.faults = false;
        self.operator_ends = self.now + SEES_TO_IT_MS;
        for at in 0..self.nodes.len() {
            self.nodes[at].cut_until = 0;
            self.nodes[at].lies_until = 0;
        }
        self.schedule(0, Event::Operator(Step::ResumeAll));
    }
}
