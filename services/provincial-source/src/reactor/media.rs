//! Fetches the files of bulletins, and offers a bulletin to its communes once everything of it is here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use httt_domain::models::PublishedBulletin;
use httt_exchange::LinkState;
use httt_feed::Digest;
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
/// Longest pause. A link that comes back ends it early.
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
            let (changed, next) = models.changes_since(cursor);
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

/// Emergencies first, then the oldest.
fn start_due(province: &Province, jobs: &mut BTreeMap<String, Job>, running: &mut JoinSet<(String, u32, End)>) {
    let now = Instant::now();
    let busy = |emergency: bool| jobs.values().filter(|job| job.running && job.emergency() == emergency).count();
    let mut places =
        [(true, EMERGENCIES_AT_ONCE.saturating_sub(busy(true))), (false, ORDINARY_AT_ONCE.saturating_sub(busy(false)))];
    for (emergency, places) in &mut places {
        let due = |job: &&mut Job| !job.running && job.not_before <= now && job.emergency() == *emergency;
        let mut waiting: Vec<&mut Job> = jobs.values_mut().filter(due).collect();
        waiting.sort_by_key(|job| (job.not_before, job.bulletin.published_at_ms));
        for job in waiting.into_iter().take(*places) {
            job.running = true;
            let (province, bulletin) = (province.clone(), job.bulletin.clone());
            running.spawn(async move {
                let end = work(&province, &bulletin).await;
                (bulletin.bulletin.clone(), bulletin.version, end)
            });
        }
    }
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
            let emergency = job.bulletin.content.priority.is_emergency();
            let least = if emergency { EMERGENCY_RETRY_LEAST } else { RETRY_LEAST };
            let pause = least.saturating_mul(1 << job.failures.min(8)).min(RETRY_MOST);
            job.failures = job.failures.saturating_add(1);
            job.not_before = Instant::now() + pause;
        }
    }
}

async fn work(province: &Province, bulletin: &PublishedBulletin) -> End {
    if let Some(digest) = media_of(&bulletin.content)
        && !province.shelf.holds(Some(digest)).await
        && !fetch(province, &bulletin.bulletin, digest).await
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

async fn fetch(province: &Province, bulletin: &str, digest: Digest) -> bool {
    let Some(upstream) = &province.desk.upstream else { return false };
    match upstream.fetch_media(digest).await {
        Ok(()) => province.shelf.holds(Some(digest)).await,
        Err(error) => {
            tracing::debug!(bulletin, %digest, %error, "the media file did not come; it is tried again");
            false
        }
    }
}
