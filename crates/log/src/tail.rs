//! The end of the log, owned by the writer: rolls chunks, writes groups, undoes what failed.
//!
//! A sync costs less where the file's length and extents stay as they are, so a chunk that grows is filled with zeros
//! ahead of its end, by a thread, up to a point that the writer never passes before the thread is done.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crate::files::{self, Files, WriteFile};
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, MAX_GROUPS_PER_CHUNK, chunk_name};

/// A chunk that has grown to this is filled ahead: a log of a few entries stays small.
const FILL_FROM_BYTES: u64 = 256 << 10;
/// Most bytes filled ahead at a time; less as long as the chunk itself is smaller.
const MAX_FILL_BYTES: u64 = 4 << 20;
/// Zeros written between two syncs: a commit that comes meanwhile waits for so many at most.
const FILL_PIECE_BYTES: usize = 512 << 10;

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
    /// Bytes of the file, the zeros after `end` among them.
    length: u64,
    filling: Option<Filling>,
}

/// Zeros being written, up to some length of the file.
#[derive(Debug)]
struct Filling {
    length: u64,
    thread: JoinHandle<Result<(), FillError>>,
}

/// Why a file was not filled.
#[derive(Debug)]
enum FillError {
    /// It just stays shorter.
    NotWritten(io::Error),
    /// After this nobody knows what of the file is on disk.
    NotSynced(io::Error),
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
        let chunks = chunks.to_owned();
        Ok(Self { files, chunks, log_id, chunk_bytes, number, file, end, group, length: end, filling: None })
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
        // and the zeros are cut, and that, too, has to be on disk.
        self.trim()?;
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
        self.length = self.end;
        Ok(())
    }

    /// Puts a whole group on disk.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), TailError> {
        let end = self.end + bytes.len() as u64;
        if end > self.length {
            self.join()?;
        }
        if let Err(error) = files::write_all_at(self.file.as_mut(), bytes, self.end) {
            self.join()?;
            let what = format!("{}: {error}", chunk_name(self.number));
            self.length = self.end;
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
        self.end = end;
        self.length = self.length.max(end);
        self.group += 1;
        self.fill_ahead();
        Ok(())
    }

    /// Starts filling if the zeros are coming to an end.
    fn fill_ahead(&mut self) {
        let step = self.end.min(MAX_FILL_BYTES);
        let length = (self.length + step).min(self.chunk_bytes);
        if self.end < FILL_FROM_BYTES
            || self.filling.is_some()
            || self.length - self.end > step / 2
            || length <= self.length
        {
            return;
        }
        let (files, from) = (Arc::clone(&self.files), self.length);
        let path = self.chunks.join(chunk_name(self.number));
        let thread =
            thread::Builder::new().name("httt-fill".into()).spawn(move || fill(files.as_ref(), &path, from, length));
        // Without a thread the file grows as it is written.
        self.filling = thread.ok().map(|thread| Filling { length, thread });
    }

    /// Waits until nobody else writes the file.
    fn join(&mut self) -> Result<(), TailError> {
        let Some(Filling { length, thread }) = self.filling.take() else { return Ok(()) };
        match thread.join() {
            Ok(Ok(())) => self.length = length,
            // How far it came does not matter: beyond `self.length` there are zeros or nothing.
            Ok(Err(FillError::NotWritten(error))) => {
                tracing::debug!(chunk = self.number, %error, "the chunk could not be filled ahead");
            }
            Ok(Err(FillError::NotSynced(error))) => {
                return Err(TailError::Broken(format!("fsync of {} failed: {error}", chunk_name(self.number))));
            }
            Err(_) => return Err(TailError::Broken("the thread that fills the chunk panicked".into())),
        }
        Ok(())
    }

    /// Cuts the zeros off; the caller syncs.
    pub(crate) fn trim(&mut self) -> Result<(), TailError> {
        self.join()?;
        self.length = self.end;
        self.file.set_len(self.end).map_err(|error| {
            let what = format!("{}: {error}", chunk_name(self.number));
            // Where nothing is ever overwritten, cutting needs space too.
            if files::is_full(&error) { TailError::Full(what) } else { TailError::Failed(what) }
        })
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Whoever opens the log next must find nobody who still writes zeros.
        let _ = self.join();
    }
}

fn fill(files: &dyn Files, path: &Path, from: u64, to: u64) -> Result<(), FillError> {
    let mut file = files.open(path).map_err(FillError::NotWritten)?;
    let zeros = vec![0; FILL_PIECE_BYTES];
    let mut at = from;
    while at < to {
        let piece = &zeros[..(to - at).min(FILL_PIECE_BYTES as u64) as usize];
        files::write_all_at(file.as_mut(), piece, at).map_err(FillError::NotWritten)?;
        file.sync().map_err(FillError::NotSynced)?;
        at += piece.len() as u64;
    }
    Ok(())
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
