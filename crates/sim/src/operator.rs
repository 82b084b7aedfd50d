//! What the gateway's operator does to the directory, and what a thief does with a member's key.

use std::sync::Arc;

use httt_exchange::{Store as _, StoreError};
use httt_feed::{AgencyCode, Audience, Directory, FeedId, Lane, MemberKind, Sealer};
use httt_log::{FeedHead, NewEvent, Transaction};
use httt_wire::{Message, Name, directory as pb, exchange as wire};

use crate::lies::said;
use crate::mutation::Mutation;
use crate::names;
use crate::node::{Outcome, Role};
use crate::plan::Kind;
use crate::world::{Event, World};

/// Something the operator does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Revokes a province's key of this generation, if all that it sealed has arrived.
    Revoke(usize, u32),
    /// Lets a member take part again.
    Resume(usize),
    ResumeAll,
    /// The gateway still waits for what it had said, and nobody has it: it starts without it.
    Alone,
    /// Somebody uses a province's key of this generation.
    Steal(usize, u32),
}

/// What the operator says, by the directory and the heads as they are.
type Revision = Box<dyn FnOnce(&Directory, &[FeedHead]) -> Result<Vec<NewEvent>, StoreError> + Send>;

/// How long a member is suspended at most, ms.
const SUSPENDED_MS: i64 = 15_000;
/// How often, and how long, an operator sees to it that nobody stays suspended once faults end, ms.
const AGAIN_MS: i64 = 3_000;
pub(crate) const SEES_TO_IT_MS: i64 = 60_000;

impl World {
    /// Writes the directory's beginning, before anything runs.
    pub(crate) fn enrol(&mut self) {
        for at in self.province_numbers() {
            if let Some(adapter) = self.adapter_of(at).filter(|_| self.chance.one_in(2)) {
                self.nodes[at].peer = adapter;
            }
        }
        self.enrol_unknown();
    }

    /// A gateway that starts enrols those whom its directory does not name: at first all of them.
    pub(crate) fn enrol_unknown(&mut self) {
        // The gateway's own enrolment is a batch of its own: members can verify it with nothing but a fingerprint.
        let own = self.enrolments(0..1);
        let others = self.enrolments(1..self.nodes.len());
        // In pieces, so that it arrives in pieces.
        let size = 1 + self.chance.below(others.len());
        let pieces = std::iter::once(own).chain(others.chunks(size).map(<[NewEvent]>::to_vec));
        let disk = Arc::clone(&self.nodes[0].disk);
        for events in pieces.filter(|events| !events.is_empty()) {
            drop(disk.commit(Transaction::append(events)));
            disk.sync();
        }
        self.look_at_new(0);
    }

    /// The same while the gateway serves.
    pub(crate) fn enrol_lost(&mut self) {
        let events = self.enrolments(0..self.nodes.len());
        if !events.is_empty() {
            self.note(|_| "the operator enrols again whom nobody remembers".into());
            self.revise(events);
        }
    }

    /// What the gateway's directory lacks of the enrolments of these nodes.
    fn enrolments(&mut self, nodes: std::ops::Range<usize>) -> Vec<NewEvent> {
        let directory = self.nodes[0].disk.directory().get();
        let mut events = Vec::new();
        for at in nodes {
            let member = directory.member(&self.nodes[at].code);
            if member.is_none_or(|member| member.all_keys().count() == 0) {
                events.extend(self.enrolment_of(at));
            }
            let Some(adapter) =
                self.province_numbers().find(|province| *province == at).and_then(|at| self.adapter_of(at))
            else {
                continue;
            };
            let carrier = &self.nodes[adapter].code;
            if member.is_none_or(|member| member.carriers().all(|known| known != carrier)) {
                let (carrier, member) = (carrier.to_string(), self.nodes[at].code.to_string());
                events.push(self.directory_event(&pb::CarrierGranted { carrier, member }));
            }
        }
        events
    }

    fn enrolment_of(&mut self, at: usize) -> Vec<NewEvent> {
        let kind = match self.nodes[at].role {
            Role::Gateway => MemberKind::Gateway,
            Role::Central => MemberKind::Central,
            Role::Province => MemberKind::Province,
            Role::Adapter => MemberKind::Carrier,
        };
        let member = self.nodes[at].code.to_string();
        let key = Some(names::key(&member, 0).public().to_wire());
        let enrolled = pb::MemberEnrolled { member: member.clone(), kind: kind.into(), ..Default::default() };
        vec![self.directory_event(&enrolled), self.directory_event(&pb::KeyAdded { member, key })]
    }

    fn directory_event<M: Message + Name>(&mut self, message: &M) -> NewEvent {
        NewEvent {
            id: self.chance.id(),
            audience: Audience::All,
            lane: Lane::Directory,
            stream: "directory".into(),
            kind: M::full_name(),
            actor: "operator".into(),
            traceparent: String::new(),
            occurred_at_ms: None,
            data: message.encode_to_vec().into(),
        }
    }

    /// The operator begins something.
    pub(crate) fn order(&mut self, kind: Kind) {
        let provinces = self.province_numbers();
        let at = provinces.start + self.chance.below(provinces.len());
        if self.somebody_is_restored() {
            return;
        }
        let key = self.nodes[at].key;
        match kind {
            Kind::Rotate => {
                let member = self.nodes[at].code.to_string();
                let next = names::key(&member, key + 1).public().to_wire();
                let added = self.directory_event(&pb::KeyAdded { member, key: Some(next) });
                self.revise(vec![added]);
                let pause = self.chance.between(2_000, 30_000);
                self.schedule(pause, Event::Operator(Step::Revoke(at, key)));
            }
            Kind::Suspend => {
                let (member, reason) = (self.nodes[at].code.to_string(), "suspended".to_owned());
                let event = self.directory_event(&pb::MemberSuspended { member, reason });
                self.revise(vec![event]);
                self.tally.suspensions += 1;
                let pause = self.chance.between(1_000, SUSPENDED_MS);
                self.schedule(pause, Event::Operator(Step::Resume(at)));
            }
            Kind::Grant => self.grant(at),
            // While the key is good; the feed is lost to an operator's decision, so seldom.
            Kind::Thief if self.chance.one_in(2) => self.steal(at, key),
            _ => {}
        }
    }

    /// A province may read what the ministry tells another one, or may not any more.
    fn grant(&mut self, at: usize) {
        let (reader, audience) = (self.nodes[at].code.to_string(), self.nodes[2].code.clone());
        let origin = names::central().to_string();
        let event = if self.chance.one_in(3) {
            let withdrawn = pb::ReadWithdrawn { reader, origin, audience: audience.to_string(), ..Default::default() };
            self.directory_event(&withdrawn)
        } else {
            let granted = pb::ReadGranted { reader, origin, audience: audience.to_string(), ..Default::default() };
            let carrier = self.adapter_of(at);
            self.ledger.granted.extend(carrier.into_iter().chain([at]).map(|at| (at, Audience::One(audience.clone()))));
            self.directory_event(&granted)
        };
        self.revise(vec![event]);
    }

    /// Does what was ordered.
    pub(crate) fn operate(&mut self, step: Step) {
        match step {
            Step::Revoke(at, key) => self.revoke(at, key),
            Step::Resume(at) => self.resume(at),
            Step::ResumeAll => {
                // Again, in case the gateway is down, or a suspension was under way.
                if self.operator_ends > self.now {
                    self.schedule(AGAIN_MS, Event::Operator(Step::ResumeAll));
                }
                let directory = self.nodes[0].disk.directory().get();
                let suspended = |at: &usize| directory.admits(&self.nodes[*at].code).is_err();
                let suspended: Vec<usize> = self.province_numbers().filter(suspended).collect();
                suspended.into_iter().for_each(|at| self.resume(at));
            }
            Step::Steal(at, key) => self.steal(at, key),
            Step::Alone => self.start_alone(),
        }
    }

    fn resume(&mut self, at: usize) {
        let (member, reason) = (self.nodes[at].code.to_string(), "resumed".to_owned());
        let event = self.directory_event(&pb::MemberResumed { member, reason });
        self.revise(vec![event]);
    }

    fn revise(&mut self, events: Vec<NewEvent>) {
        self.revise_by(Box::new(move |_, _| Ok(events)));
    }

    fn revise_by(&mut self, revision: Revision) {
        if !self.nodes[0].up {
            return;
        }
        self.set_clocks(0);
        let Some(service) = self.nodes[0].service.clone() else { return };
        if self.mutated(Mutation::SkipGate) {
            let disk = Arc::clone(&self.nodes[0].disk);
            let heads = disk.as_ref();
            let events = revision(&disk.directory().get(), &httt_exchange::Store::heads(heads, 0)).unwrap_or_default();
            return self.begin(
                0,
                Box::pin(async move {
                    let _ = disk.say(events).await;
                    Outcome::Revised
                }),
            );
        }
        self.begin(
            0,
            Box::pin(async move {
                // A crash may forget it; the operator sees that, and this one does not insist.
                let _ = service.revise(revision).await;
                Outcome::Revised
            }),
        );
    }

    /// A member seals with its new key as soon as its directory has it.
    pub(crate) fn take_up_key(&mut self, at: usize, directory: &Directory) {
        let node = &mut self.nodes[at];
        let next = names::key(node.code.as_str(), node.key + 1);
        let known = directory.member(&node.code).is_some_and(|member| member.knows_key(next.public()));
        if node.role == Role::Province && known && !node.restored {
            node.key += 1;
            node.disk.set_key(next);
            self.note(|world| format!("{} seals with its next key", world.nodes[at].code));
        }
    }

    /// An old key is revoked once everything that it sealed is at the gateway: what is not would be refused for ever.
    fn revoke(&mut self, at: usize, key: u32) {
        let old = names::key(self.nodes[at].code.as_str(), key);
        let id = old.public().id();
        let arrived = self.feeds_of(at).iter().all(|feed| {
            let said = self.ledger.said.get(feed).map(Vec::as_slice).unwrap_or_default();
            let held = self.nodes[0].disk.head(feed).map_or(0, |head| head.sequence);
            said.iter().all(|batch| batch.key() != id || batch.sequence() <= held)
        });
        if !self.faults || self.somebody_is_restored() || self.nodes[at].key <= key || !arrived {
            return;
        }
        let member = self.nodes[at].code.clone();
        let mut event = self.directory_event(&pb::KeyRevoked::default());
        // The thief tries in the same moment, just before, or afterwards.
        let stolen = self.chance.one_in(2);
        if stolen && self.chance.one_in(3) {
            self.steal(at, key);
        }
        let revision = move |_: &Directory, heads: &[FeedHead]| {
            let own = heads.iter().filter(|head| head.feed.origin == member);
            let last_accepted = own.map(|head| pb::LastAccepted {
                audience: head.feed.audience.to_string(),
                lane: head.feed.lane.to_wire(),
                sequence: head.head.sequence,
            });
            let revoked = pb::KeyRevoked {
                member: member.to_string(),
                fingerprint: old.public().fingerprint().0.to_vec(),
                reason: "rotated".into(),
                last_accepted: last_accepted.collect(),
            };
            event.data = revoked.encode_to_vec().into();
            Ok(vec![event])
        };
        self.revise_by(Box::new(revision));
        if stolen {
            let pause = self.chance.between(0, 5_000);
            self.schedule(pause, Event::Operator(Step::Steal(at, key)));
        }
    }

    /// Somebody with a province's key and identity pushes another story to the gateway.
    fn steal(&mut self, at: usize, key: u32) {
        let Some(service) = self.nodes[0].service.clone().filter(|_| self.nodes[0].up) else { return };
        let member: AgencyCode = self.nodes[at].code.clone();
        let feeds = self.feeds_of(at);
        let feed: FeedId = feeds[self.chance.below(feeds.len())].clone();
        let head = self.nodes[0].disk.head(&feed);
        let last = head.map_or(0, |head| head.sequence);
        // The next batch, or another one in place of one that is held.
        let before = if self.chance.one_in(2) { last } else { self.chance.below(last as usize + 1) as u64 };
        let before = self.nodes[0].disk.batch(&feed, before).map(|batch| batch.head());
        let sealer = Sealer::new(member.clone(), names::key(member.as_str(), key));
        let event = said(self.chance.id());
        let Ok(batch) = sealer.seal(&feed, before.as_ref(), self.now, vec![event]) else { return };
        self.tally.thefts += 1;
        self.ledger.stolen.entry(feed.clone()).or_default().insert(batch.digest());
        let what = format!("a thief pushes {feed} sequence {}", batch.sequence());
        self.note(|_| what);
        // Whether a fork is remembered shows after a restart.
        if self.chance.one_in(3) {
            let pause = self.chance.between(100, 5_000);
            self.schedule(pause, Event::Crash(0));
        }
        let entries = vec![batch.bytes().clone()];
        let request = wire::PushRequest { feed: Some(feed.to_wire()), entries, ..Default::default() };
        self.begin(
            0,
            Box::pin(async move {
                service.push(&member, request).await;
                Outcome::Revised
            }),
        );
    }
}
