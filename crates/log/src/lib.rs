//! The append-only, tamper-evident log: everything a node knows can be rebuilt from it.
//!
//! An entry is a sealed batch ([`httt_feed::VerifiedBatch`]): this node's own, or a copy of another origin's. Its
//! position, counted from 0, is its leaf index in the RFC 6962 Merkle tree over all entries. An event is at
//! [`EventPosition`]: its entry, and its place in that entry's batch.
//!
//! ```
//! # use std::sync::Arc;
//! use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
//! use httt_log::{Expected, Log, NewEvent, Options, Transaction};
//! use httt_wire::bulletin::BulletinWithdrawn;
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! let (key, _pem) = SigningKey::generate()?;
//! let sealer = Arc::new(Sealer::new(AgencyCode::new("TW")?, key));
//! let (log, report) = Log::open(dir.path(), sealer, Options::default())?;
//! assert!(report.created);
//!
//! let withdrawn = BulletinWithdrawn { bulletin: "b1".into(), reason: "superseded".into() };
//! let event = NewEvent::of(Audience::All, Lane::Content, "bulletin/b1", &withdrawn).with_actor("duty-officer");
//! let id = event.id;
//! let done = log.commit(Transaction::append([event]).expecting("bulletin/b1", Expected::NoStream)).await?;
//! assert_eq!((done.versions[0], done.next), (1, 1));
//!
//! let recorded = log.event(id)?.expect("it was committed");
//! assert_eq!(recorded.position, done.events[0]);
//! log.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On disk
//!
//! ```text
//! DIR/lock               locked while the log is open
//! DIR/chunks/00000000.chunk …   the truth; all but the last are read-only
//! DIR/index/             derived from the chunks (sled); may be deleted at any time the log is closed
//! DIR/index.damaged-N/   indexes that were in doubt, the last two
//! DIR/checkpoint         signed note: so many entries, this root
//! DIR/archive            where chunks are that were archived; each left a stub, chunks/00000003.archived
//! DIR/chunks.damaged-N/  what repair replaced
//! DIR/checkpoint.cosigned  the latest that a witness cosigned; may be missing
//!
//! chunk    header, group, group, …, zeros or nothing
//! header   0        8        12      28      32              40          48       60      64
//!          │"HTTTLOG"│version│log id │number │first position │created ms │ zeros │CRC32C │
//! group    entry frame, entry frame, …, commit marker                   never spans chunks
//! frame    0       4       8     9      12        20
//!          │length │CRC32C │kind │group │position │payload (length bytes)
//!            CRC32C starts from that of the log id and covers everything else of the frame
//!            kind 1: an entry; its position;        payload: encoded SealedBatch
//!            kind 2: commit; log length after it;   payload:
//!          0              8       12     16           24            32          64
//!          │first position│entries│CRC   │group start │committed ms │Merkle root │
//!            CRC over the CRCs of the group's entry frames; group: number of the group in its chunk
//! ```
//! Integers are little-endian.
//!
//! # Recovery
//!
//! Every group is synced before the next is begun, so only the last group can be torn. Bytes that make no sense are a
//! torn tail, and are cut and reported, if no intact frame of a later group follows them; otherwise they are damage,
//! and the log does not open but says which chunk, byte and position. A log shorter than its signed checkpoint, or
//! with another root, does not open either. An index that disagrees with the chunks, panics or is missing is moved
//! aside and built anew; so is one that failed while the log was open, which a mark beside it remembers.
//!
//! What is recovered may have been read from the page cache and never have reached the disk. Before anybody is told of
//! it, the last chunk's tail is written again and synced, and the folders are.
//!
//! # Keeping it safe
//!
//! [`backup()`] copies a log that is being written, as of a commit; [`restore()`] makes a log of it again, verified;
//! [`archive()`] moves old chunks to another folder, where readers find them; [`repair()`] makes damaged bytes again,
//! exactly as they were, from copies of the log or from whoever holds the same feeds ([`Donor`]). A log can be opened
//! with [`Options::read_only`]. `docs/backup.md` is for operators.
//!
//! # Concurrency
//!
//! One thread writes; it commits whatever waits as one group: one write, one `fdatasync`, one signature per feed.
//! [`Log::commit`] returns after that. Reading blocks the caller for a `pread` and sees durable entries only; any number
//! of readers work beside the writer and never slow it. Within a group, copies come before own events; events of one
//! feed keep the order in which their transactions came; events of different feeds have no order.
//!
//! After a failed `fsync`, or a failed write that cannot be undone, every commit fails with [`CommitError::Poisoned`]
//! until the log is opened anew; reading goes on. A full disk fails the commits it hits and nothing else.
//!
//! # Scope
//!
//! In scope: storing, ordering, finding, proving ([`tlog`]: tiles and proofs for other people's software). Out of scope: what events mean; verifying other origins' batches
//! ([`httt_feed::Directory`] does, the type [`httt_feed::VerifiedBatch`] says that it was done); carrying them; deleting
//! anything. Unix only: it needs positioned reads and folder fsync.

mod audit;
mod catalogue;
mod checkpoint;
mod chunks;
mod clock;
mod entry;
mod error;
mod files;
mod filter;
mod frame;
mod group;
mod guarded;
mod index;
mod keep;
mod log;
mod merkle;
mod offline;
mod open;
mod places;
mod read;
mod recover;
mod root;
mod scan;
mod shared;
mod subscribe;
mod tail;
pub mod tlog;
mod transaction;
mod vet;
mod writer;

#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod inner;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod fuzz_tests;

pub use audit::{
    AuditError, AuditOptions, AuditProgress, AuditReport, CheckpointCheck, Finding, GatewayKey, MAX_FINDINGS,
    OnProgress, audit,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use entry::{Direction, Entry, EventPage, EventPosition, FeedHead, Filter, RecordedEvent, SealedEntry};
pub use error::{CommitError, Damage, OpenError, ReadError};
pub use group::{MAX_TRANSACTION_BYTES, MAX_TRANSACTION_ITEMS};
pub use guarded::{Change, GuardedStore, StoreError};
pub use keep::{
    ArchiveReport, BackupOptions, BackupReport, Donor, KeepError, KeepProgress, MIN_KEPT_CHUNKS, OnKeepProgress,
    RepairError, RepairOptions, RepairReport, RepairedSpan, RestoreReport, Unrepaired, archive, backup, repair,
    restore,
};
pub use log::{Log, Options};
pub use offline::{ScanEntries, scan_entries};
pub use open::{IndexState, OpenReport};
pub use read::MAX_SCAN_ENTRIES;
pub use recover::CutTail;
pub use root::RunningRoot;
pub use subscribe::Subscription;
pub use transaction::{Committed, Derive, Expected, NewEvent, Placed, Transaction};
pub use writer::{MAX_GROUP_BYTES, MAX_GROUP_TRANSACTIONS, MAX_QUEUED};
