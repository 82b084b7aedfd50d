use std::fs;
use std::path::{Path, PathBuf};

use httt_node::models::SnapshotStore;

use super::common::*;

async fn two_snapshots_long() -> Place {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1), ("b", 2), ("a", 3)]).await;
    stop(place.models::<Toys>(&log).await, log).await;
    place
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Opens, checks the state, stores it, and checks that the next start takes that up.
async fn stands_and_mends(place: &Place, what: &str) {
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    models.read(|toys| toys.assert_is(&place.facts));
    stop(models, log).await;
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    models.read(|toys| toys.assert_is(&place.facts));
    let length = log.len();
    assert_eq!(models.read(Toys::from), [length; 3], "{what}: the snapshots are whole again");
    stop(models, log).await;
}

#[tokio::test]
async fn damaged_files_cost_a_fold_and_nothing_else() {
    let place = two_snapshots_long().await;
    let good = place.dir.path().join("good");
    copy(&place.models_dir(), &good);
    let names: Vec<_> = files(&good).iter().map(|path| path.strip_prefix(&good).unwrap().to_owned()).collect();
    assert!(names.iter().any(|name| name.ends_with("db")), "{names:?}");
    for name in names {
        let length = fs::metadata(good.join(&name)).unwrap().len() as usize;
        for (what, harm) in [
            ("emptied", Box::new(|_: Vec<u8>| Vec::new()) as Box<dyn Fn(Vec<u8>) -> Vec<u8>>),
            ("rubbish", Box::new(|bytes| vec![0xa5; bytes.len()])),
            ("zeros", Box::new(|bytes| vec![0; bytes.len()])),
            ("half", Box::new(|bytes| bytes[..bytes.len() / 2].to_vec())),
            (
                "early bytes flipped",
                Box::new(move |mut bytes| {
                    (0..length.min(2_000)).step_by(37).for_each(|at| bytes[at] ^= 0x40);
                    bytes
                }),
            ),
        ] {
            copy(&good, &place.models_dir());
            let path = place.models_dir().join(&name);
            fs::write(&path, harm(fs::read(&path).unwrap())).unwrap();
            stands_and_mends(&place, &format!("{} {what}", name.display())).await;
        }
        copy(&good, &place.models_dir());
        fs::remove_file(place.models_dir().join(&name)).unwrap();
        stands_and_mends(&place, &format!("{} removed", name.display())).await;
    }
    fs::remove_dir_all(place.models_dir()).unwrap();
    stands_and_mends(&place, "all removed").await;
}

#[tokio::test]
async fn a_snapshot_that_does_not_read_back_is_not_used() {
    let place = two_snapshots_long().await;
    let store = SnapshotStore::open(&place.models_dir()).unwrap();
    for (model, bytes) in [("sums", &b"[1,2"[..]), ("count", b" 3"), ("seen", b"{\"a\":1}")] {
        let mut snapshot = store.read(model).unwrap().unwrap();
        snapshot.bytes = bytes.to_vec();
        store.write(&snapshot).unwrap();
    }
    drop(store);
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 0]);
    models.read(|toys| toys.assert_is(&place.facts));
    stop(models, log).await;
}

#[tokio::test]
async fn snapshots_of_another_history_are_refused() {
    let mut place = two_snapshots_long().await;
    let backup = place.dir.path().join("backup");
    copy(&place.log_dir(), &backup);
    let before = place.facts.clone();
    let log = place.open().await;
    place.append(&log, &[("c", 4), ("c", 5)]).await;
    stop(place.models::<Toys>(&log).await, log).await;
    let ahead = place.dir.path().join("ahead");
    copy(&place.models_dir(), &ahead);

    // The log comes from a backup, the snapshots do not.
    copy(&backup, &place.log_dir());
    place.facts = before.clone();
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 0], "ahead of the log");
    models.read(|toys| toys.assert_is(&place.facts));
    drop(models);
    // It goes on with other events, past where the snapshots are.
    place.append(&log, &[("d", 6), ("d", 7), ("d", 8)]).await;
    log.close().await;
    copy(&ahead, &place.models_dir());
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 0], "another root");
    models.read(|toys| toys.assert_is(&place.facts));
    assert_equal(&models.compare().await.unwrap());
    stop(models, log).await;

    // Another log altogether, with the same events.
    let mut other = Place::new();
    let log = other.open().await;
    let facts: Vec<_> = place.facts.iter().map(|(stream, length)| (stream.as_str(), *length)).collect();
    other.append(&log, &facts).await;
    copy(&place.models_dir(), &other.models_dir());
    let models = other.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 0], "another log");
    models.read(|toys| toys.assert_is(&other.facts));
    stop(models, log).await;
}
