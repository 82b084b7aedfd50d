//! Snapshots on disk: states as bytes, each with what proves that it is a state of this log.
//!
//! ```text
//! m/NAME                        SHA-256 of the rest, then the head as JSON
//! c/NAME/ generation, number    a piece of the state's bytes; both big-endian, 8 and 4 bytes
//! ```
//! The head is written after its pieces and names their generation, so a crash in between leaves the snapshot before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use httt_feed::Digest;
use httt_log::{GuardedStore, StoreError};
use serde::{Deserialize, Serialize};

/// Largest state that is stored.
pub const MAX_SNAPSHOT_BYTES: usize = 1 << 30;
/// Largest value in the store: half of what sled writes as a file of its own.
pub const SNAPSHOT_CHUNK_BYTES: usize = 128 * 1024;
/// Largest head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Memory for the store. States are read once, at start.
const CACHE_BYTES: u64 = 4 << 20;
/// Pieces looked at or removed at once.
const PIECES_AT_ONCE: usize = 256;
/// Raised when the layout above changes.
const FORMAT: u32 = 1;
const DIGEST_BYTES: usize = 32;

/// One model's state after so many entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The model's name.
    pub model: String,
    /// Its version, and those of the models it looks at, by name.
    pub versions: BTreeMap<String, u32>,
    /// Identity of the log it was folded from.
    pub log_id: [u8; 16],
    /// Entries in it.
    pub position: u64,
    /// The log's Merkle root over these.
    pub root: Digest,
    /// Its canonical bytes.
    pub bytes: Vec<u8>,
}

/// Why a stored snapshot is not used. The model is folded from the first entry instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nothing is stored.
    #[error("there is no snapshot")]
    Absent,
    /// Folded by another version of the model, or of one it looks at; or stored in another layout.
    #[error("the snapshot is of another version")]
    Outdated,
    /// Bytes that are not what was stored.
    #[error("the snapshot is damaged: {0}")]
    Damaged(String),
    /// Another log's.
    #[error("the snapshot is of another log, {0}")]
    OtherLog(String),
    /// Of entries that the log does not have: it was restored from a backup.
    #[error("the snapshot is at position {position}, the log ends at {log}")]
    AheadOfLog {
        /// The snapshot's position.
        position: u64,
        /// The log's length.
        log: u64,
    },
    /// Of other entries than the log has at these positions: it was restored and has gone on, or was forged.
    #[error(
        "the snapshot was folded from another history: the log's root at position {position} is not the one it names"
    )]
    OtherHistory {
        /// The snapshot's position.
        position: u64,
    },
}

/// Why nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state is larger than [`MAX_SNAPSHOT_BYTES`].
    #[error("the state of {model} has {bytes} bytes, more than the {MAX_SNAPSHOT_BYTES} that are stored")]
    TooLarge {
        /// The model's name.
        model: String,
        /// Size of its state.
        bytes: usize,
    },
    /// A folder cannot be moved or copied.
    #[error("{}: {cause}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        cause: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    model: String,
    versions: BTreeMap<String, u32>,
    log_id: String,
    position: u64,
    root: String,
    /// SHA-256 of the state's bytes.
    digest: String,
    bytes: usize,
    generation: u64,
}

/// Snapshots in a folder: one a model, the latest. What is in here can be deleted at any time the node is stopped.
#[derive(Debug)]
pub struct SnapshotStore {
    store: GuardedStore,
}

impl SnapshotStore {
    /// Opens or creates the store in `dir`.
    ///
    /// # Errors
    /// [`StoreError::InUse`]: the node runs. [`StoreError::Failed`]: the files make no sense.
    pub fn open(dir: &Path) -> Result<Self, SnapshotError> {
        Ok(Self { store: GuardedStore::open(dir, CACHE_BYTES)? })
    }

    /// The same; a store that makes no sense is moved aside and an empty one begun.
    ///
    /// # Errors
    /// Another process has it, or the disk refuses.
    pub fn open_or_begin(dir: &Path) -> Result<Self, SnapshotError> {
        match Self::open(dir) {
            Err(SnapshotError::Store(StoreError::Failed(cause))) => {
                let aside = GuardedStore::move_aside(dir)
                    .map_err(|error| SnapshotError::Folder { path: dir.to_owned(), cause: error.to_string() })?;
                tracing::warn!(cause, ?aside, "the snapshots of read models are damaged; they begin anew");
                Self::open(dir)
            }
            opened => opened,
        }
    }

    /// Stores a snapshot in place of the one before.
    ///
    /// # Errors
    /// See [`SnapshotError`]; the one before stays then.
    pub fn write(&self, snapshot: &Snapshot) -> Result<(), SnapshotError> {
        let Snapshot { model, bytes, .. } = snapshot;
        if bytes.len() > MAX_SNAPSHOT_BYTES {
            return Err(SnapshotError::TooLarge { model: model.clone(), bytes: bytes.len() });
        }
        let digest = Digest::of(bytes).to_string();
        let before = self.head(model)?.ok();
        // A state that did not change costs its head alone.
        let same =
            before.as_ref().filter(|head| head.digest == digest && self.has_pieces(head)).map(|head| head.generation);
        let generation = match same {
            Some(generation) => generation,
            None => {
                let generation = before.as_ref().map_or(0, |head| head.generation + 1);
                // What a crash may have left of this generation.
                self.remove_pieces(piece_key(model, generation, 0), end_key(model))?;
                for (number, piece) in (0_u32..).zip(bytes.chunks(SNAPSHOT_CHUNK_BYTES)) {
                    self.store.apply(vec![(piece_key(model, generation, number), Some(piece.to_vec()))])?;
                }
                generation
            }
        };
        let head = Head {
            format: FORMAT,
            model: model.clone(),
            versions: snapshot.versions.clone(),
            log_id: hex::encode(snapshot.log_id),
            position: snapshot.position,
            root: snapshot.root.to_string(),
            digest,
            bytes: bytes.len(),
            generation,
        };
        let json = serde_json::to_vec(&head).map_err(|error| StoreError::Failed(error.to_string()))?;
        let mut value = Digest::of(&json).0.to_vec();
        value.extend_from_slice(&json);
        self.store.apply(vec![(head_key(model), Some(value))])?;
        self.remove_pieces(piece_key(model, 0, 0), piece_key(model, generation, 0))?;
        self.store.flush()?;
        Ok(())
    }

    /// The snapshot of a model, with its bytes as they were stored.
    ///
    /// # Errors
    /// Outside: the store failed; inside: [`Unusable::Absent`], [`Unusable::Outdated`] (the layout) or
    /// [`Unusable::Damaged`].
    pub fn read(&self, model: &str) -> Result<Result<Snapshot, Unusable>, StoreError> {
        let head = match self.head(model)? {
            Ok(head) => head,
            Err(unusable) => return Ok(Err(unusable)),
        };
        let damaged = |what: &str| Ok(Err(Unusable::Damaged(what.to_owned())));
        if head.bytes > MAX_SNAPSHOT_BYTES {
            return damaged("it claims to be larger than any snapshot is");
        }
        let mut bytes = Vec::with_capacity(head.bytes);
        let mut number = 0;
        while bytes.len() < head.bytes {
            match self.store.get(&piece_key(model, head.generation, number))? {
                Some(piece) if !piece.is_empty() && bytes.len() + piece.len() <= head.bytes => bytes.extend(piece),
                Some(_) => return damaged("a piece has another length"),
                None => return damaged("a piece is missing"),
            }
            number += 1;
        }
        if Digest::of(&bytes).to_string() != head.digest {
            return damaged("its digest is another");
        }
        let log_id = hex::decode(&head.log_id).ok().and_then(|id| id.try_into().ok());
        let (Some(log_id), Ok(root)) = (log_id, head.root.parse()) else {
            return damaged("its log or root is none");
        };
        Ok(Ok(Snapshot { model: head.model, versions: head.versions, log_id, position: head.position, root, bytes }))
    }

    fn head(&self, model: &str) -> Result<Result<Head, Unusable>, StoreError> {
        let Some(value) = self.store.get(&head_key(model))? else { return Ok(Err(Unusable::Absent)) };
        let damaged = |what: &str| Ok(Err(Unusable::Damaged(what.to_owned())));
        let Some((digest, json)) = value.split_at_checked(DIGEST_BYTES) else {
            return damaged("its head is too short");
        };
        if json.len() > MAX_HEAD_BYTES || Digest::of(json).0 != digest {
            return damaged("its head is not what was stored");
        }
        // Intact and yet not readable: of another layout.
        let Ok(head) = serde_json::from_slice::<Head>(json) else { return Ok(Err(Unusable::Outdated)) };
        if head.format != FORMAT {
            return Ok(Err(Unusable::Outdated));
        }
        if head.model != model {
            return damaged("its head is another model's");
        }
        Ok(Ok(head))
    }

    fn has_pieces(&self, head: &Head) -> bool {
        matches!(self.read(&head.model), Ok(Ok(_)))
    }

    fn remove_pieces(&self, from: Vec<u8>, to: Vec<u8>) -> Result<(), StoreError> {
        loop {
            let keys = self.store.keys(&from, &to, PIECES_AT_ONCE)?;
            if keys.is_empty() {
                return Ok(());
            }
            self.store.apply(keys.into_iter().map(|key| (key, None)).collect())?;
        }
    }
}

fn head_key(model: &str) -> Vec<u8> {
    format!("m/{model}").into_bytes()
}

fn piece_key(model: &str, generation: u64, number: u32) -> Vec<u8> {
    let mut key = format!("c/{model}/").into_bytes();
    key.extend_from_slice(&generation.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// After every piece of the model.
fn end_key(model: &str) -> Vec<u8> {
    format!("c/{model}0").into_bytes()
}

#[cfg(test)]
mod tests;
