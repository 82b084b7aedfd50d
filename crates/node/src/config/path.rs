//! Paths that mean the same wherever the service is started from.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

thread_local! {
    /// Folder of the configuration being read on this thread. Set only while [`super::load`] runs, which never
    /// yields, so no other reader can see it; in return nobody can forget to resolve a path.
    static BASE: RefCell<PathBuf> = const { RefCell::new(PathBuf::new()) };
}

/// A path from a configuration: relative ones are relative to the configuration's folder, not to wherever the
/// service was started.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ConfigPath(PathBuf);

impl ConfigPath {
    /// A path that is already as it should be, for configurations built in code.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl Deref for ConfigPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for ConfigPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<ConfigPath> for PathBuf {
    fn from(path: ConfigPath) -> Self {
        path.0
    }
}

impl fmt::Debug for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for ConfigPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = PathBuf::deserialize(deserializer)?;
        if written.as_os_str().is_empty() {
            return Err(serde::de::Error::custom("the path is empty"));
        }
        // `join` keeps an absolute path as it is.
        Ok(Self(BASE.with_borrow(|base| base.join(written))))
    }
}

/// Makes `folder` the base until the guard drops.
pub(super) fn enter(folder: &Path) -> Base {
    Base(BASE.replace(folder.to_owned()))
}

pub(super) struct Base(PathBuf);

impl Drop for Base {
    fn drop(&mut self) {
        BASE.set(std::mem::take(&mut self.0));
    }
}
