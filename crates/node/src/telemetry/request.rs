//! One span an HTTP request.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::{Instrument, Span, field};
use uuid::Uuid;

use super::propagation::{TRACEPARENT, set_parent};

/// Names a request in answers and logs, so that a caller's complaint finds its lines.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id taken over from a caller.
const MAX_REQUEST_ID: usize = 64;

/// The request's id, as an extension of the request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// Middleware: opens a span a request, continues the caller's trace, logs method, route, status and latency (server
/// errors as warnings, refusals at `info`, the rest at `debug`) and answers with [`REQUEST_ID`].
///
/// Add with `router.layer(axum::middleware::from_fn(trace_requests))`, after the routes, so that the route is known.
/// The log has the route's pattern and not the path, which may hold what should not be logged.
pub async fn trace_requests(mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str).to_owned();
    let span = tracing::info_span!(
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = field::Empty,
        http.request.method = %method,
        http.route = route,
        http.response.status_code = field::Empty,
        request_id = id,
    );
    if let Some(traceparent) = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        set_parent(&span, traceparent);
    }
    request.extensions_mut().insert(RequestId(id.clone()));
    let logged = span.clone();
    async move {
        let mut response = next.run(request).await;
        finish(&logged, response.status().as_u16(), started);
        if let Ok(id) = HeaderValue::from_str(&id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        response
    }
    .instrument(span)
    .await
}

fn finish(span: &Span, status: u16, started: Instant) {
    span.record("http.response.status_code", status);
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    match status {
        500.. => {
            span.record("otel.status_code", "ERROR");
            tracing::warn!(status, milliseconds, "answered");
        }
        400..=499 => tracing::info!(status, milliseconds, "answered"),
        _ => tracing::debug!(status, milliseconds, "answered"),
    }
}

/// The caller's id if it is harmless in a log, otherwise a new one.
fn request_id(headers: &HeaderMap) -> String {
    let harmless = |id: &&str| {
        !id.is_empty()
            && id.len() <= MAX_REQUEST_ID
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(harmless);
    given.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::current_traceparent;
    use crate::telemetry::testing::collect;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    fn service() -> TowerToHyperService<Router> {
        let router = Router::new()
            .route("/bulletins/{id}", get(|| async { current_traceparent() }))
            .layer(axum::middleware::from_fn(trace_requests));
        TowerToHyperService::new(router)
    }

    fn request(path: &str) -> axum::http::request::Builder {
        axum::http::Request::get(path)
    }

    #[tokio::test]
    async fn a_request_continues_the_callers_trace() {
        let (spans, _guard) = collect();
        let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let request = request("/bulletins/7").header(TRACEPARENT, caller).body(Body::empty()).expect("request");
        let response = service().call(request).await.expect("answer");
        assert_eq!(response.status(), 200);
        let inside = axum::body::to_bytes(response.into_body(), 100).await.expect("body");
        assert_eq!(inside[..36], caller.as_bytes()[..36]);

        let spans = spans.finished();
        let [span] = spans.as_slice() else { panic!("one span, not {}", spans.len()) };
        assert_eq!(span.name, "GET /bulletins/{id}");
        assert_eq!(span.span_context.trace_id().to_string(), caller[3..35]);
        assert!(span.attributes.iter().any(|pair| pair.key.as_str() == "http.response.status_code"));
    }

    #[tokio::test]
    async fn every_answer_names_its_request() {
        let own = request("/bulletins/7").header(REQUEST_ID, "lgsp-42").body(Body::empty()).expect("request");
        let answer = service().call(own).await.expect("answer");
        assert_eq!(answer.headers()[REQUEST_ID], "lgsp-42");

        let forged = request("/bulletins/7").header(REQUEST_ID, "a b\"c").body(Body::empty()).expect("request");
        let answer = service().call(forged).await.expect("answer");
        assert!(Uuid::parse_str(answer.headers()[REQUEST_ID].to_str().expect("text")).is_ok());
    }
}
