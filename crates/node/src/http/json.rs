//! JSON in and out, with refusals that say where.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::ApiError;

/// How long a caller may take to send a body: enough for [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES) over a thin link,
/// too short to hold a connection for nothing.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A JSON body or answer. As an extractor it refuses with an [`ApiError`] that names line, column and field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not_json",
                "Nội dung phải là JSON, với tiêu đề content-type: application/json.",
                "The body must be JSON, with the header content-type: application/json.",
            ));
        }
        let body =
            tokio::time::timeout(BODY_READ_TIMEOUT, Bytes::from_request(request, state)).await.map_err(|_| {
                ApiError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    "too_slow",
                    "Nội dung gửi lên quá chậm.",
                    "The body arrived too slowly.",
                )
            })?;
        let body = body.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large(),
            _ => ApiError::bad_request("Nội dung gửi lên bị ngắt giữa chừng.", "The body broke off."),
        })?;
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        refusal(error.inner(), if field == "." { None } else { Some(field) })
    })?;
    reader.end().map_err(|error| refusal(&error, None))?;
    Ok(value)
}

fn refusal(error: &serde_json::Error, field: Option<String>) -> ApiError {
    let (line, column) = (error.line(), error.column());
    let text = error.to_string();
    let problem = text.rsplit_once(" at line ").map_or(text.as_str(), |(problem, _)| problem);
    if error.classify() != Category::Data {
        return ApiError::bad_request(
            format!("JSON sai cú pháp ở dòng {line}, cột {column}."),
            format!("Malformed JSON at line {line}, column {column}: {problem}."),
        )
        .with_code("malformed_json");
    }
    let place = field.as_ref().map(|field| format!("Trường “{field}”")).unwrap_or_else(|| "Dữ liệu".to_owned());
    let place_en = field.as_ref().map(|field| format!("Field {field}")).unwrap_or_else(|| "The data".to_owned());
    let error = ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "wrong_data",
        format!("{place}, dòng {line}, cột {column}: {}.", in_vietnamese(problem)),
        format!("{place_en}, line {line}, column {column}: {problem}."),
    );
    match field {
        Some(field) => error.with_field(field),
        None => error,
    }
}

/// serde's messages in Vietnamese, as far as their kinds go; names of fields stay as they are.
fn in_vietnamese(problem: &str) -> String {
    let named = problem.split('`').nth(1).unwrap_or_default();
    if problem.starts_with("missing field") {
        format!("thiếu trường “{named}”")
    } else if problem.starts_with("unknown field") {
        format!("không có trường nào tên là “{named}”")
    } else if problem.starts_with("duplicate field") {
        format!("trường “{named}” xuất hiện hai lần")
    } else if problem.starts_with("unknown variant") {
        format!("không nhận giá trị “{named}”")
    } else if problem.starts_with("invalid type") {
        "sai kiểu dữ liệu".to_owned()
    } else if problem.starts_with("invalid length") {
        "sai số phần tử".to_owned()
    } else {
        "giá trị không hợp lệ".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::ask;
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::post;
    use serde::Deserialize;
    use serde_json::Value;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Report {
        #[expect(dead_code, reason = "only its shape matters here")]
        stations: Vec<Station>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Station {
        #[expect(dead_code, reason = "only its shape matters here")]
        horns: u32,
    }

    async fn send(kind: &str, body: &str) -> (u16, Value) {
        let router = Router::new().route("/", post(|Json(_): Json<Report>| async { Json("nhận") }));
        let request = Request::post("/").header("content-type", kind).body(Body::from(body.to_owned()));
        let (status, body) = ask(&router, request.expect("request")).await;
        (status.as_u16(), body)
    }

    #[tokio::test]
    async fn good_json_is_taken() {
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"] {
            assert_eq!(send(kind, r#"{"stations":[{"horns":2}]} "#).await, (200, "nhận".into()), "{kind}");
        }
    }

    #[tokio::test]
    async fn refusals_say_where() {
        let (status, body) = send("application/json", "{\"stations\":[{\"horns\":2},\n{\"horns\":\"hai\"}]}").await;
        let error = &body["error"];
        assert_eq!((status, &error["field"]), (422, &"stations[1].horns".into()));
        let message = error["message"].as_str().expect("text");
        assert!(message.contains("dòng 2") && message.contains("sai kiểu dữ liệu"), "{message}");
        assert!(error["message_en"].as_str().expect("text").contains("invalid type"));

        let (status, body) = send("application/json", r#"{"stations":[{}]}"#).await;
        assert_eq!(status, 422);
        assert!(body["error"]["message"].as_str().expect("text").contains("thiếu trường “horns”"));

        let (_, body) = send("application/json", r#"{"stations":[],"trạm":1}"#).await;
        assert!(body["error"]["message"].as_str().expect("text").contains("không có trường nào tên là “trạm”"));

        for malformed in ["", "{\"stations\":", "{\"stations\":[]} x", "{\"stations\":[]}{}"] {
            let (status, body) = send("application/json", malformed).await;
            assert_eq!((status, &body["error"]["code"]), (400, &"malformed_json".into()), "{malformed}");
        }
        assert_eq!(send("text/plain", "{}").await.0, 415);
    }
}
