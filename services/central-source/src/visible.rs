//! Which bulletins an account sees, and how much of them.
//!
//! What is out is for everybody it concerns. What is being written is not out: a bulletin that was never published, and
//! a correction of one that was, are only for those who answer for all it is meant for.

use std::borrow::Cow;

use httt_domain::accounts::{Action, Role, may};
use httt_domain::area::Areas;
use httt_domain::bulletin::{Content, Draft, Stage};
use httt_domain::models::{DraftView, HistoryEntry, PublishedBulletin};
use httt_node::desk::role_name;

use crate::models::CentralModels;
use crate::scope::{Reader, areas};

/// Any of these has business with what is being written.
const DRAFT_ACTIONS: [Action; 3] = [Action::WriteBulletin, Action::ReviewBulletin, Action::ReadAudit];

impl Reader {
    /// Whether the account may know of the bulletin at all.
    pub(crate) fn sees_bulletin(&self, models: &CentralModels, view: &DraftView) -> bool {
        let published = || models.bulletins.get(&view.draft.bulletin);
        self.sees_draft(&view.draft.content) || published().is_some_and(|published| self.concerns(&published.content))
    }

    /// The bulletin as the account may see it; none when it may not know of it.
    pub(crate) fn bulletin<'a>(&self, models: &CentralModels, view: &'a DraftView) -> Option<Cow<'a, DraftView>> {
        if self.sees_draft(&view.draft.content) {
            return Some(Cow::Borrowed(view));
        }
        let published = models.bulletins.get(&view.draft.bulletin).filter(|one| self.concerns(&one.content))?;
        let is_out = matches!(view.draft.stage, Stage::Published | Stage::Withdrawn);
        Some(if is_out && view.draft.content == published.content {
            Cow::Borrowed(view)
        } else {
            Cow::Owned(without_correction(view, published))
        })
    }

    /// Whether a bulletin that is out is for the account's area, a part of it, or an area around it.
    fn concerns(&self, content: &Content) -> bool {
        let own = self.0.area.as_str();
        Areas::is_nation(own)
            || content.target_areas.is_empty()
            || content.target_areas.iter().any(|target| areas().covers(target, own) || areas().covers(own, target))
    }

    /// Whether the account answers for all that a bulletin being written is meant for, and has business with it.
    fn sees_draft(&self, content: &Content) -> bool {
        let (own, targets) = (self.0.area.as_str(), &content.target_areas);
        let answers =
            Areas::is_nation(own) || !targets.is_empty() && targets.iter().all(|target| areas().covers(own, target));
        let has_business = |role: &Role| {
            self.0.has_role(role_name(*role)) && DRAFT_ACTIONS.into_iter().any(|action| may(*role, action))
        };
        answers && Role::ALL.iter().any(has_business)
    }
}

/// The bulletin as it was when its last version came out, and its withdrawal.
fn without_correction(view: &DraftView, published: &PublishedBulletin) -> DraftView {
    let is = |entry: &HistoryEntry, what: &[&str]| what.contains(&entry.what.as_str());
    let out = view.history.iter().rposition(|entry| is(entry, &["published"])).map_or(0, |at| at + 1);
    let (before, after) = view.history.split_at(out);
    let later = after.iter().filter(|entry| is(entry, &["withdrawn"]));
    let history: Vec<HistoryEntry> = before.iter().chain(later).cloned().collect();
    let approved = before.iter().rev().find(|entry| is(entry, &["approved"]));
    let hands = before.iter().filter(|entry| is(entry, &["created", "edited", "submitted"]));
    let withdrawn = published.withdrawn.as_ref();
    let draft = Draft {
        stage: if withdrawn.is_some() { Stage::Withdrawn } else { Stage::Published },
        content: published.content.clone(),
        hands: hands.map(|entry| entry.actor.clone()).collect(),
        approver: published.approver.clone(),
        approved_at_ms: approved.map_or(0, |entry| entry.at_ms),
        reason: withdrawn.map(|withdrawn| withdrawn.reason.clone()).unwrap_or_default(),
        ..view.draft.clone()
    };
    DraftView {
        draft,
        origin: view.origin.clone(),
        stream_version: view.stream_version,
        shared_version: view.shared_version,
        changed_at_ms: history.last().map_or(view.changed_at_ms, |entry| entry.at_ms),
        history,
    }
}
