//! Members over HTTP, beside the list that every node has.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use httt_domain::accounts::Action;
use httt_domain::refusal::Refusal as DomainRefusal;
use httt_feed::AgencyCode;
use httt_node::accounts::{Authenticator, Principal};
use httt_node::assembly::Node;
use httt_node::clock;
use httt_node::desk::{actor, refusals};
use httt_node::exchange::{Service, Store, StoreError, revoked_members};
use httt_node::http::{ApiError, Json};
use httt_node::telemetry::current_traceparent;

use super::upload::{self, Waiting};
use super::{Command, Context, MemberDetail, Order, decide};

/// Largest order: a certificate with room to spare.
const MAX_ORDER_BYTES: usize = 32 * 1024;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) service: Arc<Service>,
    pub(crate) accounts: Arc<Authenticator>,
    pub(crate) node: Node,
    pub(crate) store: Arc<dyn Store>,
    /// Files that were read, until an order admits them.
    pub(crate) waiting: Waiting,
}

/// `POST /api/v1/members`, `GET /api/v1/members/{code}`, `POST /api/v1/members/{code}/admissions`.
pub(crate) fn routes(office: Office) -> Router {
    let short = DefaultBodyLimit::max(MAX_ORDER_BYTES);
    Router::new()
        .route("/api/v1/members", post(order).layer(short))
        .route("/api/v1/members/{code}", get(show))
        .route("/api/v1/members/{code}/admissions", post(upload::read))
        .with_state(office)
}

enum Said {
    Refused(super::Refusal),
    Store(StoreError),
}

impl From<StoreError> for Said {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Said> for ApiError {
    fn from(said: Said) -> Self {
        match said {
            Said::Refused(refusal) => refusal.into(),
            Said::Store(error) => {
                tracing::error!(%error, "the directory takes no writes");
                Self::unavailable(
                    "Hệ thống tạm thời không ghi được dữ liệu. Chưa có gì thay đổi; hãy thử lại.",
                    "The directory takes no writes at the moment. Nothing was changed; try again.",
                )
            }
        }
    }
}

/// Carries out one order. The one-time code is looked at last: it is good once, and what would be refused anyway must
/// not cost it. So the rules are asked twice; what counts is what they say in the end, when nothing else can change.
async fn order(
    State(office): State<Office>,
    principal: Principal,
    Json(order): Json<Order>,
) -> Result<Answer<MemberDetail>, ApiError> {
    let account = actor(&principal, Action::ManageMembers)?.account.to_owned();
    let Order { command, reason, otp } = order;
    let admission = match &command {
        Command::Admit { admission, .. } => office.waiting.get(clock::system()(), admission),
        _ => None,
    };
    let heads = office.store.heads(0);
    let context = Context {
        own: &office.node.code,
        own_key: office.node.fingerprint(),
        heads: &heads,
        admission: admission.as_deref(),
        actor: &account,
        reason: &reason,
    };
    let revoked = revoked_members(&decide(&office.service.directory(), &command, &context)?);
    let otp = otp.ok_or_else(|| refusals(&DomainRefusal::StepUpNeeded.into()))?;
    office.accounts.verify_otp(&account, &otp).await?;

    let traceparent = current_traceparent();
    let mut subject = String::new();
    let revised: Result<(), Said> = office
        .service
        .revise_keys(&revoked, |directory, heads| {
            let events = decide(directory, &command, &Context { heads, ..context }).map_err(Said::Refused)?;
            subject = events.first().map(|event| event.stream.clone()).unwrap_or_default();
            Ok(events.into_iter().map(|event| event.with_traceparent(traceparent.clone())).collect())
        })
        .await;
    revised?;
    tracing::info!(account, reason, ?command, "the directory was revised");
    detail(&office, subject.trim_start_matches("member/"))
}

async fn show(
    State(office): State<Office>,
    principal: Principal,
    Path(code): Path<String>,
) -> Result<Answer<MemberDetail>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    detail(&office, &code)
}

fn detail(office: &Office, code: &str) -> Result<Answer<MemberDetail>, ApiError> {
    let directory = office.service.directory();
    let member = AgencyCode::new(code).ok().and_then(|code| directory.member(&code).cloned());
    let member =
        member.ok_or_else(|| ApiError::not_found("Không có thành viên này.", "There is no member of this code."))?;
    Ok(Answer(MemberDetail::of(&directory, &member)))
}
