//! `httt log backup|restore|archive|repair`: keeps logs safe.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use httt_log::{BackupOptions, KeepProgress, OnKeepProgress, RepairOptions, RestoreReport};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::{AuditCommand, log_dir};

#[derive(Args)]
pub(crate) struct BackupArgs {
    /// The log's folder, or a node's data folder. A node may have it open.
    dir: PathBuf,
    /// The backup's folder. Used again, it is brought up to date: what is new is copied.
    out: PathBuf,
    /// Read again every full chunk that the backup holds already, and copy anew what has rotted there.
    #[arg(long)]
    verify: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RestoreArgs {
    /// The backup's folder.
    backup: PathBuf,
    /// The log's new folder, e.g. the `log` in a node's data folder. It must be empty or not exist.
    dir: PathBuf,
    /// Do not audit the restored log: signatures and chains of all batches, after the copying has checked checksums
    /// and Merkle roots.
    #[arg(long)]
    no_audit: bool,
}

#[derive(Args)]
pub(crate) struct ArchiveArgs {
    /// The log's folder, or a node's data folder. The node must be stopped.
    dir: PathBuf,
    /// The archive folder, for this log alone. The log remembers it.
    to: PathBuf,
    /// Full chunks that stay in the log's folder, the newest ones.
    #[arg(long, value_name = "N", default_value_t = 2)]
    keep: u32,
}

#[derive(Args)]
pub(crate) struct RepairArgs {
    /// The log's folder, or a node's data folder. The node must be stopped.
    dir: PathBuf,
    /// A backup or copy of this log, or another node's log; may be given several times.
    #[arg(long, value_name = "DIR")]
    from: Vec<PathBuf>,
}

/// A progress bar where there is somebody to see it.
pub(crate) fn progress() -> Result<(ProgressBar, OnKeepProgress<'static>)> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let told = bar.clone();
    let on_progress = Box::new(move |progress: &KeepProgress| {
        told.set_length(progress.total_bytes);
        told.set_position(progress.bytes);
    });
    Ok((bar, on_progress))
}

pub(crate) fn time(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000);
    time.ok().and_then(|time| time.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{ms} ms"))
}

pub(crate) fn backup(args: BackupArgs) -> Result<ExitCode> {
    let dir = log_dir(&args.dir);
    let (bar, on_progress) = progress()?;
    let options = BackupOptions { verify: args.verify, on_progress: Some(on_progress), ..BackupOptions::default() };
    let report = httt_log::backup(&dir, &args.out, options)
        .with_context(|| format!("cannot back up {} to {}", dir.display(), args.out.display()))?;
    bar.finish_and_clear();
    if args.json {
        let report = json!({
            "log_id": hex::encode(report.log_id),
            "entries": report.entries,
            "root": report.root.to_string(),
            "checkpoint": report.checkpoint,
            "chunks_copied": report.copied,
            "chunks_kept": report.kept,
            "bytes_copied": report.bytes_copied,
        });
        println!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("backed up {} entries to {}", report.entries, args.out.display());
    println!("  root {}", report.root);
    match report.checkpoint {
        Some(size) => println!("  signed checkpoint over {size} entries"),
        None => println!("  no checkpoint: the log had none"),
    }
    println!("  {} chunks copied ({} bytes), {} kept", report.copied, report.bytes_copied, report.kept);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn restore(args: RestoreArgs) -> Result<ExitCode> {
    let backup = log_dir(&args.backup);
    let (bar, on_progress) = progress()?;
    let report = httt_log::restore(&backup, &args.dir, Some(on_progress))
        .with_context(|| format!("cannot restore {} to {}", backup.display(), args.dir.display()))?;
    bar.finish_and_clear();
    print_restored(&args.dir, &report);
    if args.no_audit {
        return Ok(ExitCode::SUCCESS);
    }
    crate::audit::run(AuditCommand::Verify { dir: args.dir, gateway: None, json: false })
}

fn print_restored(dir: &Path, report: &RestoreReport) {
    println!("restored {} entries to {}", report.entries, dir.display());
    println!("  log {}, {}", hex::encode(report.log_id), report.origin.as_deref().unwrap_or("of unknown origin"));
    println!("  root {}", report.root);
    match report.checkpoint {
        Some(size) => println!("  the signed checkpoint over {size} entries agrees"),
        None => println!("  there is no checkpoint to compare with"),
    }
    if let Some(at) = report.last_commit_ms {
        println!("  last commit {}", time(at));
    }
    match report.made_at_ms {
        Some(at) => println!("  backup made {}", time(at)),
        None => println!("  the source is a log's folder without a backup manifest"),
    }
    println!(
        "What the node said after that is not in this log. Start it with the exchange in reach: it takes its own later\n\
         entries back before it writes. It must not write without them, or two histories of its feeds exist; set\n\
         `start_alone_after_ms` in its [upstream] high until it has caught up (docs/backup.md)."
    );
}

pub(crate) fn archive(args: ArchiveArgs) -> Result<ExitCode> {
    let dir = log_dir(&args.dir);
    let (bar, on_progress) = progress()?;
    let report = httt_log::archive(&dir, &args.to, args.keep, Some(on_progress))
        .with_context(|| format!("cannot archive {} to {}", dir.display(), args.to.display()))?;
    bar.finish_and_clear();
    println!(
        "archived {} chunks ({} bytes) in {}; {} chunks are archived now, {} are in {}",
        report.moved.len(),
        report.bytes,
        report.folder.display(),
        report.archived,
        report.live,
        dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn repair(args: RepairArgs) -> Result<ExitCode> {
    let dir = log_dir(&args.dir);
    let folders = args.from.iter().map(|folder| log_dir(folder)).collect();
    let (bar, on_progress) = progress()?;
    let options = RepairOptions { folders, on_progress: Some(on_progress), ..RepairOptions::default() };
    let report = httt_log::repair(&dir, options).with_context(|| format!("{} was not repaired", dir.display()))?;
    bar.finish_and_clear();
    for span in &report.spans {
        println!(
            "{}: {} bytes from byte {} on, {} entries from position {} on, made again from {}",
            span.chunk,
            span.bytes,
            span.offset,
            span.entries,
            span.first,
            span.sources.join(", ")
        );
    }
    for chunk in &report.headers_guessed {
        println!("{chunk}: the header's time of creation could not be proven; it is that of the first commit");
    }
    match &report.aside {
        Some(aside) => {
            println!("{} replaced; the damaged files are in {}", report.chunks.join(", "), aside.display());
        }
        None => println!("nothing was damaged, nothing was changed"),
    }
    println!("the log has {} entries with the root {}", report.entries, report.root);
    Ok(ExitCode::SUCCESS)
}
