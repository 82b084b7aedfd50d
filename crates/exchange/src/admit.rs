//! What is done with entries that arrive, whoever carried them.

use std::borrow::Cow;

use bytes::Bytes;
use httt_feed::{Directory, FeedId, Head, Lane, Refusal, VerifiedBatch, follow, parse};

/// The good prefix of what arrived, and why the rest is not good.
#[derive(Debug, Default)]
pub struct Admission {
    /// Verified and in sequence; some may be held already, which the log finds out by their digest.
    pub batches: Vec<VerifiedBatch>,
    /// The first entry that was refused, and why.
    pub refused: Option<(Bytes, Refusal)>,
}

/// Verifies `entries` of `feed` against the directory and against `head`, in order, and stops at the first bad one.
///
/// This is the one place where *nothing unproven enters* is decided for gateway, adapter and members alike.
pub fn admit(directory: &Directory, feed: &FeedId, head: Option<Head>, entries: &[Bytes]) -> Admission {
    let mut admission = Admission::default();
    let mut head = head;
    // A directory batch may be verified by what the one before it says, and the first ones by a later one.
    let mut directory = match founded(directory, feed, entries) {
        Some(founded) => Cow::Owned(founded),
        None => Cow::Borrowed(directory),
    };
    for bytes in entries {
        let checked = parse(bytes.clone()).and_then(|batch| {
            if batch.feed() != feed {
                return Err(Refusal::Malformed(format!("it belongs to {}, not to {feed}", batch.feed())));
            }
            directory.verify(batch)
        });
        let verdict = checked.and_then(|batch| follow(head.as_ref(), &batch).map(|_| batch));
        match verdict {
            Ok(batch) => {
                if head.is_none_or(|head| batch.sequence() > head.sequence) {
                    head = Some(batch.head());
                }
                if feed.lane == Lane::Directory {
                    directory.to_mut().apply(feed, &batch.batch().events);
                }
                admission.batches.push(batch);
            }
            Err(refusal) => {
                admission.refused = Some((bytes.clone(), refusal));
                break;
            }
        }
    }
    admission
}

/// See [`Directory::founded_by`]. Only while no gateway is known; so entries are read twice once in a node's life.
fn founded(directory: &Directory, feed: &FeedId, entries: &[Bytes]) -> Option<Directory> {
    if feed.lane != Lane::Directory || directory.gateway().is_some() {
        return None;
    }
    let batches: Vec<_> = entries.iter().map_while(|bytes| parse(bytes.clone()).ok()).collect();
    directory.founded_by(&batches)
}
