//! Administrative areas in force.

use axum::Json as Answer;
use httt_domain::area::Areas;
use httt_node::http::ApiError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::extract::Path;
use crate::scope::{AreaName, Reader, areas, unknown_area};

/// An area with what lies in it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AreaAnswer {
    #[serde(flatten)]
    area: AreaName,
    /// Name with what it lies in: `Phường Hải Dương, Thành phố Hải Phòng`.
    path_name: String,
    /// Code of what it lies in; `VN` for a province, none for the nation.
    parent: Option<String>,
    /// First day it is valid, `yyyy-MM-dd`.
    valid_from: Option<String>,
    /// First day it is no longer valid.
    valid_until: Option<String>,
    /// The areas right below it, by code.
    children: Vec<AreaName>,
}

#[utoipa::path(
    get, path = "/api/v1/areas/{code}", tag = "areas", operation_id = "areas_read",
    summary = "Địa bàn và các địa bàn trực thuộc",
    description = "An area in force and those right below it. `VN` is the nation.",
    params(("code" = String, Path, description = "Code of the National Statistics Office, or `VN`")),
    responses((status = 200, description = "The area", body = AreaAnswer)),
)]
pub(crate) async fn read(_: Reader, Path(code): Path<String>) -> Result<Answer<AreaAnswer>, ApiError> {
    if !areas().knows(&code) {
        return Err(unknown_area(&code));
    }
    let entry = areas().get(&code);
    Ok(Answer(AreaAnswer {
        area: AreaName::of(&code),
        path_name: areas().path_name(&code),
        parent: entry.map(|area| AreaName::of(&area.parent).code),
        valid_from: entry.and_then(|area| area.valid_from).map(|day| day.to_string()),
        valid_until: entry.and_then(|area| area.valid_until).map(|day| day.to_string()),
        children: children(areas(), &code),
    }))
}

fn children(areas: &Areas, code: &str) -> Vec<AreaName> {
    areas.children(code).map(|child| AreaName::of(&child.code)).collect()
}
