//! A file with what is to be admitted comes in, and its reading waits for the operator's order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json as Answer;
use axum::extract::{Path, Request, State};
use httt_domain::accounts::Action;
use httt_feed::Digest;
use httt_node::accounts::Principal;
use httt_node::byhand::Pieces;
use httt_node::clock;
use httt_node::desk::actor;
use httt_node::exchange::carry::{Decoder, FormatError, Part};
use httt_node::http::ApiError;
use tokio::sync::Semaphore;

use super::admission::other_received;
use super::{Admission, AdmissionAnswer, Office, Reading, Refusal};

/// Largest file: months of batches, without media.
pub const MAX_ADMISSION_FILE_BYTES: u64 = 256 << 20;
/// Bytes handed to the decoder at a time.
const SLICE_BYTES: usize = 64 << 10;
/// Files that are read at a time.
const AT_ONCE: usize = 2;
/// Readings that wait for an order at a time, 6 MiB each at most; the oldest goes first.
const MAX_WAITING: usize = 8;
/// How long one waits: a telephone call, and somebody to be found first.
const WAITS_MS: i64 = 60 * 60 * 1_000;

static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// Readings that wait for an order, in this process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting(Arc<Mutex<VecDeque<Waits>>>);

#[derive(Debug)]
struct Waits {
    until_ms: i64,
    admission: Arc<Admission>,
}

impl Waiting {
    fn keep(&self, now_ms: i64, admission: Arc<Admission>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|known| known.admission != admission);
        while waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(Waits { until_ms: now_ms.saturating_add(WAITS_MS), admission });
    }

    /// The one of this name, if it waits still.
    pub(super) fn get(&self, now_ms: i64, name: &str) -> Option<Arc<Admission>> {
        let name: Digest = name.trim().parse().ok()?;
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|known| known.until_ms > now_ms);
        waiting.iter().map(|known| &known.admission).find(|admission| admission.id() == name).cloned()
    }
}

/// Reads a file and says what of it would be admitted. Changes nothing.
pub(super) async fn read(
    State(office): State<Office>,
    principal: Principal,
    Path(code): Path<String>,
    request: Request,
) -> Result<Answer<AdmissionAnswer>, ApiError> {
    let account = actor(&principal, Action::ManageMembers)?.account.to_owned();
    let _place = PLACES.try_acquire().map_err(|_| {
        ApiError::unavailable("Đang đọc các tệp khác. Hãy thử lại sau.", "Other files are being read. Try again later.")
    })?;
    let mut pieces = Pieces::of(request, MAX_ADMISSION_FILE_BYTES)?;
    let heads = office.store.heads(0);
    let mut reading = Reading::new(&office.node.code, &code, office.service.directory(), &heads)?;
    let mut decoder = Decoder::default();
    while let Some(piece) = pieces.next().await? {
        for slice in piece.chunks(SLICE_BYTES) {
            decoder.push(slice);
            reading = match decode(&mut decoder, reading).await {
                Ok(reading) => reading,
                Err(refusal) => {
                    pieces.pass_over().await?;
                    return Err(refusal.into());
                }
            };
        }
    }
    decoder.finish().map_err(Refusal::BadFile)?;
    let received: Vec<_> = reading.received().map(|(feed, last)| (feed.clone(), last)).collect();
    for (feed, last) in received {
        let known = office.store.digest(&feed, last.sequence).await.map_err(ApiError::internal)?;
        if known.is_some_and(|known| known != last.digest) {
            return Err(other_received(&feed, last.sequence).into());
        }
    }
    let admission = Arc::new(reading.finish()?);
    let answer = AdmissionAnswer::of(&admission);
    tracing::info!(account, member = answer.member, batches = answer.batches, "a file was read that may be admitted");
    office.waiting.keep(clock::system()(), admission);
    Ok(Answer(answer))
}

/// Takes what the decoder has ready.
async fn decode(decoder: &mut Decoder, mut reading: Reading) -> Result<Reading, Refusal> {
    loop {
        match decoder.next_part() {
            Ok(Some(Part::Entries { feed, entries })) => {
                // Checking signatures is work for a thread that may be busy.
                let checked = tokio::task::spawn_blocking(move || {
                    let outcome = reading.entries(&feed, &entries);
                    outcome.map(|()| reading)
                });
                reading = checked.await.map_err(|_| broken_off())??;
            }
            Ok(Some(_)) => {}
            Ok(None) => return Ok(reading),
            Err(error) => return Err(Refusal::BadFile(error)),
        }
    }
}

fn broken_off() -> Refusal {
    let fault = httt_node::exchange::carry::Fault::Malformed("it could not be read to its end".into());
    Refusal::BadFile(FormatError { offset: 0, fault })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(member: &str) -> Arc<Admission> {
        Arc::new(Admission::none_of(member.parse().expect("code")))
    }

    #[test]
    fn a_reading_waits_for_its_order_and_no_longer_than_an_hour() {
        let (waiting, one) = (Waiting::default(), admission("H24"));
        let name = one.id().to_string();
        waiting.keep(0, Arc::clone(&one));
        assert_eq!(waiting.get(WAITS_MS - 1, &name), Some(one));
        assert_eq!(waiting.get(WAITS_MS - 1, "abc"), None);
        assert_eq!(waiting.get(WAITS_MS, &name), None);
    }

    #[test]
    fn the_oldest_reading_makes_room() {
        let waiting = Waiting::default();
        let all: Vec<_> = (0..=MAX_WAITING).map(|number| admission(&format!("H{number}"))).collect();
        all.iter().for_each(|one| waiting.keep(0, Arc::clone(one)));
        // Sent again it does not wait twice.
        waiting.keep(0, Arc::clone(&all[MAX_WAITING]));
        let there = all.iter().map(|one| waiting.get(1, &one.id().to_string()).is_some());
        assert_eq!(there.collect::<Vec<_>>(), [vec![false], vec![true; MAX_WAITING]].concat());
    }
}
