//! What must hold while a world runs: tampering is noticed and nothing else is, urgent calls begin at once, and in the end
//! all heads meet.

use bytes::Bytes;
use httt_exchange::{Alarm, RefusalCode, Store as _, refusal_from_wire};
use httt_feed::{Digest, FeedId, Lane, Refusal, VerifiedBatch};
use httt_wire::directory::TamperingSeen;
use httt_wire::exchange as wire;

use crate::carry::{Call, What};
use crate::mutation::Mutation;
use crate::names;
use crate::node::Role;
use crate::world::World;

/// What entries that arrive must lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// All is as its origin said: no alarm.
    Nothing,
    /// This entry is not: an alarm with it as evidence.
    Alarm(Digest),
    /// Nor is this one, but it might be younger than the directory: an alarm once that is known.
    Suspicion(Digest),
    /// Cannot be told: the reader's directory is behind, or a thief holds the origin's key.
    Anything(Digest),
}

impl Expected {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::Nothing
    }
}

impl World {
    /// Judges entries by the truth: the first one that is not what its origin said, or not the next, must be noticed.
    pub(crate) fn expected_alarm(&self, at: usize, feed: &FeedId, entries: &[Bytes]) -> Expected {
        let mut next = self.nodes[at].known_of(feed) + 1;
        let said = self.ledger.said.get(feed).map(Vec::as_slice).unwrap_or_default();
        for entry in entries {
            let place = said.iter().position(|batch| batch.bytes() == entry).map(|place| place as u64 + 1);
            match place {
                Some(sequence) if sequence < next => {}
                Some(sequence) if sequence == next => next += 1,
                _ if self.ledger.is_disputed(feed) => return Expected::Anything(Digest::of(entry)),
                _ if !self.directory_is_whole(at) => return Expected::Anything(Digest::of(entry)),
                _ if self.is_unknown(feed, entry) => return Expected::Suspicion(Digest::of(entry)),
                _ => return Expected::Alarm(Digest::of(entry)),
            }
        }
        Expected::Nothing
    }

    /// Whether the directory gives nobody the key or the right for such an entry.
    fn is_unknown(&self, feed: &FeedId, entry: &Bytes) -> bool {
        let directory = self.ledger.directory();
        let parsed = httt_feed::parse(entry.clone());
        let verdict =
            parsed.and_then(|batch| if batch.feed() == feed { directory.verify(batch).map(|_| ()) } else { Ok(()) });
        verdict.is_err_and(|refusal| unknown(&refusal))
    }

    /// Whether a node holds all of the directory that there is.
    pub(crate) fn directory_is_whole(&self, at: usize) -> bool {
        let feed = names::directory_feed();
        let said = self.ledger.said.get(&feed).and_then(|said| said.last());
        self.nodes[at].disk.head(&feed) == said.map(VerifiedBatch::head)
    }

    /// A copier raises an alarm.
    pub(crate) fn on_alarm(&mut self, at: usize, alarm: &Alarm) {
        self.tally.alarms += 1;
        let digest = alarm.evidence.as_ref().map(|bytes| Digest::of(bytes));
        let disputed = self.ledger.is_disputed(&alarm.feed);
        match self.expecting.take() {
            Some(Expected::Alarm(expected)) if digest == Some(expected) => {
                self.nodes[at].owed.push(expected);
                self.tally.noticed += 1;
            }
            Some(Expected::Anything(_)) => {}
            None if digest.is_some_and(|digest| self.nodes[at].suspected.remove(&digest).is_some()) => {
                self.nodes[at].owed.extend(digest);
                self.tally.noticed += 1;
            }
            _ if disputed => {}
            // A carrier hides a part of the directory and gives what is signed by a key in it: the accusation is right.
            _ if unknown(&alarm.refusal) && self.tally.lies > 0 && !self.directory_is_whole(at) => {}
            _ => {
                let (code, feed, refusal) = (self.nodes[at].code.clone(), &alarm.feed, &alarm.refusal);
                self.fail(format!("{code} accuses somebody of {feed}, and nobody did anything: {refusal}"));
            }
        }
    }

    /// After entries were told: what had to be noticed was.
    pub(crate) fn check_alarm(&mut self, at: usize) {
        match self.expecting.take() {
            Some(Expected::Alarm(digest)) => {
                self.fail(format!("{} did not notice that entry {digest} was tampered with", self.nodes[at].code));
            }
            Some(Expected::Suspicion(digest)) => {
                self.nodes[at].suspected.insert(digest, true);
            }
            Some(Expected::Anything(digest)) => {
                self.nodes[at].suspected.entry(digest).or_insert(false);
            }
            _ => {}
        }
    }

    /// Urgent feeds are under way as soon as they are due, unless there was trouble with them just before.
    pub(crate) fn check_urgent(&mut self, at: usize) {
        let node = &self.nodes[at];
        let Some(copier) = node.copier.as_ref().filter(|copier| copier.connected() && copier.refused().is_none())
        else {
            return;
        };
        let stopped: Vec<_> = copier.stopped().collect();
        let idle = copier.behind().find(|(feed, _, _)| {
            feed.lane == Lane::Emergency
                && node.busy.get(feed).is_none_or(|count| *count == 0)
                && node.excused.get(feed).is_none_or(|until| *until <= self.now)
                && !stopped.contains(feed)
        });
        if let Some((feed, here, there)) = idle {
            let what = format!("{} does nothing about {feed}, {here} here and {there} there", node.code);
            self.fail(what);
        }
    }

    /// A busy peer is left alone for as long as it says.
    pub(crate) fn check_patience(&mut self, at: usize, feed: &FeedId) {
        let until = self.nodes[at].turned_away.get(feed).copied().unwrap_or(0);
        if self.now < until {
            let what = format!(
                "{} calls about {feed}, {} ms before it was to come back",
                self.nodes[at].code,
                until - self.now
            );
            self.fail(what);
        }
    }

    /// A node lost its process: whatever somebody was told to be durable must still be there.
    pub(crate) fn check_acknowledged(&mut self, at: usize) {
        let node = &self.nodes[at];
        if node.disk.len() < node.acknowledged {
            let lost = node.acknowledged - node.disk.len();
            self.fail(format!("a crash of {} lost {lost} acknowledged entries", self.nodes[at].code));
        }
    }

    /// The gateway refused what somebody altered on the way: that is on record before the answer leaves.
    pub(crate) fn check_push_recorded(&mut self, call: &Call, answer: &wire::PushResponse) {
        let (What::Push { feed, entries, .. }, Some(refusal)) = (&call.what, &answer.refusal) else { return };
        let code = refusal_from_wire(refusal);
        let altered = matches!(code, RefusalCode::BadSignature | RefusalCode::Malformed | RefusalCode::UnknownKey);
        if call.to != 0 || !altered {
            return;
        }
        self.tally.noticed += 1;
        let seen = self.nodes[0].disk.local_events::<TamperingSeen>();
        let recorded = |entry: &Bytes| seen.iter().any(|seen| seen.sha256 == Digest::of(entry).0);
        if !entries.iter().any(recorded) {
            self.fail(format!("the gateway refused {feed} ({}) and kept no record", refusal.message));
        }
    }

    /// What keeps heads from meeting, if they do not.
    pub(crate) fn apart(&self) -> Option<String> {
        let gateway = &self.nodes[0].disk;
        let directory = gateway.directory().get();
        for (at, node) in self.nodes.iter().enumerate() {
            if !node.up || node.restored {
                return Some(format!("{} is not up yet", node.code));
            }
            for (feed, head) in node.disk.heads() {
                let own = feed.origin == node.code && feed.lane != Lane::Local && node.role != Role::Gateway;
                if own && !self.ledger.is_disputed(&feed) && gateway.head(&feed) != Some(head) {
                    return Some(format!("{feed} sequence {} is not at the gateway", head.sequence));
                }
            }
            if at == 0 {
                continue;
            }
            for (feed, head) in gateway.heads() {
                let reads = directory.may_read(&node.code, &feed).is_ok() && !self.ledger.is_disputed(&feed);
                if reads && node.disk.head(&feed) != Some(head) {
                    let here = node.disk.head(&feed).map_or(0, |head| head.sequence);
                    return Some(format!("{} has {feed} up to {here}, the gateway to {}", node.code, head.sequence));
                }
            }
        }
        None
    }

    /// Everything that was noticed is on record, and nothing is wanted any more.
    pub(crate) fn check_records(&mut self) {
        let mut wrong = None;
        for node in &self.nodes {
            if let Some(owed) = node.owed.first() {
                wrong = Some(format!("{} kept no record of the tampered entry {owed}", node.code));
            }
            if let Some((suspected, _)) = node.suspected.iter().find(|(_, must)| **must) {
                wrong = Some(format!("{} never found out about the forged entry {suspected}", node.code));
            }
            let recorded = node.disk.local_events::<TamperingSeen>();
            self.tally.recorded += recorded.len() as u64;
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Whether a mutation is on.
    pub(crate) fn mutated(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// Whether a directory that is too old would say so, too.
fn unknown(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::UnknownKey { .. } | Refusal::NotAMember(_) | Refusal::NoRight { .. })
}
