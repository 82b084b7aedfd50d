//! Whether a batch is the next of its feed.

use crate::{Head, Refusal, VerifiedBatch};

/// Where a batch stands to the head held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is the next one.
    Next,
    /// Its sequence is held already; whether it is the same batch only the holder can say.
    Held,
}

/// Says whether `batch` follows `head` (`None`: the feed is empty). The one place for the rule *no gap, no fork*.
/// Who holds nothing of a feed may begin with its first batch, or with one that restates.
///
/// # Errors
/// [`Refusal::Gap`], [`Refusal::BrokenChain`], and [`Refusal::Fork`] where the head itself shows it.
pub fn follow(head: Option<&Head>, batch: &VerifiedBatch) -> Result<Link, Refusal> {
    let expected = head.map_or(1, |head| head.sequence + 1);
    let sequence = batch.sequence();
    if head.is_none() && batch.restates() {
        return Ok(Link::Next);
    }
    if sequence < expected {
        return match head {
            Some(head) if head.sequence == sequence && head.digest != batch.digest() => {
                Err(Refusal::Fork { feed: batch.feed().clone(), sequence })
            }
            _ => Ok(Link::Held),
        };
    }
    if sequence > expected {
        return Err(Refusal::Gap { feed: batch.feed().clone(), expected, got: sequence });
    }
    if batch.previous() != head.map(|head| head.digest) {
        return Err(Refusal::BrokenChain { feed: batch.feed().clone(), sequence });
    }
    Ok(Link::Next)
}
