//! `httt key …`: the key that a node seals with. Works on the files; the node, which may be running, does the rest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use httt_feed::{AgencyCode, FeedId, KeyId, Lane};
use httt_log::scan_entries;
use httt_ndxp_gateway::{StoreConfig, StoreKind};
use httt_node::config::{ConfigPath, load};
use httt_node::rotation::KeyFiles;
use serde::Deserialize;
use serde_json::json;

use crate::admit::read_out;
use crate::keep::time;

/// `httt key …`
#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Make a new key beside the one in use. The running node (or the next start) offers it to the gateway, seals with it
    /// once it is known, and deletes the old one once that is revoked.
    Rotate {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Show which batches of each of the node's feeds each key sealed, and the last one's digest: what is compared by
    /// telephone before a stolen key's batches are admitted. Reads the whole log, beside the running node.
    Sealed {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Show the fingerprints of the key in use and of those of a change under way.
    Show {
        /// The node's configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

/// What is needed of any node's configuration; the node itself refuses unknown keys.
#[derive(Deserialize)]
struct AnyConfig {
    node: AnyNode,
    exchange: Option<AnyExchange>,
}

#[derive(Deserialize)]
struct AnyExchange {
    #[serde(default)]
    store: StoreConfig,
}

impl AnyConfig {
    fn files(&self) -> KeyFiles {
        KeyFiles::new(&self.node.signing_key)
    }

    /// Whether other processes may seal with the same key.
    fn shares_key(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.store.kind == StoreKind::JetStream)
    }
}

#[derive(Deserialize)]
struct AnyNode {
    member: String,
    data_dir: ConfigPath,
    signing_key: ConfigPath,
}

pub(crate) fn run(command: KeyCommand) -> Result<()> {
    match command {
        KeyCommand::Rotate { config } => {
            let config: AnyConfig = load(&config)?;
            let files = config.files();
            let (fingerprint, old) = (files.begin()?, files.peek()?.public().fingerprint());
            let key = files.state()?.next.context("the new key is gone already: the node has taken it")?;
            println!("khoá mới (new key)             {fingerprint}");
            println!("khoá công khai (public key)    {}", hex::encode(key.public().value()));
            if config.shares_key() {
                println!(
                    "Sàn chạy nhiều tiến trình: chép khoá mới sang mọi tiến trình khác, cạnh signing_key của nó, thành tệp \
                     có đuôi .next; khi `httt key show` ở mọi tiến trình đều ghi khoá mới đang dùng, thu hồi khoá cũ bằng \
                     `httt member revoke-key`.\n(The gateway may be several processes: copy the new key to each of the \
                     others, beside its signing_key, as a file ending in .next; once `httt key show` says at each that the \
                     new key is in use, revoke the old one, {old}, with `httt member revoke-key`.)"
                );
                return Ok(());
            }
            println!(
                "Nút đang chạy sẽ tự đổi khoá trong ít giây; `httt key show` cho biết đã đến đâu.\n\
                 (The running node changes its key within seconds; `httt key show` tells how far it is.)"
            );
        }
        KeyCommand::Sealed { config, json } => sealed(&node(&config)?, json)?,
        KeyCommand::Show { config } => {
            let files = load::<AnyConfig>(&config)?.files();
            let in_use = files.peek()?;
            println!("đang dùng (in use)             {}", in_use.public().fingerprint());
            println!("khoá công khai (public key)    {}", hex::encode(in_use.public().value()));
            let state = files.state()?;
            if let Some(next) = state.next {
                println!("sắp dùng (next, offered)       {}", next.public().fingerprint());
            }
            if let Some(old) = state.old {
                println!("chờ thu hồi (old, being revoked) {}", old.fingerprint());
            }
        }
    }
    Ok(())
}

fn node(config: &Path) -> Result<AnyNode> {
    Ok(load::<AnyConfig>(config)?.node)
}

/// What one key sealed of one feed.
struct Sealed {
    first: u64,
    last: u64,
    digest: String,
    sealed_at_ms: i64,
}

fn sealed(node: &AnyNode, as_json: bool) -> Result<()> {
    let own = AgencyCode::new(&node.member)?;
    let mut rows: BTreeMap<(FeedId, u64), (KeyId, Sealed)> = BTreeMap::new();
    // Where the run of batches by one key that is read at present began.
    let mut runs: BTreeMap<FeedId, u64> = BTreeMap::new();
    for entry in scan_entries(&node.data_dir.join("log"))? {
        let entry = entry?;
        if entry.feed.origin != own || entry.feed.lane == Lane::Local {
            continue;
        }
        let batch = httt_feed::parse(entry.bytes)?;
        let (feed, last) = (entry.feed, batch.sequence());
        let run =
            runs.get(&feed).filter(|run| rows.get(&(feed.clone(), **run)).is_some_and(|row| row.0 == batch.key()));
        let first = run.copied().unwrap_or(last);
        runs.insert(feed.clone(), first);
        let sealed_at_ms = batch.batch().sealed_at_ms;
        let sealed = Sealed { first, last, digest: batch.digest().to_string(), sealed_at_ms };
        rows.insert((feed, first), (batch.key(), sealed));
    }
    if as_json {
        let one = |((feed, _), (key, row)): (&(FeedId, u64), &(KeyId, Sealed))| {
            json!({
                "feed": feed.to_string(),
                "key_id": key.to_string(),
                "first": row.first,
                "last": row.last,
                "digest": row.digest,
                "sealed_at_ms": row.sealed_at_ms,
            })
        };
        println!("{}", json!({ "member": own.as_str(), "sealed": rows.iter().map(one).collect::<Vec<_>>() }));
        return Ok(());
    }
    for ((feed, _), (key, row)) in &rows {
        println!("{feed}  {}–{}", row.first, row.last);
        println!("  khoá (key)               {key}…");
        println!("  lúc (last sealed)        {}", time(row.sealed_at_ms));
        println!("  mã lô cuối (last digest) {}", read_out(&row.digest));
    }
    Ok(())
}
