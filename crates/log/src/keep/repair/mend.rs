//! The pass over all chunks: walks what is good, fills what is not, and proves both by the Merkle roots of the commit
//! markers. Nothing in the log's folder is changed here; repaired chunks are made in a folder of their own.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::salvage::Salvage;
use super::sources::{Heads, Sources, Surroundings};
use super::{Candidate, Place, RepairError, RepairedSpan, Unrepaired, thinned};
use crate::entry::Entry;
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, GroupBuffer, Kind, Seed, chunk_name};
use crate::keep::copy::{self, Teller};
use crate::keep::{Vouchers, walk};
use crate::merkle::{CompactRange, leaf_hash};
use crate::scan::{self, ScannedEntry, Scanner, Step};
use crate::{OpenError, places};

fn reading(number: u32) -> impl FnOnce(io::Error) -> RepairError {
    RepairError::io(format!("reading {}", chunk_name(number)))
}

/// A repaired chunk.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) number: u32,
    /// Where it was made.
    pub(super) path: PathBuf,
    /// Its header could not be proven: its time of creation is that of its first commit.
    pub(super) header_guessed: bool,
    /// It is a thinned chunk.
    pub(super) thin: bool,
}

/// The file of a repaired chunk in the making.
struct Output {
    path: PathBuf,
    file: File,
}

/// The pass.
pub(super) struct Mender<'a> {
    pub(super) chunks: &'a Path,
    pub(super) work: &'a Path,
    pub(super) log_id: [u8; 16],
    /// Chunks there are.
    pub(super) numbers: BTreeSet<u32>,
    /// Entries that the checkpoint vouches for.
    pub(super) required: u64,
    pub(super) vouchers: Vouchers,
    pub(super) sources: Sources,
    pub(super) teller: Teller<'a>,
    pub(super) range: CompactRange,
    pub(super) heads: Heads,
    pub(super) spans: Vec<RepairedSpan>,
    pub(super) mended: Vec<Mended>,
    /// What cannot be had.
    pub(super) unrepaired: Option<Unrepaired>,
}

impl Mender<'_> {
    /// Walks all chunks. Ends early, with `unrepaired` set, where something cannot be had.
    pub(super) fn run(&mut self) -> Result<CompactRange, RepairError> {
        self.vouchers.meet(0, self.range.root())?;
        let last = self.numbers.last().copied();
        for number in 0.. {
            let done = last.is_none_or(|last| number > last) && self.range.size() >= self.required;
            if done || !self.chunk(number)? {
                break;
            }
        }
        if self.unrepaired.is_none() {
            self.vouchers.finish()?;
        }
        Ok(self.range.clone())
    }

    pub(super) fn seed(&self) -> Seed {
        Seed::of(&self.log_id)
    }

    /// The header of a chunk, if it is intact and of this log.
    fn header(&self, number: u32) -> Option<ChunkHeader> {
        let path = self.numbers.contains(&number).then(|| places::path(self.chunks, number).ok())??;
        let header = scan::read_header(&path).ok()??.ok()?;
        (header.log_id == self.log_id && header.number == number).then_some(header)
    }

    /// The chunk's own file, as far as its frames may be of use: not if another chunk's header stands in it.
    fn own_file(&self, number: u32) -> Result<Option<PathBuf>, RepairError> {
        if !self.numbers.contains(&number) {
            return Ok(None);
        }
        if let Some(path) = places::missing(self.chunks, number) {
            return Err(OpenError::ArchiveMissing { chunk: chunk_name(number), path }.into());
        }
        let path = places::path(self.chunks, number).map_err(reading(number))?;
        let another = match scan::read_header(&path).map_err(reading(number))? {
            None => true,
            Some(Ok(header)) => header.log_id != self.log_id || header.number != number,
            Some(Err(_)) => false,
        };
        Ok((!another).then_some(path))
    }

    /// Sees to one chunk; false: it cannot be repaired.
    fn chunk(&mut self, number: u32) -> Result<bool, RepairError> {
        let before = self.range.clone();
        let first = before.size();
        let mut own = self.own_file(number)?;
        let thin = own.as_deref().is_some_and(thinned::is_thin);
        if (thin || own.is_none()) && self.thinned(number, own.as_deref())? {
            return Ok(true);
        }
        // What is damaged of a thinned chunk is of no use: nobody knows where it stood.
        own = own.filter(|_| !thin);
        let header = self.header(number).filter(|header| header.first_position == first && !thin);
        let is_last = self.numbers.last().is_none_or(|last| number >= *last);
        if is_last && header.is_none() && first >= self.required && !self.holds_frames(own.as_deref())? {
            // Its creation was interrupted; opening removes it.
            return Ok(true);
        }
        let next_first = self.header(number + 1).map(|header| header.first_position).filter(|next| *next >= first);
        let mut output = None;
        let mut place = Place { chunk: number, offset: CHUNK_HEADER_BYTES as u64, group: 0, position: first };
        if header.is_none() {
            output = Some(self.output(number, None, 0)?);
        }
        let mut first_at_ms = None;
        loop {
            let bad = self.walk(own.as_deref(), &mut place, output.as_mut(), &mut first_at_ms)?;
            let resumes = match &own {
                Some(path) if bad => self.next_good(path, &place, next_first)?,
                _ => None,
            };
            let until = resumes.map(|good| good.position).or(next_first).or(is_last.then_some(self.required));
            let over = |place: &Place| until.is_some_and(|until| place.position >= until);
            if resumes.is_none() && over(&place) {
                if bad && !is_last && output.is_none() {
                    // Bytes that belong to nothing stand after the last group.
                    output = Some(self.output(number, own.as_deref(), place.offset)?);
                }
                break;
            }
            if resumes.is_none() && (self.sources.chunk_ends(&place) || self.begins_next(&place)?) {
                break;
            }
            let salvage = match &own {
                Some(path) => {
                    let to = resumes.map_or(u64::MAX, |good| good.offset);
                    Salvage::of(path, self.seed(), place.offset, to).map_err(reading(number))?
                }
                None => Salvage::default(),
            };
            let span = place;
            let mut sources = BTreeSet::new();
            loop {
                let around = Surroundings { range: &self.range, heads: &self.heads, salvage: &salvage, until };
                let group = match self.sources.group(&place, &around) {
                    Ok(group) => group,
                    // Nobody knows of more, and nothing here says that there was more.
                    Err(_) if until.is_none() && !bad && place.offset > CHUNK_HEADER_BYTES as u64 => break,
                    Err(why) => {
                        self.unrepaired = Some(Unrepaired {
                            chunk: chunk_name(number),
                            offset: place.offset,
                            first: place.position,
                            until,
                            why,
                        });
                        return Ok(false);
                    }
                };
                if output.is_none() {
                    output = Some(self.output(number, own.as_deref(), place.offset)?);
                }
                let Candidate { entries, at_ms, from } = group;
                sources.insert(from);
                first_at_ms.get_or_insert(at_ms);
                self.append(&mut place, &entries, at_ms, output.as_mut())?;
                if over(&place) || resumes.is_none() && self.sources.chunk_ends(&place) {
                    break;
                }
            }
            if place == span {
                break;
            }
            self.spans.push(RepairedSpan {
                chunk: chunk_name(number),
                offset: span.offset,
                bytes: place.offset - span.offset,
                first: span.position,
                entries: place.position - span.position,
                sources: sources.into_iter().collect(),
            });
            if resumes.is_some_and(|good| {
                (good.offset, good.position, good.group) != (place.offset, place.position, place.group)
            }) {
                return Err(RepairError::DoesNotFit { chunk: chunk_name(number), offset: place.offset });
            }
            if resumes.is_none() {
                break;
            }
        }
        if let Some(output) = output {
            self.finish(number, output, header, own.as_deref(), first_at_ms, &before)?;
        }
        Ok(true)
    }

    /// Walks the chunk's own good groups from `place` on; whether something else than the end stopped it.
    fn walk(
        &mut self,
        own: Option<&Path>,
        place: &mut Place,
        mut output: Option<&mut Output>,
        first_at_ms: &mut Option<i64>,
    ) -> Result<bool, RepairError> {
        let Some(path) = own else { return Ok(false) };
        let number = place.chunk;
        let mut scanner =
            Scanner::new(path, self.seed(), place.offset, place.position, place.group).map_err(reading(number))?;
        loop {
            match scanner.step().map_err(reading(number))? {
                Step::Group(group) => {
                    let entries: Vec<_> = group.entries.into_iter().filter_map(ScannedEntry::whole).collect();
                    let at_ms = group.commit.at_ms;
                    first_at_ms.get_or_insert(at_ms);
                    self.teller.add(group.end - place.offset);
                    self.append(place, &entries, at_ms, output.as_deref_mut())?;
                    if self.range.root() != group.commit.root {
                        let (chunk, offset) = (chunk_name(number), group.marker);
                        return Err(RepairError::RootDiffers { chunk, offset, entries: self.range.size() });
                    }
                }
                Step::End => return Ok(false),
                Step::Bad(_) => return Ok(true),
            }
        }
    }

    /// Takes a group as the next one, and writes it if the chunk is made anew.
    fn append(
        &mut self,
        place: &mut Place,
        entries: &[Bytes],
        at_ms: i64,
        output: Option<&mut Output>,
    ) -> Result<(), RepairError> {
        for (position, bytes) in (place.position..).zip(entries) {
            if let Ok(entry) = Entry::decode(position, bytes.clone()) {
                self.heads.insert(entry.feed, entry.sequence);
            }
            self.range.push(leaf_hash(bytes), |_| {});
        }
        let root = self.range.root();
        self.vouchers.meet(self.range.size(), root)?;
        let size = GroupBuffer::size(entries.iter().map(Bytes::len));
        if let Some(output) = output {
            let mut buffer = GroupBuffer::new(self.seed(), place.offset, place.group, place.position, size);
            for bytes in entries {
                buffer.push(bytes);
            }
            let (bytes, _) = buffer.finish(at_ms, root);
            output.file.write_all(&bytes).map_err(RepairError::io("writing a repaired chunk"))?;
        }
        place.offset += size as u64;
        place.position += entries.len() as u64;
        place.group += 1;
        Ok(())
    }

    /// Begins the file of a repaired chunk with what is good of the old one.
    fn output(&self, number: u32, own: Option<&Path>, good: u64) -> Result<Output, RepairError> {
        let writing = || RepairError::io("writing a repaired chunk");
        let path = self.work.join(chunk_name(number));
        let mut file = copy::create(&path).map_err(writing())?;
        match own {
            Some(own) => {
                let mut from = io::Read::take(File::open(own).map_err(reading(number))?, good);
                io::copy(&mut from, &mut file).map_err(writing())?;
            }
            // The header is written when everything of it is known.
            None => file.write_all(&[0; CHUNK_HEADER_BYTES]).map_err(writing())?,
        }
        Ok(Output { path, file })
    }

    /// Writes the header, syncs, and reads everything back.
    fn finish(
        &mut self,
        number: u32,
        output: Output,
        header: Option<ChunkHeader>,
        own: Option<&Path>,
        first_at_ms: Option<i64>,
        before: &CompactRange,
    ) -> Result<(), RepairError> {
        let writing = || RepairError::io("writing a repaired chunk");
        let mut header_guessed = false;
        let header = header.unwrap_or_else(|| {
            let mut header = ChunkHeader { log_id: self.log_id, number, first_position: before.size(), created_ms: 0 };
            let created_ms = self.created_ms(&header, own);
            header_guessed = created_ms.is_none();
            header.created_ms = created_ms.or(first_at_ms).unwrap_or_default();
            header
        });
        output.file.write_all_at(&header.encode(), 0).map_err(writing())?;
        output.file.sync_all().map_err(writing())?;
        let length = output.file.metadata().map_err(writing())?.len();
        let mut range = before.clone();
        let end = walk::walk(&output.path, &header, length, &mut range, &mut Vouchers::default())?;
        if (end.offset, end.position) != (length, self.range.size()) {
            return Err(RepairError::DoesNotFit { chunk: chunk_name(number), offset: end.offset });
        }
        self.mended.push(Mended { number, path: output.path, header_guessed, thin: false });
        Ok(())
    }

    /// The time of creation that a lost header said: a copy of the log knows it, or the damaged header proves it by
    /// its checksum, be it after one bit is turned back.
    fn created_ms(&self, wanted: &ChunkHeader, own: Option<&Path>) -> Option<i64> {
        let like = |header: &ChunkHeader| *header == ChunkHeader { created_ms: header.created_ms, ..*wanted };
        let mut known = self.sources.copies.iter().filter_map(|copy| copy.header(wanted.number)).filter(like);
        if let Some(header) = known.next() {
            return Some(header.created_ms);
        }
        let mut bytes = [0; CHUNK_HEADER_BYTES];
        File::open(own?).ok()?.read_exact_at(&mut bytes, 0).ok()?;
        (0..CHUNK_HEADER_BYTES * 8).find_map(|bit| {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            ChunkHeader::decode(&bytes).ok().filter(like).map(|header| header.created_ms)
        })
    }

    /// The next whole group after the damage at `place`.
    fn next_good(&self, path: &Path, place: &Place, below: Option<u64>) -> Result<Option<Place>, RepairError> {
        let (mut from, mut group) = (place.offset, place.group);
        loop {
            let wanted = |frame: &crate::frame::FrameHeader| {
                frame.group > group
                    && frame.kind == Kind::Entry
                    && frame.position > place.position
                    && below.is_none_or(|below| frame.position < below)
            };
            let found = scan::find_frame(path, self.seed(), from, wanted).map_err(reading(place.chunk))?;
            let Some(found) = found else { return Ok(None) };
            let (offset, header) = (found.offset, found.header);
            let mut scanner =
                Scanner::new(path, self.seed(), offset, header.position, header.group).map_err(reading(place.chunk))?;
            if matches!(scanner.step().map_err(reading(place.chunk))?, Step::Group(_)) {
                return Ok(Some(Place { offset, group: header.group, position: header.position, ..*place }));
            }
            (from, group) = (offset + 1, header.group);
        }
    }

    /// Whether the next chunk's file, whatever its header, begins with the entry that comes next.
    fn begins_next(&self, place: &Place) -> Result<bool, RepairError> {
        let next = self.own_file(place.chunk + 1)?;
        self.holds_groups(next.as_deref(), place.position)
    }

    /// Whether anything in a chunk's file is intact.
    fn holds_frames(&self, path: Option<&Path>) -> Result<bool, RepairError> {
        let Some(path) = path else { return Ok(false) };
        let found = scan::find_frame(path, self.seed(), 0, |_| true);
        Ok(found.map_err(RepairError::io(format!("reading {}", path.display())))?.is_some())
    }

    /// Whether a chunk's file begins with a whole group whose first entry is `position`.
    fn holds_groups(&self, path: Option<&Path>, position: u64) -> Result<bool, RepairError> {
        let Some(path) = path else { return Ok(false) };
        if fs::metadata(path).is_ok_and(|data| data.len() <= CHUNK_HEADER_BYTES as u64) {
            return Ok(false);
        }
        let opened = Scanner::new(path, self.seed(), CHUNK_HEADER_BYTES as u64, position, 0);
        let step = opened.and_then(|mut scanner| scanner.step());
        Ok(matches!(step.map_err(RepairError::io(format!("reading {}", path.display())))?, Step::Group(_)))
    }
}
