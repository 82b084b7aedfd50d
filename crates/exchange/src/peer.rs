//! What a driver is: somebody to copy from and to push to.

use std::future::Future;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use httt_feed::{AgencyCode, Digest};
use httt_wire::exchange as wire;

/// The call did not get through, or the peer would not talk to this caller. The protocol answers with back-off.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PeerError {
    /// No answer: connection refused, cut, timed out.
    #[error("{peer} cannot be reached: {cause}")]
    Unreachable {
        /// Who.
        peer: String,
        /// Why.
        cause: String,
    },
    /// An answer that is no answer to this call.
    #[error("{peer} answered with an error: {cause}")]
    Answer {
        /// Who.
        peer: String,
        /// What it said.
        cause: String,
    },
}

/// A node that serves the exchange, through whatever carries.
pub trait Peer: Send + Sync + 'static {
    /// For logs.
    fn name(&self) -> &str;
    /// See `Exchange.Heads`.
    fn heads(&self, request: wire::HeadsRequest)
    -> impl Future<Output = Result<wire::HeadsResponse, PeerError>> + Send;
    /// See `Exchange.Read`.
    fn read(&self, request: wire::ReadRequest) -> impl Future<Output = Result<wire::ReadResponse, PeerError>> + Send;
    /// See `Exchange.Push`.
    fn push(&self, request: wire::PushRequest) -> impl Future<Output = Result<wire::PushResponse, PeerError>> + Send;
    /// See `Exchange.StatMedia`.
    fn stat_media(
        &self,
        request: wire::StatMediaRequest,
    ) -> impl Future<Output = Result<wire::StatMediaResponse, PeerError>> + Send;
    /// See `Exchange.ReadMedia`.
    fn read_media(
        &self,
        request: wire::ReadMediaRequest,
    ) -> impl Future<Output = Result<wire::ReadMediaResponse, PeerError>> + Send;
    /// See `Exchange.WriteMedia`.
    fn write_media(
        &self,
        request: wire::WriteMediaRequest,
    ) -> impl Future<Output = Result<wire::StatMediaResponse, PeerError>> + Send;
    /// See `Exchange.Witness`. A driver that cannot carry it leaves this as it is.
    fn witness(
        &self,
        _request: wire::WitnessRequest,
    ) -> impl Future<Output = Result<wire::WitnessResponse, PeerError>> + Send {
        let peer = self.name().to_owned();
        async move { Err(PeerError::Answer { peer, cause: "this way carries no witnessing".into() }) }
    }
}

/// How much of a media file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaStat {
    /// Bytes held from the start.
    pub held: u64,
    /// The whole file's size; 0 when nothing is known of it.
    pub size: u64,
    /// Held whole, and its digest verified.
    pub complete: bool,
}

/// Why media was not read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum MediaError {
    /// Nothing of it is held, or not all of it yet.
    #[error("media {0} is not held")]
    NotHeld(Digest),
    /// The range does not continue what is held, the file is too large, or its bytes have another digest.
    #[error("{0}")]
    Refused(String),
    /// There is no room for it, or the member has too much unfinished; later there may be.
    #[error("{0}")]
    Full(String),
    /// The disk said no.
    #[error("media store: {0}")]
    Io(String),
}

/// Where a serving node keeps media files. `httt-node` has the one that keeps them in a folder. `urgent`: the file is an
/// emergency's; whoever has to fetch it or pass it on first does it by the way that bulk does not use.
pub trait Media: Send + Sync + 'static {
    /// How much of `digest` is held: the whole file, or what `member` brought of it so far. Unfinished files belong to
    /// who brings them, so that no member can spoil another's.
    fn stat<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        urgent: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>>;
    /// Up to `max` bytes from `offset`, and the size of the whole file, which must be complete.
    fn read(
        &self,
        digest: Digest,
        offset: u64,
        max: usize,
        urgent: bool,
    ) -> BoxFuture<'_, Result<(Bytes, u64), MediaError>>;
    /// Continues `member`'s file at `offset`; verifies it when complete.
    fn write<'a>(
        &'a self,
        member: &'a AgencyCode,
        digest: Digest,
        size: u64,
        offset: u64,
        data: Bytes,
        urgent: bool,
    ) -> BoxFuture<'a, Result<MediaStat, MediaError>>;
}
