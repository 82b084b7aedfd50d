//! How much is kept of what cannot be right, by who brought it: so much of one peer a day, and of the rest a count, so that
//! nobody fills a node's log with what it does wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use httt_feed::Digest;
use httt_log::{Clock, SystemClock};
use httt_wire::directory::TamperingCounted;

use crate::Alarm;

/// Records kept of one peer a day (UTC), since the node started: more of them tell an auditor nothing that these do not.
pub const MAX_RECORDS_A_DAY: usize = 100;
/// A run of what is only counted is over when nothing came for so long, ms.
const RUN_ENDS_MS: u64 = 10 * 60_000;
/// It is told after this time even if it goes on, ms: a crash forgets what was not told yet.
const RUN_IS_TOLD_MS: u64 = 60 * 60_000;

const DAY_MS: i64 = 86_400_000;

/// Counts by peer. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Tally {
    clock: Arc<dyn Clock>,
    peers: Arc<Mutex<BTreeMap<String, Account>>>,
}

impl Default for Tally {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

#[derive(Debug, Default)]
struct Account {
    day: i64,
    /// What was kept that day.
    known: BTreeSet<Digest>,
    /// What was counted since a count was told last.
    run: Option<Run>,
    kept: u64,
    counted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    more: u64,
    from_ms: i64,
    until_ms: i64,
}

/// What is done with something that cannot be right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It is recorded.
    Kept,
    /// It was recorded before: that again is no news, and uses up no room for others.
    Known,
    /// It is one more.
    Counted,
}

/// What was wrong with a peer since the node started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Who brought it: a member's code, or the name of the way up.
    pub peer: String,
    /// Records in the log.
    pub kept: u64,
    /// What was only counted.
    pub counted: u64,
}

impl Tally {
    /// Tells days by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, peers: Arc::default() }
    }

    /// What `peer` brought since the node started.
    pub fn suspects(&self) -> Vec<Suspect> {
        let suspect = |(peer, account): (&String, &Account)| Suspect {
            peer: peer.clone(),
            kept: account.kept,
            counted: account.counted,
        };
        self.lock().iter().map(suspect).collect()
    }

    /// Notes what `peer` brought.
    pub(crate) fn note(&self, peer: &str, alarm: &Alarm) -> Noted {
        let now_ms = self.clock.now_ms();
        let mut peers = self.lock();
        let account = peers.entry(peer.to_owned()).or_default();
        let day = now_ms.div_euclid(DAY_MS);
        if account.day != day {
            account.known.clear();
            account.day = day;
        }
        let what = digest_of(alarm);
        if account.known.contains(&what) {
            return Noted::Known;
        }
        if account.known.len() < MAX_RECORDS_A_DAY {
            account.known.insert(what);
            account.kept += 1;
            return Noted::Kept;
        }
        account.counted += 1;
        let run = account.run.get_or_insert(Run { more: 0, from_ms: now_ms, until_ms: now_ms });
        (run.more, run.until_ms) = (run.more + 1, now_ms);
        Noted::Counted
    }

    /// What was to be recorded is not: it comes again as news.
    pub(crate) fn was_not_kept(&self, peer: &str, alarm: &Alarm) {
        if let Some(account) = self.lock().get_mut(peer)
            && account.known.remove(&digest_of(alarm))
        {
            account.kept = account.kept.saturating_sub(1);
        }
    }

    /// The counts of runs that are to be told now; with `all` of every run, since nobody will ask again.
    pub(crate) fn due(&self, all: bool) -> Vec<TamperingCounted> {
        let now_ms = self.clock.now_ms();
        let is_due = |run: &Run| {
            all || now_ms.abs_diff(run.until_ms) >= RUN_ENDS_MS || now_ms.abs_diff(run.from_ms) >= RUN_IS_TOLD_MS
        };
        let mut peers = self.lock();
        let told = peers.iter_mut().filter_map(|(peer, account)| {
            let Run { more, from_ms, until_ms } = account.run.take_if(|run| is_due(run))?;
            Some(TamperingCounted { peer: peer.clone(), more, from_ms, until_ms })
        });
        told.collect()
    }

    /// A count that could not be told is told later.
    pub(crate) fn was_not_told(&self, count: &TamperingCounted) {
        let mut peers = self.lock();
        let account = peers.entry(count.peer.clone()).or_default();
        let run = account.run.get_or_insert(Run { more: 0, from_ms: count.from_ms, until_ms: count.until_ms });
        (run.more, run.from_ms) = (run.more + count.more, run.from_ms.min(count.from_ms));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Account>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest_of(alarm: &Alarm) -> Digest {
    let evidence = alarm.evidence.as_ref().map(|bytes| Digest::of(bytes).0).unwrap_or_default();
    Digest::of(
        &[alarm.feed.to_string().as_bytes(), b"\0", alarm.refusal.to_string().as_bytes(), b"\0", &evidence].concat(),
    )
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use httt_feed::Refusal;
    use httt_log::ManualClock;
    use proptest::prelude::*;

    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    fn alarm(number: u64) -> Alarm {
        Alarm {
            feed: "TW→*/content".parse().expect("feed"),
            refusal: Refusal::Malformed("rubbish".into()),
            evidence: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        }
    }

    fn tally() -> (Tally, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(10 * DAY_MS));
        (Tally::new(Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    fn many(tally: &Tally, numbers: std::ops::Range<u64>) -> usize {
        numbers.filter(|number| tally.note("H24", &alarm(*number)) == Noted::Kept).count()
    }

    #[test]
    fn a_peer_has_so_many_records_a_day_and_others_have_theirs() {
        let (tally, clock) = tally();
        assert_eq!(many(&tally, 0..1_000), MAX_RECORDS_A_DAY);
        assert_eq!(tally.note("H55", &alarm(1)), Noted::Kept);
        assert_eq!(tally.note("H24", &alarm(1)), Noted::Known);
        clock.advance(DAY_MS);
        assert_eq!(many(&tally, 2_000..3_000), MAX_RECORDS_A_DAY);
        let kept = 2 * MAX_RECORDS_A_DAY as u64;
        let h24 = tally.suspects().into_iter().find(|suspect| suspect.peer == "H24").expect("noted");
        assert_eq!((h24.kept, h24.counted), (kept, 2_000 - kept));
    }

    #[test]
    fn a_count_is_told_when_its_run_is_over_and_then_not_again() {
        let (tally, clock) = tally();
        many(&tally, 0..150);
        clock.advance(60_000);
        many(&tally, 150..151);
        assert_eq!(tally.due(false), []);
        clock.advance(RUN_ENDS_MS as i64);
        let from_ms = 10 * DAY_MS;
        let count = TamperingCounted { peer: "H24".into(), more: 51, from_ms, until_ms: from_ms + 60_000 };
        assert_eq!(tally.due(false), [count]);
        assert_eq!(tally.due(true), []);
    }

    #[test]
    fn a_run_without_end_is_told_every_hour() {
        let (tally, clock) = tally();
        let mut told = Vec::new();
        for minute in 0..240 {
            many(&tally, minute * 1_000..minute * 1_000 + 200);
            told.extend(tally.due(false));
            clock.advance(60_000);
        }
        told.extend(tally.due(true));
        assert!((4..=5).contains(&told.len()), "{told:?}");
        assert!(told.iter().all(|count| count.until_ms - count.from_ms <= HOUR_MS));
        assert_eq!(told.iter().map(|count| count.more).sum::<u64>(), 240 * 200 - MAX_RECORDS_A_DAY as u64);
    }

    #[test]
    fn what_could_not_be_written_is_no_record_and_no_count() {
        let (tally, clock) = tally();
        tally.note("H24", &alarm(1));
        tally.was_not_kept("H24", &alarm(1));
        assert_eq!(tally.note("H24", &alarm(1)), Noted::Kept);
        assert_eq!(tally.suspects()[0].kept, 1);
        many(&tally, 10..500);
        clock.advance(HOUR_MS);
        let counts = tally.due(false);
        many(&tally, 500..510);
        tally.was_not_told(&counts[0]);
        assert_eq!(tally.due(true)[0].more, counts[0].more + 10);
    }

    proptest! {
        /// Nothing is dropped: whatever comes when, what is kept, known, told and still to be told is all there was.
        #[test]
        fn what_is_not_kept_is_counted(
            steps in prop::collection::vec((0..3_u64, 0..400_u64, 0..20_000_000_i64), 1..60),
        ) {
            let (tally, clock) = tally();
            let (mut kept, mut counted, mut told) = (0_u64, 0_u64, 0);
            for (peer, number, passed) in steps {
                for number in number..number + 30 {
                    match tally.note(&format!("H{peer}"), &alarm(number)) {
                        Noted::Kept => kept += 1,
                        Noted::Known => {}
                        Noted::Counted => counted += 1,
                    }
                }
                clock.advance(passed);
                told += tally.due(false).iter().map(|count| count.more).sum::<u64>();
            }
            told += tally.due(true).iter().map(|count| count.more).sum::<u64>();
            prop_assert_eq!(told, counted);
            let suspects = tally.suspects();
            prop_assert_eq!(suspects.iter().map(|suspect| suspect.kept).sum::<u64>(), kept);
            prop_assert_eq!(suspects.iter().map(|suspect| suspect.counted).sum::<u64>(), counted);
        }
    }
}
