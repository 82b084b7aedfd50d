//! Reads entries out of chunks; used by any number of readers at once.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::entry::Entry;
use crate::files::read_exact_at;
use crate::frame::{COMMIT_FRAME_BYTES, FRAME_HEADER_BYTES, FrameHeader, Kind, Seed, chunk_name};
use crate::{Damage, ReadError, places};

/// Most chunks kept open for reading.
const MAX_OPEN_CHUNKS: usize = 64;

/// Most bytes read at once, one frame aside. Entries read together share this memory as long as one of them lives.
const MAX_SPAN_BYTES: u64 = 256 << 10;

/// Where an entry's frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) chunk: u32,
    pub(crate) offset: u64,
    /// Length of the payload.
    pub(crate) length: u32,
}

impl Location {
    /// Offset after the frame.
    fn end(&self) -> u64 {
        self.offset + FRAME_HEADER_BYTES as u64 + u64::from(self.length)
    }

    pub(crate) fn damaged(&self, position: u64, what: &str) -> Damage {
        Damage { chunk: chunk_name(self.chunk), offset: self.offset, position, what: what.to_owned() }
    }
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

    /// Closes the files: what is moved elsewhere must not keep its space here.
    pub(crate) fn close_files(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether a chunk is archived and its archive folder is not there.
    pub(crate) fn is_away(&self, chunk: u32) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&chunk);
        !open && places::missing(&self.dir, chunk).is_some()
    }

    /// So many bytes from the frame of the entry at `position` on.
    fn bytes(&self, at: Location, position: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; length];
        match self.file(at.chunk).and_then(|file| read_exact_at(&file, &mut bytes, at.offset)) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(at.damaged(position, "the file ends before the frame").into())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(match places::missing(&self.dir, at.chunk) {
                Some(path) => ReadError::ArchiveMissing { chunk: chunk_name(at.chunk), path },
                None => at.damaged(position, "the chunk is missing").into(),
            }),
            Err(error) => Err(ReadError::Io { chunk: chunk_name(at.chunk), error: error.to_string() }),
        }
    }

    /// The frame's header and payload, checked.
    pub(crate) fn frame(&self, at: Location, kind: Kind, position: u64) -> Result<(FrameHeader, Bytes), ReadError> {
        let bytes = self.bytes(at, position, FRAME_HEADER_BYTES + at.length as usize)?;
        self.check(at, kind, position, bytes.into())
    }

    fn check(&self, at: Location, kind: Kind, position: u64, bytes: Bytes) -> Result<(FrameHeader, Bytes), ReadError> {
        let mut header = [0; FRAME_HEADER_BYTES];
        header.copy_from_slice(&bytes[..FRAME_HEADER_BYTES]);
        let payload = bytes.slice(FRAME_HEADER_BYTES..);
        let Some(frame) = FrameHeader::decode(&header) else {
            return Err(at.damaged(position, "no frame begins here").into());
        };
        if frame.kind != kind || frame.position != position || frame.length != at.length {
            return Err(at.damaged(position, "another frame stands here").into());
        }
        if !FrameHeader::holds(self.seed, &header, &payload) {
            return Err(at.damaged(position, "a frame's checksum does not match").into());
        }
        Ok((frame, payload))
    }

    /// The payloads of the entries from position `first` on, which are to be at `places`; neighbours are read together.
    pub(crate) fn payloads(&self, first: u64, places: &[Location]) -> Result<Vec<Bytes>, ReadError> {
        let mut payloads = Vec::with_capacity(places.len());
        let (mut position, mut rest) = (first, places);
        while let Some((start, _)) = rest.split_first() {
            let mut end = start.end();
            let reach = rest.iter().skip(1).take_while(|place| {
                // Between neighbours there is a commit marker at most.
                let near =
                    place.chunk == start.chunk && (end..=end + COMMIT_FRAME_BYTES as u64).contains(&place.offset);
                let joins = near && place.end() - start.offset <= MAX_SPAN_BYTES;
                end = if joins { place.end() } else { end };
                joins
            });
            let count = 1 + reach.count();
            let bytes = Bytes::from(self.bytes(*start, position, (end - start.offset) as usize)?);
            for place in &rest[..count] {
                let from = (place.offset - start.offset) as usize;
                let frame = bytes.slice(from..from + FRAME_HEADER_BYTES + place.length as usize);
                payloads.push(self.check(*place, Kind::Entry, position, frame)?.1);
                position += 1;
            }
            rest = &rest[count..];
        }
        Ok(payloads)
    }

    /// The entry at `position`, which is to be at `at`.
    pub(crate) fn entry(&self, at: Location, position: u64) -> Result<Entry, ReadError> {
        let (_, bytes) = self.frame(at, Kind::Entry, position)?;
        Entry::decode(position, bytes).map_err(|what| at.damaged(position, &what).into())
    }
}
