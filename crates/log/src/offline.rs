//! Reads a log from its files alone, without the key of its node and without taking the lock.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use httt_feed::Digest;

use crate::entry::Entry;
use crate::error::{Damage, ReadError};
use crate::frame::{CHUNK_HEADER_BYTES, Seed};
use crate::merkle::leaf_hash;
use crate::open::CHUNKS_DIR;
use crate::scan::{self, Held, LiveStep, ScannedEntry, Scanner};
use crate::thin::GoneEntry;
use crate::{catalogue, places};

/// The entries of the log in `dir`, from the first, chunk by chunk. A node may have it open: what it is writing just now
/// is passed over, and so are entries that went by retention, which [`ScanEntries::step`] gives as well. Checksums are
/// checked, signatures are not; [`crate::audit()`] does that.
///
/// # Errors
/// The folder cannot be listed. The iterator ends after the first error: a chunk that cannot be read, or is damaged.
pub fn scan_entries(dir: &Path) -> Result<ScanEntries, ReadError> {
    let folder = dir.join(CHUNKS_DIR);
    let numbers = catalogue::numbers(&folder)
        .map_err(|error| ReadError::Io { chunk: folder.display().to_string(), error: error.to_string() })?;
    Ok(ScanEntries {
        folder,
        numbers: numbers.into(),
        next: (0, 0),
        log_id: None,
        scanner: None,
        ready: VecDeque::new(),
        gone: 0,
        ended: false,
    })
}

/// See [`scan_entries`].
#[derive(Debug)]
pub struct ScanEntries {
    folder: PathBuf,
    /// Chunks not begun yet.
    numbers: VecDeque<u32>,
    /// Number of the chunk and position of the entry that come next.
    next: (u32, u64),
    /// The log's, by its first chunk.
    log_id: Option<[u8; 16]>,
    /// The chunk that is being read: its name, its file.
    scanner: Option<(String, PathBuf, Scanner)>,
    /// Entries of the group read last.
    ready: VecDeque<ScannedEntry>,
    gone: u64,
    ended: bool,
}

/// An entry as the chunks have it.
#[derive(Debug, Clone)]
pub enum Scanned {
    /// It is there.
    Entry(Entry),
    /// It went by retention; this is known of it.
    Gone(GoneEntry),
}

impl Scanned {
    /// RFC 6962 leaf hash.
    pub fn leaf(&self) -> Digest {
        match self {
            Self::Entry(entry) => leaf_hash(&entry.bytes),
            Self::Gone(gone) => gone.leaf,
        }
    }

    /// Its place, from 0.
    pub fn position(&self) -> u64 {
        match self {
            Self::Entry(entry) => entry.position,
            Self::Gone(gone) => gone.position,
        }
    }
}

impl ScanEntries {
    /// The log's id; `None` before the first entry was read.
    pub fn log_id(&self) -> Option<[u8; 16]> {
        self.log_id
    }

    /// Entries passed over so far because they went by retention.
    pub fn gone(&self) -> u64 {
        self.gone
    }

    /// The next entry, be it there or gone; `None`: there is no more, or there was an error before.
    ///
    /// # Errors
    /// A chunk cannot be read, or is damaged.
    pub fn step(&mut self) -> Result<Option<Scanned>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let next = self.advance();
        self.ended = !matches!(next, Ok(Some(_)));
        next
    }

    fn advance(&mut self) -> Result<Option<Scanned>, ReadError> {
        loop {
            if let Some(ScannedEntry { position, at, held, .. }) = self.ready.pop_front() {
                let bytes = match held {
                    Held::Whole(bytes) => bytes,
                    Held::Gone(record) => {
                        self.gone += 1;
                        return Ok(Some(Scanned::Gone(record.entry)));
                    }
                };
                let chunk = || self.scanner.as_ref().map(|(name, ..)| name.clone()).unwrap_or_default();
                let damaged = |what| ReadError::Damaged(Damage { chunk: chunk(), offset: at, position, what });
                return Entry::decode(position, bytes).map(|entry| Some(Scanned::Entry(entry))).map_err(damaged);
            }
            let Some((name, path, scanner)) = &mut self.scanner else {
                match self.numbers.pop_front() {
                    Some(number) => self.scanner = self.begin(number)?,
                    None => return Ok(None),
                }
                continue;
            };
            let failed = |error: std::io::Error| ReadError::Io { chunk: name.clone(), error: error.to_string() };
            match scanner.step_live(path).map_err(failed)? {
                LiveStep::Group(group) => {
                    self.ready.extend(group.entries);
                }
                LiveStep::End => {
                    self.next.1 = scanner.position();
                    self.scanner = None;
                }
                LiveStep::Unfinished(_) if self.numbers.is_empty() => self.scanner = None,
                LiveStep::Unfinished(bad) | LiveStep::Damaged(bad) => {
                    let (offset, position) = (bad.offset, bad.position);
                    let damage = Damage { chunk: name.clone(), offset, position, what: bad.what.to_owned() };
                    return Err(ReadError::Damaged(damage));
                }
            }
        }
    }

    fn begin(&mut self, number: u32) -> Result<Option<(String, PathBuf, Scanner)>, ReadError> {
        let expected = self.next.0;
        self.next.0 = number + 1;
        match self.open(number, expected) {
            // The node may have archived or thinned it between two looks.
            Err(ReadError::Io { .. }) => self.open(number, expected),
            opened => opened,
        }
    }

    fn open(&mut self, number: u32, expected: u32) -> Result<Option<(String, PathBuf, Scanner)>, ReadError> {
        let name = places::name(number, places::is_thin(&self.folder, number));
        let position = self.next.1;
        let failed = |error: std::io::Error| ReadError::Io { chunk: name.clone(), error: error.to_string() };
        let path = places::path(&self.folder, number).map_err(failed)?;
        if let Some(path) = places::missing(&self.folder, number) {
            return Err(ReadError::ArchiveMissing { chunk: name, path });
        }
        let damaged = |what: &str| {
            let what = what.to_owned();
            Err(ReadError::Damaged(Damage { chunk: name.clone(), offset: 0, position, what }))
        };
        if number != expected {
            return damaged("a chunk before this one is missing");
        }
        match scan::read_header(&path).map_err(failed)? {
            Some(Ok(header)) => {
                if header.number != number || header.first_position != position {
                    return damaged("the chunk does not begin where the one before it ends");
                }
                if *self.log_id.get_or_insert(header.log_id) != header.log_id {
                    return damaged("the chunk belongs to another log");
                }
                let seed = Seed::of(&header.log_id);
                let scanner = Scanner::new(&path, seed, CHUNK_HEADER_BYTES as u64, header.first_position, 0);
                Ok(Some((name.clone(), path, scanner.map_err(failed)?)))
            }
            // A chunk made a moment before a crash; the last one may be so.
            None if self.numbers.is_empty() => Ok(None),
            _ => damaged("no readable chunk header"),
        }
    }
}

impl Iterator for ScanEntries {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.step() {
                Ok(Some(Scanned::Gone(_))) => {}
                Ok(Some(Scanned::Entry(entry))) => return Some(Ok(entry)),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
