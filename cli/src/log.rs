//! `httt log`: looks into a log's folder without the node that owns it. What keeps it safe is in `keep`.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use httt_feed::{AgencyCode, Lane};
use httt_log::{Filter, RecordedEvent, scan_entries};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::{AuditCommand, log_dir};
use crate::keep;

#[derive(Subcommand)]
pub(crate) enum LogCommand {
    /// Check a log; the same as `httt audit verify`.
    Verify {
        /// The log's folder, or a node's data folder.
        dir: PathBuf,
    },
    /// Print events as JSON lines.
    Dump(DumpArgs),
    /// Copy a log, also while its node writes it: chunks and signed checkpoint, as of a commit.
    Backup(keep::BackupArgs),
    /// Make a log out of a backup, verified on the way.
    Restore(keep::RestoreArgs),
    /// Move old chunks to another folder; they stay part of the log and are read from there.
    Archive(keep::ArchiveArgs),
    /// Make damaged bytes again, exactly as they were, from a backup or from other nodes' logs, or change nothing.
    Repair(keep::RepairArgs),
}

#[derive(Args)]
pub(crate) struct DumpArgs {
    /// The log's folder, or a node's data folder.
    dir: PathBuf,
    /// Only streams whose name begins so, e.g. `bulletin/`.
    #[arg(long, value_name = "PREFIX")]
    stream: Option<String>,
    /// Only events of this type, e.g. httt.bulletin.v1.BulletinPublished; may be given several times.
    #[arg(long = "type", value_name = "NAME")]
    kinds: Vec<String>,
    /// Only what this member said.
    #[arg(long, value_name = "CODE")]
    origin: Option<AgencyCode>,
    /// Only this lane.
    #[arg(long, value_parser = lane)]
    lane: Option<Lane>,
    /// Only events that occurred at or after this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    since: Option<i64>,
    /// Only events that occurred before this time (RFC 3339).
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    until: Option<i64>,
}

fn lane(text: &str) -> Result<Lane> {
    let lane = Lane::ALL.into_iter().find(|lane| lane.as_str() == text);
    lane.ok_or_else(|| anyhow!("lanes are directory, emergency, content, report, status, local"))
}

fn time_ms(text: &str) -> Result<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).context("a time is written 2026-11-22T08:00:00+07:00")?;
    Ok((time.unix_timestamp_nanos() / 1_000_000) as i64)
}

pub(crate) fn run(command: LogCommand) -> Result<ExitCode> {
    match command {
        LogCommand::Verify { dir } => crate::audit::run(AuditCommand::Verify { dir, gateway: None, json: false }),
        LogCommand::Dump(args) => dump(args).map(|()| ExitCode::SUCCESS),
        LogCommand::Backup(args) => keep::backup(args),
        LogCommand::Restore(args) => keep::restore(args),
        LogCommand::Archive(args) => keep::archive(args),
        LogCommand::Repair(args) => keep::repair(args),
    }
}

fn dump(args: DumpArgs) -> Result<()> {
    let filter = Filter {
        stream_prefix: args.stream,
        kinds: args.kinds,
        origin: args.origin,
        lane: args.lane,
        since_ms: args.since,
        until_ms: args.until,
    };
    let mut out = BufWriter::new(std::io::stdout().lock());
    let dir = log_dir(&args.dir);
    for entry in scan_entries(&dir)? {
        let entry = entry?;
        for event in entry.events().filter(|event| filter.matches(&event.feed, &event.event)) {
            match writeln!(out, "{}", line(&event)) {
                // Whoever reads has seen enough, as `head` does.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn line(recorded: &RecordedEvent) -> Value {
    let event = &recorded.event;
    let data = httt_wire::to_json(&event.r#type, &event.data)
        .unwrap_or_else(|error| json!({ "undecoded": error.to_string(), "hex": hex::encode(&event.data) }));
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(event.occurred_at_ms) * 1_000_000);
    json!({
        "position": recorded.position.to_string(),
        "feed": recorded.feed.to_string(),
        "sequence": recorded.sequence,
        "id": recorded.id().to_string(),
        "stream": event.stream,
        "version": event.version,
        "type": event.r#type,
        "occurred_at": time.ok().and_then(|time| time.format(&Rfc3339).ok()),
        "actor": event.actor,
        "traceparent": event.traceparent,
        "data": data,
    })
}
