//! Where a held feed begins, and where it last says again all that it stands for.
//!
//! Neither is in the index: nearly all feeds begin at 1, and only the lane `status` restates, so both are looked for
//! when they are first asked for, and remembered.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use httt_feed::{FeedId, Lane};

use crate::ReadError;
use crate::shared::Shared;

/// Batches looked at, from the latest back, for one that restates: some days of a feed that restates daily.
const MAX_LOOKED_AT: u64 = 16_384;

/// What was found before.
#[derive(Debug, Default)]
pub(crate) struct Restated {
    /// The first sequence held. It never changes.
    begins: Mutex<HashMap<FeedId, u64>>,
    /// The sequence up to which was looked, and the latest one found that restates.
    latest: Mutex<HashMap<FeedId, (u64, Option<u64>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// The first sequence held of a feed; `None`: nothing of it is held.
    pub(crate) fn begins(&self, feed: &FeedId) -> Result<Option<u64>, ReadError> {
        let Some(head) = self.head(feed) else { return Ok(None) };
        if let Some(first) = lock(&self.restated.begins).get(feed) {
            return Ok(Some(*first));
        }
        // What is held is one stretch, so the first of it is found by halving.
        let (mut low, mut high) = (1, head.sequence);
        while low < high {
            // Nearly always the first look is the last.
            let middle = if low == 1 && high == head.sequence { 1 } else { low + (high - low) / 2 };
            match self.index.batches(feed, middle, middle)?.is_empty() {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        // A feed begins with its first batch or with one that restates; anything else is an index that forgot.
        // Where it is archived and not at hand, what follows can be read all the same.
        let restates = match self.batch(feed, low) {
            _ if low == 1 => true,
            Err(ReadError::ArchiveMissing { .. }) => true,
            Err(ReadError::Gone(gone)) => gone.restates,
            found => found?.is_some_and(|(entry, _)| entry.batch.restates),
        };
        if !restates {
            return Err(self.doubted(format!("it does not know sequence {} of {feed}", low - 1)));
        }
        lock(&self.restated.begins).insert(feed.clone(), low);
        Ok(Some(low))
    }

    /// The latest sequence of a feed that restates, if there is one among the last [`MAX_LOOKED_AT`].
    pub(crate) fn restated(&self, feed: &FeedId) -> Result<Option<u64>, ReadError> {
        let head = match self.head(feed) {
            Some(head) if feed.lane == Lane::Status => head.sequence,
            _ => return Ok(None),
        };
        let (looked, known) = lock(&self.restated.latest).get(feed).copied().unwrap_or((0, None));
        let first = self.begins(feed)?.unwrap_or(1);
        let from = (looked + 1).max(first).max(head.saturating_sub(MAX_LOOKED_AT - 1));
        let mut latest = known;
        for sequence in (from..=head).rev() {
            let restates = match self.batch(feed, sequence) {
                Err(ReadError::Gone(gone)) => gone.restates,
                found => found?.is_some_and(|(entry, _)| entry.batch.restates),
            };
            if restates {
                latest = Some(sequence);
                break;
            }
        }
        // Somebody who asked at the same time may have looked further.
        let mut all = lock(&self.restated.latest);
        let held = all.entry(feed.clone()).or_insert((0, None));
        *held = (*held).max((head, latest));
        Ok(latest)
    }
}
