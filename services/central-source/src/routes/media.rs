//! Media files: uploaded before the bulletin that refers to them, and read back.

use std::fmt;

use axum::Json as Answer;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use futures_util::{Stream, StreamExt as _, stream};
use httt_domain::accounts::Action;
use httt_feed::Digest;
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::{ApiError, BODY_READ_TIMEOUT};
use httt_node::media::{MediaStore, MediaStoreError};
use serde::Serialize;
use utoipa::ToSchema;

use super::Central;
use super::shapes::FileShape;
use crate::extract::Path;
use crate::scope::Reader;

/// Bytes read from disk at a time while a file is sent.
const PIECE_BYTES: u64 = 256 << 10;

/// A stored file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoredMedia {
    /// SHA-256, 64 hexadecimal digits.
    sha256: String,
    /// Bytes.
    size: u64,
}

#[utoipa::path(
    put, path = "/api/v1/media", tag = "media", operation_id = "media_put",
    summary = "Tải tệp lên",
    description = "Stores the body, as it is and whatever its type, under its SHA-256. Refer to it in a bulletin's \
                   `content.media`.",
    request_body(content = inline(FileShape), content_type = "application/octet-stream"),
    responses((status = 200, description = "On disk", body = StoredMedia)),
)]
pub(crate) async fn put(
    State(central): State<Central>,
    principal: Principal,
    request: Request,
) -> Result<Answer<StoredMedia>, ApiError> {
    actor(&principal, Action::WriteBulletin)?;
    let store = &central.desk.node.media;
    // The store counts for itself; this only spares a caller the sending of what will not be taken.
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|size| size > store.max_file_bytes()) {
        return Err(ApiError::too_large());
    }
    let (digest, size) = store.put_stream(Box::pin(pieces(request.into_body()))).await.map_err(refusal)?;
    tracing::info!(sha256 = %digest, size, account = principal.name, "media stored");
    Ok(Answer(StoredMedia { sha256: digest.to_string(), size }))
}

/// The body's pieces, each within [`BODY_READ_TIMEOUT`]: an upload may be long but must not stand still.
fn pieces(body: Body) -> impl Stream<Item = Result<Bytes, Box<dyn fmt::Display + Send + Sync>>> + Send {
    stream::unfold(Some(body.into_data_stream()), |body| async move {
        let mut body = body?;
        match tokio::time::timeout(BODY_READ_TIMEOUT, body.next()).await {
            Ok(Some(Ok(piece))) => Some((Ok(piece), Some(body))),
            Ok(Some(Err(error))) => Some((Err(Box::new(error) as _), None)),
            Ok(None) => None,
            Err(_) => Some((Err(Box::new("nothing arrived for too long") as _), None)),
        }
    })
}

#[utoipa::path(
    get, path = "/api/v1/media/{sha256}", tag = "media", operation_id = "media_get",
    summary = "Tải tệp xuống",
    description = "The file, or one range of it (`Range: bytes=FROM-TO`).",
    params(("sha256" = String, Path, description = "64 hexadecimal digits")),
    responses(
        (status = 200, description = "All of it", body = inline(FileShape), content_type = "application/octet-stream"),
        (status = 206, description = "The range asked for", body = inline(FileShape), content_type = "application/octet-stream"),
    ),
)]
pub(crate) async fn get(
    State(central): State<Central>,
    _: Reader,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let store = central.desk.node.media.as_ref().clone();
    let digest: Digest = sha256.parse().map_err(|_| not_held())?;
    let stat = store.stat(digest).await.map_err(refusal)?;
    if !stat.complete {
        return Err(not_held());
    }
    let size = stat.held;
    let range = headers.get(RANGE).and_then(|value| wanted(value.to_str().ok()?, size));
    let (status, from, to) = match range {
        None => (StatusCode::OK, 0, size),
        Some(Wanted::Range(from, to)) => (StatusCode::PARTIAL_CONTENT, from, to),
        Some(Wanted::Beyond) => {
            return Err(ApiError::new(
                StatusCode::RANGE_NOT_SATISFIABLE,
                "beyond_end",
                format!("Tệp chỉ có {size} byte."),
                format!("The file has only {size} bytes."),
            ));
        }
    };
    let mut response = Response::builder()
        .status(status)
        // Never what a caller once claimed it to be: a page must not run what somebody uploaded.
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(CONTENT_LENGTH, to - from)
        .header(ACCEPT_RANGES, "bytes")
        .header(ETAG, format!("\"{digest}\""))
        .header(CACHE_CONTROL, "private, max-age=31536000, immutable");
    if status == StatusCode::PARTIAL_CONTENT {
        response = response.header(CONTENT_RANGE, format!("bytes {from}-{}/{size}", to - 1));
    }
    response.body(Body::from_stream(read(store, digest, from, to))).map_err(ApiError::internal)
}

fn read(
    store: MediaStore,
    digest: Digest,
    from: u64,
    to: u64,
) -> impl Stream<Item = Result<Bytes, MediaStoreError>> + Send {
    stream::unfold((store, from), move |(store, at)| async move {
        if at >= to {
            return None;
        }
        match store.read_range(digest, at, PIECE_BYTES.min(to - at)).await {
            // The file became shorter: end early, so that the caller sees too few bytes.
            Ok((piece, _)) if piece.is_empty() => None,
            Ok((piece, _)) => {
                let next = at + piece.len() as u64;
                Some((Ok(piece), (store, next)))
            }
            Err(error) => {
                tracing::error!(sha256 = %digest, %error, "a media file cannot be read");
                Some((Err(error), (store, to)))
            }
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// From, to (exclusive).
    Range(u64, u64),
    Beyond,
}

/// One range of `bytes`; anything else is passed over, as RFC 9110 allows, and the whole file sent.
fn wanted(header: &str, size: u64) -> Option<Wanted> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    let (from, to) = match (first.trim(), last.trim()) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (first, "") => (first.parse().ok()?, size),
        (first, last) => {
            let (from, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
            if last < from {
                return None;
            }
            (from, last.saturating_add(1).min(size))
        }
    };
    Some(if from < to { Wanted::Range(from, to) } else { Wanted::Beyond })
}

fn not_held() -> ApiError {
    ApiError::not_found("Không có tệp này.", "There is no such file.")
}

/// What a caller hears when the store does not take or give a file.
pub(crate) fn refusal(error: MediaStoreError) -> ApiError {
    match error {
        MediaStoreError::TooLarge { limit, .. } => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            format!("Tệp lớn hơn {limit} byte cho phép."),
            format!("The file is larger than the {limit} bytes allowed."),
        ),
        MediaStoreError::Full { used, limit, .. } => {
            tracing::error!(%error, "an upload was refused");
            ApiError::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "store_full",
                format!("Kho tệp đã đầy: đã dùng {used} trong {limit} byte. Đề nghị báo quản trị viên."),
                format!("The media store is full: {used} of {limit} bytes are used. Tell an operator."),
            )
        }
        MediaStoreError::Upload(cause) => {
            tracing::info!(cause, "an upload broke off");
            ApiError::bad_request("Tệp gửi lên bị ngắt giữa chừng.", "The upload broke off.")
        }
        MediaStoreError::NotFound(_) => not_held(),
        MediaStoreError::Stopping => ApiError::unavailable("Hệ thống đang dừng.", "The node is stopping."),
        other => ApiError::internal(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood() {
        for (header, expected) in [
            ("bytes=0-3", Some(Wanted::Range(0, 4))),
            ("bytes=4-", Some(Wanted::Range(4, 10))),
            ("bytes=-3", Some(Wanted::Range(7, 10))),
            ("bytes=-99", Some(Wanted::Range(0, 10))),
            ("bytes=8-99", Some(Wanted::Range(8, 10))),
            ("bytes=0-18446744073709551615", Some(Wanted::Range(0, 10))),
            ("bytes=10-", Some(Wanted::Beyond)),
            ("bytes=-0", Some(Wanted::Beyond)),
            ("bytes=5-4", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=x-", None),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header}");
        }
    }
}
