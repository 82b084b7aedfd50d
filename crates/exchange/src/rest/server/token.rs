//! `POST /oauth2/token`: an access token for client credentials (RFC 6749, 4.4).

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Platform;
use super::credentials::{Denied, TOKEN_LIFE_S};
use super::gate::{From, oauth_error, slowly};

/// Largest token request.
pub(super) const MAX_FORM_BYTES: usize = 4 * 1024;

pub(super) async fn issue(
    State(platform): State<Arc<Platform>>,
    Extension(From(address)): Extension<From>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if body.len() > MAX_FORM_BYTES {
        let limit = format!("the form is larger than {MAX_FORM_BYTES} bytes");
        return oauth_error(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", &limit);
    }
    let form = parse_form(&body);
    let field = |name: &str| form.get(name).cloned();
    if field("grant_type").as_deref() != Some("client_credentials") {
        let only = "grant_type must be client_credentials";
        return oauth_error(StatusCode::BAD_REQUEST, "unsupported_grant_type", only);
    }
    let credentials = basic(&headers).or_else(|| Some((field("client_id")?, field("client_secret")?)));
    let now_ms = platform.now_ms();
    let issued = match credentials {
        Some((id, secret)) => platform.options.clients.issue(&id, &secret, address, now_ms),
        None => Err(platform.options.clients.denied("", address, now_ms)),
    };
    match issued {
        Ok((client, token)) => {
            let answer = serde_json::json!({
                "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_LIFE_S,
            });
            let mut response = axum::Json(answer).into_response();
            response.extensions_mut().insert(client);
            response
        }
        Err(Denied::Wrong) => {
            let mut response = oauth_error(
                StatusCode::UNAUTHORIZED,
                "invalid_client",
                "sai client_id hoặc client_secret (wrong client_id or client_secret)",
            );
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
            response
        }
        Err(Denied::Slowly(wait_ms)) => {
            let told = slowly(wait_ms).message;
            let mut response = oauth_error(StatusCode::TOO_MANY_REQUESTS, "slow_down", &told);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
            response
        }
    }
}

/// Id and secret of HTTP Basic, each form-encoded as RFC 6749, 2.3.1, has it, or plain as most programs send it.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let pair = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    let decoded = |text: &str| if text.contains('%') { decode(text) } else { Some(text.to_owned()) };
    Some((decoded(id)?, decoded(secret)?))
}

/// `a=b&c=d` with percent-encoding; what does not decode is left out.
fn parse_form(body: &[u8]) -> HashMap<String, String> {
    let body = String::from_utf8_lossy(body);
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(key, value)| Some((decode(key)?, decode(value)?))).collect()
}

fn decode(text: &str) -> Option<String> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_decode_and_bad_escapes_are_left_out() {
        let form = parse_form(b"grant_type=client_credentials&client_secret=a%2Bb+c&bad=%2&worse=%zz&x");
        assert_eq!(form["grant_type"], "client_credentials");
        assert_eq!(form["client_secret"], "a+b c");
        assert_eq!(form.len(), 2);
    }

    #[test]
    fn basic_is_taken_as_the_specification_has_it_and_as_programs_send_it() {
        let mut headers = HeaderMap::new();
        for (sent, secret) in [("h55:a%3Ab%2B", "a:b+"), ("h55:a:b+", "a:b+")] {
            let value = format!("Basic {}", BASE64_STANDARD.encode(sent));
            headers.insert(header::AUTHORIZATION, HeaderValue::from_str(&value).expect("header"));
            assert_eq!(basic(&headers), Some(("h55".into(), secret.into())));
        }
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic !!!"));
        assert_eq!(basic(&headers), None);
    }
}
