//! The log as others check it: C2SP tlog-tiles and tlog-witness over HTTP.
//!
//! | address | what | who |
//! |---|---|---|
//! | `GET /tlog/checkpoint` | the latest signed checkpoint | anybody |
//! | `GET /tlog/tile/LEVEL/INDEX` | hashes | anybody |
//! | `GET /tlog/tile/entries/INDEX` | entries | who may read the audit trail; others only what is for everybody, if the configuration says so |
//! | `GET /tlog/cosigned/…` | the same, the checkpoint being the latest that witnesses cosigned | the same |
//! | `POST /tlog/add-checkpoint` | another log's checkpoint, to be cosigned | anybody; its signature says whose it is |
//! | `GET /api/v1/witness` | which logs this node witnesses, who witnesses its own, what was refused | who is logged in |
//! | `POST /api/v1/witness/forget` | lets a restored log begin anew | operators |
//!
//! A hash tells nothing of an entry to somebody who does not have it, so tiles need no log-in.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use httt_domain::accounts::Action;
use httt_exchange::{DEFAULT_WITNESS_EVERY, MAX_ADD_CHECKPOINT_BYTES, WitnessRefusal, Witnessing};
use httt_feed::{Audience, Lane};
use httt_log::tlog::{TILE_WIDTH, Tile, TileKind, VerifierKey};
use httt_log::{GoneEntry, Log, ReadError};
use serde::{Deserialize, Serialize};

use crate::accounts::{Authenticator, Principal, bearer};
use crate::assembly::Node;
use crate::desk::{Desk, actor};
use crate::http::{ApiError, Json};
use crate::models::ModelSet;

/// Longest reason for forgetting what was cosigned.
const MAX_REASON_BYTES: usize = 1_000;
/// A full tile never changes.
const FOR_EVER: &str = "public, max-age=31536000, immutable";
/// So does a full bundle, but it is for who asked.
const FOR_EVER_PRIVATE: &str = "private, max-age=31536000, immutable";
/// A partial tile is right as long as it is of use.
const FOR_A_WHILE: &str = "public, max-age=3600";
const FOR_A_WHILE_PRIVATE: &str = "private, max-age=3600";
/// Checkpoints change every second.
const NOT_KEPT: &str = "no-cache";

/// Section `[node.tlog]`: what outsiders see of the log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlogConfig {
    /// Whether bundles that hold nothing but entries for everybody (audience `*`) are given out without log-in. Bundles
    /// with any other entry, and all those of the lane `local`, never are. Default false.
    pub public_entries: bool,
    /// How often cosignatures are asked for, ms. Default 600000.
    pub witness_every_ms: u64,
}

impl Default for TlogConfig {
    fn default() -> Self {
        Self { public_entries: false, witness_every_ms: DEFAULT_WITNESS_EVERY.as_millis() as u64 }
    }
}

#[derive(Clone)]
struct Shown {
    log: Log,
    witness: Arc<Witnessing>,
    accounts: Arc<Authenticator>,
    public_entries: bool,
}

/// The routes under `/tlog/`.
pub fn routes(node: &Node, accounts: &Arc<Authenticator>) -> Router {
    let short = DefaultBodyLimit::max(MAX_ADD_CHECKPOINT_BYTES);
    Router::new()
        .route("/tlog/checkpoint", get(checkpoint))
        .route("/tlog/cosigned/checkpoint", get(cosigned_checkpoint))
        .route("/tlog/tile/{*path}", get(tile))
        .route("/tlog/cosigned/tile/{*path}", get(tile))
        .route("/tlog/add-checkpoint", post(add_checkpoint).layer(short))
        .with_state(Shown {
            log: node.log.clone(),
            witness: Arc::clone(&node.witness),
            accounts: Arc::clone(accounts),
            public_entries: node.public_entries,
        })
}

fn text(text: String) -> Response {
    ([(CONTENT_TYPE, "text/plain; charset=utf-8"), (CACHE_CONTROL, NOT_KEPT)], text).into_response()
}

fn no_checkpoint() -> ApiError {
    ApiError::not_found("Nhật ký chưa có điểm kiểm như vậy.", "The log has no such checkpoint yet.")
}

/// The latest checkpoint, with cosignatures if it is the one that has them.
async fn checkpoint(State(shown): State<Shown>) -> Result<Response, ApiError> {
    let latest = shown.log.checkpoint();
    if latest.is_empty() {
        return Err(no_checkpoint());
    }
    let cosigned = shown.witness.cosigned().filter(|cosigned| latest.starts_with(&format!("{}\n", cosigned.body())));
    Ok(text(cosigned.map_or(latest, |cosigned| cosigned.text().to_owned())))
}

async fn cosigned_checkpoint(State(shown): State<Shown>) -> Result<Response, ApiError> {
    shown.witness.cosigned().map(|cosigned| text(cosigned.text().to_owned())).ok_or_else(no_checkpoint)
}

async fn tile(State(shown): State<Shown>, Path(path): Path<String>, headers: HeaderMap) -> Result<Response, ApiError> {
    let no_tile = || ApiError::not_found("Không có mảnh cây như vậy.", "The log has no such tile.");
    let tile: Tile = format!("tile/{path}").parse().map_err(|_| no_tile())?;
    let private = tile.kind() == TileKind::Entries && !shown.public_entries;
    let may_read_all = tile.kind() != TileKind::Entries || shown.auditor(&headers)?;
    let log = shown.log.clone();
    // A bundle is up to 16 MB from disk.
    let read = move || {
        if !may_read_all && !for_everybody(&log, &tile)? {
            return Ok(None);
        }
        Ok(Some(log.tile(&tile)?))
    };
    let read = tokio::task::spawn_blocking(read).await.map_err(ApiError::internal)?;
    let read: Option<Option<Vec<u8>>> = read.map_err(|error: ReadError| match error {
        ReadError::Gone(gone) => gone_by_retention(&gone),
        error => ApiError::internal(error),
    })?;
    let bytes = read.ok_or_else(ApiError::unauthorized)?.ok_or_else(no_tile)?;
    let cache = match (tile.is_full(), private || (tile.kind() == TileKind::Entries && may_read_all)) {
        (true, false) => FOR_EVER,
        (true, true) => FOR_EVER_PRIVATE,
        (false, false) => FOR_A_WHILE,
        (false, true) => FOR_A_WHILE_PRIVATE,
    };
    Ok(([(CONTENT_TYPE, "application/octet-stream"), (CACHE_CONTROL, cache)], bytes).into_response())
}

fn gone_by_retention(gone: &GoneEntry) -> ApiError {
    let GoneEntry { position, feed, sequence, .. } = gone;
    ApiError::not_found(
        format!(
            "Mục {position} của gói này ({feed}, số {sequence}) đã hết hạn lưu giữ; nơi phát hành {} còn giữ.",
            feed.origin
        ),
        format!(
            "Entry {position} of this bundle ({feed} sequence {sequence}) went by retention; its origin {} has it.",
            feed.origin
        ),
    )
}

impl Shown {
    /// Whether the caller may read the audit trail. Nobody logged in: no, unless there is something for everybody.
    fn auditor(&self, headers: &HeaderMap) -> Result<bool, ApiError> {
        let principal = bearer(headers).and_then(|token| self.accounts.authenticate(token));
        match principal {
            Some(principal) if actor(&principal, Action::ReadAudit).is_ok() => Ok(true),
            _ if self.public_entries => Ok(false),
            Some(principal) => actor(&principal, Action::ReadAudit).map(|_| true),
            None => Err(ApiError::unauthorized()),
        }
    }
}

/// Whether all entries of a bundle are for everybody.
fn for_everybody(log: &Log, tile: &Tile) -> Result<bool, httt_log::ReadError> {
    let Some(first) = tile.index().checked_mul(TILE_WIDTH.into()) else { return Ok(true) };
    let entries = log.read(first, tile.width().into(), usize::MAX)?;
    let whole = entries.len() == usize::from(tile.width());
    if !whole && first + u64::from(tile.width()) <= log.len() {
        // Something of it went by retention, which the bundle itself says.
        log.tile(tile)?;
    }
    // An entry that is committed between this look and the answer was not looked at.
    Ok(whole && entries.iter().all(|entry| entry.feed.audience == Audience::All && entry.feed.lane != Lane::Local))
}

async fn add_checkpoint(State(shown): State<Shown>, body: String) -> Response {
    match shown.witness.add(&body).await {
        Ok(line) => text(line),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
            let kind = match refusal {
                WitnessRefusal::Stale { .. } | WitnessRefusal::Forked { .. } => "text/x.tlog.size",
                _ => "text/plain; charset=utf-8",
            };
            (status, [(CONTENT_TYPE, kind), (CACHE_CONTROL, NOT_KEPT)], refusal.body()).into_response()
        }
    }
}

/// Witnessing, for operators and auditors.
#[derive(Debug, Serialize)]
pub struct WitnessAnswer {
    /// Key (C2SP vkey) that this log's checkpoints are signed with.
    pub log_key: String,
    /// Key (C2SP vkey) that this node cosigns with.
    pub cosigner_key: String,
    /// Entries of this log's latest cosigned checkpoint; absent: none is.
    pub cosigned_size: Option<u64>,
    /// Who cosigned it.
    pub cosigners: Vec<String>,
    /// What is wrong with witnessing, if anything is; in English, for the operator.
    pub alarm: Option<String>,
    /// The logs that this node witnesses.
    pub watched: Vec<WatchedAnswer>,
}

/// One log that this node witnesses.
#[derive(Debug, Serialize)]
pub struct WatchedAnswer {
    /// Its origin line, `httt/H24`.
    pub origin: String,
    /// Entries of the checkpoint cosigned last; absent: none was.
    pub size: Option<u64>,
    /// When, Unix milliseconds.
    pub cosigned_at_ms: Option<i64>,
    /// Checkpoints refused because they do not continue what was cosigned.
    pub refused: u64,
    /// Why the last of them was.
    pub last_refusal: Option<String>,
}

pub(crate) async fn witness<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
) -> Result<Answer<WitnessAnswer>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let node = &desk.node;
    let key = |of: Option<VerifierKey>| of.map(|key| key.to_string()).unwrap_or_default();
    let own = node.witness.own_state();
    let watched = node.witness.watched().map_err(ApiError::internal)?.into_iter();
    Ok(Answer(WitnessAnswer {
        log_key: key(node.log.vkey()),
        cosigner_key: key(node.log.cosigner_vkey()),
        cosigned_size: own.size,
        cosigners: own.cosigners,
        alarm: own.alarm,
        watched: watched
            .map(|log| WatchedAnswer {
                origin: log.origin,
                size: log.size,
                cosigned_at_ms: log.cosigned_at_ms,
                refused: log.refused,
                last_refusal: log.last_refusal,
            })
            .collect(),
    }))
}

/// Which log begins anew, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Forget {
    origin: String,
    reason: String,
}

pub(crate) async fn forget<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
    Json(typed): Json<Forget>,
) -> Result<StatusCode, ApiError> {
    let actor = actor(&principal, Action::ManageAccounts)?;
    let reason = typed.reason.trim();
    if reason.is_empty() || reason.len() > MAX_REASON_BYTES {
        return Err(ApiError::bad_request(
            "Cần ghi lý do, không quá 1000 byte.",
            "A reason is needed, of at most 1000 bytes.",
        )
        .with_field("reason"));
    }
    let known = desk.node.witness.watched().map_err(ApiError::internal)?;
    if !known.iter().any(|log| log.origin == typed.origin && log.size.is_some()) {
        return Err(ApiError::not_found(
            "Nút này chưa xác nhận nhật ký nào tên như vậy.",
            "This node has cosigned no log of this name.",
        ));
    }
    desk.node.witness.forget(&typed.origin, reason, actor.account).await.map_err(ApiError::internal)?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests;
