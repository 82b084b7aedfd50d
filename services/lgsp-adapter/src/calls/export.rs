//! Records as other programs read them: CSV for spreadsheets, JSON lines for everything else; and their sums.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use httt_domain::device::vietnam;
use httt_node::exchange::rest::CallRecord;
use serde::{Deserialize, Serialize};

use super::files::{Dropped, Line, day_of};

/// How records are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// RFC 4180, with a head line.
    Csv,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/jsonl",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }

    /// What stands before the first record.
    pub(super) fn head(self) -> &'static str {
        match self {
            Self::Jsonl => "",
            Self::Csv => {
                "time,at_ms,client,member,address,method,route,feed,bytes_in,bytes_out,status,refusal,duration_ms\r\n"
            }
        }
    }

    /// Adds one record.
    pub(super) fn write(self, record: &CallRecord, out: &mut String) {
        match self {
            Self::Jsonl => {
                out.push_str(&serde_json::to_string(record).unwrap_or_default());
                out.push('\n');
            }
            Self::Csv => write_csv(record, out),
        }
    }
}

fn write_csv(record: &CallRecord, out: &mut String) {
    let CallRecord {
        at_ms,
        client,
        member,
        address,
        method,
        route,
        feed,
        bytes_in,
        bytes_out,
        status,
        refusal,
        duration_ms,
    } = record;
    let mut row = String::new();
    for text in [&time(*at_ms), &at_ms.to_string(), client, member, address, method, route, feed] {
        row.push_str(&cell(text));
        row.push(',');
    }
    // Writing to a string cannot fail.
    let _ = write!(row, "{bytes_in},{bytes_out},{status},{},{duration_ms}\r\n", cell(refusal));
    out.push_str(&row);
}

/// `2026-11-22T18:03:05.123+07:00`
fn time(at_ms: i64) -> String {
    let time = vietnam(at_ms);
    let (hour, minute, second, ms) = time.time().as_hms_milli();
    format!("{}T{hour:02}:{minute:02}:{second:02}.{ms:03}+07:00", time.date())
}

/// A cell: quoted where it must be, and begun with an apostrophe where a spreadsheet would take it for a formula.
fn cell(text: &str) -> String {
    let text = match text.chars().next() {
        Some('=' | '+' | '-' | '@' | '\t' | '\r') => format!("'{text}"),
        _ => text.to_owned(),
    };
    if text.contains([',', '"', '\r', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// The calls of one member on one day.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Sum {
    /// Calls.
    pub(super) calls: u64,
    /// Of these, answered with a status from 400 on, and those whose caller went away.
    pub(super) failed: u64,
    /// Of these, refused for asking too much (429).
    pub(super) over_quota: u64,
    /// Bytes of the bodies they brought.
    pub(super) bytes_in: u64,
    /// Bytes of the bodies they were answered with.
    pub(super) bytes_out: u64,
    /// Time taken, all together, ms.
    pub(super) duration_ms: u64,
    /// The longest, ms.
    pub(super) longest_ms: u64,
}

/// Sums by day and member, and how many records were lost by day.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) by_day_and_member: BTreeMap<(String, String), Sum>,
    pub(super) lost_by_day: BTreeMap<String, u64>,
}

impl Sums {
    pub(super) fn add(&mut self, line: &Line) {
        match line {
            Line::Call(record) => {
                let sum = self.by_day_and_member.entry((day_of(record.at_ms), record.member.clone())).or_default();
                sum.calls += 1;
                sum.failed += u64::from(record.status >= 400);
                sum.over_quota += u64::from(record.status == 429);
                sum.bytes_in += record.bytes_in;
                sum.bytes_out += record.bytes_out;
                sum.duration_ms += record.duration_ms;
                sum.longest_ms = sum.longest_ms.max(record.duration_ms);
            }
            Line::Dropped(Dropped { dropped, at_ms }) => {
                *self.lost_by_day.entry(day_of(*at_ms)).or_default() += dropped;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_no_formulas_and_do_not_break_out() {
        for (text, written) in [
            ("h55", "h55"),
            ("", ""),
            ("=1+2", "'=1+2"),
            ("+84", "'+84"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("=HYPERLINK(\"x\",\"y\")", "\"'=HYPERLINK(\"\"x\"\",\"\"y\"\")\""),
            ("a\r\nb", "\"a\r\nb\""),
            ("H24→TW/status", "H24→TW/status"),
        ] {
            assert_eq!(cell(text), written);
        }
    }

    #[test]
    fn a_row_has_as_many_cells_as_the_head() {
        let record = CallRecord { at_ms: 1_795_345_385_123, feed: "TW→*/content".into(), ..CallRecord::default() };
        let mut row = String::new();
        Format::Csv.write(&record, &mut row);
        let cells = |line: &str| line.split(',').count();
        assert_eq!(cells(&row), cells(Format::Csv.head()));
        assert!(row.starts_with("2026-11-22T"), "{row}");
        assert!(row.ends_with("\r\n") && row.contains("+07:00"));
        let mut line = String::new();
        Format::Jsonl.write(&record, &mut line);
        assert_eq!(serde_json::from_str::<CallRecord>(&line).expect("JSON"), record);
    }

    #[test]
    fn sums_are_by_day_and_member() {
        let mut sums = Sums::default();
        let call = |at_ms, member: &str, status, duration_ms| {
            let record = CallRecord { at_ms, member: member.into(), status, duration_ms, ..CallRecord::default() };
            Line::Call(Box::new(CallRecord { bytes_in: 3, bytes_out: 5, ..record }))
        };
        for line in [
            call(0, "H24", 200, 7),
            call(1, "H24", 429, 2),
            call(2, "H24", 409, 1),
            call(3, "H55", 200, 1),
            call(86_400_000, "H24", 200, 1),
            Line::Dropped(Dropped { dropped: 4, at_ms: 5 }),
        ] {
            sums.add(&line);
        }
        let sum = &sums.by_day_and_member[&("1970-01-01".to_owned(), "H24".to_owned())];
        let expected =
            Sum { calls: 3, failed: 2, over_quota: 1, bytes_in: 9, bytes_out: 15, duration_ms: 10, longest_ms: 7 };
        assert_eq!(*sum, expected);
        assert_eq!((sums.by_day_and_member.len(), sums.lost_by_day["1970-01-01"]), (3, 4));
    }
}
