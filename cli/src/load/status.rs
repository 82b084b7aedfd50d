//! A fleet's days, told upward.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow, ensure};
use httt_domain::accounts::{Actor, Role};
use httt_domain::area::Areas;
use httt_domain::cluster::{
    CLUSTERS_STREAM, NewCluster, OrdinalSet, PlayedTracker, RESTATE_EVERY_MS, Register, StatusTracker, decode_deltas,
};
use httt_domain::schedule::DELIVERY_STREAM;
use httt_feed::Lane;
use httt_log::Transaction;
use httt_provincial_source::DevicesConfig;
use httt_wire::cluster::ClusterStatusChanged;
use uuid::Builder;

use super::StatusArgs;
use super::fleet::{self, Cluster, DAY_S, REPORT_EVERY_S};
use super::random::Random;
use super::upward::{Asking, LaneFigures, OWN, Upward};

/// Midnight of the first day, Unix ms.
const MIDNIGHT_MS: i64 = 1_790_010_000_000;
/// Virtual time before midnight in which the fleet settles; nothing of it is counted.
const SETTLING_S: u32 = 3_600;
/// The province whose communes the clusters hang in: Hải Phòng.
const AREA: &str = "31";

/// What went up.
#[derive(Debug, Default)]
pub(crate) struct Day {
    pub(crate) tick_ms: u64,
    /// Reports of devices.
    pub(crate) reports: u64,
    /// Bytes of a report as JSON, on average over one report of each cluster.
    pub(crate) report_bytes: f64,
    /// Changes of one cluster's status.
    pub(crate) transitions: u64,
    /// Ticks in which nothing had changed.
    pub(crate) silent_ticks: u64,
    pub(crate) lanes: BTreeMap<Lane, LaneFigures>,
    /// Of these, what the daily restatement took.
    pub(crate) restated_wire_bytes: u64,
    pub(crate) asking: Asking,
    /// Whether a reader that began at the restatement knows what the province knows.
    pub(crate) reader_agrees: bool,
}

struct Province {
    register: Vec<NewCluster>,
    tracker: StatusTracker,
    played: PlayedTracker,
    upward: Upward,
    offline_after_ms: i64,
    random: Random,
    day: Day,
}

/// Simulates.
pub(crate) async fn run(args: &StatusArgs) -> Result<Day> {
    let settings = DevicesConfig::default();
    let tick_ms = args.tick_ms.unwrap_or(settings.status_tick_ms);
    let mut province = Province::open(args, &settings).await?;
    let mut clusters = fleet::day(args.seed, u32::MAX, args.clusters);
    let mut due = by_second(&clusters);
    let (mut next_tick_ms, mut restated_ms) = (0, None);
    // Seconds since the fleet began to settle.
    for second in 0..SETTLING_S + args.hours * 3_600 {
        let since_midnight = i64::from(second) - i64::from(SETTLING_S);
        let now_ms = MIDNIGHT_MS + since_midnight * 1_000;
        let of_day = (since_midnight.rem_euclid(i64::from(DAY_S))) as u32;
        if since_midnight >= 0 && of_day == 0 {
            let day = (since_midnight / i64::from(DAY_S)) as u32;
            clusters = fleet::day(args.seed, day, args.clusters);
            due = by_second(&clusters);
        }
        province.upward.counts = since_midnight >= 0;
        province.hear(&clusters, &due[(of_day % REPORT_EVERY_S) as usize], of_day, now_ms);
        province.note_plays(&clusters, of_day, since_midnight)?;
        while next_tick_ms <= u64::from(second) * 1_000 {
            next_tick_ms += tick_ms;
            if since_midnight >= 0 && restated_ms.is_none_or(|at_ms| now_ms - at_ms >= RESTATE_EVERY_MS) {
                province.restate(now_ms).await?;
                restated_ms = Some(now_ms);
            }
            province.tick(now_ms).await?;
        }
    }
    province.measure_reports(&clusters)?;
    province.end(tick_ms).await
}

/// Who reports in which second of a minute.
fn by_second(clusters: &[Cluster]) -> Vec<Vec<usize>> {
    let mut due = vec![Vec::new(); REPORT_EVERY_S as usize];
    for (index, cluster) in clusters.iter().enumerate() {
        due[cluster.second as usize].push(index);
    }
    due
}

impl Province {
    async fn open(args: &StatusArgs, settings: &DevicesConfig) -> Result<Self> {
        let areas = Areas::in_force_2025();
        let communes: Vec<_> =
            areas.communes_of(AREA).iter().map(|area| (area.code.clone(), area.name.clone())).collect();
        let mut register = fleet::register(args.seed, args.clusters, &communes);
        // Serial numbers are drawn: the few that come twice are no second cluster.
        let mut seen = std::collections::BTreeSet::new();
        for cluster in &mut register {
            while !seen.insert(cluster.imei.clone()) {
                let next = cluster.imei.parse::<u64>()? + 1;
                cluster.imei = format!("{next:015}");
            }
        }
        let actor = Actor { account: "load", role: Role::Operator, area: AREA };
        let events = Register::default()
            .decide(&register, &actor, areas, AREA)
            .map_err(|refusals| anyhow!("the fleet cannot be registered: {}", refusals.vi()))?;
        let mut upward = Upward::open(args.seed)?;
        let at_ms = MIDNIGHT_MS - i64::from(SETTLING_S) * 1_000;
        for event in &events {
            let event = upward.event(at_ms, Lane::Status, CLUSTERS_STREAM, event)?;
            upward.commit(at_ms, Transaction::append([event])).await?;
        }
        Ok(Self {
            register,
            tracker: StatusTracker::default(),
            played: PlayedTracker::default(),
            upward,
            offline_after_ms: i64::try_from(settings.offline_after_ms)?,
            random: Random::new(args.seed, 0x4EA2D),
            day: Day::default(),
        })
    }

    fn hear(&mut self, clusters: &[Cluster], due: &[usize], of_day: u32, now_ms: i64) {
        for cluster in due.iter().map(|index| &clusters[*index]) {
            if let Some(activity) = cluster.reports(of_day, &mut self.random) {
                self.tracker.heard(cluster.ordinal, activity, now_ms);
                self.day.reports += u64::from(self.upward.counts);
            }
        }
    }

    /// Devices tell at once what they start; what is the ministry's goes up.
    fn note_plays(&mut self, clusters: &[Cluster], of_day: u32, since_midnight: i64) -> Result<()> {
        for cluster in clusters {
            for item in cluster.starts(of_day) {
                let day = since_midnight.div_euclid(i64::from(DAY_S));
                let number = u8::try_from(item)?;
                let id = Builder::from_unix_timestamp_millis(u64::try_from(MIDNIGHT_MS + day * 7)?, &[number; 10]);
                self.played.record(&id.into_uuid().to_string(), cluster.ordinal);
            }
        }
        Ok(())
    }

    async fn tick(&mut self, now_ms: i64) -> Result<()> {
        let mut silent = true;
        while let Some(changed) = self.tracker.tick(now_ms, self.offline_after_ms) {
            silent = false;
            self.day.transitions += if self.upward.counts { named(&changed)? } else { 0 };
            let event = self.upward.event(now_ms, Lane::Status, CLUSTERS_STREAM, &changed)?;
            self.upward.commit(now_ms, Transaction::append([event])).await?;
        }
        self.day.silent_ticks += u64::from(silent && self.upward.counts);
        for played in self.played.drain() {
            let stream = format!("{DELIVERY_STREAM}{}", played.bulletin);
            let event = self.upward.event(now_ms, Lane::Report, &stream, &played)?;
            self.upward.commit(now_ms, Transaction::append([event])).await?;
        }
        Ok(())
    }

    async fn restate(&mut self, now_ms: i64) -> Result<()> {
        let restatement = self.upward.own.restatement(OWN);
        let mut events = Vec::new();
        for event in &restatement.registered {
            events.push(self.upward.event(now_ms, Lane::Status, CLUSTERS_STREAM, event)?);
        }
        for event in &restatement.statuses {
            events.push(self.upward.event(now_ms, Lane::Status, CLUSTERS_STREAM, event)?);
        }
        let sent = |upward: &Upward| upward.lanes.get(&Lane::Status).map_or(0, |lane| lane.wire_bytes);
        let before = sent(&self.upward);
        self.upward.commit(now_ms, Transaction::append(events).restating()).await?;
        self.day.restated_wire_bytes += sent(&self.upward) - before;
        Ok(())
    }

    fn measure_reports(&mut self, clusters: &[Cluster]) -> Result<()> {
        let mut bytes = 0;
        for (cluster, registered) in clusters.iter().zip(&self.register) {
            // Each at another moment of the day.
            let at_s = self.random.between(0, DAY_S);
            let Some(activity) = cluster.reports(at_s, &mut self.random) else { continue };
            let report = fleet::report(registered, activity, &mut self.random)?;
            ensure!(report.activity == activity, "a report reads otherwise than it was written");
            bytes += serde_json::to_vec(&report)?.len();
            self.day.report_bytes += 1.0;
        }
        self.day.report_bytes = bytes as f64 / self.day.report_bytes.max(1.0);
        Ok(())
    }

    async fn end(self, tick_ms: u64) -> Result<Day> {
        let Self { upward, mut day, .. } = self;
        let reader = upward.reader.as_ref().context("nothing was restated")?;
        day.tick_ms = tick_ms;
        day.reader_agrees = *reader == upward.own;
        day.lanes = upward.lanes.clone();
        day.asking = upward.asking;
        upward.close().await;
        Ok(day)
    }
}

/// How many clusters a change names.
fn named(changed: &ClusterStatusChanged) -> Result<u64> {
    let mut clusters = OrdinalSet::default();
    for list in [&changed.offline, &changed.idle, &changed.playing, &changed.paused] {
        decode_deltas(list)?.into_iter().for_each(|ordinal| {
            clusters.insert(ordinal);
        });
    }
    Ok(clusters.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(clusters: u32, hours: u32) -> StatusArgs {
        StatusArgs { clusters, hours, seed: 3, tick_ms: Some(60_000), json: true }
    }

    #[tokio::test]
    async fn a_reader_that_begins_at_the_restatement_knows_the_fleet_in_the_end() {
        let day = run(&args(80, 7)).await.expect("runs");
        assert!(day.reader_agrees);
        assert!(day.transitions > 100, "{day:?}");
        assert!(day.reports > 80 * 7 * 50, "{day:?}");
        let status = day.lanes[&Lane::Status];
        assert!(status.batches + day.silent_ticks >= 7 * 60, "{day:?}");
        assert!(status.wire_bytes < status.sealed_bytes, "{day:?}");
        assert!(day.lanes[&Lane::Report].events > 0, "{day:?}");
        assert!(day.restated_wire_bytes > 0 && day.restated_wire_bytes < status.wire_bytes, "{day:?}");
    }

    #[tokio::test]
    async fn the_same_seed_gives_the_same_figures() {
        let figures = |day: &Day| (day.reports, day.transitions, day.silent_ticks, day.lanes[&Lane::Status].batches);
        let (one, other) = (run(&args(40, 2)).await.expect("runs"), run(&args(40, 2)).await.expect("runs"));
        assert_eq!(figures(&one), figures(&other));
    }
}
