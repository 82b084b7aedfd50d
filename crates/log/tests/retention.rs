//! A log of which entries went is kept safe, proven and given out like any other.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Foreign, append, chunk, copy_dir, open, options, sealer, small_chunks, try_open, try_open_with};
use httt_feed::{Lane, VerifiedBatch};
use httt_log::tlog::{ExportReport, ProofKeys, ProveError, VerifierKey, export_tiles, prove_event};
use httt_log::{
    AuditOptions, BackupOptions, IndexState, KeepError, Log, Options, ReadError, RepairError, RepairOptions,
    Transaction, archive, audit, backup, repair, restore, scan_entries, thin,
};
use uuid::Uuid;

fn policy() -> BTreeMap<Lane, i64> {
    BTreeMap::from([(Lane::Status, i64::MAX)])
}

fn thinned(dir: &Path, number: u32) -> std::path::PathBuf {
    chunk(dir, number).with_extension("thin")
}

/// What there is of each chunk.
fn shapes(dir: &Path) -> Vec<&'static str> {
    let mut found: Vec<_> = common::files(&dir.join("chunks"));
    found.sort();
    let shape = |path: &std::path::PathBuf| match path.extension().and_then(|extension| extension.to_str()) {
        Some("chunk") => "chunk",
        Some("thin") => "thin",
        Some("archived") => "archived",
        _ => "?",
    };
    found.iter().map(shape).collect()
}

/// The next batch of a feed, of which much more goes than is kept.
fn large(feed: &mut Foreign) -> VerifiedBatch {
    let version = feed.head.map_or(1, |head| head.sequence + 1);
    let event = feed.event("clusters", version, &"status ".repeat(60));
    feed.seal(vec![event])
}

/// 60 entries: one in three an own one with ids 0, 1, 2…, one another's that stays, one that may go.
async fn filled(dir: &Path) {
    let (log, _) = try_open_with(dir, small_chunks(2_500)).expect("open");
    let mut stays = Foreign::new("TW→*/content", 9);
    let mut goes = Foreign::new("H31→TW/status", 8);
    for id in 0..20 {
        log.commit(append("s", id, &"text ".repeat(20))).await.expect("commit");
        log.commit(Transaction::copy([stays.next()])).await.expect("commit");
        log.commit(Transaction::copy([large(&mut goes)])).await.expect("commit");
    }
    log.write_checkpoint().await.expect("checkpoint");
    log.close().await;
}

/// What the log has of each entry, and its root.
fn says(log: &Log) -> (Vec<(u64, Option<httt_feed::Digest>)>, httt_feed::Digest) {
    let entries = log.read(0, usize::MAX, usize::MAX).expect("read");
    (entries.iter().map(|entry| (entry.position, Some(entry.digest))).collect(), log.root(log.len()).expect("root"))
}

async fn said(dir: &Path) -> (Vec<(u64, Option<httt_feed::Digest>)>, httt_feed::Digest) {
    let log = open(dir);
    let said = says(&log);
    log.close().await;
    said
}

fn gone(dir: &Path) -> u64 {
    audit(dir, AuditOptions::default()).expect("audit").gone
}

#[tokio::test]
async fn a_backup_lets_go_what_its_log_let_go_and_is_restored_as_it_is() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("dir")).collect();
    let [dir, out, restored] = [0, 1, 2].map(|n| dirs[n].path());
    filled(dir).await;
    backup(dir, out, BackupOptions::default()).expect("backup");
    assert_eq!(gone(out), 0);
    let report = thin(dir, &policy(), None).expect("thin");
    assert!(report.entries() > 10, "{report:?}");
    for verify in [false, true] {
        let done = backup(dir, out, BackupOptions { verify, ..BackupOptions::default() }).expect("backup");
        let expected = if verify { 1 } else { report.chunks.len() as u32 + 1 };
        assert_eq!(done.copied, expected, "thinned chunks are copied once, the last one each time");
        assert_eq!((shapes(out), gone(out)), (shapes(dir), report.entries()));
    }
    // A copy that rotted is made anew when it is looked at.
    let number = report.chunks[0];
    let good = fs::read(thinned(dir, number)).expect("read");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    common::overwrite(&thinned(out, number), &bad);
    let done = backup(dir, out, BackupOptions { verify: true, ..BackupOptions::default() }).expect("backup");
    assert_eq!(done.copied, 2);
    assert!(fs::read(thinned(out, number)).expect("read") == good);

    restore(out, restored, None).expect("restore");
    assert_eq!(said(restored).await, said(dir).await);
    assert_eq!(shapes(restored), shapes(dir));
}

#[tokio::test]
async fn archived_chunks_are_not_thinned_and_thinned_ones_not_archived() {
    let (dir, to) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    filled(dir.path()).await;
    let all = shapes(dir.path()).len() as u32;
    let moved = archive(dir.path(), to.path(), all - 3, None).expect("archive").moved;
    assert_eq!(moved, [0, 1]);
    let report = thin(dir.path(), &policy(), None).expect("thin");
    assert_eq!((report.archived, report.chunks), (2, (2..all - 2).collect()));
    let again = archive(dir.path(), to.path(), 1, None).expect("archive");
    assert_eq!((again.moved, again.archived, again.live), (vec![], 2, all - 2));
    assert_eq!(shapes(dir.path())[..4], ["archived", "archived", "thin", "thin"]);
    let before = said(dir.path()).await;
    fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let (log, report) = try_open(dir.path()).expect("open");
    assert!(matches!(report.index, IndexState::Rebuilt { .. }));
    assert_eq!(says(&log), before);
    log.close().await;
}

#[tokio::test]
async fn it_works_again_and_again_while_the_log_goes_on_and_a_reader_reads() {
    let dir = tempfile::tempdir().expect("dir");
    filled(dir.path()).await;
    let (log, _) = try_open_with(dir.path(), small_chunks(2_500)).expect("open");
    let mut goes = Foreign::new("TH→TW/status", 7);
    let mut reader = log.subscribe(0);
    assert_eq!(reader.next().await.expect("next").position, 0);
    let mut chunks = Vec::new();
    for round in 0..5 {
        for id in 0..10 {
            log.commit(Transaction::copy([large(&mut goes)])).await.expect("commit");
            log.commit(append("s", 100 + round * 10 + id, "more")).await.expect("commit");
        }
        chunks.extend(log.thin(&policy(), &|| true).expect("thin").chunks);
    }
    let mut once = chunks.clone();
    once.dedup();
    assert_eq!(chunks, once, "nothing is left in a chunk to thin it again for");
    let (mut read, end) = (1, log.len());
    while reader.position() < end {
        reader.next().await.expect("next");
        read += 1;
    }
    assert_eq!(read + reader.gone(), end);
    assert!(reader.gone() > 10);
    assert!(matches!(thin(dir.path(), &policy(), None), Err(KeepError::Log(_))), "it is open");
    drop(reader);
    log.close().await;
    let (log, _) = try_open_with(dir.path(), Options { read_only: true, ..options() }).expect("open");
    assert!(matches!(log.thin(&policy(), &|| true), Err(KeepError::ReadOnly)));
    log.close().await;
}

/// Only full chunks are thinned, so something is missing where the last one is.
#[tokio::test]
async fn chunks_missing_around_thinned_ones_are_damage() {
    let dir = tempfile::tempdir().expect("dir");
    filled(dir.path()).await;
    let report = thin(dir.path(), &policy(), None).expect("thin");
    let (first, last) = (report.chunks[0], *report.chunks.last().expect("one"));
    let broken = tempfile::tempdir().expect("dir");
    type Harm<'a> = (&'a str, &'a dyn Fn(&Path));
    let harms: [Harm<'_>; 3] = [
        ("the chunk after this thinned one is missing", &|dir| {
            (last + 1..last + 3).for_each(|number| fs::remove_file(chunk(dir, number)).expect("remove"));
        }),
        ("the chunk is missing", &|dir| fs::remove_file(thinned(dir, first)).expect("remove")),
        ("the file holds chunk", &|dir| {
            fs::copy(thinned(dir, last), broken.path().join("x")).expect("copy");
            fs::remove_file(thinned(dir, first)).expect("remove");
            fs::rename(broken.path().join("x"), thinned(dir, first)).expect("rename");
        }),
    ];
    let copy = tempfile::tempdir().expect("dir");
    for (says, harm) in harms {
        common::restore_dir(dir.path(), copy.path());
        harm(copy.path());
        let error = try_open(copy.path()).expect_err(says).to_string();
        assert!(error.contains(says), "{error}");
        let audited = audit(copy.path(), AuditOptions::default()).expect("audit");
        assert!(!audited.is_clean());
    }
}

#[tokio::test]
async fn tiles_have_every_hash_and_bundles_what_is_there() {
    let (dir, out) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    filled(dir.path()).await;
    let before = tempfile::tempdir().expect("dir");
    export_tiles(dir.path(), before.path(), true).expect("export");
    let report = thin(dir.path(), &policy(), None).expect("thin");
    let ExportReport { size, gone, .. } = export_tiles(dir.path(), out.path(), true).expect("export");
    assert_eq!((size, gone), (60, report.entries()));
    for file in common::files(before.path()) {
        let name = file.strip_prefix(before.path()).expect("inside");
        let here = fs::read(out.path().join(name)).ok();
        let expected = (!name.starts_with("tile/entries")).then(|| fs::read(&file).expect("read"));
        assert!(here == expected, "{}", name.display());
    }
}

#[tokio::test]
async fn what_is_there_is_provable_and_of_what_is_not_it_is_said_so() {
    let dir = tempfile::tempdir().expect("dir");
    filled(dir.path()).await;
    let entries: Vec<_> = scan_entries(dir.path()).expect("scan").collect::<Result<_, _>>().expect("entries");
    let report = thin(dir.path(), &policy(), None).expect("thin");
    let node = sealer("H24", 1);
    let log = VerifierKey::log(node.origin(), node.key().public()).expect("key");
    let keys = ProofKeys { log, witnesses: vec![], quorum: 0, origin: None };
    let proof = prove_event(dir.path(), Uuid::from_u128(3)).expect("prove");
    proof.check(&keys).expect("check");
    let went = entries.iter().find(|entry| entry.feed.lane == Lane::Status).expect("one");
    let id = went.events().next().expect("event").id();
    let refused = prove_event(dir.path(), id).expect_err("it is gone");
    assert!(matches!(refused, ProveError::NoEvent { event, gone } if event == id && gone == report.entries()));
    assert!(refused.to_string().contains("went by retention"), "{refused}");
    let log = open(dir.path());
    let error = log.event(id).expect_err("it is gone");
    assert!(matches!(&error, ReadError::Gone(gone) if gone.position == went.position), "{error}");
    assert!(error.to_string().contains("H31→TW/status sequence 1"), "{error}");
    log.close().await;
}

#[tokio::test]
async fn a_damaged_thinned_chunk_is_mended_by_a_copy_be_it_thinned_or_not() {
    let dirs: Vec<_> = (0..4).map(|_| tempfile::tempdir().expect("dir")).collect();
    let [dir, whole, thin_copy, nobody] = [0, 1, 2, 3].map(|n| dirs[n].path());
    filled(dir).await;
    copy_dir(&dir.join("chunks"), &whole.join("chunks"));
    let report = thin(dir, &policy(), None).expect("thin");
    copy_dir(&dir.join("chunks"), &thin_copy.join("chunks"));
    let number = report.chunks[1];
    let good = fs::read(thinned(dir, number)).expect("read");
    let expected = said(dir).await;
    let nothing = repair(dir, RepairOptions::default()).expect("nothing to do");
    assert_eq!((nothing.chunks.len(), nothing.entries), (0, 60));
    let harms: [fn(&mut Vec<u8>); 3] = [|bytes| bytes[1_000] ^= 4, |bytes| bytes.truncate(700), Vec::clear];
    for harm in harms {
        for (helper, shape) in [(thin_copy, "thin"), (whole, "chunk"), (nobody, "")] {
            let mut bytes = good.clone();
            harm(&mut bytes);
            let _ = fs::remove_file(chunk(dir, number));
            common::overwrite(&thinned(dir, number), &bytes);
            let folders = if shape.is_empty() { vec![] } else { vec![helper.to_owned()] };
            let done = repair(dir, RepairOptions { folders, ..RepairOptions::default() });
            if shape.is_empty() {
                assert!(matches!(done, Err(RepairError::Missing(_))), "{done:?}");
                continue;
            }
            let done = done.expect("repair");
            assert_eq!((done.chunks.len(), done.entries), (1, 60));
            assert_eq!(shapes(dir)[number as usize], shape);
            let now = said(dir).await;
            assert_eq!(now.1, expected.1);
            if shape == "thin" {
                assert_eq!(now, expected);
                assert!(fs::read(thinned(dir, number)).expect("read") == good);
            }
        }
    }
}
