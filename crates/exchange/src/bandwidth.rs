//! How much may go over a member's way up, and who goes first.
//!
//! A token bucket without I/O and with time as a number. Bulk (entries that are not urgent, then media) fills up at the
//! rate less what is kept for emergencies and waits until there is room. What is urgent never waits: it is paid from
//! what is kept for it, and what that does not cover is missing from bulk afterwards. So the rate holds over any longer
//! time, and whatever is under way when an emergency comes is at most [`BURST_MS`] worth of the link, or one batch.
//!
//! A call brings one batch at least, however large that is beside the rate, and what it came to is known when it has
//! ended: it is paid off then, from debt. Until then it may be a full batch, so that only as many calls are under way as
//! could bring one each within a while; on a thin link that is one. Several would share it and all come too late.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use httt_feed::MAX_SEALED_BYTES;

/// Most that is saved up, as time at full rate, ms: what one call of bulk may take.
pub const BURST_MS: u64 = 1_000;
/// Least that a call of bulk is begun for, as a share of what can be saved up: less would be all framing.
const LEAST_SHARE: i64 = 4;
/// So long may all calls of bulk under way take together if each brings a full batch; one is always let in.
const UNDER_WAY_MS: u64 = 10_000;
/// Longest sleep of a media transfer between two looks.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Both ways together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Bytes a second.
    pub bytes_per_s: u64,
    /// Percent of it that bulk leaves to emergencies; at most 90.
    pub emergency_percent: u8,
}

#[derive(Debug)]
struct Bucket {
    limit: Limit,
    /// When it was filled last, ms.
    at_ms: i64,
    /// Thousandths of a byte; below zero when more was spent than there was.
    bulk: i64,
    kept: i64,
    /// Entries wait for room: media lets them pass.
    entries_wait: bool,
    /// Calls of bulk.
    under_way: u64,
}

/// Bytes taken for one call of bulk, which is under way until this is settled or dropped: then it came to what was taken,
/// for all that is known.
#[derive(Debug)]
#[must_use]
pub struct Taken {
    link: Bandwidth,
    bytes: usize,
}

impl Taken {
    /// So many.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The call came to `spent`.
    pub fn settle(self, spent: usize) {
        self.link.bucket().bulk += (self.bytes as i64 - spent as i64).saturating_mul(1_000);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut bucket = self.link.bucket();
        bucket.under_way = bucket.under_way.saturating_sub(1);
    }
}

impl Bucket {
    fn rate_of(&self, percent: u8) -> i64 {
        // Bytes a second are thousandths of a byte a millisecond.
        i64::try_from(self.limit.bytes_per_s).unwrap_or(i64::MAX / 1_000_000).min(i64::MAX / 1_000_000)
            * i64::from(percent)
            / 100
    }

    fn kept_percent(&self) -> u8 {
        self.limit.emergency_percent.min(90)
    }

    fn most(&self, percent: u8) -> i64 {
        self.rate_of(percent) * BURST_MS as i64
    }

    fn fill(&mut self, now_ms: i64) {
        let passed = (now_ms - self.at_ms).clamp(0, 3_600_000);
        self.at_ms = self.at_ms.max(now_ms);
        let (kept, bulk) = (self.kept_percent(), 100 - self.kept_percent());
        self.bulk = (self.bulk + passed * self.rate_of(bulk)).min(self.most(bulk));
        self.kept = (self.kept + passed * self.rate_of(kept)).min(self.most(kept));
    }

    /// Calls of bulk that may be under way at once.
    fn most_under_way(&self) -> u64 {
        let bytes = self.rate_of(100 - self.kept_percent()) as u64 * UNDER_WAY_MS / 1_000;
        (bytes / MAX_SEALED_BYTES as u64).max(1)
    }

    fn take(&mut self, now_ms: i64) -> Option<usize> {
        self.fill(now_ms);
        if self.under_way >= self.most_under_way() {
            return None;
        }
        let least = self.most(100 - self.kept_percent()) / LEAST_SHARE;
        if self.bulk < least.max(1_000) {
            return None;
        }
        let bytes = self.bulk / 1_000;
        let taken = usize::try_from(bytes).ok()?;
        self.bulk -= bytes * 1_000;
        self.under_way += 1;
        Some(taken)
    }

    fn urgent(&mut self, now_ms: i64, bytes: usize) {
        self.fill(now_ms);
        self.kept -= (bytes as i64).saturating_mul(1_000);
        if self.kept < 0 {
            self.bulk += self.kept;
            self.kept = 0;
        }
    }
}

/// One member's way up, shared by its entries and its media. Cheap to clone; all clones are the same link.
#[derive(Debug, Clone)]
pub struct Bandwidth {
    bucket: Arc<Mutex<Bucket>>,
    began: Instant,
}

impl Bandwidth {
    /// Nothing is saved up but one burst.
    pub fn new(limit: Limit) -> Self {
        let mut bucket = Bucket { limit, at_ms: 0, bulk: 0, kept: 0, entries_wait: false, under_way: 0 };
        bucket.fill(BURST_MS as i64);
        bucket.at_ms = 0;
        Self { bucket: Arc::new(Mutex::new(bucket)), began: Instant::now() }
    }

    /// The time that the methods here take, ms.
    pub(crate) fn now_ms(&self) -> i64 {
        self.began.elapsed().as_millis() as i64
    }

    /// Bytes that one call about bulk entries may take now; they are taken. `None`: wait.
    pub fn take_for_entries(&self, now_ms: i64) -> Option<Taken> {
        let mut bucket = self.bucket();
        let taken = bucket.take(now_ms);
        bucket.entries_wait = taken.is_none();
        taken.map(|bytes| self.taken(bytes))
    }

    fn taken(&self, bytes: usize) -> Taken {
        Taken { link: self.clone(), bytes }
    }

    /// No entries wait (any more).
    pub fn entries_rest(&self) {
        self.bucket().entries_wait = false;
    }

    /// Bytes that one range of a media file may take now; they are taken. `None`: wait.
    pub fn take_for_media(&self, now_ms: i64) -> Option<Taken> {
        let mut bucket = self.bucket();
        let taken = if bucket.entries_wait { None } else { bucket.take(now_ms) };
        taken.map(|bytes| self.taken(bytes))
    }

    /// How much longer than on a link without a limit a call may take: what brings a full batch takes its time, and shares
    /// the link with what is urgent.
    pub fn patience(&self) -> Duration {
        let bytes_per_s = self.bucket().limit.bytes_per_s.max(1);
        Duration::from_millis(2 * MAX_SEALED_BYTES as u64 * 1_000 / bytes_per_s)
    }

    /// Something urgent took so many bytes; it did not wait for them.
    pub fn urgent(&self, now_ms: i64, bytes: usize) {
        self.bucket().urgent(now_ms, bytes);
    }

    /// What a range of media takes at most that does not wait: one burst of the whole link.
    pub fn burst_bytes(&self) -> usize {
        usize::try_from(self.bucket().limit.bytes_per_s * BURST_MS / 1_000).unwrap_or(usize::MAX).max(1)
    }

    /// Waits until a range of a media file may go; what was taken is its size.
    pub async fn media_turn(&self) -> Taken {
        loop {
            if let Some(taken) = self.take_for_media(self.now_ms()) {
                return taken;
            }
            tokio::time::sleep(LONGEST_LOOK / 10).await;
        }
    }

    /// Counts what an urgent media transfer took.
    pub fn urgent_media(&self, bytes: usize) {
        self.urgent(self.now_ms(), bytes);
    }

    fn bucket(&self) -> MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Limit = Limit { bytes_per_s: 8_000, emergency_percent: 25 };

    /// What a call may take, and takes.
    fn entries(link: &Bandwidth, now_ms: i64) -> Option<usize> {
        link.take_for_entries(now_ms).map(|taken| taken.bytes())
    }

    #[test]
    fn bulk_keeps_to_its_share_of_the_rate() {
        let (link, mut sent) = (Bandwidth::new(LIMIT), 0);
        for now in (0..600_000).step_by(100) {
            sent += entries(&link, now).unwrap_or(0);
        }
        // 600 s at three quarters of 8,000, and the burst that was saved up.
        assert!((3_590_000..=3_606_000).contains(&sent), "{sent}");
    }

    #[test]
    fn what_is_urgent_is_paid_by_what_is_kept_and_then_by_bulk() {
        let link = Bandwidth::new(LIMIT);
        assert_eq!(entries(&link, 0), Some(6_000));
        link.urgent(1_000, 2_000);
        assert_eq!(entries(&link, 1_000), Some(6_000), "the share kept for it covered that");
        link.urgent(1_000, 8_000);
        assert_eq!(entries(&link, 2_000), None, "and this it did not");
        assert!(link.take_for_entries(3_000).is_some());
    }

    #[test]
    fn media_lets_entries_pass() {
        let link = Bandwidth::new(LIMIT);
        assert!(link.take_for_entries(0).is_some());
        assert_eq!(entries(&link, 100), None);
        assert!(link.take_for_media(5_000).is_none(), "entries wait");
        assert!(link.take_for_entries(5_000).is_some());
        link.entries_rest();
        assert!(link.take_for_media(10_000).is_some());
    }

    #[test]
    fn one_batch_larger_than_the_burst_is_paid_off() {
        let link = Bandwidth::new(LIMIT);
        let taken = link.take_for_entries(0).expect("room");
        taken.settle(60_000);
        assert_eq!(entries(&link, 8_000), None);
        assert!(link.take_for_entries(11_000).is_some());
    }

    #[test]
    fn what_is_under_way_on_a_thin_link_is_one_call_until_it_ends_in_whatever_way() {
        let link = Bandwidth::new(LIMIT);
        let first = link.take_for_entries(0).expect("room");
        assert!(link.take_for_entries(60_000).is_none(), "it may be a full batch");
        first.settle(100);
        let second = link.take_for_entries(60_000).expect("it has ended");
        drop(second);
        assert!(link.take_for_entries(120_000).is_some(), "also without a word");
        let wide = Bandwidth::new(Limit { bytes_per_s: 1_000_000, emergency_percent: 25 });
        let calls: Vec<_> = (0..4).filter_map(|now| wide.take_for_entries(now * 1_000)).collect();
        assert_eq!(calls.len(), 4, "a wide one takes several at once");
    }

    /// How a call of this many bytes goes on a link of exactly its limit, which it shares with others evenly.
    struct OnTheLink {
        left: f64,
        size: usize,
        since_ms: i64,
        /// Of bulk.
        taken: Option<Taken>,
    }

    const STEP_MS: i64 = 200;
    /// As long as calls may take on links without a limit.
    const CALL_MS: i64 = 20_000;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Batches of any size pass any limit, on a link that carries no more than that, with four feeds that have
        /// something to say, and with emergencies, none of which waits for its turn.
        #[test]
        fn every_batch_passes_every_limit(
            kbit_s in prop_oneof![1_u64..30, 30_u64..400],
            emergency_percent in 0_u8..=90,
            sizes in prop::collection::vec(prop_oneof![1..=MAX_SEALED_BYTES, Just(MAX_SEALED_BYTES)], 1..10),
            urgent in prop::collection::vec((1_i64..600, 1..2_000_usize), 0..6),
        ) {
            let limit = Limit { bytes_per_s: kbit_s * 1_000 / 8, emergency_percent };
            let (link, rate) = (Bandwidth::new(limit), limit.bytes_per_s as f64);
            let patience = CALL_MS + link.patience().as_millis() as i64;
            let whole = (sizes.iter().sum::<usize>() + urgent.iter().map(|(_, bytes)| bytes).sum::<usize>()) as f64;
            let bulk_share = f64::from(100 - emergency_percent) / 100.0;
            // Twice what it takes at bulk's share of the rate, and a while: whoever waits for ever is found out.
            let until = (2.0 * whole / (rate * bulk_share) * 1_000.0) as i64 + 700_000;
            let mut urgent: Vec<(i64, usize)> = urgent.iter().map(|(at_s, bytes)| (at_s * 1_000, *bytes)).collect();
            let (mut waiting, mut calls, mut now): (Vec<usize>, Vec<OnTheLink>, i64) = (sizes, vec![], 0);
            while !(waiting.is_empty() && urgent.is_empty() && calls.is_empty()) {
                now += STEP_MS;
                prop_assert!(now < until, "{} batches wait after {now} ms", waiting.len());
                let due = urgent.iter().filter(|(at, _)| *at <= now);
                calls.extend(due.map(|(_, size)| OnTheLink { left: *size as f64, size: *size, since_ms: now, taken: None }));
                urgent.retain(|(at, _)| *at > now);
                while calls.iter().filter(|call| call.taken.is_some()).count() < 4
                    && !waiting.is_empty()
                    && let Some(taken) = link.take_for_entries(now)
                {
                    let size = waiting.pop().expect("one waits");
                    calls.push(OnTheLink { left: size as f64, size, since_ms: now, taken: Some(taken) });
                }
                let each = rate * STEP_MS as f64 / 1_000.0 / calls.len().max(1) as f64;
                calls.iter_mut().for_each(|call| call.left -= each);
                for call in calls.extract_if(.., |call| call.left <= 0.0) {
                    match call.taken {
                        Some(taken) => taken.settle(call.size),
                        None => link.urgent(now, call.size),
                    }
                }
                for call in &calls {
                    prop_assert!(now - call.since_ms <= patience, "a call of {} bytes came too late", call.size);
                }
            }
        }

        /// Whatever comes when: all together keep to the rate, but for one burst and what the last call ran over.
        #[test]
        fn the_rate_holds(
            steps in prop::collection::vec((1_i64..3_000, 0_u8..3, 0_usize..2_000), 1..300),
        ) {
            let (link, mut now, mut sent) = (Bandwidth::new(LIMIT), 0, 0_i64);
            for (passed, what, urgent) in steps {
                now += passed;
                match what {
                    0 => sent += entries(&link, now).unwrap_or(0) as i64,
                    1 => sent += link.take_for_media(now).map_or(0, |taken| taken.bytes()) as i64,
                    // Never more than the link can carry anyway.
                    _ => {
                        let urgent = urgent.min(passed as usize);
                        link.urgent(now, urgent);
                        sent += urgent as i64;
                    }
                }
            }
            let allowed = (now + BURST_MS as i64) * LIMIT.bytes_per_s as i64 / 1_000;
            prop_assert!(sent <= allowed + 3_000, "{sent} of {allowed}");
        }
    }
}
