//! What happens to drafts, and how it stands in the log.

use httt_wire::bulletin as wire;
use httt_wire::{Message, Name};

use super::{BULLETIN_STREAM, DRAFT_STREAM};
use crate::event::{DomainEvent, Lane, is_kind};

/// What happened to a draft, or to the bulletin made of it.
#[derive(Debug, Clone, PartialEq)]
pub enum DraftEvent {
    /// `httt.bulletin.v1.DraftCreated`
    Created(wire::DraftCreated),
    /// `httt.bulletin.v1.DraftEdited`
    Edited(wire::DraftEdited),
    /// `httt.bulletin.v1.DraftSubmitted`
    Submitted(wire::DraftSubmitted),
    /// `httt.bulletin.v1.DraftReturned`
    Returned(wire::DraftReturned),
    /// `httt.bulletin.v1.DraftRejected`
    Rejected(wire::DraftRejected),
    /// `httt.bulletin.v1.DraftApproved`
    Approved(wire::DraftApproved),
    /// `httt.bulletin.v1.DraftPublished`
    Published(wire::DraftPublished),
    /// `httt.bulletin.v1.BulletinPublished`, shared.
    BulletinPublished(Lane, wire::BulletinPublished),
    /// `httt.bulletin.v1.BulletinWithdrawn`, shared.
    BulletinWithdrawn(Lane, wire::BulletinWithdrawn),
}

/// The lane of a published bulletin.
pub fn lane_of(emergency: bool) -> Lane {
    if emergency { Lane::Emergency } else { Lane::Content }
}

impl DraftEvent {
    /// The event to append, for the bulletin with this identifier.
    pub fn to_domain(&self, bulletin: &str) -> DomainEvent {
        let draft = format!("{DRAFT_STREAM}{bulletin}");
        let shared = format!("{BULLETIN_STREAM}{bulletin}");
        match self {
            Self::Created(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::Edited(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::Submitted(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::Returned(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::Rejected(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::Approved(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::Published(event) => DomainEvent::of(Lane::Local, draft, event),
            Self::BulletinPublished(lane, event) => DomainEvent::of(*lane, shared, event),
            Self::BulletinWithdrawn(lane, event) => DomainEvent::of(*lane, shared, event),
        }
    }

    /// Reads an event back; none for other types, other lanes and undecodable bytes.
    pub fn decode(lane: i32, kind: &str, data: &[u8]) -> Option<Self> {
        let lane = Lane::try_from(lane).ok()?;
        match lane {
            Lane::Local => decode_draft(kind, data),
            Lane::Emergency | Lane::Content => {
                if is_kind::<wire::BulletinPublished>(kind) {
                    wire::BulletinPublished::decode(data).ok().map(|event| Self::BulletinPublished(lane, event))
                } else if is_kind::<wire::BulletinWithdrawn>(kind) {
                    wire::BulletinWithdrawn::decode(data).ok().map(|event| Self::BulletinWithdrawn(lane, event))
                } else {
                    None
                }
            }
            _ => None,
        }
    }

    /// The name of what happened, for histories.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Created(_) => "created",
            Self::Edited(_) => "edited",
            Self::Submitted(_) => "submitted",
            Self::Returned(_) => "returned",
            Self::Rejected(_) => "rejected",
            Self::Approved(_) => "approved",
            Self::Published(_) => "published",
            Self::BulletinPublished(..) => "bulletin_published",
            Self::BulletinWithdrawn(..) => "withdrawn",
        }
    }

    /// The reason given, if the event has one.
    pub fn reason(&self) -> &str {
        match self {
            Self::Returned(event) => &event.reason,
            Self::Rejected(event) => &event.reason,
            Self::BulletinWithdrawn(_, event) => &event.reason,
            _ => "",
        }
    }
}

fn decode_draft(kind: &str, data: &[u8]) -> Option<DraftEvent> {
    fn is<M: Message + Name + Default>(kind: &str, data: &[u8]) -> Option<M> {
        is_kind::<M>(kind).then(|| M::decode(data).ok()).flatten()
    }
    None.or_else(|| is(kind, data).map(DraftEvent::Created))
        .or_else(|| is(kind, data).map(DraftEvent::Edited))
        .or_else(|| is(kind, data).map(DraftEvent::Submitted))
        .or_else(|| is(kind, data).map(DraftEvent::Returned))
        .or_else(|| is(kind, data).map(DraftEvent::Rejected))
        .or_else(|| is(kind, data).map(DraftEvent::Approved))
        .or_else(|| is(kind, data).map(DraftEvent::Published))
}
