//! What keeps a revocation exact: nothing is taken while keys and rights change.

use std::collections::BTreeSet;
use std::sync::Arc;

use httt_feed::{AgencyCode, Lane};
use httt_log::NewEvent;
use httt_wire::directory::KeyRevoked;
use httt_wire::{Message as _, Name as _};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::quota::Class;

/// Passed from looking at the directory until what was judged by it is in the store; closed while keys and rights
/// change. So what a revocation says was accepted before is all that was. Clones are the same gate.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Doors>);

/// Urgent entries have a door of their own: who changes rights waits for bulk that is under way, and they must not.
#[derive(Debug, Default)]
struct Doors {
    urgent: RwLock<()>,
    bulk: RwLock<()>,
}

/// The gate is open to this one.
#[must_use]
#[derive(Debug)]
pub struct Passing<'a>(#[expect(dead_code, reason = "it is held, not read")] RwLockReadGuard<'a, ()>);

/// The gate is closed.
#[must_use]
#[derive(Debug)]
pub struct Closed<'a>(#[expect(dead_code, reason = "it is held, not read")] [RwLockWriteGuard<'a, ()>; 2]);

impl Gate {
    /// Entries of `lane` are about to be judged and taken.
    pub async fn pass(&self, lane: Lane) -> Passing<'_> {
        Passing(match Class::of_lane(Some(lane)) {
            Class::Urgent => self.0.urgent.read().await,
            _ => self.0.bulk.read().await,
        })
    }

    /// Keys and rights are about to change.
    pub async fn close(&self) -> Closed<'_> {
        // Bulk first: only when that is through do urgent entries wait, and not for it.
        let bulk = self.0.bulk.write().await;
        Closed([bulk, self.0.urgent.write().await])
    }
}

/// Members whose keys these events of the directory revoke.
pub fn revoked_members(events: &[NewEvent]) -> BTreeSet<AgencyCode> {
    let revoked = events.iter().filter(|event| event.kind == KeyRevoked::full_name());
    revoked.filter_map(|event| AgencyCode::new(&KeyRevoked::decode(event.data.clone()).ok()?.member).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn urgent_entries_do_not_wait_for_bulk_behind_a_change_of_rights() {
        let gate = Gate::default();
        let bulk = gate.pass(Lane::Status).await;
        let (changing, waiting) = (gate.clone(), tokio::sync::Notify::new());
        let change = async {
            waiting.notify_one();
            drop(changing.close().await);
        };
        let urgent = async {
            waiting.notified().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(gate.pass(Lane::Emergency).await);
            // The change itself waits for the bulk.
            drop(bulk);
        };
        tokio::join!(change, urgent);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_passes_while_rights_change() {
        let gate = Gate::default();
        let closed = gate.close().await;
        for lane in [Lane::Emergency, Lane::Report] {
            assert!(tokio::time::timeout(Duration::from_secs(1), gate.pass(lane)).await.is_err());
        }
        drop(closed);
        drop(gate.pass(Lane::Emergency).await);
    }
}
