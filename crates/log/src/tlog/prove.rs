//! Proofs out of a log's folder, without the node and without its key.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, Lane, PublicKey};
use httt_wire::directory::{KeyAdded, LogOpened};
use httt_wire::{Message as _, Name as _};
use uuid::Uuid;

use super::note::{CheckpointError, SignedCheckpoint};
use super::proof_file::ProofFile;
use crate::checkpoint::{CHECKPOINT_FILE, MAX_CHECKPOINT_BYTES};
use crate::merkle::CompactRange;
use crate::offline::scan_entries;
use crate::{Entry, ReadError};

/// File in the log's folder with the latest checkpoint that a witness cosigned.
pub const COSIGNED_FILE: &str = "checkpoint.cosigned";

/// Why no proof was made.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The event is not there.
    #[error(
        "the log has no event {event}{}",
        if *gone > 0 { format!(", unless it is in one of {gone} entries that went by retention; their origins have them") } else { String::new() }
    )]
    NoEvent {
        /// Its id.
        event: Uuid,
        /// Entries that went by retention.
        gone: u64,
    },
    /// There is no checkpoint yet.
    #[error("the log has no checkpoint; a running node writes one within a second of each commit")]
    NoCheckpoint,
    /// The event came after the last checkpoint.
    #[error(
        "the event is at position {position}, the checkpoint vouches for {size} entries; a running node writes the next \
         one within a second, a stopped one when it is started again"
    )]
    NotCovered {
        /// Position of its entry.
        position: u64,
        /// Entries the checkpoint vouches for.
        size: u64,
    },
    /// The entries are not those the checkpoint was signed over.
    #[error("the first {size} entries do not have the root that the checkpoint says; run `httt audit verify`")]
    RootDiffers {
        /// Entries the checkpoint vouches for.
        size: u64,
    },
    /// A checkpoint file makes no sense.
    #[error("{file}: {error}")]
    Checkpoint {
        /// Its name.
        file: &'static str,
        /// What is wrong.
        error: CheckpointError,
    },
    /// A chunk.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The operating system refused.
    #[error("reading {file}: {error}")]
    Io {
        /// Its name.
        file: &'static str,
        /// The system's error.
        error: io::Error,
    },
}

fn read(dir: &Path, file: &'static str) -> Result<Option<SignedCheckpoint>, ProveError> {
    let failed = |error| ProveError::Io { file, error };
    let opened = match File::open(dir.join(file)) {
        Ok(opened) => opened,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    opened.take(MAX_CHECKPOINT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    let text = String::from_utf8_lossy(&bytes);
    SignedCheckpoint::parse(&text).map(Some).map_err(|error| ProveError::Checkpoint { file, error })
}

/// The checkpoint of the log in `dir` to prove things with: the cosigned one if it vouches for `entries`, else the
/// latest, with the cosignatures it has. Its signatures are not verified.
///
/// # Errors
/// There is none, or none that can be read.
pub fn read_checkpoint(dir: &Path, entries: u64) -> Result<SignedCheckpoint, ProveError> {
    let cosigned = read(dir, COSIGNED_FILE)?;
    if let Some(cosigned) = cosigned.as_ref().filter(|cosigned| cosigned.size() >= entries) {
        return Ok(cosigned.clone());
    }
    let latest = read(dir, CHECKPOINT_FILE)?.ok_or(ProveError::NoCheckpoint)?;
    Ok(cosigned.filter(|cosigned| cosigned.body() == latest.body()).unwrap_or(latest))
}

/// Whose log `dir` holds, the key it began with, as its first event says, and the keys that the directory in it gives its
/// node later; `None`: it does not say whose it is. That is what the log claims of itself: who is to trust a key must
/// have it from elsewhere. Reads the whole log.
///
/// # Errors
/// A chunk cannot be read.
pub fn claimed_keys(dir: &Path) -> Result<Option<(AgencyCode, Vec<PublicKey>)>, ReadError> {
    let mut entries = scan_entries(dir)?;
    let Some(first) = entries.next().transpose()? else { return Ok(None) };
    let opened = first.batch.events.iter().find(|event| event.r#type == LogOpened::full_name());
    let read = || {
        let opened = LogOpened::decode(opened?.data.clone()).ok()?;
        Some((AgencyCode::new(&opened.member).ok()?, PublicKey::from_wire(&opened.key?).ok()?))
    };
    let Some((member, key)) = read() else { return Ok(None) };
    let mut keys = vec![key];
    for entry in entries {
        let entry = entry?;
        if entry.feed.lane != Lane::Directory {
            continue;
        }
        let added = entry.batch.events.iter().filter(|event| event.r#type == KeyAdded::full_name());
        let added = added.filter_map(|event| KeyAdded::decode(event.data.clone()).ok());
        for key in added.filter(|added| added.member == member.as_str()).filter_map(|added| added.key) {
            keys.extend(PublicKey::from_wire(&key).ok().filter(|key| !keys.contains(key)));
        }
    }
    Ok(Some((member, keys)))
}

/// A proof that the event with this id is in the log in `dir`. The node may be running. Reads the log twice.
///
/// # Errors
/// See [`ProveError`].
pub fn prove_event(dir: &Path, event: Uuid) -> Result<ProofFile, ProveError> {
    let mut found = None;
    let mut scan = scan_entries(dir)?;
    for entry in scan.by_ref() {
        let entry = entry?;
        if entry.batch.events.iter().any(|one| one.id == event.as_bytes()) {
            found = Some(entry);
            break;
        }
    }
    let Entry { position, bytes, .. } = found.ok_or(ProveError::NoEvent { event, gone: scan.gone() })?;
    let checkpoint = read_checkpoint(dir, position + 1)?;
    let size = checkpoint.size();
    if position >= size {
        return Err(ProveError::NotCovered { position, size });
    }
    let mut subtrees: Vec<Subtree> = path(position, size);
    let mut all = CompactRange::default();
    let mut scan = scan_entries(dir)?;
    while all.size() < size
        && let Some(scanned) = scan.step()?
    {
        let (leaf, position) = (scanned.leaf(), scanned.position());
        all.push(leaf, |_| {});
        let subtree = subtrees.iter_mut().find(|subtree| (subtree.from..subtree.to).contains(&position));
        if let Some(subtree) = subtree {
            subtree.range.push(leaf, |_| {});
        }
    }
    if all.size() != size || all.root() != checkpoint.root() {
        return Err(ProveError::RootDiffers { size });
    }
    let proof: Vec<Digest> = subtrees.iter().map(|subtree| subtree.range.root()).collect();
    Ok(ProofFile::new(position, Bytes::clone(&bytes), proof, checkpoint))
}

/// One step of a path: the leaves under the sibling.
struct Subtree {
    from: u64,
    to: u64,
    range: CompactRange,
}

/// The siblings on the way from leaf `position` to the root over `size` leaves, leaf side first (RFC 6962, 2.1.1).
fn path(position: u64, size: u64) -> Vec<Subtree> {
    let (mut from, mut to) = (0, size);
    let mut siblings = Vec::new();
    while to - from > 1 {
        // The largest power of two below the number of leaves.
        let middle = from + (1 << (to - from - 1).ilog2());
        let sibling = if position < middle { (middle, to) } else { (from, middle) };
        if position < middle {
            to = middle
        } else {
            from = middle
        }
        siblings.push(Subtree { from: sibling.0, to: sibling.1, range: CompactRange::default() });
    }
    siblings.reverse();
    siblings
}
