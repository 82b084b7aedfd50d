//! The folder's limit, quotas of members, and what goes when.

use std::fs::FileTimes;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::super::ledger::PART_IDLE;
use super::*;

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// A store with a clock that the test moves.
struct Bench {
    folder: tempfile::TempDir,
    store: MediaStore,
    now: Arc<AtomicI64>,
    config: MediaConfig,
}

impl Bench {
    fn new(config: MediaConfig) -> Self {
        let now = Arc::new(AtomicI64::new(1_800_000_000_000));
        let folder = tempfile::tempdir().expect("folder");
        let store = Self::open(&folder, &config, &now);
        Self { folder, store, now, config }
    }

    fn open(folder: &tempfile::TempDir, config: &MediaConfig, now: &Arc<AtomicI64>) -> MediaStore {
        let clock = Arc::clone(now);
        MediaStore::open_at(folder.path(), config, Arc::new(move || clock.load(Ordering::SeqCst))).expect("opens")
    }

    fn reopen(&mut self) {
        self.store = Self::open(&self.folder, &self.config, &self.now);
    }

    fn pass(&self, ms: i64) {
        self.now.fetch_add(ms, Ordering::SeqCst);
    }

    async fn put(&self, number: u8, size: usize) -> Digest {
        self.store.put_bytes(file(number, size)).await.expect("stored")
    }

    async fn held(&self, digests: &[Digest]) -> Vec<bool> {
        let mut held = Vec::new();
        for digest in digests {
            held.push(self.store.stat(*digest).await.expect("stat").complete);
        }
        held
    }

    /// Bytes that are really in the folder.
    fn on_disk(&self) -> u64 {
        let mut sum = 0;
        files::walk(self.folder.path(), &mut |_, metadata| sum += metadata.len()).expect("walk");
        sum
    }
}

fn file(number: u8, size: usize) -> Bytes {
    vec![number; size].into()
}

fn digest(number: u8, size: usize) -> Digest {
    Digest::of(&file(number, size))
}

fn small(max_store_bytes: u64) -> MediaConfig {
    MediaConfig::folder(1_000.min(max_store_bytes), max_store_bytes)
}

#[tokio::test]
async fn a_full_cache_drops_what_was_not_used_for_longest() {
    let bench = Bench::new(small(1_000));
    bench.store.pin(Pinned::nothing);
    let [a, b, c] = [bench.put(1, 300).await, bench.put(2, 300).await, bench.put(3, 300).await];
    bench.store.read_range(a, 0, 1).await.expect("used");
    let d = bench.put(4, 300).await;
    assert_eq!(bench.held(&[a, b, c, d]).await, [true, false, true, true]);
    let usage = bench.store.usage().await.expect("usage");
    assert_eq!((usage.files, usage.file_bytes, usage.dropped, usage.lost), (3, 900, 1, 0));
}

#[tokio::test]
async fn what_must_stay_stays_and_a_full_store_says_so() {
    let bench = Bench::new(small(1_000));
    let (a, b) = (bench.put(1, 400).await, bench.put(2, 400).await);
    bench.store.pin(move || Pinned::These([a].into()));
    let c = bench.put(3, 500).await;
    assert_eq!(bench.held(&[a, b, c]).await, [true, false, true]);
    bench.store.pin(|| Pinned::All);
    let refused = bench.store.put_bytes(file(4, 200)).await.expect_err("full");
    assert!(matches!(refused, MediaStoreError::Full { used: 900, limit: 1_000, needed: 200 }), "{refused}");
    let said = refused.to_string();
    assert!(said.contains("900 of 1000") && said.contains("max_store_bytes"), "{said}");
    assert_eq!(bench.held(&[a, c]).await, [true, true]);
    assert_eq!(bench.on_disk(), 900, "nothing of the refused file is left");
}

#[tokio::test]
async fn before_anybody_says_what_must_stay_nothing_goes() {
    let bench = Bench::new(small(500));
    let a = bench.put(1, 400).await;
    assert!(matches!(bench.store.put_bytes(file(2, 400)).await, Err(MediaStoreError::Full { .. })));
    assert_eq!(bench.held(&[a]).await, [true]);
}

#[tokio::test]
async fn what_would_not_make_enough_room_is_not_dropped_for_nothing() {
    let bench = Bench::new(small(1_000));
    let (a, b) = (bench.put(1, 800).await, bench.put(2, 100).await);
    bench.store.pin(move || Pinned::These([a].into()));
    assert!(matches!(bench.store.put_bytes(file(3, 300)).await, Err(MediaStoreError::Full { used: 800, .. })));
    assert_eq!(bench.held(&[a, b]).await, [true, true]);
}

#[tokio::test]
async fn which_file_was_used_last_is_known_after_a_restart() {
    let mut bench = Bench::new(small(1_000));
    let (a, b) = (bench.put(1, 400).await, bench.put(2, 400).await);
    for digest in [a, b] {
        let file = std::fs::File::options().write(true).open(bench.store.path(digest)).expect("file");
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_000);
        file.set_times(FileTimes::new().set_modified(at)).expect("as if written long ago");
    }
    bench.reopen();
    bench.store.pin(Pinned::nothing);
    bench.store.read_range(a, 0, 1).await.expect("used");
    bench.reopen();
    bench.store.pin(Pinned::nothing);
    bench.put(3, 400).await;
    assert_eq!(bench.held(&[a, b]).await, [true, false]);
}

#[tokio::test]
async fn a_store_opened_with_a_smaller_limit_shrinks_when_something_comes() {
    let mut bench = Bench::new(small(1_000));
    for number in 1..=3 {
        bench.put(number, 300).await;
    }
    bench.config.max_store_bytes = 500;
    bench.config.max_file_bytes = 500;
    bench.reopen();
    bench.store.pin(Pinned::nothing);
    bench.put(4, 300).await;
    assert!(bench.on_disk() <= 500, "{}", bench.on_disk());
}

#[tokio::test]
async fn a_member_has_so_many_unfinished_files_and_no_more() {
    let mut config = MediaConfig::folder(1_000, 100_000);
    (config.max_member_parts, config.max_member_part_bytes) = (2, 1_500);
    let bench = Bench::new(config);
    let begin = async |member: &str, number: u8, bytes: usize| {
        let piece = file(number, bytes);
        bench.store.write_for(member, digest(number, 1_000), 1_000, 0, piece).await
    };
    begin("H24", 1, 900).await.expect("first");
    begin("H24", 2, 500).await.expect("second");
    let refused = begin("H24", 3, 1).await.expect_err("third");
    assert!(matches!(refused, MediaStoreError::Quota { parts: 2, bytes: 1_400, .. }), "{refused}");
    // Another member has its own; and who finishes one may begin another.
    begin("H55", 3, 1).await.expect("another's");
    let too_much = bench.store.write_for("H24", digest(2, 1_000), 1_000, 500, file(2, 200)).await;
    assert!(matches!(too_much, Err(MediaStoreError::Quota { .. })));
    let done = bench.store.write_for("H24", digest(1, 1_000), 1_000, 900, file(1, 100)).await;
    assert!(done.expect("finished").complete);
    begin("H24", 3, 1).await.expect("there is a place again");
    let usage = bench.store.usage().await.expect("usage");
    assert_eq!(usage.members.into_iter().collect::<Vec<_>>(), [("H24".into(), (2, 501)), ("H55".into(), (1, 1))]);
}

#[tokio::test]
async fn a_part_that_nobody_continues_for_a_day_goes() {
    let mut bench = Bench::new(small(1_000));
    bench.store.pin(|| Pinned::All);
    let (slow, dead) = (digest(1, 1_000), digest(2, 1_000));
    bench.store.write_for("H24", slow, 1_000, 0, file(1, 100)).await.expect("begun");
    bench.store.write_for("H55", dead, 1_000, 0, file(2, 100)).await.expect("begun");
    bench.pass(DAY_MS - 1);
    bench.store.write_for("H24", slow, 1_000, 100, file(1, 100)).await.expect("continued");
    bench.pass(2);
    assert_eq!(bench.store.usage().await.expect("usage").parts, 1);
    assert_eq!(bench.store.stat_for("H55", dead).await.expect("stat").held, 0);
    assert_eq!(bench.store.stat_for("H24", slow).await.expect("stat").held, 200);
    assert_eq!(bench.on_disk(), 200);

    // Across a restart too. The machine's clock dated the part, so the test's goes there.
    let at = std::time::SystemTime::now() + PART_IDLE + std::time::Duration::from_secs(60);
    let at = at.duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_millis();
    bench.now.store(i64::try_from(at).expect("fits"), Ordering::SeqCst);
    bench.reopen();
    assert_eq!(bench.on_disk(), 0);
}

#[tokio::test]
async fn a_file_that_vanished_is_told_and_can_come_again() {
    let bench = Bench::new(small(1_000));
    let a = bench.put(1, 400).await;
    let mut losses = bench.store.losses();
    assert!(bench.store.knows(a));
    std::fs::remove_file(bench.store.path(a)).expect("removed behind the store's back");
    assert!(matches!(bench.store.read_range(a, 0, 10).await, Err(MediaStoreError::NotFound(_))));
    losses.changed().await.expect("told");
    assert!(!bench.store.knows(a));
    let usage = bench.store.usage().await.expect("usage");
    assert_eq!((usage.files, usage.file_bytes, usage.lost), (0, 0, 1));
    bench.put(1, 400).await;
    assert!(bench.store.knows(a));
}

#[test]
fn limits_that_let_nothing_in_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    for (key, config) in [
        ("max_file_bytes", MediaConfig { max_file_bytes: 0, ..MediaConfig::default() }),
        ("max_store_bytes", MediaConfig { max_store_bytes: 1, ..MediaConfig::default() }),
        ("max_member_part_bytes", MediaConfig { max_member_part_bytes: 1, ..MediaConfig::default() }),
        ("max_member_parts", MediaConfig { max_member_parts: 0, ..MediaConfig::default() }),
        ("s3", MediaConfig { store: StoreKind::S3, ..MediaConfig::default() }),
    ] {
        let refused = MediaStore::open(folder.path(), &config).expect_err(key);
        assert!(matches!(refused, MediaStoreError::Config { key: named, .. } if named == key), "{refused}");
    }
}

/// What somebody does to the store.
#[derive(Debug, Clone)]
enum Act {
    Put(u8, usize),
    Part(u8, usize),
    Read(u8, usize),
    Pass(i64),
    Reopen,
}

fn act() -> impl Strategy<Value = Act> {
    let (number, size) = (0..6u8, 1..400usize);
    prop_oneof![
        4 => (number.clone(), size.clone()).prop_map(|(number, size)| Act::Put(number, size)),
        3 => (number.clone(), size.clone()).prop_map(|(number, size)| Act::Part(number, size)),
        2 => (number, size).prop_map(|(number, size)| Act::Read(number, size)),
        1 => (0..DAY_MS * 2).prop_map(Act::Pass),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is done, the folder keeps to its limit, the count is what is on disk, and pinned files stay.
    #[test]
    fn the_folder_keeps_to_its_limit(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let mut bench = Bench::new(small(1_000));
            let pinned = bench.put(99, 350).await;
            let pin = |store: &MediaStore| store.pin(move || Pinned::These([pinned].into()));
            pin(&bench.store);
            for act in acts {
                match act {
                    Act::Put(number, size) => drop(bench.store.put_bytes(file(number, size)).await),
                    Act::Part(number, size) => {
                        let digest = digest(number, 800);
                        let held = bench.store.stat_for("H24", digest).await.expect("stat").held;
                        let piece = file(number, size.min(800 - usize::try_from(held).expect("fits")));
                        drop(bench.store.write_for("H24", digest, 800, held, piece).await);
                    }
                    Act::Read(number, size) => drop(bench.store.read_range(digest(number, size), 0, 10).await),
                    Act::Pass(ms) => bench.pass(ms),
                    Act::Reopen => {
                        bench.reopen();
                        pin(&bench.store);
                    }
                }
                let usage = bench.store.usage().await.expect("usage");
                prop_assert_eq!(usage.file_bytes + usage.part_bytes, bench.on_disk());
                prop_assert!(bench.on_disk() <= 1_000);
                prop_assert!(bench.held(&[pinned]).await[0]);
                prop_assert_eq!(usage.lost, 0);
            }
            Ok(())
        })?;
    }
}
