//! `httt log`: looks into a log's folder without the node that owns it. What keeps it safe is in `keep`.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, Subcommand};
use httt_feed::{AgencyCode, Lane, dsse_envelope};
use httt_log::tlog::{VerifierKey, claimed_keys, export_tiles};
use httt_log::{Filter, RecordedEvent, scan_entries};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::audit::{AuditCommand, log_dir};
use crate::{keep, thin};

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
    /// Let old entries of other members go: their digests and hashes stay, and everything else stays provable.
    Thin(thin::ThinArgs),
    /// Make damaged bytes again, exactly as they were, from a backup or from other nodes' logs, or change nothing.
    Repair(keep::RepairArgs),
    /// Write a log as files that any web server can give out and C2SP tlog-tiles clients read, up to its latest signed
    /// checkpoint. The node may be running; a later run adds what is new.
    ExportTiles {
        /// The log's folder, or a node's data folder.
        dir: PathBuf,
        /// Where the files go.
        out: PathBuf,
        /// Only hashes, not the entries themselves: for publishing a log that not everybody may read.
        #[arg(long)]
        without_entries: bool,
    },
    /// Print the keys (C2SP vkey) that a log's checkpoints and its node's cosignatures are signed with, as the log itself
    /// says. Whoever is to trust them compares them with what the node's operator told by another way.
    Vkey {
        /// The log's folder, or a node's data folder.
        dir: PathBuf,
    },
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
    /// Print whole batches as DSSE envelopes, one a line, instead of events: those with an event that matches.
    #[arg(long)]
    dsse: bool,
}

pub(crate) fn lane(text: &str) -> Result<Lane> {
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
        LogCommand::Thin(args) => thin::run(args),
        LogCommand::Repair(args) => keep::repair(args),
        LogCommand::ExportTiles { dir, out, without_entries } => {
            let report = export_tiles(&log_dir(&dir), &out, !without_entries)?;
            println!("{} entries, {} files written, {} kept", report.size, report.written, report.kept);
            if report.gone > 0 {
                println!("{} of them went by retention; bundles that held one are not there", report.gone);
            }
            Ok(ExitCode::SUCCESS)
        }
        LogCommand::Vkey { dir } => vkey(&dir).map(|()| ExitCode::SUCCESS),
    }
}

fn vkey(dir: &Path) -> Result<()> {
    let (member, keys) = claimed_keys(&log_dir(dir))?.context("the log does not begin by saying whose it is")?;
    // Several where the node changed its key: each signed the checkpoints of its time.
    let signing: Vec<_> =
        keys.iter().filter_map(|key| VerifierKey::log(&member, key).zip(VerifierKey::cosigner(&member, key))).collect();
    ensure!(!signing.is_empty(), "the node's key is no Ed25519 key; it signs no checkpoints");
    for (log, cosigner) in signing {
        println!("log      {log}");
        println!("cosigner {cosigner}");
    }
    eprintln!("This is what the log says of itself. Compare it with what the operator of {member} told you otherwise.");
    Ok(())
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
    let mut scan = scan_entries(&dir)?;
    for entry in scan.by_ref() {
        let entry = entry?;
        let mut matching = entry.events().filter(|event| filter.matches(&event.feed, &event.event));
        let lines: Vec<String> = if args.dsse {
            let envelope = matching.next().map(|_| dsse_envelope(&entry.bytes)).transpose()?;
            envelope.into_iter().collect()
        } else {
            matching.map(|event| line(&event).to_string()).collect()
        };
        for line in lines {
            match writeln!(out, "{line}") {
                // Whoever reads has seen enough, as `head` does.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => return Ok(()),
                written => written?,
            }
        }
    }
    out.flush()?;
    if scan.gone() > 0 {
        eprintln!("{} entries went by retention and are not among these", scan.gone());
    }
    Ok(())
}

pub(crate) fn line(recorded: &RecordedEvent) -> Value {
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
