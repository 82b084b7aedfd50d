//! How much a device may write into the log, which keeps everything for ever.

use std::collections::HashMap;
use std::sync::Mutex;

use crate::province::lock;

/// Records at once: what a box that was offline for a month has to tell.
const BURST: i64 = 2_000;
/// One more each so many ms; far more than anything plays.
const EVERY_MS: i64 = 5_000;

/// Allowances by device. In memory: a restart gives everybody a new one.
#[derive(Default)]
pub(crate) struct Quota(Mutex<HashMap<u32, i64>>);

impl Quota {
    /// Takes one; whether there was one left.
    pub(crate) fn take(&self, ordinal: u32, now_ms: i64) -> bool {
        let mut used_until = lock(&self.0);
        let held = used_until.entry(ordinal).or_insert(now_ms);
        let next = (*held).max(now_ms) + EVERY_MS;
        let left = next - now_ms <= BURST * EVERY_MS;
        if left {
            *held = next;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_catch_up_and_not_flood() {
        let quota = Quota::default();
        assert!((0..BURST).all(|_| quota.take(1, 1_000)));
        assert!(!quota.take(1, 1_000));
        assert!(quota.take(2, 1_000), "each has its own");
        assert!(quota.take(1, 1_000 + EVERY_MS));
        assert!(!quota.take(1, 1_000 + EVERY_MS));
        assert!((0..BURST).all(|_| quota.take(1, 1_000 + 2 * BURST * EVERY_MS)), "all of it comes back");
    }
}
