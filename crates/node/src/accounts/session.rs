//! Sessions: bearer tokens and how long they hold.

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};

use super::{AccountsConfig, random};

/// A session ends after so long without a request.
pub const IDLE_LIMIT: Duration = Duration::from_secs(30 * 60);
/// A session ends after so long in any case.
pub const ABSOLUTE_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions of one account; the one unused for longest makes room. Generous, because devices of a unit may share an
/// account and log in before every call.
const MAX_PER_ACCOUNT: usize = 256;
/// Sessions of all accounts.
const MAX_SESSIONS: usize = 100_000;
const TOKEN_BYTES: usize = 32;

/// How long sessions hold; the default is this module's constants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionLimits {
    /// See [`IDLE_LIMIT`].
    pub idle: Duration,
    /// See [`ABSOLUTE_LIMIT`].
    pub absolute: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { idle: IDLE_LIMIT, absolute: ABSOLUTE_LIMIT }
    }
}

impl From<&AccountsConfig> for SessionLimits {
    fn from(config: &AccountsConfig) -> Self {
        let minutes = |count: std::num::NonZeroU32| Duration::from_secs(60 * u64::from(count.get()));
        Self { idle: minutes(config.idle_minutes), absolute: minutes(config.absolute_minutes) }
    }
}

/// A token's SHA-256: whoever reads the node's memory or a dump of it finds no token to use.
type TokenHash = [u8; 32];

pub(super) struct Sessions {
    limits: SessionLimits,
    by_token: HashMap<TokenHash, Entry>,
}

struct Entry {
    account: String,
    opened_ms: i64,
    used_ms: i64,
}

impl Entry {
    fn is_over(&self, limits: &SessionLimits, now_ms: i64) -> bool {
        elapsed(self.used_ms, now_ms) >= limits.idle || elapsed(self.opened_ms, now_ms) >= limits.absolute
    }
}

fn elapsed(from_ms: i64, to_ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(to_ms.saturating_sub(from_ms)).unwrap_or(0))
}

fn hash_of(token: &str) -> TokenHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

impl Sessions {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self { limits, by_token: HashMap::new() }
    }

    /// Opens a session and gives back its token and when it ends at the latest. `None` when there is no randomness or
    /// no room.
    pub(super) fn open(&mut self, account: &str, now_ms: i64) -> Option<(String, i64)> {
        let token = URL_SAFE_NO_PAD.encode(random::<TOKEN_BYTES>()?);
        self.make_room(account, now_ms)?;
        self.by_token
            .insert(hash_of(&token), Entry { account: account.to_owned(), opened_ms: now_ms, used_ms: now_ms });
        let absolute = i64::try_from(self.limits.absolute.as_millis()).unwrap_or(i64::MAX);
        Some((token, now_ms.saturating_add(absolute)))
    }

    fn make_room(&mut self, account: &str, now_ms: i64) -> Option<()> {
        let own = self.by_token.values().filter(|entry| entry.account == account).count();
        if own >= MAX_PER_ACCOUNT || self.by_token.len() >= MAX_SESSIONS {
            let limits = self.limits;
            self.by_token.retain(|_, entry| !entry.is_over(&limits, now_ms));
        }
        let own = self.by_token.iter().filter(|(_, entry)| entry.account == account);
        if own.clone().count() >= MAX_PER_ACCOUNT {
            let oldest = own.min_by_key(|(_, entry)| entry.used_ms).map(|(token, _)| *token)?;
            self.by_token.remove(&oldest);
        }
        (self.by_token.len() < MAX_SESSIONS).then_some(())
    }

    /// The account whose session this is; counts as use.
    pub(super) fn touch(&mut self, token: &str, now_ms: i64) -> Option<String> {
        let hash = hash_of(token);
        let entry = self.by_token.get_mut(&hash)?;
        if entry.is_over(&self.limits, now_ms) {
            self.by_token.remove(&hash);
            return None;
        }
        entry.used_ms = entry.used_ms.max(now_ms);
        Some(entry.account.clone())
    }

    /// Ends one session; the account it was of.
    pub(super) fn close(&mut self, token: &str) -> Option<String> {
        self.by_token.remove(&hash_of(token)).map(|entry| entry.account)
    }

    /// Ends the sessions of every account that `ends` says; how many.
    pub(super) fn close_where(&mut self, ends: impl Fn(&str) -> bool) -> usize {
        let before = self.by_token.len();
        self.by_token.retain(|_, entry| !ends(&entry.account));
        before - self.by_token.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SessionLimits =
        SessionLimits { idle: Duration::from_millis(100), absolute: Duration::from_millis(1_000) };

    #[test]
    fn sessions_end_by_idleness_age_and_wish() {
        let mut sessions = Sessions::new(LIMITS);
        let (token, ends) = sessions.open("lan", 0).expect("opens");
        assert_eq!((token.len(), ends), (43, 1_000));
        for now in (0..1_000).step_by(99) {
            assert_eq!(sessions.touch(&token, now).as_deref(), Some("lan"), "{now}");
        }
        assert_eq!(sessions.touch(&token, 1_000), None, "too old");
        assert!(sessions.by_token.is_empty());

        let (token, _) = sessions.open("lan", 0).expect("opens");
        assert_eq!(sessions.touch(&token, 100), None, "idle");

        let (token, _) = sessions.open("lan", 0).expect("opens");
        assert_eq!(sessions.close(&token).as_deref(), Some("lan"));
        assert_eq!(sessions.touch(&token, 0), None);
        assert_eq!(sessions.touch("", 0), None);
    }

    #[test]
    fn tokens_are_not_kept() {
        let mut sessions = Sessions::new(LIMITS);
        let (token, _) = sessions.open("lan", 0).expect("opens");
        assert!(!sessions.by_token.keys().any(|hash| hash.as_slice() == token.as_bytes()));
        assert_ne!(token, sessions.open("lan", 0).expect("opens").0);
    }

    #[test]
    fn an_account_has_so_many_sessions() {
        let mut sessions = Sessions::new(LIMITS);
        let (first, _) = sessions.open("lan", 0).expect("opens");
        let (other, _) = sessions.open("minh", 0).expect("opens");
        for _ in 1..MAX_PER_ACCOUNT {
            sessions.open("lan", 1).expect("opens");
        }
        assert!(sessions.touch(&first, 0).is_some());
        sessions.open("lan", 2).expect("opens");
        assert_eq!(sessions.touch(&first, 2), None, "made room");
        assert!(sessions.touch(&other, 2).is_some());
        assert_eq!(sessions.close_where(|account| account == "lan"), MAX_PER_ACCOUNT);
        assert!(sessions.touch(&other, 2).is_some());
    }
}
