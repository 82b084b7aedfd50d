//! What of the nation an account may see.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use httt_domain::accounts::Action;
use httt_domain::area::{Areas, Level, NATION};
use httt_domain::refusal::{Field, NamedArea, Refusal};
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::ApiError;
use serde::Serialize;
use utoipa::ToSchema;

/// The area this node answers for: the nation.
pub(crate) const HOME: &str = "";

/// The areas in force.
pub(crate) fn areas() -> &'static Areas {
    Areas::in_force_2025()
}

/// Who is asking, if their account may read at all.
#[derive(Debug, Clone)]
pub(crate) struct Reader(pub(crate) Principal);

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let principal = Principal::from_request_parts(parts, state).await?;
        actor(&principal, Action::Read)?;
        Ok(Self(principal))
    }
}

impl Reader {
    /// The area asked for, or the account's own when none is: its code, `VN` for the nation.
    pub(crate) fn area<'a>(&'a self, asked: Option<&'a str>) -> Result<&'a str, ApiError> {
        let code = asked.unwrap_or(&self.0.area);
        if !areas().knows(code) {
            return Err(unknown_area(code));
        }
        if !self.sees(code) {
            let refusal = Refusal::AreaOutside {
                field: Field::new("area", "Địa bàn", "Area"),
                area: NamedArea { code: code.to_owned(), name: areas().name(code) },
                within: areas().path_name(&self.0.area),
            };
            let error = ApiError::new(StatusCode::FORBIDDEN, "forbidden", refusal.vi(), refusal.to_string());
            return Err(error.with_code(refusal.code().to_owned()).with_field("area"));
        }
        Ok(if Areas::is_nation(code) { NATION } else { code })
    }

    /// Whether the area lies in the account's own.
    pub(crate) fn sees(&self, area: &str) -> bool {
        areas().covers(&self.0.area, area)
    }
}

/// 404 for a code that no area has.
pub(crate) fn unknown_area(code: &str) -> ApiError {
    let shown: String = code.chars().take(20).collect();
    ApiError::not_found(
        format!("Không có địa bàn mang mã “{shown}” trong danh mục đang áp dụng."),
        format!("There is no area with the code {shown:?} in the list in force."),
    )
    .with_code("unknown-area")
    .with_field("area")
}

/// An area by code and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct AreaName {
    /// Code; `VN` for the nation.
    pub(crate) code: String,
    /// Full name.
    pub(crate) name: String,
    /// `nation`, `province`, `district` or `commune`.
    pub(crate) level: &'static str,
}

impl AreaName {
    /// The area with this code; an unknown one is named by its code.
    pub(crate) fn of(code: &str) -> Self {
        let level = areas().get(code).map_or("nation", |area| level_name(area.level));
        let code = if Areas::is_nation(code) { NATION } else { code };
        Self { code: code.to_owned(), name: areas().name(code), level }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Province => "province",
        Level::District => "district",
        Level::Commune => "commune",
    }
}
