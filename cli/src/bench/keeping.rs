//! What a log costs to keep: bytes, memory, opening, building its index anew.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use httt_log::{IndexState, Log, OpenReport, Options, scan_entries};
use httt_wire::Message as _;
use serde_json::{Value, json};

use super::Bench;
use super::dataset::{Dataset, Sample, sealer};
use super::report::{Report, Spread, number};

/// Rounds of what takes long.
const MAX_SLOW_ROUNDS: usize = 3;

/// Bytes that the file system gave to everything under `path`.
fn allocated(path: &Path) -> Result<u64> {
    let data = fs::symlink_metadata(path)?;
    let mut bytes = data.blocks() * 512;
    if data.is_dir() {
        for item in fs::read_dir(path)? {
            bytes += allocated(&item?.path())?;
        }
    }
    Ok(bytes)
}

pub(crate) fn disk(dataset: &Dataset, report: &mut Report) -> Result<()> {
    let payload = dataset.events * dataset.payload as u64;
    let mut encoded = 0;
    for entry in scan_entries(&dataset.dir)? {
        encoded += entry?.batch.events.iter().map(|event| event.encoded_len() as u64).sum::<u64>();
    }
    let chunks = allocated(&dataset.dir.join("chunks"))?;
    let all = allocated(&dataset.dir)?;
    let (mut json, mut rows) = (vec![], vec![]);
    for (name, bytes) in [("chunks", chunks), ("all", all)] {
        let (to_payload, to_encoded) = (bytes as f64 / payload as f64, bytes as f64 / encoded as f64);
        let value = json!({ "bytes": bytes, "ratio_to_payload": to_payload, "ratio_to_encoded_events": to_encoded });
        json.push((name.to_owned(), value));
        rows.push(vec![name.to_owned(), number(bytes as f64), format!("{to_payload:.3}"), format!("{to_encoded:.3}")]);
    }
    json.push(("payload_bytes".to_owned(), payload.into()));
    json.push(("encoded_event_bytes".to_owned(), encoded.into()));
    report.part(
        "disk",
        Value::Object(json.into_iter().collect()),
        format!("Disk ({} events of {} bytes)", number(dataset.events as f64), dataset.payload),
        &["what", "bytes", "to payload", "to encoded events"],
        rows,
        vec![format!(
            "payload {} bytes; encoded events {} bytes: id, stream, version, type and time beside the payload",
            number(payload as f64),
            number(encoded as f64)
        )],
    );
    Ok(())
}

/// Opens and closes; gives what opening took and said.
fn open_once(dataset: &Dataset) -> Result<(f64, OpenReport)> {
    let began = Instant::now();
    let (log, report) = Log::open(&dataset.dir, sealer()?, Options::default())?;
    let seconds = began.elapsed().as_secs_f64();
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(log.close());
    Ok((seconds, report))
}

pub(crate) fn open(bench: &Bench<'_>, dataset: &Dataset, report: &mut Report) -> Result<()> {
    let mut seconds = Vec::new();
    for round in 0..bench.args.rounds {
        bench.say(format!("opening {}/{}", round + 1, bench.args.rounds));
        let (took, opened) = open_once(dataset)?;
        ensure!(matches!(opened.index, IndexState::Kept { .. }), "the index was not kept: {:?}", opened.index);
        seconds.push(took);
    }
    let Some(spread) = Spread::of(&seconds) else { return Ok(()) };
    let cells = [spread.median, spread.min, spread.max].map(|value| format!("{value:.4}"));
    report.part(
        "open",
        json!({ "seconds": spread.to_json(), "events": dataset.events }),
        format!("Opening with a good index ({} events)", number(dataset.events as f64)),
        &["", "seconds", "min", "max"],
        vec![["open".to_owned()].into_iter().chain(cells).collect()],
        vec![],
    );
    Ok(())
}

pub(crate) fn rebuild(bench: &Bench<'_>, dataset: &Dataset, report: &mut Report) -> Result<()> {
    let rounds = bench.args.rounds.min(MAX_SLOW_ROUNDS);
    let (mut rates, mut ratios) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        bench.say(format!("rebuilding the index {}/{rounds}", round + 1));
        let (limit, _) = super::reading::read_files(dataset)?;
        fs::remove_dir_all(dataset.dir.join("index"))?;
        let (took, opened) = open_once(dataset)?;
        ensure!(matches!(opened.index, IndexState::Rebuilt { .. }), "the index was not rebuilt: {:?}", opened.index);
        rates.push(dataset.events as f64 / took);
        ratios.push(limit / took);
    }
    let (Some(rate), Some(ratio)) = (Spread::of(&rates), Spread::of(&ratios)) else { return Ok(()) };
    let cells = [rate.median, rate.min, rate.max].map(number);
    report.part(
        "rebuild",
        json!({ "events_per_s": rate.to_json(), "ratio_to_plain_read": ratio.to_json() }),
        format!("Index built anew from the chunks ({} events)", number(dataset.events as f64)),
        &["", "events/s", "min", "max", "ratio"],
        vec![["rebuild".to_owned()].into_iter().chain(cells).chain([format!("{:.3}", ratio.median)]).collect()],
        vec!["ratio: to reading the chunk files and nothing else".into()],
    );
    Ok(())
}

pub(crate) fn memory(bench: &Bench<'_>, dataset: &Dataset, report: &mut Report) -> Result<()> {
    let (mut json, mut rows) = (vec![], vec![]);
    let mut add = |name: String, sample: &Sample| {
        let mib = |kib: u64| kib as f64 / 1024.0;
        json.push(json!({
            "when": name, "events": sample.events,
            "rss_mib": mib(sample.rss_kib), "peak_mib": mib(sample.peak_kib),
        }));
        rows.push(vec![name, number(mib(sample.rss_kib)), number(mib(sample.peak_kib))]);
    };
    for percent in [10, 25, 50, 75, 100] {
        let reached = |sample: &&Sample| sample.events * 100 >= dataset.events * percent;
        if let Some(sample) = dataset.samples.iter().find(reached) {
            add(format!("appended {percent} %"), sample);
        }
    }
    for sample in dataset.read_elsewhere(bench)? {
        add("opened anew and read through".into(), &sample);
    }
    report.part(
        "memory",
        Value::Array(json),
        format!("Resident memory, MiB (a process of its own, {} events)", number(dataset.events as f64)),
        &["when", "VmRSS", "VmHWM"],
        rows,
        vec!["includes the events that wait to be committed and the pool their payloads are cut from (4 MiB)".into()],
    );
    Ok(())
}
