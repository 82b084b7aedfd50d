//! A store that is not to be trusted, kept at arm's length.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;

use httt_log::{GuardedStore, StoreError};

const CACHE_BYTES: u64 = 1 << 20;

#[test]
fn rows_are_written_together_and_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    let store = GuardedStore::open(&at, CACHE_BYTES).unwrap();
    let row = |key: u8| (vec![key], Some(vec![key; 3]));
    store.apply(vec![row(1), row(2), row(3), row(4)]).unwrap();
    store.apply(vec![(vec![2], None), row(5)]).unwrap();
    store.flush().unwrap();
    drop(store);
    let store = GuardedStore::open(&at, CACHE_BYTES).unwrap();
    assert_eq!(store.get(&[1]).unwrap(), Some(vec![1; 3]));
    assert_eq!(store.get(&[2]).unwrap(), None);
    assert_eq!(store.keys(&[1], &[5], 9).unwrap(), [[1], [3], [4]]);
    assert_eq!(store.keys(&[1], &[5], 2).unwrap(), [[1], [3]]);
    assert!(!store.failed());
}

#[test]
fn a_second_owner_is_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let _store = GuardedStore::open(dir.path(), CACHE_BYTES).unwrap();
    assert_eq!(GuardedStore::open(dir.path(), CACHE_BYTES).unwrap_err(), StoreError::InUse(dir.path().to_owned()));
}

#[test]
fn a_store_that_makes_no_sense_is_an_error_and_can_be_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("store");
    for round in 1..=4 {
        drop(GuardedStore::open(&at, CACHE_BYTES).unwrap());
        let mut conf = fs::read(at.join("conf")).unwrap();
        conf[0] ^= 1;
        fs::write(at.join("conf"), &conf).unwrap();
        let opened = GuardedStore::open(&at, CACHE_BYTES);
        assert!(matches!(opened, Err(StoreError::Failed(_))), "{opened:?}");
        let aside = GuardedStore::move_aside(&at).unwrap().unwrap();
        assert_eq!(aside, dir.path().join(format!("store.damaged-{round}")));
        assert_eq!(fs::read(aside.join("conf")).unwrap(), conf);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "the last two are kept");
    assert_eq!(GuardedStore::move_aside(&at).unwrap(), None);
}
