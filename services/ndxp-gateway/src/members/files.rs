//! Member files: how members begin. What is in a file is enrolled into the directory feed at start, once.

use std::fs;
use std::path::{Path, PathBuf};

use httt_feed::{AgencyCode, Audience, Digest, Directory, Lane, Member, MemberKind, PublicKey};
use httt_log::NewEvent;
use httt_node::tls;
use httt_wire::directory as pb;
use httt_wire::{Message, Name};
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
    /// Its keys: Ed25519 as 64 hexadecimal digits; ECDSA P-256 and RSA (2048 bits up) as PEM (`BEGIN PUBLIC KEY`), or
    /// as the hexadecimal digits of the point or of the PKCS#1 DER.
    pub public_keys: Vec<String>,
    /// Certificates it calls with, as PEM or the SHA-256 of their DER; without any, every certificate that the
    /// authority gave it is good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<String>,
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
    certificates(file)?;
    keys(file).map(|_| ())
}

pub(crate) fn keys(file: &MemberFile) -> Result<Vec<PublicKey>, String> {
    let all = file.public_keys.iter().map(|text| text.parse().map_err(|error| format!("public_keys: {error}")));
    all.collect()
}

/// SHA-256 and end (0: unknown) of each certificate.
fn certificates(file: &MemberFile) -> Result<Vec<(Digest, i64)>, String> {
    let read = |text: &String| {
        if let Ok(sha256) = text.trim().parse() {
            return Ok((sha256, 0));
        }
        let certificate = tls::read_certificate(text)
            .ok_or("certificates: neither PEM nor a SHA-256 of 64 hexadecimal digits".to_owned())?;
        match certificate.member {
            Some(member) if member.as_str() == file.code => Ok((certificate.sha256, certificate.not_after_ms)),
            _ => Err(format!("certificates: one does not name {} (SAN urn:httt:member:{})", file.code, file.code)),
        }
    };
    file.certificates.iter().map(read).collect()
}

/// The events that enrol the members of `files` that `directory` does not know. A file is how a member begins: from then
/// on only the operator's commands change it, so that no file undoes what an operator said with a reason. Where they
/// differ, the log says so.
pub fn enrolment(directory: &Directory, files: &[MemberFile]) -> Vec<NewEvent> {
    let mut events = Vec::new();
    for file in files {
        let Ok(code) = AgencyCode::new(&file.code) else { continue };
        if let Some(member) = directory.member(&code) {
            let differing = differences(member, file);
            if !differing.is_empty() {
                tracing::info!(member = %code, ?differing, "the member file differs from the directory, which counts");
            }
            continue;
        }
        let mut tell = |event: NewEvent| events.push(event.with_actor("gateway"));
        let enrolled = pb::MemberEnrolled {
            member: file.code.clone(),
            name: file.name.clone(),
            kind: MemberKind::from(file.kind).into(),
            area: file.area.clone(),
            aliases: vec![],
        };
        tell(event(&code, &enrolled));
        for key in keys(file).unwrap_or_default() {
            tell(event(&code, &pb::KeyAdded { member: file.code.clone(), key: Some(key.to_wire()) }));
        }
        for (sha256, not_after_ms) in certificates(file).unwrap_or_default() {
            let sha256 = sha256.0.to_vec();
            tell(event(&code, &pb::CertificateAdded { member: file.code.clone(), sha256, not_after_ms }));
        }
        for carrier in &file.carriers {
            tell(event(&code, &pb::CarrierGranted { carrier: carrier.clone(), member: file.code.clone() }));
        }
    }
    events
}

fn event<M: Message + Name>(member: &AgencyCode, message: &M) -> NewEvent {
    NewEvent::of(Audience::All, Lane::Directory, format!("member/{member}"), message)
}

/// Keys of the file in which it differs from what the directory says.
fn differences(member: &Member, file: &MemberFile) -> Vec<&'static str> {
    let good = |key: &PublicKey| member.keys().any(|known| known == key);
    let registered = |sha256: &Digest| member.certificates().any(|(known, _)| known == sha256);
    let carries = |carrier: &String| member.carriers().any(|known| known.as_str() == carrier);
    let checks = [
        ("name", member.name != file.name),
        ("kind", member.kind != MemberKind::from(file.kind)),
        ("area", member.area != file.area),
        ("public_keys", !keys(file).unwrap_or_default().iter().all(good)),
        ("certificates", !certificates(file).unwrap_or_default().iter().all(|(sha256, _)| registered(sha256))),
        ("carriers", !file.carriers.iter().all(carries)),
    ];
    checks.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}
