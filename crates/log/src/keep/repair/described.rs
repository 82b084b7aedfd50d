//! What the index knows of entries whose frames are damaged: where each stood, what it hashes to, which batch it is
//! and when it was committed. Nothing of it is believed before leaf hashes and Merkle roots bear it out.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use httt_feed::{Digest, FeedId};

use crate::chunks::Location;
use crate::index::{Index, IndexError, Settings};
use crate::open::INDEX_DIR;

/// One entry, as the index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Described {
    pub(super) at: Location,
    pub(super) leaf: Digest,
    pub(super) feed: FeedId,
    pub(super) sequence: u64,
    pub(super) committed_at_ms: i64,
}

/// The entries `from..to`, as far as the index knows them. The one place that asks the index's rows.
pub(super) fn described(index: &Index, from: u64, to: u64) -> Result<BTreeMap<u64, Described>, IndexError> {
    let to = to.min(index.end());
    let mut found = BTreeMap::new();
    if from >= to {
        return Ok(found);
    }
    for (position, row) in (from..).zip(index.rows(from, (to - from) as usize)?) {
        let feed = index.feed(row.feed)?;
        let (at, leaf, sequence, committed_at_ms) = (row.at, row.leaf, row.sequence, row.at_ms);
        found.insert(position, Described { at, leaf, feed, sequence, committed_at_ms });
    }
    Ok(found)
}

/// The indexes of the log in `dir`: the present one, and those that were set aside, newest first. A log that met
/// damage may have set a good one aside.
pub(super) fn indexes(dir: &Path, log_id: &[u8; 16]) -> Vec<Index> {
    let settings = Settings { run_events: usize::MAX, filter_bytes: 0, own: None, log_id: *log_id };
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
            let (index, tip) = Index::open(&path, settings.clone()).ok()?;
            tip.map(|_| index)
        })
        .collect()
}
