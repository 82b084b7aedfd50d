//! Who is at the other end of a connection.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use httt_feed::AgencyCode;
use rustls::ServerConnection;
use rustls_pki_types::CertificateDer;

use super::ApiError;
use crate::tls::member_identity;

/// The other end of a request's connection, in every request that [`serve`](super::serve) takes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    certificate: Option<CertificateDer<'static>>,
    member: Option<AgencyCode>,
}

impl Peer {
    /// A peer without a certificate.
    pub fn plain(address: SocketAddr) -> Self {
        Self(Arc::new(Inner { address, certificate: None, member: None }))
    }

    pub(super) fn of(address: SocketAddr, connection: &ServerConnection) -> Self {
        let certificate =
            connection.peer_certificates().and_then(<[_]>::first).cloned().map(CertificateDer::into_owned);
        let member = certificate.as_deref().and_then(member_identity);
        Self(Arc::new(Inner { address, certificate, member }))
    }

    /// Where the connection comes from; behind a proxy, the proxy.
    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The certificate that the handshake accepted.
    pub fn certificate(&self) -> Option<&[u8]> {
        self.0.certificate.as_deref()
    }

    /// The member whom the certificate speaks for, by [`member_identity`].
    pub fn member(&self) -> Option<&AgencyCode> {
        self.0.member.as_ref()
    }

    /// The member, or 401.
    pub fn require_member(&self) -> Result<&AgencyCode, ApiError> {
        self.member().ok_or_else(|| {
            ApiError::new(
                axum::http::StatusCode::UNAUTHORIZED,
                "no_member_certificate",
                "Kết nối không có chứng thư của thành viên.",
                "The connection has no member's certificate.",
            )
        })
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = Infallible;

    /// Without [`serve`](super::serve), as in a test, the peer is nobody at the unspecified address.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<Self>().cloned();
        Ok(peer.unwrap_or_else(|| Self::plain(SocketAddr::from(([0, 0, 0, 0], 0)))))
    }
}
