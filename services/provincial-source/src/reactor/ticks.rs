//! What goes up at intervals: which clusters changed, which played what, and once a day all of the clusters again.

use std::time::Duration;

use httt_domain::cluster::{CLUSTERS_STREAM, PlayedTracker, RESTATE_EVERY_MS, Restatement, StatusTracker};
use httt_feed::{FeedId, Lane};
use httt_log::{NewEvent, Transaction};
use httt_node::models::Part as _;
use httt_wire::bulletin::BulletinPlayed;
use httt_wire::{Message, Name};
use tokio::time::{Interval, MissedTickBehavior};

use crate::models::ProvinceModels;
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

/// Tells plays of emergencies for ever. A task of its own: no restatement, and no wait for the models, holds it up.
pub(crate) async fn emergencies(province: Province) {
    let mut ticks = ticks(EMERGENCY_TICK);
    loop {
        ticks.tick().await;
        let news = lock(&province.played).emergencies.drain();
        tell_played(&province, news).await;
    }
}

/// Tells everything else for ever, at the tick of statuses.
pub(crate) async fn statuses(province: Province) {
    let mut ticks = ticks(Duration::from_millis(province.settings.status_tick_ms));
    let mut restated_ms = None;
    loop {
        ticks.tick().await;
        restated_ms = restated_ms.or_else(|| last_restated(&province));
        let now_ms = province.desk.now_ms();
        if restated_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) >= RESTATE_EVERY_MS) {
            // What could not be restated is tried again at the next tick.
            restated_ms = if restate(&province).await { Some(now_ms) } else { restated_ms };
        }
        tell_statuses(&province).await;
        let news = lock(&province.played).others.drain();
        tell_played(&province, news).await;
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// When this node last said its clusters again, or first said anything of them: Unix ms by its clock then.
fn last_restated(province: &Province) -> Option<i64> {
    let log = &province.desk.node.log;
    let feed = FeedId::new(province.desk.node.code.clone(), province.upward(), Lane::Status);
    let found = log.restated(&feed).and_then(|sequence| log.read_feed(&feed, sequence.map_or(0, |last| last - 1), 1));
    let entries = found.inspect_err(|error| tracing::error!(%feed, %error, "the last restatement cannot be read"));
    Some(entries.ok()?.first()?.sealed_at_ms)
}

/// Says register and statuses again, so that who holds nothing of the feed may begin here. False when what the node
/// knows is old or wrong: it would be sealed for good.
async fn restate(province: &Province) -> bool {
    // A cluster registered between the look and the commit would be left out for good.
    let Ok(_turn) = province.turn().await else { return false };
    let restatement = province.desk.models.read(|models| sound_restatement(models, province.own()));
    let Some(restatement) = restatement else { return false };
    let events = restated_events(province, &restatement);
    tracing::info!(events = events.len(), "clusters are restated");
    commit(province, || Transaction::append(events.clone()).restating()).await;
    true
}

/// The restatement, unless the model that it is of broke.
fn sound_restatement(models: &ProvinceModels, own: &str) -> Option<Restatement> {
    if let Some(problem) = models.clusters.broken() {
        tracing::error!(problem, "clusters are not restated; rebuild the read models");
        return None;
    }
    Some(models.clusters.restatement(own))
}

fn restated_events(province: &Province, restatement: &Restatement) -> Vec<NewEvent> {
    let register = restatement.registered.iter().map(|event| status_event(province, event));
    let statuses = restatement.statuses.iter().map(|event| status_event(province, event));
    register.chain(statuses).collect()
}

fn status_event<M: Message + Name>(province: &Province, message: &M) -> NewEvent {
    NewEvent::of(province.upward(), Lane::Status, CLUSTERS_STREAM, message).with_actor(ACTOR)
}

async fn tell_statuses(province: &Province) {
    let (now_ms, after_ms) = (province.desk.now_ms(), province.settings.offline_after_ms);
    let after_ms = i64::try_from(after_ms).unwrap_or(i64::MAX);
    loop {
        let Some(changed) = lock(&province.statuses).tracker.tick(now_ms, after_ms) else { return };
        append(province, status_event(province, &changed)).await;
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
    commit(province, || Transaction::append([event.clone()])).await;
}

/// Commits, however long the log takes; `transaction` gives the same events with the same ids each time, so that an
/// answer that was lost does not double them.
async fn commit(province: &Province, transaction: impl Fn() -> Transaction) {
    while let Err(error) = province.desk.node.log.commit(transaction()).await {
        tracing::warn!(%error, "not written; it is tried again");
        tokio::time::sleep(RETRY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_broke_is_not_restated() {
        let mut models = ProvinceModels::default();
        assert!(sound_restatement(&models, "H24").is_some());
        models.clusters.fold_with(7, |_| panic!("a fact nobody thought of"));
        assert!(sound_restatement(&models, "H24").is_none());
    }
}
