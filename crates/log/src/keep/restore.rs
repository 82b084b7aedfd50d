//! A backup becomes a log again, verified while it is copied.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use httt_feed::Digest;

use super::copy::{self, Teller};
use super::manifest::Manifest;
use super::{KeepError, OnKeepProgress, Vouchers, apart, walk};
use crate::files::{self, Files as _, SystemFiles};
use crate::merkle::CompactRange;
use crate::open::{CHUNKS_DIR, LOCK_FILE, lock};
use crate::{Damage, OpenError, catalogue, checkpoint, places};

/// Where chunks are put until all are there.
const RESTORING_DIR: &str = "chunks.restoring";

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreReport {
    /// The log's id.
    pub log_id: [u8; 16],
    /// Origin line of its checkpoint, `httt/CODE`.
    pub origin: Option<String>,
    /// Entries it has.
    pub entries: u64,
    /// Their RFC 6962 root.
    pub root: Digest,
    /// Chunks.
    pub chunks: u32,
    /// Bytes of them.
    pub bytes: u64,
    /// Entries the signed checkpoint vouches for; the signature itself is checked by [`crate::audit()`] and at opening.
    pub checkpoint: Option<u64>,
    /// When the backup was made, Unix milliseconds; `None`: the folder is a log's, but no backup with a manifest.
    pub made_at_ms: Option<i64>,
    /// When its last entry was committed, Unix milliseconds.
    pub last_commit_ms: Option<i64>,
}

/// Copies the backup, or any log's folder that nobody has open, into `dir`, which must be empty or not exist. Every
/// frame, commit marker and root is verified, and compared with the manifest and the signed checkpoint, before the log
/// is there. Blocks.
///
/// A log restored from an old backup does not know what its node has said since. A node that is started on it takes
/// its own later entries back from the exchange before it writes; it must not be made to write without that.
///
/// # Errors
/// See [`KeepError`]. `dir` holds no log then.
pub fn restore(backup: &Path, dir: &Path, on_progress: Option<OnKeepProgress<'_>>) -> Result<RestoreReport, KeepError> {
    let _source = shared_lock(backup)?;
    let text = checkpoint::read_file(backup).map_err(KeepError::io("reading the checkpoint"))?;
    let claimed = text.as_deref().map(|text| checkpoint::parse(text, None, &[])).transpose();
    let claimed = claimed.map_err(|what| KeepError::Log(OpenError::Checkpoint(what)))?;
    let manifest = Manifest::read(backup)?;
    let source = backup.join(CHUNKS_DIR);
    let chunks = match catalogue::read(&source) {
        Ok(catalogue) if !catalogue.chunks.is_empty() => catalogue.chunks,
        Ok(_) => return Err(OpenError::NoLog { dir: backup.to_owned() }.into()),
        Err(error) => return Err(error.into()),
    };
    let last = &chunks[chunks.len() - 1];
    let log_id = last.header.log_id;
    let mut vouchers = Vouchers::default();
    if let Some(manifest) = &manifest {
        let ours = hex::encode(log_id);
        if manifest.log_id != ours {
            let theirs = manifest.log_id.clone();
            return Err(KeepError::AnotherLog { dir: backup.to_owned(), theirs, ours });
        }
        vouchers.add("the backup's manifest", manifest.entries, manifest.root().unwrap_or(Digest([0; 32])));
    }
    if let Some(claimed) = &claimed {
        vouchers.add("the signed checkpoint", claimed.statement.size, claimed.statement.root);
    }
    let mut range = CompactRange::default();
    vouchers.meet(0, range.root())?;

    fs::create_dir_all(dir).map_err(KeepError::io(format!("creating {}", dir.display())))?;
    apart(backup, dir)?;
    must_be_empty(dir)?;
    // A node started meanwhile must not take the folder for a new log.
    let _lock = lock(dir)?;
    let restoring = dir.join(RESTORING_DIR);
    if restoring.exists() {
        fs::remove_dir_all(&restoring).map_err(KeepError::io("removing what an interrupted restore left"))?;
    }
    fs::create_dir(&restoring).map_err(KeepError::io(format!("creating {}", restoring.display())))?;

    let length = |path: &Path| fs::metadata(path).map(|data| data.len()).unwrap_or_default();
    let mut teller = Teller::new(chunks.iter().map(|chunk| length(&chunk.path)).sum(), on_progress);
    let (mut bytes, mut last_commit_ms) = (0, None);
    for (at, chunk) in chunks.iter().enumerate() {
        let name = chunk.name();
        let copying = || KeepError::io(format!("copying {name}"));
        if let Some(path) = places::missing(&source, chunk.header.number) {
            return Err(OpenError::ArchiveMissing { chunk: name, path }.into());
        }
        let next = chunks.get(at + 1).map(|next| next.header.first_position);
        let end = match next {
            Some(_) => length(&chunk.path),
            None => walk::committed_end(&chunk.path, &chunk.header)?.offset,
        };
        let target = restoring.join(&name);
        let mut from = places::open(&source, chunk.header.number).map_err(copying())?;
        let digest = copy::copy(&mut from, end, &target, &mut teller).map_err(copying())?;
        let record = manifest.as_ref().and_then(|manifest| manifest.chunk(chunk.header.number));
        // A backup that was interrupted after it had replaced the last chunk holds more than its manifest says.
        if let Some(record) = record.filter(|record| record.bytes == end && record.sha256 != digest.to_string()) {
            let what = format!("its SHA-256 is {digest}, the manifest says {}", record.sha256);
            return Err(KeepError::NotAsRecorded { path: chunk.path.clone(), what });
        }
        let walked = walk::walk(&target, &chunk.header, end, &mut range, &mut vouchers)?;
        if next.is_some_and(|next| next != walked.position) {
            let what = format!("the chunk ends at position {}, the next begins elsewhere", walked.position);
            let (offset, position) = (walked.offset, walked.position);
            return Err(Damage { chunk: name, offset, position, what }.into());
        }
        if next.is_some() {
            SystemFiles.set_readonly(&target, true).map_err(copying())?;
        }
        last_commit_ms = walked.at_ms.or(last_commit_ms);
        bytes += end;
    }
    vouchers.finish()?;
    let checkpoint = claimed.as_ref().map(|claimed| claimed.statement.size);
    put_in_place(dir, &restoring, text.as_deref()).map_err(KeepError::io("putting the restored log in place"))?;
    Ok(RestoreReport {
        log_id,
        origin: claimed.map(|claimed| claimed.origin),
        entries: range.size(),
        root: range.root(),
        chunks: chunks.len() as u32,
        bytes,
        checkpoint,
        made_at_ms: manifest.map(|manifest| manifest.made_at_ms),
        last_commit_ms,
    })
}

/// The checkpoint comes first: with it, but without chunks, no log opens.
fn put_in_place(dir: &Path, restoring: &Path, checkpoint: Option<&str>) -> io::Result<()> {
    files::sync_dir(restoring)?;
    if let Some(text) = checkpoint {
        files::write(&dir.join(checkpoint::CHECKPOINT_FILE), text.as_bytes())?;
    }
    files::put_in_place(restoring, &dir.join(CHUNKS_DIR))?;
    dir.canonicalize()?.parent().map_or(Ok(()), files::sync_dir)
}

/// What an interrupted restore left may be there, nothing else.
fn must_be_empty(dir: &Path) -> Result<(), KeepError> {
    let listing = || KeepError::io(format!("listing {}", dir.display()));
    let interrupted = dir.join(RESTORING_DIR).exists();
    for item in fs::read_dir(dir).map_err(listing())? {
        let name = item.map_err(listing())?.file_name();
        let left = interrupted && [RESTORING_DIR, checkpoint::CHECKPOINT_FILE].iter().any(|known| name == *known);
        if !left && name != LOCK_FILE {
            return Err(KeepError::NotEmpty { dir: dir.to_owned() });
        }
    }
    Ok(())
}

/// Nobody may write into the backup meanwhile. A copy without lock file needs no lock.
fn shared_lock(dir: &Path) -> Result<Option<File>, KeepError> {
    let file = match File::open(dir.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(KeepError::io("opening the lock")(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }.into()),
        Err(TryLockError::Error(error)) => Err(KeepError::io("locking the backup")(error)),
    }
}
