//! The pass itself: from snapshots or from nothing, up to a position.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use httt_feed::Digest;
use httt_log::{Entry, Log, ReadError};

use super::snapshot::{Snapshot, Unusable};
use super::{ModelSet, for_each_fact};

/// Entries folded between two reports of progress.
const ENTRIES_A_REPORT: u64 = 1_024;
/// Entries read at once.
const ENTRIES_AT_ONCE: usize = 1_024;
/// Bytes read at once.
const BYTES_AT_ONCE: usize = 4 << 20;

/// How far a pass over the log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoldProgress {
    /// Entries passed by: the next one's position.
    pub position: u64,
    /// Where the pass ends; 0 when that is not known.
    pub until: u64,
    /// Events folded in this pass.
    pub events: u64,
    /// Entries passed by because they went by retention: what they said is in no model that was folded in this pass.
    pub gone: u64,
    /// Since it began.
    pub elapsed: Duration,
}

impl FoldProgress {
    /// Events folded a second, on average.
    pub fn events_per_second(&self) -> u64 {
        (self.events as f64 / self.elapsed.as_secs_f64().max(1e-6)) as u64
    }
}

/// A set and how far it is.
#[derive(Default)]
pub(super) struct Folded<S> {
    pub(super) set: S,
    /// Entries folded.
    pub(super) position: u64,
    /// Entries passed by since it began because they went by retention.
    pub(super) gone: u64,
}

/// What stands at a position of the log.
pub(super) enum Passed {
    Entry(Entry),
    /// It went by retention.
    Gone,
}

impl<S: ModelSet> Folded<S> {
    pub(super) fn fold(&mut self, entry: &Entry) {
        for_each_fact(entry, |fact| self.set.apply(entry.position, fact));
        self.position = entry.position + 1;
    }

    /// Entries passed by that `part` may lack.
    pub(super) fn gone_for(&self, part: &dyn super::Part) -> u64 {
        if part.own_words_only() { 0 } else { self.gone }
    }
}

/// One pass over entries that come one after another.
pub(super) struct Pass<'a> {
    pub(super) entries: &'a mut dyn Iterator<Item = Result<Passed, ReadError>>,
    pub(super) on_progress: &'a mut dyn FnMut(&FoldProgress),
    until: u64,
    events: u64,
    gone: u64,
    began: Instant,
}

impl<'a> Pass<'a> {
    pub(super) fn new(
        entries: &'a mut dyn Iterator<Item = Result<Passed, ReadError>>,
        until: u64,
        on_progress: &'a mut dyn FnMut(&FoldProgress),
    ) -> Self {
        Self { entries, on_progress, until, events: 0, gone: 0, began: Instant::now() }
    }

    /// Folds up to `stop`, or until nothing follows.
    pub(super) fn run<S: ModelSet>(&mut self, folded: &mut Folded<S>, stop: u64) -> Result<(), ReadError> {
        while folded.position < stop {
            let Some(passed) = self.entries.next() else { break };
            match passed? {
                Passed::Entry(entry) => {
                    folded.fold(&entry);
                    self.events += entry.batch.events.len() as u64;
                }
                Passed::Gone => {
                    folded.position += 1;
                    folded.gone += 1;
                    self.gone += 1;
                }
            }
            if folded.position.is_multiple_of(ENTRIES_A_REPORT) {
                self.report(folded.position);
            }
        }
        self.report(folded.position);
        Ok(())
    }

    fn report(&mut self, position: u64) {
        let Self { until, events, gone, .. } = *self;
        (self.on_progress)(&FoldProgress { position, until, events, gone, elapsed: self.began.elapsed() });
    }

    /// Folds from where `folded` is and calls `at` at each of `stops` that there is.
    pub(super) fn run_by<S: ModelSet>(
        &mut self,
        folded: &mut Folded<S>,
        stops: impl IntoIterator<Item = u64>,
        mut at: impl FnMut(&Folded<S>),
    ) -> Result<(), ReadError> {
        for stop in stops.into_iter().collect::<BTreeSet<_>>() {
            self.run(folded, stop)?;
            if folded.position == stop {
                at(folded);
            }
        }
        Ok(())
    }
}

/// The entries of an open log, page by page.
pub(super) struct LogEntries<'a> {
    log: &'a Log,
    next: u64,
    page: std::iter::Peekable<std::vec::IntoIter<Entry>>,
}

impl<'a> LogEntries<'a> {
    pub(super) fn new(log: &'a Log, from: u64) -> Self {
        Self { log, next: from, page: Vec::new().into_iter().peekable() }
    }
}

impl Iterator for LogEntries<'_> {
    type Item = Result<Passed, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.peek().is_none() {
            match self.log.read(self.next, ENTRIES_AT_ONCE, BYTES_AT_ONCE) {
                Ok(page) => self.page = page.into_iter().peekable(),
                Err(error) => return Some(Err(error)),
            }
        }
        let position = self.page.peek()?.position;
        self.next += 1;
        // What a page leaves out went by retention.
        let gone = position >= self.next;
        if gone { Some(Ok(Passed::Gone)) } else { self.page.next().map(|entry| Ok(Passed::Entry(entry))) }
    }
}

/// A model's version and those of all models it looks at.
pub(super) fn versions_of<S: ModelSet>(set: &S, model: &str) -> BTreeMap<String, u32> {
    let mut wanted = vec![model];
    let mut versions = BTreeMap::new();
    while let Some(name) = wanted.pop() {
        if versions.contains_key(name) {
            continue;
        }
        // A name that nobody has counts as version 0: a test of the set finds it.
        let version = set.parts().iter().find(|part| part.name() == name).map_or(0, |part| part.version());
        versions.insert(name.to_owned(), version);
        wanted.extend(needs::<S>(name).collect::<Vec<_>>());
    }
    versions
}

fn needs<S: ModelSet>(model: &str) -> impl Iterator<Item = &'static str> + use<'_, S> {
    S::NEEDS.iter().filter(move |(name, _)| *name == model).flat_map(|(_, needs)| needs.iter().copied())
}

/// The log that a snapshot must be of.
pub(super) struct History<'a> {
    pub(super) log_id: [u8; 16],
    pub(super) length: u64,
    /// Root over so many entries, at most `length`.
    pub(super) root: &'a dyn Fn(u64) -> Result<Digest, ReadError>,
}

impl History<'_> {
    /// Whether a snapshot is of this log.
    pub(super) fn check(&self, snapshot: &Snapshot) -> Result<(), Unusable> {
        let position = snapshot.position;
        if snapshot.log_id != self.log_id {
            return Err(Unusable::OtherLog(hex::encode(snapshot.log_id)));
        }
        if position > self.length {
            return Err(Unusable::AheadOfLog { position, log: self.length });
        }
        match (self.root)(position) {
            Ok(root) if root == snapshot.root => Ok(()),
            Ok(_) => Err(Unusable::OtherHistory { position }),
            Err(error) => Err(Unusable::Damaged(format!("the log's root cannot be read: {error}"))),
        }
    }
}

/// A set that begins with the snapshots that `read` gives, as far as they can be believed.
pub(super) fn restore<S: ModelSet>(
    mut read: impl FnMut(&'static str) -> Result<Snapshot, Unusable>,
    history: &History<'_>,
) -> Folded<S> {
    let mut set = S::default();
    let versions: Vec<_> = set.parts().iter().map(|part| versions_of(&set, part.name())).collect();
    for (part, versions) in set.parts_mut().into_iter().zip(versions) {
        let model = part.name();
        let restored = read(model).and_then(|snapshot| {
            if snapshot.versions != versions {
                return Err(Unusable::Outdated);
            }
            history.check(&snapshot)?;
            part.restore(&snapshot.bytes, snapshot.position).map_err(Unusable::Damaged)
        });
        match restored {
            Ok(()) => {}
            Err(reason @ (Unusable::Absent | Unusable::Outdated)) => {
                tracing::info!(model, %reason, "a read model is folded from the first entry");
            }
            Err(reason) => {
                tracing::warn!(model, %reason, "a snapshot is not used; its read model is folded from the first entry")
            }
        }
    }
    start_over_what_is_needed(&mut set);
    let position = set.parts().iter().map(|part| part.from()).min().unwrap_or(0);
    Folded { set, position, gone: 0 }
}

/// A model that starts earlier than one it looks at takes that one with it.
fn start_over_what_is_needed<S: ModelSet>(set: &mut S) {
    loop {
        let from: BTreeMap<_, _> = set.parts().iter().map(|part| (part.name(), part.from())).collect();
        let later = |model: &str, needed: &str| from.get(needed) > from.get(model);
        let again: BTreeSet<&str> =
            from.keys().flat_map(|model| needs::<S>(model).filter(|needed| later(model, needed))).collect();
        if again.is_empty() {
            return;
        }
        for part in set.parts_mut().into_iter().filter(|part| again.contains(part.name())) {
            tracing::info!(model = part.name(), "a read model is folded anew for another that looks at it");
            part.clear();
        }
    }
}
