//! One media file from a peer or to it, in ranges, going on where an earlier try broke off.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use httt_exchange::{Flow, MAX_MEDIA_RANGE, Meter, Peer, PeerError, Topic};
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

/// Fetches a file unless it is held. `urgent`: by the connection that bulk does not use.
///
/// # Errors
/// The peer is away or does not have it (yet), or the store said no: try again later.
pub async fn fetch(
    peer: &impl Peer,
    store: &MediaStore,
    range: &RangeSize,
    meter: &Meter,
    digest: Digest,
    urgent: bool,
) -> Result<(), TransferError> {
    let mut stat = store.stat(digest).await?;
    let mut patience = Patience::default();
    while !stat.complete {
        let (sha256, most) = (digest.0.to_vec(), range.get());
        let request = wire::ReadMediaRequest { sha256, offset: stat.held, max_bytes: most as u32, urgent };
        let sent = Flow::message(&request);
        let answer = range.learn(most, peer.read_media(request).await)?;
        let received = Flow::message(&answer).with_content((0, answer.data.len()));
        meter.count(peer.name(), Topic::Media, sent, received);
        if let Some(refusal) = answer.refusal {
            patience.wait_or_give_up(refusal).await?;
            continue;
        }
        patience = Patience::default();
        // At the end an empty piece is the last: everything is here, and was not verified yet.
        if answer.data.is_empty() && stat.held != answer.size {
            return Err(TransferError::NoProgress);
        }
        stat = store.write_at(digest, answer.size, stat.held, answer.data).await?;
    }
    Ok(())
}

/// Sends a file unless the peer holds it. `urgent`: by the connection that bulk does not use.
///
/// # Errors
/// As [`fetch`].
pub async fn send(
    peer: &impl Peer,
    store: &MediaStore,
    range: &RangeSize,
    meter: &Meter,
    digest: Digest,
    urgent: bool,
) -> Result<(), TransferError> {
    let sha256 = digest.0.to_vec();
    let stat = || peer.stat_media(wire::StatMediaRequest { sha256: sha256.clone(), urgent });
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
        let (data, size) = store.read_range(digest, state.held, range.get() as u64).await?;
        let (sha256, offset) = (sha256.clone(), state.held);
        let bytes = data.len();
        let request = wire::WriteMediaRequest { sha256, size, offset, data, urgent };
        let sent = Flow::message(&request).with_content((0, bytes));
        let next = range.learn(bytes, peer.write_media(request).await)?;
        meter.count(peer.name(), Topic::Media, sent, Flow::message(&next));
        if !next.complete && next.refusal.is_none() && next.held <= offset {
            return Err(TransferError::NoProgress);
        }
        if next.refusal.is_none() {
            patience = Patience::default();
        }
        state = next;
    }
}

/// How often a peer said in a row that it is busy.
#[derive(Default)]
struct Patience(u32);

impl Patience {
    /// Waits as long as a busy peer says; any other refusal, or the same one again and again, ends the transfer.
    async fn wait_or_give_up(&mut self, refusal: wire::Refusal) -> Result<(), TransferError> {
        self.0 += 1;
        if refusal.code() != wire::RefusalCode::Busy || self.0 > MAX_BUSY_IN_A_ROW {
            return Err(TransferError::Refused(refusal.message));
        }
        tokio::time::sleep(Duration::from_millis(refusal.retry_after_ms.max(1).into())).await;
        Ok(())
    }
}
