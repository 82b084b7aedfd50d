//! Media for devices, in ranges: a box on a mobile link continues where it broke off.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, RANGE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use httt_feed::Digest;
use httt_node::media::MediaStoreError;

use super::{Device, DeviceError};
use crate::province::Province;

/// Bytes read at a time.
const PIECE: u64 = 256 * 1024;

/// What of a file is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Whole,
    /// From the first to the last byte, both included.
    Part(u64, u64),
    Nothing,
}

/// `GET /thiet-bi/media/{sha256}`: the file itself, no envelope; errors come as envelopes with their own status, so that no
/// device plays one.
pub(crate) async fn fetch(
    State(province): State<Province>,
    _: Device,
    Path(sha256): Path<String>,
    headers: HeaderMap,
) -> Result<Response, DeviceError> {
    let missing = || DeviceError::new("Không có tệp này trên hệ thống.").with_status(StatusCode::NOT_FOUND);
    let digest: Digest = sha256.parse().map_err(|_| missing())?;
    let stat = province.shelf.store().stat(digest).await.map_err(failed)?;
    if !stat.complete {
        return Err(missing());
    }
    let size = stat.held;
    let asked = headers.get(RANGE).and_then(|value| value.to_str().ok()).map_or(Asked::Whole, |text| asked(text, size));
    let (status, first, end) = match asked {
        Asked::Whole => (StatusCode::OK, 0, size),
        Asked::Part(first, last) => (StatusCode::PARTIAL_CONTENT, first, last + 1),
        Asked::Nothing => {
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            let mut refused =
                DeviceError::new("Tệp không có phần dữ liệu được yêu cầu.").with_status(status).into_response();
            insert(refused.headers_mut(), CONTENT_RANGE, &format!("bytes */{size}"));
            return Ok(refused);
        }
    };
    let content_type = province.shelf.content_type(digest);
    let mut response = Response::new(body(province, digest, first, end));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Some(content_type) = content_type {
        insert(headers, CONTENT_TYPE, &content_type);
    }
    // The address is the content's digest: it never changes.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(end - first));
    insert(headers, ETAG, &format!("\"{digest}\""));
    if status == StatusCode::PARTIAL_CONTENT {
        insert(headers, CONTENT_RANGE, &format!("bytes {first}-{}/{size}", end - 1));
    }
    Ok(response)
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

fn failed(error: MediaStoreError) -> DeviceError {
    tracing::error!(%error, "a media file cannot be read");
    DeviceError::new("Hệ thống không đọc được tệp. Đề nghị thử lại sau.").with_status(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The bytes from `first` up to `end`, piece by piece as the device takes them.
fn body(province: Province, digest: Digest, first: u64, end: u64) -> Body {
    Body::from_stream(stream::try_unfold(first, move |at| {
        let province = province.clone();
        async move {
            if at >= end {
                return Ok(None);
            }
            let (piece, _) = province.shelf.store().read_range(digest, at, PIECE.min(end - at)).await?;
            if piece.is_empty() {
                return Err(MediaStoreError::NotFound(digest));
            }
            let next = at + piece.len() as u64;
            Ok::<Option<(Bytes, u64)>, MediaStoreError>(Some((piece, next)))
        }
    }))
}

/// Reads `bytes=…`. Several parts, other units and nonsense count as not asked, as HTTP allows.
fn asked(text: &str, size: u64) -> Asked {
    let Some((first, last)) = text.trim().strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Asked::Whole,
        (Ok(first), _) if first >= size && (last.is_empty() || last.parse::<u64>().is_ok()) => Asked::Nothing,
        (Ok(first), Ok(last)) => Asked::Part(first, last.min(size - 1)),
        (Ok(first), Err(_)) if last.is_empty() => Asked::Part(first, size - 1),
        (Err(_), Ok(0)) if first.is_empty() => Asked::Nothing,
        (Err(_), Ok(count)) if first.is_empty() && size > 0 => Asked::Part(size.saturating_sub(count), size - 1),
        _ => Asked::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::{Asked, asked};

    #[test]
    fn ranges_are_read_as_http_has_them() {
        for (text, expected) in [
            ("bytes=0-", Asked::Part(0, 9)),
            ("bytes=3-5", Asked::Part(3, 5)),
            ("bytes=3-500", Asked::Part(3, 9)),
            ("bytes=-4", Asked::Part(6, 9)),
            ("bytes=-40", Asked::Part(0, 9)),
            ("bytes=-0", Asked::Nothing),
            ("bytes=10-", Asked::Nothing),
            ("bytes=10-12", Asked::Nothing),
            ("bytes=5-3", Asked::Whole),
            ("bytes=0-1,4-5", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(asked(text, 10), expected, "{text}");
        }
        assert_eq!(asked("bytes=0-", 0), Asked::Nothing);
        assert_eq!(asked("bytes=-5", 0), Asked::Whole);
    }
}
