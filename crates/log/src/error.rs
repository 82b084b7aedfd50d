//! What can go wrong, one enum for each of opening, committing and reading.

use std::io;
use std::path::PathBuf;

use httt_feed::{Digest, FeedId, Refusal};
use uuid::Uuid;

use crate::EventPosition;

/// Where the chunks are not what the writer wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damage in {chunk} at byte {offset} (position {position}): {what}")]
pub struct Damage {
    /// File name of the chunk.
    pub chunk: String,
    /// Byte offset in that file.
    pub offset: u64,
    /// Position of the entry that is, or would be, there.
    pub position: u64,
    /// What was found.
    pub what: String,
}

/// Why a log did not open. Nothing is changed on disk before one of these is returned, except that the index may
/// have been rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle of this one, has it open.
    #[error("the log in {} is open already, here or in another process", dir.display())]
    Locked {
        /// The log's folder.
        dir: PathBuf,
    },
    /// Damage that is no torn tail. Repair it from a peer or a copy; `audit` lists everything.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// It was to be opened for reading only, and there is nothing to read.
    #[error("there is no log in {}; one that is opened for reading only is not created", dir.display())]
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// Written by a later program.
    #[error("{chunk} has format version {version}, this program reads version {}", crate::frame::FORMAT_VERSION)]
    Format {
        /// File name of the chunk.
        chunk: String,
        /// The version it says.
        version: u32,
    },
    /// Entries that the signed checkpoint vouches for are gone.
    #[error(
        "the log has {entries} entries, but its signed checkpoint vouches for {checkpoint}: entries were lost \
         ({detail}); restore the chunks from a copy, or take the node's own feeds back from the exchange into a new log"
    )]
    ShorterThanCheckpoint {
        /// Entries found.
        entries: u64,
        /// Entries the checkpoint vouches for.
        checkpoint: u64,
        /// Where the chunks end, and whether something unreadable stands there.
        detail: String,
    },
    /// The entries are not those the checkpoint was signed over.
    #[error("the first {size} entries have the root {log}, but the signed checkpoint says {checkpoint}")]
    RootDiffers {
        /// Entries compared.
        size: u64,
        /// Root in the checkpoint.
        checkpoint: Digest,
        /// Root of the chunks.
        log: Digest,
    },
    /// The checkpoint file is unreadable, of another origin, or its signature is wrong.
    #[error("the checkpoint cannot be trusted: {0}")]
    Checkpoint(String),
    /// The index has to be built, and a chunk needed for it is archived in a folder that is not there. Mount the
    /// folder, or write its new path into the file `archive` of the log's folder.
    #[error("{chunk} is archived as {} and is not there; mount the archive, or correct its path in the file `{}`", path.display(), crate::places::ARCHIVE_FILE)]
    ArchiveMissing {
        /// File name of the chunk.
        chunk: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// No index could be opened or built.
    #[error("the index cannot be built: {0}")]
    Index(String),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl OpenError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Why a transaction was not committed. Nothing of it is in the log then, unless the text says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else appended to the stream first.
    #[error("stream {stream} is at {}, expected {expected}", actual.map_or("no event".to_owned(), |v| format!("version {v}")))]
    WrongExpectedVersion {
        /// The stream.
        stream: String,
        /// What the caller expected.
        expected: crate::Expected,
        /// What there is; `None`: no event.
        actual: Option<u64>,
    },
    /// The same event id stands for other content.
    #[error("event id {id} is taken by an event with other content")]
    IdConflict {
        /// The id.
        id: Uuid,
        /// Where the other event is; `None` while it is part of the same commit group.
        position: Option<EventPosition>,
    },
    /// All events of a stream travel in one feed.
    #[error("stream {stream} lives in feed {feed}; all its events must go there")]
    StreamElsewhere {
        /// The stream.
        stream: String,
        /// The feed it began in.
        feed: FeedId,
    },
    /// The batch or event itself is at fault.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// More than one commit may hold.
    #[error("the transaction has {size} {what}, the limit is {limit}")]
    TransactionTooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        size: usize,
        /// How much there may be.
        limit: usize,
    },
    /// The transaction's own `derive` function panicked.
    #[error("the transaction's derive function panicked")]
    DerivePanicked,
    /// No space. Nothing was written; commits work again once there is space.
    #[error("no space left for the log: {0}")]
    DiskFull(String),
    /// The index lags behind and cannot be written: its disk is full, say. Nothing was written; commits work again once
    /// it can be.
    #[error("the log waits for its index, which cannot be written: {0}")]
    IndexFull(String),
    /// A write failed and was undone. Nothing was written; the log goes on.
    #[error("writing the log failed and was undone: {0}")]
    WriteFailed(String),
    /// The stored entry that had to be compared could not be read.
    #[error("an entry needed to judge the transaction cannot be read: {0}")]
    Unreadable(ReadError),
    /// The log writes no more until it is opened anew. Whether the transaction that met the failure first is in the
    /// log is unknown until then.
    #[error("the log takes no more writes until it is opened anew: {0}")]
    Poisoned(String),
    /// The log was opened with [`crate::Options::read_only`].
    #[error("the log is open for reading only; open it without `read_only` to write")]
    ReadOnly,
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The feed was taken up here at a restatement, and what was asked for is before that.
    #[error("{feed} is held from sequence {first} on, and {after} comes before that")]
    BeginsLater {
        /// The feed.
        feed: FeedId,
        /// The sequence asked after.
        after: u64,
        /// The first one held.
        first: u64,
    },
    /// The chunk does not hold what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The chunk is archived, and the archive folder is not there. Newer entries can be read all the same.
    #[error("{chunk} is archived as {} and is not there; mount the archive, or correct its path in the file `{}`", path.display(), crate::places::ARCHIVE_FILE)]
    ArchiveMissing {
        /// File name of the chunk.
        chunk: String,
        /// Where it should be.
        path: PathBuf,
    },
    /// The entry went by retention. Its origin has it; its digest and its leaf hash are known here.
    #[error(
        "entry {} ({} sequence {}) went by retention; its origin, {}, has it", .0.position, .0.feed, .0.sequence,
        .0.feed.origin
    )]
    Gone(Box<crate::GoneEntry>),
    /// The index failed; opening the log anew rebuilds it.
    #[error("the index failed, opening the log anew rebuilds it: {0}")]
    Index(String),
    /// The operating system refused.
    #[error("reading {chunk}: {error}")]
    Io {
        /// File name of the chunk.
        chunk: String,
        /// The system's error.
        error: String,
    },
    /// A root was asked for more entries than there are.
    #[error("a root over {size} entries was asked for, the log has {entries}")]
    BeyondEnd {
        /// Entries asked for.
        size: u64,
        /// Entries there are.
        entries: u64,
    },
    /// Everything was delivered and the log was closed.
    #[error("the log is closed")]
    Closed,
}

impl From<crate::index::IndexError> for ReadError {
    fn from(error: crate::index::IndexError) -> Self {
        Self::Index(error.0)
    }
}

impl From<ReadError> for CommitError {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}
