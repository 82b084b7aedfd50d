//! The derived side of the log: a sorted map that may lag, lie or vanish, and is rebuilt from the chunks then.

pub(crate) mod keys;
pub(crate) mod rows;
pub(crate) mod store;

use std::fmt::Debug;

/// One row: key and value.
pub(crate) type Row = (Vec<u8>, Vec<u8>);

/// The index failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IndexError(pub(crate) String);

/// A sorted map from bytes to bytes. What comes back is judged by the caller, never believed.
pub(crate) trait Index: Send + Sync + Debug {
    /// One value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, IndexError>;
    /// Up to `limit` rows with `from <= key < to`, from the low end.
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError>;
    /// Up to `limit` rows with `from <= key < to`, from the high end.
    fn range_backward(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Row>, IndexError>;
    /// Writes rows, all or none; need not be durable.
    fn apply(&self, rows: Vec<Row>) -> Result<(), IndexError>;
    /// Writes out what is in memory.
    fn flush(&self) -> Result<(), IndexError>;
    /// Whether it failed, and answers nothing any more.
    fn failed(&self) -> bool {
        false
    }
}
