//! The register: every cluster has an IMEI, a commune, and an ordinal that is given once and never again.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::{Message, cluster as wire};
use serde::{Deserialize, Serialize};

use super::MAX_LIST_BYTES;
use crate::accounts::{Action, Actor};
use crate::area::Areas;
use crate::bulletin::MAX_NAME;
use crate::refusal::{Field, Refusal, Refusals, check_text, quote};

/// Longest vendor code, in characters.
pub const MAX_VENDOR: usize = 50;
/// Most clusters in one command.
const MAX_AT_ONCE: usize = 20_000;

/// A cluster to be registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewCluster {
    /// `CumLoaID`: the IMEI, 15 digits.
    pub imei: String,
    /// Code of its commune.
    pub commune: String,
    /// Where it hangs, for people.
    pub name: String,
    /// `MaNhaCungCap`.
    #[serde(default)]
    pub vendor: String,
}

/// Whether the text is an IMEI: 15 digits. The check digit is not looked at, because devices in the field carry IMEIs
/// whose last digit does not hold.
pub fn is_imei(text: &str) -> bool {
    text.len() == 15 && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The clusters a node knows, folded from `ClustersRegistered`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Register {
    by_imei: BTreeMap<String, u32>,
    by_ordinal: BTreeMap<u32, NewCluster>,
}

impl Register {
    /// Takes in what happened. The first to have an ordinal or an IMEI keeps it.
    pub fn evolve(&mut self, event: &wire::ClustersRegistered) {
        for cluster in &event.clusters {
            if cluster.ordinal == 0
                || self.by_ordinal.contains_key(&cluster.ordinal)
                || self.by_imei.contains_key(&cluster.imei)
            {
                continue;
            }
            self.by_imei.insert(cluster.imei.clone(), cluster.ordinal);
            let wire::Cluster { imei, commune, name, vendor, .. } = cluster.clone();
            self.by_ordinal.insert(cluster.ordinal, NewCluster { imei, commune, name, vendor });
        }
    }

    /// The ordinal of an IMEI.
    pub fn ordinal(&self, imei: &str) -> Option<u32> {
        self.by_imei.get(imei).copied()
    }

    /// The cluster with this ordinal.
    pub fn get(&self, ordinal: u32) -> Option<&NewCluster> {
        self.by_ordinal.get(&ordinal)
    }

    /// All of them, by ordinal.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &NewCluster)> {
        self.by_ordinal.iter().map(|(ordinal, cluster)| (*ordinal, cluster))
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_ordinal.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_ordinal.is_empty()
    }

    /// Registers clusters of the node's area `home`: all of them or none. The events go to the stream
    /// [`CLUSTERS_STREAM`](super::CLUSTERS_STREAM) in the lane `status`, each below [`MAX_LIST_BYTES`].
    pub fn decide(
        &self,
        clusters: &[NewCluster],
        actor: &Actor<'_>,
        areas: &Areas,
        home: &str,
    ) -> Result<Vec<wire::ClustersRegistered>, Refusals> {
        actor.allow(Action::RegisterClusters)?;
        let whole = || Field::new("clusters", "Danh sách cụm loa", "Clusters");
        if clusters.is_empty() {
            return Err(Refusal::Required { field: whole() }.into());
        }
        if clusters.len() > MAX_AT_ONCE {
            return Err(Refusal::TooMany { field: whole(), given: clusters.len(), max: MAX_AT_ONCE }.into());
        }
        let mut list = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, cluster) in clusters.iter().enumerate() {
            let field = |name: &str, vi: &str, en: &str| Field::new(format!("clusters[{index}].{name}"), vi, en);
            let imei = || field("imei", "IMEI (CumLoaID)", "IMEI");
            if !is_imei(&cluster.imei) {
                list.push(Refusal::Malformed {
                    field: imei(),
                    given: quote(&cluster.imei),
                    expected_vi: "đúng 15 chữ số".into(),
                    expected_en: "exactly 15 digits".into(),
                });
            } else if self.by_imei.contains_key(&cluster.imei) || !seen.insert(&cluster.imei) {
                list.push(Refusal::Duplicate { field: imei(), given: cluster.imei.clone() });
            }
            let commune = || field("commune", "Đơn vị cấp xã", "Commune");
            let within = if areas.covers(home, actor.area) { actor.area } else { home };
            list.extend(areas.check_commune(&cluster.commune, within, commune).err());
            check_text(&mut list, &cluster.name, true, MAX_NAME, || field("name", "Tên cụm loa", "Name"));
            check_text(&mut list, &cluster.vendor, false, MAX_VENDOR, || field("vendor", "Mã nhà cung cấp", "Vendor"));
        }
        let last = self.by_ordinal.keys().next_back().copied().unwrap_or(0);
        if u32::try_from(clusters.len()).ok().and_then(|count| last.checked_add(count)).is_none() {
            list.push(Refusal::TooMany { field: whole(), given: clusters.len(), max: (u32::MAX - last) as usize });
        }
        Refusals::unless_empty(list)?;
        Ok(chunked((last + 1..).zip(clusters)))
    }

    /// All of them again, with the ordinals they have.
    pub(super) fn restate(&self) -> Vec<wire::ClustersRegistered> {
        if self.is_empty() { Vec::new() } else { chunked(self.iter()) }
    }
}

fn chunked<'a>(clusters: impl Iterator<Item = (u32, &'a NewCluster)>) -> Vec<wire::ClustersRegistered> {
    let mut events = vec![wire::ClustersRegistered::default()];
    let mut bytes = 0;
    for (ordinal, cluster) in clusters {
        let NewCluster { imei, commune, name, vendor } = cluster.clone();
        let entry = wire::Cluster { ordinal, imei, commune, name, vendor };
        // Tag and length of an entry take at most six bytes.
        let size = entry.encoded_len() + 6;
        if bytes + size > MAX_LIST_BYTES {
            events.push(wire::ClustersRegistered::default());
            bytes = 0;
        }
        bytes += size;
        if let Some(event) = events.last_mut() {
            event.clusters.push(entry);
        }
    }
    events
}
