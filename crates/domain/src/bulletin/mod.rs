//! Bulletins: from a draft that stays on its node to a publication that is shared.
//!
//! ```text
//! create ─► draft ── submit ─► submitted ── approve ─► approved ── publish ─► published ── withdraw ─► withdrawn
//!             ▲  edit            │   │                    │                      │
//!             └── returned ◄─────┘   └─► rejected         └─► returned           └── edit (a correction, version + 1)
//! ```
//!
//! What was rejected stays so, unless it was a correction: then an edit begins the next one, because what is published
//! must never be past correcting.
//!
//! An emergency is published by its approval, which needs a one-time code. Nobody approves what passed through their
//! own hands. The draft is the stream `draft/{id}` in the lane `local`; what is shared is the stream `bulletin/{id}`
//! in the lane `emergency` or `content`, for ever the same one.

mod content;
mod event;

use std::collections::BTreeSet;

use httt_wire::bulletin as wire;
use serde::{Deserialize, Serialize};

pub use content::{
    Content, Detail, Kind, MAX_AHEAD_MS, MAX_BODY_BYTES, MAX_CONTENT_BYTES, MAX_DETAIL, MAX_DETAILS, MAX_MEDIA,
    MAX_NAME, MAX_SUMMARY, MAX_TARGETS, MAX_TITLE, Media, Priority, Subject,
};
pub use event::{DraftEvent, lane_of};

use crate::accounts::{Action, Actor};
use crate::area::Areas;
use crate::refusal::{Field, Refusal, Refusals, check_text, quote};

/// Longest identifier of bulletins and schedules, in bytes.
pub const MAX_ID: usize = 64;
/// Longest reason, in characters.
pub const MAX_REASON: usize = 1_000;
/// Stream prefix of drafts.
pub const DRAFT_STREAM: &str = "draft/";
/// Stream prefix of published bulletins.
pub const BULLETIN_STREAM: &str = "bulletin/";

/// Where a draft stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Nothing was created yet.
    #[default]
    Absent,
    /// Being written.
    Draft,
    /// Waits for an approver.
    Submitted,
    /// Given back with a reason.
    Returned,
    /// Refused for good; of a published bulletin, only this correction of it.
    Rejected,
    /// Approved, not yet published.
    Approved,
    /// Published.
    Published,
    /// Withdrawn after publishing.
    Withdrawn,
}

impl Stage {
    /// As in "khi bản tin …" and "while the bulletin is …".
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Absent => ("chưa được tạo", "not created yet"),
            Self::Draft => ("đang soạn thảo", "a draft"),
            Self::Submitted => ("đang chờ duyệt", "waiting for approval"),
            Self::Returned => ("đã bị trả lại để sửa", "returned for correction"),
            Self::Rejected => ("đã bị từ chối", "rejected"),
            Self::Approved => ("đã được duyệt", "approved"),
            Self::Published => ("đã phát hành", "published"),
            Self::Withdrawn => ("đã bị thu hồi", "withdrawn"),
        }
    }

    /// Its Vietnamese name for lists.
    pub fn vi(self) -> &'static str {
        self.words().0
    }
}

/// A draft, folded from its events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Draft {
    /// Where it stands.
    pub stage: Stage,
    /// Its identifier.
    pub bulletin: String,
    /// What it says now.
    pub content: Content,
    /// The account that created it.
    pub author: String,
    /// Every account that created, edited or submitted it: none of them may approve.
    pub hands: BTreeSet<String>,
    /// The account that approved it last.
    pub approver: String,
    /// When that was, Unix milliseconds.
    pub approved_at_ms: i64,
    /// The version published last; 0 before the first.
    pub published_version: u32,
    /// Whether it was published as an emergency; fixes the lane.
    pub published_emergency: bool,
    /// Why it was returned, rejected or withdrawn.
    pub reason: String,
}

/// What somebody wants to do with a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Begin.
    Create {
        /// New identifier, e.g. a UUID.
        bulletin: String,
        /// First content.
        content: Content,
    },
    /// Change the content; of a published one, begin a correction.
    Edit {
        /// The whole new content.
        content: Content,
    },
    /// Ask for approval.
    Submit,
    /// Give back to the author.
    Return {
        /// Why; required.
        reason: String,
    },
    /// Refuse for good; of a published bulletin, only this correction of it.
    Reject {
        /// Why; required.
        reason: String,
    },
    /// Approve.
    Approve {
        /// The caller proved a six-digit one-time code just now.
        step_up: bool,
    },
    /// Publish what was approved.
    Publish,
    /// Take back what was published.
    Withdraw {
        /// Why; required.
        reason: String,
    },
}

impl Command {
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Self::Create { .. } => ("tạo", "create"),
            Self::Edit { .. } => ("sửa", "edit"),
            Self::Submit => ("trình duyệt", "submit"),
            Self::Return { .. } => ("trả lại", "return"),
            Self::Reject { .. } => ("từ chối", "reject"),
            Self::Approve { .. } => ("duyệt", "approve"),
            Self::Publish => ("phát hành", "publish"),
            Self::Withdraw { .. } => ("thu hồi", "withdraw"),
        }
    }

    fn action(&self) -> Action {
        match self {
            Self::Create { .. } | Self::Edit { .. } | Self::Submit => Action::WriteBulletin,
            Self::Return { .. } | Self::Reject { .. } | Self::Approve { .. } => Action::ReviewBulletin,
            Self::Publish => Action::PublishBulletin,
            Self::Withdraw { .. } => Action::WithdrawBulletin,
        }
    }

    /// Whether it is possible in that stage at all.
    fn fits(&self, draft: &Draft) -> bool {
        let stage = draft.stage;
        match self {
            Self::Create { .. } => stage == Stage::Absent,
            Self::Edit { .. } => {
                matches!(stage, Stage::Draft | Stage::Returned | Stage::Published)
                    || stage == Stage::Rejected && draft.published_version > 0
            }
            Self::Submit => matches!(stage, Stage::Draft | Stage::Returned),
            Self::Return { .. } => matches!(stage, Stage::Submitted | Stage::Approved),
            Self::Reject { .. } | Self::Approve { .. } => stage == Stage::Submitted,
            Self::Publish => stage == Stage::Approved,
            // Also while a correction of it is being written.
            Self::Withdraw { .. } => draft.published_version > 0 && stage != Stage::Withdrawn,
        }
    }
}

/// What a decision needs to know besides the draft.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Who asks.
    pub actor: Actor<'a>,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// The areas in force.
    pub areas: &'a Areas,
    /// Code of the area the node answers for; `""` for the central source.
    pub home: &'a str,
}

impl Draft {
    /// Takes in what happened. `actor` and `at_ms` are the envelope's. Before the creation and after a withdrawal nothing
    /// changes any more; in between, what was decided is believed.
    pub fn evolve(&mut self, event: &DraftEvent, actor: &str, at_ms: i64) {
        match event {
            DraftEvent::Created(created) => {
                let Some(content) = created.content.clone().and_then(Content::from_wire) else { return };
                if self.stage == Stage::Absent {
                    self.stage = Stage::Draft;
                    self.bulletin.clone_from(&created.bulletin);
                    self.content = content;
                    self.author = actor.to_owned();
                    self.hands.insert(actor.to_owned());
                }
            }
            _ if self.stage == Stage::Absent || self.stage == Stage::Withdrawn => {}
            DraftEvent::Edited(edited) => {
                let Some(content) = edited.content.clone().and_then(Content::from_wire) else { return };
                self.content = content;
                self.stage = Stage::Draft;
                self.hands.insert(actor.to_owned());
            }
            DraftEvent::Submitted(_) => {
                self.stage = Stage::Submitted;
                self.reason.clear();
                self.hands.insert(actor.to_owned());
            }
            DraftEvent::Returned(returned) => {
                self.stage = Stage::Returned;
                self.reason.clone_from(&returned.reason);
            }
            DraftEvent::Rejected(rejected) => {
                self.stage = Stage::Rejected;
                self.reason.clone_from(&rejected.reason);
            }
            DraftEvent::Approved(_) => {
                self.stage = Stage::Approved;
                self.approver = actor.to_owned();
                self.approved_at_ms = at_ms;
            }
            DraftEvent::Published(published) => {
                self.stage = Stage::Published;
                self.published_version = published.bulletin_version;
                self.published_emergency = self.content.priority.is_emergency();
            }
            DraftEvent::BulletinPublished(..) => {}
            DraftEvent::BulletinWithdrawn(_, withdrawn) => {
                if self.published_version > 0 && withdrawn.bulletin == self.bulletin {
                    self.stage = Stage::Withdrawn;
                    self.reason.clone_from(&withdrawn.reason);
                }
            }
        }
    }

    /// What happens when `command` is given, or everything that speaks against it.
    pub fn decide(&self, command: &Command, context: &Context<'_>) -> Result<Vec<DraftEvent>, Refusals> {
        context.actor.allow(command.action())?;
        if !command.fits(self) {
            return Err(Refusal::WrongState { command: command.words(), state: self.stage.words() }.into());
        }
        if self.stage != Stage::Absent {
            self.check_reach(context)?;
        }
        match command {
            Command::Create { bulletin, content } => {
                let mut list = content.check(context.areas, context.home, &context.actor, context.now_ms);
                if !is_id(bulletin) {
                    list.insert(0, bad_id("bulletin", "Mã bản tin", "Bulletin", bulletin));
                }
                Refusals::unless_empty(list)?;
                let content = Some(content.to_wire());
                Ok(vec![DraftEvent::Created(wire::DraftCreated { bulletin: bulletin.clone(), content })])
            }
            Command::Edit { content } => {
                let mut list = content.check(context.areas, context.home, &context.actor, context.now_ms);
                if self.published_version > 0 && content.priority.is_emergency() != self.published_emergency {
                    list.push(Refusal::EmergencyIsFixed);
                }
                Refusals::unless_empty(list)?;
                Ok(vec![DraftEvent::Edited(wire::DraftEdited { content: Some(content.to_wire()) })])
            }
            Command::Submit => {
                self.check_valid(context)?;
                Ok(vec![DraftEvent::Submitted(wire::DraftSubmitted {})])
            }
            Command::Return { reason } => {
                let reason = checked_reason(reason)?;
                Ok(vec![DraftEvent::Returned(wire::DraftReturned { reason })])
            }
            Command::Reject { reason } => {
                let reason = checked_reason(reason)?;
                Ok(vec![DraftEvent::Rejected(wire::DraftRejected { reason })])
            }
            Command::Approve { step_up } => self.approve(*step_up, context),
            Command::Publish => {
                self.check_valid(context)?;
                Ok(self.publication(&self.approver, self.approved_at_ms))
            }
            Command::Withdraw { reason } => {
                let reason = checked_reason(reason)?;
                let event = wire::BulletinWithdrawn { bulletin: self.bulletin.clone(), reason };
                Ok(vec![DraftEvent::BulletinWithdrawn(lane_of(self.published_emergency), event)])
            }
        }
    }

    fn approve(&self, step_up: bool, context: &Context<'_>) -> Result<Vec<DraftEvent>, Refusals> {
        let actor = context.actor.account;
        if actor == self.author || self.hands.contains(actor) {
            return Err(Refusal::OwnWork.into());
        }
        let emergency = self.content.priority.is_emergency();
        if emergency && !step_up {
            return Err(Refusal::StepUpNeeded.into());
        }
        self.check_valid(context)?;
        let mut events = vec![DraftEvent::Approved(wire::DraftApproved { step_up })];
        if emergency {
            events.extend(self.publication(actor, context.now_ms));
        }
        Ok(events)
    }

    /// The two events of a publication: one for the draft's own stream, one for everybody.
    fn publication(&self, approver: &str, approved_at_ms: i64) -> Vec<DraftEvent> {
        let version = self.published_version.saturating_add(1);
        let shared = wire::BulletinPublished {
            bulletin: self.bulletin.clone(),
            version,
            content: Some(self.content.to_wire()),
            author: self.author.clone(),
            approver: approver.to_owned(),
            approved_at_ms,
        };
        vec![
            DraftEvent::Published(wire::DraftPublished { bulletin_version: version }),
            DraftEvent::BulletinPublished(lane_of(self.content.priority.is_emergency()), shared),
        ]
    }

    /// Time passes between writing, submitting, approving and publishing.
    fn check_valid(&self, context: &Context<'_>) -> Result<(), Refusal> {
        if self.content.expired(context.now_ms) {
            let field = Field::new("content.valid_until_ms", "Có hiệu lực đến", "Valid until");
            return Err(Refusal::Passed { field });
        }
        Ok(())
    }

    /// Nobody touches a bulletin that reaches beyond the area they answer for.
    fn check_reach(&self, context: &Context<'_>) -> Result<(), Refusal> {
        let (areas, actor) = (context.areas, context.actor);
        let outside = if self.content.target_areas.is_empty() {
            (!actor.covers(areas, context.home)).then_some(context.home)
        } else {
            self.content.target_areas.iter().map(String::as_str).find(|code| !actor.covers(areas, code))
        };
        outside.map_or(Ok(()), |code| {
            Err(Refusal::AreaOutside {
                field: Field::new("content.target_areas", "Địa bàn nhận", "Target areas"),
                area: areas.named(code),
                within: areas.path_name(actor.area),
            })
        })
    }
}

fn checked_reason(reason: &str) -> Result<String, Refusals> {
    let mut list = Vec::new();
    check_text(&mut list, reason, true, MAX_REASON, || Field::new("reason", "Lý do", "Reason"));
    Refusals::unless_empty(list)?;
    Ok(reason.trim().to_owned())
}

/// Identifiers go into stream names and addresses: letters, digits and hyphens.
pub(crate) fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

pub(crate) fn bad_id(path: &str, vi: &str, en: &str, given: &str) -> Refusal {
    Refusal::Malformed {
        field: Field::new(path, vi, en),
        given: quote(given),
        expected_vi: format!("mã gồm chữ cái không dấu, chữ số và dấu gạch nối, tối đa {MAX_ID} ký tự"),
        expected_en: format!("letters, digits and hyphens, at most {MAX_ID}"),
    }
}
