//! The end of the log, owned by the writer: rolls chunks, writes groups, undoes what failed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::files::{self, Files, WriteFile};
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, MAX_GROUPS_PER_CHUNK, chunk_name};

/// Why a group is not on disk.
#[derive(Debug)]
pub(crate) enum TailError {
    /// No space; undone.
    Full(String),
    /// A write failed; undone.
    Failed(String),
    /// What is on disk is unknown.
    Broken(String),
}

/// The writable end.
#[derive(Debug)]
pub(crate) struct Tail {
    files: Arc<dyn Files>,
    chunks: PathBuf,
    log_id: [u8; 16],
    chunk_bytes: u64,
    number: u32,
    file: Box<dyn WriteFile>,
    end: u64,
    group: u32,
}

/// Where the tail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TailAt {
    pub(crate) number: u32,
    pub(crate) end: u64,
    pub(crate) group: u32,
}

impl Tail {
    /// Takes up the chunk at `at`.
    pub(crate) fn open(
        files: Arc<dyn Files>,
        chunks: &Path,
        log_id: [u8; 16],
        chunk_bytes: u64,
        at: TailAt,
    ) -> io::Result<Self> {
        let path = chunks.join(chunk_name(at.number));
        files.set_readonly(&path, false)?;
        let file = files.open(&path)?;
        let TailAt { number, end, group } = at;
        Ok(Self { files, chunks: chunks.to_owned(), log_id, chunk_bytes, number, file, end, group })
    }

    /// Number of the chunk, offset and group number of the next group.
    pub(crate) fn at(&self) -> TailAt {
        TailAt { number: self.number, end: self.end, group: self.group }
    }

    /// Makes room for a group of `size` bytes whose first entry is `position`; a group never spans chunks.
    pub(crate) fn make_room(&mut self, size: usize, position: u64, now_ms: i64) -> Result<(), TailError> {
        let fits = self.end + size as u64 <= self.chunk_bytes && self.group < MAX_GROUPS_PER_CHUNK - 1;
        // A chunk that holds nothing yet takes any group, however large.
        if fits || self.end == CHUNK_HEADER_BYTES as u64 {
            return Ok(());
        }
        // What follows in the next chunk must never outlive what stands in this one: the remains of an undone write
        // are cut, and that, too, has to be on disk.
        if let Err(error) = self.file.sync() {
            return Err(TailError::Broken(format!("fsync of {} failed: {error}", chunk_name(self.number))));
        }
        let header =
            ChunkHeader { log_id: self.log_id, number: self.number + 1, first_position: position, created_ms: now_ms };
        let file = create_chunk(self.files.as_ref(), &self.chunks, &header)?;
        let full = self.chunks.join(chunk_name(self.number));
        if let Err(error) = self.files.set_readonly(&full, true) {
            tracing::warn!(chunk = %full.display(), %error, "a full chunk could not be made read-only");
        }
        (self.number, self.file, self.end, self.group) = (header.number, file, CHUNK_HEADER_BYTES as u64, 0);
        Ok(())
    }

    /// Puts a whole group on disk.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), TailError> {
        if let Err(error) = files::write_all_at(self.file.as_mut(), bytes, self.end) {
            let what = format!("{}: {error}", chunk_name(self.number));
            return Err(match self.file.set_len(self.end) {
                Ok(()) if files::is_full(&error) => TailError::Full(what),
                Ok(()) => TailError::Failed(what),
                Err(undo) => TailError::Broken(format!("{what}; cutting back to the committed end failed too: {undo}")),
            });
        }
        // After a failed fsync the kernel may have dropped the dirty pages and call the next fsync a success, so it
        // is never tried again.
        if let Err(error) = self.file.sync() {
            return Err(TailError::Broken(format!("fsync of {} failed: {error}", chunk_name(self.number))));
        }
        self.end += bytes.len() as u64;
        self.group += 1;
        Ok(())
    }
}

/// Creates a chunk with its header, durable together with its name.
pub(crate) fn create_chunk(
    files: &dyn Files,
    chunks: &Path,
    header: &ChunkHeader,
) -> Result<Box<dyn WriteFile>, TailError> {
    let name = chunk_name(header.number);
    let path = chunks.join(&name);
    let written = files.create(&path).and_then(|mut file| {
        files::write_all_at(file.as_mut(), &header.encode(), 0)?;
        Ok(file)
    });
    let mut file = match written {
        Ok(file) => file,
        Err(error) => {
            let what = format!("creating {name}: {error}");
            let removed = files.remove(&path).and_then(|()| files.sync_dir(chunks));
            return Err(match removed {
                Err(undo) if undo.kind() != io::ErrorKind::NotFound => {
                    TailError::Broken(format!("{what}; removing it failed too: {undo}"))
                }
                _ if files::is_full(&error) => TailError::Full(what),
                _ => TailError::Failed(what),
            });
        }
    };
    file.sync()
        .and_then(|()| files.sync_dir(chunks))
        .map_err(|error| TailError::Broken(format!("fsync of {name} failed: {error}")))?;
    Ok(file)
}
