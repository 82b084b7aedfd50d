//! What a serving node let go or lost, and asks of those who have it: somebody waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use httt_feed::FeedId;
use httt_wire::exchange as wire;

/// Feeds asked for again at once; a reader that waits for another one comes back.
const MAX_WANTS: usize = 1_024;

/// Ranges that are wanted, one a feed: the one that was asked for first.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    ranges: Mutex<BTreeMap<FeedId, (u64, u64)>>,
}

impl Wants {
    /// Notes that `feed` is missing from after `after` up to `until`; false: something of it is wanted already.
    pub(crate) fn add(&self, feed: &FeedId, after: u64, until: u64) -> bool {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if ranges.contains_key(feed) || ranges.len() >= MAX_WANTS {
            return false;
        }
        ranges.insert(feed.clone(), (after, until));
        true
    }

    /// Notes that `feed` came back up to `sequence`.
    pub(crate) fn got(&self, feed: &FeedId, sequence: u64) {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((after, until)) = ranges.get_mut(feed) {
            *after = sequence.max(*after);
            if *after >= *until {
                ranges.remove(feed);
            }
        }
    }

    /// The ranges of feeds that `whose` says yes to.
    pub(crate) fn of(&self, whose: impl Fn(&FeedId) -> bool) -> Vec<wire::Want> {
        let ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = ranges.iter().filter(|(feed, _)| whose(feed));
        theirs
            .map(|(feed, (after, until))| wire::Want { feed: Some(feed.to_wire()), after: *after, until: *until })
            .collect()
    }
}
