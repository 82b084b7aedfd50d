//! Numbers that repeat under a seed.

/// splitmix64.
pub(crate) struct Random(u64);

impl Random {
    /// One of a family: `part` keeps clusters apart.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0xA24B_AED4_963E_E407) ^ part.wrapping_mul(0x9FB2_1C65_1E98_DF25));
        random.next();
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// `from..to`; `from` when that is empty.
    pub(crate) fn between(&mut self, from: u32, to: u32) -> u32 {
        from + (self.next() % u64::from(to.saturating_sub(from).max(1))) as u32
    }

    /// True so often, of 1.
    pub(crate) fn chance(&mut self, of_one: f64) -> bool {
        ((self.next() >> 11) as f64) < of_one * (1_u64 << 53) as f64
    }

    /// How many times something happened that happens so often on average.
    pub(crate) fn times(&mut self, average: f64) -> u32 {
        // Knuth's way; averages here are small.
        let (mut left, mut count) = ((-average).exp(), 0);
        loop {
            let drawn = ((self.next() >> 11) as f64 / (1_u64 << 53) as f64).max(f64::MIN_POSITIVE);
            if drawn <= left {
                return count;
            }
            left /= drawn;
            count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_and_times_are_about_what_they_say_and_repeat() {
        let (mut random, mut same) = (Random::new(1, 2), Random::new(1, 2));
        let hits = (0..10_000).filter(|_| random.chance(0.3)).count();
        assert_eq!(hits, (0..10_000).filter(|_| same.chance(0.3)).count());
        assert!((2_700..3_300).contains(&hits), "{hits}");
        let times: u32 = (0..10_000).map(|_| random.times(0.7)).sum();
        assert!((6_500..7_500).contains(&times), "{times}");
        assert!((0..1_000).map(|_| random.between(5, 9)).all(|n| (5..9).contains(&n)));
    }
}
