//! The key files: the key in use, the next one, and the one before. Every step is one rename, so that a crash leaves
//! what can be gone on from.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use httt_feed::{Fingerprint, KeyError, PublicKey, SigningKey};

/// Largest signing key file.
const MAX_KEY_FILE_BYTES: u64 = 64 * 1024;

/// A key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("signing key {path}: {cause}")]
pub struct KeyFilesError {
    /// Which file.
    pub path: PathBuf,
    /// What is wrong, and what to do.
    pub cause: String,
}

/// The files of one node.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    in_use: PathBuf,
    next: PathBuf,
    old: PathBuf,
}

/// What of a change of keys is in the files.
#[derive(Debug)]
pub struct KeyState {
    /// The key that is to replace the one in use.
    pub next: Option<SigningKey>,
    /// Public half of the key that was replaced.
    pub old: Option<PublicKey>,
}

impl KeyFiles {
    /// `path`: `[node] signing_key`.
    pub fn new(path: &Path) -> Self {
        let beside = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        };
        Self { in_use: path.to_owned(), next: beside(".next"), old: beside(".old") }
    }

    /// The key in use. If a crash came between the two renames of a switch, the second one is done first.
    ///
    /// # Errors
    /// The file cannot be read, or is no key.
    pub fn open(&self) -> Result<SigningKey, KeyFilesError> {
        if !self.in_use.exists() && self.old.exists() && self.next.exists() {
            rename(&self.next, &self.in_use)?;
        }
        read(&self.in_use)
    }

    /// The key in use, or the one that is about to be, without changing anything: for who looks beside a running node.
    ///
    /// # Errors
    /// The file cannot be read, or is no key.
    pub fn peek(&self) -> Result<SigningKey, KeyFilesError> {
        read(if self.in_use.exists() { &self.in_use } else { &self.next })
    }

    /// What of a change is in the files.
    ///
    /// # Errors
    /// A file is there and cannot be read, or is no key.
    pub fn state(&self) -> Result<KeyState, KeyFilesError> {
        let found = |path: &Path| path.exists().then(|| read(path)).transpose();
        Ok(KeyState { next: found(&self.next)?, old: found(&self.old)?.map(|key| key.public().clone()) })
    }

    /// Begins a change: makes the next key, in a file that only its owner may read.
    ///
    /// # Errors
    /// A change is under way, or the file cannot be written.
    pub fn begin(&self) -> Result<Fingerprint, KeyFilesError> {
        for path in [&self.next, &self.old] {
            if path.exists() {
                let cause = "a change of keys is under way; it ends when this file is gone".to_owned();
                return Err(KeyFilesError { path: path.clone(), cause });
            }
        }
        // What is in use must be a key, else there is nothing to change.
        read(&self.in_use)?;
        let wrong = |cause: String| KeyFilesError { path: self.next.clone(), cause };
        let (key, pem) = SigningKey::generate().map_err(|error| wrong(error.to_string()))?;
        // Whole or not at all: a running node looks for it.
        let mut draft = self.next.as_os_str().to_owned();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        write_secret(&draft, &pem, &self.in_use).map_err(|error| {
            let cause = format!("{error}; it must belong to the owner of the key in use, so run this as that user");
            KeyFilesError { path: draft.clone(), cause }
        })?;
        rename(&draft, &self.next)?;
        Ok(key.public().fingerprint())
    }

    /// The next key, which is `next`, becomes the one in use, and that the old one. Whoever opens the files between the two
    /// renames does the second one: then it is done.
    pub(super) fn switch(&self, next: &PublicKey) -> Result<(), KeyFilesError> {
        if self.is_switched(next) {
            return Ok(());
        }
        if self.in_use.exists() && self.next.exists() {
            rename(&self.in_use, &self.old)?;
        }
        rename(&self.next, &self.in_use).or_else(|error| if self.is_switched(next) { Ok(()) } else { Err(error) })
    }

    fn is_switched(&self, next: &PublicKey) -> bool {
        !self.next.exists() && read(&self.in_use).is_ok_and(|key| key.public() == next)
    }

    /// Gives the next key up.
    pub(super) fn discard(&self) -> Result<(), KeyFilesError> {
        remove(&self.next)
    }

    /// Deletes the old key.
    pub(super) fn forget(&self) -> Result<(), KeyFilesError> {
        remove(&self.old)
    }
}

fn read(path: &Path) -> Result<SigningKey, KeyFilesError> {
    let wrong = |cause: String| KeyFilesError { path: path.to_owned(), cause };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_KEY_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > MAX_KEY_FILE_BYTES {
        return Err(wrong(format!("a key file is not larger than {MAX_KEY_FILE_BYTES} bytes")));
    }
    SigningKey::from_pem(&text).map_err(|error: KeyError| wrong(error.to_string()))
}

/// Writes a file that the owner of `like` can read and nobody else: whoever makes the key need not be the node's user.
fn write_secret(path: &Path, text: &str, like: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let (wanted, made) = (fs::metadata(like)?, file.metadata()?);
    if (wanted.uid(), wanted.gid()) != (made.uid(), made.gid()) {
        fchown(&file, Some(wanted.uid()), Some(wanted.gid()))?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn rename(from: &Path, to: &Path) -> Result<(), KeyFilesError> {
    let failed = |error: io::Error| KeyFilesError { path: from.to_owned(), cause: format!("renaming it: {error}") };
    fs::rename(from, to).map_err(failed)?;
    sync_folder(to).map_err(failed)
}

fn remove(path: &Path) -> Result<(), KeyFilesError> {
    let failed = |error: io::Error| KeyFilesError { path: path.to_owned(), cause: format!("deleting it: {error}") };
    fs::remove_file(path).map_err(failed)?;
    sync_folder(path).map_err(failed)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files() -> (tempfile::TempDir, KeyFiles) {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("signing.key");
        fs::write(&path, SigningKey::generate().expect("key").1).expect("write");
        (dir, KeyFiles::new(&path))
    }

    #[test]
    fn the_next_key_is_readable_by_its_owner_alone_and_is_made_once() {
        let (dir, files) = files();
        let fingerprint = files.begin().expect("begins");
        let next = dir.path().join("signing.key.next");
        assert_eq!(fs::metadata(&next).expect("file").permissions().mode() & 0o777, 0o600);
        assert_eq!(files.state().expect("state").next.expect("next").public().fingerprint(), fingerprint);
        assert!(files.begin().expect_err("twice").to_string().contains("under way"));
    }

    #[test]
    fn a_crash_between_the_two_renames_of_a_switch_is_made_good() {
        let (dir, files) = files();
        let old = files.open().expect("key").public().clone();
        let fingerprint = files.begin().expect("begins");
        fs::rename(dir.path().join("signing.key"), dir.path().join("signing.key.old")).expect("half a switch");
        assert_eq!(files.open().expect("key").public().fingerprint(), fingerprint);
        assert_eq!(files.state().expect("state").old, Some(old));
        files.forget().expect("forgets");
        assert!(files.state().expect("state").old.is_none());
    }

    #[test]
    fn a_switch_that_somebody_else_completed_is_done() {
        let (dir, files) = files();
        let old = files.open().expect("key").public().clone();
        files.begin().expect("begins");
        let next = files.state().expect("state").next.expect("next").public().clone();
        fs::rename(dir.path().join("signing.key"), dir.path().join("signing.key.old")).expect("half a switch");
        files.open().expect("completes it");
        files.switch(&next).expect("it is done");
        assert_eq!(files.open().expect("key").public(), &next);
        assert_eq!(files.state().expect("state").old, Some(old.clone()));
        files.switch(&old).expect_err("another key than the one in use is missed");
        assert_eq!(files.peek().expect("key").public(), &next);
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let (dir, files) = files();
        fs::write(dir.path().join("signing.key.next"), "no key").expect("write");
        assert!(files.state().expect_err("refused").to_string().contains("signing.key.next"));
    }
}
