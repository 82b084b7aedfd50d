//! Reporting forms.

use axum::Json as Answer;
use axum::extract::State;
use httt_domain::report::{Form, Forms};
use httt_node::http::ApiError;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Central;
use super::shapes::FormShape;
use crate::extract::{Path, Query};
use crate::scope::Reader;

/// One form, without its figures.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FormRow {
    /// `commune-station`
    code: String,
    version: u32,
    title_vi: String,
    title_en: String,
    /// First day (`yyyy-MM-dd`) whose period uses this version.
    valid_from: String,
    /// First day no longer covered.
    valid_until: Option<String>,
    /// How many figures it asks for.
    indicators: usize,
}

/// All forms.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FormList {
    /// In all their versions, by code and version.
    forms: Vec<FormRow>,
}

/// One version of a form.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FormAnswer {
    /// What it asks and checks.
    #[schema(value_type = FormShape)]
    form: &'static Form,
    /// All versions there are.
    versions: Vec<u32>,
    /// Periods for which something was filed, `2026-Q3`.
    periods: Vec<String>,
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct VersionQuery {
    /// Default: the latest.
    version: Option<u32>,
}

#[utoipa::path(
    get, path = "/api/v1/forms", tag = "reports", operation_id = "forms_list",
    summary = "Danh sách biểu mẫu",
    description = "All reporting forms in all their versions.",
    responses((status = 200, description = "The forms", body = FormList)),
)]
pub(crate) async fn list(_: Reader) -> Answer<FormList> {
    let row = |form: &Form| FormRow {
        code: form.code.clone(),
        version: form.version,
        title_vi: form.title_vi.clone(),
        title_en: form.title_en.clone(),
        valid_from: form.valid_from.clone(),
        valid_until: form.valid_until.clone(),
        indicators: form.indicators.len(),
    };
    Answer(FormList { forms: Forms::built_in().iter().map(row).collect() })
}

#[utoipa::path(
    get, path = "/api/v1/forms/{form}", tag = "reports", operation_id = "forms_read",
    summary = "Biểu mẫu: chỉ tiêu và điều kiện kiểm tra",
    description = "What a form asks and checks, and the periods it was filed for.",
    params(("form" = String, Path, description = "Code of the form"), VersionQuery),
    responses((status = 200, description = "The form", body = FormAnswer)),
)]
pub(crate) async fn read(
    State(central): State<Central>,
    _: Reader,
    Path(code): Path<String>,
    Query(query): Query<VersionQuery>,
) -> Result<Answer<FormAnswer>, ApiError> {
    let versions: Vec<&'static Form> = versions(&code);
    let wanted = query.version;
    let form = versions.iter().rev().find(|form| wanted.is_none_or(|version| form.version == version));
    let form = form.ok_or_else(|| unknown_form(&code))?;
    let periods = central.desk.models.read(|models| models.reports.periods(&code).map(str::to_owned).collect());
    Ok(Answer(FormAnswer { form, versions: versions.iter().map(|form| form.version).collect(), periods }))
}

/// The versions of a form, by version; empty when there is no such form.
pub(crate) fn versions(code: &str) -> Vec<&'static Form> {
    Forms::built_in().iter().filter(|form| form.code == code).collect()
}

/// 404: no such form.
pub(crate) fn unknown_form(code: &str) -> ApiError {
    let shown: String = code.chars().take(60).collect();
    ApiError::not_found(format!("Không có biểu mẫu “{shown}”."), format!("There is no form {shown:?}."))
        .with_code("unknown-form")
        .with_field("form")
}
