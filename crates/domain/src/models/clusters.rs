//! Clusters of every node: where they hang and what they are doing.

use std::collections::BTreeMap;

use httt_wire::cluster::{ClusterStatusChanged, ClusterStatusRestated, ClustersRegistered};
use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::area::{Areas, Level};
use crate::cluster::{CLUSTERS_STREAM, NewCluster, Register, Restatement, Status, decode_deltas};
use crate::event::Lane;

/// Clusters counted by what they are doing. `online` is `idle` + `playing` + `paused`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// All registered.
    pub total: u64,
    /// Heard from lately.
    pub online: u64,
    /// Not heard from.
    pub offline: u64,
    /// Online and not playing.
    pub idle: u64,
    /// Playing.
    pub playing: u64,
    /// Paused.
    pub paused: u64,
}

impl Totals {
    fn count(&mut self, status: Status, change: impl Fn(&mut u64)) {
        match status {
            Status::Offline => change(&mut self.offline),
            Status::Idle => change(&mut self.idle),
            Status::Playing => change(&mut self.playing),
            Status::Paused => change(&mut self.paused),
        }
        if status != Status::Offline {
            change(&mut self.online);
        }
    }

    fn add(&mut self, other: &Self) {
        self.total += other.total;
        self.online += other.online;
        self.offline += other.offline;
        self.idle += other.idle;
        self.playing += other.playing;
        self.paused += other.paused;
    }
}

/// One cluster as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// The node it belongs to.
    pub origin: String,
    /// Its short name there.
    pub ordinal: u32,
    /// IMEI, commune, name, vendor.
    #[serde(flatten)]
    pub cluster: NewCluster,
    /// What it is doing.
    pub status: Status,
    /// Since when, Unix milliseconds by the node's clock; 0 when never heard of.
    pub since_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Node {
    register: Register,
    /// Those that were heard of: status, and since when.
    status: BTreeMap<u32, (Status, i64)>,
    /// Kept along, so that a national overview adds 3,321 rows and not 200,000.
    totals: BTreeMap<String, Totals>,
}

/// Clusters by node and ordinal. Stream `clusters`, lane `status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Clusters {
    nodes: BTreeMap<String, Node>,
}

impl Clusters {
    /// A node's register, for deciding about new clusters and finding a device by its IMEI.
    pub fn register(&self, origin: &str) -> Option<&Register> {
        self.nodes.get(origin).map(|node| &node.register)
    }

    /// A node's statuses by ordinal, for resuming a [`StatusTracker`](crate::cluster::StatusTracker).
    pub fn statuses(&self, origin: &str) -> impl Iterator<Item = (u32, Status)> {
        let node = self.nodes.get(origin);
        node.into_iter().flat_map(|node| node.status.iter().map(|(ordinal, (status, _))| (*ordinal, *status)))
    }

    /// What a node says of its clusters so that a reader may begin there; empty when it has none.
    pub fn restatement(&self, origin: &str) -> Restatement {
        let Some(node) = self.nodes.get(origin) else { return Restatement::default() };
        let statuses = node.status.iter().map(|(ordinal, (status, since_ms))| (*ordinal, *status, *since_ms));
        Restatement::of(&node.register, statuses)
    }

    /// Counts for the nation (`""`, `VN`), a province or a commune.
    pub fn totals(&self, areas: &Areas, area: &str) -> Totals {
        let mut sum = Totals::default();
        for node in self.nodes.values() {
            match areas.get(area).map(|area| area.level) {
                Some(Level::Commune) => node.totals.get(area).into_iter().for_each(|totals| sum.add(totals)),
                _ => {
                    for (commune, totals) in &node.totals {
                        // A commune the list does not know (any more) still counts for the nation.
                        if Areas::is_nation(area) || areas.covers(area, commune) {
                            sum.add(totals);
                        }
                    }
                }
            }
        }
        sum
    }

    /// Counts of each area right below this one, by code.
    pub fn breakdown(&self, areas: &Areas, area: &str) -> BTreeMap<String, Totals> {
        let mut rows: BTreeMap<String, Totals> =
            areas.children(area).map(|child| (child.code.clone(), Totals::default())).collect();
        for (commune, totals) in self.nodes.values().flat_map(|node| &node.totals) {
            let mut at = areas.get(commune);
            while let Some(here) = at {
                if let Some(row) = rows.get_mut(&here.code) {
                    row.add(totals);
                    break;
                }
                at = areas.get(&here.parent);
            }
        }
        rows
    }

    /// One cluster.
    pub fn get(&self, origin: &str, ordinal: u32) -> Option<ClusterView> {
        let node = self.nodes.get(origin)?;
        let cluster = node.register.get(ordinal)?.clone();
        let (status, since_ms) = node.status.get(&ordinal).copied().unwrap_or_default();
        Some(ClusterView { origin: origin.to_owned(), ordinal, cluster, status, since_ms })
    }

    /// The clusters of an area, by node and ordinal.
    pub fn list(&self, areas: &Areas, area: &str) -> Vec<ClusterView> {
        let in_area = |commune: &str| Areas::is_nation(area) || areas.covers(area, commune);
        let of_node = |(origin, node): (&String, &Node)| {
            let inside = node.register.iter().filter(|(_, cluster)| in_area(&cluster.commune));
            inside.filter_map(|(ordinal, _)| self.get(origin, ordinal)).collect::<Vec<_>>()
        };
        self.nodes.iter().flat_map(of_node).collect()
    }
}

impl Node {
    fn register(&mut self, event: &ClustersRegistered) {
        for cluster in &event.clusters {
            let before = self.register.len();
            self.register.evolve(&ClustersRegistered { clusters: vec![cluster.clone()] });
            if self.register.len() > before {
                let totals = self.totals.entry(cluster.commune.clone()).or_default();
                totals.total += 1;
                totals.offline += 1;
            }
        }
    }

    fn change(&mut self, ordinal: u32, status: Status, at_ms: i64) {
        // Status of a cluster that was never registered says nothing: register and status share a feed.
        let Some(cluster) = self.register.get(ordinal) else { return };
        let held = self.status.entry(ordinal).or_default();
        // Registering made the row.
        let Some(totals) = self.totals.get_mut(&cluster.commune) else { return };
        totals.count(held.0, |count| *count = count.saturating_sub(1));
        totals.count(status, |count| *count += 1);
        *held = (status, at_ms);
    }

    /// All or nothing: half of a damaged event is not believed either.
    fn change_all(&mut self, changed: &ClusterStatusChanged) {
        let lists = [
            (Status::Offline, &changed.offline),
            (Status::Idle, &changed.idle),
            (Status::Playing, &changed.playing),
            (Status::Paused, &changed.paused),
        ];
        let decoded: Result<Vec<_>, _> =
            lists.into_iter().map(|(status, list)| decode_deltas(list).map(|ordinals| (status, ordinals))).collect();
        for (status, ordinals) in decoded.into_iter().flatten() {
            for ordinal in ordinals {
                self.change(ordinal, status, changed.at_ms);
            }
        }
    }
}

impl Model for Clusters {
    const NAME: &'static str = "clusters";
}

impl ReadModel for Clusters {
    fn apply(&mut self, fact: &Fact<'_>) {
        if fact.stream != CLUSTERS_STREAM || !fact.is_lane(Lane::Status) {
            return;
        }
        if let Some(registered) = fact.read::<ClustersRegistered>() {
            self.nodes.entry(fact.origin.to_owned()).or_default().register(&registered);
            return;
        }
        let Some(node) = self.nodes.get_mut(fact.origin) else { return };
        if let Some(changed) = fact.read::<ClusterStatusChanged>() {
            node.change_all(&changed);
        } else if let Some(restated) = fact.read::<ClusterStatusRestated>() {
            restated.changes.iter().for_each(|changed| node.change_all(changed));
        }
    }
}
