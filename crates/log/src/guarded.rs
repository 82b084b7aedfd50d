//! A sled store kept at arm's length, for what can be rebuilt at any time: sled panics on damaged files, hangs when one of
//! its threads died, and its flush is no fsync. Every call is guarded, and a store that failed once is not asked again.

use std::any::Any;
use std::fs;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How often sled writes out what it has in memory. What is kept here can be rebuilt, so this only bounds the work.
const FLUSH_EVERY_MS: u64 = 1_000;
/// Most damaged stores kept aside.
const MAX_KEPT_ASIDE: usize = 2;
/// sled gives its file lock back a moment after its last handle is dropped: how often and how long to wait for it.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How long opening may take. A damaged file can make sled wait for ever for a thread of its own that died.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);
/// How long closing may.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);
/// The same for a store that failed.
const FAILED_PATIENCE: Duration = Duration::from_secs(2);
/// sled leaves a copy of a page behind for every row of a batch, and frees a few of them at every 128th call of a
/// thread. A thread that only ever applies batches would hoard gigabytes, so some cheap look-ups follow each batch.
const ROWS_PER_LOOKUP: usize = 2;

/// Why the store gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// sled failed, panicked or gave no answer: delete or move the folder aside and rebuild.
    #[error("{0}")]
    Failed(String),
}

/// A change of one row: its key, and its value or nothing to remove it.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Ordered rows in a folder. What was written may be gone after a power cut, and what is read may be damaged: callers
/// keep digests of what they cannot do without.
#[derive(Debug)]
pub struct GuardedStore {
    /// Always there until dropped.
    db: Option<sled::Db>,
    broken: AtomicBool,
}

impl GuardedStore {
    /// Opens or creates the store in `dir`, with so many bytes of cache. Waits some seconds for a lock that is just being
    /// given back.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: another process has it. [`StoreError::Failed`]: the files make no sense, see [`Self::move_aside`].
    pub fn open(dir: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        tell_panics_calmly();
        let dir = dir.to_owned();
        let db = patiently(OPEN_PATIENCE, move || {
            let config =
                sled::Config::new().path(&dir).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
            let mut tries = 0;
            loop {
                match guarded(|| config.open()) {
                    Err(StoreError::Failed(text)) if text.contains("could not acquire lock") => {
                        if tries == LOCK_TRIES {
                            return Err(StoreError::InUse(dir));
                        }
                        tries += 1;
                        thread::sleep(LOCK_PAUSE);
                    }
                    done => return done,
                }
            }
        })??;
        Ok(Self { db: Some(db), broken: AtomicBool::new(false) })
    }

    fn run<T>(&self, run: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, StoreError> {
        if self.failed() {
            return Err(StoreError::Failed("the store failed before".into()));
        }
        let Some(db) = &self.db else { return Err(StoreError::Failed("the store is closed".into())) };
        guarded(|| run(db)).inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }

    /// One row.
    ///
    /// # Errors
    /// The store failed; so for all calls below.
    pub fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.run(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    /// Keys from `from` on and before `to`, ascending, at most `limit`.
    pub fn keys(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        self.run(|db| db.range(from..to).keys().take(limit).map(|key| key.map(|key| key.to_vec())).collect())
    }

    /// All changes or none.
    pub fn apply(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        self.run(|db| {
            let mut batch = sled::Batch::default();
            let count = changes.len();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(key, value),
                    None => batch.remove(key),
                }
            }
            db.apply_batch(batch)?;
            for _ in 0..count.div_ceil(ROWS_PER_LOOKUP) {
                db.get([])?;
            }
            Ok(())
        })
    }

    /// Hands what was written to the operating system.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.run(|db| db.flush().map(|_| ()))
    }

    /// Whether a call failed; then all further ones do.
    pub fn failed(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Moves a doubtful store out of the way, keeping the last two for whoever wants to know what happened to it. Gives the
    /// new place; `None`: there was none.
    ///
    /// # Errors
    /// The folder cannot be renamed.
    pub fn move_aside(dir: &Path) -> io::Result<Option<PathBuf>> {
        if !dir.try_exists()? {
            return Ok(None);
        }
        let parent = dir.parent().unwrap_or(Path::new("."));
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or("store");
        let prefix = format!("{name}.damaged-");
        let mut kept = Vec::new();
        for item in fs::read_dir(parent)? {
            let item = item?;
            let number = item.file_name().to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok());
            kept.extend(number.map(|number| (number, item.path())));
        }
        kept.sort();
        let next = kept.last().map_or(1, |(number, _)| number + 1);
        let aside = parent.join(format!("{prefix}{next}"));
        fs::rename(dir, &aside)?;
        let surplus = (kept.len() + 1).saturating_sub(MAX_KEPT_ASIDE);
        for (_, old) in kept.into_iter().take(surplus) {
            if old.is_dir() { fs::remove_dir_all(&old)? } else { fs::remove_file(&old)? }
        }
        Ok(Some(aside))
    }
}

impl Drop for GuardedStore {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        let close = move || {
            drop(db);
            Ok(())
        };
        // sled's drop waits for threads of its own. After a failure they may be dead, and whatever waits for them is left
        // behind; if they are not, the store can be opened anew.
        let patience = if self.failed() { FAILED_PATIENCE } else { CLOSE_PATIENCE };
        if let Err(error) = patiently(patience, move || guarded(close)).flatten() {
            tracing::warn!(%error, "a derived store did not close; it will be checked at the next open");
        }
    }
}

/// sled's panics are answered by rebuilding, so they are told as a warning, not as a crash of the program. All other
/// panics go to whatever hook there was.
fn tell_panics_calmly() {
    static ONCE: Once = Once::new();
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let place = info.location().map(|place| place.file()).unwrap_or_default();
            if place.contains("/sled-0.") || thread::current().name().is_some_and(|name| name.starts_with("sled-")) {
                tracing::warn!(cause = %info, "a derived store met something it does not understand; the log is not affected");
            } else {
                before(info);
            }
        }));
    });
}

fn panic_text(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    format!("the store panicked: {}", text.unwrap_or("without a message"))
}

fn guarded<T>(run: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(StoreError::Failed(error.to_string())),
        Err(cause) => Err(StoreError::Failed(panic_text(cause.as_ref()))),
    }
}

/// Runs `work` on a thread of its own and waits so long for it; a thread that hangs is left behind.
fn patiently<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("sled-guard".into())
        .spawn(move || {
            // Nobody waiting any more is no reason to stop.
            let _ = sender.send(work());
        })
        .map_err(|error| StoreError::Failed(format!("no thread for the store: {error}")))?;
    receiver.recv_timeout(patience).map_err(|_| StoreError::Failed(format!("no answer from the store in {patience:?}")))
}
