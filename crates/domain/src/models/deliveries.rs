//! How far each bulletin has come, node by node.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::bulletin::{BulletinOffered, BulletinPlayed, BulletinReceived, BulletinScheduled};
use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::cluster::{OrdinalSet, decode_deltas};
use crate::event::Lane;
use crate::schedule::DELIVERY_STREAM;

/// What one receiving node says of one bulletin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// The publisher, as the receiver names it.
    pub publisher: String,
    /// When the receiver had it on disk for the first time, Unix milliseconds; 0 before.
    pub durable_at_ms: i64,
    /// The last batch of the publisher's feed it has confirmed for this bulletin.
    pub sequence: u64,
    /// Communes it was offered to.
    pub offered: BTreeSet<String>,
    /// Communes that scheduled it at some time. Like the others a mark that was reached: a commune that takes it out of
    /// its schedule again keeps that to itself.
    pub scheduled: BTreeSet<String>,
    /// Clusters that started playing it, by the receiver's ordinals.
    pub played: OrdinalSet,
}

/// One node's progress, as numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeProgress {
    /// The receiving agency.
    pub origin: String,
    /// When it had the bulletin on disk; 0 before.
    pub durable_at_ms: i64,
    /// Communes offered.
    pub offered: u64,
    /// Communes that scheduled it.
    pub scheduled: u64,
    /// Clusters that played it.
    pub played: u64,
}

/// All nodes' progress with one bulletin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DeliveryProgress {
    /// Each node that said something.
    pub nodes: Vec<NodeProgress>,
    /// Nodes that have it on disk.
    pub received: u64,
    /// Communes offered, of all nodes.
    pub offered: u64,
    /// Communes that scheduled it.
    pub scheduled: u64,
    /// Clusters that played it.
    pub played: u64,
}

/// Deliveries by bulletin and receiving agency. Streams `delivery/`, in whichever lane they came.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Deliveries {
    deliveries: BTreeMap<String, BTreeMap<String, Delivery>>,
}

impl Deliveries {
    /// What one node said of one bulletin.
    pub fn get(&self, bulletin: &str, origin: &str) -> Option<&Delivery> {
        self.deliveries.get(bulletin)?.get(origin)
    }

    /// Everything one node said, by bulletin; for resuming a [`PlayedTracker`](crate::cluster::PlayedTracker).
    pub fn of_origin<'a>(&'a self, origin: &'a str) -> impl Iterator<Item = (&'a str, &'a Delivery)> {
        self.deliveries.iter().filter_map(move |(bulletin, nodes)| Some((bulletin.as_str(), nodes.get(origin)?)))
    }

    /// Numbers for one bulletin; all zero when nobody said anything.
    pub fn progress(&self, bulletin: &str) -> DeliveryProgress {
        let mut progress = DeliveryProgress::default();
        for (origin, delivery) in self.deliveries.get(bulletin).into_iter().flatten() {
            let node = NodeProgress {
                origin: origin.clone(),
                durable_at_ms: delivery.durable_at_ms,
                offered: delivery.offered.len() as u64,
                scheduled: delivery.scheduled.len() as u64,
                played: delivery.played.len(),
            };
            progress.received += u64::from(node.durable_at_ms != 0);
            progress.offered += node.offered;
            progress.scheduled += node.scheduled;
            progress.played += node.played;
            progress.nodes.push(node);
        }
        progress
    }

    fn entry(&mut self, bulletin: &str, origin: &str) -> &mut Delivery {
        self.deliveries.entry(bulletin.to_owned()).or_default().entry(origin.to_owned()).or_default()
    }
}

impl Model for Deliveries {
    const NAME: &'static str = "deliveries";
}

impl ReadModel for Deliveries {
    fn apply(&mut self, fact: &Fact<'_>) {
        let Some(id) = fact.id(DELIVERY_STREAM) else { return };
        if ![Lane::Emergency, Lane::Report, Lane::Local].iter().any(|lane| fact.is_lane(*lane)) {
            return;
        }
        if let Some(received) = fact.read::<BulletinReceived>().filter(|event| event.bulletin == id) {
            let entry = self.entry(id, fact.origin);
            if entry.durable_at_ms == 0 {
                entry.durable_at_ms = received.durable_at_ms;
                entry.publisher = received.publisher;
            }
            entry.sequence = entry.sequence.max(received.sequence);
        } else if let Some(offered) = fact.read::<BulletinOffered>().filter(|event| event.bulletin == id) {
            self.entry(id, fact.origin).offered.extend(offered.communes);
        } else if let Some(scheduled) = fact.read::<BulletinScheduled>().filter(|event| event.bulletin == id) {
            self.entry(id, fact.origin).scheduled.insert(scheduled.commune);
        } else if let Some(played) = fact.read::<BulletinPlayed>().filter(|event| event.bulletin == id)
            && let Ok(ordinals) = decode_deltas(&played.cluster_deltas)
        {
            let entry = self.entry(id, fact.origin);
            for ordinal in ordinals {
                entry.played.insert(ordinal);
            }
        }
    }
}
