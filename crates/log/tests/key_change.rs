//! A log whose node changes its key goes on, and proves, with both.

use std::sync::Arc;

use httt_feed::{AgencyCode, Audience, FeedId, KeyId, Lane, Sealer, SigningKey, parse};
use httt_log::{Log, NewEvent, Options, Transaction};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32]).expect("seed")
}

fn code() -> AgencyCode {
    AgencyCode::new("H24").expect("code")
}

fn feed() -> FeedId {
    "H24→TW/report".parse().expect("feed")
}

async fn say(log: &Log, stream: &str) {
    let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: stream.into(), reason: "r".into() };
    let event = NewEvent::of(Audience::new("TW").expect("audience"), Lane::Report, stream, &said);
    log.commit(Transaction::append([event])).await.expect("commits");
}

fn keys(log: &Log) -> Vec<KeyId> {
    let entries = log.read_feed(&feed(), 0, usize::MAX).expect("reads");
    entries.into_iter().map(|entry| parse(entry.bytes).expect("parses").key()).collect()
}

#[tokio::test]
async fn what_is_committed_after_the_change_is_sealed_with_the_new_key_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let open = |seed| Log::open(dir.path(), Arc::new(Sealer::new(code(), key(seed))), Options::default());
    let (log, _) = open(1).expect("opens");
    say(&log, "a").await;
    say(&log, "b").await;
    log.change_key(key(2));
    assert_eq!(&log.public_key(), key(2).public());
    say(&log, "c").await;
    let (old, new) = (key(1).public().id(), key(2).public().id());
    assert_eq!(keys(&log), [old, old, new]);
    assert_eq!(log.last_sealed_before(&feed(), old).expect("reads"), Some(2));
    assert_eq!(log.last_sealed_before(&feed(), key(3).public().id()).expect("reads"), None);
    // The checkpoint is by the new key; the log opens with it and goes on.
    let checkpoint = log.write_checkpoint().await.expect("checkpoint");
    let vkey = log.vkey().expect("Ed25519");
    let signed = httt_log::tlog::SignedCheckpoint::parse(&checkpoint).expect("parses");
    assert_eq!(signed.signers(&[vkey]).expect("verifies").len(), 1);
    log.close().await;
    let (log, report) = open(2).expect("opens");
    assert_eq!(report.entries, 3);
    say(&log, "d").await;
    assert_eq!(keys(&log), [old, old, new, new]);
    log.close().await;
}

/// A crash may come between the files' switch and the next checkpoint.
#[tokio::test]
async fn a_log_opens_with_the_new_key_though_the_old_one_signed_its_checkpoint() {
    let dir = tempfile::tempdir().expect("dir");
    let open = |seed| Log::open(dir.path(), Arc::new(Sealer::new(code(), key(seed))), Options::default());
    let (log, _) = open(1).expect("opens");
    say(&log, "a").await;
    log.write_checkpoint().await.expect("checkpoint");
    log.close().await;
    let (log, _) = open(2).expect("opens");
    say(&log, "b").await;
    assert_eq!(keys(&log), [key(1).public().id(), key(2).public().id()]);
    log.close().await;
}
