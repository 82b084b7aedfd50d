//! A node: its log, its directory, its media, opened together and in the right order.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Audience, Directory, Fingerprint, KeyError, Lane, Sealer, SigningKey};
use httt_log::{CommitError, Log, NewEvent, OpenError, Options, SystemClock, Transaction};
use httt_wire::directory::LogOpened;
use serde::Deserialize;

use httt_exchange::{SharedDirectory, StoppedFeeds, Witnessing};

use crate::config::ConfigPath;
use crate::http::Readiness;
use crate::media::{MediaStore, MediaStoreError};
use crate::models::{DEFAULT_SNAPSHOT_ENTRIES, SnapshotOptions};
use crate::service::STOP_DEADLINE;
use crate::shutdown::Shutdown;
use crate::tlog::TlogConfig;

/// How often the log is asked whether it still writes.
const HEALTH_LOOK: Duration = Duration::from_millis(500);
/// Largest chunk that can be configured, MiB.
const MAX_CHUNK_MIB: u64 = 4_096;
/// Largest media file a node keeps: an hour of good audio, some minutes of video.
const DEFAULT_MAX_MEDIA_BYTES: u64 = 256 * 1024 * 1024;
/// Shortest time between two rounds of witnessing, ms.
const MIN_WITNESS_EVERY_MS: u64 = 1_000;
/// Largest signing key file.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// Section `[node]`: who this node is and where it keeps what it knows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Agency code, e.g. `H24`.
    pub member: String,
    /// Folder of the log and the media; made when missing.
    pub data_dir: ConfigPath,
    /// Ed25519 key that seals this node's batches, PKCS#8 PEM.
    pub signing_key: ConfigPath,
    /// Fingerprint of the gateway's key, 64 hexadecimal digits: the only trust configured by hand. Absent for the
    /// gateway, which trusts its own key.
    pub gateway_fingerprint: Option<String>,
    /// Size at which a chunk file is full, MiB.
    #[serde(default = "default_chunk_mib")]
    pub chunk_mib: u64,
    /// Memory for the index, MiB.
    #[serde(default = "default_index_cache_mib")]
    pub index_cache_mib: u64,
    /// A signed checkpoint is written at most this often while events arrive, ms.
    #[serde(default = "default_checkpoint_ms")]
    pub checkpoint_ms: u64,
    /// Largest media file, bytes.
    #[serde(default = "default_max_media_bytes")]
    pub max_media_bytes: u64,
    /// Read models are stored after so many entries, and at every stop; 0: never.
    #[serde(default = "default_snapshot_entries")]
    pub snapshot_entries: u64,
    /// What outsiders see of the log.
    #[serde(default)]
    pub tlog: TlogConfig,
}

fn default_chunk_mib() -> u64 {
    64
}
fn default_index_cache_mib() -> u64 {
    8
}
fn default_checkpoint_ms() -> u64 {
    1_000
}
fn default_max_media_bytes() -> u64 {
    DEFAULT_MAX_MEDIA_BYTES
}
fn default_snapshot_entries() -> u64 {
    DEFAULT_SNAPSHOT_ENTRIES
}

/// Why a node did not open.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The member code or the fingerprint.
    #[error("[node] {field}: {cause}")]
    Config {
        /// The key of the section.
        field: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The signing key.
    #[error("signing key {path}: {cause}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Writing the log's first event.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The media folder.
    #[error(transparent)]
    Media(#[from] MediaStoreError),
}

/// Whose directory a node believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The one of the configured fingerprint.
    Configured,
    /// Its own: the gateway.
    Own,
}

/// An open node.
#[derive(Clone)]
pub struct Node {
    /// Who it is.
    pub code: AgencyCode,
    /// Its log.
    pub log: Log,
    /// The directory folded from it.
    pub directory: SharedDirectory,
    /// Feeds that forked.
    pub stopped: StoppedFeeds,
    /// Its media files.
    pub media: Arc<MediaStore>,
    /// Seals what it says.
    pub sealer: Arc<Sealer>,
    /// Its key's fingerprint.
    pub fingerprint: Fingerprint,
    /// Where its read models are stored, if they are.
    pub snapshots: Option<SnapshotOptions>,
    /// Cosigns other nodes' checkpoints, and gathers cosignatures of its own.
    pub witness: Arc<Witnessing>,
    /// Whether entries for everybody are given out without log-in; see [`TlogConfig::public_entries`].
    pub public_entries: bool,
}

impl Node {
    /// Opens (or begins) the log, replays the directory and keeps it folded while the log grows.
    ///
    /// # Errors
    /// Anything that makes it unwise to start; the message says what to do.
    pub async fn open(config: &NodeConfig, trust: Trust, software: &str) -> Result<Self, NodeError> {
        let code = AgencyCode::new(&config.member)
            .map_err(|error| NodeError::Config { field: "member", cause: error.to_string() })?;
        let key = read_key(&config.signing_key)?;
        let public = key.public().clone();
        let wrong = |field, cause: &str| NodeError::Config { field, cause: cause.to_owned() };
        let trusted: Fingerprint = match (&config.gateway_fingerprint, trust) {
            (Some(text), Trust::Configured) => {
                text.parse().map_err(|_| wrong("gateway_fingerprint", "it is not 64 hexadecimal digits"))?
            }
            (None, Trust::Own) => public.fingerprint(),
            // Its own key would never verify anybody's directory, and nothing would say so.
            (None, Trust::Configured) => return Err(wrong("gateway_fingerprint", "it is missing")),
            (Some(_), Trust::Own) => return Err(wrong("gateway_fingerprint", "the gateway trusts its own key")),
        };
        if !(1..=MAX_CHUNK_MIB).contains(&config.chunk_mib) {
            return Err(wrong("chunk_mib", "1 to 4096"));
        }
        if config.tlog.witness_every_ms < MIN_WITNESS_EVERY_MS {
            return Err(wrong("tlog.witness_every_ms", "1000 at least"));
        }
        let options = Options {
            chunk_bytes: config.chunk_mib * 1024 * 1024,
            index_cache_bytes: config.index_cache_mib * 1024 * 1024,
            checkpoint_every: Duration::from_millis(config.checkpoint_ms),
            clock: Arc::new(SystemClock),
            ..Options::default()
        };
        let sealer = Arc::new(Sealer::new(code.clone(), key));
        let (log, report) = {
            let (dir, sealer) = (config.data_dir.join("log"), Arc::clone(&sealer));
            // Opening may rebuild an index: that is work for a thread that may block.
            tokio::task::spawn_blocking(move || Log::open(&dir, sealer, options))
                .await
                .map_err(|error| NodeError::Config { field: "data_dir", cause: error.to_string() })??
        };
        tracing::info!(member = %code, entries = log.len(), ?report, "log open");
        if log.is_empty() {
            let opened = LogOpened {
                member: code.to_string(),
                log_id: log.log_id().to_vec(),
                key: Some(public.to_wire()),
                software: software.to_owned(),
            };
            let event = NewEvent::of(Audience::One(code.clone()), Lane::Local, "log", &opened).with_actor(software);
            log.commit(Transaction::append(vec![event])).await?;
        }
        let known = Directory::trusting(trusted).knowing_own(code.clone(), public.clone());
        let directory = SharedDirectory::new(log.clone(), known);
        let media = Arc::new(MediaStore::open(config.data_dir.join("media"), config.max_media_bytes)?);
        let snapshots = (config.snapshot_entries > 0)
            .then(|| SnapshotOptions { dir: config.data_dir.join("models"), every: config.snapshot_entries });
        let every = Duration::from_millis(config.tlog.witness_every_ms);
        let witness = Arc::new(Witnessing::new(log.clone(), directory.clone()).every(every));
        Ok(Self {
            code,
            log,
            directory,
            stopped: StoppedFeeds::default(),
            media,
            sealer,
            fingerprint: public.fingerprint(),
            snapshots,
            witness,
            public_entries: config.tlog.public_entries,
        })
    }

    /// Puts the log on the board of `/readyz` until `shutdown`: a node that cannot write is not ready.
    pub fn report_to(&self, readiness: &Readiness, shutdown: &Shutdown) {
        let (part, log, stop) = (readiness.register("log"), self.log.clone(), shutdown.cancelled());
        part.ready();
        tokio::spawn(async move {
            let watch = async {
                while log.poisoned().is_none() {
                    tokio::time::sleep(HEALTH_LOOK).await;
                }
                part.not_ready(log.poisoned().unwrap_or_default());
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = watch => {}
                () = stop => {}
            }
        });
    }

    /// Waits for the parts to end and closes the log: the last thing a service does.
    pub async fn close(self, shutdown: &Shutdown) {
        if let Err(running) = shutdown.wait(STOP_DEADLINE).await {
            tracing::warn!(?running, "parts that did not end in time");
        }
        let entries = self.log.len();
        self.log.close().await;
        tracing::info!(entries, "log closed");
    }
}

fn read_key(path: &Path) -> Result<SigningKey, NodeError> {
    let wrong = |cause: String| NodeError::Key { path: path.to_owned(), cause };
    let size = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_KEY_FILE_BYTES {
        return Err(wrong(format!("a key file of {size} bytes is larger than the {MAX_KEY_FILE_BYTES} allowed")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    SigningKey::from_pem(&text).map_err(|error: KeyError| wrong(error.to_string()))
}
