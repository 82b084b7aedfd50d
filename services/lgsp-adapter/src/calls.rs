//! The record of calls: who asked the platform for what, with what result. Kept on disk by day, for a time.
//!
//! | Module | Subject |
//! |---|---|
//! | `writer` | a thread that writes what calls hand over; a call never waits for the disk |
//! | `files` | the files by day, and which of them are let go |
//! | `export` | records as CSV and as JSON lines |
//! | `api` | what auditors ask |
//!
//! Days are those of Vietnamese time.

mod api;
mod export;
mod files;
mod writer;

use std::path::PathBuf;

use serde::Deserialize;

#[cfg(test)]
pub(crate) use api::ROUTES;
pub(crate) use api::routes;
pub(crate) use writer::Calls;

/// Section `[calls]`: how long records of calls are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CallsConfig {
    /// Days, today included.
    pub keep_days: u16,
    /// Bytes, all days together; the oldest go first.
    pub keep_bytes: u64,
}

impl Default for CallsConfig {
    fn default() -> Self {
        Self { keep_days: 90, keep_bytes: 1 << 30 }
    }
}

/// Least that `keep_bytes` can be: some parts of files.
const MIN_KEEP_BYTES: u64 = 1 << 20;

impl CallsConfig {
    /// The rules that no single key can break.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(self.keep_days > 0, "[calls] keep_days must not be 0");
        let enough = self.keep_bytes >= MIN_KEEP_BYTES;
        anyhow::ensure!(enough, "[calls] keep_bytes must be at least {MIN_KEEP_BYTES}");
        Ok(())
    }
}

/// Why records of calls cannot be kept or read.
#[derive(Debug, thiserror::Error)]
#[error("records of calls, {path}: {source}")]
pub(crate) struct CallsError {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}
