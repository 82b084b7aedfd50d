//! A sled store kept at arm's length: sled panics on damaged files and waits for ever for threads of its own that died,
//! so every call is guarded.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::IndexError;

/// One row: key and value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// Memory for sled's cache: what is kept here is small.
const CACHE_BYTES: u64 = 1 << 20;
/// sled gives its file lock back a moment after its last handle is dropped: how often and how long to wait for it.
/// Nobody else can hold it, since the log's own lock is held.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// A damaged file can make sled wait for ever for a thread of its own that died.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);
/// The same while running.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// A store in a folder of its own.
#[derive(Debug)]
pub(crate) struct Store {
    /// Always there until dropped.
    db: Option<sled::Db>,
    broken: AtomicBool,
}

/// sled's panics are answered by rebuilding the index, so they are told as a warning, not as a crash of the program.
/// All other panics go to whatever hook there was.
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
                tracing::warn!(cause = %info, "the index store met something it does not understand; the log itself is not affected");
            } else {
                before(info);
            }
        }));
    });
}

fn panic_text(cause: &(dyn Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    format!("the index store panicked: {}", text.unwrap_or("without a message"))
}

fn guarded<T>(run: impl FnOnce() -> sled::Result<T>) -> Result<T, IndexError> {
    match panic::catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(IndexError(error.to_string())),
        Err(cause) => Err(IndexError(panic_text(cause.as_ref()))),
    }
}

/// Runs `work` on a thread of its own and waits so long for it; a thread that hangs is left behind.
fn patiently<T: Send + 'static>(
    patience: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, IndexError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("sled-guard".into())
        .spawn(move || {
            // Nobody waiting any more is no reason to stop.
            let _ = sender.send(work());
        })
        .map_err(|error| IndexError(format!("no thread for the index: {error}")))?;
    receiver.recv_timeout(patience).map_err(|_| IndexError(format!("no answer from the index store in {patience:?}")))
}

impl Store {
    /// Opens or creates the store in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self, IndexError> {
        tell_panics_calmly();
        let dir = dir.to_owned();
        let db = patiently(OPEN_PATIENCE, move || {
            // What has to be on disk is flushed when it is written.
            let config = sled::Config::new().path(&dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
            let mut tries = 0;
            loop {
                match guarded(|| config.open()) {
                    Err(error) if error.0.contains("could not acquire lock") && tries < LOCK_TRIES => {
                        tries += 1;
                        thread::sleep(LOCK_PAUSE);
                    }
                    done => return done,
                }
            }
        })??;
        Ok(Self { db: Some(db), broken: AtomicBool::new(false) })
    }

    fn run<T>(&self, run: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, IndexError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(IndexError("the index store failed before".into()));
        }
        let Some(db) = &self.db else { return Err(IndexError("the index store is closed".into())) };
        guarded(|| run(db)).inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }

    /// One value.
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.run(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    /// All rows whose key begins so, in order.
    pub(crate) fn with_prefix(&self, prefix: &[u8]) -> Result<Vec<Row>, IndexError> {
        self.run(|db| {
            db.scan_prefix(prefix).map(|row| row.map(|(key, value)| (key.to_vec(), value.to_vec()))).collect()
        })
    }

    /// Writes rows, all or none, and hands them to the system's disk cache.
    pub(crate) fn write(&self, rows: Vec<Row>) -> Result<(), IndexError> {
        self.run(|db| {
            let mut batch = sled::Batch::default();
            rows.into_iter().for_each(|(key, value)| batch.insert(key, value));
            db.apply_batch(batch)?;
            db.flush().map(|_| ())
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let Some(db) = self.db.take() else { return };
        if self.broken.load(Ordering::Relaxed) {
            // sled's drop waits for threads that may be dead.
            std::mem::forget(db);
            return;
        }
        let close = move || {
            drop(db);
            Ok(())
        };
        if let Err(error) = patiently(CLOSE_PATIENCE, move || guarded(close)).flatten() {
            tracing::warn!(%error, "the index did not close; it will be checked at the next open");
        }
    }
}
