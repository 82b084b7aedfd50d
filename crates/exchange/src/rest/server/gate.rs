//! What every call passes through: who is it, may it ask for so much, and what is written down of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use httt_feed::{FeedId, Lane};
use httt_wire::exchange::{self as wire, RefusalCode};

use super::credentials::{Client, Denied};
use super::record::{CallRecord, Recording};
use super::token::MAX_FORM_BYTES;
use super::{HEADS, MEDIA, MEDIA_STATE, Platform, RefusedWith, TOKEN, UrgencyQuery, respond};
use crate::MAX_MESSAGE_BYTES;
use crate::quota::Class;
use crate::rest::BodyFormat;
use crate::rest::answer::{Answer as _, refusal};

/// How long a caller may take to send a body.
const BODY_READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest method that is written down; longer ones are nobody's.
const MAX_METHOD_CHARS: usize = 16;

/// The headers of callers without OAuth2.
const KEY_HEADERS: [&str; 3] = ["appname", "accesskey", "secretkey"];

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct From(pub(super) IpAddr);

/// Lets a call in, or not, and writes it down.
pub(super) async fn gate(
    State(platform): State<Arc<Platform>>,
    route: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let address = (platform.options.address_of)(request.extensions());
    let feed = feed_of(request.uri().path());
    let record = CallRecord {
        at_ms: (platform.options.clock)(),
        address: address.to_string(),
        method: request.method().as_str().chars().take(MAX_METHOD_CHARS).collect(),
        route: route.as_str().to_owned(),
        feed: feed.as_ref().map(FeedId::to_string).unwrap_or_default(),
        ..CallRecord::default()
    };
    let mut recording = Recording::begin(record, Arc::clone(&platform.options.records));
    request.extensions_mut().insert(From(address));
    let class = match route.as_str() {
        HEADS => Class::Heads,
        // An address that makes no sense is refused by the call itself.
        MEDIA | MEDIA_STATE => {
            Class::of_media(Query::<UrgencyQuery>::try_from_uri(request.uri()).is_ok_and(|Query(query)| query.urgent))
        }
        _ => Class::of_lane(feed.map(|feed| feed.lane)),
    };
    let is_token = route.as_str() == TOKEN;
    let mut response = match let_in(&platform, &mut recording.record, address, class, is_token, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => refused,
    };
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let record = &mut recording.record;
    if let Some(client) = response.extensions().get::<Arc<Client>>() {
        tell_client(record, client);
    }
    record.status = response.status().as_u16();
    record.refusal =
        response.extensions().get::<RefusedWith>().map(|RefusedWith(code)| name(*code)).unwrap_or_default();
    record.bytes_out = response.body().size_hint().exact().unwrap_or_default();
    platform.charge(record, class, record.bytes_out);
    response
}

/// Everything before the call itself. The body is read here, so that it is counted and has a time.
async fn let_in(
    platform: &Platform,
    record: &mut CallRecord,
    address: IpAddr,
    class: Class,
    is_token: bool,
    request: Request,
) -> Result<Request, Response> {
    let (mut parts, body) = request.into_parts();
    if !is_token {
        let client = identify(platform, &parts, address).map_err(unidentified)?;
        tell_client(record, &client);
        parts.extensions.insert(client);
    }
    let announced = announced(&parts.headers);
    if announced > if is_token { MAX_FORM_BYTES } else { MAX_MESSAGE_BYTES } as u64 {
        return Err(too_large());
    }
    // What is announced is paid before it is read: who is over the limit shall not send for nothing.
    platform.take(record, class, announced).map_err(|wait_ms| busy(wait_ms, class))?;
    // Bodies that arrive take bounded memory, and bulk leaves urgent ones theirs.
    let _room = platform.bodies(class).try_acquire().map_err(|_| busy(BODY_PAUSE_MS, class))?;
    // Whoever asks for a token is nobody yet: no more of its body is read than a form has.
    let body = read(body, if is_token { MAX_FORM_BYTES } else { MAX_MESSAGE_BYTES }).await?;
    record.bytes_in = body.len() as u64;
    platform.charge(record, class, record.bytes_in.saturating_sub(announced));
    Ok(Request::from_parts(parts, Body::from(body)))
}

fn tell_client(record: &mut CallRecord, client: &Client) {
    record.client = client.key.name();
    record.member = client.member.to_string();
}

fn identify(platform: &Platform, parts: &Parts, address: IpAddr) -> Result<Arc<Client>, Denied> {
    let now_ms = platform.now_ms();
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let clients = &platform.options.clients;
    if let Some(token) = text("authorization").and_then(|value| value.strip_prefix("Bearer ")) {
        return clients.by_token(token.trim(), address, now_ms);
    }
    match KEY_HEADERS.map(text) {
        [Some(app_name), Some(access_key), Some(secret_key)] => {
            clients.by_headers(app_name, access_key, secret_key, address, now_ms)
        }
        _ => Err(clients.denied("", address, now_ms)),
    }
}

fn announced(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

/// When to come back if too many bodies arrive at once, ms.
const BODY_PAUSE_MS: u32 = 1_000;

async fn read(body: Body, most: usize) -> Result<Bytes, Response> {
    match tokio::time::timeout(BODY_READ_TIMEOUT, axum::body::to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(_)) => {
            Err(refused(refusal(RefusalCode::Malformed, "nội dung gửi lên bị ngắt giữa chừng (the body broke off)", 0)))
        }
        Err(_) => {
            let late = refusal(RefusalCode::Malformed, "nội dung gửi lên quá chậm (the body arrived too slowly)", 0);
            let mut response = refused(late);
            *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
            Err(response)
        }
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    std::iter::from_fn(|| {
        let this = cause?;
        cause = this.source();
        Some(this)
    })
    .any(|cause| cause.to_string().contains("length limit exceeded"))
}

/// A refusal before it is known what the call would have been answered with. JSON has one form for all answers.
fn refused(refusal: wire::Refusal) -> Response {
    respond(BodyFormat::Json, &wire::PushResponse::refused(refusal))
}

fn too_large() -> Response {
    let message =
        format!("nội dung lớn hơn {MAX_MESSAGE_BYTES} byte (the body is larger than {MAX_MESSAGE_BYTES} bytes)");
    refused(refusal(RefusalCode::TooLarge, message, 0))
}

fn busy(wait_ms: u32, class: Class) -> Response {
    let seconds = wait_ms.div_ceil(1_000);
    let (what, what_en) = match class {
        Class::Urgent => ("gọi khẩn cấp", "urgent calls"),
        Class::Heads => ("hỏi tin mới", "calls for heads"),
        Class::Bulk => ("gọi thường", "ordinary calls"),
    };
    let message = format!(
        "quá hạn mức {what}, hãy thử lại sau {seconds} giây (over the limit of {what_en}, come back in {seconds} s)"
    );
    refused(refusal(RefusalCode::Busy, message, wait_ms))
}

fn unidentified(denied: Denied) -> Response {
    match denied {
        Denied::Wrong => {
            let message = "chưa xác thực: thiếu hoặc sai token, khóa (no valid access token or keys)";
            let mut response = refused(refusal(RefusalCode::NotAMember, message, 0));
            *response.status_mut() = StatusCode::UNAUTHORIZED;
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
        Denied::Slowly(wait_ms) => refused(slowly(wait_ms)),
    }
}

/// Wrong too often.
pub(super) fn slowly(wait_ms: u32) -> wire::Refusal {
    let seconds = wait_ms.div_ceil(1_000);
    let message = format!(
        "sai thông tin xác thực quá nhiều lần, hãy thử lại sau {seconds} giây (wrong credentials too often, come back \
         in {seconds} s)"
    );
    refusal(RefusalCode::Busy, message, wait_ms)
}

/// The feed that an address is about.
fn feed_of(path: &str) -> Option<FeedId> {
    let mut parts = path.strip_prefix("/exchange/v1/feeds/")?.split('/');
    let (origin, audience, lane) = (parts.next()?, parts.next()?, parts.next()?);
    let lane = Lane::ALL.into_iter().find(|known| known.as_str() == lane)?;
    let audience = super::audience_of_path(audience);
    FeedId::from_wire(&wire::FeedId { origin: origin.into(), audience: audience.into(), lane: lane.to_wire() }).ok()
}

/// `GAP`: the name of the code without what every name begins with.
fn name(code: RefusalCode) -> String {
    code.as_str_name().trim_start_matches("REFUSAL_CODE_").to_owned()
}

/// The answer to a token request that gave no token, as OAuth2 has it.
pub(super) fn oauth_error(status: StatusCode, code: &str, description: &str) -> Response {
    let body = serde_json::json!({ "error": code, "error_description": description });
    (status, axum::Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_feeds_or_none() {
        let feed = feed_of("/exchange/v1/feeds/TW/all/emergency").expect("feed");
        assert_eq!((feed.to_string().as_str(), feed.lane), ("TW→*/emergency", Lane::Emergency));
        for path in [
            "/exchange/v1/heads",
            "/exchange/v1/feeds/TW/all",
            "/exchange/v1/feeds/tw/all/x",
            "/exchange/v1/feeds/=1/all/status",
        ] {
            assert_eq!(feed_of(path), None, "{path}");
        }
    }

    #[test]
    fn names_of_refusals_are_short() {
        assert_eq!(name(RefusalCode::RevokedKey), "REVOKED_KEY");
    }
}
