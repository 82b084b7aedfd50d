//! The one shape in which every JSON interface says no.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

/// An error answer: `{ "error": { "code", "message", "message_en", "field"?, "details"? } }`.
///
/// `code` is for programs and stays the same; `message` is for people, Vietnamese first. Nothing in it comes from
/// inside the node: [`ApiError::internal`] logs its cause and answers without it.
#[derive(Debug)]
pub struct ApiError(Box<Inner>);

#[derive(Debug)]
struct Inner {
    status: StatusCode,
    retry_after: Option<Duration>,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    code: Cow<'static, str>,
    message: Cow<'static, str>,
    message_en: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Value>,
}

#[derive(Serialize)]
struct Answer<'a> {
    error: &'a Body,
}

/// One thing that is wrong with a form, for [`ApiError::unprocessable`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The field, `indicators.villages_total`.
    pub field: String,
    /// What is wrong, in Vietnamese.
    pub message: String,
    /// What is wrong, in English.
    pub message_en: String,
}

type Text = Cow<'static, str>;

impl ApiError {
    /// Any status with a code for programs and a message in Vietnamese and English.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Text>, message_en: impl Into<Text>) -> Self {
        let body = Body {
            code: code.into(),
            message: message.into(),
            message_en: message_en.into(),
            field: None,
            details: None,
        };
        Self(Box::new(Inner { status, retry_after: None, body }))
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(message: impl Into<Text>, message_en: impl Into<Text>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message, message_en)
    }

    /// 401: who is asking is not known.
    pub fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Chưa đăng nhập hoặc phiên làm việc đã hết hạn. Hãy đăng nhập lại.",
            "Not logged in, or the session has ended. Log in again.",
        )
    }

    /// 403: who is asking may not do this.
    pub fn forbidden() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "Tài khoản này không có quyền thực hiện thao tác này.",
            "This account may not do this.",
        )
    }

    /// 404: the thing asked for does not exist, or not for this account.
    pub fn not_found(message: impl Into<Text>, message_en: impl Into<Text>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message, message_en)
    }

    /// 409: the state of things does not allow it, or somebody else was faster.
    pub fn conflict(message: impl Into<Text>, message_en: impl Into<Text>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message, message_en)
    }

    /// 422: everything that is wrong with what was entered, at once. The first problem's field is the answer's field.
    pub fn unprocessable(problems: Vec<Problem>) -> Self {
        let (message, message_en): (Text, Text) = match problems.as_slice() {
            [only] => (only.message.clone().into(), only.message_en.clone().into()),
            several => (
                format!("Dữ liệu nhập có {} lỗi, xem chi tiết từng trường.", several.len()).into(),
                format!("The data entered has {} errors, see each field.", several.len()).into(),
            ),
        };
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", message, message_en);
        error.0.body.field = problems.first().map(|problem| problem.field.clone());
        error.0.body.details = serde_json::to_value(problems).ok();
        error
    }

    /// 413: the body is larger than this address takes.
    pub fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "Nội dung gửi lên vượt quá dung lượng cho phép.",
            "What was sent is larger than allowed.",
        )
    }

    /// 429: too often; come back after `wait`.
    pub fn too_many_requests(wait: Duration) -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            format!("Quá nhiều yêu cầu. Hãy thử lại sau {}.", minutes(wait)),
            format!("Too many requests. Try again in {}.", minutes_en(wait)),
        )
        .with_retry_after(wait)
    }

    /// 503: not now, for a reason outside the request.
    pub fn unavailable(message: impl Into<Text>, message_en: impl Into<Text>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, message_en)
    }

    /// 500: the node's own fault. `cause` goes to the log only.
    pub fn internal(cause: impl fmt::Display) -> Self {
        tracing::error!(%cause, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Hệ thống gặp lỗi. Hãy thử lại; nếu vẫn lỗi, báo quản trị viên kèm mã yêu cầu x-request-id.",
            "The system failed. Try again; if it fails again, tell the administrator the x-request-id.",
        )
    }

    pub(super) fn no_such_address() -> Self {
        Self::not_found("Địa chỉ này không tồn tại.", "There is nothing at this address.")
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "Địa chỉ này không nhận phương thức HTTP đã dùng.",
            "This address does not take this HTTP method.",
        )
    }

    /// Another code for programs, where the status alone says too little.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.0.body.code = code.into();
        self
    }

    /// The field at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.0.body.field = Some(field.into());
        self
    }

    /// More for programs.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        self.0.body.details = Some(details);
        self
    }

    /// When to come back: header `retry-after`, in whole seconds, at least one.
    #[must_use]
    pub fn with_retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The code for programs.
    pub fn code(&self) -> &str {
        &self.0.body.code
    }

    /// The message in Vietnamese.
    pub fn message(&self) -> &str {
        &self.0.body.message
    }

    /// The message in English.
    pub fn message_en(&self) -> &str {
        &self.0.body.message_en
    }
}

fn minutes(wait: Duration) -> String {
    let seconds = whole_seconds(wait);
    if seconds < 120 { format!("{seconds} giây") } else { format!("{} phút", seconds.div_ceil(60)) }
}

fn minutes_en(wait: Duration) -> String {
    let seconds = whole_seconds(wait);
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds.div_ceil(60)) }
}

fn whole_seconds(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message(), self.message_en())
    }
}

impl std::error::Error for ApiError {}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.0.status, axum::Json(Answer { error: &self.0.body })).into_response();
        let headers = response.headers_mut();
        if self.0.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.0.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(error: ApiError) -> (Response<()>, Value) {
        let (parts, body) = error.into_response().into_parts();
        let bytes = axum::body::to_bytes(body, 1 << 16).await.expect("body");
        (Response::from_parts(parts, ()), serde_json::from_slice(&bytes).expect("json"))
    }

    #[tokio::test]
    async fn all_problems_are_told_at_once() {
        let problem = |field: &str| Problem {
            field: field.to_owned(),
            message: format!("Thiếu {field}."),
            message_en: format!("{field} is missing."),
        };
        let (response, body) = answer(ApiError::unprocessable(vec![problem("horns"), problem("staff")])).await;
        assert_eq!(response.status(), 422);
        assert_eq!(body["error"]["field"], "horns");
        assert_eq!(body["error"]["details"][1]["field"], "staff");
        assert!(body["error"]["message"].as_str().expect("text").contains("2 lỗi"));
        let (_, body) = answer(ApiError::unprocessable(vec![problem("horns")])).await;
        assert_eq!(body["error"]["message"], "Thiếu horns.");
    }

    #[tokio::test]
    async fn absent_parts_are_left_out_and_causes_stay_inside() {
        let (response, body) = answer(ApiError::internal("/var/lib/secret: disk full")).await;
        assert_eq!(response.status(), 500);
        assert!(!body.to_string().contains("secret"));
        let error = body["error"].as_object().expect("object");
        assert!(!error.contains_key("field") && !error.contains_key("details"));
    }

    #[tokio::test]
    async fn headers_say_what_to_do() {
        let (response, _) = answer(ApiError::unauthorized()).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let (response, body) = answer(ApiError::too_many_requests(Duration::from_millis(60_001))).await;
        assert_eq!(response.headers()["retry-after"], "61");
        assert!(body["error"]["message"].as_str().expect("text").contains("61 giây"));
        let (response, body) = answer(ApiError::too_many_requests(Duration::from_secs(900))).await;
        assert_eq!(response.headers()["retry-after"], "900");
        assert!(body["error"]["message"].as_str().expect("text").contains("15 phút"));
    }
}
