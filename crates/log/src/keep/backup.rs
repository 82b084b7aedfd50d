//! A copy of a log that is being written: a prefix that ends at a commit marker.
//!
//! The checkpoint is read first and the chunks afterwards, so the copy holds at least what the checkpoint vouches for.
//! Committed bytes never change, so no lock is needed. A later run into the same folder copies what is new only.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use httt_feed::Digest;

use super::copy::{self, Teller};
use super::manifest::{ChunkRecord, Manifest};
use super::walk::{self, End};
use super::{KeepError, OnKeepProgress, Vouchers, apart};
use crate::clock::{Clock, SystemClock};
use crate::files::{self, Files as _, SystemFiles};
use crate::frame::{CHUNK_HEADER_BYTES, COMMIT_FRAME_BYTES, Commit, FRAME_HEADER_BYTES, chunk_name};
use crate::merkle::CompactRange;
use crate::open::{CHUNKS_DIR, lock};
use crate::recover::ChunkFile;
use crate::thin::Thin;
use crate::{Log, OpenError, catalogue, checkpoint, places};

/// How a backup is made.
pub struct BackupOptions<'a> {
    /// Read again every full chunk that the folder holds already, and copy anew what is not as recorded there. Else
    /// length, header and last commit marker, which has the Merkle root of all before it, are compared.
    pub verify: bool,
    /// Told how far it is.
    pub on_progress: Option<OnKeepProgress<'a>>,
    /// Tells the time that the manifest says.
    pub clock: Arc<dyn Clock>,
}

impl Default for BackupOptions<'_> {
    fn default() -> Self {
        Self { verify: false, on_progress: None, clock: Arc::new(SystemClock) }
    }
}

impl std::fmt::Debug for BackupOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BackupOptions").field("verify", &self.verify).finish_non_exhaustive()
    }
}

/// What a backup holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupReport {
    /// The log's id.
    pub log_id: [u8; 16],
    /// Entries in the backup.
    pub entries: u64,
    /// Their RFC 6962 root.
    pub root: Digest,
    /// Entries that the signed checkpoint in the backup vouches for; `None`: the log had none.
    pub checkpoint: Option<u64>,
    /// Chunks copied this time.
    pub copied: u32,
    /// Chunks that were there already.
    pub kept: u32,
    /// Bytes copied this time.
    pub bytes_copied: u64,
}

impl Log {
    /// Copies this log into `out` while it goes on; see [`backup()`].
    ///
    /// # Errors
    /// See [`KeepError`].
    pub fn backup(&self, out: &Path, options: BackupOptions<'_>) -> Result<BackupReport, KeepError> {
        backup(self.dir(), out, options)
    }
}

/// Copies the log in `dir`, which a node may have open, into `out`: chunks, signed checkpoint and a manifest,
/// `backup.json`. The index is not copied, it can be rebuilt; media are not the log's. `out` is a log's folder in its
/// own right: [`crate::audit()`] and [`crate::scan_entries`] read it. Run again with the same `out`, it copies what is
/// new. Blocks.
///
/// # Errors
/// See [`KeepError`]. What `out` held before is good still.
pub fn backup(dir: &Path, out: &Path, options: BackupOptions<'_>) -> Result<BackupReport, KeepError> {
    // The order matters: what the checkpoint vouches for is in the chunks that are listed after it was read.
    let text = checkpoint::read_file(dir).map_err(KeepError::io("reading the checkpoint"))?;
    let claimed = text.as_deref().map(|text| checkpoint::parse(text, None, &[])).transpose();
    let claimed = claimed.map_err(|what| KeepError::Log(OpenError::Checkpoint(what)))?;
    let catalogue = match catalogue::read(&dir.join(CHUNKS_DIR)) {
        Ok(catalogue) if !catalogue.chunks.is_empty() => catalogue,
        Ok(_) => return Err(OpenError::NoLog { dir: dir.to_owned() }.into()),
        Err(error) => return Err(error.into()),
    };
    let chunks = &catalogue.chunks;
    let last = &chunks[chunks.len() - 1];
    let end = walk::committed_end(&last.path, &last.header)?;
    if let Some(size) = claimed.as_ref().map(|claimed| claimed.statement.size).filter(|size| *size > end.position) {
        let detail = format!("{} ends at byte {}", chunk_name(last.header.number), end.offset);
        return Err(OpenError::ShorterThanCheckpoint { entries: end.position, checkpoint: size, detail }.into());
    }

    let out_chunks = out.join(CHUNKS_DIR);
    fs::create_dir_all(&out_chunks).map_err(KeepError::io(format!("creating {}", out_chunks.display())))?;
    apart(dir, out)?;
    let _lock = lock(out)?;
    let log_id = last.header.log_id;
    let before = Manifest::read(out)?;
    let mut vouchers = Vouchers::default();
    if let Some(before) = &before {
        compare_with(before, out, &log_id, end.position)?;
        // Its entries must be the beginning of ours.
        vouchers.add(
            "the manifest of the backup made before",
            before.entries,
            before.root().unwrap_or(Digest([0; 32])),
        );
    }
    refuse_foreign(out, &out_chunks, &log_id, last.header.number, end.position)?;
    if let Some(claimed) = &claimed {
        vouchers.add("the signed checkpoint", claimed.statement.size, claimed.statement.root);
    }
    let range = CompactRange::default();
    vouchers.meet(0, range.root())?;

    let length = |chunk: &ChunkFile| fs::metadata(&chunk.path).map(|data| data.len()).unwrap_or_default();
    let total = chunks.iter().map(|chunk| if chunk.header == last.header { end.offset } else { length(chunk) }).sum();
    let mut run = Run {
        dir_chunks: dir.join(CHUNKS_DIR),
        out_chunks,
        verify: options.verify,
        teller: Teller::new(total, options.on_progress),
        range,
        vouchers,
        records: Vec::new(),
        copied: 0,
        bytes_copied: 0,
    };
    for (at, chunk) in chunks.iter().enumerate() {
        let next = chunks.get(at + 1).map(|next| next.header.first_position);
        let record = before.as_ref().and_then(|before| before.chunk(chunk.header.number));
        run.chunk(&Part { chunk, next, end }, record)?;
    }
    let Run { range, vouchers, .. } = &run;
    vouchers.finish()?;
    if let Some(text) = &text {
        let path = out.join(checkpoint::CHECKPOINT_FILE);
        files::write(&path, text.as_bytes()).map_err(KeepError::io("writing the checkpoint"))?;
    }
    let size = claimed.as_ref().map(|claimed| claimed.statement.size);
    let origin = claimed.map(|claimed| claimed.origin);
    let kept = chunks.len() as u32 - run.copied;
    Manifest::new(log_id, origin, range, size, options.clock.now_ms(), run.records.clone()).write(out)?;
    Ok(BackupReport {
        log_id,
        entries: range.size(),
        root: range.root(),
        checkpoint: size,
        copied: run.copied,
        kept,
        bytes_copied: run.bytes_copied,
    })
}

/// A backup is never replaced by one of another log, nor by a shorter one.
fn compare_with(before: &Manifest, out: &Path, log_id: &[u8; 16], entries: u64) -> Result<(), KeepError> {
    let ours = hex::encode(log_id);
    if before.log_id != ours {
        return Err(KeepError::AnotherLog { dir: out.to_owned(), theirs: before.log_id.clone(), ours });
    }
    if before.entries > entries {
        return Err(KeepError::BackupAhead { dir: out.to_owned(), backup: before.entries, log: entries });
    }
    Ok(())
}

/// The same, judged by the chunks that are there: a first backup may have been interrupted, or this be no backup.
fn refuse_foreign(out: &Path, out_chunks: &Path, log_id: &[u8; 16], last: u32, entries: u64) -> Result<(), KeepError> {
    let numbers = catalogue::numbers(out_chunks).map_err(KeepError::io(format!("listing {}", out_chunks.display())))?;
    for number in numbers {
        let path = places::path(out_chunks, number).map_err(KeepError::io("looking for a chunk"))?;
        let header = crate::scan::read_header(&path).map_err(KeepError::io(format!("reading {}", path.display())))?;
        let Some(Ok(header)) = header else { continue };
        if header.log_id != *log_id {
            let (theirs, ours) = (hex::encode(header.log_id), hex::encode(log_id));
            return Err(KeepError::AnotherLog { dir: out.to_owned(), theirs, ours });
        }
        if number > last {
            let backup = header.first_position;
            return Err(KeepError::BackupAhead { dir: out.to_owned(), backup, log: entries });
        }
    }
    Ok(())
}

/// What of a chunk is to be copied.
struct Part<'a> {
    chunk: &'a ChunkFile,
    /// Where the next chunk begins; `None`: this is the last one.
    next: Option<u64>,
    /// Where the last chunk ends.
    end: End,
}

/// One run.
struct Run<'a> {
    dir_chunks: std::path::PathBuf,
    out_chunks: std::path::PathBuf,
    verify: bool,
    teller: Teller<'a>,
    /// The Merkle tree up to where it is.
    range: CompactRange,
    vouchers: Vouchers,
    records: Vec<ChunkRecord>,
    copied: u32,
    bytes_copied: u64,
}

impl Run<'_> {
    /// Sees to it that `out` holds the chunk, of which there is a `record` from last time.
    fn chunk(&mut self, part: &Part<'_>, record: Option<&ChunkRecord>) -> Result<(), KeepError> {
        let Part { chunk, next, end } = part;
        let header = &chunk.header;
        let name = chunk.name();
        let reading = || KeepError::io(format!("reading {name}"));
        if let Some(path) = places::missing(&self.dir_chunks, header.number) {
            return Err(OpenError::ArchiveMissing { chunk: name, path }.into());
        }
        let mut source = places::open(&self.dir_chunks, header.number).map_err(reading())?;
        // It may have been thinned since it was listed.
        let thin = Thin::open(&source).map_err(reading())?.is_some();
        let target = self.out_chunks.join(places::name(header.number, thin));
        let length = match next {
            Some(_) => source.metadata().map_err(reading())?.len(),
            None => end.offset,
        };
        if let Some((next, record)) = next.zip(record)
            && record.bytes == length
            && let Some((tree, root)) = same(&source, &target, length, next, record)
        {
            let trusted = !self.verify && !self.vouchers.any_within(header.first_position, next);
            if trusted {
                self.vouchers.meet(next, root)?;
                self.range = tree;
                self.keep(record.clone(), length);
                return Ok(());
            }
            // Its own checksums and roots, and the recorded digest, must bear it out; else it is copied anew.
            let (_, digest) = copy::digest(&target).map_err(KeepError::io(format!("reading {}", target.display())))?;
            let mut walked = self.range.clone();
            let whole = walk::walk(&target, header, length, &mut walked, &mut self.vouchers);
            if digest.to_string() == record.sha256 && whole.is_ok_and(|end| end.position == next) {
                self.range = walked;
                self.keep(record.clone(), length);
                return Ok(());
            }
            tracing::warn!(chunk = name, "the backup's copy is not as recorded; it is copied anew");
        }
        let new = files::new_name(&target);
        let done = self.replace(part, &target, &mut source, length);
        if done.is_err() {
            // It would not be taken for a chunk; still it takes space.
            let _ = files::remove_if_there(&new);
        }
        done
    }

    /// Copies the chunk, verifies the copy, and puts it in place of what `out` had.
    fn replace(&mut self, part: &Part<'_>, target: &Path, source: &mut fs::File, length: u64) -> Result<(), KeepError> {
        let Part { chunk, next, end } = part;
        let header = &chunk.header;
        let name = chunk.name();
        let new = files::new_name(target);
        let before = places::path(&self.out_chunks, header.number).map_err(KeepError::io(format!("copying {name}")))?;
        // What is to be replaced must be the beginning of what replaces it, as far as it is good.
        if let Some((position, root)) = good_end(&before) {
            let log = next.unwrap_or(end.position);
            if position > log {
                let dir = self.out_chunks.parent().unwrap_or(&self.out_chunks).to_owned();
                return Err(KeepError::BackupAhead { dir, backup: position, log });
            }
            self.vouchers.add(format!("{name} in the backup"), position, root);
        }
        let digest =
            copy::copy(source, length, &new, &mut self.teller).map_err(KeepError::io(format!("copying {name}")))?;
        let walked = walk::walk(&new, header, length, &mut self.range, &mut self.vouchers)?;
        let wanted = (next.unwrap_or(end.position), next.map_or(end.offset, |_| walked.offset));
        if (walked.position, walked.offset) != wanted {
            let what = format!("the chunk ends at position {}, not {}", walked.position, wanted.0);
            let (offset, position) = (walked.offset, walked.position);
            return Err(crate::Damage { chunk: name, offset, position, what }.into());
        }
        if next.is_some() {
            SystemFiles.set_readonly(&new, true).map_err(KeepError::io(format!("copying {name}")))?;
        }
        // Another history may have commits elsewhere: what is vouched for up to here must have been met, not only not
        // contradicted, before anything is replaced.
        self.vouchers.finish_up_to(self.range.size())?;
        files::put_in_place(&new, target).map_err(KeepError::io(format!("copying {name}")))?;
        if before != target {
            // What went by retention is not kept here either; a chunk would count before its thinned one.
            files::remove_if_there(&before).map_err(KeepError::io(format!("removing {}", before.display())))?;
            files::sync_dir(&self.out_chunks).map_err(KeepError::io(format!("removing {}", before.display())))?;
        }
        self.records.push(ChunkRecord::new(header.number, header.first_position, length, digest, &self.range));
        self.copied += 1;
        self.bytes_copied += length;
        Ok(())
    }

    fn keep(&mut self, record: ChunkRecord, length: u64) {
        self.records.push(record);
        self.teller.add(length);
    }
}

/// Up to which position a chunk of the backup is good, and the root there.
fn good_end(target: &Path) -> Option<(u64, Digest)> {
    let header = crate::scan::read_header(target).ok()??.ok()?;
    let end = walk::committed_end(target, &header).ok()?;
    Some((end.position, end.root?))
}

/// Whether the backup's copy of a full chunk has the same length, header and last commit marker as the source, and the
/// record fits that marker: then the Merkle tree up to its end and the root.
fn same(
    source: &fs::File,
    target: &Path,
    length: u64,
    next: u64,
    record: &ChunkRecord,
) -> Option<(CompactRange, Digest)> {
    use std::os::unix::fs::FileExt as _;
    let copy = fs::File::open(target).ok()?;
    if copy.metadata().ok()?.len() != length || record.next_position != next {
        return None;
    }
    let mut headers = [[0; CHUNK_HEADER_BYTES]; 2];
    source.read_exact_at(&mut headers[0], 0).ok()?;
    copy.read_exact_at(&mut headers[1], 0).ok()?;
    let mut marker = copy::last_bytes(source, COMMIT_FRAME_BYTES).ok()?;
    if headers[0] != headers[1] || marker != copy::last_bytes(&copy, COMMIT_FRAME_BYTES).ok()? {
        return None;
    }
    if let Some(thin) = Thin::open(source).ok()? {
        // These were the ends of the tables, which differ where anything before does.
        let (_, at) = thin.ok()?.marker(source, next).ok()?.ok()?;
        let mut theirs = marker.clone();
        source.read_exact_at(&mut marker, at).ok()?;
        copy.read_exact_at(&mut theirs, at).ok()?;
        if marker != theirs {
            return None;
        }
    }
    let commit = Commit::decode(&marker[FRAME_HEADER_BYTES..])?;
    let tree = record.tree()?;
    (tree.root() == commit.root).then_some((tree, commit.root))
}
