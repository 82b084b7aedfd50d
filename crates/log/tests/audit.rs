//! An audit proves a whole log from its files, and names what is wrong with it.

mod common;

use std::path::Path;

use common::{Foreign, append, chunk, open, options, overwrite, sealer, small_chunks, try_open_with};
use httt_feed::{Audience, Lane, SigningKey};
use httt_log::{AuditOptions, AuditReport, Finding, GatewayKey, Log, NewEvent, Transaction, audit};
use httt_wire::directory::{
    BatchesAdmitted, KeyAdded, KeyRevoked, LastAccepted, LogOpened, MemberEnrolled, MemberKind,
};
use httt_wire::{Message, Name};

fn opened(log: &Log) -> Transaction {
    let message = LogOpened {
        member: "H24".into(),
        log_id: log.log_id().to_vec(),
        key: Some(sealer("H24", 1).key().public().to_wire()),
        software: "test".into(),
    };
    Transaction::append([NewEvent::of(Audience::All, Lane::Local, "log", &message)])
}

/// The gateway's directory feed.
struct Gateway {
    feed: Foreign,
    version: u64,
}

impl Gateway {
    fn new() -> Self {
        Self { feed: Foreign::new("NDXP→*/directory", 9), version: 0 }
    }

    fn says<M: Message + Name>(&mut self, message: &M) -> httt_wire::feed::Event {
        self.version += 1;
        let mut event = self.feed.event("directory", self.version, "");
        event.r#type = M::full_name();
        event.data = message.encode_to_vec().into();
        event
    }

    fn enrolls(&mut self, member: &str, kind: MemberKind, seed: u8) -> Vec<httt_wire::feed::Event> {
        let enrolled = MemberEnrolled { member: member.into(), kind: kind.into(), ..MemberEnrolled::default() };
        let key = Some(sealer(member, seed).key().public().to_wire());
        let added = KeyAdded { member: member.into(), key };
        vec![self.says(&enrolled), self.says(&added)]
    }

    fn fingerprint(&self) -> httt_feed::Fingerprint {
        self.feed.sealer.key().public().fingerprint()
    }
}

/// A node's log as a node writes it: its key, the directory, own events and copies of a member's feed.
async fn whole_log(dir: &Path) -> (Gateway, Foreign) {
    let (log, _) = try_open_with(dir, small_chunks(2_000)).expect("open");
    log.commit(opened(&log)).await.expect("commit");
    let mut gateway = Gateway::new();
    let mut events = gateway.enrolls("NDXP", MemberKind::Gateway, 9);
    events.extend(gateway.enrolls("TW", MemberKind::Central, 8));
    let first = gateway.feed.seal(events);
    let mut central = Foreign::new("TW→*/content", 8);
    log.commit(Transaction::copy([first])).await.expect("copy");
    for id in 0..6 {
        log.commit(append("s", id, "x")).await.expect("commit");
        log.commit(Transaction::copy(central.batches(1))).await.expect("copy");
    }
    log.close().await;
    (gateway, central)
}

fn check(dir: &Path, trusted: Option<httt_feed::Fingerprint>) -> AuditReport {
    audit(dir, AuditOptions { trusted, ..AuditOptions::default() }).expect("audit")
}

#[tokio::test]
async fn a_good_log_is_clean() {
    let dir = tempfile::tempdir().expect("dir");
    let (gateway, central) = whole_log(dir.path()).await;
    let mut told = Vec::new();
    let options = AuditOptions {
        trusted: Some(gateway.fingerprint()),
        on_progress: Some(Box::new(|progress| told.push(*progress))),
    };
    let report = audit(dir.path(), options).expect("audit");
    assert_eq!(report.findings, []);
    assert!(report.is_clean());
    assert_eq!((report.entries, report.events, report.unchecked_own), (14, 17, 0));
    assert_eq!(report.own_key, Some(sealer("H24", 1).key().public().fingerprint()));
    let key = GatewayKey { fingerprint: gateway.fingerprint(), taken_from_log: false };
    assert_eq!(report.gateway_key, Some(key));
    assert!(report.checkpoint.is_some_and(|checkpoint| checkpoint.ok && checkpoint.size == 14));
    let head = report.heads.iter().find(|head| head.feed == central.feed).expect("central");
    assert_eq!(Some(head.head), central.head);
    assert!(told.last().is_some_and(|last| last.bytes == last.total_bytes && last.entries == 14));
    let log = open(dir.path());
    assert_eq!(report.root, Some(log.root(14).expect("root")));
    assert_eq!(report.log_id, Some(log.log_id()));
    log.close().await;
    // A copy without lock, index and checkpoint can be audited as well.
    for item in ["lock", "checkpoint"] {
        std::fs::remove_file(dir.path().join(item)).expect("remove");
    }
    std::fs::remove_dir_all(dir.path().join("index")).expect("remove");
    let report = check(dir.path(), None);
    assert_eq!((report.findings, report.checkpoint), (vec![], None));
    // The key is told to come from the log itself.
    let key = GatewayKey { fingerprint: gateway.fingerprint(), taken_from_log: true };
    assert_eq!(report.gateway_key, Some(key));
    assert!(!dir.path().join("lock").exists(), "an audit writes nothing");
}

#[tokio::test]
async fn another_gateway_than_the_trusted_one_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    whole_log(dir.path()).await;
    let other = SigningKey::from_seed(&[77; 32]).expect("seed").public().fingerprint();
    let report = check(dir.path(), Some(other));
    only(&report, 1, "no batch of the directory is signed by the key");
}

fn only(report: &AuditReport, position: u64, what: &str) {
    let found: Vec<&Finding> = report.findings.iter().collect();
    assert!(
        found.len() == 1 && found[0].position == position && found[0].what.contains(what),
        "expected only {what:?} at {position}: {found:?}"
    );
}

#[tokio::test]
async fn what_should_not_have_been_stored_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut gateway, mut central) = whole_log(dir.path()).await;
    let trusted = Some(gateway.fingerprint());
    let log = open(dir.path());

    // Batches of somebody the directory does not know; sealing oneself makes them "verified".
    log.commit(Transaction::copy(Foreign::new("H99→TW/status", 7).batches(1))).await.expect("copy");
    log.write_checkpoint().await.expect("checkpoint");
    log.close().await;
    only(&check(dir.path(), trusted), 14, "H99 is not a member");

    // A batch sealed with another key than the directory's, in an otherwise good feed.
    let log = open(dir.path());
    let mut wrong_key = Foreign::new("TW→*/emergency", 66);
    log.commit(Transaction::copy(wrong_key.batches(1))).await.expect("copy");
    // One after the revocation of its key.
    let fingerprint = sealer("TW", 8).key().public().fingerprint().0.to_vec();
    let revoked = KeyRevoked { member: "TW".into(), fingerprint, reason: "lost".into(), last_accepted: vec![] };
    let revoked = gateway.says(&revoked);
    let revoked = gateway.feed.seal(vec![revoked]);
    log.commit(Transaction::copy([revoked])).await.expect("copy");
    log.commit(Transaction::copy(central.batches(1))).await.expect("copy");
    // A stream version that is skipped.
    let skipped = gateway.feed.event("skipping", 2, "x");
    let skipped = gateway.feed.seal(vec![skipped]);
    log.commit(Transaction::copy([skipped])).await.expect("copy");
    log.close().await;
    let report = check(dir.path(), trusted);
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.position, finding.what.as_str())).collect();
    assert_eq!(found.len(), 4, "{found:?}");
    let wanted = [(14, "not a member"), (15, "TW has no key"), (17, "was revoked"), (18, "version 2 where 1 is next")];
    for ((at, what), (wanted_at, wanted)) in found.into_iter().zip(wanted) {
        assert!(at == wanted_at && what.contains(wanted), "{what:?} at {at}, expected {wanted:?} at {wanted_at}");
    }
}

/// A node whose key was stolen goes on with it until it has another one; whether that counts is said later, if at all.
#[tokio::test]
async fn what_a_node_seals_under_its_revoked_key_is_found_until_it_is_admitted() {
    let dir = tempfile::tempdir().expect("dir");
    let (mut gateway, _) = whole_log(dir.path()).await;
    let trusted = Some(gateway.fingerprint());
    let log = open(dir.path());
    let own = "H24→TW/content".parse().expect("feed");
    let received = log.head(&own).expect("said").sequence;
    let (fingerprint, member) = (sealer("H24", 1).key().public().fingerprint().0.to_vec(), "H24".to_owned());
    let last = LastAccepted { audience: "TW".into(), lane: Lane::Content.to_wire(), sequence: received };
    let mut events = gateway.enrolls("H24", MemberKind::Province, 1);
    let revoked =
        KeyRevoked { member: member.clone(), fingerprint, reason: "stolen".into(), last_accepted: vec![last] };
    events.push(gateway.says(&revoked));
    let revoked = gateway.feed.seal(events);
    log.commit(Transaction::copy([revoked])).await.expect("copy");
    let own_batch = log.commit(append("s", 99, "x")).await.expect("commit").events[0].entry;
    let digest = log.head(&own).expect("said").digest.0.to_vec();
    log.close().await;
    only(&check(dir.path(), trusted), own_batch, "had been revoked, and is not admitted");

    let log = open(dir.path());
    let admitted = BatchesAdmitted {
        member,
        audience: "TW".into(),
        lane: Lane::Content.to_wire(),
        first_sequence: received + 1,
        digests: vec![digest],
        reason: "the owner's".into(),
    };
    let admitted = gateway.says(&admitted);
    let admitted = gateway.feed.seal(vec![admitted]);
    log.commit(Transaction::copy([admitted])).await.expect("copy");
    log.close().await;
    assert_eq!(check(dir.path(), trusted).findings, []);
}

#[tokio::test]
async fn a_false_checkpoint_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    let (gateway, _) = whole_log(dir.path()).await;
    let path = dir.path().join("checkpoint");
    let good = std::fs::read_to_string(&path).expect("read");
    let trusted = Some(gateway.fingerprint());

    overwrite(&path, good.replacen("\n14\n", "\n13\n", 1).as_bytes());
    let report = check(dir.path(), trusted);
    only(&report, 13, "invalid signature");
    assert!(report.checkpoint.is_some_and(|checkpoint| !checkpoint.ok));

    // Signed by somebody else.
    let other = tempfile::tempdir().expect("dir");
    let (log, _) = Log::open(other.path(), sealer("H24", 5), options()).expect("open");
    overwrite(&path, log.write_checkpoint().await.expect("checkpoint").as_bytes());
    only(&check(dir.path(), trusted), 0, "no key of this node");

    // Rightly signed, but for a longer log.
    overwrite(&path, good.as_bytes());
    let last = std::fs::read_dir(dir.path().join("chunks")).expect("list").count() as u32 - 1;
    let bytes = std::fs::read(chunk(dir.path(), last)).expect("read");
    overwrite(&chunk(dir.path(), last), &bytes[..64]);
    let report = check(dir.path(), trusted);
    assert!(report.findings.iter().any(|finding| finding.what.contains("vouches for 14")), "{:?}", report.findings);
}

#[tokio::test]
async fn findings_are_bounded() {
    let dir = tempfile::tempdir().expect("dir");
    let log = open(dir.path());
    // Not one of these versions follows the one before.
    let mut foreign = Foreign::new("H24→TW/content", 1);
    let events = (0..1_200).map(|n| foreign.event("s", 2 * n + 2, "x")).collect::<Vec<_>>();
    let halves = events.chunks(600).map(|half| foreign.seal(half.to_vec())).collect::<Vec<_>>();
    log.commit(Transaction::copy(halves)).await.expect("copy");
    log.close().await;
    let report = check(dir.path(), None);
    assert_eq!(report.findings.len(), httt_log::MAX_FINDINGS);
    assert!(report.more_findings >= 200);
}
