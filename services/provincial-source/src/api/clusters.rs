//! Clusters: registering them, and seeing what they do.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use httt_domain::accounts::Action;
use httt_domain::cluster::{CLUSTERS_STREAM, NewCluster, Status};
use httt_domain::models::{ClusterView, Totals};
use httt_domain::refusal::{Field, Refusal};
use httt_domain::{DomainEvent, Lane};
use httt_log::Expected;
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::{ApiError, Json};
use httt_wire::cluster::DeviceCredentialIssued;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Params, actor_for, area_asked, check_area, not_found, page, refused};
use crate::models::DEVICE_STREAM;
use crate::province::{Province, lock};
use crate::tokens::new_secret;

/// Most clusters in one call.
pub(crate) const MAX_REGISTERED: usize = 2_000;

/// A cluster to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClusterInput {
    /// 15 digits.
    imei: String,
    /// Code of its commune.
    commune: String,
    /// Where it hangs.
    name: String,
    /// Code of its vendor.
    #[serde(default)]
    vendor: String,
}

/// A cluster that was registered.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RegisteredAnswer {
    imei: String,
    ordinal: u32,
    /// Shown this once.
    password: String,
}

/// A page of clusters, by ordinal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClusterPage {
    /// All that match, on whatever page.
    total: usize,
    clusters: Vec<ClusterRow>,
    /// Pass as `offset` for the next page; null at the end.
    next: Option<usize>,
}

/// One cluster.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ClusterRow {
    ordinal: u32,
    imei: String,
    commune: String,
    commune_name: String,
    name: String,
    vendor: String,
    /// `offline`, `idle`, `playing` or `paused`, as it was written last.
    #[schema(value_type = String)]
    status: Status,
    /// Since when, Unix ms; 0: it was never heard of.
    since_ms: i64,
    /// What it reported last since this node started; null before that.
    latest: Option<LatestReport>,
}

/// A cluster's last report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LatestReport {
    /// Unix ms.
    at_ms: i64,
    volume: u8,
    connection: String,
    /// Degrees.
    latitude: Option<f64>,
    /// Degrees.
    longitude: Option<f64>,
    now_playing: String,
    temperature: String,
    app_version: String,
}

/// Counts of an area and of the areas right below it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TotalsAnswer {
    area: String,
    name: String,
    /// total, online, offline, idle, playing, paused
    #[serde(flatten)]
    #[schema(value_type = Object)]
    totals: Totals,
    /// By code; empty for a commune.
    breakdown: Vec<TotalsRow>,
}

/// Counts of one area.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TotalsRow {
    area: String,
    name: String,
    /// total, online, offline, idle, playing, paused
    #[serde(flatten)]
    #[schema(value_type = Object)]
    totals: Totals,
}

/// `?area=&status=&offset=&limit=`
#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    area: Option<String>,
    status: Option<Status>,
    offset: Option<usize>,
    limit: Option<usize>,
}

/// `?area=`
#[derive(Debug, Deserialize)]
pub(crate) struct AreaParams {
    area: Option<String>,
}

/// `POST /api/v1/clusters`: all of them or none. Passwords are shown once.
pub(crate) async fn register(
    State(province): State<Province>,
    principal: Principal,
    Json(input): Json<Vec<ClusterInput>>,
) -> Result<(StatusCode, Json<Vec<RegisteredAnswer>>), ApiError> {
    let actor = actor(&principal, Action::RegisterClusters)?;
    if input.len() > MAX_REGISTERED {
        let field = Field::new("clusters", "Danh sách cụm loa", "Clusters");
        return Err(refused(&Refusal::TooMany { field, given: input.len(), max: MAX_REGISTERED }.into()));
    }
    input.iter().try_for_each(|cluster| check_area(&province, &actor, &cluster.commune))?;
    let clusters: Vec<NewCluster> = input
        .into_iter()
        .map(|ClusterInput { imei, commune, name, vendor }| NewCluster { imei, commune, name, vendor })
        .collect();
    let _turn = province.turn().await?;
    let decided = province.desk.models.read(|models| {
        let register = models.clusters.register(province.own()).cloned().unwrap_or_default();
        register.decide(&clusters, &actor, province.areas, &province.home)
    });
    let registered = decided.map_err(|list| refused(&list))?;
    let mut events: Vec<DomainEvent> =
        registered.iter().map(|event| DomainEvent::of(Lane::Status, CLUSTERS_STREAM, event)).collect();
    let mut answers = Vec::new();
    let mut expected = Vec::new();
    for cluster in registered.iter().flat_map(|event| &event.clusters) {
        let (event, password) = credential(&cluster.imei)?;
        // An IMEI that was given a secret before is one that somebody registered a moment ago.
        expected.push((event.stream.clone(), Expected::NoStream));
        events.push(event);
        answers.push(RegisteredAnswer { imei: cluster.imei.clone(), ordinal: cluster.ordinal, password });
    }
    province.desk.append(&principal.name, &province.upward(), events, expected).await?;
    Ok((StatusCode::CREATED, Json(answers)))
}

fn credential(imei: &str) -> Result<(DomainEvent, String), ApiError> {
    let (password, digest) = new_secret().map_err(ApiError::internal)?;
    let issued = DeviceCredentialIssued { imei: imei.to_owned(), secret_sha256: digest.0.to_vec() };
    Ok((DomainEvent::of(Lane::Local, format!("{DEVICE_STREAM}{imei}"), &issued), password))
}

/// `POST /api/v1/clusters/{imei}/credential`: a new password, for a device that lost its own. The old one, and every token
/// made with it, is worth nothing from now on.
pub(crate) async fn renew_credential(
    State(province): State<Province>,
    principal: Principal,
    Path(imei): Path<String>,
) -> Result<Json<RegisteredAnswer>, ApiError> {
    let found = province.desk.models.read(|models| {
        let register = models.clusters.register(province.own())?;
        let ordinal = register.ordinal(&imei)?;
        Some((ordinal, register.get(ordinal)?.commune.clone()))
    });
    let (ordinal, commune) = found.ok_or_else(|| not_found("imei", "Cụm loa", "Cluster", &imei))?;
    actor_for(&province, &principal, Action::RegisterClusters, &commune)?;
    let (event, password) = credential(&imei)?;
    province.desk.append(&principal.name, &province.upward(), vec![event], Vec::new()).await?;
    Ok(Json(RegisteredAnswer { imei, ordinal, password }))
}

/// `GET /api/v1/clusters?area=&status=&offset=&limit=`
pub(crate) async fn list(
    State(province): State<Province>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Result<Json<ClusterPage>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let area = area_asked(&province, &actor, params.area)?;
    let (offset, limit) = page(params.offset, params.limit);
    let mut views = province.desk.models.read(|models| models.clusters.list(province.areas, &area));
    views.retain(|view| view.origin == province.own() && params.status.is_none_or(|status| view.status == status));
    let total = views.len();
    let next = (offset + limit < total).then_some(offset + limit);
    let latest = latest(&province, views.iter().skip(offset).take(limit));
    let clusters = views.into_iter().skip(offset).take(limit).map(|view| row(&province, view, &latest)).collect();
    Ok(Json(ClusterPage { total, clusters, next }))
}

fn latest<'a>(
    province: &Province,
    views: impl Iterator<Item = &'a ClusterView>,
) -> BTreeMap<u32, (i64, httt_domain::device::StatusReport)> {
    let statuses = lock(&province.statuses);
    views.filter_map(|view| Some((view.ordinal, statuses.latest.get(&view.ordinal)?.clone()))).collect()
}

fn row(
    province: &Province,
    view: ClusterView,
    latest: &BTreeMap<u32, (i64, httt_domain::device::StatusReport)>,
) -> ClusterRow {
    let latest = latest.get(&view.ordinal).map(|(at_ms, report)| LatestReport {
        at_ms: *at_ms,
        volume: report.volume,
        connection: report.connection.clone(),
        latitude: report.latitude.map(|degrees| f64::from(degrees.0) / 1e6),
        longitude: report.longitude.map(|degrees| f64::from(degrees.0) / 1e6),
        now_playing: report.now_playing.clone(),
        temperature: report.info.temperature.clone(),
        app_version: report.app_version.clone(),
    });
    let NewCluster { imei, commune, name, vendor } = view.cluster;
    ClusterRow {
        ordinal: view.ordinal,
        imei,
        commune_name: province.areas.name(&commune),
        commune,
        name,
        vendor,
        status: view.status,
        since_ms: view.since_ms,
        latest,
    }
}

/// `GET /api/v1/clusters/totals?area=`
pub(crate) async fn totals(
    State(province): State<Province>,
    principal: Principal,
    Params(params): Params<AreaParams>,
) -> Result<Json<TotalsAnswer>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let area = area_asked(&province, &actor, params.area)?;
    let row = |area: String, totals| TotalsRow { name: province.areas.name(&area), area, totals };
    Ok(Json(province.desk.models.read(|models| {
        let below = models.clusters.breakdown(province.areas, &area);
        TotalsAnswer {
            totals: models.clusters.totals(province.areas, &area),
            breakdown: below.into_iter().map(|(area, totals)| row(area, totals)).collect(),
            name: province.areas.name(&area),
            area,
        }
    })))
}
