//! Published bulletins, the node's own and those of others.

use std::collections::BTreeMap;

use httt_wire::bulletin::{BulletinPublished, BulletinWithdrawn};
use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::bulletin::{BULLETIN_STREAM, Content, lane_of};

/// That a bulletin was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawal {
    /// Why.
    pub reason: String,
    /// Unix milliseconds.
    pub at_ms: i64,
}

/// A bulletin in its latest version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedBulletin {
    /// Its identifier.
    pub bulletin: String,
    /// Agency code of who published it.
    pub publisher: String,
    /// Latest version, from 1.
    pub version: u32,
    /// What it says.
    pub content: Content,
    /// Account of the author.
    pub author: String,
    /// Account of the approver.
    pub approver: String,
    /// When the first version was published, Unix milliseconds by the publisher's clock.
    pub published_at_ms: i64,
    /// When this version was.
    pub changed_at_ms: i64,
    /// Place of this version's batch in the publisher's feed, for the receipt.
    pub sequence: u64,
    /// Set when it was withdrawn; for good.
    pub withdrawn: Option<Withdrawal>,
}

impl PublishedBulletin {
    /// Whether it may be played: neither withdrawn nor expired.
    pub fn playable(&self, now_ms: i64) -> bool {
        self.withdrawn.is_none() && !self.content.expired(now_ms)
    }
}

/// Published bulletins by identifier. The first agency to publish one owns it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Bulletins {
    bulletins: BTreeMap<String, PublishedBulletin>,
}

impl Bulletins {
    /// One bulletin.
    pub fn get(&self, bulletin: &str) -> Option<&PublishedBulletin> {
        self.bulletins.get(bulletin)
    }

    /// All of them, by identifier.
    pub fn iter(&self) -> impl Iterator<Item = &PublishedBulletin> {
        self.bulletins.values()
    }

    /// All of them, the latest first.
    pub fn latest(&self) -> Vec<&PublishedBulletin> {
        let mut all: Vec<_> = self.iter().collect();
        all.sort_by(|a, b| (b.published_at_ms, &b.bulletin).cmp(&(a.published_at_ms, &a.bulletin)));
        all
    }
}

impl Model for Bulletins {
    const NAME: &'static str = "bulletins";
}

impl ReadModel for Bulletins {
    fn apply(&mut self, fact: &Fact<'_>) {
        let Some(id) = fact.id(BULLETIN_STREAM) else { return };
        if let Some(published) = fact.read::<BulletinPublished>().filter(|event| event.bulletin == id) {
            let Some(content) = published.content.and_then(Content::from_wire) else { return };
            // The lane is what makes an emergency quick; one that says otherwise than its lane is not believed.
            if !fact.is_lane(lane_of(content.priority.is_emergency())) {
                return;
            }
            let held = self.bulletins.get(id);
            let follows = held.is_none_or(|held| {
                held.publisher == fact.origin
                    && held.version < published.version
                    && held.withdrawn.is_none()
                    && held.content.priority.is_emergency() == content.priority.is_emergency()
            });
            if follows {
                let bulletin = PublishedBulletin {
                    bulletin: id.to_owned(),
                    publisher: fact.origin.to_owned(),
                    version: published.version,
                    content,
                    author: published.author,
                    approver: published.approver,
                    published_at_ms: held.map_or(fact.occurred_at_ms, |held| held.published_at_ms),
                    changed_at_ms: fact.occurred_at_ms,
                    sequence: fact.sequence,
                    withdrawn: None,
                };
                self.bulletins.insert(id.to_owned(), bulletin);
            }
        } else if let Some(withdrawn) = fact.read::<BulletinWithdrawn>().filter(|event| event.bulletin == id)
            && let Some(held) = self.bulletins.get_mut(id)
            && held.publisher == fact.origin
            && held.withdrawn.is_none()
            && fact.is_lane(lane_of(held.content.priority.is_emergency()))
        {
            held.withdrawn = Some(Withdrawal { reason: withdrawn.reason, at_ms: fact.occurred_at_ms });
        }
    }
}
