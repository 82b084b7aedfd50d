//! What keeps complete files: one small trait, and the folder that is one way of doing it. The other is
//! [`bucket`](super::bucket).

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use httt_exchange::BoxFuture;
use httt_feed::Digest;

use super::files::{self, Verified};
use super::ledger::Ledger;
use super::{MediaStoreError, blocking};

/// Keeps complete files, whose bytes were verified. Whoever calls [`take`](Self::take) holds the digest's turn.
pub(super) trait Store: Send + Sync {
    /// The size of a file, if it is known to be here without asking a disk or a network.
    fn known(&self, digest: &Digest) -> Option<u64>;
    /// The size of a file, if it is here.
    fn find(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>, MediaStoreError>>;
    /// Up to `max` bytes from `offset` on, and the file's size.
    fn read(&self, digest: Digest, offset: u64, max: u64) -> BoxFuture<'_, Result<(Bytes, u64), MediaStoreError>>;
    /// Takes a verified file over from the folder; acknowledged, it is kept for good.
    fn take(&self, verified: Verified) -> BoxFuture<'_, Result<(), MediaStoreError>>;
}

/// The folder keeps complete files itself.
#[derive(Clone)]
pub(super) struct Folder {
    folder: PathBuf,
    ledger: Arc<Ledger>,
}

impl Folder {
    pub(super) fn new(folder: PathBuf, ledger: Arc<Ledger>) -> Self {
        Self { folder, ledger }
    }

    /// The file is not where it should be.
    fn missing(&self, digest: &Digest) {
        if self.ledger.known(digest).is_some() {
            self.ledger.lost(digest, "its file is gone from the folder");
        }
    }
}

impl Store for Folder {
    fn known(&self, digest: &Digest) -> Option<u64> {
        self.ledger.known(digest)
    }

    fn find(&self, digest: Digest) -> BoxFuture<'_, Result<Option<u64>, MediaStoreError>> {
        let this = self.clone();
        Box::pin(blocking(move || {
            let size = files::length(&files::path(&this.folder, &digest))?;
            if size.is_none() {
                this.missing(&digest);
            }
            Ok(size)
        }))
    }

    fn read(&self, digest: Digest, offset: u64, max: u64) -> BoxFuture<'_, Result<(Bytes, u64), MediaStoreError>> {
        let this = self.clone();
        Box::pin(blocking(move || {
            let path = files::path(&this.folder, &digest);
            let read = files::read_range(&this.ledger, &path, &digest, offset, max);
            if let Err(MediaStoreError::NotFound(_)) = &read {
                this.missing(&digest);
            }
            read
        }))
    }

    fn take(&self, verified: Verified) -> BoxFuture<'_, Result<(), MediaStoreError>> {
        let this = self.clone();
        Box::pin(blocking(move || {
            files::publish(&verified.path, &files::path(&this.folder, &verified.digest))?;
            this.ledger.keep(verified.digest, verified.size);
            Ok(())
        }))
    }
}
