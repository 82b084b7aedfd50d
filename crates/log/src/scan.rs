//! Reads a chunk group by group, trusting nothing, and judges what stands after the last good group.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use httt_feed::Digest;

use crate::frame::{
    CHUNK_HEADER_BYTES, ChunkHeader, Commit, FRAME_HEADER_BYTES, FrameHeader, GroupCrc, HeaderFault, Kind,
    MAX_PAYLOAD_BYTES, Seed,
};
use crate::merkle::leaf_hash;
use crate::thin::{GoneRecord, Row, Thin, frame_bytes};

/// Read-ahead of a scan.
const SCAN_BUFFER_BYTES: usize = 1 << 20;

/// An entry whose frame is intact.
#[derive(Debug)]
pub(crate) struct ScannedEntry {
    pub(crate) position: u64,
    /// Where its frame was written: where the index knows it.
    pub(crate) offset: u64,
    /// Where it is in the file; another place only in a thinned chunk.
    pub(crate) at: u64,
    /// Checksum of its frame as it was written.
    pub(crate) crc: u32,
    pub(crate) held: Held,
}

/// What a chunk has of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Its bytes.
    Whole(Bytes),
    /// It went by retention.
    Gone(Box<GoneRecord>),
}

impl ScannedEntry {
    /// RFC 6962 leaf hash: of the bytes, or what is recorded where they are gone.
    pub(crate) fn leaf(&self) -> Digest {
        match &self.held {
            Held::Whole(bytes) => leaf_hash(bytes),
            Held::Gone(record) => record.entry.leaf,
        }
    }

    /// Its bytes; `None`: they are gone.
    pub(crate) fn whole(self) -> Option<Bytes> {
        match self.held {
            Held::Whole(bytes) => Some(bytes),
            Held::Gone(_) => None,
        }
    }
}

/// A group closed by a fitting commit marker.
#[derive(Debug)]
pub(crate) struct ScannedGroup {
    pub(crate) number: u32,
    /// Where its commit marker was written, and what comes after it.
    pub(crate) marker: u64,
    pub(crate) end: u64,
    /// Where the marker is in the file.
    pub(crate) marker_at: u64,
    pub(crate) commit: Commit,
    pub(crate) entries: Vec<ScannedEntry>,
}

/// Where a chunk stops making sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bad {
    /// Start of the group it is in.
    pub(crate) group_start: u64,
    /// The frame at fault.
    pub(crate) offset: u64,
    /// The position it should have.
    pub(crate) position: u64,
    pub(crate) what: &'static str,
}

/// One step of a scan.
#[derive(Debug)]
pub(crate) enum Step {
    Group(ScannedGroup),
    /// Nothing but zeros up to the end of the file.
    End,
    Bad(Bad),
}

/// One step of a scan beside the node that writes the chunk.
#[derive(Debug)]
pub(crate) enum LiveStep {
    Group(ScannedGroup),
    /// Nothing but zeros up to the end of the file.
    End,
    /// Something that makes no sense, and no later group: torn, or being written.
    Unfinished(Bad),
    /// Something that makes no sense before a later group.
    Damaged(Bad),
}

/// Walks one chunk.
#[derive(Debug)]
pub(crate) struct Scanner {
    reader: BufReader<File>,
    seed: Seed,
    length: u64,
    offset: u64,
    position: u64,
    group: u32,
    /// In a thinned chunk: how it is laid out, or what is wrong with it.
    thin: Option<Result<Thinned, &'static str>>,
}

/// The scan of a thinned chunk.
#[derive(Debug)]
struct Thinned {
    thin: Thin,
    /// Where what comes next was written.
    was: u64,
    /// Rows of the table read ahead.
    rows: VecDeque<Row>,
}

impl Thinned {
    /// Whether the table has the next entry where the frames have it.
    fn row_fits(&mut self, file: &File, position: u64, row: Row) -> io::Result<bool> {
        if self.rows.is_empty() {
            let Ok(rows) = self.thin.rows(file, position)? else { return Ok(false) };
            self.rows = rows.into();
        }
        Ok(self.rows.pop_front() == Some(row))
    }
}

/// Reads a chunk's header; `Ok(None)`: the file is shorter than one.
pub(crate) fn read_header(path: &Path) -> io::Result<Option<Result<ChunkHeader, HeaderFault>>> {
    let mut bytes = [0; CHUNK_HEADER_BYTES];
    match File::open(path)?.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(ChunkHeader::decode(&bytes))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

impl Scanner {
    /// Starts at `offset`, where group number `group` with its first entry at `position` was written.
    pub(crate) fn new(path: &Path, seed: Seed, offset: u64, position: u64, group: u32) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut length = file.metadata()?.len();
        let mut at = offset;
        let thin = match Thin::open(&file)? {
            None => None,
            Some(Err(what)) => Some(Err(what)),
            Some(Ok(thin)) => {
                length = thin.table;
                let begins = if offset == CHUNK_HEADER_BYTES as u64 || position == thin.next() {
                    let end = if position == thin.next() { (thin.was, thin.table) } else { (offset, offset) };
                    Some(end)
                } else {
                    let rows = thin.rows(&file, position)?;
                    rows.ok().and_then(|rows| rows.first().map(|row| (row.was, row.at)))
                };
                Some(match begins {
                    Some((was, here)) if was == offset => {
                        at = here;
                        Ok(Thinned { thin, was, rows: VecDeque::new() })
                    }
                    _ => Err("the table of the thinned chunk does not have what should begin here"),
                })
            }
        };
        file.seek(SeekFrom::Start(at))?;
        let reader = BufReader::with_capacity(SCAN_BUFFER_BYTES, file);
        Ok(Self { reader, seed, length, offset: at, position, group, thin })
    }

    /// Whether the chunk is a thinned one.
    pub(crate) fn is_thin(&self) -> bool {
        self.thin.is_some()
    }

    /// Bytes of the file, up to the table of a thinned chunk.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// End of the last good group in the file.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The position that comes next.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The group number that comes next.
    pub(crate) fn group(&self) -> u32 {
        self.group
    }

    /// The next group. After [`Step::Bad`] the scan is over; [`Scanner::resume`] can start it again further on, unless
    /// the chunk is a thinned one.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let start = self.offset;
        let mut offset = start;
        let mut entries = Vec::new();
        let mut crc = GroupCrc::default();
        // Where the frames were written.
        let was_start = match &self.thin {
            Some(Ok(thinned)) => thinned.was,
            _ => start,
        };
        let mut was = was_start;
        loop {
            let position = self.position + entries.len() as u64;
            let bad = |what| Ok(Step::Bad(Bad { group_start: start, offset, position, what }));
            if let Some(Err(what)) = self.thin {
                return bad(what);
            }
            let left = self.length.saturating_sub(offset);
            if left == 0 && entries.is_empty() {
                let ends = |thinned: &Thinned| (thinned.thin.next(), thinned.thin.was) == (position, was);
                return match &self.thin {
                    Some(Ok(thinned)) if !ends(thinned) => bad("the frames do not end where the table does"),
                    _ => Ok(Step::End),
                };
            }
            if left < FRAME_HEADER_BYTES as u64 {
                let zeros = !self.is_thin() && entries.is_empty() && self.only_zeros(left)?;
                return if zeros { Ok(Step::End) } else { bad("the file ends inside a group") };
            }
            let mut header = [0; FRAME_HEADER_BYTES];
            self.reader.read_exact(&mut header)?;
            if header == [0; FRAME_HEADER_BYTES] {
                let zeros =
                    !self.is_thin() && entries.is_empty() && self.only_zeros(left - FRAME_HEADER_BYTES as u64)?;
                return if zeros { Ok(Step::End) } else { bad("zeros stand where a frame should") };
            }
            let Some(frame) = FrameHeader::decode(&header) else { return bad("no frame begins here") };
            if u64::from(frame.length) > left - FRAME_HEADER_BYTES as u64 {
                return bad("a frame runs past the end of the file");
            }
            let mut payload = vec![0; frame.length as usize];
            self.reader.read_exact(&mut payload)?;
            if !FrameHeader::holds(self.seed, &header, &payload) {
                return bad("a frame's checksum does not match");
            }
            if frame.position != position || frame.group != self.group {
                return bad("a frame of another place stands here");
            }
            let next = offset + (FRAME_HEADER_BYTES + payload.len()) as u64;
            let (held, frame_crc) = match frame.kind {
                Kind::Entry => (Held::Whole(payload.into()), frame.crc),
                Kind::Gone => {
                    let Some(record) = GoneRecord::decode(position, &payload).filter(|_| self.is_thin()) else {
                        return bad("the record of an entry that is gone makes no sense here");
                    };
                    let crc = record.crc;
                    (Held::Gone(Box::new(record)), crc)
                }
                Kind::Commit => {
                    let fits = Commit::decode(&payload).filter(|commit| {
                        commit.first == self.position
                            && commit.count as usize == entries.len()
                            && commit.start == was_start
                            && commit.crc == crc.value()
                            && !entries.is_empty()
                    });
                    let Some(commit) = fits else { return bad("a commit marker does not fit its group") };
                    let number = self.group;
                    let end = was + frame_bytes(frame.length);
                    if let Some(Ok(thinned)) = &mut self.thin {
                        thinned.was = end;
                    }
                    (self.offset, self.position, self.group) = (next, position, number + 1);
                    return Ok(Step::Group(ScannedGroup {
                        number,
                        marker: was,
                        end,
                        marker_at: offset,
                        commit,
                        entries,
                    }));
                }
            };
            let (gone, length) = match &held {
                Held::Whole(bytes) => (false, bytes.len() as u32),
                Held::Gone(record) => (true, record.entry.bytes),
            };
            if let Some(Ok(thinned)) = &mut self.thin
                && !thinned.row_fits(self.reader.get_ref(), position, Row { was, at: offset, gone })?
            {
                return bad("the table does not have this entry where it is");
            }
            crc.push(frame_crc);
            entries.push(ScannedEntry { position, offset: was, at: offset, crc: frame_crc, held });
            (offset, was) = (next, was + frame_bytes(length));
        }
    }

    /// The next group of the chunk at `path`, which its node may be writing or trimming meanwhile.
    ///
    /// What makes no sense may have been read while it was written. A later group proves that it is whole on disk since
    /// then; so if there is one, a second look must find it good.
    pub(crate) fn step_live(&mut self, path: &Path) -> io::Result<LiveStep> {
        let (mut proven, mut shortened) = (false, false);
        loop {
            match self.step() {
                Ok(Step::Group(group)) => return Ok(LiveStep::Group(group)),
                Ok(Step::End) => return Ok(LiveStep::End),
                Ok(Step::Bad(bad)) if proven => return Ok(LiveStep::Damaged(bad)),
                Ok(Step::Bad(bad)) => {
                    if find_later_group(path, self.seed, bad.group_start, self.group)?.is_none() {
                        return Ok(LiveStep::Unfinished(bad));
                    }
                    proven = true;
                }
                // Zeros were cut off since the length was taken.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !shortened => shortened = true,
                Err(error) => return Err(error),
            }
            *self = Self::new(path, self.seed, self.offset, self.position, self.group)?;
        }
    }

    /// Goes on at a frame found by [`find_frame`].
    pub(crate) fn resume(&mut self, found: &FoundFrame) -> io::Result<()> {
        self.reader.seek(SeekFrom::Start(found.offset))?;
        (self.offset, self.position, self.group) = (found.offset, found.header.position, found.header.group);
        Ok(())
    }

    fn only_zeros(&mut self, mut left: u64) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        while left > 0 {
            let part = &mut buffer[..left.min(4096) as usize];
            self.reader.read_exact(part)?;
            if part.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            left -= part.len() as u64;
        }
        Ok(true)
    }
}

/// An intact frame in the midst of bytes that make no sense.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundFrame {
    pub(crate) offset: u64,
    pub(crate) header: FrameHeader,
}

/// Looks for the first intact frame at or after `from` that satisfies `wanted`, at every byte offset.
pub(crate) fn find_frame(
    path: &Path,
    seed: Seed,
    from: u64,
    mut wanted: impl FnMut(&FrameHeader) -> bool,
) -> io::Result<Option<FoundFrame>> {
    const WINDOW: usize = FRAME_HEADER_BYTES + MAX_PAYLOAD_BYTES;
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut window = Vec::new();
    let mut base = from;
    let mut ended = false;
    loop {
        if !ended {
            let read = (&mut file).take(SCAN_BUFFER_BYTES as u64).read_to_end(&mut window)?;
            ended = read < SCAN_BUFFER_BYTES;
        }
        // Frames that may reach past what was read wait for the next round.
        let last = if ended { window.len() } else { window.len().saturating_sub(WINDOW) };
        let mut at = 0;
        while at < last {
            let here = at;
            at += 1;
            let Some(header) = window.get(here..here + FRAME_HEADER_BYTES) else { break };
            let mut bytes = [0; FRAME_HEADER_BYTES];
            bytes.copy_from_slice(header);
            let Some(header) = FrameHeader::decode(&bytes) else { continue };
            let end = here + FRAME_HEADER_BYTES + header.length as usize;
            let Some(payload) = window.get(here + FRAME_HEADER_BYTES..end) else { continue };
            if FrameHeader::holds(seed, &bytes, payload) {
                if wanted(&header) {
                    return Ok(Some(FoundFrame { offset: base + here as u64, header }));
                }
                // What looks like a frame inside an intact one is the sender's data.
                at = end;
            }
        }
        if ended {
            return Ok(None);
        }
        let done = at.min(window.len());
        window.drain(..done);
        base += done as u64;
    }
}

/// The offset of an intact frame of a group after number `group`, if there is one at or after `from`.
///
/// Every group is synced before the next is begun. So a later group proves that the bad bytes before it were good
/// once: that is damage. Without one they may be what a crash left of the last group.
pub(crate) fn find_later_group(path: &Path, seed: Seed, from: u64, group: u32) -> io::Result<Option<u64>> {
    Ok(find_frame(path, seed, from, |frame| frame.group > group)?.map(|found| found.offset))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use httt_feed::Digest;

    use super::*;
    use crate::frame::GroupBuffer;

    fn seed() -> Seed {
        Seed::of(&[9; 16])
    }

    fn group(start: u64, number: u32, first: u64, payloads: &[&[u8]]) -> Vec<u8> {
        let mut buffer = GroupBuffer::new(seed(), start, number, first, 0);
        for payload in payloads {
            buffer.push(payload);
        }
        buffer.finish(0, Digest([7; 32])).0
    }

    #[test]
    fn zeros_end_a_chunk_and_anything_else_is_bad() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("c");
        let bytes = group(0, 0, 0, &[b"a", b"bc"]);
        for (tail, clean) in [(vec![], true), (vec![0; 5], true), (vec![0; 5000], true), (vec![0, 0, 1], false)] {
            fs::write(&path, [bytes.clone(), tail].concat()).expect("write");
            let mut scanner = Scanner::new(&path, seed(), 0, 0, 0).expect("open");
            assert!(matches!(scanner.step(), Ok(Step::Group(group)) if group.entries.len() == 2));
            match scanner.step().expect("step") {
                Step::End => assert!(clean),
                Step::Bad(bad) => assert!(!clean && bad.position == 2 && bad.offset == bytes.len() as u64),
                Step::Group(_) => panic!("there is no second group"),
            }
        }
    }

    /// The file changes between two looks, as under a node that writes it.
    #[test]
    fn a_chunk_that_is_being_written_is_not_called_damaged() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("c");
        let first = group(0, 0, 0, &[b"one"]);
        let second = group(first.len() as u64, 1, 1, &[b"two", b"three"]);
        let third = group((first.len() + second.len()) as u64, 2, 3, &[b"four"]);
        let whole = [&first[..], &second, &third].concat();
        for cut in 1..second.len() {
            // The second group half written, then zeros that were filled ahead or nothing.
            for zeros in [0, 5_000] {
                fs::write(&path, [&first[..], &second[..cut], &vec![0; zeros]].concat()).expect("write");
                let mut scanner = Scanner::new(&path, seed(), 0, 0, 0).expect("open");
                assert!(matches!(scanner.step_live(&path), Ok(LiveStep::Group(group)) if group.number == 0));
                let step = scanner.step_live(&path);
                assert!(
                    matches!(&step, Ok(LiveStep::Unfinished(bad)) if bad.group_start == first.len() as u64),
                    "{cut}, {zeros}: {step:?}"
                );
                let mut scanner = Scanner::new(&path, seed(), 0, 0, 0).expect("open");
                assert!(matches!(scanner.step_live(&path), Ok(LiveStep::Group(_))));
                fs::write(&path, &whole).expect("write");
                for number in [1, 2] {
                    let step = scanner.step_live(&path);
                    assert!(matches!(&step, Ok(LiveStep::Group(group)) if group.number == number), "{cut}: {step:?}");
                }
                assert!(matches!(scanner.step_live(&path), Ok(LiveStep::End)));
            }
        }
        // Zeros that are cut off meanwhile, and a group that stays bad before a later one.
        fs::write(&path, [&first[..], &vec![0; 3 * SCAN_BUFFER_BYTES]].concat()).expect("write");
        let mut scanner = Scanner::new(&path, seed(), 0, 0, 0).expect("open");
        assert!(matches!(scanner.step_live(&path), Ok(LiveStep::Group(_))));
        fs::write(&path, &first).expect("write");
        assert!(matches!(scanner.step_live(&path), Ok(LiveStep::End)));
        let mut harmed = whole;
        harmed[first.len() + FRAME_HEADER_BYTES] ^= 1;
        fs::write(&path, &harmed).expect("write");
        let mut scanner = Scanner::new(&path, seed(), 0, 0, 0).expect("open");
        assert!(matches!(scanner.step_live(&path), Ok(LiveStep::Group(_))));
        assert!(matches!(scanner.step_live(&path), Ok(LiveStep::Damaged(bad)) if bad.position == 1));
    }

    #[test]
    fn a_later_group_is_found_across_windows() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("c");
        for gap in [0, 1, 77, SCAN_BUFFER_BYTES - 3, 2 * SCAN_BUFFER_BYTES + 5] {
            let mut bytes = vec![0xAB; gap];
            bytes.extend(group(gap as u64, 4, 9, &[b"later"]));
            fs::write(&path, &bytes).expect("write");
            assert_eq!(find_later_group(&path, seed(), 0, 3).expect("read"), Some(gap as u64));
            assert_eq!(find_later_group(&path, seed(), 0, 4).expect("read"), None);
        }
    }
}
