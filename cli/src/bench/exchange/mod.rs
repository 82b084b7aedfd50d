//! `httt bench exchange`: what the exchange does on this machine: real sockets, mutual TLS, every log on disk.
//!
//! One process holds the gateway and all members, each with a log, a key and TLS connections of its own; they share
//! nothing else. So the figures are those of a country on one machine: every signature, every hash and every sync of 36
//! nodes is paid here.

mod catch_up;
mod emergency;
mod fan_out;
mod hop;
mod rush;
mod store;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::machine::Machine;
use super::report::Report;
use store::{Kept, StoreKind};

/// Most provinces: the members' codes have two digits.
const MAX_PROVINCES: usize = 63;
/// Most rounds.
const MAX_ROUNDS: usize = 100;
/// Most events of one part.
const MAX_EVENTS: u64 = 10_000_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The ministry's events through the gateway to every province.
    FanOut,
    /// Single events from a province to the ministry, many in flight.
    Exchanges,
    /// Emergencies to every province while all of them report.
    Emergency,
    /// A province that was away.
    CatchUp,
}

#[derive(Args)]
pub(crate) struct ExchangeArgs {
    /// Folder to work in, on the disk that is to be measured; otherwise a temporary one in the current folder.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Provinces that read.
    #[arg(long, default_value_t = 34, value_name = "N")]
    provinces: usize,
    /// Rounds of fan-out and exchanges, each beside the plain hop.
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// Time of one measurement in one round.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    seconds: f64,
    /// Exchanges under way at once.
    #[arg(long, default_value_t = 64, value_name = "N")]
    in_flight: usize,
    /// Emergencies published.
    #[arg(long, default_value_t = 200, value_name = "N")]
    emergencies: usize,
    /// Device reports a second, of the whole country, while emergencies are published.
    #[arg(long, default_value_t = 3_300, value_name = "N")]
    reports: u32,
    /// Events that the province missed that was away.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    missed: u64,
    /// Payload bytes of an event.
    #[arg(long, default_value_t = 300, value_name = "BYTES")]
    payload: usize,
    /// Where the gateway keeps its feeds.
    #[arg(long, default_value = "log", value_name = "STORE")]
    store: StoreKind,
    /// Only these parts.
    #[arg(long, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// A short run that shows that the bench works; its figures say nothing.
    #[arg(long)]
    quick: bool,
}

impl ExchangeArgs {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn check(&mut self) -> Result<()> {
        if self.quick {
            (self.provinces, self.rounds, self.seconds) = (3, 1, 0.2);
            (self.emergencies, self.missed, self.reports) = (3, 3_000, 300);
        }
        ensure!((1..=MAX_PROVINCES).contains(&self.provinces), "--provinces takes 1 to {MAX_PROVINCES}");
        ensure!((1..=MAX_ROUNDS).contains(&self.rounds), "--rounds takes 1 to {MAX_ROUNDS}");
        ensure!(self.seconds > 0.0 && self.seconds <= 60.0, "--seconds takes up to 60");
        ensure!((1..=4_096).contains(&self.in_flight), "--in-flight takes 1 to 4096");
        ensure!((1..=100_000).contains(&self.emergencies), "--emergencies takes 1 to 100000");
        ensure!(self.reports <= 1_000_000, "--reports takes up to 1000000");
        ensure!((1..=MAX_EVENTS).contains(&self.missed), "--missed takes 1 to {MAX_EVENTS}");
        let largest = httt_feed::MAX_EVENT_BYTES / 2;
        ensure!((1..=largest).contains(&self.payload), "--payload takes 1 to {largest}");
        Ok(())
    }
}

pub(crate) fn run(mut args: ExchangeArgs) -> Result<()> {
    args.check()?;
    let parent = match &args.dir {
        Some(dir) => dir.clone(),
        None => std::env::current_dir().context("the current folder")?,
    };
    std::fs::create_dir_all(&parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let folder = tempfile::Builder::new().prefix("httt-bench-").tempdir_in(&parent)?;
    let dir = folder.path().canonicalize()?;
    let machine = Machine::look(&dir, if args.quick { 30 } else { 500 })?;
    let kept = Kept::start(args.store, &dir)?;
    let bar = ProgressBar::new_spinner();
    bar.set_style(ProgressStyle::with_template("{spinner} {msg} ({elapsed})")?);
    bar.enable_steady_tick(Duration::from_millis(200));

    let mut report = Report::new(json!({
        "machine": machine.to_json(),
        "fsync": "fdatasync per group, in every log",
        "transport": "gRPC over mutual TLS on loopback, all nodes in one process",
        "store": kept.to_json(),
        "provinces": args.provinces,
        "rounds": args.rounds,
        "seconds": args.seconds,
        "payload": args.payload,
        "quick": args.quick,
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = world::World::start(&dir, &args, &kept).await?;
        // First, while there is nothing else to catch up with.
        if args.wants(Part::CatchUp) {
            bar.set_message("catching up");
            catch_up::measure(&world, &args, &mut report).await?;
        }
        if args.wants(Part::Exchanges) {
            bar.set_message("single exchanges");
            rush::measure(&world, &args, &mut report).await?;
        }
        if args.wants(Part::FanOut) {
            bar.set_message("fan-out");
            fan_out::measure(&world, &args, &mut report).await?;
        }
        if args.wants(Part::Emergency) {
            bar.set_message("emergencies");
            emergency::measure(&world, &args, &mut report).await?;
        }
        world.stop().await;
        anyhow::Ok(())
    })?;
    bar.finish_and_clear();
    if args.json {
        println!("{}", report.to_json());
    } else {
        print!("{}{}{}", machine.to_text(), kept.to_text(), report.to_text());
    }
    Ok(())
}
