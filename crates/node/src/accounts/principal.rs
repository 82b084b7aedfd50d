//! Who is asking.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use super::Authenticator;
use crate::http::ApiError;

/// Who is asking: the account behind a session. As an extractor it answers 401 where nobody logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account's name.
    pub name: String,
    /// What the account may do.
    pub roles: Arc<[String]>,
    /// The area that the roles are bound to, by its code.
    pub area: String,
}

impl Principal {
    /// Whether the account has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    /// 403 unless the account has this role.
    pub fn require_role(&self, role: &str) -> Result<(), ApiError> {
        if self.has_role(role) { Ok(()) } else { Err(ApiError::forbidden()) }
    }
}

impl<S: Sync> FromRequestParts<S> for Principal {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::unauthorized)
    }
}

/// Middleware: lets a request through with its [`Principal`] when `authorization: Bearer …` names a session, otherwise
/// answers 401. Add with `middleware::from_fn_with_state(authenticator, require_session)`.
pub async fn require_session(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let principal = bearer(request.headers()).and_then(|token| authenticator.authenticate(token));
    let principal = principal.ok_or_else(ApiError::unauthorized)?;
    request.extensions_mut().insert(principal);
    Ok(next.run(request).await)
}

/// The token of `authorization: Bearer …`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
