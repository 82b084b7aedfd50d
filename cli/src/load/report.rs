//! What a load came to, for people and for programs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::StatusArgs;
use super::status::Day;
use super::upward::{Asking, LaneFigures};

/// What HTTP/2 and TLS add to one request, estimated: HEADERS 9 + 25 with what HPACK has indexed, DATA 9 + 5 of gRPC, and
/// two TLS 1.3 records of 22. TCP and IP are left out.
const CALL_OVERHEAD_BYTES: u64 = 92;
/// What is aimed for with 4,000 clusters in 24 hours.
const AIM_BYTES: u64 = 1 << 20;

/// What was sent upward.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    clusters: u32,
    hours: u32,
    seed: u64,
    tick_ms: u64,
    device_reports: u64,
    transitions: u64,
    silent_ticks: u64,
    /// By lane.
    lanes: BTreeMap<&'static str, LaneFigures>,
    /// Of `lanes.status.wire_bytes`, what the daily restatement took.
    restatement_wire_bytes: u64,
    /// Requests that bring the receipts.
    asking: Asking,
    /// Requests of all kinds.
    requests: u64,
    /// Everything above as messages, packed.
    wire_bytes: u64,
    /// An estimate, not measured.
    http2_tls_estimate_bytes: u64,
    wire_bytes_with_estimate: u64,
    /// For 4,000 clusters and 24 hours.
    aim_bytes: u64,
    /// One report of a device as JSON, on average.
    device_report_bytes: f64,
    /// All of them, were they passed on as they come.
    forwarded_bytes: u64,
    /// Of these, per byte sent.
    ratio: f64,
    reader_agrees: bool,
    wall_ms: u64,
}

impl Report {
    pub(super) fn of(args: &StatusArgs, day: &Day, wall: Duration) -> Self {
        let requests = day.asking.requests + day.lanes.values().map(|lane| lane.pushes).sum::<u64>();
        let wire_bytes = day.asking.wire_bytes + day.lanes.values().map(|lane| lane.wire_bytes).sum::<u64>();
        let forwarded_bytes = (day.reports as f64 * day.report_bytes) as u64;
        Self {
            clusters: args.clusters,
            hours: args.hours,
            seed: args.seed,
            tick_ms: day.tick_ms,
            device_reports: day.reports,
            transitions: day.transitions,
            silent_ticks: day.silent_ticks,
            lanes: day.lanes.iter().map(|(lane, figures)| (lane.as_str(), *figures)).collect(),
            restatement_wire_bytes: day.restated_wire_bytes,
            asking: day.asking,
            requests,
            wire_bytes,
            http2_tls_estimate_bytes: requests * CALL_OVERHEAD_BYTES,
            wire_bytes_with_estimate: wire_bytes + requests * CALL_OVERHEAD_BYTES,
            aim_bytes: AIM_BYTES,
            device_report_bytes: (day.report_bytes * 10.0).round() / 10.0,
            forwarded_bytes,
            ratio: forwarded_bytes as f64 / wire_bytes.max(1) as f64,
            reader_agrees: day.reader_agrees,
            wall_ms: wall.as_millis() as u64,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} clusters, {} h, a tick every {} ms: {} reports, {} transitions, {} ticks without any",
            self.clusters, self.hours, self.tick_ms, self.device_reports, self.transitions, self.silent_ticks
        )?;
        for (lane, figures) in &self.lanes {
            writeln!(
                f,
                "  {lane:<8} {:>7} events in {:>6} batches, {:>10} B sealed; {:>6} pushes, {:>10} B on the wire",
                figures.events, figures.batches, figures.sealed_bytes, figures.pushes, figures.wire_bytes
            )?;
        }
        writeln!(f, "  of these the daily restatement: {} B", self.restatement_wire_bytes)?;
        writeln!(f, "  {} requests for receipts: {} B", self.asking.requests, self.asking.wire_bytes)?;
        writeln!(f, "sent upward: {} B", self.wire_bytes)?;
        writeln!(
            f,
            "  with HTTP/2 and TLS, estimated at {CALL_OVERHEAD_BYTES} B a request: {} B",
            self.wire_bytes_with_estimate
        )?;
        writeln!(
            f,
            "each report passed on as JSON ({} B): {} B, {:.0} times as much",
            self.device_report_bytes, self.forwarded_bytes, self.ratio
        )?;
        let agrees = if self.reader_agrees { "knows all that the province knows" } else { "DIFFERS from the province" };
        writeln!(f, "a reader that began at the restatement {agrees}")?;
        writeln!(f, "{} ms", self.wall_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use httt_feed::Lane;

    #[test]
    fn the_json_is_one_object_and_its_sums_are_right() {
        let mut day = Day { reports: 1_000, report_bytes: 500.0, reader_agrees: true, ..Day::default() };
        let figures = LaneFigures { events: 3, batches: 2, sealed_bytes: 700, pushes: 2, wire_bytes: 400 };
        day.lanes.insert(Lane::Status, figures);
        day.asking = Asking { requests: 4, wire_bytes: 100 };
        let args = StatusArgs { clusters: 1, hours: 1, seed: 1, tick_ms: None, json: true };
        let report = Report::of(&args, &day, Duration::from_millis(5));
        let json = serde_json::to_value(&report).expect("json");
        assert_eq!(json["lanes"]["status"]["wire_bytes"], 400);
        assert_eq!((&json["wire_bytes"], &json["requests"]), (&500.into(), &6.into()));
        assert_eq!(json["wire_bytes_with_estimate"], 500 + 6 * CALL_OVERHEAD_BYTES);
        assert_eq!((&json["forwarded_bytes"], &json["ratio"]), (&500_000.into(), &1_000.0.into()));
        assert!(report.to_string().contains("1000 times as much"), "{report}");
    }
}
