//! Why a batch, or a wish to read, is refused. One list for gateway, adapter and members.

use crate::{AgencyCode, Digest, FeedId, KeyId, batch};

/// A refusal says what was wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The directory knows no such member.
    #[error("{0} is not a member of this exchange")]
    NotAMember(String),
    /// Somebody pushes a feed that is not theirs to push.
    #[error("{caller} may not push {feed}: it is neither its origin nor the origin's carrier")]
    WrongMember {
        /// Who called.
        caller: AgencyCode,
        /// What it pushed.
        feed: FeedId,
    },
    /// The member is suspended: it, or who carries for it, neither pushes nor reads.
    #[error("{member} is suspended: {reason}")]
    Suspended {
        /// Who.
        member: AgencyCode,
        /// Why, in the operator's words.
        reason: String,
    },
    /// The certificate is not, or no longer, one of the member's.
    #[error("the certificate {sha256} is not one that {member} may use: {why}")]
    Certificate {
        /// The member that the certificate names.
        member: AgencyCode,
        /// SHA-256 of the certificate.
        sha256: Digest,
        /// Revoked and why, or that others are registered.
        why: String,
    },
    /// The feed may not be read by, or may not be originated by, that member.
    #[error("{member} has no right to {feed}")]
    NoRight {
        /// Whose right is missing.
        member: AgencyCode,
        /// To which feed.
        feed: FeedId,
    },
    /// The directory gives the origin no such key (yet).
    #[error("{origin} has no key {key}")]
    UnknownKey {
        /// The origin the batch names.
        origin: AgencyCode,
        /// The key its signature names.
        key: KeyId,
    },
    /// The key was revoked before this batch reached the exchange, and the batch was not admitted.
    #[error("key {key} of {origin} was revoked before sequence {sequence} of {feed} was received")]
    RevokedKey {
        /// The origin.
        origin: AgencyCode,
        /// Its revoked key.
        key: KeyId,
        /// The feed.
        feed: FeedId,
        /// The batch refused.
        sequence: u64,
    },
    /// The bytes are not what that key signed.
    #[error("the signature of {feed} sequence {sequence} does not verify")]
    BadSignature {
        /// The feed the batch names.
        feed: FeedId,
        /// The sequence the batch names.
        sequence: u64,
    },
    /// Not a sealed batch.
    #[error("not a sealed batch: {0}")]
    Malformed(String),
    /// Over the size limit.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Sequences are missing before this one.
    #[error("{feed} has a gap: sequence {got} came where {expected} is next")]
    Gap {
        /// The feed.
        feed: FeedId,
        /// What would be taken.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// Another batch holds the sequence: the origin (or somebody with its key) told two stories.
    #[error("{feed} has a fork: another batch holds sequence {sequence}")]
    Fork {
        /// The feed.
        feed: FeedId,
        /// Where the stories part.
        sequence: u64,
    },
    /// `previous` does not name the batch before.
    #[error("{feed} sequence {sequence} does not follow the batch before it: its `previous` is another digest")]
    BrokenChain {
        /// The feed.
        feed: FeedId,
        /// The batch that does not follow.
        sequence: u64,
    },
}

impl Refusal {
    pub(crate) fn batch_too_large(size: usize) -> Self {
        Self::TooLarge { what: "a sealed batch", size, limit: batch::MAX_SEALED_BYTES }
    }
}
