//! Member files: what the gateway's operator says of each member, enrolled into the directory feed at start.

use std::fs;
use std::path::{Path, PathBuf};

use httt_feed::{AgencyCode, Algorithm, Audience, Directory, Lane, MemberKind, PublicKey};
use httt_log::NewEvent;
use httt_wire::directory as pb;
use serde::{Deserialize, Serialize};

/// Largest member file.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// One member, as a TOML file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberFile {
    /// Agency code.
    pub code: String,
    /// Name for people.
    #[serde(default)]
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Code of the area it answers for; empty for the nation.
    #[serde(default)]
    pub area: String,
    /// Its Ed25519 keys, 64 hexadecimal digits each.
    pub public_keys: Vec<String>,
    /// Who carries for it.
    #[serde(default)]
    pub carriers: Vec<String>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// This exchange itself.
    Gateway,
    /// The ministry.
    Central,
    /// A provincial department.
    Province,
    /// An LGSP adapter.
    Carrier,
}

impl From<Kind> for MemberKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Gateway => Self::Gateway,
            Kind::Central => Self::Central,
            Kind::Province => Self::Province,
            Kind::Carrier => Self::Carrier,
        }
    }
}

/// A member file that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("member file {path}: {cause}")]
pub struct MemberFileError {
    /// Which.
    pub path: PathBuf,
    /// What is wrong.
    pub cause: String,
}

/// Reads every `*.toml` of `folder`, by name.
///
/// # Errors
/// A file that cannot be read, is too large, or makes no sense; none is then taken.
pub fn read_members(folder: &Path) -> Result<Vec<MemberFile>, MemberFileError> {
    let wrong = |path: &Path, cause: String| MemberFileError { path: path.to_owned(), cause };
    let mut paths = Vec::new();
    for item in fs::read_dir(folder).map_err(|error| wrong(folder, error.to_string()))? {
        let path = item.map_err(|error| wrong(folder, error.to_string()))?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let size = fs::metadata(&path).map_err(|error| wrong(&path, error.to_string()))?.len();
            if size > MAX_FILE_BYTES {
                return Err(wrong(&path, format!("{size} bytes, the limit is {MAX_FILE_BYTES}")));
            }
            let text = fs::read_to_string(&path).map_err(|error| wrong(&path, error.to_string()))?;
            let file: MemberFile = toml::from_str(&text).map_err(|error| wrong(&path, error.to_string()))?;
            check(&file).map_err(|cause| wrong(&path, cause))?;
            Ok(file)
        })
        .collect()
}

fn check(file: &MemberFile) -> Result<(), String> {
    AgencyCode::new(&file.code).map_err(|error| format!("code: {error}"))?;
    for carrier in &file.carriers {
        AgencyCode::new(carrier).map_err(|error| format!("carriers: {error}"))?;
    }
    keys(file).map(|_| ())
}

pub(crate) fn keys(file: &MemberFile) -> Result<Vec<PublicKey>, String> {
    file.public_keys
        .iter()
        .map(|text| {
            let value = hex::decode(text).ok().filter(|value| value.len() == 32);
            let value = value.ok_or_else(|| format!("public_keys: {text:?} is not 64 hexadecimal digits"))?;
            PublicKey::new(Algorithm::Ed25519, value).map_err(|error| format!("public_keys: {error}"))
        })
        .collect()
}

/// The events that bring `directory` to what `files` say. Nothing is withdrawn by leaving a file out: that takes an
/// operator's word and a reason.
pub fn enrolment(directory: &Directory, files: &[MemberFile]) -> Vec<NewEvent> {
    let mut events = Vec::new();
    let mut tell = |stream: &str, event: NewEvent| {
        events.push(NewEvent { stream: format!("member/{stream}"), ..event }.with_actor("gateway"));
    };
    for file in files {
        let member = AgencyCode::new(&file.code).ok().and_then(|code| directory.member(&code));
        let kind = MemberKind::from(file.kind);
        let known =
            member.is_some_and(|member| member.name == file.name && member.kind == kind && member.area == file.area);
        if !known {
            let enrolled = pb::MemberEnrolled {
                member: file.code.clone(),
                name: file.name.clone(),
                kind: kind.into(),
                area: file.area.clone(),
                aliases: vec![],
            };
            tell(&file.code, NewEvent::of(Audience::All, Lane::Directory, "", &enrolled));
        }
        for key in keys(file).unwrap_or_default() {
            if !member.is_some_and(|member| member.knows_key(&key)) {
                let added = pb::KeyAdded { member: file.code.clone(), key: Some(key.to_wire()) };
                tell(&file.code, NewEvent::of(Audience::All, Lane::Directory, "", &added));
            }
        }
    }
    // After all members: a grant names two of them.
    for file in files {
        let member = AgencyCode::new(&file.code).ok().and_then(|code| directory.member(&code));
        for carrier in &file.carriers {
            if !member.is_some_and(|member| member.carriers().any(|known| known.as_str() == carrier)) {
                let granted = pb::CarrierGranted { carrier: carrier.clone(), member: file.code.clone() };
                tell(&file.code, NewEvent::of(Audience::All, Lane::Directory, "", &granted));
            }
        }
    }
    events
}
