//! Reading back: as stored, decoded, folded, and verified.

use std::collections::HashMap;
use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::time::Instant;

use anyhow::{Result, ensure};
use httt_log::{AuditOptions, Direction, EventPosition, Filter, Log, MAX_SCAN_ENTRIES, Options, audit, scan_entries};
use serde_json::{Value, json};

use super::Bench;
use super::dataset::{Dataset, PAGE, sealer};
use super::report::{Report, Spread, number};

/// Bytes read at a time from a plain file.
const READ_BYTES: usize = 1 << 20;
/// Events asked for at a time.
const EVENTS_A_PAGE: usize = MAX_SCAN_ENTRIES;

/// Seconds, and the number of events where they are seen.
type Timed = (f64, Option<u64>);

/// A way to read: its name, what it does, and the reading itself.
struct Way {
    name: &'static str,
    note: &'static str,
    read: fn(&Dataset) -> Result<Timed>,
}

const WAYS: [Way; 7] = [
    Way { name: "plain files", note: "the chunk files read from end to end: ratio 1", read: read_files },
    Way { name: "sealed", note: "Log::read_sealed in pages: checksums checked, nothing decoded", read: read_sealed },
    Way { name: "entries", note: "Log::read in pages: every batch decoded", read: read_entries },
    Way {
        name: "events",
        note: "Log::events in pages: every event decoded, with position and feed",
        read: read_events,
    },
    Way { name: "folded", note: "Log::read, events folded into a count and a last time for each stream", read: fold },
    Way { name: "scan", note: "scan_entries: checksums checked, without the index", read: scan },
    Way { name: "verified", note: "audit: checksums, signatures, chains, stream versions, Merkle root", read: verify },
];

pub(crate) fn measure(bench: &Bench<'_>, dataset: &Dataset, report: &mut Report) -> Result<()> {
    let mut rates = vec![Vec::new(); WAYS.len()];
    let mut ratios = vec![Vec::new(); WAYS.len()];
    // One round more than is counted, so that all find the chunks in the page cache.
    for round in 0..=bench.args.rounds {
        let mut limit = 0.0;
        for (n, way) in WAYS.iter().enumerate() {
            bench.say(format!("reading: {}, round {round}/{}", way.name, bench.args.rounds));
            let (seconds, events) = (way.read)(dataset)?;
            // The first event says whose log it is.
            let wanted = dataset.events + 1;
            ensure!(events.is_none_or(|events| events == wanted), "{} gave {events:?} of {wanted} events", way.name);
            if n == 0 {
                limit = seconds;
            }
            if round > 0 {
                rates[n].push(dataset.events as f64 / seconds);
                ratios[n].push(limit / seconds);
            }
        }
    }
    let (mut json, mut rows) = (vec![], vec![]);
    for (n, way) in WAYS.iter().enumerate() {
        let (Some(rate), Some(ratio)) = (Spread::of(&rates[n]), Spread::of(&ratios[n])) else { continue };
        json.push(json!({ "way": way.name, "events_per_s": rate.to_json(), "ratio_to_plain_read": ratio.to_json() }));
        let cells = [rate.median, rate.min, rate.max].map(number);
        rows.push([way.name.to_owned()].into_iter().chain(cells).chain([format!("{:.3}", ratio.median)]).collect());
    }
    report.part(
        "read",
        Value::Array(json),
        format!(
            "Read back ({} events of {} bytes, from the page cache)",
            number(dataset.events as f64),
            dataset.payload
        ),
        &["way", "events/s", "min", "max", "ratio"],
        rows,
        WAYS.iter().map(|way| format!("{}: {}", way.name, way.note)).collect(),
    );
    Ok(())
}

/// Reads the chunk files as they are; gives the seconds.
pub(crate) fn read_files(dataset: &Dataset) -> Result<Timed> {
    let chunks = dataset.chunks()?;
    let mut buffer = vec![0; READ_BYTES];
    let began = Instant::now();
    for chunk in chunks {
        let mut file = File::open(chunk)?;
        while file.read(&mut buffer)? > 0 {
            black_box(&buffer);
        }
    }
    Ok((began.elapsed().as_secs_f64(), None))
}

/// Opens the log, times `work` on it, closes it.
fn with_log(dataset: &Dataset, work: impl FnOnce(&Log) -> Result<u64>) -> Result<Timed> {
    let (log, _) = Log::open(&dataset.dir, sealer()?, Options::default())?;
    let began = Instant::now();
    let events = work(&log)?;
    let seconds = began.elapsed().as_secs_f64();
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(log.close());
    Ok((seconds, Some(events)))
}

fn read_sealed(dataset: &Dataset) -> Result<Timed> {
    let seconds = with_log(dataset, |log| {
        let mut at = 0;
        loop {
            let entries = log.read_sealed(at, PAGE.0, PAGE.1)?;
            let Some(last) = entries.last() else { return Ok(at) };
            at = last.position + 1;
            black_box(&entries);
        }
    })?;
    // Events are not counted where nothing is decoded.
    Ok((seconds.0, None))
}

fn pages(log: &Log, mut take: impl FnMut(&httt_log::Entry)) -> Result<()> {
    let mut at = 0;
    loop {
        let entries = log.read(at, PAGE.0, PAGE.1)?;
        let Some(last) = entries.last() else { return Ok(()) };
        at = last.position + 1;
        entries.iter().for_each(&mut take);
    }
}

fn read_entries(dataset: &Dataset) -> Result<Timed> {
    let (seconds, _) = with_log(dataset, |log| {
        let mut bytes = 0;
        pages(log, |entry| bytes += black_box(&entry.bytes).len() as u64)?;
        ensure!(bytes > dataset.events * dataset.payload as u64, "only {bytes} bytes were read");
        Ok(bytes)
    })?;
    Ok((seconds, None))
}

fn read_events(dataset: &Dataset) -> Result<Timed> {
    with_log(dataset, |log| {
        let (mut at, mut events) = (EventPosition::START, 0);
        loop {
            let page = log.events(at, &Filter::default(), Direction::Forward, EVENTS_A_PAGE)?;
            events += black_box(&page.events).len() as u64;
            at = page.next;
            if !page.more {
                return Ok(events);
            }
        }
    })
}

fn fold(dataset: &Dataset) -> Result<Timed> {
    with_log(dataset, |log| {
        let mut model: HashMap<String, (u64, i64)> = HashMap::new();
        pages(log, |entry| {
            for event in &entry.batch.events {
                match model.get_mut(event.stream.as_str()) {
                    Some(state) => *state = (state.0 + 1, event.occurred_at_ms),
                    None => drop(model.insert(event.stream.clone(), (1, event.occurred_at_ms))),
                }
            }
        })?;
        Ok(model.values().map(|(events, _)| events).sum())
    })
}

fn scan(dataset: &Dataset) -> Result<Timed> {
    let began = Instant::now();
    let mut events = 0;
    for entry in scan_entries(&dataset.dir)? {
        events += entry?.batch.events.len() as u64;
    }
    Ok((began.elapsed().as_secs_f64(), Some(events)))
}

fn verify(dataset: &Dataset) -> Result<Timed> {
    let began = Instant::now();
    let report = audit(&dataset.dir, AuditOptions::default())?;
    let seconds = began.elapsed().as_secs_f64();
    ensure!(report.is_clean() && report.unchecked_own == 0, "the audit found {:?}", report.findings.first());
    Ok((seconds, Some(report.events)))
}
