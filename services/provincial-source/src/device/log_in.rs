//! Logging in.

use axum::extract::State;
use httt_domain::device::{Login, Token, TokenContent};
use httt_feed::Digest;

use super::{DeviceError, DeviceMessage, DeviceResult, with};
use crate::province::Province;

/// `POST /thiet-bi/dang-nhap`
pub(crate) async fn log_in(
    State(province): State<Province>,
    DeviceMessage(login): DeviceMessage<Login>,
) -> DeviceResult<TokenContent> {
    let given = Digest::of(login.password.as_bytes()).to_string();
    let secret = province.desk.models.read(|models| {
        let secret = models.credentials.secret_sha256(&login.username)?;
        // How far two digests of random secrets agree tells nobody anything.
        (secret == given).then(|| secret.to_owned())
    });
    let secret = secret.ok_or_else(|| DeviceError::new("Tên đăng nhập hoặc mật khẩu của thiết bị không đúng."))?;
    let token = province.tokens.issue(&login.username, &secret, province.desk.now_ms());
    with(TokenContent { token: Token(token) })
}
