//! Loudspeaker clusters of the nation, counted.

use axum::Json as Answer;
use axum::extract::State;
use httt_domain::models::Totals;
use httt_node::http::ApiError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Central;
use super::shapes::TotalsShape;
use crate::extract::Query;
use crate::scope::{AreaName, Reader, areas};

/// Which area.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AreaQuery {
    /// Code of an area, `VN` for the nation. Default: the account's own area.
    pub(crate) area: Option<String>,
}

/// One area's clusters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClusterRow {
    area: AreaName,
    #[schema(value_type = TotalsShape)]
    totals: Totals,
}

/// An area's clusters, and those of each area right below it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClusterTotals {
    area: AreaName,
    #[schema(value_type = TotalsShape)]
    totals: Totals,
    /// Every area right below, also those without clusters, by code.
    children: Vec<ClusterRow>,
}

#[utoipa::path(
    get, path = "/api/v1/clusters/totals", tag = "clusters", operation_id = "clusters_totals",
    summary = "Tổng số cụm loa theo trạng thái",
    description = "Clusters of an area by what they are doing, as the provinces told last.",
    params(AreaQuery),
    responses((status = 200, description = "Counts", body = ClusterTotals)),
)]
pub(crate) async fn totals(
    State(central): State<Central>,
    reader: Reader,
    Query(query): Query<AreaQuery>,
) -> Result<Answer<ClusterTotals>, ApiError> {
    let area = reader.area(query.area.as_deref())?;
    let (totals, rows) = central
        .desk
        .models
        .read(|models| (models.clusters.totals(areas(), area), models.clusters.breakdown(areas(), area)));
    Ok(Answer(ClusterTotals {
        area: AreaName::of(area),
        totals,
        children: rows.into_iter().map(|(code, totals)| ClusterRow { area: AreaName::of(&code), totals }).collect(),
    }))
}
