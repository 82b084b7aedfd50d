//! The store's file operations, all blocking; whoever calls them holds the digest's turn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use httt_feed::Digest;
use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::MediaStoreError;
use super::error::io_error;
use super::ledger::Ledger;

/// Buffer for reading whole files.
const READ_BYTES: usize = 256 << 10;
/// Levels of folders between the store's own and a file.
const FAN_OUT: usize = 2;
const INCOMING: &str = "incoming";
/// Ends the names of unfinished files.
const PART: &str = ".part";

pub(super) fn path(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.join(&name[..2]).join(&name[2..4]).join(name)
}

/// An unfinished file belongs to who brings it: nobody else can continue, spoil or discard it.
pub(super) fn part(path: &Path, writer: &str) -> PathBuf {
    path.with_extension(format!("{writer}{PART}"))
}

/// What a name in the folder says: the file, and who brings it if it is unfinished.
pub(super) fn read_name(name: &str) -> Option<(Digest, Option<&str>)> {
    match name.split_once('.') {
        None => Some((name.parse().ok()?, None)),
        Some((digest, rest)) => Some((digest.parse().ok()?, Some(rest.strip_suffix(PART)?))),
    }
}

pub(super) fn prepare(folder: &Path) -> Result<(), MediaStoreError> {
    let incoming = folder.join(INCOMING);
    let failed = |source| io_error(&incoming, source);
    fs::create_dir_all(&incoming).map_err(failed)?;
    for entry in fs::read_dir(&incoming).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        tracing::info!(path = %path.display(), "removing an unfinished upload");
        fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
    }
    Ok(())
}

/// Shows every file in the folder, at most [`FAN_OUT`] levels down.
pub(super) fn walk(folder: &Path, show: &mut impl FnMut(&str, &fs::Metadata)) -> Result<(), MediaStoreError> {
    walk_levels(folder, FAN_OUT, show)
}

fn walk_levels(
    folder: &Path,
    levels: usize,
    show: &mut impl FnMut(&str, &fs::Metadata),
) -> Result<(), MediaStoreError> {
    let failed = |source| io_error(folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let metadata = entry.metadata().map_err(failed)?;
        if !metadata.is_dir() {
            show(&entry.file_name().to_string_lossy(), &metadata);
        } else if levels > 0 {
            walk_levels(&entry.path(), levels - 1, show)?;
        }
    }
    Ok(())
}

pub(super) fn length(path: &Path) -> Result<Option<u64>, MediaStoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

/// What became of a piece.
pub(super) enum Appended {
    /// So many bytes are held.
    Held(u64),
    /// It was the last one, and the whole has the digest that it should.
    Whole(Verified),
}

/// A whole file under a provisional name, whose bytes have this digest.
pub(super) struct Verified {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) path: PathBuf,
}

/// Adds a piece to `writer`'s unfinished file at `path`.
pub(super) fn append(
    ledger: &Ledger,
    path: &Path,
    writer: &str,
    digest: &Digest,
    total: u64,
    offset: u64,
    data: &[u8],
) -> Result<Appended, MediaStoreError> {
    let part = part(path, writer);
    ledger.continues(writer, *digest);
    let mut held = length(&part)?.unwrap_or(0);
    let gone = || {
        discard(&part)?;
        ledger.part(writer, *digest, None);
        Ok(())
    };
    if held > total {
        // Somebody announced a larger file under this digest: what was kept then is worthless.
        gone()?;
        held = 0;
    }
    if offset != held {
        return Err(MediaStoreError::OutOfStep { digest: *digest, offset, held });
    }
    let end = offset.saturating_add(data.len() as u64);
    if end > total {
        return Err(MediaStoreError::PastEnd { digest: *digest, end, total });
    }
    ledger.grow_part(writer, *digest, end)?;
    create_folders(folder_of(path))?;
    let written = OpenOptions::new().append(true).create(true).open(&part).and_then(|mut file| {
        // Half a piece is no piece: the sender resumes where this one began.
        file.write_all(data).inspect_err(|_| drop(file.set_len(held)))
    });
    if let Err(source) = written {
        ledger.part(writer, *digest, Some(held));
        return Err(io_error(&part, source));
    }
    if end < total {
        return Ok(Appended::Held(end));
    }
    let actual = digest_of(&part)?;
    if actual != *digest {
        gone()?;
        return Err(MediaStoreError::Mismatch { expected: *digest, actual });
    }
    Ok(Appended::Whole(Verified { digest: *digest, size: total, path: part }))
}

/// Makes a verified file appear under its name, durably. After a failed sync the kernel may hold pages as clean that
/// never reached the disk, so nothing is tried again with the same file: it goes, and the sender starts afresh.
pub(super) fn publish(from: &Path, to: &Path) -> Result<(), MediaStoreError> {
    create_folders(folder_of(to))?;
    let renamed = File::open(from).and_then(|file| file.sync_all()).and_then(|()| fs::rename(from, to));
    if let Err(source) = renamed {
        discard(from)?;
        return Err(io_error(from, source));
    }
    // The folders' names too: they may be as new as the file.
    let mut folders = to.ancestors().skip(1).take(FAN_OUT + 1);
    if let Err(error) = folders.try_for_each(sync_folder) {
        discard(to)?;
        return Err(error);
    }
    Ok(())
}

pub(super) fn read_range(
    ledger: &Ledger,
    path: &Path,
    digest: &Digest,
    offset: u64,
    max: u64,
) -> Result<(Bytes, u64), MediaStoreError> {
    let mut file = open(path, digest)?;
    let failed = |source| io_error(path, source);
    let size = file.metadata().map_err(failed)?.len();
    if offset > size {
        return Err(MediaStoreError::Range { digest: *digest, offset, size });
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let length = max.min(size - offset);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    (&mut file).take(length).read_to_end(&mut bytes).map_err(failed)?;
    ledger.touch(digest, &file);
    Ok((bytes.into(), size))
}

fn open(path: &Path, digest: &Digest) -> Result<File, MediaStoreError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => MediaStoreError::NotFound(*digest),
        _ => io_error(path, source),
    })
}

pub(super) fn discard(path: &Path) -> Result<(), MediaStoreError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(io_error(path, source)),
        _ => Ok(()),
    }
}

fn digest_of(path: &Path) -> Result<Digest, MediaStoreError> {
    let failed = |source| io_error(path, source);
    let mut file = File::open(path).map_err(failed)?;
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(finished(context)),
            count => context.update(&buffer[..count]),
        }
    }
}

fn finished(context: Context) -> Digest {
    let mut value = [0; 32];
    value.copy_from_slice(context.finish().as_ref());
    Digest(value)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or_else(|| Path::new("."))
}

fn create_folders(folder: &Path) -> Result<(), MediaStoreError> {
    fs::create_dir_all(folder).map_err(|source| io_error(folder, source))
}

fn sync_folder(folder: &Path) -> Result<(), MediaStoreError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io_error(folder, source))
}

/// A file that is written here and whose digest is computed on the way: an upload, or a copy that is fetched. Removed when
/// dropped, unless it was renamed.
pub(super) struct Incoming {
    ledger: Arc<Ledger>,
    path: PathBuf,
    file: File,
    context: Context,
    size: u64,
}

impl Incoming {
    pub(super) fn create(folder: &Path, ledger: &Arc<Ledger>) -> Result<Self, MediaStoreError> {
        let path = folder.join(INCOMING).join(Uuid::now_v7().to_string());
        let file = File::create_new(&path).map_err(|source| io_error(&path, source))?;
        Ok(Self { ledger: Arc::clone(ledger), path, file, context: Context::new(&SHA256), size: 0 })
    }

    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), MediaStoreError> {
        let length = data.len() as u64;
        self.ledger.grow_upload(length)?;
        self.size += length;
        self.file.write_all(data).map_err(|source| io_error(&self.path, source))?;
        self.context.update(data);
        Ok(())
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn verified(&self) -> Verified {
        Verified { digest: finished(self.context.clone()), size: self.size, path: self.path.clone() }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.ledger.end_upload(self.size);
        // Already renamed when finished. A failure leaves a file that the next opening removes.
        let _ = fs::remove_file(&self.path);
    }
}
