//! What changes, as it changes: server-sent events.

use std::borrow::Cow;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt as _, stream};
use httt_node::http::ApiError;
use tokio::sync::broadcast::error::RecvError;

use super::Central;
use crate::changes::Change;
use crate::models::CentralModels;
use crate::scope::Reader;

/// Streams open at a time.
pub(crate) const MAX_LISTENERS: usize = 1_000;
/// Longest life of a stream: the browser then comes back, and has to have a session still.
const MAX_LISTENING: Duration = Duration::from_secs(15 * 60);
/// A comment is sent after so long a silence, so that whatever stands between keeps the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[utoipa::path(
    get, path = "/api/v1/events", tag = "events", operation_id = "events_listen",
    summary = "Luồng sự kiện thời gian thực",
    description = "Server-sent events of type `change`, at most four a second; the event's id is the position. The \
                   first one says `reload`. Bulletins that the account may not see are not named. A stream ends after \
                   15 minutes; connect again.",
    responses((status = 200, description = "Each event's data", body = Change, content_type = "text/event-stream")),
)]
pub(crate) async fn listen(
    State(central): State<Central>,
    reader: Reader,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ApiError> {
    let place = Arc::clone(&central.listeners).try_acquire_owned().map_err(|_| {
        ApiError::unavailable(
            "Đang có quá nhiều trang theo dõi cùng lúc. Hãy thử lại sau.",
            "Too many pages are following at this moment. Try again later.",
        )
    })?;
    let changes = central.changes.listen();
    let positions = central.desk.models.watch();
    let first = Arc::new(Change::everything(*positions.borrow()));
    let following = stream::unfold((changes, positions, place), |(mut changes, positions, place)| async move {
        let change = match changes.recv().await {
            Ok(change) => change,
            Err(RecvError::Lagged(_)) => Arc::new(Change::everything(*positions.borrow())),
            Err(RecvError::Closed) => return None,
        };
        Some((change, (changes, positions, place)))
    });
    let mut stop = central.shutdown.watch();
    let end = Box::pin(async move {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = tokio::time::sleep(MAX_LISTENING) => {}
        }
    });
    let models = central.desk.models.clone();
    let events = stream::once(std::future::ready(first))
        .chain(following)
        .take_until(end)
        .map(move |change| Ok(told(&models.read(|models| shown(models, &reader, &change)))));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

/// The change without the bulletins that the reader may not know of.
fn shown<'a>(models: &CentralModels, reader: &Reader, change: &'a Change) -> Cow<'a, Change> {
    let seen = |id: &String| models.drafts.get(id).is_some_and(|view| reader.sees_bulletin(models, view));
    if change.bulletins.iter().chain(&change.deliveries).all(seen) {
        return Cow::Borrowed(change);
    }
    let mut change = change.clone();
    change.bulletins.retain(seen);
    change.deliveries.retain(seen);
    Cow::Owned(change)
}

fn told(change: &Change) -> Event {
    let event = Event::default().event("change").id(change.position.to_string());
    event.json_data(change).unwrap_or_else(|error| {
        tracing::error!(%error, "a change has no JSON form");
        Event::default().comment("error")
    })
}
