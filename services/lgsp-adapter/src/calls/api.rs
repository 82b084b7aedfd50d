//! What auditors ask of the record of calls.
//!
//! | call | answer |
//! |---|---|
//! | `GET /api/v1/calls?from=&to=&member=&format=csv\|jsonl` | the records |
//! | `GET /api/v1/calls/summary?from=&to=&member=` | their sums by day and member |
//!
//! `from` and `to` are days (`2026-11-22`, Vietnamese time, both included) or Unix milliseconds (`to` not included).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration as Wait;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use httt_domain::accounts::Action;
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::ApiError;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Calls;
use super::export::{Format, Sum, Sums};
use super::files::{Line, day_of, parse_day, parts, read_lines};

const CALLS: &str = "/api/v1/calls";
const SUMMARY: &str = "/api/v1/calls/summary";
/// The routes here, for the test of their description.
#[cfg(test)]
pub(crate) const ROUTES: [(&str, &str); 2] = [("get", CALLS), ("get", SUMMARY)];

/// Files read at a time, for all who ask: each takes a core.
const MAX_READERS: usize = 2;
/// When to come back when there are as many.
const READERS_WAIT: Wait = Wait::from_secs(5);
/// Bytes handed on in one piece.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for a caller who is slow to take them.
const MAX_PIECES: usize = 4;
/// Days summed up when nothing is said.
const SUMMARY_DAYS: i64 = 7;

const DAY_MS: i64 = 86_400_000;
/// Vietnamese time is so much ahead.
const OFFSET_MS: i64 = 7 * 3_600_000;

#[derive(Clone)]
struct Office {
    calls: Calls,
    readers: Arc<Semaphore>,
}

/// The routes; they need a session around them.
pub(crate) fn routes(calls: Calls) -> Router {
    let office = Office { calls, readers: Arc::new(Semaphore::new(MAX_READERS)) };
    Router::new().route(CALLS, get(export)).route(SUMMARY, get(summary)).with_state(office)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    from: Option<String>,
    to: Option<String>,
    member: Option<String>,
    #[serde(default)]
    format: Format,
}

/// Which records.
struct Wanted {
    from_ms: i64,
    until_ms: i64,
    member: Option<String>,
}

impl Wanted {
    fn of(asked: &Asked, now_ms: i64, days: i64) -> Result<Self, ApiError> {
        let begin = |field, text: &Option<String>| text.as_ref().map(|text| moment(field, text)).transpose();
        let first_day = (now_ms + OFFSET_MS).div_euclid(DAY_MS) - (days - 1);
        let from_ms = begin("from", &asked.from)?.map_or(first_day * DAY_MS - OFFSET_MS, |(from, _)| from);
        let until_ms = begin("to", &asked.to)?.map_or(i64::MAX, |(_, until)| until);
        Ok(Self { from_ms, until_ms, member: asked.member.clone().filter(|member| !member.is_empty()) })
    }

    fn takes(&self, record: &httt_node::exchange::rest::CallRecord) -> bool {
        (self.from_ms..self.until_ms).contains(&record.at_ms)
            && self.member.as_ref().is_none_or(|member| *member == record.member)
    }

    /// Calls `with` for each line of the files that concerns.
    fn each(&self, dir: &std::path::Path, mut with: impl FnMut(Line) -> bool) -> io::Result<()> {
        // A record stands in the file of the day on which it was written: the call's, or the next.
        let (first, last) = (day_of(self.from_ms), day_of(self.until_ms.saturating_add(DAY_MS).min(MAX_MS)));
        let mut going = true;
        for part in parts(dir)?.into_iter().filter(|part| (&first..=&last).contains(&&part.day)) {
            let read = read_lines(&part, |line| {
                let concerns = match &line {
                    Line::Call(record) => self.takes(record),
                    Line::Dropped(dropped) => (self.from_ms..self.until_ms).contains(&dropped.at_ms),
                };
                going = !concerns || with(line);
                going
            });
            match read {
                // Let go meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            if !going {
                break;
            }
        }
        Ok(())
    }
}

/// The last moment whose day has four digits of year.
const MAX_MS: i64 = 253_370_000_000_000;

/// A moment, and what follows it: for a day its begin and its end, for milliseconds the same twice.
fn moment(field: &'static str, text: &str) -> Result<(i64, i64), ApiError> {
    if let Some(day) = parse_day(text) {
        let begin = day.midnight().assume_utc().unix_timestamp() * 1_000 - OFFSET_MS;
        return Ok((begin, begin + DAY_MS));
    }
    let wrong = || {
        ApiError::bad_request(
            format!("“{field}” phải là ngày (2026-11-22) hoặc số mili giây Unix."),
            format!("\"{field}\" must be a day (2026-11-22) or Unix milliseconds."),
        )
        .with_field(field)
    };
    let at_ms: i64 = text.parse().map_err(|_| wrong())?;
    if (0..=MAX_MS).contains(&at_ms) { Ok((at_ms, at_ms)) } else { Err(wrong()) }
}

fn understood(asked: Result<Query<Asked>, QueryRejection>) -> Result<Asked, ApiError> {
    let Query(asked) = asked.map_err(|error| {
        ApiError::bad_request(
            "Tham số không đúng: from, to, member, format (csv hoặc jsonl).",
            format!("{}: from, to, member, format (csv or jsonl)", error.body_text()),
        )
    })?;
    Ok(asked)
}

impl Office {
    fn reader(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.readers).try_acquire_owned().map_err(|_| ApiError::too_many_requests(READERS_WAIT))
    }
}

async fn export(
    State(office): State<Office>,
    principal: Principal,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let asked = understood(asked)?;
    let format = asked.format;
    let wanted = Wanted::of(&asked, office.calls.now_ms(), 1)?;
    let reader = office.reader()?;
    office.calls.flush().await;
    tracing::info!(account = principal.name, "records of calls are exported");
    let (pieces, taken) = mpsc::channel(MAX_PIECES);
    let dir = office.calls.dir().to_owned();
    tokio::task::spawn_blocking(move || {
        let _reader = reader;
        write_out(&dir, &wanted, format, &pieces);
    });
    let body = Body::from_stream(futures_util::stream::unfold(taken, |mut taken| async move {
        taken.recv().await.map(|piece| (piece, taken))
    }));
    let name = if format == Format::Csv { "calls.csv" } else { "calls.jsonl" };
    let headers = [
        (CONTENT_TYPE, format.content_type().to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, body).into_response())
}

/// Writes the records, piece by piece. An error ends the answer before its end, which the caller notices.
fn write_out(dir: &std::path::Path, wanted: &Wanted, format: Format, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    let mut text = format.head().to_owned();
    let read = wanted.each(dir, |line| {
        if let Line::Call(record) = line {
            format.write(&record, &mut text);
        }
        if text.len() < PIECE_BYTES {
            return true;
        }
        // Who asked may have gone.
        pieces.blocking_send(Ok(std::mem::take(&mut text).into())).is_ok()
    });
    let last = match read {
        Ok(()) => Ok(text.into()),
        Err(error) => {
            tracing::error!(dir = %dir.display(), %error, "records of calls cannot be read");
            Err(error)
        }
    };
    let _ = pieces.blocking_send(last);
}

/// The sums.
#[derive(Debug, Serialize)]
struct SummaryAnswer {
    /// By day and member; calls of unknown callers have no member.
    days: Vec<DayAnswer>,
    /// Records that were lost, by day.
    lost: Vec<LostAnswer>,
    /// Records lost since the node started.
    lost_since_start: u64,
}

#[derive(Debug, Serialize)]
struct DayAnswer {
    day: String,
    member: String,
    #[serde(flatten)]
    sum: Sum,
}

#[derive(Debug, Serialize)]
struct LostAnswer {
    day: String,
    records: u64,
}

async fn summary(
    State(office): State<Office>,
    principal: Principal,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<SummaryAnswer>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let wanted = Wanted::of(&understood(asked)?, office.calls.now_ms(), SUMMARY_DAYS)?;
    let reader = office.reader()?;
    office.calls.flush().await;
    let dir: PathBuf = office.calls.dir().to_owned();
    let sums = tokio::task::spawn_blocking(move || {
        let _reader = reader;
        let mut sums = Sums::default();
        wanted.each(&dir, |line| {
            sums.add(&line);
            true
        })?;
        Ok::<_, io::Error>(sums)
    });
    let sums = sums.await.map_err(ApiError::internal)?.map_err(ApiError::internal)?;
    let days = sums.by_day_and_member.into_iter().map(|((day, member), sum)| DayAnswer { day, member, sum });
    let lost = sums.lost_by_day.into_iter().map(|(day, records)| LostAnswer { day, records });
    let lost_since_start = office.calls.dropped();
    Ok(Json(SummaryAnswer { days: days.collect(), lost: lost.collect(), lost_since_start }))
}
