//! The HTTP client: every request has a time limit, every answer a size limit, every error its address and cause.
//!
//! Redirects are not followed: a peer's address is configured, and one that moves is a change for an operator. Nothing
//! is retried except on a connection that the peer closed before it read the request; whoever asks knows what may be
//! asked twice. The current trace travels along.

mod pieces;

use std::error::Error;
use std::fmt;
use std::time::Duration;

use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RANGE};
use axum::http::uri::Scheme;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::telemetry::{TRACEPARENT, current_traceparent};

pub use pieces::Pieces;

/// How long a connection may take to be made.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request may take, from connecting to the answer's last byte.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer.
pub const MAX_RESPONSE_BYTES: usize = 16 << 20;
/// Idle connections kept to one peer.
pub const MAX_IDLE_PER_HOST: usize = 8;
/// How long an idle connection is kept: less than servers commonly keep theirs, so that the client closes first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// How often an HTTP/2 connection in use is asked whether it still lives.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// How much of a refusal's text an error shows.
const MAX_EXCERPT_CHARS: usize = 300;

/// What an [`HttpClient`] allows itself; the default is this module's constants and no plain HTTP.
#[derive(Debug, Clone)]
pub struct ClientLimits {
    /// See [`CONNECT_TIMEOUT`].
    pub connect_timeout: Duration,
    /// See [`REQUEST_TIMEOUT`].
    pub request_timeout: Duration,
    /// See [`MAX_RESPONSE_BYTES`].
    pub max_response_bytes: usize,
    /// See [`MAX_IDLE_PER_HOST`].
    pub max_idle_per_host: usize,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// Whether `http://` is allowed, for peers on the same machine.
    pub allow_plain_http: bool,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connect_timeout: CONNECT_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            max_response_bytes: MAX_RESPONSE_BYTES,
            max_idle_per_host: MAX_IDLE_PER_HOST,
            idle_timeout: IDLE_TIMEOUT,
            allow_plain_http: false,
        }
    }
}

/// A request failed. Shown with its method and address, without user information and query, which may be secret.
#[derive(Debug, thiserror::Error)]
#[error("{method} {address}: {cause}")]
pub struct ClientError {
    method: Method,
    address: String,
    /// Why it failed.
    #[source]
    pub cause: Cause,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The address or a header cannot be used; asking again cannot help.
    #[error("{0}")]
    Request(String),
    /// No connection: name, network, TLS. The request was not sent.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// The connection broke; the peer may or may not have acted on the request.
    #[error("connection broke: {0}")]
    Broken(String),
    /// No complete answer in time; the peer may or may not have acted on the request.
    #[error("no complete answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The answer is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The peer refused.
    #[error("answered {status}{}", excerpt(.body))]
    Status {
        /// The status.
        status: StatusCode,
        /// The answer's body.
        body: Bytes,
    },
    /// The answer is not the JSON that was expected.
    #[error("the answer is not as expected: {0}")]
    Json(#[from] serde_json::Error),
}

fn excerpt(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text
        .trim()
        .chars()
        .take(MAX_EXCERPT_CHARS)
        .map(|character| if character.is_control() { ' ' } else { character })
        .collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

impl ClientError {
    /// The status with which the peer refused.
    pub fn status(&self) -> Option<StatusCode> {
        match &self.cause {
            Cause::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_temporary(&self) -> bool {
        match &self.cause {
            Cause::Connect(_) | Cause::Broken(_) | Cause::Timeout(_) => true,
            Cause::Status { status, .. } => {
                status.is_server_error()
                    || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            }
            Cause::Request(_) | Cause::TooLarge(_) | Cause::Json(_) => false,
        }
    }
}

/// An HTTP client with its connection pool. Clones share the pool.
#[derive(Clone)]
pub struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    limits: ClientLimits,
}

impl HttpClient {
    /// A client with the default limits.
    pub fn new(tls: ClientConfig) -> Self {
        Self::with_limits(tls, ClientLimits::default())
    }

    /// A client with its own limits. ALPN names in `tls` are replaced: HTTP/2 and HTTP/1.1.
    pub fn with_limits(mut tls: ClientConfig, limits: ClientLimits) -> Self {
        tls.alpn_protocols.clear();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limits.connect_timeout));
        // `https_only` would answer with a less helpful error than `check`.
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(limits.idle_timeout)
            .pool_max_idle_per_host(limits.max_idle_per_host)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .build(connector);
        Self { client, limits }
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder<'_> {
        RequestBuilder {
            client: self,
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            timeout: self.limits.request_timeout,
            problem: None,
        }
    }

    /// Begins a GET.
    pub fn get(&self, url: &str) -> RequestBuilder<'_> {
        self.request(Method::GET, url)
    }

    /// Begins a POST.
    pub fn post(&self, url: &str) -> RequestBuilder<'_> {
        self.request(Method::POST, url)
    }

    /// Begins a PUT.
    pub fn put(&self, url: &str) -> RequestBuilder<'_> {
        self.request(Method::PUT, url)
    }

    /// GET, answered with JSON.
    pub async fn get_json<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        self.get(url).send().await?.json()
    }

    /// POST of JSON, answered with JSON.
    pub async fn post_json<B: Serialize + ?Sized, T: DeserializeOwned>(
        &self,
        url: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        self.post(url).json(body).send().await?.json()
    }

    /// GET, answered with bytes.
    pub async fn get_bytes(&self, url: &str) -> Result<Bytes, ClientError> {
        self.get(url).send().await.map(|reply| reply.body)
    }

    /// Sends a request made elsewhere, with limits of its own, and gives back the answer whatever its status.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        timeout: Duration,
        max_response_bytes: usize,
    ) -> Result<Response<Bytes>, ClientError> {
        let method = request.method().clone();
        let address = shown(&request.uri().to_string());
        let answer = match self.check(request.uri()) {
            Ok(()) => tokio::time::timeout(timeout, self.exchange(request, max_response_bytes))
                .await
                .unwrap_or(Err(Cause::Timeout(timeout))),
            Err(cause) => Err(cause),
        };
        answer.map_err(|cause| ClientError { method, address, cause })
    }

    async fn exchange(&self, request: Request<Bytes>, limit: usize) -> Result<Response<Bytes>, Cause> {
        let (head, body) = self.begin(request).await?.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { Cause::TooLarge(limit) } else { Cause::Broken(chain(&*error)) }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// Sends a request; the answer's head is here, its body comes.
    async fn begin(&self, request: Request<Bytes>) -> Result<Response<Incoming>, Cause> {
        let mut request = request.map(Full::new);
        request.headers_mut().entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Ok(traceparent) = HeaderValue::from_str(&current_traceparent())
            && !traceparent.is_empty()
        {
            request.headers_mut().insert(TRACEPARENT, traceparent);
        }
        self.client.request(request).await.map_err(|error| {
            if error.is_connect() { Cause::Connect(chain(&error)) } else { Cause::Broken(chain(&error)) }
        })
    }

    fn check(&self, uri: &Uri) -> Result<(), Cause> {
        if uri.host().is_none() {
            return Err(Cause::Request("no address: the host is missing".to_owned()));
        }
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => Ok(()),
            Some(scheme) if *scheme == Scheme::HTTP && self.limits.allow_plain_http => Ok(()),
            Some(scheme) if *scheme == Scheme::HTTP => {
                Err(Cause::Request("plain http is not allowed here; use https".to_owned()))
            }
            _ => Err(Cause::Request("the address must begin with https://".to_owned())),
        }
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A request being put together. What is wrong with it is told by [`send`](Self::send).
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder<'a> {
    client: &'a HttpClient,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
    problem: Option<Cause>,
}

impl RequestBuilder<'_> {
    /// Adds a header.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) => {
                self.headers.insert(name, value);
            }
            // Without the value, which may be a secret.
            Err(_) => self.problem = Some(Cause::Request(format!("header {name} has characters it cannot have"))),
        }
        self
    }

    /// Adds `authorization: Bearer …`.
    pub fn bearer(mut self, token: &str) -> Self {
        self = self.header(AUTHORIZATION, &format!("Bearer {token}"));
        if let Some(value) = self.headers.get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        self
    }

    /// Asks for `length` bytes from `offset` on.
    pub fn range(self, offset: u64, length: u64) -> Self {
        let last = offset.saturating_add(length.max(1) - 1);
        self.header(RANGE, &format!("bytes={offset}-{last}"))
    }

    /// Sends bytes of this kind.
    pub fn body(mut self, kind: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE, kind)
    }

    /// Sends JSON.
    pub fn json<B: Serialize + ?Sized>(mut self, body: &B) -> Self {
        match serde_json::to_vec(body) {
            Ok(bytes) => self.body("application/json", bytes),
            Err(error) => {
                self.problem = Some(Cause::Request(format!("the body has no JSON form: {error}")));
                self
            }
        }
    }

    /// Another time limit than the client's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request; any status but 2xx is a [`Cause::Status`].
    pub async fn send(self) -> Result<Reply, ClientError> {
        let reply = self.send_any().await?;
        if reply.status.is_success() {
            return Ok(reply);
        }
        let Reply { method, address, status, body, .. } = reply;
        Err(ClientError { method, address, cause: Cause::Status { status, body } })
    }

    /// Sends the request and gives back the answer whatever its status.
    pub async fn send_any(self) -> Result<Reply, ClientError> {
        let (method, address) = (self.method.clone(), shown(&self.url));
        let (client, timeout) = (self.client, self.timeout);
        let request = match self.into_request() {
            Ok(request) => request,
            Err(cause) => return Err(ClientError { method, address, cause }),
        };
        let (head, body) = client.send(request, timeout, client.limits.max_response_bytes).await?.into_parts();
        Ok(Reply { status: head.status, headers: head.headers, body, method, address })
    }

    fn into_request(self) -> Result<Request<Bytes>, Cause> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.url.parse().map_err(|error| Cause::Request(format!("no address: {error}")))?;
        *request.headers_mut() = self.headers;
        Ok(request)
    }
}

/// A complete answer.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    method: Method,
    address: String,
}

impl Reply {
    /// The body read as JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let Self { method, address, body, .. } = self;
        serde_json::from_slice(&body).map_err(|error| ClientError { method, address, cause: error.into() })
    }
}

/// An address as errors show it.
fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// An error with its causes, without repeating what a cause says again.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(shown("https://me:pw@h.vn:8443/a/b?token=s#x"), "https://h.vn:8443/a/b");
        assert_eq!(shown("https://h.vn?token=s"), "https://h.vn");
        assert_eq!(shown("nonsense"), "nonsense");
    }

    #[test]
    fn refusals_are_shown_on_one_short_line() {
        let body = Bytes::from(format!("dòng một\ndòng hai {}", "x".repeat(1000)));
        let text = Cause::Status { status: StatusCode::BAD_GATEWAY, body }.to_string();
        assert!(text.starts_with("answered 502 Bad Gateway: dòng một dòng hai xxx"), "{text}");
        assert!(text.chars().count() < 350);
        assert_eq!(
            Cause::Status { status: StatusCode::NOT_FOUND, body: Bytes::new() }.to_string(),
            "answered 404 Not Found"
        );
    }
}
