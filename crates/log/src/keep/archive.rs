//! Old chunks move to another folder; a stub in their place says where they are, and readers go there.
//!
//! For each chunk: copy, sync, read the copy back, write the stub, remove the chunk. A crash in between leaves both the
//! chunk and its copy, and the chunk in the log counts.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::copy::{self, Teller};
use super::{KeepError, OnKeepProgress, apart, one_at_a_time};
use crate::files::{self, Files as _, SystemFiles};
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, FORMAT_VERSION, Seed, chunk_name};
use crate::open::{CHUNKS_DIR, lock};
use crate::places::{self, ARCHIVE_FILE, Stub};
use crate::scan::{self, Scanner, Step};
use crate::{Damage, Log, OpenError, catalogue};

/// Of the full chunks the newest so many stay in the log at least: opening looks at the last entries.
pub const MIN_KEPT_CHUNKS: u32 = 1;

/// What was archived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveReport {
    /// The archive folder.
    pub folder: PathBuf,
    /// Chunks moved this time.
    pub moved: Vec<u32>,
    /// Bytes moved this time.
    pub bytes: u64,
    /// Chunks that are archived now, these included.
    pub archived: u32,
    /// Chunks that are in the log's own folder still, thinned ones among them: they stay there.
    pub live: u32,
}

impl Log {
    /// Moves all full chunks but the newest `keep` to the folder `to`, while the log goes on; see [`archive()`].
    ///
    /// # Errors
    /// See [`KeepError`].
    pub fn archive(
        &self,
        to: &Path,
        keep: u32,
        on_progress: Option<OnKeepProgress<'_>>,
    ) -> Result<ArchiveReport, KeepError> {
        if self.is_read_only() {
            return Err(KeepError::ReadOnly);
        }
        // What the index has in memory would be read from the chunks again after a crash, and the archive may be away
        // then.
        self.shared().index.flush().map_err(|error| OpenError::Index(error.0))?;
        let report = run(self.dir(), to, keep, on_progress);
        self.shared().chunks.close_files();
        report
    }
}

/// Moves all full chunks but the newest `keep` (at least [`MIN_KEPT_CHUNKS`]) of the log in `dir`, which nobody may
/// have open, to the folder `to`. They stay part of the log: reading, auditing and rebuilding go to the archive folder
/// by themselves, as long as it is there; a log whose index is good opens and serves newer entries without it. Blocks.
///
/// # Errors
/// See [`KeepError`]. Chunks moved before stay moved.
pub fn archive(
    dir: &Path,
    to: &Path,
    keep: u32,
    on_progress: Option<OnKeepProgress<'_>>,
) -> Result<ArchiveReport, KeepError> {
    if !dir.join(CHUNKS_DIR).is_dir() {
        return Err(OpenError::NoLog { dir: dir.to_owned() }.into());
    }
    let _lock = lock(dir)?;
    run(dir, to, keep, on_progress)
}

/// The caller holds the log's lock, or is the log.
fn run(dir: &Path, to: &Path, keep: u32, on_progress: Option<OnKeepProgress<'_>>) -> Result<ArchiveReport, KeepError> {
    let _one = one_at_a_time();
    let chunks_dir = dir.join(CHUNKS_DIR);
    let chunks = catalogue::read(&chunks_dir)?.chunks;
    fs::create_dir_all(to).map_err(KeepError::io(format!("creating {}", to.display())))?;
    apart(&chunks_dir, to)?;
    let to = to.canonicalize().map_err(KeepError::io(format!("looking at {}", to.display())))?;
    name_folder(&chunks_dir, &to, chunks.iter().any(|chunk| chunk.archived))?;

    let full = chunks.len().saturating_sub(1);
    let old = full.saturating_sub(keep.max(MIN_KEPT_CHUNKS) as usize);
    let length = |path: &Path| fs::metadata(path).map(|data| data.len()).unwrap_or_default();
    let candidates = || (0..old).filter(|at| !chunks[*at].archived && !chunks[*at].thin);
    let total = candidates().map(|at| length(&chunks[at].path)).sum();
    let mut teller = Teller::new(total, on_progress);
    let (mut moved, mut bytes) = (Vec::new(), 0);
    for at in candidates() {
        let (header, next) = (&chunks[at].header, chunks[at + 1].header.first_position);
        bytes += move_chunk(&chunks_dir, &to, header, next, &mut teller)?;
        moved.push(header.number);
    }
    let archived = (chunks.iter().filter(|chunk| chunk.archived).count() + moved.len()) as u32;
    Ok(ArchiveReport { folder: to, moved, bytes, archived, live: chunks.len() as u32 - archived })
}

/// Writes down where the archive is, before anything is there.
fn name_folder(chunks_dir: &Path, to: &Path, in_use: bool) -> Result<(), KeepError> {
    let file = chunks_dir.parent().unwrap_or(Path::new(".")).join(ARCHIVE_FILE);
    let naming = || KeepError::io(format!("writing {}", file.display()));
    let named = places::archive_folder(chunks_dir).map_err(naming())?;
    if named == to || named.canonicalize().is_ok_and(|named| named == to) {
        return Ok(());
    }
    if in_use || file.is_dir() {
        return Err(KeepError::ArchivedElsewhere { folder: named });
    }
    let mut line = to.as_os_str().as_bytes().to_vec();
    if line.trim_ascii() != line {
        let what = io::Error::other("the archive's path begins or ends with a space");
        return Err(naming()(what));
    }
    line.push(b'\n');
    files::write(&file, &line).map_err(naming())
}

fn move_chunk(
    chunks_dir: &Path,
    to: &Path,
    header: &ChunkHeader,
    next: u64,
    teller: &mut Teller<'_>,
) -> Result<u64, KeepError> {
    let name = chunk_name(header.number);
    let moving = || KeepError::io(format!("archiving {name}"));
    let (live, target) = (chunks_dir.join(&name), to.join(&name));
    if let Ok(Some(Ok(theirs))) = scan::read_header(&target)
        && theirs.log_id != header.log_id
    {
        let (theirs, ours) = (hex::encode(theirs.log_id), hex::encode(header.log_id));
        return Err(KeepError::AnotherLog { dir: to.to_owned(), theirs, ours });
    }
    let new = files::new_name(&target);
    let mut source = fs::File::open(&live).map_err(moving())?;
    let length = source.metadata().map_err(moving())?.len();
    let digest = copy::copy(&mut source, length, &new, teller).map_err(moving())?;
    if copy::digest(&new).map_err(moving())? != (length, digest) {
        return Err(KeepError::NotAsRecorded { path: new, what: "the copy does not read back as written".into() });
    }
    whole(&new, header, next)?;
    if is_intact(&target) && copy::digest(&target).map_err(moving())? != (length, digest) {
        files::remove_if_there(&new).map_err(moving())?;
        let what = "another history of this log is archived there; archive this one to another folder".to_owned();
        return Err(KeepError::NotAsRecorded { path: target, what });
    }
    SystemFiles.set_readonly(&new, true).map_err(moving())?;
    files::put_in_place(&new, &target).map_err(moving())?;

    let stub = Stub {
        format: FORMAT_VERSION,
        log_id: hex::encode(header.log_id),
        chunk: header.number,
        first_position: header.first_position,
        next_position: next,
        created_ms: header.created_ms,
        bytes: length,
        sha256: digest.to_string(),
    };
    let mut text = serde_json::to_vec_pretty(&stub).map_err(io::Error::other).map_err(moving())?;
    text.push(b'\n');
    files::write(&places::stub_path(chunks_dir, header.number), &text).map_err(moving())?;
    // What a thinning that was cut off left beside the chunk would count before the stub.
    files::remove_if_there(&places::thin_path(chunks_dir, header.number)).map_err(moving())?;
    files::sync_dir(chunks_dir).map_err(moving())?;
    fs::remove_file(&live).and_then(|()| files::sync_dir(chunks_dir)).map_err(moving())?;
    Ok(length)
}

/// Whether a file is a chunk with entries that ends at a commit. What is not may be what an interruption left.
fn is_intact(path: &Path) -> bool {
    let walk = || {
        let header = scan::read_header(path).ok()??.ok()?;
        let seed = Seed::of(&header.log_id);
        let mut scanner = Scanner::new(path, seed, CHUNK_HEADER_BYTES as u64, header.first_position, 0).ok()?;
        loop {
            match scanner.step().ok()? {
                Step::Group(_) => {}
                Step::End => return Some(scanner.position() > header.first_position),
                Step::Bad(_) => return Some(false),
            }
        }
    };
    walk().unwrap_or(false)
}

/// Damage is not archived: it would be found when nobody has the means to repair it any more.
fn whole(path: &Path, header: &ChunkHeader, next: u64) -> Result<(), KeepError> {
    let name = chunk_name(header.number);
    let reading = || KeepError::io(format!("reading {}", path.display()));
    let seed = Seed::of(&header.log_id);
    let first = header.first_position;
    let mut scanner = Scanner::new(path, seed, CHUNK_HEADER_BYTES as u64, first, 0).map_err(reading())?;
    loop {
        match scanner.step().map_err(reading())? {
            Step::Group(_) => {}
            Step::End if scanner.position() == next => return Ok(()),
            Step::End => {
                let (offset, position) = (scanner.offset(), scanner.position());
                let what = format!("the chunk ends at position {position}, the next begins at {next}");
                return Err(Damage { chunk: name, offset, position, what }.into());
            }
            Step::Bad(bad) => {
                let (offset, position, what) = (bad.offset, bad.position, bad.what.to_owned());
                return Err(Damage { chunk: name, offset, position, what }.into());
            }
        }
    }
}
