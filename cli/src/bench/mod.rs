//! `httt bench`: what the log and the exchange do on this machine and this disk, beside what a plain file, or a plain
//! hop, does in the same run.

mod append;
mod dataset;
mod exchange;
mod keeping;
mod machine;
mod nats;
mod ours;
mod peer;
mod plain;
mod postgres;
mod reading;
mod report;
mod shape;
mod sled_tree;
mod umadb;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use dataset::{ChildArgs, Dataset};
use machine::Machine;
use report::Report;
use shape::{SHAPES, Shape};

/// Most rounds.
const MAX_ROUNDS: usize = 1_000;
/// Most events of the log that is read, rebuilt and opened.
const MAX_EVENTS: u64 = 1_000_000_000;
/// Longest time one case may take in a round.
const MAX_SECONDS: f64 = 60.0;
/// Payloads measured unless told otherwise.
const PAYLOADS: [usize; 2] = [300, 512];

#[derive(Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure the log: appending beside a plain file and other stores in one interleaved run, reading, rebuilding the
    /// index, opening, disk and memory. Each figure comes with its ratio to the plain file of the same run.
    Log(LogArgs),
    /// Measure the exchange: real sockets, mutual TLS, a log on disk for every node, beside a plain hop in the same run.
    Exchange(exchange::ExchangeArgs),
    /// A part of `bench log` that runs as a process of its own so that its memory can be told.
    #[command(hide = true)]
    Child(ChildArgs),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Appending, beside the plain file.
    Append,
    /// Reading back and verifying.
    Read,
    /// Building the index from the chunks.
    Rebuild,
    /// Opening with a good index.
    Open,
    /// Bytes on disk.
    Disk,
    /// Resident memory.
    Memory,
}

/// A store to compare with, where it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// PyPI `umadb`, over its gRPC interface.
    Umadb,
    /// NATS JetStream, over its text protocol.
    Nats,
    /// PostgreSQL, through pgbench.
    Postgres,
}

#[derive(Args)]
pub(crate) struct LogArgs {
    /// Folder to work in, on the disk that is to be measured; otherwise a temporary one in the current folder.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Rounds; every case of a payload runs once in each.
    #[arg(long, default_value_t = 9, value_name = "N")]
    rounds: usize,
    /// Time that one case takes in one round.
    #[arg(long, default_value_t = 0.3, value_name = "SECONDS")]
    seconds: f64,
    /// Events of the log that is read, rebuilt, opened and weighed.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    events: u64,
    /// Payload bytes of an event, for appending; the first is the one of the log that is read.
    #[arg(long, value_delimiter = ',', default_values_t = PAYLOADS, value_name = "BYTES")]
    payload: Vec<usize>,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// Only these shapes of appending, by name.
    #[arg(long, value_delimiter = ',', value_parser = Shape::named, value_name = "SHAPE")]
    shape: Vec<Shape>,
    /// Append to this store as well; it is started on loopback and ended.
    #[arg(long, value_delimiter = ',', value_name = "STORE")]
    peer: Vec<Peer>,
    /// A short run that shows that the bench works; its figures say nothing.
    #[arg(long)]
    quick: bool,
}

impl LogArgs {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn check(&mut self) -> Result<()> {
        if self.quick {
            (self.rounds, self.seconds, self.events) = (1, 0.02, 3_000);
        }
        ensure!((1..=MAX_ROUNDS).contains(&self.rounds), "--rounds takes 1 to {MAX_ROUNDS}");
        ensure!(self.seconds > 0.0 && self.seconds <= MAX_SECONDS, "--seconds takes up to {MAX_SECONDS}");
        ensure!((1..=MAX_EVENTS).contains(&self.events), "--events takes 1 to {MAX_EVENTS}");
        let largest = httt_feed::MAX_EVENT_BYTES;
        ensure!(
            !self.payload.is_empty() && self.payload.iter().all(|bytes| (1..=largest).contains(bytes)),
            "--payload takes 1 to {largest}"
        );
        if self.shape.is_empty() {
            self.shape = SHAPES.to_vec();
        }
        Ok(())
    }
}

pub(crate) fn run(command: BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Log(args) => log(args).map(|()| ExitCode::SUCCESS),
        BenchCommand::Exchange(args) => exchange::run(args).map(|()| ExitCode::SUCCESS),
        BenchCommand::Child(args) => dataset::child(&args).map(|()| ExitCode::SUCCESS),
    }
}

/// What the parts share.
pub(crate) struct Bench<'a> {
    args: &'a LogArgs,
    dir: &'a Path,
    bar: ProgressBar,
}

impl Bench<'_> {
    fn say(&self, what: impl Into<std::borrow::Cow<'static, str>>) {
        self.bar.set_message(what);
    }
}

fn log(mut args: LogArgs) -> Result<()> {
    args.check()?;
    let parent = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_dir().context("the current folder")?,
    };
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    // Always a folder of our own, so that nothing that was there is measured or lost.
    let folder = tempfile::Builder::new()
        .prefix("httt-bench-")
        .tempdir_in(&parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    let dir = folder.path().canonicalize()?;
    let machine = Machine::look(&dir, if args.quick { 30 } else { 500 })?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let bench = Bench { args: &args, dir: &dir, bar };

    let mut report = Report::new(json!({
        "machine": machine.to_json(),
        "fsync": "fdatasync per group",
        "rounds": args.rounds,
        "seconds": args.seconds,
        "events": args.events,
        "quick": args.quick,
    }));
    if args.wants(Part::Append) {
        append::measure(&bench, &mut report)?;
    }
    if [Part::Read, Part::Rebuild, Part::Open, Part::Disk, Part::Memory].iter().any(|part| args.wants(*part)) {
        let dataset = Dataset::build(&bench)?;
        if args.wants(Part::Disk) {
            keeping::disk(&dataset, &mut report)?;
        }
        if args.wants(Part::Open) {
            keeping::open(&bench, &dataset, &mut report)?;
        }
        if args.wants(Part::Read) {
            reading::measure(&bench, &dataset, &mut report)?;
        }
        if args.wants(Part::Rebuild) {
            keeping::rebuild(&bench, &dataset, &mut report)?;
        }
        if args.wants(Part::Memory) {
            keeping::memory(&bench, &dataset, &mut report)?;
        }
    }
    bench.bar.finish_and_clear();
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{}{}", machine.to_text(), report.to_text());
    }
    Ok(())
}
