//! The threads that write what is recent as runs, and merge runs.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

use super::manifest::{Manifest, Saved};
use super::recent::Recent;
use super::run::{self, MergeError, Run, RunInfo};
use super::{IndexError, Inner, MANIFEST_DIR};
use crate::{FeedHead, files};

/// Runs of one level that are merged into one of the next.
const RUNS_MERGED: usize = 8;
/// Runs with more ids are merged no more: what is larger takes long and memory (two bytes an id), and spares little.
const MAX_MERGED_IDS: u64 = 1 << 25;
/// Pause before what could not be written is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long writing a part may take before whoever waits for room is told that it takes too long.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the threads are told, and tell.
#[derive(Debug, Default)]
struct Signal {
    stop: bool,
    /// Why the last attempt to write failed, until one succeeds.
    trouble: Option<String>,
    /// Counts what there is to look at.
    flushes: u64,
    merges: u64,
}

#[derive(Debug, Default)]
struct Board {
    signal: Mutex<Signal>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, Signal> {
        self.signal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits for something not `seen` yet; false: it is time to stop.
    fn wait(&self, seen: &mut u64, count: impl Fn(&Signal) -> u64) -> bool {
        let mut signal = self.lock();
        while !signal.stop && count(&signal) == *seen {
            signal = self.changed.wait(signal).unwrap_or_else(PoisonError::into_inner);
        }
        *seen = count(&signal);
        !signal.stop
    }

    fn pause(&self) {
        let signal = self.lock();
        if !signal.stop {
            // Woken early, it just tries earlier.
            drop(self.changed.wait_timeout(signal, RETRY_PAUSE));
        }
    }
}

/// The threads.
#[derive(Debug)]
pub(super) struct Keeper {
    board: Arc<Board>,
    threads: Vec<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start(inner: &Arc<Inner>) -> io::Result<Self> {
        let mut keeper = Self { board: Arc::default(), threads: Vec::new() };
        let spawn = |name: &str, work: fn(&Inner, &Board)| {
            let (inner, board) = (Arc::clone(inner), Arc::clone(&keeper.board));
            thread::Builder::new().name(name.into()).spawn(move || work(&inner, &board))
        };
        let threads = [spawn("httt-index", write_runs), spawn("httt-merge", merge_runs)];
        for thread in threads {
            keeper.threads.push(thread?);
        }
        Ok(keeper)
    }

    /// Says that something was frozen.
    pub(super) fn wake(&self) {
        self.board.tell(|signal| signal.flushes += 1);
    }

    /// Waits while `busy`, which only writing changes.
    ///
    /// # Errors
    /// Text: writing fails just now, and this is why. It is tried again all the same.
    pub(super) fn wait_while(&self, busy: impl Fn() -> bool) -> Result<(), String> {
        if !busy() {
            return Ok(());
        }
        let mut signal = self.board.lock();
        while busy() {
            if let Some(trouble) = &signal.trouble {
                return Err(trouble.clone());
            }
            let (next, waited) =
                self.board.changed.wait_timeout(signal, PATIENCE).unwrap_or_else(PoisonError::into_inner);
            signal = next;
            if waited.timed_out() && busy() {
                return Err(format!("nothing of it was written for {PATIENCE:?}"));
            }
        }
        Ok(())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.board.tell(|signal| signal.stop = true);
        for thread in self.threads.drain(..) {
            // One that panicked said so; what it left undone is done again at the next open.
            let _ = thread.join();
        }
    }
}

/// Says so when the thread that writes runs ends with a panic: nobody must wait for it for ever.
struct Ended<'a>(&'a Board);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let trouble = "the thread that writes it panicked; open the log anew".to_owned();
            self.0.tell(|signal| signal.trouble = Some(trouble));
        }
    }
}

fn write_runs(inner: &Inner, board: &Board) {
    let _ended = Ended(board);
    let mut seen = 0;
    while board.wait(&mut seen, |signal| signal.flushes) {
        loop {
            let oldest = inner.state().frozen.front().cloned();
            let Some(oldest) = oldest else { break };
            match write_run(inner, &oldest) {
                Ok(()) => board.tell(|signal| {
                    signal.trouble = None;
                    signal.merges += 1;
                }),
                Err(IndexError(trouble)) => {
                    tracing::warn!(trouble, "the index could not be written; trying again");
                    board.tell(|signal| signal.trouble = Some(trouble));
                    board.pause();
                    if board.stopped() {
                        return;
                    }
                }
            }
        }
    }
}

fn stamp() -> Result<u64, IndexError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IndexError("no randomness for a run's stamp".into()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Writes one frozen part as a run, and lets go of it.
fn write_run(inner: &Inner, recent: &Recent) -> Result<(), IndexError> {
    let io = |error: io::Error| IndexError(format!("writing the index: {error}"));
    let Some(tip) = recent.tip() else { return Err(IndexError("a part of the index has no end".into())) };
    inner.entries.write(recent.first(), recent.rows(recent.first(), recent.end())).map_err(io)?;
    recent.nodes().try_for_each(|node| inner.nodes.write(&node)).map_err(io)?;
    let number = reserve_number(inner);
    let written = || {
        let info = run::write(&inner.dir, number, stamp()?, recent).map_err(io)?;
        inner.entries.sync().and_then(|()| inner.nodes.sync()).map_err(io)?;
        open_run(inner, info, &[])
    };
    // The next attempt writes files of another number; these are in nobody's list.
    let run = written().inspect_err(|_| run::remove(&inner.dir, number))?;
    let info = run.info;
    // Heads as they were at the end of this run; what follows is read again after a crash.
    let feeds: Vec<(u32, FeedHead)> = (0..)
        .zip(inner.state().feeds.iter())
        .filter_map(|(number, known)| {
            let (head, position) = recent.head(number)?;
            Some((number, FeedHead { feed: known.feed.clone(), head, position }))
        })
        .collect();
    save(
        inner,
        |saved| {
            saved.runs.push(info);
            saved.tip = Some(tip.clone());
            saved.feeds = saved.feeds.max(feeds.last().map_or(0, |(number, _)| number + 1));
        },
        &feeds,
    )?;
    inner.newest().refresh(recent.streams());
    let mut state = inner.state_mut();
    state.runs.push(run);
    state.frozen.pop_front();
    Ok(())
}

/// Opens a run that was just written, in place of some or of none.
fn open_run(inner: &Inner, info: RunInfo, replaced: &[Arc<Run>]) -> Result<Arc<Run>, IndexError> {
    let stays = |run: &&Arc<Run>| replaced.iter().all(|old| old.info.number != run.info.number);
    let kept = inner
        .state()
        .runs
        .iter()
        .filter(stays)
        .filter(|run| run.keeps_filters())
        .map(|run| run.info.filter_bytes())
        .sum::<u64>();
    let keep = kept + info.filter_bytes() <= inner.settings.filter_bytes;
    Run::open(&inner.dir, info, keep).map(Arc::new)
}

fn reserve_number(inner: &Inner) -> u32 {
    let mut saved = inner.saved.lock().unwrap_or_else(PoisonError::into_inner);
    saved.1.next_run += 1;
    saved.1.next_run - 1
}

/// Saves a change of the manifest; after an error nothing is changed.
fn save(inner: &Inner, change: impl FnOnce(&mut Saved), feeds: &[(u32, FeedHead)]) -> Result<(), IndexError> {
    // The names of new files first.
    files::sync_dir(&inner.dir).map_err(|error| IndexError(format!("syncing the index's folder: {error}")))?;
    let mut guard = inner.saved.lock().unwrap_or_else(PoisonError::into_inner);
    let (manifest, saved) = &mut *guard;
    let mut next = saved.clone();
    change(&mut next);
    let store = match manifest.take() {
        Some(store) => store,
        // sled does not recover from an error, a full disk say; a new handle does.
        None => Manifest::open(&inner.dir.join(MANIFEST_DIR))?,
    };
    store.write(&next, feeds)?;
    *manifest = Some(store);
    *saved = next;
    Ok(())
}

fn merge_runs(inner: &Inner, board: &Board) {
    let mut seen = 0;
    while board.wait(&mut seen, |signal| signal.merges) {
        loop {
            // Not in the condition of the loop: the lock would be held all through it.
            let runs = due(&inner.state().runs);
            let Some(runs) = runs else { break };
            match merge_into_one(inner, &runs, &|| board.stopped()) {
                Ok(()) => {}
                Err(MergeError::Stopped) => return,
                Err(MergeError::Index(error)) => {
                    inner.fail(&error.0);
                    return;
                }
                Err(MergeError::Io(error)) => {
                    // Nothing depends on it but speed.
                    tracing::warn!(%error, "runs of the index could not be merged; trying again later");
                    board.pause();
                    break;
                }
            }
        }
    }
}

/// Neighbours to merge, if there are enough.
fn due(runs: &[Arc<Run>]) -> Option<Vec<Arc<Run>>> {
    let mut levels: Vec<u8> = runs.iter().map(|run| run.info.level).collect();
    levels.sort_unstable();
    levels.dedup();
    levels.into_iter().find_map(|level| {
        let start = runs.iter().position(|run| run.info.level == level)?;
        let same: Vec<_> =
            runs[start..].iter().take_while(|run| run.info.level == level).take(RUNS_MERGED).cloned().collect();
        let ids: u64 = same.iter().map(|run| run.info.ids).sum();
        (same.len() == RUNS_MERGED && ids <= MAX_MERGED_IDS).then_some(same)
    })
}

fn merge_into_one(inner: &Inner, runs: &[Arc<Run>], stop: &dyn Fn() -> bool) -> Result<(), MergeError> {
    let number = reserve_number(inner);
    let borrowed: Vec<&Run> = runs.iter().map(Arc::as_ref).collect();
    let merged = |run: &RunInfo| runs.iter().any(|old| old.info.number == run.number);
    let written = || {
        let info = run::merge(&inner.dir, number, stamp()?, &borrowed, stop)?;
        // Too many open files, say. It is the old runs whose damage counts, and they were read well.
        open_run(inner, info, runs).map_err(|error| MergeError::Io(io::Error::other(error.0)))
    };
    let run = written().inspect_err(|_| run::remove(&inner.dir, number))?;
    let info = run.info;
    save(
        inner,
        |saved| {
            let at = saved.runs.iter().position(merged).unwrap_or(saved.runs.len());
            saved.runs.retain(|run| !merged(run));
            saved.runs.insert(at, info);
        },
        &[],
    )
    .map_err(|error| MergeError::Io(io::Error::other(error.0)))?;
    let mut state = inner.state_mut();
    let at = state.runs.iter().position(|run| merged(&run.info)).unwrap_or(state.runs.len());
    state.runs.retain(|run| !merged(&run.info));
    state.runs.insert(at, run);
    drop(state);
    // Readers that hold on to them read on.
    runs.iter().for_each(|run| run::remove(&inner.dir, run.info.number));
    Ok(())
}
