//! "Nothing new" as HTTP says it: `ETag`, `If-None-Match`, 304.
//!
//! The ETag of heads is a position in the platform's log, so that a call for heads can wait for what follows it. That of
//! a feed's entries is their digest.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use httt_feed::Digest;
use httt_wire::{Message as _, exchange as wire};

/// Bytes of a digest that an ETag shows.
const DIGEST_BYTES: usize = 16;

/// The ETag of this answer.
pub(super) fn of_heads(answer: &wire::HeadsResponse) -> String {
    crate::rest::heads_etag(&answer.log_id, answer.position)
}

/// Log and position that a caller knows, when it sends the ETag of heads.
pub(super) fn heads_known(headers: &HeaderMap) -> Option<(Vec<u8>, u64)> {
    let (log_id, position) = sent(headers)?.trim().trim_matches('"').split_once('.')?;
    let log_id = hex::decode(log_id).ok().filter(|log_id| !log_id.is_empty())?;
    Some((log_id, position.parse().ok()?))
}

fn sent(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::IF_NONE_MATCH)?.to_str().ok()
}

/// 304 for what the caller knows.
pub(super) fn not_modified(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    if let Some(known) = headers.get(header::IF_NONE_MATCH) {
        response.headers_mut().insert(header::ETAG, known.clone());
    }
    response
}

/// `response` with its ETag.
pub(super) fn tagged(etag: String, mut response: Response) -> Response {
    if response.status().is_success()
        && let Ok(etag) = HeaderValue::from_str(&etag)
    {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// 304 when the caller has this very answer, otherwise `response` with its ETag.
pub(super) fn conditional(headers: &HeaderMap, answer: &wire::ReadResponse, response: Response) -> Response {
    let digest = Digest::of(&answer.encode_to_vec());
    let etag = format!("\"{}\"", hex::encode(&digest.0[..DIGEST_BYTES]));
    let known = sent(headers).is_some_and(|known| known.split(',').any(|one| one.trim() == etag));
    if known { not_modified(headers) } else { tagged(etag, response) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(etag: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(etag).expect("header"))])
    }

    #[test]
    fn what_is_told_of_heads_comes_back() {
        let answer = wire::HeadsResponse { log_id: vec![1, 255], position: 7, ..Default::default() };
        assert_eq!(heads_known(&knowing(&of_heads(&answer))), Some((vec![1, 255], 7)));
        for nonsense in ["*", "\"\"", "\".7\"", "\"zz.7\"", "\"01.x\"", "W/\"01.7\""] {
            assert_eq!(heads_known(&knowing(nonsense)), None, "{nonsense}");
        }
    }

    #[test]
    fn the_same_entries_are_not_sent_twice() {
        let answer = wire::ReadResponse { entries: vec![vec![1].into()], head: 1, ..Default::default() };
        let whole = || StatusCode::OK.into_response();
        let first = conditional(&HeaderMap::new(), &answer, whole());
        let etag = first.headers()[header::ETAG].to_str().expect("text").to_owned();
        assert_eq!(conditional(&knowing(&etag), &answer, whole()).status(), StatusCode::NOT_MODIFIED);
        assert_eq!(
            conditional(&knowing(&format!("\"x\", {etag}")), &answer, whole()).status(),
            StatusCode::NOT_MODIFIED
        );
        let more = wire::ReadResponse { head: 2, ..answer };
        assert_eq!(conditional(&knowing(&etag), &more, whole()).status(), StatusCode::OK);
    }
}
