//! An emergency to every province while the whole country reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bytes::Bytes;
use httt_domain::cluster::{Activity, StatusTracker};
use httt_feed::{Audience, FeedId, Lane};
use httt_log::{NewEvent, Transaction};
use serde_json::json;

use super::ExchangeArgs;
use super::rush::percentile;
use super::world::{Member, World};
use crate::bench::report::{Report, number};

/// How often a province writes what changed.
const TICK: Duration = Duration::from_secs(1);
/// One report in so many changes what a cluster is told to do.
const CHANGE_EVERY: u64 = 10;
/// A cluster that was silent for so long is offline, ms.
const OFFLINE_AFTER_MS: i64 = 180_000;
/// Seconds between two reports of one cluster.
const REPORT_EVERY: u32 = 60;
/// Pause between two emergencies, so that each meets another moment of the background.
const PAUSE: Duration = Duration::from_millis(73);

pub(super) async fn measure(world: &World, args: &ExchangeArgs, report: &mut Report) -> Result<()> {
    let (stop, heard, told) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let each = args.reports.div_ceil(args.provinces as u32);
    let background = futures_util::future::try_join_all(
        world.provinces.iter().map(|province| reports(world, province, each, &stop, &heard, &told)),
    );
    let began = Instant::now();
    let emergencies = async {
        let mut took = Vec::with_capacity(args.emergencies);
        // The background first fills its ticks.
        tokio::time::sleep(TICK).await;
        for _ in 0..args.emergencies {
            took.push(publish(world, args).await?);
            tokio::time::sleep(PAUSE).await;
        }
        stop.store(true, Ordering::Relaxed);
        anyhow::Ok(took)
    };
    let (_, mut took) = tokio::try_join!(background, emergencies)?;
    let (reports, changes) = (heard.load(Ordering::Relaxed), told.load(Ordering::Relaxed));
    let seconds = began.elapsed().as_secs_f64();
    took.sort_by(f64::total_cmp);
    let at = |part: f64| percentile(&took, part) * 1e3;
    let json = json!({
        "emergencies": took.len(),
        "latency_ms": { "p50": at(0.5), "p99": at(0.99), "max": at(1.0) },
        "device_reports_per_s": reports as f64 / seconds,
        "status_events": changes,
    });
    report.part(
        "emergency",
        json,
        format!("An emergency from the approver's commit to the disks of {} provinces", args.provinces),
        &["emergencies", "p50 ms", "p99 ms", "max ms"],
        vec![vec![took.len().to_string(), number(at(0.5)), number(at(0.99)), number(at(1.0))]],
        vec![format!(
            "meanwhile {} device reports/s, aggregated by the provinces into {changes} events, one a province and {} s",
            number(reports as f64 / seconds),
            TICK.as_secs()
        )],
    );
    Ok(())
}

/// Seconds from the commit's beginning to the last province's disk.
async fn publish(world: &World, args: &ExchangeArgs) -> Result<f64> {
    let ministry = &world.ministry;
    let feed = FeedId::new(ministry.code.clone(), Audience::All, Lane::Emergency);
    let began = Instant::now();
    ministry.say(&Audience::All, Lane::Emergency, vec![Bytes::from(vec![7; args.payload])]).await?;
    let sequence = ministry.sequence(&feed);
    futures_util::future::try_join_all(world.provinces.iter().map(|province| province.holds(&feed, sequence))).await?;
    Ok(began.elapsed().as_secs_f64())
}

/// A province's clusters report `per_s` times a second in all; what changed is written every tick.
async fn reports(
    world: &World,
    province: &Member,
    per_s: u32,
    stop: &AtomicBool,
    heard: &AtomicU64,
    told: &AtomicU64,
) -> Result<()> {
    let clusters = per_s * REPORT_EVERY;
    let audience = Arc::new(Audience::One(world.ministry.code.clone()));
    let mut tracker = StatusTracker::resume(0, []);
    let mut next = tokio::time::interval(TICK);
    let (began, mut count) = (Instant::now(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        next.tick().await;
        let now_ms = began.elapsed().as_millis() as i64 + 1;
        for _ in 0..per_s {
            let ordinal = (count % u64::from(clusters)) as u32 + 1;
            let playing = (count / CHANGE_EVERY).is_multiple_of(2);
            tracker.heard(ordinal, if playing { Activity::Playing } else { Activity::Idle }, now_ms);
            count += 1;
        }
        heard.fetch_add(u64::from(per_s), Ordering::Relaxed);
        while let Some(changed) = tracker.tick(now_ms, OFFLINE_AFTER_MS) {
            let event = NewEvent::of(audience.as_ref().clone(), Lane::Status, "clusters", &changed);
            province.log.commit(Transaction::append([event])).await?;
            told.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}
