//! What an operator may say of members.

use serde::{Deserialize, Serialize};

use super::Kind;

/// One change of who takes part, with which keys and rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// A new member, or another name or area of one.
    Enrol {
        /// Agency code.
        member: String,
        /// Name for people.
        name: String,
        /// What it is; stays what it was.
        kind: Kind,
        /// Code of the area it answers for; empty for the nation.
        #[serde(default)]
        area: String,
        /// The new member's keys, as [`httt_feed::PublicKey`] reads them.
        #[serde(default)]
        keys: Vec<String>,
    },
    /// A further key to sign with.
    AddKey {
        /// Whose.
        member: String,
        /// As [`httt_feed::PublicKey`] reads it.
        key: String,
    },
    /// Nothing that comes after this moment and is signed by the key is taken any more.
    RevokeKey {
        /// Whose.
        member: String,
        /// Fingerprint of the key.
        fingerprint: String,
    },
    /// Batches that only a revoked key keeps out, and that were read from a file of the member's, are good.
    Admit {
        /// Whose.
        member: String,
        /// What the file's reading was named.
        admission: String,
    },
    /// A certificate to call with; once there is one, the member is known by these alone.
    AddCertificate {
        /// Whose.
        member: String,
        /// The certificate as PEM, or its SHA-256 (of the DER) in hexadecimal digits.
        certificate: String,
    },
    /// Calls with this certificate are refused, connections that it opened are closed.
    RevokeCertificate {
        /// Whose.
        member: String,
        /// The certificate as PEM, or its SHA-256; one that was never added can be revoked, too.
        certificate: String,
    },
    /// The member neither pushes nor reads until it is resumed.
    Suspend {
        /// Who.
        member: String,
    },
    /// It takes part again.
    Resume {
        /// Who.
        member: String,
    },
    /// A right to read feeds that the reader is no party to.
    GrantRead {
        /// Who may read.
        reader: String,
        /// Feeds of this origin; empty: of any.
        #[serde(default)]
        origin: String,
        /// Feeds to this audience; empty: to any.
        #[serde(default)]
        audience: String,
        /// Feeds on this lane; empty: on any.
        #[serde(default)]
        lane: String,
    },
    /// Takes such a right back; the same four parts as when it was granted.
    WithdrawRead {
        /// Who.
        reader: String,
        /// Origin as granted.
        #[serde(default)]
        origin: String,
        /// Audience as granted.
        #[serde(default)]
        audience: String,
        /// Lane as granted.
        #[serde(default)]
        lane: String,
    },
    /// `carrier` may push what `member` sealed and read what `member` may read.
    GrantCarrier {
        /// For whom.
        member: String,
        /// Who carries.
        carrier: String,
    },
    /// It may no more.
    WithdrawCarrier {
        /// For whom.
        member: String,
        /// Who carried.
        carrier: String,
    },
}

/// A command, why it is given, and the operator's one-time code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// What to change.
    pub command: Command,
    /// Why; it stands in the directory for every member to read.
    pub reason: String,
    /// The six digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otp: Option<String>,
}
