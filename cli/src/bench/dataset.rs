//! The log that is read, rebuilt, opened and weighed. A process of its own builds it, so that its memory is the log's.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_wire::directory::LogOpened;
use serde::{Deserialize, Serialize};

use super::Bench;
use super::machine::field;
use super::work::{self, Source};

/// Events in each transaction of the one who builds it.
const BATCH: u64 = 500;
/// Transactions under way.
const IN_FLIGHT: usize = 4;
/// How often memory is looked at.
const SAMPLES: u64 = 100;
/// Entries and bytes read at a time.
pub(crate) const PAGE: (usize, usize) = (1_024, 8 << 20);

/// What the other process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Task {
    /// Builds the log.
    Append,
    /// Opens it and reads all of it.
    Read,
}

#[derive(Args)]
pub(crate) struct ChildArgs {
    #[arg(long)]
    dir: PathBuf,
    #[arg(long)]
    events: u64,
    #[arg(long)]
    payload: usize,
    #[arg(long)]
    task: Task,
}

/// A line of the other process.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) events: u64,
    pub(crate) rss_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) seconds: f64,
}

impl Sample {
    fn now(events: u64, began: Instant) -> Self {
        let kib = |name| {
            let value = field("/proc/self/status", name).unwrap_or_default();
            value.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default()
        };
        Self { events, rss_kib: kib("VmRSS"), peak_kib: kib("VmHWM"), seconds: began.elapsed().as_secs_f64() }
    }

    fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", serde_json::to_string(self)?)?;
        Ok(out.flush()?)
    }
}

/// The key of the log, the same in every process.
pub(crate) fn sealer() -> Result<Arc<Sealer>> {
    Ok(Arc::new(Sealer::new(AgencyCode::new("H24")?, SigningKey::from_seed(&[0x5A; 32])?)))
}

pub(crate) fn child(args: &ChildArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let began = Instant::now();
    let (log, _) = Log::open(&args.dir, sealer()?, Options::default())?;
    match args.task {
        Task::Append => runtime.block_on(append(args, &log, began))?,
        Task::Read => read(args, &log, began)?,
    }
    runtime.block_on(log.close());
    Ok(())
}

async fn append(args: &ChildArgs, log: &Log, began: Instant) -> Result<()> {
    // So that an audit knows the key, as of a real node's log.
    let opened = LogOpened {
        member: "H24".into(),
        log_id: log.log_id().to_vec(),
        key: Some(sealer()?.key().public().to_wire()),
        software: "bench".into(),
    };
    log.commit(Transaction::append([NewEvent::of(Audience::All, Lane::Local, "log", &opened)])).await?;
    let left = Arc::new(AtomicU64::new(args.events));
    let mut source = Source::new()?;
    let step = (args.events / SAMPLES).max(1);
    let mut clients = Vec::new();
    for _ in 0..IN_FLIGHT {
        let (log, left, payload, total) = (log.clone(), Arc::clone(&left), args.payload, args.events);
        let mut source = source.another();
        clients.push(tokio::spawn(async move {
            let audience = work::audience()?;
            loop {
                let before = left.load(Ordering::Relaxed);
                // One thread runs all clients, and nobody waits between these two lines.
                let take = before.min(BATCH);
                left.store(before - take, Ordering::Relaxed);
                if take == 0 {
                    return anyhow::Ok(());
                }
                let events = (0..take).map(|_| source.record(payload).into_event(&audience));
                log.commit(Transaction::append(events.collect::<Vec<_>>())).await?;
                let done = total - (before - take);
                if done / step != (total - before) / step {
                    Sample::now(done, began).print()?;
                }
            }
        }));
    }
    for client in clients {
        client.await??;
    }
    Sample::now(args.events, began).print()
}

fn read(args: &ChildArgs, log: &Log, began: Instant) -> Result<()> {
    let (mut at, mut events) = (0, 0);
    loop {
        let entries = log.read(at, PAGE.0, PAGE.1)?;
        let Some(last) = entries.last() else { break };
        at = last.position + 1;
        events += entries.iter().map(|entry| entry.batch.events.len() as u64).sum::<u64>();
    }
    ensure!(events == args.events + 1, "read {events} events where {} and the first one are", args.events);
    Sample::now(args.events, began).print()
}

/// The log, closed.
pub(crate) struct Dataset {
    pub(crate) dir: PathBuf,
    pub(crate) events: u64,
    pub(crate) payload: usize,
    /// How memory went while it was built.
    pub(crate) samples: Vec<Sample>,
}

impl Dataset {
    pub(crate) fn build(bench: &Bench<'_>) -> Result<Self> {
        let (events, payload) = (bench.args.events, bench.args.payload[0]);
        let dir = bench.dir.join("dataset");
        let samples = run(bench, &dir, events, payload, Task::Append)?;
        Ok(Self { dir, events, payload, samples })
    }

    /// Reads it in a process of its own.
    pub(crate) fn read_elsewhere(&self, bench: &Bench<'_>) -> Result<Vec<Sample>> {
        run(bench, &self.dir, self.events, self.payload, Task::Read)
    }

    /// Its chunk files in order.
    pub(crate) fn chunks(&self) -> Result<Vec<PathBuf>> {
        let mut chunks: Vec<_> =
            fs::read_dir(self.dir.join("chunks"))?.map(|item| Ok(item?.path())).collect::<Result<_>>()?;
        chunks.sort();
        Ok(chunks)
    }
}

fn run(bench: &Bench<'_>, dir: &Path, events: u64, payload: usize, task: Task) -> Result<Vec<Sample>> {
    let program = std::env::current_exe().context("own program")?;
    let mut child = Command::new(program)
        .args(["bench", "child", "--dir"])
        .arg(dir)
        .args(["--events", &events.to_string(), "--payload", &payload.to_string()])
        .args(["--task", if task == Task::Append { "append" } else { "read" }])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a process to measure")?;
    let lines = child.stdout.take().context("no output")?;
    let mut samples = Vec::new();
    for line in BufReader::new(lines).lines() {
        let sample: Sample = serde_json::from_str(&line?).context("the process said something else")?;
        bench.say(format!("log of {events} events: {}, {:.0} s", sample.events, sample.seconds));
        samples.push(sample);
    }
    let ended = child.wait()?;
    ensure!(ended.success() && !samples.is_empty(), "the process that was measured failed: {ended}");
    Ok(samples)
}
