//! The handle.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Digest, FeedId, Head, KeyId, PublicKey, Sealer, SigningKey};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::clock::{Clock, SystemClock};
use crate::entry::{Direction, Entry, EventPage, EventPosition, FeedHead, Filter, RecordedEvent, SealedEntry};
use crate::files::{Files, SystemFiles};
use crate::open::{self, OpenReport};
use crate::shared::Shared;
use crate::subscribe::Subscription;
use crate::writer::{MAX_QUEUED, MAX_QUEUED_BYTES, Request, Writer, WriterParts};
use crate::{CommitError, Committed, OpenError, ReadError, Transaction};

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// A chunk that has reached so many bytes is closed and the next begun. A group larger than this gets a chunk of
    /// its own.
    pub chunk_bytes: u64,
    /// Memory for the index's filters; beyond it they are read from disk.
    pub index_cache_bytes: u64,
    /// Events that the index keeps in memory before it writes them out: about 200 bytes each, at most three times so
    /// many. As many are read again from the chunks after a crash.
    pub index_run_events: usize,
    /// The longest time between a commit and a checkpoint that covers it.
    pub checkpoint_every: Duration,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Look, but write nothing: commits and checkpoints are refused with [`CommitError::ReadOnly`], a torn tail is
    /// reported and left where it is, and nothing is signed. Only the index is built or brought up to date. The
    /// folder is locked all the same, so nobody writes meanwhile.
    pub read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_bytes: 64 << 20,
            index_cache_bytes: 8 << 20,
            index_run_events: 32_768,
            checkpoint_every: Duration::from_secs(1),
            clock: Arc::new(SystemClock),
            read_only: false,
        }
    }
}

/// An open log. Cheap to clone; all clones are the same log.
///
/// The folder is locked until the last clone and the last [`Subscription`] are gone and the writer has ended, which
/// [`Log::close`] waits for.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
    length: watch::Receiver<u64>,
    room: Arc<Semaphore>,
}

impl Log {
    /// Opens the log in `dir`, creating it if there is none; `sealer` signs what this node says. Blocks: for
    /// milliseconds as a rule, for as long as reading everything takes when the index has to be rebuilt.
    ///
    /// # Errors
    /// See [`OpenError`]. A torn tail is no error; it is cut and reported.
    pub fn open(dir: &Path, sealer: Arc<Sealer>, options: Options) -> Result<(Self, OpenReport), OpenError> {
        Self::open_with(dir, sealer, options, Arc::new(SystemFiles))
    }

    pub(crate) fn open_with(
        dir: &Path,
        sealer: Arc<Sealer>,
        options: Options,
        files: Arc<dyn Files>,
    ) -> Result<(Self, OpenReport), OpenError> {
        let opened = open::open(dir, sealer, &options, Arc::clone(&files))?;
        Self::start(opened, options, files)
    }

    /// Starts the writer of an opened log.
    pub(crate) fn start(
        opened: open::Opened,
        options: Options,
        files: Arc<dyn Files>,
    ) -> Result<(Self, OpenReport), OpenError> {
        let shared = opened.shared;
        let (sender, length) = watch::channel(shared.length());
        let (requests, queue) = mpsc::channel(MAX_QUEUED);
        let room = Arc::new(Semaphore::new(MAX_QUEUED_BYTES));
        let Some(tail) = opened.tail else {
            // Read-only: there is no writer, and nothing will ever be added.
            return Ok((Self { shared, requests, length, room }, opened.report));
        };
        let writer = Writer::new(WriterParts {
            shared: Arc::clone(&shared),
            files,
            clock: options.clock,
            checkpoint_every: options.checkpoint_every,
            tail,
            range: opened.range,
            checkpointed: opened.checkpointed,
            length: sender,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(OpenError::io("starting the writer"))?;
        let watched = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("httt-log".into())
            .spawn(move || {
                let run = AssertUnwindSafe(|| runtime.block_on(writer.run(queue)));
                let closer = catch_unwind(run).unwrap_or_else(|_| {
                    // Callers hear `Closed`; whoever watches must not take that for health.
                    watched.set_poison("the writer panicked; open the log anew");
                    tracing::error!("the log's writer panicked");
                    None
                });
                // The folder stays locked while anybody holds on to it.
                drop(watched);
                if let Some(closer) = closer {
                    // Whoever asked may have stopped waiting.
                    let _ = closer.send(());
                }
            })
            .map_err(OpenError::io("starting the writer"))?;
        Ok((Self { shared, requests, length, room }, opened.report))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Commits a transaction, all of it or nothing. When this returns, it is on disk. If the future is dropped before,
    /// the transaction may or may not be committed; committing it again with the same event ids is safe.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub async fn commit(&self, transaction: Transaction) -> Result<Committed, CommitError> {
        if self.shared.read_only {
            return Err(CommitError::ReadOnly);
        }
        // Held until the answer is there: what waits in front of the writer takes bounded memory.
        let size = transaction.weight().clamp(1, MAX_QUEUED_BYTES);
        let _room = self.room.acquire_many(size as u32).await.map_err(|_| CommitError::Closed)?;
        let (sender, receiver) = oneshot::channel();
        let request = Request::Commit(Box::new(transaction), sender);
        self.requests.send(request).await.map_err(|_| CommitError::Closed)?;
        receiver.await.unwrap_or(Err(CommitError::Closed))
    }

    /// The log's id, made when it was created.
    pub fn log_id(&self) -> [u8; 16] {
        self.shared.log_id
    }

    /// The log's folder.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Whether it was opened with [`Options::read_only`].
    pub fn is_read_only(&self) -> bool {
        self.shared.read_only
    }

    /// Seals what this node says, as it does at this moment: it is another one once the node's key has changed.
    pub fn sealer(&self) -> Arc<Sealer> {
        self.shared.sealer()
    }

    /// Whose log it is.
    pub fn origin(&self) -> &AgencyCode {
        &self.shared.origin
    }

    /// The key that seals what this node says, and signs its checkpoints.
    pub fn public_key(&self) -> PublicKey {
        self.shared.sealer().key().public().clone()
    }

    /// Seals with another key of the same node from the next group on; what was committed when this is called may still
    /// be sealed with the one before, what is committed after it returned is not. Whoever copies from this log must know
    /// the key before. The next checkpoint is signed with it.
    pub fn change_key(&self, key: SigningKey) {
        self.shared.set_sealer(Sealer::new(self.shared.origin.clone(), key));
    }

    /// The last sequence of `feed`, one of this node's, that the key before the present one sealed; `None`: none.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn last_sealed_before(&self, feed: &FeedId, key: KeyId) -> Result<Option<u64>, ReadError> {
        let present = self.public_key().id();
        let mut last = self.head(feed).map_or(0, |head| head.sequence);
        // Few have been sealed since the change when this is asked.
        while last > 0 {
            let entry = self.shared.read_feed(feed, last - 1, 1)?.into_iter().next();
            match entry.and_then(|entry| httt_feed::parse(entry.bytes).ok()).map(|batch| batch.key()) {
                Some(by) if by == key => return Ok(Some(last)),
                Some(by) if by == present => last -= 1,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Durable entries.
    pub fn len(&self) -> u64 {
        self.shared.length()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The log's length, told when it has grown. What it tells of is durable and readable.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.length.clone()
    }

    /// The head of a feed; `None`: nothing of it is held.
    pub fn head(&self, feed: &FeedId) -> Option<Head> {
        self.shared.head(feed)
    }

    /// All feeds held, by name.
    pub fn heads(&self) -> Vec<FeedHead> {
        self.shared.heads()
    }

    /// Feeds whose latest batch stands at `position` or later, by position; costs as much as there are of them.
    pub fn heads_since(&self, position: u64) -> Vec<FeedHead> {
        self.shared.heads_since(position)
    }

    /// Batches of `feed` after sequence `after`: at least one if there is any, more while they fit in `max_bytes`. After
    /// 0 is from the first one held, which is a later one than the first where the feed was taken up at a restatement.
    ///
    /// # Errors
    /// [`ReadError::Gone`]: the first of them went by retention; else what comes before one that went is given. The rest
    /// of [`ReadError`], for everything below as well.
    pub fn read_feed(&self, feed: &FeedId, after: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.shared.read_feed(feed, after, max_bytes)
    }

    /// The first sequence held of a feed: 1, or that of the restatement at which this log took it up; `None`: nothing of
    /// it is held.
    pub fn begins(&self, feed: &FeedId) -> Result<Option<u64>, ReadError> {
        self.shared.begins(feed)
    }

    /// The latest sequence of a feed of the lane `status` whose batch restates, if one is held among the last 16,384.
    pub fn restated(&self, feed: &FeedId) -> Result<Option<u64>, ReadError> {
        self.shared.restated(feed)
    }

    /// Digest of one batch, also of one that went by retention.
    pub fn batch_digest(&self, feed: &FeedId, sequence: u64) -> Result<Option<Digest>, ReadError> {
        match self.shared.batch(feed, sequence) {
            Err(ReadError::Gone(gone)) => Ok(Some(gone.digest)),
            batch => Ok(batch?.map(|(entry, _)| entry.digest)),
        }
    }

    /// RFC 6962 leaf hash of one batch, which the index knows even while its chunk is away.
    pub fn batch_leaf(&self, feed: &FeedId, sequence: u64) -> Result<Option<Digest>, ReadError> {
        Ok(self.shared.batch_row(feed, sequence)?.map(|(_, row)| row.leaf))
    }

    /// Bytes of one batch that went by retention, or is in an archived chunk whose archive folder is not there; `None`:
    /// it is not away.
    pub fn batch_away(&self, feed: &FeedId, sequence: u64) -> Result<Option<u32>, ReadError> {
        let Some((position, row)) = self.shared.batch_row(feed, sequence)? else { return Ok(None) };
        Ok(self.shared.chunks.is_away(row.at, position)?.then_some(row.at.length))
    }

    /// When this log committed a batch, Unix milliseconds; `None`: it does not hold it.
    pub fn batch_committed_ms(&self, feed: &FeedId, sequence: u64) -> Result<Option<i64>, ReadError> {
        Ok(self.shared.batch_row(feed, sequence)?.map(|(_, row)| row.at_ms))
    }

    /// Entries from `from` on: at least one if there is any, more while they fit. Those that went by retention are
    /// passed over, here and below, so positions may have gaps.
    pub fn read(&self, from: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.shared.read(from, max_entries, max_bytes, Direction::Forward)
    }

    /// Entries before `before`, newest first; `u64::MAX` begins at the end.
    pub fn read_backward(&self, before: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        self.shared.read(before, max_entries, max_bytes, Direction::Backward)
    }

    /// The same as [`Log::read`] without decoding: for whoever carries, hashes or copies entries.
    pub fn read_sealed(&self, from: u64, max_entries: usize, max_bytes: usize) -> Result<Vec<SealedEntry>, ReadError> {
        self.shared.read_sealed(from, max_entries, max_bytes, Direction::Forward)
    }

    /// Up to `max` events of a stream. Forward: version `from` and later. Backward: version `from` and earlier,
    /// latest first; `u64::MAX` begins at the end.
    pub fn read_stream(
        &self,
        origin: &AgencyCode,
        stream: &str,
        from: u64,
        direction: Direction,
        max: usize,
    ) -> Result<Vec<RecordedEvent>, ReadError> {
        self.shared.read_stream(origin, stream, from, direction, max)
    }

    /// The version of a stream's latest event; `None`: it has none.
    pub fn stream_version(&self, origin: &AgencyCode, stream: &str) -> Result<Option<u64>, ReadError> {
        self.shared.stream_version(origin, stream)
    }

    /// The event with this id: this node's own if there is one, else another origin's.
    pub fn event(&self, id: Uuid) -> Result<Option<RecordedEvent>, ReadError> {
        self.shared.event(id)
    }

    /// Up to `max` events that match. Forward: `from` and later. Backward: before `from`, latest first;
    /// [`EventPosition::END`] begins at the end. One call looks at no more than [`crate::MAX_SCAN_ENTRIES`] entries;
    /// [`EventPage::more`] says whether to go on at [`EventPage::next`].
    pub fn events(
        &self,
        from: EventPosition,
        filter: &Filter,
        direction: Direction,
        max: usize,
    ) -> Result<EventPage, ReadError> {
        self.shared.events(from, filter, direction, max)
    }

    /// Every entry from `from` on, and every one that is committed from now on.
    pub fn subscribe(&self, from: u64) -> Subscription {
        Subscription::new(Arc::clone(&self.shared), self.length.clone(), from)
    }

    /// Why the log takes no more writes, if it does not: a failed fsync, or an index that failed while running.
    pub fn poisoned(&self) -> Option<&str> {
        self.shared.poisoned()
    }

    /// RFC 6962 root over the first `size` entries.
    pub fn root(&self, size: u64) -> Result<Digest, ReadError> {
        self.shared.root(size)
    }

    /// The last checkpoint written: a signed note, empty before the first.
    pub fn checkpoint(&self) -> String {
        self.shared.checkpoint()
    }

    /// Writes a checkpoint of the log as it is now, and gives it.
    ///
    /// # Errors
    /// [`CommitError::WriteFailed`], [`CommitError::Poisoned`], [`CommitError::ReadOnly`], [`CommitError::Closed`].
    pub async fn write_checkpoint(&self) -> Result<String, CommitError> {
        if self.shared.read_only {
            return Err(CommitError::ReadOnly);
        }
        let (sender, receiver) = oneshot::channel();
        self.requests.send(Request::Checkpoint(sender)).await.map_err(|_| CommitError::Closed)?;
        receiver.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Commits what was asked for before, writes a checkpoint, flushes the index and ends the writer. Later commits by
    /// other clones fail with [`CommitError::Closed`]; reading goes on as long as a clone lives.
    pub async fn close(self) {
        let (sender, receiver) = oneshot::channel();
        if self.requests.send(Request::Close(sender)).await.is_ok() {
            // An error says as well that the writer is gone.
            let _ = receiver.await;
        }
    }
}
