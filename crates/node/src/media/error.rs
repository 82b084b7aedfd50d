//! Why a medium cannot be stored or read.

use std::io;
use std::path::{Path, PathBuf};

use httt_feed::Digest;

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
    /// There is no room, and nothing that may be dropped to make it.
    #[error(
        "the media store is full: {used} of {limit} bytes are used by what must stay, and {needed} more are \
         needed; raise [node.media] max_store_bytes, or let a bucket keep the files (store = \"s3\")"
    )]
    Full {
        /// Bytes used after everything that may go is gone.
        used: u64,
        /// The configured limit, bytes.
        limit: u64,
        /// What was to be added, bytes.
        needed: u64,
    },
    /// A member has too much unfinished.
    #[error(
        "{writer} has {parts} unfinished files of {bytes} bytes; allowed are {max_parts} of {max_bytes} bytes: finish \
         one first, or wait a day until those that nobody continues are dropped"
    )]
    Quota {
        /// The member.
        writer: String,
        /// Its unfinished files.
        parts: usize,
        /// Their bytes.
        bytes: u64,
        /// The limit of the one.
        max_parts: usize,
        /// The limit of the other.
        max_bytes: u64,
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
    /// The configuration makes no sense.
    #[error("[node.media] {key}: {cause}")]
    Config {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The bucket does not do what it should; later it may.
    #[error("bucket, object {object}: {cause}")]
    Bucket {
        /// The object's key.
        object: String,
        /// What it answers.
        cause: String,
    },
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

pub(super) fn io_error(path: &Path, source: io::Error) -> MediaStoreError {
    MediaStoreError::Io { path: path.to_owned(), source }
}
