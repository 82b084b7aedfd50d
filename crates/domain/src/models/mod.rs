//! Read models: what a node knows, folded from its log.
//!
//! A model is a function of the facts in their order and of nothing else: `fold(a) then fold(b) == fold(a ++ b)`, and its
//! JSON is canonical because everything is kept in ordered maps. A fact it does not know, cannot decode, or that
//! contradicts the stream it stands in, changes nothing; no bytes make it panic.

mod bulletins;
mod clusters;
mod deliveries;
mod drafts;
mod playback;
mod reports;
mod schedules;

use httt_wire::feed::{Batch, Event};
use httt_wire::{Message, Name};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use bulletins::{Bulletins, PublishedBulletin, Withdrawal};
pub use clusters::{ClusterView, Clusters, Totals};
pub use deliveries::{Deliveries, Delivery, DeliveryProgress, NodeProgress};
pub use drafts::{DraftView, Drafts, HistoryEntry};
pub use playback::{BulletinPlayback, PLAYBACK_STREAM, PlayCount, Playback};
pub use reports::{Filed, Reports, Submitted};
pub use schedules::{ScheduleView, Schedules};

use crate::event::{Lane, is_kind};

/// One event as the log holds it, with what its envelope and batch say.
#[derive(Debug, Clone, Copy)]
pub struct Fact<'a> {
    /// Agency code of the writer.
    pub origin: &'a str,
    /// Agency code, or `*`.
    pub audience: &'a str,
    /// `httt.feed.v1.Lane`
    pub lane: i32,
    /// The batch's place in its feed.
    pub sequence: u64,
    /// The stream; unique within the origin.
    pub stream: &'a str,
    /// 1-based place in the stream.
    pub version: u64,
    /// Full protobuf name of the message in `data`.
    pub kind: &'a str,
    /// Unix milliseconds by the origin's clock; information, never proof.
    pub occurred_at_ms: i64,
    /// Account or component that caused it.
    pub actor: &'a str,
    /// The encoded message.
    pub data: &'a [u8],
}

impl<'a> Fact<'a> {
    /// An event of `batch`.
    pub fn of(batch: &'a Batch, event: &'a Event) -> Self {
        Self {
            origin: &batch.origin,
            audience: &batch.audience,
            lane: batch.lane,
            sequence: batch.sequence,
            stream: &event.stream,
            version: event.version,
            kind: &event.r#type,
            occurred_at_ms: event.occurred_at_ms,
            actor: &event.actor,
            data: &event.data,
        }
    }

    /// Whether the message is an `M`.
    pub fn is<M: Name>(&self) -> bool {
        is_kind::<M>(self.kind)
    }

    /// The message, if it is an `M`.
    pub fn read<M: Message + Name + Default>(&self) -> Option<M> {
        self.is::<M>().then(|| M::decode(self.data).ok()).flatten()
    }

    /// What follows the prefix in the stream's name.
    pub(crate) fn id(&self, prefix: &str) -> Option<&'a str> {
        self.stream.strip_prefix(prefix).filter(|id| !id.is_empty())
    }

    pub(crate) fn is_lane(&self, lane: Lane) -> bool {
        self.lane == lane as i32
    }
}

/// State that is kept as a snapshot. Its JSON is canonical: equal states are equal bytes, and what is read back from them
/// is equal again.
pub trait Model: Serialize + DeserializeOwned + Default + Send + Sync + 'static {
    /// Its name, for snapshots and digests.
    const NAME: &'static str;
    /// Raised whenever the same facts make another state, or the same state other bytes: snapshots of another version
    /// are not used, the model is folded anew from the first fact.
    const VERSION: u32 = 1;
    /// Whether it is made of what the gateway, or its own node, said alone: retention, which lets nothing of these go,
    /// takes nothing from it.
    const OWN_WORDS_ONLY: bool = false;
}

/// A model folded from facts alone.
pub trait ReadModel: Model {
    /// Takes in the next fact.
    fn apply(&mut self, fact: &Fact<'_>);
}
