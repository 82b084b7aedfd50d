//! Retention on a disk that fails: at every operation each chunk is there, whole or thinned, and what was begun can be done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use httt_feed::Lane;

use super::disk::{Disk, Mishap, Site, Span};
use super::matrix::is_long;
use super::{EIO, ENOSPC};
use crate::keep::retention::offline;
use crate::keep::retention::tests::{Before, World, check, chunks, expected, open, sample};
use crate::open::{CHUNKS_DIR, INDEX_DIR};
use crate::scan_entries;

/// Power cuts at each operation, each leaving something else.
const SEEDS: u64 = 2;
const LONG_SEEDS: u64 = 20;

/// Positions that are gone by now; of a chunk all that are to go are, or none.
fn gone(dir: &Path) -> BTreeSet<u64> {
    let mut scan = scan_entries(dir).expect("scan");
    let mut gone = BTreeSet::new();
    while let Some(scanned) = scan.step().expect("readable") {
        if let crate::Scanned::Gone(entry) = scanned {
            gone.insert(entry.position);
        }
    }
    gone
}

async fn as_it_was(world: &World, was: &Before, all: &BTreeSet<u64>) {
    let dir = world.dir.path();
    let gone = gone(dir);
    assert!(gone.is_subset(all));
    let (log, _) = open(dir, &world.clock);
    check(dir, &log, was, &gone);
    log.close().await;
}

fn put_back(dir: &Path, files: &BTreeMap<String, Vec<u8>>) {
    // One that was built since may lack events of what is there again.
    let _ = std::fs::remove_dir_all(dir.join(INDEX_DIR));
    let folder = dir.join(CHUNKS_DIR);
    std::fs::remove_dir_all(&folder).expect("remove");
    std::fs::create_dir(&folder).expect("create");
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).expect("write"));
}

/// Of operations that are alike for each chunk, those of the first and of the last.
fn telling(sites: Vec<Site>, chunks: &[u32]) -> Vec<Site> {
    let per_chunk = sites.len() / chunks.len();
    let last = sites.len() - per_chunk;
    sites.into_iter().enumerate().filter(|(n, _)| *n < per_chunk || *n >= last).map(|(_, site)| site).collect()
}

#[tokio::test]
async fn thinning_survives_every_fault_and_a_power_cut_at_every_operation() {
    let (world, was, policy) = sample().await;
    let dir = world.dir.path();
    let all = expected(&was, &policy);
    let whole = chunks(dir);
    let disk = Disk::new(dir, 0, &[]);
    offline(dir, &BTreeMap::from([(Lane::Status, 1_200)]), u64::MAX, &disk, None).expect("thin");
    let thinned_before = chunks(dir);
    for files in [whole, thinned_before] {
        put_back(dir, &files);
        let disk = Disk::new(dir, 0, &[]);
        let report = offline(dir, &policy, u64::MAX, &disk, None).expect("thin");
        assert!(report.chunks.len() > 2, "{report:?}");
        let done = chunks(dir);
        for site in telling(disk.trace(), &report.chunks) {
            for fault in [EIO, ENOSPC] {
                put_back(dir, &files);
                let disk = Disk::new(dir, 0, &[(site.clone(), Mishap::Fault(fault, Span::Once))]);
                offline(dir, &policy, u64::MAX, &disk, None).expect_err("it is told");
                assert!(disk.all_met(), "{site}");
                as_it_was(&world, &was, &all).await;
                offline(dir, &policy, u64::MAX, &disk, None).expect("thin");
                assert!(chunks(dir) == done, "{site}: what was begun is done");
            }
            for seed in 0..if is_long() { LONG_SEEDS } else { SEEDS } {
                put_back(dir, &files);
                let disk = Disk::new(dir, seed, &[(site.clone(), Mishap::PowerCut)]);
                offline(dir, &policy, u64::MAX, &disk, None).expect_err("it is dead");
                disk.power_cut();
                let left = disk.image().restore();
                as_it_was(&world, &was, &all).await;
                offline(dir, &policy, u64::MAX, &Disk::new(dir, 0, &[]), None).expect("thin");
                assert!(chunks(dir) == done, "{site}, seed {seed}: {left}");
            }
        }
    }
}
