use httt_log::Log;
use httt_node::models::{ModelSet as _, SnapshotStore};
use proptest::prelude::*;

use super::common::*;

/// What happens to a node.
#[derive(Debug, Clone)]
enum Step {
    Append(u8, usize),
    Snapshot,
    Rebuild,
    /// Stops and starts with these versions: +1 for each bit that is set. With or without the last snapshot.
    Restart {
        versions: u8,
        clean: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_u8..3, 0_usize..5).prop_map(|(stream, length)| Step::Append(stream, length)),
        2 => Just(Step::Snapshot),
        1 => Just(Step::Rebuild),
        3 => (0_u8..8, any::<bool>()).prop_map(|(versions, clean)| Step::Restart { versions, clean }),
    ]
}

/// Lives until the next restart; gives the steps after it and the versions.
async fn live<const A: u32, const B: u32, const C: u32>(place: &mut Place, mut steps: &[Step]) -> (usize, u8) {
    let log: Log = place.open().await;
    let models = place.models::<Toys<A, B, C>>(&log).await;
    models.read(|toys| toys.assert_is(&place.facts));
    assert_equal(&models.compare().await.unwrap());
    let mut done = 0;
    while let [step, rest @ ..] = steps {
        (steps, done) = (rest, done + 1);
        match step {
            Step::Append(stream, length) => {
                let stream = format!("s{stream}");
                place.append(&log, &[(&stream, *length)]).await;
            }
            Step::Snapshot => {
                assert!(models.reached(log.len()).await);
                models.snapshot().await.unwrap();
            }
            Step::Rebuild => assert_equal(&models.rebuild().await.unwrap()),
            Step::Restart { versions, clean } => {
                if *clean {
                    stop(models, log).await;
                } else {
                    drop(models);
                    log.close().await;
                }
                return (done, *versions);
            }
        }
    }
    assert!(models.reached(log.len()).await);
    models.read(|toys| toys.assert_is(&place.facts));
    assert_equal(&models.compare().await.unwrap());
    stop(models, log).await;
    (done, 0)
}

async fn live_all(steps: Vec<Step>) {
    let mut place = Place::new();
    let (mut at, mut versions) = (0, 0);
    loop {
        let left = &steps[at..];
        let (done, next) = match versions {
            0 => live::<1, 1, 1>(&mut place, left).await,
            1 => live::<2, 1, 1>(&mut place, left).await,
            2 => live::<1, 2, 1>(&mut place, left).await,
            3 => live::<2, 2, 1>(&mut place, left).await,
            4 => live::<1, 1, 2>(&mut place, left).await,
            5 => live::<2, 1, 2>(&mut place, left).await,
            6 => live::<1, 2, 2>(&mut place, left).await,
            _ => live::<2, 2, 2>(&mut place, left).await,
        };
        (at, versions) = (at + done, next);
        if at == steps.len() {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::default() })]

    /// Whatever is appended, stored, rebuilt, cut off and started with whatever versions: the state is that of the log.
    #[test]
    fn state_is_a_fold_over_every_restart(steps in prop::collection::vec(step(), 1..16)) {
        tokio::runtime::Runtime::new().unwrap().block_on(live_all(steps));
    }
}

#[tokio::test]
async fn a_start_folds_only_what_each_model_lacks() {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1), ("b", 2), ("a", 3)]).await;
    let models = place.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 0], "nothing is stored yet");
    stop(models, log).await;

    let log = place.open().await;
    place.append(&log, &[("b", 4), ("c", 5)]).await;
    // A new version of the counter: itself alone.
    let models = place.models::<Toys<1, 1, 2>>(&log).await;
    assert_eq!(models.read(Toys::from), [3, 3, 0]);
    models.read(|toys| toys.assert_is(&place.facts));
    stop(models, log).await;

    let log = place.open().await;
    // A new version of what looks at the sums: the sums are folded along, the counter is not.
    let models = place.models::<Toys<1, 2, 2>>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 5]);
    models.read(|toys| toys.assert_is(&place.facts));
    stop(models, log).await;

    let log = place.open().await;
    // A new version of the sums: what looked at the old ones is worth nothing.
    let models = place.models::<Toys<2, 2, 2>>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 0, 5]);
    models.read(|toys| toys.assert_is(&place.facts));
    assert_equal(&models.compare().await.unwrap());
    stop(models, log).await;
}

#[tokio::test]
async fn a_model_that_is_older_than_what_it_looks_at_takes_that_back_with_it() {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1), ("a", 2)]).await;
    let models = place.models::<Toys>(&log).await;
    stop(models, log).await;
    let before = place.dir.path().join("before");
    copy(&place.models_dir(), &before);
    let log = place.open().await;
    place.append(&log, &[("a", 3)]).await;
    stop(place.models::<Toys>(&log).await, log).await;

    // As if a crash had come between the two: the sums are newer than what looked at them.
    let (old, new) = (SnapshotStore::open(&before).unwrap(), SnapshotStore::open(&place.models_dir()).unwrap());
    new.write(&old.read("seen").unwrap().unwrap()).unwrap();
    drop((old, new));
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    assert_eq!(models.read(Toys::from), [0, 2, 3]);
    models.read(|toys| toys.assert_is(&place.facts));
    assert_equal(&models.compare().await.unwrap());
    stop(models, log).await;
}

#[tokio::test]
async fn without_a_store_everything_is_folded_from_nothing() {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1), ("a", 2)]).await;
    let models = httt_node::models::Models::<Toys>::open(&log, None).await.unwrap();
    models.read(|toys| toys.assert_is(&place.facts));
    models.snapshot().await.unwrap();
    stop(models, log).await;
    assert!(!place.models_dir().exists());
    // A file in its place: warned of, and no reason not to start.
    std::fs::write(place.models_dir(), b"").unwrap();
    let options = httt_node::models::SnapshotOptions { dir: place.models_dir().join("under"), every: 1 };
    let log = place.open().await;
    let models = httt_node::models::Models::<Toys>::open(&log, Some(options)).await.unwrap();
    models.read(|toys| toys.assert_is(&place.facts));
    assert_eq!(models.read(|toys| toys.parts().len()), 3);
    stop(models, log).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_say_whether_they_got_where_they_were_awaited() {
    let mut place = Place::new();
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    place.append(&log, &[("a", 1)]).await;
    let length = log.len();
    assert!(models.reached(length).await);
    // Nobody follows a closed log: what is still awaited never comes.
    log.close().await;
    assert!(!models.reached(length + 1).await);
    assert!(models.reached(length).await, "what is known stays known");
}
