//! A member as operators see it.

use httt_feed::{Directory, Member};
use serde::{Deserialize, Serialize};

use super::Admission;
use super::admission::KeptOut;

/// Everything the directory says of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberDetail {
    /// Agency code.
    pub code: String,
    /// Name for people.
    pub name: String,
    /// What it is.
    pub kind: String,
    /// Code of the area it answers for; empty for the nation.
    pub area: String,
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    /// Its keys, revoked ones too.
    pub keys: Vec<KeyAnswer>,
    /// Its certificates, revoked ones too. None that is good: every certificate that the authority gave it is.
    pub certificates: Vec<CertificateAnswer>,
    /// Who carries for it.
    pub carriers: Vec<String>,
    /// What it may read beyond its own, as `origin→audience/lane`; `any` stands for any.
    pub grants: Vec<String>,
    /// Batches that were admitted though their key was revoked.
    #[serde(default)]
    pub admitted: usize,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAnswer {
    /// SHA-256 fingerprint, hexadecimal.
    pub fingerprint: String,
    /// Ed25519, ECDSA P-256 or RSA.
    pub algorithm: String,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAnswer {
    /// SHA-256 of its DER, hexadecimal.
    pub sha256: String,
    /// Its end, Unix milliseconds, where it is known.
    pub not_after_ms: Option<i64>,
    /// Why it was revoked, if it was.
    pub revoked: Option<String>,
}

impl MemberDetail {
    pub(super) fn of(directory: &Directory, member: &Member) -> Self {
        let any = |part: Option<String>| part.unwrap_or_else(|| "any".to_owned());
        let grants = directory.grants().filter(|grant| grant.reader == member.code).map(|grant| {
            let origin = any(grant.origin.as_ref().map(ToString::to_string));
            let audience = any(grant.audience.as_ref().map(ToString::to_string));
            format!("{origin}→{audience}/{}", any(grant.lane.map(|lane| lane.to_string())))
        });
        Self {
            code: member.code.to_string(),
            name: member.name.clone(),
            kind: httt_node::api::kind_name(member.kind).to_owned(),
            area: member.area.clone(),
            suspended: member.suspended.clone(),
            keys: member
                .all_keys()
                .map(|(key, revoked)| KeyAnswer {
                    fingerprint: key.fingerprint().to_string(),
                    algorithm: key.algorithm().to_string(),
                    revoked,
                })
                .collect(),
            certificates: member
                .certificates()
                .map(|(sha256, certificate)| CertificateAnswer {
                    sha256: sha256.to_string(),
                    not_after_ms: certificate.not_after_ms.filter(|end| *end != 0),
                    revoked: certificate.revoked.clone(),
                })
                .collect(),
            carriers: member.carriers().map(ToString::to_string).collect(),
            grants: grants.collect(),
            admitted: member.admitted_count(),
        }
    }
}

/// What of a file would be admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionAnswer {
    /// Names it in the order that admits it.
    pub admission: String,
    /// Whose batches they are.
    pub member: String,
    /// How many there are.
    pub batches: usize,
    /// Feed by feed.
    pub feeds: Vec<KeptOutAnswer>,
}

/// Batches of one feed that only a revoked key keeps out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptOutAnswer {
    /// `H24→TW/report`
    pub feed: String,
    /// Sequence of the first one.
    pub first: u64,
    /// Sequence of the last one.
    pub last: u64,
    /// How many there are; those between them that need not be admitted do not count.
    pub batches: usize,
    /// When the first one was sealed, by the member's clock, Unix ms.
    pub sealed_from_ms: i64,
    /// When the last one was.
    pub sealed_until_ms: i64,
    /// Digest of the last one, hexadecimal: what is compared with the member's own node.
    pub digest: String,
    /// Fingerprint of the revoked key that signed it.
    pub key: String,
    /// Batches after them in the file by a key that the directory does not know.
    pub unknown_key: u64,
}

impl AdmissionAnswer {
    pub(super) fn of(admission: &Admission) -> Self {
        let row = |found: &KeptOut| {
            let (first, last) = found.batches.first().zip(found.batches.last())?;
            Some(KeptOutAnswer {
                feed: found.feed.to_string(),
                first: first.sequence,
                last: last.sequence,
                batches: found.batches.len(),
                sealed_from_ms: found.sealed_ms.0,
                sealed_until_ms: found.sealed_ms.1,
                digest: last.digest.to_string(),
                key: found.key.to_string(),
                unknown_key: found.unknown_key,
            })
        };
        Self {
            admission: admission.id().to_string(),
            member: admission.member().to_string(),
            batches: admission.len(),
            feeds: admission.feeds().iter().filter_map(row).collect(),
        }
    }
}
