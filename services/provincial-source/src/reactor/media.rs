//! Fetches the files of bulletins, and offers a bulletin to its communes once everything of it is here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use httt_domain::models::PublishedBulletin;
use httt_exchange::LinkState;
use httt_feed::Digest;
use httt_node::upstream::Urgency;
use httt_wire::bulletin::BulletinOffered;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::province::{Province, derived_id, media_of};

/// Files of ordinary bulletins fetched at a time: links are thin.
const ORDINARY_AT_ONCE: usize = 3;
/// Files of emergencies fetched at a time, besides those.
const EMERGENCIES_AT_ONCE: usize = 8;
/// First pause after a failure to fetch an emergency's file, which may be on its way to the exchange just now.
const EMERGENCY_RETRY_LEAST: Duration = Duration::from_millis(100);
/// First pause after any other failure; doubled with each further one.
const RETRY_LEAST: Duration = Duration::from_secs(1);
/// Longest pause for an emergency's file: it is asked for and refused in a moment, and whoever drowns does not wait.
const EMERGENCY_RETRY_MOST: Duration = Duration::from_secs(2);
/// Longest pause for any other. A link that comes back ends it early.
const RETRY_MOST: Duration = Duration::from_secs(30);

/// One bulletin that is not offered yet.
#[derive(Debug, Clone)]
struct Job {
    bulletin: PublishedBulletin,
    not_before: Instant,
    failures: u32,
    running: bool,
}

impl Job {
    fn emergency(&self) -> bool {
        self.bulletin.content.priority.is_emergency()
    }
}

/// What became of a job.
enum End {
    Offered,
    Failed,
}

/// Fetches and offers until the models no longer follow the log.
pub(crate) async fn run(province: Province) {
    let mut positions = province.desk.models.watch();
    let mut link = province.desk.upstream.as_ref().map(|upstream| upstream.link().watch());
    let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
    let mut running: JoinSet<(String, u32, End)> = JoinSet::new();
    let (mut cursor, mut up) = (0, false);
    loop {
        positions.mark_unchanged();
        let changed = province.desk.models.read(|models| {
            let (changed, next) = models.changes.since(cursor);
            cursor = next;
            changed
                .into_iter()
                .filter_map(|id| Some((id.to_string(), models.bulletins.get(&id)?.clone())))
                .collect::<Vec<_>>()
        });
        for (id, bulletin) in changed {
            take_up(&province, &mut jobs, id, bulletin);
        }
        start_due(&province, &mut jobs, &mut running);
        let next = jobs.values().filter(|job| !job.running).map(|job| job.not_before).min();
        // A job that is due and not running waits for a place, which a job that ends makes.
        let wake = next.filter(|at| *at > Instant::now());
        tokio::select! {
            changed = positions.changed() => if changed.is_err() {
                return;
            },
            Some(ended) = running.join_next() => match ended {
                Ok((id, version, end)) => finish(&mut jobs, &id, version, &end),
                Err(error) => {
                    tracing::error!(%error, "a fetching task failed");
                    // Which one is not known; those that are still at work find their act done already.
                    jobs.values_mut().for_each(|job| job.running = false);
                }
            },
            () = sleep_until(wake) => {}
            () = came_back(&mut link, &mut up) => {
                let now = Instant::now();
                jobs.values_mut().for_each(|job| job.not_before = job.not_before.min(now));
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Completes when the link comes back; `up` is what was last seen of it.
async fn came_back(link: &mut Option<watch::Receiver<LinkState>>, up: &mut bool) {
    let Some(link) = link else { return std::future::pending().await };
    loop {
        let is = link.borrow_and_update().connected;
        if std::mem::replace(up, is) != is && is {
            return;
        }
        if link.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// Puts a bulletin that has to be offered on the list.
fn take_up(province: &Province, jobs: &mut BTreeMap<String, Job>, id: String, bulletin: PublishedBulletin) {
    if let (Some(digest), Some(media)) = (media_of(&bulletin.content), &bulletin.content.media) {
        province.shelf.describe(digest, &media.content_type);
    }
    let over = !province.concerns(&bulletin) || !bulletin.playable(province.desk.now_ms());
    if over || is_offered(province, &bulletin) {
        jobs.remove(&id);
        return;
    }
    if jobs.get(&id).is_some_and(|job| job.bulletin.version == bulletin.version) {
        return;
    }
    jobs.insert(id, Job { bulletin, not_before: Instant::now(), failures: 0, running: false });
}

/// Whether this version was offered, and its file, if it has one, is still known to be here or was never missed.
fn is_offered(province: &Province, bulletin: &PublishedBulletin) -> bool {
    let here = media_of(&bulletin.content).is_none_or(|digest| province.shelf.knows(digest));
    here && match province.desk.node.log.event(offer_id(province, bulletin)) {
        Ok(found) => found.is_some(),
        Err(error) => {
            tracing::warn!(%error, "the log cannot be asked whether a bulletin was offered");
            false
        }
    }
}

fn offer_id(province: &Province, bulletin: &PublishedBulletin) -> uuid::Uuid {
    derived_id(&[province.own(), "offered", &bulletin.bulletin, &bulletin.version.to_string()])
}

fn start_due(province: &Province, jobs: &mut BTreeMap<String, Job>, running: &mut JoinSet<(String, u32, End)>) {
    for bulletin in take_due(jobs, Instant::now()) {
        let province = province.clone();
        running.spawn(async move {
            let end = work(&province, &bulletin).await;
            (bulletin.bulletin.clone(), bulletin.version, end)
        });
    }
}

/// The bulletins to begin with now, which then count as running: emergencies first, in places that nothing else takes,
/// then those that are due the longest.
fn take_due(jobs: &mut BTreeMap<String, Job>, now: Instant) -> Vec<PublishedBulletin> {
    let mut begun = Vec::new();
    for (emergency, at_once) in [(true, EMERGENCIES_AT_ONCE), (false, ORDINARY_AT_ONCE)] {
        let busy = jobs.values().filter(|job| job.running && job.emergency() == emergency).count();
        let due = |job: &&mut Job| !job.running && job.not_before <= now && job.emergency() == emergency;
        let mut waiting: Vec<&mut Job> = jobs.values_mut().filter(due).collect();
        waiting.sort_by_key(|job| (job.not_before, job.bulletin.published_at_ms));
        for job in waiting.into_iter().take(at_once.saturating_sub(busy)) {
            job.running = true;
            begun.push(job.bulletin.clone());
        }
    }
    begun
}

/// How long to wait after so many failures before the last.
fn pause(emergency: bool, failures: u32) -> Duration {
    let (least, most) =
        if emergency { (EMERGENCY_RETRY_LEAST, EMERGENCY_RETRY_MOST) } else { (RETRY_LEAST, RETRY_MOST) };
    least.saturating_mul(1 << failures.min(8)).min(most)
}

fn finish(jobs: &mut BTreeMap<String, Job>, id: &str, version: u32, end: &End) {
    // A correction may have taken the job's place meanwhile.
    let Some(job) = jobs.get_mut(id).filter(|job| job.bulletin.version == version) else { return };
    match end {
        End::Offered => {
            jobs.remove(id);
        }
        End::Failed => {
            job.running = false;
            job.not_before = Instant::now() + pause(job.emergency(), job.failures);
            job.failures = job.failures.saturating_add(1);
        }
    }
}

async fn work(province: &Province, bulletin: &PublishedBulletin) -> End {
    let urgency = if bulletin.content.priority.is_emergency() { Urgency::AtOnce } else { Urgency::InTurn };
    if let Some(digest) = media_of(&bulletin.content)
        && !province.shelf.holds(Some(digest)).await
        && !fetch(province, &bulletin.bulletin, digest, urgency).await
    {
        return End::Failed;
    }
    let communes: BTreeSet<String> =
        bulletin.content.communes_within(province.areas, &province.home).into_iter().collect();
    let offered = BulletinOffered { bulletin: bulletin.bulletin.clone(), communes: communes.into_iter().collect() };
    let Some(event) = province.delivery_event(bulletin, &offered) else { return End::Offered };
    match province.append_once(event.with_id(offer_id(province, bulletin))).await {
        Ok(_) => {
            tracing::info!(bulletin = bulletin.bulletin, version = bulletin.version, "offered to its communes");
            End::Offered
        }
        Err(error) => {
            tracing::warn!(bulletin = bulletin.bulletin, %error, "the offer was not written; it is tried again");
            End::Failed
        }
    }
}

async fn fetch(province: &Province, bulletin: &str, digest: Digest, urgency: Urgency) -> bool {
    let Some(upstream) = &province.desk.upstream else { return false };
    match upstream.fetch_media(digest, urgency).await {
        Ok(()) => province.shelf.holds(Some(digest)).await,
        Err(error) => {
            tracing::debug!(bulletin, %digest, %error, "the media file did not come; it is tried again");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use httt_domain::bulletin::{Content, Priority};

    fn job(id: &str, priority: Priority, not_before: Instant) -> (String, Job) {
        let bulletin = PublishedBulletin {
            bulletin: id.to_owned(),
            publisher: "TW".into(),
            version: 1,
            content: Content { priority, ..Content::default() },
            author: String::new(),
            approver: String::new(),
            published_at_ms: 0,
            changed_at_ms: 0,
            sequence: 1,
            withdrawn: None,
        };
        (id.to_owned(), Job { bulletin, not_before, failures: 0, running: false })
    }

    #[test]
    fn an_emergency_that_failed_is_tried_again_within_two_seconds() {
        assert_eq!(pause(true, 0), Duration::from_millis(100));
        assert!((0..100).all(|failures| pause(true, failures) <= Duration::from_secs(2)));
        assert_eq!((pause(false, 0), pause(false, 100)), (Duration::from_secs(1), Duration::from_secs(30)));
    }

    #[test]
    fn an_emergency_never_waits_behind_ordinary_files() {
        let now = Instant::now();
        let ids = |begun: Vec<PublishedBulletin>| begun.into_iter().map(|one| one.bulletin).collect::<Vec<_>>();
        let mut jobs: BTreeMap<String, Job> =
            (0..20).map(|number| job(&format!("b{number:02}"), Priority::Ordinary, now)).collect();
        assert_eq!(ids(take_due(&mut jobs, now)).len(), ORDINARY_AT_ONCE);
        assert!(take_due(&mut jobs, now).is_empty(), "every place for ordinary files is taken");
        jobs.extend([job("e1", Priority::Emergency, now), job("p1", Priority::Priority, now)]);
        assert_eq!(ids(take_due(&mut jobs, now)), ["e1"]);

        // Both at once: the emergency begins first.
        let mut jobs: BTreeMap<String, Job> =
            [job("b1", Priority::Ordinary, now), job("e1", Priority::Emergency, now)].into();
        assert_eq!(ids(take_due(&mut jobs, now)), ["e1", "b1"]);

        // Neither does one that is due wait behind those that failed a moment ago.
        let soon = now + Duration::from_secs(1);
        let mut jobs: BTreeMap<String, Job> =
            (0..20).map(|number| job(&format!("e{number:02}"), Priority::Emergency, soon)).collect();
        jobs.extend([job("e99", Priority::Emergency, now)]);
        assert_eq!(ids(take_due(&mut jobs, now)), ["e99"]);
    }
}
