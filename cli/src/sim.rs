//! `httt sim`: as many seeded schedules of the whole exchange as asked, on all cores.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Args;
use httt_sim::{Failure, Mutation, Tally, Trace, simulate};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// Failing seeds that are told; there may be more.
const MAX_FAILURES_TOLD: usize = 20;

#[derive(Args)]
pub(crate) struct SimArgs {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    seeds: u64,
    /// Threads; as many as there are cores if not said.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Print every step of every schedule.
    #[arg(long)]
    trace: bool,
    /// Break this rule on purpose, e.g. skip-verification: the simulator must notice.
    #[arg(long, value_name = "NAME")]
    mutation: Option<Mutation>,
    /// Print the result as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What all threads share.
struct Shared {
    next: AtomicU64,
    end: u64,
    stop: AtomicBool,
    done: Mutex<Done>,
}

#[derive(Default)]
struct Done {
    schedules: u64,
    failed: u64,
    failures: Vec<Failure>,
    tally: Tally,
}

pub(crate) fn run(args: SimArgs) -> Result<ExitCode> {
    let end = args.seed.checked_add(args.seeds).context("--seed and --seeds: there are not so many seeds")?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    // Lines of several schedules at once would be of no use.
    let jobs = if args.trace { 1 } else { args.jobs.unwrap_or(cores).clamp(1, 1_024) };
    let shared =
        Arc::new(Shared { next: AtomicU64::new(args.seed), end, stop: AtomicBool::new(false), done: Mutex::default() });
    stop_on_interrupt(&shared)?;
    let bar = if std::io::stderr().is_terminal() && !args.trace {
        ProgressBar::new(args.seeds)
    } else {
        ProgressBar::hidden()
    };
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta} {msg}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| work(&shared, &args, &bar));
        }
    });
    bar.finish_and_clear();
    let done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        print_json(&args, &done, seconds)
    } else {
        print(&args, &done, seconds)
    }
    let interrupted = shared.stop.load(Ordering::Relaxed);
    if interrupted {
        eprintln!("httt: đã dừng theo yêu cầu (interrupted): {} of {} schedules", done.schedules, args.seeds);
    }
    Ok(if done.failed > 0 || interrupted { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn work(shared: &Shared, args: &SimArgs, bar: &ProgressBar) {
    while !shared.stop.load(Ordering::Relaxed) {
        let seed = shared.next.fetch_add(1, Ordering::Relaxed);
        if seed >= shared.end {
            return;
        }
        // Whoever reads the trace may have seen enough, as `head` does.
        let trace = args.trace.then(|| Box::new(|line: &str| drop(writeln!(std::io::stdout(), "{line}"))) as Trace);
        let result = simulate(seed, args.mutation, trace);
        let mut done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.schedules += 1;
        match result {
            Ok(tally) => done.tally.add(&tally),
            Err(failure) => {
                done.failed += 1;
                bar.set_message(format!("{} HỎNG (failed)", done.failed));
                if done.failures.len() < MAX_FAILURES_TOLD {
                    bar.suspend(|| eprintln!("HỎNG (failed): {failure}"));
                    done.failures.push(failure);
                }
            }
        }
        bar.inc(1);
    }
}

/// Ctrl-C ends after the schedules under way; what is known by then is printed.
fn stop_on_interrupt(shared: &Arc<Shared>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shared = Arc::clone(shared);
    thread::Builder::new().name("interrupt".into()).spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            shared.stop.store(true, Ordering::Relaxed);
        }
    })?;
    Ok(())
}

fn print(args: &SimArgs, done: &Done, seconds: f64) {
    let Done { schedules, failed, tally, .. } = done;
    println!(
        "Mô phỏng (simulation): {schedules} lịch (schedules) từ seed {}, {seconds:.1} s, {:.0} mỗi phút (a minute)",
        args.seed,
        per_minute(*schedules, seconds)
    );
    for (name, count) in tally.lines() {
        println!("  {name}: {count}");
    }
    let verdict = if *failed == 0 { "ĐẠT (all held)".to_owned() } else { format!("{failed} HỎNG (failed)") };
    println!("Kết luận (verdict): {verdict}");
}

fn print_json(args: &SimArgs, done: &Done, seconds: f64) {
    let tally: serde_json::Map<_, _> =
        done.tally.lines().into_iter().map(|(name, count)| (name.replace(' ', "_"), json!(count))).collect();
    let failures: Vec<_> = done
        .failures
        .iter()
        .map(|failure| json!({ "seed": failure.seed, "what": failure.what, "replay": failure.replay() }))
        .collect();
    let text = json!({
        "ok": done.failed == 0,
        "first_seed": args.seed,
        "schedules": done.schedules,
        "failed": done.failed,
        "failures": failures,
        "seconds": seconds,
        "schedules_per_minute": per_minute(done.schedules, seconds),
        "mutation": args.mutation.map(Mutation::as_str),
        "tally": tally,
    });
    println!("{text}");
}

fn per_minute(schedules: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { schedules as f64 * 60.0 / seconds } else { 0.0 }
}
