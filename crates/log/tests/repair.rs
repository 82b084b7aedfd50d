//! Damaged chunks are made again exactly as they were, or nothing is changed and what is missing is said.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use common::{
    Foreign, NOW_MS, chunk, code, copy_dir, event, event_on, everything, open, options, overwrite, restore_dir, sealer,
};
use httt_feed::{Directory, FeedId, Lane};
use httt_log::{
    BackupOptions, Donor, Log, ManualClock, OpenError, Options, RepairError, RepairOptions, RepairReport, Transaction,
    archive, backup, repair,
};
use tempfile::TempDir;

/// A log of several chunks and feeds, a backup of it, and another node's log that holds the same feeds.
struct Nodes {
    log: TempDir,
    backup: TempDir,
    other: TempDir,
}

async fn nodes() -> Nodes {
    let (dir, out, other) =
        (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let clock = Arc::new(ManualClock::new(NOW_MS));
    let options = Options { chunk_bytes: 3_500, clock: Arc::clone(&clock) as _, ..options() };
    let (log, _) = Log::open(dir.path(), sealer("H24", 1), options).expect("open");
    let (mut ministry, mut member) = (Foreign::new("TW→*/content", 9), Foreign::new("H19→*/report", 8));
    for n in 0..14_u128 {
        clock.set(NOW_MS + 1_000 * n as i64);
        let transaction = match n % 4 {
            0 => Transaction::append([event("s", n, "one event")]),
            1 => Transaction::copy(ministry.batches(3)),
            2 => Transaction {
                copies: [ministry.batches(1), member.batches(2)].concat(),
                ..Transaction::append([
                    event("s", n, "beside copies"),
                    event_on(Lane::Status, "t", n + 100, "two feeds"),
                ])
            },
            _ => Transaction::copy(member.batches(1)),
        };
        log.commit(transaction).await.expect("commit");
    }
    let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
    log.close().await;
    assert!(chunk(dir.path(), 2).exists() && !chunk(dir.path(), 9).exists());
    backup(dir.path(), out.path(), BackupOptions::default()).expect("backup");

    let (log, _) = Log::open(other.path(), sealer("H25", 7), common::options()).expect("open");
    let mut known = Directory::trusting(httt_feed::Digest([0; 32]));
    for (member, seed) in [("H24", 1), ("TW", 9), ("H19", 8)] {
        known = known.knowing_own(code(member), sealer(member, seed).key().public().clone());
        // Only one member can be one's own, so each is verified with a directory of its own.
        for entry in entries.iter().filter(|entry| entry.feed.origin == code(member)) {
            let batch = known.verify(httt_feed::parse(entry.bytes.clone()).expect("parse")).expect("verify");
            log.commit(Transaction::copy([batch])).await.expect("copy");
        }
    }
    log.close().await;
    Nodes { log: dir, backup: out, other }
}

fn with(folders: &[&Path]) -> RepairOptions<'static> {
    RepairOptions { folders: folders.iter().map(|folder| folder.to_path_buf()).collect(), ..RepairOptions::default() }
}

/// Contents of all chunks and the checkpoint.
fn truth(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let items = fs::read_dir(dir.join("chunks")).expect("list").map(|item| item.expect("item").path());
    let paths: Vec<_> = items.chain([dir.join("checkpoint")]).collect();
    paths
        .into_iter()
        .map(|path| (path.strip_prefix(dir).expect("in it").to_owned(), fs::read(&path).expect("read")))
        .collect()
}

fn chunk_count(dir: &Path) -> u32 {
    fs::read_dir(dir.join("chunks")).expect("list").count() as u32
}

/// Start and end of each frame in a chunk, and whether it is an entry.
fn frames(bytes: &[u8]) -> Vec<(usize, usize, bool)> {
    let (mut at, mut frames) = (64, Vec::new());
    while at < bytes.len() {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
        frames.push((at, at + 20 + length, bytes[at + 8] == 1));
        at += 20 + length;
    }
    frames
}

/// All kinds of damage to a chunk, each with its name: bit flips, zeroed pieces, cuts, and `None` for a lost file.
fn harms(good: &[u8]) -> Vec<(String, Option<Vec<u8>>)> {
    let mut harms = vec![("lost".to_owned(), None), ("emptied".to_owned(), Some(Vec::new()))];
    for at in (0..good.len()).step_by(97).chain([3, 30, 45, 62, 64, good.len() - 1]) {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1 << (at % 8);
        harms.push((format!("flip at {at}"), Some(bytes)));
    }
    for at in (0..good.len()).step_by(512) {
        let mut bytes = good.to_vec();
        let end = (at + 512).min(bytes.len());
        bytes[at..end].fill(0);
        harms.push((format!("zeros at {at}"), Some(bytes)));
    }
    let ends = frames(good).into_iter().map(|(_, end, _)| end);
    for at in ends.chain([1, 63, 64, 70, good.len() - 1]).filter(|at| *at < good.len()) {
        harms.push((format!("cut at {at}"), Some(good[..at].to_vec())));
    }
    let mut shifted = good.to_vec();
    shifted.splice(900..900, [7; 33]);
    harms.push(("bytes put in".to_owned(), Some(shifted)));
    harms.push(("bytes put behind".to_owned(), Some([good, &[9; 77]].concat())));
    harms
}

/// Harms every chunk in every way and repairs it; all chunks must be as before.
fn repairs_everything(base: &Path, with_index: bool, donors: &[&Path]) -> Vec<RepairReport> {
    let dir = tempfile::tempdir().expect("dir");
    let good = truth(base);
    let mut reports = Vec::new();
    for number in 0..chunk_count(base) {
        let bytes = fs::read(chunk(base, number)).expect("read");
        for (what, harmed) in harms(&bytes) {
            restore_dir(base, dir.path());
            if !with_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            match harmed {
                Some(harmed) => overwrite(&chunk(dir.path(), number), &harmed),
                None => fs::remove_file(chunk(dir.path(), number)).expect("remove"),
            }
            let before = fs::read(chunk(dir.path(), number)).ok();
            let last = number + 1 == chunk_count(base);
            let what = format!("chunk {number}: {what}");
            let report = repair(dir.path(), with(donors)).unwrap_or_else(|error| panic!("{what}: {error}"));
            // A tail that belongs to nothing is opening's to cut.
            if !(last && what.ends_with("behind")) {
                assert!(truth(dir.path()) == good, "{what}: {report:?}");
                assert_eq!(report.chunks, [format!("{number:08}.chunk")], "{what}");
                let kept = report.aside.as_ref().and_then(|aside| fs::read(aside.join(&report.chunks[0])).ok());
                assert!(kept == before, "{what}: the damaged file is kept");
            }
            assert!(!dir.path().join("chunks.repairing").exists());
            reports.push(report);
        }
    }
    reports
}

#[tokio::test]
async fn with_the_index_another_nodes_log_is_enough() {
    let nodes = nodes().await;
    let donor = nodes.other.path().to_owned();
    let reports = repairs_everything(nodes.log.path(), true, &[&donor]);
    // The time of creation of the first chunk, once the file is gone, is known to nobody else. The clock of this
    // test stands still between creation and first commit, so that even this is guessed right.
    let guessed = reports.iter().filter(|report| !report.headers_guessed.is_empty()).count();
    assert!(guessed > 0 && guessed < reports.len() / 2, "{guessed} of {}", reports.len());
}

#[tokio::test]
async fn without_an_index_a_backup_of_the_log_is_enough() {
    let nodes = nodes().await;
    let reports = repairs_everything(nodes.log.path(), false, &[nodes.backup.path()]);
    assert!(reports.iter().all(|report| report.headers_guessed.is_empty()));
}

#[tokio::test]
async fn without_an_index_another_nodes_log_fills_groups_whose_marker_is_left() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let (good, mut repaired) = (truth(base), 0);
    for number in 0..chunk_count(base) {
        let bytes = fs::read(chunk(base, number)).expect("read");
        for (start, end, is_entry) in frames(&bytes) {
            for at in [start, start + 6, start + 9, start + 15, start + 20, end - 1] {
                restore_dir(base, dir.path());
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
                let mut harmed = bytes.clone();
                harmed[at] ^= 8;
                overwrite(&chunk(dir.path(), number), &harmed);
                let before = truth(dir.path());
                let result = repair(dir.path(), with(&[nodes.other.path()]));
                if is_entry {
                    result.unwrap_or_else(|error| panic!("byte {at} of chunk {number}: {error}"));
                    assert!(truth(dir.path()) == good, "byte {at} of chunk {number}");
                    repaired += 1;
                } else {
                    // When the group was committed stood in the marker alone.
                    assert!(matches!(result, Err(RepairError::Missing(_))), "byte {at} of chunk {number}");
                    assert!(truth(dir.path()) == before);
                }
            }
        }
    }
    assert!(repaired > 100);
}

#[tokio::test]
async fn the_index_alone_mends_a_marker_and_names_what_else_is_missing() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let good = truth(base);
    let bytes = fs::read(chunk(base, 1)).expect("read");
    for (start, _, is_entry) in frames(&bytes) {
        restore_dir(base, dir.path());
        let mut harmed = bytes.clone();
        harmed[start + 21] ^= 8;
        overwrite(&chunk(dir.path(), 1), &harmed);
        let before = truth(dir.path());
        let result = repair(dir.path(), with(&[]));
        if is_entry {
            let Err(RepairError::Missing(missing)) = result else { panic!("byte {start}: {result:?}") };
            assert_eq!(missing.chunk, "00000001.chunk");
            assert!(missing.why.contains("no donor has ") && missing.why.contains(" sequence "), "{missing}");
            assert!(truth(dir.path()) == before);
            assert!(!dir.path().join("chunks.damaged-1").exists());
        } else {
            result.unwrap_or_else(|error| panic!("byte {start}: {error}"));
            assert!(truth(dir.path()) == good, "byte {start}");
        }
    }
}

/// Gives what another donor has, but altered.
struct Liar {
    truth: BTreeMap<(FeedId, u64), Bytes>,
    lie: fn(&BTreeMap<(FeedId, u64), Bytes>, &FeedId, u64) -> Option<Bytes>,
}

impl Donor for Liar {
    fn name(&self) -> String {
        "liar".to_owned()
    }

    fn batch(&self, feed: &FeedId, sequence: u64) -> Result<Option<Bytes>, String> {
        Ok((self.lie)(&self.truth, feed, sequence))
    }

    fn feeds(&self) -> Vec<FeedId> {
        self.truth.keys().map(|(feed, _)| feed.clone()).collect()
    }
}

#[tokio::test]
async fn what_a_donor_makes_up_is_refused() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let good = truth(base);
    let entries: Vec<_> =
        httt_log::scan_entries(nodes.other.path()).expect("scan").map(|entry| entry.expect("entry")).collect();
    let held: BTreeMap<_, _> = entries.into_iter().map(|entry| ((entry.feed, entry.sequence), entry.bytes)).collect();
    type Lie = fn(&BTreeMap<(FeedId, u64), Bytes>, &FeedId, u64) -> Option<Bytes>;
    let honest: Lie = |held, feed, sequence| held.get(&(feed.clone(), sequence)).cloned();
    let lies: [(&str, Lie); 3] = [
        ("another batch of the feed", |held, feed, sequence| {
            held.get(&(feed.clone(), sequence + 1)).or(held.get(&(feed.clone(), 1))).cloned()
        }),
        ("a bit turned", |held, feed, sequence| {
            let mut bytes = held.get(&(feed.clone(), sequence))?.to_vec();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            Some(bytes.into())
        }),
        ("nothing of use", |_, _, _| Some(Bytes::from_static(b"x"))),
    ];
    let bytes = fs::read(chunk(base, 1)).expect("read");
    let entry = frames(&bytes).into_iter().find(|(.., is_entry)| *is_entry).expect("an entry");
    for with_index in [true, false] {
        for (what, lie) in [("the truth", honest)].into_iter().chain(lies) {
            restore_dir(base, dir.path());
            if !with_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            let mut harmed = bytes.clone();
            harmed[entry.0 + 25] ^= 8;
            overwrite(&chunk(dir.path(), 1), &harmed);
            let before = truth(dir.path());
            let donor = || Box::new(Liar { truth: held.clone(), lie }) as Box<dyn Donor>;
            let result = repair(dir.path(), RepairOptions { donors: vec![donor()], ..RepairOptions::default() });
            if what == "the truth" {
                result.expect("repair");
                assert!(truth(dir.path()) == good);
                continue;
            }
            let Err(RepairError::Missing(missing)) = result else { panic!("{what}: {result:?}") };
            assert!(!with_index || missing.why.contains("liar has another batch there"), "{what}: {missing}");
            assert!(truth(dir.path()) == before, "{what}");
            // Beside an honest one it does no harm.
            let mut options = with(&[nodes.other.path()]);
            options.donors.push(donor());
            if with_index {
                repair(dir.path(), options).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(truth(dir.path()) == good, "{what}");
            }
        }
    }
}

#[tokio::test]
async fn a_log_that_met_damage_and_set_its_index_aside_is_repaired_and_opens() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let said = {
        restore_dir(base, dir.path());
        let log = open(dir.path());
        let said = everything(&log);
        log.close().await;
        said
    };
    let good = truth(base);
    let bytes = fs::read(chunk(base, 1)).expect("read");
    for starts in 1..4 {
        restore_dir(base, dir.path());
        overwrite(&chunk(dir.path(), 1), &bytes[..bytes.len() - 200]);
        for _ in 0..starts {
            let opened = common::try_open(dir.path());
            assert!(matches!(opened, Err(OpenError::Damaged(_))), "{opened:?}");
        }
        assert!(dir.path().join("index.damaged-1").exists());
        let report = repair(dir.path(), with(&[nodes.other.path()])).expect("repair");
        assert_eq!(report.aside.as_deref(), Some(dir.path().join("chunks.damaged-1").as_path()));
        assert!(truth(dir.path()) == good);
        let log = open(dir.path());
        assert_eq!(everything(&log), said);
        log.close().await;
    }
}

#[tokio::test]
async fn several_damages_are_repaired_at_once_from_donors_that_are_damaged_themselves() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let good = truth(base);
    let count = chunk_count(base);
    let flip = |dir: &Path, number: u32, part: usize, parts: usize| {
        let path = chunk(dir, number);
        let mut bytes = fs::read(&path).expect("read");
        let at = 64 + (bytes.len() - 64) * part / parts;
        bytes[at + 30] ^= 4;
        overwrite(&path, &bytes);
    };
    restore_dir(base, dir.path());
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let second = tempfile::tempdir().expect("dir");
    copy_dir(nodes.backup.path(), second.path());
    for number in 0..count - 1 {
        flip(dir.path(), number, 1, 4);
        flip(dir.path(), number, 3, 4);
        // One backup lacks the one, the other the other.
        flip(nodes.backup.path(), number, 1, 4);
        flip(second.path(), number, 3, 4);
    }
    let before = truth(dir.path());
    for one in [nodes.backup.path(), second.path()] {
        let error = repair(dir.path(), with(&[one])).expect_err("one is not enough");
        assert!(matches!(error, RepairError::Missing(_)), "{error}");
        assert!(truth(dir.path()) == before);
    }
    let report = repair(dir.path(), with(&[nodes.backup.path(), second.path()])).expect("repair");
    assert_eq!((report.chunks.len() as u32, report.spans.len() as u32), (count - 1, 2 * (count - 1)));
    assert!(truth(dir.path()) == good);
}

/// Whatever is harmed, and whoever is there to help: the log is as it was before the harm, or as it was before the
/// repair.
#[tokio::test]
async fn random_harm_is_repaired_or_left() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let good = truth(base);
    let count = chunk_count(base);
    let mut state = 7_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let (mut repaired, mut left) = (0, 0);
    for round in 0..300 {
        restore_dir(base, dir.path());
        if random(2) == 0 {
            fs::remove_dir_all(dir.path().join("index")).expect("remove");
        }
        let mut what = Vec::new();
        for _ in 0..1 + random(3) {
            let number = random(count as usize) as u32;
            let path = chunk(dir.path(), number);
            let Ok(mut bytes) = fs::read(&path) else { continue };
            if bytes.len() < 2 {
                continue;
            }
            let at = random(bytes.len());
            let end = (at + 1 + random(700)).min(bytes.len());
            let kind = random(6);
            match kind {
                0 | 1 => bytes[at] ^= 1 << random(8),
                2 => bytes[at..end].fill(0),
                3 => bytes.truncate(at),
                4 => drop(bytes.drain(at..end)),
                _ => bytes[at..end].iter_mut().for_each(|byte| *byte = random(256) as u8),
            }
            overwrite(&path, &bytes);
            what.push((number, kind, at, end));
        }
        let folders = [nodes.backup.path(), nodes.other.path()];
        let (from, to) = [(0, 1), (0, 2), (1, 2), (1, 1)][random(4)];
        let donors = &folders[from..to];
        let before = truth(dir.path());
        match repair(dir.path(), with(donors)) {
            Ok(_) => {
                assert!(truth(dir.path()) == good, "round {round}: {what:?} {donors:?}");
                repaired += 1;
            }
            Err(error) => {
                assert!(truth(dir.path()) == before, "round {round}: {what:?} {donors:?} {error}");
                assert!(!donors.contains(&nodes.backup.path()), "round {round}: {what:?} {error}");
                left += 1;
            }
        }
    }
    assert!(repaired > 150 && left > 10, "{repaired} repaired, {left} left");
}

#[tokio::test]
async fn swapped_foreign_and_several_lost_chunks_are_made_again() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let good = truth(base);
    let count = chunk_count(base);
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let harms: [Harm<'_>; 4] = [
        ("swapped", &|dir| {
            fs::rename(chunk(dir, 0), dir.join("x")).expect("rename");
            fs::rename(chunk(dir, 1), chunk(dir, 0)).expect("rename");
            fs::rename(dir.join("x"), chunk(dir, 1)).expect("rename");
        }),
        ("foreign", &|dir| overwrite(&chunk(dir, 1), &fs::read(chunk(nodes.other.path(), 0)).expect("read"))),
        ("two lost", &|dir| [1, 2].iter().for_each(|number| fs::remove_file(chunk(dir, *number)).expect("remove"))),
        ("all but the first lost", &|dir| {
            (1..count).for_each(|number| fs::remove_file(chunk(dir, number)).expect("remove"))
        }),
    ];
    for (what, harm) in harms {
        for (donor, with_index) in [(nodes.backup.path(), false), (nodes.other.path(), true)] {
            restore_dir(base, dir.path());
            if !with_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            harm(dir.path());
            // An interrupted repair left something.
            fs::create_dir(dir.path().join("chunks.repairing")).expect("create");
            repair(dir.path(), with(&[donor])).unwrap_or_else(|error| panic!("{what}, index {with_index}: {error}"));
            assert!(truth(dir.path()) == good, "{what}, index {with_index}");
        }
    }
}

#[tokio::test]
async fn what_is_not_damaged_is_left_alone() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    restore_dir(base, dir.path());
    let good = truth(base);
    let report = repair(dir.path(), with(&[nodes.other.path()])).expect("repair");
    assert!(report.chunks.is_empty() && report.spans.is_empty() && report.aside.is_none());
    assert!(truth(dir.path()) == good);
    // A torn tail that nobody vouches for.
    fs::remove_file(dir.path().join("checkpoint")).expect("remove");
    fs::write(dir.path().join("checkpoint"), fs::read(base.join("checkpoint")).expect("read")).expect("write");
    let last = chunk(dir.path(), chunk_count(base) - 1);
    let torn = [fs::read(&last).expect("read"), vec![3; 50]].concat();
    overwrite(&last, &torn);
    assert!(repair(dir.path(), with(&[nodes.backup.path()])).expect("repair").chunks.is_empty());
    assert_eq!(fs::read(&last).expect("read"), torn);
    assert!(common::try_open(dir.path()).expect("open").1.cut.is_some());
}

#[tokio::test]
async fn the_last_chunk_is_repaired_though_no_checkpoint_vouches_for_it() {
    let nodes = nodes().await;
    let (base, dir) = (nodes.log.path(), tempfile::tempdir().expect("dir"));
    let last = chunk_count(base) - 1;
    let bytes = fs::read(chunk(base, last)).expect("read");
    let frames = frames(&bytes);
    let markers: Vec<_> = frames.iter().filter(|(.., is_entry)| !is_entry).map(|(_, end, _)| *end).collect();
    assert!(markers.len() > 2);
    for (donor, with_index) in [(nodes.backup.path(), false), (nodes.other.path(), true)] {
        // Header and first group, while later groups prove that they were there.
        for harmed in [0..markers[0], 0..64, 64..markers[0], 10..20, markers[0]..markers[1]] {
            restore_dir(base, dir.path());
            fs::remove_file(dir.path().join("checkpoint")).expect("remove");
            if !with_index {
                fs::remove_dir_all(dir.path().join("index")).expect("remove");
            }
            let mut bytes = bytes.clone();
            bytes[harmed.clone()].fill(0xEE);
            overwrite(&chunk(dir.path(), last), &bytes);
            repair(dir.path(), with(&[donor])).unwrap_or_else(|error| panic!("{harmed:?}: {error}"));
            assert!(fs::read(chunk(dir.path(), last)).expect("read") == fs::read(chunk(base, last)).expect("read"));
        }
        // Nothing follows the last group: what is left of it is a torn tail, for opening to cut.
        let end = markers[markers.len() - 2];
        restore_dir(base, dir.path());
        fs::remove_file(dir.path().join("checkpoint")).expect("remove");
        let mut bytes = bytes.clone();
        bytes[end + 30] ^= 1;
        overwrite(&chunk(dir.path(), last), &bytes);
        assert!(repair(dir.path(), with(&[donor])).expect("repair").chunks.is_empty());
    }
}

#[tokio::test]
async fn an_archived_chunk_is_repaired_into_the_log_and_its_absence_is_no_damage() {
    let nodes = nodes().await;
    let (base, dir, to) = (nodes.log.path(), tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    restore_dir(base, dir.path());
    archive(dir.path(), to.path(), 1, None).expect("archive");
    let archived = to.path().join("00000000.chunk");
    let whole = fs::read(&archived).expect("read");
    let mut bytes = whole.clone();
    bytes[500] ^= 1;
    overwrite(&archived, &bytes);
    repair(dir.path(), with(&[nodes.other.path()])).expect("repair");
    assert!(fs::read(chunk(dir.path(), 0)).expect("it is live again") == whole);
    assert!(fs::read(&archived).expect("read") == bytes, "the archive is left as it is");
    let log = open(dir.path());
    assert_eq!(log.read(0, usize::MAX, usize::MAX).expect("read").len() as u64, log.len());
    log.close().await;
    fs::remove_file(chunk(dir.path(), 0)).expect("remove");
    fs::rename(&archived, to.path().join("away")).expect("rename");
    let error = repair(dir.path(), with(&[nodes.backup.path()])).expect_err("the archive is away");
    assert!(matches!(error, RepairError::Log(OpenError::ArchiveMissing { .. })), "{error}");
}

#[tokio::test]
async fn who_cannot_help_is_told_apart() {
    let nodes = nodes().await;
    let (dir, empty) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    restore_dir(nodes.log.path(), dir.path());
    assert!(matches!(repair(dir.path(), with(&[dir.path()])), Err(RepairError::Donor { .. })));
    assert!(matches!(repair(dir.path(), with(&[empty.path()])), Err(RepairError::Donor { .. })));
    assert!(matches!(repair(empty.path(), with(&[])), Err(RepairError::Log(OpenError::NoLog { .. }))));
    let log = open(dir.path());
    assert!(matches!(repair(dir.path(), with(&[])), Err(RepairError::Log(OpenError::Locked { .. }))));
    log.close().await;
}
