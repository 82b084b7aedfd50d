//! Where each batch is: what a gateway process knows of the streams, without I/O.
//!
//! A feed's place in its stream is a claim (a header said so) until the batch was read; a head is proven (a verified
//! batch, or a receipt of ours) and never goes back. What lies between the two is missing, and asked for again. Of a member's
//! feed the head is the last batch that has a receipt: what is there beyond it was not taken yet.

use std::collections::BTreeMap;

use httt_feed::{FeedId, Head, Lane};
use httt_log::FeedHead;

/// Where a batch is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Its message's sequence in the lane's stream.
    pub(super) at: u64,
    /// Its bytes.
    pub(super) bytes: u32,
}

/// What a stream says of one feed.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    places: BTreeMap<u64, Place>,
    /// The latest message of the subject, 0: none. The guard that the next one is published with.
    last: u64,
}

impl Claims {
    fn note(&mut self, sequence: u64, place: Place) {
        self.last = self.last.max(place.at);
        // A later message of the same sequence was brought because the earlier one was lost.
        self.places.insert(sequence, place);
    }
}

/// What one lane's stream says.
#[derive(Debug, Default)]
pub(super) struct LaneClaims(BTreeMap<FeedId, Claims>);

impl LaneClaims {
    /// A message says that it holds `sequence` of `feed`.
    pub(super) fn note(&mut self, feed: &FeedId, sequence: u64, place: Place) {
        self.0.entry(feed.clone()).or_default().note(sequence, place);
    }
}

#[derive(Debug, Default)]
struct Track {
    claims: Claims,
    head: Option<Head>,
    position: u64,
}

/// A range that is missing: after the first sequence, up to the second.
pub(super) type Missing = (u64, u64);

/// Every feed that is known.
#[derive(Debug, Default)]
pub(super) struct Index {
    feeds: BTreeMap<FeedId, Track>,
    /// The position that comes next: it counts what became known.
    next: u64,
}

impl Index {
    /// The position that comes next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Every feed that is known, by a head or a claim.
    pub(super) fn feeds(&self, lane: Lane) -> Vec<FeedId> {
        self.feeds.keys().filter(|feed| feed.lane == lane).cloned().collect()
    }

    /// Feeds whose head became known at `after` or later.
    pub(super) fn heads(&self, after: u64) -> Vec<FeedHead> {
        let known = self.feeds.iter().filter(|(_, track)| track.position >= after);
        known
            .filter_map(|(feed, track)| {
                Some(FeedHead { feed: feed.clone(), head: track.head?, position: track.position })
            })
            .collect()
    }

    /// The proven head.
    pub(super) fn head(&self, feed: &FeedId) -> Option<Head> {
        self.feeds.get(feed)?.head
    }

    /// A head is proven. `false`: as far was known.
    pub(super) fn learn(&mut self, feed: &FeedId, head: Head) -> bool {
        let track = self.feeds.entry(feed.clone()).or_default();
        if track.head.is_some_and(|known| known.sequence >= head.sequence) {
            return false;
        }
        track.head = Some(head);
        self.tell(feed);
        true
    }

    /// Lets those who wait look at the feed again: something of it that was missing is there.
    pub(super) fn tell(&mut self, feed: &FeedId) {
        if let Some(track) = self.feeds.get_mut(feed) {
            track.position = self.next;
            self.next += 1;
        }
    }

    /// A message says that it holds `sequence` of `feed`.
    pub(super) fn note(&mut self, feed: &FeedId, sequence: u64, place: Place) {
        self.feeds.entry(feed.clone()).or_default().claims.note(sequence, place);
    }

    /// A message that this process published without a guard holds `sequence`. Others may have published before it what is
    /// not known here, so it is not what the next one is guarded with.
    pub(super) fn note_again(&mut self, feed: &FeedId, sequence: u64, place: Place) {
        self.feeds.entry(feed.clone()).or_default().claims.places.insert(sequence, place);
    }

    /// A place turned out not to hold what it should.
    pub(super) fn lost(&mut self, feed: &FeedId, sequence: u64, at: u64) {
        if let Some(track) = self.feeds.get_mut(feed)
            && track.claims.places.get(&sequence).is_some_and(|place| place.at == at)
        {
            track.claims.places.remove(&sequence);
        }
    }

    /// What the lane's stream says now; what it said before is forgotten. Heads stay.
    pub(super) fn replace(&mut self, lane: Lane, claims: LaneClaims) {
        for (_, track) in self.feeds.iter_mut().filter(|(feed, _)| feed.lane == lane) {
            track.claims = Claims::default();
        }
        for (feed, claims) in claims.0 {
            self.feeds.entry(feed).or_default().claims = claims;
        }
    }

    /// The subject's latest message, as far as is known; 0: none.
    pub(super) fn last(&self, feed: &FeedId) -> u64 {
        self.feeds.get(feed).map_or(0, |track| track.claims.last)
    }

    /// The server says which message of the subject is the latest.
    pub(super) fn set_last(&mut self, feed: &FeedId, at: u64) {
        self.feeds.entry(feed.clone()).or_default().claims.last = at;
    }

    /// Where a batch is said to be.
    pub(super) fn place(&self, feed: &FeedId, sequence: u64) -> Option<Place> {
        self.feeds.get(feed)?.claims.places.get(&sequence).copied()
    }

    /// The highest claim beyond `known`.
    pub(super) fn ahead(&self, feed: &FeedId, known: Option<Head>) -> Option<(u64, Place)> {
        let (sequence, place) = self.feeds.get(feed)?.claims.places.last_key_value()?;
        (*sequence > known.map_or(0, |head| head.sequence)).then_some((*sequence, *place))
    }

    /// Places of the batches after `after`, without a gap: one if there is any, more while they fit in `max_bytes`.
    pub(super) fn run(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Vec<(u64, Place)> {
        let Some(track) = self.feeds.get(feed) else { return Vec::new() };
        let (mut expected, mut bytes) = (after, 0);
        let run = track.claims.places.range(after.saturating_add(1)..).take_while(|(sequence, place)| {
            expected += 1;
            bytes += place.bytes as usize;
            **sequence == expected && (bytes <= max_bytes || expected == after + 1)
        });
        run.map(|(sequence, place)| (*sequence, *place)).collect()
    }

    /// The end of what is missing after `after`: before the next place, or at the head. `None`: `after + 1` is there or
    /// beyond the head.
    pub(super) fn missing_until(&self, feed: &FeedId, after: u64) -> Option<u64> {
        let track = self.feeds.get(feed)?;
        let head = track.head?.sequence;
        let next = track.claims.places.range(after.saturating_add(1)..).next().map(|(sequence, _)| *sequence);
        let until = next.map_or(head, |next| next - 1).min(head);
        (until > after).then_some(until)
    }

    /// What is missing up to the head: the latest `most` ranges, the latest first.
    pub(super) fn missing(&self, feed: &FeedId, most: usize) -> Vec<Missing> {
        let Some((track, head)) = self.feeds.get(feed).and_then(|track| Some((track, track.head?))) else {
            return Vec::new();
        };
        let (mut missing, mut until) = (Vec::new(), head.sequence);
        for sequence in track.claims.places.range(..=head.sequence).rev().map(|(sequence, _)| *sequence) {
            if sequence < until {
                missing.push((sequence, until));
            }
            until = sequence - 1;
            if missing.len() == most {
                return missing;
            }
        }
        if until > 0 {
            missing.push((0, until));
        }
        missing
    }

    /// Feeds and places known, for status.
    pub(super) fn counts(&self, lane: Lane) -> (usize, usize) {
        let tracks = self.feeds.iter().filter(|(feed, _)| feed.lane == lane);
        tracks.fold((0, 0), |(feeds, places), (_, track)| (feeds + 1, places + track.claims.places.len()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use httt_feed::Digest;
    use proptest::prelude::*;

    use super::*;

    fn feed() -> FeedId {
        "H24→TW/status".parse().expect("feed")
    }

    fn head(sequence: u64) -> Head {
        Head { sequence, digest: Digest::of(&sequence.to_be_bytes()) }
    }

    fn place(at: u64) -> Place {
        Place { at, bytes: 10 }
    }

    #[test]
    fn a_head_never_goes_back() {
        let mut index = Index::default();
        assert!(index.learn(&feed(), head(5)));
        assert!(!index.learn(&feed(), head(4)));
        index.replace(Lane::Status, LaneClaims::default());
        assert_eq!(index.head(&feed()), Some(head(5)));
        assert_eq!(index.missing(&feed(), 9), [(0, 5)]);
    }

    #[test]
    fn a_place_that_was_filled_again_is_not_lost_by_its_old_message() {
        let mut index = Index::default();
        index.note(&feed(), 1, place(7));
        index.note(&feed(), 1, place(9));
        index.lost(&feed(), 1, 7);
        assert_eq!((index.place(&feed(), 1), index.last(&feed())), (Some(place(9)), 9));
    }

    #[test]
    fn what_was_brought_back_is_no_guard() {
        let mut index = Index::default();
        index.note(&feed(), 2, place(7));
        index.note_again(&feed(), 1, place(9));
        assert_eq!((index.place(&feed(), 1), index.last(&feed())), (Some(place(9)), 7));
    }

    #[test]
    fn a_run_has_one_batch_at_least_and_ends_at_a_gap() {
        let mut index = Index::default();
        [1, 2, 3, 5].into_iter().for_each(|sequence| index.note(&feed(), sequence, place(sequence)));
        let run = |after, most| index.run(&feed(), after, most).into_iter().map(|(n, _)| n).collect::<Vec<_>>();
        assert_eq!(run(0, 1), [1]);
        assert_eq!(run(0, 25), [1, 2]);
        assert_eq!(run(0, 1_000), [1, 2, 3]);
        assert_eq!(run(3, 1_000), [0; 0]);
        assert_eq!(run(4, 1_000), [5]);
    }

    proptest! {
        #[test]
        fn held_and_missing_make_up_the_feed(held in prop::collection::btree_set(1..40u64, 0..40), at in 1..40u64) {
            let mut index = Index::default();
            held.iter().for_each(|sequence| index.note(&feed(), *sequence, place(100 + sequence)));
            index.learn(&feed(), head(at));
            let mut seen: BTreeSet<u64> = held.iter().copied().filter(|sequence| *sequence <= at).collect();
            for (after, until) in index.missing(&feed(), usize::MAX) {
                prop_assert_eq!(index.missing_until(&feed(), after), Some(until));
                for sequence in after + 1..=until {
                    prop_assert!(seen.insert(sequence), "{} is both", sequence);
                }
            }
            prop_assert_eq!(seen.into_iter().collect::<Vec<_>>(), (1..=at).collect::<Vec<_>>());
        }

        #[test]
        fn heads_are_told_from_where_they_became_known(steps in prop::collection::vec((0..4u8, 1..9u64), 1..40)) {
            let mut index = Index::default();
            for (which, sequence) in steps {
                let feed: FeedId = format!("H{which}→TW/status").parse().expect("feed");
                let before = index.next();
                let told = index.learn(&feed, head(sequence));
                let news = index.heads(before);
                prop_assert_eq!(told, news.iter().any(|head| head.feed == feed));
                prop_assert!(index.heads(0).iter().all(|head| head.position < index.next()));
            }
        }
    }
}
