//! Bulletins: written, submitted, approved by somebody else, published, withdrawn.
//!
//! Every command is decided on a state that was looked at and appended only if that is still the state, so of two
//! approvers one wins and the other is told. A caller may also say which version it saw.

mod answers;
mod command;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use httt_domain::accounts::Action;
use httt_domain::bulletin::{Command, Content, Stage};
use httt_node::accounts::Principal;
use httt_node::http::{ApiError, Json};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::Central;
use super::shapes::{ContentShape, StageShape};
use crate::extract::{MaybeJson, Path, Query};
use crate::scope::Reader;
pub(crate) use answers::{BulletinAnswer, BulletinList, no_such_bulletin};
use command::{approve_with, give};

/// Bulletins in a list unless asked otherwise.
const DEFAULT_LIMIT: usize = 50;
/// Most bulletins in a list.
const MAX_LIMIT: usize = 500;

/// A new bulletin.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBulletin {
    #[schema(value_type = ContentShape)]
    content: Content,
}

/// A bulletin's whole new content.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EditBody {
    #[schema(value_type = ContentShape)]
    content: Content,
    /// The version that was looked at; 409 when it is no longer the latest. Left out: whatever it is.
    version: Option<u64>,
}

/// What a command may say.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VersionBody {
    /// The version that was looked at; 409 when it is no longer the latest. Left out: whatever it is.
    version: Option<u64>,
}

/// An approval.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApproveBody {
    /// Six digits; needed for an emergency.
    otp: Option<String>,
    /// The version that was looked at; 409 when it is no longer the latest. Left out: whatever it is.
    version: Option<u64>,
}

/// Why a bulletin is returned, rejected or withdrawn.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonBody {
    /// Required, at most 1,000 characters.
    #[serde(default)]
    #[schema(required = true)]
    reason: String,
    /// The version that was looked at; 409 when it is no longer the latest. Left out: whatever it is.
    version: Option<u64>,
}

/// Which bulletins.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only those at this stage.
    #[param(value_type = Option<StageShape>)]
    stage: Option<Stage>,
    /// At most so many, 1 to 500. Default 50.
    limit: Option<usize>,
}

type Bulletin = Result<Answer<BulletinAnswer>, ApiError>;

#[utoipa::path(
    post, path = "/api/v1/bulletins", tag = "bulletins", operation_id = "bulletins_create",
    summary = "Soạn bản tin mới",
    description = "Creates a draft. A file that it refers to must have been uploaded.",
    request_body = NewBulletin,
    responses((status = 201, description = "The draft", body = BulletinAnswer)),
)]
pub(crate) async fn create(
    State(central): State<Central>,
    principal: Principal,
    Json(body): Json<NewBulletin>,
) -> Result<(StatusCode, Answer<BulletinAnswer>), ApiError> {
    let answer = command::create(&central, &principal, body.content).await?;
    Ok((StatusCode::CREATED, Answer(answer)))
}

#[utoipa::path(
    get, path = "/api/v1/bulletins", tag = "bulletins", operation_id = "bulletins_list",
    summary = "Danh sách bản tin",
    description = "This node's bulletins, the ones that changed last first. What was never published is listed only for \
                   accounts that answer for all it targets.",
    params(ListQuery),
    responses((status = 200, description = "The bulletins", body = BulletinList)),
)]
pub(crate) async fn list(
    State(central): State<Central>,
    reader: Reader,
    Query(query): Query<ListQuery>,
) -> Answer<BulletinList> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
    Answer(central.desk.models.read(|models| BulletinList::of(models, &reader, query.stage, limit)))
}

#[utoipa::path(
    get, path = "/api/v1/bulletins/{id}", tag = "bulletins", operation_id = "bulletins_read",
    summary = "Một bản tin: bản thảo, bản đã phát hành, lịch sử",
    description = "A bulletin as it is being written, as it was published last, and what happened to it.",
    params(("id" = String, Path)),
    responses((status = 200, description = "The bulletin", body = BulletinAnswer)),
)]
pub(crate) async fn read(State(central): State<Central>, reader: Reader, Path(id): Path<String>) -> Bulletin {
    answers::find(&central, &reader, &id).map(Answer)
}

#[utoipa::path(
    put, path = "/api/v1/bulletins/{id}", tag = "bulletins", operation_id = "bulletins_edit",
    summary = "Sửa bản tin",
    description = "Replaces the content. Of a published bulletin it begins a correction, to be approved and published \
                   anew.",
    params(("id" = String, Path)),
    request_body = EditBody,
    responses((status = 200, description = "The draft", body = BulletinAnswer)),
)]
pub(crate) async fn edit(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    Json(body): Json<EditBody>,
) -> Bulletin {
    command::check_media(&central, &principal, &body.content).await?;
    let command = Command::Edit { content: body.content };
    give(&central, &principal, &id, Action::WriteBulletin, command, body.version).await
}

#[utoipa::path(
    post, path = "/api/v1/bulletins/{id}/submit", tag = "bulletins", operation_id = "bulletins_submit",
    summary = "Trình duyệt",
    description = "Asks for approval.",
    params(("id" = String, Path)),
    request_body = VersionBody,
    responses((status = 200, description = "Waits for an approver", body = BulletinAnswer)),
)]
pub(crate) async fn submit(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    MaybeJson(body): MaybeJson<VersionBody>,
) -> Bulletin {
    give(&central, &principal, &id, Action::WriteBulletin, Command::Submit, body.version).await
}

#[utoipa::path(
    post, path = "/api/v1/bulletins/{id}/approve", tag = "bulletins", operation_id = "bulletins_approve",
    summary = "Duyệt",
    description = "Approves; 403 `own-work` for anybody through whose hands it went. An emergency needs `otp` \
                   (403 `step-up-needed`, `wrong_otp`) and is published by its approval.",
    params(("id" = String, Path)),
    request_body = ApproveBody,
    responses((status = 200, description = "Approved, or published", body = BulletinAnswer)),
)]
pub(crate) async fn approve(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    MaybeJson(body): MaybeJson<ApproveBody>,
) -> Bulletin {
    approve_with(&central, &principal, &id, body.otp.as_deref(), body.version).await
}

#[utoipa::path(
    post, path = "/api/v1/bulletins/{id}/return", tag = "bulletins", operation_id = "bulletins_return",
    summary = "Trả lại để sửa",
    description = "Gives it back to its author.",
    params(("id" = String, Path)),
    request_body = ReasonBody,
    responses((status = 200, description = "Returned", body = BulletinAnswer)),
)]
pub(crate) async fn return_(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    MaybeJson(body): MaybeJson<ReasonBody>,
) -> Bulletin {
    let command = Command::Return { reason: body.reason };
    give(&central, &principal, &id, Action::ReviewBulletin, command, body.version).await
}

#[utoipa::path(
    post, path = "/api/v1/bulletins/{id}/reject", tag = "bulletins", operation_id = "bulletins_reject",
    summary = "Từ chối",
    description = "Refuses it for good; of a published bulletin, this correction of it.",
    params(("id" = String, Path)),
    request_body = ReasonBody,
    responses((status = 200, description = "Rejected", body = BulletinAnswer)),
)]
pub(crate) async fn reject(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    MaybeJson(body): MaybeJson<ReasonBody>,
) -> Bulletin {
    let command = Command::Reject { reason: body.reason };
    give(&central, &principal, &id, Action::ReviewBulletin, command, body.version).await
}

#[utoipa::path(
    post, path = "/api/v1/bulletins/{id}/publish", tag = "bulletins", operation_id = "bulletins_publish",
    summary = "Phát hành",
    description = "Publishes what was approved, to everybody it targets.",
    params(("id" = String, Path)),
    request_body = VersionBody,
    responses((status = 200, description = "Published", body = BulletinAnswer)),
)]
pub(crate) async fn publish(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    MaybeJson(body): MaybeJson<VersionBody>,
) -> Bulletin {
    give(&central, &principal, &id, Action::PublishBulletin, Command::Publish, body.version).await
}

#[utoipa::path(
    post, path = "/api/v1/bulletins/{id}/withdraw", tag = "bulletins", operation_id = "bulletins_withdraw",
    summary = "Thu hồi",
    description = "Takes back what was published, from everybody it reached. For good.",
    params(("id" = String, Path)),
    request_body = ReasonBody,
    responses((status = 200, description = "Withdrawn", body = BulletinAnswer)),
)]
pub(crate) async fn withdraw(
    State(central): State<Central>,
    principal: Principal,
    Path(id): Path<String>,
    MaybeJson(body): MaybeJson<ReasonBody>,
) -> Bulletin {
    let command = Command::Withdraw { reason: body.reason };
    give(&central, &principal, &id, Action::WithdrawBulletin, command, body.version).await
}
