//! The derived side of the log: where entries, events, streams and feeds are. It may lag, lie or vanish, and is rebuilt
//! from the chunks then.
//!
//! ```text
//! index/manifest/         sled: which runs there are, up to where they go, the feeds ([`manifest`])
//! index/entries           one row per entry, by position ([`row`])
//! index/nodes-1 …         Merkle nodes over 256, 256², … leaves, by number ([`flat`])
//! index/00000007.ids …    a run: ids, streams and feeds of one stretch of the log, sorted ([`run`])
//! ```
//! What is newest is in memory ([`recent`]). When that holds [`Settings::run_events`] events it is frozen, a thread
//! writes it as a run, and another merges eight neighbouring runs of a level into one of the next. After a crash the
//! chunks are read again from the end of the last run on. Nothing here is ever written by the log's writer, so a slow
//! disk slows a commit only when two frozen parts wait already.
//!
//! Every row, bucket and block has a CRC: what is damaged is an error, not an answer.

pub(crate) mod aside;
mod flat;
pub(crate) mod hash;
mod heads;
mod keeper;
pub(crate) mod manifest;
mod recent;
pub(crate) mod row;
mod run;
mod table;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use httt_feed::{AgencyCode, Digest, FeedId, Head};
use httt_wire::feed as pb;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

use crate::chunks::Location;
use crate::merkle::{CompactRange, Node};
use crate::{EventPosition, FeedHead};
use flat::{EntriesFile, NodesFiles};
use hash::{Hasher, KEY_BYTES};
use heads::NewestSpans;
use keeper::Keeper;
use manifest::{Manifest, Saved};
use recent::Recent;
use row::EntryRow;
use run::{Run, Span};

/// Folder of the manifest, in the index's folder.
const MANIFEST_DIR: &str = "manifest";
/// Frozen parts that may wait for being written.
const MAX_FROZEN: usize = 2;

/// The index failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

/// Where a commit group ends, and the Merkle tree with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) chunk: u32,
    /// Offset after the group's commit marker.
    pub(crate) end: u64,
    /// Offset of the marker.
    pub(crate) marker: u64,
    /// Number of the group in its chunk.
    pub(crate) group: u32,
    pub(crate) range: CompactRange,
}

/// One entry as the index takes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexedEntry<'a> {
    pub(crate) at: Location,
    pub(crate) leaf: Digest,
    pub(crate) feed: &'a FeedId,
    pub(crate) head: Head,
    pub(crate) at_ms: i64,
    pub(crate) events: &'a [pb::Event],
}

/// How an index is opened.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Events kept in memory before they are written as a run.
    pub(crate) run_events: usize,
    /// Memory for filters; those of further runs stay on disk.
    pub(crate) filter_bytes: u64,
    /// Whose log it is, if this node is to write it.
    pub(crate) own: Option<AgencyCode>,
    pub(crate) log_id: [u8; 16],
}

/// What is where.
#[derive(Debug)]
struct State {
    feeds: Vec<FeedHead>,
    numbers: HashMap<FeedId, u32>,
    recent: Recent,
    /// Oldest first.
    frozen: VecDeque<Arc<Recent>>,
    /// Oldest first; they end where the oldest part in memory begins.
    runs: Vec<Arc<Run>>,
}

impl State {
    /// The parts in memory, newest first.
    fn in_memory(&self) -> impl DoubleEndedIterator<Item = &Recent> {
        self.frozen.iter().map(Arc::as_ref).chain([&self.recent]).rev()
    }

    /// Where the parts in memory begin.
    fn base(&self) -> u64 {
        self.frozen.front().map_or(self.recent.first(), |part| part.first())
    }

    fn freeze(&mut self) {
        let next = Recent::new(self.recent.end());
        let full = std::mem::replace(&mut self.recent, next);
        self.frozen.push_back(Arc::new(full));
    }

    fn feed_number(&mut self, feed: &FeedId, head: Head, position: u64) -> u32 {
        if let Some(number) = self.numbers.get(feed) {
            if let Some(known) = self.feeds.get_mut(*number as usize) {
                (known.head, known.position) = (head, position);
            }
            return *number;
        }
        let number = self.feeds.len() as u32;
        self.numbers.insert(feed.clone(), number);
        self.feeds.push(FeedHead { feed: feed.clone(), head, position });
        number
    }
}

/// What readers, the writer and the keeper's threads share.
#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    settings: Settings,
    hasher: Hasher,
    entries: EntriesFile,
    nodes: NodesFiles,
    state: RwLock<State>,
    newest: Mutex<NewestSpans>,
    /// The manifest, unless it failed and was not opened again yet, and what it says.
    saved: Mutex<(Option<Manifest>, Saved)>,
    broken: OnceLock<String>,
}

impl Inner {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers that the index cannot be believed, beyond the end of this process too.
    fn fail(&self, reason: &str) {
        if self.broken.set(reason.to_owned()).is_err() {
            return;
        }
        // The next open looks at a few rows only; without this it might keep what has just failed.
        if let Err(error) = aside::mark_doubtful(&self.dir) {
            tracing::error!(%error, "the index could not be marked as doubtful; delete its folder before the next start");
        }
        tracing::error!(reason, "the index failed; opening the log anew rebuilds it");
    }

    fn newest(&self) -> MutexGuard<'_, NewestSpans> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        result.inspect_err(|error| self.fail(&error.0))
    }
}

/// The index of one log.
#[derive(Debug)]
pub(crate) struct Index {
    inner: Arc<Inner>,
    keeper: Keeper,
}

impl Index {
    /// Opens or creates the index in `dir`. The second value says where it ends; `None`: it is empty.
    pub(crate) fn open(dir: &Path, settings: Settings) -> Result<(Self, Option<Tip>), IndexError> {
        let io = |error: std::io::Error| IndexError(format!("{}: {error}", dir.display()));
        fs::create_dir_all(dir).map_err(io)?;
        let manifest = Manifest::open(&dir.join(MANIFEST_DIR))?;
        let (saved, feeds) = match manifest.read()? {
            Some(found) => found,
            None => {
                let mut key = [0; KEY_BYTES];
                SystemRandom::new().fill(&mut key).map_err(|_| IndexError("no randomness for a hash key".into()))?;
                let runs = Vec::new();
                (Saved { log_id: settings.log_id, key, tip: None, next_run: 0, feeds: 0, runs }, Vec::new())
            }
        };
        if saved.log_id != settings.log_id {
            return Err(IndexError("the index is of another log".into()));
        }
        let mut runs = Vec::with_capacity(saved.runs.len());
        let (mut budget, mut end) = (settings.filter_bytes, 0);
        for info in &saved.runs {
            if info.first != end {
                return Err(IndexError("its runs do not follow one another".into()));
            }
            let keep = info.filter_bytes() <= budget;
            budget -= if keep { info.filter_bytes() } else { 0 };
            runs.push(Arc::new(Run::open(dir, *info, keep)?));
            end = info.end;
        }
        let tip = saved.tip.clone();
        if tip.as_ref().map_or(0, |tip| tip.range.size()) != end {
            return Err(IndexError("its runs do not end where it says".into()));
        }
        remove_strays(dir, &saved).map_err(io)?;
        let inner = Arc::new(Inner {
            hasher: Hasher::new(saved.key),
            entries: EntriesFile::open(dir).map_err(io)?,
            nodes: NodesFiles::open(dir).map_err(io)?,
            dir: dir.to_owned(),
            settings,
            state: RwLock::new(State {
                numbers: (0..).zip(&feeds).map(|(number, head)| (head.feed.clone(), number)).collect(),
                feeds,
                recent: Recent::new(end),
                frozen: VecDeque::new(),
                runs,
            }),
            newest: Mutex::default(),
            saved: Mutex::new((Some(manifest), saved)),
            broken: OnceLock::new(),
        });
        let keeper = Keeper::start(&inner).map_err(io)?;
        Ok((Self { inner, keeper }, tip))
    }

    /// How many entries the list of runs in `dir` covers, whether the runs are good or not; 0 if it cannot be read.
    pub(crate) fn entries_listed(dir: &Path, log_id: &[u8; 16]) -> u64 {
        let saved = Manifest::open(&dir.join(MANIFEST_DIR)).and_then(|manifest| manifest.read());
        let saved = saved.ok().flatten().map(|(saved, _)| saved).filter(|saved| saved.log_id == *log_id);
        saved.and_then(|saved| saved.tip).map_or(0, |tip| tip.range.size())
    }

    /// Why it answers nothing any more, if it failed.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.inner.broken.get().map(String::as_str)
    }

    /// Waits until there is room for another group.
    ///
    /// # Errors
    /// Text: why the parts in memory cannot be written just now.
    pub(crate) fn make_room(&self) -> Result<(), String> {
        let full = || {
            let state = self.inner.state();
            state.frozen.len() >= MAX_FROZEN && state.recent.size() >= self.inner.settings.run_events
        };
        self.keeper.wait_while(full)
    }

    /// Takes a group's entries, the tree nodes they completed, and the group's end.
    pub(crate) fn add(&self, entries: &[IndexedEntry<'_>], nodes: Vec<Node>, tip: Tip) {
        let inner = &self.inner;
        let mut state = inner.state_mut();
        for entry in entries {
            let position = state.recent.end();
            let feed = state.feed_number(entry.feed, entry.head, position);
            let own = Some(&entry.feed.origin) == inner.settings.own.as_ref();
            state.recent.add(&inner.hasher, entry, feed, own);
        }
        nodes.into_iter().for_each(|node| state.recent.add_node(node));
        state.recent.set_tip(tip);
        let full = state.recent.size() >= inner.settings.run_events && state.frozen.len() < MAX_FROZEN;
        if full {
            state.freeze();
        }
        drop(state);
        if full {
            self.keeper.wake();
        }
    }

    /// Writes what is in memory.
    pub(crate) fn flush(&self) -> Result<(), IndexError> {
        let mut state = self.inner.state_mut();
        if state.recent.size() > 0 {
            state.freeze();
        }
        drop(state);
        self.keeper.wake();
        self.keeper.wait_while(|| !self.inner.state().frozen.is_empty()).map_err(IndexError)
    }

    /// The entry after the last it knows.
    pub(crate) fn end(&self) -> u64 {
        self.inner.state().recent.end()
    }

    /// Rows of the entries `from..from + count`.
    pub(crate) fn rows(&self, from: u64, count: usize) -> Result<Vec<EntryRow>, IndexError> {
        let to = from.saturating_add(count as u64);
        let state = self.inner.state();
        let base = state.base();
        if from < base {
            // Rows in the file stay where they are: no need to hold the lock while they are read.
            drop(state);
            let end = to.min(base);
            let mut rows = self.inner.judged(self.inner.entries.read(from, (end - from) as usize))?;
            if end < to {
                // What was in memory a moment ago may be in the file by now.
                rows.extend(self.rows(end, (to - end) as usize)?);
            }
            return Ok(rows);
        }
        let mut rows = Vec::with_capacity(count);
        for part in state.in_memory().rev() {
            rows.extend_from_slice(part.rows(from.max(part.first()), to));
        }
        drop(state);
        if rows.len() == count {
            Ok(rows)
        } else {
            Err(IndexError(format!("it does not know entry {}", from + rows.len() as u64)))
        }
    }

    /// The row of one entry; `None`: there is no such entry.
    pub(crate) fn row(&self, position: u64) -> Result<Option<EntryRow>, IndexError> {
        {
            let state = self.inner.state();
            if position >= state.recent.end() {
                return Ok(None);
            }
            let in_memory = state.in_memory().find_map(|part| part.rows(position, position + 1).first());
            if let Some(row) = in_memory {
                return Ok(Some(*row));
            }
        }
        Ok(self.rows(position, 1)?.pop())
    }

    /// The feed with this number.
    pub(crate) fn feed(&self, number: u32) -> Result<FeedId, IndexError> {
        let state = self.inner.state();
        let feed = state.feeds.get(number as usize).map(|head| head.feed.clone());
        drop(state);
        self.inner.judged(feed.ok_or_else(|| IndexError(format!("it knows no feed number {number}"))))
    }

    /// All feeds, by number.
    pub(crate) fn feeds(&self) -> Vec<FeedHead> {
        self.inner.state().feeds.clone()
    }

    /// Entries of `feed` with the sequences `from..=to`, in order.
    pub(crate) fn batches(&self, feed: &FeedId, from: u64, to: u64) -> Result<Vec<u64>, IndexError> {
        let mut found = Vec::new();
        let mut in_memory = Vec::new();
        let state = self.inner.state();
        let Some(number) = state.numbers.get(feed).copied() else { return Ok(found) };
        for part in state.in_memory().rev() {
            part.feed(number, from, to, |entry| in_memory.push(entry));
        }
        let wanted = to.saturating_sub(from).saturating_add(1);
        let runs = if in_memory.len() as u64 == wanted { Vec::new() } else { state.runs.clone() };
        drop(state);
        for run in runs {
            self.inner.judged(run.feed(number, from, to, |entry| found.push(entry)))?;
        }
        found.extend(in_memory);
        Ok(found)
    }

    /// Where events of `origin` that may have this id are, oldest first: nearly always none or one.
    pub(crate) fn events(&self, origin: &AgencyCode, id: Uuid) -> Result<Vec<EventPosition>, IndexError> {
        let hash = self.inner.hasher.id(origin.as_str(), id);
        let own_ms = recent::v7_ms(id).filter(|_| Some(origin) == self.inner.settings.own.as_ref());
        let state = self.inner.state();
        let mut found: Vec<_> = state.in_memory().flat_map(|part| part.id(hash)).collect();
        // A fresh id is later than all that are on disk, which spares most looks.
        let may_hold = |run: &&Arc<Run>| own_ms.is_none_or(|ms| ms <= run.info.newest_id_ms);
        let runs: Vec<_> = state.runs.iter().filter(may_hold).cloned().collect();
        drop(state);
        for run in runs {
            self.inner.judged(run.id(hash, |place| found.push(place)))?;
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The newest span of a stream.
    pub(crate) fn newest(&self, origin: &AgencyCode, stream: &str) -> Result<Option<Span>, IndexError> {
        let hash = self.inner.hasher.stream(origin.as_str(), stream);
        let state = self.inner.state();
        if let Some(span) = state.in_memory().find_map(|part| part.newest(&hash)) {
            return Ok(Some(span));
        }
        let (known, since) = {
            let mut newest = self.inner.newest();
            (newest.get(&hash), newest.refreshed())
        };
        if known.is_some() {
            return Ok(known);
        }
        let runs = state.runs.clone();
        drop(state);
        for run in runs.iter().rev() {
            if let Some(span) = self.inner.judged(run.newest(&hash))? {
                self.inner.newest().learn(since, hash, span);
                return Ok(Some(span));
            }
        }
        Ok(None)
    }

    /// Gives `take` the spans of a stream, oldest first or newest first, until it says to stop. Spans that end before
    /// version `from` (forward) or begin after it (backward) may be left out.
    pub(crate) fn spans(
        &self,
        (origin, stream): (&AgencyCode, &str),
        from: u64,
        backward: bool,
        mut take: impl FnMut(&Span) -> bool,
    ) -> Result<(), IndexError> {
        let hash = self.inner.hasher.stream(origin.as_str(), stream);
        let state = self.inner.state();
        let in_memory: Vec<_> =
            state.in_memory().map(|part| part.spans(&hash)).filter(|spans| !spans.is_empty()).collect();
        let runs = state.runs.clone();
        drop(state);
        // Each part's spans, newest part first.
        let mut memory = in_memory.into_iter();
        if backward {
            for spans in memory.by_ref() {
                if !spans.iter().rev().filter(|span| span.first <= from).all(&mut take) {
                    return Ok(());
                }
            }
        }
        let runs: Box<dyn Iterator<Item = &Arc<Run>>> =
            if backward { Box::new(runs.iter().rev()) } else { Box::new(runs.iter()) };
        for run in runs {
            let go_on = self.inner.judged(run.spans(&hash, from, backward, &mut take))?;
            if !go_on {
                return Ok(());
            }
        }
        for spans in memory.rev() {
            if !spans.iter().filter(|span| span.last() >= from).all(&mut take) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// `count` neighbouring tree nodes over 256^`level` leaves each.
    pub(crate) fn tree_nodes(&self, level: u8, from: u64, count: usize) -> Result<Vec<Digest>, IndexError> {
        if level == 0 {
            return Ok(self.rows(from, count)?.iter().map(|row| row.leaf).collect());
        }
        let mut nodes = Vec::with_capacity(count);
        let state = self.inner.state();
        // Those in memory are the last ones.
        let numbers = from..from + count as u64;
        for number in numbers.rev() {
            match state.in_memory().find_map(|part| part.node(level, number)) {
                Some(node) => nodes.push(node),
                None => break,
            }
        }
        drop(state);
        nodes.reverse();
        let on_disk = count - nodes.len();
        if on_disk > 0 {
            let mut all = self.inner.judged(self.inner.nodes.read(level, from, on_disk))?;
            all.append(&mut nodes);
            return Ok(all);
        }
        Ok(nodes)
    }

    pub(crate) fn hasher(&self) -> &Hasher {
        &self.inner.hasher
    }

    /// Says that what it answered cannot be: it is believed no more.
    pub(crate) fn fail(&self, reason: &str) {
        self.inner.fail(reason);
    }
}

/// Removes what a crash left of runs that were never listed, or were merged.
fn remove_strays(dir: &Path, saved: &Saved) -> std::io::Result<()> {
    for item in fs::read_dir(dir)? {
        let item = item?;
        let stray = item.file_name().to_str().and_then(run::number_of_file);
        if stray.is_some_and(|number| saved.runs.iter().all(|run| run.number != number)) {
            fs::remove_file(item.path())?;
        }
    }
    Ok(())
}
