//! One file that proves an entry to somebody who has nothing else at hand.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra <base64 of the entry: an encoded SealedBatch>
//! index <its position>
//! <base64 hash>            the path from the leaf to the root, leaf side first
//! …
//!
//! httt/H24                 the signed checkpoint, with witnesses' cosignatures where there are some
//! 1234
//! udETg56CbvSDH3NH7BlBtV7Yu3qr/MwWoWpoX3qO7Tc=
//!
//! — httt/H24 x08go/…
//! — httt/NDXP 8Hn2…
//! ```
//!
//! All of it is the C2SP tlog-proof format. Ours is only what `extra`, which that format leaves to the application,
//! means: the entry itself. Its leaf hash is SHA-256(0x00 ‖ extra), so no other software needs to know what an entry is
//! to check that it was logged.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use httt_feed::{Digest, PublicKey, Refusal};

use super::note::{CheckpointError, MAX_NOTE_BYTES, SignedCheckpoint};
use super::proof::{InvalidProof, MAX_PROOF_HASHES, format_hash, parse_hash, verify_inclusion};
use super::vkey::{KeyPurpose, VerifierKey, node_name};
use crate::Entry;
use crate::merkle::leaf_hash;

/// Largest proof file: the largest entry in base64, a path and a checkpoint fit.
pub const MAX_PROOF_FILE_BYTES: usize = MAX_NOTE_BYTES + 128 * 1024;
/// The first line.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

const _: () = assert!(httt_feed::MAX_SEALED_BYTES.div_ceil(3) * 4 + MAX_PROOF_HASHES * 45 + 200 < 128 * 1024);

/// Why a proof file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofFileError {
    /// Longer than any real one.
    #[error("a proof file of {0} bytes is longer than the {MAX_PROOF_FILE_BYTES} allowed")]
    TooLong(usize),
    /// A line is not what stands there in a C2SP tlog-proof.
    #[error("line {line}: {what}")]
    Malformed {
        /// From 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// The checkpoint.
    #[error("the checkpoint in the file: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Another log than the one asked about.
    #[error("the file is about the log {found}, the key given is of {wanted}")]
    OtherLog {
        /// Its origin line.
        found: String,
        /// The key's name.
        wanted: String,
    },
    /// Somebody else, or nobody, signed.
    #[error("the checkpoint is not signed by the key given")]
    NotSigned,
    /// Too few of the witnesses.
    #[error("{got} of the witnesses given cosigned the checkpoint, {wanted} are wanted")]
    Quorum {
        /// How many did.
        got: usize,
        /// How many should have.
        wanted: usize,
    },
    /// The file has no `extra` line: it is about an entry that must be got elsewhere.
    #[error("the file does not hold the entry it is about (no `extra` line)")]
    NoEntry,
    /// The entry is not in the log at that place, or the path is wrong.
    #[error("the entry is not in the log that the checkpoint was signed for: {0}")]
    NotIncluded(#[from] InvalidProof),
    /// The entry is logged but is no batch.
    #[error("the entry is in the log but is no sealed batch: {0}")]
    NoBatch(String),
    /// The batch's own signature is wrong under the key given.
    #[error("the batch is in the log, but the key given for its origin did not sign it")]
    BatchNotSigned,
}

impl From<Refusal> for ProofFileError {
    fn from(refusal: Refusal) -> Self {
        Self::NoBatch(refusal.to_string())
    }
}

/// An entry, its path and a signed checkpoint; nothing of it checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    entry: Option<Bytes>,
    index: u64,
    proof: Vec<Digest>,
    checkpoint: SignedCheckpoint,
}

/// Whom the one who checks trusts. All of it must be known from elsewhere than the file.
#[derive(Debug, Clone)]
pub struct ProofKeys {
    /// The log's.
    pub log: VerifierKey,
    /// Witnesses' (cosigner keys).
    pub witnesses: Vec<VerifierKey>,
    /// How many of the witnesses must have cosigned.
    pub quorum: usize,
    /// The key of the batch's origin.
    pub origin: Option<PublicKey>,
}

/// What a proof file proves.
#[derive(Debug, Clone)]
pub struct CheckedProof {
    /// The entry: in the log, at this position, exactly these bytes.
    pub entry: Entry,
    /// Entries the checkpoint vouches for.
    pub size: u64,
    /// The root it says.
    pub root: Digest,
    /// Names of the witnesses that cosigned.
    pub witnesses: Vec<String>,
    /// The batch's own signature was verified, under the origin's key given, or under the log's where the log is the
    /// origin's. Otherwise: the log says it holds this batch; that the origin said it is not proven.
    pub origin_verified: bool,
}

impl ProofFile {
    /// Puts a proof together.
    pub fn new(index: u64, entry: Bytes, proof: Vec<Digest>, checkpoint: SignedCheckpoint) -> Self {
        Self { entry: Some(entry), index, proof, checkpoint }
    }

    /// Position of the entry it is about.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The signed checkpoint in it.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Reads a C2SP tlog-proof.
    ///
    /// # Errors
    /// [`ProofFileError::TooLong`], [`ProofFileError::Malformed`], [`ProofFileError::Checkpoint`].
    pub fn parse(text: &str) -> Result<Self, ProofFileError> {
        if text.len() > MAX_PROOF_FILE_BYTES {
            return Err(ProofFileError::TooLong(text.len()));
        }
        let malformed = |line, what| ProofFileError::Malformed { line, what };
        let (head, checkpoint) =
            text.split_once("\n\n").ok_or(malformed(1, "no empty line before a checkpoint: this is no tlog-proof"))?;
        let mut lines = head.split('\n').enumerate().map(|(at, line)| (at + 1, line)).peekable();
        if lines.next().map(|(_, line)| line) != Some(HEADER) {
            return Err(malformed(1, "a proof begins with the line c2sp.org/tlog-proof@v1"));
        }
        let entry = match lines.next_if(|(_, line)| line.starts_with("extra ")) {
            Some((at, line)) => {
                let decoded = BASE64_STANDARD.decode(&line["extra ".len()..]);
                Some(Bytes::from(decoded.map_err(|_| malformed(at, "the extra data are not base64"))?))
            }
            None => None,
        };
        let index = lines.next().and_then(|(_, line)| {
            let text = line.strip_prefix("index ")?;
            text.parse::<u64>().ok().filter(|index| index.to_string() == text)
        });
        let index = index.ok_or(malformed(2 + usize::from(entry.is_some()), "here stands `index` and a number"))?;
        let mut proof = Vec::new();
        for (at, line) in lines {
            if proof.len() == MAX_PROOF_HASHES {
                return Err(malformed(at, "no path is so long"));
            }
            proof.push(parse_hash(line).ok_or(malformed(at, "not a SHA-256 in base64"))?);
        }
        Ok(Self { entry, index, proof, checkpoint: SignedCheckpoint::parse(checkpoint)? })
    }

    /// Checks everything that can be checked with `keys` and nothing else at hand.
    ///
    /// # Errors
    /// What is wrong, the first thing found; see [`ProofFileError`].
    pub fn check(&self, keys: &ProofKeys) -> Result<CheckedProof, ProofFileError> {
        let (size, root) = (self.checkpoint.size(), self.checkpoint.root());
        if self.checkpoint.origin() != keys.log.name() {
            let (found, wanted) = (self.checkpoint.origin().to_owned(), keys.log.name().to_owned());
            return Err(ProofFileError::OtherLog { found, wanted });
        }
        let log = std::slice::from_ref(&keys.log);
        if keys.log.purpose() != KeyPurpose::Log || self.checkpoint.signers(log)?.is_empty() {
            return Err(ProofFileError::NotSigned);
        }
        // One witness named twice, or under two names, is one witness.
        let mut witnesses: Vec<&VerifierKey> = Vec::new();
        for key in self.checkpoint.signers(&keys.witnesses)? {
            // A log is no witness of itself.
            let other = key.key() != keys.log.key();
            if other && key.purpose() == KeyPurpose::Cosigner && !witnesses.iter().any(|known| known.key() == key.key())
            {
                witnesses.push(key);
            }
        }
        if witnesses.len() < keys.quorum {
            return Err(ProofFileError::Quorum { got: witnesses.len(), wanted: keys.quorum });
        }
        let bytes = self.entry.as_ref().ok_or(ProofFileError::NoEntry)?;
        verify_inclusion(&self.proof, self.index, leaf_hash(bytes), size, root)?;
        let batch = httt_feed::parse(bytes.clone())?;
        let own = node_name(&batch.feed().origin) == keys.log.name();
        let origin_verified = match &keys.origin {
            Some(key) if !batch.is_signed_by(key) => return Err(ProofFileError::BatchNotSigned),
            Some(_) => true,
            None => own && batch.is_signed_by(keys.log.key()),
        };
        Ok(CheckedProof {
            entry: Entry::decode(self.index, bytes.clone()).map_err(ProofFileError::NoBatch)?,
            size,
            root,
            witnesses: witnesses.iter().map(|key| key.name().to_owned()).collect(),
            origin_verified,
        })
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(entry) = &self.entry {
            writeln!(f, "extra {}", BASE64_STANDARD.encode(entry))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", format_hash(hash)))?;
        write!(f, "\n{}", self.checkpoint.text())
    }
}
