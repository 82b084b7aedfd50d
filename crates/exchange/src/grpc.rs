//! The gRPC driver: tonic over rustls, mutual TLS. Who calls is what the certificate says.

mod addresses;
mod connections;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::middleware::map_response;
use axum::response::Response as HttpResponse;
use http_body_util::BodyExt as _;
use httt_feed::{AgencyCode, Lane, Refusal};
use httt_wire::exchange::exchange_client::ExchangeClient;
use httt_wire::exchange::exchange_server::{Exchange, ExchangeServer};
use httt_wire::exchange::{self as wire};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity, Server};
use tonic::{Request, Response, Status};

use self::connections::{Acceptor, Caller, Registry, tls_acceptor};
use crate::refusal::refusal_to_wire;
use crate::{Held, MAX_MESSAGE_BYTES, MAX_WAIT_MS, Peer, PeerError, Service};

pub use addresses::ConnectionLimits;

/// How long a call other than a long-poll may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that answers no ping within twice this is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Calls one connection may have under way; long-polls count. Each may hold a message in memory while it arrives.
const MAX_STREAMS: u32 = 96;
/// Longest a call may take here, its message's arrival included: a full batch at 1 kbit/s takes eight minutes.
const SERVE_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a caller may take to answer a ping, which on a thin link waits behind the batch that is on its way.
const SERVE_PING_TIMEOUT: Duration = Duration::from_secs(60);

/// PEM texts of one side of mutual TLS.
#[derive(Clone)]
pub struct TlsIdentity {
    /// Own certificate chain.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority that the other side's certificate must come from.
    pub ca: String,
}

/// Why a gRPC end could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The address makes no sense.
    #[error("{0} is not an address of the form https://host:port")]
    Address(String),
    /// Certificates of the serving side.
    #[error("{0}")]
    Tls(String),
    /// Certificates of the calling side, or the transport itself.
    #[error(transparent)]
    Transport(#[from] tonic::transport::Error),
}

/// Reads the member out of a client certificate (DER); `None`: it names none.
pub type Identify = fn(&[u8]) -> Option<AgencyCode>;

/// Serves the exchange on `listener` until `stop` resolves, with as many connections as the limits of `service` say.
/// Connections of members that are suspended, or whose
/// certificate is revoked, are closed within seconds.
///
/// # Errors
/// Unusable certificates, or a transport that broke.
pub async fn serve(
    listener: TcpListener,
    tls: &TlsIdentity,
    service: Arc<Service>,
    identify: Identify,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), GrpcError> {
    let limits = service.limiter().limits().connections.clone();
    let registry = Arc::new(Registry::new(&limits));
    let (accepted, incoming) = mpsc::channel(1);
    let (tls, own) = (tls_acceptor(tls)?, Arc::clone(&registry));
    let acceptor = Acceptor { listener, limits, tls, identify, registry: own, accepted };
    let guarded = Arc::clone(&service);
    let guard = registry.guard(service.watch(), move || guarded.directory());
    let server = ExchangeServer::new(GrpcService { service })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let routes = Routes::new(server).into_axum_router().layer(map_response(hold_until_sent));
    let stopping = watch::Sender::new(false);
    let accepting = acceptor.run(stopping.subscribe());
    let stop = async {
        stop.await;
        stopping.send_replace(true);
    };
    let incoming = futures_util::stream::unfold(incoming, |mut incoming| async {
        let connection = incoming.recv().await?;
        Some((Ok::<_, std::io::Error>(connection), incoming))
    });
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(SERVE_PING_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .timeout(SERVE_TIMEOUT)
        .add_routes(routes.into())
        .serve_with_incoming_shutdown(incoming, stop);
    let around = async {
        tokio::join!(accepting, guard);
    };
    tokio::select! {
        served = serving => served?,
        () = around => {}
    }
    Ok(())
}

struct GrpcService {
    service: Arc<Service>,
}

/// An answer that can say no.
trait Refused: Default {
    fn refused(refusal: wire::Refusal) -> Self;
}

macro_rules! refused {
    ($($answer:ident),*) => {
        $(impl Refused for wire::$answer {
            fn refused(refusal: wire::Refusal) -> Self {
                Self { refusal: Some(refusal), ..Self::default() }
            }
        })*
    };
}

refused!(HeadsResponse, ReadResponse, PushResponse, StatMediaResponse, ReadMediaResponse);

impl Refused for wire::WitnessResponse {
    fn refused(refusal: wire::Refusal) -> Self {
        Self { status: 403, body: refusal.message }
    }
}

impl GrpcService {
    /// Who calls, if it may call with the certificate it showed; otherwise the answer that says why not.
    fn caller<T, R: Refused>(&self, request: &Request<T>) -> Result<Caller, Result<Response<R>, Status>> {
        let caller = self.any_caller(request).map_err(Err)?;
        match self.admits(&caller) {
            Ok(()) => Ok(caller),
            Err(refusal) => Err(Ok(Response::new(R::refused(refusal_to_wire(&refusal))))),
        }
    }

    /// As [`GrpcService::caller`], for calls in which the service itself looks whether the caller is a member: who is none
    /// (any more) by an old directory may bring back what this node had said.
    fn named<T, R: Refused>(&self, request: &Request<T>) -> Result<Caller, Result<Response<R>, Status>> {
        let caller = self.any_caller(request).map_err(Err)?;
        match self.admits(&caller) {
            Err(refusal @ Refusal::Certificate { .. }) => Err(Ok(Response::new(R::refused(refusal_to_wire(&refusal))))),
            _ => Ok(caller),
        }
    }

    fn any_caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| Status::unauthenticated("the connection has no member's certificate"))
    }

    fn admits(&self, caller: &Caller) -> Result<(), Refusal> {
        self.service.directory().admits_certificate(&caller.member, caller.certificate)
    }
}

/// An answer with what is to be kept until it has been sent.
fn holding<T>(answer: T, held: Option<Held>) -> Response<T> {
    let mut response = Response::new(answer);
    if let Some(held) = held {
        response.extensions_mut().insert(Arc::new(held));
    }
    response
}

/// Hands over to the body what is to be kept until the body has been sent: HTTP/2 asks it for the end of the answer only
/// when the reader has taken nearly all of the rest.
async fn hold_until_sent(mut response: HttpResponse) -> HttpResponse {
    match response.extensions_mut().remove::<Arc<Held>>() {
        Some(held) => response.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _ = &held;
                frame
            }))
        }),
        None => response,
    }
}

#[tonic::async_trait]
impl Exchange for GrpcService {
    async fn heads(&self, request: Request<wire::HeadsRequest>) -> Result<Response<wire::HeadsResponse>, Status> {
        let caller = match self.named(&request) {
            Ok(caller) => caller,
            Err(answer) => return answer,
        };
        let answer = self.service.heads(&caller.member, request.into_inner()).await;
        // News of the directory, which everybody reads, ended the waiting; it may have been about this certificate.
        Ok(Response::new(match self.admits(&caller) {
            Err(refusal) if answer.refusal.is_none() => wire::HeadsResponse::refused(refusal_to_wire(&refusal)),
            _ => answer,
        }))
    }

    async fn read(&self, request: Request<wire::ReadRequest>) -> Result<Response<wire::ReadResponse>, Status> {
        match self.caller(&request) {
            Ok(caller) => {
                let (answer, held) = self.service.read_held(&caller.member, request.get_ref()).await;
                Ok(holding(answer, held))
            }
            Err(answer) => answer,
        }
    }

    async fn push(&self, request: Request<wire::PushRequest>) -> Result<Response<wire::PushResponse>, Status> {
        match self.named(&request) {
            Ok(caller) => Ok(Response::new(self.service.push(&caller.member, request.into_inner()).await)),
            Err(answer) => answer,
        }
    }

    async fn stat_media(
        &self,
        request: Request<wire::StatMediaRequest>,
    ) -> Result<Response<wire::StatMediaResponse>, Status> {
        match self.caller(&request) {
            Ok(caller) => Ok(Response::new(self.service.stat_media(&caller.member, request.into_inner()).await)),
            Err(answer) => answer,
        }
    }

    async fn read_media(
        &self,
        request: Request<wire::ReadMediaRequest>,
    ) -> Result<Response<wire::ReadMediaResponse>, Status> {
        match self.caller(&request) {
            Ok(caller) => {
                let (answer, held) = self.service.read_media_held(&caller.member, request.into_inner()).await;
                Ok(holding(answer, held))
            }
            Err(answer) => answer,
        }
    }

    async fn write_media(
        &self,
        request: Request<wire::WriteMediaRequest>,
    ) -> Result<Response<wire::StatMediaResponse>, Status> {
        match self.caller(&request) {
            Ok(caller) => Ok(Response::new(self.service.write_media(&caller.member, request.into_inner()).await)),
            Err(answer) => answer,
        }
    }

    async fn witness(&self, request: Request<wire::WitnessRequest>) -> Result<Response<wire::WitnessResponse>, Status> {
        match self.caller(&request) {
            Ok(_) => Ok(Response::new(self.service.witness(request.into_inner()).await)),
            Err(answer) => answer,
        }
    }
}

/// A peer reached by gRPC. Small urgent lanes have a connection of their own, so that no bulk transfer's flow
/// control stands before them.
pub struct GrpcPeer {
    name: String,
    /// Longest that a call without waiting may take.
    call_timeout: Duration,
    urgent: ExchangeClient<Channel>,
    bulk: ExchangeClient<Channel>,
}

impl GrpcPeer {
    /// A peer at `address` (`https://host:port`) whose certificate is for `server_name`. Connects when first called,
    /// and again whenever needed.
    ///
    /// # Errors
    /// An address or certificates that make no sense.
    pub fn new(address: &str, server_name: &str, tls: &TlsIdentity) -> Result<Self, GrpcError> {
        Self::patient(address, server_name, tls, Duration::ZERO)
    }

    /// The same; answers may take so much longer, see [`Bandwidth::patience`](crate::Bandwidth::patience).
    ///
    /// # Errors
    /// As [`GrpcPeer::new`].
    pub fn patient(address: &str, server_name: &str, tls: &TlsIdentity, patience: Duration) -> Result<Self, GrpcError> {
        // tonic would speak in clear to such an address, whatever its TLS configuration.
        if !address.starts_with("https://") {
            return Err(GrpcError::Address(address.to_owned()));
        }
        let config = ClientTlsConfig::new()
            .domain_name(server_name)
            .ca_certificate(Certificate::from_pem(&tls.ca))
            .identity(Identity::from_pem(&tls.certificate, &tls.key));
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|_| GrpcError::Address(address.to_owned()))?
            .tls_config(config)?
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE + patience)
            .keep_alive_while_idle(true);
        let client = || {
            ExchangeClient::new(endpoint.connect_lazy())
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES)
        };
        let call_timeout = CALL_TIMEOUT + patience;
        Ok(Self { name: address.to_owned(), call_timeout, urgent: client(), bulk: client() })
    }

    fn client(&self, lane: i32) -> ExchangeClient<Channel> {
        match Lane::from_wire(lane) {
            Some(Lane::Directory | Lane::Emergency) => self.urgent.clone(),
            _ => self.bulk.clone(),
        }
    }

    fn for_media(&self, urgent: bool) -> ExchangeClient<Channel> {
        if urgent { self.urgent.clone() } else { self.bulk.clone() }
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, PeerError> {
        let peer = || self.name.clone();
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {
                Err(PeerError::Unreachable { peer: peer(), cause: status.message().to_owned() })
            }
            Ok(Err(status)) => Err(PeerError::Answer { peer: peer(), cause: status.to_string() }),
            Err(_) => Err(PeerError::Unreachable { peer: peer(), cause: format!("no answer within {limit:?}") }),
        }
    }
}

fn lane_of(feed: Option<&wire::FeedId>) -> i32 {
    feed.map_or(0, |feed| feed.lane)
}

impl Peer for GrpcPeer {
    fn name(&self) -> &str {
        &self.name
    }

    async fn heads(&self, request: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        let limit = self.call_timeout + Duration::from_millis(request.wait_ms.min(MAX_WAIT_MS).into());
        let mut client = self.urgent.clone();
        self.call(limit, client.heads(request)).await
    }

    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        let mut client = self.client(lane_of(request.feed.as_ref()));
        self.call(self.call_timeout, client.read(request)).await
    }

    async fn push(&self, request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        let mut client = self.client(lane_of(request.feed.as_ref()));
        self.call(self.call_timeout, client.push(request)).await
    }

    async fn stat_media(&self, request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let mut client = self.for_media(request.urgent);
        self.call(self.call_timeout, client.stat_media(request)).await
    }

    async fn read_media(&self, request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        let mut client = self.for_media(request.urgent);
        self.call(self.call_timeout, client.read_media(request)).await
    }

    async fn write_media(&self, request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let mut client = self.for_media(request.urgent);
        self.call(self.call_timeout, client.write_media(request)).await
    }

    async fn witness(&self, request: wire::WitnessRequest) -> Result<wire::WitnessResponse, PeerError> {
        let mut client = self.bulk.clone();
        self.call(self.call_timeout, client.witness(request)).await
    }
}
