//! Quarterly reports: filing, seeing, and saying that the province is complete.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use httt_domain::accounts::Action;
use httt_domain::device::vietnam_date;
use httt_domain::models::{Filed, Submitted};
use httt_domain::report::{
    Filing, Form, Forms, Period, Total, check, check_period_ended, report_stream, submit_summary, summary_stream,
};
use httt_domain::{DomainEvent, Lane};
use httt_log::Expected;
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::{ApiError, Json};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{Params, actor_for, area_asked, not_found, refused, within};
use crate::province::Province;

/// One filed report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FiledAnswer {
    form: String,
    period: String,
    area: String,
    name: String,
    /// form_version, values, origin, filer, filed_at_ms, version
    #[serde(flatten)]
    #[schema(value_type = Object)]
    filed: Filed,
}

/// The reports of an area's communes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SheetAnswer {
    form: String,
    form_version: u32,
    period: String,
    area: String,
    name: String,
    /// By indicator: `{"sum": 12}`, or `{"counts": {"fm": 3}}` for choices, years and languages.
    #[schema(value_type = Object)]
    sums: BTreeMap<String, Total>,
    filed: Vec<FiledAnswer>,
    missing: Vec<AreaRow>,
    /// form_version, reports, origin, actor, submitted_at_ms; null before the province submitted.
    #[schema(value_type = Option<Object>)]
    submitted: Option<Submitted>,
}

/// An area.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AreaRow {
    area: String,
    name: String,
}

/// That the province is complete.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubmittedAnswer {
    form: String,
    period: String,
    area: String,
    /// form_version, reports, origin, actor, submitted_at_ms
    #[serde(flatten)]
    #[schema(value_type = Object)]
    submitted: Submitted,
}

/// `?version=`
#[derive(Debug, Deserialize)]
pub(crate) struct FileParams {
    /// The version that was loaded, 0 for none; 409 if somebody was faster. Absent: whatever it is.
    version: Option<u64>,
}

/// `?area=`
#[derive(Debug, Deserialize)]
pub(crate) struct AreaParams {
    area: Option<String>,
}

/// The form for a period. A period that is none, or that the form is not for, is refused by the rules, in words.
fn form(code: &str, period: &str) -> Result<&'static Form, ApiError> {
    let forms = Forms::built_in();
    let in_force = period.parse::<Period>().ok().and_then(|period| forms.in_force(code, period));
    in_force
        .or_else(|| forms.iter().filter(|form| form.code == code).last())
        .ok_or_else(|| not_found("form", "Biểu mẫu", "Form", code))
}

/// `GET /api/v1/forms`
pub(crate) async fn forms(principal: Principal) -> Result<Json<Vec<&'static Form>>, ApiError> {
    actor(&principal, Action::Read)?;
    Ok(Json(Forms::built_in().iter().collect()))
}

/// `PUT /api/v1/reports/{form}/{period}/{area}`: files, or files again, one commune's report.
pub(crate) async fn file(
    State(province): State<Province>,
    principal: Principal,
    Path((code, period, area)): Path<(String, String, String)>,
    Params(params): Params<FileParams>,
    Json(input): Json<BTreeMap<String, Value>>,
) -> Result<Json<FiledAnswer>, ApiError> {
    let actor = actor_for(&province, &principal, Action::FileReport, &area)?;
    let form = form(&code, &period)?;
    let quarter = period.parse::<Period>().map_err(|refusal| refused(&refusal.into()))?;
    check_period_ended(quarter, vietnam_date(province.desk.now_ms())).map_err(|refusal| refused(&refusal.into()))?;
    let within = within(&province, &actor);
    let filing = Filing { areas: province.areas, within, period: &period, area: &area, input: &input };
    let filed = check(form, &filing).map_err(|list| refused(&list))?;
    let held = province.desk.models.read(|models| models.reports.get(&code, &period, &area).map(|held| held.version));
    let stream = report_stream(&code, &period, &area);
    let expected = vec![(stream.clone(), Expected::Exact(params.version.or(held).unwrap_or(0)))];
    let events = vec![DomainEvent::of(Lane::Report, stream, &filed)];
    province.desk.append(&principal.name, &province.upward(), events, expected).await?;
    find(&province, code, period, area).map(Json)
}

fn find(province: &Province, form: String, period: String, area: String) -> Result<FiledAnswer, ApiError> {
    let found = province.desk.models.read(|models| models.reports.get(&form, &period, &area).cloned());
    let filed = found.ok_or_else(|| {
        let name = province.areas.path_name(&area);
        ApiError::not_found(
            format!("{name} chưa nộp báo cáo kỳ {period}."),
            format!("{name} has not filed its report for {period}."),
        )
    })?;
    Ok(FiledAnswer { name: province.areas.name(&area), form, period, area, filed })
}

/// `GET /api/v1/reports/{form}/{period}/{area}`
pub(crate) async fn show(
    State(province): State<Province>,
    principal: Principal,
    Path((code, period, area)): Path<(String, String, String)>,
) -> Result<Json<FiledAnswer>, ApiError> {
    actor_for(&province, &principal, Action::Read, &area)?;
    form(&code, &period)?;
    find(&province, code, period, area).map(Json)
}

/// `GET /api/v1/reports/{form}/{period}?area=`
pub(crate) async fn sheet(
    State(province): State<Province>,
    principal: Principal,
    Path((code, period)): Path<(String, String)>,
    Params(params): Params<AreaParams>,
) -> Result<Json<SheetAnswer>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let form = form(&code, &period)?;
    period.parse::<Period>().map_err(|refusal| refused(&refusal.into()))?;
    let area = area_asked(&province, &actor, params.area)?;
    let areas = province.areas;
    Ok(Json(province.desk.models.read(|models| {
        let filed = models.reports.list(areas, &code, &period, &area).map(|(commune, filed)| FiledAnswer {
            form: code.clone(),
            period: period.clone(),
            area: commune.to_owned(),
            name: areas.name(commune),
            filed: filed.clone(),
        });
        let missing = models.reports.missing(areas, &code, &period, &area).into_iter();
        let mut submitted = models.reports.submitted(&code, &period);
        SheetAnswer {
            form: code.clone(),
            form_version: form.version,
            name: areas.name(&area),
            sums: models.reports.totals(areas, form, &period, &area),
            filed: filed.collect(),
            missing: missing.map(|area| AreaRow { area: area.code.clone(), name: area.name.clone() }).collect(),
            submitted: submitted.find(|(code, _)| *code == province.home).map(|(_, submitted)| submitted.clone()),
            area: area.clone(),
            period: period.clone(),
        }
    })))
}

/// `POST /api/v1/reports/{form}/{period}/submit`: refused while communes are missing.
pub(crate) async fn submit(
    State(province): State<Province>,
    principal: Principal,
    Path((code, period)): Path<(String, String)>,
) -> Result<Json<SubmittedAnswer>, ApiError> {
    actor_for(&province, &principal, Action::SubmitSummary, &province.home)?;
    let form = form(&code, &period)?;
    let home = &province.home;
    let expected: BTreeSet<String> =
        province.areas.communes_of(home).into_iter().map(|commune| commune.code.clone()).collect();
    let stream = summary_stream(&code, &period);
    let version = province.desk.node.log.stream_version(&province.desk.node.code, &stream);
    let version = version.map_err(ApiError::internal)?.unwrap_or(0);
    let filed = province.desk.models.read(|models| models.reports.filed(&code, &period));
    let summary = submit_summary(form, province.areas, &period, home, &expected, &filed);
    let summary = summary.map_err(|list| refused(&list))?;
    let events = vec![DomainEvent::of(Lane::Report, stream.clone(), &summary)];
    let expected = vec![(stream, Expected::Exact(version))];
    province.desk.append(&principal.name, &province.upward(), events, expected).await?;
    let submitted = province.desk.models.read(|models| {
        models.reports.submitted(&code, &period).find(|(area, _)| area == home).map(|(_, held)| held.clone())
    });
    let submitted = submitted.ok_or_else(|| ApiError::internal("a summary that was appended is not folded"))?;
    Ok(Json(SubmittedAnswer { form: code, period, area: home.clone(), submitted }))
}
