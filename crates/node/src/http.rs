//! The HTTP server: limits, drain, health, error answers.
//!
//! [`bind`] takes the address, [`standard`] puts around a service's routes what every service has (health, 404 and 405
//! as [`ApiError`], body limit, tracing), [`serve`] runs it until [`Shutdown`](crate::shutdown::Shutdown) says stop.

mod error;
mod health;
mod json;
mod peer;
mod serve;

use axum::Router;
use axum::extract::DefaultBodyLimit;

pub use error::{ApiError, Problem};
pub use health::{Readiness, ReadinessPart, health_routes};
pub use json::{BODY_READ_TIMEOUT, Json};
pub use peer::Peer;
pub use serve::{
    BindError, DRAIN_DEADLINE, FIRST_REQUEST_TIMEOUT, HANDSHAKE_TIMEOUT, HEADER_READ_TIMEOUT, MAX_CONCURRENT_STREAMS,
    MAX_CONNECTIONS, ServeLimits, bind, serve, serve_with,
};

use crate::telemetry::trace_requests;

/// Largest request body unless a route says otherwise: a quarter's report with room to spare. Routes that take media
/// set their own `DefaultBodyLimit`.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// The limit that [`standard`] puts on request bodies.
pub fn body_limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_BODY_BYTES)
}

/// A service's routes with what every service has around them.
pub fn standard(routes: Router, readiness: &Readiness) -> Router {
    routes
        .merge(health_routes(readiness))
        .fallback(|| async { ApiError::no_such_address() })
        .method_not_allowed_fallback(|| async { ApiError::method_not_allowed() })
        .layer(body_limit())
        .layer(axum::middleware::from_fn(trace_requests))
}

#[cfg(test)]
pub(crate) mod testing {
    use axum::Router;
    use axum::body::{Body, to_bytes};
    use axum::http::{Request, StatusCode};
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;
    use serde_json::Value;

    /// Asks a router without a socket.
    pub(crate) async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
        let response = TowerToHyperService::new(router.clone()).call(request).await.expect("infallible");
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.expect("body");
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) fn get(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).expect("request")
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{ask, get};
    use super::*;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use axum::routing::post;

    #[tokio::test]
    async fn every_service_answers_alike() {
        let readiness = Readiness::new();
        let routes = Router::new().route("/echo", post(|Json(value): Json<serde_json::Value>| async { Json(value) }));
        let router = standard(routes, &readiness);
        assert_eq!(ask(&router, get("/healthz")).await.0, StatusCode::OK);

        let (status, body) = ask(&router, get("/nowhere")).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &"not_found".into()));
        let (status, body) = ask(&router, get("/echo")).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::METHOD_NOT_ALLOWED, &"method_not_allowed".into()));

        let large = Request::post("/echo")
            .header("content-type", "application/json")
            .body(Body::from(vec![b' '; MAX_BODY_BYTES + 1]))
            .expect("request");
        let (status, body) = ask(&router, large).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &"too_large".into()));
    }
}
