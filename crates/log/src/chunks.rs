//! Reads entries out of chunks; used by any number of readers at once.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::entry::Entry;
use crate::files::read_exact_at;
use crate::frame::{
    COMMIT_FRAME_BYTES, COMMIT_PAYLOAD_BYTES, FRAME_HEADER_BYTES, FrameHeader, Kind, MAX_PAYLOAD_BYTES, Seed,
    chunk_name,
};
use crate::thin::{GoneRecord, Row, Thin, frame_bytes};
use crate::{Damage, GoneEntry, ReadError, places};

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
    pub(crate) fn damaged(&self, position: u64, what: &str) -> Damage {
        Damage { chunk: chunk_name(self.chunk), offset: self.offset, position, what: what.to_owned() }
    }
}

/// A chunk's file, open for reading.
#[derive(Debug)]
struct OpenChunk {
    number: u32,
    file: File,
    /// How it is laid out if it is thinned.
    thin: Option<Thin>,
}

impl OpenChunk {
    fn damaged(&self, offset: u64, position: u64, what: &str) -> ReadError {
        let chunk = places::name(self.number, self.thin.is_some());
        Damage { chunk, offset, position, what: what.to_owned() }.into()
    }

    fn io(&self, error: &io::Error) -> ReadError {
        ReadError::Io { chunk: places::name(self.number, self.thin.is_some()), error: error.to_string() }
    }

    /// So many bytes from `offset` on, where `position` is.
    fn bytes(&self, offset: u64, position: u64, length: usize) -> Result<Bytes, ReadError> {
        let mut bytes = vec![0; length];
        match read_exact_at(&self.file, &mut bytes, offset) {
            Ok(()) => Ok(bytes.into()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, position, "the file ends before the frame"))
            }
            Err(error) => Err(self.io(&error)),
        }
    }

    /// Header and payload of the frame whose bytes these are, which stands at `offset` and is to be `position`'s.
    fn check(
        &self,
        seed: Seed,
        offset: u64,
        kind: Kind,
        position: u64,
        bytes: &Bytes,
    ) -> Result<(FrameHeader, Bytes), ReadError> {
        let mut header = [0; FRAME_HEADER_BYTES];
        header.copy_from_slice(&bytes[..FRAME_HEADER_BYTES]);
        let payload = bytes.slice(FRAME_HEADER_BYTES..);
        let Some(frame) = FrameHeader::decode(&header) else {
            return Err(self.damaged(offset, position, "no frame begins here"));
        };
        if frame.kind != kind || frame.position != position || frame.length as usize != payload.len() {
            return Err(self.damaged(offset, position, "another frame stands here"));
        }
        if !FrameHeader::holds(seed, &header, &payload) {
            return Err(self.damaged(offset, position, "a frame's checksum does not match"));
        }
        Ok((frame, payload))
    }

    /// What is kept of an entry that is gone.
    fn record(&self, seed: Seed, offset: u64, position: u64) -> Result<GoneRecord, ReadError> {
        let header = self.bytes(offset, position, FRAME_HEADER_BYTES)?;
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes.copy_from_slice(&header);
        let length = FrameHeader::decode(&bytes).map_or(0, |frame| frame.length as usize).min(MAX_PAYLOAD_BYTES);
        let bytes = self.bytes(offset, position, FRAME_HEADER_BYTES + length)?;
        let (_, payload) = self.check(seed, offset, Kind::Gone, position, &bytes)?;
        GoneRecord::decode(position, &payload)
            .ok_or_else(|| self.damaged(offset, position, "the record of an entry that is gone makes no sense"))
    }
}

/// An entry's frame, found: what a chunk's file held when it was opened stays as it is.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) position: u64,
    /// Length of the payload.
    pub(crate) length: u32,
    chunk: Arc<OpenChunk>,
    /// Offset in the file.
    offset: u64,
}

impl Found {
    /// Offset after the frame.
    fn end(&self) -> u64 {
        self.offset + frame_bytes(self.length)
    }
}

/// Finds the frames of neighbouring entries.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    chunks: &'a Chunks,
    chunk: Option<Arc<OpenChunk>>,
    /// Rows of a thinned chunk's table, and the position of the first.
    rows: (u64, Vec<Row>),
}

impl Finder<'_> {
    /// Where the frame of the entry at `position` is, which was written `at`; `None`: it is gone.
    pub(crate) fn find(&mut self, at: Location, position: u64) -> Result<Option<Found>, ReadError> {
        let (chunk, row) = self.look(at, position)?;
        let offset = row.map_or(at.offset, |row| row.at);
        let gone = row.is_some_and(|row| row.gone);
        Ok((!gone).then_some(Found { position, length: at.length, chunk, offset }))
    }

    /// The chunk, and the row of its table if it is thinned.
    fn look(&mut self, at: Location, position: u64) -> Result<(Arc<OpenChunk>, Option<Row>), ReadError> {
        let chunk = match &self.chunk {
            Some(chunk) if chunk.number == at.chunk => Arc::clone(chunk),
            _ => {
                let chunk = self.chunks.file(at, position)?;
                (self.chunk, self.rows) = (Some(Arc::clone(&chunk)), (0, Vec::new()));
                chunk
            }
        };
        let Some(thin) = &chunk.thin else { return Ok((chunk, None)) };
        let (first, rows) = &mut self.rows;
        if !(*first..*first + rows.len() as u64).contains(&position) {
            let damaged = |position| chunk.damaged(thin.table, position, "the table of the thinned chunk is damaged");
            let read = thin.rows(&chunk.file, position).map_err(|error| chunk.io(&error))?;
            (*first, *rows) = (position, read.map_err(damaged)?);
        }
        match rows.get((position - *first) as usize).copied() {
            Some(row) if row.was == at.offset => Ok((chunk, Some(row))),
            _ => Err(chunk.damaged(thin.table, position, "the table of the thinned chunk has the entry elsewhere")),
        }
    }
}

/// The chunk files, for reading.
#[derive(Debug)]
pub(crate) struct Chunks {
    dir: PathBuf,
    seed: Seed,
    open: Mutex<HashMap<u32, Arc<OpenChunk>>>,
}

impl Chunks {
    pub(crate) fn new(dir: &Path, seed: Seed) -> Self {
        Self { dir: dir.to_owned(), seed, open: Mutex::new(HashMap::new()) }
    }

    /// The file of the chunk that `at` is in, to read what is at `position`.
    fn file(&self, at: Location, position: u64) -> Result<Arc<OpenChunk>, ReadError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chunk) = open.get(&at.chunk) {
            return Ok(Arc::clone(chunk));
        }
        let failed = |error: io::Error| ReadError::Io { chunk: chunk_name(at.chunk), error: error.to_string() };
        let file = match places::open(&self.dir, at.chunk) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(match places::missing(&self.dir, at.chunk) {
                    Some(path) => ReadError::ArchiveMissing { chunk: chunk_name(at.chunk), path },
                    None => at.damaged(position, "the chunk is missing").into(),
                });
            }
            opened => opened.map_err(failed)?,
        };
        let thin = Thin::open(&file).map_err(failed)?.transpose();
        let thin = thin.map_err(|what| Damage {
            chunk: places::thin_name(at.chunk),
            offset: file.metadata().map_or(0, |data| data.len()),
            position,
            what: what.to_owned(),
        })?;
        let chunk = Arc::new(OpenChunk { number: at.chunk, file, thin });
        if open.len() >= MAX_OPEN_CHUNKS {
            open.clear();
        }
        open.insert(at.chunk, Arc::clone(&chunk));
        Ok(chunk)
    }

    /// Closes the files: what is moved elsewhere must not keep its space here.
    pub(crate) fn close_files(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Whether the entry cannot be had here: it went by retention, or its chunk is archived and the archive folder is
    /// not there.
    pub(crate) fn is_away(&self, at: Location, position: u64) -> Result<bool, ReadError> {
        match self.finder().find(at, position) {
            Ok(found) => Ok(found.is_none()),
            Err(ReadError::ArchiveMissing { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Finds entries that are read together.
    pub(crate) fn finder(&self) -> Finder<'_> {
        Finder { chunks: self, chunk: None, rows: (0, Vec::new()) }
    }

    /// The commit marker that was written `at`, after which the log has `length` entries, checked.
    pub(crate) fn marker(&self, at: Location, length: u64) -> Result<(FrameHeader, Bytes), ReadError> {
        let chunk = self.file(at, length)?;
        let mut offset = at.offset;
        if let Some(thin) = &chunk.thin {
            let found = thin.marker(&chunk.file, length).map_err(|error| chunk.io(&error))?;
            offset = match found {
                Ok((was, here)) if was == at.offset => here,
                _ => return Err(chunk.damaged(thin.table, length, "the thinned chunk has no commit marker there")),
            };
        }
        let bytes = chunk.bytes(offset, length, FRAME_HEADER_BYTES + COMMIT_PAYLOAD_BYTES)?;
        chunk.check(self.seed, offset, Kind::Commit, length, &bytes)
    }

    /// Position after the last entry of a thinned chunk; `None`: it is not thinned.
    pub(crate) fn thinned_next(&self, at: Location, position: u64) -> Result<Option<u64>, ReadError> {
        Ok(self.file(at, position)?.thin.map(|thin| thin.next()))
    }

    /// The payloads of entries, in order of their positions; neighbours are read together.
    pub(crate) fn payloads(&self, found: &[Found]) -> Result<Vec<Bytes>, ReadError> {
        let mut payloads = Vec::with_capacity(found.len());
        let mut rest = found;
        while let Some((start, _)) = rest.split_first() {
            let mut end = start.end();
            let reach = rest.iter().skip(1).take_while(|place| {
                // Between neighbours there is a commit marker at most.
                let near = Arc::ptr_eq(&place.chunk, &start.chunk)
                    && (end..=end + COMMIT_FRAME_BYTES as u64).contains(&place.offset);
                let joins = near && place.end() - start.offset <= MAX_SPAN_BYTES;
                end = if joins { place.end() } else { end };
                joins
            });
            let count = 1 + reach.count();
            let bytes = start.chunk.bytes(start.offset, start.position, (end - start.offset) as usize)?;
            for place in &rest[..count] {
                let from = (place.offset - start.offset) as usize;
                let frame = bytes.slice(from..from + FRAME_HEADER_BYTES + place.length as usize);
                payloads.push(place.chunk.check(self.seed, place.offset, Kind::Entry, place.position, &frame)?.1);
            }
            rest = &rest[count..];
        }
        Ok(payloads)
    }

    /// The entry at `position`, which was written `at`.
    ///
    /// # Errors
    /// [`ReadError::Gone`]: it went by retention.
    pub(crate) fn entry(&self, at: Location, position: u64) -> Result<Entry, ReadError> {
        let (chunk, row) = self.finder().look(at, position)?;
        if let Some(row) = row.filter(|row| row.gone) {
            let GoneRecord { entry, .. } = chunk.record(self.seed, row.at, position)?;
            return Err(ReadError::Gone(Box::<GoneEntry>::new(entry)));
        }
        let offset = row.map_or(at.offset, |row| row.at);
        let bytes = chunk.bytes(offset, position, FRAME_HEADER_BYTES + at.length as usize)?;
        let (_, bytes) = chunk.check(self.seed, offset, Kind::Entry, position, &bytes)?;
        Entry::decode(position, bytes).map_err(|what| chunk.damaged(offset, position, &what))
    }
}
