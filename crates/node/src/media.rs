//! Media by content: a file's name is its SHA-256, so it cannot change, be confused, or be stored twice.
//!
//! ```text
//! DIR/ab/cd/abcd…           complete, verified, read-only by convention
//! DIR/ab/cd/abcd….WHO.part  the beginning of one that WHO brings
//! DIR/incoming/UUID         one whose digest is not known yet; removed when the store opens
//! ```
//!
//! A file appears under its name only when its bytes have that digest and are on disk: written, synced, renamed, folder
//! synced. A part is a hint for resuming and may be lost at any time; what it contains is believed only once the whole
//! is verified. Writers of the same digest take turns; readers never wait. One process owns a store.
//!
//! The folder has a size limit. What can be fetched again is dropped to keep it, least recently used first; [`Pinned`]
//! says what must stay. With a bucket ([`StoreKind::S3`]) complete files are kept there, and the folder is a cache of it.

mod bucket;
mod config;
mod connector;
mod error;
mod files;
mod ledger;
mod serve;
mod store;
mod transfer;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use httt_feed::Digest;
use tokio::sync::{OwnedMutexGuard, watch};
use tracing::Instrument as _;

use crate::clock::{self, Clock};
use bucket::Bucket;
use files::{Appended, Incoming, Verified};
use ledger::Ledger;
use store::{Folder, Store};

pub use config::{MediaConfig, S3Config, StoreKind};
pub use error::MediaStoreError;
pub use ledger::{MediaUsage, Pinned};
pub use transfer::{RangeSize, TransferError, Transfers};

/// Whose unfinished files are this node's own; agency codes have no small letters.
const OWN: &str = "own";
/// Largest piece that [`MediaStore::read_range`] gives at a time.
pub const MAX_RANGE_BYTES: u64 = 4 << 20;

/// How much of a file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaStat {
    /// Bytes held, from the start.
    pub held: u64,
    /// Whether that is all of it, verified.
    pub complete: bool,
}

impl MediaStat {
    fn complete(size: u64) -> Self {
        Self { held: size, complete: true }
    }
}

/// Media of a node. Clones are the same store.
#[derive(Clone)]
pub struct MediaStore(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    ledger: Arc<Ledger>,
    store: Box<dyn Store>,
    /// Writers in progress, by digest. An entry whose writers are gone is dead and is swept when the next one comes.
    writers: Mutex<HashMap<[u8; 32], Weak<tokio::sync::Mutex<()>>>>,
}

impl MediaStore {
    /// Opens a folder, creating it if need be, counts what is in it, and removes uploads that a crash left unfinished.
    /// Blocking; with a bucket, inside a runtime.
    ///
    /// # Errors
    /// A configuration that makes no sense, or the disk.
    pub fn open(folder: impl Into<PathBuf>, config: &MediaConfig) -> Result<Self, MediaStoreError> {
        Self::open_at(folder, config, clock::system())
    }

    /// [`MediaStore::open`] with a clock of one's own, by which files grow old.
    ///
    /// # Errors
    /// As there.
    pub fn open_at(folder: impl Into<PathBuf>, config: &MediaConfig, clock: Clock) -> Result<Self, MediaStoreError> {
        config.check().map_err(|(key, cause)| MediaStoreError::Config { key, cause })?;
        let folder = folder.into();
        files::prepare(&folder)?;
        let ledger = Arc::new(Ledger::new(folder.clone(), config.clone(), clock));
        ledger.count()?;
        let store: Box<dyn Store> = match (config.store, &config.s3) {
            (StoreKind::S3, Some(s3)) => Box::new(Bucket::open(s3, folder.clone(), Arc::clone(&ledger))?),
            _ => Box::new(Folder::new(folder.clone(), Arc::clone(&ledger))),
        };
        Ok(Self(Arc::new(Inner { folder, ledger, store, writers: Mutex::default() })))
    }

    /// What it was opened with.
    pub fn limits(&self) -> &MediaConfig {
        self.0.ledger.limits()
    }

    /// Largest file that this store takes.
    pub fn max_file_bytes(&self) -> u64 {
        self.0.ledger.limits().max_file_bytes
    }

    /// From now on `pinned` says which complete files must stay; before, all must. It is asked when room is needed, and
    /// may look at read models. Files that are in a bucket may always leave the folder.
    pub fn pin(&self, pinned: impl Fn() -> Pinned + Send + Sync + 'static) {
        if self.0.ledger.limits().store == StoreKind::Folder {
            self.0.ledger.pin(pinned);
        }
    }

    /// How much is held. What is too old goes first.
    ///
    /// # Errors
    /// The disk.
    pub async fn usage(&self) -> Result<MediaUsage, MediaStoreError> {
        let ledger = Arc::clone(&self.0.ledger);
        blocking(move || {
            ledger.sweep(ledger.now_ms())?;
            Ok(ledger.usage())
        })
        .await
    }

    /// Counts complete files that were found lost or spoilt; changes are told, so that somebody fetches them again.
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.0.ledger.losses()
    }

    /// Where the complete file is, or will be, in the folder.
    pub fn path(&self, digest: Digest) -> PathBuf {
        files::path(&self.0.folder, &digest)
    }

    /// Whether the complete file is known to be held, without asking the disk.
    pub fn knows(&self, digest: Digest) -> bool {
        self.0.store.known(&digest).is_some()
    }

    /// How much of a file is held: all of it, or what this node itself has brought so far.
    ///
    /// # Errors
    /// The disk or the bucket.
    pub async fn stat(&self, digest: Digest) -> Result<MediaStat, MediaStoreError> {
        self.stat_for(OWN, digest).await
    }

    /// How much of a file is held: all of it, or what `writer` has brought so far.
    ///
    /// # Errors
    /// The disk or the bucket.
    pub async fn stat_for(&self, writer: &str, digest: Digest) -> Result<MediaStat, MediaStoreError> {
        // Who is in the middle of it need not ask for the whole at each step.
        let begun = self.0.ledger.has_part(writer, digest);
        if (!begun || self.knows(digest))
            && let Some(size) = self.0.store.find(digest).await?
        {
            return Ok(MediaStat::complete(size));
        }
        let part = files::part(&self.path(digest), writer);
        let held = blocking(move || files::length(&part)).await?.unwrap_or(0);
        Ok(MediaStat { held, complete: false })
    }

    /// Adds a piece of a file of `total` bytes. It must start where the held part ends. When it completes the file,
    /// the whole is verified and, acknowledged, is on disk. A piece of a complete file is passed over.
    ///
    /// # Errors
    /// A piece that does not continue the part, bytes of another digest, a limit, the disk or the bucket.
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
    ///
    /// # Errors
    /// As there.
    pub async fn write_for(
        &self,
        writer: &str,
        digest: Digest,
        total: u64,
        offset: u64,
        data: Bytes,
    ) -> Result<MediaStat, MediaStoreError> {
        self.check_size(total)?;
        let (this, writer) = (self.clone(), writer.to_owned());
        let turn = self.turn(digest).await;
        // The turn goes along: if the caller gives up, the next writer still waits for this one.
        detached(async move {
            let _turn = turn;
            let begun = this.0.ledger.has_part(&writer, digest);
            if (!begun || this.knows(digest))
                && let Some(size) = this.0.store.find(digest).await?
            {
                this.drop_part(writer, digest).await?;
                return Ok(MediaStat::complete(size));
            }
            let (ledger, path, bringer) = (Arc::clone(&this.0.ledger), this.path(digest), writer.clone());
            let appended =
                blocking(move || files::append(&ledger, &path, &bringer, &digest, total, offset, &data)).await?;
            match appended {
                Appended::Held(held) => Ok(MediaStat { held, complete: false }),
                Appended::Whole(verified) => {
                    let taken = this.0.store.take(verified).await;
                    this.recount_part(writer, digest).await?;
                    taken.map(|()| MediaStat::complete(total))
                }
            }
        })
        .await
    }

    /// Stores bytes whose digest the store computes.
    ///
    /// # Errors
    /// A limit, the disk or the bucket.
    pub async fn put_bytes(&self, data: Bytes) -> Result<Digest, MediaStoreError> {
        let whole = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(data)]);
        self.put_stream(whole).await.map(|(digest, _)| digest)
    }

    /// Stores a stream of unknown length and digest; gives back its digest and size. What was written is removed when
    /// the stream breaks, grows past the limit, or the caller gives up.
    ///
    /// # Errors
    /// The stream broke, a limit, the disk or the bucket.
    pub async fn put_stream<S, E>(&self, mut stream: S) -> Result<(Digest, u64), MediaStoreError>
    where
        S: Stream<Item = Result<Bytes, E>> + Unpin,
        E: fmt::Display,
    {
        let (folder, ledger) = (self.0.folder.clone(), Arc::clone(&self.0.ledger));
        let mut incoming = blocking(move || Incoming::create(&folder, &ledger)).await?;
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| MediaStoreError::Upload(error.to_string()))?;
            self.check_size(incoming.size() + piece.len() as u64)?;
            incoming = blocking(move || incoming.write(&piece).map(|()| incoming)).await?;
        }
        let verified = incoming.verified();
        let Verified { digest, size, .. } = verified;
        let turn = self.turn(digest).await;
        let this = self.clone();
        detached(async move {
            let (_turn, _incoming) = (turn, incoming);
            if this.0.store.find(digest).await?.is_none() {
                this.0.store.take(verified).await?;
            }
            Ok((digest, size))
        })
        .await
    }

    /// Up to `max` bytes (at most [`MAX_RANGE_BYTES`]) of a complete file from `offset` on, none at its end; and the
    /// file's size.
    ///
    /// # Errors
    /// The file is not held whole, the range is not in it, the disk or the bucket.
    pub async fn read_range(&self, digest: Digest, offset: u64, max: u64) -> Result<(Bytes, u64), MediaStoreError> {
        self.0.store.read(digest, offset, max.min(MAX_RANGE_BYTES)).await
    }

    fn check_size(&self, size: u64) -> Result<(), MediaStoreError> {
        let limit = self.max_file_bytes();
        if size > limit { Err(MediaStoreError::TooLarge { size, limit }) } else { Ok(()) }
    }

    /// What `writer` has of a file that is complete now goes.
    async fn drop_part(&self, writer: String, digest: Digest) -> Result<(), MediaStoreError> {
        if !self.0.ledger.has_part(&writer, digest) {
            return Ok(());
        }
        let path = files::part(&self.path(digest), &writer);
        blocking(move || files::discard(&path)).await?;
        self.recount_part(writer, digest).await
    }

    /// Counts what `writer` has of a file as the disk has it.
    async fn recount_part(&self, writer: String, digest: Digest) -> Result<(), MediaStoreError> {
        let (path, ledger) = (files::part(&self.path(digest), &writer), Arc::clone(&self.0.ledger));
        blocking(move || {
            ledger.part(&writer, digest, files::length(&path)?);
            Ok(())
        })
        .await
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

/// Does blocking work on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MediaStoreError> + Send + 'static,
) -> Result<T, MediaStoreError> {
    ended(tokio::task::spawn_blocking(work).await)
}

/// Does work to its end, even if the caller gives up.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, MediaStoreError>> + Send + 'static,
) -> Result<T, MediaStoreError> {
    ended(tokio::spawn(work.in_current_span()).await)
}

fn ended<T>(result: Result<Result<T, MediaStoreError>, tokio::task::JoinError>) -> Result<T, MediaStoreError> {
    match result {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(MediaStoreError::Stopping),
        },
    }
}

#[cfg(test)]
mod tests;
