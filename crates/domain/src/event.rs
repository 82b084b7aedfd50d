//! What a decision hands to the service that appends it.

use httt_wire::{Bytes, Message, Name};

/// The lane an event travels in (`httt.feed.v1.Lane`).
pub use httt_wire::feed::Lane;

/// Largest encoded event of this crate, in bytes. The log takes entries of at most 65,535 bytes and a batch of
/// 60 KiB; this leaves room for the envelope and the signature.
pub const MAX_EVENT_BYTES: usize = 48 * 1024;

/// One event to append, whatever its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainEvent {
    /// The lane its stream lives in; a stream never changes lane.
    pub lane: Lane,
    /// The agency it is news for, when there is exactly one (delivery reports go to the publisher).
    /// Otherwise the caller knows the audience from the lane and its own place in the exchange.
    pub toward: Option<String>,
    /// The stream, e.g. `draft/{id}`.
    pub stream: String,
    /// The full protobuf name of the message in `data`.
    pub kind: String,
    /// The encoded message.
    pub data: Bytes,
}

impl DomainEvent {
    /// Encodes `message` for `stream`.
    pub fn of<M: Message + Name>(lane: Lane, stream: impl Into<String>, message: &M) -> Self {
        Self { lane, toward: None, stream: stream.into(), kind: M::full_name(), data: message.encode_to_vec().into() }
    }

    /// The same event, addressed to one agency.
    #[must_use]
    pub fn toward(mut self, agency: impl Into<String>) -> Self {
        self.toward = Some(agency.into());
        self
    }
}

/// Whether `kind` is the full name of `M`, without making that name: models ask it of every event, many times.
pub(crate) fn is_kind<M: Name>(kind: &str) -> bool {
    let package = kind.strip_suffix(M::NAME).and_then(|rest| rest.strip_suffix('.'));
    package == Some(M::PACKAGE)
}

#[cfg(test)]
mod tests {
    use httt_wire::bulletin::{BulletinPublished, BulletinWithdrawn};

    use super::*;

    #[test]
    fn a_kind_is_the_full_name_and_nothing_else() {
        assert!(is_kind::<BulletinPublished>(&BulletinPublished::full_name()));
        for other in
            ["BulletinPublished", ".BulletinPublished", "httt.bulletin.v1.", "httt.bulletin.v2.BulletinPublished", ""]
        {
            assert!(!is_kind::<BulletinPublished>(other), "{other}");
        }
        assert!(!is_kind::<BulletinWithdrawn>(&BulletinPublished::full_name()));
        assert!(!is_kind::<BulletinPublished>(&format!("x{}", BulletinPublished::full_name())));
    }
}
