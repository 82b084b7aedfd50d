//! The device interface: JSON over HTTPS as clusters of several vendors speak it.
//!
//! Every answer is an envelope `{TrangThaiGui, MoTa, NoiDung}` with status 200, an error too, because that is what devices
//! look at; only a token that is not good gets 401, so that a device logs in again.

pub(crate) mod files;
pub(crate) mod log_in;
pub(crate) mod orders;
pub(crate) mod reports;
pub(crate) mod schedules;

use std::time::Duration;

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use httt_domain::device::{Answer, FromDevice, Identity, MAX_MESSAGE_BYTES, read};
use httt_domain::refusal::Refusal;
use httt_log::CommitError;
use serde::Serialize;

use crate::province::Province;
use crate::tokens::Claim;

/// How long a device may take to send a message.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// An error as devices hear it.
#[derive(Debug)]
pub(crate) struct DeviceError {
    status: StatusCode,
    description: String,
}

impl DeviceError {
    /// An error in words for `MoTa`.
    pub(crate) fn new(description: impl Into<String>) -> Self {
        Self { status: StatusCode::OK, description: description.into() }
    }

    fn unauthorized() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            ..Self::new("Token không hợp lệ hoặc đã hết hạn. Đề nghị đăng nhập lại.")
        }
    }

    /// With another status: for media, which are no envelope when all is well.
    pub(crate) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl From<Refusal> for DeviceError {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.vi())
    }
}

impl From<CommitError> for DeviceError {
    fn from(error: CommitError) -> Self {
        tracing::error!(%error, "a device's message was not written");
        Self::new("Hệ thống tạm thời không ghi được dữ liệu. Đề nghị gửi lại sau.")
    }
}

impl IntoResponse for DeviceError {
    fn into_response(self) -> Response {
        (self.status, Json(Answer::<()>::error(self.description))).into_response()
    }
}

/// What a device is answered.
pub(crate) type DeviceResult<T> = Result<Json<Answer<T>>, DeviceError>;

/// Success with content.
pub(crate) fn with<T: Serialize>(content: T) -> DeviceResult<T> {
    Ok(Json(Answer::with(content)))
}

/// Success.
pub(crate) fn done() -> DeviceResult<()> {
    Ok(Json(Answer::done()))
}

/// The device behind a good token.
#[derive(Debug, Clone)]
pub(crate) struct Device {
    /// Its IMEI.
    pub(crate) imei: String,
    /// Its short name.
    pub(crate) ordinal: u32,
    /// Its commune.
    pub(crate) commune: String,
}

impl Device {
    /// That the device may have another event written.
    pub(crate) fn may_write(&self, province: &Province) -> Result<(), DeviceError> {
        if province.quota.take(self.ordinal, province.desk.now_ms()) {
            return Ok(());
        }
        tracing::warn!(imei = self.imei, "a device sends more than anything plays");
        Err(DeviceError::new("Thiết bị gửi quá nhiều bản ghi. Đề nghị kiểm tra thiết bị và gửi lại sau."))
    }

    /// That a message is about the device that sends it.
    pub(crate) fn is_own(&self, identity: &Identity) -> Result<(), DeviceError> {
        if identity.imei == self.imei {
            return Ok(());
        }
        Err(DeviceError::new(format!(
            "CumLoaID “{}” không phải là thiết bị đã đăng nhập. Mỗi thiết bị chỉ gửi dữ liệu của chính mình.",
            identity.imei
        )))
    }
}

impl FromRequestParts<Province> for Device {
    type Rejection = DeviceError;

    async fn from_request_parts(parts: &mut Parts, province: &Province) -> Result<Self, DeviceError> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        // Some devices send the bare token.
        let token = match header.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            Some(_) => "",
            None => header,
        };
        let claim = Claim::read(token).ok_or_else(DeviceError::unauthorized)?;
        let now_ms = province.desk.now_ms();
        province
            .desk
            .models
            .read(|models| {
                let secret = models.credentials.secret_sha256(claim.imei)?;
                if !province.tokens.verify(&claim, secret, now_ms) {
                    return None;
                }
                let register = models.clusters.register(province.own())?;
                let ordinal = register.ordinal(claim.imei)?;
                let commune = register.get(ordinal)?.commune.clone();
                Some(Self { imei: claim.imei.to_owned(), ordinal, commune })
            })
            .ok_or_else(DeviceError::unauthorized)
    }
}

/// A message of a device, read leniently; its content type is not looked at, because many send none or another.
#[derive(Debug)]
pub(crate) struct DeviceMessage<T>(pub(crate) T);

impl<T: FromDevice> FromRequest<Province> for DeviceMessage<T> {
    type Rejection = DeviceError;

    async fn from_request(request: Request, _: &Province) -> Result<Self, DeviceError> {
        read_message(request, MAX_MESSAGE_BYTES, READ_TIMEOUT).await.map(Self)
    }
}

/// Reads a message of at most `max_bytes`, as it arrives within `limit`.
async fn read_message<T: FromDevice>(request: Request, max_bytes: usize, limit: Duration) -> Result<T, DeviceError> {
    let body = tokio::time::timeout(limit, to_bytes(request.into_body(), max_bytes)).await;
    let body = body.map_err(|_| DeviceError::new("Nội dung gửi lên quá chậm."))?;
    // Too large, or broken off; in that case nobody hears the answer.
    let body =
        body.map_err(|_| DeviceError::new(format!("Nội dung gửi lên vượt quá {} KB cho phép.", max_bytes / 1024)))?;
    Ok(read(&body)?)
}
