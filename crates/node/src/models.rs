//! Read models: folds of the log, kept live, and compared with themselves rebuilt from nothing.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use httt_domain::models::Fact;
use httt_feed::Digest;
use httt_log::{Entry, Log, ReadError};
use serde::Serialize;
use tokio::sync::watch;

use crate::traffic::Receipted;

/// Entries folded between two looks at the clock while catching up.
const ENTRIES_AT_ONCE: usize = 1_024;
/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Longest that [`Models::reached`] waits.
const REACH_LIMIT: Duration = Duration::from_secs(10);
/// Bytes read at once while catching up.
const BYTES_AT_ONCE: usize = 4 * 1024 * 1024;

/// The read models of one node, folded in one pass.
pub trait ModelSet: Default + Send + Sync + 'static {
    /// Folds one fact into every model.
    fn apply(&mut self, fact: &Fact<'_>);
    /// Each model's name and the digest of its canonical form, see [`digest_of`].
    fn digests(&self) -> Vec<(&'static str, Digest)>;
    /// The model of receipts, where the node keeps one: nodes that originate feeds do.
    fn receipted(&self) -> Option<&Receipted> {
        None
    }
}

/// SHA-256 over the model as JSON. Models keep their parts in ordered maps, so equal models have equal bytes.
pub fn digest_of(model: &impl Serialize) -> Digest {
    match serde_json::to_vec(model) {
        Ok(bytes) => Digest::of(&bytes),
        // A map with keys that are no strings: a defect of the model, and never equal to a real digest.
        Err(error) => {
            tracing::error!(%error, "a read model has no canonical form");
            Digest([0; 32])
        }
    }
}

struct Folded<S> {
    set: S,
    /// Entries folded so far.
    position: u64,
}

impl<S: ModelSet> Folded<S> {
    fn fold(&mut self, entry: &Entry) {
        for_each_fact(entry, |fact| self.set.apply(fact));
        self.position = entry.position + 1;
    }
}

/// Hands each event of an entry to `take`, as models see it.
pub fn for_each_fact(entry: &Entry, mut take: impl FnMut(&Fact<'_>)) {
    for event in &entry.batch.events {
        take(&Fact {
            origin: entry.feed.origin.as_str(),
            audience: entry.feed.audience.as_str(),
            lane: entry.feed.lane.to_wire(),
            sequence: entry.sequence,
            stream: &event.stream,
            version: event.version,
            kind: &event.r#type,
            occurred_at_ms: event.occurred_at_ms,
            actor: &event.actor,
            data: &event.data,
        });
    }
}

/// One model, live and rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The model's name.
    pub model: &'static str,
    /// Entries folded into both.
    pub position: u64,
    /// Digest of the live one, hexadecimal.
    pub live: String,
    /// Digest of the one rebuilt from nothing.
    pub rebuilt: String,
    /// Whether they are the same.
    pub equal: bool,
}

/// A node's live read models. Cheap to clone.
pub struct Models<S> {
    folded: Arc<RwLock<Folded<S>>>,
    position: watch::Receiver<u64>,
    log: Log,
}

impl<S> Clone for Models<S> {
    fn clone(&self) -> Self {
        Self { folded: Arc::clone(&self.folded), position: self.position.clone(), log: self.log.clone() }
    }
}

impl<S: ModelSet> Models<S> {
    /// Folds the log as it stands, then keeps folding. The future returns when the models are as old as the call.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn start(log: &Log) -> Result<Self, ReadError> {
        let (known, position) = watch::channel(0);
        let folded = rebuild_in_background::<S>(log, log.len()).await?;
        let from = folded.position;
        tracing::info!(entries = from, "read models folded");
        known.send_replace(from);
        let models = Self { folded: Arc::new(RwLock::new(folded)), position, log: log.clone() };
        let folded = Arc::clone(&models.folded);
        let mut entries = log.subscribe(from);
        tokio::spawn(async move {
            loop {
                match entries.next().await {
                    Ok(entry) => {
                        let mut folded = folded.write().unwrap_or_else(|poisoned| poisoned.into_inner());
                        folded.fold(&entry);
                        known.send_replace(folded.position);
                    }
                    Err(ReadError::Closed) => return,
                    // Too many open files, say: what is not folded now is folded later, never left out.
                    Err(error) => {
                        tracing::error!(%error, "read models cannot follow the log; trying again");
                        tokio::time::sleep(READ_PAUSE).await;
                    }
                }
            }
        });
        Ok(models)
    }

    /// Looks at the models; keep it short, the fold waits.
    pub fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.folded.read().unwrap_or_else(|poisoned| poisoned.into_inner()).set)
    }

    /// How far the models are, in entries; changes are told.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.position.clone()
    }

    /// Waits until the models have folded `entries` entries, so that who wrote can read what it wrote.
    pub async fn reached(&self, entries: u64) {
        // When folding ended or stands still, the reader sees what there is.
        let mut position = self.position.clone();
        let reached = position.wait_for(|position| *position >= entries);
        if tokio::time::timeout(REACH_LIMIT, reached).await.is_err() {
            tracing::warn!(entries, "read models are behind the log");
        }
    }

    /// Rebuilds the models from nothing up to where the live ones stand and compares their digests.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn compare(&self) -> Result<Vec<Comparison>, ReadError> {
        let (position, live) = {
            let folded = self.folded.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            (folded.position, folded.set.digests())
        };
        let rebuilt = rebuild_in_background::<S>(&self.log, position).await?.set.digests();
        Ok(live
            .into_iter()
            .zip(rebuilt)
            .map(|((model, live), (_, rebuilt))| Comparison {
                model,
                position,
                live: live.to_string(),
                rebuilt: rebuilt.to_string(),
                equal: live == rebuilt,
            })
            .collect())
    }
}

async fn rebuild_in_background<S: ModelSet>(log: &Log, until: u64) -> Result<Folded<S>, ReadError> {
    let log = log.clone();
    tokio::task::spawn_blocking(move || rebuild(&log, until)).await.unwrap_or(Err(ReadError::Closed))
}

fn rebuild<S: ModelSet>(log: &Log, until: u64) -> Result<Folded<S>, ReadError> {
    let mut folded = Folded { set: S::default(), position: 0 };
    while folded.position < until {
        let left = usize::try_from(until - folded.position).unwrap_or(usize::MAX);
        let entries = log.read(folded.position, left.min(ENTRIES_AT_ONCE), BYTES_AT_ONCE)?;
        if entries.is_empty() {
            break;
        }
        entries.iter().for_each(|entry| folded.fold(entry));
    }
    Ok(folded)
}
