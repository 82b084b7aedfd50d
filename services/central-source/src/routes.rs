//! The JSON API, `/api/v1`, beside what every node answers.
//!
//! Each handler is described where it stands (`#[utoipa::path]`), and its route is made of that description, so method
//! and address cannot differ. What the description as a whole lists is compared with the routes by a test.

pub(crate) mod areas;
pub(crate) mod bulletins;
pub(crate) mod clusters;
pub(crate) mod delivery;
pub(crate) mod events;
pub(crate) mod forms;
pub(crate) mod media;
pub(crate) mod openapi;
pub(crate) mod reports;
mod shapes;

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use httt_node::api;
use httt_node::desk::Desk;
use httt_node::shutdown::Shutdown;
use tokio::sync::Semaphore;
use utoipa::openapi::HttpMethod;

use crate::changes::Changes;
use crate::models::CentralModels;

/// What handlers work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Central {
    pub(crate) desk: Desk<CentralModels>,
    pub(crate) changes: Changes,
    /// Places for streams of events.
    pub(crate) listeners: Arc<Semaphore>,
    pub(crate) shutdown: Shutdown,
}

/// Routes made of their descriptions, and the list of them.
#[derive(Default)]
struct Table {
    router: Router<Central>,
    listed: Vec<(String, String)>,
}

impl Table {
    /// Adds the handler that `P` describes.
    fn with<P, H, T>(mut self, handler: H) -> Self
    where
        P: utoipa::Path,
        H: Handler<T, Central>,
        T: 'static,
    {
        let path = P::path();
        for method in P::methods() {
            let (filter, name) = match method {
                HttpMethod::Get => (MethodFilter::GET, "get"),
                HttpMethod::Post => (MethodFilter::POST, "post"),
                HttpMethod::Put => (MethodFilter::PUT, "put"),
                HttpMethod::Delete => (MethodFilter::DELETE, "delete"),
                HttpMethod::Options => (MethodFilter::OPTIONS, "options"),
                HttpMethod::Head => (MethodFilter::HEAD, "head"),
                HttpMethod::Patch => (MethodFilter::PATCH, "patch"),
                HttpMethod::Trace => (MethodFilter::TRACE, "trace"),
            };
            self.router = self.router.route(&path, on(filter, handler.clone()));
            self.listed.push((path.clone(), name.to_owned()));
        }
        self
    }
}

/// This node's own routes that need a session.
fn own() -> Table {
    Table::default()
        .with::<media::__path_put, _, _>(media::put)
        .with::<media::__path_get, _, _>(media::get)
        .with::<bulletins::__path_create, _, _>(bulletins::create)
        .with::<bulletins::__path_list, _, _>(bulletins::list)
        .with::<bulletins::__path_read, _, _>(bulletins::read)
        .with::<bulletins::__path_edit, _, _>(bulletins::edit)
        .with::<bulletins::__path_submit, _, _>(bulletins::submit)
        .with::<bulletins::__path_approve, _, _>(bulletins::approve)
        .with::<bulletins::__path_return_, _, _>(bulletins::return_)
        .with::<bulletins::__path_reject, _, _>(bulletins::reject)
        .with::<bulletins::__path_publish, _, _>(bulletins::publish)
        .with::<bulletins::__path_withdraw, _, _>(bulletins::withdraw)
        .with::<delivery::__path_read, _, _>(delivery::read)
        .with::<clusters::__path_totals, _, _>(clusters::totals)
        .with::<reports::__path_read, _, _>(reports::read)
        .with::<reports::__path_missing, _, _>(reports::missing)
        .with::<forms::__path_list, _, _>(forms::list)
        .with::<forms::__path_read, _, _>(forms::read)
        .with::<areas::__path_read, _, _>(areas::read)
        .with::<events::__path_listen, _, _>(events::listen)
}

/// Routes that anybody may call.
fn open() -> Table {
    Table::default().with::<openapi::__path_describe, _, _>(openapi::describe)
}

/// Everything under `/api/v1`.
pub(crate) fn router(central: &Central) -> Router {
    let own = own().router.with_state(central.clone());
    api::routes(&central.desk, own).merge(open().router.with_state(central.clone()))
}
