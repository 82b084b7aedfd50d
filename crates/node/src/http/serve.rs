//! The accept loop: what a stranger may hold of this node, and how the node lets go.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::Peer;
use crate::shutdown::Shutdown;

/// Connections at a time; the next wait in the kernel's queue. Each costs some tens of kilobytes.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Requests at a time on one HTTP/2 connection: a concentrator carries all clusters of a commune on one.
pub const MAX_CONCURRENT_STREAMS: u32 = 4_096;
/// How long a TLS handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a new connection may stay without its first request.
pub const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an HTTP/1 connection may take for a request's head, waiting for it included: longer than the 60 s between
/// a cluster's reports, so that it keeps its connection.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(75);
/// How long requests in progress may go on once the node stops.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(20);

/// How often a silent HTTP/2 connection is asked whether it still lives, and how long it has to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Largest head of an HTTP/2 request.
const MAX_HEADER_LIST_BYTES: u32 = 32 << 10;
/// Pause after the system refuses a connection (out of file descriptors or memory): trying again at once would only
/// burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What [`serve_with`] allows; the default is this module's constants.
#[derive(Debug, Clone)]
pub struct ServeLimits {
    /// See [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// See [`MAX_CONCURRENT_STREAMS`].
    pub max_concurrent_streams: u32,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// See [`FIRST_REQUEST_TIMEOUT`].
    pub first_request_timeout: Duration,
    /// See [`HEADER_READ_TIMEOUT`].
    pub header_read_timeout: Duration,
    /// See [`DRAIN_DEADLINE`].
    pub drain_deadline: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS,
            max_concurrent_streams: MAX_CONCURRENT_STREAMS,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            first_request_timeout: FIRST_REQUEST_TIMEOUT,
            header_read_timeout: HEADER_READ_TIMEOUT,
            drain_deadline: DRAIN_DEADLINE,
        }
    }
}

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", advice(.source.kind()))]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    pub source: io::Error,
}

fn advice(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => "; another program, or another copy of this one, listens there",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has this address",
        _ => "",
    }
}

/// Listens on `address`.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves `router` until `shutdown`, then stops accepting, lets requests in progress end, and closes what is left
/// after [`DRAIN_DEADLINE`]. Every request has a [`Peer`]. Nothing that a client does ends this loop.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, shutdown: Shutdown) {
    serve_with(listener, tls, router, shutdown, ServeLimits::default()).await;
}

/// [`serve`] with other limits. Dropping the future closes every connection.
pub async fn serve_with(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    shutdown: Shutdown,
    limits: ServeLimits,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let server = Arc::new(Server { tls: tls.map(TlsAcceptor::from), router, limits });
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut stop = pin!(shutdown.cancelled());
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &slots) => accepted,
        };
        // Reaps the ended ones; `JoinSet` would otherwise keep their results.
        while let Some(ended) = connections.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a connection's task failed");
            }
        }
        let (stream, address, slot) = accepted;
        connections.spawn(Arc::clone(&server).connection(stream, address, graceful.watcher(), slot));
    }
    drop(listener);
    if tokio::time::timeout(server.limits.drain_deadline, graceful.shutdown()).await.is_err() {
        tracing::warn!(connections = connections.len(), "closing connections that did not end in time");
    }
    connections.shutdown().await;
}

/// The next connection, once there is a slot for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    loop {
        let Ok(slot) = Arc::clone(slots).acquire_owned().await else {
            // The semaphore is never closed.
            std::future::pending().await
        };
        match listener.accept().await {
            Ok((stream, address)) => return (stream, address, slot),
            // The client was gone before it was served.
            Err(error) if is_clients_fault(&error) => tracing::debug!(%error, "connection not accepted"),
            Err(error) => {
                tracing::error!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn is_clients_fault(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

struct Server {
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: ServeLimits,
}

/// Which HTTP a connection speaks.
#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
    /// To be seen from the first bytes.
    Unknown,
}

impl Server {
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        watcher: Watcher,
        _slot: OwnedSemaphorePermit,
    ) {
        // Fails only when the client is already gone.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.requests(stream, Peer::plain(address), Version::Unknown, watcher).await;
        };
        let stream = match tokio::time::timeout(self.limits.handshake_timeout, tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "TLS handshake failed"),
            Err(_) => return tracing::debug!(%address, "TLS handshake took too long"),
        };
        let connection = stream.get_ref().1;
        let version = if connection.alpn_protocol() == Some(b"h2") { Version::Two } else { Version::One };
        let peer = Peer::of(address, connection);
        self.requests(stream, peer, version, watcher).await;
    }

    async fn requests<T>(&self, stream: T, peer: Peer, version: Version, watcher: Watcher)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let seen = Arc::new(AtomicBool::new(false));
        let service = {
            let (seen, peer) = (Arc::clone(&seen), peer.clone());
            let router = TowerToHyperService::new(self.router.clone());
            service_fn(move |request: Request<Incoming>| {
                seen.store(true, Ordering::Relaxed);
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer.clone());
                hyper::service::Service::call(&router, request)
            })
        };
        let builder = self.builder(version);
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut connection = pin!(watcher.watch(connection.into_owned()));
        // Covers what no other timeout does: a client that connects, or starts HTTP/2, and then says nothing.
        let first_request = tokio::time::sleep(self.limits.first_request_timeout);
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = first_request => {
                if !seen.load(Ordering::Relaxed) {
                    return tracing::debug!(address = %peer.address(), "connection closed: no request came");
                }
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(address = %peer.address(), error, "connection broke");
        }
    }

    fn builder(&self, version: Version) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.header_read_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .max_concurrent_streams(self.limits.max_concurrent_streams)
            .max_header_list_size(MAX_HEADER_LIST_BYTES);
        match version {
            Version::One => builder.http1_only(),
            Version::Two => builder.http2_only(),
            Version::Unknown => builder,
        }
    }
}
