//! Whatever goes: everything else stays as it was, and what went is proven still.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Audience, FeedId, Head, Lane, Refusal, Sealer, SigningKey, VerifiedBatch};
use httt_wire::feed::Event;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::index::row::EntryRow;
use crate::{
    AuditOptions, Clock as _, CommitError, Direction, EventPosition, Filter, IndexState, ManualClock, NewEvent,
    Options, ReadError, Scanned, Transaction, audit, scan_entries,
};

const CHUNK_BYTES: u64 = 4_000;
const FEEDS: [&str; 6] =
    ["TW→*/content", "H24→TW/status", "H31→TW/status", "H31→TW/report", "TW→*/emergency", "TW→*/directory"];

fn sealer(origin: &str, seed: u8) -> Arc<Sealer> {
    let key = SigningKey::from_seed(&[seed; 32]).expect("seed");
    Arc::new(Sealer::new(AgencyCode::new(origin).expect("code"), key))
}

fn options(clock: &Arc<ManualClock>) -> Options {
    Options {
        chunk_bytes: CHUNK_BYTES,
        checkpoint_every: Duration::from_secs(3_600),
        clock: Arc::clone(clock) as _,
        index_run_events: 16,
        ..Options::default()
    }
}

/// A gateway's log of others' feeds, and all that was put into it.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: Arc<ManualClock>,
    feeds: Vec<(Arc<Sealer>, FeedId, Option<Head>)>,
    batches: Vec<VerifiedBatch>,
}

pub(crate) fn open(dir: &Path, clock: &Arc<ManualClock>) -> (Log, crate::OpenReport) {
    Log::open(dir, sealer("NDXP", 1), options(clock)).expect("open")
}

impl World {
    pub(crate) fn new() -> Self {
        let feeds = FEEDS.iter().zip(2..).map(|(feed, seed)| {
            let feed: FeedId = feed.parse().expect("feed");
            (sealer(feed.origin.as_str(), seed), feed, None)
        });
        let clock = Arc::new(ManualClock::new(1_000));
        Self { dir: tempfile::tempdir().expect("dir"), clock, feeds: feeds.collect(), batches: Vec::new() }
    }

    /// The next batch of a feed; every fifth of the lane status restates.
    pub(crate) fn batch(&mut self, feed: usize, bytes: usize) -> VerifiedBatch {
        let (sealer, feed, head) = &mut self.feeds[feed];
        let version = head.map_or(1, |head: Head| head.sequence + 1);
        let event = Event {
            id: Uuid::from_u128((self.batches.len() as u128) << 64).into_bytes().to_vec(),
            stream: format!("{feed}"),
            version,
            r#type: "test.v1.Said".to_owned(),
            occurred_at_ms: 7,
            data: vec![version as u8; bytes].into(),
            ..Event::default()
        };
        let restates = feed.lane == Lane::Status && version % 5 == 1;
        let unsigned = sealer.prepare(feed, head.as_ref(), 7, vec![event], restates).expect("prepare");
        let batch = sealer.sign(unsigned);
        *head = Some(batch.head());
        self.batches.push(batch.clone());
        batch
    }

    /// Commits of batches, each with an own event; the clock goes on between them.
    pub(crate) async fn fill(&mut self, steps: &[(usize, usize, i64)]) {
        let (log, _) = open(self.dir.path(), &self.clock);
        let first = u128::from(log.len());
        let own = |lane, n: usize| NewEvent {
            id: Uuid::from_u128((first + n as u128) << 8 | lane as u128),
            audience: Audience::All,
            lane,
            stream: format!("own/{lane}"),
            kind: "test.v1.Own".into(),
            actor: String::new(),
            traceparent: String::new(),
            occurred_at_ms: None,
            data: vec![n as u8; 10].into(),
        };
        if log.is_empty() {
            let opened = NewEvent { audience: Audience::One(log.origin().clone()), ..own(Lane::Local, 0) };
            log.commit(Transaction::append([opened])).await.expect("commit");
        }
        for (n, (feed, bytes, ms)) in steps.iter().enumerate() {
            self.clock.set(self.clock.now_ms() + ms);
            let batches: Vec<_> = (0..=n % 2).map(|_| self.batch(*feed, *bytes)).collect();
            log.commit(Transaction::copy(batches)).await.expect("commit");
            if n % 3 == 0 {
                log.commit(Transaction::append([own(Lane::Report, n)])).await.expect("commit");
            }
        }
        log.write_checkpoint().await.expect("checkpoint");
        log.close().await;
    }
}

/// One entry, as it was before anything went.
struct Was {
    entry: Entry,
    row: EntryRow,
}

/// The log before anything went.
pub(crate) struct Before {
    entries: Vec<Was>,
    heads: String,
    roots: Vec<httt_feed::Digest>,
    findings: BTreeSet<String>,
    chunks: u32,
}

fn findings(dir: &Path) -> (crate::AuditReport, BTreeSet<String>) {
    let report = audit(dir, AuditOptions::default()).expect("audit");
    let found = report.findings.iter().map(|finding| format!("{} {}", finding.position, finding.what)).collect();
    (report, found)
}

pub(crate) async fn before(world: &World) -> Before {
    let dir = world.dir.path();
    let (log, _) = open(dir, &world.clock);
    let shared = log.shared();
    let entries = log.read(0, usize::MAX, usize::MAX).expect("read").into_iter();
    let entries = entries.map(|entry| Was { row: shared.index.row(entry.position).expect("row").expect("one"), entry });
    let entries: Vec<_> = entries.collect();
    let roots = (0..=log.len()).map(|size| log.root(size).expect("root")).collect();
    let heads = format!("{:?}", log.heads());
    let chunks = entries.last().map_or(0, |was| was.row.at.chunk) + 1;
    log.close().await;
    Before { entries, heads, roots, findings: findings(dir).1, chunks }
}

/// Positions that a policy lets go.
pub(crate) fn expected(before: &Before, policy: &BTreeMap<Lane, i64>) -> BTreeSet<u64> {
    let goes = |was: &&Was| {
        was.entry.feed.origin.as_str() != "NDXP"
            && was.row.at.chunk + 1 + MIN_KEPT_CHUNKS < before.chunks
            && policy.get(&was.entry.feed.lane).is_some_and(|at| was.row.at_ms < *at)
    };
    before.entries.iter().filter(goes).map(|was| was.entry.position).collect()
}

/// Checks the log against what it was; `gone` went.
pub(crate) fn check(dir: &Path, log: &Log, before: &Before, gone: &BTreeSet<u64>) {
    let shared = log.shared();
    assert_eq!(log.len(), before.entries.len() as u64);
    assert_eq!(format!("{:?}", log.heads()), before.heads);
    for (size, root) in before.roots.iter().enumerate() {
        assert_eq!(log.root(size as u64).expect("root"), *root);
        assert_eq!(shared.tree().range(size as u64).expect("range").root(), *root);
    }
    for Was { entry, row } in &before.entries {
        let (position, feed, sequence) = (entry.position, &entry.feed, entry.sequence);
        let now = shared.index.row(position).expect("row").expect("one");
        assert_eq!((now.at, now.sequence, now.at_ms, now.leaf), (row.at, sequence, row.at_ms, row.leaf));
        assert_eq!(shared.index.feed(now.feed).expect("feed"), *feed);
        assert_eq!(log.batch_digest(feed, sequence).expect("digest"), Some(entry.digest));
        assert_eq!(log.batch_leaf(feed, sequence).expect("leaf"), Some(row.leaf));
        let away = log.batch_away(feed, sequence).expect("away");
        let read = log.read_feed(feed, sequence - 1, 1);
        match shared.entry(position) {
            Ok(Some(held)) => {
                assert!(!gone.contains(&position), "{position} did not go");
                assert_eq!((&held.bytes, away), (&entry.bytes, None));
                assert_eq!(read.expect("read")[0].bytes, entry.bytes);
                let of_entry = entry.events().next().expect("event");
                assert_eq!(log.event(of_entry.id()).expect("event"), Some(of_entry));
            }
            Err(ReadError::Gone(record)) => {
                assert!(gone.contains(&position), "{position} went");
                let expected = GoneEntry {
                    position,
                    feed: feed.clone(),
                    sequence,
                    digest: entry.digest,
                    leaf: row.leaf,
                    restates: entry.batch.restates,
                    bytes: row.at.length,
                };
                assert_eq!((*record, away), (expected, Some(row.at.length)));
                assert!(matches!(read, Err(ReadError::Gone(_))));
            }
            other => panic!("{other:?}"),
        }
    }
    let kept: Vec<_> = before.entries.iter().filter(|was| !gone.contains(&was.entry.position)).collect();
    let positions: Vec<_> = kept.iter().map(|was| was.entry.position).collect();
    for at_once in [1, 7, usize::MAX] {
        let (mut forward, mut backward, mut from, mut to) = (Vec::new(), Vec::new(), 0, u64::MAX);
        while let Some(last) = log
            .read(from, at_once, 2_000)
            .expect("read")
            .iter()
            .map(|e| e.position)
            .inspect(|p| forward.push(*p))
            .last()
        {
            from = last + 1;
        }
        while let Some(last) = log
            .read_backward(to, at_once, 2_000)
            .expect("read")
            .iter()
            .map(|e| e.position)
            .inspect(|p| backward.push(*p))
            .last()
        {
            to = last;
        }
        backward.reverse();
        assert_eq!((&forward, &backward), (&positions, &positions));
    }
    for direction in [Direction::Forward, Direction::Backward] {
        let forward = direction == Direction::Forward;
        let (mut at, mut found, mut passed) =
            (if forward { EventPosition::START } else { EventPosition::END }, Vec::new(), 0);
        loop {
            let page = log.events(at, &Filter::default(), direction, 5).expect("events");
            found.extend(page.events.iter().map(|event| event.position.entry));
            (at, passed) = (page.next, passed + page.gone);
            if !page.more {
                break;
            }
        }
        found.sort_unstable();
        assert_eq!(found, positions);
        assert_eq!(passed, gone.len() as u64);
    }
    for (feed, _) in kept.iter().map(|was| (&was.entry.feed, ())).collect::<BTreeMap<_, _>>() {
        let versions: Vec<_> =
            kept.iter().filter(|was| was.entry.feed == *feed).map(|was| was.entry.batch.events[0].version).collect();
        let stream = &kept.iter().find(|was| was.entry.feed == *feed).expect("one").entry.batch.events[0].stream;
        for (direction, from) in [(Direction::Forward, 0), (Direction::Backward, u64::MAX)] {
            let mut read: Vec<_> = log
                .read_stream(&feed.origin, stream, from, direction, usize::MAX)
                .expect("read")
                .iter()
                .map(|event| event.event.version)
                .collect();
            let one = log.read_stream(&feed.origin, stream, from, direction, 1).expect("read");
            assert_eq!(one.first().map(|event| event.event.version), read.first().copied(), "it does not end at a gap");
            read.sort_unstable();
            assert_eq!(read, versions);
        }
    }
    let mut scan = scan_entries(dir).expect("scan");
    for was in &before.entries {
        let scanned = scan.step().expect("step").expect("one");
        assert_eq!((scanned.position(), scanned.leaf()), (was.entry.position, was.row.leaf));
        assert_eq!(matches!(scanned, Scanned::Gone(_)), gone.contains(&was.entry.position));
    }
    assert_eq!((scan.step().expect("step").is_none(), scan.gone()), (true, gone.len() as u64));
}

fn steps() -> impl Strategy<Value = Vec<(usize, usize, i64)>> {
    prop::collection::vec((0..FEEDS.len(), 1..600_usize, 0..100_i64), 20..60)
}

fn policy() -> impl Strategy<Value = BTreeMap<Lane, i64>> {
    let lane = prop::sample::select(vec![Lane::Status, Lane::Content, Lane::Report, Lane::Emergency]);
    prop::collection::btree_map(lane, 1_000..4_000_i64, 1..4)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for item in fs::read_dir(from).expect("list") {
        let path = item.expect("item").path();
        let target = to.join(path.file_name().expect("name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copy");
        }
    }
}

/// Names and contents of the chunks.
pub(crate) fn chunks(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let items = fs::read_dir(dir.join(CHUNKS_DIR)).expect("list").map(|item| item.expect("item").path());
    items
        .map(|path| (path.file_name().expect("name").to_string_lossy().into_owned(), fs::read(&path).expect("read")))
        .collect()
}

fn thin_all(dir: &Path, policy: &BTreeMap<Lane, i64>) -> ThinReport {
    offline(dir, policy, u64::MAX, &SystemFiles, None).expect("thin")
}

async fn nothing_but_what_goes(steps: Vec<(usize, usize, i64)>, first: BTreeMap<Lane, i64>, later: i64) {
    let mut world = World::new();
    world.fill(&steps).await;
    let was = before(&world).await;
    let dir = world.dir.path();
    let [twice, once] = ["twice", "once"].map(|name| dir.join(name));
    copy(&dir.join(CHUNKS_DIR), &twice.join(CHUNKS_DIR));
    copy(&dir.join(CHUNKS_DIR), &once.join(CHUNKS_DIR));

    // While it is open: by what the library lets go at least an eighth for.
    let (log, _) = open(dir, &world.clock);
    let report = log.thin(&first, &|| true).expect("thin");
    let may_go = expected(&was, &first);
    let gone: BTreeSet<_> = may_go
        .iter()
        .copied()
        .filter(|position| report.chunks.contains(&was.entries[*position as usize].row.at.chunk))
        .collect();
    assert_eq!(report.entries(), gone.len() as u64);
    check(dir, &log, &was, &gone);
    let again = log.thin(&first, &|| true).expect("thin");
    assert_eq!(again, ThinReport { archived: 0, ..ThinReport::default() }, "nothing is left to do");
    let mut subscription = log.subscribe(0);
    for _ in 0..was.entries.len() - gone.len() {
        subscription.next().await.expect("next");
    }
    assert_eq!(subscription.gone(), gone.len() as u64);
    drop(subscription);
    log.close().await;
    let (report, found) = findings(dir);
    assert!(found.is_subset(&was.findings), "{:?}", found.difference(&was.findings));
    assert_eq!((report.entries, report.gone), (was.entries.len() as u64, gone.len() as u64));
    assert_eq!(report.root.as_ref(), was.roots.last());

    for rebuilt in [false, true] {
        if rebuilt {
            fs::remove_dir_all(dir.join("index")).expect("remove");
        }
        let (log, report) = open(dir, &world.clock);
        assert_eq!(matches!(report.index, IndexState::Rebuilt { .. }), rebuilt, "{:?}", report.index);
        check(dir, &log, &was, &gone);
        log.close().await;
    }

    // Each feed goes on; a duplicate is known; another batch in its place is refused.
    let (log, _) = open(dir, &world.clock);
    let batches = world.batches.clone();
    for (batch, entry) in batches.iter().filter_map(|batch| {
        let entry =
            was.entries.iter().find(|was| was.entry.feed == *batch.feed() && was.entry.sequence == batch.sequence());
        entry.map(|was| (batch, &was.entry))
    }) {
        let done = log.commit(Transaction::copy([batch.clone()])).await.expect("duplicate");
        let placed = &done.copied[0];
        assert_eq!((placed.duplicate, placed.position, placed.head.digest), (true, entry.position, entry.digest));
    }
    for feed in 0..FEEDS.len() {
        let (sealer, id, head) = world.feeds[feed].clone();
        if head.is_some() {
            let event =
                Event { id: vec![9; 16], stream: "x".into(), version: 1, r#type: "t.T".into(), ..Event::default() };
            let forged = sealer.seal(&id, None, 9, vec![event]).expect("seal");
            let refused = log.commit(Transaction::copy([forged])).await;
            assert!(matches!(refused, Err(CommitError::Refused(Refusal::Fork { .. }))), "{refused:?}");
        }
        let next = world.batch(feed, 10);
        log.commit(Transaction::copy([next])).await.expect("the feed goes on");
    }
    log.close().await;

    // Twice is once, byte for byte, however little goes each time.
    let second: BTreeMap<_, _> = first.iter().map(|(lane, at)| (*lane, at + later)).collect();
    thin_all(&twice, &first);
    thin_all(&twice, &second);
    thin_all(&once, &second);
    assert!(chunks(&twice) == chunks(&once));
    let (log, _) = open(&once, &world.clock);
    check(&once, &log, &was, &expected(&was, &second));
    log.close().await;
}

/// Each case opens real files again and again, so there are few unless more are asked for.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(8, |cases| cases.parse().expect("PROPTEST_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_went_is_proven_still_and_all_else_is_as_it_was(steps in steps(), first in policy(), later in 0..2_000_i64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(nothing_but_what_goes(steps, first, later));
    }
}

/// A log of which much can go: positions that go, and the policy.
pub(crate) async fn sample() -> (World, Before, BTreeMap<Lane, i64>) {
    let mut world = World::new();
    let steps: Vec<_> = (0..40).map(|n| (n % FEEDS.len(), 100 + 37 * (n % 7), 10)).collect();
    world.fill(&steps).await;
    let was = before(&world).await;
    (world, was, BTreeMap::from([(Lane::Status, 1_300), (Lane::Report, 5_000)]))
}

#[tokio::test]
async fn lanes_that_verify_everything_and_what_nobody_else_has_never_go() {
    let (world, ..) = sample().await;
    for lane in [Lane::Directory, Lane::Local] {
        let refused = thin(world.dir.path(), &BTreeMap::from([(lane, i64::MAX)]), None);
        assert!(matches!(refused, Err(KeepError::LaneStays { lane: named }) if named == lane));
    }
    let all = [Lane::Status, Lane::Report, Lane::Content, Lane::Emergency].map(|lane| (lane, i64::MAX));
    thin(world.dir.path(), &BTreeMap::from(all), None).expect("thin");
    let kept: Vec<_> = scan_entries(world.dir.path()).expect("scan").collect::<Result<_, _>>().expect("entries");
    let own = kept.iter().filter(|entry| entry.feed.origin.as_str() == "NDXP");
    assert_eq!(own.count(), 15, "the first, and one in three commits");
    let directory = kept.iter().filter(|entry| entry.feed.lane == Lane::Directory).count();
    assert_eq!(directory, world.batches.iter().filter(|batch| batch.feed().lane == Lane::Directory).count());
}

#[tokio::test]
async fn a_chunk_of_which_little_can_go_is_left_alone() {
    let (world, _, _) = sample().await;
    let was = chunks(world.dir.path());
    let policy = BTreeMap::from([(Lane::Emergency, 1_060)]);
    assert_eq!(thin(world.dir.path(), &policy, None).expect("thin").chunks, [0_u32; 0]);
    assert!(chunks(world.dir.path()) == was);
    assert_eq!(thin_all(world.dir.path(), &policy).chunks, [0], "it is the share that it lacks");
}

/// Every byte of it is under a checksum, and what is said names the file.
#[tokio::test]
async fn damage_of_a_thinned_chunk_is_found_wherever_it_is() {
    let (world, _, policy) = sample().await;
    let dir = world.dir.path();
    let number = thin_all(dir, &policy).chunks[1];
    let (name, path) = (places::thin_name(number), places::thin_path(&dir.join(CHUNKS_DIR), number));
    let good = fs::read(&path).expect("read");
    SystemFiles.set_readonly(&path, false).expect("writable");
    let clean = findings(dir).1;
    let index = dir.join("index");
    let kept = tempfile::tempdir().expect("dir");
    fs::rename(&index, kept.path().join("index")).expect("rename");
    // A prime number, so that all bits and all fields are met.
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, &bytes).expect("write");
        let report = audit(dir, AuditOptions::default()).expect("audit");
        let found = report.findings.iter().find(|finding| finding.chunk == name);
        assert!(found.is_some(), "byte {at}: {:?}", report.findings);
        if at % 77 == 0 {
            let opened = Log::open(dir, sealer("NDXP", 1), options(&world.clock));
            assert!(
                matches!(&opened, Err(OpenError::Damaged(damage)) if damage.chunk == name),
                "byte {at}: {opened:?}"
            );
            let _ = fs::remove_dir_all(&index);
        }
    }
    for length in [0, 63, 64, 200, good.len() - 41, good.len() - 1] {
        fs::write(&path, &good[..length]).expect("write");
        assert!(audit(dir, AuditOptions::default()).expect("audit").findings.iter().any(|found| found.chunk == name));
    }
    fs::write(&path, &good).expect("write");
    assert_eq!(findings(dir).1, clean);
}

/// Somebody who can make checksums right, and says that something else went.
/// Changes the first record of what went in a thinned chunk; gives the position of its entry.
fn forge(dir: &Path, number: u32, change: impl FnOnce(&mut GoneRecord)) -> u64 {
    let path = places::thin_path(&dir.join(CHUNKS_DIR), number);
    let mut bytes = fs::read(&path).expect("read");
    let header = scan::read_header(&path).expect("read").expect("long").expect("header");
    let seed = Seed::of(&header.log_id);
    let gone = scan::find_frame(&path, seed, 0, |frame| frame.kind == Kind::Gone).expect("read").expect("one");
    let start = gone.offset as usize;
    let end = start + frame_bytes(gone.header.length) as usize;
    let mut record = GoneRecord::decode(gone.header.position, &bytes[start + 20..end]).expect("record");
    change(&mut record);
    let mut frame = Vec::new();
    record.push(&mut frame, seed, gone.header.group);
    bytes.splice(start..end, frame);
    SystemFiles.set_readonly(&path, false).expect("writable");
    fs::write(&path, &bytes).expect("write");
    gone.header.position
}

#[tokio::test]
async fn a_forged_record_does_not_lead_to_the_root() {
    let (world, _, policy) = sample().await;
    let dir = world.dir.path();
    let number = thin_all(dir, &policy).chunks[1];
    forge(dir, number, |record| record.entry.leaf.0[0] ^= 1);
    let found = audit(dir, AuditOptions::default()).expect("audit").findings;
    assert!(
        found
            .iter()
            .any(|found| found.chunk == places::thin_name(number) && found.what.contains("another Merkle root"))
    );
    fs::remove_dir_all(dir.join("index")).expect("remove");
    let opened = Log::open(dir, sealer("NDXP", 1), options(&world.clock));
    assert!(matches!(opened, Err(OpenError::Damaged(damage)) if damage.what.contains("another Merkle root")));
}

#[tokio::test]
async fn what_a_cut_off_thinning_left_beside_a_chunk_does_not_hide_its_archive() {
    let (world, was, policy) = sample().await;
    let dir = world.dir.path();
    let whole = chunks(dir);
    thin_all(dir, &policy);
    for (name, bytes) in whole.iter().filter(|(name, _)| !dir.join(CHUNKS_DIR).join(name).exists()) {
        fs::write(dir.join(CHUNKS_DIR).join(name), bytes).expect("write");
    }
    let archive = tempfile::tempdir().expect("dir");
    let moved = crate::archive(dir, archive.path(), 1, None).expect("archive").moved;
    assert!(moved.len() > 2 && moved.iter().all(|number| !places::thin_path(&dir.join(CHUNKS_DIR), *number).exists()));
    let (log, _) = open(dir, &world.clock);
    check(dir, &log, &was, &BTreeSet::new());
    log.close().await;
}

#[tokio::test]
async fn a_damaged_row_of_the_table_costs_its_own_entry_alone() {
    let (world, was, policy) = sample().await;
    let dir = world.dir.path();
    let number = thin_all(dir, &policy).chunks[0];
    let path = places::thin_path(&dir.join(CHUNKS_DIR), number);
    let mut bytes = fs::read(&path).expect("read");
    let thin = Thin::open(&fs::File::open(&path).expect("open")).expect("read").expect("thin").expect("good");
    let harmed = thin.first + thin.entries - 2;
    bytes[(thin.table + (thin.entries - 2) * ROW_BYTES as u64) as usize] ^= 1;
    SystemFiles.set_readonly(&path, false).expect("writable");
    fs::write(&path, &bytes).expect("write");
    let (log, _) = open(dir, &world.clock);
    let kept: Vec<u64> = (thin.first..thin.next()).filter(|at| !expected(&was, &policy).contains(at)).collect();
    assert!(kept.len() > 1, "{kept:?}");
    for position in kept {
        let read = log.read(position, 1, usize::MAX);
        match read {
            Ok(entries) => {
                assert!(position != harmed && entries[0].bytes == was.entries[position as usize].entry.bytes)
            }
            Err(error) => assert!(position == harmed && error.to_string().contains("table"), "{position}: {error}"),
        }
    }
    log.close().await;
}

#[tokio::test]
async fn a_forged_record_is_not_believed_against_the_index() {
    let (world, was, policy) = sample().await;
    let dir = world.dir.path();
    let number = thin_all(dir, &policy).chunks[1];
    let position = forge(dir, number, |record| record.entry.sequence += 1);
    let (log, _) = open(dir, &world.clock);
    let entry = &was.entries[position as usize].entry;
    let read = log.batch_digest(&entry.feed, entry.sequence);
    assert!(
        matches!(&read, Err(ReadError::Damaged(damage)) if damage.what.contains("not what was written")),
        "{read:?}"
    );
    log.close().await;
}
