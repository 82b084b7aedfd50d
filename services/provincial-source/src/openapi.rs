//! The OpenAPI description, made of the table of routes.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ArrayBuilder, ComponentsBuilder, Content, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathItem, Ref, RefOr, Required, ResponseBuilder, Schema, Type,
};

use crate::routes::{Caller, ROUTES, Route, identified};

/// Where the description is.
pub(crate) const PATH: &str = "/api/v1/openapi.json";

/// Name of the security scheme of people.
const SESSION: &str = "session";
/// Name of the security scheme of devices.
const TOKEN: &str = "device";

/// What a body looks like.
pub(crate) enum Shape {
    /// There is none.
    None,
    /// A described type.
    Schema(fn() -> String, fn(ComponentsBuilder) -> ComponentsBuilder),
    /// A list of it.
    List(&'static Self),
    /// JSON, shown by an example.
    Example(&'static str),
    /// The same, with the fields by which a device says who it is.
    Identified(&'static str),
    /// Bytes.
    File,
}

/// A type's shape.
pub(crate) const fn schema<T: ToSchema>() -> Shape {
    Shape::Schema(
        || T::name().into_owned(),
        |components| {
            let mut nested = Vec::new();
            T::schemas(&mut nested);
            components.schemas_from_iter(nested).schema_from::<T>()
        },
    )
}

impl Shape {
    fn register(&self, components: ComponentsBuilder) -> ComponentsBuilder {
        match self {
            Self::Schema(_, register) => register(components),
            Self::List(of) => of.register(components),
            _ => components,
        }
    }

    fn schema(&self) -> RefOr<Schema> {
        match self {
            Self::Schema(name, _) => Ref::from_schema_name(name()).into(),
            Self::List(of) => Schema::from(ArrayBuilder::new().items(of.schema())).into(),
            _ => Schema::from(ObjectBuilder::new().schema_type(Type::Object)).into(),
        }
    }

    /// Content type and content; none without a body.
    fn content(&self) -> Option<(&'static str, Content)> {
        let example = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        let content = ContentBuilder::new();
        Some(match self {
            Self::None => return None,
            Self::File => ("application/octet-stream", content.build()),
            Self::Example(text) => ("application/json", content.example(Some(example(text))).build()),
            Self::Identified(fields) => {
                ("application/json", content.example(Some(example(&identified(fields)))).build())
            }
            described => ("application/json", content.schema(Some(described.schema())).build()),
        })
    }
}

/// `GET /api/v1/openapi.json`
pub(crate) async fn show() -> Response {
    static JSON: LazyLock<Result<String, serde_json::Error>> = LazyLock::new(|| description().to_json());
    match &*JSON {
        Ok(json) => ([(CONTENT_TYPE, "application/json")], json.as_str()).into_response(),
        Err(error) => httt_node::http::ApiError::internal(error).into_response(),
    }
}

fn description() -> OpenApi {
    let mut components = ComponentsBuilder::new()
        .security_scheme(SESSION, bearer("Token của phiên làm việc (POST /api/v1/session)"))
        .security_scheme(TOKEN, bearer("Token của thiết bị (POST /thiet-bi/dang-nhap)"));
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        components = route.answer.register(route.body.register(components));
        paths = paths.path(route.path, PathItem::new(route.method.clone(), operation(route)));
    }
    let info = InfoBuilder::new()
        .title("HTTT nguồn cấp tỉnh (provincial source)")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Lỗi của /api/v1: {\"error\": {code, message, message_en, field?, details?}}. \
             Trả lời của /thiet-bi: {TrangThaiGui, MoTa, NoiDung}, HTTP 200; 401 khi token không hợp lệ.",
        ));
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components.build())).build()
}

fn bearer(description: &str) -> SecurityScheme {
    SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build())
}

fn operation(route: &Route) -> OperationBuilder {
    let (vi, en) = route.summary;
    let mut operation = OperationBuilder::new()
        .summary(Some(vi))
        .description(Some(en))
        .tag(if matches!(route.caller, Caller::Device | Caller::NewDevice) { "thiet-bi" } else { "api" });
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        operation = operation.parameter(parameter(name, ParameterIn::Path, Required::True, ""));
    }
    for (name, meaning) in route.query {
        operation = operation.parameter(parameter(name, ParameterIn::Query, Required::False, meaning));
    }
    if let Some((content_type, content)) = route.body.content() {
        let body = RequestBodyBuilder::new().required(Some(Required::True)).content(content_type, content);
        operation = operation.request_body(Some(body.build()));
    }
    operation = match route.caller {
        Caller::Person => operation.security(SecurityRequirement::new(SESSION, Vec::<String>::new())),
        Caller::Device => operation.security(SecurityRequirement::new(TOKEN, Vec::<String>::new())),
        Caller::Anybody | Caller::NewDevice => operation,
    };
    let mut done = ResponseBuilder::new().description("Thành công");
    if let Some((content_type, content)) = route.answer.content() {
        done = done.content(content_type, content);
    }
    let mut operation = operation.response("2XX", done.build());
    if route.caller == Caller::Person {
        let refused =
            ResponseBuilder::new().description("Từ chối: 401, 403, 404, 409, 422 (lỗi từng trường trong details)");
        operation = operation.response("4XX", refused.build());
    }
    operation
}

fn parameter(name: &str, place: ParameterIn, required: Required, meaning: &str) -> Parameter {
    let text = Schema::from(ObjectBuilder::new().schema_type(Type::String));
    let parameter = ParameterBuilder::new().name(name).parameter_in(place).required(required).schema(Some(text));
    if meaning.is_empty() { parameter.build() } else { parameter.description(Some(meaning)).build() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_with_good_examples() {
        let json: Value = serde_json::from_str(&description().to_json().expect("json")).expect("json");
        for route in ROUTES {
            let method = serde_json::to_value(&route.method).expect("method");
            let operation = &json["paths"][route.path][method.as_str().expect("text")];
            assert!(operation["summary"].is_string(), "{} {}", method, route.path);
            for shape in [&route.body, &route.answer] {
                if let Some((_, content)) = shape.content() {
                    let content = serde_json::to_value(content).expect("json");
                    let described = content.get("schema").is_some()
                        || content.get("example").is_some_and(|example| !example.is_null())
                        || matches!(shape, Shape::File);
                    assert!(described, "{} {}", method, route.path);
                }
            }
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let json: Value = serde_json::from_str(&description().to_json().expect("json")).expect("json");
        let mut open = vec![&json];
        let mut references = 0;
        while let Some(value) = open.pop() {
            match value {
                Value::Object(map) => {
                    if let Some(to) = map.get("$ref").and_then(Value::as_str) {
                        references += 1;
                        assert!(json.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                    }
                    open.extend(map.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 10);
    }
}
