//! What a serving node let go or lost, and asks of those who have it: somebody waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use httt_feed::{AgencyCode, FeedId};
use httt_wire::exchange as wire;

/// Feeds asked for again at once; a reader that waits for another one comes back.
const MAX_WANTS: usize = 1_024;
/// Ranges of one feed asked for again.
const MAX_RANGES: usize = 64;
/// How long a range is told before the next one of its feed has its turn, ms: who brings it needs less, and one that
/// nobody brings must not hide the others.
const TURN_MS: u64 = 5_000;
/// How long who said that it lacks a range is not asked for it, ms. Not for ever: a disk or an archive may come back.
pub(crate) const LACK_PAUSE_MS: u32 = 60_000;

/// Ranges that are wanted. Origins are told one a feed at a time; the ranges of a feed take turns.
#[derive(Debug, Default)]
pub(crate) struct Wants {
    feeds: Mutex<BTreeMap<FeedId, Wanted>>,
}

/// The ranges wanted of one feed, the one whose turn it is first.
#[derive(Debug, Default)]
struct Wanted {
    ranges: VecDeque<Range>,
    /// When the first one was told first, ms.
    turn_ms: Option<i64>,
}

#[derive(Debug)]
struct Range {
    after: u64,
    until: u64,
    /// Who said that it does not have it, and when, ms: origin and carriers, who alone are asked.
    lacked: BTreeMap<AgencyCode, i64>,
}

impl Range {
    fn lacks(&self, member: &AgencyCode, now_ms: i64) -> bool {
        self.lacked.get(member).is_some_and(|at| now_ms.abs_diff(*at) < LACK_PAUSE_MS.into())
    }
}

impl Wanted {
    fn keep(&mut self, keep: impl Fn(&Range) -> bool) {
        let first = self.ranges.front().map(|range| range.after);
        self.ranges.retain(keep);
        if self.ranges.front().map(|range| range.after) != first {
            self.turn_ms = None;
        }
    }

    /// The range that `caller` is told.
    fn turn(&mut self, caller: &AgencyCode, now_ms: i64) -> Option<(u64, u64)> {
        if self.ranges.len() > 1 && self.turn_ms.is_some_and(|since| now_ms.abs_diff(since) >= TURN_MS) {
            self.ranges.rotate_left(1);
            self.turn_ms = None;
        }
        let range = self.ranges.iter().find(|range| !range.lacks(caller, now_ms))?;
        self.turn_ms.get_or_insert(now_ms);
        Some((range.after, range.until))
    }
}

impl Wants {
    /// Notes that `feed` is missing from after `after` up to `until`; false: that is no news.
    pub(crate) fn add(&self, feed: &FeedId, after: u64, until: u64, now_ms: i64) -> bool {
        let mut feeds = self.lock();
        if after >= until {
            return false;
        }
        // What its origin lacks takes no room from what it may have.
        let in_vain = |range: &Range| range.lacks(&feed.origin, now_ms);
        if feeds.len() >= MAX_WANTS && !feeds.contains_key(feed) {
            let lost =
                |(feed, wanted): &(&FeedId, &Wanted)| wanted.ranges.iter().all(|one| one.lacks(&feed.origin, now_ms));
            let Some(lost) = feeds.iter().find(lost).map(|(feed, _)| feed.clone()) else { return false };
            feeds.remove(&lost);
        }
        let wanted = feeds.entry(feed.clone()).or_default();
        // One that somebody lacks the beginning of stands for what follows that no more.
        let stands_for = |range: &Range| range.after == after || (range.after < after && range.lacked.is_empty());
        if wanted.ranges.iter().any(|range| stands_for(range) && until <= range.until) {
            return false;
        }
        // One that grew is the same want, and as hopeless as it was.
        let grown = wanted.ranges.iter().find(|range| range.after == after);
        let lacked = grown.map(|range| range.lacked.clone()).unwrap_or_default();
        wanted.keep(|range| range.after < after || until < range.until || (range.after > after && !lacked.is_empty()));
        if wanted.ranges.len() >= MAX_RANGES {
            let Some(lost) = wanted.ranges.iter().position(in_vain) else { return false };
            wanted.ranges.remove(lost);
        }
        wanted.ranges.push_back(Range { after, until, lacked });
        true
    }

    /// Notes that `feed` came back after `after`, up to `until`.
    pub(crate) fn got(&self, feed: &FeedId, after: u64, until: u64) {
        let mut feeds = self.lock();
        let Some(wanted) = feeds.get_mut(feed) else { return };
        for range in &mut wanted.ranges {
            if after <= range.after {
                range.after = until.max(range.after);
            } else if range.until <= until {
                range.until = after.min(range.until);
            }
        }
        // Whose turn it is goes on with what is left of it.
        wanted.turn_ms = None;
        wanted.keep(|range| range.after < range.until);
        if wanted.ranges.is_empty() {
            feeds.remove(feed);
        }
    }

    /// Notes that `member` does not have what follows `after` in `feed`.
    pub(crate) fn lacks(&self, feed: &FeedId, after: u64, member: &AgencyCode, now_ms: i64) {
        let mut feeds = self.lock();
        let ranges = feeds.get_mut(feed).into_iter().flat_map(|wanted| &mut wanted.ranges);
        for range in ranges.filter(|range| range.after == after) {
            range.lacked.insert(member.clone(), now_ms);
        }
    }

    /// Whether the origin of `feed` said a while ago that it does not have what follows `after`.
    pub(crate) fn in_vain(&self, feed: &FeedId, after: u64, now_ms: i64) -> bool {
        let feeds = self.lock();
        let mut ranges = feeds.get(feed).into_iter().flat_map(|wanted| &wanted.ranges);
        ranges.any(|range| range.after == after && range.lacks(&feed.origin, now_ms))
    }

    /// What `caller` is told: one range of each feed that `whose` says yes to.
    pub(crate) fn of(&self, caller: &AgencyCode, now_ms: i64, whose: impl Fn(&FeedId) -> bool) -> Vec<wire::Want> {
        let mut feeds = self.lock();
        let theirs = feeds.iter_mut().filter(|(feed, _)| whose(feed));
        theirs
            .filter_map(|(feed, wanted)| {
                let (after, until) = wanted.turn(caller, now_ms)?;
                Some(wire::Want { feed: Some(feed.to_wire()), after, until })
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FeedId, Wanted>> {
        self.feeds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(text: &str) -> AgencyCode {
        AgencyCode::new(text).expect("code")
    }

    fn wanted() -> (Wants, FeedId) {
        (Wants::default(), "H24→TW/report".parse().expect("feed"))
    }

    fn told_at(wants: &Wants, caller: &str, now_ms: i64) -> Option<(u64, u64)> {
        wants.of(&member(caller), now_ms, |_| true).first().map(|want| (want.after, want.until))
    }

    fn told(wants: &Wants) -> Option<(u64, u64)> {
        told_at(wants, "H24", 0)
    }

    #[test]
    fn ranges_of_one_feed_are_told_one_after_the_other() {
        let (wants, feed) = wanted();
        wants.add(&feed, 10, 12, 0);
        wants.add(&feed, 3, 5, 0);
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
        let (wants, feed) = wanted();
        assert!(wants.add(&feed, 3, 5, 0));
        assert!(!wants.add(&feed, 4, 5, 0));
        assert!(!wants.add(&feed, 7, 7, 0));
        assert!(wants.add(&feed, 2, 6, 0));
        wants.got(&feed, 2, 6);
        assert_eq!(told(&wants), None);
    }

    #[test]
    fn a_range_that_nobody_brings_does_not_hide_the_next_one() {
        let (wants, feed) = wanted();
        for after in [0, 10, 20] {
            wants.add(&feed, after, after + 5, 0);
        }
        let mut seen: Vec<_> = (0..7).filter_map(|turn| told_at(&wants, "H24", turn * TURN_MS as i64)).collect();
        assert_eq!(seen[..4], [(0, 5), (10, 15), (20, 25), (0, 5)]);
        // One that is being brought keeps its turn.
        wants.got(&feed, 0, 2);
        seen = (0..3).filter_map(|_| told_at(&wants, "H24", 100_000)).collect();
        assert_eq!(seen, [seen[0]; 3]);
    }

    #[test]
    fn who_lacks_a_range_is_told_another_and_asked_again_later() {
        let (wants, feed) = wanted();
        wants.add(&feed, 0, 5, 0);
        wants.lacks(&feed, 0, &member("H24"), 0);
        assert_eq!(told_at(&wants, "H24", 1_000), None);
        assert!(wants.in_vain(&feed, 0, 1_000));
        assert_eq!(told_at(&wants, "H24.LGSP", 1_000), Some((0, 5)), "its carrier may have it");
        wants.add(&feed, 10, 15, 1_000);
        assert_eq!(told_at(&wants, "H24", 2_000), Some((10, 15)));
        let later = 1_000 + i64::from(LACK_PAUSE_MS);
        assert!(!wants.in_vain(&feed, 0, later));
        wants.got(&feed, 10, 15);
        assert_eq!(told_at(&wants, "H24", later), Some((0, 5)));
    }

    #[test]
    fn what_follows_what_is_lacked_is_wanted_by_itself() {
        let (wants, feed) = wanted();
        wants.add(&feed, 0, 9, 0);
        assert!(!wants.add(&feed, 5, 9, 0), "it is part of the other");
        wants.lacks(&feed, 0, &member("H24"), 0);
        assert!(wants.add(&feed, 5, 9, 0));
        assert!(!wants.add(&feed, 5, 9, 0));
        assert_eq!(told(&wants), Some((5, 9)));
        // The hopeless one grows, and still does not hide it.
        wants.add(&feed, 0, 20, 0);
        assert_eq!(told(&wants), Some((5, 9)));
        wants.got(&feed, 5, 9);
        assert_eq!(told(&wants), None);
    }

    #[test]
    fn what_its_carrier_lacks_the_origin_is_still_asked_for() {
        let (wants, feed) = wanted();
        wants.add(&feed, 0, 5, 0);
        wants.lacks(&feed, 0, &member("H24.LGSP"), 0);
        assert!(!wants.in_vain(&feed, 0, 1));
        assert_eq!((told_at(&wants, "H24", 1), told_at(&wants, "H24.LGSP", 1)), (Some((0, 5)), None));
    }

    #[test]
    fn what_the_origin_lacks_gives_its_room_to_what_it_may_have() {
        let (wants, feed) = wanted();
        let ranges = 0..MAX_RANGES as u64;
        assert!(ranges.clone().all(|n| wants.add(&feed, n * 10, n * 10 + 5, 0)));
        assert!(!wants.add(&feed, 5_000, 5_001, 0), "there is no room");
        ranges.for_each(|n| wants.lacks(&feed, n * 10, &member("H24"), 0));
        assert!(wants.add(&feed, 5_000, 5_001, 0));
        assert_eq!(told(&wants), Some((5_000, 5_001)));
    }

    proptest! {
        /// Whatever is lacked: every range that is not is told within as many turns as there are ranges.
        #[test]
        fn every_range_has_its_turn(lacked in prop::collection::vec(any::<bool>(), 1..20)) {
            let (wants, feed) = wanted();
            for (n, lacks) in lacked.iter().enumerate() {
                let after = n as u64 * 10;
                wants.add(&feed, after, after + 5, 0);
                if *lacks {
                    wants.lacks(&feed, after, &member("H24"), 0);
                }
            }
            let turns = (0..lacked.len() as i64 * 2).map(|turn| turn * TURN_MS as i64);
            // Time that lets no lack be forgotten.
            let turns = turns.filter(|at| *at < LACK_PAUSE_MS.into());
            let mut told: Vec<u64> = turns.filter_map(|at| told_at(&wants, "H24", at)).map(|(after, _)| after).collect();
            told.sort_unstable();
            told.dedup();
            let due: Vec<u64> = (0..).zip(&lacked).filter(|(_, lacks)| !**lacks).map(|(n, _)| n * 10).collect();
            let within = (LACK_PAUSE_MS as usize).div_ceil(TURN_MS as usize);
            prop_assert!(told.iter().all(|after| due.contains(after)));
            if lacked.len() * 2 <= within {
                prop_assert_eq!(told, due);
            }
        }
    }
}
