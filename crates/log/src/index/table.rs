//! Sorted tables of fixed-width rows in files; a row begins with a hash.
//!
//! ```text
//! header   "HTTTIDX1" │ stamp          16 bytes; the stamp tells the files of one run from those of another
//! rows     sorted by their bytes
//! buckets  end │ CRC32C                8 bytes each; bucket N holds the rows whose hash is in the N-th part
//! filter   480 bits │ CRC32C           64 bytes each: a Bloom filter in blocks
//! ```
//! CRCs begin with the stamp and the number of the bucket or block, so what stands elsewhere is noticed. Integers are
//! little-endian, but for those inside rows, which are big-endian so that bytes sort as numbers do.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crc32c::{crc32c, crc32c_append};

use super::IndexError;
use super::hash::leading;

pub(crate) const HEADER_BYTES: usize = 16;
const MAGIC: [u8; 8] = *b"HTTTIDX1";
/// Rows in a bucket, as a rule.
const ROWS_PER_BUCKET: u64 = 32;
const BUCKET_BYTES: usize = 8;
const BLOCK_BYTES: usize = 64;
const BLOCK_BITS: u64 = 480;
/// Rows in a block of the filter, as a rule: ten bits for each.
const ROWS_PER_BLOCK: u64 = 48;
const PROBES: u32 = 5;
/// Bytes collected before they are written.
const WRITE_BYTES: usize = 1 << 18;

/// What is known of a table beside its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) stamp: u64,
    /// Bytes of a row.
    pub(crate) width: usize,
    pub(crate) rows: u64,
}

impl Shape {
    fn buckets(&self) -> u64 {
        (self.rows / ROWS_PER_BUCKET).max(1)
    }

    fn blocks(&self) -> u64 {
        self.rows.div_ceil(ROWS_PER_BLOCK).max(1)
    }

    fn buckets_at(&self) -> u64 {
        HEADER_BYTES as u64 + self.rows * self.width as u64
    }

    fn filter_at(&self) -> u64 {
        self.buckets_at() + self.buckets() * BUCKET_BYTES as u64
    }

    /// Bytes of the file.
    fn length(&self) -> u64 {
        self.filter_at() + self.filter_bytes()
    }

    /// Bytes of the filter.
    pub(crate) fn filter_bytes(&self) -> u64 {
        self.blocks() * BLOCK_BYTES as u64
    }

    fn crc(&self, number: u64) -> u32 {
        crc_begun(self.stamp, number)
    }

    fn bucket_crc(&self, number: u64, start: u32, end: u32) -> u32 {
        crc32c_append(crc32c_append(self.crc(number), &start.to_le_bytes()), &end.to_le_bytes())
    }
}

/// The CRC of what is number `number` of its kind in a run, before its own bytes: what stands elsewhere is noticed.
pub(crate) fn crc_begun(stamp: u64, number: u64) -> u32 {
    crc32c_append(crc32c(&stamp.to_le_bytes()), &number.to_le_bytes())
}

/// The N-th of `parts` equal parts that `hash` falls in.
fn part(hash: u64, parts: u64) -> u64 {
    ((u128::from(hash) * u128::from(parts)) >> 64) as u64
}

fn probes(hash: u64) -> impl Iterator<Item = (usize, u8)> {
    (0..PROBES).map(move |n| {
        let bit = (hash >> (9 * n) & 511) % BLOCK_BITS;
        ((bit / 8) as usize, 1 << (bit % 8))
    })
}

/// Creates a file with its header.
pub(crate) fn create(path: &Path, stamp: u64) -> io::Result<BufWriter<File>> {
    let mut out = BufWriter::with_capacity(WRITE_BYTES, File::create(path)?);
    out.write_all(&MAGIC)?;
    out.write_all(&stamp.to_le_bytes())?;
    Ok(out)
}

/// Puts a created file on disk.
pub(crate) fn finish(out: BufWriter<File>) -> io::Result<()> {
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_data()
}

/// Opens a file made by [`create`].
pub(crate) fn open(path: &Path, stamp: u64) -> Result<File, IndexError> {
    let failed = |what: String| IndexError(format!("{}: {what}", path.display()));
    let file = OpenOptions::new().read(true).open(path).map_err(|error| failed(error.to_string()))?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact_at(&mut header, 0).map_err(|error| failed(error.to_string()))?;
    if header[..8] != MAGIC || header[8..] != stamp.to_le_bytes() {
        return Err(failed("it is another file than the one that was written".into()));
    }
    Ok(file)
}

/// Writes a table.
#[derive(Debug)]
pub(crate) struct TableWriter {
    out: BufWriter<File>,
    shape: Shape,
    bucket: u64,
    start: u32,
    written: u32,
    crc_of_rows: u32,
    buckets: Vec<u8>,
    filter: Vec<u8>,
    rows_of_bucket: Vec<u8>,
}

impl TableWriter {
    /// A table of exactly `shape.rows` rows.
    pub(crate) fn create(path: &Path, shape: Shape) -> io::Result<Self> {
        if u32::try_from(shape.rows).is_err() {
            return Err(io::Error::other("a table has more rows than 32 bits count"));
        }
        Ok(Self {
            out: create(path, shape.stamp)?,
            shape,
            bucket: 0,
            start: 0,
            written: 0,
            crc_of_rows: 0,
            buckets: Vec::with_capacity(shape.buckets() as usize * BUCKET_BYTES),
            filter: vec![0; shape.filter_bytes() as usize],
            rows_of_bucket: Vec::new(),
        })
    }

    /// Adds a row; rows come sorted.
    pub(crate) fn push(&mut self, row: &[u8]) -> io::Result<()> {
        let hash = leading(row);
        let bucket = part(hash, self.shape.buckets());
        while self.bucket < bucket {
            self.close_bucket()?;
        }
        self.rows_of_bucket.extend_from_slice(row);
        self.written += 1;
        let block = part(hash, self.shape.blocks()) as usize * BLOCK_BYTES;
        probes(hash).for_each(|(byte, bit)| self.filter[block + byte] |= bit);
        Ok(())
    }

    fn close_bucket(&mut self) -> io::Result<()> {
        let crc = self.shape.bucket_crc(self.bucket, self.start, self.written);
        self.crc_of_rows = crc32c_append(crc, &self.rows_of_bucket);
        self.out.write_all(&self.rows_of_bucket)?;
        self.rows_of_bucket.clear();
        self.buckets.extend_from_slice(&self.written.to_le_bytes());
        self.buckets.extend_from_slice(&self.crc_of_rows.to_le_bytes());
        self.bucket += 1;
        self.start = self.written;
        Ok(())
    }

    /// Writes what is left and puts the file on disk.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        while self.bucket < self.shape.buckets() {
            self.close_bucket()?;
        }
        if u64::from(self.written) != self.shape.rows {
            return Err(io::Error::other("a table got another number of rows than was said"));
        }
        self.out.write_all(&self.buckets)?;
        for (number, block) in (0..).zip(self.filter.as_chunks_mut::<BLOCK_BYTES>().0) {
            let crc = crc32c_append(self.shape.crc(number), &block[..BLOCK_BYTES - 4]);
            block[BLOCK_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        }
        self.out.write_all(&self.filter)?;
        finish(self.out)
    }
}

/// A table for reading, by any number of readers at once.
#[derive(Debug)]
pub(crate) struct Table {
    file: File,
    shape: Shape,
    /// The filter, if there was memory for it.
    filter: Option<Vec<u8>>,
}

impl Table {
    /// Opens a table; its filter is kept in memory if `keep_filter`.
    pub(crate) fn open(path: &Path, shape: Shape, keep_filter: bool) -> Result<Self, IndexError> {
        let file = open(path, shape.stamp)?;
        let length = file.metadata().map(|data| data.len()).unwrap_or_default();
        if length != shape.length() {
            return Err(IndexError(format!("{} has {length} bytes instead of {}", path.display(), shape.length())));
        }
        let mut table = Self { file, shape, filter: None };
        if keep_filter {
            let mut filter = vec![0; shape.filter_bytes() as usize];
            table.read(&mut filter, shape.filter_at())?;
            table.filter = Some(filter);
        }
        Ok(table)
    }

    pub(crate) fn keeps_filter(&self) -> bool {
        self.filter.is_some()
    }

    fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), IndexError> {
        self.file.read_exact_at(buffer, at).map_err(|error| IndexError(format!("a table of it: {error}")))
    }

    /// Whether a row with this hash may be there.
    fn may_hold(&self, hash: u64) -> Result<bool, IndexError> {
        let number = part(hash, self.shape.blocks());
        let at = number * BLOCK_BYTES as u64;
        let mut block = [0; BLOCK_BYTES];
        match &self.filter {
            Some(filter) => block.copy_from_slice(&filter[at as usize..at as usize + BLOCK_BYTES]),
            None => self.read(&mut block, self.shape.filter_at() + at)?,
        }
        let (bits, crc) = block.split_at(BLOCK_BYTES - 4);
        if crc32c_append(self.shape.crc(number), bits).to_le_bytes() != crc {
            return Err(IndexError("a filter of it is damaged".into()));
        }
        Ok(probes(hash).all(|(byte, bit)| bits[byte] & bit != 0))
    }

    /// The rows of one bucket, checked.
    fn bucket(&self, number: u64) -> Result<Vec<u8>, IndexError> {
        let before = u64::from(number > 0);
        let mut ends = [0; 2 * BUCKET_BYTES];
        let wanted = (1 + before) as usize * BUCKET_BYTES;
        let at = self.shape.buckets_at() + (number - before) * BUCKET_BYTES as u64;
        self.read(&mut ends[2 * BUCKET_BYTES - wanted..], at)?;
        let word = |at: usize| u32::from_le_bytes([ends[at], ends[at + 1], ends[at + 2], ends[at + 3]]);
        let (start, end, crc) = (word(0), word(8), word(12));
        let damaged = || IndexError("a bucket of it is damaged".into());
        let rows = end.checked_sub(start).filter(|_| u64::from(end) <= self.shape.rows).ok_or_else(damaged)?;
        let mut bytes = vec![0; rows as usize * self.shape.width];
        self.read(&mut bytes, HEADER_BYTES as u64 + u64::from(start) * self.shape.width as u64)?;
        if crc32c_append(self.shape.bucket_crc(number, start, end), &bytes) != crc {
            return Err(damaged());
        }
        Ok(bytes)
    }

    /// Gives `take` every row that begins with `prefix`, in order. The prefix is a hash of eight bytes or more.
    pub(crate) fn find(&self, prefix: &[u8], mut take: impl FnMut(&[u8])) -> Result<(), IndexError> {
        let hash = leading(prefix);
        if self.shape.rows == 0 || !self.may_hold(hash)? {
            return Ok(());
        }
        let bucket = self.bucket(part(hash, self.shape.buckets()))?;
        bucket.chunks_exact(self.shape.width).filter(|row| row.starts_with(prefix)).for_each(&mut take);
        Ok(())
    }

    /// All rows in order.
    pub(crate) fn rows(&self) -> Rows<'_> {
        Rows { table: self, next: 0, bucket: Vec::new(), at: 0 }
    }
}

/// Walks a table.
#[derive(Debug)]
pub(crate) struct Rows<'a> {
    table: &'a Table,
    next: u64,
    bucket: Vec<u8>,
    at: usize,
}

impl Rows<'_> {
    /// The row the walk is at; `None`: it is over.
    pub(crate) fn row(&mut self) -> Result<Option<&[u8]>, IndexError> {
        while self.at >= self.bucket.len() {
            if self.next >= self.table.shape.buckets() {
                return Ok(None);
            }
            self.bucket = self.table.bucket(self.next)?;
            self.next += 1;
            self.at = 0;
        }
        Ok(Some(&self.bucket[self.at..self.at + self.table.shape.width]))
    }

    /// Goes on to the next row.
    pub(crate) fn step(&mut self) {
        self.at += self.table.shape.width;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 12;

    fn row(n: u64) -> [u8; WIDTH] {
        let mut row = [0; WIDTH];
        row[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
        row[8..].copy_from_slice(&(n as u32).to_be_bytes());
        row
    }

    fn written(path: &Path, count: u64) -> Shape {
        let mut rows: Vec<_> = (0..count).map(row).collect();
        rows.sort_unstable();
        let shape = Shape { stamp: 5, width: WIDTH, rows: count };
        let mut writer = TableWriter::create(path, shape).expect("create");
        rows.iter().for_each(|row| writer.push(row).expect("push"));
        writer.finish().expect("finish");
        shape
    }

    #[test]
    fn finds_what_it_holds_and_nothing_else() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("t");
        for count in [0, 1, 31, 33, 5_000] {
            let shape = written(&path, count);
            for keep in [true, false] {
                let table = Table::open(&path, shape, keep).expect("open");
                let find = |n: u64| {
                    let mut found = Vec::new();
                    table.find(&row(n)[..8], |row| found.push(row.to_vec())).expect("find");
                    found
                };
                assert!((0..count).all(|n| find(n) == [row(n).to_vec()]));
                assert!((count..count + 500).all(|n| find(n).is_empty()));
                let (mut rows, mut walked) = (table.rows(), Vec::new());
                while let Some(row) = rows.row().expect("row") {
                    walked.push(row.to_vec());
                    rows.step();
                }
                assert_eq!(walked.len() as u64, count);
                assert!(walked.is_sorted());
            }
        }
    }

    #[test]
    fn the_filter_spares_most_looks() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("t");
        let table = Table::open(&path, written(&path, 20_000), true).expect("open");
        let looks = (20_000..40_000_u64).filter(|n| table.may_hold(leading(&row(*n))).expect("look")).count();
        assert!(looks < 800, "{looks} of 20,000 looks were not spared");
    }

    #[test]
    fn a_flipped_bit_never_hides_a_row() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("t");
        let count = 200;
        let shape = written(&path, count);
        let good = std::fs::read(&path).expect("read");
        for at in 0..good.len() {
            let mut bytes = good.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).expect("write");
            let Ok(table) = Table::open(&path, shape, at % 2 == 0) else { continue };
            for n in (0..count).filter(|n| n % 16 == at as u64 % 16) {
                let mut found = Vec::new();
                // An error is an answer too: what is damaged is not believed.
                if table.find(&row(n)[..8], |row| found.push(row.to_vec())).is_ok() {
                    assert_eq!(found, [row(n).to_vec()], "byte {at}");
                }
            }
        }
        std::fs::write(&path, &good[..good.len() - 1]).expect("write");
        assert!(Table::open(&path, shape, false).is_err());
    }
}
