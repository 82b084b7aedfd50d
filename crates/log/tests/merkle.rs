//! Roots agree with another implementation of RFC 6962 at every size.

mod common;

use common::sha256::Sha256;
use common::{append, open};
use ct_merkle::mem_backed_tree::MemoryBackedTree;

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
