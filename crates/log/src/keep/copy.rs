//! Files copied and compared.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use httt_feed::Digest;
use ring::digest::{Context, SHA256};

use super::{KeepProgress, OnKeepProgress};
use crate::files;

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
    files::remove_if_there(path)?;
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
