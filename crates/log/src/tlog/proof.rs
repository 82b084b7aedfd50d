//! RFC 6962 proofs: made over the index, and checked.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_feed::Digest;
use tlog_tiles::Hash;

use super::note::MAX_TREE_SIZE;
use crate::{Log, ReadError};

/// Most hashes a proof can have; the limit of C2SP tlog-witness.
pub const MAX_PROOF_HASHES: usize = 63;

/// The proof does not show what it is to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not hold: {0}")]
pub struct InvalidProof(pub String);

impl Log {
    /// The path from the entry at `position` to the root over the first `size` entries, leaf side first.
    ///
    /// # Errors
    /// [`ReadError::BeyondEnd`] when `position` or `size` is; otherwise see [`ReadError`].
    pub fn inclusion_proof(&self, position: u64, size: u64) -> Result<Vec<Digest>, ReadError> {
        self.within(size)?;
        if position >= size {
            return Err(ReadError::BeyondEnd { size: position.saturating_add(1), entries: size });
        }
        digests(tlog_tiles::prove_record(size, position, &self.shared().tree()))
    }

    /// That the first `new` entries begin with the first `old` ones. Empty for `old` 0, of which every log is a
    /// continuation.
    ///
    /// # Errors
    /// [`ReadError::BeyondEnd`] when `new` is beyond the log, or `old` beyond `new`; otherwise see [`ReadError`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Digest>, ReadError> {
        self.within(new)?;
        match old {
            0 => Ok(Vec::new()),
            old if old > new => Err(ReadError::BeyondEnd { size: old, entries: new }),
            old => digests(tlog_tiles::prove_tree(new, old, &self.shared().tree())),
        }
    }

    fn within(&self, size: u64) -> Result<(), ReadError> {
        let entries = self.len();
        if size > entries { Err(ReadError::BeyondEnd { size, entries }) } else { Ok(()) }
    }
}

fn digests(proof: Result<Vec<Hash>, tlog_tiles::Error>) -> Result<Vec<Digest>, ReadError> {
    let proof = proof.map_err(|error| ReadError::Index(error.to_string()))?;
    Ok(proof.into_iter().map(|hash| Digest(hash.0)).collect())
}

fn hashes(proof: &[Digest], size: u64) -> Result<Vec<Hash>, InvalidProof> {
    if proof.len() > MAX_PROOF_HASHES {
        return Err(InvalidProof(format!("{} hashes, the limit is {MAX_PROOF_HASHES}", proof.len())));
    }
    if size > MAX_TREE_SIZE {
        return Err(InvalidProof(format!("no log has {size} entries")));
    }
    Ok(proof.iter().map(|hash| Hash(hash.0)).collect())
}

fn invalid(error: tlog_tiles::Error) -> InvalidProof {
    InvalidProof(error.to_string())
}

/// Checks that the entry whose leaf hash is `leaf` is at `position` of the log that had `root` at `size`.
///
/// # Errors
/// It is not, or the proof does not show it.
pub fn verify_inclusion(
    proof: &[Digest],
    position: u64,
    leaf: Digest,
    size: u64,
    root: Digest,
) -> Result<(), InvalidProof> {
    let hashes = hashes(proof, size)?;
    tlog_tiles::check_record(&hashes, size, Hash(root.0), position, Hash(leaf.0)).map_err(invalid)
}

/// Checks that the log that had `root` at `size` begins with the one that had `old_root` at `old_size`. Of nothing (size
/// 0) every log is a continuation; the proof must be empty then.
///
/// # Errors
/// It does not, or the proof does not show it.
pub fn verify_consistency(
    proof: &[Digest],
    old_size: u64,
    old_root: Digest,
    size: u64,
    root: Digest,
) -> Result<(), InvalidProof> {
    let hashes = hashes(proof, size)?;
    if old_size == 0 {
        let empty = hashes.is_empty() && old_root == Digest::of(b"");
        return if empty { Ok(()) } else { Err(InvalidProof("a proof from size 0 is empty".into())) };
    }
    tlog_tiles::check_tree(&hashes, size, Hash(root.0), old_size, Hash(old_root.0)).map_err(invalid)
}

/// Reads a line of a proof: a hash in base64.
pub fn parse_hash(line: &str) -> Option<Digest> {
    BASE64_STANDARD.decode(line).ok().and_then(|bytes| Digest::from_slice(&bytes))
}

/// The line of a hash, without newline.
pub fn format_hash(hash: &Digest) -> String {
    BASE64_STANDARD.encode(hash.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn made_up_proofs_are_refused_without_panic(
            hashes in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
            (position, old, size) in (any::<u64>(), any::<u64>(), any::<u64>()),
            small: bool,
        ) {
            let proof: Vec<Digest> = hashes.into_iter().map(Digest).collect();
            let cut = |n: u64| if small { n % 300 } else { n };
            let (position, old, size) = (cut(position), cut(old).max(1), cut(size));
            let (one, two) = (Digest([1; 32]), Digest([2; 32]));
            prop_assert!(verify_inclusion(&proof, position, one, size, two).is_err());
            prop_assert!(verify_consistency(&proof, old, one, size, two).is_err());
        }
    }
}
