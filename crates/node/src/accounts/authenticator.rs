//! Logging in, staying logged in, logging out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;

use super::lockout::Lockouts;
use super::password::Verifier;
use super::session::Sessions;
use super::{Account, Accounts, AccountsConfig, AccountsError, PasswordError, Principal, SessionLimits};
use crate::clock::Clock;
use crate::http::ApiError;

/// Longest name looked at in a login.
const MAX_NAME_BYTES: usize = 256;

/// Accounts, sessions and locks of one service. Shared as `Arc<Authenticator>`.
pub struct Authenticator {
    clock: Clock,
    verifier: Verifier,
    accounts: RwLock<Arc<Accounts>>,
    passwords: Mutex<Lockouts>,
    codes: Mutex<Lockouts>,
    sessions: Mutex<Sessions>,
    /// The last step whose code an account used.
    used_codes: Mutex<HashMap<String, i64>>,
}

/// An open session.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    /// The bearer token: shown once, to the one who logged in.
    pub token: String,
    /// When the session ends at the latest, in milliseconds since 1970.
    pub ends_at_ms: i64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("ends_at_ms", &self.ends_at_ms).finish_non_exhaustive()
    }
}

/// Why a login or a one-time code is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginRefusal {
    /// Name or password is wrong; it is not said which.
    #[error("Tên đăng nhập hoặc mật khẩu không đúng. (Wrong name or password.)")]
    Wrong,
    /// The one-time code is wrong, old or used.
    #[error("Mã OTP không đúng hoặc đã dùng. Hãy đợi mã mới. (Wrong or used one-time code.)")]
    WrongCode,
    /// The account has no one-time secret.
    #[error("Tài khoản chưa đăng ký mã OTP. (The account has no one-time codes.)")]
    NoCodes,
    /// Too many failures.
    #[error("Tạm khóa do nhập sai nhiều lần. (Locked after repeated failures.)")]
    Locked {
        /// For how long.
        wait: Duration,
    },
    /// Too many logins at this moment.
    #[error("Hệ thống đang bận. (Too many logins at this moment.)")]
    Busy,
}

/// How soon a login is worth trying again when too many wait.
const BUSY_WAIT: Duration = Duration::from_secs(2);

impl From<LoginRefusal> for ApiError {
    fn from(refusal: LoginRefusal) -> Self {
        match refusal {
            LoginRefusal::Wrong => Self::new(
                StatusCode::UNAUTHORIZED,
                "wrong_password",
                "Tên đăng nhập hoặc mật khẩu không đúng.",
                "Wrong name or password.",
            ),
            LoginRefusal::WrongCode => Self::new(
                StatusCode::FORBIDDEN,
                "wrong_otp",
                "Mã OTP không đúng hoặc đã dùng. Hãy đợi mã mới rồi nhập lại.",
                "The one-time code is wrong or used. Wait for the next one.",
            )
            .with_field("otp"),
            LoginRefusal::NoCodes => Self::new(
                StatusCode::FORBIDDEN,
                "no_otp",
                "Tài khoản chưa đăng ký mã OTP. Hãy liên hệ quản trị viên.",
                "The account has no one-time codes. Ask the administrator.",
            ),
            LoginRefusal::Locked { wait } => {
                let minutes = wait.as_secs().div_ceil(60).max(1);
                Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    "locked",
                    format!("Tài khoản tạm khóa do nhập sai nhiều lần. Hãy thử lại sau {minutes} phút."),
                    format!("Locked after repeated failures. Try again in {minutes} min."),
                )
                .with_retry_after(wait)
            }
            LoginRefusal::Busy => Self::unavailable(
                "Hệ thống đang có quá nhiều lượt đăng nhập. Hãy thử lại sau ít giây.",
                "Too many logins at this moment. Try again in a few seconds.",
            )
            .with_retry_after(BUSY_WAIT),
        }
    }
}

impl Authenticator {
    /// Takes some milliseconds: it makes the hash that unknown names are compared with. Blocking.
    pub fn new(accounts: Accounts, limits: SessionLimits, clock: Clock) -> Result<Self, PasswordError> {
        Ok(Self {
            clock,
            verifier: Verifier::new()?,
            accounts: RwLock::new(Arc::new(accounts)),
            passwords: Mutex::default(),
            codes: Mutex::default(),
            sessions: Mutex::new(Sessions::new(limits)),
            used_codes: Mutex::default(),
        })
    }

    /// What `[accounts]` describes, for a service that knows these roles. Blocking.
    pub fn from_config(config: &AccountsConfig, known_roles: &[&str], clock: Clock) -> Result<Self, AccountsError> {
        let accounts = Accounts::load(&config.file, known_roles)?;
        Ok(Self::new(accounts, SessionLimits::from(config), clock)?)
    }

    /// Checks name and password and opens a session.
    pub async fn login(&self, name: &str, password: &str) -> Result<(Principal, Session), LoginRefusal> {
        let principal = self.check_password(name, password).await?;
        let session = self.open_session(&principal)?;
        Ok((principal, session))
    }

    /// Checks name and password without opening a session, for a service that asks for a one-time code too.
    pub async fn check_password(&self, name: &str, password: &str) -> Result<Principal, LoginRefusal> {
        if name.len() > MAX_NAME_BYTES {
            return Err(LoginRefusal::Wrong);
        }
        let place = self.verifier.enter().map_err(|_| LoginRefusal::Busy)?;
        let turn = lock(&self.passwords).turn(name, self.now());
        let _turn = turn.lock().await;
        self.refuse_if_locked(&self.passwords, name)?;
        let account = self.account(name);
        let hash = account.as_ref().map(|account| Arc::clone(&account.hash));
        if !place.verify(hash, password).await {
            self.note_failure(&self.passwords, name);
            return Err(LoginRefusal::Wrong);
        }
        lock(&self.passwords).succeeded(name);
        account.map(|account| principal(&account)).ok_or(LoginRefusal::Wrong)
    }

    /// Checks a six-digit code of an account, for a login or to confirm an action that must not happen by mistake.
    /// Each code is good once. Failures lock the account's codes, and a password does not reset them: somebody who
    /// knows it must not guess on.
    pub async fn verify_otp(&self, name: &str, code: &str) -> Result<(), LoginRefusal> {
        let account = self.account(name).ok_or(LoginRefusal::NoCodes)?;
        let secret = account.otp.as_ref().ok_or(LoginRefusal::NoCodes)?;
        let turn = lock(&self.codes).turn(name, self.now());
        let _turn = turn.lock().await;
        self.refuse_if_locked(&self.codes, name)?;
        let last_used = lock(&self.used_codes).get(name).copied();
        let Some(step) = secret.accept(code, self.now(), last_used) else {
            self.note_failure(&self.codes, name);
            return Err(LoginRefusal::WrongCode);
        };
        lock(&self.used_codes).insert(name.to_owned(), step);
        lock(&self.codes).succeeded(name);
        Ok(())
    }

    /// Opens a session for an account that was checked.
    pub fn open_session(&self, principal: &Principal) -> Result<Session, LoginRefusal> {
        let opened = lock(&self.sessions).open(&principal.name, self.now());
        opened.map(|(token, ends_at_ms)| Session { token, ends_at_ms }).ok_or(LoginRefusal::Busy)
    }

    /// Who has this session; counts as use. Roles and area are as the accounts have them now.
    pub fn authenticate(&self, token: &str) -> Option<Principal> {
        let name = lock(&self.sessions).touch(token, self.now())?;
        self.account(&name).map(|account| principal(&account))
    }

    /// Ends a session; the account it was of.
    pub fn logout(&self, token: &str) -> Option<String> {
        lock(&self.sessions).close(token)
    }

    /// Ends all sessions of an account; how many.
    pub fn revoke(&self, name: &str) -> usize {
        lock(&self.sessions).close_where(|account| account == name)
    }

    /// Takes a new accounts file. Sessions of accounts that are gone, or have another password, end.
    pub fn replace_accounts(&self, accounts: Accounts) {
        let accounts = Arc::new(accounts);
        let before = {
            let mut current = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::clone(&accounts))
        };
        let hash = |accounts: &Accounts, name: &str| accounts.get(name).map(|account| account.hash.to_string());
        lock(&self.sessions).close_where(|name| hash(&before, name) != hash(&accounts, name));
    }

    fn account(&self, name: &str) -> Option<Arc<Account>> {
        self.accounts.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn refuse_if_locked(&self, lockouts: &Mutex<Lockouts>, name: &str) -> Result<(), LoginRefusal> {
        match lock(lockouts).locked_for(name, self.now()) {
            Some(wait) => Err(LoginRefusal::Locked { wait }),
            None => Ok(()),
        }
    }

    fn note_failure(&self, lockouts: &Mutex<Lockouts>, name: &str) {
        if lock(lockouts).failed(name, self.now()) {
            tracing::warn!(account = name, "locked after repeated failures");
        }
    }

    fn now(&self) -> i64 {
        (self.clock)()
    }
}

fn principal(account: &Account) -> Principal {
    Principal { name: account.name.clone(), roles: Arc::clone(&account.roles), area: account.area.clone() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
