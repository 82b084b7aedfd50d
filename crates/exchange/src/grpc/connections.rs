//! Connections of members: made by TLS with a certificate that names one, counted, and closed when the directory says so.
//!
//! ```text
//! accept ─ handshake ─► registered ─► calls, each asking whether the certificate is still good
//!                           │ revoked, suspended
//!                           ▼
//!                       condemned: calls, also those that wait, hear the refusal ─ CUT_GRACE ─► closed
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use httt_feed::{AgencyCode, Digest, Directory, Refusal};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::addresses::{Addresses, ConnectionLimits, Place};
use super::{GrpcError, Identify, TlsIdentity};

/// How long a caller may take to show its certificate, and how long it may wait for its turn to do so.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection lives on once its member or certificate is refused, so that it can hear why.
const CUT_GRACE: Duration = Duration::from_secs(2);
/// How often at most the directory is looked at for members that must go.
const REVIEW_EVERY: Duration = Duration::from_millis(200);
/// Pause after the system refuses a connection: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who calls on a connection.
#[derive(Clone)]
pub(super) struct Caller {
    pub(super) member: AgencyCode,
    /// SHA-256 of its certificate.
    pub(super) certificate: Digest,
}

struct Entry {
    caller: Caller,
    /// It is about to be closed.
    condemned: bool,
    /// Dropped, it closes the connection.
    _cut: oneshot::Sender<()>,
}

/// The connections that are open.
pub(super) struct Registry {
    of_member: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    next: u64,
    open: BTreeMap<u64, Entry>,
}

impl Registry {
    pub(super) fn new(limits: &ConnectionLimits) -> Self {
        Self { of_member: limits.of_member, entries: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, member: AgencyCode, certificate: Digest) -> (u64, Caller, oneshot::Receiver<()>) {
        let (cut, cutting) = oneshot::channel();
        let caller = Caller { member, certificate };
        let mut entries = self.lock();
        let same = |entry: &&Entry| entry.caller.member == caller.member;
        if entries.open.values().filter(same).count() >= self.of_member {
            let oldest = entries.open.iter().find(|(_, entry)| same(entry)).map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                tracing::warn!(member = %caller.member, "too many connections of one member; the oldest is closed");
                entries.open.remove(&oldest);
            }
        }
        let id = entries.next;
        entries.next += 1;
        entries.open.insert(id, Entry { caller: caller.clone(), condemned: false, _cut: cut });
        (id, caller, cutting)
    }

    fn remove(&self, id: u64) {
        self.lock().open.remove(&id);
    }

    /// Condemns the connections whose member is suspended or whose certificate is refused; their numbers. Who is not a
    /// member yet may stay: it asks until it is enrolled.
    fn review(&self, directory: &Directory) -> Vec<u64> {
        let mut condemned = Vec::new();
        for (id, entry) in &mut self.lock().open {
            let Caller { member, certificate } = &entry.caller;
            match directory.admits_certificate(member, *certificate) {
                Err(refusal @ (Refusal::Suspended { .. } | Refusal::Certificate { .. })) if !entry.condemned => {
                    tracing::warn!(%member, %certificate, %refusal, "the connection is closed");
                    entry.condemned = true;
                    condemned.push(*id);
                }
                _ => {}
            }
        }
        condemned
    }

    /// Closes connections whenever `directory`, looked at when `changes` says so, refuses their members. Never ends.
    pub(super) async fn guard(
        self: Arc<Self>,
        mut changes: watch::Receiver<u64>,
        directory: impl Fn() -> Arc<Directory>,
    ) {
        let mut seen: Option<Arc<Directory>> = None;
        let mut cuts = JoinSet::new();
        let mut opened = 0;
        loop {
            let now = directory();
            let next = self.lock().next;
            // Holding the one that was looked at makes the next one another.
            if opened != next || !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &now)) {
                for id in self.review(&now) {
                    let registry = Arc::clone(&self);
                    cuts.spawn(async move {
                        tokio::time::sleep(CUT_GRACE).await;
                        registry.remove(id);
                    });
                }
                (seen, opened) = (Some(now), next);
            }
            while cuts.try_join_next().is_some() {}
            tokio::time::sleep(REVIEW_EVERY).await;
            // Connections come without any change of the directory, so this does not wait for one alone.
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
                () = tokio::time::sleep(REVIEW_EVERY) => {}
            }
        }
    }
}

/// A connection that TLS has made. Closed from outside it breaks at the next read or write, also one that waits.
pub(super) struct Connection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
    cutting: Option<oneshot::Receiver<()>>,
    id: u64,
    registry: Arc<Registry>,
    _slot: OwnedSemaphorePermit,
    _place: Place,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}

impl Connection {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(cutting) = &mut self.cutting else { return Err(io::ErrorKind::ConnectionAborted.into()) };
        if Pin::new(cutting).poll(cx).is_ready() {
            self.cutting = None;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.cutting.is_none() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.cutting.is_none() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
}

/// Accepts connections and hands those of members on, until `stopping` turns true.
pub(super) struct Acceptor {
    pub(super) listener: TcpListener,
    pub(super) limits: ConnectionLimits,
    pub(super) tls: TlsAcceptor,
    pub(super) identify: Identify,
    pub(super) registry: Arc<Registry>,
    pub(super) accepted: mpsc::Sender<Connection>,
}

impl Acceptor {
    pub(super) async fn run(self, mut stopping: watch::Receiver<bool>) {
        let slots = Arc::new(Semaphore::new(self.limits.all));
        let turns = Arc::new(Semaphore::new(self.limits.handshakes));
        let addresses = Addresses::new(&self.limits);
        let mut handshakes = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                _ = stopping.wait_for(|stopping| *stopping) => return,
                accepted = self.next(&slots) => accepted,
            };
            while handshakes.try_join_next().is_some() {}
            let Some((stream, address, slot)) = accepted else { continue };
            let Some(place) = addresses.place(address.ip()) else {
                tracing::info!(%address, limit = self.limits.of_address(), "too many connections of one address; closed");
                continue;
            };
            let (tls, identify, turns) = (self.tls.clone(), self.identify, Arc::clone(&turns));
            let (registry, accepted) = (Arc::clone(&self.registry), self.accepted.clone());
            handshakes.spawn(async move {
                // In this order: who waits behind others of its address keeps nobody else waiting.
                let turn = async { Some((place.turn().await?, turns.acquire_owned().await.ok()?)) };
                let Ok(Some(turn)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, turn).await else {
                    return tracing::info!(%address, "too many TLS handshakes before this one; closed");
                };
                if let Some((stream, member, certificate)) = handshake(stream, address, &tls, identify).await {
                    drop(turn);
                    let (id, caller, cutting) = registry.add(member, certificate);
                    let cutting = Some(cutting);
                    let connection = Connection { stream, caller, cutting, id, registry, _slot: slot, _place: place };
                    // Fails only when the server has ended.
                    let _ = accepted.send(connection).await;
                }
            });
        }
    }

    async fn next(&self, slots: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        if slots.available_permits() == 0 {
            tracing::warn!(limit = self.limits.all, "no more connections; the next wait");
        }
        // Never closed.
        let slot = Arc::clone(slots).acquire_owned().await.ok()?;
        match self.listener.accept().await {
            Ok((stream, address)) => Some((stream, address, slot)),
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    tls: &TlsAcceptor,
    identify: Identify,
) -> Option<(TlsStream<TcpStream>, AgencyCode, Digest)> {
    // Fails only when the caller is already gone.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(%address, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::info!(%address, "TLS handshake took too long");
            return None;
        }
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first())?;
    let sha256 = Digest::of(certificate);
    let Some(member) = identify(certificate) else {
        tracing::warn!(%address, certificate = %sha256, "the certificate names no member (SAN urn:httt:member:CODE)");
        return None;
    };
    Some((stream, member, sha256))
}

/// Mutual TLS, HTTP/2, ring.
pub(super) fn tls_acceptor(identity: &TlsIdentity) -> Result<TlsAcceptor, GrpcError> {
    let wrong = |what: &str, cause: &dyn std::fmt::Display| GrpcError::Tls(format!("{what}: {cause}"));
    let certificates = |pem: &str, what: &str| {
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        all.map_err(|error| wrong(what, &error))
    };
    let mut roots = RootCertStore::empty();
    for authority in certificates(&identity.ca, "certificate authority")? {
        roots.add(authority).map_err(|error| wrong("certificate authority", &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| wrong("certificate authority", &error))?;
    let chain = certificates(&identity.certificate, "certificate")?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|error| wrong("key", &error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong("TLS", &error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| wrong("certificate and key", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
