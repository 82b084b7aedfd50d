//! Read models that every node can keep: what its feeds carried, and which of them forked.

use std::collections::{BTreeMap, BTreeSet};

use httt_domain::models::{Fact, Model, ReadModel};
use httt_feed::{AgencyCode, Audience, FeedId, Lane};
use httt_wire::directory::ForkSeen;
use httt_wire::exchange::Receipt;
use serde::{Deserialize, Serialize};

/// What one feed carried so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Traffic {
    feeds: BTreeMap<String, FeedTraffic>,
    /// The feed of the fact before and its name: events of one feed come together. No part of the state.
    #[serde(skip)]
    last: Option<(FeedId, String)>,
}

impl Traffic {
    /// Every feed and what it carried.
    pub fn feeds(&self) -> &BTreeMap<String, FeedTraffic> {
        &self.feeds
    }
}

impl Model for Traffic {
    const NAME: &'static str = "traffic";
}

impl ReadModel for Traffic {
    fn apply(&mut self, fact: &Fact<'_>) {
        if !self.last.as_ref().is_some_and(|(feed, _)| is_of(fact, feed)) {
            let Some(feed) = feed_of(fact) else { return };
            let name = feed.to_string();
            self.feeds.entry(name.clone()).or_default();
            self.last = Some((feed, name));
        }
        let Some(traffic) = self.last.as_ref().and_then(|(_, name)| self.feeds.get_mut(name)) else { return };
        traffic.sequence = fact.sequence;
        traffic.events += 1;
        traffic.bytes += fact.data.len() as u64;
        traffic.latest_ms = traffic.latest_ms.max(fact.occurred_at_ms);
    }
}

fn is_of(fact: &Fact<'_>, feed: &FeedId) -> bool {
    feed.origin.as_str() == fact.origin && feed.audience.as_str() == fact.audience && feed.lane.to_wire() == fact.lane
}

fn feed_of(fact: &Fact<'_>) -> Option<FeedId> {
    let origin = AgencyCode::new(fact.origin).ok()?;
    Some(FeedId::new(origin, Audience::new(fact.audience).ok()?, Lane::from_wire(fact.lane)?))
}

/// Feeds that forked, as seen by this node.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Forks {
    feeds: BTreeSet<String>,
}

impl Forks {
    /// The feeds that stand still.
    pub fn feeds(&self) -> Vec<FeedId> {
        self.feeds.iter().filter_map(|feed| feed.parse().ok()).collect()
    }
}

impl Model for Forks {
    const NAME: &'static str = "forks";
    const OWN_WORDS_ONLY: bool = true;
}

impl ReadModel for Forks {
    fn apply(&mut self, fact: &Fact<'_>) {
        // Only what this node itself noted: its local lane is the only one it holds.
        if Lane::from_wire(fact.lane) == Some(Lane::Local)
            && let Some(seen) = fact.read::<ForkSeen>()
        {
            self.feeds.insert(seen.feed);
        }
    }
}

/// How far the gateway has receipted feeds: by feed, the last sequence it says it holds. A carrier that takes what is
/// pushed and drops it cannot make these.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Receipted {
    /// Whose receipts count: the writer of the directory, which only the gateway can be.
    gateway: Option<String>,
    feeds: BTreeMap<String, u64>,
}

impl Receipted {
    /// The last sequence receipted of `feed`; 0 for none.
    pub fn of(&self, feed: &FeedId) -> u64 {
        self.feeds.get(&feed.to_string()).copied().unwrap_or(0)
    }
}

impl Model for Receipted {
    const NAME: &'static str = "receipted";
    const OWN_WORDS_ONLY: bool = true;
}

impl ReadModel for Receipted {
    fn apply(&mut self, fact: &Fact<'_>) {
        if self.gateway.is_none() && Lane::from_wire(fact.lane) == Some(Lane::Directory) {
            self.gateway = Some(fact.origin.to_owned());
        }
        if self.gateway.as_deref() == Some(fact.origin)
            && let Some(receipt) = fact.read::<Receipt>()
            && let Some(Ok(feed)) = receipt.feed.as_ref().map(FeedId::from_wire)
        {
            let known = self.feeds.entry(feed.to_string()).or_default();
            *known = receipt.sequence.max(*known);
        }
    }
}

#[cfg(test)]
mod tests {
    use httt_wire::{Message as _, Name as _};

    use super::*;

    fn fact<'a>(origin: &'a str, lane: Lane, kind: &'a str, data: &'a [u8]) -> Fact<'a> {
        Fact {
            origin,
            audience: "*",
            lane: lane.to_wire(),
            sequence: 1,
            stream: "s",
            version: 1,
            kind,
            occurred_at_ms: 0,
            actor: "",
            data,
        }
    }

    #[test]
    fn only_the_gateways_receipts_count() {
        let feed: FeedId = "H24→TW/report".parse().expect("feed");
        let receipt = |sequence| Receipt { feed: Some(feed.to_wire()), sequence, ..Default::default() }.encode_to_vec();
        let kind = Receipt::full_name();
        let mut receipted = Receipted::default();
        receipted.apply(&fact("NDXP", Lane::Directory, "any", &[]));
        receipted.apply(&fact("TW", Lane::Report, &kind, &receipt(9)));
        assert_eq!(receipted.of(&feed), 0, "anybody could say so");
        receipted.apply(&fact("NDXP", Lane::Report, &kind, &receipt(3)));
        receipted.apply(&fact("NDXP", Lane::Report, &kind, &receipt(2)));
        receipted.apply(&fact("NDXP", Lane::Report, &kind, b"rubbish"));
        assert_eq!(receipted.of(&feed), 3);
    }
}
