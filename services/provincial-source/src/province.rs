//! What every part of the running node shares.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use httt_domain::area::Areas;
use httt_domain::bulletin::Content;
use httt_domain::cluster::{PlayedTracker, StatusTracker};
use httt_domain::device::{DeviceBulletin, StatusReport};
use httt_domain::models::PublishedBulletin;
use httt_domain::schedule::{DELIVERY_STREAM, KnownBulletin};
use httt_feed::{AgencyCode, Audience, Digest, Lane};
use httt_log::{CommitError, NewEvent, Transaction};
use httt_node::desk::Desk;
use httt_node::http::ApiError;
use httt_wire::{Message, Name};
use ring::digest::{Context, SHA256};
use tokio::sync::{MutexGuard, Semaphore, watch};
use uuid::{Builder, Uuid};

use crate::config::DevicesConfig;
use crate::hub::Hub;
use crate::models::ProvinceModels;
use crate::quota::Quota;
use crate::shelf::Shelf;
use crate::tokens::Tokens;

/// What the node itself appends is by this actor.
pub(crate) const ACTOR: &str = "provincial-source";
/// Where devices fetch media.
pub(crate) const MEDIA_PATH: &str = "/thiet-bi/media/";

/// The running node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Province(Arc<Inner>);

impl Province {
    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// For what the province itself owns: the province, while there is one.
    pub(crate) fn weak(&self) -> impl Fn() -> Option<Self> + Send + Sync + 'static {
        let inner = Arc::downgrade(&self.0);
        move || inner.upgrade().map(Self)
    }
}

impl Deref for Province {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// The parts.
pub(crate) struct Inner {
    /// Log, models, accounts, the way up.
    pub(crate) desk: Desk<ProvinceModels>,
    /// The areas in force.
    pub(crate) areas: &'static Areas,
    /// Code of the area this node answers for.
    pub(crate) home: String,
    /// The ministry.
    pub(crate) ministry: AgencyCode,
    /// Section `[devices]`.
    pub(crate) settings: DevicesConfig,
    /// Device log-ins.
    pub(crate) tokens: Tokens,
    /// What wakes devices.
    pub(crate) hub: Hub,
    /// Media held.
    pub(crate) shelf: Shelf,
    /// What clusters last reported.
    pub(crate) statuses: Mutex<Statuses>,
    /// Who started what, and was not told of yet: emergencies, and the others.
    pub(crate) played: Mutex<PlayedNews>,
    /// Schedules as devices get them, by commune.
    pub(crate) schedules: Mutex<HashMap<String, CachedSchedules>>,
    /// Held while ordinals are given or a schedule is decided on, see [`Inner::turn`]. Their streams move with every status tick and with
    /// every device that answers, so expected versions of the streams would refuse people for no reason.
    pub(crate) deciding: tokio::sync::Mutex<()>,
    /// How much each device may write.
    pub(crate) quota: Quota,
    /// Log-ins of devices under way.
    pub(crate) log_ins: Semaphore,
    /// Turns true when the service stops.
    pub(crate) stop: watch::Receiver<bool>,
}

/// What clusters last reported; in memory alone.
#[derive(Default)]
pub(crate) struct Statuses {
    /// From reports to changes.
    pub(crate) tracker: StatusTracker,
    /// The latest report of each, and when it came, Unix ms.
    pub(crate) latest: HashMap<u32, (i64, StatusReport)>,
}

/// Who started what, and was not told of yet.
#[derive(Default)]
pub(crate) struct PlayedNews {
    /// Of emergencies.
    pub(crate) emergencies: PlayedTracker,
    /// Of everything else.
    pub(crate) others: PlayedTracker,
}

/// A commune's answer to its devices.
pub(crate) struct CachedSchedules {
    /// The commune's revision it was made at.
    pub(crate) revision: u64,
    /// The minute it was made in: bulletins expire meanwhile.
    pub(crate) minute: i64,
    /// The whole answer.
    pub(crate) answer: Bytes,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An event id derived from what the event says, so that saying it twice is saying it once.
pub(crate) fn derived_id(parts: &[&str]) -> Uuid {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

impl Inner {
    /// This node's agency code.
    pub(crate) fn own(&self) -> &str {
        self.desk.node.code.as_str()
    }

    /// One's turn to decide, on models that know everything said before.
    ///
    /// # Errors
    /// 503: they are behind the log. What was decided on them could be wrong, and would be sealed for good.
    pub(crate) async fn turn(&self) -> Result<MutexGuard<'_, ()>, ApiError> {
        let turn = self.deciding.lock().await;
        // Looked at within the turn: who had it before may have written.
        if self.desk.models.reached(self.desk.node.log.len()).await {
            return Ok(turn);
        }
        Err(ApiError::unavailable(
            "Hệ thống đang xử lý dữ liệu mới nhận. Chưa có gì được ghi; hãy thử lại sau ít phút.",
            "The node is still taking in what it received. Nothing was written; try again in some minutes.",
        ))
    }

    /// Everything that is for the ministry.
    pub(crate) fn upward(&self) -> Audience {
        Audience::One(self.ministry.clone())
    }

    /// Whether bulletins of this agency are taken here: the ministry's and the node's own, nobody else's. What is not
    /// provably from its source is never played.
    pub(crate) fn takes_from(&self, publisher: &str) -> bool {
        publisher == self.ministry.as_str() || publisher == self.own()
    }

    /// Whether a bulletin is for this province, or part of it.
    pub(crate) fn concerns(&self, bulletin: &PublishedBulletin) -> bool {
        let meant = |target: &String| {
            Areas::is_nation(target) || self.areas.covers(target, &self.home) || self.areas.covers(&self.home, target)
        };
        let targets = &bulletin.content.target_areas;
        self.takes_from(&bulletin.publisher) && (targets.is_empty() || targets.iter().any(meant))
    }

    /// Whether what a bulletin says now is for a commune. What it was offered to before a correction does not count.
    pub(crate) fn is_for(&self, content: &Content, commune: &str) -> bool {
        !content.communes_within(self.areas, commune).is_empty()
    }

    /// Whom the events of a bulletin's stream `delivery/` are for, and on which lane; always the same for one bulletin.
    pub(crate) fn delivery_feed(&self, bulletin: &PublishedBulletin) -> Option<(Audience, Lane)> {
        let publisher = AgencyCode::new(&bulletin.publisher).ok()?;
        let lane = if bulletin.publisher == self.own() {
            Lane::Local
        } else if bulletin.content.priority.is_emergency() {
            Lane::Emergency
        } else {
            Lane::Report
        };
        Some((Audience::One(publisher), lane))
    }

    /// An event of a bulletin's stream `delivery/`.
    pub(crate) fn delivery_event<M: Message + Name>(
        &self,
        bulletin: &PublishedBulletin,
        message: &M,
    ) -> Option<NewEvent> {
        let (audience, lane) = self.delivery_feed(bulletin)?;
        let stream = format!("{DELIVERY_STREAM}{}", bulletin.bulletin);
        Some(NewEvent::of(audience, lane, stream, message).with_actor(ACTOR))
    }

    /// Appends an event whose id is derived from what it is about. One that is there already, be it with another time
    /// in it, is success. Gives the log's length after it.
    pub(crate) async fn append_once(&self, event: NewEvent) -> Result<u64, CommitError> {
        match self.desk.node.log.commit(Transaction::append([event])).await {
            Ok(committed) => Ok(committed.next),
            Err(CommitError::IdConflict { .. }) => Ok(self.desk.node.log.len()),
            Err(error) => Err(error),
        }
    }

    /// A bulletin as devices get it.
    pub(crate) fn device_bulletin(&self, bulletin: &str, content: &Content) -> DeviceBulletin {
        let base = self.settings.public_url.as_deref().unwrap_or_default();
        let url = content.media.as_ref().map(|media| format!("{base}{MEDIA_PATH}{}", media.sha256));
        DeviceBulletin::of(bulletin, content, &url.unwrap_or_default())
    }

    /// What a schedule for `commune` has to know of a bulletin. One that is not here for that commune, with its file, or
    /// was corrected away from it, is not offered.
    pub(crate) fn known_bulletin(&self, models: &ProvinceModels, id: &str, commune: &str) -> Option<KnownBulletin> {
        let bulletin = models.bulletins.get(id).filter(|bulletin| self.takes_from(&bulletin.publisher))?;
        let offered = models.deliveries.get(id, self.own()).is_some_and(|held| held.offered.contains(commune))
            && self.is_for(&bulletin.content, commune);
        Some(KnownBulletin {
            title: bulletin.content.shown_title(),
            publisher: (bulletin.publisher != self.own()).then(|| bulletin.publisher.clone()),
            priority: bulletin.content.priority,
            withdrawn: bulletin.withdrawn.is_some(),
            valid_until_ms: bulletin.content.valid_until_ms,
            offered,
        })
    }
}

/// The digest of a bulletin's file, if it has one.
pub(crate) fn media_of(content: &Content) -> Option<Digest> {
    content.media.as_ref()?.sha256.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_are_stable_and_tell_their_parts_apart() {
        let id = derived_id(&["played", "a", "bc"]);
        assert_eq!(id, derived_id(&["played", "a", "bc"]));
        assert_ne!(id, derived_id(&["played", "ab", "c"]));
        assert_eq!(id.get_version_num(), 8);
    }
}
