//! `httt audit`: proves logs.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;
use httt_feed::Fingerprint;
use httt_log::{AuditOptions, AuditReport, audit};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::proof::{CheckArgs, ProveArgs};

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Check everything in a log: chunks, checksums, the Merkle root against the signed checkpoint, every batch's
    /// signature and chain. Exits 1 when something is wrong, and says in which chunk, at which byte and position.
    Verify {
        /// The log's folder, or a node's data folder.
        dir: PathBuf,
        /// Fingerprint of the gateway's key. Without it the key is taken from the log itself.
        #[arg(long, value_name = "SHA256")]
        gateway: Option<Fingerprint>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Write one file that proves an event to anybody who knows the log's key: the sealed batch, its path in the Merkle
    /// tree, and the signed checkpoint (C2SP tlog-proof). The node may be running.
    Prove(ProveArgs),
    /// Check such a file with nothing else at hand. Exits 1 when it proves nothing.
    Check(CheckArgs),
}

pub(crate) fn run(command: AuditCommand) -> Result<ExitCode> {
    let (dir, gateway, json) = match command {
        AuditCommand::Verify { dir, gateway, json } => (log_dir(&dir), gateway, json),
        AuditCommand::Prove(args) => return crate::proof::prove(args),
        AuditCommand::Check(args) => return crate::proof::check(args),
    };
    let report = verify(&dir, gateway)?;
    if json {
        println!("{}", to_json(&report));
    } else {
        print(&dir, &report);
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A node's data folder holds its log in `log/`; either may be named.
pub(crate) fn log_dir(dir: &Path) -> PathBuf {
    let inner = dir.join("log");
    if inner.join("chunks").is_dir() { inner } else { dir.to_owned() }
}

/// Audits with a progress bar where there is somebody to see it.
fn verify(dir: &Path, trusted: Option<Fingerprint>) -> Result<AuditReport> {
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
    bar.set_style(ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}")?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let on_progress = Box::new(|progress: &httt_log::AuditProgress| {
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.bytes);
    });
    let report = audit(dir, AuditOptions { trusted, on_progress: Some(on_progress) })
        .with_context(|| format!("cannot audit {}", dir.display()))?;
    bar.finish_and_clear();
    Ok(report)
}

fn print(dir: &Path, report: &AuditReport) {
    println!("Nhật ký (log): {}", dir.display());
    println!("  {} tệp (chunks), {} mục (entries), {} sự kiện (events)", report.chunks, report.entries, report.events);
    if report.gone > 0 {
        println!(
            "  {} mục đã hết hạn lưu giữ (went by retention): chỗ của chúng vẫn được chứng minh (their places are proven)",
            report.gone
        );
    }
    if let Some(root) = report.root {
        println!("  gốc Merkle (root): {root}");
    }
    match &report.checkpoint {
        Some(checkpoint) => println!(
            "  điểm kiểm (checkpoint): {} mục, {}",
            checkpoint.size,
            if checkpoint.ok { "khớp (agrees)" } else { "KHÔNG KHỚP (disagrees)" }
        ),
        None => println!("  không có điểm kiểm (no checkpoint)"),
    }
    if let Some(key) = &report.gateway_key {
        let origin = if key.taken_from_log {
            "lấy từ chính nhật ký (taken from the log itself)"
        } else {
            "đã cho (given)"
        };
        println!("  khoá sàn trao đổi (gateway key): {} {origin}", key.fingerprint);
    }
    for head in &report.heads {
        println!("  {} → {}", head.feed, head.head.sequence);
    }
    for finding in &report.findings {
        println!(
            "  LỖI (finding): {} byte {} position {}: {}",
            finding.chunk, finding.offset, finding.position, finding.what
        );
    }
    if report.more_findings > 0 {
        println!("  … và {} lỗi nữa (and more)", report.more_findings);
    }
    let verdict = if report.is_clean() { "TOÀN VẸN (intact)" } else { "CÓ LỖI (damaged)" };
    println!("Kết luận (verdict): {verdict}");
}

fn to_json(report: &AuditReport) -> Value {
    json!({
        "ok": report.is_clean(),
        "chunks": report.chunks,
        "entries": report.entries,
        "gone": report.gone,
        "events": report.events,
        "root": report.root.map(|root| root.to_string()),
        "gateway_key": report.gateway_key.as_ref().map(|key| json!({
            "fingerprint": key.fingerprint.to_string(), "taken_from_log": key.taken_from_log,
        })),
        "checkpoint": report.checkpoint.as_ref().map(|checkpoint| json!({ "size": checkpoint.size, "ok": checkpoint.ok })),
        "feeds": report.heads.iter().map(|head| json!({
            "feed": head.feed.to_string(), "sequence": head.head.sequence, "digest": head.head.digest.to_string(),
        })).collect::<Vec<_>>(),
        "findings": report.findings.iter().map(|finding| json!({
            "chunk": finding.chunk, "offset": finding.offset, "position": finding.position, "what": finding.what,
        })).collect::<Vec<_>>(),
        "more_findings": report.more_findings,
    })
}
