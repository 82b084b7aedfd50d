//! Tiles, proofs and exported folders, judged by code that is not ours: `tlog_tiles` and `ct-merkle`.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::sha256::Sha256;
use common::{Foreign, append, open};
use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof};
use httt_feed::Digest;
use httt_log::tlog::{
    ExportError, SignedCheckpoint, TILE_WIDTH, Tile, TileKind, VerifierKey, export_tiles, split_bundle,
    verify_consistency, verify_inclusion,
};
use httt_log::{Log, ReadError, Transaction};
use tlog_tiles::{Hash, HashReader as _, TileHashReader, TileReader};

/// Sizes at which trees and tiles have their borders.
const SIZES: [u64; 12] = [1, 2, 3, 7, 8, 9, 255, 256, 257, 511, 512, 700];

fn leaf(entry: &[u8]) -> Digest {
    Digest(tlog_tiles::record_hash(entry).0)
}

/// Fills a log with copies of another origin's batches: many entries in few commits.
async fn filled(log: &Log, entries: usize) {
    let mut foreign = Foreign::new("TW→*/content", 9);
    let mut left = entries;
    while left > 0 {
        let part = left.min(2_000);
        log.commit(Transaction::copy(foreign.batches(part))).await.expect("commit");
        left -= part;
    }
    assert_eq!(log.len(), entries as u64);
}

#[tokio::test]
async fn proofs_of_all_sizes_are_those_of_another_implementation() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    filled(&log, 700).await;
    let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
    let mut tree = MemoryBackedTree::<Sha256, Vec<u8>>::new();
    for size in 1..=700_u64 {
        tree.push(entries[size as usize - 1].bytes.to_vec());
        if !SIZES.contains(&size) {
            continue;
        }
        let root = log.root(size).expect("root");
        for position in SIZES.iter().map(|size| size - 1).filter(|position| *position < size) {
            let proof = log.inclusion_proof(position, size).expect("proof");
            let flat: Vec<u8> = proof.iter().flat_map(|hash| hash.0).collect();
            assert_eq!(flat, tree.prove_inclusion(position as usize).as_bytes(), "{position} in {size}");
            let theirs = InclusionProof::<Sha256>::from_bytes(flat);
            let entry = entries[position as usize].bytes.to_vec();
            tree.root().verify_inclusion(&entry, position, &theirs).expect("they accept it");
            verify_inclusion(&proof, position, leaf(&entry), size, root).expect("so do we");
            // And nothing else: another entry, place, tree, or a shortened path.
            assert!(verify_inclusion(&proof, position, leaf(b"other"), size, root).is_err());
            assert!(verify_inclusion(&proof, position, leaf(&entry), size, leaf(b"other")).is_err());
            if size > 1 {
                assert!(verify_inclusion(&proof, (position + 1) % size, leaf(&entry), size, root).is_err());
                assert!(verify_inclusion(&proof[1..], position, leaf(&entry), size, root).is_err());
            }
        }
        for old in SIZES.into_iter().filter(|old| *old <= size) {
            let proof = log.consistency_proof(old, size).expect("proof");
            let flat: Vec<u8> = proof.iter().flat_map(|hash| hash.0).collect();
            let old_root = log.root(old).expect("root");
            verify_consistency(&proof, old, old_root, size, root).expect("we accept it");
            assert!(verify_consistency(&proof, old, leaf(b"other"), size, root).is_err());
            if old < size {
                assert_eq!(flat, tree.prove_consistency((size - old) as usize).as_bytes(), "{old} to {size}");
                ConsistencyProof::<Sha256>::try_from_bytes(flat).expect("they read it");
                assert!(verify_consistency(&proof[1..], old, old_root, size, root).is_err());
            }
        }
        assert_eq!(log.consistency_proof(0, size).expect("proof"), []);
        verify_consistency(&[], 0, log.root(0).expect("root"), size, root).expect("everything follows nothing");
        assert!(verify_consistency(&[root], 0, log.root(0).expect("root"), size, root).is_err());
        assert!(verify_consistency(&[], 0, root, size, root).is_err(), "there is one empty tree");
    }
    for (old, new) in [(2, 1), (1, 701), (702, 701)] {
        assert!(matches!(log.consistency_proof(old, new), Err(ReadError::BeyondEnd { .. })), "{old} {new}");
    }
    for (position, size) in [(0, 0), (700, 700), (0, 701), (u64::MAX, 700)] {
        assert!(matches!(log.inclusion_proof(position, size), Err(ReadError::BeyondEnd { .. })), "{position} {size}");
    }
}

/// Gives the other implementation its tiles.
struct Tiles<F>(F);

impl<F: Fn(&Tile) -> Option<Vec<u8>>> TileReader for Tiles<F> {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        tiles.iter().map(|tile| self.0(&ours(tile)).ok_or(tlog_tiles::Error::InvalidTile)).collect()
    }

    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

fn ours(tile: &tlog_tiles::Tile) -> Tile {
    let kind = TileKind::Hashes { level: tile.level() };
    Tile::new(kind, tile.level_index(), tile.width() as u16).expect("tile")
}

/// What a client of C2SP tlog-tiles does: from tiles alone, checked against a root, proofs for many entries.
fn prove_from_tiles(size: u64, root: Digest, tiles: &impl TileReader) -> Result<(), tlog_tiles::Error> {
    let reader = TileHashReader::new(size, Hash(root.0), tiles);
    for position in (0..size).step_by(97).chain([size - 1]) {
        let proof = tlog_tiles::prove_record(size, position, &reader)?;
        let leaf = reader.read_hashes(&[tlog_tiles::stored_hash_index(0, position)])?[0];
        tlog_tiles::check_record(&proof, size, Hash(root.0), position, leaf)?;
    }
    Ok(())
}

#[tokio::test]
async fn tiles_are_what_the_specification_says() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    filled(&log, 700).await;
    for size in SIZES {
        let tiles = Tiles(|tile: &Tile| log.tile(tile).expect("tile"));
        prove_from_tiles(size, log.root(size).expect("root"), &tiles).expect("proofs from tiles");
        assert!(prove_from_tiles(size, leaf(b"another root"), &tiles).is_err());
    }
    // Bundles hold the entries that the tiles hold the hashes of.
    for (index, width) in [(0, 256), (1, 256), (2, 188), (2, 1)] {
        let tile = |kind| Tile::new(kind, index, width).expect("tile");
        let hashes = log.tile(&tile(TileKind::Hashes { level: 0 })).expect("read").expect("there");
        let bundle = log.tile(&tile(TileKind::Entries)).expect("read").expect("there");
        let entries = split_bundle(&bundle).expect("bundle");
        assert_eq!(entries.len(), usize::from(width));
        assert_eq!(entries.iter().flat_map(|entry| leaf(entry).0).collect::<Vec<u8>>(), hashes);
    }
    // What the log has not got it does not make up.
    let hashes = |level| TileKind::Hashes { level };
    for (kind, index, width) in [
        (hashes(0), 2, 189),
        (hashes(0), 3, 1),
        (hashes(1), 0, 3),
        (hashes(2), 0, 1),
        (hashes(7), 0, 1),
        (hashes(8), 0, 1),
        (hashes(63), 0, 1),
        (hashes(0), u64::MAX, 256),
        (hashes(7), u64::MAX, 256),
        (TileKind::Entries, 2, 256),
        (TileKind::Entries, u64::MAX >> 8, 256),
    ] {
        assert_eq!(log.tile(&Tile::new(kind, index, width).expect("tile")).expect("read"), None, "{kind:?} {index}");
    }
    assert_eq!(log.tile(&Tile::new(hashes(1), 0, 2).expect("tile")).expect("read").map(|bytes| bytes.len()), Some(64));
}

fn folder_tiles(out: &Path) -> Tiles<impl Fn(&Tile) -> Option<Vec<u8>> + '_> {
    Tiles(|tile: &Tile| fs::read(out.join(tile.to_string())).ok())
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(folder).expect("list") {
        let path = item.expect("item").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn published(out: &Path) -> SignedCheckpoint {
    let text = fs::read_to_string(out.join("checkpoint")).expect("checkpoint");
    let checkpoint = SignedCheckpoint::parse(&text).expect("parse");
    let sealer = common::sealer("H24", 1);
    let key = VerifierKey::log(sealer.origin(), sealer.key().public()).expect("key");
    assert_eq!(checkpoint.signers(&[key]).expect("verifies").len(), 1);
    checkpoint
}

#[tokio::test]
async fn an_exported_folder_grows_with_the_log_and_serves_proofs() {
    let (dir, out) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(dir.path());
    assert!(export_tiles(dir.path(), out.path(), true).is_err(), "no checkpoint yet");
    let mut foreign = Foreign::new("TW→*/content", 9);
    let mut before = 0;
    for size in [1_u64, 255, 256, 300, 511, 513] {
        log.commit(Transaction::copy(foreign.batches((size - before) as usize))).await.expect("commit");
        log.write_checkpoint().await.expect("checkpoint");
        // The node runs on: what came after the checkpoint is not exported.
        log.commit(Transaction::copy(foreign.batches(1))).await.expect("commit");
        before = size + 1;

        let report = export_tiles(dir.path(), out.path(), true).expect("export");
        assert_eq!(report.size, size);
        let checkpoint = published(out.path());
        assert_eq!((checkpoint.size(), checkpoint.root()), (size, log.root(size).expect("root")));
        prove_from_tiles(size, checkpoint.root(), &folder_tiles(out.path())).expect("proofs from the folder");
        let again = export_tiles(dir.path(), out.path(), true).expect("again");
        assert_eq!((again.written, again.kept), (1, report.written + report.kept - 1), "only the checkpoint");
    }
    // Full tiles have displaced their partial forms; the folder holds nothing else.
    let names: Vec<_> = files(out.path())
        .iter()
        .map(|path| path.strip_prefix(out.path()).expect("inside").display().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "checkpoint",
            "tile/0/000",
            "tile/0/001",
            "tile/0/002.p/1",
            "tile/1/000.p/1",
            "tile/1/000.p/2",
            "tile/entries/000",
            "tile/entries/001",
            "tile/entries/002.p/1",
        ]
    );
    // Level 0 and the bundles agree, and each file is the one that the running log gives.
    for path in files(&out.path().join("tile")) {
        let name = path.strip_prefix(out.path()).expect("inside").display().to_string();
        let tile: Tile = name.parse().expect("a tile's path");
        assert_eq!(log.tile(&tile).expect("read"), Some(fs::read(&path).expect("read")), "{name}");
    }
}

#[tokio::test]
async fn what_was_altered_or_is_not_of_this_log_is_not_overwritten() {
    let (dir, out) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(dir.path());
    filled(&log, 300).await;
    log.write_checkpoint().await.expect("checkpoint");
    export_tiles(dir.path(), out.path(), false).expect("export");
    assert!(!out.path().join("tile/entries").exists(), "without entries");
    for path in files(&out.path().join("tile")) {
        let good = fs::read(&path).expect("read");
        let mut bad = good.clone();
        bad[5] ^= 1;
        fs::write(&path, &bad).expect("write");
        let root = published(out.path()).root();
        assert!(prove_from_tiles(300, root, &folder_tiles(out.path())).is_err(), "a client notices {}", path.display());
        match export_tiles(dir.path(), out.path(), false) {
            Err(ExportError::Differs { path: named }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
        fs::write(&path, &good).expect("write");
    }
    export_tiles(dir.path(), out.path(), false).expect("as before");

    // Another log's folder, and one that is ahead.
    let other = tempfile::tempdir().expect("dir");
    let (shorter, _) = Log::open(other.path(), common::sealer("H24", 1), common::options()).expect("open");
    shorter.commit(append("s", 1, "x")).await.expect("commit");
    shorter.write_checkpoint().await.expect("checkpoint");
    let refused = export_tiles(other.path(), out.path(), false);
    assert!(matches!(refused, Err(ExportError::Ahead { theirs: 300, ours: 1 })), "{refused:?}");
    let stranger = tempfile::tempdir().expect("dir");
    let (log, _) = Log::open(stranger.path(), common::sealer("H25", 2), common::options()).expect("open");
    log.commit(append("s", 1, "x")).await.expect("commit");
    log.write_checkpoint().await.expect("checkpoint");
    assert!(matches!(export_tiles(stranger.path(), out.path(), false), Err(ExportError::Differs { .. })));
}

#[tokio::test]
async fn a_log_of_three_levels_has_the_tiles_of_one() {
    const ENTRIES: u64 = 65_536 + 300;
    let (dir, out) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let log = open(dir.path());
    filled(&log, ENTRIES as usize).await;
    log.write_checkpoint().await.expect("checkpoint");
    let report = export_tiles(dir.path(), out.path(), false).expect("export");
    // 257 full and one partial of level 0; one full and one partial of level 1; one of level 2; the checkpoint.
    assert_eq!(report.written, 258 + 2 + 1 + 1);
    let root = published(out.path()).root();
    prove_from_tiles(ENTRIES, root, &folder_tiles(out.path())).expect("proofs from the folder");
    for path in ["tile/1/000", "tile/1/001.p/1", "tile/2/000.p/1"] {
        let tile: Tile = path.parse().expect("tile");
        assert_eq!(log.tile(&tile).expect("read"), Some(fs::read(out.path().join(path)).expect("read")), "{path}");
        assert!(tile.width() <= TILE_WIDTH);
    }
}
