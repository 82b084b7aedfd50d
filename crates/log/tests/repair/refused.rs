//! What is refused: nothing is changed, and what is missing is said.

use super::*;

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

type Held = BTreeMap<(FeedId, u64), Bytes>;
type Lie = fn(&Held, &FeedId, u64) -> Option<Bytes>;

/// Gives what another donor has, but altered.
struct Liar {
    truth: Held,
    lie: Lie,
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
    let held: Held = entries.into_iter().map(|entry| ((entry.feed, entry.sequence), entry.bytes)).collect();
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
