//! A log of which entries went: what was folded stays, what is rebuilt says what it lacks.

use std::collections::BTreeMap;

use httt_feed::{FeedId, Lane, Sealer, SigningKey, VerifiedBatch};
use httt_log::{Log, Options, Transaction, thin};
use httt_node::models::{Comparison, Models, SnapshotOptions, Verdict, offline};
use httt_wire::feed::Event;

use super::common::*;

const ENTRIES: u64 = 40;

async fn open(place: &Place) -> Log {
    place.open_as("NDXP", Options { chunk_bytes: 4_000, ..Options::default() }).await
}

/// Others' status, each with one event.
fn status() -> Vec<VerifiedBatch> {
    let feed: FeedId = "H24→TW/status".parse().unwrap();
    let sealer = Sealer::new(feed.origin.clone(), SigningKey::from_seed(&[2; 32]).unwrap());
    let mut head = None;
    let batches = (1..=ENTRIES).map(|version| {
        let event = Event {
            id: uuid::Uuid::from_u128(version.into()).as_bytes().to_vec(),
            stream: "clusters".into(),
            version,
            r#type: "test.v1.Said".into(),
            data: vec![7; 300].into(),
            ..Event::default()
        };
        let batch = sealer.seal(&feed, head.as_ref(), 0, vec![event]).unwrap();
        head = Some(batch.head());
        batch
    });
    batches.collect()
}

fn policy() -> BTreeMap<Lane, i64> {
    BTreeMap::from([(Lane::Status, i64::MAX)])
}

fn snapshots(place: &Place) -> SnapshotOptions {
    SnapshotOptions { dir: place.models_dir(), every: 1_000 }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_folded_stays_over_a_restart_and_a_rebuild_says_what_it_lacks() {
    let place = Place::new();
    let log = open(&place).await;
    for batch in status() {
        log.commit(Transaction::copy([batch])).await.unwrap();
    }
    let models = Models::<Toys>::open(&log, Some(snapshots(&place))).await.unwrap();
    let gone = log.thin(&policy(), &|| true).unwrap().entries();
    assert!(gone > 10);

    let compared = models.compare().await.unwrap();
    for one in &compared {
        assert_eq!((one.verdict, one.equal), (Verdict::NotComparable, false), "{one:?}");
        assert!(one.problem.contains(&format!("{gone} entries")) && !one.verdict.is_alarming());
    }
    stop(models, log).await;

    let log = open(&place).await;
    let models = Models::<Toys>::open(&log, Some(snapshots(&place))).await.unwrap();
    let counted = |models: &Models<Toys>| models.read(|toys| toys.count.0);
    assert_eq!(counted(&models), ENTRIES, "by the snapshot, without what went");
    models.rebuild().await.unwrap();
    assert_eq!(counted(&models), ENTRIES - gone, "the log has no more");
    assert_equal(&models.compare().await.unwrap());
    stop(models, log).await;
}

/// A snapshot may stand where entries went before and after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_is_compared_at_positions_that_went() {
    let place = Place::new();
    let log = open(&place).await;
    let batches = status();
    for batch in &batches[..15] {
        log.commit(Transaction::copy([batch.clone()])).await.unwrap();
    }
    let models = Models::<Toys>::open(&log, Some(snapshots(&place))).await.unwrap();
    models.snapshot().await.unwrap();
    // As after a crash: the snapshots stay there.
    models.close().await;
    for batch in &batches[15..] {
        log.commit(Transaction::copy([batch.clone()])).await.unwrap();
    }
    log.write_checkpoint().await.unwrap();
    drop(models);
    log.close().await;
    // Whoever followed it is gone as well.
    open(&place).await.close().await;
    let whole = compare(&place);
    assert!(whole.iter().all(|one| one.equal && one.position == 15), "{whole:?}");
    let gone = thin(&place.log_dir(), &policy(), None).unwrap();
    assert!(gone.entries() > 20);
    let compared = compare(&place);
    assert!(compared.iter().all(|one| one.position == 15 && one.verdict == Verdict::NotComparable), "{compared:?}");
    assert!(compared.iter().all(|one| one.problem.contains("15 entries")), "only those before it: {compared:?}");
}

fn compare(place: &Place) -> Vec<Comparison> {
    let scratch = tempfile::tempdir().unwrap();
    offline::compare::<Toys>(&place.log_dir(), &place.models_dir(), scratch.path(), &mut |_| ()).unwrap()
}
