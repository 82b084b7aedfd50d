//! Which clusters have started playing which bulletin, for its publisher.

use std::collections::BTreeMap;

use httt_wire::bulletin::BulletinPlayed;

use super::MAX_ORDINALS;
use super::ordinals::{OrdinalSet, encode_deltas};

/// Collects who started playing what, and hands out what was not told yet.
#[derive(Debug, Clone, Default)]
pub struct PlayedTracker {
    told: BTreeMap<String, OrdinalSet>,
    pending: BTreeMap<String, OrdinalSet>,
}

impl PlayedTracker {
    /// Begins from what was told before the node stopped (its own part of the `Deliveries` read model).
    pub fn resume(told: impl IntoIterator<Item = (String, OrdinalSet)>) -> Self {
        Self { told: told.into_iter().collect(), pending: BTreeMap::new() }
    }

    /// A cluster started a bulletin; whether that is news.
    pub fn record(&mut self, bulletin: &str, ordinal: u32) -> bool {
        if ordinal == 0 || self.told.get(bulletin).is_some_and(|told| told.contains(ordinal)) {
            return false;
        }
        match self.pending.get_mut(bulletin) {
            Some(pending) => pending.insert(ordinal),
            None => self.pending.entry(bulletin.to_owned()).or_default().insert(ordinal),
        }
    }

    /// The news since the last call, for the streams `delivery/{bulletin}`; at most [`MAX_ORDINALS`] clusters each.
    pub fn drain(&mut self) -> Vec<BulletinPlayed> {
        let mut events = Vec::new();
        for (bulletin, pending) in std::mem::take(&mut self.pending) {
            let ordinals: Vec<u32> = pending.iter().collect();
            for chunk in ordinals.chunks(MAX_ORDINALS) {
                let cluster_deltas = encode_deltas(chunk.iter().copied());
                events.push(BulletinPlayed { bulletin: bulletin.clone(), cluster_deltas });
            }
            let told = self.told.entry(bulletin).or_default();
            for ordinal in ordinals {
                told.insert(ordinal);
            }
        }
        events
    }

    /// Frees the memory of a bulletin that plays no more (expired, withdrawn).
    pub fn forget(&mut self, bulletin: &str) {
        self.told.remove(bulletin);
        self.pending.remove(bulletin);
    }
}
