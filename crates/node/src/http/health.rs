//! `/healthz`: the process is alive. `/readyz`: it can do its work, or what keeps it from that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

/// What every part of a node says about itself. Clones are the same board.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Board>>);

#[derive(Debug, Default)]
struct Board {
    next: u64,
    /// By number and not by name alone, so that two parts of the same name do not answer for each other.
    parts: BTreeMap<u64, (String, State)>,
}

/// `None` is ready.
type State = Option<String>;

/// One part's line on the board. When it drops without [`remove`](Self::remove), the part counts as stopped.
#[must_use = "the part counts as stopped when this drops"]
#[derive(Debug)]
pub struct ReadinessPart {
    board: Readiness,
    number: u64,
}

impl Readiness {
    /// An empty board: ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a part, not ready until it says so.
    pub fn register(&self, name: impl Into<String>) -> ReadinessPart {
        let mut board = self.lock();
        let number = board.next;
        board.next += 1;
        board.parts.insert(number, (name.into(), Some("starting".to_owned())));
        ReadinessPart { board: self.clone(), number }
    }

    /// Parts that are not ready, with their reasons; empty when the node is ready.
    pub fn missing(&self) -> Vec<(String, String)> {
        let board = self.lock();
        board.parts.values().filter_map(|(name, state)| Some((name.clone(), state.clone()?))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadinessPart {
    /// The part works.
    pub fn ready(&self) {
        self.set(None);
    }

    /// The part does not work, and why, for whoever watches the node.
    pub fn not_ready(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    /// Takes the part off the board: it ended as it should.
    pub fn remove(self) {
        self.board.lock().parts.remove(&self.number);
    }

    fn set(&self, state: State) {
        if let Some((_, current)) = self.board.lock().parts.get_mut(&self.number) {
            *current = state;
        }
    }
}

impl Drop for ReadinessPart {
    fn drop(&mut self) {
        self.set(Some("stopped".to_owned()));
    }
}

/// `/healthz` and `/readyz`, without log-in: they tell names of parts and nothing else.
pub fn health_routes(readiness: &Readiness) -> Router {
    let readiness = readiness.clone();
    Router::new()
        .route("/healthz", get(|| async { axum::Json(json!({ "status": "alive" })) }))
        .route("/readyz", get(move || std::future::ready(readyz(&readiness))))
}

fn readyz(readiness: &Readiness) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        return axum::Json(json!({ "status": "ready" })).into_response();
    }
    let missing: Vec<_> = missing.into_iter().map(|(part, why)| json!({ "part": part, "why": why })).collect();
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "status": "not_ready", "not_ready": missing })))
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ask, get};
    use super::*;

    #[tokio::test]
    async fn readiness_lists_what_is_not() {
        let readiness = Readiness::new();
        let router = health_routes(&readiness);
        assert_eq!(ask(&router, get("/readyz")).await, (StatusCode::OK, json!({ "status": "ready" })));

        let log = readiness.register("log");
        let exchange = readiness.register("exchange");
        log.ready();
        exchange.not_ready("gateway unreachable");
        let (status, body) = ask(&router, get("/readyz")).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["not_ready"], json!([{ "part": "exchange", "why": "gateway unreachable" }]));
        assert_eq!(ask(&router, get("/healthz")).await.0, StatusCode::OK);

        exchange.ready();
        assert_eq!(ask(&router, get("/readyz")).await.0, StatusCode::OK);
        drop(log);
        assert_eq!(readiness.missing(), [("log".to_owned(), "stopped".to_owned())]);
        exchange.remove();
        assert_eq!(readiness.missing().len(), 1);
    }

    #[test]
    fn parts_of_one_name_do_not_answer_for_each_other() {
        let readiness = Readiness::new();
        let (one, two) = (readiness.register("peer"), readiness.register("peer"));
        one.ready();
        assert_eq!(readiness.missing().len(), 1);
        two.ready();
        assert!(readiness.missing().is_empty());
    }
}
