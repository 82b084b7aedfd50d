//! The directory and the stopped feeds, shared between the parts of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use httt_feed::{Directory, FeedId, Lane, VerifiedBatch};
use httt_log::{Log, ReadError};

use crate::MAX_CALL_BYTES;

/// The directory as folded from a log, shared between the parts of a node. It is folded when it is asked for, so that
/// nobody ever verifies against an older directory than the log holds.
///
/// Where the feeds are not in a log, whoever keeps them folds them in: [`SharedDirectory::told`].
#[derive(Debug, Clone)]
pub struct SharedDirectory {
    log: Option<Log>,
    folded: Arc<RwLock<Folded>>,
}

#[derive(Debug)]
struct Folded {
    directory: Arc<Directory>,
    /// Last sequence folded of each directory feed.
    sequences: BTreeMap<FeedId, u64>,
}

impl SharedDirectory {
    /// Starts from what is known without any log, and folds what `log` holds.
    pub fn new(log: Log, directory: Directory) -> Self {
        Self { log: Some(log), ..Self::told(directory) }
    }

    /// Starts from what is known, and folds what it is told by [`SharedDirectory::fold`].
    pub fn told(directory: Directory) -> Self {
        let folded = Folded { directory: Arc::new(directory), sequences: BTreeMap::new() };
        Self { log: None, folded: Arc::new(RwLock::new(folded)) }
    }

    /// Folds the next batch of the directory feed; others change nothing.
    pub fn fold(&self, batch: &VerifiedBatch) {
        let feed = batch.feed();
        let mut folded = self.folded.write().unwrap_or_else(PoisonError::into_inner);
        if feed.lane == Lane::Directory && batch.sequence() == folded.sequences.get(feed).map_or(1, |last| last + 1) {
            Arc::make_mut(&mut folded.directory).apply(feed, &batch.batch().events);
            folded.sequences.insert(feed.clone(), batch.sequence());
        }
    }

    /// Whether all of the directory that the log holds can be read.
    ///
    /// # Errors
    /// What of it cannot.
    pub fn check(&self) -> Result<(), ReadError> {
        let Some(log) = &self.log else { return Ok(()) };
        let mut folded = self.folded.write().unwrap_or_else(PoisonError::into_inner);
        let mut feeds = log.heads().into_iter().filter(|head| head.feed.lane == Lane::Directory);
        feeds.try_for_each(|head| folded.catch_up(log, &head.feed))
    }

    /// The directory with everything the log holds at this moment. If the log cannot be read it is the one before,
    /// which refuses more, never less.
    pub fn get(&self) -> Arc<Directory> {
        let Some(log) = &self.log else {
            return Arc::clone(&self.folded.read().unwrap_or_else(PoisonError::into_inner).directory);
        };
        let feeds = self.feeds(log);
        {
            let folded = self.folded.read().unwrap_or_else(PoisonError::into_inner);
            if feeds.iter().all(|(feed, sequence)| folded.sequences.get(feed) == Some(sequence)) {
                return Arc::clone(&folded.directory);
            }
        }
        let mut folded = self.folded.write().unwrap_or_else(PoisonError::into_inner);
        for (feed, _) in feeds {
            if let Err(error) = folded.catch_up(log, &feed) {
                tracing::error!(%feed, %error, "the directory cannot be read");
            }
        }
        Arc::clone(&folded.directory)
    }

    /// Directory feeds held: the gateway's, once it is known.
    fn feeds(&self, log: &Log) -> Vec<(FeedId, u64)> {
        let gateway = {
            let folded = self.folded.read().unwrap_or_else(PoisonError::into_inner);
            folded.directory.gateway().cloned()
        };
        match gateway {
            Some(gateway) => {
                let feed = FeedId::directory(&gateway);
                log.head(&feed).map(|head| (feed, head.sequence)).into_iter().collect()
            }
            None => log
                .heads()
                .into_iter()
                .filter(|head| head.feed.lane == Lane::Directory)
                .map(|head| (head.feed, head.head.sequence))
                .collect(),
        }
    }
}

impl Folded {
    fn catch_up(&mut self, log: &Log, feed: &FeedId) -> Result<(), ReadError> {
        loop {
            let after = self.sequences.get(feed).copied().unwrap_or(0);
            let entries = log.read_feed(feed, after, MAX_CALL_BYTES)?;
            let Some(last) = entries.last() else { return Ok(()) };
            let directory = Arc::make_mut(&mut self.directory);
            entries.iter().for_each(|entry| directory.apply(feed, &entry.batch.events));
            self.sequences.insert(feed.clone(), last.sequence);
        }
    }
}

/// Feeds that forked; nothing more is taken from them until an operator decides. Shared by all parts of a node, and
/// told again from the log's `ForkSeen` events after a restart.
#[derive(Debug, Clone, Default)]
pub struct StoppedFeeds(Arc<RwLock<BTreeSet<FeedId>>>);

impl StoppedFeeds {
    /// Stops a feed.
    pub fn stop(&self, feed: FeedId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(feed);
    }

    /// Whether it is stopped.
    pub fn contains(&self, feed: &FeedId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(feed)
    }

    /// All of them.
    pub fn list(&self) -> Vec<FeedId> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
