//! What goes over the wire, counted by peer and lane.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use httt_feed::Lane;
use httt_wire::Message;

/// What calls are about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Entries of feeds of this lane.
    Lane(Lane),
    /// Media files.
    Media,
    /// Heads: what there is to ask for.
    Heads,
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lane(lane) => lane.as_str(),
            Self::Media => "media",
            Self::Heads => "heads",
        })
    }
}

/// What went one way since the node started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Messages: requests one way, answers the other.
    pub messages: u64,
    /// Bytes of the messages as sent, packed; without what HTTP/2 and TLS add.
    pub wire_bytes: u64,
    /// Sealed batches in them.
    pub entries: u64,
    /// Bytes of these, unpacked; of media, bytes of the file.
    pub content_bytes: u64,
}

impl Flow {
    fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.wire_bytes += more.wire_bytes;
        self.entries += more.entries;
        self.content_bytes += more.content_bytes;
    }

    /// One message that carries nothing of its own.
    pub fn message(message: &impl Message) -> Self {
        Self { messages: 1, wire_bytes: message.encoded_len() as u64, ..Self::default() }
    }

    /// With these entries, unpacked.
    #[must_use]
    pub fn with_entries(self, entries: &[Bytes]) -> Self {
        self.with_content((entries.len(), entries.iter().map(Bytes::len).sum()))
    }

    /// With so many entries of so many bytes, unpacked; of a media file, 0 and its bytes.
    #[must_use]
    pub fn with_content(self, (entries, bytes): (usize, usize)) -> Self {
        Self { entries: entries as u64, content_bytes: bytes as u64, ..self }
    }
}

/// Both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// From this node to the peer.
    pub sent: Flow,
    /// From the peer to this node.
    pub received: Flow,
}

/// Counts by peer and topic since the node started. Cheap to clone; all clones count together.
///
/// Peers are members that proved who they are, or the one configured way up: so there are only so many rows.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<Mutex<BTreeMap<(String, Topic), Passed>>>);

impl Meter {
    /// One call: what was sent, what came.
    pub fn count(&self, peer: &str, topic: Topic, sent: Flow, received: Flow) {
        let mut rows = self.rows();
        let row = match rows.get_mut(&(peer.to_owned(), topic)) {
            Some(row) => row,
            None => rows.entry((peer.to_owned(), topic)).or_default(),
        };
        row.sent.add(sent);
        row.received.add(received);
    }

    /// Every row, by peer and topic.
    pub fn read(&self) -> Vec<(String, Topic, Passed)> {
        self.rows().iter().map(|((peer, topic), passed)| (peer.clone(), *topic, *passed)).collect()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<(String, Topic), Passed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use httt_wire::exchange as wire;

    #[test]
    fn calls_add_up_by_peer_and_topic() {
        let (meter, status) = (Meter::default(), Topic::Lane(Lane::Status));
        let entries = [Bytes::from_static(b"12345"), Bytes::from_static(b"678")];
        let request = wire::PushRequest { entries: entries.to_vec(), ..Default::default() };
        let sent = Flow::message(&request).with_entries(&entries);
        let received = Flow::message(&wire::PushResponse::default());
        meter.count("H24", status, sent, received);
        meter.clone().count("H24", status, sent, received);
        meter.count("H55", Topic::Media, Flow::default().with_content((0, 9)), Flow::default());
        let rows = meter.read();
        let [(h24, _, passed), (h55, Topic::Media, media)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((h24.as_str(), h55.as_str()), ("H24", "H55"));
        assert_eq!((passed.sent.messages, passed.sent.entries, passed.sent.content_bytes), (2, 4, 16));
        assert_eq!(passed.sent.wire_bytes, 2 * (2 + 5 + 2 + 3));
        assert_eq!(passed.received, Flow { messages: 2, ..Flow::default() });
        assert_eq!(media.sent.content_bytes, 9);
    }
}
