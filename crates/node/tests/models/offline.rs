use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use httt_log::StoreError;
use httt_node::models::offline::{self, OfflineError};
use httt_node::models::{Comparison, SnapshotError, SnapshotStore, Verdict};

use super::common::*;

fn compare<const A: u32>(place: &Place) -> Vec<Comparison> {
    let scratch = tempfile::tempdir().unwrap();
    let mut told = 0;
    let compared =
        offline::compare::<Toys<A>>(&place.log_dir(), &place.models_dir(), scratch.path(), &mut |progress| {
            assert!(progress.position >= told);
            told = progress.position;
        });
    assert_eq!(told, place.facts.len() as u64, "the whole log was passed");
    compared.unwrap()
}

fn contents(place: &Place) -> BTreeMap<std::path::PathBuf, (u64, SystemTime)> {
    fn add(dir: &std::path::Path, found: &mut BTreeMap<std::path::PathBuf, (u64, SystemTime)>) {
        for item in fs::read_dir(dir).unwrap() {
            let (path, data) = item.map(|item| (item.path(), item.metadata().unwrap())).unwrap();
            if data.is_dir() {
                add(&path, found);
            } else {
                found.insert(path, (data.len(), data.modified().unwrap()));
            }
        }
    }
    let mut found = BTreeMap::new();
    add(&place.models_dir(), &mut found);
    add(&place.log_dir(), &mut found);
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_are_judged_from_the_folder() {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1), ("b", 2)]).await;
    assert!(compare::<1>(&place).iter().all(|one| one.verdict == Verdict::Absent && !one.rebuilt.is_empty()));
    assert!(!place.models_dir().exists(), "looking makes nothing");
    let models = place.models::<Toys>(&log).await;
    models.snapshot().await.unwrap();
    place.append(&log, &[("a", 3)]).await;
    assert!(models.reached(3).await);

    // While the node runs: at the snapshots' position, which is before the log's end.
    let compared = compare::<1>(&place);
    assert_equal(&compared);
    assert!(compared.iter().all(|one| one.position == 2));
    let busy = offline::rebuild::<Toys>(&place.log_dir(), &place.models_dir(), &mut |_| ()).unwrap_err();
    assert!(matches!(busy, OfflineError::Snapshot(SnapshotError::Store(StoreError::InUse(_)))), "{busy}");
    stop(models, log).await;

    let before = contents(&place);
    let compared = compare::<1>(&place);
    assert_equal(&compared);
    assert!(compared.iter().all(|one| one.position == 3));
    assert_eq!(contents(&place), before, "a comparison changes nothing");
    let outdated = compare::<2>(&place);
    assert_eq!(of(&outdated, "sums").verdict, Verdict::Outdated);
    assert_eq!(of(&outdated, "seen").verdict, Verdict::Outdated);
    assert_eq!(of(&outdated, "count").verdict, Verdict::Equal);

    // Somebody wrote what no fold leads to, another history, and nonsense.
    let store = SnapshotStore::open(&place.models_dir()).unwrap();
    let mut count = store.read("count").unwrap().unwrap();
    count.bytes = b"4".to_vec();
    store.write(&count).unwrap();
    let mut seen = store.read("seen").unwrap().unwrap();
    seen.root.0[0] ^= 1;
    store.write(&seen).unwrap();
    let mut sums = store.read("sums").unwrap().unwrap();
    sums.position = 9;
    store.write(&sums).unwrap();
    drop(store);
    let compared = compare::<1>(&place);
    let verdicts = ["count", "seen", "sums"].map(|model| of(&compared, model).verdict);
    assert_eq!(verdicts, [Verdict::Differs, Verdict::Refused, Verdict::Refused]);
    assert!(of(&compared, "sums").problem.contains("the log ends at 3"), "{compared:?}");

    let rebuilt = offline::rebuild::<Toys>(&place.log_dir(), &place.models_dir(), &mut |_| ()).unwrap();
    assert_eq!(of(&rebuilt, "count").verdict, Verdict::Differs, "as it was before");
    assert_equal(&compare::<1>(&place));
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [3, 3, 3], "what was rebuilt is taken up");
    models.read(|toys| toys.assert_is(&place.facts));
    stop(models, log).await;
}

#[tokio::test]
async fn a_broken_store_is_refused_and_rebuilt() {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1)]).await;
    stop(place.models::<Toys>(&log).await, log).await;
    let conf = place.models_dir().join("conf");
    let mut bytes = fs::read(&conf).unwrap();
    bytes[0] ^= 1;
    fs::write(&conf, bytes).unwrap();
    assert!(compare::<1>(&place).iter().all(|one| one.verdict == Verdict::Refused));
    offline::rebuild::<Toys>(&place.log_dir(), &place.models_dir(), &mut |_| ()).unwrap();
    assert_equal(&compare::<1>(&place));
}
