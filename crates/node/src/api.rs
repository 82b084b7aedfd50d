//! What every node answers over HTTP besides its own business: sessions, the log's state, read models, the link.

mod storage;

use std::net::SocketAddr;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, header};
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use httt_domain::accounts::Action;
use serde::{Deserialize, Serialize};

use httt_feed::{Lane, MemberKind};

use crate::accounts::{Principal, bearer, require_session};
use crate::config::HttpConfig;
use crate::desk::{Desk, actor};
use crate::http::{self, ApiError, Json, Readiness, ServeLimits};
use crate::metrics;
use crate::models::{Comparison, ModelSet, ModelsError};
use crate::rotation::KeyOffer;
use crate::shutdown::Shutdown;
use crate::tls::{self, ClientAuth};

pub use storage::{MemberPartsAnswer, StorageAnswer};

/// Largest request to log in.
const MAX_CREDENTIALS_BYTES: usize = 4 * 1024;

/// What is typed to log in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// Account name.
    pub username: String,
    /// Its password.
    pub password: String,
}

/// An open session.
#[derive(Debug, Serialize)]
pub struct SessionAnswer {
    /// Bearer token for `Authorization`.
    pub token: String,
    /// When it ends at the latest, Unix ms.
    pub ends_at_ms: i64,
    /// Who it is.
    #[serde(flatten)]
    pub account: AccountAnswer,
}

/// An account as it sees itself.
#[derive(Debug, Serialize)]
pub struct AccountAnswer {
    /// Its name.
    pub account: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// The area they are bound to; empty or `VN` is the nation.
    pub area: String,
}

impl From<&Principal> for AccountAnswer {
    fn from(principal: &Principal) -> Self {
        Self { account: principal.name.clone(), roles: principal.roles.to_vec(), area: principal.area.clone() }
    }
}

/// The log, for operators and auditors.
#[derive(Debug, Serialize)]
pub struct LogAnswer {
    /// Agency code of the node.
    pub member: String,
    /// Identity of the log, hexadecimal.
    pub log_id: String,
    /// Entries (sealed batches) in it.
    pub entries: u64,
    /// RFC 6962 root over them, hexadecimal.
    pub root: String,
    /// The latest signed checkpoint (C2SP signed note); empty before the first.
    pub checkpoint: String,
    /// SHA-256 fingerprint of the key that seals and signs.
    pub key_fingerprint: String,
    /// The new key that was offered to the gateway and that the directory does not have; null: none waits.
    pub key_offer: Option<KeyOfferAnswer>,
    /// Feeds held.
    pub feeds: Vec<FeedAnswer>,
}

/// A key that waits for the gateway. If it stays so, the node has too many keys, or no link.
#[derive(Debug, Serialize)]
pub struct KeyOfferAnswer {
    /// SHA-256 fingerprint.
    pub fingerprint: String,
    /// How often it was offered.
    pub times: u64,
    /// When it is offered again, Unix ms.
    pub again_at_ms: i64,
}

impl From<KeyOffer> for KeyOfferAnswer {
    fn from(offer: KeyOffer) -> Self {
        let KeyOffer { key, times, again_at_ms } = offer;
        Self { fingerprint: key.to_string(), times, again_at_ms }
    }
}

/// One feed held.
#[derive(Debug, Serialize)]
pub struct FeedAnswer {
    /// `TW→*/content`
    pub feed: String,
    /// The first sequence held: 1, or a later one where the log took the feed up at a restatement. What came before it is
    /// not in any figure of this node.
    pub begins: u64,
    /// Its last sequence.
    pub sequence: u64,
    /// SHA-256 of that batch's body.
    pub digest: String,
}

/// The way up.
#[derive(Debug, Serialize)]
pub struct LinkAnswer {
    /// Whether the last call got through.
    pub connected: bool,
    /// Feeds whose heads differ.
    pub behind: Vec<BehindAnswer>,
    /// Feeds that forked and stand still.
    pub stopped: Vec<String>,
    /// Own feeds of which the gateway has not receipted everything (yet): whoever carries may have dropped the rest.
    pub unreceipted: Vec<UnreceiptedAnswer>,
}

/// One own feed ahead of its receipts.
#[derive(Debug, Serialize)]
pub struct UnreceiptedAnswer {
    /// `H24→TW/report`
    pub feed: String,
    /// Last sequence here.
    pub here: u64,
    /// Last sequence the gateway gave a receipt for.
    pub receipted: u64,
}

/// One feed that is not level with the peer's.
#[derive(Debug, Serialize)]
pub struct BehindAnswer {
    /// `H24→TW/report`
    pub feed: String,
    /// Last sequence here.
    pub here: u64,
    /// Last sequence there.
    pub there: u64,
}

/// One member of the exchange.
#[derive(Debug, Serialize)]
pub struct MemberAnswer {
    /// Agency code.
    pub code: String,
    /// Name.
    pub name: String,
    /// gateway, central, province or carrier.
    pub kind: &'static str,
    /// Area it answers for.
    pub area: String,
    /// Fingerprints of its good keys.
    pub keys: Vec<String>,
    /// Who may carry for it.
    pub carriers: Vec<String>,
    /// Why it is suspended; absent: it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suspended: Option<String>,
}

/// The read models, for operators and auditors.
#[derive(Debug, Serialize)]
pub struct ModelsAnswer {
    /// Entries folded.
    pub position: u64,
    /// Each model.
    pub models: Vec<ModelAnswer>,
    /// A comparison or rebuild under way.
    pub progress: Option<ProgressAnswer>,
}

/// One read model.
#[derive(Debug, Serialize)]
pub struct ModelAnswer {
    /// Its name.
    pub model: &'static str,
    /// Version of the rules that it is folded by.
    pub version: u32,
    /// Why it stands still; empty while it does not.
    pub problem: String,
}

/// How far a comparison or rebuild is.
#[derive(Debug, Serialize)]
pub struct ProgressAnswer {
    /// Entries passed by.
    pub position: u64,
    /// Entries there are.
    pub until: u64,
    /// Events folded.
    pub events: u64,
    /// Of these a second.
    pub events_per_second: u64,
}

/// Routes under `/api/v1` that every node has. `routes` are the node's own; all but the log-in need a session.
pub fn routes<S: ModelSet>(desk: &Desk<S>, own: Router) -> Router {
    let figures = Router::new();
    let (figures, open_figures) = match desk.node.open_metrics {
        true => (figures, Router::new().route("/metrics", get(metrics::<S>))),
        false => (figures.route("/metrics", get(metrics_with_session::<S>)), Router::new()),
    };
    let protected = Router::new()
        .route("/api/v1/session", axum::routing::delete(log_out::<S>))
        .route("/api/v1/me", get(me))
        .route("/api/v1/log", get(log::<S>))
        .route("/api/v1/link", get(link::<S>))
        .route("/api/v1/wire", get(crate::wire::wire::<S>))
        .route("/api/v1/members", get(members::<S>))
        .route("/api/v1/storage", get(storage::show::<S>))
        .route("/api/v1/models", get(models::<S>))
        .route("/api/v1/witness", get(crate::tlog::witness::<S>))
        .route("/api/v1/witness/forget", post(crate::tlog::forget::<S>))
        .route("/api/v1/models/compare", post(compare::<S>))
        .route("/api/v1/models/rebuild", post(rebuild::<S>))
        .route("/api/v1/feeds/import", post(crate::byhand::import::<S>))
        .route("/api/v1/feeds/export", post(crate::byhand::export::<S>))
        .merge(figures)
        .with_state(desk.clone())
        .merge(own)
        .layer(from_fn_with_state(desk.accounts.clone(), require_session));
    // Read before anybody is known, so it is short.
    let short = DefaultBodyLimit::max(MAX_CREDENTIALS_BYTES);
    let open = Router::new().route("/api/v1/session", post(log_in::<S>).layer(short));
    let open = open.merge(open_figures).with_state(desk.clone());
    protected.merge(open).merge(crate::tlog::routes(&desk.node, &desk.accounts))
}

/// Serves `routes` with what every service has around them; returns where it listens.
///
/// # Errors
/// The address cannot be listened on, or the certificate cannot be used.
pub async fn serve(
    config: &HttpConfig,
    routes: Router,
    readiness: &Readiness,
    shutdown: &Shutdown,
) -> anyhow::Result<SocketAddr> {
    let tls = config.tls.as_ref().map(|tls| tls::server_config(tls, ClientAuth::None)).transpose()?;
    let listener = http::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let router = http::standard(routes, readiness);
    let limits = ServeLimits { max_connections: config.max_connections, ..ServeLimits::default() };
    let stop = shutdown.clone();
    shutdown.spawn("http", async move {
        http::serve_with(listener, tls, router, stop, limits).await;
        Ok::<_, std::convert::Infallible>(())
    });
    Ok(address)
}

async fn log_in<S: ModelSet>(
    State(desk): State<Desk<S>>,
    Json(typed): Json<Credentials>,
) -> Result<Answer<SessionAnswer>, ApiError> {
    let (principal, session) = desk.accounts.login(&typed.username, &typed.password).await?;
    let account = AccountAnswer::from(&principal);
    Ok(Answer(SessionAnswer { token: session.token, ends_at_ms: session.ends_at_ms, account }))
}

async fn log_out<S: ModelSet>(State(desk): State<Desk<S>>, headers: HeaderMap) -> axum::http::StatusCode {
    if let Some(token) = bearer(&headers) {
        desk.accounts.logout(token);
    }
    axum::http::StatusCode::NO_CONTENT
}

async fn metrics<S: ModelSet>(State(desk): State<Desk<S>>) -> impl IntoResponse {
    let mut text = String::new();
    desk.node.metrics.render(&mut text);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text)
}

async fn metrics_with_session<S: ModelSet>(
    desk: State<Desk<S>>,
    principal: Principal,
) -> Result<impl IntoResponse, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    Ok(metrics(desk).await)
}

async fn me(principal: Principal) -> Answer<AccountAnswer> {
    Answer(AccountAnswer::from(&principal))
}

async fn log<S: ModelSet>(State(desk): State<Desk<S>>, principal: Principal) -> Result<Answer<LogAnswer>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let log = &desk.node.log;
    let entries = log.len();
    Ok(Answer(LogAnswer {
        member: desk.node.code.to_string(),
        log_id: hex::encode(log.log_id()),
        entries,
        root: log.root(entries).map_err(ApiError::internal)?.to_string(),
        checkpoint: log.checkpoint(),
        key_fingerprint: desk.node.fingerprint().to_string(),
        key_offer: desk.node.key_offer.borrow().map(KeyOfferAnswer::from),
        feeds: log.heads().iter().map(|head| feed_answer(log, head)).collect::<Result<_, _>>()?,
    }))
}

fn feed_answer(log: &httt_log::Log, head: &httt_log::FeedHead) -> Result<FeedAnswer, ApiError> {
    let begins = log.begins(&head.feed).map_err(ApiError::internal)?.unwrap_or(1);
    let (sequence, digest) = (head.head.sequence, head.head.digest.to_string());
    Ok(FeedAnswer { feed: head.feed.to_string(), begins, sequence, digest })
}

async fn link<S: ModelSet>(State(desk): State<Desk<S>>) -> Result<Answer<LinkAnswer>, ApiError> {
    let upstream = desk.upstream.as_ref();
    let upstream =
        upstream.ok_or_else(|| ApiError::not_found("Nút này không có đường lên.", "This node has no way up."))?;
    let state = upstream.link().watch().borrow().clone();
    Ok(Answer(LinkAnswer {
        connected: state.connected,
        behind: state
            .behind
            .into_iter()
            .map(|(feed, here, there)| BehindAnswer { feed: feed.to_string(), here, there })
            .collect(),
        stopped: state.stopped.iter().map(ToString::to_string).collect(),
        unreceipted: unreceipted(&desk),
    }))
}

fn unreceipted<S: ModelSet>(desk: &Desk<S>) -> Vec<UnreceiptedAnswer> {
    let own = desk.node.log.heads().into_iter();
    let own = own.filter(|head| head.feed.origin == desk.node.code && head.feed.lane != Lane::Local);
    own.filter_map(|head| {
        let receipted = desk.models.read(|models| models.receipted().map(|model| model.of(&head.feed)))?;
        let here = head.head.sequence;
        (receipted < here).then(|| UnreceiptedAnswer { feed: head.feed.to_string(), here, receipted })
    })
    .collect()
}

async fn members<S: ModelSet>(State(desk): State<Desk<S>>) -> Answer<Vec<MemberAnswer>> {
    let directory = desk.node.directory.get();
    let members = directory.members().map(|member| MemberAnswer {
        code: member.code.to_string(),
        name: member.name.clone(),
        kind: kind_name(member.kind),
        area: member.area.clone(),
        keys: member.keys().map(|key| key.fingerprint().to_string()).collect(),
        carriers: member.carriers().map(ToString::to_string).collect(),
        suspended: member.suspended.clone(),
    });
    Answer(members.collect())
}

/// A kind of member as the API writes it.
pub fn kind_name(kind: MemberKind) -> &'static str {
    match kind {
        MemberKind::Gateway => "gateway",
        MemberKind::Central => "central",
        MemberKind::Province => "province",
        MemberKind::Carrier => "carrier",
        MemberKind::Unspecified => "unknown",
    }
}

async fn models<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
) -> Result<Answer<ModelsAnswer>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let models = desk.models.read(|set| {
        let parts = set.parts().into_iter();
        let answer = parts.map(|part| ModelAnswer {
            model: part.name(),
            version: part.version(),
            problem: part.broken().unwrap_or_default(),
        });
        answer.collect()
    });
    let progress = desk.models.progress().map(|progress| ProgressAnswer {
        position: progress.position,
        until: progress.until,
        events: progress.events,
        events_per_second: progress.events_per_second(),
    });
    let position = *desk.models.watch().borrow();
    Ok(Answer(ModelsAnswer { position, models, progress }))
}

async fn compare<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
) -> Result<Answer<Vec<Comparison>>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let compared = desk.models.compare().await.map_err(models_error)?;
    tell_alarms(&compared);
    Ok(Answer(compared))
}

async fn rebuild<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
) -> Result<Answer<Vec<Comparison>>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    tracing::info!(account = principal.name, "read models are rebuilt");
    let compared = desk.models.rebuild().await.map_err(models_error)?;
    tell_alarms(&compared);
    Ok(Answer(compared))
}

fn tell_alarms(compared: &[Comparison]) {
    for one in compared.iter().filter(|one| one.verdict.is_alarming()) {
        let Comparison { model, position, problem, .. } = one;
        tracing::error!(model, position, problem, "a read model differs from its rebuild");
    }
}

fn models_error(error: ModelsError) -> ApiError {
    match error {
        ModelsError::Busy => ApiError::conflict(
            "Dữ liệu đang được đối chiếu hoặc dựng lại. Hãy chờ xong rồi thử lại.",
            "The models are being compared or rebuilt already. Wait until that is done and retry.",
        ),
        other => ApiError::internal(other),
    }
}
