//! `GET /openapi.json`: the platform described, OpenAPI 3.1. Shapes of messages come from the wire contract itself.

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use httt_wire::json::schemas;
use serde_json::{Map, Value, json};

/// Where the description is.
pub(crate) const PATH: &str = "/openapi.json";

const SCHEMAS: &str = "#/components/schemas/";
const MESSAGES: &str = "httt.exchange.v1.";
/// Parameters of addresses, and what they are.
const PARAMETERS: [(&str, &str, &str); 20] = [
    ("origin", "string", "Mã cơ quan gửi (agency code of the feed's origin), H24"),
    ("audience", "string", "Mã cơ quan nhận, hoặc `all` cho mọi cơ quan (agency code, or `all` for everybody)"),
    ("lane", "string", "directory, emergency, content, report, status"),
    ("sha256", "string", "SHA-256 của tệp, hệ 16 (of the file, hexadecimal)"),
    ("path", "string", "Đường dẫn C2SP tlog-tiles (a path of C2SP tlog-tiles)"),
    ("log_id", "string", "Nhật ký đã biết, hệ 16 (the log known, hexadecimal)"),
    ("after", "integer", "Chỉ những gì sau vị trí này (only what follows this)"),
    ("wait_ms", "integer", "Chờ tin mới tối đa chừng này, không quá 30000 (wait for news so long)"),
    (
        "max_bytes",
        "integer",
        "Nhiều nhất chừng này byte; một lần đọc không quá 1048576 (at most so many; 1048576 a reading)",
    ),
    ("accept_zstd", "boolean", "Nhận `packed` (the caller reads `packed`)"),
    ("from_restated", "boolean", "Bắt đầu từ lô nhắc lại toàn bộ trạng thái (begin at the latest restating batch)"),
    ("offset", "integer", "Từ byte này (from this byte on)"),
    ("size", "integer", "Cỡ cả tệp (of the whole file)"),
    ("urgent", "boolean", "Tệp của bản tin khẩn cấp (the file is an emergency's)"),
    ("from", "string", "Ngày 2026-11-22 hoặc mili giây Unix (a day, or Unix milliseconds)"),
    ("to", "string", "Ngày (tính cả ngày đó) hoặc mili giây Unix (a day, included, or Unix milliseconds)"),
    ("member", "string", "Mã cơ quan (agency code)"),
    ("for", "string", "Mã cơ quan nhận tệp (agency code of who the file is for)"),
    ("feed", "string", "Chỉ các luồng này, cách nhau bằng dấu phẩy (only these feeds, separated by commas)"),
    ("media", "boolean", "Kèm tệp phương tiện, mặc định có (with media files, the default)"),
];

/// Who may call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Anybody,
    /// A client: access token, or the three headers.
    Client,
    /// An account's session.
    Person,
}

/// What a body is.
#[derive(Clone, Copy)]
enum Is {
    Nothing,
    /// A message of the exchange, in either format.
    Message(&'static str),
    Bytes,
    /// Bytes, or nothing.
    MaybeBytes,
    Form,
    Json(&'static str),
    Text(&'static str),
}

struct Operation {
    method: &'static str,
    path: &'static str,
    who: Who,
    summary: &'static str,
    query: &'static [&'static str],
    body: Is,
    answer: Is,
}

const fn operation(
    (method, path): (&'static str, &'static str),
    who: Who,
    summary: &'static str,
    query: &'static [&'static str],
    body: Is,
    answer: Is,
) -> Operation {
    Operation { method, path, who, summary, query, body, answer }
}

use Is::{Bytes, Form, Json, MaybeBytes, Message, Nothing, Text};
use Who::{Anybody, Client, Person};

const FEED: &str = "/exchange/v1/feeds/{origin}/{audience}/{lane}";
const MEDIA: &str = "/exchange/v1/media/{sha256}";
const READ: [&str; 5] = ["after", "max_bytes", "wait_ms", "accept_zstd", "from_restated"];

const OPERATIONS: [Operation; 34] = [
    operation(
        ("post", "/oauth2/token"),
        Anybody,
        "Lấy access token (client credentials; HTTP Basic or form)",
        &[],
        Form,
        Json("Token"),
    ),
    operation(
        ("get", "/exchange/v1/heads"),
        Client,
        "Đầu các luồng được phép đọc; chờ tin mới; ETag (heads, long-poll)",
        &["log_id", "after", "wait_ms"],
        Nothing,
        Message("HeadsResponse"),
    ),
    operation(
        ("get", FEED),
        Client,
        "Đọc luồng sau một số thứ tự; ETag (read a feed)",
        &READ,
        Nothing,
        Message("ReadResponse"),
    ),
    operation(
        ("post", FEED),
        Client,
        "Gửi các lô đã ký (push sealed batches)",
        &[],
        Message("PushRequest"),
        Message("PushResponse"),
    ),
    operation(
        ("get", MEDIA),
        Client,
        "Đọc một đoạn tệp (a range of a media file)",
        &["offset", "max_bytes", "urgent"],
        Nothing,
        Message("ReadMediaResponse"),
    ),
    operation(
        ("patch", MEDIA),
        Client,
        "Gửi đoạn tiếp theo của tệp (the next range of a media file)",
        &["size", "offset", "urgent"],
        Bytes,
        Message("StatMediaResponse"),
    ),
    operation(
        ("get", "/exchange/v1/media/{sha256}/state"),
        Client,
        "Đã giữ bao nhiêu của tệp (how much is held)",
        &["urgent"],
        Nothing,
        Message("StatMediaResponse"),
    ),
    operation(
        ("post", "/exchange/v1/witness"),
        Client,
        "Đồng ký điểm kiểm (C2SP tlog-witness)",
        &[],
        Message("WitnessRequest"),
        Message("WitnessResponse"),
    ),
    operation(
        ("get", "/api/v1/calls"),
        Person,
        "Nhật ký lời gọi, csv hoặc jsonl (records of calls)",
        &["from", "to", "member", "format"],
        Nothing,
        Text("text/csv"),
    ),
    operation(
        ("get", "/api/v1/calls/summary"),
        Person,
        "Tổng theo ngày và cơ quan (sums by day and member)",
        &["from", "to", "member"],
        Nothing,
        Json("CallsSummary"),
    ),
    operation(("get", PATH), Anybody, "Bản mô tả này (this description)", &[], Nothing, Json("Any")),
    operation(("post", "/api/v1/session"), Anybody, "Đăng nhập (log in)", &[], Json("Credentials"), Json("Any")),
    operation(("delete", "/api/v1/session"), Person, "Đăng xuất (log out)", &[], Nothing, Nothing),
    operation(("get", "/api/v1/me"), Person, "Tài khoản đang dùng (the account)", &[], Nothing, Json("Any")),
    operation(("get", "/api/v1/log"), Person, "Nhật ký của nút (the node's log)", &[], Nothing, Json("Any")),
    operation(("get", "/api/v1/link"), Person, "Đường lên sàn trao đổi (the way up)", &[], Nothing, Json("Any")),
    operation(
        ("get", "/api/v1/wire"),
        Person,
        "Lượng dữ liệu qua đường truyền (what went over the wire)",
        &[],
        Nothing,
        Json("Any"),
    ),
    operation(("get", "/api/v1/storage"), Person, "Dung lượng lưu trữ (storage)", &[], Nothing, Json("Any")),
    operation(
        ("post", "/api/v1/feeds/import"),
        Person,
        "Nhận luồng từ tệp mang tay (take feeds carried by hand)",
        &[],
        Bytes,
        Json("Any"),
    ),
    operation(
        ("post", "/api/v1/feeds/export"),
        Person,
        "Xuất luồng ra tệp mang tay; nội dung gửi lên: tệp trước đó, nếu có (feeds as a file; the body: an earlier one)",
        &["for", "feed", "lane", "after", "media", "max_bytes"],
        MaybeBytes,
        Bytes,
    ),
    operation(("get", "/metrics"), Person, "Số liệu cho Prometheus (figures)", &[], Nothing, Text("text/plain")),
    operation(("get", "/api/v1/members"), Person, "Thành viên (members)", &[], Nothing, Json("Any")),
    operation(("get", "/api/v1/models"), Person, "Các mô hình đọc (read models)", &[], Nothing, Json("Any")),
    operation(
        ("post", "/api/v1/models/compare"),
        Person,
        "Đối chiếu mô hình đọc với bản dựng lại (compare with a rebuild)",
        &[],
        Nothing,
        Json("Any"),
    ),
    operation(("post", "/api/v1/models/rebuild"), Person, "Dựng lại mô hình đọc (rebuild)", &[], Nothing, Json("Any")),
    operation(("get", "/api/v1/witness"), Person, "Đồng ký và nhân chứng (witnessing)", &[], Nothing, Json("Any")),
    operation(
        ("post", "/api/v1/witness/forget"),
        Person,
        "Bỏ một bằng chứng đã xét (forget)",
        &[],
        Json("Any"),
        Json("Any"),
    ),
    operation(
        ("get", "/tlog/checkpoint"),
        Anybody,
        "Điểm kiểm đã ký (signed checkpoint)",
        &[],
        Nothing,
        Text("text/plain"),
    ),
    operation(
        ("get", "/tlog/cosigned/checkpoint"),
        Anybody,
        "Điểm kiểm đã đồng ký (cosigned checkpoint)",
        &[],
        Nothing,
        Text("text/plain"),
    ),
    operation(("get", "/tlog/tile/{*path}"), Anybody, "Mảnh của nhật ký (a tile)", &[], Nothing, Bytes),
    operation(("get", "/tlog/cosigned/tile/{*path}"), Anybody, "Mảnh của nhật ký (a tile)", &[], Nothing, Bytes),
    operation(
        ("post", "/tlog/add-checkpoint"),
        Anybody,
        "C2SP tlog-witness: add-checkpoint",
        &[],
        Text("text/plain"),
        Text("text/plain"),
    ),
    operation(("get", "/healthz"), Anybody, "Còn sống (alive)", &[], Nothing, Json("Any")),
    operation(("get", "/readyz"), Anybody, "Sẵn sàng (ready)", &[], Nothing, Json("Any")),
];

/// `GET /openapi.json`
pub(crate) async fn show() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| description().to_string());
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

fn description() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in &OPERATIONS {
        let path = operation.path.replace("{*", "{");
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "HTTT: bộ chuyển tiếp LGSP",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Đường đi qua nền tảng LGSP của tỉnh. Bị từ chối: HTTP 4xx/5xx và `refusal` trong nội dung; \
                429, 503 kèm Retry-After. A province's way through its own platform. A refusal is a status from 400 on, \
                and `refusal` in the body; 429 and 503 say Retry-After.",
        },
        "paths": paths,
        "components": { "schemas": all_schemas(), "securitySchemes": {
            "token": { "type": "oauth2", "flows": { "clientCredentials": { "tokenUrl": "/oauth2/token", "scopes": {} } } },
            "AppName": { "type": "apiKey", "in": "header", "name": "AppName" },
            "AccessKey": { "type": "apiKey", "in": "header", "name": "AccessKey" },
            "SecretKey": { "type": "apiKey", "in": "header", "name": "SecretKey" },
            "session": { "type": "http", "scheme": "bearer", "description": "POST /api/v1/session" },
        } },
    })
}

fn described(operation: &Operation) -> Value {
    let Operation { method, path, who, summary, query, body, answer } = operation;
    let id = path.split(['/', '{', '}', '*', '.']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_");
    let in_path = path.split(['{', '}']).skip(1).step_by(2).map(|name| (name.trim_start_matches('*'), true));
    let parameters: Vec<Value> = in_path
        .chain(query.iter().map(|name| (*name, false)))
        .map(|(name, in_path)| parameter(name, in_path))
        .collect();
    let security = match who {
        Anybody => json!([]),
        Client => json!([{ "token": [] }, { "AppName": [], "AccessKey": [], "SecretKey": [] }]),
        Person => json!([{ "session": [] }]),
    };
    let mut responses = json!({
        "200": with_content("Được (done)", *answer),
        "default": with_content("Bị từ chối, kèm lý do (refused, with the reason)", match who {
            Client => *answer,
            Anybody | Person => Json("Error"),
        }),
    });
    if matches!(*answer, Message("HeadsResponse" | "ReadResponse")) {
        responses["200"]["headers"] = json!({ "ETag": { "schema": { "type": "string" } } });
        responses["304"] = json!({ "description": "Không có gì mới (nothing new, by If-None-Match)" });
    }
    if *who == Client {
        let retry = json!({ "Retry-After": { "description": "Giây (seconds)", "schema": { "type": "integer" } } });
        for (status, why) in [("429", "Quá hạn mức (over the quota)"), ("503", "Tạm thời không nhận (not now)")]
        {
            responses[status] = with_content(why, *answer);
            responses[status]["headers"] = retry.clone();
        }
    }
    let mut described = json!({
        "operationId": format!("{method}_{id}"),
        "summary": summary,
        "parameters": parameters,
        "security": security,
        "responses": responses,
    });
    if let Some(content) = content(*body) {
        described["requestBody"] = json!({ "required": !matches!(body, MaybeBytes), "content": content });
    }
    described
}

fn parameter(name: &str, in_path: bool) -> Value {
    let known = PARAMETERS.iter().find(|(known, ..)| *known == name);
    let (kind, what) = known.map_or(("string", "csv, jsonl"), |(_, kind, what)| (*kind, *what));
    let place = if in_path { "path" } else { "query" };
    let required = in_path || name == "for";
    json!({ "name": name, "in": place, "required": required, "description": what, "schema": { "type": kind } })
}

fn with_content(description: &str, is: Is) -> Value {
    let mut described = json!({ "description": description });
    if let Some(content) = content(is) {
        described["content"] = content;
    }
    described
}

fn content(is: Is) -> Option<Value> {
    let reference = |name: String| json!({ "schema": { "$ref": format!("{SCHEMAS}{name}") } });
    Some(match is {
        Nothing => return None,
        Message(name) => {
            let message = format!("{MESSAGES}{name}");
            json!({
                "application/json": reference(message.clone()),
                "application/x-protobuf": { "schema": { "type": "string", "format": "binary", "description": message } },
            })
        }
        Bytes | MaybeBytes => {
            json!({ "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } })
        }
        Form => json!({ "application/x-www-form-urlencoded": reference("TokenRequest".to_owned()) }),
        Json(name) => json!({ "application/json": reference(name.to_owned()) }),
        Text(kind) => {
            let text = json!({ "schema": { "type": "string" } });
            if kind == "text/csv" { json!({ kind: text, "application/jsonl": text }) } else { json!({ kind: text }) }
        }
    })
}

fn all_schemas() -> Map<String, Value> {
    let messages: Vec<String> = OPERATIONS
        .iter()
        .flat_map(|operation| [operation.body, operation.answer])
        .filter_map(|is| if let Message(name) = is { Some(format!("{MESSAGES}{name}")) } else { None })
        .collect();
    let mut all = schemas(&messages, SCHEMAS);
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let day = object(json!({
        "day": text(), "member": text(), "calls": number(), "failed": number(), "over_quota": number(),
        "bytes_in": number(), "bytes_out": number(), "duration_ms": number(), "longest_ms": number(),
    }));
    let lost = object(json!({ "day": text(), "records": number() }));
    let described = [
        ("Any", json!({})),
        ("Token", object(json!({ "access_token": text(), "token_type": text(), "expires_in": number() }))),
        (
            "TokenRequest",
            object(
                json!({ "grant_type": { "const": "client_credentials" }, "client_id": text(), "client_secret": text() }),
            ),
        ),
        ("Credentials", object(json!({ "username": text(), "password": text() }))),
        (
            "Error",
            object(json!({ "error": object(json!({ "code": text(), "message": text(), "message_en": text() })) })),
        ),
        (
            "CallsSummary",
            object(json!({
                "days": { "type": "array", "items": day },
                "lost": { "type": "array", "items": lost },
                "lost_since_start": number(),
            })),
        ),
    ];
    all.extend(described.map(|(name, schema)| (name.to_owned(), schema)));
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use httt_node::exchange::rest;

    use super::*;

    type Listed = BTreeSet<(String, String)>;

    fn listed(routes: impl IntoIterator<Item = (&'static str, &'static str)>) -> Listed {
        routes.into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect()
    }

    /// The routes that every node has, read from where they are made.
    fn node_routes() -> Listed {
        let mut routes = Listed::new();
        for (source, from) in [
            (include_str!("../../../crates/node/src/api.rs"), "/"),
            (include_str!("../../../crates/node/src/tlog.rs"), "/tlog/"),
            (include_str!("../../../crates/node/src/http/health.rs"), "/"),
        ] {
            let before = routes.len();
            for part in source.split(".route(").skip(1) {
                let (path, rest) = part.split_once(',').expect("a path and what answers there");
                let path = path.trim().trim_matches('"').to_owned();
                let line = rest.split([';', '\n']).next().expect("a line");
                let methods = ["get", "post", "put", "delete", "patch"].into_iter();
                let methods = methods.filter(|method| line.contains(&format!("{method}(")));
                assert!(path.starts_with(from), "{path}");
                routes.extend(methods.map(|method| (method.to_owned(), path.clone())));
            }
            assert!(routes.len() > before, "{from}");
        }
        routes
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let mut served = listed(rest::ROUTES);
        served.extend(listed(super::super::calls::ROUTES));
        served.extend(listed([("get", PATH)]));
        served.extend(node_routes());
        let described = listed(OPERATIONS.iter().map(|operation| (operation.method, operation.path)));
        assert_eq!(described, served);
    }

    #[test]
    fn the_description_is_whole() {
        let document = description();
        let text = document.to_string();
        for reference in text.split("\"#/components/schemas/").skip(1) {
            let name = reference.split('"').next().expect("a name");
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is referred to and not described");
        }
        assert_eq!(text.matches("\"name\":\"urgent\"").count(), 3, "reading, writing and asking for a media file");
        let parameters = text.matches("\"in\":\"query\"").count();
        assert!(parameters > 10, "{parameters}");
        let mut ids: Vec<&str> =
            text.split("\"operationId\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(ids.len(), OPERATIONS.len());
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), OPERATIONS.len(), "operation ids are unique");
    }
}
