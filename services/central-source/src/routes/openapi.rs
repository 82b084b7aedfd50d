//! The description of the API, OpenAPI 3.1, made of what stands at the handlers.

mod node;

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use httt_node::http::ApiError;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::shapes::{ErrorAnswer, ErrorBody};
use super::{areas, bulletins, clusters, delivery, events, forms, media, reports};

/// Name of the security scheme.
const SESSION: &str = "session";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "HTTT nguồn trung ương",
        description = "Giao diện lập trình của hệ thống thông tin nguồn trung ương. Đăng nhập tại `POST \
                       /api/v1/session`, sau đó gửi `Authorization: Bearer TOKEN`.\n\n\
                       The API of the central source. Log in at `POST /api/v1/session`, then send `Authorization: \
                       Bearer TOKEN`. Times are Unix milliseconds. Every refusal has the shape `ErrorAnswer`, with a \
                       code for programs and a message in Vietnamese and English.",
    ),
    paths(
        node::log_in, node::log_out, node::me, node::log, node::link, node::wire, node::metrics, node::members, node::storage,
        node::models, node::compare, node::rebuild, node::witness, node::forget, node::import, node::export,
        media::put, media::get,
        bulletins::create, bulletins::list, bulletins::read, bulletins::edit, bulletins::submit, bulletins::approve,
        bulletins::return_, bulletins::reject, bulletins::publish, bulletins::withdraw,
        delivery::read,
        clusters::totals,
        reports::read, reports::missing,
        forms::list, forms::read,
        areas::read,
        events::listen,
        describe,
    ),
    components(schemas(ErrorAnswer, ErrorBody)),
    tags(
        (name = "session", description = "Phiên làm việc: logging in and out"),
        (name = "bulletins", description = "Bản tin"),
        (name = "media", description = "Tệp âm thanh, hình ảnh, video"),
        (name = "clusters", description = "Cụm loa"),
        (name = "reports", description = "Thống kê, báo cáo"),
        (name = "areas", description = "Địa bàn"),
        (name = "events", description = "Thời gian thực: what changes, as it changes"),
        (name = "node", description = "Nút: log, link, members"),
    ),
    security(("session" = [])),
    modifiers(&Common),
)]
struct Description;

/// What all operations share.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut Document) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_with(Components::new).add_security_scheme(SESSION, scheme);
        for item in document.paths.paths.values_mut() {
            for operation in operations(item) {
                let refusal = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorAnswer"))).build();
                let refusal = ResponseBuilder::new()
                    .description("Bị từ chối, kèm lý do (refused, with the reason)")
                    .content("application/json", refusal)
                    .build();
                operation.responses.responses.insert("default".to_owned(), RefOr::T(refusal));
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, patch, .. } = item;
    [get, put, post, delete, patch].into_iter().flatten()
}

/// The description as JSON.
fn document() -> Result<&'static Bytes, &'static str> {
    static DOCUMENT: LazyLock<Result<Bytes, String>> =
        LazyLock::new(|| Description::openapi().to_pretty_json().map(Bytes::from).map_err(|error| error.to_string()));
    DOCUMENT.as_ref().map_err(String::as_str)
}

#[utoipa::path(
    get, path = "/api/v1/openapi.json", tag = "node", operation_id = "openapi_describe",
    summary = "Bản mô tả này",
    description = "This description, OpenAPI 3.1.",
    responses((status = 200, description = "The description", body = serde_json::Value)),
    security(()),
)]
pub(crate) async fn describe() -> Response {
    match document() {
        Ok(document) => ([(CONTENT_TYPE, "application/json")], document.clone()).into_response(),
        Err(error) => ApiError::internal(error).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    type Listed = BTreeSet<(String, String)>;

    fn described() -> Value {
        serde_json::from_slice(document().expect("document")).expect("JSON")
    }

    fn described_routes() -> Listed {
        let document = described();
        let paths = document["paths"].as_object().expect("paths");
        let routes = paths.iter().flat_map(|(path, item)| {
            item.as_object().expect("item").keys().map(move |method| (path.clone(), method.clone()))
        });
        routes.collect()
    }

    /// The routes that every node has, read from where they are made.
    fn node_routes() -> Listed {
        let source = include_str!("../../../../crates/node/src/api.rs");
        let mut routes = Listed::new();
        for part in source.split(".route(").skip(1) {
            let (path, rest) = part.split_once(',').expect("a path and what answers there");
            let path = path.trim().trim_matches('"').to_owned();
            let methods = rest.split(".route(").next().expect("a part");
            let methods = methods.split([';', '\n']).next().expect("a line");
            for method in ["get", "post", "put", "delete"] {
                if methods.contains(&format!("{method}(")) {
                    routes.insert((path.clone(), method.to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let own = super::super::own().listed.into_iter().chain(super::super::open().listed);
        let mut registered: Listed = own.collect();
        let node = node_routes();
        assert!(node.len() >= 7, "{node:?}");
        registered.extend(node);
        assert_eq!(described_routes(), registered);
    }

    #[test]
    fn the_description_is_whole() {
        let document = described();
        assert_eq!(document["openapi"], "3.1.0");
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().expect("a name");
            assert!(document["components"]["schemas"][name].is_object(), "{name} is referred to and not described");
        }
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("item") {
                assert!(operation["summary"].is_string(), "{method} {path}");
                assert!(operation["responses"]["default"].is_object(), "{method} {path}");
                assert_eq!(
                    operation.get("security").is_some(),
                    matches!(
                        (path.as_str(), method.as_str()),
                        ("/api/v1/session", "post") | ("/api/v1/openapi.json", _)
                    ),
                    "{method} {path}"
                );
            }
        }
        let mut ids: Vec<&str> =
            text.split("\"operationId\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all, "operation ids are unique");
    }
}
