//! What the index knows of entries whose frames are damaged: where each stood, what it hashes to, which batch it is
//! and when it was committed. Nothing of it is believed before leaf hashes and Merkle roots bear it out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use httt_feed::{Digest, FeedId};

use crate::chunks::Location;
use crate::index::rows::{self, Meta};
use crate::index::store::SledIndex;
use crate::index::{Index, IndexError};
use crate::open::INDEX_DIR;

/// Memory for the cache of an index that is only looked into.
const CACHE_BYTES: u64 = 8 << 20;
/// Rows fetched at a time.
const PAGE_ROWS: usize = 256;

/// One entry, as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) at: Location,
    pub(super) leaf: Digest,
    pub(super) feed: FeedId,
    pub(super) sequence: u64,
    pub(super) committed_at_ms: i64,
}

/// The entries `from..to`, as far as the index knows all of them. The one place that asks the index's rows.
pub(super) fn described(index: &dyn Index, from: u64, to: u64) -> Result<BTreeMap<u64, Described>, IndexError> {
    let mut found = BTreeMap::new();
    for head in rows::heads(index)? {
        let feed = head.feed;
        // Positions rise with sequences, so the first batch at or after `from` is found by halving.
        let (mut low, mut high) = (1, head.head.sequence.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            match rows::batch(index, &feed, middle)? {
                Some(row) if row.position >= from => high = middle,
                _ => low = middle + 1,
            }
        }
        let mut sequence = low;
        'feed: while sequence <= head.head.sequence {
            let page = rows::batches(index, &feed, sequence - 1, head.head.sequence, PAGE_ROWS)?;
            if page.is_empty() {
                break;
            }
            for row in page {
                if row.position >= to {
                    break 'feed;
                }
                if let Some((at, leaf)) = rows::location(index, row.position)? {
                    let (feed, committed_at_ms) = (feed.clone(), row.at_ms);
                    found.insert(row.position, Described { at, leaf, feed, sequence, committed_at_ms });
                }
                sequence += 1;
            }
        }
    }
    Ok(found)
}

/// The indexes of the log in `dir`: the present one, and those that were set aside, newest first. A log that met
/// damage may have set a good one aside.
pub(super) fn indexes(dir: &Path, log_id: &[u8; 16]) -> Vec<SledIndex> {
    let mut aside: Vec<(u64, _)> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|item| {
            let name = item.file_name();
            Some((name.to_str()?.strip_prefix(INDEX_DIR)?.strip_prefix(".damaged-")?.parse().ok()?, item.path()))
        })
        .collect();
    aside.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
    let paths = std::iter::once(dir.join(INDEX_DIR)).chain(aside.into_iter().map(|(_, path)| path));
    paths
        .filter(|path| path.is_dir())
        .filter_map(|path| {
            let index = SledIndex::open(&path, CACHE_BYTES).ok()?;
            Meta::read(&index).ok()?.filter(|meta| meta.log_id == *log_id)?;
            Some(index)
        })
        .collect()
}
