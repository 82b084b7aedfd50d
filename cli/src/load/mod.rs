//! `httt load`: what a load comes to, in virtual time.

mod fleet;
mod random;
mod report;
mod status;
mod upward;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

/// Most clusters of one province: what one registration may hold.
const MAX_CLUSTERS: u32 = 20_000;
/// Longest time simulated: a month.
const MAX_HOURS: u32 = 31 * 24;
/// Least pause between two ticks, as for a province.
const MIN_TICK_MS: u64 = 1_000;

#[derive(Subcommand)]
pub(crate) enum LoadCommand {
    /// What a province sends upward of its clusters: a simulated fleet reports every minute, and everything from the
    /// report on is the program's own: changes, ticks, log, seals, restatement, packing.
    Status(StatusArgs),
}

#[derive(Args, Debug, Clone)]
pub(crate) struct StatusArgs {
    /// Clusters of the province.
    #[arg(long, default_value_t = 4_000)]
    clusters: u32,
    /// Hours of virtual time, from midnight.
    #[arg(long, default_value_t = 24)]
    hours: u32,
    /// Names the fleet and its day: the same seed, the same day.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often what changed goes up, ms; as `[devices] status_tick_ms`, which is the default.
    #[arg(long)]
    tick_ms: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs a load.
pub(crate) fn run(command: LoadCommand) -> Result<ExitCode> {
    let LoadCommand::Status(args) = command;
    ensure!((1..=MAX_CLUSTERS).contains(&args.clusters), "--clusters: 1 to {MAX_CLUSTERS}");
    ensure!((1..=MAX_HOURS).contains(&args.hours), "--hours: 1 to {MAX_HOURS}");
    ensure!(args.tick_ms.is_none_or(|tick| tick >= MIN_TICK_MS), "--tick-ms: {MIN_TICK_MS} at least");
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let day = runtime.block_on(status::run(&args))?;
    let report = report::Report::of(&args, &day, began.elapsed());
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{report}"),
    }
    Ok(ExitCode::SUCCESS)
}
