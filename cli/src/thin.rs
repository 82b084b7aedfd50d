//! `httt log thin`: retention by hand, with the node stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::Args;
use httt_feed::Lane;
use httt_log::{Clock as _, SystemClock, ThinReport, scan_entries};
use serde_json::{Value, json};

use crate::audit::log_dir;
use crate::keep::progress;
use crate::log::lane;

/// Longest age taken, days: ten years.
const MAX_AGE_DAYS: i64 = 3_660;
const HOUR_MS: i64 = 60 * 60 * 1_000;

#[derive(Args)]
pub(crate) struct ThinArgs {
    /// The log's folder, or a node's data folder. The node must be stopped.
    dir: PathBuf,
    /// emergency, content or status, and how long entries of that lane are kept, as in status=30d or status=12h; may be
    /// given several times. A lane that is not named is kept for good, and so is what the gateway itself said.
    #[arg(long = "lane", value_name = "LANE=AGE", required = true, value_parser = lane_age)]
    lanes: Vec<(Lane, i64)>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A lane and an age in milliseconds.
fn lane_age(text: &str) -> Result<(Lane, i64)> {
    let (name, age) = text.split_once('=').context("a lane and an age are written status=30d")?;
    let (count, unit_ms) = match (age.strip_suffix('d'), age.strip_suffix('h')) {
        (Some(days), _) => (days, 24 * HOUR_MS),
        (_, Some(hours)) => (hours, HOUR_MS),
        _ => return Err(anyhow!("an age ends with d (days) or h (hours), as in 30d")),
    };
    let age = count.parse::<u32>().ok().map(|count| i64::from(count).saturating_mul(unit_ms));
    let age = age.context("an age is a whole number of days or hours, as in 30d")?;
    ensure!(age > 0, "an age is an hour at least; leave a lane out to keep it for good");
    ensure!(age <= MAX_AGE_DAYS * 24 * HOUR_MS, "an age is {MAX_AGE_DAYS} days at most");
    let lane = lane(name)?;
    // The gateway reads reports about keys again at every start; the directory verifies everything.
    let may_go = matches!(lane, Lane::Emergency | Lane::Content | Lane::Status);
    ensure!(may_go, "the lane {lane} is kept for good; lanes that may go are emergency, content and status");
    Ok((lane, age))
}

/// What went comes again from its origin through the gateway, and through nobody else: elsewhere it would be lost.
fn is_gateway(dir: &Path) -> Result<bool> {
    let mut own = None;
    for entry in scan_entries(dir)? {
        let feed = entry?.feed;
        let own = own.get_or_insert_with(|| feed.origin.clone());
        if feed.lane == Lane::Directory {
            return Ok(feed.origin == *own);
        }
    }
    Ok(false)
}

pub(crate) fn run(args: ThinArgs) -> Result<ExitCode> {
    let dir = log_dir(&args.dir);
    ensure!(
        is_gateway(&dir)?,
        "{} không phải nhật ký của sàn trao đổi: mục bị bỏ ở đây không lấy lại được (it is not a gateway's log: what went \
         from it could not be had again)",
        dir.display()
    );
    let now_ms = SystemClock.now_ms();
    let mut before = BTreeMap::new();
    for (lane, age) in args.lanes {
        ensure!(before.insert(lane, now_ms - age).is_none(), "the lane {lane} is named twice");
    }
    let (bar, on_progress) = progress()?;
    let report = httt_log::thin(&dir, &before, Some(on_progress))
        .with_context(|| format!("{} was not thinned, or not all of it", dir.display()))?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", to_json(&report));
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &ThinReport) {
    let ThinReport { chunks, bytes, lanes, archived } = report;
    println!(
        "{} mục đã hết hạn lưu giữ (entries went), {} tệp (chunks thinned), {bytes} byte",
        report.entries(),
        chunks.len()
    );
    for (lane, gone) in lanes {
        println!("  {lane}: {} entries, {} bytes", gone.entries, gone.bytes);
    }
    if *archived > 0 {
        println!("  {archived} chunks are archived and were left as they are");
    }
}

fn to_json(report: &ThinReport) -> Value {
    let lanes = report
        .lanes
        .iter()
        .map(|(lane, gone)| (lane.to_string(), json!({ "entries": gone.entries, "bytes": gone.bytes })));
    json!({
        "chunks": report.chunks,
        "entries": report.entries(),
        "bytes": report.bytes,
        "lanes": lanes.collect::<serde_json::Map<_, _>>(),
        "archived_chunks_left": report.archived,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_days_or_hours_of_a_lane() {
        assert_eq!(lane_age("status=30d").expect("days"), (Lane::Status, 30 * 24 * HOUR_MS));
        assert_eq!(lane_age("content=12h").expect("hours"), (Lane::Content, 12 * HOUR_MS));
        for (bad, says) in [
            ("status", "status=30d"),
            ("status=30", "30d"),
            ("state=3d", "lanes are"),
            ("status=-1d", "whole"),
            ("status=9999d", "at most"),
            ("status=0d", "for good"),
            ("report=1d", "for good"),
        ] {
            let error = lane_age(bad).expect_err(bad).to_string();
            assert!(error.contains(says), "{bad}: {error}");
        }
    }
}
