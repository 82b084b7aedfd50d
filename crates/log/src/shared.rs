//! What readers and the writer share.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use httt_feed::{AgencyCode, FeedId, Head, Sealer};

use crate::FeedHead;
use crate::chunks::Chunks;
use crate::index::Index;
use crate::keep::retention::Aging;
use crate::restated::Restated;

/// A log's files as readers see them. Only the writer changes what is in here, and only after fsync.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) log_id: [u8; 16],
    /// Whose log it is.
    pub(crate) origin: AgencyCode,
    /// Another one when the node changes its key.
    sealer: RwLock<Arc<Sealer>>,
    pub(crate) chunks: Chunks,
    pub(crate) index: Index,
    /// Opened to be read only: there is no writer.
    pub(crate) read_only: bool,
    heads: RwLock<Heads>,
    /// Where held feeds begin, and where they last restate: looked for when first asked for.
    pub(crate) restated: Restated,
    /// What retention found in chunks, by number.
    pub(crate) aging: Mutex<HashMap<u32, Aging>>,
    length: AtomicU64,
    checkpoint: RwLock<String>,
    /// Why the log takes no more writes.
    poison: OnceLock<String>,
    /// Held as long as anybody reads or writes. Last, so that the index is closed before the folder is free.
    _lock: File,
}

/// The feeds' heads, to be found by name and by what changed lately.
#[derive(Debug, Default)]
struct Heads {
    by_feed: HashMap<FeedId, FeedHead>,
    by_position: BTreeMap<u64, FeedId>,
}

impl Heads {
    fn put(&mut self, head: FeedHead) {
        self.by_position.insert(head.position, head.feed.clone());
        if let Some(before) = self.by_feed.insert(head.feed.clone(), head.clone())
            && before.position != head.position
        {
            self.by_position.remove(&before.position);
        }
    }
}

impl FromIterator<FeedHead> for Heads {
    fn from_iter<I: IntoIterator<Item = FeedHead>>(heads: I) -> Self {
        let mut all = Self::default();
        heads.into_iter().for_each(|head| all.put(head));
        all
    }
}

/// What a [`Shared`] starts from.
#[derive(Debug)]
pub(crate) struct SharedParts {
    pub(crate) dir: PathBuf,
    pub(crate) log_id: [u8; 16],
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) chunks: Chunks,
    pub(crate) index: Index,
    pub(crate) heads: Vec<FeedHead>,
    pub(crate) length: u64,
    pub(crate) checkpoint: String,
    pub(crate) lock: File,
    pub(crate) read_only: bool,
}

impl Shared {
    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poison.get().map(String::as_str).or_else(|| self.index.failed())
    }

    pub(crate) fn set_poison(&self, reason: &str) {
        // The first reason is the one that counts.
        let _ = self.poison.set(reason.to_owned());
    }

    pub(crate) fn new(parts: SharedParts) -> Self {
        Self {
            dir: parts.dir,
            log_id: parts.log_id,
            origin: parts.sealer.origin().clone(),
            sealer: RwLock::new(parts.sealer),
            chunks: parts.chunks,
            index: parts.index,
            read_only: parts.read_only,
            heads: RwLock::new(parts.heads.into_iter().collect()),
            restated: Restated::default(),
            aging: Mutex::default(),
            length: AtomicU64::new(parts.length),
            checkpoint: RwLock::new(parts.checkpoint),
            poison: OnceLock::new(),
            _lock: parts.lock,
        }
    }

    /// Seals and signs from now on. A group takes it once, so that all of a group is by one key.
    pub(crate) fn sealer(&self) -> Arc<Sealer> {
        Arc::clone(&self.sealer.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_sealer(&self, sealer: Sealer) {
        *self.sealer.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sealer);
    }

    /// Durable entries.
    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    pub(crate) fn head(&self, feed: &FeedId) -> Option<Head> {
        self.heads.read().unwrap_or_else(PoisonError::into_inner).by_feed.get(feed).map(|head| head.head)
    }

    pub(crate) fn heads(&self) -> Vec<FeedHead> {
        let mut heads: Vec<_> =
            self.heads.read().unwrap_or_else(PoisonError::into_inner).by_feed.values().cloned().collect();
        heads.sort_by(|a, b| a.feed.cmp(&b.feed));
        heads
    }

    /// Heads that stand at `position` or later, by position.
    pub(crate) fn heads_since(&self, position: u64) -> Vec<FeedHead> {
        let heads = self.heads.read().unwrap_or_else(PoisonError::into_inner);
        let changed = heads.by_position.range(position..);
        changed.filter_map(|(_, feed)| heads.by_feed.get(feed).cloned()).collect()
    }

    /// Shows what has become durable. Heads first: who sees the new length finds them.
    pub(crate) fn publish(&self, heads: impl IntoIterator<Item = FeedHead>, length: u64) {
        let mut map = self.heads.write().unwrap_or_else(PoisonError::into_inner);
        heads.into_iter().for_each(|head| map.put(head));
        drop(map);
        self.length.store(length, Ordering::Release);
    }

    pub(crate) fn checkpoint(&self) -> String {
        self.checkpoint.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_checkpoint(&self, text: String) {
        *self.checkpoint.write().unwrap_or_else(PoisonError::into_inner) = text;
    }
}
