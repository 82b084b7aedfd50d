#![allow(clippy::unwrap_used, reason = "a test")]

use super::*;

fn snapshot(position: u64, bytes: Vec<u8>) -> Snapshot {
    Snapshot {
        model: "m".into(),
        versions: [("m".to_owned(), 1), ("needed".to_owned(), 2)].into(),
        log_id: [7; 16],
        position,
        root: Digest::of(b"root"),
        bytes,
    }
}

/// Three pieces, all different.
fn large(seed: u8) -> Vec<u8> {
    (0..SNAPSHOT_CHUNK_BYTES * 2 + 100).map(|at| (at / 251) as u8 ^ seed).collect()
}

fn open() -> (tempfile::TempDir, SnapshotStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = SnapshotStore::open(dir.path()).unwrap();
    (dir, store)
}

fn pieces(store: &SnapshotStore) -> Vec<Vec<u8>> {
    store.store.keys(&piece_key("m", 0, 0), &end_key("m"), 100).unwrap()
}

#[test]
fn the_latest_of_each_model_is_kept_and_nothing_else() {
    let (dir, store) = open();
    assert_eq!(store.read("m").unwrap(), Err(Unusable::Absent));
    for (position, bytes) in [(1, large(1)), (2, large(2)), (3, b"small".to_vec()), (4, vec![])] {
        let written = snapshot(position, bytes);
        store.write(&written).unwrap();
        assert_eq!(store.read("m").unwrap(), Ok(written.clone()));
        assert_eq!(pieces(&store).len(), written.bytes.len().div_ceil(SNAPSHOT_CHUNK_BYTES));
    }
    // A name that begins like another's.
    let other = Snapshot { model: "m2".into(), ..snapshot(5, large(3)) };
    store.write(&other).unwrap();
    store.write(&snapshot(6, large(4))).unwrap();
    drop(store);
    let store = SnapshotStore::open(dir.path()).unwrap();
    assert_eq!(store.read("m2").unwrap(), Ok(other));
    assert_eq!(store.read("m").unwrap(), Ok(snapshot(6, large(4))));
}

#[test]
fn a_state_that_did_not_change_is_not_written_again() {
    let (_dir, store) = open();
    store.write(&snapshot(1, large(1))).unwrap();
    let before = pieces(&store);
    store.write(&snapshot(9, large(1))).unwrap();
    assert_eq!(pieces(&store), before);
    assert_eq!(store.read("m").unwrap().unwrap().position, 9);
    // Unless what is there is damaged.
    store.store.apply(vec![(before[1].clone(), None)]).unwrap();
    store.write(&snapshot(10, large(1))).unwrap();
    assert_eq!(store.read("m").unwrap(), Ok(snapshot(10, large(1))));
}

#[test]
fn damage_of_every_byte_of_the_head_is_noticed() {
    let (_dir, store) = open();
    store.write(&snapshot(3, large(1))).unwrap();
    let good = store.store.get(&head_key("m")).unwrap().unwrap();
    let put = |value: &[u8]| store.store.apply(vec![(head_key("m"), Some(value.to_vec()))]).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        put(&bad);
        assert!(matches!(store.read("m").unwrap(), Err(Unusable::Damaged(_))), "byte {at}");
        put(&good[..at]);
        assert!(matches!(store.read("m").unwrap(), Err(Unusable::Damaged(_))), "cut at {at}");
    }
    let sealed = |json: &[u8]| [Digest::of(json).0.as_slice(), json].concat();
    // Intact, of a later layout; and another model's.
    put(&sealed(b"{\"format\":2}"));
    assert_eq!(store.read("m").unwrap(), Err(Unusable::Outdated));
    let text = String::from_utf8(good[DIGEST_BYTES..].to_vec()).unwrap();
    put(&sealed(text.replace("\"format\":1", "\"format\":9").as_bytes()));
    assert_eq!(store.read("m").unwrap(), Err(Unusable::Outdated));
    put(&sealed(text.replace("\"model\":\"m\"", "\"model\":\"n\"").as_bytes()));
    assert!(matches!(store.read("m").unwrap(), Err(Unusable::Damaged(_))));
    put(&sealed(text.replace("\"bytes\":", "\"bytes\":99999").as_bytes()));
    assert!(matches!(store.read("m").unwrap(), Err(Unusable::Damaged(_))));
    put(&good);
    assert_eq!(store.read("m").unwrap(), Ok(snapshot(3, large(1))));
}

#[test]
fn damage_of_the_pieces_is_noticed() {
    let (_dir, store) = open();
    store.write(&snapshot(3, large(1))).unwrap();
    let keys = pieces(&store);
    let good: Vec<_> = keys.iter().map(|key| store.store.get(key).unwrap().unwrap()).collect();
    let flipped = |index: usize, at: usize| {
        let mut bad = good[index].clone();
        bad[at] ^= 0x80;
        (keys[index].clone(), Some(bad))
    };
    let (last, end) = (good.len() - 1, SNAPSHOT_CHUNK_BYTES - 1);
    let cases = [
        ("first byte", vec![flipped(0, 0)]),
        ("last byte of a piece", vec![flipped(0, end)]),
        ("middle", vec![flipped(1, 777)]),
        ("last byte", vec![flipped(last, good[last].len() - 1)]),
        ("first piece gone", vec![(keys[0].clone(), None)]),
        ("middle piece gone", vec![(keys[1].clone(), None)]),
        ("last piece gone", vec![(keys[last].clone(), None)]),
        ("pieces swapped", vec![(keys[0].clone(), Some(good[1].clone())), (keys[1].clone(), Some(good[0].clone()))]),
        ("a piece empty", vec![(keys[1].clone(), Some(vec![]))]),
        ("a piece shorter", vec![(keys[1].clone(), Some(good[1][..9].to_vec()))]),
        ("a piece longer", vec![(keys[last].clone(), Some([good[last].as_slice(), b"x"].concat()))]),
        ("zeros", vec![(keys[1].clone(), Some(vec![0; good[1].len()]))]),
    ];
    for (what, changes) in cases {
        store.store.apply(changes).unwrap();
        assert!(matches!(store.read("m").unwrap(), Err(Unusable::Damaged(_))), "{what}");
        store.store.apply(keys.iter().cloned().zip(good.iter().cloned().map(Some)).collect()).unwrap();
        assert!(store.read("m").unwrap().is_ok());
    }
}

#[test]
fn what_a_crash_left_of_the_next_generation_does_no_harm() {
    let (_dir, store) = open();
    store.write(&snapshot(1, large(1))).unwrap();
    let stray = (0..5).map(|number| (piece_key("m", 1, number), Some(b"stray".to_vec()))).collect();
    store.store.apply(stray).unwrap();
    assert_eq!(store.read("m").unwrap(), Ok(snapshot(1, large(1))));
    store.write(&snapshot(2, large(2))).unwrap();
    assert_eq!(store.read("m").unwrap(), Ok(snapshot(2, large(2))));
    assert_eq!(pieces(&store).len(), 3);
}

#[test]
fn too_large_a_state_is_refused_and_the_one_before_stays() {
    let (_dir, store) = open();
    store.write(&snapshot(1, b"before".to_vec())).unwrap();
    let error = store.write(&snapshot(2, vec![0; MAX_SNAPSHOT_BYTES + 1])).unwrap_err();
    assert!(matches!(error, SnapshotError::TooLarge { .. }));
    assert_eq!(store.read("m").unwrap().unwrap().position, 1);
}
