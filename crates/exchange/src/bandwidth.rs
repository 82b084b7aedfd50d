//! How much may go over a member's way up, and who goes first.
//!
//! A token bucket without I/O and with time as a number. Bulk (entries that are not urgent, then media) fills up at the
//! rate less what is kept for emergencies and waits until there is room. What is urgent never waits: it is paid from
//! what is kept for it, and what that does not cover is missing from bulk afterwards. So the rate holds over any longer
//! time, and whatever is under way when an emergency comes is at most [`BURST_MS`] worth of the link, or one batch.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most that is saved up, as time at full rate, ms: what one call of bulk may take.
pub const BURST_MS: u64 = 1_000;
/// Least that a call of bulk is begun for, as a share of what can be saved up: less would be all framing.
const LEAST_SHARE: i64 = 4;
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

    fn take(&mut self, now_ms: i64) -> Option<usize> {
        self.fill(now_ms);
        let least = self.most(100 - self.kept_percent()) / LEAST_SHARE;
        if self.bulk < least.max(1_000) {
            return None;
        }
        let bytes = self.bulk / 1_000;
        self.bulk -= bytes * 1_000;
        usize::try_from(bytes).ok()
    }

    fn settle(&mut self, taken: usize, spent: usize) {
        self.bulk += (taken as i64 - spent as i64).saturating_mul(1_000);
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
        let mut bucket = Bucket { limit, at_ms: 0, bulk: 0, kept: 0, entries_wait: false };
        bucket.fill(BURST_MS as i64);
        bucket.at_ms = 0;
        Self { bucket: Arc::new(Mutex::new(bucket)), began: Instant::now() }
    }

    /// The time that the methods here take, ms.
    pub(crate) fn now_ms(&self) -> i64 {
        self.began.elapsed().as_millis() as i64
    }

    /// Bytes that one call about bulk entries may take now; they are taken. `None`: wait.
    pub fn take_for_entries(&self, now_ms: i64) -> Option<usize> {
        let mut bucket = self.bucket();
        let taken = bucket.take(now_ms);
        bucket.entries_wait = taken.is_none();
        taken
    }

    /// No entries wait (any more).
    pub fn entries_rest(&self) {
        self.bucket().entries_wait = false;
    }

    /// Bytes that one range of a media file may take now; they are taken. `None`: wait.
    pub fn take_for_media(&self, now_ms: i64) -> Option<usize> {
        let mut bucket = self.bucket();
        if bucket.entries_wait { None } else { bucket.take(now_ms) }
    }

    /// A call for which `taken` bytes were taken came to `spent`.
    pub fn settle(&self, taken: usize, spent: usize) {
        self.bucket().settle(taken, spent);
    }

    /// Something urgent took so many bytes; it did not wait for them.
    pub fn urgent(&self, now_ms: i64, bytes: usize) {
        self.bucket().urgent(now_ms, bytes);
    }

    /// What a range of media takes at most that does not wait: one burst of the whole link.
    pub fn burst_bytes(&self) -> usize {
        usize::try_from(self.bucket().limit.bytes_per_s * BURST_MS / 1_000).unwrap_or(usize::MAX).max(1)
    }

    /// Waits until a range of a media file may go, and gives its size.
    pub async fn media_turn(&self) -> usize {
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

    #[test]
    fn bulk_keeps_to_its_share_of_the_rate() {
        let (link, mut sent) = (Bandwidth::new(LIMIT), 0);
        for now in (0..600_000).step_by(100) {
            sent += link.take_for_entries(now).unwrap_or(0);
        }
        // 600 s at three quarters of 8,000, and the burst that was saved up.
        assert!((3_590_000..=3_606_000).contains(&sent), "{sent}");
    }

    #[test]
    fn what_is_urgent_is_paid_by_what_is_kept_and_then_by_bulk() {
        let link = Bandwidth::new(LIMIT);
        assert_eq!(link.take_for_entries(0), Some(6_000));
        link.urgent(1_000, 2_000);
        assert_eq!(link.take_for_entries(1_000), Some(6_000), "the share kept for it covered that");
        link.urgent(1_000, 8_000);
        assert_eq!(link.take_for_entries(2_000), None, "and this it did not");
        assert!(link.take_for_entries(3_000).is_some());
    }

    #[test]
    fn media_lets_entries_pass() {
        let link = Bandwidth::new(LIMIT);
        assert!(link.take_for_entries(0).is_some());
        assert_eq!(link.take_for_entries(100), None);
        assert_eq!(link.take_for_media(5_000), None, "entries wait");
        assert!(link.take_for_entries(5_000).is_some());
        link.entries_rest();
        assert!(link.take_for_media(10_000).is_some());
    }

    #[test]
    fn one_batch_larger_than_the_burst_is_paid_off() {
        let link = Bandwidth::new(LIMIT);
        let taken = link.take_for_entries(0).expect("room");
        link.settle(taken, 60_000);
        assert_eq!(link.take_for_entries(8_000), None);
        assert!(link.take_for_entries(11_000).is_some());
    }

    proptest! {
        /// Whatever comes when: all together keep to the rate, but for one burst and what the last call ran over.
        #[test]
        fn the_rate_holds(
            steps in prop::collection::vec((1_i64..3_000, 0_u8..3, 0_usize..2_000), 1..300),
        ) {
            let (link, mut now, mut sent) = (Bandwidth::new(LIMIT), 0, 0_i64);
            for (passed, what, urgent) in steps {
                now += passed;
                match what {
                    0 => sent += link.take_for_entries(now).unwrap_or(0) as i64,
                    1 => sent += link.take_for_media(now).unwrap_or(0) as i64,
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
