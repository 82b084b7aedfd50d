//! The file's bytes, without I/O.
//!
//! ```text
//! file     0          8        12
//!          │"HTTTFEED"│version │frame, frame, …, end frame
//! frame    0     1       5        5 + length
//!          │kind │length │payload │SHA-256 over the whole file up to here
//!          kind 1: a Manifest, first        3: a MediaPiece, after all packs
//!               2: a Pack                   4: the end, length 0; nothing follows
//! ```
//! Integers are little-endian. Each frame's digest covers everything before it too, so a frame that verifies is where its
//! maker put it, and the last digest is the whole file's.

use std::collections::BTreeSet;
use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use httt_feed::{Digest, FeedId};
use httt_wire::exchange::Entries;
use httt_wire::{Message, carry as pb};
use ring::digest::{Context, SHA256};

use super::{MAX_CARRIED_BYTES, MAX_FRAME_BYTES, MAX_MANIFEST_BYTES, MAX_PACK_BYTES, Manifest, MediaPiece};
use crate::{MAX_ENTRIES_PER_PUSH, MAX_MEDIA_RANGE};

const MAGIC: &[u8; 8] = b"HTTTFEED";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const FRAME_HEADER_BYTES: usize = 5;
const DIGEST_BYTES: usize = 32;
/// What a frame takes beside its payload.
pub(super) const FRAMING_BYTES: u64 = (FRAME_HEADER_BYTES + DIGEST_BYTES) as u64;
/// As everybody does: a third of the size, and faster than any stick.
const COMPRESSION: i32 = 3;

const MANIFEST: u8 = 1;
const PACK: u8 = 2;
const MEDIA: u8 = 3;
const END: u8 = 4;

/// Why a file, or the rest of it, is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {fault}")]
pub struct FormatError {
    /// Where the trouble begins.
    pub offset: u64,
    /// What it is.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Something else altogether.
    #[error("this is no file of feeds (it does not begin with HTTTFEED)")]
    NotFeeds,
    /// Made by a later program.
    #[error("it has format version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// It ends too early.
    #[error("the file ends in the middle: it was not copied completely")]
    Torn,
    /// The bytes are not those that were written.
    #[error("the bytes are not those that were written: the copy is damaged")]
    Damaged,
    /// Over a limit.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it says it is.
        size: u64,
        /// How large it may be.
        limit: u64,
    },
    /// Intact, and yet not what the format allows: whoever made it has a defect, or means harm.
    #[error("not as the format says: {0}")]
    Malformed(String),
}

impl Fault {
    /// In Vietnamese.
    pub fn vi(&self) -> String {
        match self {
            Self::NotFeeds => "đây không phải tệp dữ liệu nguồn (không bắt đầu bằng HTTTFEED)".to_owned(),
            Self::Version(version) => {
                format!("tệp có phiên bản định dạng {version}, chương trình này chỉ đọc phiên bản {VERSION}")
            }
            Self::Torn => "tệp bị cắt giữa chừng: chép chưa đủ, hãy chép lại".to_owned(),
            Self::Damaged => "nội dung không đúng như lúc ghi: bản chép bị hỏng, hãy chép lại".to_owned(),
            Self::TooLarge { size, limit, .. } => format!("kích thước {size} byte vượt quá giới hạn {limit} byte"),
            Self::Malformed(what) => format!("sai định dạng: {what}"),
        }
    }
}

/// What a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// First.
    Manifest(Box<Manifest>),
    /// Entries of one feed, as they are; not verified.
    Entries {
        /// Whose they say they are; the manifest names it.
        feed: FeedId,
        /// Encoded sealed batches.
        entries: Vec<Bytes>,
    },
    /// A piece of a media file; not verified.
    Media(MediaPiece),
    /// Last: the file is whole.
    End,
}

/// Packs entries.
pub(super) fn pack(entries: Vec<Bytes>) -> io::Result<Bytes> {
    zstd::bulk::compress(&Entries { entries }.encode_to_vec(), COMPRESSION).map(Bytes::from)
}

fn unpack(packed: &[u8]) -> Result<Vec<Bytes>, String> {
    let bytes = zstd::bulk::decompress(packed, MAX_PACK_BYTES)
        .map_err(|error| format!("a pack that does not unpack to at most {MAX_PACK_BYTES} bytes: {error}"))?;
    let Entries { entries } = Entries::decode(Bytes::from(bytes)).map_err(|error| format!("a pack: {error}"))?;
    if entries.is_empty() || entries.len() > MAX_ENTRIES_PER_PUSH {
        return Err(format!("a pack of {} entries, {MAX_ENTRIES_PER_PUSH} are allowed", entries.len()));
    }
    Ok(entries)
}

/// Writes a file, part by part.
pub struct Encoder(Context);

impl Encoder {
    /// Begins a file; gives its first bytes.
    pub fn begin(manifest: &Manifest) -> (Self, Bytes) {
        let mut encoder = Self(Context::new(&SHA256));
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        encoder.0.update(&bytes);
        bytes.extend_from_slice(&encoder.frame(MANIFEST, &manifest.to_wire().encode_to_vec()));
        (encoder, bytes.freeze())
    }

    /// Entries of one feed, packed.
    pub(super) fn pack(&mut self, feed: &FeedId, packed: Bytes) -> Bytes {
        let pack = pb::Pack { feed: Some(feed.to_wire()), packed };
        self.frame(PACK, &pack.encode_to_vec())
    }

    /// Entries of one feed: at most [`crate::MAX_CALL_BYTES`] of them, in sequence.
    ///
    /// # Errors
    /// zstd refuses.
    pub fn entries(&mut self, feed: &FeedId, entries: Vec<Bytes>) -> io::Result<Bytes> {
        pack(entries).map(|packed| self.pack(feed, packed))
    }

    /// A piece of a media file, at most [`MAX_MEDIA_RANGE`] bytes.
    pub fn media(&mut self, piece: MediaPiece) -> Bytes {
        let MediaPiece { digest, size, offset, data } = piece;
        self.frame(MEDIA, &pb::MediaPiece { sha256: digest.0.to_vec(), size, offset, data }.encode_to_vec())
    }

    /// The file's last bytes.
    pub fn end(mut self) -> Bytes {
        self.frame(END, &[])
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Bytes {
        let mut bytes = BytesMut::with_capacity(FRAME_HEADER_BYTES + payload.len() + DIGEST_BYTES);
        bytes.extend_from_slice(&[kind]);
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.extend_from_slice(payload);
        self.0.update(&bytes);
        let digest = self.0.clone().finish();
        // The digest is part of what the next one covers.
        self.0.update(digest.as_ref());
        bytes.extend_from_slice(digest.as_ref());
        bytes.freeze()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Header,
    Manifest,
    Packs,
    Media,
    Ended,
}

/// Reads a file, in pieces of any size. Nothing of a frame is given out before its digest was checked; it holds one
/// frame at most, beside what was pushed last.
pub struct Decoder {
    buffer: BytesMut,
    /// Of the buffer's first byte in the file.
    offset: u64,
    hash: Context,
    stage: Stage,
    announced: BTreeSet<FeedId>,
    announced_media: BTreeSet<Digest>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            offset: 0,
            hash: Context::new(&SHA256),
            stage: Stage::Header,
            announced: BTreeSet::new(),
            announced_media: BTreeSet::new(),
        }
    }
}

impl Decoder {
    /// Takes the file's next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next part; `None`: more bytes are needed. After an error nothing more can be read.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn next_part(&mut self) -> Result<Option<Part>, FormatError> {
        if self.stage == Stage::Header {
            if self.buffer.len() < HEADER_BYTES {
                // What is here already may show that more need not be waited for.
                let known = self.buffer.len().min(MAGIC.len());
                return if self.buffer[..known] == MAGIC[..known] {
                    Ok(None)
                } else {
                    Err(self.wrong(Fault::NotFeeds))
                };
            }
            let header = self.buffer.split_to(HEADER_BYTES);
            let (magic, version) = header.split_at(MAGIC.len());
            if magic != MAGIC {
                return Err(self.wrong(Fault::NotFeeds));
            }
            let version = u32::from_le_bytes(version.try_into().unwrap_or_default());
            if version != VERSION {
                return Err(self.wrong(Fault::Version(version)));
            }
            self.hash.update(&header);
            (self.offset, self.stage) = (HEADER_BYTES as u64, Stage::Manifest);
        }
        if self.stage == Stage::Ended {
            return if self.buffer.is_empty() { Ok(None) } else { Err(self.malformed("bytes follow the file's end")) };
        }
        let Some((kind, length)) = self.frame_header()? else { return Ok(None) };
        let whole = FRAME_HEADER_BYTES + length + DIGEST_BYTES;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(whole).freeze();
        let digest = frame.split_off(FRAME_HEADER_BYTES + length);
        self.hash.update(&frame);
        if self.hash.clone().finish().as_ref() != digest.as_ref() {
            return Err(self.wrong(Fault::Damaged));
        }
        self.hash.update(&digest);
        frame.advance(FRAME_HEADER_BYTES);
        let part = self.part(kind, frame)?;
        self.offset += whole as u64;
        Ok(Some(part))
    }

    /// Whether the file was whole, once all of it was pushed and read.
    ///
    /// # Errors
    /// [`Fault::Torn`].
    pub fn finish(&self) -> Result<(), FormatError> {
        if self.stage == Stage::Ended { Ok(()) } else { Err(self.wrong(Fault::Torn)) }
    }

    /// Kind and length of the frame that is next, if they are here.
    fn frame_header(&self) -> Result<Option<(u8, usize)>, FormatError> {
        let Some(header) = self.buffer.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let [kind, a, b, c, d] = *header;
        let length = u32::from_le_bytes([a, b, c, d]) as usize;
        let (what, limit) = match (kind, self.stage) {
            (MANIFEST, Stage::Manifest) => ("a manifest", MAX_MANIFEST_BYTES),
            (PACK, Stage::Packs) => ("a pack", MAX_FRAME_BYTES),
            (MEDIA, Stage::Packs | Stage::Media) => ("a piece of media", MAX_FRAME_BYTES),
            (END, Stage::Packs | Stage::Media) => ("the end", 0),
            // A flipped bit more likely than a defect: nobody has checked these five bytes yet.
            _ => return Err(self.malformed(format!("a frame of kind {kind} does not belong here"))),
        };
        if length > limit {
            return Err(self.wrong(Fault::TooLarge { what, size: length as u64, limit: limit as u64 }));
        }
        let end = self.offset + length as u64 + FRAMING_BYTES;
        if end > MAX_CARRIED_BYTES {
            return Err(self.wrong(Fault::TooLarge { what: "the file", size: end, limit: MAX_CARRIED_BYTES }));
        }
        Ok(Some((kind, length)))
    }

    fn part(&mut self, kind: u8, payload: Bytes) -> Result<Part, FormatError> {
        match kind {
            MANIFEST => {
                let manifest = pb::Manifest::decode(payload).map_err(|error| self.malformed(error.to_string()))?;
                let manifest =
                    Manifest::from_wire(manifest).map_err(|what| self.malformed(format!("manifest: {what}")))?;
                self.announced = manifest.ranges.iter().map(|range| range.feed.clone()).collect();
                self.announced_media = manifest.media.iter().map(|part| part.digest).collect();
                self.stage = Stage::Packs;
                Ok(Part::Manifest(Box::new(manifest)))
            }
            PACK => {
                let pack = pb::Pack::decode(payload).map_err(|error| self.malformed(error.to_string()))?;
                let feed = pack.feed.as_ref().and_then(|feed| FeedId::from_wire(feed).ok());
                let feed = feed.ok_or_else(|| self.malformed("a pack without feed"))?;
                if !self.announced.contains(&feed) {
                    return Err(self.malformed(format!("a pack of {feed}, which the manifest does not name")));
                }
                let entries = unpack(&pack.packed).map_err(|what| self.malformed(what))?;
                Ok(Part::Entries { feed, entries })
            }
            MEDIA => {
                let piece = pb::MediaPiece::decode(payload).map_err(|error| self.malformed(error.to_string()))?;
                let pb::MediaPiece { sha256, size, offset, data } = piece;
                let digest = Digest::from_slice(&sha256).ok_or_else(|| self.malformed("media without SHA-256"))?;
                if !self.announced_media.contains(&digest) {
                    return Err(self.malformed(format!("media {digest}, which the manifest does not name")));
                }
                let end = offset.checked_add(data.len() as u64).filter(|end| *end <= size);
                if data.is_empty() || data.len() > MAX_MEDIA_RANGE || end.is_none() {
                    return Err(self.malformed(format!("a piece of media {digest} that cannot be part of it")));
                }
                self.stage = Stage::Media;
                Ok(Part::Media(MediaPiece { digest, size, offset, data }))
            }
            _ => {
                self.stage = Stage::Ended;
                Ok(Part::End)
            }
        }
    }

    fn malformed(&self, what: impl Into<String>) -> FormatError {
        self.wrong(Fault::Malformed(what.into()))
    }

    fn wrong(&self, fault: Fault) -> FormatError {
        FormatError { offset: self.offset, fault }
    }
}
