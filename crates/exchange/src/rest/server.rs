//! The platform's side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequestParts, Path, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use httt_feed::{AgencyCode, Digest, Lane};
use httt_wire::{Message, exchange as wire};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;

use super::PROTOBUF;
use crate::{MAX_MESSAGE_BYTES, Service};

/// How long an access token is good.
const TOKEN_LIFE: Duration = Duration::from_secs(3_600);
/// Tokens alive at once; the oldest goes first.
const MAX_TOKENS: usize = 10_000;
/// Largest token request.
const MAX_FORM_BYTES: usize = 4 * 1024;

/// An OAuth2 client: who it is and the SHA-256 of its secret. Secrets are random and long, so a plain hash keeps them.
#[derive(Debug, Clone)]
pub struct ClientId {
    /// The member it speaks for.
    pub member: AgencyCode,
    /// SHA-256 of its secret.
    pub secret_sha256: Digest,
}

/// The clients, and the tokens they got. Tokens live in memory: after a restart a client asks for another.
pub struct OAuthClients {
    clients: HashMap<String, ClientId>,
    tokens: Mutex<HashMap<Digest, (AgencyCode, Instant)>>,
}

impl OAuthClients {
    /// Clients by `client_id`.
    pub fn new(clients: HashMap<String, ClientId>) -> Self {
        Self { clients, tokens: Mutex::default() }
    }

    fn issue(&self, id: &str, secret: &str) -> Option<String> {
        let client = self.clients.get(id)?;
        let given = Digest::of(secret.as_bytes());
        // Over hashes of random secrets, comparing byte by byte tells a guesser nothing.
        if given != client.secret_sha256 {
            return None;
        }
        let mut random = [0; 32];
        SystemRandom::new().fill(&mut random).ok()?;
        let token = BASE64_URL_SAFE_NO_PAD.encode(random);
        let mut tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        tokens.retain(|_, (_, until)| *until > now);
        if tokens.len() >= MAX_TOKENS
            && let Some(oldest) = tokens.iter().min_by_key(|(_, (_, until))| *until).map(|(digest, _)| *digest)
        {
            tokens.remove(&oldest);
        }
        tokens.insert(Digest::of(token.as_bytes()), (client.member.clone(), now + TOKEN_LIFE));
        Some(token)
    }

    fn member(&self, token: &str) -> Option<AgencyCode> {
        let tokens = self.tokens.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (member, until) = tokens.get(&Digest::of(token.as_bytes()))?;
        (*until > Instant::now()).then(|| member.clone())
    }
}

#[derive(Clone)]
struct Platform {
    service: Arc<Service>,
    clients: Arc<OAuthClients>,
}

/// The platform's routes over `service`.
pub fn router(service: Arc<Service>, clients: Arc<OAuthClients>) -> Router {
    Router::new()
        .route("/oauth2/token", post(token).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)))
        .route("/exchange/v1/heads", get(heads))
        .route("/exchange/v1/feeds/{origin}/{audience}/{lane}", get(read).post(push))
        .route("/exchange/v1/media/{sha256}", get(read_media).patch(write_media))
        .route("/exchange/v1/media/{sha256}/state", get(stat_media))
        .route("/exchange/v1/witness", post(witness))
        .layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES))
        .with_state(Platform { service, clients })
}

struct Caller(AgencyCode);

impl FromRequestParts<Platform> for Caller {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, platform: &Platform) -> Result<Self, Response> {
        let bearer =
            parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        bearer.and_then(|token| platform.clients.member(token)).map(Self).ok_or_else(|| {
            let challenge = [(header::WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#)];
            (StatusCode::UNAUTHORIZED, challenge, "no valid access token").into_response()
        })
    }
}

fn protobuf(message: &impl Message) -> Response {
    ([(header::CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}

/// A request that makes no sense, and what is wrong with it.
struct BadRequest(&'static str);

impl IntoResponse for BadRequest {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, self.0).into_response()
    }
}

async fn token(State(platform): State<Platform>, headers: HeaderMap, body: String) -> Response {
    let form: HashMap<String, String> = parse_form(&body);
    let basic = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(|value| String::from_utf8(BASE64_STANDARD.decode(value).ok()?).ok())
        .and_then(|pair| pair.split_once(':').map(|(id, secret)| (id.to_owned(), secret.to_owned())));
    let field = |name: &str| form.get(name).cloned();
    let oauth_error =
        |status: StatusCode, code: &str| (status, axum::Json(serde_json::json!({ "error": code }))).into_response();
    if field("grant_type").as_deref() != Some("client_credentials") {
        return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type");
    }
    let credentials = basic.or_else(|| Some((field("client_id")?, field("client_secret")?)));
    match credentials.and_then(|(id, secret)| platform.clients.issue(&id, &secret)) {
        Some(token) => axum::Json(serde_json::json!({
            "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE.as_secs(),
        }))
        .into_response(),
        None => oauth_error(StatusCode::UNAUTHORIZED, "invalid_client"),
    }
}

/// `a=b&c=d` with percent-encoding; what does not decode is left out.
fn parse_form(body: &str) -> HashMap<String, String> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            if byte == b'%' {
                let pair = [bytes.next()?, bytes.next()?];
                out.extend(hex::decode(pair).ok()?);
            } else {
                out.push(byte);
            }
        }
        String::from_utf8(out).ok()
    };
    body.split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(k, v)| Some((decode(k)?, decode(v)?)))
        .collect()
}

#[derive(Deserialize)]
struct HeadsQuery {
    #[serde(default)]
    log_id: String,
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u32,
}

async fn heads(State(platform): State<Platform>, Caller(caller): Caller, Query(query): Query<HeadsQuery>) -> Response {
    let Ok(log_id) = hex::decode(&query.log_id) else { return BadRequest("log_id is not hexadecimal").into_response() };
    let request = wire::HeadsRequest { log_id, after: query.after, wait_ms: query.wait_ms };
    protobuf(&platform.service.heads(&caller, request).await)
}

type FeedPath = Path<(String, String, String)>;

fn feed_id(Path((origin, audience, lane)): FeedPath) -> Result<wire::FeedId, BadRequest> {
    let audience = if audience == "all" { "*".to_owned() } else { audience };
    let lane = Lane::ALL.into_iter().find(|known| known.as_str() == lane);
    let lane = lane.ok_or(BadRequest("unknown lane"))?.to_wire();
    Ok(wire::FeedId { origin, audience, lane })
}

#[derive(Deserialize)]
struct ReadQuery {
    after: u64,
    max_bytes: u32,
}

async fn read(
    State(platform): State<Platform>,
    Caller(caller): Caller,
    path: FeedPath,
    Query(query): Query<ReadQuery>,
) -> Response {
    match feed_id(path) {
        Ok(feed) => {
            let request = wire::ReadRequest {
                feed: Some(feed),
                after: query.after,
                max_bytes: query.max_bytes,
                ..Default::default()
            };
            protobuf(&platform.service.read(&caller, &request))
        }
        Err(wrong) => wrong.into_response(),
    }
}

async fn push(State(platform): State<Platform>, Caller(caller): Caller, path: FeedPath, body: Bytes) -> Response {
    let feed = match feed_id(path) {
        Ok(feed) => feed,
        Err(wrong) => return wrong.into_response(),
    };
    let Ok(request) = wire::PushRequest::decode(body) else {
        return BadRequest("the body is no PushRequest").into_response();
    };
    if request.feed.as_ref() != Some(&feed) {
        return BadRequest("the body names another feed than the address").into_response();
    }
    protobuf(&platform.service.push(&caller, request).await)
}

fn media_path(text: &str) -> Result<Vec<u8>, BadRequest> {
    hex::decode(text).map_err(|_| BadRequest("a media address is a SHA-256 in hexadecimal"))
}

async fn stat_media(State(platform): State<Platform>, Caller(caller): Caller, Path(sha256): Path<String>) -> Response {
    match media_path(&sha256) {
        Ok(sha256) => {
            protobuf(&platform.service.stat_media(&caller, wire::StatMediaRequest { sha256, urgent: false }).await)
        }
        Err(wrong) => wrong.into_response(),
    }
}

#[derive(Deserialize)]
struct RangeQuery {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    max_bytes: u32,
    #[serde(default)]
    size: u64,
}

async fn read_media(
    State(platform): State<Platform>,
    Caller(caller): Caller,
    Path(sha256): Path<String>,
    Query(range): Query<RangeQuery>,
) -> Response {
    match media_path(&sha256) {
        Ok(sha256) => {
            let request =
                wire::ReadMediaRequest { sha256, offset: range.offset, max_bytes: range.max_bytes, urgent: false };
            protobuf(&platform.service.read_media(&caller, request).await)
        }
        Err(wrong) => wrong.into_response(),
    }
}

async fn write_media(
    State(platform): State<Platform>,
    Caller(caller): Caller,
    Path(sha256): Path<String>,
    Query(range): Query<RangeQuery>,
    data: Bytes,
) -> Response {
    match media_path(&sha256) {
        Ok(sha256) => {
            let request =
                wire::WriteMediaRequest { sha256, size: range.size, offset: range.offset, data, urgent: false };
            protobuf(&platform.service.write_media(&caller, request).await)
        }
        Err(wrong) => wrong.into_response(),
    }
}

async fn witness(State(platform): State<Platform>, Caller(_): Caller, body: Bytes) -> Response {
    match wire::WitnessRequest::decode(body) {
        Ok(request) => protobuf(&platform.service.witness(request).await),
        Err(_) => BadRequest("the body is no WitnessRequest").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_decode_and_bad_escapes_are_left_out() {
        let form = parse_form("grant_type=client_credentials&client_secret=a%2Bb+c&bad=%2&worse=%zz&x");
        assert_eq!(form["grant_type"], "client_credentials");
        assert_eq!(form["client_secret"], "a+b c");
        assert_eq!(form.len(), 2);
    }

    #[test]
    fn tokens_belong_to_their_client_only() {
        let member = AgencyCode::new("H55").expect("code");
        let client = ClientId { member: member.clone(), secret_sha256: Digest::of(b"secret") };
        let clients = OAuthClients::new(HashMap::from([("h55".to_owned(), client)]));
        assert!(clients.issue("h55", "wrong").is_none());
        assert!(clients.issue("nobody", "secret").is_none());
        let token = clients.issue("h55", "secret").expect("token");
        assert_eq!(clients.member(&token), Some(member));
        assert_eq!(clients.member("guess"), None);
    }
}
