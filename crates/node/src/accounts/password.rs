//! Passwords: argon2id, and a bound on how much of it runs at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use super::random;

/// Memory of one hash: 19 MiB, the least that OWASP gives for two passes.
pub const ARGON2_MEMORY_KIB: u32 = 19 * 1024;
/// Passes over the memory.
pub const ARGON2_PASSES: u32 = 2;
/// Lanes.
pub const ARGON2_LANES: u32 = 1;
/// Shortest new password.
pub const MIN_PASSWORD_CHARS: usize = 8;
/// Longest password looked at.
pub const MAX_PASSWORD_BYTES: usize = 256;

/// Most memory that a hash in a file may ask for: more is a slip or an attack on the node's memory.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Most work that a hash in a file may ask for, in KiB times passes.
const MAX_WORK: u64 = 4 * MAX_MEMORY_KIB as u64;
/// Logins waiting for their turn; further ones are sent away.
const MAX_WAITING: usize = 64;
const SALT_BYTES: usize = 16;

/// A password cannot be hashed, or a hash not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer than [`MIN_PASSWORD_CHARS`].
    #[error(
        "mật khẩu phải có ít nhất {MIN_PASSWORD_CHARS} ký tự (a password has at least {MIN_PASSWORD_CHARS} characters)"
    )]
    TooShort,
    /// More than [`MAX_PASSWORD_BYTES`].
    #[error("mật khẩu dài quá {MAX_PASSWORD_BYTES} byte (a password has at most {MAX_PASSWORD_BYTES} bytes)")]
    TooLong,
    /// The text is no argon2id PHC string, or weaker or dearer than allowed.
    #[error("the password hash {0}; make a new one with the command line tool")]
    Hash(&'static str),
    /// The system gives no randomness or memory.
    #[error("cannot hash a password: {0}")]
    System(String),
}

/// Hashes a new password into a PHC string for an accounts file. Takes about 20 ms and 19 MiB. Blocking.
pub fn hash_password(password: &str) -> Result<String, PasswordError> {
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return Err(PasswordError::TooShort);
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PasswordError::TooLong);
    }
    hash(password.as_bytes())
}

fn hash(password: &[u8]) -> Result<String, PasswordError> {
    let salt: [u8; SALT_BYTES] = random().ok_or_else(|| PasswordError::System("no randomness".to_owned()))?;
    let failed = |error: &dyn std::fmt::Display| PasswordError::System(error.to_string());
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, ARGON2_LANES, None).map_err(|error| failed(&error))?;
    let hash: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_with_salt(password, &salt)
        .map_err(|error| failed(&error))?;
    Ok(hash.to_string())
}

/// Checks that a hash from a file is argon2id, neither weaker nor unreasonably dearer than this module's own.
pub(super) fn check_hash(text: &str) -> Result<PasswordHash, PasswordError> {
    let hash = PasswordHash::new(text).map_err(|_| PasswordError::Hash("is no PHC string"))?;
    if hash.algorithm.as_str() != Algorithm::Argon2id.as_str() || hash.salt.is_none() || hash.hash.is_none() {
        return Err(PasswordError::Hash("is not complete argon2id"));
    }
    let params = Params::try_from(&hash).map_err(|_| PasswordError::Hash("has parameters that argon2 refuses"))?;
    if params.m_cost() < ARGON2_MEMORY_KIB || params.t_cost() < ARGON2_PASSES {
        return Err(PasswordError::Hash("is too weak: at least m=19456, t=2"));
    }
    if params.m_cost() > MAX_MEMORY_KIB || u64::from(params.m_cost()) * u64::from(params.t_cost()) > MAX_WORK {
        return Err(PasswordError::Hash("asks for too much memory or time"));
    }
    Ok(hash)
}

/// The queue is full.
#[derive(Debug)]
pub(super) struct Busy;

/// Compares passwords, as many at a time as there are cores, off the runtime's threads.
pub(super) struct Verifier {
    running: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// What a name that does not exist is compared with.
    decoy: Arc<PasswordHash>,
}

impl Verifier {
    pub(super) fn new() -> Result<Self, PasswordError> {
        let decoy = random::<SALT_BYTES>().ok_or_else(|| PasswordError::System("no randomness".to_owned()))?;
        let decoy = check_hash(&hash(&decoy)?)?;
        let at_a_time = available_parallelism().map_or(1, usize::from);
        Ok(Self { running: Arc::new(Semaphore::new(at_a_time)), waiting: AtomicUsize::new(0), decoy: Arc::new(decoy) })
    }

    /// Takes a place in the queue. One is held from before any waiting until the end, so that a flood on one name is
    /// bounded like any other.
    pub(super) fn enter(&self) -> Result<Place<'_>, Busy> {
        let place = Place(self);
        if self.waiting.fetch_add(1, Ordering::Relaxed) < MAX_WAITING { Ok(place) } else { Err(Busy) }
    }
}

pub(super) struct Place<'a>(&'a Verifier);

impl Place<'_> {
    /// Whether `password` is the one; with `hash` absent it is not, and finding out takes as long.
    pub(super) async fn verify(&self, hash: Option<Arc<PasswordHash>>, password: &str) -> bool {
        let Ok(permit) = Arc::clone(&self.0.running).acquire_owned().await else { return false };
        let exists = hash.is_some();
        let hash = hash.unwrap_or_else(|| Arc::clone(&self.0.decoy));
        let usable = password.len() <= MAX_PASSWORD_BYTES;
        let password = if usable { password.as_bytes().to_owned() } else { Vec::new() };
        let same = tokio::task::spawn_blocking(move || {
            // Here, because the work goes on when the caller gives up: a flood of broken connections must not get more
            // memory than one of patient ones.
            let _permit = permit;
            Argon2::default().verify_password(&password, &*hash).is_ok()
        })
        .await;
        exists && usable && same.unwrap_or(false)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_carry_the_named_parameters() {
        let text = hash_password("mật khẩu dài").expect("hash");
        assert!(text.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{text}");
        assert_ne!(text, hash_password("mật khẩu dài").expect("hash"), "salted");
        assert!(check_hash(&text).is_ok());
        assert_eq!(hash_password("ngắn"), Err(PasswordError::TooShort));
        assert_eq!(hash_password(&"x".repeat(MAX_PASSWORD_BYTES + 1)), Err(PasswordError::TooLong));
    }

    #[test]
    fn weak_dear_and_foreign_hashes_are_refused() {
        let good = hash_password("mật khẩu dài").expect("hash");
        for (from, to) in [
            ("m=19456", "m=19455"),
            ("t=2", "t=1"),
            ("m=19456", "m=4194304"),
            ("t=2", "t=1000"),
            ("argon2id", "argon2i"),
            ("argon2id", "scrypt"),
        ] {
            assert!(check_hash(&good.replace(from, to)).is_err(), "{to}");
        }
        for bad in ["", "hunter2", "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ"] {
            assert!(check_hash(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn only_the_password_passes() {
        let verifier = Verifier::new().expect("verifier");
        let hash = Arc::new(check_hash(&hash_password("mật khẩu dài").expect("hash")).expect("good"));
        let place = verifier.enter().expect("free");
        assert!(place.verify(Some(Arc::clone(&hash)), "mật khẩu dài").await);
        assert!(!place.verify(Some(Arc::clone(&hash)), "mật khẩu dài ").await);
        assert!(!place.verify(Some(hash), &"x".repeat(MAX_PASSWORD_BYTES + 1)).await);
        assert!(!place.verify(None, "mật khẩu dài").await);
    }

    #[test]
    fn the_queue_is_bounded() {
        let verifier = Verifier::new().expect("verifier");
        let mut places: Vec<_> = (0..MAX_WAITING).map(|_| verifier.enter().expect("free")).collect();
        assert!(verifier.enter().is_err());
        assert!(verifier.enter().is_err(), "a refusal takes no place");
        places.pop();
        assert!(verifier.enter().is_ok());
    }
}
