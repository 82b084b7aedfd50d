//! The in-memory driver: a [`Service`] called directly, with a switch for the link. For tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use httt_feed::AgencyCode;
use httt_wire::exchange as wire;

use crate::{Peer, PeerError, Service};

/// Calls `service` as `caller`.
pub struct MemoryPeer {
    name: String,
    service: Arc<Service>,
    caller: AgencyCode,
    cut: AtomicBool,
}

impl MemoryPeer {
    /// A peer that serves from `service` and believes the caller to be `caller`.
    pub fn new(name: impl Into<String>, service: Arc<Service>, caller: AgencyCode) -> Self {
        Self { name: name.into(), service, caller, cut: AtomicBool::new(false) }
    }

    /// Cuts or mends the link.
    pub fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::SeqCst);
    }

    fn check(&self) -> Result<(), PeerError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(PeerError::Unreachable { peer: self.name.clone(), cause: "the link is cut".into() });
        }
        Ok(())
    }
}

impl Peer for MemoryPeer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn heads(&self, request: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        self.check()?;
        let answer = self.service.heads(&self.caller, request).await;
        self.check().map(|()| answer)
    }

    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        self.check()?;
        Ok(self.service.read(&self.caller, &request).await)
    }

    async fn push(&self, request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        self.check()?;
        let answer = self.service.push(&self.caller, request).await;
        // Cut meanwhile: the push took effect and its answer is lost, which the protocol must bear.
        self.check().map(|()| answer)
    }

    async fn stat_media(&self, request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        self.check()?;
        Ok(self.service.stat_media(&self.caller, request).await)
    }

    async fn read_media(&self, request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        self.check()?;
        Ok(self.service.read_media(&self.caller, request).await)
    }

    async fn write_media(&self, request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        self.check()?;
        Ok(self.service.write_media(&self.caller, request).await)
    }

    async fn witness(&self, request: wire::WitnessRequest) -> Result<wire::WitnessResponse, PeerError> {
        self.check()?;
        Ok(self.service.witness(request).await)
    }
}
