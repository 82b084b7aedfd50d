//! A member that is given the fingerprint of the gateway's present key, though an older key signed the first batches.

mod common;

use common::*;
use httt_feed::*;
use httt_wire::directory as pb;
use httt_wire::feed as feed_pb;

/// The gateway's directory feed over a change of its key: founded and filled under `old`, then `new` is added, then
/// `old` is revoked in a batch that `new` signed, and one more follows.
fn changed_key() -> Vec<VerifiedBatch> {
    let add = |name: &str| typed(&pb::KeyAdded { member: "NDXP".into(), key: Some(key(name).public().to_wire()) });
    let enrolled = pb::MemberEnrolled { member: "NDXP".into(), kind: MemberKind::Gateway.into(), ..Default::default() };
    let revoked = pb::KeyRevoked {
        member: "NDXP".into(),
        fingerprint: key("old").public().fingerprint().0.to_vec(),
        reason: "đổi khoá".into(),
        last_accepted: vec![pb::LastAccepted { audience: "*".into(), lane: Lane::Directory.to_wire(), sequence: 3 }],
    };
    let mut batches: Vec<VerifiedBatch> = Vec::new();
    let mut say = |signer: &str, events: Vec<feed_pb::Event>| {
        let head = batches.last().map(VerifiedBatch::head);
        let sealer = Sealer::new(code("NDXP"), key(signer));
        batches.push(sealer.seal(&feed("NDXP", "*", Lane::Directory), head.as_ref(), 0, events).expect("seals"));
    };
    say("old", vec![typed(&enrolled), add("old")]);
    say("old", enrol("H24", MemberKind::Province));
    say("old", vec![add("new")]);
    say("new", vec![typed(&revoked)]);
    say("new", enrol("H55", MemberKind::Province));
    batches
}

fn unverified(batches: &[VerifiedBatch]) -> Vec<UnverifiedBatch> {
    batches.iter().map(|batch| parse(batch.bytes().clone()).expect("parses")).collect()
}

fn trusting(name: &str) -> Directory {
    Directory::trusting(key(name).public().fingerprint())
}

#[test]
fn the_present_key_vouches_for_the_batches_that_an_older_one_signed() {
    let batches = unverified(&changed_key());
    let directory = trusting("new");
    assert!(directory.verify(batches[0].clone()).is_err(), "by itself the first batch proves nothing");
    let mut founded = directory.founded_by(&batches).expect("vouched for");
    for batch in batches {
        let verified = founded.verify(batch).expect("verifies");
        founded.apply(verified.feed(), &verified.batch().events);
    }
    assert_eq!(founded.members().count(), 3);
}

#[test]
fn batches_that_do_not_lead_to_the_configured_key_are_not_believed() {
    let batches = unverified(&changed_key());
    assert!(trusting("new").founded_by(&batches[..3]).is_none(), "the new key is named, but it signed nothing yet");
    assert!(trusting("MALLORY").founded_by(&batches).is_none());
    assert!(trusting("new").founded_by(&batches[1..]).is_none(), "the beginning is missing");
    assert!(trusting("new").founded_by(&[]).is_none());
}

#[test]
fn who_stole_the_old_key_cannot_put_another_beginning_before_what_the_present_key_signed() {
    let real = changed_key();
    let add = |name: &str| typed(&pb::KeyAdded { member: "NDXP".into(), key: Some(key(name).public().to_wire()) });
    let mut events = enrol("NDXP", MemberKind::Gateway);
    events.extend([add("old"), add("new")]);
    let thief = Sealer::new(code("NDXP"), key("old"));
    let directory = feed("NDXP", "*", Lane::Directory);
    let mut forged = vec![thief.seal(&directory, None, 0, events).expect("seals")];
    for _ in 0..2 {
        let head = forged.last().map(VerifiedBatch::head);
        let more = enrol("MALLORY", MemberKind::Central);
        forged.push(thief.seal(&directory, head.as_ref(), 0, more).expect("seals"));
    }
    forged.extend_from_slice(&real[3..]);
    assert!(trusting("new").founded_by(&unverified(&forged)).is_none());
}

#[test]
fn a_directory_that_is_founded_is_not_founded_again() {
    let world = World::new();
    assert!(world.directory.founded_by(&unverified(&changed_key())).is_none());
}
