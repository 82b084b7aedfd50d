//! How far readers have read: told by what they ask for.
//!
//! A reader holds what it says it has when it asks for what follows, and what it was given since, until it asks for that
//! again. So a reader whose copy goes back (a backup restored, an answer lost) is seen to go back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use httt_feed::{AgencyCode, FeedId};
use httt_wire::directory::{DeliverySeen, FeedRead};

/// Feeds in one event: some twenty KiB.
const MAX_FEEDS_PER_EVENT: usize = 500;
/// That a reader was seen, and nothing else, is told this often, ms.
const SEEN_EVERY_MS: i64 = 60 * 60 * 1_000;

/// One reader, as it was last seen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReaderState {
    /// When it last called, Unix ms.
    pub seen_at_ms: i64,
    /// By feed, the last sequence it holds.
    pub feeds: BTreeMap<FeedId, u64>,
}

/// How far each reader has read each feed. Cheap to clone; all clones are the same. Readers are members and feeds are
/// those that are held, so there are only so many rows.
#[derive(Debug, Clone, Default)]
pub struct Deliveries(Arc<Mutex<BTreeMap<AgencyCode, Row>>>);

#[derive(Debug, Default)]
struct Row {
    now: ReaderState,
    /// What was told last.
    told: ReaderState,
}

impl Deliveries {
    /// The reader called.
    pub fn seen(&self, reader: &AgencyCode, now_ms: i64) {
        self.with(reader, |row| row.now.seen_at_ms = row.now.seen_at_ms.max(now_ms));
    }

    /// The reader holds `feed` up to `sequence`.
    pub fn holds(&self, reader: &AgencyCode, feed: &FeedId, sequence: u64, now_ms: i64) {
        self.with(reader, |row| {
            row.now.seen_at_ms = row.now.seen_at_ms.max(now_ms);
            match row.now.feeds.get_mut(feed) {
                Some(known) => *known = sequence,
                None => drop(row.now.feeds.insert(feed.clone(), sequence)),
            }
        });
    }

    /// What was told before a restart.
    pub fn restore(&self, reader: AgencyCode, state: ReaderState) {
        self.rows().insert(reader, Row { now: state.clone(), told: state });
    }

    /// All readers that were seen.
    pub fn readers(&self) -> BTreeMap<AgencyCode, ReaderState> {
        self.rows().iter().map(|(reader, row)| (reader.clone(), row.now.clone())).collect()
    }

    /// What changed since it was told last, as events. It counts as told when [`Deliveries::told`] says so.
    pub fn untold(&self) -> Vec<DeliverySeen> {
        let mut events = Vec::new();
        for (reader, row) in self.rows().iter() {
            let changed: Vec<FeedRead> = row
                .now
                .feeds
                .iter()
                .filter(|(feed, sequence)| row.told.feeds.get(feed) != Some(sequence))
                .map(|(feed, sequence)| FeedRead { feed: feed.to_string(), sequence: *sequence })
                .collect();
            let event = |feeds: &[FeedRead]| DeliverySeen {
                reader: reader.to_string(),
                seen_at_ms: row.now.seen_at_ms,
                feeds: feeds.to_vec(),
            };
            if changed.is_empty() && row.now.seen_at_ms - row.told.seen_at_ms >= SEEN_EVERY_MS {
                events.push(event(&[]));
            }
            events.extend(changed.chunks(MAX_FEEDS_PER_EVENT).map(event));
        }
        events
    }

    /// These events are on disk.
    pub fn told(&self, events: &[DeliverySeen]) {
        let mut rows = self.rows();
        for event in events {
            let row = AgencyCode::new(&event.reader).ok().and_then(|reader| rows.get_mut(&reader));
            let Some(row) = row else { continue };
            row.told.seen_at_ms = event.seen_at_ms;
            let feeds = event.feeds.iter().filter_map(|read| Some((read.feed.parse().ok()?, read.sequence)));
            row.told.feeds.extend(feeds);
        }
    }

    fn with(&self, reader: &AgencyCode, change: impl FnOnce(&mut Row)) {
        let mut rows = self.rows();
        match rows.get_mut(reader) {
            Some(row) => change(row),
            None => change(rows.entry(reader.clone()).or_default()),
        }
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<AgencyCode, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> AgencyCode {
        AgencyCode::new(text).expect("code")
    }

    #[test]
    fn only_what_changed_is_told_and_only_once() {
        let (deliveries, feed) = (Deliveries::default(), "TW→*/content".parse().expect("feed"));
        deliveries.holds(&code("H24"), &feed, 3, 1_000);
        deliveries.seen(&code("H55"), 1_000);
        let events = deliveries.untold();
        assert_eq!(events.len(), 1, "that H55 was seen can wait: {events:?}");
        assert_eq!((events[0].reader.as_str(), events[0].feeds[0].sequence), ("H24", 3));
        assert_eq!(deliveries.untold(), events, "not on disk yet");
        deliveries.told(&events);
        assert!(deliveries.untold().is_empty());
        deliveries.holds(&code("H24"), &feed, 2, 2_000);
        assert_eq!(deliveries.untold()[0].feeds[0].sequence, 2, "it went back, and that is told");
    }

    #[test]
    fn that_a_reader_was_seen_is_told_now_and_then() {
        let deliveries = Deliveries::default();
        deliveries.restore(code("H24"), ReaderState { seen_at_ms: 1_000, feeds: BTreeMap::new() });
        deliveries.seen(&code("H24"), 999 + SEEN_EVERY_MS);
        assert!(deliveries.untold().is_empty());
        deliveries.seen(&code("H24"), 1_000 + SEEN_EVERY_MS);
        let events = deliveries.untold();
        assert_eq!(events.len(), 1);
        deliveries.told(&events);
        assert!(deliveries.untold().is_empty());
    }

    #[test]
    fn many_feeds_are_told_in_events_that_fit() {
        let deliveries = Deliveries::default();
        for number in 0..1_200 {
            let feed = format!("M{number}→TW/report").parse().expect("feed");
            deliveries.holds(&code("TW"), &feed, 1, 1_000);
        }
        let events = deliveries.untold();
        assert_eq!(events.iter().map(|event| event.feeds.len()).collect::<Vec<_>>(), [500, 500, 200]);
        deliveries.told(&events);
        assert!(deliveries.untold().is_empty());
    }
}
