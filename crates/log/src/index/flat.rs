//! Arrays of fixed-width rows in files: row N stands at N times its width.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};
use httt_feed::Digest;

use super::IndexError;
use super::row::{EntryRow, ROW_BYTES};
use crate::merkle::Node;

/// Bytes of a tree node: hash and CRC.
const NODE_BYTES: usize = 36;
/// Levels of tree nodes kept above the leaves: no log has the 256^8 entries that a node of the next would cover.
const NODE_LEVELS: u8 = 7;

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// The rows of all entries that are in runs.
#[derive(Debug)]
pub(crate) struct EntriesFile(File);

impl EntriesFile {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        open(&dir.join("entries")).map(Self)
    }

    /// Puts `rows` where `first` and those after it belong.
    pub(crate) fn write(&self, first: u64, rows: &[EntryRow]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(rows.len() * ROW_BYTES);
        for (position, row) in (first..).zip(rows) {
            bytes.extend_from_slice(&row.encode(position));
        }
        self.0.write_all_at(&bytes, first * ROW_BYTES as u64)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    /// Rows `from..from + count`; all of them are there or it is an error.
    pub(crate) fn read(&self, from: u64, count: usize) -> Result<Vec<EntryRow>, IndexError> {
        let mut bytes = vec![0; count * ROW_BYTES];
        self.0
            .read_exact_at(&mut bytes, from * ROW_BYTES as u64)
            .map_err(|error| IndexError(format!("its rows of entries {from} and after: {error}")))?;
        let rows = bytes.as_chunks::<ROW_BYTES>().0;
        (from..).zip(rows).map(|(position, row)| EntryRow::decode(position, row)).collect()
    }
}

/// The hashes of full subtrees over 256, 256², … leaves.
#[derive(Debug)]
pub(crate) struct NodesFiles(Vec<File>);

impl NodesFiles {
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        (1..=NODE_LEVELS).map(|level| open(&dir.join(format!("nodes-{level}")))).collect::<io::Result<_>>().map(Self)
    }

    fn crc(level: u8, number: u64, hash: &[u8]) -> u32 {
        crc32c_append(crc32c_append(crc32c(&[level]), &number.to_le_bytes()), hash)
    }

    pub(crate) fn write(&self, node: &Node) -> io::Result<()> {
        let Some(file) = self.file(node.level) else { return Ok(()) };
        let mut bytes = [0; NODE_BYTES];
        bytes[..32].copy_from_slice(&node.hash.0);
        bytes[32..].copy_from_slice(&Self::crc(node.level, node.number, &node.hash.0).to_le_bytes());
        file.write_all_at(&bytes, node.number * NODE_BYTES as u64)
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.0.iter().try_for_each(File::sync_data)
    }

    /// `count` neighbours from `number` on.
    pub(crate) fn read(&self, level: u8, number: u64, count: usize) -> Result<Vec<Digest>, IndexError> {
        let failed = |what: &str| IndexError(format!("its tree nodes {level}/{number} and after {what}"));
        let file = self.file(level).ok_or_else(|| failed("do not exist"))?;
        let mut bytes = vec![0; count * NODE_BYTES];
        file.read_exact_at(&mut bytes, number * NODE_BYTES as u64).map_err(|error| failed(&error.to_string()))?;
        (number..)
            .zip(bytes.as_chunks::<NODE_BYTES>().0)
            .map(|(number, node)| {
                let (hash, crc) = node.split_at(32);
                let good = crc == Self::crc(level, number, hash).to_le_bytes();
                Digest::from_slice(hash).filter(|_| good).ok_or_else(|| failed("are damaged"))
            })
            .collect()
    }

    fn file(&self, level: u8) -> Option<&File> {
        self.0.get(usize::from(level).checked_sub(1)?)
    }
}
