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
//! DIR/chunks/00000005.thin      in place of a chunk: what is left where entries went by retention
//! DIR/index/             derived from the chunks; may be deleted at any time the log is closed
//! DIR/index.damaged-N/   indexes that were in doubt, the last two
//! DIR/checkpoint         signed note: so many entries, this root
//! DIR/archive            where chunks are that were archived; each left a stub, chunks/00000003.archived
//! DIR/chunks.damaged-N/  what repair replaced
//! DIR/checkpoint.cosigned  the latest that a witness cosigned; may be missing
//! DIR/lock               a process has it open
//! DIR/index.doubtful     the index failed while the log was open
//! DIR/index.knew         entries that an index knew which was set aside; gone once the log was opened
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
//! Integers are little-endian. A chunk that is written to is filled with zeros ahead of its end, up to 4 MiB, since a
//! sync costs less where the file's length stays as it is; closing the log cuts them off.
//!
//! The index is sorted runs and flat rows with a checksum on each row, bucket and block; sled holds the list of the
//! runs and the feeds' heads. What the newest 32,768 events add is in memory until a thread writes it as a run, and is
//! read from the chunks again after a crash.
//!
//! # Recovery
//!
//! Every group is synced before the next is begun, so only the last group can be torn. Bytes that make no sense are a
//! torn tail, and are cut and reported, if no intact frame of a later group follows them; otherwise they are damage,
//! and the log does not open but says which chunk, byte and position. A log shorter than its signed checkpoint, or
//! with another root, does not open either. An index that disagrees with the chunks or is missing is moved aside and
//! built anew; so is one that failed while the log was open, which a mark beside it remembers. An index knows of an
//! entry only after it is on disk: where one knew of more than there is and something unreadable stands in its place,
//! that is damage, not a torn tail.
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
//! [`thin()`] lets old entries of other origins go, by lane and age: a thinned chunk keeps everything else byte for byte
//! and, of what went, digest, leaf hash and place. So roots, proofs, chains, heads and the index stay as they are;
//! reading such an entry is [`ReadError::Gone`], readers of many pass over it and count it.
//!
//! # Concurrency
//!
//! One thread writes; it commits whatever waits as one group: one write, one `fdatasync`, one signature per feed and
//! 60 KiB. [`Log::commit`] returns after that. Reading blocks the caller for a `pread` and sees durable entries only;
//! any number of readers work beside the writer and never slow it, and a [`Subscription`] holds 1 MiB at most. What
//! waits in front of the writer is bounded in number ([`MAX_QUEUED`]) and bytes ([`MAX_QUEUED_BYTES`]). Two more
//! threads write and merge the index's runs. Within a group, copies come before own events; events of one
//! feed keep the order in which their transactions came; events of different feeds have no order.
//!
//! After a failed `fsync`, or a failed write that cannot be undone, every commit fails with [`CommitError::Poisoned`]
//! until the log is opened anew; reading goes on. A full disk fails the commits it hits and nothing else; they work
//! again when there is space. `docs/log.md` tells an operator what each error means and what to do.
//!
//! # Idempotency
//!
//! An event id of this node's is looked for in the whole log, however old: appending it again with the same stream,
//! type, feed and data is success with the original position, whatever versions are expected; with other content it is
//! [`CommitError::IdConflict`].
//!
//! ```
//! # use std::sync::Arc;
//! # use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
//! # use httt_log::{CommitError, Direction, EventPosition, Expected, Filter, Log, NewEvent, Options, Transaction};
//! # use httt_wire::bulletin::BulletinWithdrawn;
//! # use uuid::Uuid;
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! # let dir = tempfile::tempdir()?;
//! # let sealer = Arc::new(Sealer::new(AgencyCode::new("TW")?, SigningKey::from_seed(&[1; 32])?));
//! # let (log, _) = Log::open(dir.path(), sealer, Options::default())?;
//! # let withdrawn = BulletinWithdrawn { bulletin: "b1".into(), reason: "superseded".into() };
//! # let event = |stream: &str| NewEvent::of(Audience::All, Lane::Content, stream, &withdrawn);
//! let transaction = || {
//!     let ids = [Uuid::from_u128(1), Uuid::from_u128(2)];
//!     let events = [event("bulletin/b1").with_id(ids[0]), event("audience/b1").with_id(ids[1])];
//!     Transaction::append(events).expecting("bulletin/b1", Expected::NoStream).expecting("audience/b1", Expected::NoStream)
//! };
//! let first = log.commit(transaction()).await?;
//! let again = log.commit(transaction()).await?;
//! assert_eq!(first.events, again.events);
//! let stale = Transaction::append([event("bulletin/b1")]).expecting("bulletin/b1", Expected::NoStream);
//! let refused = log.commit(stale).await;
//! assert!(matches!(refused, Err(CommitError::WrongExpectedVersion { actual: Some(1), .. })));
//!
//! // Reading by stream group, type, origin, lane and time, either way, passing over what the index rules out.
//! let filter = Filter { stream_prefix: Some("bulletin/".into()), lane: Some(Lane::Content), ..Filter::default() };
//! let page = log.events(EventPosition::END, &filter, Direction::Backward, 10)?;
//! assert_eq!((page.events.len(), page.more), (1, false));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Scope
//!
//! In scope: storing, ordering, finding, proving ([`tlog`]: tiles and proofs for other people's software), and keeping
//! safe. Out of scope: what events mean; verifying other origins' batches ([`httt_feed::Directory`] does, the type
//! [`httt_feed::VerifiedBatch`] says that it was done); carrying them; deleting what is this node's own. Unix only: it needs positioned
//! reads and folder fsync.

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
mod restated;
mod root;
mod scan;
mod shared;
mod subscribe;
mod tail;
mod thin;
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
    ArchiveReport, BackupOptions, BackupReport, Donor, KeepError, KeepProgress, LaneGone, MIN_FREED_SHARE,
    MIN_KEPT_CHUNKS, OnKeepProgress, RepairError, RepairOptions, RepairReport, RepairedSpan, RestoreReport, ThinReport,
    Unrepaired, archive, backup, repair, restore, thin,
};
pub use log::{Log, Options};
pub use offline::{ScanEntries, Scanned, scan_entries};
pub use open::{IndexState, OpenReport};
pub use read::MAX_SCAN_ENTRIES;
pub use recover::CutTail;
pub use root::RunningRoot;
pub use subscribe::Subscription;
pub use thin::GoneEntry;
pub use transaction::{Committed, Derive, Expected, NewEvent, Placed, Transaction};
pub use writer::{MAX_GROUP_BYTES, MAX_GROUP_TRANSACTIONS, MAX_QUEUED, MAX_QUEUED_BYTES};
