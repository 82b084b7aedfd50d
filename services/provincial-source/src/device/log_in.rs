//! Logging in: the one address of devices at which strangers are read.

use std::time::Duration;

use axum::extract::{Request, State};
use httt_domain::device::{Login, Token, TokenContent};
use httt_feed::Digest;

use super::{DeviceError, DeviceResult, read_message, with};
use crate::province::Province;

/// Largest log-in: a name and a password.
const MAX_BYTES: usize = 4 * 1024;
/// Log-ins read at a time, of everybody together: with [`MAX_BYTES`] what strangers can make the node hold, on however
/// many connections. The next ones wait, unread. A log-in costs microseconds, so that a whole province that comes back
/// after a power cut has its turn within seconds.
pub(crate) const AT_ONCE: usize = 256;
/// How long a log-in may take to arrive once it is its turn. Short: who sends slowly keeps others waiting.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a log-in waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// `POST /thiet-bi/dang-nhap`
pub(crate) async fn log_in(State(province): State<Province>, request: Request) -> DeviceResult<TokenContent> {
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN_TIMEOUT, province.log_ins.acquire()).await else {
        return Err(DeviceError::new("Hệ thống đang có quá nhiều thiết bị đăng nhập. Đề nghị đăng nhập lại sau."));
    };
    let login: Login = read_message(request, MAX_BYTES, READ_TIMEOUT).await?;
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
