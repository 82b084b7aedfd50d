//! Saying again what stands, so that who holds nothing of the feed may begin there.

use std::collections::BTreeMap;

use httt_wire::{Message, cluster as wire};

use super::register::Register;
use super::status::{Status, changes_of};
use super::{MAX_LIST_BYTES, MAX_ORDINALS};

/// How often a node says its clusters again, ms.
pub const RESTATE_EVERY_MS: i64 = 24 * 3_600_000;

/// Everything there is to say of a node's clusters, as events of the stream [`CLUSTERS_STREAM`](super::CLUSTERS_STREAM)
/// in the lane `status`: the register first. To be committed together, in a batch that restates.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Restatement {
    /// The register, with the ordinals it always had.
    pub registered: Vec<wire::ClustersRegistered>,
    /// What each cluster is doing, and since when.
    pub statuses: Vec<wire::ClusterStatusRestated>,
}

impl Restatement {
    /// Of a register and the latest status of every cluster that was heard of, with its time in Unix ms. Each event
    /// stays below [`MAX_LIST_BYTES`].
    pub fn of(register: &Register, statuses: impl IntoIterator<Item = (u32, Status, i64)>) -> Self {
        let mut by_time: BTreeMap<i64, Vec<(u32, Status)>> = BTreeMap::new();
        for (ordinal, status, since_ms) in statuses {
            by_time.entry(since_ms).or_default().push((ordinal, status));
        }
        let mut parts = vec![wire::ClusterStatusRestated::default()];
        let mut bytes = 0;
        for (at_ms, clusters) in by_time {
            for some in clusters.chunks(MAX_ORDINALS) {
                let changes = changes_of(at_ms, some.iter().copied());
                // Tag and length take at most six bytes.
                let size = changes.encoded_len() + 6;
                if bytes + size > MAX_LIST_BYTES {
                    parts.push(wire::ClusterStatusRestated::default());
                    bytes = 0;
                }
                bytes += size;
                if let Some(part) = parts.last_mut() {
                    part.changes.push(changes);
                }
            }
        }
        parts.retain(|part| !part.changes.is_empty());
        Self { registered: register.restate(), statuses: parts }
    }
}
