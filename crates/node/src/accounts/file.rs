//! The accounts file.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use serde::Deserialize;

use super::password::check_hash;
use super::{OtpSecret, PasswordError};
use crate::config::{self, ConfigError};

/// Longest account name.
const MAX_NAME_BYTES: usize = 64;

/// The accounts of a service, checked.
#[derive(Debug, Default)]
pub struct Accounts {
    by_name: HashMap<String, Arc<Account>>,
}

/// One person's account.
pub struct Account {
    /// The name to log in with.
    pub name: String,
    /// What the person may do.
    pub roles: Arc<[String]>,
    /// The area that the roles are bound to, by its code.
    pub area: String,
    /// The secret of the person's one-time codes.
    pub otp: Option<OtpSecret>,
    pub(super) hash: Arc<PasswordHash>,
}

/// An accounts file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The file's form.
    #[error(transparent)]
    File(#[from] ConfigError),
    /// The system lacks what hashing needs.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// One account.
    #[error("{}: account {number} ({name:?}): {problem}", path.display())]
    Account {
        /// The file.
        path: PathBuf,
        /// Its place in the file, from 1.
        number: usize,
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: AccountProblem,
    },
}

/// What is wrong with an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountProblem {
    /// The name is empty, too long, or has characters that get lost or confused.
    #[error("a name has 1 to {MAX_NAME_BYTES} letters, digits and . _ - @")]
    Name,
    /// Another account has the name.
    #[error("the name is taken by another account")]
    Taken,
    /// The hash.
    #[error("password_hash: {0}")]
    Hash(#[from] PasswordError),
    /// No role, or one that the service does not know.
    #[error("roles: {}; this service knows {known}", unknown(.role.as_deref()))]
    Role {
        /// The unknown role; `None` when there is none at all.
        role: Option<String>,
        /// The roles that are known.
        known: String,
    },
    /// No area.
    #[error("area: it is empty; write the code of the area that the roles are bound to")]
    Area,
    /// The one-time secret.
    #[error("otp_secret: it must be base32 of at least 128 bits")]
    Otp,
}

fn unknown(role: Option<&str>) -> String {
    role.map_or_else(|| "there is none".to_owned(), |role| format!("{role:?} is unknown"))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    account: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    password_hash: String,
    roles: Vec<String>,
    area: String,
    otp_secret: Option<String>,
}

impl Accounts {
    /// Reads a file of `[[account]]` tables: `name`, `password_hash` (argon2id, PHC), `roles`, `area`, and optionally
    /// `otp_secret` (base32). Roles must be among `known_roles`. Blocking.
    pub fn load(path: &Path, known_roles: &[&str]) -> Result<Self, AccountsError> {
        let document: Document = config::load(path)?;
        let mut accounts = Self::default();
        for (index, entry) in document.account.into_iter().enumerate() {
            let name = entry.name.clone();
            accounts.add(entry, known_roles).map_err(|problem| AccountsError::Account {
                path: path.to_owned(),
                number: index + 1,
                name,
                problem,
            })?;
        }
        Ok(accounts)
    }

    fn add(&mut self, entry: Entry, known_roles: &[&str]) -> Result<(), AccountProblem> {
        let usable = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-' | '@');
        if entry.name.is_empty() || entry.name.len() > MAX_NAME_BYTES || !entry.name.chars().all(usable) {
            return Err(AccountProblem::Name);
        }
        if self.by_name.contains_key(&entry.name) {
            return Err(AccountProblem::Taken);
        }
        let hash = Arc::new(check_hash(&entry.password_hash)?);
        let stray = entry.roles.iter().find(|role| !known_roles.contains(&role.as_str()));
        if stray.is_some() || entry.roles.is_empty() {
            return Err(AccountProblem::Role { role: stray.cloned(), known: known_roles.join(", ") });
        }
        if entry.area.trim().is_empty() {
            return Err(AccountProblem::Area);
        }
        let otp = match entry.otp_secret {
            Some(text) => Some(OtpSecret::from_base32(&text).ok_or(AccountProblem::Otp)?),
            None => None,
        };
        let account = Account { name: entry.name.clone(), roles: entry.roles.into(), area: entry.area, otp, hash };
        self.by_name.insert(entry.name, Arc::new(account));
        Ok(())
    }

    /// The account of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Account>> {
        self.by_name.get(name)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("name", &self.name)
            .field("roles", &self.roles)
            .field("area", &self.area)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub(crate) const PASSWORD: &str = "mật khẩu dài";
    pub(crate) const OTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    pub(crate) const ROLES: [&str; 2] = ["author", "approver"];

    /// One account as it stands in a file; `more` is further keys.
    pub(crate) fn entry(name: &str, more: &str) -> String {
        let hash = super::super::hash_password(PASSWORD).expect("hash");
        format!("[[account]]\nname = {name:?}\npassword_hash = {hash:?}\narea = \"31\"\n{more}\n")
    }

    pub(crate) fn load(text: &str) -> Result<Accounts, AccountsError> {
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), text).expect("write");
        Accounts::load(file.path(), &ROLES)
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{OTP_SECRET, entry, load};

    #[test]
    fn good_accounts_are_taken() {
        let lan = entry("lan@h24", &format!("roles = [\"author\", \"approver\"]\notp_secret = {OTP_SECRET:?}"));
        let accounts = load(&(lan + &entry("minh", "roles = [\"author\"]"))).expect("loads");
        assert_eq!(accounts.len(), 2);
        let lan = accounts.get("lan@h24").expect("there");
        assert!(lan.otp.is_some());
        assert_eq!((&*lan.roles, lan.area.as_str()), (&["author".to_owned(), "approver".to_owned()][..], "31"));
        assert!(accounts.get("LAN@H24").is_none());
        assert!(!format!("{accounts:?}").contains("argon2"));
        assert!(load("").expect("an empty file is one").is_empty());
    }

    #[test]
    fn each_mistake_is_named() {
        let refusal = |text: &str| load(text).expect_err("refused").to_string();
        let good = || entry("lan", "roles = [\"author\"]");
        let twice = refusal(&(good() + &good()));
        assert!(twice.contains("account 2 (\"lan\")") && twice.contains("taken"), "{twice}");
        assert!(refusal(&entry("", "roles = [\"author\"]")).contains("a name has"));
        assert!(refusal(&entry("lan hai", "roles = [\"author\"]")).contains("a name has"));
        let role = refusal(&entry("lan", "roles = [\"king\"]"));
        assert!(role.contains("\"king\" is unknown") && role.contains("author, approver"), "{role}");
        assert!(refusal(&entry("lan", "roles = []")).contains("there is none"));
        assert!(refusal(&entry("lan", "roles = [\"author\"]\notp_secret = \"1\"")).contains("otp_secret"));
        assert!(refusal(&good().replace("\"31\"", "\"\"")).contains("area"));
        assert!(refusal(&good().replace("t=2", "t=1")).contains("too weak"));
        assert!(refusal(&entry("lan", "roles = [\"author\"]\nrole = 1")).contains("unknown field `role`"));
    }
}
