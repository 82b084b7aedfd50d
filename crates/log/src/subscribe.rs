//! A subscription: catches up from the chunks, then waits for what is new.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;

use crate::ReadError;
use crate::entry::{Direction, Entry};
use crate::shared::Shared;

/// Most entries a subscription holds in memory.
const BUFFER_ENTRIES: usize = 64;
/// Most bytes a subscription holds in memory, one entry aside.
const BUFFER_BYTES: usize = 1 << 20;

/// Every entry from some position on, each once, in order, but those that went by retention. It reads the chunks itself, so a slow reader costs the
/// writer nothing.
#[derive(Debug)]
pub struct Subscription {
    shared: Arc<Shared>,
    length: watch::Receiver<u64>,
    next: u64,
    buffer: VecDeque<Entry>,
    gone: u64,
}

impl Subscription {
    pub(crate) fn new(shared: Arc<Shared>, length: watch::Receiver<u64>, from: u64) -> Self {
        Self { shared, length, next: from, buffer: VecDeque::new(), gone: 0 }
    }

    /// The position that [`Subscription::next`] gives next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Entries passed over so far because they went by retention.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// The next entry, waiting for it if need be. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`ReadError::Closed`] once the log is closed and everything was given. After another error the same entry is
    /// tried again.
    pub async fn next(&mut self) -> Result<Entry, ReadError> {
        loop {
            if let Some(entry) = self.buffer.pop_front() {
                self.gone += entry.position - self.next;
                self.next = entry.position + 1;
                return Ok(entry);
            }
            let length = *self.length.borrow_and_update();
            if self.next < length {
                self.buffer = self.shared.read(self.next, BUFFER_ENTRIES, BUFFER_BYTES, Direction::Forward)?.into();
            } else if self.length.changed().await.is_err() && *self.length.borrow() <= self.next {
                return Err(ReadError::Closed);
            }
        }
    }
}
