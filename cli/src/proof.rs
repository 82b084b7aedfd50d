//! `httt audit prove` and `httt audit check`: one file that proves an event.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use httt_feed::{Algorithm, PublicKey};
use httt_log::RecordedEvent;
use httt_log::tlog::{CheckedProof, KeyPurpose, MAX_PROOF_FILE_BYTES, ProofFile, ProofKeys, VerifierKey, prove_event};
use serde_json::json;
use uuid::Uuid;

use crate::audit::log_dir;

#[derive(Args)]
pub(crate) struct ProveArgs {
    /// The log's folder, or a node's data folder.
    dir: PathBuf,
    /// The event's id.
    event: Uuid,
    /// Where the proof goes; default: EVENT.tlog-proof here; `-` prints it.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// The proof; `-` reads it from standard input.
    file: PathBuf,
    /// Key of the log (C2SP vkey, `httt/H24+…`), as its operator told it, not as it came with the file.
    #[arg(long, value_name = "VKEY")]
    key: VerifierKey,
    /// Key of a witness (C2SP vkey of a cosigner); may be given several times.
    #[arg(long = "witness", value_name = "VKEY")]
    witnesses: Vec<VerifierKey>,
    /// How many of the witnesses must have cosigned; default: all that are given.
    #[arg(long, value_name = "N")]
    quorum: Option<usize>,
    /// Ed25519 key of the batch's origin: 64 hexadecimal digits, or its vkey. Needed where the log is another node's.
    #[arg(long, value_name = "KEY", value_parser = origin_key)]
    origin_key: Option<PublicKey>,
    /// The event that the batch must hold; default: any.
    #[arg(long, value_name = "ID")]
    event: Option<Uuid>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn origin_key(text: &str) -> Result<PublicKey> {
    if let Ok(key) = text.parse::<VerifierKey>() {
        return Ok(key.key().clone());
    }
    let value = hex::decode(text).ok().filter(|value| value.len() == 32);
    let value = value.context("an origin's key is 64 hexadecimal digits, or a vkey")?;
    Ok(PublicKey::new(Algorithm::Ed25519, value)?)
}

pub(crate) fn prove(args: ProveArgs) -> Result<ExitCode> {
    let proof = prove_event(&log_dir(&args.dir), args.event)?.to_string();
    let path = args.output.unwrap_or_else(|| PathBuf::from(format!("{}.tlog-proof", args.event)));
    if path == Path::new("-") {
        std::io::stdout().write_all(proof.as_bytes())?;
    } else {
        std::fs::write(&path, proof).with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn check(args: CheckArgs) -> Result<ExitCode> {
    ensure!(args.key.purpose() == KeyPurpose::Log, "--key is a cosigner's key; the log's is wanted");
    let cosigners = args.witnesses.iter().all(|key| key.purpose() == KeyPurpose::Cosigner);
    ensure!(cosigners, "--witness is a log's key; a cosigner's is wanted (`httt log vkey` prints both)");
    let quorum = args.quorum.unwrap_or(args.witnesses.len());
    ensure!(quorum <= args.witnesses.len(), "--quorum {quorum} cannot be reached with the witnesses given");
    let keys = ProofKeys { log: args.key, witnesses: args.witnesses, quorum, origin: args.origin_key };
    let text = read(&args.file)?;
    let checked = match ProofFile::parse(&text).and_then(|proof| proof.check(&keys)) {
        Ok(checked) => checked,
        Err(error) => return not_proven(&error.to_string(), args.json),
    };
    let events: Vec<RecordedEvent> =
        checked.entry.events().filter(|event| args.event.is_none_or(|wanted| wanted == event.id())).collect();
    if events.is_empty() {
        return not_proven("the batch that is proven does not hold the event asked for", args.json);
    }
    if args.json {
        println!("{}", to_json(&checked, &keys, &events));
    } else {
        print(&checked, &keys, &events);
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    // One more than allowed, so that what is too long is seen to be.
    let limit = MAX_PROOF_FILE_BYTES as u64 + 1;
    let failed = || format!("cannot read {}", path.display());
    if path == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut bytes).with_context(failed)?;
    } else {
        std::fs::File::open(path).with_context(failed)?.take(limit).read_to_end(&mut bytes).with_context(failed)?;
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn not_proven(why: &str, as_json: bool) -> Result<ExitCode> {
    if as_json {
        println!("{}", json!({ "ok": false, "why": why }));
    } else {
        println!("KHÔNG CHỨNG MINH ĐƯỢC (not proven): {why}");
    }
    Ok(ExitCode::FAILURE)
}

/// What a proof of this kind leaves open, in plain words.
fn not_checked(checked: &CheckedProof, keys: &ProofKeys) -> Vec<String> {
    let feed = &checked.entry.feed;
    let mut open = Vec::new();
    if !checked.origin_verified {
        open.push(format!(
            "that {} said this: the batch's own signature was not checked; give --origin-key with the key of {}. \
             Proven is that {} logged it",
            feed.origin,
            feed.origin,
            keys.log.name()
        ));
    }
    if checked.witnesses.is_empty() {
        open.push(format!(
            "that {} shows everybody the same log: no witness was asked for; give --witness",
            keys.log.name()
        ));
    }
    open.push("whether the keys given were revoked: ask the gateway's directory".into());
    open
}

fn print(checked: &CheckedProof, keys: &ProofKeys, events: &[RecordedEvent]) {
    let entry = &checked.entry;
    println!("ĐÃ CHỨNG MINH (proven): in the log {}", keys.log.name());
    println!("  position {} of {} entries, root {}", entry.position, checked.size, checked.root);
    println!("  feed {}, sequence {}, digest {}", entry.feed, entry.sequence, entry.digest);
    if checked.origin_verified {
        println!("  signed by {}", entry.feed.origin);
    }
    for witness in &checked.witnesses {
        println!("  cosigned by {witness}");
    }
    for event in events {
        println!("{}", crate::log::line(event));
    }
    for open in not_checked(checked, keys) {
        println!("Chưa kiểm tra (NOT checked): {open}");
    }
}

fn to_json(checked: &CheckedProof, keys: &ProofKeys, events: &[RecordedEvent]) -> serde_json::Value {
    json!({
        "ok": true,
        "log": keys.log.name(),
        "position": checked.entry.position,
        "size": checked.size,
        "root": checked.root.to_string(),
        "feed": checked.entry.feed.to_string(),
        "sequence": checked.entry.sequence,
        "digest": checked.entry.digest.to_string(),
        "origin_verified": checked.origin_verified,
        "witnesses": checked.witnesses,
        "events": events.iter().map(crate::log::line).collect::<Vec<_>>(),
        "not_checked": not_checked(checked, keys),
    })
}
