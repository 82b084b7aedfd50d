//! Witnessing (C2SP tlog-witness): nodes cosign each other's checkpoints, so that none can show two histories.
//!
//! [`judge`] is the rule, pure; [`Witnessing`] keeps what was cosigned in the node's log; [`run_witness`] drives it over
//! a [`crate::Peer`] in both directions.

mod driver;
mod keeper;

use std::fmt;

use httt_feed::Digest;
use httt_log::tlog::{
    CheckpointError, MAX_NOTE_BYTES, MAX_PROOF_HASHES, SignedCheckpoint, VerifierKey, format_hash, parse_hash,
    verify_consistency,
};

pub use driver::run_witness;
pub use keeper::{DEFAULT_WITNESS_EVERY, MAX_KEPT_REFUSALS, OwnState, Watched, Witnessing};

/// Largest body of an add-checkpoint: a checkpoint, the longest proof, and the line before it.
pub const MAX_ADD_CHECKPOINT_BYTES: usize = MAX_NOTE_BYTES + 4 * 1024;

/// Longest text of a checkpoint, without its signatures, that is cosigned: two of them with their log's signatures fit
/// in one event, which is how a contradiction is kept.
pub const MAX_CHECKPOINT_BODY_BYTES: usize = 1_024;

const _: () = assert!(MAX_PROOF_HASHES * 45 + 30 < 4 * 1024);

/// The body of an add-checkpoint: a checkpoint, and the proof that it continues the one of `old` entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint cosigned last; 0: none was.
    pub old: u64,
    /// RFC 6962 consistency proof from `old` on.
    pub proof: Vec<Digest>,
    /// The checkpoint.
    pub checkpoint: SignedCheckpoint,
}

/// What was cosigned last of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Entries.
    pub size: u64,
    /// Root over them.
    pub root: Digest,
}

/// Why a checkpoint is not cosigned. The numbers are those of C2SP tlog-witness.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WitnessRefusal {
    /// 400: the body is none.
    #[error("not the body of an add-checkpoint: {0}")]
    Malformed(String),
    /// 404: not a log this witness knows.
    #[error("no log {0} is known here; its node must be a member of the exchange")]
    UnknownOrigin(String),
    /// 403: no key that the directory gives the log's node signed it.
    #[error("the checkpoint is not signed by a key that the directory gives its log")]
    NotSigned,
    /// 400: the proof goes backwards.
    #[error("the old size {old} is beyond the checkpoint's {size}")]
    OldBeyondNew {
        /// The old size named.
        old: u64,
        /// The checkpoint's.
        size: u64,
    },
    /// 409: another size was cosigned last; ask again from that.
    #[error("the checkpoint cosigned last has {size} entries")]
    Stale {
        /// Entries of the one cosigned last.
        size: u64,
    },
    /// 409: two checkpoints of one size with two roots. The log shows two histories.
    #[error("another checkpoint of {size} entries with another root was cosigned: the log shows two histories")]
    Forked {
        /// Entries of both.
        size: u64,
    },
    /// 422: the proof does not show that the log only grew.
    #[error("not shown to continue what was cosigned: {0}")]
    Inconsistent(String),
    /// 503: it could not be written down, so it is not signed.
    #[error("the witness cannot write at the moment: {0}")]
    Unavailable(String),
}

impl WitnessRefusal {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldBeyondNew { .. } => 400,
            Self::NotSigned => 403,
            Self::UnknownOrigin(_) => 404,
            Self::Stale { .. } | Self::Forked { .. } => 409,
            Self::Inconsistent(_) => 422,
            Self::Unavailable(_) => 503,
        }
    }

    /// The body that goes with it: of 409 the size cosigned last, otherwise what is wrong.
    pub fn body(&self) -> String {
        match self {
            Self::Stale { size } | Self::Forked { size } => format!("{size}\n"),
            other => format!("{other}\n"),
        }
    }

    /// Whether a checkpoint that its log signed does not continue the one before: worth keeping, and telling people.
    pub fn is_evidence(&self) -> bool {
        matches!(self, Self::Forked { .. } | Self::Inconsistent(_))
    }
}

impl From<CheckpointError> for WitnessRefusal {
    fn from(error: CheckpointError) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl AddCheckpoint {
    /// Reads a body.
    ///
    /// # Errors
    /// [`WitnessRefusal::Malformed`].
    pub fn parse(text: &str) -> Result<Self, WitnessRefusal> {
        let malformed = |what: &str| WitnessRefusal::Malformed(what.to_owned());
        if text.len() > MAX_ADD_CHECKPOINT_BYTES {
            return Err(malformed("it is too long"));
        }
        let (head, checkpoint) = text.split_once("\n\n").ok_or_else(|| malformed("no empty line"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| {
            let text = line.strip_prefix("old ")?;
            text.parse::<u64>().ok().filter(|old| old.to_string() == text)
        });
        let old = old.ok_or_else(|| malformed("the first line is not `old` and a size"))?;
        let mut proof = Vec::new();
        for line in lines {
            if proof.len() == MAX_PROOF_HASHES {
                return Err(malformed("more than 63 proof lines"));
            }
            proof.push(parse_hash(line).ok_or_else(|| malformed("a proof line is not a SHA-256 in base64"))?);
        }
        let checkpoint = SignedCheckpoint::parse(checkpoint)?;
        if checkpoint.body().len() > MAX_CHECKPOINT_BODY_BYTES {
            return Err(malformed("the checkpoint's text is longer than 1,024 bytes"));
        }
        Ok(Self { old, proof, checkpoint })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", format_hash(hash)))?;
        write!(f, "\n{}", self.checkpoint.text())
    }
}

/// Whether a checkpoint may be cosigned, `seen` being what was cosigned last of its log and `keys` the keys that the
/// log's node may sign with. Whoever cosigns writes the new state down first, in one step with what this was asked for.
///
/// # Errors
/// See [`WitnessRefusal`].
pub fn judge(seen: Option<Seen>, request: &AddCheckpoint, keys: &[VerifierKey]) -> Result<(), WitnessRefusal> {
    let (old, size, root) = (request.old, request.checkpoint.size(), request.checkpoint.root());
    if keys.is_empty() {
        return Err(WitnessRefusal::UnknownOrigin(request.checkpoint.origin().to_owned()));
    }
    if !request.checkpoint.signers(keys).is_ok_and(|signers| !signers.is_empty()) {
        return Err(WitnessRefusal::NotSigned);
    }
    if old > size {
        return Err(WitnessRefusal::OldBeyondNew { old, size });
    }
    let empty = Seen { size: 0, root: Digest::of(b"") };
    let seen = seen.unwrap_or(empty);
    // Before anything about the proof: two roots for one size need none.
    if size == seen.size && root != seen.root {
        return Err(WitnessRefusal::Forked { size });
    }
    if old != seen.size {
        return Err(WitnessRefusal::Stale { size: seen.size });
    }
    verify_consistency(&request.proof, seen.size, seen.root, size, root)
        .map_err(|error| WitnessRefusal::Inconsistent(error.to_string()))
}

#[cfg(test)]
mod tests;
