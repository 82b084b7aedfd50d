//! Entries that a serving node let go and that came again from their origin: kept for a while, for those who asked.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use httt_feed::FeedId;

/// Entries by feed and sequence, of so many bytes at most: those that came first go first.
#[derive(Debug)]
pub(crate) struct Again {
    most: usize,
    bytes: usize,
    entries: BTreeMap<FeedId, BTreeMap<u64, Bytes>>,
    order: VecDeque<(FeedId, u64)>,
}

impl Again {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, bytes: 0, entries: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Bytes it has room for.
    pub(crate) fn capacity(&self) -> usize {
        self.most
    }

    /// Keeps an entry; one that is kept already stays.
    pub(crate) fn keep(&mut self, feed: &FeedId, sequence: u64, entry: Bytes) {
        let kept = self.entries.entry(feed.clone()).or_default();
        if kept.contains_key(&sequence) {
            return;
        }
        self.bytes += entry.len();
        kept.insert(sequence, entry);
        self.order.push_back((feed.clone(), sequence));
        while self.bytes > self.most {
            let Some((feed, sequence)) = self.order.pop_front() else { return };
            let Some(kept) = self.entries.get_mut(&feed) else { continue };
            self.bytes -= kept.remove(&sequence).map_or(0, |entry| entry.len());
            if kept.is_empty() {
                self.entries.remove(&feed);
            }
        }
    }

    /// Entries after `after`, without a gap: as many as fit in `max_bytes`, one at least if there is one.
    pub(crate) fn read(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Vec<Bytes> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        let kept = self.entries.get(feed).into_iter().flat_map(|kept| kept.range(after.saturating_add(1)..));
        for (expected, (sequence, entry)) in (after.saturating_add(1)..).zip(kept) {
            bytes += entry.len();
            if *sequence != expected || (bytes > max_bytes && !found.is_empty()) {
                break;
            }
            found.push(entry.clone());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_and_read_without_a_gap(
            puts in prop::collection::vec((0..3_u64, 1..30_u64, 1..40_usize), 1..200),
            after in 0..30_u64,
            max_bytes in 0..200_usize,
        ) {
            let mut again = Again::new(300);
            let feeds: Vec<FeedId> = (0..3).map(|n| format!("H1{n}→TW/report").parse().expect("feed")).collect();
            for (feed, sequence, size) in puts {
                again.keep(&feeds[feed as usize], sequence, Bytes::from(vec![sequence as u8; size]));
                let held: usize = again.entries.values().flat_map(BTreeMap::values).map(Bytes::len).sum();
                prop_assert!(held == again.bytes && held <= 300);
                prop_assert_eq!(again.order.len(), again.entries.values().map(BTreeMap::len).sum::<usize>());
            }
            for feed in &feeds {
                let read = again.read(feed, after, max_bytes);
                for (sequence, entry) in (after + 1..).zip(&read) {
                    prop_assert_eq!(entry[0], sequence as u8);
                }
                let size: usize = read.iter().map(Bytes::len).sum();
                prop_assert!(read.len() <= 1 || size <= max_bytes);
                let next = again.entries.get(feed).is_some_and(|kept| kept.contains_key(&(after + 1)));
                prop_assert_eq!(next, !read.is_empty());
            }
        }
    }
}
