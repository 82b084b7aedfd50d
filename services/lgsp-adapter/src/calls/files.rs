//! The files: `2026-11-22.0001.jsonl`, a day's first part. One JSON object a line: a record, or `{"dropped":N,…}`.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use httt_domain::device::vietnam_date;
use httt_node::exchange::rest::CallRecord;
use serde::{Deserialize, Serialize};
use time::{Date, Duration};

use super::CallsConfig;

/// Longest line that is read as a record.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// Largest part of a day.
const MAX_PART_BYTES: u64 = 16 << 20;

/// Records that were not written, told in their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Dropped {
    pub(super) dropped: u64,
    pub(super) at_ms: i64,
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Line {
    Call(Box<CallRecord>),
    Dropped(Dropped),
}

impl Line {
    /// `None`: torn by a power cut, or no line of ours.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.starts_with(br#"{"dropped""#) {
            return serde_json::from_slice(text).ok().map(Self::Dropped);
        }
        serde_json::from_slice(text).ok().map(Self::Call)
    }
}

/// One part of a day.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Part {
    /// `2026-11-22`
    pub(super) day: String,
    pub(super) number: u32,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

impl Part {
    pub(super) fn path_in(dir: &Path, day: &str, number: u32) -> PathBuf {
        dir.join(format!("{day}.{number:04}.jsonl"))
    }
}

/// A day as files name it.
pub(super) fn day_of(at_ms: i64) -> String {
    vietnam_date(at_ms).to_string()
}

/// The parts in `dir`, oldest first.
pub(super) fn parts(dir: &Path) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    for item in fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".jsonl")) else { continue };
        let Some((day, number)) = name.split_once('.') else { continue };
        let (Some(day), Ok(number)) = (parse_day(day).map(|day| day.to_string()), number.parse()) else { continue };
        parts.push(Part { day, number, path: item.path(), bytes: item.metadata()?.len() });
    }
    parts.sort();
    Ok(parts)
}

/// `2026-11-22`
pub(super) fn parse_day(text: &str) -> Option<Date> {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    Date::parse(text, &format).ok()
}

/// Which of `parts` are to go: what is older than the days kept, and the oldest of what is too much. The last one, which
/// is being written, stays.
pub(super) fn overdue(parts: &[Part], now_ms: i64, config: &CallsConfig) -> Vec<Part> {
    let first = vietnam_date(now_ms).checked_sub(Duration::days(i64::from(config.keep_days) - 1));
    let first = first.map(|day| day.to_string()).unwrap_or_default();
    let mut total: u64 = parts.iter().map(|part| part.bytes).sum();
    let mut gone = Vec::new();
    for part in parts.iter().take(parts.len().saturating_sub(1)) {
        if part.day < first || total > config.keep_bytes {
            total -= part.bytes;
            gone.push(part.clone());
        }
    }
    gone
}

/// The size at which a part is full, so that letting the oldest go is enough to keep the limit.
pub(super) fn part_bytes(config: &CallsConfig) -> u64 {
    (config.keep_bytes / 8).min(MAX_PART_BYTES)
}

/// Calls `with` for each line of `part` until it says no. Lines that are none are passed over.
pub(super) fn read_lines(part: &Part, mut with: impl FnMut(Line) -> bool) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(&part.path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if let Some(line) = Line::parse(line.trim_ascii_end())
            && !with(line)
        {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn part(day: i64, number: u32, bytes: u64) -> Part {
        Part { day: day_of(day * DAY), number, path: PathBuf::new(), bytes }
    }

    #[test]
    fn old_days_go_and_then_the_oldest_of_what_is_too_much() {
        let config = CallsConfig { keep_days: 2, keep_bytes: 100 };
        let parts = [part(1, 1, 10), part(9, 1, 40), part(10, 1, 40), part(10, 2, 40)];
        assert_eq!(overdue(&parts, 10 * DAY, &config), parts[..2], "120 bytes are too much by one part");
        assert_eq!(overdue(&parts[1..3], 10 * DAY, &config), []);
        assert_eq!(overdue(&parts, 100 * DAY, &config).len(), 3, "the one being written stays");
    }

    #[test]
    fn days_are_those_of_vietnam() {
        assert_eq!(day_of(0), "1970-01-01");
        assert_eq!(day_of(17 * 3_600_000 - 1), "1970-01-01");
        assert_eq!(day_of(17 * 3_600_000), "1970-01-02");
        assert_eq!(parse_day("2026-11-22").map(|day| day.to_string()).as_deref(), Some("2026-11-22"));
        assert!(["", "2026-13-01", "22-11-2026", "2026-11-22x"].iter().all(|text| parse_day(text).is_none()));
    }

    #[test]
    fn what_is_no_record_is_passed_over() {
        let dir = tempfile::tempdir().expect("dir");
        let path = Part::path_in(dir.path(), "2026-11-22", 1);
        let record = CallRecord { at_ms: 7, client: "h55".into(), ..CallRecord::default() };
        let good = serde_json::to_string(&record).expect("JSON");
        let long = "x".repeat(50_000);
        fs::write(&path, format!("{good}\n{long}\n{{\"dropped\":3,\"at_ms\":9}}\n\u{0}\n{good}\n{{\"at_ms\":"))
            .expect("write");
        let mut lines = Vec::new();
        let parts = parts(dir.path()).expect("parts");
        read_lines(&parts[0], |line| {
            lines.push(line);
            true
        })
        .expect("reads");
        let call = Line::Call(Box::new(record));
        assert_eq!(lines, [call.clone(), Line::Dropped(Dropped { dropped: 3, at_ms: 9 }), call]);
    }
}
