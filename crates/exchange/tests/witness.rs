//! Witnessing between nodes with real logs.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{code, key};
use httt_exchange::memory::MemoryPeer;
use httt_exchange::*;
use httt_feed::*;
use httt_log::tlog::{SignedCheckpoint, VerifierKey};
use httt_log::{EventPosition, Filter, Log, ManualClock, Options};
use httt_wire::Message as _;
use httt_wire::directory::CheckpointRefused;
use httt_wire::exchange::{WitnessRequest, witness_request::Ask};
use tokio::sync::watch;

const EVERY: Duration = Duration::from_millis(20);
const NOW_MS: i64 = 1_760_000_000_000;

struct Gateway {
    node: common::Node,
    witness: Arc<Witnessing>,
    service: Arc<Service>,
}

/// A gateway with the members given.
async fn gateway(members: &[&str]) -> Gateway {
    let node = common::Node::open("NDXP");
    enrol_gateway(&node).await;
    for member in members {
        node.enrol(member).await;
    }
    let witness = Arc::new(witnessing(&node.log, &node.directory));
    let service = Service::new(
        Arc::new(LogStore::new(node.log.clone())),
        node.directory.clone(),
        Arc::new(common::MemoryMedia::default()),
        Receipts::Issue,
        StoppedFeeds::default(),
        node.stop.subscribe(),
    );
    Gateway { node, service: Arc::new(service.with_witness(Arc::clone(&witness))), witness }
}

async fn enrol_gateway(node: &common::Node) {
    use httt_log::{NewEvent, Transaction};
    use httt_wire::directory as pb;
    let enrolled = pb::MemberEnrolled { member: "NDXP".into(), kind: MemberKind::Gateway.into(), ..Default::default() };
    let added = pb::KeyAdded { member: "NDXP".into(), key: Some(key("NDXP").public().to_wire()) };
    let events = [
        NewEvent::of(Audience::All, Lane::Directory, "member/NDXP", &enrolled),
        NewEvent::of(Audience::All, Lane::Directory, "member/NDXP", &added),
    ];
    node.log.commit(Transaction::append(events)).await.expect("enrols");
}

fn witnessing(log: &Log, directory: &SharedDirectory) -> Witnessing {
    Witnessing::new(log.clone(), directory.clone()).every(EVERY).with_clock(Arc::new(ManualClock::new(NOW_MS)))
}

impl Gateway {
    fn peer(&self, member: &str) -> Arc<MemoryPeer> {
        Arc::new(MemoryPeer::new("NDXP", Arc::clone(&self.service), code(member)))
    }

    /// What is kept of refused checkpoints.
    fn refused(&self) -> Vec<CheckpointRefused> {
        let filter = Filter { stream_prefix: Some("witness-refused/".into()), ..Filter::default() };
        let page = self.node.log.events(EventPosition::START, &filter, httt_log::Direction::Forward, 1_000);
        let events = page.expect("read").events.into_iter();
        events.map(|event| CheckpointRefused::decode(event.event.data).expect("decode")).collect()
    }
}

fn cosigner(member: &str) -> VerifierKey {
    VerifierKey::cosigner(&code(member), key(member).public()).expect("key")
}

/// Waits for something to become true, however long it takes; a test that hangs is ended by its runner.
async fn until(mut true_now: impl FnMut() -> bool) {
    while !true_now() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn cosigned_by(witness: &Witnessing, member: &str) -> bool {
    witness.own_state().cosigners.contains(&format!("httt/{member}"))
}

#[tokio::test]
async fn gateway_and_members_cosign_each_other() {
    let gateway = gateway(&["H24", "H30"]).await;
    let mut members = Vec::new();
    for member in ["H24", "H30"] {
        let node = common::Node::open(member);
        node.say("TW", Lane::Report, "a").await;
        let witness = Arc::new(witnessing(&node.log, &node.directory));
        let peer = gateway.peer(member);
        node.copy_with(peer.clone(), &[member]);
        tokio::spawn(run_witness(witness.clone(), peer, node.stop.subscribe()));
        members.push((node, witness));
    }
    for (node, witness) in &members {
        until(|| cosigned_by(witness, "NDXP")).await;
        // What the member serves and keeps for proofs verifies with the gateway's cosigner key and its own log key.
        let cosigned = witness.cosigned().expect("cosigned");
        let own = VerifierKey::log(&node.code, key(node.code.as_str()).public()).expect("key");
        assert_eq!(cosigned.signers(&[own, cosigner("NDXP")]).expect("verifies").len(), 2);
        assert_eq!(node.log.cosigned(), Some(cosigned), "kept on disk");
    }
    // The gateway's checkpoint gathers both members' lines.
    until(|| cosigned_by(&gateway.witness, "H24") && cosigned_by(&gateway.witness, "H30")).await;
    let watched = gateway.witness.watched().expect("watched");
    assert_eq!(watched.iter().map(|log| log.origin.as_str()).collect::<Vec<_>>(), ["httt/H24", "httt/H30"]);
    assert!(watched.iter().all(|log| log.size.is_some() && log.refused == 0 && log.cosigned_at_ms == Some(NOW_MS)));
    assert!(members.iter().all(|(_, witness)| witness.own_state().alarm.is_none()));
    // As a log grows it is cosigned again.
    let (node, witness) = &members[0];
    node.say("TW", Lane::Report, "b").await;
    let grown = node.log.len();
    until(|| witness.cosigned().is_some_and(|cosigned| cosigned.size() >= grown)).await;
    for (node, _) in &members {
        node.stop.send(true).expect("stops");
    }
}

#[tokio::test]
async fn idle_nodes_do_not_keep_each_other_busy() {
    let gateway = gateway(&["H24"]).await;
    let node = common::Node::open("H24");
    let witness = Arc::new(witnessing(&node.log, &node.directory));
    let peer = gateway.peer("H24");
    node.say("TW", Lane::Report, "a").await;
    node.copy_with(peer.clone(), &["H24"]);
    tokio::spawn(run_witness(witness.clone(), peer.clone(), node.stop.subscribe()));
    until(|| cosigned_by(&witness, "NDXP") && cosigned_by(&gateway.witness, "H24")).await;
    // Everything is copied and cosigned when a round of calls adds nothing.
    let lengths = || (node.log.len(), gateway.node.log.len());
    let mut before = (0, 0);
    for _ in 0..100 {
        if before == lengths() {
            break;
        }
        before = lengths();
        tokio::time::sleep(EVERY * 10).await;
    }
    assert_eq!(before, lengths(), "the logs go on growing though nobody says anything");
    node.stop.send(true).expect("stops");
}

/// A second log of the same node: the same key, another story.
async fn second_log(dir: &std::path::Path, entries: u64) -> Log {
    use httt_log::{NewEvent, Transaction};
    let sealer = Arc::new(Sealer::new(code("H24"), key("H24")));
    let (log, _) = Log::open(dir, sealer, Options::default()).expect("opens");
    for _ in 0..entries {
        let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: "other".into(), reason: "story".into() };
        let event = NewEvent::of(Audience::All, Lane::Content, "other", &said);
        log.commit(Transaction::append([event])).await.expect("commits");
    }
    log
}

async fn submission(log: &Log, old: u64) -> String {
    let checkpoint = SignedCheckpoint::parse(&log.write_checkpoint().await.expect("writes")).expect("parse");
    let proof = log.consistency_proof(old.min(checkpoint.size()), checkpoint.size()).expect("proof");
    AddCheckpoint { old, proof, checkpoint }.to_string()
}

#[tokio::test]
async fn a_second_history_is_refused_kept_and_told() {
    let gateway = gateway(&["H24"]).await;
    let node = common::Node::open("H24");
    for stream in ["a", "b", "c"] {
        node.say("TW", Lane::Report, stream).await;
    }
    gateway.witness.add(&submission(&node.log, 0).await).await.expect("cosigned");
    let held = node.log.len();

    let dir = tempfile::tempdir().expect("dir");
    let other = second_log(dir.path(), held).await;
    let forked = submission(&other, held).await;
    assert_eq!(gateway.witness.add(&forked).await, Err(WitnessRefusal::Forked { size: held }));
    let [refused] = &gateway.refused()[..] else { panic!("one event") };
    // Two notes of one size, both signed by the log: anybody can see that it shows two histories.
    let key = VerifierKey::log(&code("H24"), key("H24").public()).expect("key");
    let notes = [&refused.held_note, &refused.offered_note].map(|note| SignedCheckpoint::parse(note).expect("note"));
    for note in &notes {
        assert_eq!(note.signers(std::slice::from_ref(&key)).expect("verifies").len(), 1);
    }
    assert_eq!((notes[0].size(), notes[0].origin()), (notes[1].size(), notes[1].origin()));
    assert_ne!(notes[0].root(), notes[1].root());
    // Brought again, it is the same fact.
    for _ in 0..3 {
        gateway.witness.add(&forked).await.expect_err("again");
    }
    assert_eq!(gateway.refused().len(), 1);

    // The other log grows on: its proof does not lead back to what was cosigned.
    second_log_grows(&other).await;
    let grown = gateway.witness.add(&submission(&other, held).await).await;
    assert!(matches!(grown, Err(WitnessRefusal::Inconsistent(_))), "{grown:?}");
    assert_eq!(gateway.refused().len(), 2);
    let watched = gateway.witness.watched().expect("watched");
    assert_eq!((watched[0].size, watched[0].refused), (Some(held), 2));
    assert!(watched[0].last_refusal.is_some());

    // A node that runs on the other log is told, and stays told.
    let directory = gateway.node.directory.clone();
    let witness = Arc::new(witnessing(&other, &directory));
    let stop = watch::Sender::new(false);
    tokio::spawn(run_witness(witness.clone(), gateway.peer("H24"), stop.subscribe()));
    until(|| witness.own_state().alarm.is_some()).await;
    assert!(!cosigned_by(&witness, "NDXP"));
    // Until an operator of the witness says that it may begin anew.
    assert!(gateway.witness.forget("httt/H24", "restored from a backup", "operator").await.expect("forgets"));
    assert!(!gateway.witness.forget("httt/H99", "nothing is held", "operator").await.expect("nothing"));
    until(|| cosigned_by(&witness, "NDXP") && witness.own_state().alarm.is_none()).await;
    stop.send(true).expect("stops");
}

async fn second_log_grows(log: &Log) {
    use httt_log::{NewEvent, Transaction};
    let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: "other".into(), reason: "more".into() };
    let event = NewEvent::of(Audience::All, Lane::Content, "other", &said);
    log.commit(Transaction::append([event])).await.expect("commits");
}

#[tokio::test]
async fn what_was_cosigned_survives_a_restart() {
    let gateway = gateway(&["H24"]).await;
    let node = common::Node::open("H24");
    node.say("TW", Lane::Report, "a").await;
    let first = submission(&node.log, 0).await;
    gateway.witness.add(&first).await.expect("cosigned");
    // Another program over the same log, as after a restart: it knows, and takes nothing older or other.
    let again = witnessing(&gateway.node.log, &gateway.node.directory);
    assert_eq!(again.add(&first).await, Err(WitnessRefusal::Stale { size: 1 }));
    node.say("TW", Lane::Report, "b").await;
    again.add(&submission(&node.log, 1).await).await.expect("continues");
    assert_eq!(gateway.witness.add(&submission(&node.log, 1).await).await, Err(WitnessRefusal::Stale { size: 2 }));
}

#[tokio::test]
async fn at_one_moment_one_checkpoint_is_cosigned() {
    let gateway = gateway(&["H24"]).await;
    let node = common::Node::open("H24");
    node.say("TW", Lane::Report, "a").await;
    let dir = tempfile::tempdir().expect("dir");
    let other = second_log(dir.path(), 1).await;
    let bodies = [submission(&node.log, 0).await, submission(&other, 0).await];
    let answers = futures_util::future::join_all((0..20).map(|i| gateway.witness.add(&bodies[i % 2]))).await;
    let cosigned: Vec<bool> = (0..20).map(|i| answers[i].is_ok()).collect();
    let by_story = |story: usize| (0..20).any(|i| i % 2 == story && cosigned[i]);
    assert!(by_story(0) ^ by_story(1), "{answers:?}");
}

#[tokio::test]
async fn strangers_and_nonsense_are_answered_with_the_specifications_numbers() {
    let gateway = gateway(&["H24"]).await;
    let (member, stranger) = (common::Node::open("H24"), common::Node::open("H77"));
    member.say("TW", Lane::Report, "a").await;
    stranger.say("TW", Lane::Report, "a").await;
    let ask = async |ask| {
        let answer = gateway.service.witness(WitnessRequest { ask }).await;
        (answer.status, answer.body)
    };
    let add = async |body: String| ask(Some(Ask::AddCheckpoint(body))).await;
    assert_eq!(add(submission(&stranger.log, 0).await).await.0, 404);
    assert_eq!(add(submission(&gateway.node.log, 0).await).await.0, 404, "nobody witnesses himself");
    assert_eq!(add("nonsense".into()).await.0, 400);
    assert_eq!(add(submission(&member.log, 3).await).await.0, 400);
    let forged = submission(&stranger.log, 0).await.replace("httt/H77", "httt/H24");
    assert_eq!(add(forged).await.0, 403);
    let (status, lines) = add(submission(&member.log, 0).await).await;
    assert_eq!(status, 200);
    // As the specification says a client may do: append it to the checkpoint and verify as a note.
    let note = member.log.checkpoint() + &lines;
    let note = SignedCheckpoint::parse(&note).expect("note");
    assert_eq!(note.signers(&[cosigner("NDXP")]).expect("verifies").len(), 1);
    assert_eq!(add(submission(&member.log, 0).await).await, (409, "1\n".into()));

    assert_eq!(ask(None).await.0, 400);
    let (status, body) = ask(Some(Ask::ReadCheckpoint(0))).await;
    assert_eq!(status, 200);
    let shown = AddCheckpoint::parse(&body).expect("body").checkpoint;
    assert_eq!(ask(Some(Ask::ReadCheckpoint(u64::MAX))).await, (409, format!("{}\n", shown.size())));
    // Cosignatures by somebody who is no member are dropped, by a member are kept, of another text refused.
    let line = |log: &Log, checkpoint: &SignedCheckpoint| log.cosign(checkpoint, 1).expect("cosigns");
    assert_eq!(ask(Some(Ask::AddCosignatures(line(&stranger.log, &shown)))).await.0, 200);
    assert_eq!(gateway.witness.own_state().cosigners, Vec::<String>::new());
    let of_other = line(&member.log, &note);
    assert_eq!(ask(Some(Ask::AddCosignatures(of_other))).await.0, 400);
    assert_eq!(ask(Some(Ask::AddCosignatures(line(&member.log, &shown)))).await.0, 200);
    assert_eq!(gateway.witness.own_state().cosigners, ["httt/H24"]);
    assert!(gateway.refused().is_empty());
}
