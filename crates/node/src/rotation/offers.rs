//! When a key that was offered and not added is offered again. The gateway refuses an offer while the member has too many
//! keys, and says nothing; when its operator revoked one, the next offer is taken.

use httt_feed::Fingerprint;

/// The first pause, ms: longer than a gateway that is there takes to answer, and its answer to arrive.
const FIRST_PAUSE_MS: i64 = 10 * 60_000;
/// The longest, ms: each offer is an event that stays.
const LONGEST_PAUSE_MS: i64 = 6 * 60 * 60_000;

/// A key that was offered and that the directory does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyOffer {
    /// The key.
    pub key: Fingerprint,
    /// How often it was offered.
    pub times: u64,
    /// When it is offered again, Unix ms.
    pub again_at_ms: i64,
}

/// How long to wait after so many offers of `key`: twice as long each time, and half of it by chance, so that members that
/// were refused together do not come back together. The same for the same key.
pub(super) fn pause_ms(key: Fingerprint, times: u64) -> i64 {
    let doublings = times.saturating_sub(1).min(16);
    let pause = (FIRST_PAUSE_MS << doublings).min(LONGEST_PAUSE_MS);
    let seed = u64::from_be_bytes(key.0[..8].try_into().unwrap_or_default());
    // Spread, not secrecy: the top bits of a product with an odd number.
    let chance = (seed ^ times).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    pause / 2 + (chance % (pause as u64 / 2 + 1)) as i64
}

#[cfg(test)]
mod tests {
    use httt_feed::Digest;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_to_a_limit(seed in any::<[u8; 32]>(), times in 1..1_000_u64) {
            let pause = pause_ms(Digest(seed), times);
            prop_assert!((FIRST_PAUSE_MS / 2..=LONGEST_PAUSE_MS).contains(&pause));
            prop_assert!(times < 7 || pause >= LONGEST_PAUSE_MS / 2);
            prop_assert_eq!(pause, pause_ms(Digest(seed), times));
        }
    }

    #[test]
    fn members_that_were_refused_together_come_back_at_different_times() {
        let pauses = (0..100_u64).map(|member| pause_ms(Digest::of(&member.to_be_bytes()), 1));
        let minutes: std::collections::BTreeSet<_> = pauses.map(|pause| pause / 60_000).collect();
        assert!(minutes.len() >= 5, "{minutes:?}");
    }
}
