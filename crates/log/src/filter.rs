//! Filtering entries by their index rows, so that what cannot match is not read.

use crate::entry::Filter;
use crate::index::Index;
use crate::index::row::{EntryRow, stream_group};

/// A [`Filter`] in terms of index rows.
#[derive(Debug)]
pub(crate) struct RowFilter {
    /// Numbers of the feeds that can match; later ones are not known yet and may.
    feeds: Vec<bool>,
    types: Option<u64>,
    streams: Option<u64>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}

impl RowFilter {
    pub(crate) fn new(filter: &Filter, index: &Index) -> Self {
        let hasher = index.hasher();
        // Only a whole group can be looked for: "bull" begins many.
        let group = filter.stream_prefix.as_deref().map(stream_group).filter(|group| group.ends_with('/'));
        let types = filter.kinds.iter().map(|kind| hasher.bit(kind)).fold(0, |bits, bit| bits | bit);
        Self {
            feeds: index.feeds().iter().map(|head| filter.matches_feed(&head.feed)).collect(),
            types: (types != 0).then_some(types),
            streams: group.map(|group| hasher.bit(group)),
            since_ms: filter.since_ms,
            until_ms: filter.until_ms,
        }
    }

    /// False: no event of the entry matches.
    pub(crate) fn may_match(&self, row: &EntryRow) -> bool {
        let (earliest, latest) = row.traits.occurred;
        self.feeds.get(row.feed as usize).copied().unwrap_or(true)
            && self.types.is_none_or(|bits| row.traits.types & bits != 0)
            && self.streams.is_none_or(|bit| row.traits.streams & bit != 0)
            && self.since_ms.is_none_or(|since| latest >= since)
            && self.until_ms.is_none_or(|until| earliest < until)
    }
}
