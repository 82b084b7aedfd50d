//! What a lying carrier does to what it carries: drops, repeats, reorders, alters, invents, withholds, and shows heads
//! that are stale or false.

use bytes::Bytes;
use httt_exchange::head_from_wire;
use httt_feed::{FeedId, Head, Lane, Sealer};
use httt_wire::{exchange as wire, feed as pb};

use crate::carry::{Call, Reply, What};
use crate::names;
use crate::world::World;

impl World {
    /// An answer, as a lying node gives it.
    pub(crate) fn altered_reply(&mut self, call: &Call, reply: Reply) -> Reply {
        if !self.nodes[call.to].lies(self.now, call.from) || self.chance.one_in(2) {
            return reply;
        }
        match (reply, &call.what) {
            (Reply::Read(mut answer), What::Ask { feed, .. }) => {
                self.alter(feed, &mut answer.entries);
                Reply::Read(answer)
            }
            (Reply::Heads(mut answer), _) => {
                // What a restored node is told of its own feeds it cannot check; see docs/simulation.md.
                if !self.nodes[call.from].restored {
                    self.alter_heads(call, &mut answer);
                }
                Reply::Heads(answer)
            }
            (Reply::Push(mut answer), What::Push { feed, .. }) if !self.nodes[call.from].restored => {
                if let Some(head) = answer.head.as_mut().filter(|_| !self.ledger.is_disputed(feed)) {
                    let further = self.chance.below(3) as u64;
                    head.sequence = if self.chance.one_in(2) { head.sequence / 2 } else { head.sequence + further };
                    self.tally.lies += 1;
                }
                answer.head = answer.head.filter(|head| head.sequence > 0);
                Reply::Push(answer)
            }
            (reply, _) => reply,
        }
    }

    /// A push as a lying adapter hands it on, or as a lying receiver takes it: what is swallowed it says it took.
    pub(crate) fn altered_push(&mut self, call: &Call, feed: &FeedId, entries: Vec<Bytes>) -> Vec<Bytes> {
        let carried = self.nodes[call.from].code != feed.origin;
        let lies = carried && self.nodes[call.from].lies(self.now, call.to) && self.chance.one_in(2);
        let mut entries = entries;
        if lies {
            self.alter(feed, &mut entries);
        }
        entries
    }

    fn alter(&mut self, feed: &FeedId, entries: &mut Vec<Bytes>) {
        if entries.is_empty() {
            return;
        }
        self.tally.lies += 1;
        let count = entries.len();
        let at = self.chance.below(count);
        match self.chance.below(8) {
            0 | 1 => {
                let mut bytes = entries[at].to_vec();
                let place = self.chance.below(bytes.len());
                bytes[place] ^= 1 << self.chance.below(8);
                entries[at] = bytes.into();
            }
            2 => {
                entries.remove(at);
            }
            3 => entries.swap(at, (at + 1) % count),
            4 => entries.insert(at, entries[at].clone()),
            5 => entries.clear(),
            6 => {
                if let Some(forged) = self.forged(feed, entries) {
                    entries[at] = forged;
                }
            }
            _ => {
                // A batch of another feed: well signed, and not what was asked for.
                let others = self.ledger.said.iter().filter(|(other, said)| *other != feed && !said.is_empty());
                let others: Vec<_> = others.map(|(_, said)| said[0].bytes().clone()).collect();
                let other = self.chance.below(others.len());
                if let Some(other) = others.get(other) {
                    entries[at] = other.clone();
                }
            }
        }
        let what = format!("a carrier tampers with {feed}");
        self.note(|_| what);
    }

    /// The next batch of a feed, as somebody without a key of its origin would make it.
    fn forged(&mut self, feed: &FeedId, entries: &[Bytes]) -> Option<Bytes> {
        let first = httt_feed::parse(entries.first()?.clone()).ok()?;
        let before = first.sequence().checked_sub(1).filter(|before| *before > 0);
        let digest = before.and_then(|before| self.ledger.original(feed, before)).map(|batch| batch.digest());
        let head = before.zip(digest).map(|(sequence, digest)| Head { sequence, digest });
        let sealer = Sealer::new(feed.origin.clone(), names::forger_key());
        let event = said(self.chance.id());
        sealer.seal(feed, head.as_ref(), self.now, vec![event]).ok().map(|batch| batch.bytes().clone())
    }

    fn alter_heads(&mut self, call: &Call, answer: &mut wire::HeadsResponse) {
        if answer.heads.is_empty() {
            return;
        }
        self.tally.lies += 1;
        let at = self.chance.below(answer.heads.len());
        let Some((feed, head)) = head_from_wire(&answer.heads[at]) else { return };
        let what = self.chance.below(4);
        let shown = &mut answer.heads[at];
        match what {
            0 => {
                answer.heads.remove(at);
            }
            1 if head.sequence > 1 => {
                shown.sequence = head.sequence - 1;
                if let Some(batch) = self.ledger.original(&feed, head.sequence - 1) {
                    shown.digest = batch.digest().0.to_vec();
                }
            }
            // Of the directory only what is old is shown: what is ahead of the truth would excuse every unknown key.
            2 if feed.lane != Lane::Directory => shown.sequence = head.sequence + 1 + self.chance.below(5) as u64,
            3 if feed.lane != Lane::Directory => shown.digest[0] ^= 1,
            _ => answer.heads.clear(),
        }
        let (to, by) = (call.from, call.to);
        self.note(|world| format!("{} shows {} false heads", world.nodes[by].code, world.nodes[to].code));
    }
}

/// An event that says nothing.
pub(crate) fn said(id: uuid::Uuid) -> pb::Event {
    pb::Event {
        id: id.as_bytes().to_vec(),
        stream: "stolen".into(),
        version: 1,
        r#type: "test.v1.Said".into(),
        ..Default::default()
    }
}
