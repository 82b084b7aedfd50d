//! Where people's commands become events: who may, what is decided, what is appended, and the answer when it is refused.

use std::sync::Arc;

use axum::http::StatusCode;
use httt_domain::DomainEvent;
use httt_domain::accounts::{Action, Actor, Role, may};
use httt_domain::refusal::{Refusal, Refusals};
use httt_feed::{AgencyCode, Audience, Lane};
use httt_log::{CommitError, Committed, Expected, NewEvent, Transaction};
use serde_json::json;

use crate::accounts::{AccountsConfig, Authenticator, Principal};
use crate::assembly::Node;
use crate::clock;
use crate::http::ApiError;
use crate::models::{ModelSet, Models};
use crate::telemetry::current_traceparent;
use crate::upstream::Upstream;

/// What request handlers of a node work with. Cheap to clone.
pub struct Desk<S> {
    /// The node.
    pub node: Node,
    /// What it knows.
    pub models: Models<S>,
    /// Who may log in.
    pub accounts: Arc<Authenticator>,
    /// The way up, where there is one.
    pub upstream: Option<Upstream>,
}

impl<S> Clone for Desk<S> {
    fn clone(&self) -> Self {
        Self {
            node: self.node.clone(),
            models: self.models.clone(),
            accounts: Arc::clone(&self.accounts),
            upstream: self.upstream.clone(),
        }
    }
}

/// Reads an accounts file whose roles are those of the domain.
///
/// # Errors
/// A file that cannot be read or makes no sense.
pub fn open_accounts(config: &AccountsConfig) -> anyhow::Result<Arc<Authenticator>> {
    let roles: Vec<&str> = Role::ALL.into_iter().map(role_name).collect();
    Ok(Arc::new(Authenticator::from_config(config, &roles, clock::system())?))
}

/// A role as accounts files write it.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Author => "author",
        Role::Approver => "approver",
        Role::Operator => "operator",
        Role::CommuneOfficer => "commune-officer",
        Role::Auditor => "auditor",
        Role::ProvinceOfficer => "province-officer",
        Role::Administrator => "administrator",
    }
}

/// The account as the actor of `action`, in the first of its roles that allows it.
///
/// # Errors
/// 403: none does.
pub fn actor(principal: &Principal, action: Action) -> Result<Actor<'_>, ApiError> {
    let mut roles = Role::ALL.into_iter().filter(|role| principal.has_role(role_name(*role)));
    let able = roles.clone().find(|role| may(*role, action));
    match able.or_else(|| roles.next()) {
        Some(role) if may(role, action) => Ok(Actor { account: &principal.name, role, area: &principal.area }),
        Some(role) => Err(refusals(&Refusal::NotAllowed { action, role }.into())),
        None => Err(ApiError::forbidden()),
    }
}

/// Everything that is wrong with a command, as the answer to it: 403 when it is not theirs to give, 409 when the state
/// of things does not allow it, otherwise 422 with each mistake's code, field, and text in both languages.
pub fn refusals(refusals: &Refusals) -> ApiError {
    let status = match refusals.iter().next() {
        Some(Refusal::NotAllowed { .. } | Refusal::AreaOutside { .. } | Refusal::OwnWork | Refusal::StepUpNeeded) => {
            StatusCode::FORBIDDEN
        }
        Some(Refusal::WrongState { .. } | Refusal::ScheduleCancelled) => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    let (code, field, vi, en) = match refusals.0.as_slice() {
        [only] => (only.code().to_owned(), only.field().to_owned(), only.vi(), only.en()),
        several => (
            "several-mistakes".to_owned(),
            several.first().map(|first| first.field().to_owned()).unwrap_or_default(),
            format!("Dữ liệu nhập có {} lỗi, xem chi tiết từng trường.", several.len()),
            format!("The data entered has {} mistakes, see each field.", several.len()),
        ),
    };
    let error = ApiError::new(status, "refused", vi, en).with_code(code).with_details(json!(refusals));
    if field.is_empty() { error } else { error.with_field(field) }
}

impl<S: ModelSet> Desk<S> {
    /// Now, Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        clock::system()()
    }

    /// Appends what was decided, in one commit, as `account`, in the trace of the request; returns when the read models
    /// know it, or fell behind. Events that are neither local nor addressed go to `audience`.
    ///
    /// # Errors
    /// 409 when a stream changed since it was looked at; 503 when the log takes no writes.
    pub async fn append(
        &self,
        account: &str,
        audience: &Audience,
        events: Vec<DomainEvent>,
        expected: Vec<(String, Expected)>,
    ) -> Result<Committed, ApiError> {
        let traceparent = current_traceparent();
        let events = events
            .into_iter()
            .map(|event| Ok(new_event(event, audience)?.with_actor(account).with_traceparent(traceparent.clone())))
            .collect::<Result<Vec<_>, ApiError>>()?;
        let mut transaction = Transaction::append(events);
        for (stream, expectation) in expected {
            transaction = transaction.expecting(stream, expectation);
        }
        let committed = self.node.log.commit(transaction).await.map_err(commit_error)?;
        // It is on disk: an error now would have it said twice.
        let _ = self.models.reached(committed.next).await;
        Ok(committed)
    }
}

/// A domain event as the log takes it.
///
/// # Errors
/// It is addressed to something that is no agency.
pub fn new_event(event: DomainEvent, audience: &Audience) -> Result<NewEvent, ApiError> {
    let audience = match &event.toward {
        Some(agency) => Audience::One(AgencyCode::new(agency).map_err(ApiError::internal)?),
        None => audience.clone(),
    };
    let lane = Lane::from_wire(event.lane.into()).ok_or_else(|| ApiError::internal("an event without a lane"))?;
    Ok(NewEvent {
        id: uuid::Uuid::now_v7(),
        audience,
        lane,
        stream: event.stream,
        kind: event.kind,
        actor: String::new(),
        traceparent: String::new(),
        occurred_at_ms: None,
        data: event.data,
    })
}

/// What a caller hears when the log does not take a commit.
pub fn commit_error(error: CommitError) -> ApiError {
    match error {
        CommitError::WrongExpectedVersion { .. } => ApiError::conflict(
            "Dữ liệu vừa được người khác thay đổi. Hãy tải lại rồi thử lại.",
            "Somebody else changed this a moment ago. Load it again and retry.",
        ),
        CommitError::DiskFull(_) | CommitError::Poisoned(_) | CommitError::ReadOnly | CommitError::Closed => {
            tracing::error!(%error, "the log takes no writes");
            ApiError::unavailable(
                "Hệ thống tạm thời không ghi được dữ liệu. Chưa có gì bị mất; hãy báo quản trị viên.",
                "The log takes no writes at the moment. Nothing is lost; tell the administrator.",
            )
        }
        other => ApiError::internal(other),
    }
}
