//! The member's side.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use httt_feed::Lane;
use httt_wire::exchange::{self as wire, RefusalCode};
use httt_wire::json::Strictness;
use httt_wire::{Message, Name};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::answer::{Answer, refusal};
use super::{ALL_IN_PATH, BodyFormat, heads_etag};
use crate::{MAX_WAIT_MS, Peer, PeerError};

const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// When to come back to a platform that says "not now" and not when.
const DEFAULT_RETRY_S: u32 = 5;
/// Longest that a platform is left alone because it said so.
const MAX_RETRY_S: u32 = 600;
/// How much of an answer that is none an error shows.
const MAX_EXCERPT_CHARS: usize = 200;

/// Sends one HTTP request within a time; the error is a text for people. Given by the node, which has the TLS setup.
pub type HttpSend =
    Arc<dyn Fn(Request<Bytes>, Duration) -> BoxFuture<'static, Result<Response<Bytes>, String>> + Send + Sync>;

/// What a platform knows this member by.
pub enum Credentials {
    /// OAuth2 client credentials.
    OAuth2 {
        /// `client_id`.
        client_id: String,
        /// `client_secret`.
        client_secret: String,
    },
    /// Headers on every call.
    Headers {
        /// `AppName`.
        app_name: String,
        /// `AccessKey`.
        access_key: String,
        /// `SecretKey`.
        secret_key: String,
    },
}

/// A platform reached by REST.
pub struct RestPeer {
    base: String,
    credentials: Credentials,
    format: BodyFormat,
    urgent: HttpSend,
    bulk: HttpSend,
    /// Longest that a call without waiting may take.
    call_timeout: Duration,
    token: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

/// No access token.
enum NoToken {
    /// Not now: a refusal like any other.
    Busy(wire::Refusal),
    Failed(PeerError),
}

/// A call about to be made.
struct Call<'a> {
    send: &'a HttpSend,
    method: Method,
    path: String,
    body: Option<(&'static str, Bytes)>,
    if_none_match: Option<String>,
    /// How long it waits for news.
    waits: Duration,
}

impl<'a> Call<'a> {
    fn get(send: &'a HttpSend, path: String) -> Self {
        Self { send, method: Method::GET, path, body: None, if_none_match: None, waits: Duration::ZERO }
    }
}

impl RestPeer {
    /// A platform at `base` (`https://host:port`), spoken to with bodies in `format`. `urgent` and `bulk` have
    /// connections of their own, so that no bulk transfer's flow control stands before an emergency.
    pub fn new(base: &str, credentials: Credentials, format: BodyFormat, urgent: HttpSend, bulk: HttpSend) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { base, credentials, format, urgent, bulk, call_timeout: CALL_TIMEOUT, token: Mutex::new(None) }
    }

    /// Lets calls take so much longer, see [`Bandwidth::patience`](crate::Bandwidth::patience).
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.call_timeout += patience;
        self
    }

    fn unreachable(&self, cause: impl Into<String>) -> PeerError {
        PeerError::Unreachable { peer: self.base.clone(), cause: cause.into() }
    }

    fn wrong(&self, cause: impl Into<String>) -> PeerError {
        PeerError::Answer { peer: self.base.clone(), cause: cause.into() }
    }

    /// The token held, or a new one. One request for it at a time.
    async fn token(&self, id: &str, secret: &str, spoiled: Option<&str>) -> Result<String, NoToken> {
        let mut token = self.token.lock().await;
        if let Some(held) = token.as_ref()
            && Some(held.as_str()) != spoiled
        {
            return Ok(held.clone());
        }
        let basic = BASE64_STANDARD.encode(format!("{}:{}", encoded(id), encoded(secret)));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/oauth2/token", self.base))
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from_static(b"grant_type=client_credentials"))
            .map_err(|error| NoToken::Failed(self.wrong(error.to_string())))?;
        let response = (self.urgent)(request, self.call_timeout).await;
        let response = response.map_err(|cause| NoToken::Failed(self.unreachable(cause)))?;
        if let Some(refusal) = not_now(&response) {
            return Err(NoToken::Busy(refusal));
        }
        if !response.status().is_success() {
            return Err(NoToken::Failed(self.wrong(format!("no access token: {}", excerpt(&response)))));
        }
        let answer: TokenAnswer = serde_json::from_slice(response.body())
            .map_err(|error| NoToken::Failed(self.wrong(format!("no access token: {error}"))))?;
        *token = Some(answer.access_token.clone());
        Ok(answer.access_token)
    }

    fn by_lane(&self, feed: Option<&wire::FeedId>) -> &HttpSend {
        match feed.and_then(|feed| Lane::from_wire(feed.lane)) {
            Some(Lane::Directory | Lane::Emergency) => &self.urgent,
            _ => &self.bulk,
        }
    }

    fn for_media(&self, urgent: bool) -> &HttpSend {
        if urgent { &self.urgent } else { &self.bulk }
    }

    /// `message` as a body.
    fn body<M: Message + Name>(&self, message: &M) -> Result<Option<(&'static str, Bytes)>, PeerError> {
        let body = self.format.encode(message, Strictness::Brief).map_err(|error| self.wrong(error))?;
        Ok(Some((self.format.content_type(), body.into())))
    }

    /// Makes a call. `Ok(None)`: what is known is still so (304).
    async fn call<T: Answer>(&self, call: Call<'_>) -> Result<Option<T>, PeerError> {
        let mut spoiled: Option<String> = None;
        loop {
            let mut request = Request::builder()
                .method(call.method.clone())
                .uri(format!("{}{}", self.base, call.path))
                .header(header::ACCEPT, self.format.content_type());
            let mut held = None;
            match &self.credentials {
                Credentials::OAuth2 { client_id, client_secret } => {
                    match self.token(client_id, client_secret, spoiled.as_deref()).await {
                        Ok(token) => {
                            request = request.header(header::AUTHORIZATION, secret(&format!("Bearer {token}")));
                            held = Some(token);
                        }
                        Err(NoToken::Busy(refusal)) => return Ok(Some(T::refused(refusal))),
                        Err(NoToken::Failed(error)) => return Err(error),
                    }
                }
                Credentials::Headers { app_name, access_key, secret_key } => {
                    request = request
                        .header("AppName", secret(app_name))
                        .header("AccessKey", secret(access_key))
                        .header("SecretKey", secret(secret_key));
                }
            }
            if let Some(etag) = &call.if_none_match {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            if let Some((kind, _)) = &call.body {
                request = request.header(header::CONTENT_TYPE, *kind);
            }
            let body = call.body.as_ref().map(|(_, body)| body.clone()).unwrap_or_default();
            let request = request.body(body).map_err(|error| self.wrong(error.to_string()))?;
            let response =
                (call.send)(request, self.call_timeout + call.waits).await.map_err(|cause| self.unreachable(cause))?;
            match response.status() {
                // Expired, or the platform restarted: one new token, once.
                StatusCode::UNAUTHORIZED if spoiled.is_none() && held.is_some() => spoiled = held,
                StatusCode::NOT_MODIFIED if call.if_none_match.is_some() => return Ok(None),
                _ => return self.read_answer(&response).map(Some),
            }
        }
    }

    /// The message in an answer. A refusal counts whatever the status; a success only if it can be one.
    fn read_answer<T: Answer>(&self, response: &Response<Bytes>) -> Result<T, PeerError> {
        let success = response.status().is_success();
        let format = BodyFormat::of(response.headers());
        let message = match format {
            Some(format) => format.decode::<T>(response.body(), Strictness::Brief),
            // Platforms in between have lost content types before.
            None if success => self.format.decode::<T>(response.body(), Strictness::Brief),
            None => Err("neither protobuf nor JSON".to_owned()),
        };
        match message {
            Ok(message) if success && message.is_plausible() => Ok(message),
            Ok(message) if !success && (message.refusal().is_some() || message.status() == response.status()) => {
                Ok(message)
            }
            _ if not_now(response).is_some() => Ok(not_now(response).map(T::refused).unwrap_or_default()),
            Ok(_) => Err(self.wrong(format!("no {}: {}", T::full_name(), excerpt(response)))),
            Err(error) => Err(self.wrong(format!("{error}: {}", excerpt(response)))),
        }
    }

    async fn whole<T: Answer>(&self, call: Call<'_>) -> Result<T, PeerError> {
        // Without a condition there is always an answer.
        self.call(call).await?.ok_or_else(|| self.wrong("304 to a call without a condition"))
    }
}

/// "Not now" in the words of HTTP, as a refusal.
fn not_now(response: &Response<Bytes>) -> Option<wire::Refusal> {
    let status = response.status();
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let retry_after_ms = retry_after_s(response.headers()).saturating_mul(1_000);
    Some(refusal(RefusalCode::Busy, format!("the platform answers {}", excerpt(response)), retry_after_ms))
}

fn retry_after_s(headers: &HeaderMap) -> u32 {
    let seconds = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    seconds.map_or(DEFAULT_RETRY_S, |seconds| u32::try_from(seconds).unwrap_or(MAX_RETRY_S).clamp(1, MAX_RETRY_S))
}

fn excerpt(response: &Response<Bytes>) -> String {
    let text = String::from_utf8_lossy(response.body());
    let shown = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    format!("{}: {}", response.status(), shown.take(MAX_EXCERPT_CHARS).collect::<String>())
}

/// A header value that logs do not show. One that cannot be a header is sent as nothing, and refused.
fn secret(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Percent-encoded, as RFC 6749, 2.3.1, wants both halves of HTTP Basic.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn feed_path(feed: Option<&wire::FeedId>) -> String {
    let feed = feed.cloned().unwrap_or_default();
    let lane = Lane::from_wire(feed.lane).map_or("unknown", Lane::as_str);
    let audience = if feed.audience == "*" { ALL_IN_PATH } else { &feed.audience };
    format!("/exchange/v1/feeds/{}/{audience}/{lane}", feed.origin)
}

/// What an address about media ends with. Platforms that know nothing of it need not hear of ordinary files.
fn and_urgent(urgent: bool) -> &'static str {
    if urgent { "&urgent=true" } else { "" }
}

impl Peer for RestPeer {
    fn name(&self) -> &str {
        &self.base
    }

    async fn heads(&self, request: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        let (log_id, after, wait_ms) = (request.log_id, request.after, request.wait_ms);
        let path = format!("/exchange/v1/heads?log_id={}&after={after}&wait_ms={wait_ms}", hex::encode(&log_id));
        let waits = Duration::from_millis(wait_ms.min(MAX_WAIT_MS).into());
        let if_none_match = (!log_id.is_empty()).then(|| heads_etag(&log_id, after));
        let answer = self.call(Call { waits, if_none_match, ..Call::get(&self.urgent, path) }).await?;
        let nothing_new = || wire::HeadsResponse { log_id, position: after, ..Default::default() };
        Ok(answer.unwrap_or_else(nothing_new))
    }

    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        let mut path =
            format!("{}?after={}&max_bytes={}", feed_path(request.feed.as_ref()), request.after, request.max_bytes);
        if request.accept_zstd {
            path.push_str("&accept_zstd=true");
        }
        if request.from_restated {
            path.push_str("&from_restated=true");
        }
        self.whole(Call::get(self.by_lane(request.feed.as_ref()), path)).await
    }

    async fn push(&self, request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        let send = self.by_lane(request.feed.as_ref());
        let call = Call::get(send, feed_path(request.feed.as_ref()));
        self.whole(Call { method: Method::POST, body: self.body(&request)?, ..call }).await
    }

    async fn stat_media(&self, request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let sha256 = hex::encode(&request.sha256);
        let path = format!("/exchange/v1/media/{sha256}/state{}", if request.urgent { "?urgent=true" } else { "" });
        self.whole(Call::get(self.for_media(request.urgent), path)).await
    }

    async fn read_media(&self, request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        let sha256 = hex::encode(&request.sha256);
        let wire::ReadMediaRequest { offset, max_bytes, urgent, .. } = request;
        let path = format!("/exchange/v1/media/{sha256}?offset={offset}&max_bytes={max_bytes}{}", and_urgent(urgent));
        self.whole(Call::get(self.for_media(urgent), path)).await
    }

    async fn write_media(&self, request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let sha256 = hex::encode(&request.sha256);
        let wire::WriteMediaRequest { size, offset, urgent, .. } = request;
        let path = format!("/exchange/v1/media/{sha256}?size={size}&offset={offset}{}", and_urgent(urgent));
        let body = Some(("application/octet-stream", request.data));
        self.whole(Call { method: Method::PATCH, body, ..Call::get(self.for_media(urgent), path) }).await
    }

    async fn witness(&self, request: wire::WitnessRequest) -> Result<wire::WitnessResponse, PeerError> {
        let call = Call::get(&self.bulk, "/exchange/v1/witness".to_owned());
        self.whole(Call { method: Method::POST, body: self.body(&request)?, ..call }).await
    }
}
