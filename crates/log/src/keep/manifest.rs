//! `backup.json`: what a backup holds. Nobody signs it; what it says is borne out by the chunks, and these by the
//! signed checkpoint beside it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use httt_feed::Digest;
use serde::{Deserialize, Serialize};

use super::KeepError;
use crate::files;
use crate::merkle::CompactRange;

/// File name in the backup's folder.
pub(super) const MANIFEST_FILE: &str = "backup.json";
/// Version of its layout.
const MANIFEST_FORMAT: u32 = 1;
/// Largest manifest read: a hundred thousand chunks have room.
const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// 32 hexadecimal digits.
    pub(super) log_id: String,
    /// Origin line of the checkpoint; `None`: the log had no checkpoint.
    pub(super) origin: Option<String>,
    /// Entries.
    pub(super) entries: u64,
    /// Their Merkle root, 64 hexadecimal digits.
    pub(super) root: String,
    /// Entries the signed checkpoint beside vouches for.
    pub(super) checkpoint: Option<u64>,
    /// Unix milliseconds.
    pub(super) made_at_ms: i64,
    /// In order.
    pub(super) chunks: Vec<ChunkRecord>,
}

/// One chunk of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ChunkRecord {
    pub(super) chunk: u32,
    pub(super) first_position: u64,
    pub(super) next_position: u64,
    pub(super) bytes: u64,
    /// 64 hexadecimal digits.
    pub(super) sha256: String,
    /// The Merkle tree up to the chunk's end in short (see `CompactRange`), hexadecimal: where the next backup goes on.
    tree: String,
}

impl ChunkRecord {
    pub(super) fn new(number: u32, first: u64, bytes: u64, sha256: Digest, range: &CompactRange) -> Self {
        let mut tree = Vec::new();
        range.encode(&mut tree);
        Self {
            chunk: number,
            first_position: first,
            next_position: range.size(),
            bytes,
            sha256: sha256.to_string(),
            tree: hex::encode(tree),
        }
    }

    /// The tree up to the chunk's end, as recorded.
    pub(super) fn tree(&self) -> Option<CompactRange> {
        CompactRange::decode(&hex::decode(&self.tree).ok()?).filter(|range| range.size() == self.next_position)
    }
}

impl Manifest {
    pub(super) fn new(
        log_id: [u8; 16],
        origin: Option<String>,
        range: &CompactRange,
        checkpoint: Option<u64>,
        made_at_ms: i64,
        chunks: Vec<ChunkRecord>,
    ) -> Self {
        Self {
            format: MANIFEST_FORMAT,
            log_id: hex::encode(log_id),
            origin,
            entries: range.size(),
            root: range.root().to_string(),
            checkpoint,
            made_at_ms,
            chunks,
        }
    }

    pub(super) fn root(&self) -> Option<Digest> {
        self.root.parse().ok()
    }

    pub(super) fn chunk(&self, number: u32) -> Option<&ChunkRecord> {
        self.chunks.get(number as usize).filter(|record| record.chunk == number)
    }

    /// Reads the manifest in `dir`, if there is one.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, KeepError> {
        let path = dir.join(MANIFEST_FILE);
        let not_as_recorded = |what: String| KeepError::NotAsRecorded { path: path.clone(), what };
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|file| file.take(MAX_MANIFEST_BYTES + 1).read_to_end(&mut bytes)) {
            Ok(read) if read as u64 > MAX_MANIFEST_BYTES => return Err(not_as_recorded("it is too long".into())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KeepError::io(format!("reading {}", path.display()))(error)),
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| not_as_recorded(error.to_string()))?;
        if manifest.format != MANIFEST_FORMAT || manifest.root().is_none() {
            return Err(not_as_recorded(format!("format {} is not known, or its root is none", manifest.format)));
        }
        Ok(Some(manifest))
    }

    /// Replaces the manifest in `dir`.
    pub(super) fn write(&self, dir: &Path) -> Result<(), KeepError> {
        let writing = || KeepError::io(format!("writing {MANIFEST_FILE}"));
        let mut bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other).map_err(writing())?;
        bytes.push(b'\n');
        files::write(&dir.join(MANIFEST_FILE), &bytes).map_err(writing())
    }
}
