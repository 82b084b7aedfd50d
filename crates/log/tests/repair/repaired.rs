//! What comes back: every chunk as it was.

use super::*;

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
