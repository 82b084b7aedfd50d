//! Bulletins as callers see them.

use std::borrow::Cow;

use httt_domain::bulletin::{Content, Kind, Priority, Stage, Subject};
use httt_domain::models::{DraftView, PublishedBulletin};
use httt_node::http::ApiError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::models::CentralModels;
use crate::routes::Central;
use crate::routes::shapes::{ContentShape, KindShape, PriorityShape, StageShape, SubjectShape};
use crate::scope::Reader;

/// A bulletin: as it is being written, as it was published last, and what happened to it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulletinAnswer {
    /// Its identifier.
    bulletin: String,
    #[schema(value_type = StageShape)]
    stage: Stage,
    /// The stage in Vietnamese.
    stage_vi: &'static str,
    /// To be sent back with a command, so that nobody else's change is passed over.
    version: u64,
    /// What it says now.
    #[schema(value_type = ContentShape)]
    content: Content,
    /// Account that created it.
    author: String,
    /// Accounts that created, edited or submitted it: none of them may approve.
    hands: Vec<String>,
    /// Account that approved it last.
    approver: Option<String>,
    /// When that was, Unix ms.
    approved_at_ms: Option<i64>,
    /// Why it was returned, rejected or withdrawn.
    reason: Option<String>,
    /// When it last changed, Unix ms.
    changed_at_ms: i64,
    /// What everybody has.
    published: Option<PublishedAnswer>,
    /// What happened so far, oldest first.
    history: Vec<HistoryAnswer>,
}

/// What was published last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublishedAnswer {
    /// From 1; a correction has the next.
    version: u32,
    /// What it says.
    #[schema(value_type = ContentShape)]
    content: Content,
    /// Account of the author.
    author: String,
    /// Account of the approver.
    approver: String,
    /// When the first version was published, Unix ms.
    published_at_ms: i64,
    /// When this one was.
    changed_at_ms: i64,
    /// When it was withdrawn.
    withdrawn_at_ms: Option<i64>,
    /// Why.
    withdrawn_reason: Option<String>,
}

/// One thing that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HistoryAnswer {
    /// `created`, `edited`, `submitted`, `returned`, `rejected`, `approved`, `published` or `withdrawn`.
    what: String,
    /// The account.
    actor: String,
    /// Unix ms.
    at_ms: i64,
    /// The reason given.
    reason: Option<String>,
}

/// A bulletin in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulletinRow {
    bulletin: String,
    title: String,
    #[schema(value_type = KindShape)]
    kind: Kind,
    #[schema(value_type = SubjectShape)]
    subject: Subject,
    #[schema(value_type = PriorityShape)]
    priority: Priority,
    drill: bool,
    #[schema(value_type = StageShape)]
    stage: Stage,
    /// The stage in Vietnamese.
    stage_vi: &'static str,
    version: u64,
    author: String,
    approver: Option<String>,
    /// Unix ms.
    changed_at_ms: i64,
    /// Last published version; 0 before the first.
    published_version: u32,
    /// When the first one was published, Unix ms.
    published_at_ms: Option<i64>,
    /// Provinces that have it on disk.
    received: u64,
    /// Clusters that played it.
    played: u64,
}

/// Bulletins, the ones that changed last first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulletinList {
    bulletins: Vec<BulletinRow>,
    /// Whether there are more than the limit let through.
    more: bool,
}

/// 404: there is no such bulletin, or not for this account.
pub(crate) fn no_such_bulletin() -> ApiError {
    ApiError::not_found("Không có bản tin này.", "There is no such bulletin.")
}

/// One bulletin as this account may see it.
pub(super) fn find(central: &Central, reader: &Reader, id: &str) -> Result<BulletinAnswer, ApiError> {
    central.desk.models.read(|models| {
        let view = models.drafts.get(id).and_then(|view| reader.bulletin(models, view));
        view.map(|view| BulletinAnswer::of(&view, models.bulletins.get(id))).ok_or_else(no_such_bulletin)
    })
}

fn unless_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl BulletinAnswer {
    fn of(view: &DraftView, published: Option<&PublishedBulletin>) -> Self {
        let draft = &view.draft;
        Self {
            bulletin: draft.bulletin.clone(),
            stage: draft.stage,
            stage_vi: draft.stage.vi(),
            version: view.stream_version,
            content: draft.content.clone(),
            author: draft.author.clone(),
            hands: draft.hands.iter().cloned().collect(),
            approver: unless_empty(&draft.approver),
            approved_at_ms: (draft.approved_at_ms != 0).then_some(draft.approved_at_ms),
            reason: unless_empty(&draft.reason),
            changed_at_ms: view.changed_at_ms,
            published: published.map(|published| PublishedAnswer {
                version: published.version,
                content: published.content.clone(),
                author: published.author.clone(),
                approver: published.approver.clone(),
                published_at_ms: published.published_at_ms,
                changed_at_ms: published.changed_at_ms,
                withdrawn_at_ms: published.withdrawn.as_ref().map(|withdrawn| withdrawn.at_ms),
                withdrawn_reason: published.withdrawn.as_ref().map(|withdrawn| withdrawn.reason.clone()),
            }),
            history: view
                .history
                .iter()
                .map(|entry| HistoryAnswer {
                    what: entry.what.clone(),
                    actor: entry.actor.clone(),
                    at_ms: entry.at_ms,
                    reason: unless_empty(&entry.reason),
                })
                .collect(),
        }
    }
}

impl BulletinList {
    pub(super) fn of(models: &CentralModels, reader: &Reader, stage: Option<Stage>, limit: usize) -> Self {
        let mut views: Vec<Cow<'_, DraftView>> = models
            .drafts
            .iter()
            .filter_map(|view| reader.bulletin(models, view))
            .filter(|view| stage.is_none_or(|stage| view.draft.stage == stage))
            .collect();
        views.sort_by(|a, b| (b.changed_at_ms, &b.draft.bulletin).cmp(&(a.changed_at_ms, &a.draft.bulletin)));
        let more = views.len() > limit;
        views.truncate(limit);
        Self { bulletins: views.iter().map(|view| BulletinRow::of(models, view)).collect(), more }
    }
}

impl BulletinRow {
    fn of(models: &CentralModels, view: &DraftView) -> Self {
        let (draft, content) = (&view.draft, &view.draft.content);
        let progress = models.deliveries.progress(&draft.bulletin);
        Self {
            bulletin: draft.bulletin.clone(),
            title: content.shown_title(),
            kind: content.kind,
            subject: content.subject,
            priority: content.priority,
            drill: content.drill,
            stage: draft.stage,
            stage_vi: draft.stage.vi(),
            version: view.stream_version,
            author: draft.author.clone(),
            approver: unless_empty(&draft.approver),
            changed_at_ms: view.changed_at_ms,
            published_version: draft.published_version,
            published_at_ms: models.bulletins.get(&draft.bulletin).map(|published| published.published_at_ms),
            received: progress.received,
            played: progress.played,
        }
    }
}
