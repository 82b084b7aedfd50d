//! The Merkle root of entries taken one after another, without a log that is open.

use httt_feed::Digest;

use crate::entry::Entry;
use crate::merkle::{CompactRange, leaf_hash};

/// RFC 6962 root over the entries seen so far; what [`crate::Log::root`] says of as many. For readers of
/// [`crate::scan_entries`].
#[derive(Debug, Clone, Default)]
pub struct RunningRoot(CompactRange);

impl RunningRoot {
    /// Adds the next entry.
    pub fn push(&mut self, entry: &Entry) {
        self.0.push(leaf_hash(&entry.bytes), |_| ());
    }

    /// Entries seen.
    pub fn size(&self) -> u64 {
        self.0.size()
    }

    /// The root over them.
    pub fn root(&self) -> Digest {
        self.0.root()
    }
}
