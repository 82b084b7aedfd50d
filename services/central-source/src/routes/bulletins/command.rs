//! From a command to events: looked at, decided, appended if nothing changed meanwhile.

use axum::Json as Answer;
use axum::http::StatusCode;
use httt_domain::accounts::Action;
use httt_domain::bulletin::{BULLETIN_STREAM, Command, Content, Context, DRAFT_STREAM, Draft, DraftEvent};
use httt_domain::models::DraftView;
use httt_feed::{Audience, Digest};
use httt_log::{CommitError, Expected};
use httt_node::accounts::Principal;
use httt_node::desk::{actor, commit_error, refusals};
use httt_node::http::ApiError;

use super::answers::{BulletinAnswer, find, no_such_bulletin};
use crate::routes::{Central, media};
use crate::scope::{HOME, Reader, areas};

/// Begins a bulletin.
pub(super) async fn create(
    central: &Central,
    principal: &Principal,
    content: Content,
) -> Result<BulletinAnswer, ApiError> {
    check_media(central, principal, &content).await?;
    let id = uuid::Uuid::now_v7().to_string();
    let command = Command::Create { bulletin: id.clone(), content };
    let events = decide(central, principal, &Draft::default(), Action::WriteBulletin, &command)?;
    let untouched = DraftView::default();
    append(central, principal, &id, &untouched, &events).await?;
    find(central, &Reader(principal.clone()), &id)
}

/// Gives a command to an existing bulletin.
pub(super) async fn give(
    central: &Central,
    principal: &Principal,
    id: &str,
    action: Action,
    command: Command,
    seen: Option<u64>,
) -> Result<Answer<BulletinAnswer>, ApiError> {
    actor(principal, action)?;
    let view = look(central, principal, id, seen)?;
    let events = decide(central, principal, &view.draft, action, &command)?;
    append(central, principal, id, &view, &events).await?;
    find(central, &Reader(principal.clone()), id).map(Answer)
}

/// Approves, with a one-time code where one is given. A code is good once, so it is looked at last: what would be
/// refused anyway must not cost the approver half a minute.
pub(super) async fn approve_with(
    central: &Central,
    principal: &Principal,
    id: &str,
    otp: Option<&str>,
    seen: Option<u64>,
) -> Result<Answer<BulletinAnswer>, ApiError> {
    actor(principal, Action::ReviewBulletin)?;
    let view = look(central, principal, id, seen)?;
    let command = Command::Approve { step_up: otp.is_some() };
    let events = decide(central, principal, &view.draft, Action::ReviewBulletin, &command)?;
    if let Some(media) = &view.draft.content.media {
        held(central, &media.sha256, media.size).await?;
    }
    if let Some(otp) = otp {
        central.desk.accounts.verify_otp(&principal.name, otp).await?;
    }
    append(central, principal, id, &view, &events).await?;
    find(central, &Reader(principal.clone()), id).map(Answer)
}

fn look(central: &Central, principal: &Principal, id: &str, seen: Option<u64>) -> Result<DraftView, ApiError> {
    let reader = Reader(principal.clone());
    let found = central
        .desk
        .models
        .read(|models| models.drafts.get(id).filter(|view| reader.sees_bulletin(models, view)).cloned());
    let view = found.ok_or_else(no_such_bulletin)?;
    match seen {
        Some(seen) if seen != view.stream_version => Err(commit_error(CommitError::WrongExpectedVersion {
            stream: format!("{DRAFT_STREAM}{id}"),
            expected: Expected::Exact(seen),
            actual: Some(view.stream_version),
        })),
        _ => Ok(view),
    }
}

fn decide(
    central: &Central,
    principal: &Principal,
    draft: &Draft,
    action: Action,
    command: &Command,
) -> Result<Vec<DraftEvent>, ApiError> {
    let context =
        Context { actor: actor(principal, action)?, now_ms: central.desk.now_ms(), areas: areas(), home: HOME };
    draft.decide(command, &context).map_err(|refused| refusals(&refused))
}

async fn append(
    central: &Central,
    principal: &Principal,
    id: &str,
    view: &DraftView,
    events: &[DraftEvent],
) -> Result<(), ApiError> {
    let events = events.iter().map(|event| event.to_domain(id)).collect();
    // Both streams: a withdrawal touches only the shared one, and must not cross a correction's publication.
    let expected = vec![
        (format!("{DRAFT_STREAM}{id}"), Expected::Exact(view.stream_version)),
        (format!("{BULLETIN_STREAM}{id}"), Expected::Exact(view.shared_version)),
    ];
    central.desk.append(&principal.name, &Audience::All, events, expected).await.map(drop)
}

/// Refuses content whose file is not in the store: a province would wait for it for ever.
pub(super) async fn check_media(central: &Central, principal: &Principal, content: &Content) -> Result<(), ApiError> {
    actor(principal, Action::WriteBulletin)?;
    match &content.media {
        Some(media) => held(central, &media.sha256, media.size).await,
        None => Ok(()),
    }
}

async fn held(central: &Central, sha256: &str, size: u64) -> Result<(), ApiError> {
    // A digest that is none is told with the content's other mistakes.
    let Ok(digest) = sha256.parse::<Digest>() else { return Ok(()) };
    let stat = central.desk.node.media.stat(digest).await.map_err(media::refusal)?;
    let mistake = |code: &'static str, field: &str, vi: String, en: String| {
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", vi, en).with_code(code).with_field(field)
    };
    if !stat.complete {
        return Err(mistake(
            "media-not-held",
            "content.media.sha256",
            "Tệp kèm theo chưa được tải lên. Đề nghị tải tệp lên rồi lưu lại.".to_owned(),
            "The file was not uploaded. Please upload it and save again.".to_owned(),
        ));
    }
    if stat.held != size {
        return Err(mistake(
            "media-size-differs",
            "content.media.size",
            format!("Tệp đã tải lên có {} byte, không phải {size} byte.", stat.held),
            format!("The uploaded file has {} bytes, not {size}.", stat.held),
        ));
    }
    Ok(())
}
