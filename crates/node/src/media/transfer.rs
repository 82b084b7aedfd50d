//! One media file from a peer or to it, in ranges, going on where an earlier try broke off.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use httt_exchange::{Bandwidth, Flow, MAX_MEDIA_RANGE, Meter, Peer, PeerError, Taken, Topic};
use httt_feed::Digest;
use httt_wire::exchange as wire;

use super::{MediaStore, MediaStoreError};

/// Why a media file was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The peer.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The peer would not.
    #[error("the peer refused: {0}")]
    Refused(String),
    /// The peer answers, and holds or gives no more than before.
    #[error("the peer makes no progress")]
    NoProgress,
    /// The local store.
    #[error(transparent)]
    Media(#[from] MediaStoreError),
}

/// Least bytes asked for in one call, however thin the link.
const MIN_RANGE: usize = 16 * 1024;

/// A transfer waits for a peer that is busy so often in a row; then it is tried again later.
const MAX_BUSY_IN_A_ROW: u32 = 5;

/// A longer pause ends the transfer: whoever wants the file tries again, and has others to move meanwhile.
const MAX_BUSY_PAUSE_MS: u32 = 10_000;

/// So many full ranges in a row must get through before a larger one is tried.
const GROW_AFTER: u32 = 4;

/// How much is moved in one call: halved when a call fails, since a thin link may not carry more in time or at all, and
/// doubled when some got through. One for each link.
#[derive(Debug)]
pub struct RangeSize(Mutex<Pace>);

#[derive(Debug)]
struct Pace {
    bytes: usize,
    /// Full ranges that got through, one after the other.
    through: u32,
}

impl Default for RangeSize {
    fn default() -> Self {
        Self(Mutex::new(Pace { bytes: MAX_MEDIA_RANGE, through: 0 }))
    }
}

impl RangeSize {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self) -> usize {
        self.pace().bytes
    }

    /// Learns from a call that moved, or should have moved, so many bytes.
    fn learn<T>(&self, bytes: usize, result: Result<T, PeerError>) -> Result<T, PeerError> {
        let mut pace = self.pace();
        match &result {
            Ok(_) if bytes >= pace.bytes => pace.through += 1,
            Ok(_) => {}
            Err(_) => *pace = Pace { bytes: (pace.bytes / 2).max(MIN_RANGE), through: 0 },
        }
        if pace.through >= GROW_AFTER {
            *pace = Pace { bytes: (pace.bytes * 2).min(MAX_MEDIA_RANGE), through: 0 };
        }
        drop(pace);
        result
    }
}

/// One way to a peer, and what files that go over it have in common.
pub struct Transfers<'a, P> {
    /// Where to.
    pub peer: &'a P,
    /// What is here.
    pub store: &'a MediaStore,
    /// How much goes in one call.
    pub range: &'a RangeSize,
    /// Counts what goes over the wire.
    pub meter: &'a Meter,
    /// The link's limit.
    pub bandwidth: Option<&'a Bandwidth>,
}

impl<P: Peer> Transfers<'_, P> {
    /// Fetches a file unless it is held. `urgent`: by the connection that bulk does not use, and at once whatever the
    /// link's limit.
    ///
    /// # Errors
    /// The peer is away or does not have it (yet), or the store said no: try again later.
    pub async fn fetch(&self, digest: Digest, urgent: bool) -> Result<(), TransferError> {
        let mut stat = self.store.stat(digest).await?;
        let mut patience = Patience::default();
        while !stat.complete {
            let (most, taken) = self.turn(urgent).await;
            let sha256 = digest.0.to_vec();
            let request = wire::ReadMediaRequest { sha256, offset: stat.held, max_bytes: most as u32, urgent };
            let sent = Flow::message(&request);
            let answer = self.range.learn(most, self.peer.read_media(request).await)?;
            self.count(taken, sent, Flow::message(&answer).with_content((0, answer.data.len())));
            if let Some(refusal) = answer.refusal {
                patience.wait_or_give_up(refusal).await?;
                continue;
            }
            patience = Patience::default();
            // At the end an empty piece is the last: everything is here, and was not verified yet.
            if answer.data.is_empty() && stat.held != answer.size {
                return Err(TransferError::NoProgress);
            }
            stat = self.store.write_at(digest, answer.size, stat.held, answer.data).await?;
        }
        Ok(())
    }

    /// Sends a file unless the peer holds it. `urgent` as for [`Transfers::fetch`].
    ///
    /// # Errors
    /// As [`Transfers::fetch`].
    pub async fn send(&self, digest: Digest, urgent: bool) -> Result<(), TransferError> {
        let sha256 = digest.0.to_vec();
        let stat = || self.peer.stat_media(wire::StatMediaRequest { sha256: sha256.clone(), urgent });
        let mut state = stat().await?;
        let mut patience = Patience::default();
        loop {
            if let Some(refusal) = state.refusal {
                patience.wait_or_give_up(refusal).await?;
                state = stat().await?;
                continue;
            }
            if state.complete {
                return Ok(());
            }
            let (most, taken) = self.turn(urgent).await;
            let (data, size) = self.store.read_range(digest, state.held, most as u64).await?;
            let (sha256, offset, bytes) = (sha256.clone(), state.held, data.len());
            let request = wire::WriteMediaRequest { sha256, size, offset, data, urgent };
            let sent = Flow::message(&request).with_content((0, bytes));
            let next = self.range.learn(bytes, self.peer.write_media(request).await)?;
            self.count(taken, sent, Flow::message(&next));
            if !next.complete && next.refusal.is_none() && next.held <= offset {
                return Err(TransferError::NoProgress);
            }
            if next.refusal.is_none() {
                patience = Patience::default();
            }
            state = next;
        }
    }

    /// Waits for a turn; gives the size of the range, and what was taken of the bandwidth for it.
    async fn turn(&self, urgent: bool) -> (usize, Option<Taken>) {
        let most = self.range.get();
        match self.bandwidth {
            None => (most, None),
            Some(bandwidth) if urgent => (bandwidth.burst_bytes().clamp(1, most), None),
            Some(bandwidth) => {
                let taken = bandwidth.media_turn().await;
                (taken.bytes().clamp(1, most), Some(taken))
            }
        }
    }

    fn count(&self, taken: Option<Taken>, sent: Flow, received: Flow) {
        self.meter.count(self.peer.name(), Topic::Media, sent, received);
        let bytes = usize::try_from(sent.wire_bytes + received.wire_bytes).unwrap_or(usize::MAX);
        match (self.bandwidth, taken) {
            (_, Some(taken)) => taken.settle(bytes),
            (Some(bandwidth), None) => bandwidth.urgent_media(bytes),
            (None, None) => {}
        }
    }
}

/// How often a peer said in a row that it is busy.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    /// Waits as long as a busy peer says; any other refusal, or the same one again and again, ends the transfer.
    async fn wait_or_give_up(&mut self, refusal: wire::Refusal) -> Result<(), TransferError> {
        self.0 += 1;
        let long = refusal.retry_after_ms > MAX_BUSY_PAUSE_MS;
        if refusal.code() != wire::RefusalCode::Busy || long || self.0 > MAX_BUSY_IN_A_ROW {
            return Err(TransferError::Refused(refusal.message));
        }
        tokio::time::sleep(Duration::from_millis(refusal.retry_after_ms.max(1).into())).await;
        Ok(())
    }
}
