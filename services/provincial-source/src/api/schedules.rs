//! Schedules: setting, replacing, cancelling.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use httt_domain::accounts::{Action, Actor};
use httt_domain::device::vietnam_date;
use httt_domain::models::ScheduleView;
use httt_domain::refusal::{Field, Refusal};
use httt_domain::schedule::{
    Command, Context, KnownBulletin, NewSchedule, SCHEDULE_STREAM, ScheduleEvent, ScheduledBulletin,
};
use httt_log::Expected;
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::{ApiError, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Params, actor_for, area_asked, check_area, not_found, refused};
use crate::models::ProvinceModels;
use crate::province::{Inner, Province};

/// A schedule to be set. With the identifier of one that is there, it replaces that.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScheduleInput {
    /// Absent for a new one.
    schedule: Option<String>,
    /// Required when one is replaced: the version that was loaded. Refused with 409 if somebody was faster.
    version: Option<u64>,
    /// Code of the commune.
    commune: String,
    name: String,
    #[schema(value_type = Vec<ScheduledBulletinInput>)]
    bulletins: Vec<ScheduledBulletin>,
}

/// A bulletin and when it plays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the domain's type, described")]
pub(crate) struct ScheduledBulletinInput {
    bulletin: String,
    days: Vec<DayInput>,
}

/// One day.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the domain's type, described")]
pub(crate) struct DayInput {
    /// `yyyy-MM-dd`, Vietnamese time
    date: String,
    times: Vec<TimesInput>,
}

/// From a time of day to a later one.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the domain's type, described")]
pub(crate) struct TimesInput {
    /// `HH:mm:ss`
    starts: String,
    /// `HH:mm:ss`
    ends: String,
}

/// A schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleAnswer {
    schedule: String,
    /// To be passed back when it is replaced.
    version: u64,
    commune: String,
    commune_name: String,
    name: String,
    #[schema(value_type = Vec<ScheduledBulletinInput>)]
    bulletins: Vec<ScheduledBulletin>,
    cancelled: bool,
    /// Why it was cancelled; empty otherwise.
    reason: String,
    /// Clusters that accepted it, as it is now.
    accepted: u64,
    /// Clusters that cancelled it.
    declined: u64,
    /// Account that set or cancelled it last.
    actor: String,
    changed_at_ms: i64,
}

/// Why a schedule is cancelled.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelInput {
    reason: String,
    /// The version that was loaded; refused with 409 if somebody was faster. Absent: whatever it is.
    version: Option<u64>,
}

/// `?commune=`
#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    commune: Option<String>,
}

fn answer(province: &Province, models: &ProvinceModels, view: &ScheduleView) -> ScheduleAnswer {
    let schedule = &view.schedule;
    let said = |accepted: bool| schedule.answers.values().filter(|answer| **answer == accepted).count() as u64;
    ScheduleAnswer {
        schedule: schedule.schedule.clone(),
        version: models.revisions.of_schedule(&schedule.schedule),
        commune: schedule.commune.clone(),
        commune_name: province.areas.name(&schedule.commune),
        name: schedule.name.clone(),
        bulletins: schedule.bulletins.clone(),
        cancelled: schedule.cancelled,
        reason: schedule.reason.clone(),
        accepted: said(true),
        declined: said(false),
        actor: view.actor.clone(),
        changed_at_ms: view.changed_at_ms,
    }
}

fn find(province: &Province, id: &str) -> Result<ScheduleAnswer, ApiError> {
    let found = province.desk.models.read(|models| models.schedules.get(id).map(|view| answer(province, models, view)));
    found.ok_or_else(|| not_found("schedule", "Lịch phát", "Schedule", id))
}

/// `GET /api/v1/schedules?commune=`: the ones that changed last first, cancelled ones too.
pub(crate) async fn list(
    State(province): State<Province>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Result<Json<Vec<ScheduleAnswer>>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let area = area_asked(&province, &actor, params.commune)?;
    Ok(Json(province.desk.models.read(|models| {
        let mut views: Vec<&ScheduleView> =
            models.schedules.iter().filter(|view| province.areas.covers(&area, &view.schedule.commune)).collect();
        views.sort_by(|a, b| (b.changed_at_ms, &b.schedule.schedule).cmp(&(a.changed_at_ms, &a.schedule.schedule)));
        views.into_iter().map(|view| answer(&province, models, view)).collect()
    })))
}

/// `GET /api/v1/schedules/{schedule}`
pub(crate) async fn show(
    State(province): State<Province>,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Json<ScheduleAnswer>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let found = find(&province, &id)?;
    check_area(&province, &actor, &found.commune)?;
    Ok(Json(found))
}

/// `POST /api/v1/schedules`
pub(crate) async fn set(
    State(province): State<Province>,
    principal: Principal,
    Json(input): Json<ScheduleInput>,
) -> Result<(StatusCode, Json<ScheduleAnswer>), ApiError> {
    let actor = actor_for(&province, &principal, Action::SetSchedule, &input.commune)?;
    let now_ms = province.desk.now_ms();
    let new = NewSchedule {
        schedule: input.schedule.unwrap_or_else(|| Uuid::now_v7().to_string()),
        name: input.name,
        commune: input.commune,
        bulletins: input.bulletins,
    };
    let _turn = province.turn().await?;
    let (decided, held) = province.desk.models.read(|models| {
        let ids = new.bulletins.iter().map(|item| &item.bulletin);
        let known: BTreeMap<_, _> =
            ids.filter_map(|id| Some((id.clone(), province.known_bulletin(models, id, &new.commune)?))).collect();
        let context = context(&province, actor, now_ms, &known);
        let schedule = models.schedules.get(&new.schedule).map(|view| view.schedule.clone()).unwrap_or_default();
        let held = models.revisions.of_schedule(&new.schedule);
        (schedule.decide(&Command::Set(new.clone()), &context), held)
    });
    let events = decided.map_err(|list| refused(&list))?;
    if held > 0 && input.version.is_none() {
        let field = Field::new("version", "Phiên bản lịch phát đang sửa", "Version of the schedule");
        return Err(refused(&Refusal::Required { field }.into()));
    }
    check_version(held, input.version)?;
    append(&province, &principal, &new.schedule, events, held).await?;
    let status = if held == 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(find(&province, &new.schedule)?)))
}

/// `DELETE /api/v1/schedules/{schedule}`
pub(crate) async fn cancel(
    State(province): State<Province>,
    principal: Principal,
    Path(id): Path<String>,
    Json(input): Json<CancelInput>,
) -> Result<Json<ScheduleAnswer>, ApiError> {
    actor(&principal, Action::SetSchedule)?;
    let _turn = province.turn().await?;
    let held = find(&province, &id)?;
    let actor = actor_for(&province, &principal, Action::SetSchedule, &held.commune)?;
    let now_ms = province.desk.now_ms();
    let (decided, version) = province.desk.models.read(|models| {
        let schedule = models.schedules.get(&id).map(|view| view.schedule.clone()).unwrap_or_default();
        let context = context(&province, actor, now_ms, NOTHING_KNOWN);
        let decided = schedule.decide(&Command::Cancel { reason: input.reason }, &context);
        (decided, models.revisions.of_schedule(&id))
    });
    let events = decided.map_err(|list| refused(&list))?;
    check_version(version, input.version)?;
    append(&province, &principal, &id, events, version).await?;
    find(&province, &id).map(Json)
}

/// Cancelling looks at no bulletin.
const NOTHING_KNOWN: &BTreeMap<String, KnownBulletin> = &BTreeMap::new();

fn context<'a>(
    province: &'a Inner,
    actor: Actor<'a>,
    now_ms: i64,
    bulletins: &'a BTreeMap<String, KnownBulletin>,
) -> Context<'a> {
    Context { actor, areas: province.areas, home: &province.home, today: vietnam_date(now_ms), now_ms, bulletins }
}

fn check_version(held: u64, given: Option<u64>) -> Result<(), ApiError> {
    match given {
        Some(given) if given != held => Err(ApiError::conflict(
            "Lịch phát vừa được người khác thay đổi. Hãy tải lại rồi thử lại.",
            "Somebody else changed this schedule a moment ago. Load it again and retry.",
        )),
        _ => Ok(()),
    }
}

/// The caller holds the turn, so that only devices can have moved the stream since `held`.
async fn append(
    province: &Province,
    principal: &Principal,
    id: &str,
    events: Vec<ScheduleEvent>,
    held: u64,
) -> Result<(), ApiError> {
    let events = events.iter().map(ScheduleEvent::to_domain).collect();
    let expected = if held == 0 { Expected::NoStream } else { Expected::Any };
    let expected = vec![(format!("{SCHEDULE_STREAM}{id}"), expected)];
    province.desk.append(&principal.name, &province.upward(), events, expected).await.map(|_| ())
}
