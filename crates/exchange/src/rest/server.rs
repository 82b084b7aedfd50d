//! The platform's side.
//!
//! | Module | Subject |
//! |---|---|
//! | `gate` | what every call passes through: credentials, quotas, records |
//! | `credentials` | the clients and what they prove themselves by |
//! | `token` | access tokens |
//! | `etag` | "nothing new" as HTTP says it |
//! | `record` | what is kept of a call |

mod credentials;
mod etag;
mod gate;
mod record;
mod token;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, Extension, Path, Query, State};
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use httt_feed::Lane;
use httt_wire::exchange::{self as wire, RefusalCode};
use httt_wire::json::Strictness;
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use credentials::{Client, ClientKey, ClientTwice, Clients};
pub use record::{CUT, CallRecord, CallSink};

use super::BodyFormat;
use super::answer::{Answer, refusal};

use crate::quota::{CallQuotas, CallRates, Class};
use crate::{MAX_CALL_BYTES, MAX_WAIT_MS, Service, refusal_from_wire};

const TOKEN: &str = "/oauth2/token";
const HEADS: &str = "/exchange/v1/heads";
const FEED: &str = "/exchange/v1/feeds/{origin}/{audience}/{lane}";
const MEDIA: &str = "/exchange/v1/media/{sha256}";
const MEDIA_STATE: &str = "/exchange/v1/media/{sha256}/state";
const WITNESS: &str = "/exchange/v1/witness";

/// Every route of [`router`], by method and path, for whoever describes them.
pub const ROUTES: [(&str, &str); 8] = [
    ("post", TOKEN),
    ("get", HEADS),
    ("get", FEED),
    ("post", FEED),
    ("get", MEDIA),
    ("patch", MEDIA),
    ("get", MEDIA_STATE),
    ("post", WITNESS),
];

/// What [`router`] needs besides the service.
pub struct PlatformOptions {
    /// Who may call.
    pub clients: Clients,
    /// Where the record of each call goes.
    pub records: CallSink,
    /// Where a request comes from, by what the server put into its extensions.
    pub address_of: fn(&Extensions) -> IpAddr,
    /// The time for records, Unix ms.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// The time for quotas and tokens, which must not depend on a clock that can be set: ms since any moment.
    pub uptime: Arc<dyn Fn() -> i64 + Send + Sync>,
}

struct Platform {
    service: Arc<Service>,
    options: PlatformOptions,
    quotas: Mutex<CallQuotas<String>>,
    urgent_bodies: Semaphore,
    bulk_bodies: Semaphore,
}

/// Bodies that may arrive at once, of urgent calls and of others.
const MAX_BODIES: usize = 96;

impl Platform {
    fn bodies(&self, class: Class) -> &Semaphore {
        if class == Class::Urgent { &self.urgent_bodies } else { &self.bulk_bodies }
    }

    fn now_ms(&self) -> i64 {
        (self.options.uptime)()
    }

    fn quotas(&self) -> MutexGuard<'_, CallQuotas<String>> {
        self.quotas.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the caller may make this call; otherwise the milliseconds to wait. Who asks for a token is nobody yet.
    fn take(&self, call: &CallRecord, class: Class, bytes: u64) -> Result<(), u32> {
        if call.client.is_empty() { Ok(()) } else { self.quotas().take(&call.client, class, bytes, self.now_ms()) }
    }

    fn charge(&self, call: &CallRecord, class: Class, bytes: u64) {
        if !call.client.is_empty() {
            self.quotas().charge(&call.client, class, bytes, self.now_ms());
        }
    }
}

/// The platform's routes over `service`.
pub fn router(service: Arc<Service>, options: PlatformOptions) -> Router {
    let mut quotas = CallQuotas::new(CallRates::UNLIMITED);
    options.clients.all().for_each(|client| quotas.set_rates(&client.key.name(), client.rates));
    let platform = Arc::new(Platform {
        service,
        options,
        quotas: Mutex::new(quotas),
        urgent_bodies: Semaphore::new(MAX_BODIES),
        bulk_bodies: Semaphore::new(MAX_BODIES),
    });
    Router::new()
        .route(TOKEN, post(token::issue))
        .route(HEADS, get(heads))
        .route(FEED, get(read).post(push))
        .route(MEDIA, get(read_media).patch(write_media))
        .route(MEDIA_STATE, get(stat_media))
        .route(WITNESS, post(witness))
        .route_layer(from_fn_with_state(Arc::clone(&platform), gate::gate))
        // The gate reads bodies, with a limit and an answer of its own.
        .layer(DefaultBodyLimit::disable())
        .with_state(platform)
}

type Here = State<Arc<Platform>>;
type Caller = Extension<Arc<Client>>;
type Asked<T> = Result<Query<T>, QueryRejection>;
type FeedPath = Path<(String, String, String)>;

/// Tells the gate which refusal an answer bears.
#[derive(Clone, Copy)]
struct RefusedWith(RefusalCode);

/// A message as the answer to a call: body, status, and when to come back.
fn respond<T: Answer>(format: BodyFormat, message: &T) -> Response {
    let body = match format.encode(message, Strictness::Whole) {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let mut response = (message.status(), [(header::CONTENT_TYPE, format.content_type())], body).into_response();
    if let Some(refusal) = message.refusal() {
        response.extensions_mut().insert(RefusedWith(refusal_from_wire(refusal)));
        let waits = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&message.status());
        if waits {
            let seconds = refusal.retry_after_ms.div_ceil(1_000).max(1);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
    }
    response
}

/// The answer to a request that makes no sense.
fn malformed<T: Answer>(format: BodyFormat, what: impl Into<String>) -> Response {
    respond(format, &T::refused(refusal(RefusalCode::Malformed, what, 0)))
}

/// The message that a body is, by its content type.
fn decode<T: Answer + Sized, M>(headers: &HeaderMap, body: &[u8]) -> Result<M, Box<Response>>
where
    M: httt_wire::Message + httt_wire::Name + Default,
{
    let answered = BodyFormat::for_answer(headers);
    let Some(format) = BodyFormat::of(headers) else {
        let kinds = [BodyFormat::Protobuf, BodyFormat::Json].map(BodyFormat::content_type).join(", ");
        let mut response = malformed::<T>(answered, format!("content-type: one of {kinds}"));
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Box::new(response));
    };
    format.decode(body, Strictness::Whole).map_err(|error| Box::new(malformed::<T>(answered, error)))
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

async fn heads(
    State(platform): Here,
    Extension(client): Caller,
    headers: HeaderMap,
    query: Asked<HeadsQuery>,
) -> Response {
    type T = wire::HeadsResponse;
    let format = BodyFormat::for_answer(&headers);
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return malformed::<T>(format, error.body_text()),
    };
    let Ok(log_id) = hex::decode(&query.log_id) else {
        return malformed::<T>(format, "log_id is not hexadecimal");
    };
    // Who names no position in the address asks for all heads, and may name one by the ETag of the answer before.
    let known = etag::heads_known(&headers);
    let asked = (!log_id.is_empty()).then_some((log_id, query.after));
    let (log_id, after) = asked.clone().or_else(|| known.clone()).unwrap_or_default();
    let since = (log_id.clone(), after);
    let request = wire::HeadsRequest { log_id, after, wait_ms: query.wait_ms, ..Default::default() };
    let mut answer = platform.service.heads(&client.member, request).await;
    let nothing_new = T { log_id: since.0.clone(), position: answer.position, ..T::default() } == answer;
    if nothing_new && known.as_ref() == Some(&since) {
        return etag::not_modified(&headers);
    }
    if asked.is_none() && known.is_some() {
        // The address stands for all heads, not for those that changed.
        answer = platform.service.heads(&client.member, wire::HeadsRequest::default()).await;
    }
    etag::tagged(etag::of_heads(&answer), respond(format, &answer))
}

fn audience_of_path(audience: &str) -> &str {
    if audience == super::ALL_IN_PATH { "*" } else { audience }
}

fn feed_id(Path((origin, audience, lane)): FeedPath) -> Option<wire::FeedId> {
    let lane = Lane::ALL.into_iter().find(|known| known.as_str() == lane)?.to_wire();
    Some(wire::FeedId { origin, audience: audience_of_path(&audience).to_owned(), lane })
}

#[derive(Deserialize)]
struct ReadQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "most_bytes")]
    max_bytes: u32,
    #[serde(default)]
    wait_ms: u32,
    #[serde(default)]
    accept_zstd: bool,
    #[serde(default)]
    from_restated: bool,
}

fn most_bytes() -> u32 {
    MAX_CALL_BYTES as u32
}

async fn read(
    State(platform): Here,
    Extension(client): Caller,
    headers: HeaderMap,
    path: FeedPath,
    query: Asked<ReadQuery>,
) -> Response {
    type T = wire::ReadResponse;
    let format = BodyFormat::for_answer(&headers);
    let Some(feed) = feed_id(path) else { return malformed::<T>(format, "unknown lane") };
    let query = match query {
        Ok(Query(query)) => query,
        Err(error) => return malformed::<T>(format, error.body_text()),
    };
    let request = wire::ReadRequest {
        feed: Some(feed),
        after: query.after,
        max_bytes: query.max_bytes,
        accept_zstd: query.accept_zstd,
        from_restated: query.from_restated,
    };
    let answer = waited_read(&platform.service, &client, &request, query.wait_ms).await;
    let response = respond(format, &answer);
    if answer.refusal.is_some() { response } else { etag::conditional(&headers, &answer, response) }
}

/// Reads; where there is nothing, waits for news first.
async fn waited_read(
    service: &Service,
    client: &Client,
    request: &wire::ReadRequest,
    wait_ms: u32,
) -> wire::ReadResponse {
    let deadline = Instant::now() + std::time::Duration::from_millis(wait_ms.min(MAX_WAIT_MS).into());
    let mut since = wire::HeadsResponse::default();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (begins, before) = (since.log_id.is_empty(), since.position);
        let wait_ms = if begins { 0 } else { left.as_millis() as u32 };
        // The position is taken before the feed is read: what comes in between ends the next wait at once.
        let heads = wire::HeadsRequest { log_id: since.log_id, after: since.position, wait_ms, ..Default::default() };
        let news = if left.is_zero() { None } else { Some(service.heads(&client.member, heads).await) };
        let answer = service.read(&client.member, request).await;
        let something = !answer.entries.is_empty() || !answer.packed.is_empty() || answer.refusal.is_some();
        let Some(news) = news.filter(|news| !something && news.refusal.is_none()) else { return answer };
        // A wait that ended with nothing new was ended by somebody: too many at once, or the node stops.
        if !begins && news.position == before && news.heads.is_empty() {
            return answer;
        }
        since = news;
    }
}

async fn push(
    State(platform): Here,
    Extension(client): Caller,
    headers: HeaderMap,
    path: FeedPath,
    body: Bytes,
) -> Response {
    type T = wire::PushResponse;
    let format = BodyFormat::for_answer(&headers);
    let Some(feed) = feed_id(path) else { return malformed::<T>(format, "unknown lane") };
    let mut request: wire::PushRequest = match decode::<T, _>(&headers, &body) {
        Ok(request) => request,
        Err(response) => return *response,
    };
    if *request.feed.get_or_insert_with(|| feed.clone()) != feed {
        return malformed::<T>(format, "the body names another feed than the address");
    }
    respond(format, &platform.service.push(&client.member, request).await)
}

const NO_SHA256: &str = "a media address is a SHA-256 in hexadecimal";

async fn stat_media(
    State(platform): Here,
    Extension(client): Caller,
    headers: HeaderMap,
    Path(sha256): Path<String>,
    query: Asked<UrgencyQuery>,
) -> Response {
    type T = wire::StatMediaResponse;
    let format = BodyFormat::for_answer(&headers);
    let urgent = match query {
        Ok(Query(query)) => query.urgent,
        Err(error) => return malformed::<T>(format, error.body_text()),
    };
    let Ok(sha256) = hex::decode(&sha256) else { return malformed::<T>(format, NO_SHA256) };
    let request = wire::StatMediaRequest { sha256, urgent };
    respond(format, &platform.service.stat_media(&client.member, request).await)
}

/// Whether a call about media is for an emergency.
#[derive(Deserialize)]
struct UrgencyQuery {
    #[serde(default)]
    urgent: bool,
}

#[derive(Deserialize)]
struct RangeQuery {
    #[serde(default)]
    offset: u64,
    #[serde(default = "most_bytes")]
    max_bytes: u32,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    urgent: bool,
}

async fn read_media(
    State(platform): Here,
    Extension(client): Caller,
    headers: HeaderMap,
    Path(sha256): Path<String>,
    query: Asked<RangeQuery>,
) -> Response {
    type T = wire::ReadMediaResponse;
    let format = BodyFormat::for_answer(&headers);
    let range = match query {
        Ok(Query(range)) => range,
        Err(error) => return malformed::<T>(format, error.body_text()),
    };
    let Ok(sha256) = hex::decode(&sha256) else { return malformed::<T>(format, NO_SHA256) };
    let RangeQuery { offset, max_bytes, urgent, .. } = range;
    let request = wire::ReadMediaRequest { sha256, offset, max_bytes, urgent };
    respond(format, &platform.service.read_media(&client.member, request).await)
}

async fn write_media(
    State(platform): Here,
    Extension(client): Caller,
    headers: HeaderMap,
    Path(sha256): Path<String>,
    query: Asked<RangeQuery>,
    data: Bytes,
) -> Response {
    type T = wire::StatMediaResponse;
    let format = BodyFormat::for_answer(&headers);
    let range = match query {
        Ok(Query(range)) => range,
        Err(error) => return malformed::<T>(format, error.body_text()),
    };
    let Ok(sha256) = hex::decode(&sha256) else { return malformed::<T>(format, NO_SHA256) };
    let RangeQuery { size, offset, urgent, .. } = range;
    let request = wire::WriteMediaRequest { sha256, size, offset, data, urgent };
    respond(format, &platform.service.write_media(&client.member, request).await)
}

async fn witness(State(platform): Here, headers: HeaderMap, body: Bytes) -> Response {
    match decode::<wire::WitnessResponse, _>(&headers, &body) {
        Ok(request) => respond(BodyFormat::for_answer(&headers), &platform.service.witness(request).await),
        Err(response) => *response,
    }
}
