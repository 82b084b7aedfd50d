//! Who can give back what is damaged: anybody who holds the same feeds, and copies of the very log.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use httt_feed::FeedId;

use super::{Candidate, Place};
use crate::entry::Entry;
use crate::files::read_exact_at;
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, FRAME_HEADER_BYTES, FrameHeader, Seed};
use crate::merkle::CompactRange;
use crate::open::CHUNKS_DIR;
use crate::scan::{self, ScannedEntry, Scanner, Step};
use crate::{catalogue, places};

/// Gives batches by their place in their feed. What it gives is checked, so it need not be trusted.
pub trait Donor {
    /// How to call it in a report.
    fn name(&self) -> String;

    /// The encoded `SealedBatch` with this sequence; `Ok(None)`: it does not hold it.
    ///
    /// # Errors
    /// It cannot be asked; the text says why.
    fn batch(&self, feed: &FeedId, sequence: u64) -> Result<Option<Bytes>, String>;

    /// The feeds it holds something of.
    fn feeds(&self) -> Vec<FeedId>;
}

/// Where a batch is in a donor's chunks.
#[derive(Debug, Clone, Copy)]
struct Held {
    sequence: u64,
    chunk: u32,
    offset: u64,
    length: u32,
}

/// A log's folder: another node's, or a copy or backup of the log to be repaired. It may be damaged itself, and a node
/// may have it open.
#[derive(Debug)]
pub(super) struct FolderDonor {
    dir: PathBuf,
    chunks: PathBuf,
    numbers: Vec<u32>,
    pub(super) log_id: [u8; 16],
    /// Made when first needed: all chunks have to be read for it.
    held: OnceCell<HashMap<FeedId, Vec<Held>>>,
    /// Where reading of a copy goes on.
    scanner: RefCell<Option<(u32, Scanner)>>,
}

impl FolderDonor {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let chunks = dir.join(CHUNKS_DIR);
        let numbers = catalogue::numbers(&chunks)?;
        let log_id = numbers.iter().find_map(|number| header(&chunks, *number)).map(|header| header.log_id);
        let log_id = log_id.ok_or_else(|| io::Error::other("no chunk with a readable header"))?;
        let (held, scanner) = (OnceCell::new(), RefCell::new(None));
        Ok(Self { dir: dir.to_owned(), chunks, numbers, log_id, held, scanner })
    }

    fn held(&self) -> &HashMap<FeedId, Vec<Held>> {
        self.held.get_or_init(|| {
            let mut held: HashMap<FeedId, Vec<Held>> = HashMap::new();
            for number in &self.numbers {
                if let Err(error) = self.list(*number, &mut held) {
                    tracing::warn!(donor = %self.dir.display(), number, %error, "a donor's chunk cannot be read");
                }
            }
            held.values_mut().for_each(|batches| batches.sort_by_key(|batch| batch.sequence));
            held
        })
    }

    /// Lists the intact groups of one chunk.
    fn list(&self, number: u32, held: &mut HashMap<FeedId, Vec<Held>>) -> io::Result<()> {
        let path = places::path(&self.chunks, number)?;
        let seed = Seed::of(&self.log_id);
        let first = header(&self.chunks, number).map_or(0, |header| header.first_position);
        let mut scanner = Scanner::new(&path, seed, CHUNK_HEADER_BYTES as u64, first, 0)?;
        loop {
            match scanner.step()? {
                Step::Group(group) => {
                    for scanned in group.entries {
                        let (position, offset) = (scanned.position, scanned.at);
                        let Some(bytes) = scanned.whole() else { continue };
                        let length = bytes.len() as u32;
                        if let Ok(Entry { feed, sequence, .. }) = Entry::decode(position, bytes) {
                            held.entry(feed).or_default().push(Held { sequence, chunk: number, offset, length });
                        }
                    }
                }
                Step::End => return Ok(()),
                Step::Bad(bad) => {
                    let group = scanner.group();
                    match scan::find_frame(&path, seed, bad.group_start, |frame| frame.group > group)? {
                        Some(found) if !scanner.is_thin() => scanner.resume(&found)?,
                        _ => return Ok(()),
                    }
                }
            }
        }
    }

    fn read(&self, held: &Held) -> io::Result<Option<Bytes>> {
        let mut bytes = vec![0; FRAME_HEADER_BYTES + held.length as usize];
        let file: File = places::open(&self.chunks, held.chunk)?;
        read_exact_at(&file, &mut bytes, held.offset)?;
        let mut header = [0; FRAME_HEADER_BYTES];
        header.copy_from_slice(&bytes[..FRAME_HEADER_BYTES]);
        let bytes = Bytes::from(bytes).slice(FRAME_HEADER_BYTES..);
        Ok(FrameHeader::holds(Seed::of(&self.log_id), &header, &bytes).then_some(bytes))
    }

    /// The header of a chunk of this copy of the log.
    pub(super) fn header(&self, number: u32) -> Option<ChunkHeader> {
        header(&self.chunks, number).filter(|header| header.log_id == self.log_id && header.number == number)
    }

    /// The file of a chunk of this copy of the log.
    pub(super) fn file(&self, number: u32) -> Option<PathBuf> {
        self.header(number).and_then(|_| places::path(&self.chunks, number).ok())
    }

    /// The group that this copy of the log has at a place, if it is whole and continues `range`.
    pub(super) fn group(&self, place: &Place, range: &CompactRange) -> io::Result<Option<Candidate>> {
        if self.header(place.chunk).is_none() {
            return Ok(None);
        }
        let mut kept = self.scanner.borrow_mut();
        let fits = kept.as_ref().is_some_and(|(chunk, scanner)| {
            *chunk == place.chunk
                && (scanner.offset(), scanner.position(), scanner.group())
                    == (place.offset, place.position, place.group)
        });
        if !fits {
            let path = places::path(&self.chunks, place.chunk)?;
            let seed = Seed::of(&self.log_id);
            *kept = Some((place.chunk, Scanner::new(&path, seed, place.offset, place.position, place.group)?));
        }
        let Some((_, scanner)) = kept.as_mut() else { return Ok(None) };
        let Step::Group(group) = scanner.step()? else {
            *kept = None;
            return Ok(None);
        };
        let mut range = range.clone();
        group.entries.iter().for_each(|entry| range.push(entry.leaf(), |_| {}));
        if range.root() != group.commit.root {
            *kept = None;
            return Ok(None);
        }
        // Of a thinned copy, only the groups of which nothing is gone can help.
        let Some(entries) = group.entries.into_iter().map(ScannedEntry::whole).collect() else { return Ok(None) };
        Ok(Some(Candidate { entries, at_ms: group.commit.at_ms, from: self.dir.display().to_string() }))
    }
}

fn header(chunks: &Path, number: u32) -> Option<ChunkHeader> {
    scan::read_header(&places::path(chunks, number).ok()?).ok()??.ok()
}

impl Donor for FolderDonor {
    fn name(&self) -> String {
        self.dir.display().to_string()
    }

    fn batch(&self, feed: &FeedId, sequence: u64) -> Result<Option<Bytes>, String> {
        let Some(batches) = self.held().get(feed) else { return Ok(None) };
        let Ok(at) = batches.binary_search_by_key(&sequence, |held| held.sequence) else { return Ok(None) };
        self.read(&batches[at]).map_err(|error| error.to_string())
    }

    fn feeds(&self) -> Vec<FeedId> {
        let mut feeds: Vec<_> = self.held().keys().cloned().collect();
        feeds.sort();
        feeds
    }
}
