//! What the demo showed, as a table for people and one JSON object for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

/// Emergency latency from approval to durable in every province.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: i64,
    pub(crate) max_ms: i64,
}

/// Bulletins by what became of them, summed over provinces or clusters.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct BulletinCounts {
    pub(crate) published: u64,
    /// Bulletin × province.
    pub(crate) delivered: u64,
    /// Bulletin × commune.
    pub(crate) scheduled: u64,
    /// Bulletin × cluster.
    pub(crate) played: u64,
}

#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct ReportCounts {
    pub(crate) accepted: u64,
    pub(crate) refused: u64,
    pub(crate) summaries: u64,
}

#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct EmergencyCounts {
    pub(crate) reached: u64,
    pub(crate) interrupted: u64,
    pub(crate) resumed: u64,
}

#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct AuditCounts {
    pub(crate) logs: u64,
    pub(crate) entries: u64,
    pub(crate) events: u64,
}

/// The demo's result.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) ok: bool,
    pub(crate) provinces: usize,
    pub(crate) communes: usize,
    pub(crate) clusters: usize,
    /// The quarter that is reported.
    pub(crate) period: String,
    pub(crate) bulletins: BulletinCounts,
    pub(crate) emergency: EmergencyCounts,
    pub(crate) emergency_latency: Latency,
    pub(crate) reports: ReportCounts,
    pub(crate) device_calls: u64,
    pub(crate) media_verified: u64,
    /// Seconds from mending gateway and cable to everything level again.
    pub(crate) converged_after_s: f64,
    pub(crate) rebuild_equal: bool,
    pub(crate) audit: String,
    pub(crate) audited: AuditCounts,
    /// Largest resident memory of a process, MiB, by service (the largest one of its kind).
    pub(crate) memory_mib: BTreeMap<String, u64>,
    pub(crate) seconds: f64,
    pub(crate) step_seconds: BTreeMap<String, f64>,
    /// What was not as it should be.
    pub(crate) failures: Vec<String>,
}

impl Summary {
    /// Notes a failure unless `holds`.
    pub(crate) fn expect(&mut self, holds: bool, what: impl Into<String>) {
        if !holds {
            self.failures.push(what.into());
        }
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let rows = [
            ("Tỉnh, thành phố (provinces)", self.provinces.to_string()),
            ("Xã, phường (communes)", self.communes.to_string()),
            ("Cụm loa (clusters)", self.clusters.to_string()),
            ("Bản tin đã phát hành (published)", self.bulletins.published.to_string()),
            ("  đã tới tỉnh (delivered)", self.bulletins.delivered.to_string()),
            ("  xã đã lên lịch (scheduled)", self.bulletins.scheduled.to_string()),
            ("  cụm loa đã phát (played)", self.bulletins.played.to_string()),
            ("Khẩn cấp: cụm loa phát (emergency reached)", self.emergency.reached.to_string()),
            ("  ngắt chương trình (interrupted)", self.emergency.interrupted.to_string()),
            ("  phát tiếp (resumed)", self.emergency.resumed.to_string()),
            (
                "Khẩn cấp: duyệt → lưu tại mọi tỉnh (latency)",
                format!("p50 {} ms, max {} ms", self.emergency_latency.p50_ms, self.emergency_latency.max_ms),
            ),
            (
                "Báo cáo (reports)",
                format!("{} nhận (accepted), {} trả lại (refused)", self.reports.accepted, self.reports.refused),
            ),
            ("Hội tụ sau sự cố (converged after)", format!("{:.1} s", self.converged_after_s)),
            ("Lượt gọi của thiết bị (device calls)", self.device_calls.to_string()),
            ("Tệp âm thanh đã kiểm (media verified)", self.media_verified.to_string()),
            ("Dựng lại bằng bản đang chạy (rebuild equal)", yes(self.rebuild_equal)),
            (
                "Kiểm toán nhật ký (audit)",
                format!(
                    "{}: {} nhật ký, {} mục, {} sự kiện",
                    self.audit, self.audited.logs, self.audited.entries, self.audited.events
                ),
            ),
            ("Bộ nhớ (memory, MiB)", self.memory()),
            ("Thời gian (time)", format!("{:.1} s", self.seconds)),
        ];
        let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        let mut table = String::new();
        for (name, value) in rows {
            let pad = " ".repeat(width - name.chars().count());
            // Writing to a string cannot fail.
            let _ = writeln!(table, "  {name}{pad}  {value}");
        }
        for failure in &self.failures {
            let _ = writeln!(table, "  KHÔNG ĐẠT (failed): {failure}");
        }
        let verdict = if self.ok { "ĐẠT (ok)" } else { "KHÔNG ĐẠT (failed)" };
        let _ = writeln!(table, "  Kết quả (result): {verdict}");
        table
    }

    fn memory(&self) -> String {
        self.memory_mib.iter().map(|(service, mib)| format!("{service} {mib}")).collect::<Vec<_>>().join(", ")
    }
}

fn yes(value: bool) -> String {
    if value { "có (yes)" } else { "KHÔNG (no)" }.to_owned()
}
