//! How `object_store` speaks HTTP here: over this crate's client, with its TLS, its limits and nothing else.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use axum::http::{Method, Request};
use http_body_util::{BodyExt as _, Limited};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient as StoreClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};

use crate::client::{Cause, HttpClient};

/// How long the head of an answer may take, and then each further piece.
const IDLE: Duration = Duration::from_secs(30);
/// Largest answer that is no object: XML of a few lines.
const MAX_REPLY_BYTES: usize = 1 << 20;

/// Gives `object_store` the client it shall use.
#[derive(Debug, Clone)]
pub(super) struct Connector(pub(super) HttpClient);

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<StoreClient> {
        Ok(StoreClient::new(self.clone()))
    }
}

// Written out, since the trait is one of the `async-trait` crate.
impl HttpService for Connector {
    fn call<'this, 'call>(
        &'this self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'this: 'call,
        Self: 'call,
    {
        Box::pin(self.send(request))
    }
}

impl Connector {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = request.into_parts();
        let is_object = head.method == Method::GET;
        let request = Request::from_parts(head, body.collect().await?.to_bytes());
        let answer = self.0.stream(request, IDLE).await.map_err(|error| HttpError::new(kind(&error.cause), error))?;
        let (head, body) = answer.into_parts();
        let body = body.map_err(|cause| HttpError::new(kind(&cause), cause));
        let body = if is_object && head.status.is_success() {
            // Whoever takes the object counts its bytes.
            HttpResponseBody::new(body)
        } else {
            let limited = Limited::new(body, MAX_REPLY_BYTES);
            HttpResponseBody::new(limited.map_err(|error| HttpError::new_boxed(HttpErrorKind::Decode, error)))
        };
        Ok(HttpResponse::from_parts(head, body))
    }
}

/// What `object_store` may do about it.
fn kind(cause: &Cause) -> HttpErrorKind {
    match cause {
        Cause::Connect(_) => HttpErrorKind::Connect,
        Cause::Broken(_) => HttpErrorKind::Interrupted,
        Cause::Timeout(_) => HttpErrorKind::Timeout,
        Cause::Request(_) | Cause::TooLarge(_) | Cause::Status { .. } | Cause::Json(_) => HttpErrorKind::Unknown,
    }
}
