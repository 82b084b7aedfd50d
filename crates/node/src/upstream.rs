//! The way up: a peer by configuration, the copier that runs over it, and media in both directions.

mod platform;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Directory, VerifiedBatch};
use httt_wire::exchange as wire;
use serde::Deserialize;
use tokio::sync::watch;

use crate::assembly::Node;
use crate::client::HttpClient;
use crate::config::Secret;
use crate::media::{MediaStore, RangeSize, Transfers};
use crate::telemetry;
use crate::tls;
use crate::tls::TlsError;
use httt_exchange::grpc::{GrpcError, GrpcPeer, TlsIdentity};
use httt_exchange::rest::{BodyFormat, HttpSend, RestPeer};
use httt_exchange::{Bandwidth, Limit, Link, Meter, Peer, PeerError, RunnerOptions, Settings};
pub use platform::RestAuth;

pub use crate::media::TransferError;

/// Largest answer taken from a platform.
const MAX_ANSWER_BYTES: usize = httt_exchange::MAX_MESSAGE_BYTES + 64 * 1024;

/// Least limit of a link.
const MIN_KBIT_S: u64 = 1;
/// Largest limit: 10 Gbit/s, where a limit is a mistake.
const MAX_KBIT_S: u64 = 10_000_000;
/// Most of a link that is kept for emergencies, percent.
const MAX_EMERGENCY_SHARE: u8 = 90;

/// Section `[upstream]`: whom this node copies from and pushes to. Changing it, in mid-feed, loses and doubles nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamConfig {
    /// `grpc`: the gateway, directly, by mutual TLS. `rest`: a platform (LGSP).
    pub kind: UpstreamKind,
    /// `https://host:port`.
    pub address: String,
    /// The name that the gateway's certificate bears.
    #[serde(default = "default_server_name")]
    pub server_name: String,
    /// REST only: what the platform knows this node by.
    #[serde(default)]
    pub auth: RestAuth,
    /// With `auth = "oauth2"`: the client id the platform gave.
    pub client_id: Option<String>,
    /// With `auth = "oauth2"`: the client secret, from a file or the environment.
    pub client_secret: Option<Secret>,
    /// With `auth = "headers"`: header `AppName`.
    pub app_name: Option<String>,
    /// With `auth = "headers"`: header `AccessKey`.
    pub access_key: Option<String>,
    /// With `auth = "headers"`: header `SecretKey`, from a file or the environment.
    pub secret_key: Option<Secret>,
    /// REST only: how messages are written in bodies.
    #[serde(default)]
    pub body: BodyFormat,
    /// How long a starting node waits for the peer, to take back what it said before a backup was restored, ms.
    #[serde(default = "default_start_alone_after_ms")]
    pub start_alone_after_ms: u64,
    /// What this node's exchange may take of its link, both ways together, kbit/s (thousands of bits); 0: no limit.
    #[serde(default)]
    pub max_kbit_s: u64,
    /// Percent of that which is kept for emergencies, 0 to 90.
    #[serde(default = "default_emergency_share")]
    pub emergency_share: u8,
}

/// How the way up is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamKind {
    /// gRPC over mutual TLS.
    Grpc,
    /// REST over TLS.
    Rest,
}

fn default_start_alone_after_ms() -> u64 {
    10_000
}

fn default_emergency_share() -> u8 {
    25
}

impl UpstreamConfig {
    /// The link's budget, if it has a limit.
    fn bandwidth(&self) -> Result<Option<Bandwidth>, UpstreamError> {
        if self.emergency_share > MAX_EMERGENCY_SHARE {
            return Err(UpstreamError::Config("emergency_share is a percentage from 0 to 90"));
        }
        match self.max_kbit_s {
            0 => Ok(None),
            MIN_KBIT_S..=MAX_KBIT_S => {
                let limit = Limit { bytes_per_s: self.max_kbit_s * 1_000 / 8, emergency_percent: self.emergency_share };
                Ok(Some(Bandwidth::new(limit)))
            }
            _ => Err(UpstreamError::Config("max_kbit_s is 0 (no limit) or from 1 to 10000000")),
        }
    }
}

/// Whether a media file waits for its turn on a link with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// An emergency's: it goes at once, and others wait the longer.
    AtOnce,
    /// It goes when no entries wait and there is room.
    InTurn,
}

fn default_server_name() -> String {
    "localhost".to_owned()
}

/// Why the way up could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// A key of the section is missing.
    #[error("[upstream] {0} is missing: kind = \"rest\" needs it with this auth")]
    Missing(&'static str),
    /// A key of the section makes no sense.
    #[error("[upstream] {0}")]
    Config(&'static str),
    /// A key cannot be sent.
    #[error("[upstream] {0} has characters that no HTTP header can have, or none at all")]
    NoHeader(&'static str),
    /// gRPC.
    #[error("[upstream] {0}")]
    Grpc(#[from] GrpcError),
    /// Certificates.
    #[error("[upstream] {0}")]
    Tls(#[from] TlsError),
    /// A secret.
    #[error("[upstream] {key}: {cause}")]
    Secret {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        cause: String,
    },
}

/// A peer of the kind the configuration names.
pub enum AnyPeer {
    /// The gateway.
    Grpc(Box<GrpcPeer>),
    /// A platform.
    Rest(Box<RestPeer>),
}

macro_rules! either {
    ($self:ident, $peer:ident => $call:expr) => {
        match $self {
            AnyPeer::Grpc($peer) => $call,
            AnyPeer::Rest($peer) => $call,
        }
    };
}

impl Peer for AnyPeer {
    fn name(&self) -> &str {
        either!(self, peer => peer.name())
    }
    async fn heads(&self, request: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        either!(self, peer => peer.heads(request).await)
    }
    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        either!(self, peer => peer.read(request).await)
    }
    async fn push(&self, request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        either!(self, peer => peer.push(request).await)
    }
    async fn stat_media(&self, request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        either!(self, peer => peer.stat_media(request).await)
    }
    async fn read_media(&self, request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        either!(self, peer => peer.read_media(request).await)
    }
    async fn write_media(&self, request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        either!(self, peer => peer.write_media(request).await)
    }
    async fn witness(&self, request: wire::WitnessRequest) -> Result<wire::WitnessResponse, PeerError> {
        either!(self, peer => peer.witness(request).await)
    }
}

/// The way up of a running node.
#[derive(Clone)]
pub struct Upstream {
    peer: Arc<AnyPeer>,
    link: Link,
    media: Arc<MediaStore>,
    meter: Meter,
    range: Arc<RangeSize>,
    bandwidth: Option<Bandwidth>,
    start_alone_after: Duration,
}

impl Upstream {
    /// Sets the peer up; nothing is called yet.
    ///
    /// # Errors
    /// Configuration or certificates that make no sense.
    pub fn new(config: &UpstreamConfig, tls: &tls::TlsConfig, node: &Node) -> Result<Self, UpstreamError> {
        let bandwidth = config.bandwidth()?;
        let patience = bandwidth.as_ref().map_or(Duration::ZERO, Bandwidth::patience);
        let peer = match config.kind {
            UpstreamKind::Grpc => {
                let identity = tls_identity(tls)?;
                AnyPeer::Grpc(Box::new(GrpcPeer::patient(&config.address, &config.server_name, &identity, patience)?))
            }
            UpstreamKind::Rest => AnyPeer::Rest(Box::new(platform::peer(config, tls)?.with_patience(patience))),
        };
        let start_alone_after = Duration::from_millis(config.start_alone_after_ms);
        let (media, meter) = (Arc::clone(&node.media), node.meter.clone());
        let (peer, link, range) = (Arc::new(peer), Link::default(), Arc::default());
        Ok(Self { peer, link, media, meter, range, bandwidth, start_alone_after })
    }

    /// The link's state.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Waits until the peer was asked whether it holds more of this node's own feeds than the node does, and until that
    /// is taken back: a node restored from a backup must not contradict what it said already. If the peer cannot be
    /// asked within `start_alone_after_ms`, the node works on without it, and says so.
    pub async fn level(&self) {
        let mut link = self.link.watch();
        let level = link.wait_for(|link| link.own_level);
        if tokio::time::timeout(self.start_alone_after, level).await.is_err() {
            let waited = self.start_alone_after;
            tracing::warn!(?waited, "the exchange could not be asked for own entries; starting without it");
        }
    }

    /// Copies until `stop` turns true. `pushes_for` says whose feeds this node pushes there.
    pub async fn run(
        self,
        node: Node,
        pushes_for: impl Fn(&Directory) -> Vec<AgencyCode> + Send + Sync + 'static,
        stop: watch::Receiver<bool>,
    ) {
        // Nodes that lost the same gateway at the same moment must not come back at the same moment.
        let seed = u64::from_be_bytes(node.fingerprint().0[..8].try_into().unwrap_or_default());
        let options = RunnerOptions {
            pushes_for: Arc::new(pushes_for),
            settings: Settings { seed, ..Settings::default() },
            span_of: Arc::new(append_span),
            stopped: node.stopped.clone(),
            meter: self.meter.clone(),
            tally: node.tally.clone(),
            bandwidth: self.bandwidth.clone(),
        };
        let witness = httt_exchange::run_witness(node.witness, Arc::clone(&self.peer), stop.clone());
        let copying = httt_exchange::run(node.log, node.directory, self.peer, self.link, options, stop);
        tokio::join!(copying, witness);
    }

    /// Moves media files over this way.
    fn transfers(&self) -> Transfers<'_, AnyPeer> {
        Transfers {
            peer: self.peer.as_ref(),
            store: &self.media,
            range: &self.range,
            meter: &self.meter,
            bandwidth: self.bandwidth.as_ref(),
        }
    }

    /// Fetches a media file unless it is held, continuing where an earlier try broke off. `urgent`, for an emergency's
    /// file: by the connection that bulk does not use, and without waiting for the link's limit.
    ///
    /// # Errors
    /// The peer is away or does not have it (yet), or the store said no: try again later.
    pub async fn fetch_media(&self, digest: Digest, urgent: bool) -> Result<(), TransferError> {
        self.transfers().fetch(digest, urgent).await
    }

    /// Sends a media file unless the peer holds it, continuing where an earlier try broke off. `urgent` as for
    /// [`Upstream::fetch_media`].
    ///
    /// # Errors
    /// As [`Upstream::fetch_media`].
    pub async fn send_media(&self, digest: Digest, urgent: bool) -> Result<(), TransferError> {
        self.transfers().send(digest, urgent).await
    }
}

/// PEM texts for gRPC from the files of `[tls]`.
///
/// # Errors
/// A file that cannot be read.
pub fn tls_identity(tls: &tls::TlsConfig) -> Result<TlsIdentity, TlsError> {
    let ca = tls.ca.as_ref().ok_or_else(|| TlsError::NoAuthority { certificate: tls.certificate.to_path_buf() })?;
    Ok(TlsIdentity {
        certificate: tls::read_pem(&tls.certificate)?,
        key: tls::read_pem(&tls.key)?,
        ca: tls::read_pem(ca)?,
    })
}

fn http_send(client: HttpClient) -> HttpSend {
    Arc::new(move |request: axum::http::Request<Bytes>, limit: Duration| {
        let client = client.clone();
        Box::pin(async move { client.send(request, limit, MAX_ANSWER_BYTES).await.map_err(|error| error.to_string()) })
    })
}

/// The origin's trace goes on here: the span in which its events are appended is a child of the request that made them.
fn append_span(batches: &[VerifiedBatch]) -> tracing::Span {
    let traced = batches
        .iter()
        .flat_map(|batch| batch.batch().events.iter().map(move |event| (batch, event)))
        .find(|(_, event)| !event.traceparent.is_empty());
    match traced {
        Some((batch, event)) => {
            let span = tracing::info_span!(
                "append copied batches",
                feed = %batch.feed(),
                sequence = batch.sequence(),
                batches = batches.len(),
            );
            telemetry::set_parent(&span, &event.traceparent);
            span
        }
        None => tracing::Span::none(),
    }
}
