//! Feeds by hand on a node that runs: a file is taken, or made, over HTTP, by who may carry feeds.
//!
//! | address | body | answer |
//! |---|---|---|
//! | `POST /api/v1/feeds/import` | the file | what became of it, by feed |
//! | `POST /api/v1/feeds/export?for=CODE` | nothing, or an earlier file | the file |
//!
//! Both are streams: neither side ever holds more than a frame of the file.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, BodyDataStream, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::{BoxError, Json as Answer};
use futures_util::{Stream, StreamExt as _, stream};
use httt_domain::accounts::Action;
use httt_exchange::carry::{Decoder, ExportError, Exporter, ImportReport, Importer, Manifest, Part, Selection};
use httt_feed::{AgencyCode, FeedId, Lane};
use httt_log::ReadError;
use serde::Deserialize;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};

use crate::accounts::Principal;
use crate::assembly::Node;
use crate::desk::{Desk, actor};
use crate::http::{ApiError, BODY_READ_TIMEOUT};
use crate::models::ModelSet;

/// Largest file taken over HTTP; a larger one is for the stopped node and `httt feed import`.
pub const MAX_UPLOAD_BYTES: u64 = 8 << 30;
/// Files taken or made at once, since each costs a frame's memory and the disk's time.
const AT_ONCE: usize = 4;

/// How long a client may take for the next [`HANDED_BYTES`] of its file. One that stands still longer than that gets no
/// more of it: its place is another's.
const STALLED_AFTER: Duration = Duration::from_secs(120);
/// What a client is handed at a time. Small, so that a thin link is seen to go on.
const HANDED_BYTES: usize = 64 * 1024;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

impl Node {
    /// Takes files into this node.
    pub fn importer(&self) -> Importer {
        let (directory, media, stopped) = (self.directory.clone(), self.media.clone(), self.stopped.clone());
        Importer::new(Arc::clone(&self.store), directory, media, stopped, self.gate.clone())
            .with_own_feeds(self.own_feeds.clone())
            .with_tally(self.tally.clone())
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

/// A body, piece by piece, within a limit and never standing still for long.
pub struct Pieces {
    body: BodyDataStream,
    size: u64,
    limit: u64,
}

impl Pieces {
    /// The body of a request, of at most `limit` bytes.
    ///
    /// # Errors
    /// 413: it says that it is larger.
    pub fn of(request: Request, limit: u64) -> Result<Self, ApiError> {
        let announced =
            request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|size| size > limit) {
            return Err(ApiError::too_large());
        }
        Ok(Self { body: request.into_body().into_data_stream(), size: 0, limit })
    }

    /// The next piece; `None`: there is no more, or the body broke off.
    ///
    /// # Errors
    /// 408: it takes too long; 413: it is too large.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        let piece = tokio::time::timeout(BODY_READ_TIMEOUT, self.body.next()).await.map_err(|_| {
            let (vi, en) = ("Nội dung gửi lên quá chậm.", "The body arrived too slowly.");
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", vi, en)
        })?;
        // A body that broke off is a file that ends in the middle, which the file's reader says better.
        let Some(Ok(piece)) = piece else { return Ok(None) };
        self.size += piece.len() as u64;
        if self.size > self.limit { Err(ApiError::too_large()) } else { Ok(Some(piece)) }
    }

    /// Reads the rest and lets it go, so that the sender gets to hear the answer.
    ///
    /// # Errors
    /// As [`Pieces::next`].
    pub async fn pass_over(&mut self) -> Result<(), ApiError> {
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
    let mut pieces = Pieces::of(request, MAX_UPLOAD_BYTES)?;
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
    let pieces = stream::unfold(export, |mut export| async move {
        let piece = export.next().await.transpose()?;
        Some((piece.map_err(BoxError::from), export))
    });
    let kind = (CONTENT_TYPE, "application/octet-stream".to_owned());
    Ok(([kind, (CONTENT_DISPOSITION, name)], handed(pieces, place)).into_response())
}

/// A body of `pieces`, which keeps `place` until the client has them all, is gone, or stands still.
fn handed(pieces: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static, place: impl Send + 'static) -> Body {
    let (hand, handed) = mpsc::channel(1);
    tokio::spawn(async move {
        let _place = place;
        let mut pieces = pin!(pieces);
        while let Some(piece) = pieces.next().await {
            let mut piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    // The answer has begun: it breaks off, and the file tells by itself that it is torn.
                    tracing::error!(%error, "an export broke off");
                    return;
                }
            };
            while !piece.is_empty() {
                let next = piece.split_to(piece.len().min(HANDED_BYTES));
                match tokio::time::timeout(STALLED_AFTER, hand.send(Some(next))).await {
                    Ok(Ok(())) => {}
                    // The client is gone.
                    Ok(Err(_)) => return,
                    Err(_) => {
                        tracing::warn!(stalled = ?STALLED_AFTER, "an export was cut: its client takes nothing");
                        return;
                    }
                }
            }
        }
        // Whole. A channel that ends without this word was cut.
        let _ = hand.send(None).await;
    });
    Body::from_stream(stream::unfold(Some(handed), |handed| async {
        let mut handed = handed?;
        match handed.recv().await {
            Some(Some(piece)) => Some((Ok(piece), Some(handed))),
            Some(None) => None,
            None => Some((Err("the export broke off"), None)),
        }
    }))
}

/// What the file in the body says of itself, if there is one.
async fn earlier(request: Request) -> Result<Option<Manifest>, ApiError> {
    let (mut decoder, mut pieces, mut any) = (Decoder::default(), Pieces::of(request, MAX_UPLOAD_BYTES)?, false);
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const PIECE: usize = 100_000;

    fn pieces(count: usize) -> impl Stream<Item = Result<Bytes, BoxError>> {
        stream::iter((0..count).map(|_| Ok(Bytes::from(vec![7; PIECE]))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_stands_still_loses_its_place_and_hears_that_its_file_is_torn() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).acquire_owned().await.expect("open");
        let mut body = handed(pieces(1_000), place).into_data_stream();
        assert!(body.next().await.expect("a piece").is_ok());
        // The clock stands still while anything else can be done, so this ends when the client has been given up.
        let _free = places.acquire().await.expect("open");
        let rest: Vec<_> = body.collect().await;
        assert!(rest.last().expect("an end").is_err() && rest.len() < 10, "{} pieces", rest.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_gets_all_of_its_file() {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).acquire_owned().await.expect("open");
        let mut body = handed(pieces(20), place).into_data_stream();
        let mut size = 0;
        while let Some(piece) = body.next().await {
            size += piece.expect("not cut").len();
            tokio::time::sleep(STALLED_AFTER * 9 / 10).await;
        }
        assert_eq!(size, 20 * PIECE);
        assert!(places.acquire().await.is_ok(), "and gives its place back");
    }
}
