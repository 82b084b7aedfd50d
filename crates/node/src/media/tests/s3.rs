//! A small S3 server for tests: objects in memory, signatures looked at, faults on demand.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::*;

pub(super) const ACCESS: &str = "AKIDTEST";
const BUCKET: &str = "httt";
/// Largest body taken: one part.
const MAX_BODY: usize = 64 << 20;

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    Status(StatusCode),
    /// The connection breaks after so many bytes of the answer.
    CutAfter(usize),
    /// So many bytes are sent and the rest is not, with nothing to show it.
    EndAfter(usize),
}

#[derive(Default)]
pub(super) struct Held {
    pub(super) objects: BTreeMap<String, Bytes>,
    pub(super) uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    pub(super) faults: VecDeque<(Method, Fault)>,
    /// Requests that came, as `GET key`.
    pub(super) requests: Vec<String>,
    /// Whether every request is refused.
    pub(super) closed: bool,
    next_upload: u32,
}

/// The server. Clones are the same.
#[derive(Clone)]
pub(super) struct S3 {
    pub(super) address: SocketAddr,
    held: Arc<Mutex<Held>>,
}

impl S3 {
    /// Over plain HTTP.
    pub(super) async fn start() -> Self {
        let (this, listener, router) = Self::prepare().await;
        tokio::spawn(async move { axum::serve(listener, router).await });
        this
    }

    /// For whoever serves it otherwise.
    pub(super) async fn prepare() -> (Self, tokio::net::TcpListener, Router) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let this = Self { address: listener.local_addr().expect("address"), held: Arc::default() };
        (this.clone(), listener, Router::new().fallback(serve).with_state(this))
    }

    pub(super) fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().expect("lock")
    }

    pub(super) fn fail(&self, method: Method, faults: &[Fault]) {
        self.held().faults.extend(faults.iter().map(|fault| (method.clone(), *fault)));
    }

    /// How many requests of this kind came.
    pub(super) fn count(&self, what: &str) -> usize {
        self.held().requests.iter().filter(|request| request.starts_with(what)).count()
    }
}

fn hexadecimal(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What every S3 server checks first: AWS Signature Version 4 by a known key, over these very bytes.
fn signed(headers: &HeaderMap, body: &[u8]) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = text("authorization");
    let begins = authorization.starts_with(&format!("AWS4-HMAC-SHA256 Credential={ACCESS}/"));
    let scope = authorization.contains("/vn-test/s3/aws4_request");
    let signature = authorization.rsplit_once("Signature=").is_some_and(|(_, signature)| hexadecimal(signature));
    let body_named = text("x-amz-content-sha256") == Digest::of(body).to_string();
    begins && scope && signature && body_named && !text("x-amz-date").is_empty()
}

fn query(request: &Request) -> BTreeMap<String, String> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

fn refused(status: StatusCode, code: &str) -> Response {
    (status, format!("<Error><Code>{code}</Code><Message>{code}</Message></Error>")).into_response()
}

async fn serve(State(s3): State<S3>, request: Request) -> Response {
    let method = request.method().clone();
    let Some(key) = request.uri().path().strip_prefix(&format!("/{BUCKET}/")).map(str::to_owned) else {
        return refused(StatusCode::NOT_FOUND, "NoSuchBucket");
    };
    let (query, headers) = (query(&request), request.headers().clone());
    let body = to_bytes(request.into_body(), MAX_BODY).await.expect("a body");
    let mut held = s3.held();
    held.requests.push(format!("{method} {key}"));
    if held.closed || !signed(&headers, &body) {
        return refused(StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
    }
    let due = held.faults.iter().position(|(of, _)| *of == method);
    let fault = due.and_then(|at| held.faults.remove(at)).map(|(_, fault)| fault);
    if let Some(Fault::Status(status)) = fault {
        let code = if status == StatusCode::SERVICE_UNAVAILABLE { "SlowDown" } else { "InternalError" };
        return refused(status, code);
    }
    match (method.as_str(), query.get("uploadId")) {
        ("POST", None) => {
            held.next_upload += 1;
            let id = format!("upload-{}", held.next_upload);
            held.uploads.insert(id.clone(), BTreeMap::new());
            format!(
                "<InitiateMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><UploadId>{id}</UploadId>\
                 </InitiateMultipartUploadResult>"
            )
            .into_response()
        }
        ("POST", Some(id)) => match held.uploads.remove(id) {
            Some(parts) => {
                held.objects.insert(key.clone(), parts.into_values().flatten().collect());
                format!(
                    "<CompleteMultipartUploadResult><Bucket>{BUCKET}</Bucket><Key>{key}</Key><ETag>\"whole\"</ETag>\
                     </CompleteMultipartUploadResult>"
                )
                .into_response()
            }
            None => refused(StatusCode::NOT_FOUND, "NoSuchUpload"),
        },
        ("PUT", Some(id)) => {
            let number = query.get("partNumber").and_then(|number| number.parse().ok()).expect("a part number");
            match held.uploads.get_mut(id) {
                Some(parts) => {
                    parts.insert(number, body);
                    ([(header::ETAG, format!("\"part-{number}\""))], "").into_response()
                }
                None => refused(StatusCode::NOT_FOUND, "NoSuchUpload"),
            }
        }
        ("PUT", None) => {
            held.objects.insert(key, body);
            ([(header::ETAG, "\"whole\"")], "").into_response()
        }
        ("DELETE", Some(id)) => {
            held.uploads.remove(id);
            StatusCode::NO_CONTENT.into_response()
        }
        ("DELETE", None) => {
            held.objects.remove(&key);
            StatusCode::NO_CONTENT.into_response()
        }
        ("GET" | "HEAD", _) => match held.objects.get(&key) {
            Some(object) => give(object, &headers, method == Method::HEAD, fault),
            None => refused(StatusCode::NOT_FOUND, "NoSuchKey"),
        },
        _ => refused(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

fn give(object: &Bytes, headers: &HeaderMap, head_only: bool, fault: Option<Fault>) -> Response {
    let size = object.len();
    let range = headers.get(header::RANGE).and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
    let range = range.and_then(|range| {
        let (first, last) = range.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?.min(size.saturating_sub(1))))
    });
    let (status, data) = match range {
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, object.slice(first..=last)),
        None => (StatusCode::OK, object.clone()),
    };
    let mut answer = Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, data.len())
        .header(header::ETAG, format!("\"{}\"", &Digest::of(object).to_string()[..32]))
        .header(header::LAST_MODIFIED, "Sun, 22 Nov 2026 00:00:00 GMT");
    if let Some((first, last)) = range {
        answer = answer.header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{size}"));
    }
    let body = match fault {
        _ if head_only => Body::empty(),
        Some(Fault::CutAfter(bytes)) => {
            let pieces = [Ok(data.slice(..bytes.min(data.len()))), Err(std::io::Error::other("cut"))];
            Body::from_stream(stream::iter(pieces))
        }
        Some(Fault::EndAfter(bytes)) => {
            // As long as it says, which is less than the object.
            let short = data.slice(..bytes.min(data.len()));
            answer = Response::builder()
                .status(status)
                .header(header::CONTENT_LENGTH, short.len())
                .header(header::ETAG, "\"short\"")
                .header(header::LAST_MODIFIED, "Sun, 22 Nov 2026 00:00:00 GMT");
            Body::from(short)
        }
        _ => Body::from(data),
    };
    answer.body(body).expect("an answer")
}
