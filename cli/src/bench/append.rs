//! Appending: every store, every shape, round after round, so that the disk's moods hit all alike.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::nats::Nats;
use super::ours::OurLog;
use super::plain::PlainFile;
use super::postgres::Postgres;
use super::report::{Report, Spread, number};
use super::shape::Shape;
use super::sled_tree::SledTree;
use super::umadb::UmaDb;
use super::work::{MAX_EVENTS_PER_RUN, Source, Store, Work};
use super::{Bench, Peer};

/// Commits of each task in the first run, which tells how fast a case is and is not counted.
const WARM_UP_COMMITS: usize = 4;

/// A store at a shape.
struct Case {
    store: usize,
    shape: Shape,
    payload: usize,
    rate: f64,
    rates: Vec<f64>,
    ratios: Vec<f64>,
    groups: Vec<f64>,
}

impl Case {
    /// As many commits as take about `seconds`.
    fn work(&self, seconds: f64) -> Work {
        let per_round = self.shape.tasks() * self.shape.events;
        let wanted = (self.rate * seconds / per_round as f64).ceil() as usize;
        let commits = wanted.clamp(1, (MAX_EVENTS_PER_RUN / per_round).max(1));
        Work { shape: self.shape, payload: self.payload, commits }
    }
}

pub(crate) fn measure(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let args = bench.args;
    let mut source = Source::new()?;
    let mut stores: Vec<Box<dyn Store>> = vec![
        Box::new(PlainFile::growing(bench.dir)),
        Box::new(PlainFile::filled(bench.dir)),
        Box::new(OurLog::new(bench.dir)?),
        Box::new(SledTree::new(bench.dir)),
    ];
    for peer in &args.peer {
        bench.say(format!("starting {peer:?}"));
        stores.push(match peer {
            Peer::Umadb => Box::new(UmaDb::start(bench.dir)?),
            Peer::Nats => Box::new(Nats::start(bench.dir)?),
            Peer::Postgres => Box::new(Postgres::start(bench.dir)?),
        });
    }
    let mut cases = Vec::new();
    for payload in args.payload.iter().copied() {
        for shape in args.shape.iter().copied() {
            let new = |store| Case { store, shape, payload, rate: 0.0, rates: vec![], ratios: vec![], groups: vec![] };
            cases.extend((0..stores.len()).map(new));
        }
    }
    let groups = cases.len() / stores.len();
    let total = cases.len() * (args.rounds + 1);
    let mut done = 0;
    for round in 0..=args.rounds {
        for group in 0..groups {
            let cases = &mut cases[group * stores.len()..][..stores.len()];
            let mut rates = vec![0.0; cases.len()];
            // Whoever follows a given store inherits what that left to the disk, so each round begins with another.
            for turn in 0..rates.len() {
                let n = (turn + round) % rates.len();
                let (case, store) = (&mut cases[n], &mut stores[n]);
                let (name, shape, payload) = (store.name(), case.shape.name, case.payload);
                done += 1;
                bench.say(format!("append {done}/{total}: {name}, {shape}, {payload} bytes"));
                let warm_up = Work { shape: case.shape, payload, commits: WARM_UP_COMMITS };
                let work = if round == 0 { warm_up } else { case.work(args.seconds) };
                let measured =
                    store.run(&mut source, work).with_context(|| format!("{name}, {shape}, {payload} bytes"))?;
                settle(bench.dir)?;
                rates[n] = measured.rate();
                case.rate = measured.rate();
                if round > 0 {
                    let groups = measured.groups.map(|groups| measured.events as f64 / groups.max(1) as f64);
                    case.groups.extend(groups);
                }
            }
            if round > 0 {
                for (case, rate) in cases.iter_mut().zip(&rates) {
                    case.rates.push(*rate);
                    // The plain file is the first store.
                    case.ratios.push(rate / rates[0]);
                }
            }
        }
    }
    let (json, rows) = results(&stores, &cases);
    let notes = stores.iter().map(|store| format!("{}: {}", store.name(), store.note())).collect();
    let head = ["clients × events a commit", "bytes", "store", "events/s", "min", "max", "ratio", "events/group"];
    report.part("append", json, "Append (median over the rounds; ratio to the plain file)", &head, rows, notes);
    Ok(())
}

/// Lets what one case left to write reach the disk before the next is measured.
fn settle(dir: &Path) -> Result<()> {
    let synced = Command::new("sync").arg("--file-system").arg(dir).status().context("cannot run sync")?;
    anyhow::ensure!(synced.success(), "sync failed");
    Ok(())
}

fn results(stores: &[Box<dyn Store>], cases: &[Case]) -> (Value, Vec<Vec<String>>) {
    let (mut json, mut rows) = (Vec::new(), Vec::new());
    for case in cases {
        let store = &stores[case.store];
        let (Some(rate), Some(ratio)) = (Spread::of(&case.rates), Spread::of(&case.ratios)) else { continue };
        let group = Spread::of(&case.groups).map(|group| group.median);
        json.push(json!({
            "shape": case.shape.name,
            "clients": case.shape.clients,
            "in_flight": case.shape.in_flight,
            "events_per_commit": case.shape.events,
            "payload_bytes": case.payload,
            "store": store.name(),
            "durable": store.durable(),
            "events_per_s": rate.to_json(),
            "ratio": ratio.to_json(),
            "events_per_group": group,
        }));
        rows.push(vec![
            case.shape.words(),
            case.payload.to_string(),
            format!("{}{}", store.name(), if store.durable() { "" } else { " (not durable)" }),
            number(rate.median),
            number(rate.min),
            number(rate.max),
            format!("{:.2}", ratio.median),
            group.map(number).unwrap_or_default(),
        ]);
    }
    (Value::Array(json), rows)
}
