//! Reads entries out of chunks; used by any number of readers at once.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::entry::Entry;
use crate::files::read_exact_at;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, Kind, Seed, chunk_name};
use crate::{Damage, ReadError, places};

/// Most chunks kept open for reading.
const MAX_OPEN_CHUNKS: usize = 64;

/// Where an entry's frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) chunk: u32,
    pub(crate) offset: u64,
    /// Length of the payload.
    pub(crate) length: u32,
}

/// The chunk files, for reading.
#[derive(Debug)]
pub(crate) struct Chunks {
    dir: PathBuf,
    seed: Seed,
    open: Mutex<HashMap<u32, Arc<File>>>,
}

impl Chunks {
    pub(crate) fn new(dir: &Path, seed: Seed) -> Self {
        Self { dir: dir.to_owned(), seed, open: Mutex::new(HashMap::new()) }
    }

    fn file(&self, chunk: u32) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&chunk) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(places::open(&self.dir, chunk)?);
        if open.len() >= MAX_OPEN_CHUNKS {
            open.clear();
        }
        open.insert(chunk, Arc::clone(&file));
        Ok(file)
    }

    /// The frame's header and payload, checked.
    pub(crate) fn frame(&self, at: Location, kind: Kind, position: u64) -> Result<(FrameHeader, Bytes), ReadError> {
        let Location { chunk, offset, length } = at;
        let damaged = |what: &str| Damage { chunk: chunk_name(chunk), offset, position, what: what.to_owned() };
        let mut bytes = vec![0; FRAME_HEADER_BYTES + length as usize];
        match self.file(chunk).and_then(|file| read_exact_at(&file, &mut bytes, offset)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged("the file ends before the frame").into());
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(match places::missing(&self.dir, chunk) {
                    Some(path) => ReadError::ArchiveMissing { chunk: chunk_name(chunk), path },
                    None => damaged("the chunk is missing").into(),
                });
            }
            Err(error) => return Err(ReadError::Io { chunk: chunk_name(chunk), error: error.to_string() }),
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        header.copy_from_slice(&bytes[..FRAME_HEADER_BYTES]);
        let bytes = Bytes::from(bytes).slice(FRAME_HEADER_BYTES..);
        let Some(frame) = FrameHeader::decode(&header) else { return Err(damaged("no frame begins here").into()) };
        if frame.kind != kind || frame.position != position || frame.length != length {
            return Err(damaged("another frame stands here").into());
        }
        if !FrameHeader::holds(self.seed, &header, &bytes) {
            return Err(damaged("a frame's checksum does not match").into());
        }
        Ok((frame, bytes))
    }

    /// The entry at `position`, which is to be at `at`.
    pub(crate) fn entry(&self, at: Location, position: u64) -> Result<Entry, ReadError> {
        let (_, bytes) = self.frame(at, Kind::Entry, position)?;
        let chunk = || chunk_name(at.chunk);
        Entry::decode(position, bytes)
            .map_err(|what| ReadError::Damaged(Damage { chunk: chunk(), offset: at.offset, position, what }))
    }
}
