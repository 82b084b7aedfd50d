//! Read models that every node can keep: what its feeds carried, and which of them forked.

use std::collections::{BTreeMap, BTreeSet};

use httt_domain::models::{Fact, ReadModel};
use httt_feed::{AgencyCode, Audience, Digest, FeedId, Lane};
use httt_wire::Message as _;
use httt_wire::Name as _;
use httt_wire::directory::ForkSeen;
use serde::Serialize;

use crate::models::{ModelSet, digest_of};

/// What one feed carried so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FeedTraffic {
    /// Last sequence.
    pub sequence: u64,
    /// Events, all batches together.
    pub events: u64,
    /// Bytes of their data.
    pub bytes: u64,
    /// When the latest one occurred, by its origin's clock.
    pub latest_ms: i64,
}

/// Traffic by feed, written `TW→*/content`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Traffic {
    feeds: BTreeMap<String, FeedTraffic>,
}

impl Traffic {
    /// Every feed and what it carried.
    pub fn feeds(&self) -> &BTreeMap<String, FeedTraffic> {
        &self.feeds
    }
}

impl ReadModel for Traffic {
    const NAME: &'static str = "traffic";

    fn apply(&mut self, fact: &Fact<'_>) {
        let Some(feed) = feed_of(fact) else { return };
        let traffic = self.feeds.entry(feed.to_string()).or_default();
        traffic.sequence = fact.sequence;
        traffic.events += 1;
        traffic.bytes += fact.data.len() as u64;
        traffic.latest_ms = traffic.latest_ms.max(fact.occurred_at_ms);
    }
}

fn feed_of(fact: &Fact<'_>) -> Option<FeedId> {
    let origin = AgencyCode::new(fact.origin).ok()?;
    Some(FeedId::new(origin, Audience::new(fact.audience).ok()?, Lane::from_wire(fact.lane)?))
}

/// Feeds that forked, as seen by this node.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Forks {
    feeds: BTreeSet<String>,
}

impl Forks {
    /// The feeds that stand still.
    pub fn feeds(&self) -> Vec<FeedId> {
        self.feeds.iter().filter_map(|feed| feed.parse().ok()).collect()
    }
}

impl ReadModel for Forks {
    const NAME: &'static str = "forks";

    fn apply(&mut self, fact: &Fact<'_>) {
        // Only what this node itself noted: its local lane is the only one it holds.
        if Lane::from_wire(fact.lane) == Some(Lane::Local)
            && fact.kind == ForkSeen::full_name()
            && let Ok(seen) = ForkSeen::decode(fact.data)
        {
            self.feeds.insert(seen.feed);
        }
    }
}

/// What a node that only carries knows: gateway and adapter.
#[derive(Debug, Default)]
pub struct CarrierModels {
    /// By feed.
    pub traffic: Traffic,
    /// Standing still.
    pub forks: Forks,
}

impl ModelSet for CarrierModels {
    fn apply(&mut self, fact: &Fact<'_>) {
        self.traffic.apply(fact);
        self.forks.apply(fact);
    }

    fn digests(&self) -> Vec<(&'static str, Digest)> {
        vec![(Traffic::NAME, digest_of(&self.traffic)), (Forks::NAME, digest_of(&self.forks))]
    }
}
