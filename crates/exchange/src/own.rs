//! What others hold of this node's own feeds, without I/O.
//!
//! The gateway has nobody above it to ask what it said before an old backup took its disk's place; its members know.
//! Each tells what it holds when it asks for all heads. Where that is more than is here, it is asked to bring it back,
//! and meanwhile nothing is said in that feed: it would be a second story.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use httt_feed::{AgencyCode, Audience, Directory, FeedId, Head, Lane};

use crate::{StoppedFeeds, Store};

/// Most heads that a caller tells of what it holds: more than a carrier of the whole country has.
pub const MAX_HELD: usize = 256;
/// Most callers whose word is kept.
const MAX_CALLERS: usize = 10_000;
/// How long anything waits because a caller says that it holds more and brings nothing, ms. Longer than any call takes;
/// anybody can say such a thing.
const PATIENCE_MS: i64 = 30_000;

/// What is here of a feed that forked.
pub(crate) const ALL_THERE_IS: u64 = u64::MAX;

/// How much is here of a feed: its last sequence. Of one that forked all there is: nothing brought back would mend it.
type Here<'a> = &'a dyn Fn(&FeedId) -> u64;

/// [`Here`] of a store, some of whose feeds forked.
pub(crate) fn here_of<'a>(store: &'a dyn Store, stopped: &'a StoppedFeeds) -> impl Fn(&FeedId) -> u64 + 'a {
    |feed| match stopped.contains(feed) {
        true => ALL_THERE_IS,
        false => store.head(feed).map_or(0, |head| head.sequence),
    }
}

/// What a gateway asks of its members before it speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// Each before it takes something from it. Who is away holds up nobody.
    EachBefore,
    /// All of them, before anything is said or taken: the disk is known to be older than what was said. Also these, whom
    /// it may have enrolled since.
    AllFirst(BTreeSet<AgencyCode>),
}

/// See the module. Clones are the same. By default nobody is asked: for carriers, who say nothing of their own.
#[derive(Debug, Clone, Default)]
pub struct OwnFeeds(Option<Arc<Mutex<State>>>);

#[derive(Debug)]
struct State {
    /// All are to be heard before anything else, these among them.
    all_first: Option<BTreeSet<AgencyCode>>,
    callers: BTreeMap<AgencyCode, Word>,
}

/// What a caller said last.
#[derive(Debug, Default)]
struct Word {
    held: BTreeMap<FeedId, Head>,
    /// Batches of which it has another one than is here.
    others: Vec<(FeedId, u64)>,
    /// Feeds of which an operator was told that it has another batch.
    others_told: BTreeSet<FeedId>,
    /// What it holds and cannot bring: it said so.
    lacks: BTreeSet<FeedId>,
    /// Since when something waits for what it holds and nothing of it came.
    since_ms: Option<i64>,
    /// An operator was told that it is not believed.
    told: bool,
}

/// Why nothing is said or taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotYet {
    /// Members that did not say yet what they hold.
    pub silent: Vec<AgencyCode>,
    /// What is to be brought back: feed, last sequence held, by whom.
    pub missing: Vec<(FeedId, u64, AgencyCode)>,
}

impl fmt::Display for NotYet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exchange takes back what it had said")?;
        for (place, (feed, until, member)) in self.missing.iter().enumerate() {
            let before = if place == 0 { ": " } else { ", " };
            write!(f, "{before}{feed} up to {until} from {member}")?;
        }
        if self.silent.is_empty() && self.missing.is_empty() {
            f.write_str("; no member has brought a directory yet")?;
        }
        if !self.silent.is_empty() {
            let silent: Vec<&str> = self.silent.iter().map(AgencyCode::as_str).collect();
            write!(f, "; not heard yet: {}", silent.join(", "))?;
        }
        Ok(())
    }
}

impl OwnFeeds {
    /// Asks members what they hold of this node's own feeds.
    pub fn asking(asks: Asks) -> Self {
        let all_first = match asks {
            Asks::EachBefore => None,
            Asks::AllFirst(enrolled) => Some(enrolled),
        };
        let state = State { all_first, callers: BTreeMap::new() };
        Self(Some(Arc::new(Mutex::new(state))))
    }

    /// Whether anybody is asked.
    pub(crate) fn asks(&self) -> bool {
        self.0.is_some()
    }

    fn state(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A caller says what it `held` of this node's own feeds; of `others` it has another batch than this node. Gives what
    /// an operator was not told yet of those.
    pub(crate) fn hear(
        &self,
        caller: &AgencyCode,
        held: BTreeMap<FeedId, Head>,
        others: Vec<(FeedId, u64)>,
    ) -> Vec<(FeedId, u64)> {
        let Some(mut state) = self.state() else { return Vec::new() };
        if state.callers.len() >= MAX_CALLERS && !state.callers.contains_key(caller) {
            return Vec::new();
        }
        let word = state.callers.entry(caller.clone()).or_default();
        word.lacks.retain(|feed| held.contains_key(feed));
        let told = &mut word.others_told;
        let news = others.iter().filter(|(feed, _)| told.len() < MAX_HELD && told.insert(feed.clone()));
        let news = news.cloned().collect();
        (word.held, word.others) = (held, others);
        news
    }

    /// A caller cannot bring what it holds of this feed: nothing waits for it.
    pub(crate) fn lacks(&self, caller: &AgencyCode, feed: &FeedId) {
        let Some(mut state) = self.state() else { return };
        if let Some(word) = state.callers.get_mut(caller).filter(|word| word.held.contains_key(feed)) {
            word.lacks.insert(feed.clone());
        }
    }

    /// Something of this feed came back from a caller: whoever holds more of it is believed for a while.
    pub(crate) fn came(&self, caller: &AgencyCode, feed: &FeedId) {
        let Some(mut state) = self.state() else { return };
        for (member, word) in state.callers.iter_mut().filter(|(_, word)| word.held.contains_key(feed)) {
            (word.since_ms, word.told) = (None, false);
            if member == caller {
                word.lacks.remove(feed);
            }
        }
    }

    /// What a caller is to bring: after the first sequence, up to the second.
    pub(crate) fn wanted_of(&self, caller: &AgencyCode, here: Here<'_>) -> Vec<(FeedId, u64, u64)> {
        let Some(state) = self.state() else { return Vec::new() };
        let Some(word) = state.callers.get(caller) else { return Vec::new() };
        let others = word.others.iter().filter(|(feed, _)| here(feed) != ALL_THERE_IS);
        let others = others.map(|(feed, sequence)| (feed.clone(), sequence - 1, *sequence));
        let more = word.more(here).map(|(feed, after, until)| (feed.clone(), after, until));
        let wanted: Vec<_> = more.chain(others).collect();
        // What else was said may be under keys and to members that only the rest of the directory names.
        let first = wanted.iter().any(|(feed, _, _)| feed.lane == Lane::Directory);
        wanted.into_iter().filter(|(feed, _, _)| !first || feed.lane == Lane::Directory).collect()
    }

    /// Why nothing at all is said or taken yet. Once nothing is in the way this never says so again.
    pub(crate) fn waits(&self, directory: &Directory, own: &AgencyCode, now_ms: i64, here: Here<'_>) -> Option<NotYet> {
        let mut state = self.state()?;
        let State { all_first, callers } = &mut *state;
        let enrolled = all_first.as_ref()?;
        let heard = |member: &AgencyCode| callers.contains_key(member);
        // A carrier holds what those have for whom it carries, and they may not call themselves.
        let carried = |code: &AgencyCode| directory.member(code).is_some_and(|member| member.carriers().any(heard));
        let all: BTreeSet<&AgencyCode> = directory.members().map(|member| &member.code).chain(enrolled).collect();
        // A directory that names nobody is not one that everybody has confirmed.
        let knows_nobody = all.iter().all(|code| *code == own);
        let silent = all.iter().copied().filter(|code| *code != own && !heard(code) && !carried(code));
        let silent: Vec<AgencyCode> = silent.cloned().collect();
        // Those count that are waited for: this directory is old, and whom it suspends the newer one may have resumed.
        // Strangers count only while nobody is known.
        let missing = missing(callers, now_ms, here, |feed, member| {
            let is_theirs = match &feed.audience {
                Audience::All => true,
                Audience::One(audience) => speaks_for(directory, member, audience),
            };
            is_theirs && (knows_nobody || all.contains(member))
        });
        if silent.is_empty() && missing.is_empty() && !knows_nobody {
            *all_first = None;
            return None;
        }
        Some(NotYet { silent, missing })
    }

    /// Whether this caller said what it holds, if it is to.
    pub(crate) fn heard(&self, caller: &AgencyCode) -> bool {
        self.state().is_none_or(|state| state.callers.contains_key(caller) || state.callers.len() >= MAX_CALLERS)
    }

    /// Whether entries of `origin` may be taken from `caller`: they get receipts, which are told to the origin.
    pub(crate) fn may_take(
        &self,
        directory: &Directory,
        caller: &AgencyCode,
        origin: &AgencyCode,
        now_ms: i64,
        here: Here<'_>,
    ) -> Result<(), NotYet> {
        let Some(mut state) = self.state() else { return Ok(()) };
        if !state.callers.contains_key(caller) {
            return Err(NotYet { silent: vec![caller.clone()], missing: Vec::new() });
        }
        // Of the directory only the caller's own word counts: what it brings may be judged by what it holds. Of receipts that
        // of their audience and its carriers. Else anybody could hold up others.
        let missing = missing(&mut state.callers, now_ms, here, |feed, member| {
            let is_theirs = match &feed.audience {
                Audience::All => member == caller,
                Audience::One(audience) => audience == origin && speaks_for(directory, member, audience),
            };
            is_theirs && directory.admits(member).is_ok()
        });
        if missing.is_empty() { Ok(()) } else { Err(NotYet { silent: Vec::new(), missing }) }
    }

    /// What is to be brought back before entries of `origin` get receipts, whoever has them.
    pub(crate) fn misses(
        &self,
        directory: &Directory,
        origin: &AgencyCode,
        now_ms: i64,
        here: Here<'_>,
    ) -> Option<NotYet> {
        let missing = missing(&mut self.state()?.callers, now_ms, here, |feed, member| {
            let is_theirs = match &feed.audience {
                Audience::All => false,
                Audience::One(audience) => audience == origin && speaks_for(directory, member, audience),
            };
            is_theirs && directory.admits(member).is_ok()
        });
        (!missing.is_empty()).then_some(NotYet { silent: Vec::new(), missing })
    }

    /// Whether something may be said to everybody.
    pub(crate) fn may_revise(&self, directory: &Directory, now_ms: i64, here: Here<'_>) -> Result<(), NotYet> {
        let Some(mut state) = self.state() else { return Ok(()) };
        let missing = missing(&mut state.callers, now_ms, here, |feed, member| {
            feed.lane == Lane::Directory && (directory.gateway().is_none() || directory.admits(member).is_ok())
        });
        if missing.is_empty() { Ok(()) } else { Err(NotYet { silent: Vec::new(), missing }) }
    }
}

/// Whether a member is `other`, or carries for it.
fn speaks_for(directory: &Directory, member: &AgencyCode, other: &AgencyCode) -> bool {
    member == other || directory.member(other).is_some_and(|other| other.carriers().any(|carrier| carrier == member))
}

/// What callers hold and this node does not, of those that `counts` says yes to. Who says so, and for a while brings
/// nothing of it, is not believed.
fn missing(
    callers: &mut BTreeMap<AgencyCode, Word>,
    now_ms: i64,
    here: Here<'_>,
    counts: impl Fn(&FeedId, &AgencyCode) -> bool,
) -> Vec<(FeedId, u64, AgencyCode)> {
    let mut missing = Vec::new();
    for (caller, word) in callers {
        // What counts is looked at before the disk is: each push asks.
        let held = word
            .held
            .iter()
            .filter(|(feed, head)| !word.lacks.contains(*feed) && counts(feed, caller) && head.sequence > here(feed));
        let held: Vec<_> = held.map(|(feed, head)| (feed.clone(), head.sequence, caller.clone())).collect();
        if !held.is_empty() && !word.is_doubted(caller, now_ms) {
            missing.extend(held);
        }
    }
    missing
}

impl Word {
    /// Whether something waited long enough for what it holds.
    fn is_doubted(&mut self, caller: &AgencyCode, now_ms: i64) -> bool {
        let since = *self.since_ms.get_or_insert(now_ms);
        let doubted = !(since..since.saturating_add(PATIENCE_MS)).contains(&now_ms);
        if doubted && !std::mem::replace(&mut self.told, true) {
            tracing::error!(%caller, "says that it holds more of ours than we do and brings nothing of it; nothing waits for it");
        }
        doubted
    }

    /// What it goes beyond what is here: feed, last sequence here, last sequence there.
    fn more<'a>(&'a self, here: Here<'a>) -> impl Iterator<Item = (&'a FeedId, u64, u64)> {
        let held = self.held.iter().map(move |(feed, head)| (feed, here(feed), head.sequence));
        held.filter(|(_, here, there)| there > here)
    }
}
