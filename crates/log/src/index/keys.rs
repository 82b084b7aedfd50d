//! Keys of the index. Integers are big-endian so that keys sort as the numbers do; names carry their length.
//!
//! ```text
//! m                                    → Meta: format, log id, chunk, end, marker, group, compact Merkle range
//! p  position                          → chunk, offset, length, leaf hash
//! t  level  number                     → hash of a full subtree over 256^level leaves
//! f  origin audience lane  sequence    → position, digest, committed at
//! h  origin audience lane              → sequence, digest, position of the feed's head
//! e  event id  origin                  → position, place in the batch
//! s  origin stream  version            → a stream's events in one batch, from this version on: position and place of
//!                                        the first, version of the last, lane, audience
//! ```
//!
//! Event ids are kept per origin: else one member could take the id of another's event and have it refused.

use httt_feed::FeedId;
use uuid::Uuid;

pub(crate) const META: &[u8] = b"m";

/// A name with its length before it, so that no name is the beginning of another's key. Longer ones do not occur
/// (`MAX_NAME_BYTES` is 200); were one to, it would only be found by its beginning.
fn push_name(key: &mut Vec<u8>, name: &str) {
    let bytes = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
    key.push(bytes.len() as u8);
    key.extend_from_slice(bytes);
}

fn push_feed(key: &mut Vec<u8>, feed: &FeedId) {
    push_name(key, feed.origin.as_str());
    push_name(key, feed.audience.as_str());
    key.push(feed.lane.to_wire() as u8);
}

pub(crate) fn position(position: u64) -> Vec<u8> {
    let mut key = b"p".to_vec();
    key.extend_from_slice(&position.to_be_bytes());
    key
}

/// Level 0 are the leaves, which live in the position rows.
pub(crate) fn node(level: u8, number: u64) -> Vec<u8> {
    let mut key = vec![b't', level];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

pub(crate) fn batch(feed: &FeedId, sequence: u64) -> Vec<u8> {
    let mut key = b"f".to_vec();
    push_feed(&mut key, feed);
    key.extend_from_slice(&sequence.to_be_bytes());
    key
}

pub(crate) fn head(feed: &FeedId) -> Vec<u8> {
    let mut key = b"h".to_vec();
    push_feed(&mut key, feed);
    key
}

/// All heads are in `HEADS_FROM..HEADS_TO`.
pub(crate) const HEADS_FROM: &[u8] = b"h";
pub(crate) const HEADS_TO: &[u8] = b"i";

/// The feed in a head's key.
pub(crate) fn feed_of_head(key: &[u8]) -> Option<FeedId> {
    let (origin, rest) = take_name(key.strip_prefix(b"h")?)?;
    let (audience, rest) = take_name(rest)?;
    let [lane] = rest else { return None };
    let feed = httt_wire::exchange::FeedId {
        origin: origin.to_owned(),
        audience: audience.to_owned(),
        lane: i32::from(*lane),
    };
    FeedId::from_wire(&feed).ok()
}

fn take_name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

pub(crate) fn event(id: Uuid, origin: &str) -> Vec<u8> {
    let mut key = b"e".to_vec();
    key.extend_from_slice(id.as_bytes());
    key.extend_from_slice(origin.as_bytes());
    key
}

/// Bounds of the rows of one event id, whatever the origin.
pub(crate) fn events_of_id(id: Uuid) -> (Vec<u8>, Vec<u8>) {
    let from = event(id, "");
    let mut to = from.clone();
    to.push(u8::MAX);
    (from, to)
}

pub(crate) fn stream_run(origin: &str, stream: &str, version: u64) -> Vec<u8> {
    let mut key = b"s".to_vec();
    push_name(&mut key, origin);
    push_name(&mut key, stream);
    key.extend_from_slice(&version.to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_read_back_and_positions_sort() {
        for text in ["TW→*/content", "H24.12→TW/status"] {
            let feed: FeedId = text.parse().expect(text);
            assert_eq!(feed_of_head(&head(&feed)), Some(feed));
        }
        assert!(position(255) < position(256));
        assert!(stream_run("A", "s", 9) < stream_run("A", "s", 300));
        assert_eq!(feed_of_head(b"h\x05A"), None);
    }
}
