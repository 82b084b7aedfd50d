//! The Merkle root of entries taken one after another, without a log that is open.

use httt_feed::Digest;

use crate::merkle::CompactRange;
use crate::offline::Scanned;

/// RFC 6962 root over the entries seen so far; what [`crate::Log::root`] says of as many. For readers of
/// [`crate::ScanEntries::step`].
#[derive(Debug, Clone, Default)]
pub struct RunningRoot(CompactRange);

impl RunningRoot {
    /// Adds the next entry, be it there or gone.
    pub fn push(&mut self, entry: &Scanned) {
        self.0.push(entry.leaf(), |_| ());
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
