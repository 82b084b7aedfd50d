//! Confirms to the publisher that a bulletin is in this log. For an emergency this is what the ministry waits for.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use httt_domain::models::PublishedBulletin;
use httt_wire::bulletin::BulletinReceived;

use crate::models::ProvinceModels;
use crate::province::{Province, derived_id};

/// Pause after the log did not take a confirmation.
const RETRY: Duration = Duration::from_secs(1);
/// Confirmations written at a time: one group of the log.
const AT_ONCE: usize = 256;

/// Confirms until the models no longer follow the log.
pub(crate) async fn run(province: Province) {
    let mut positions = province.desk.models.watch();
    let mut cursor = 0;
    let mut open = BTreeSet::new();
    loop {
        positions.mark_unchanged();
        let mut due = province.desk.models.read(|models| {
            let (changed, next) = models.changes.since(cursor);
            cursor = next;
            open.extend(changed);
            due(&province, models, &mut open)
        });
        // Emergencies first, and in one commit group of their own.
        due.sort_by_key(|bulletin| !bulletin.content.priority.is_emergency());
        let emergencies = due.partition_point(|bulletin| bulletin.content.priority.is_emergency());
        let (first, rest) = due.split_at(emergencies);
        for group in first.chunks(AT_ONCE).chain(rest.chunks(AT_ONCE)) {
            join_all(group.iter().map(|bulletin| confirm(&province, bulletin))).await;
        }
        let retry =
            async { if due.is_empty() { std::future::pending().await } else { tokio::time::sleep(RETRY).await } };
        tokio::select! {
            changed = positions.changed() => if changed.is_err() {
                return;
            },
            // What was written meanwhile is no longer due when looked at again.
            () = retry => {}
        }
    }
}

/// What is not confirmed yet; `open` keeps only that.
fn due(province: &Province, models: &ProvinceModels, open: &mut BTreeSet<Arc<str>>) -> Vec<PublishedBulletin> {
    let mut due = Vec::new();
    open.retain(|id| {
        let Some(bulletin) = models.bulletins.get(id) else { return false };
        let confirmed = models.deliveries.get(id, province.own()).map_or(0, |delivery| delivery.sequence);
        let wanted = bulletin.publisher != province.own() && province.concerns(bulletin);
        let missing = wanted && confirmed < bulletin.sequence;
        if missing {
            due.push(bulletin.clone());
        }
        missing
    });
    due
}

async fn confirm(province: &Province, bulletin: &PublishedBulletin) {
    let received = BulletinReceived {
        bulletin: bulletin.bulletin.clone(),
        publisher: bulletin.publisher.clone(),
        sequence: bulletin.sequence,
        // The models hold nothing that is not durable.
        durable_at_ms: province.desk.now_ms(),
    };
    let Some(event) = province.delivery_event(bulletin, &received) else { return };
    let id = derived_id(&[province.own(), "received", &bulletin.bulletin, &bulletin.sequence.to_string()]);
    if let Err(error) = province.append_once(event.with_id(id)).await {
        tracing::warn!(bulletin = bulletin.bulletin, %error, "the receipt was not written; it is tried again");
    }
}
