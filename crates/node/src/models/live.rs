//! The read models of a running node.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use httt_feed::Digest;
use httt_log::{GuardedStore, Log, ReadError, StoreError};
use tokio::sync::watch;

use super::fold::{Folded, History, LogEntries, Pass, restore, versions_of};
use super::snapshot::{Snapshot, SnapshotError, SnapshotStore, Unusable};
use super::{Comparison, FoldProgress, ModelSet, ModelsError};
use crate::assembly::Node;
use crate::shutdown::Shutdown;

/// Entries between two snapshots, unless configured: at some thousand entries a second of catching up, what a start folds
/// again takes a moment.
pub const DEFAULT_SNAPSHOT_ENTRIES: u64 = 50_000;
/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Longest that [`Models::reached`] waits.
const REACH_LIMIT: Duration = Duration::from_secs(10);
/// How often a long fold at start says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Where snapshots are.
#[derive(Debug, Clone)]
pub struct SnapshotOptions {
    /// Their folder, made when missing.
    pub dir: PathBuf,
    /// Entries between two; see [`DEFAULT_SNAPSHOT_ENTRIES`].
    pub every: u64,
}

struct Inner<S> {
    folded: RwLock<Folded<S>>,
    /// While it is held the fold stands still: what is then read for long keeps nobody else from reading, as a writer
    /// that waits for [`Self::folded`] would.
    still: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever compares or rebuilds.
    busy: tokio::sync::Mutex<()>,
    /// How far that is.
    progress: watch::Sender<Option<FoldProgress>>,
    position: watch::Receiver<u64>,
    snapshots: Mutex<Option<SnapshotStore>>,
    log: Log,
}

/// A node's live read models. Cheap to clone; clones are the same.
pub struct Models<S>(Arc<Inner<S>>);

impl<S> Clone for Models<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: ModelSet> Models<S> {
    /// Opens a node's models, see [`Models::open`]. Stores snapshots as configured and when `shutdown` is triggered; after
    /// that the models still follow the log, for requests that are being answered.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn start(node: &Node, shutdown: &Shutdown) -> Result<Self, ReadError> {
        let models = Self::open(&node.log, node.snapshots.clone()).await?;
        if let Some(options) = &node.snapshots {
            let (keeper, stop, every) = (models.clone(), shutdown.cancelled(), options.every);
            shutdown.spawn("snapshots", async move {
                keeper.keep_snapshots(every, stop).await;
                Ok::<_, Infallible>(())
            });
        }
        Ok(models)
    }

    /// Takes up the snapshots that can be believed, folds what follows them in the log, then keeps folding. Returns when
    /// the models are as old as the call. Without a store, or with one that cannot be opened, all is folded from nothing.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn open(log: &Log, snapshots: Option<SnapshotOptions>) -> Result<Self, ReadError> {
        let (known, position) = watch::channel(0);
        let own = log.clone();
        let begun = move || begin::<S>(&own, snapshots);
        let (folded, store) = tokio::task::spawn_blocking(begun).await.unwrap_or(Err(ReadError::Closed))?;
        let from = folded.position;
        tracing::info!(entries = from, "read models folded");
        known.send_replace(from);
        let models = Self(Arc::new(Inner {
            folded: RwLock::new(folded),
            still: Arc::default(),
            busy: tokio::sync::Mutex::default(),
            progress: watch::Sender::new(None),
            position,
            snapshots: Mutex::new(store),
            log: log.clone(),
        }));
        tokio::spawn(models.clone().follow(from, known));
        Ok(models)
    }

    async fn follow(self, from: u64, known: watch::Sender<u64>) {
        let mut entries = self.0.log.subscribe(from);
        loop {
            match entries.next().await {
                Ok(entry) => {
                    let _moving = self.0.still.lock().await;
                    let mut folded = self.0.write();
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
    }

    async fn keep_snapshots(self, every: u64, stop: impl Future<Output = ()>) {
        let mut position = self.watch();
        let mut last = *position.borrow();
        let due = async {
            loop {
                if position.wait_for(|position| *position >= last.saturating_add(every.max(1))).await.is_err() {
                    return;
                }
                last = *position.borrow();
                if let Err(error) = self.snapshot().await {
                    tracing::warn!(%error, "read models were not stored; the next start folds more");
                }
            }
        };
        tokio::select! {
            () = due => {}
            () = stop => {}
        }
        self.close().await;
    }

    /// Looks at the models; keep it short, the fold waits.
    pub fn read<T>(&self, look: impl FnOnce(&S) -> T) -> T {
        look(&self.0.read().set)
    }

    /// How far the models are, in entries; changes are told.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.position.clone()
    }

    /// Lets the fold stand still, and readers read, for as long as what this gives is held: to see what is done on models
    /// that are behind the log.
    pub async fn hold_still(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.0.still).lock_owned().await
    }

    /// How far a comparison or rebuild under way is; `None` while there is none.
    pub fn progress(&self) -> Option<FoldProgress> {
        *self.0.progress.borrow()
    }

    /// Waits until the models have folded `entries` entries, so that who wrote can read what it wrote. False when they
    /// have not within ten seconds, or never will: what they say is old then.
    #[must_use = "models that did not get there are old"]
    pub async fn reached(&self, entries: u64) -> bool {
        let mut position = self.watch();
        let reached = position.wait_for(|position| *position >= entries);
        let reached = matches!(tokio::time::timeout(REACH_LIMIT, reached).await, Ok(Ok(_)));
        if !reached {
            tracing::warn!(entries, "read models are behind the log");
        }
        reached
    }

    /// Stores every model as it is. Each one's bytes are made while the fold, but no reader, waits.
    ///
    /// # Errors
    /// The store refuses, or a model is too large; the snapshots before stay. Nothing happens where there is no store.
    pub async fn snapshot(&self) -> Result<(), SnapshotError> {
        let inner = Arc::clone(&self.0);
        tokio::task::spawn_blocking(move || {
            let store = inner.store();
            store.as_ref().map_or(Ok(()), |store| inner.store_all(store))
        })
        .await
        .unwrap_or_else(|error| Err(StoreError::Failed(error.to_string()).into()))
    }

    /// Stores every model a last time and gives the store back; the models go on.
    pub async fn close(&self) {
        let inner = Arc::clone(&self.0);
        let closed = tokio::task::spawn_blocking(move || {
            let Some(store) = inner.store().take() else { return };
            if let Err(error) = inner.store_all(&store) {
                tracing::warn!(%error, "read models were not stored; the next start folds more");
            }
        });
        if let Err(error) = closed.await {
            tracing::error!(%error, "storing read models broke");
        }
    }

    /// Rebuilds the models from nothing and compares digests, each where the live one stands now.
    ///
    /// # Errors
    /// See [`ModelsError`].
    pub async fn compare(&self) -> Result<Vec<Comparison>, ModelsError> {
        self.alone(|inner, on_progress| inner.compare(on_progress)).await
    }

    /// Rebuilds the models from nothing, compares them with the live ones at the same position, and puts them in their
    /// place, whatever came of it; then stores them.
    ///
    /// # Errors
    /// See [`ModelsError`]; the live ones stay then.
    pub async fn rebuild(&self) -> Result<Vec<Comparison>, ModelsError> {
        let compared = self.alone(|inner, on_progress| inner.rebuild(on_progress)).await?;
        if let Err(error) = self.snapshot().await {
            tracing::warn!(%error, "rebuilt read models were not stored; the next start folds more");
        }
        Ok(compared)
    }

    /// Runs work that takes the memory of all models again, once at a time.
    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner<S>, &mut dyn FnMut(&FoldProgress)) -> Result<T, ModelsError> + Send + 'static,
    ) -> Result<T, ModelsError> {
        let inner = Arc::clone(&self.0);
        let run = move || {
            let _alone = inner.busy.try_lock().map_err(|_| ModelsError::Busy)?;
            let done = work(&inner, &mut |progress| {
                inner.progress.send_replace(Some(*progress));
            });
            inner.progress.send_replace(None);
            done
        };
        tokio::task::spawn_blocking(run).await.unwrap_or(Err(ModelsError::Stopping))
    }
}

impl<S: ModelSet> Inner<S> {
    fn read(&self) -> RwLockReadGuard<'_, Folded<S>> {
        self.folded.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Folded<S>> {
        self.folded.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Option<SnapshotStore>> {
        self.snapshots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks. Every model is looked at on its own, so that the fold goes on between two.
    fn each_part<T>(&self, mut look: impl FnMut(&Folded<S>, &dyn super::Part) -> T) -> Vec<T> {
        let count = self.read().set.parts().len();
        let one = |index: usize| {
            let _still = self.still.blocking_lock();
            let folded = self.read();
            let parts = folded.set.parts();
            parts.get(index).map(|part| look(&folded, *part))
        };
        (0..count).filter_map(one).collect()
    }

    fn store_all(&self, store: &SnapshotStore) -> Result<(), SnapshotError> {
        // What others look at comes first here and is written last: after a crash at any moment, what is looked at is
        // at most as old as what looks at it.
        let mut encoded = self.each_part(|folded, part| {
            (part.name(), versions_of(&folded.set, part.name()), folded.position, part.encode())
        });
        let broken: Vec<_> = encoded.iter().filter(|(.., bytes)| bytes.is_err()).map(|(model, ..)| *model).collect();
        while let Some((model, versions, position, bytes)) = encoded.pop() {
            let bytes = match bytes {
                // What looked at a broken model may be wrong without knowing: it must not outlive the mending of that one.
                Ok(bytes) if !broken.iter().any(|broken| versions.contains_key(*broken)) => bytes,
                Ok(_) => continue,
                Err(problem) => {
                    tracing::error!(model, problem, "a read model is not stored");
                    continue;
                }
            };
            let root = self.log.root(position).map_err(|error| StoreError::Failed(error.to_string()))?;
            let log_id = self.log.log_id();
            store.write(&Snapshot { model: model.to_owned(), versions, log_id, position, root, bytes })?;
        }
        Ok(())
    }

    fn compare(&self, on_progress: &mut dyn FnMut(&FoldProgress)) -> Result<Vec<Comparison>, ModelsError> {
        let live = self.each_part(|folded, part| (folded.position, part.digest()));
        let stops: Vec<u64> = live.iter().map(|(position, _)| *position).collect();
        let mut entries = LogEntries::new(&self.log, 0);
        let mut pass = Pass::new(&mut entries, stops.iter().copied().max().unwrap_or(0), on_progress);
        let mut live: Vec<_> = live.into_iter().map(Some).collect();
        let mut compared = Vec::new();
        pass.run_by(&mut Folded::<S>::default(), stops.iter().copied(), |rebuilt| {
            for ((part, live), stop) in rebuilt.set.parts().into_iter().zip(&mut live).zip(&stops) {
                if *stop == rebuilt.position
                    && let Some((position, live)) = live.take()
                {
                    compared.push(Comparison::of(part.name(), position, live, part.digest(), rebuilt.gone_for(part)));
                }
            }
        })?;
        Ok(compared)
    }

    fn rebuild(&self, on_progress: &mut dyn FnMut(&FoldProgress)) -> Result<Vec<Comparison>, ModelsError> {
        let until = self.read().position;
        let mut rebuilt = Folded::<S>::default();
        let mut entries = LogEntries::new(&self.log, 0);
        let mut pass = Pass::new(&mut entries, until, on_progress);
        pass.run(&mut rebuilt, until)?;
        let still = self.still.blocking_lock();
        let live = self.read();
        // What was folded live in the meantime.
        pass.run(&mut rebuilt, live.position)?;
        if rebuilt.position != live.position {
            return Err(ReadError::Closed.into());
        }
        let compared = live.set.parts().into_iter().zip(rebuilt.set.parts());
        let compared = compared
            .map(|(live_part, part)| {
                Comparison::of(part.name(), live.position, live_part.digest(), part.digest(), rebuilt.gone_for(part))
            })
            .collect();
        drop(live);
        let before = std::mem::replace(&mut *self.write(), rebuilt);
        drop(still);
        drop(before);
        Ok(compared)
    }
}

/// Blocks: takes up snapshots and folds to where the log is now.
fn begin<S: ModelSet>(
    log: &Log,
    snapshots: Option<SnapshotOptions>,
) -> Result<(Folded<S>, Option<SnapshotStore>), ReadError> {
    let (mut folded, store) = match snapshots {
        None => (Folded::default(), None),
        Some(options) => take_up(log, &options),
    };
    let until = log.len();
    let mut told = Instant::now();
    let mut tell = |progress: &FoldProgress| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            let FoldProgress { position, until, .. } = progress;
            tracing::info!(position, until, events_per_second = progress.events_per_second(), "folding read models");
        }
    };
    let mut entries = LogEntries::new(log, folded.position);
    Pass::new(&mut entries, until, &mut tell).run(&mut folded, until)?;
    if folded.gone > 0 {
        let gone = folded.gone;
        tracing::warn!(gone, "entries went by retention before they were folded: read models lack what they said");
    }
    Ok((folded, store))
}

fn take_up<S: ModelSet>(log: &Log, options: &SnapshotOptions) -> (Folded<S>, Option<SnapshotStore>) {
    let store = match SnapshotStore::open_or_begin(&options.dir) {
        Ok(store) => store,
        Err(error) => return (Folded::default(), without_store(&error)),
    };
    let root = |position| -> Result<Digest, ReadError> { log.root(position) };
    let history = History { log_id: log.log_id(), length: log.len(), root: &root };
    let mut failed = false;
    let folded = restore(
        |model| {
            store.read(model).unwrap_or_else(|error| {
                failed = true;
                Err(Unusable::Damaged(error.to_string()))
            })
        },
        &history,
    );
    if !failed {
        return (folded, Some(store));
    }
    drop(store);
    let begun = GuardedStore::move_aside(&options.dir)
        .map_err(|error| SnapshotError::Folder { path: options.dir.clone(), cause: error.to_string() })
        .and_then(|_| SnapshotStore::open(&options.dir));
    (folded, begun.map_or_else(|error| without_store(&error), Some))
}

fn without_store(error: &SnapshotError) -> Option<SnapshotStore> {
    tracing::warn!(%error, "read models are not stored; every start folds the whole log");
    None
}
