//! What becomes of an index that is not believed any more, and what it knew.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::files;

/// Bytes of a number in a file.
const MAX_NUMBER_BYTES: u64 = 32;

fn beside(index: &Path, what: &str) -> PathBuf {
    let mut name = index.as_os_str().to_owned();
    name.push(what);
    name.into()
}

/// The file beside an index that says: it failed, do not believe it.
pub(crate) fn doubtful_mark(index: &Path) -> PathBuf {
    beside(index, ".doubtful")
}

/// Marks an index as doubtful, beyond the end of this process.
pub(crate) fn mark_doubtful(index: &Path) -> io::Result<()> {
    files::write(&doubtful_mark(index), b"")
}

/// Removes the mark, if there is one.
pub(crate) fn unmark(index: &Path) -> io::Result<()> {
    files::remove_if_there(&doubtful_mark(index))
}

fn knew_file(index: &Path) -> PathBuf {
    beside(index, ".knew")
}

/// Remembers how many entries an index knew that is about to be set aside: the next attempt to open the log, without
/// it, must not take for a torn tail what it knew to be more.
pub(crate) fn remember_knew(index: &Path, entries: u64) -> io::Result<()> {
    files::write(&knew_file(index), entries.to_string().as_bytes())
}

/// What was remembered; 0: nothing.
pub(crate) fn remembered(index: &Path) -> io::Result<u64> {
    let mut text = String::new();
    match File::open(knew_file(index)) {
        Ok(file) => file.take(MAX_NUMBER_BYTES).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    Ok(text.trim().parse().unwrap_or(0))
}

/// The log was opened in the knowledge of it.
pub(crate) fn forget_knew(index: &Path) -> io::Result<()> {
    files::remove_if_there(&knew_file(index))
}
