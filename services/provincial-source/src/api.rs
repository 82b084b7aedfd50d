//! What people's programs ask of the node, as JSON under `/api/v1`.

pub(crate) mod bulletins;
pub(crate) mod clusters;
pub(crate) mod commands;
pub(crate) mod reports;
pub(crate) mod schedules;

use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use httt_domain::accounts::{Action, Actor};
use httt_domain::refusal::{Field, NamedArea, Refusal, Refusals};
use httt_node::accounts::Principal;
use httt_node::desk::{actor, refusals};
use httt_node::http::ApiError;
use serde::de::DeserializeOwned;

use crate::province::Inner;

/// Rows of a page unless asked otherwise.
const DEFAULT_PAGE: usize = 100;
/// Most rows of a page.
const MAX_PAGE: usize = 1_000;

/// The query of an address.
pub(crate) struct Params<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            ApiError::bad_request(
                "Tham số trên địa chỉ không hợp lệ.",
                format!("The address has parameters that cannot be read: {}.", rejection.body_text()),
            )
        })?;
        Ok(Self(query.0))
    }
}

/// How many rows to skip and how many to give.
fn page(offset: Option<usize>, limit: Option<usize>) -> (usize, usize) {
    (offset.unwrap_or(0), limit.unwrap_or(DEFAULT_PAGE).clamp(1, MAX_PAGE))
}

/// The account as the one who wants to do `action` to `area`: 403 when its role or its area does not allow it. An area
/// that is not in the list passes; the rules that follow say so with the field's name.
fn actor_for<'a>(
    province: &Inner,
    principal: &'a Principal,
    action: Action,
    area: &str,
) -> Result<Actor<'a>, ApiError> {
    let actor = actor(principal, action)?;
    check_area(province, &actor, area)?;
    Ok(actor)
}

/// 403 unless the account answers for `area`.
fn check_area(province: &Inner, actor: &Actor<'_>, area: &str) -> Result<(), ApiError> {
    let areas = province.areas;
    if actor.covers(areas, area) || !areas.knows(area) {
        return Ok(());
    }
    let refusal = Refusal::AreaOutside {
        field: Field::new("area", "Địa bàn", "Area"),
        area: NamedArea { code: area.to_owned(), name: areas.name(area) },
        within: areas.path_name(actor.area),
    };
    Err(ApiError::new(StatusCode::FORBIDDEN, "area-outside", refusal.vi(), refusal.en()).with_field("area"))
}

/// The account's area, as far as it lies in the province: what a filer's report may be of.
fn within<'a>(province: &'a Inner, actor: &Actor<'a>) -> &'a str {
    if province.areas.covers(&province.home, actor.area) { actor.area } else { &province.home }
}

/// The area that an account reads about unless it names another: its own, as far as that lies in the province; 403 for
/// an account of another province.
fn own_area<'a>(province: &'a Inner, actor: &Actor<'a>) -> Result<&'a str, ApiError> {
    if !province.areas.covers(&province.home, actor.area) {
        check_area(province, actor, &province.home)?;
    }
    Ok(within(province, actor))
}

/// The area asked about, the account's own when none is named: 403 for one that the account does not answer for, 404
/// for one that lies outside the province.
fn area_asked(province: &Inner, actor: &Actor<'_>, area: Option<String>) -> Result<String, ApiError> {
    let own = own_area(province, actor)?;
    match area.filter(|area| !area.is_empty()) {
        None => Ok(own.to_owned()),
        Some(area) if province.areas.covers(&province.home, &area) => {
            check_area(province, actor, &area)?;
            Ok(area)
        }
        Some(area) => Err(ApiError::not_found(
            format!("Địa bàn “{area}” không thuộc {}.", province.areas.name(&province.home)),
            format!("The area {area} is not in {}.", province.areas.name(&province.home)),
        )
        .with_field("area")),
    }
}

fn not_found(path: &str, vi: &str, en: &str, given: &str) -> ApiError {
    ApiError::not_found(format!("{vi} “{given}” không có trên hệ thống."), format!("{en} {given} is not known here."))
        .with_field(path)
}

fn refused(list: &Refusals) -> ApiError {
    refusals(list)
}
