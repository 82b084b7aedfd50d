//! `httt feed export|import|show`: feeds in files, carried by hand, out of and into the folder of a node that is stopped.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::{ArgAction, Args, Subcommand};
use httt_feed::{AgencyCode, FeedId, Lane};
use httt_log::OpenError;
use httt_ndxp_gateway::{StoreConfig, hold_feeds};
use httt_node::assembly::{Node, NodeConfig, NodeError, Trust};
use httt_node::config::load;
use httt_node::exchange::carry::{
    Away, Decoder, Export, FeedReport, FormatError, ImportReport, MAX_MANIFEST_BYTES, Manifest, MediaPart, MediaReport,
    Part, Selection,
};
use httt_node::shutdown::Shutdown;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::keep::time;
use crate::log::lane;

/// Bytes read from a file at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of a file that hold its manifest, whatever is in it.
const HEAD_BYTES: u64 = MAX_MANIFEST_BYTES as u64 + 1_024;

#[derive(Subcommand)]
pub(crate) enum FeedCommand {
    /// Xuất dữ liệu của một nút ra tệp, để mang bằng tay. Writes entries and media for another member into a file.
    Export(ExportArgs),
    /// Nhập một tệp vào một nút. Takes a file into a node; exits 1 when anything of it was refused.
    Import(ImportArgs),
    /// Xem một tệp có gì. Says what a file has, and whether it is whole; needs no node.
    Show {
        /// The file.
        file: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    /// The node's configuration file. The node must be stopped; one that runs does it at POST /api/v1/feeds/export.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Agency code of who will read it: NDXP for what goes up.
    #[arg(long = "for", value_name = "CODE")]
    reader: AgencyCode,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// An earlier file: one that the reader made, or the one made for it before. What it tells the reader holds is left
    /// out.
    #[arg(long, visible_alias = "have", value_name = "FILE")]
    since: Option<PathBuf>,
    /// Only this feed, e.g. TW→*/content (-> serves for the arrow); may be given several times.
    #[arg(long, value_name = "FEED")]
    feed: Vec<FeedId>,
    /// Only this lane; may be given several times.
    #[arg(long, value_parser = lane)]
    lane: Vec<Lane>,
    /// Begin after this sequence, of the one feed given.
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// Whether the media files go along that the bulletins name.
    #[arg(long, value_name = "yes|no", default_value = "yes", value_parser = yes_or_no, action = ArgAction::Set)]
    media: bool,
    /// The file must not be larger; what does not fit goes into the next one, made with `--since` this one.
    #[arg(long, value_name = "N")]
    max_bytes: Option<u64>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct ImportArgs {
    /// The node's configuration file. The node must be stopped; one that runs does it at POST /api/v1/feeds/import.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file.
    file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn yes_or_no(text: &str) -> Result<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => bail!("yes or no"),
    }
}

/// Of any service's configuration the parts that open its node, and its feeds where a gateway keeps them elsewhere.
#[derive(Deserialize)]
struct Configured {
    node: NodeConfig,
    exchange: Option<Exchange>,
}

#[derive(Deserialize)]
struct Exchange {
    #[serde(default)]
    store: StoreConfig,
    #[serde(default)]
    restored: bool,
}

pub(crate) fn run(command: FeedCommand) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    match command {
        FeedCommand::Export(args) => runtime.block_on(export(args)),
        FeedCommand::Import(args) => runtime.block_on(import(args)),
        FeedCommand::Show { file, json } => show(&file, json),
    }
}

/// Opens a node that does not run, with its own key, until `shutdown`.
async fn open(Configured { node, exchange }: Configured, shutdown: &Shutdown) -> Result<Node> {
    // Only the gateway trusts itself, and only its configuration names nobody else.
    let trust = if node.gateway_fingerprint.is_some() { Trust::Configured } else { Trust::Own };
    let software = concat!("httt ", env!("CARGO_PKG_VERSION"));
    let mut node = Node::open(&node, trust, software).await.map_err(|error| match error {
        NodeError::Open(OpenError::Locked { .. }) => anyhow!(error).context(
            "nút đang chạy: hãy dừng nút, hoặc dùng POST /api/v1/feeds/import và /api/v1/feeds/export (the node runs: \
             stop it, or use these)",
        ),
        error => anyhow!(error),
    })?;
    if let Some(exchange) = exchange {
        hold_feeds(&exchange.store, &mut node, shutdown).await?;
    }
    node.recall_forks()?;
    Ok(node)
}

async fn close(node: Node, shutdown: &Shutdown) {
    shutdown.trigger();
    node.close(shutdown).await;
}

async fn export(args: ExportArgs) -> Result<ExitCode> {
    let earlier = args.since.as_deref().map(manifest_of).transpose()?;
    if args.to.exists() {
        bail!("{} đã có (exists already); hãy chọn tên khác (choose another name)", args.to.display());
    }
    let shutdown = Shutdown::new();
    let node = open(load(&args.config)?, &shutdown).await?;
    let ExportArgs { reader, feed: feeds, lane: lanes, after, media, max_bytes, .. } = args;
    let selection = Selection { reader, feeds, lanes, after, media, max_bytes };
    let written = write(&node, &selection, earlier.as_ref(), &args.to).await;
    close(node, &shutdown).await;
    let (manifest, bytes) = written?;
    if args.json {
        println!("{}", described(&manifest, bytes));
    } else {
        println!("{}: {bytes} byte", args.to.display());
        print_manifest(&manifest);
    }
    Ok(ExitCode::SUCCESS)
}

async fn write(node: &Node, selection: &Selection, earlier: Option<&Manifest>, to: &Path) -> Result<(Manifest, u64)> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let begun = node.exporter().begin(selection, earlier, now_ms).await;
    let mut export = begun.map_err(|error| anyhow!("{} ({error})", error.vi()))?;
    // Under another name until it is whole and on the stick.
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let failed = || format!("cannot write {}", part.display());
    let written = match write_all(&mut export, &part).await {
        Ok(written) => std::fs::rename(&part, to).map(|()| written).map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match written {
        Ok(bytes) => Ok((export.manifest().clone(), bytes)),
        Err(error) => {
            // What stopped the writing is worth telling, not that its beginning cannot be removed.
            let _ = std::fs::remove_file(&part);
            Err(error).with_context(failed)
        }
    }
}

async fn write_all(export: &mut Export, to: &Path) -> Result<u64> {
    let (mut file, mut written) = (File::create(to)?, 0);
    while let Some(bytes) = export.next().await? {
        file.write_all(&bytes)?;
        written += bytes.len() as u64;
    }
    // The stick is pulled out right after.
    file.sync_all()?;
    Ok(written)
}

async fn import(args: ImportArgs) -> Result<ExitCode> {
    let mut file = open_file(&args.file)?;
    let configured: Configured = load(&args.config)?;
    // It would give receipts before it knows which it had given: two histories of one feed.
    if configured.exchange.as_ref().is_some_and(|exchange| exchange.restored) {
        bail!(
            "cổng đang lấy lại những gì đã nói ([exchange] restored = true): hãy chạy cổng và nhập tệp qua POST \
             /api/v1/feeds/import (the gateway takes back what it had said: start it, and import the file there)"
        );
    }
    let shutdown = Shutdown::new();
    let node = open(configured, &shutdown).await?;
    let mut import = node.importer().begin();
    let mut piece = vec![0; PIECE_BYTES];
    let read = loop {
        match file.read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(count) if !import.push(&piece[..count]).await => break Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    let report = import.finish();
    close(node, &shutdown).await;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print_report(&report);
    }
    // Whatever was read before is in, and told above.
    read.with_context(|| format!("cannot read {} to its end", args.file.display()))?;
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn open_file(path: &Path) -> Result<BufReader<File>> {
    File::open(path).map(BufReader::new).with_context(|| format!("cannot read {}", path.display()))
}

/// What a file says of itself.
fn manifest_of(path: &Path) -> Result<Manifest> {
    let mut decoder = Decoder::default();
    let mut file = open_file(path)?.take(HEAD_BYTES);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))?;
        decoder.push(&piece[..count]);
        let part = decoder.next_part().map_err(|error| broken(path, &error))?;
        match part {
            Some(Part::Manifest(manifest)) => return Ok(*manifest),
            _ if count == 0 => decoder.finish().map_err(|error| broken(path, &error))?,
            _ => {}
        }
    }
}

fn broken(path: &Path, error: &FormatError) -> anyhow::Error {
    anyhow!("{}: {} ({error})", path.display(), error.fault.vi())
}

fn show(path: &Path, as_json: bool) -> Result<ExitCode> {
    let (mut decoder, mut file) = (Decoder::default(), open_file(path)?);
    let (mut manifest, mut bytes, mut wrong) = (None, 0, None);
    let mut piece = vec![0; PIECE_BYTES];
    while wrong.is_none() {
        let count = file.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            wrong = decoder.finish().err();
            break;
        }
        bytes += count as u64;
        decoder.push(&piece[..count]);
        loop {
            match decoder.next_part() {
                Ok(Some(Part::Manifest(found))) => manifest = Some(*found),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(error) => {
                    wrong = Some(error);
                    break;
                }
            }
        }
    }
    if as_json {
        let mut object = manifest.as_ref().map_or_else(|| json!({}), |manifest| described(manifest, bytes));
        object["ok"] = json!(wrong.is_none());
        object["broken"] = wrong.as_ref().map_or(Value::Null, |error| {
            json!({ "offset": error.offset, "message": error.fault.vi(), "message_en": error.fault.to_string() })
        });
        println!("{object}");
    } else {
        if let Some(manifest) = &manifest {
            print_manifest(manifest);
        }
        match &wrong {
            Some(error) => println!("HỎNG (broken) từ byte {}: {} ({})", error.offset, error.fault.vi(), error.fault),
            None => println!("tệp nguyên vẹn (the file is whole): {bytes} byte"),
        }
    }
    Ok(if wrong.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn described(manifest: &Manifest, bytes: u64) -> Value {
    let media = |parts: &[MediaPart]| -> Vec<Value> {
        let one = |part: &MediaPart| json!({ "sha256": part.digest.to_string(), "size": part.size, "from": part.from, "until": part.until });
        parts.iter().map(one).collect()
    };
    let heads = |heads: &[(FeedId, httt_feed::Head)]| -> Vec<Value> {
        let one = |(feed, head): &(FeedId, httt_feed::Head)| json!({ "feed": feed.to_string(), "sequence": head.sequence, "digest": head.digest.to_string() });
        heads.iter().map(one).collect()
    };
    let away = |away: &Away| json!({ "feed": away.feed.to_string(), "after": away.after, "until": away.until });
    let ranges = manifest.ranges.iter().map(|range| {
        json!({
            "feed": range.feed.to_string(),
            "first": range.first,
            "last": range.last.sequence,
            "digest": range.last.digest.to_string(),
        })
    });
    json!({
        "bytes": bytes,
        "maker": manifest.maker.as_str(),
        "reader": manifest.reader.as_str(),
        "made_at_ms": manifest.made_at_ms,
        "log_id": hex::encode(&manifest.log_id),
        "position": manifest.position,
        "ranges": ranges.collect::<Vec<_>>(),
        "held": heads(&manifest.held),
        "reached": heads(&manifest.reached),
        "media": media(&manifest.media),
        "wanted": media(&manifest.wanted),
        "more": manifest.more,
        "away": manifest.away.iter().map(away).collect::<Vec<_>>(),
    })
}

fn print_manifest(manifest: &Manifest) {
    let Manifest { maker, reader, made_at_ms, .. } = manifest;
    println!("{maker} làm cho {reader}, {at} (made by {maker} for {reader})", at = time(*made_at_ms));
    if manifest.ranges.is_empty() {
        println!("  không có bản ghi nào mới (no new entries)");
    }
    for range in &manifest.ranges {
        println!("  {:<28} {}–{}", range.feed.to_string(), range.first, range.last.sequence);
    }
    for part in &manifest.media {
        let MediaPart { digest, size, from, until } = part;
        println!("  {digest} byte {from}–{until} / {size}");
    }
    for Away { feed, after, until } in &manifest.away {
        println!(
            "  {feed:<28} {}–{until}: {maker} hiện không giữ; mang ở tệp sau (not held by {maker} now; the next file may)",
            after + 1
        );
    }
    if manifest.more || manifest.media.iter().any(|part| !part.ends()) {
        println!(
            "Chưa đủ chỗ cho tất cả: xuất tiếp tệp sau với --since tệp này (not all of it fitted: make the next file with \
             --since this one)"
        );
    }
    if !manifest.wanted.is_empty() {
        println!("  {maker} còn thiếu {} tệp media (lacks so many media files)", manifest.wanted.len());
    }
}

fn print_report(report: &ImportReport) {
    if let (Some(maker), Some(reader)) = (&report.maker, &report.reader) {
        let at = time(report.made_at_ms.unwrap_or_default());
        println!("{maker} làm cho {reader}, {at} (made by {maker} for {reader})");
    }
    if report.for_somebody_else {
        println!(
            "Tệp này làm cho nơi khác; chỉ nhận phần nút này được đọc (made for somebody else; only what this node may read is taken)"
        );
    }
    for row in &report.feeds {
        let FeedReport { feed, first, last, taken, held, head, message, message_en, .. } = row;
        println!("  {feed:<28} {first}–{last}: nhận {taken}, đã có {held}, nay đến {head}: {message} ({message_en})");
    }
    for row in &report.media {
        let MediaReport { sha256, size, held, message, message_en, .. } = row;
        println!("  {sha256} {held} / {size}: {message} ({message_en})");
    }
    if let Some(broken) = &report.broken {
        println!("HỎNG (broken) từ byte {}: {} ({})", broken.offset, broken.message, broken.message_en);
        println!("Những gì nhận được trước chỗ đó đã được giữ lại (what was taken before that place is kept)");
    }
    if report.more {
        println!("Còn bản ghi ở tệp sau (more entries come with the next file)");
    }
    println!("{}", if report.ok { "tốt (good)" } else { "CÓ PHẦN KHÔNG NHẬN (not all of it was taken)" });
}
