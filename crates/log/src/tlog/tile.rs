//! Tiles and entry bundles: where they are, and their bytes.

use std::fmt;
use std::str::FromStr;

use tlog_tiles::{HashReader as _, stored_hash_index};

use crate::entry::Direction;
use crate::merkle::TILE_HEIGHT;
use crate::{Log, ReadError};

/// Hashes in a full tile, entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;
/// Longest path read: `tile/entries/`, seven groups of an index below 2^64, and `.p/255`.
pub const MAX_TILE_PATH_BYTES: usize = 64;
/// Highest level that a path can name.
const MAX_LEVEL: u8 = 63;
/// Highest level that a tree with fewer than 2^64 leaves has.
const TOP_LEVEL: u8 = 7;

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// SHA-256 hashes; those of level 0 are leaf hashes, one of level n is over 256^n leaves.
    Hashes {
        /// 0 to 63.
        level: u8,
    },
    /// The entries themselves, each with its length before it in two bytes, big-endian.
    Entries,
}

/// Names one tile or entry bundle. Its text is the path under a log's prefix: `tile/0/x001/x234/067`,
/// `tile/entries/000.p/17`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

/// The text names no tile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no tile; a path is tile/LEVEL/INDEX or tile/entries/INDEX, as in tile/0/x001/234.p/7")]
pub struct BadTilePath(pub String);

impl Tile {
    /// The tile `index` of its level with its first `width` (1 to 256) places; `None` for another width or a level
    /// above 63.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Option<Self> {
        let level = match kind {
            TileKind::Hashes { level } => level,
            TileKind::Entries => 0,
        };
        (level <= MAX_LEVEL && (1..=TILE_WIDTH).contains(&width)).then_some(Self { kind, index, width })
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its number in its level, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it has.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether nothing can be added to it, so that it never changes again.
    pub fn is_full(&self) -> bool {
        self.width == TILE_WIDTH
    }

    /// Number of its first hash in its level, if a tree of `size` leaves has all of the tile.
    fn first_within(&self, size: u64) -> Option<u64> {
        let level = match self.kind {
            TileKind::Hashes { level } if level > TOP_LEVEL => return None,
            TileKind::Hashes { level } => u32::from(level),
            TileKind::Entries => 0,
        };
        let first = self.index.checked_mul(u64::from(TILE_WIDTH))?;
        let end = first.checked_add(u64::from(self.width))?;
        (end <= size >> (level * TILE_HEIGHT)).then_some(first)
    }
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes { level } => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let mut groups = vec![self.index % 1_000];
        let mut rest = self.index / 1_000;
        while rest > 0 {
            groups.push(rest % 1_000);
            rest /= 1_000;
        }
        for group in groups.iter().skip(1).rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for Tile {
    type Err = BadTilePath;

    fn from_str(text: &str) -> Result<Self, BadTilePath> {
        let bad = || BadTilePath(text.chars().take(MAX_TILE_PATH_BYTES).collect());
        if text.len() > MAX_TILE_PATH_BYTES {
            return Err(bad());
        }
        let read = || {
            let (kind, rest) = text.strip_prefix("tile/")?.split_once('/')?;
            let kind = match kind {
                "entries" => TileKind::Entries,
                level => TileKind::Hashes { level: level.parse().ok()? },
            };
            let (index, width) = match rest.split_once(".p/") {
                Some((index, width)) => (index, width.parse().ok().filter(|width| *width < TILE_WIDTH)?),
                None => (rest, TILE_WIDTH),
            };
            let mut number = 0_u64;
            for group in index.split('/') {
                let group: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok().filter(|n| *n < 1_000)?;
                number = number.checked_mul(1_000)?.checked_add(group)?;
            }
            Self::new(kind, number, width)
        };
        // One text a tile: what is written otherwise (`+1`, `01`, a needless group) is no path.
        read().filter(|tile| tile.to_string() == text).ok_or_else(bad)
    }
}

impl Log {
    /// The bytes of a tile; `None`: the log has no such tile, or not that much of it yet. A full tile never changes.
    ///
    /// # Errors
    /// [`ReadError::Gone`]: an entry of the bundle went by retention; else see [`ReadError`].
    pub fn tile(&self, tile: &Tile) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(first) = tile.first_within(self.len()) else { return Ok(None) };
        match tile.kind {
            TileKind::Hashes { level } => {
                let height = level * TILE_HEIGHT as u8;
                let indexes: Vec<u64> =
                    (first..first + u64::from(tile.width)).map(|number| stored_hash_index(height, number)).collect();
                let hashes = self.shared().tree().read_hashes(&indexes);
                let hashes = hashes.map_err(|error| ReadError::Index(error.to_string()))?;
                Ok(Some(hashes.iter().flat_map(|hash| hash.0).collect()))
            }
            TileKind::Entries => {
                let width = usize::from(tile.width);
                let mut bundle = Vec::new();
                let mut next = first;
                for entry in self.shared().read(first, width, usize::MAX, Direction::Forward)? {
                    if entry.position != next {
                        break;
                    }
                    next += 1;
                    push_entry(&mut bundle, &entry.bytes);
                }
                // What is missing went by retention, and is named: reading it alone says what it was.
                if next < first + width as u64 {
                    self.shared().entry(next)?;
                }
                Ok(Some(bundle))
            }
        }
    }
}

/// Adds an entry to a bundle. An entry is at most [`httt_feed::MAX_SEALED_BYTES`] long, which two bytes can say.
pub(crate) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    bundle.extend_from_slice(&(entry.len() as u16).to_be_bytes());
    bundle.extend_from_slice(entry);
}

/// The entries of a bundle; `None`: it is cut short, or has more than [`TILE_WIDTH`].
pub fn split_bundle(mut bundle: &[u8]) -> Option<Vec<&[u8]>> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let (length, rest) = bundle.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry);
        bundle = rest;
    }
    (entries.len() <= usize::from(TILE_WIDTH)).then_some(entries)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let hashes = |level, index, width| Tile::new(TileKind::Hashes { level }, index, width).expect("tile");
        let entries = |index, width| Tile::new(TileKind::Entries, index, width).expect("tile");
        for (tile, path) in [
            (hashes(0, 0, 256), "tile/0/000"),
            (hashes(0, 999, 256), "tile/0/999"),
            (hashes(1, 1_234_067, 256), "tile/1/x001/x234/067"),
            (hashes(63, 1_000, 1), "tile/63/x001/000.p/1"),
            (entries(273, 112), "tile/entries/273.p/112"),
            (entries(u64::MAX, 255), "tile/entries/x018/x446/x744/x073/x709/x551/615.p/255"),
        ] {
            assert_eq!(tile.to_string(), path);
            assert_eq!(path.parse(), Ok(tile));
            assert!(path.len() <= MAX_TILE_PATH_BYTES);
        }
    }

    #[test]
    fn other_spellings_are_no_paths() {
        for path in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/1",
            "tile/00/001",
            "tile/+1/001",
            "tile/64/000",
            "tile/0/x000/001",
            "tile/0/001/002",
            "tile/0/x001",
            "tile/0/1000",
            "tile/0/-01",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p/1/",
            "tile/0/../../etc/passwd",
            "tile/data/000",
            "tile/8/0/000/",
            "/tile/0/000",
            "tile/entries/x018/x446/x744/x073/x709/x551/616",
            "tile/0/\u{0661}00",
        ] {
            assert!(path.parse::<Tile>().is_err(), "{path:?}");
        }
        assert!("x".repeat(1 << 20).parse::<Tile>().expect_err("long").0.len() <= MAX_TILE_PATH_BYTES);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic_and_only_in_one_spelling(text in "(tile/)?[0-9x./p+entris]{0,70}|\\PC{0,80}") {
            if let Ok(tile) = text.parse::<Tile>() {
                prop_assert_eq!(tile.to_string(), text);
            }
        }

        #[test]
        fn any_tile_reads_as_it_is_written(level in 0..=63_u8, index: u64, width in 1..=256_u16, entries: bool) {
            let kind = if entries { TileKind::Entries } else { TileKind::Hashes { level } };
            let tile = Tile::new(kind, index, width).expect("tile");
            prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        }

        #[test]
        fn any_bytes_are_a_bundle_or_not(bytes: Vec<u8>) {
            if let Some(entries) = split_bundle(&bytes) {
                let mut again = Vec::new();
                entries.iter().for_each(|entry| push_entry(&mut again, entry));
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
