//! Roots agree with another implementation of RFC 6962 at every size.

mod common;

use common::{append, open};
use ct_merkle::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update, array::typenum::U32};
use ct_merkle::mem_backed_tree::MemoryBackedTree;

/// SHA-256 by ring, as the other implementation wants it.
#[derive(Clone)]
struct Sha256(ring::digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl HashMarker for Sha256 {}

impl OutputSizeUser for Sha256 {
    type OutputSize = U32;
}

impl Update for Sha256 {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

impl FixedOutput for Sha256 {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(self.0.finish().as_ref());
    }
}

#[tokio::test]
async fn roots_of_all_sizes_agree() {
    const ENTRIES: u128 = 600;
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    for id in 0..ENTRIES {
        log.commit(append(&format!("s{}", id % 5), id, "x")).await.expect("commit");
    }
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    assert_eq!(log.root(0).expect("root").0[..], tree.root().as_bytes()[..]);
    for entry in log.read(0, usize::MAX, usize::MAX).expect("read") {
        tree.push(entry.bytes.to_vec());
        let size = entry.position + 1;
        assert_eq!(log.root(size).expect("root").0[..], tree.root().as_bytes()[..], "size {size}");
    }
}
