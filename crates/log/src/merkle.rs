//! The RFC 6962 tree over the entries.
//!
//! Leaf hashes are kept in the index beside each entry's location; of the inner nodes only those over 256, 256², …
//! leaves are stored (the last hash of each full C2SP tile, in other words): one small row per 256 entries. Every other node is computed from at most 256 stored ones.

use httt_feed::Digest;
use ring::digest::{Context, SHA256};
use tlog_tiles::{Error, Hash, HashReader, node_hash, split_stored_hash_index};

use crate::index::Index;
use crate::shared::Shared;

/// Height of a tile: stored nodes are this many levels apart.
pub(crate) const TILE_HEIGHT: u32 = 8;

/// RFC 6962 leaf hash of an entry's bytes.
pub fn leaf_hash(entry: &[u8]) -> Digest {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(entry);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    Digest(hash)
}

fn join(left: Digest, right: Digest) -> Digest {
    Digest(node_hash(Hash(left.0), Hash(right.0)).0)
}

/// A full subtree over 256^`level` leaves that an append completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) level: u8,
    pub(crate) number: u64,
    pub(crate) hash: Digest,
}

/// The roots of the perfect subtrees that make up a tree of `size` leaves, largest first: all that an append needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CompactRange {
    size: u64,
    nodes: Vec<Digest>,
}

impl CompactRange {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `completed` is told of the nodes to store.
    pub(crate) fn push(&mut self, leaf: Digest, mut completed: impl FnMut(Node)) {
        let mut hash = leaf;
        let merges = self.size.trailing_ones();
        for level in 1..=merges {
            // There are as many nodes as `size` has ones, so one to merge with is always there.
            let Some(left) = self.nodes.pop() else { break };
            hash = join(left, hash);
            if level % TILE_HEIGHT == 0 {
                completed(Node { level: (level / TILE_HEIGHT) as u8, number: self.size >> level, hash });
            }
        }
        self.nodes.push(hash);
        self.size += 1;
    }

    pub(crate) fn root(&self) -> Digest {
        let mut nodes = self.nodes.iter().rev().copied();
        match nodes.next() {
            None => Digest::of(b""),
            Some(last) => nodes.fold(last, |right, left| join(left, right)),
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.size.to_be_bytes());
        self.nodes.iter().for_each(|node| out.extend_from_slice(&node.0));
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (size, nodes) = bytes.split_first_chunk::<8>()?;
        let size = u64::from_be_bytes(*size);
        let nodes: Vec<_> = nodes.chunks(32).map(Digest::from_slice).collect::<Option<_>>()?;
        (nodes.len() == size.count_ones() as usize).then_some(Self { size, nodes })
    }
}

impl Shared {
    /// The tree over the durable entries: the one way to its nodes.
    pub(crate) fn tree(&self) -> IndexedTree<'_> {
        IndexedTree(&self.index)
    }
}

/// Gives any node of the tree out of the index.
#[derive(Debug)]
pub(crate) struct IndexedTree<'a>(pub(crate) &'a Index);

impl IndexedTree<'_> {
    fn node(&self, level: u8, number: u64) -> Result<Hash, Error> {
        let (stored, above) = (u32::from(level) / TILE_HEIGHT, u32::from(level) % TILE_HEIGHT);
        let width = 1_usize << above;
        let mut hashes =
            self.0.tree_nodes(stored as u8, number << above, width).map_err(|error| Error::InvalidInput(error.0))?;
        if hashes.len() != width {
            return Err(Error::IndexesNotInTree);
        }
        while hashes.len() > 1 {
            hashes = hashes.chunks_exact(2).map(|pair| join(pair[0], pair[1])).collect();
        }
        hashes.first().map(|hash| Hash(hash.0)).ok_or(Error::IndexesNotInTree)
    }

    /// The tree over the first `size` entries in short.
    pub(crate) fn range(&self, size: u64) -> Result<CompactRange, Error> {
        let levels = (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1);
        // Left of the last subtree of a level is all that the larger ones cover.
        let nodes = levels.map(|level| self.node(level as u8, (size >> level) - 1).map(|hash| Digest(hash.0)));
        Ok(CompactRange { size, nodes: nodes.collect::<Result<_, _>>()? })
    }

    /// The root over the first `size` entries.
    pub(crate) fn root(&self, size: u64) -> Result<Digest, Error> {
        tlog_tiles::tree_hash(size, self).map(|hash| Digest(hash.0))
    }
}

impl HashReader for IndexedTree<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        indexes
            .iter()
            .map(|index| {
                let (level, number) = split_stored_hash_index(*index);
                self.node(level, number)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;

    use super::*;

    #[test]
    fn the_root_over_a_thousand_leaves_is_the_known_one() {
        let mut range = CompactRange::default();
        assert_eq!(range.root().0, tlog_tiles::EMPTY_HASH.0);
        for i in 0..1000 {
            range.push(leaf_hash(format!("event{i}").as_bytes()), |_| {});
        }
        assert_eq!(BASE64_STANDARD.encode(range.root().0), "udETg56CbvSDH3NH7BlBtV7Yu3qr/MwWoWpoX3qO7Tc=");
        let mut bytes = Vec::new();
        range.encode(&mut bytes);
        assert_eq!(CompactRange::decode(&bytes), Some(range));
        assert_eq!(CompactRange::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn leaf_hashes_are_those_of_the_tlog_crate() {
        for leaf in [&b""[..], b"x", &[0; 5000]] {
            assert_eq!(leaf_hash(leaf).0, tlog_tiles::record_hash(leaf).0);
        }
    }

    #[test]
    fn nodes_to_store_come_at_tile_borders() {
        let mut range = CompactRange::default();
        let mut nodes = Vec::new();
        for i in 0_u32..65_536 + 300 {
            range.push(leaf_hash(&i.to_be_bytes()), |node| nodes.push((node.level, node.number)));
        }
        assert_eq!(nodes.iter().filter(|(level, _)| *level == 1).count(), 257);
        assert_eq!(nodes.iter().filter(|(level, _)| *level == 2).collect::<Vec<_>>(), [&(2, 0)]);
        assert_eq!(nodes[257 - 1], (2, 0), "after the 256th node of level 1");
    }
}
