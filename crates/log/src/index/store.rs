//! The index in sled, kept at arm's length: it panics on damaged files, so every call is guarded, and a store that
//! failed once is not asked again.

use std::any::Any;
use std::fs::{self, File};
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{Index, IndexError, Row};

/// How often sled writes out what it has in memory. The index can always be rebuilt, so this only bounds the work.
const FLUSH_EVERY_MS: u64 = 1_000;
/// Most damaged indexes kept aside.
const MAX_KEPT_ASIDE: usize = 2;
/// sled gives its file lock back a moment after its last handle is dropped: how often and how long to wait for it.
/// Nobody else can hold it, since the log's own lock is held.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// A damaged file can make sled wait for ever for a thread of its own that died.
const OPEN_PATIENCE: Duration = Duration::from_secs(120);
/// The same while running.
const CLOSE_PATIENCE: Duration = Duration::from_secs(60);

/// sled leaves a copy of a page behind for every row of a batch, and frees a few of them at every 128th call of a
/// thread. A thread that only ever applies batches would hoard gigabytes, so some cheap look-ups follow each batch.
const ROWS_PER_LOOKUP: usize = 2;

/// The index in a folder.
#[derive(Debug)]
pub(crate) struct SledIndex {
    /// Always there until dropped.
    db: Option<sled::Db>,
    broken: AtomicBool,
    /// See [`doubtful_mark`].
    mark: PathBuf,
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

impl SledIndex {
    /// Opens or creates the index in `dir`.
    pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        tell_panics_calmly();
        let mark = doubtful_mark(dir);
        let dir = dir.to_owned();
        let db = patiently(OPEN_PATIENCE, move || {
            let config =
                sled::Config::new().path(&dir).cache_capacity(cache_bytes).flush_every_ms(Some(FLUSH_EVERY_MS));
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
        Ok(Self { db: Some(db), broken: AtomicBool::new(false), mark })
    }

    fn run<T>(&self, run: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, IndexError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(IndexError("the index store failed before".into()));
        }
        let Some(db) = &self.db else { return Err(IndexError("the index store is closed".into())) };
        guarded(|| run(db)).inspect_err(|error| {
            self.broken.store(true, Ordering::Relaxed);
            // The next open looks at the newest rows only; without this it might keep what has just failed.
            if let Err(error) = File::create(&self.mark).and_then(|file| file.sync_all()) {
                tracing::error!(%error, "the index could not be marked as doubtful; delete its folder before the next start");
            }
            tracing::warn!(%error, "the index failed; opening the log anew rebuilds it");
        })
    }
}

impl Drop for SledIndex {
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

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError> {
        self.run(|db| Ok(db.get(key)?.map(|value| value.to_vec())))
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        self.run(|db| db.range(from..to).take(limit).map(|row| row.map(to_row)).collect())
    }

    fn range_backward(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError> {
        self.run(|db| db.range(from..to).rev().take(limit).map(|row| row.map(to_row)).collect())
    }

    fn apply(&self, rows: Vec<Row>) -> Result<(), IndexError> {
        self.run(|db| {
            let mut batch = sled::Batch::default();
            let count = rows.len();
            rows.into_iter().for_each(|(key, value)| batch.insert(key, value));
            db.apply_batch(batch)?;
            for _ in 0..count / ROWS_PER_LOOKUP {
                db.get(super::keys::META)?;
            }
            Ok(())
        })
    }

    fn flush(&self) -> Result<(), IndexError> {
        self.run(|db| db.flush().map(|_| ()))
    }

    fn failed(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }
}

fn to_row((key, value): (sled::IVec, sled::IVec)) -> Row {
    (key.to_vec(), value.to_vec())
}

/// The file beside an index that says: it failed, do not believe it.
pub(crate) fn doubtful_mark(index: &Path) -> PathBuf {
    index.with_extension("doubtful")
}

/// Moves a doubtful index out of the way, keeping the last few for whoever wants to know what happened to it.
pub(crate) fn move_aside(index: &Path) -> io::Result<Option<PathBuf>> {
    if !index.try_exists()? {
        return Ok(None);
    }
    let parent = index.parent().unwrap_or(Path::new("."));
    let name = index.file_name().and_then(|name| name.to_str()).unwrap_or("index");
    let prefix = format!("{name}.damaged-");
    let mut kept = Vec::new();
    for item in fs::read_dir(parent)? {
        let item = item?;
        if let Some(number) = item.file_name().to_str().and_then(|name| name.strip_prefix(&prefix)?.parse::<u64>().ok())
        {
            kept.push((number, item.path()));
        }
    }
    kept.sort();
    let next = kept.last().map_or(1, |(number, _)| number + 1);
    let aside = parent.join(format!("{prefix}{next}"));
    fs::rename(index, &aside)?;
    let surplus = (kept.len() + 1).saturating_sub(MAX_KEPT_ASIDE);
    for (_, old) in kept.into_iter().take(surplus) {
        if old.is_dir() { fs::remove_dir_all(&old)? } else { fs::remove_file(&old)? }
    }
    Ok(Some(aside))
}
