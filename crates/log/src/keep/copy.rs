//! Files copied, compared and put in place so that a crash leaves the old one or the new one.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use httt_feed::Digest;
use ring::digest::{Context, SHA256};

use super::{KeepProgress, OnKeepProgress};

/// Bytes copied at a time.
const COPY_BYTES: usize = 1 << 20;

/// Counts what is done and tells of it.
pub(super) struct Teller<'a> {
    progress: KeepProgress,
    on_progress: Option<OnKeepProgress<'a>>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(total_bytes: u64, on_progress: Option<OnKeepProgress<'a>>) -> Self {
        Self { progress: KeepProgress { bytes: 0, total_bytes }, on_progress }
    }

    pub(super) fn add(&mut self, bytes: u64) {
        self.progress.bytes += bytes;
        if let Some(on_progress) = &mut self.on_progress {
            on_progress(&self.progress);
        }
    }
}

/// Reads `length` bytes from the start and gives them to `take`; gives their SHA-256.
fn read_through(from: &mut File, length: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<Digest> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; COPY_BYTES];
    let mut left = length;
    while left > 0 {
        let part = &mut buffer[..left.min(COPY_BYTES as u64) as usize];
        from.read_exact(part)?;
        context.update(part);
        take(part)?;
        left -= part.len() as u64;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    Ok(Digest(digest))
}

/// Copies the first `length` bytes into a new file, synced; gives their SHA-256.
pub(super) fn copy(from: &mut File, length: u64, to: &Path, teller: &mut Teller<'_>) -> io::Result<Digest> {
    let mut file = create(to)?;
    let digest = read_through(from, length, |part| {
        teller.add(part.len() as u64);
        file.write_all(part)
    })?;
    file.sync_all()?;
    Ok(digest)
}

/// Creates a file anew, whatever stood there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    remove_if_there(path)?;
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// SHA-256 of a whole file.
pub(super) fn digest(path: &Path) -> io::Result<(u64, Digest)> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok((length, read_through(&mut file, length, |_| Ok(()))?))
}

/// The last `count` bytes of a file.
pub(super) fn last_bytes(file: &File, count: usize) -> io::Result<Vec<u8>> {
    let from = file.metadata()?.len().checked_sub(count as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

/// Puts a folder's names on disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file if it is there.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The name under which a file is made before it takes its place.
pub(super) fn new_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// Lets a synced file take its place, durably.
pub(super) fn put_in_place(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Writes a small file: after a crash there is the old one or the new one.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = new_name(path);
    let mut file = create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    put_in_place(&new, path)
}

/// Full chunks are read-only.
pub(super) fn set_readonly(path: &Path) -> io::Result<()> {
    let mode = fs::metadata(path)?.permissions().mode();
    fs::set_permissions(path, Permissions::from_mode(mode & !0o222))
}
