//! The truth, written down beside the nodes: what every origin said, and what must never be seen.

use std::collections::{BTreeMap, BTreeSet};

use httt_feed::{Audience, Digest, Directory, FeedId, KeyId, Lane, VerifiedBatch};
use httt_wire::directory::{ForkSeen, KeyRevoked, TamperingSeen};
use httt_wire::{Name, exchange as wire, feed as pb};

use crate::names;
use crate::node::Role;
use crate::world::World;

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger {
    /// What each origin has on disk, or had and others hold.
    pub(crate) said: BTreeMap<FeedId, Vec<VerifiedBatch>>,
    /// Batches that a thief signed with an origin's key.
    pub(crate) stolen: BTreeMap<FeedId, BTreeSet<Digest>>,
    /// Last sequence of each feed before the key's revocation.
    revoked: BTreeMap<KeyId, BTreeMap<FeedId, u64>>,
    /// Feeds that a node knows to be forked.
    stopped: BTreeSet<(usize, FeedId)>,
    /// What each node holds, as it was when it came.
    held: BTreeMap<(usize, FeedId), Vec<Digest>>,
    receipts: BTreeSet<(FeedId, u64)>,
    /// How far the gateway held what it lost since.
    pub(crate) lost: BTreeMap<FeedId, u64>,
    /// Who was ever granted what: (reader, audience).
    pub(crate) granted: BTreeSet<(usize, Audience)>,
}

impl Ledger {
    /// Whether two stories may be about of this feed.
    pub(crate) fn is_disputed(&self, feed: &FeedId) -> bool {
        self.stolen.contains_key(feed)
    }

    /// Whether a node knows it to be forked.
    pub(crate) fn is_stopped(&self, at: usize, feed: &FeedId) -> bool {
        self.stopped.contains(&(at, feed.clone()))
    }

    /// The directory as the gateway said it, whatever its disk holds.
    pub(crate) fn directory(&self) -> Directory {
        let feed = names::directory_feed();
        let mut directory = Directory::trusting(names::key(feed.origin.as_str(), 0).public().fingerprint());
        let said = self.said.get(&feed).into_iter().flatten();
        said.for_each(|batch| directory.apply(&feed, &batch.batch().events));
        directory
    }

    /// The batch that its origin said at a sequence.
    pub(crate) fn original(&self, feed: &FeedId, sequence: u64) -> Option<&VerifiedBatch> {
        self.said.get(feed)?.get(sequence.checked_sub(1)? as usize)
    }
}

impl World {
    /// Looks at everything that came to a node's disk since the last time: it must be what its origin said, the next
    /// of its feed, not under a revoked key, and for this node.
    pub(crate) fn look_at_new(&mut self, at: usize) {
        let new = self.nodes[at].disk.since(self.nodes[at].seen);
        self.nodes[at].seen += new.len();
        self.tally.entries += new.len() as u64;
        for batch in new {
            if let Err(what) = self.look_at(at, &batch) {
                let (feed, sequence) = (batch.feed(), batch.sequence());
                self.fail(format!("{} holds {feed} sequence {sequence}: {what}", self.nodes[at].code));
            }
        }
    }

    fn look_at(&mut self, at: usize, batch: &VerifiedBatch) -> Result<(), String> {
        let (feed, sequence) = (batch.feed().clone(), batch.sequence());
        let own = feed.origin == self.nodes[at].code;
        let mut news = false;
        if own {
            news = self.look_at_own(batch)?;
        } else {
            let original = self.ledger.original(&feed, sequence).map(VerifiedBatch::digest);
            let stolen = self.ledger.stolen.get(&feed).is_some_and(|stolen| stolen.contains(&batch.digest()));
            if original != Some(batch.digest()) && !stolen {
                return Err("its origin never said that".into());
            }
            self.look_at_audience(at, &feed)?;
        }
        let held = self.ledger.held.entry((at, feed.clone())).or_default();
        if held.len() as u64 + 1 != sequence {
            return Err(format!("it follows sequence {}", held.len()));
        }
        held.push(batch.digest());
        // What an origin says goes on being said; nobody takes it any more.
        if !own && self.ledger.is_stopped(at, &feed) {
            return Err("the feed is known to be forked and goes on".into());
        }
        let last = self.ledger.revoked.get(&batch.key()).map(|last| last.get(&feed).copied().unwrap_or(0));
        if last.is_some_and(|last| sequence > last) {
            return Err(format!("its key was revoked after sequence {}", last.unwrap_or(0)));
        }
        // What it takes back it said before, of what it held then.
        if news {
            self.look_at_events(at, batch)?;
        }
        Ok(())
    }

    /// Whether it is something new.
    fn look_at_own(&mut self, batch: &VerifiedBatch) -> Result<bool, String> {
        let said = self.ledger.said.entry(batch.feed().clone()).or_default();
        match said.get(batch.sequence() as usize - 1) {
            Some(before) if before.digest() == batch.digest() => Ok(false),
            Some(_) => Err("it contradicts what its origin said before".into()),
            None if said.len() as u64 + 1 == batch.sequence() => {
                said.push(batch.clone());
                Ok(true)
            }
            None => Err("its origin said nothing before it".into()),
        }
    }

    fn look_at_audience(&self, at: usize, feed: &FeedId) -> Result<(), String> {
        let node = &self.nodes[at];
        let carried = |code: &httt_feed::AgencyCode| {
            self.province_numbers().any(|other| self.nodes[other].code == *code && self.adapter_of(other) == Some(at))
        };
        let own = |code: &httt_feed::AgencyCode| *code == node.code || carried(code);
        let allowed = match &feed.audience {
            _ if node.role == Role::Gateway => true,
            Audience::All => true,
            Audience::One(audience) => {
                own(audience) || own(&feed.origin) || self.ledger.granted.contains(&(at, feed.audience.clone()))
            }
        };
        if allowed && feed.lane != Lane::Local { Ok(()) } else { Err("it is for somebody else".into()) }
    }

    /// What a node says of itself: forks it saw, receipts, revocations.
    fn look_at_events(&mut self, at: usize, batch: &VerifiedBatch) -> Result<(), String> {
        for event in &batch.batch().events {
            if let Some(seen) = decode::<ForkSeen>(event) {
                let feed: FeedId = seen.feed.parse().map_err(|_| "a fork of no feed".to_owned())?;
                if !self.ledger.is_disputed(&feed) {
                    return Err(format!("it says that {feed} forked, which nobody made it do"));
                }
                self.ledger.stopped.insert((at, feed));
                self.tally.forks += 1;
            } else if let Some(seen) = decode::<TamperingSeen>(event).filter(|_| at == 0) {
                let feed: FeedId = seen.feed.parse().map_err(|_| "tampering with no feed".to_owned())?;
                let said = self.ledger.said.get(&feed).map(Vec::as_slice).unwrap_or_default();
                let honest = said.iter().any(|batch| Digest::of(batch.bytes()).0.as_slice() == seen.sha256);
                if honest && !self.ledger.is_disputed(&feed) {
                    return Err(format!("it accuses {} of what is as {feed}'s origin said it", seen.peer));
                }
            } else if let Some(receipt) = decode::<wire::Receipt>(event) {
                self.look_at_receipt(at, &receipt)?;
            } else if let Some(revoked) = decode::<KeyRevoked>(event) {
                let key = revoked_key(&revoked);
                let member = names::code(&revoked.member);
                let feed = |audience: &str, lane| {
                    Some(FeedId::new(member.clone(), Audience::new(audience).ok()?, Lane::from_wire(lane)?))
                };
                let last = revoked.last_accepted.iter();
                let last = last.filter_map(|last| Some((feed(&last.audience, last.lane)?, last.sequence)));
                self.ledger.revoked.insert(key, last.collect());
                self.tally.revocations += 1;
            }
        }
        Ok(())
    }

    /// A receipt is for a batch that the gateway holds, and there is one of it.
    fn look_at_receipt(&mut self, at: usize, receipt: &wire::Receipt) -> Result<(), String> {
        let feed = receipt.feed.as_ref().and_then(|feed| FeedId::from_wire(feed).ok());
        let feed = feed.ok_or("a receipt of no feed")?;
        let held = self.nodes[at].disk.batch(&feed, receipt.sequence);
        if held.is_none_or(|held| held.digest().0.as_slice() != receipt.digest) {
            return Err(format!("it is a receipt for {feed} sequence {}, which is not held", receipt.sequence));
        }
        // Where a thief took the place of what the gateway had lost, both have their receipts: they are evidence.
        let first = self.ledger.receipts.insert((feed.clone(), receipt.sequence));
        if !first && !self.ledger.is_disputed(&feed) {
            return Err(format!("it is a second receipt for {feed} sequence {}", receipt.sequence));
        }
        Ok(())
    }

    /// A node's disk is shorter than it was: what is forgotten may come again.
    pub(crate) fn forget(&mut self, at: usize) {
        let length = self.nodes[at].disk.len();
        self.nodes[at].seen = self.nodes[at].seen.min(length);
        self.nodes[at].acknowledged = self.nodes[at].acknowledged.min(length);
        let disk = &self.nodes[at].disk;
        self.ledger.held.retain(|(node, _), _| *node != at);
        for (feed, _) in disk.heads() {
            let digests = disk.feed(&feed).iter().map(VerifiedBatch::digest).collect();
            self.ledger.held.insert((at, feed), digests);
        }
        let forks: Vec<_> = disk.local_events::<ForkSeen>();
        let stopped: BTreeSet<_> = forks.iter().filter_map(|seen| seen.feed.parse::<FeedId>().ok()).collect();
        self.ledger.stopped.retain(|(node, feed)| *node != at || stopped.contains(feed));
    }

    /// A node comes back from an old backup. What it had said and nobody else holds is gone, and may be said otherwise.
    pub(crate) fn settle_after_restore(&mut self, at: usize) {
        let code = self.nodes[at].code.clone();
        let own: Vec<FeedId> = self.ledger.said.keys().filter(|feed| feed.origin == code).cloned().collect();
        for feed in own {
            let lengths = self.nodes.iter().map(|node| {
                let head = httt_exchange::Store::head(node.disk.as_ref(), &feed);
                head.map_or(0, |head| head.sequence as usize)
            });
            let held = lengths.max().unwrap_or(0);
            if let Some(said) = self.ledger.said.get_mut(&feed) {
                said.truncate(held);
            }
        }
        if self.nodes[at].role == Role::Gateway {
            self.forget_unheard();
        }
    }

    /// What the gateway said and nobody heard counts for nothing: receipts that are given again, revocations that are not.
    fn forget_unheard(&mut self) {
        let gateway = &self.nodes[0].code;
        let said = self.ledger.said.iter().filter(|(feed, _)| feed.origin == *gateway);
        let events: Vec<pb::Event> =
            said.flat_map(|(_, batches)| batches.iter().flat_map(|batch| batch.batch().events.clone())).collect();
        let receipts = events.iter().filter_map(decode::<wire::Receipt>);
        let receipts = receipts.filter_map(|receipt| {
            let feed = FeedId::from_wire(receipt.feed.as_ref()?).ok()?;
            Some((feed, receipt.sequence))
        });
        self.ledger.receipts = receipts.collect();
        let revoked: BTreeSet<KeyId> =
            events.iter().filter_map(decode::<KeyRevoked>).map(|one| revoked_key(&one)).collect();
        self.ledger.revoked.retain(|key, _| revoked.contains(key));
    }

    /// Every copy, read again whole, is what it was when it came, and a beginning of what its origin said.
    pub(crate) fn check_copies(&mut self) {
        let mut wrong = None;
        for (at, node) in self.nodes.iter().enumerate() {
            for (feed, _) in node.disk.heads() {
                let batches = node.disk.feed(&feed);
                let held = self.ledger.held.get(&(at, feed.clone())).map(Vec::as_slice).unwrap_or_default();
                let same = batches.iter().map(VerifiedBatch::digest).eq(held.iter().copied());
                let said = self.ledger.said.get(&feed).map(Vec::as_slice).unwrap_or_default();
                let prefix = batches.len() <= said.len()
                    && batches.iter().zip(said).all(|(copy, original)| copy.bytes() == original.bytes());
                if !same {
                    wrong = Some(format!("{} holds {feed} otherwise than it was", node.code));
                } else if !prefix && !self.ledger.is_disputed(&feed) {
                    wrong = Some(format!("{}'s copy of {feed} is no beginning of what was said", node.code));
                }
            }
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }
}

fn revoked_key(revoked: &KeyRevoked) -> KeyId {
    KeyId(revoked.fingerprint[..8].try_into().unwrap_or_default())
}

/// An event of one kind.
pub(crate) fn decode<M: httt_wire::Message + Name + Default>(event: &pb::Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).ok()).flatten()
}
