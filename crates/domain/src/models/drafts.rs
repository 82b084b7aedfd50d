//! The node's own drafts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::bulletin::{BULLETIN_STREAM, DRAFT_STREAM, Draft, DraftEvent, Stage};

/// One line of a draft's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// What happened, see [`DraftEvent::name`].
    pub what: String,
    /// The account.
    pub actor: String,
    /// Unix milliseconds.
    pub at_ms: i64,
    /// The reason given, or empty.
    pub reason: String,
}

/// A draft with where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DraftView {
    /// The state that commands are decided on.
    pub draft: Draft,
    /// The agency whose draft it is: the node itself.
    pub origin: String,
    /// Version of the stream `draft/{id}`, for the expected version of the next append.
    pub stream_version: u64,
    /// Version of the stream `bulletin/{id}`; 0 before the first publication.
    pub shared_version: u64,
    /// When it last changed, Unix milliseconds.
    pub changed_at_ms: i64,
    /// What happened so far.
    pub history: Vec<HistoryEntry>,
}

/// Drafts by identifier. Lane `local`, stream `draft/`, and the node's own withdrawals.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drafts {
    drafts: BTreeMap<String, DraftView>,
}

impl Drafts {
    /// One draft.
    pub fn get(&self, bulletin: &str) -> Option<&DraftView> {
        self.drafts.get(bulletin)
    }

    /// All of them, by identifier.
    pub fn iter(&self) -> impl Iterator<Item = &DraftView> {
        self.drafts.values()
    }

    /// Those at one stage, the ones that changed last first.
    pub fn at_stage(&self, stage: Stage) -> Vec<&DraftView> {
        let mut found: Vec<_> = self.iter().filter(|view| view.draft.stage == stage).collect();
        found.sort_by(|a, b| (b.changed_at_ms, &b.draft.bulletin).cmp(&(a.changed_at_ms, &a.draft.bulletin)));
        found
    }
}

impl Model for Drafts {
    const NAME: &'static str = "drafts";
}

impl ReadModel for Drafts {
    fn apply(&mut self, fact: &Fact<'_>) {
        let (id, shared) = match (fact.id(DRAFT_STREAM), fact.id(BULLETIN_STREAM)) {
            (Some(id), _) => (id, false),
            (None, Some(id)) => (id, true),
            (None, None) => return,
        };
        let Some(event) = DraftEvent::decode(fact.lane, fact.kind, fact.data) else { return };
        let is_shared = matches!(event, DraftEvent::BulletinPublished(..) | DraftEvent::BulletinWithdrawn(..));
        if is_shared != shared {
            return;
        }
        if let DraftEvent::Created(created) = &event {
            if created.bulletin != id || self.drafts.contains_key(id) {
                return;
            }
            let mut view = DraftView { origin: fact.origin.to_owned(), ..DraftView::default() };
            view.draft.evolve(&event, fact.actor, fact.occurred_at_ms);
            if view.draft.stage == Stage::Absent {
                return; // Content of a later contract.
            }
            self.drafts.insert(id.to_owned(), view);
        }
        let Some(view) = self.drafts.get_mut(id).filter(|view| view.origin == fact.origin) else { return };
        view.draft.evolve(&event, fact.actor, fact.occurred_at_ms);
        if shared {
            view.shared_version = fact.version;
        } else {
            view.stream_version = fact.version;
        }
        if matches!(event, DraftEvent::BulletinPublished(..)) {
            return; // The draft's own stream tells it already.
        }
        view.changed_at_ms = fact.occurred_at_ms;
        view.history.push(HistoryEntry {
            what: event.name().to_owned(),
            actor: fact.actor.to_owned(),
            at_ms: fact.occurred_at_ms,
            reason: event.reason().to_owned(),
        });
    }
}
