//! The store's file operations, all blocking; whoever calls them holds the digest's turn.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use httt_feed::Digest;
use ring::digest::{Context, SHA256};
use uuid::Uuid;

use super::{MediaStat, MediaStoreError, io_error};

/// Buffer for reading whole files.
const READ_BYTES: usize = 256 << 10;
/// Levels of folders between the store's own and a file.
const FAN_OUT: usize = 2;
const INCOMING: &str = "incoming";
/// How long an unfinished file waits for who brought it.
const STALE: Duration = Duration::from_secs(7 * 24 * 3_600);

pub(super) fn path(folder: &Path, digest: &Digest) -> PathBuf {
    let name = digest.to_string();
    folder.join(&name[..2]).join(&name[2..4]).join(name)
}

/// An unfinished file belongs to who brings it: nobody else can continue, spoil or discard it.
fn part(path: &Path, writer: &str) -> PathBuf {
    path.with_extension(format!("{writer}.part"))
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
    sweep(folder, FAN_OUT)
}

/// Removes unfinished files that nobody has continued for [`STALE`].
fn sweep(folder: &Path, levels: usize) -> Result<(), MediaStoreError> {
    let failed = |source| io_error(folder, source);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, metadata) = (entry.path(), entry.metadata().map_err(failed)?);
        if metadata.is_dir() {
            if levels > 0 {
                sweep(&path, levels - 1)?;
            }
            continue;
        }
        let age = metadata.modified().ok().and_then(|changed| changed.elapsed().ok()).unwrap_or_default();
        if path.extension().is_some_and(|extension| extension == "part") && age > STALE {
            tracing::info!(path = %path.display(), "removing an unfinished file nobody continues");
            discard(&path)?;
        }
    }
    Ok(())
}

pub(super) fn stat(path: &Path, writer: &str) -> Result<MediaStat, MediaStoreError> {
    if let Some(held) = length(path)? {
        return Ok(MediaStat { held, complete: true });
    }
    Ok(MediaStat { held: length(&part(path, writer))?.unwrap_or(0), complete: false })
}

fn length(path: &Path) -> Result<Option<u64>, MediaStoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}

pub(super) fn write_at(
    path: &Path,
    writer: &str,
    digest: &Digest,
    total: u64,
    offset: u64,
    data: &[u8],
) -> Result<MediaStat, MediaStoreError> {
    let stat = stat(path, writer)?;
    if stat.complete {
        return Ok(stat);
    }
    let part = part(path, writer);
    let mut held = stat.held;
    if held > total {
        // Somebody announced a larger file under this digest: what was kept then is worthless.
        discard(&part)?;
        held = 0;
    }
    if offset != held {
        return Err(MediaStoreError::OutOfStep { digest: *digest, offset, held });
    }
    let end = offset.saturating_add(data.len() as u64);
    if end > total {
        return Err(MediaStoreError::PastEnd { digest: *digest, end, total });
    }
    let folder = folder_of(path);
    create_folders(folder)?;
    let mut file =
        OpenOptions::new().append(true).create(true).open(&part).map_err(|source| io_error(&part, source))?;
    if let Err(source) = file.write_all(data) {
        // Half a piece is no piece: the sender resumes where this one began.
        let _ = file.set_len(held);
        return Err(io_error(&part, source));
    }
    if end < total {
        return Ok(MediaStat { held: end, complete: false });
    }
    let actual = digest_of(&part)?;
    if actual != *digest {
        discard(&part)?;
        return Err(MediaStoreError::Mismatch { expected: *digest, actual });
    }
    publish(&file, &part, path)?;
    Ok(MediaStat { held: total, complete: true })
}

/// Makes a verified file appear under its name, durably. After a failed sync the kernel may hold pages as clean that
/// never reached the disk, so nothing is tried again with the same file: it goes, and the sender starts afresh.
fn publish(file: &File, from: &Path, to: &Path) -> Result<(), MediaStoreError> {
    let renamed = file.sync_all().and_then(|()| fs::rename(from, to));
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

pub(super) fn read_range(path: &Path, digest: &Digest, offset: u64, max: u64) -> Result<(Bytes, u64), MediaStoreError> {
    let mut file = open(path, digest)?;
    let failed = |source| io_error(path, source);
    let size = file.metadata().map_err(failed)?.len();
    if offset > size {
        return Err(MediaStoreError::Range { digest: *digest, offset, size });
    }
    file.seek(SeekFrom::Start(offset)).map_err(failed)?;
    let length = max.min(size - offset);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok((bytes.into(), size))
}

fn open(path: &Path, digest: &Digest) -> Result<File, MediaStoreError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => MediaStoreError::NotFound(*digest),
        _ => io_error(path, source),
    })
}

fn discard(path: &Path) -> Result<(), MediaStoreError> {
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

/// A file whose digest is not known yet. Removed when dropped unfinished.
pub(super) struct Incoming {
    folder: PathBuf,
    path: PathBuf,
    file: File,
    context: Context,
    size: u64,
}

impl Incoming {
    pub(super) fn create(folder: &Path) -> Result<Self, MediaStoreError> {
        let path = folder.join(INCOMING).join(Uuid::now_v7().to_string());
        let file = File::create_new(&path).map_err(|source| io_error(&path, source))?;
        Ok(Self { folder: folder.to_owned(), path, file, context: Context::new(&SHA256), size: 0 })
    }

    pub(super) fn write(&mut self, data: &[u8]) -> Result<(), MediaStoreError> {
        self.file.write_all(data).map_err(|source| io_error(&self.path, source))?;
        self.context.update(data);
        self.size += data.len() as u64;
        Ok(())
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn digest(&self) -> Digest {
        finished(self.context.clone())
    }

    /// Gives the file its name; call it with the digest's turn.
    pub(super) fn finish(self) -> Result<(), MediaStoreError> {
        let to = path(&self.folder, &self.digest());
        if length(&to)?.is_none() {
            create_folders(folder_of(&to))?;
            publish(&self.file, &self.path, &to)?;
        }
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Already renamed when finished. A failure leaves a file that the next opening removes.
        let _ = fs::remove_file(&self.path);
    }
}
