//! Feeds by hand on a node that runs: a file is taken, or made, over HTTP, by who may carry feeds.
//!
//! | address | body | answer |
//! |---|---|---|
//! | `POST /api/v1/feeds/import` | the file | what became of it, by feed |
//! | `POST /api/v1/feeds/export?for=CODE` | nothing, or an earlier file | the file |
//!
//! Both are streams: neither side ever holds more than a frame of the file.

use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::{BoxError, Json as Answer};
use futures_util::{StreamExt as _, stream};
use httt_domain::accounts::Action;
use httt_exchange::carry::{Decoder, ExportError, Exporter, ImportReport, Importer, Manifest, Part, Selection};
use httt_feed::{AgencyCode, FeedId, Lane};
use httt_log::ReadError;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::accounts::Principal;
use crate::assembly::Node;
use crate::desk::{Desk, actor};
use crate::http::{ApiError, BODY_READ_TIMEOUT};
use crate::models::ModelSet;

/// Largest file taken over HTTP; a larger one is for the stopped node and `httt feed import`.
pub const MAX_UPLOAD_BYTES: u64 = 8 << 30;
/// Files taken or made at once, since each costs a frame's memory and the disk's time.
const AT_ONCE: usize = 4;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

impl Node {
    /// Takes files into this node.
    pub fn importer(&self) -> Importer {
        let (directory, media, stopped) = (self.directory.clone(), self.media.clone(), self.stopped.clone());
        Importer::new(Arc::clone(&self.store), directory, media, stopped, self.gate.clone())
    }

    /// Makes files out of this node.
    pub fn exporter(&self) -> Exporter {
        Exporter::new(Arc::clone(&self.store), self.directory.clone(), self.media.clone())
    }

    /// Stops the feeds that the log says forked: for who works on a node that does not run, without its read models.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn recall_forks(&self) -> Result<(), ReadError> {
        for head in self.store.heads(0) {
            if self.log.stream_version(&self.code, &format!("fork/{}", head.feed))?.is_some() {
                self.stopped.stop(head.feed);
            }
        }
        Ok(())
    }
}

fn place() -> Result<SemaphorePermit<'static>, ApiError> {
    PLACES.try_acquire().map_err(|_| {
        ApiError::unavailable(
            "Đang có các tệp khác được nhập hoặc xuất. Hãy thử lại sau.",
            "Other files are being imported or exported. Try again later.",
        )
    })
}

/// A body, piece by piece, within [`MAX_UPLOAD_BYTES`] and never standing still for long.
struct Pieces {
    body: BodyDataStream,
    size: u64,
}

impl Pieces {
    fn of(request: Request) -> Result<Self, ApiError> {
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|size| size > MAX_UPLOAD_BYTES) {
            return Err(ApiError::too_large());
        }
        Ok(Self { body: request.into_body().into_data_stream(), size: 0 })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let piece = tokio::time::timeout(BODY_READ_TIMEOUT, self.body.next()).await.map_err(|_| {
            let (vi, en) = ("Nội dung gửi lên quá chậm.", "The body arrived too slowly.");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", vi, en)
        })?;
        // A body that broke off is a file that ends in the middle, which the file's reader says better.
        let Some(Ok(piece)) = piece else { return Ok(None) };
        self.size += piece.len() as u64;
        if self.size > MAX_UPLOAD_BYTES { Err(ApiError::too_large()) } else { Ok(Some(piece)) }
    }

    /// Reads the rest and lets it go, so that the sender gets to hear the answer.
    async fn pass_over(&mut self) -> Result<(), ApiError> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

pub(crate) async fn import<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
    request: Request,
) -> Result<Answer<ImportReport>, ApiError> {
    let actor = actor(&principal, Action::CarryFeeds)?;
    let _place = place()?;
    let mut import = desk.node.importer().begin();
    let mut pieces = Pieces::of(request)?;
    while let Some(piece) = pieces.next().await? {
        if !import.push(&piece).await {
            pieces.pass_over().await?;
        }
    }
    let report = import.finish();
    if report.maker.is_none() {
        let (vi, en) = report.broken.map(|broken| (broken.message, broken.message_en)).unwrap_or_default();
        let (vi, en) = (format!("Không nhận được tệp: {vi}."), format!("The file is not taken: {en}."));
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "no_feeds", vi, en));
    }
    tracing::info!(
        account = actor.account,
        maker = report.maker,
        reader = report.reader,
        ok = report.ok,
        "feeds imported by hand"
    );
    // It is on disk, whether or not the models know it by now.
    let _ = desk.models.reached(desk.node.log.len()).await;
    Ok(Answer(report))
}

/// What an export may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Agency code of the reader.
    #[serde(rename = "for")]
    reader: String,
    /// Only these feeds, separated by commas.
    #[serde(default)]
    feed: String,
    /// Only these lanes, separated by commas.
    #[serde(default)]
    lane: String,
    after: Option<u64>,
    media: Option<bool>,
    max_bytes: Option<u64>,
}

impl Wanted {
    fn selection(&self) -> Result<Selection, String> {
        let listed =
            |text: &str| -> Vec<String> { text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect() };
        let reader = AgencyCode::new(&self.reader).map_err(|error| error.to_string())?;
        let feeds = listed(&self.feed).iter().map(|feed| feed.parse::<FeedId>()).collect::<Result<_, _>>();
        let lane = |text: &String| {
            let lane = Lane::ALL.into_iter().find(|lane| lane.as_str() == text);
            lane.ok_or_else(|| format!("{text:?} is no lane"))
        };
        Ok(Selection {
            reader,
            feeds: feeds.map_err(|error| error.to_string())?,
            lanes: listed(&self.lane).iter().map(lane).collect::<Result<_, _>>()?,
            after: self.after,
            media: self.media.unwrap_or(true),
            max_bytes: self.max_bytes,
        })
    }
}

pub(crate) async fn export<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
    wanted: Result<Query<Wanted>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let actor = actor(&principal, Action::CarryFeeds)?;
    let bad = |why: String| ApiError::bad_request(format!("Yêu cầu không hợp lệ: {why}."), format!("{why}."));
    let Query(wanted) = wanted.map_err(|rejection| bad(rejection.body_text()))?;
    let selection = wanted.selection().map_err(bad)?;
    let place = place()?;
    let earlier = earlier(request).await?;
    let begun = desk.node.exporter().begin(&selection, earlier.as_ref(), desk.now_ms()).await;
    let export = begun.map_err(|error| export_error(&error))?;
    tracing::info!(account = actor.account, reader = %selection.reader, "feeds exported by hand");
    let name = format!("attachment; filename=\"{}-{}.httt\"", desk.node.code, selection.reader);
    let pieces = stream::unfold(Some((export, place)), |making| async move {
        let (mut export, place) = making?;
        match export.next().await {
            Ok(Some(bytes)) => Some((Ok::<Bytes, BoxError>(bytes), Some((export, place)))),
            Ok(None) => None,
            Err(error) => {
                // The answer has begun: it breaks off, and the file tells by itself that it is torn.
                tracing::error!(%error, "an export broke off");
                Some((Err(error.into()), None))
            }
        }
    });
    let kind = (CONTENT_TYPE, "application/octet-stream".to_owned());
    Ok(([kind, (CONTENT_DISPOSITION, name)], Body::from_stream(pieces)).into_response())
}

/// What the file in the body says of itself, if there is one.
async fn earlier(request: Request) -> Result<Option<Manifest>, ApiError> {
    let (mut decoder, mut pieces, mut any) = (Decoder::default(), Pieces::of(request)?, false);
    while let Some(piece) = pieces.next().await? {
        any = true;
        decoder.push(&piece);
        match decoder.next_part() {
            Ok(Some(Part::Manifest(manifest))) => {
                pieces.pass_over().await?;
                return Ok(Some(*manifest));
            }
            Ok(_) => {}
            Err(error) => {
                return Err(ApiError::bad_request(
                    format!("Tệp trước không đọc được: {}.", error.fault.vi()),
                    format!("The earlier file cannot be read: {error}."),
                ));
            }
        }
    }
    if any {
        Err(ApiError::bad_request("Tệp trước chưa đủ.", "The earlier file is not complete."))
    } else {
        Ok(None)
    }
}

fn export_error(error: &ExportError) -> ApiError {
    match error {
        ExportError::Store(_) | ExportError::Media(_) | ExportError::Pack(_) | ExportError::Changed(_) => {
            ApiError::internal(error)
        }
        other => ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "no_export",
            format!("Không xuất được: {}.", other.vi()),
            format!("Not exported: {other}."),
        ),
    }
}
