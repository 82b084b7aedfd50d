//! Carrying by hand: the same sealed entries and media in a file, on a stick, for a node without any link.
//!
//! [`Decoder`] and [`Encoder`] are the file format, without I/O; [`Exporter`] makes a file out of a [`crate::Store`],
//! [`Importer`] takes one into it. What a file says of itself ([`Manifest`]) is not signed and decides nothing: each entry proves
//! itself, and goes through [`crate::admit`] as if it had come over the wire. `docs/byhand.md` describes the format
//! byte by byte.
//!
//! A damaged file is told by the first frame that does not verify. What came before it is kept: it was proven, and in an
//! emergency half a stick is better than none.

mod export;
mod format;
mod import;
mod manifest;
mod plan;
mod report;

pub use export::{Export, ExportError, Exporter, Selection};
pub use format::{Decoder, Encoder, Fault, FormatError, Part};
pub use import::{Import, Importer};
pub use manifest::{Away, Manifest, MediaPart, MediaPiece, Range};
pub use report::{BrokenReport, FeedReport, ImportReport, MediaOutcome, MediaReport, Outcome};

/// Largest file taken. A stick holds less, mostly.
pub const MAX_CARRIED_BYTES: u64 = 64 << 30;
/// Largest manifest.
pub const MAX_MANIFEST_BYTES: usize = 4 << 20;
/// Most feeds that a manifest names: a nation's, several times over.
pub const MAX_CARRIED_FEEDS: usize = 8_192;
/// Most media files that a manifest names; more wait for the next file.
pub const MAX_CARRIED_MEDIA: usize = 8_192;
/// Largest frame that is no manifest: a pack of entries, or a piece of media.
pub const MAX_FRAME_BYTES: usize = crate::MAX_MESSAGE_BYTES;
/// Largest pack of entries once unpacked: what one call carries, and the framing of its entries.
pub const MAX_PACK_BYTES: usize = crate::MAX_CALL_BYTES + crate::MAX_ENTRIES_PER_PUSH * 8;
/// Least room that a file can be made for: its manifest and one pack.
pub const MIN_ROOM_BYTES: u64 = 256 << 10;
