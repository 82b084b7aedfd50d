//! How much a caller may ask for: token buckets, without a clock of their own.
//!
//! A bucket holds what may be taken at once and fills with time. A call pays when it comes in; what its answer weighs is
//! charged afterwards, if need be into debt, and the next call waits until the debt is paid.
//!
//! | [`Class`] | calls | why on its own |
//! |---|---|---|
//! | `Urgent` | feeds of the lanes emergency and directory | never behind anything else |
//! | `Heads` | heads | who may not ask would not learn of an emergency |
//! | `Bulk` | everything else | |

use std::collections::HashMap;
use std::hash::Hash;

use httt_feed::Lane;

/// Most that a rate can be, a minute.
pub const MAX_PER_MINUTE: u64 = 1 << 40;
/// Callers remembered at a time; those beyond share one bucket.
pub const MAX_CALLERS: usize = 10_000;

/// Longest a caller is told to wait.
const MAX_RETRY_MS: u32 = 10 * 60_000;
/// How often a full table is searched for buckets that are full again.
const SWEEP_EVERY_MS: i64 = 1_000;
/// Units of a level: one taken is a minute's milliseconds, so that what fills in a millisecond is a whole number.
const SCALE: i64 = 60_000;

/// So much a minute, a minute's worth at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u64);

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self(0);

    /// `amount` a minute, at most [`MAX_PER_MINUTE`]; 0 is no limit.
    pub const fn per_minute(amount: u64) -> Self {
        Self(if amount < MAX_PER_MINUTE { amount } else { MAX_PER_MINUTE })
    }

    fn capacity(self) -> i64 {
        (self.0 as i64).saturating_mul(SCALE)
    }
}

/// What one caller may still take.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    rate: Rate,
    /// Scaled; negative while there is a debt.
    level: i64,
    at_ms: i64,
}

impl TokenBucket {
    /// A full bucket.
    pub fn full(rate: Rate, now_ms: i64) -> Self {
        Self { rate, level: rate.capacity(), at_ms: now_ms }
    }

    /// Takes `cost`, or says in how many milliseconds it can be taken. What costs more than a bucket holds is taken from
    /// a full one and leaves a debt: refusing it would be refusing it for ever.
    ///
    /// # Errors
    /// The milliseconds to wait, at least one. Nothing was taken.
    pub fn take(&mut self, cost: u64, now_ms: i64) -> Result<(), u32> {
        if self.rate == Rate::UNLIMITED {
            return Ok(());
        }
        self.fill(now_ms);
        let cost = scaled(cost);
        let needed = cost.min(self.rate.capacity()).saturating_sub(self.level);
        if needed > 0 {
            // Each millisecond brings as many scaled units as a minute brings whole ones.
            let wait = needed.div_euclid(self.rate.0 as i64) + i64::from(needed % self.rate.0 as i64 != 0);
            return Err(u32::try_from(wait).unwrap_or(MAX_RETRY_MS).clamp(1, MAX_RETRY_MS));
        }
        self.level = self.level.saturating_sub(cost);
        Ok(())
    }

    /// Takes `cost` whatever is left: it was spent already.
    pub fn charge(&mut self, cost: u64, now_ms: i64) {
        if self.rate != Rate::UNLIMITED {
            self.fill(now_ms);
            self.level = self.level.saturating_sub(scaled(cost));
        }
    }

    /// Whether forgetting it changes nothing.
    fn is_full(&mut self, now_ms: i64) -> bool {
        self.fill(now_ms);
        self.level >= self.rate.capacity()
    }

    fn fill(&mut self, now_ms: i64) {
        // A clock set back fills nothing, and does not stop the filling from there on.
        let passed = now_ms.saturating_sub(self.at_ms).max(0);
        self.at_ms = now_ms;
        self.level = self.level.saturating_add(passed.saturating_mul(self.rate.0 as i64)).min(self.rate.capacity());
    }
}

fn scaled(cost: u64) -> i64 {
    i64::try_from(cost).unwrap_or(i64::MAX).saturating_mul(SCALE)
}

/// A bucket a key, for a bounded number of keys.
#[derive(Debug)]
pub struct Quotas<K> {
    rate: Rate,
    /// Keys with a rate of their own.
    rates: HashMap<K, Rate>,
    most: usize,
    buckets: HashMap<K, TokenBucket>,
    /// Shared by the keys for which there is no room.
    others: TokenBucket,
    swept_ms: i64,
}

impl<K: Eq + Hash + Clone> Quotas<K> {
    /// Every key may take by `rate`. Beyond `most` keys at a time all others share one bucket.
    pub fn new(rate: Rate, most: usize) -> Self {
        Self {
            rate,
            rates: HashMap::new(),
            most,
            buckets: HashMap::new(),
            others: TokenBucket::full(rate, 0),
            swept_ms: i64::MIN,
        }
    }

    /// Gives `key` a rate of its own.
    pub fn set_rate(&mut self, key: K, rate: Rate) {
        self.buckets.remove(&key);
        self.rates.insert(key, rate);
    }

    /// Takes `cost` of what `key` may take.
    ///
    /// # Errors
    /// The milliseconds to wait, at least one. Nothing was taken.
    pub fn take(&mut self, key: &K, cost: u64, now_ms: i64) -> Result<(), u32> {
        self.bucket(key, now_ms).take(cost, now_ms)
    }

    /// Takes `cost` whatever is left to `key`: it was spent already.
    pub fn charge(&mut self, key: &K, cost: u64, now_ms: i64) {
        self.bucket(key, now_ms).charge(cost, now_ms);
    }

    fn bucket(&mut self, key: &K, now_ms: i64) -> &mut TokenBucket {
        if !self.buckets.contains_key(key) {
            if self.buckets.len() >= self.most && now_ms.abs_diff(self.swept_ms) >= SWEEP_EVERY_MS as u64 {
                self.swept_ms = now_ms;
                self.buckets.retain(|_, bucket| !bucket.is_full(now_ms));
            }
            if self.buckets.len() >= self.most {
                return &mut self.others;
            }
        }
        let rate = self.rates.get(key).copied().unwrap_or(self.rate);
        self.buckets.entry(key.clone()).or_insert_with(|| TokenBucket::full(rate, now_ms))
    }
}

/// What a call is for; each has buckets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Feeds of the lanes emergency and directory.
    Urgent,
    /// Heads.
    Heads,
    /// Everything else.
    Bulk,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Heads, Self::Bulk];

    /// The class of a call about a feed of `lane`.
    pub fn of_lane(lane: Option<Lane>) -> Self {
        match lane {
            Some(Lane::Directory | Lane::Emergency) => Self::Urgent,
            _ => Self::Bulk,
        }
    }

    /// The class of a call about a media file, which may be an emergency's.
    pub fn of_media(urgent: bool) -> Self {
        if urgent { Self::Urgent } else { Self::Bulk }
    }
}

/// What a caller may ask for in each [`Class`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallRates {
    /// Calls.
    pub calls: Rate,
    /// Bytes, both ways together.
    pub bytes: Rate,
}

impl CallRates {
    /// No limits.
    pub const UNLIMITED: Self = Self { calls: Rate::UNLIMITED, bytes: Rate::UNLIMITED };
}

/// Calls and bytes of callers, by class.
#[derive(Debug)]
pub struct CallQuotas<K> {
    calls: Quotas<(K, Class)>,
    bytes: Quotas<(K, Class)>,
}

impl<K: Eq + Hash + Clone> CallQuotas<K> {
    /// Every caller may ask by `rates`.
    pub fn new(rates: CallRates) -> Self {
        Self { calls: Quotas::new(rates.calls, MAX_CALLERS), bytes: Quotas::new(rates.bytes, MAX_CALLERS) }
    }

    /// Gives `caller` rates of its own.
    pub fn set_rates(&mut self, caller: &K, rates: CallRates) {
        for class in Class::ALL {
            self.calls.set_rate((caller.clone(), class), rates.calls);
            self.bytes.set_rate((caller.clone(), class), rates.bytes);
        }
    }

    /// Lets a call in that brings `bytes`.
    ///
    /// # Errors
    /// The milliseconds to wait. A call that is not let in has cost nothing.
    pub fn take(&mut self, caller: &K, class: Class, bytes: u64, now_ms: i64) -> Result<(), u32> {
        let key = (caller.clone(), class);
        let calls = self.calls.bucket(&key, now_ms);
        let before = calls.clone();
        calls.take(1, now_ms)?;
        self.bytes.take(&key, bytes, now_ms).inspect_err(|_| *self.calls.bucket(&key, now_ms) = before)
    }

    /// Charges what the answer weighed.
    pub fn charge(&mut self, caller: &K, class: Class, bytes: u64, now_ms: i64) {
        self.bytes.charge(&(caller.clone(), class), bytes, now_ms);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Waits and costs: what somebody does to a bucket.
    fn calls() -> impl Strategy<Value = Vec<(i64, u64)>> {
        prop::collection::vec((0..5_000_i64, 0..200_u64), 1..200)
    }

    proptest! {
        #[test]
        fn no_window_gives_more_than_a_burst_and_what_filled_in_it(rate in 1..2_000_u64, calls in calls()) {
            let mut bucket = TokenBucket::full(Rate::per_minute(rate), 0);
            let (mut now, mut taken) = (0, vec![]);
            for (wait, cost) in calls {
                now += wait;
                // What is larger than the bucket leaves a debt, which the next test looks at.
                if cost <= rate && bucket.take(cost, now).is_ok() {
                    taken.push((now, cost));
                }
            }
            for (first, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until, cost) in &taken[first..] {
                    sum += cost;
                    let filled = (until - from) as u64 * rate;
                    prop_assert!(sum * 60_000 <= rate * 60_000 + filled, "{sum} in {} ms", until - from);
                }
            }
        }

        #[test]
        fn waiting_as_told_is_enough_and_no_less_would_be(rate in 1..2_000_u64, calls in calls()) {
            let mut bucket = TokenBucket::full(Rate::per_minute(rate), 0);
            let mut now = 0;
            for (wait, cost) in calls {
                now += wait;
                if let Err(retry) = bucket.clone().take(cost, now) {
                    let too_early = now + i64::from(retry) - 1;
                    prop_assert!(bucket.clone().take(cost, too_early).is_err());
                    // A wait that is told capped may have to be told again; every other is enough.
                    if retry < MAX_RETRY_MS {
                        now += i64::from(retry);
                        prop_assert!(bucket.clone().take(cost, now).is_ok());
                    }
                }
                let _ = bucket.take(cost, now);
            }
        }

        #[test]
        fn a_debt_is_paid_before_anything_else_is_taken(rate in 60..2_000_u64, debt in 1..2_000_u64) {
            let mut bucket = TokenBucket::full(Rate::per_minute(rate), 0);
            bucket.charge(rate + debt, 0);
            let retry = bucket.take(1, 0).expect_err("in debt");
            let wait = ((debt + 1) * 60_000).div_ceil(rate);
            prop_assert_eq!(u64::from(retry), wait.min(MAX_RETRY_MS.into()));
        }

        #[test]
        fn keys_are_bounded_and_do_not_take_from_each_other(keys in prop::collection::vec(0..50_u32, 1..300)) {
            let mut quotas = Quotas::new(Rate::per_minute(1), 10);
            quotas.take(&1_000, 1, 0).expect("its first");
            for (now, key) in keys.into_iter().enumerate() {
                let _ = quotas.take(&key, 1, now as i64);
                prop_assert!(quotas.buckets.len() <= 10);
            }
            prop_assert!(quotas.take(&1_000, 1, 300).is_err(), "what is used up is not forgotten");
        }
    }

    #[test]
    fn a_clock_set_back_gives_nothing_and_stops_nothing() {
        let mut bucket = TokenBucket::full(Rate::per_minute(60), 1_000_000);
        assert!(bucket.take(60, 1_000_000).is_ok());
        assert_eq!(bucket.take(1, 0), Err(1_000));
        assert!(bucket.take(1, 1_000).is_ok());
    }

    #[test]
    fn keys_without_room_share_one_bucket_and_get_their_own_when_others_are_full_again() {
        let mut quotas = Quotas::new(Rate::per_minute(1), 2);
        assert!((0..2).all(|key| quotas.take(&key, 1, 0).is_ok()));
        assert!(quotas.take(&2, 1, 0).is_ok());
        assert!(quotas.take(&3, 1, 0).is_err(), "the shared one is empty");
        assert!((3..5).all(|key| quotas.take(&key, 1, 60_000).is_ok()));
    }

    #[test]
    fn a_key_may_have_a_rate_of_its_own() {
        let mut quotas = Quotas::new(Rate::per_minute(1), 10);
        quotas.set_rate("many", Rate::per_minute(3));
        quotas.set_rate("all", Rate::UNLIMITED);
        let count = |quotas: &mut Quotas<&str>, key| (0..100).filter(|_| quotas.take(&key, 1, 0).is_ok()).count();
        assert_eq!(count(&mut quotas, "one"), 1);
        assert_eq!(count(&mut quotas, "many"), 3);
        assert_eq!(count(&mut quotas, "all"), 100);
    }

    #[test]
    fn an_emergency_is_let_in_when_everything_else_is_used_up() {
        let rates = CallRates { calls: Rate::per_minute(2), bytes: Rate::per_minute(100) };
        let mut quotas = CallQuotas::new(rates);
        while quotas.take(&"h24", Class::Bulk, 10, 0).is_ok() {}
        while quotas.take(&"h24", Class::Heads, 10, 0).is_ok() {}
        let urgent = Class::of_lane(Some(Lane::Emergency));
        assert!(quotas.take(&"h24", urgent, 50, 0).is_ok());
        quotas.charge(&"h24", urgent, 500, 0);
        assert!(quotas.take(&"h24", urgent, 50, 0).is_err(), "and is bounded itself");
        assert!(quotas.take(&"h15", Class::Bulk, 10, 0).is_ok(), "others have their own");
    }

    #[test]
    fn a_call_refused_for_its_bytes_does_not_count_as_a_call() {
        let rates = CallRates { calls: Rate::per_minute(2), bytes: Rate::per_minute(100) };
        let mut quotas = CallQuotas::new(rates);
        assert!(quotas.take(&1, Class::Bulk, 100, 0).is_ok());
        assert!((0..10).all(|_| quotas.take(&1, Class::Bulk, 100, 0).is_err()));
        assert!(quotas.take(&1, Class::Bulk, 0, 0).is_ok());
        assert!(quotas.take(&1, Class::Bulk, 0, 0).is_err());
    }
}
