//! The member's side.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, Response, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use httt_feed::Lane;
use httt_wire::{Message, exchange as wire};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{PROTOBUF, audience_in_path};
use crate::{MAX_WAIT_MS, Peer, PeerError};

const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Sends one HTTP request within a time; the error is a text for people. Given by the node, which has the TLS setup.
pub type HttpSend =
    Arc<dyn Fn(Request<Bytes>, Duration) -> BoxFuture<'static, Result<Response<Bytes>, String>> + Send + Sync>;

/// A platform reached by REST.
pub struct RestPeer {
    base: String,
    client_id: String,
    client_secret: String,
    urgent: HttpSend,
    bulk: HttpSend,
    token: Mutex<Option<String>>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
}

impl RestPeer {
    /// A platform at `base` (`https://host:port`), spoken to as `client_id`. `urgent` and `bulk` have connections of
    /// their own, so that no bulk transfer's flow control stands before an emergency.
    pub fn new(base: &str, client_id: &str, client_secret: &str, urgent: HttpSend, bulk: HttpSend) -> Self {
        Self {
            base: base.trim_end_matches('/').to_owned(),
            client_id: client_id.to_owned(),
            client_secret: client_secret.to_owned(),
            urgent,
            bulk,
            token: Mutex::new(None),
        }
    }

    fn unreachable(&self, cause: impl Into<String>) -> PeerError {
        PeerError::Unreachable { peer: self.base.clone(), cause: cause.into() }
    }

    fn wrong(&self, cause: impl Into<String>) -> PeerError {
        PeerError::Answer { peer: self.base.clone(), cause: cause.into() }
    }

    /// The token held, or a new one. One request for it at a time.
    async fn token(&self, spoiled: Option<&str>) -> Result<String, PeerError> {
        let mut token = self.token.lock().await;
        if let Some(held) = token.as_ref()
            && Some(held.as_str()) != spoiled
        {
            return Ok(held.clone());
        }
        let basic = BASE64_STANDARD.encode(format!("{}:{}", self.client_id, self.client_secret));
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/oauth2/token", self.base))
            .header(header::AUTHORIZATION, format!("Basic {basic}"))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Bytes::from_static(b"grant_type=client_credentials"))
            .map_err(|error| self.wrong(error.to_string()))?;
        let response = (self.urgent)(request, CALL_TIMEOUT).await.map_err(|cause| self.unreachable(cause))?;
        if !response.status().is_success() {
            return Err(self.wrong(format!("no access token: {}", response.status())));
        }
        let answer: TokenAnswer =
            serde_json::from_slice(response.body()).map_err(|error| self.wrong(error.to_string()))?;
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

    async fn call<T: Message + Default>(
        &self,
        send: &HttpSend,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<T, PeerError> {
        let mut spoiled = None;
        loop {
            let token = self.token(spoiled.as_deref()).await?;
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("{}{path}", self.base))
                .header(header::AUTHORIZATION, format!("Bearer {token}"))
                .header(header::CONTENT_TYPE, PROTOBUF)
                .body(body.clone())
                .map_err(|error| self.wrong(error.to_string()))?;
            let response = send(request, limit).await.map_err(|cause| self.unreachable(cause))?;
            match response.status() {
                // Expired, or the platform restarted: one new token, once.
                StatusCode::UNAUTHORIZED if spoiled.is_none() => spoiled = Some(token),
                status if status.is_success() => {
                    return T::decode(response.into_body()).map_err(|error| self.wrong(error.to_string()));
                }
                status => {
                    let text = String::from_utf8_lossy(response.body()).chars().take(200).collect::<String>();
                    return Err(self.wrong(format!("{status}: {text}")));
                }
            }
        }
    }
}

fn feed_path(feed: Option<&wire::FeedId>) -> String {
    let feed = feed.cloned().unwrap_or_default();
    let lane = Lane::from_wire(feed.lane).map_or("unknown", Lane::as_str);
    format!("/exchange/v1/feeds/{}/{}/{lane}", feed.origin, audience_in_path(&feed.audience))
}

impl Peer for RestPeer {
    fn name(&self) -> &str {
        &self.base
    }

    async fn heads(&self, request: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        let (log_id, after, wait_ms) = (hex::encode(&request.log_id), request.after, request.wait_ms);
        let path = format!("/exchange/v1/heads?log_id={log_id}&after={after}&wait_ms={wait_ms}");
        let limit = CALL_TIMEOUT + Duration::from_millis(wait_ms.min(MAX_WAIT_MS).into());
        self.call(&self.urgent, Method::GET, &path, Bytes::new(), limit).await
    }

    async fn read(&self, request: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        let path =
            format!("{}?after={}&max_bytes={}", feed_path(request.feed.as_ref()), request.after, request.max_bytes);
        self.call(self.by_lane(request.feed.as_ref()), Method::GET, &path, Bytes::new(), CALL_TIMEOUT).await
    }

    async fn push(&self, request: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        let path = feed_path(request.feed.as_ref());
        self.call(
            self.by_lane(request.feed.as_ref()),
            Method::POST,
            &path,
            request.encode_to_vec().into(),
            CALL_TIMEOUT,
        )
        .await
    }

    async fn stat_media(&self, request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let path = format!("/exchange/v1/media/{}/state", hex::encode(&request.sha256));
        self.call(self.for_media(request.urgent), Method::GET, &path, Bytes::new(), CALL_TIMEOUT).await
    }

    async fn read_media(&self, request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        let sha256 = hex::encode(&request.sha256);
        let path = format!("/exchange/v1/media/{sha256}?offset={}&max_bytes={}", request.offset, request.max_bytes);
        self.call(self.for_media(request.urgent), Method::GET, &path, Bytes::new(), CALL_TIMEOUT).await
    }

    async fn write_media(&self, request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let sha256 = hex::encode(&request.sha256);
        let path = format!("/exchange/v1/media/{sha256}?size={}&offset={}", request.size, request.offset);
        self.call(self.for_media(request.urgent), Method::PATCH, &path, request.data, CALL_TIMEOUT).await
    }

    async fn witness(&self, request: wire::WitnessRequest) -> Result<wire::WitnessResponse, PeerError> {
        let body = request.encode_to_vec().into();
        self.call(&self.bulk, Method::POST, "/exchange/v1/witness", body, CALL_TIMEOUT).await
    }
}
