//! How long entries are kept, whatever the store; and letting them go from the node's own log.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use httt_feed::Lane;
use httt_log::{Clock as _, LaneGone, Log, SystemClock, ThinReport};
use httt_node::metrics::{Kind, Metrics};
use httt_node::shutdown::Shutdown;
use serde::Deserialize;

/// Longest retention, days: ten years.
const MAX_AGE_DAYS: u64 = 3_660;
/// One day.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Pause between two looks for what is old. Ages are days, so this is often enough.
const LOOK_EVERY: Duration = Duration::from_secs(60 * 60);

/// Days that entries are kept, by lane. Directory and report are kept for good: the one verifies everything, the other
/// has the receipts, by which a gateway knows what it has taken.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaxAgeDays {
    /// Emergency bulletins.
    pub emergency: u64,
    /// Bulletins.
    pub content: u64,
    /// Status.
    pub status: u64,
}

impl MaxAgeDays {
    /// How long entries of a lane are kept; a lane that is not here: for good.
    ///
    /// # Errors
    /// Text: the key, and what is wrong.
    pub fn ages(&self) -> Result<BTreeMap<Lane, Duration>, String> {
        let Self { emergency, content, status } = *self;
        let lanes = [(Lane::Emergency, emergency), (Lane::Content, content), (Lane::Status, status)];
        if lanes.iter().any(|(_, days)| *days > MAX_AGE_DAYS) {
            return Err(format!("max_age_days: {MAX_AGE_DAYS} at most; 0 keeps entries for good"));
        }
        Ok(lanes.into_iter().filter(|(_, days)| *days > 0).map(|(lane, days)| (lane, DAY * days as u32)).collect())
    }
}

/// Lets entries of `log` go that are older than `ages`, now and every hour until `shutdown`, and tells `metrics`.
pub(crate) fn keep(log: &Log, ages: BTreeMap<Lane, Duration>, metrics: &Metrics, shutdown: &Shutdown) {
    if ages.is_empty() {
        return;
    }
    let gone = Arc::new(Mutex::new(BTreeMap::new()));
    tell(&gone, &ages, metrics);
    let (log, stop, watched) = (log.clone(), shutdown.cancelled(), shutdown.clone());
    shutdown.spawn("retention", async move {
        let look = async {
            loop {
                look(&log, &ages, &gone, &watched).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        tokio::select! {
            () = look => {}
            () = stop => {}
        }
        Ok::<_, Infallible>(())
    });
}

type Gone = Mutex<BTreeMap<Lane, LaneGone>>;

async fn look(log: &Log, ages: &BTreeMap<Lane, Duration>, gone: &Gone, shutdown: &Shutdown) {
    let now_ms = SystemClock.now_ms();
    let before = |age: &Duration| now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let before: BTreeMap<Lane, i64> = ages.iter().map(|(lane, age)| (*lane, before(age))).collect();
    let (log, shutdown) = (log.clone(), shutdown.clone());
    let run = move || log.thin(&before, &|| !shutdown.is_triggered());
    match tokio::task::spawn_blocking(run).await {
        Ok(Ok(report)) => {
            say(&report);
            let mut gone = gone.lock().unwrap_or_else(PoisonError::into_inner);
            for (lane, went) in report.lanes {
                let so_far = gone.entry(lane).or_default();
                (so_far.entries, so_far.bytes) = (so_far.entries + went.entries, so_far.bytes + went.bytes);
            }
        }
        // What is too old stays a while longer; it is no reason to stop.
        Ok(Err(error)) => tracing::error!(%error, "old entries could not be let go; trying again in an hour"),
        Err(error) => tracing::error!(%error, "letting old entries go broke off; trying again in an hour"),
    }
}

fn say(report: &ThinReport) {
    let ThinReport { chunks, bytes, lanes, archived } = report;
    if *archived > 0 {
        tracing::warn!(archived, "archived chunks are not thinned: what is in them stays");
    }
    if chunks.is_empty() {
        tracing::debug!("nothing is too old");
        return;
    }
    let lanes: Vec<_> = lanes.iter().map(|(lane, gone)| format!("{lane} {}", gone.entries)).collect();
    tracing::info!(chunks = chunks.len(), bytes, lanes = lanes.join(", "), "old entries went; their origins have them");
}

fn tell(gone: &Arc<Gone>, ages: &BTreeMap<Lane, Duration>, metrics: &Metrics) {
    let (gone, lanes) = (Arc::clone(gone), ages.keys().copied().collect::<Vec<_>>());
    metrics.add(move |page| {
        let gone = gone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let by_lane = |figure: fn(&LaneGone) -> u64| {
            let of = |lane: &Lane| gone.get(lane).map_or(0, figure) as f64;
            lanes.iter().map(|lane| ([lane.to_string()], of(lane))).collect::<Vec<_>>()
        };
        let entries = by_lane(|gone| gone.entries);
        let help = "Entries that went by retention since the start.";
        page.metric(("httt_retention_entries_total", Kind::Counter), help, ["lane"], entries);
        let bytes = by_lane(|gone| gone.bytes);
        let help = "Bytes that entries took which went by retention since the start.";
        page.metric(("httt_retention_bytes_total", Kind::Counter), help, ["lane"], bytes);
    });
}
