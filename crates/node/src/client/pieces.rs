//! An answer's body as it comes, for what is too large to hold in memory.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{Cause, ClientError, HttpClient, chain, shown};

impl HttpClient {
    /// Sends a request made elsewhere and gives back the answer as it comes, whatever its status and however long.
    /// `idle` is how long its head may take, and then each further piece.
    ///
    /// # Errors
    /// No connection, or no head in time.
    pub async fn stream(&self, request: Request<Bytes>, idle: Duration) -> Result<Response<Pieces>, ClientError> {
        let method = request.method().clone();
        let address = shown(&request.uri().to_string());
        let begun = match self.check(request.uri()) {
            Ok(()) => tokio::time::timeout(idle, self.begin(request)).await.unwrap_or(Err(Cause::Timeout(idle))),
            Err(cause) => Err(cause),
        };
        let begun = begun.map_err(|cause| ClientError { method, address, cause })?;
        let wait = Box::pin(tokio::time::sleep(idle));
        Ok(begun.map(|body| Pieces { body, idle, wait }))
    }
}

/// The pieces of an answer.
#[derive(Debug)]
pub struct Pieces {
    body: Incoming,
    idle: Duration,
    /// Ends when the next piece has taken too long.
    wait: Pin<Box<Sleep>>,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.wait.as_mut().reset(Instant::now() + this.idle);
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| Cause::Broken(chain(&error)))));
        }
        this.wait.as_mut().poll(cx).map(|()| Some(Err(Cause::Timeout(this.idle))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
