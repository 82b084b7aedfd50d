//! A member as operators see it.

use httt_feed::{Directory, Member};
use serde::{Deserialize, Serialize};

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
        }
    }
}
