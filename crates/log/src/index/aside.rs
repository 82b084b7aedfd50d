//! What becomes of an index that is not believed any more.

use std::path::{Path, PathBuf};

/// The file beside an index that says: it failed, do not believe it.
pub(crate) fn doubtful_mark(index: &Path) -> PathBuf {
    index.with_extension("doubtful")
}
