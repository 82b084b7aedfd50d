//! How much of media is kept, and how much may be.

use axum::Json as Answer;
use axum::extract::State;
use httt_domain::accounts::Action;
use serde::Serialize;

use crate::accounts::Principal;
use crate::desk::{Desk, actor};
use crate::http::ApiError;
use crate::media::StoreKind;
use crate::models::ModelSet;

/// The media store, for operators and auditors.
#[derive(Debug, Serialize)]
pub struct StorageAnswer {
    /// `folder`, or `s3`: then the figures are of the folder that is its cache.
    pub store: &'static str,
    /// Complete files.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
    /// Unfinished files.
    pub parts: u64,
    /// Their bytes, and those of uploads under way.
    pub part_bytes: u64,
    /// Largest file, bytes.
    pub max_file_bytes: u64,
    /// Limit of all these bytes together.
    pub max_store_bytes: u64,
    /// Unfinished files that one member may have.
    pub max_member_parts: usize,
    /// Bytes in them.
    pub max_member_part_bytes: u64,
    /// Complete files dropped since the start, to make room.
    pub dropped: u64,
    /// Complete files found lost or spoilt since the start.
    pub lost: u64,
    /// Who has unfinished files here.
    pub members: Vec<MemberPartsAnswer>,
}

/// Unfinished files of one member.
#[derive(Debug, Serialize)]
pub struct MemberPartsAnswer {
    /// Agency code.
    pub member: String,
    /// How many.
    pub parts: u64,
    /// Their bytes.
    pub bytes: u64,
}

pub(super) async fn show<S: ModelSet>(
    State(desk): State<Desk<S>>,
    principal: Principal,
) -> Result<Answer<StorageAnswer>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let media = &desk.node.media;
    let (limits, usage) = (media.limits(), media.usage().await.map_err(ApiError::internal)?);
    let members = usage.members.into_iter();
    Ok(Answer(StorageAnswer {
        store: match limits.store {
            StoreKind::Folder => "folder",
            StoreKind::S3 => "s3",
        },
        files: usage.files,
        file_bytes: usage.file_bytes,
        parts: usage.parts,
        part_bytes: usage.part_bytes,
        max_file_bytes: limits.max_file_bytes,
        max_store_bytes: limits.max_store_bytes,
        max_member_parts: limits.max_member_parts,
        max_member_part_bytes: limits.max_member_part_bytes,
        dropped: usage.dropped,
        lost: usage.lost,
        members: members.map(|(member, (parts, bytes))| MemberPartsAnswer { member, parts, bytes }).collect(),
    }))
}
