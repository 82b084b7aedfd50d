//! What a serving node let go or lost, and asks of those who have it: somebody waits for it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use httt_feed::FeedId;
use httt_wire::exchange as wire;

/// Feeds asked for again at once; a reader that waits for another one comes back.
const MAX_WANTS: usize = 1_024;

/// Ranges of one feed asked for again.
const MAX_RANGES: usize = 64;

/// Ranges that are wanted. Origins are told one a feed at a time, in the order in which they were asked for.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    ranges: Mutex<BTreeMap<FeedId, Vec<(u64, u64)>>>,
}

impl Wants {
    /// Notes that `feed` is missing from after `after` up to `until`; false: that is no news.
    pub(crate) fn add(&self, feed: &FeedId, after: u64, until: u64) -> bool {
        let mut all = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        if after >= until || (all.len() >= MAX_WANTS && !all.contains_key(feed)) {
            return false;
        }
        let ranges = all.entry(feed.clone()).or_default();
        let known = ranges.iter().any(|(from, to)| *from <= after && until <= *to);
        if known || ranges.len() >= MAX_RANGES {
            return false;
        }
        // One that grew is the same want.
        ranges.retain(|(from, to)| *from < after || until < *to);
        ranges.push((after, until));
        true
    }

    /// Notes that `feed` came back after `after`, up to `until`.
    pub(crate) fn got(&self, feed: &FeedId, after: u64, until: u64) {
        let mut all = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ranges) = all.get_mut(feed) else { return };
        for (from, to) in ranges.iter_mut() {
            if after <= *from {
                *from = until.max(*from);
            } else if *to <= until {
                *to = after.min(*to);
            }
        }
        ranges.retain(|(from, to)| from < to);
        if ranges.is_empty() {
            all.remove(feed);
        }
    }

    /// One range of each feed that `whose` says yes to.
    pub(crate) fn of(&self, whose: impl Fn(&FeedId) -> bool) -> Vec<wire::Want> {
        let all = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        let theirs = all.iter().filter(|(feed, _)| whose(feed));
        theirs
            .filter_map(|(feed, ranges)| {
                let (after, until) = *ranges.first()?;
                Some(wire::Want { feed: Some(feed.to_wire()), after, until })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(wants: &Wants) -> Option<(u64, u64)> {
        wants.of(|_| true).first().map(|want| (want.after, want.until))
    }

    #[test]
    fn ranges_of_one_feed_are_told_one_after_the_other() {
        let (wants, feed): (_, FeedId) = (Wants::default(), "H24→TW/report".parse().expect("feed"));
        wants.add(&feed, 10, 12);
        wants.add(&feed, 3, 5);
        assert_eq!(told(&wants), Some((10, 12)));
        wants.got(&feed, 10, 11);
        assert_eq!(told(&wants), Some((11, 12)));
        wants.got(&feed, 11, 12);
        assert_eq!(told(&wants), Some((3, 5)));
        wants.got(&feed, 0, 9);
        assert_eq!(told(&wants), None);
    }

    #[test]
    fn what_is_wanted_already_is_no_news_and_what_grew_is_one_want() {
        let (wants, feed): (_, FeedId) = (Wants::default(), "H24→TW/report".parse().expect("feed"));
        assert!(wants.add(&feed, 3, 5));
        assert!(!wants.add(&feed, 4, 5));
        assert!(!wants.add(&feed, 7, 7));
        assert!(wants.add(&feed, 2, 6));
        wants.got(&feed, 2, 6);
        assert_eq!(told(&wants), None);
    }
}
