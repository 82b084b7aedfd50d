//! `httt models`: compares and rebuilds a node's read models from its folder, without the node.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand, ValueEnum};
use httt_central_source::CentralModels;
use httt_log::StoreError;
use httt_node::carrier::CarrierModels;
use httt_node::models::offline::{self, OfflineError};
use httt_node::models::{Comparison, FoldProgress, ModelSet, SnapshotError, Verdict};
use httt_provincial_source::ProvinceModels;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// How often progress is told where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// Progress as a bar, where the log's length is known.
const BAR: &str = "{bar:40} {pos}/{len} entries, {msg} {eta}";
/// Where it is not.
const SPINNER: &str = "{spinner} {pos} entries, {msg}";

#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// Fold the log from its first entry and compare each stored snapshot with it, where the snapshot stands. Changes
    /// nothing; the node may run. Exits 1 when a snapshot is wrong.
    Compare(ModelsArgs),
    /// The same, and then put what was folded in place of all snapshots. The node must be stopped; run it as the node's
    /// user. A running node does it at POST /api/v1/models/rebuild.
    Rebuild(ModelsArgs),
}

#[derive(Args)]
pub(crate) struct ModelsArgs {
    /// The node's data folder: its log is in `log`, its snapshots are in `models`.
    dir: PathBuf,
    /// Whose models they are.
    #[arg(long)]
    service: ServiceName,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ServiceName {
    CentralSource,
    ProvincialSource,
    NdxpGateway,
    LgspAdapter,
}

pub(crate) fn run(command: ModelsCommand) -> Result<ExitCode> {
    let (args, rebuild) = match &command {
        ModelsCommand::Compare(args) => (args, false),
        ModelsCommand::Rebuild(args) => (args, true),
    };
    match args.service {
        ServiceName::CentralSource => run_for::<CentralModels>(args, rebuild),
        ServiceName::ProvincialSource => run_for::<ProvinceModels>(args, rebuild),
        ServiceName::NdxpGateway | ServiceName::LgspAdapter => run_for::<CarrierModels>(args, rebuild),
    }
}

fn run_for<S: ModelSet>(args: &ModelsArgs, rebuild: bool) -> Result<ExitCode> {
    let (log, models) = (args.dir.join("log"), args.dir.join("models"));
    let mut teller = Teller::new()?;
    let mut on_progress = |progress: &FoldProgress| teller.tell(progress);
    let compared = if rebuild {
        offline::rebuild::<S>(&log, &models, &mut on_progress)
    } else {
        let scratch = tempfile::tempdir().context("no room for a copy of the snapshots")?;
        offline::compare::<S>(&log, &models, scratch.path(), &mut on_progress)
    };
    let last = teller.done();
    let compared = compared.map_err(|error| explained(error, &args.dir))?;
    let alarming = compared.iter().any(|one| one.verdict.is_alarming());
    if args.json {
        let object = json!({
            "ok": !alarming,
            "rebuilt": rebuild,
            "entries": last.map_or(0, |last| last.position),
            "events": last.map_or(0, |last| last.events),
            "gone": last.map_or(0, |last| last.gone),
            "events_per_second": last.map_or(0, |last| last.events_per_second()),
            "models": compared,
        });
        println!("{object}");
    } else {
        print(&compared, last, rebuild);
    }
    Ok(if alarming { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn explained(error: OfflineError, dir: &Path) -> anyhow::Error {
    let text = match &error {
        OfflineError::Snapshot(SnapshotError::Store(StoreError::InUse(_))) => {
            "the node runs: stop it, or let it rebuild itself by POST /api/v1/models/rebuild".to_owned()
        }
        _ => format!("{} cannot be judged", dir.display()),
    };
    anyhow::Error::new(error).context(text)
}

fn print(compared: &[Comparison], last: Option<FoldProgress>, rebuild: bool) {
    if let Some(last) = last {
        let FoldProgress { position, events, gone, .. } = last;
        println!("{position} entries, {events} events, {} events/s", last.events_per_second());
        if gone > 0 {
            println!("{gone} entries went by retention: models that fold them lack what they said");
        }
    }
    for one in compared {
        let verdict = match one.verdict {
            Verdict::Equal => "equal",
            Verdict::Differs => "DIFFERS",
            Verdict::NotComparable => "not comparable",
            Verdict::Failed => "FAILED",
            Verdict::Absent => "not stored",
            Verdict::Outdated => "outdated",
            Verdict::Refused => "REFUSED",
        };
        println!("  {:<20} {verdict:<10} at {:<10} {}", one.model, one.position, short(&one.rebuilt));
        if one.verdict == Verdict::Differs {
            println!("    stored {}, rebuilt {}", one.live, one.rebuilt);
        } else if !one.problem.is_empty() {
            println!("    {}", one.problem);
        }
    }
    if rebuild {
        println!("The snapshots are now what was rebuilt.");
    }
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

/// Shows progress: a bar on a terminal, a line now and then elsewhere.
struct Teller {
    bar: Option<ProgressBar>,
    told: Instant,
    last: Option<FoldProgress>,
}

impl Teller {
    fn new() -> Result<Self> {
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(0));
        if let Some(bar) = &bar {
            bar.set_style(ProgressStyle::with_template(SPINNER)?);
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Ok(Self { bar, told: Instant::now(), last: None })
    }

    fn tell(&mut self, progress: &FoldProgress) {
        let first = self.last.replace(*progress).is_none();
        let rate = progress.events_per_second();
        match &self.bar {
            Some(bar) => {
                if first
                    && progress.until > 0
                    && let Ok(style) = ProgressStyle::with_template(BAR)
                {
                    bar.set_style(style);
                    bar.set_length(progress.until);
                }
                bar.set_position(progress.position);
                bar.set_message(format!("{} events, {rate} events/s", progress.events));
            }
            None if self.told.elapsed() >= TELL_EVERY => {
                self.told = Instant::now();
                let FoldProgress { position, until, events, .. } = progress;
                eprintln!("{position} of {until} entries, {events} events, {rate} events/s");
            }
            None => {}
        }
    }

    fn done(self) -> Option<FoldProgress> {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        self.last
    }
}
