//! What the index keeps in sled: which runs there are, up to where they go, and the feeds.
//!
//! ```text
//! m              format, CRC32C, log id, hash key, next run's number, number of feeds, runs, tip
//! f  number      CRC32C, feed, head: sequence, digest, position
//! ```

use std::path::Path;

use crc32c::crc32c;
use httt_feed::{Digest, FeedId, Head};
use httt_wire::{Message as _, exchange};

use super::hash::KEY_BYTES;
use super::run::RunInfo;
use super::{IndexError, Tip};
use crate::FeedHead;
use crate::guarded::{GuardedStore, StoreError};
use crate::merkle::CompactRange;

/// Version of the index's layout; another one means rebuilding.
const INDEX_FORMAT: u32 = 2;
const META: &[u8] = b"m";
const FEED: u8 = b'f';
/// Memory for sled's cache: what is kept here is small.
const CACHE_BYTES: u64 = 1 << 20;

/// Reads fields off a value.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_be_bytes)
    }
}

impl From<StoreError> for IndexError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

fn malformed(what: &str) -> IndexError {
    IndexError(format!("its {what} is damaged"))
}

/// What the index was when it was last written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) log_id: [u8; 16],
    pub(crate) key: [u8; KEY_BYTES],
    /// End of what the runs cover; `None`: nothing yet.
    pub(crate) tip: Option<Tip>,
    pub(crate) next_run: u32,
    /// How many feeds there are.
    pub(crate) feeds: u32,
    /// Oldest first.
    pub(crate) runs: Vec<RunInfo>,
}

fn push_run(out: &mut Vec<u8>, run: &RunInfo) {
    out.extend_from_slice(&run.number.to_be_bytes());
    out.push(run.level);
    for value in [run.first, run.end, run.stamp, run.ids, run.streams, run.older, run.newest_id_ms] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.extend_from_slice(&run.feeds.to_be_bytes());
}

fn read_run(fields: &mut Fields<'_>) -> Option<RunInfo> {
    let (number, [level]) = (fields.u32()?, fields.bytes()?);
    let (first, end, stamp) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let (ids, streams, older, newest_id_ms) = (fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?);
    Some(RunInfo { number, level, first, end, stamp, ids, streams, older, feeds: fields.u32()?, newest_id_ms })
}

impl Saved {
    fn encode(&self) -> Vec<u8> {
        let mut body = self.log_id.to_vec();
        body.extend_from_slice(&self.key);
        body.extend_from_slice(&self.next_run.to_be_bytes());
        body.extend_from_slice(&self.feeds.to_be_bytes());
        body.extend_from_slice(&(self.runs.len() as u32).to_be_bytes());
        self.runs.iter().for_each(|run| push_run(&mut body, run));
        if let Some(tip) = &self.tip {
            body.extend_from_slice(&tip.chunk.to_be_bytes());
            body.extend_from_slice(&tip.end.to_be_bytes());
            body.extend_from_slice(&tip.marker.to_be_bytes());
            body.extend_from_slice(&tip.group.to_be_bytes());
            tip.range.encode(&mut body);
        }
        let mut value = INDEX_FORMAT.to_be_bytes().to_vec();
        value.extend_from_slice(&crc32c(&body).to_be_bytes());
        value.extend_from_slice(&body);
        value
    }

    fn decode(value: &[u8]) -> Result<Self, IndexError> {
        let mut fields = Fields(value);
        if fields.u32() != Some(INDEX_FORMAT) {
            return Err(IndexError("the index was written by another version of this program".into()));
        }
        let read = |fields: &mut Fields<'_>| {
            if fields.u32()? != crc32c(fields.0) {
                return None;
            }
            let (log_id, key, next_run) = (fields.bytes()?, fields.bytes()?, fields.u32()?);
            let (feeds, count) = (fields.u32()?, fields.u32()?);
            let runs = (0..count).map(|_| read_run(fields)).collect::<Option<_>>()?;
            let tip = if fields.0.is_empty() {
                None
            } else {
                let (chunk, end, marker, group) = (fields.u32()?, fields.u64()?, fields.u64()?, fields.u32()?);
                Some(Tip { chunk, end, marker, group, range: CompactRange::decode(fields.0)? })
            };
            Some(Self { log_id, key, tip, next_run, feeds, runs })
        };
        read(&mut fields).ok_or_else(|| malformed("list of runs"))
    }
}

fn feed_key(number: u32) -> Vec<u8> {
    let mut key = vec![FEED];
    key.extend_from_slice(&number.to_be_bytes());
    key
}

fn encode_feed(head: &FeedHead) -> Vec<u8> {
    let mut body = head.head.sequence.to_be_bytes().to_vec();
    body.extend_from_slice(&head.head.digest.0);
    body.extend_from_slice(&head.position.to_be_bytes());
    body.extend_from_slice(&head.feed.to_wire().encode_to_vec());
    let mut value = crc32c(&body).to_be_bytes().to_vec();
    value.extend_from_slice(&body);
    value
}

fn decode_feed(value: &[u8]) -> Option<FeedHead> {
    let mut fields = Fields(value);
    if fields.u32()? != crc32c(fields.0) {
        return None;
    }
    let head = Head { sequence: fields.u64()?, digest: Digest(fields.bytes()?) };
    let position = fields.u64()?;
    let feed = FeedId::from_wire(&exchange::FeedId::decode(fields.0).ok()?).ok()?;
    Some(FeedHead { feed, head, position })
}

/// The manifest, on disk.
#[derive(Debug)]
pub(crate) struct Manifest(GuardedStore);

impl Manifest {
    pub(crate) fn open(dir: &Path) -> Result<Self, IndexError> {
        Ok(Self(GuardedStore::open(dir, CACHE_BYTES)?))
    }

    /// What was saved last, and all feeds by number; `None`: nothing was.
    pub(crate) fn read(&self) -> Result<Option<(Saved, Vec<FeedHead>)>, IndexError> {
        let Some(value) = self.0.get(META)? else { return Ok(None) };
        let saved = Saved::decode(&value)?;
        let feed = |number| {
            let value = self.0.get(&feed_key(number))?;
            value.as_deref().and_then(decode_feed).ok_or_else(|| malformed("list of feeds"))
        };
        let feeds = (0..saved.feeds).map(feed).collect::<Result<_, IndexError>>()?;
        Ok(Some((saved, feeds)))
    }

    /// Saves what the index is now, and these feeds with it.
    pub(crate) fn write(&self, saved: &Saved, feeds: &[(u32, FeedHead)]) -> Result<(), IndexError> {
        let feeds = feeds.iter().map(|(number, head)| (feed_key(*number), Some(encode_feed(head))));
        self.0.apply(feeds.chain([(META.to_vec(), Some(saved.encode()))]).collect())?;
        Ok(self.0.flush()?)
    }
}
