//! How long entries are kept, whatever the store; and letting them go from the node's own log.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
/// So far the clock may be ahead of what was taken last, at a start.
const MAX_SILENCE_MS: i64 = 30 * DAY_MS;
/// So far it may be from where it should have come to since the start.
const MAX_JUMP_MS: i64 = 60 * 60 * 1_000;

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
            let mut steady = Steady::since(newest_ms(&log), SystemClock.now_ms());
            loop {
                match steady.now(SystemClock.now_ms()) {
                    Ok(now_ms) => look(&log, now_ms, &ages, &gone, &watched).await,
                    Err(why) => tracing::error!(why, "nothing goes by retention until this gateway is started again"),
                }
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

/// When this log took something of others last, Unix milliseconds; `None`: never. What the node itself says at a start
/// has the time of a clock that may be wrong by now.
fn newest_ms(log: &Log) -> Option<i64> {
    let taken = log.heads().into_iter().filter(|head| head.feed.origin != *log.origin());
    let newest = taken.max_by_key(|head| head.position)?;
    log.batch_committed_ms(&newest.feed, newest.head.sequence).ok().flatten()
}

/// A clock that decides what goes for good must be right: one that jumps, or that is far ahead of the log, is not
/// believed.
struct Steady {
    began: Instant,
    began_ms: i64,
    why: Option<String>,
}

impl Steady {
    fn since(newest_ms: Option<i64>, now_ms: i64) -> Self {
        let ahead = newest_ms.map_or(0, |newest| now_ms.saturating_sub(newest));
        let why = (ahead > MAX_SILENCE_MS).then(|| {
            format!(
                "the clock is {} days after what was taken last; if it is right, start once more when this \
                 gateway has taken something",
                ahead / DAY_MS
            )
        });
        Self { began: Instant::now(), began_ms: now_ms, why }
    }

    /// The time, if it went on as it should.
    fn now(&mut self, now_ms: i64) -> Result<i64, String> {
        let passed = i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX);
        let jumped = now_ms.saturating_sub(self.began_ms.saturating_add(passed));
        if jumped.saturating_abs() > MAX_JUMP_MS && self.why.is_none() {
            self.why = Some(format!("the clock jumped by {} minutes since the start", jumped / 60_000));
        }
        self.why.clone().map_or(Ok(now_ms), Err)
    }
}

async fn look(log: &Log, now_ms: i64, ages: &BTreeMap<Lane, Duration>, gone: &Gone, shutdown: &Shutdown) {
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

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    #[test]
    fn a_clock_that_jumps_is_not_believed_any_more() {
        let mut steady = Steady::since(Some(NOW - DAY_MS), NOW);
        assert_eq!(steady.now(NOW + 1_000), Ok(NOW + 1_000));
        assert!(steady.now(NOW + 400 * DAY_MS).is_err_and(|why| why.contains("jumped")));
        assert!(steady.now(NOW + 2_000).is_err(), "nor when it jumps back: what was taken in between has its time");
        assert!(Steady::since(None, NOW).now(NOW - DAY_MS).is_err());
    }

    #[test]
    fn a_clock_far_ahead_of_the_log_is_not_believed() {
        assert!(
            Steady::since(Some(NOW - 2 * MAX_SILENCE_MS), NOW).now(NOW).is_err_and(|why| why.contains("taken last"))
        );
        assert_eq!(Steady::since(Some(NOW - MAX_SILENCE_MS), NOW).now(NOW), Ok(NOW));
        assert_eq!(Steady::since(None, NOW).now(NOW), Ok(NOW), "a log without entries");
    }
}
