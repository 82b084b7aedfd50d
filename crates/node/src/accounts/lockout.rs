//! Locks a name after repeated failures.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Failures before a name locks.
pub const MAX_FAILURES: u32 = 5;
/// How long a name stays locked; also how long a failure counts.
pub const LOCK_TIME: Duration = Duration::from_secs(15 * 60);

/// Names remembered at a time. Beyond that the oldest go first: a flood of invented names must not eat the memory.
const MAX_NAMES: usize = 20_000;

/// Failures by name, whether or not an account of that name exists.
#[derive(Default)]
pub(super) struct Lockouts(HashMap<String, Failures>);

struct Failures {
    count: u32,
    last_ms: i64,
    /// Attempts on one name run one at a time: guesses made in parallel cannot outrun the lock.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Failures {
    fn is_over(&self, now_ms: i64) -> bool {
        // A clock set back must not lock anybody longer, hence the distance and not the difference.
        now_ms.abs_diff(self.last_ms) >= lock_ms()
    }
}

fn lock_ms() -> u64 {
    u64::try_from(LOCK_TIME.as_millis()).unwrap_or(u64::MAX)
}

impl Lockouts {
    /// What attempts on this name take turns by.
    pub(super) fn turn(&mut self, name: &str, now_ms: i64) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(&self.entry(name, now_ms).turn)
    }

    /// How long the name is still locked.
    pub(super) fn locked_for(&self, name: &str, now_ms: i64) -> Option<Duration> {
        let failures = self.0.get(name)?;
        if failures.count < MAX_FAILURES || failures.is_over(now_ms) {
            return None;
        }
        Some(Duration::from_millis(lock_ms() - now_ms.abs_diff(failures.last_ms)))
    }

    /// Notes a failure; true when it is the one that locks the name.
    pub(super) fn failed(&mut self, name: &str, now_ms: i64) -> bool {
        let failures = self.entry(name, now_ms);
        if failures.is_over(now_ms) {
            failures.count = 0;
        }
        failures.count += 1;
        failures.last_ms = now_ms;
        failures.count == MAX_FAILURES
    }

    /// Forgets a name's failures.
    pub(super) fn succeeded(&mut self, name: &str) {
        if let Some(failures) = self.0.get_mut(name) {
            failures.count = 0;
        }
    }

    fn entry(&mut self, name: &str, now_ms: i64) -> &mut Failures {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(name) {
            self.sweep(now_ms);
        }
        self.0.entry(name.to_owned()).or_insert_with(|| Failures { count: 0, last_ms: now_ms, turn: Arc::default() })
    }

    /// Makes room. A name that somebody is trying right now stays, or two of its attempts could run side by side.
    fn sweep(&mut self, now_ms: i64) {
        self.0.retain(|_, failures| Arc::strong_count(&failures.turn) > 1 || !failures.is_over(now_ms));
        if self.0.len() < MAX_NAMES {
            return;
        }
        let mut idle: Vec<(u32, i64, String)> = self
            .0
            .iter()
            .filter(|(_, failures)| Arc::strong_count(&failures.turn) == 1)
            .map(|(name, failures)| (failures.count, failures.last_ms, name.clone()))
            .collect();
        // Fewest failures first, so that inventing names does not free one that is locked before all else has gone.
        idle.sort_unstable();
        for (_, _, name) in idle.into_iter().take(MAX_NAMES / 4) {
            self.0.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn repeated_failures_lock_for_a_while() {
        let mut lockouts = Lockouts::default();
        for count in 1..MAX_FAILURES {
            assert!(!lockouts.failed("lan", 0), "{count}");
            assert_eq!(lockouts.locked_for("lan", 0), None);
        }
        assert!(lockouts.failed("lan", 0));
        assert_eq!(lockouts.locked_for("lan", 0), Some(LOCK_TIME));
        assert_eq!(lockouts.locked_for("lan", 14 * MINUTE), Some(Duration::from_secs(60)));
        assert_eq!(lockouts.locked_for("minh", 0), None);
        assert_eq!(lockouts.locked_for("lan", 15 * MINUTE), None);
        assert!(!lockouts.failed("lan", 15 * MINUTE), "counting starts afresh");
        assert_eq!(lockouts.locked_for("lan", 15 * MINUTE), None);
    }

    #[test]
    fn success_and_time_forgive() {
        let mut lockouts = Lockouts::default();
        for _ in 1..MAX_FAILURES {
            lockouts.failed("lan", 0);
        }
        lockouts.succeeded("lan");
        assert!(!lockouts.failed("lan", 0));
        for _ in 2..MAX_FAILURES {
            lockouts.failed("lan", 0);
        }
        assert!(!lockouts.failed("lan", 16 * MINUTE), "old failures no longer count");
    }

    #[test]
    fn invented_names_do_not_eat_the_memory_or_free_a_locked_one() {
        let mut lockouts = Lockouts::default();
        for _ in 0..MAX_FAILURES {
            lockouts.failed("lan", 0);
        }
        let held = lockouts.turn("held", 0);
        for number in 0..2 * MAX_NAMES {
            lockouts.failed(&format!("invented {number}"), 1);
        }
        assert!(lockouts.0.len() <= MAX_NAMES);
        assert!(lockouts.locked_for("lan", 2).is_some());
        assert!(Arc::ptr_eq(&held, &lockouts.turn("held", 2)));
    }
}
