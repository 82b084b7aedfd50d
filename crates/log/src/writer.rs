//! The one thread that writes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use httt_feed::{Digest, VerifiedBatch};
use tokio::sync::{mpsc, oneshot, watch};

use crate::chunks::Location;
use crate::clock::Clock;
use crate::files::Files;
use crate::frame::{GroupBuffer, Seed};
use crate::group::{Group, Outcome};
use crate::index::{IndexedEntry, Tip};
use crate::merkle::CompactRange;
use crate::shared::Shared;
use crate::tail::{Tail, TailError};
use crate::{CommitError, Committed, FeedHead, Transaction, checkpoint};

/// Requests that wait in front of the writer; more callers wait for room.
pub const MAX_QUEUED: usize = 1_024;
/// Bytes of transactions that wait in front of the writer or are being written; more callers wait for room.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;
/// Most transactions in one commit group.
pub const MAX_GROUP_TRANSACTIONS: usize = 4_096;
/// A commit group is closed when it has so many bytes; the last transaction may take it beyond.
pub const MAX_GROUP_BYTES: usize = 4 << 20;

type Answer = oneshot::Sender<Result<Committed, CommitError>>;

/// What callers ask of the writer.
#[derive(Debug)]
pub(crate) enum Request {
    Commit(Box<Transaction>, Answer),
    Checkpoint(oneshot::Sender<Result<String, CommitError>>),
    Close(oneshot::Sender<()>),
}

/// The writer's state.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) checkpoint_every: Duration,
    pub(crate) tail: Tail,
    pub(crate) range: CompactRange,
    /// Size that the checkpoint on disk vouches for, if it is signed by the present key.
    pub(crate) checkpointed: Option<u64>,
    pub(crate) length: watch::Sender<u64>,
    /// When the next checkpoint is due.
    due: Option<Instant>,
    poison: Option<String>,
}

/// What a [`Writer`] starts from.
#[derive(Debug)]
pub(crate) struct WriterParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) files: Arc<dyn Files>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) checkpoint_every: Duration,
    pub(crate) tail: Tail,
    pub(crate) range: CompactRange,
    pub(crate) checkpointed: Option<u64>,
    pub(crate) length: watch::Sender<u64>,
}

impl Writer {
    pub(crate) fn new(parts: WriterParts) -> Self {
        let WriterParts { shared, files, clock, checkpoint_every, tail, range, checkpointed, length } = parts;
        let due = (checkpointed != Some(range.size())).then(|| Instant::now() + checkpoint_every);
        Self { shared, files, clock, checkpoint_every, tail, range, checkpointed, length, due, poison: None }
    }

    /// Serves requests until told to close or until nobody is left to ask. Gives back who wants to hear of the end.
    pub(crate) async fn run(mut self, mut requests: mpsc::Receiver<Request>) -> Option<oneshot::Sender<()>> {
        let mut next = None;
        let closer = loop {
            let request = match (next.take(), self.due) {
                (Some(request), _) => Some(request),
                (None, None) => requests.recv().await,
                (None, Some(due)) => match tokio::time::timeout_at(due.into(), requests.recv()).await {
                    Ok(request) => request,
                    Err(_) => {
                        self.checkpoint_if_due();
                        continue;
                    }
                },
            };
            match request {
                None => break None,
                Some(Request::Close(answer)) => break Some(answer),
                Some(Request::Checkpoint(answer)) => {
                    // Nobody waiting for an answer any more is no reason to stop; the same below.
                    let _ = answer.send(self.write_checkpoint());
                }
                Some(Request::Commit(transaction, answer)) => {
                    next = self.commit_group(*transaction, answer, &mut requests);
                }
            }
            self.checkpoint_if_due();
        };
        requests.close();
        while let Ok(request) = requests.try_recv() {
            match request {
                Request::Commit(_, answer) => drop(answer.send(Err(CommitError::Closed))),
                Request::Checkpoint(answer) => drop(answer.send(Err(CommitError::Closed))),
                // Its receiver takes the dropped sender for the end that it is.
                Request::Close(_) => {}
            }
        }
        if self.poison.is_none() && self.checkpointed != Some(self.range.size()) {
            // A failure was logged; entries are on disk all the same.
            let _ = self.write_checkpoint();
        }
        if let Err(error) = self.tail.trim() {
            tracing::debug!(?error, "the zeros after the last entry stay; the next open cuts them");
        }
        if let Err(error) = self.shared.index.flush() {
            tracing::warn!(%error, "the index could not be flushed; it catches up at the next open");
        }
        closer
    }

    /// Takes `first` and whatever is queued into one group and commits it. Gives back a request that has to wait.
    fn commit_group(
        &mut self,
        first: Transaction,
        answer: Answer,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Option<Request> {
        if self.poison.is_none()
            && let Some(reason) = self.shared.index.failed()
        {
            let reason = format!("the index failed, opening the log anew rebuilds it: {reason}");
            self.set_poison(reason);
        }
        if let Some(reason) = &self.poison {
            let _ = answer.send(Err(CommitError::Poisoned(reason.clone())));
            return None;
        }
        let shared = Arc::clone(&self.shared);
        let now_ms = self.clock.now_ms();
        let mut group = Group::new(&shared, self.range.size(), now_ms);
        let mut waiting: Vec<(Answer, Result<Outcome, CommitError>)> = vec![(answer, group.admit(first))];
        let mut left = None;
        while waiting.len() < MAX_GROUP_TRANSACTIONS && group.bytes() < MAX_GROUP_BYTES {
            match requests.try_recv() {
                Ok(Request::Commit(transaction, answer)) if !group.must_wait(&transaction) => {
                    waiting.push((answer, group.admit(*transaction)));
                }
                Ok(request) => {
                    left = Some(request);
                    break;
                }
                Err(_) => break,
            }
        }
        let sealed = match group.seal() {
            Ok(sealed) => sealed,
            Err(refusal) => {
                for (answer, _) in waiting {
                    let _ = answer.send(Err(refusal.clone().into()));
                }
                return left;
            }
        };
        let written = if sealed.entries.is_empty() { Ok(()) } else { self.write(&sealed.entries, now_ms) };
        let next = self.range.size();
        // Refusals wait for the disk too: they may rest on what others of the group were to write.
        for (answer, outcome) in waiting {
            let result = match &written {
                Ok(()) => outcome.map(|outcome| sealed.answer(outcome, next)),
                Err(error) => Err(error.clone()),
            };
            let _ = answer.send(result);
        }
        left
    }

    /// Puts a group on disk, then into the index, then before the readers' eyes.
    fn write(&mut self, entries: &[(VerifiedBatch, Digest)], now_ms: i64) -> Result<(), CommitError> {
        self.shared.index.make_room().map_err(CommitError::IndexFull)?;
        let first = self.range.size();
        let size = GroupBuffer::size(entries.iter().map(|(entry, _)| entry.bytes().len()));
        self.tail.make_room(size, first, now_ms).map_err(|error| self.failed(error))?;
        let at = self.tail.at();
        let seed = Seed::of(&self.shared.log_id);
        let mut buffer = GroupBuffer::new(seed, at.end, at.group, first, size);
        let mut range = self.range.clone();
        let (mut indexed, mut nodes) = (Vec::with_capacity(entries.len()), Vec::new());
        for (entry, leaf) in entries {
            let leaf = *leaf;
            let offset = buffer.push(entry.bytes());
            let location = Location { chunk: at.number, offset, length: entry.bytes().len() as u32 };
            let (feed, head, events) = (entry.feed(), entry.head(), entry.batch().events.as_slice());
            indexed.push(IndexedEntry { at: location, leaf, feed, head, at_ms: now_ms, events });
            range.push(leaf, |node| nodes.push(node));
        }
        let (bytes, marker) = buffer.finish(now_ms, range.root());
        debug_assert_eq!(bytes.len(), size);
        self.tail.write(&bytes).map_err(|error| self.failed(error))?;

        // From here on the group is in the log, whatever happens.
        self.range = range;
        let (chunk, end, group) = (at.number, self.tail.at().end, at.group);
        self.shared.index.add(&indexed, nodes, Tip { chunk, end, marker, group, range: self.range.clone() });
        let heads = entries.iter().enumerate().map(|(n, (entry, _))| FeedHead {
            feed: entry.feed().clone(),
            head: entry.head(),
            position: first + n as u64,
        });
        self.shared.publish(heads, self.range.size());
        self.length.send_replace(self.range.size());
        self.due.get_or_insert_with(|| Instant::now() + self.checkpoint_every);
        Ok(())
    }

    fn failed(&mut self, error: TailError) -> CommitError {
        match error {
            TailError::Full(what) => {
                tracing::warn!(what, "no space left for the log");
                CommitError::DiskFull(what)
            }
            TailError::Failed(what) => {
                tracing::error!(what, "a write to the log failed and was undone");
                CommitError::WriteFailed(what)
            }
            TailError::Broken(what) => {
                self.set_poison(what.clone());
                CommitError::Poisoned(what)
            }
        }
    }

    fn set_poison(&mut self, reason: String) {
        tracing::error!(reason, "the log takes no more writes until it is opened anew");
        self.shared.set_poison(&reason);
        self.poison = Some(reason);
        self.due = None;
    }

    fn checkpoint_if_due(&mut self) {
        if self.due.is_some_and(|due| due <= Instant::now()) && self.poison.is_none() {
            // A failure was logged, and is tried again when the next one is due.
            let _ = self.write_checkpoint();
        }
    }

    fn write_checkpoint(&mut self) -> Result<String, CommitError> {
        if let Some(reason) = &self.poison {
            return Err(CommitError::Poisoned(reason.clone()));
        }
        if self.checkpointed == Some(self.range.size()) {
            self.due = None;
            return Ok(self.shared.checkpoint());
        }
        let statement = checkpoint::Statement { size: self.range.size(), root: self.range.root() };
        let written = checkpoint::sign(statement, &self.shared.sealer()).and_then(|text| {
            let done = checkpoint::write_file(self.files.as_ref(), &self.shared.dir, &text);
            done.map(|()| text).map_err(|error| error.to_string())
        });
        match written {
            Ok(text) => {
                self.checkpointed = Some(statement.size);
                self.due = None;
                self.shared.set_checkpoint(text.clone());
                Ok(text)
            }
            Err(error) => {
                tracing::warn!(error, "the checkpoint could not be written");
                self.due = Some(Instant::now() + self.checkpoint_every.max(Duration::from_secs(1)));
                Err(CommitError::WriteFailed(format!("the checkpoint: {error}")))
            }
        }
    }
}
