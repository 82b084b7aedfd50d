//! Media by content: a file's name is its SHA-256, so it cannot change, be confused, or be stored twice.
//!
//! ```text
//! DIR/ab/cd/abcd…        complete, verified, read-only by convention
//! DIR/ab/cd/abcd….part   the beginning of one that is still arriving
//! DIR/incoming/UUID      one whose digest is not known yet; removed when the store opens
//! ```
//!
//! A file appears under its name only when its bytes have that digest and are on disk: written, synced, renamed, folder
//! synced. A part is a hint for resuming and may be lost at any time; what it contains is believed only once the whole
//! is verified. Writers of the same digest take turns; readers never wait. One process owns a store.

mod files;
mod serve;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use httt_feed::Digest;
use tokio::sync::OwnedMutexGuard;

use files::Incoming;

/// Whose unfinished files are this node's own; agency codes have no small letters.
const OWN: &str = "own";
/// Largest piece that [`MediaStore::read_range`] gives at a time.
pub const MAX_RANGE_BYTES: u64 = 4 << 20;

/// A medium cannot be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum MediaStoreError {
    /// The file is larger than the store takes.
    #[error("a file of {size} bytes is larger than the {limit} bytes allowed")]
    TooLarge {
        /// What was announced, or reached.
        size: u64,
        /// The store's limit.
        limit: u64,
    },
    /// The piece does not continue what is held; go on at `held`.
    #[error("{digest}: the piece starts at {offset}, and {held} bytes are held; continue there")]
    OutOfStep {
        /// The file.
        digest: Digest,
        /// Where the piece starts.
        offset: u64,
        /// Where it should.
        held: u64,
    },
    /// The piece reaches past the announced end.
    #[error("{digest}: the piece ends at {end}, past the announced {total}")]
    PastEnd {
        /// The file.
        digest: Digest,
        /// Where the piece ends.
        end: u64,
        /// The announced size.
        total: u64,
    },
    /// The bytes have another digest than their name; nothing of them is kept.
    #[error("the bytes announced as {expected} are {actual}; they were discarded")]
    Mismatch {
        /// As announced.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// The store does not have the complete file.
    #[error("{0} is not held completely")]
    NotFound(Digest),
    /// The reading starts past the file's end.
    #[error("{digest}: offset {offset} is past the end, {size}")]
    Range {
        /// The file.
        digest: Digest,
        /// Where reading should start.
        offset: u64,
        /// The file's size.
        size: u64,
    },
    /// The stream that should become a file broke.
    #[error("the upload broke off: {0}")]
    Upload(String),
    /// The disk.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The runtime stopped before the work was done.
    #[error("the node is stopping")]
    Stopping,
}

/// How much of a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaStat {
    /// Bytes held, from the start.
    pub held: u64,
    /// Whether that is all of it, verified.
    pub complete: bool,
}

/// A folder of media. Clones are the same store.
#[derive(Clone)]
pub struct MediaStore(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    max_file_bytes: u64,
    /// Writers in progress, by digest. An entry whose writers are gone is dead and is swept when the next one comes.
    writers: Mutex<HashMap<[u8; 32], Weak<tokio::sync::Mutex<()>>>>,
}

impl MediaStore {
    /// Opens a folder, creating it if need be, and removes uploads that a crash left unfinished. Blocking.
    pub fn open(folder: impl Into<PathBuf>, max_file_bytes: u64) -> Result<Self, MediaStoreError> {
        let folder = folder.into();
        files::prepare(&folder)?;
        Ok(Self(Arc::new(Inner { folder, max_file_bytes, writers: Mutex::default() })))
    }

    /// Largest file that this store takes.
    pub fn max_file_bytes(&self) -> u64 {
        self.0.max_file_bytes
    }

    /// Where the complete file is, or will be.
    pub fn path(&self, digest: Digest) -> PathBuf {
        files::path(&self.0.folder, &digest)
    }

    /// How much of a file is held: all of it, or what this node itself has brought so far.
    pub async fn stat(&self, digest: Digest) -> Result<MediaStat, MediaStoreError> {
        self.stat_for(OWN, digest).await
    }

    /// How much of a file is held: all of it, or what `writer` has brought so far.
    pub async fn stat_for(&self, writer: &str, digest: Digest) -> Result<MediaStat, MediaStoreError> {
        let (path, writer) = (self.path(digest), writer.to_owned());
        blocking(move || files::stat(&path, &writer)).await
    }

    /// Adds a piece of a file of `total` bytes. It must start where the held part ends. When it completes the file,
    /// the whole is verified and, acknowledged, is on disk. A piece of a complete file is passed over.
    pub async fn write_at(
        &self,
        digest: Digest,
        total: u64,
        offset: u64,
        data: Bytes,
    ) -> Result<MediaStat, MediaStoreError> {
        self.write_for(OWN, digest, total, offset, data).await
    }

    /// [`MediaStore::write_at`] for somebody else, an agency code: unfinished files are kept apart by who brings them,
    /// so that nobody can spoil another's.
    pub async fn write_for(
        &self,
        writer: &str,
        digest: Digest,
        total: u64,
        offset: u64,
        data: Bytes,
    ) -> Result<MediaStat, MediaStoreError> {
        self.check_size(total)?;
        let writer = writer.to_owned();
        let turn = self.turn(digest).await;
        let path = self.path(digest);
        // The turn goes along: if the caller gives up, the next writer still waits for this one.
        blocking(move || {
            let _turn = turn;
            files::write_at(&path, &writer, &digest, total, offset, &data)
        })
        .await
    }

    /// Stores bytes whose digest the store computes.
    pub async fn put_bytes(&self, data: Bytes) -> Result<Digest, MediaStoreError> {
        let size = data.len() as u64;
        self.check_size(size)?;
        let digest = Digest::of(&data);
        let turn = self.turn(digest).await;
        let folder = self.0.folder.clone();
        blocking(move || {
            let _turn = turn;
            let mut incoming = Incoming::create(&folder)?;
            incoming.write(&data)?;
            incoming.finish().map(|_| digest)
        })
        .await
    }

    /// Stores a stream of unknown length and digest; gives back its digest and size. What was written is removed when
    /// the stream breaks, grows past the limit, or the caller gives up.
    pub async fn put_stream<S, E>(&self, mut stream: S) -> Result<(Digest, u64), MediaStoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: fmt::Display,
    {
        let folder = self.0.folder.clone();
        let mut incoming = blocking(move || Incoming::create(&folder)).await?;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| MediaStoreError::Upload(error.to_string()))?;
            self.check_size(incoming.size() + piece.len() as u64)?;
            incoming = blocking(move || incoming.write(&piece).map(|()| incoming)).await?;
        }
        let (digest, size) = (incoming.digest(), incoming.size());
        let turn = self.turn(digest).await;
        blocking(move || {
            let _turn = turn;
            incoming.finish()
        })
        .await?;
        Ok((digest, size))
    }

    /// Up to `max` bytes (at most [`MAX_RANGE_BYTES`]) of a complete file from `offset` on, none at its end; and the
    /// file's size.
    pub async fn read_range(&self, digest: Digest, offset: u64, max: u64) -> Result<(Bytes, u64), MediaStoreError> {
        let path = self.path(digest);
        blocking(move || files::read_range(&path, &digest, offset, max.min(MAX_RANGE_BYTES))).await
    }

    fn check_size(&self, size: u64) -> Result<(), MediaStoreError> {
        let limit = self.0.max_file_bytes;
        if size > limit { Err(MediaStoreError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// Waits until nobody else writes this file.
    async fn turn(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut writers = self.0.writers.lock().unwrap_or_else(PoisonError::into_inner);
            writers.retain(|_, lock| lock.strong_count() > 0);
            match writers.get(&digest.0).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::default();
                    writers.insert(digest.0, Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}

impl fmt::Debug for MediaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStore").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaStoreError> + Send + 'static,
) -> Result<T, MediaStoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(MediaStoreError::Stopping),
        },
    }
}

fn io_error(path: &Path, source: io::Error) -> MediaStoreError {
    MediaStoreError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
