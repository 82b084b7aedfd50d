use std::sync::atomic::Ordering;

use httt_node::models::Verdict;

use super::common::*;

/// One test, because the liar is one for the whole process.
#[tokio::test]
async fn a_model_that_breaks_or_lies_is_shown_and_the_others_go_on() {
    let mut place = Place::new();
    let log = place.open().await;
    place.append(&log, &[("a", 1), ("b", 2)]).await;
    let models = place.models::<Crooks>(&log).await;
    assert_equal(&models.compare().await.unwrap());

    LIES.store(true, Ordering::SeqCst);
    place.append(&log, &[("a", 3)]).await;
    assert!(models.reached(log.len()).await);
    let compared = models.compare().await.unwrap();
    assert_eq!(of(&compared, "liar").verdict, Verdict::Differs);
    assert_eq!(of(&compared, "panicker").verdict, Verdict::Equal);
    assert_eq!(of(&compared, "count").verdict, Verdict::Equal);

    // What was folded wrongly once stays wrong, over a restart too, until it is rebuilt.
    LIES.store(false, Ordering::SeqCst);
    stop(models, log).await;
    let log = place.open().await;
    let models = place.models::<Crooks>(&log).await;
    assert_eq!(of(&models.compare().await.unwrap(), "liar").verdict, Verdict::Differs);
    let compared = models.rebuild().await.unwrap();
    assert_eq!(of(&compared, "liar").verdict, Verdict::Differs, "what it was before");
    assert_eq!(of(&compared, "count").position, 3);
    assert_equal(&models.compare().await.unwrap());
    // It was stored right away: no clean stop is needed.
    drop(models);
    log.close().await;
    let log = place.open().await;
    let models = place.models::<Crooks>(&log).await;
    assert_equal(&models.compare().await.unwrap());

    place.append(&log, &[("boom", 1), ("a", 4)]).await;
    assert!(models.reached(log.len()).await);
    let compared = models.compare().await.unwrap();
    let broken = of(&compared, "panicker");
    assert_eq!((broken.verdict, broken.equal), (Verdict::Failed, false));
    assert!(broken.problem.contains("position 3") && broken.problem.contains("nobody thought of"), "{broken:?}");
    assert!(of(&compared, "count").equal && of(&compared, "liar").equal);
    assert_eq!(models.read(|crooks| crooks.count.0), 5);
    // A broken state is never stored: after the rules are mended the model goes on from before it broke.
    stop(models, log).await;
    let stored = httt_node::models::SnapshotStore::open(&place.models_dir()).unwrap();
    assert_eq!(stored.read("panicker").unwrap().unwrap().position, 3);
    assert_eq!(stored.read("count").unwrap().unwrap().position, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_under_appends_loses_nothing() {
    let mut place = Place::new();
    let log = place.open().await;
    let models = place.models::<Toys>(&log).await;
    for round in 0..20 {
        let rebuild = models.rebuild();
        let facts = [("a", round), ("b", round)];
        let append = place.append(&log, &facts);
        let (compared, ()) = tokio::join!(rebuild, append);
        assert_equal(&compared.unwrap());
    }
    assert!(models.reached(log.len()).await);
    models.read(|toys| toys.assert_is(&place.facts));
    assert_equal(&models.compare().await.unwrap());
    assert_eq!(models.progress(), None, "nothing is under way");
    stop(models, log).await;
}
