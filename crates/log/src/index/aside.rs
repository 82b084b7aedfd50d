//! What becomes of an index that is not believed any more, and what it knew.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of a number in a file.
const MAX_NUMBER_BYTES: u64 = 32;

fn beside(index: &Path, what: &str) -> PathBuf {
    let mut name = index.as_os_str().to_owned();
    name.push(what);
    name.into()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// The file beside an index that says: it failed, do not believe it.
pub(crate) fn doubtful_mark(index: &Path) -> PathBuf {
    beside(index, ".doubtful")
}

/// Marks an index as doubtful, beyond the end of this process.
pub(crate) fn mark_doubtful(index: &Path) -> io::Result<()> {
    let mark = doubtful_mark(index);
    File::create(&mark)?.sync_all()?;
    sync_folder_of(&mark)
}

/// Removes the mark, if there is one.
pub(crate) fn unmark(index: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(doubtful_mark(index)))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn knew_file(index: &Path) -> PathBuf {
    beside(index, ".knew")
}

/// Remembers how many entries an index knew that is about to be set aside: the next attempt to open the log, without
/// it, must not take for a torn tail what it knew to be more.
pub(crate) fn remember_knew(index: &Path, entries: u64) -> io::Result<()> {
    let path = knew_file(index);
    let mut file = File::create(&path)?;
    file.write_all(entries.to_string().as_bytes())?;
    file.sync_all()?;
    sync_folder_of(&path)
}

/// What was remembered; 0: nothing.
pub(crate) fn remembered(index: &Path) -> io::Result<u64> {
    let mut text = String::new();
    match File::open(knew_file(index)) {
        Ok(file) => file.take(MAX_NUMBER_BYTES).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    // Written half, it was about to be written again.
    Ok(text.trim().parse().unwrap_or(0))
}

/// The log was opened in the knowledge of it.
pub(crate) fn forget_knew(index: &Path) -> io::Result<()> {
    absent_is_fine(fs::remove_file(knew_file(index)))
}
