//! Accounts: who may log in, and how the node knows who is asking.
//!
//! ```text
//! file (TOML) ─► Accounts ─► Authenticator ── check_password ─► open_session ─► token
//!                                         └── verify_otp (step-up)
//! request with `authorization: Bearer TOKEN` ─► require_session ─► Principal
//! ```
//!
//! Guessing is held off three ways: argon2id makes a guess dear, attempts on one name run one at a time and lock it
//! after [`MAX_FAILURES`], and all logins together get a bounded share of memory and queue. A name that does not exist
//! costs the same and locks the same as one that does, so answers do not tell which names exist. Passwords and
//! one-time codes lock apart: a stranger who locks an officer's name must not stop the emergency that the officer,
//! logged in already, is about to confirm.
//!
//! Sessions, locks and used one-time codes live in memory: after a restart people log in again.

mod authenticator;
mod file;
mod lockout;
mod password;
mod principal;
mod session;
mod totp;

pub use crate::config::AccountsConfig;
pub use authenticator::{Authenticator, LoginRefusal, Session};
pub use file::{Account, AccountProblem, Accounts, AccountsError};
pub use lockout::{LOCK_TIME, MAX_FAILURES};
pub use password::{
    ARGON2_LANES, ARGON2_MEMORY_KIB, ARGON2_PASSES, MAX_PASSWORD_BYTES, MIN_PASSWORD_CHARS, PasswordError,
    hash_password,
};
pub(crate) use principal::bearer;
pub use principal::{Principal, require_session};
pub use session::{ABSOLUTE_LIMIT, IDLE_LIMIT, SessionLimits};
pub use totp::{OtpSecret, STEP_SECONDS};

use ring::rand::{SecureRandom, SystemRandom};

/// Random bytes for tokens, salts and secrets. `None` if the system's generator fails, which then must end the matter.
fn random<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(bytes)
}
