//! Device log-ins: secrets, and tokens that need no memory.
//!
//! A token says who and until when, and carries an HMAC-SHA256 over that and the digest of the device's secret. So a
//! log-in costs microseconds however often devices do it, holds over a restart, and ends when a new secret is issued.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use httt_feed::Digest;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

/// File of the key, in the node's data folder.
const KEY_FILE: &str = "device-token.key";
const KEY_BYTES: usize = 32;
/// How long a token is good: devices that keep theirs log in again once a month.
const LIFETIME_S: i64 = 30 * 24 * 3_600;
/// 160 random bits: nothing to guess, so a plain digest of it may be kept.
const SECRET_BYTES: usize = 20;
/// Longest token looked at.
const MAX_TOKEN_BYTES: usize = 256;

/// Issues and checks tokens.
pub(crate) struct Tokens {
    key: hmac::Key,
}

/// A token taken apart; nothing in it is believed yet.
pub(crate) struct Claim<'a> {
    /// The device it says it is of.
    pub(crate) imei: &'a str,
    expires_s: i64,
    signed: &'a str,
    tag: Vec<u8>,
}

/// A new secret for a device: the text that is shown once, and its digest.
pub(crate) fn new_secret() -> Result<(String, Digest)> {
    let mut bytes = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system gave no randomness"))?;
    let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
    let digest = Digest::of(text.as_bytes());
    Ok((text, digest))
}

impl Tokens {
    /// Reads the key from the data folder, or makes it at the first start. Blocking.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(KEY_FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => make_key(data_dir, &path)?,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        ensure!(
            bytes.len() == KEY_BYTES,
            "{} has {} bytes instead of {KEY_BYTES}; remove it, and devices log in again",
            path.display(),
            bytes.len()
        );
        let mode = fs::metadata(&path)?.permissions().mode();
        if mode & 0o077 != 0 {
            bail!("{} may be read by others (mode {:o}); give it mode 600", path.display(), mode & 0o777);
        }
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &bytes) })
    }

    /// A token for a device whose secret has this digest.
    pub(crate) fn issue(&self, imei: &str, secret_sha256: &str, now_ms: i64) -> String {
        let signed = format!("{imei}.{}", now_ms / 1_000 + LIFETIME_S);
        let tag = hmac::sign(&self.key, message(&signed, secret_sha256).as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }

    /// Whether a claim is true of the device whose secret has this digest.
    pub(crate) fn verify(&self, claim: &Claim<'_>, secret_sha256: &str, now_ms: i64) -> bool {
        now_ms / 1_000 < claim.expires_s
            && hmac::verify(&self.key, message(claim.signed, secret_sha256).as_bytes(), &claim.tag).is_ok()
    }
}

impl<'a> Claim<'a> {
    /// Takes a token apart.
    pub(crate) fn read(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (signed, tag) = token.rsplit_once('.')?;
        let (imei, expires) = signed.split_once('.')?;
        Some(Self { imei, expires_s: expires.parse().ok()?, signed, tag: BASE64_URL_SAFE_NO_PAD.decode(tag).ok()? })
    }
}

fn message(signed: &str, secret_sha256: &str) -> String {
    format!("httt device token v1\n{signed}\n{secret_sha256}")
}

fn make_key(folder: &Path, path: &PathBuf) -> Result<Vec<u8>> {
    let mut bytes = vec![0; KEY_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system gave no randomness"))?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // The name too: a key that vanished with a power cut would log every device out.
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("cannot make {}", path.display()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMEI: &str = "861234567890123";

    #[test]
    fn a_token_is_good_for_one_device_one_secret_and_its_time() {
        let folder = tempfile::tempdir().expect("folder");
        let tokens = Tokens::open(folder.path()).expect("opens");
        let token = tokens.issue(IMEI, "aa", 1_000_000);
        let claim = Claim::read(&token).expect("reads");
        assert_eq!(claim.imei, IMEI);
        assert!(tokens.verify(&claim, "aa", 1_000_000));
        assert!(!tokens.verify(&claim, "bb", 1_000_000), "a new secret ends old tokens");
        assert!(!tokens.verify(&claim, "aa", 1_000_000 + LIFETIME_S * 1_000), "expired");
        let foreign = token.replace(IMEI, "861234567890124");
        assert!(!tokens.verify(&Claim::read(&foreign).expect("reads"), "aa", 1_000_000));
        for nonsense in ["", "a", "a.b", "a.1.!", &"x".repeat(300)] {
            assert!(Claim::read(nonsense).is_none(), "{nonsense}");
        }

        let again = Tokens::open(folder.path()).expect("opens again");
        assert!(again.verify(&claim, "aa", 1_000_000), "the key is kept");
    }

    #[test]
    fn a_key_that_others_may_read_or_that_is_cut_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        Tokens::open(folder.path()).expect("opens");
        let path = folder.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("mode");
        assert!(Tokens::open(folder.path()).is_err());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        fs::write(&path, "short").expect("write");
        assert!(Tokens::open(folder.path()).is_err());
    }

    #[test]
    fn secrets_differ() {
        let (first, digest) = new_secret().expect("random");
        let (second, _) = new_secret().expect("random");
        assert_ne!(first, second);
        assert_eq!(first.len(), 27);
        assert_eq!(digest, Digest::of(first.as_bytes()));
    }
}
