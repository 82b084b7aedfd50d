//! A node: its log, its directory, its media, opened together and in the right order.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Audience, Directory, Fingerprint, Lane, Sealer};
use httt_log::{CommitError, Log, NewEvent, OpenError, Options, ReadError, SystemClock, Transaction};
use httt_wire::directory::LogOpened;
use serde::Deserialize;
use tokio::sync::watch;

use httt_exchange::{
    Gate, LogStore, Meter, OwnFeeds, SharedDirectory, StoppedFeeds, Store, Suspect, Tally, Witnessing,
};

use crate::config::ConfigPath;
use crate::http::Readiness;
use crate::media::{MediaConfig, MediaStore, MediaStoreError};
use crate::metrics::{Kind, Metrics};
use crate::models::{DEFAULT_SNAPSHOT_ENTRIES, SnapshotOptions};
use crate::rotation::{self, Announce, KeyFiles, KeyFilesError, KeyOffer};
use crate::service::STOP_DEADLINE;
use crate::shutdown::Shutdown;
use crate::tlog::TlogConfig;

/// How often the log is asked whether it still writes.
const HEALTH_LOOK: Duration = Duration::from_millis(500);
/// Largest chunk that can be configured, MiB.
const MAX_CHUNK_MIB: u64 = 4_096;
/// Shortest time between two rounds of witnessing, ms.
const MIN_WITNESS_EVERY_MS: u64 = 1_000;

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
    /// Read models are stored after so many entries, and at every stop; 0: never.
    #[serde(default = "default_snapshot_entries")]
    pub snapshot_entries: u64,
    /// Where media are kept, and how much of them.
    #[serde(default)]
    pub media: MediaConfig,
    /// `GET /metrics` needs no log-in: whoever reaches the address reads the figures.
    #[serde(default)]
    pub open_metrics: bool,
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
    #[error(transparent)]
    Key(#[from] KeyFilesError),
    /// The log.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Writing the log's first event.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The directory in the log.
    #[error("the directory of members cannot be read ({0}); if it is archived, its folder must be there")]
    Directory(#[from] ReadError),
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
    /// What is taken into the log from others goes through it.
    pub gate: Gate,
    /// What members hold of its own feeds: the gateway asks them.
    pub own_feeds: OwnFeeds,
    /// The feeds it holds: those in its log, unless the service keeps them elsewhere.
    pub store: Arc<dyn Store>,
    /// Its media files.
    pub media: Arc<MediaStore>,
    /// The files of the key that it seals with.
    pub keys: KeyFiles,
    /// The new key that the gateway was offered and has not added.
    pub key_offer: Arc<watch::Sender<Option<KeyOffer>>>,
    /// Where its read models are stored, if they are.
    pub snapshots: Option<SnapshotOptions>,
    /// Cosigns other nodes' checkpoints, and gathers cosignatures of its own.
    pub witness: Arc<Witnessing>,
    /// What went over the wire, to and from whom.
    pub meter: Meter,
    /// What cannot be right, and who brought it.
    pub tally: Tally,
    /// Figures for monitors.
    pub metrics: Metrics,
    /// Whether they are told without log-in; see [`NodeConfig::open_metrics`].
    pub open_metrics: bool,
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
        let keys = KeyFiles::new(&config.signing_key);
        let key = keys.open()?;
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
            let dir = config.data_dir.join("log");
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
        // Without the members that it knew it would refuse everybody, and say again what was changed since.
        directory.check()?;
        let media = {
            let (folder, config) = (config.data_dir.join("media"), config.media.clone());
            tokio::task::spawn_blocking(move || MediaStore::open(folder, &config))
                .await
                .map_err(|error| NodeError::Config { field: "media", cause: error.to_string() })??
        };
        let media = Arc::new(media);
        let snapshots = (config.snapshot_entries > 0)
            .then(|| SnapshotOptions { dir: config.data_dir.join("models"), every: config.snapshot_entries });
        let every = Duration::from_millis(config.tlog.witness_every_ms);
        let witness = Arc::new(Witnessing::new(log.clone(), directory.clone()).every(every));
        let metrics = Metrics::default();
        log_figures(&metrics, &log);
        let meter = Meter::default();
        crate::wire::tell(&meter, &metrics);
        let tally = Tally::default();
        suspicion_figures(&metrics, &tally);
        let key_offer: Arc<watch::Sender<Option<KeyOffer>>> = Arc::default();
        let offered = Arc::clone(&key_offer);
        metrics.add(move |page| {
            let times = offered.borrow().map_or(0, |offer| offer.times);
            let help = "How often the new key was offered that the gateway has not added; 0: none waits.";
            page.figure(("httt_key_offers_unanswered", Kind::Gauge), help, times as f64);
        });
        Ok(Self {
            code,
            store: Arc::new(LogStore::new(log.clone())),
            log,
            directory,
            stopped: StoppedFeeds::default(),
            gate: Gate::default(),
            own_feeds: OwnFeeds::default(),
            media,
            keys,
            key_offer,
            snapshots,
            witness,
            meter,
            tally,
            metrics,
            open_metrics: config.open_metrics,
            public_entries: config.tlog.public_entries,
        })
    }

    /// Fingerprint of the key that it seals with at this time.
    pub fn fingerprint(&self) -> Fingerprint {
        self.log.public_key().fingerprint()
    }

    /// Changes the key that it seals with whenever `httt key rotate` made another, until `shutdown`. To be called once
    /// the node has its own entries back. `announce`: it is the gateway, see [`rotation`].
    pub fn change_keys(&self, announce: Option<Announce>, shutdown: &Shutdown) {
        let changing = rotation::run(self.clone(), announce, shutdown.watch());
        shutdown.spawn("key", async move {
            changing.await;
            Ok::<_, Infallible>(())
        });
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

fn log_figures(metrics: &Metrics, log: &Log) {
    let log = log.clone();
    metrics.add(move |page| {
        page.figure(("httt_log_entries", Kind::Gauge), "Entries (sealed batches) in the log.", log.len() as f64);
        let writable = if log.poisoned().is_none() { 1.0 } else { 0.0 };
        page.figure(("httt_log_writable", Kind::Gauge), "1 while the log takes writes.", writable);
    });
}

fn suspicion_figures(metrics: &Metrics, tally: &Tally) {
    let tally = tally.clone();
    metrics.add(move |page| {
        let suspects = tally.suspects();
        let mut tell = |name, help, of: fn(&Suspect) -> u64| {
            let figures = suspects.iter().map(|suspect| ([suspect.peer.clone()], of(suspect) as f64));
            page.metric((name, Kind::Counter), help, ["peer"], figures);
        };
        tell("httt_tampering_recorded_total", "What cannot be right and is on record, by who brought it.", |one| {
            one.kept
        });
        tell("httt_tampering_counted_total", "The same beyond the records of a day: only counted.", |one| one.counted);
    });
}
