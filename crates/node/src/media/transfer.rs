//! One media file from a peer or to it, in ranges, going on where an earlier try broke off.

use httt_exchange::{MAX_MEDIA_RANGE, Peer, PeerError};
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

/// Fetches a file unless it is held. `urgent`: by the connection that bulk does not use.
///
/// # Errors
/// The peer is away or does not have it (yet), or the store said no: try again later.
pub async fn fetch(peer: &impl Peer, store: &MediaStore, digest: Digest, urgent: bool) -> Result<(), TransferError> {
    let mut stat = store.stat(digest).await?;
    while !stat.complete {
        let (sha256, max_bytes) = (digest.0.to_vec(), MAX_MEDIA_RANGE as u32);
        let request = wire::ReadMediaRequest { sha256, offset: stat.held, max_bytes, urgent };
        let answer = peer.read_media(request).await?;
        if let Some(refusal) = answer.refusal {
            return Err(TransferError::Refused(refusal.message));
        }
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
pub async fn send(peer: &impl Peer, store: &MediaStore, digest: Digest, urgent: bool) -> Result<(), TransferError> {
    let sha256 = digest.0.to_vec();
    let mut state = peer.stat_media(wire::StatMediaRequest { sha256: sha256.clone(), urgent }).await?;
    loop {
        if let Some(refusal) = state.refusal {
            return Err(TransferError::Refused(refusal.message));
        }
        if state.complete {
            return Ok(());
        }
        let (data, size) = store.read_range(digest, state.held, MAX_MEDIA_RANGE as u64).await?;
        let (sha256, offset) = (sha256.clone(), state.held);
        let next = peer.write_media(wire::WriteMediaRequest { sha256, size, offset, data, urgent }).await?;
        if !next.complete && next.refusal.is_none() && next.held <= offset {
            return Err(TransferError::NoProgress);
        }
        state = next;
    }
}
