//! What goes up at intervals: which clusters changed, and which played what.

use std::time::Duration;

use httt_domain::cluster::{CLUSTERS_STREAM, PlayedTracker, StatusTracker};
use httt_feed::Lane;
use httt_log::{NewEvent, Transaction};
use httt_wire::bulletin::BulletinPlayed;
use tokio::time::MissedTickBehavior;

use crate::province::{ACTOR, PlayedNews, Province, lock};

/// How often plays of emergencies go up: the ministry counts along.
const EMERGENCY_TICK: Duration = Duration::from_millis(500);
/// Pause after the log did not take something.
const RETRY: Duration = Duration::from_secs(1);

/// The status tracker, from what was told before the node stopped.
pub(crate) fn resume_statuses(province: &Province) -> StatusTracker {
    province
        .desk
        .models
        .read(|models| StatusTracker::resume(province.desk.now_ms(), models.clusters.statuses(province.own())))
}

/// The trackers of plays: what was recorded and not told before the node stopped is told now.
pub(crate) fn resume_played(province: &Province) -> PlayedNews {
    province.desk.models.read(|models| {
        let is_emergency =
            |id: &str| models.bulletins.get(id).is_some_and(|bulletin| bulletin.content.priority.is_emergency());
        let resume = |emergency: bool| {
            let told = models.deliveries.of_origin(province.own()).filter(|(id, _)| is_emergency(id) == emergency);
            let mut tracker =
                PlayedTracker::resume(told.map(|(id, delivery)| (id.to_owned(), delivery.played.clone())));
            for (id, clusters) in models.plays.iter().filter(|(id, _)| is_emergency(id) == emergency) {
                for ordinal in clusters.iter() {
                    tracker.record(id, ordinal);
                }
            }
            tracker
        };
        PlayedNews { emergencies: resume(true), others: resume(false) }
    })
}

/// Ticks for ever.
pub(crate) async fn run(province: Province) {
    let mut statuses = tokio::time::interval(Duration::from_millis(province.settings.status_tick_ms));
    let mut emergencies = tokio::time::interval(EMERGENCY_TICK);
    statuses.set_missed_tick_behavior(MissedTickBehavior::Delay);
    emergencies.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = emergencies.tick() => {
                let news = lock(&province.played).emergencies.drain();
                tell_played(&province, news).await;
            }
            _ = statuses.tick() => {
                tell_statuses(&province).await;
                let news = lock(&province.played).others.drain();
                tell_played(&province, news).await;
            }
        }
    }
}

async fn tell_statuses(province: &Province) {
    let (now_ms, after_ms) = (province.desk.now_ms(), province.settings.offline_after_ms);
    let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
    loop {
        let Some(changed) = lock(&province.statuses).tracker.tick(now_ms, after_ms) else { return };
        let event = NewEvent::of(province.upward(), Lane::Status, CLUSTERS_STREAM, &changed).with_actor(ACTOR);
        append(province, event).await;
    }
}

async fn tell_played(province: &Province, news: Vec<BulletinPlayed>) {
    for played in news {
        let bulletin = province.desk.models.read(|models| models.bulletins.get(&played.bulletin).cloned());
        let event = bulletin.and_then(|bulletin| province.delivery_event(&bulletin, &played));
        if let Some(event) = event {
            append(province, event).await;
        }
    }
}

/// Appends what a tracker has handed out and will not hand out again, however long the log takes. What a stop cuts off
/// is told after the next start.
async fn append(province: &Province, event: NewEvent) {
    // The same id each time: an answer that was lost does not double the event.
    while let Err(error) = province.desk.node.log.commit(Transaction::append([event.clone()])).await {
        tracing::warn!(stream = event.stream, %error, "not written; it is tried again");
        tokio::time::sleep(RETRY).await;
    }
}
