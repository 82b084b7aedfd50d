//! Who is believed, who may say and read what.

mod common;

use common::*;
use httt_feed::*;
use httt_wire::directory as pb;

fn verify(world: &World, batch: &VerifiedBatch) -> Result<VerifiedBatch, Refusal> {
    world.directory.verify(parse(batch.bytes().clone())?)
}

#[test]
fn only_the_configured_fingerprint_founds_a_directory() {
    let world = World::new();
    let founding = || parse(world.founding.bytes().clone()).expect("parses");
    let fresh = Directory::trusting(key("NDXP").public().fingerprint());
    assert!(fresh.verify(founding()).is_ok());
    let other = Directory::trusting(key("MALLORY").public().fingerprint());
    assert!(matches!(other.verify(founding()), Err(Refusal::UnknownKey { .. })));
    // Before the founding batch nobody else is believed.
    let sealed = world.seal("TW", "*", Lane::Content, None, 1);
    assert!(matches!(fresh.verify(parse(sealed.bytes().clone()).expect("parses")), Err(Refusal::NotAMember(_))));
}

#[test]
fn strangers_and_wrong_keys_are_refused_each_with_its_own_error() {
    let world = World::new();
    let stranger = Sealer::new(code("X9"), key("X9"));
    let batch = stranger.seal(&feed("X9", "TW", Lane::Report), None, 0, vec![event("s", 1, vec![])]).expect("seals");
    assert!(matches!(verify(&world, &batch), Err(Refusal::NotAMember(_))));
    let impostor = Sealer::new(code("H24"), key("H55"));
    let batch = impostor.seal(&feed("H24", "TW", Lane::Report), None, 0, vec![event("s", 1, vec![])]).expect("seals");
    assert!(matches!(verify(&world, &batch), Err(Refusal::UnknownKey { .. })));
}

#[test]
fn provinces_do_not_speak_to_everybody_and_nobody_else_writes_the_directory() {
    let world = World::new();
    for (origin, audience, lane) in [
        ("H24", "*", Lane::Content),
        ("H24", "*", Lane::Emergency),
        ("TW", "*", Lane::Directory),
        ("H55.LGSP", "TW", Lane::Report),
    ] {
        let batch = world.seal(origin, audience, lane, None, 1);
        assert!(matches!(verify(&world, &batch), Err(Refusal::NoRight { .. })), "{}", batch.feed());
    }
    assert!(verify(&world, &world.seal("TW", "*", Lane::Content, None, 1)).is_ok());
}

#[test]
fn a_revoked_key_keeps_what_was_received_and_nothing_after() {
    let mut world = World::new();
    let first = world.seal("H24", "TW", Lane::Report, None, 1);
    let second = world.seal("H24", "TW", Lane::Report, Some(&first.head()), 1);
    world.tell(&[typed(&pb::KeyRevoked {
        member: "H24".into(),
        fingerprint: key("H24").public().fingerprint().0.to_vec(),
        reason: "mất khoá".into(),
        last_accepted: vec![pb::LastAccepted { audience: "TW".into(), lane: Lane::Report.to_wire(), sequence: 1 }],
    })]);
    assert!(verify(&world, &first).is_ok());
    assert!(matches!(verify(&world, &second), Err(Refusal::RevokedKey { sequence: 2, .. })));
    let other_lane = world.seal("H24", "TW", Lane::Status, None, 1);
    assert!(matches!(verify(&world, &other_lane), Err(Refusal::RevokedKey { .. })));
    // Adding it again does not bring it back.
    world.tell(&enrol("H24", MemberKind::Province));
    assert!(matches!(verify(&world, &second), Err(Refusal::RevokedKey { .. })));
}

/// A process that shares its key with others must not believe longer what the others do not.
#[test]
fn a_nodes_own_key_is_revoked_for_itself_too_but_for_what_never_leaves_it() {
    let mut world = World::new();
    world.directory = world.directory.knowing_own(code("H24"), key("H24").public().clone());
    let first = world.seal("H24", "TW", Lane::Report, None, 1);
    let second = world.seal("H24", "TW", Lane::Report, Some(&first.head()), 1);
    let local = world.seal("H24", "H24", Lane::Local, None, 1);
    world.tell(&[typed(&pb::KeyRevoked {
        member: "H24".into(),
        fingerprint: key("H24").public().fingerprint().0.to_vec(),
        reason: "thay khoá".into(),
        last_accepted: vec![pb::LastAccepted { audience: "TW".into(), lane: Lane::Report.to_wire(), sequence: 1 }],
    })]);
    assert!(verify(&world, &first).is_ok() && verify(&world, &local).is_ok());
    assert!(matches!(verify(&world, &second), Err(Refusal::RevokedKey { sequence: 2, .. })));
}

#[test]
fn rights_to_push_and_read() {
    let world = World::new();
    let directory = &world.directory;
    let push = |caller: &str, text: &str| directory.may_push(&code(caller), &text.parse().expect("feed"));
    assert!(push("H24", "H24→TW/report").is_ok());
    assert!(push("H55.LGSP", "H55→TW/report").is_ok());
    assert!(matches!(push("H24", "H55→TW/report"), Err(Refusal::WrongMember { .. })));
    assert!(matches!(push("H55.LGSP", "H24→TW/report"), Err(Refusal::WrongMember { .. })));
    assert!(matches!(push("H24", "H24→H24/local"), Err(Refusal::NoRight { .. })));
    assert!(matches!(push("X9", "X9→TW/report"), Err(Refusal::NotAMember(_))));

    let read = |caller: &str, text: &str| directory.may_read(&code(caller), &text.parse().expect("feed"));
    for (caller, text) in [
        ("H24", "TW→*/content"),
        ("TW", "H24→TW/report"),
        ("H24", "H24→TW/report"),
        ("H55.LGSP", "NDXP→H55/report"),
        ("H55.LGSP", "H55→TW/status"),
    ] {
        assert!(read(caller, text).is_ok(), "{caller} {text}");
    }
    for (caller, text) in [("H24", "H55→TW/report"), ("H24", "NDXP→H55/report"), ("H24", "H24→H24/local")] {
        assert!(matches!(read(caller, text), Err(Refusal::NoRight { .. })), "{caller} {text}");
    }
    assert!(matches!(read("X9", "TW→*/content"), Err(Refusal::NotAMember(_))));
    let carried: Vec<_> = directory.speaks_for(&code("H55.LGSP")).map(|code| code.to_string()).collect();
    assert_eq!(carried, ["H55", "H55.LGSP"]);
}

#[test]
fn only_the_gateways_own_feed_changes_the_directory() {
    let mut world = World::new();
    let enrolment = enrol("H99", MemberKind::Province);
    world.directory.apply(&feed("TW", "*", Lane::Directory), &enrolment);
    world.directory.apply(&feed("NDXP", "*", Lane::Content), &enrolment);
    world.directory.apply(&feed("NDXP", "H24", Lane::Directory), &enrolment);
    assert!(world.directory.member(&code("H99")).is_none());
    world.tell(&enrolment);
    assert!(world.directory.member(&code("H99")).is_some());
}

#[test]
fn readers_of_a_feed_are_those_who_may_read_it() {
    let mut world = World::new();
    let granted = pb::ReadGranted { reader: "H55".into(), origin: "H24".into(), ..Default::default() };
    world.tell(&[typed(&granted)]);
    let members: Vec<AgencyCode> = world.directory.members().map(|member| member.code.clone()).collect();
    for lane in Lane::ALL {
        for (origin, audience) in
            [("TW", "*"), ("TW", "H24"), ("TW", "H55"), ("H24", "TW"), ("H55", "TW"), ("NDXP", "H24")]
        {
            let feed = feed(origin, audience, lane);
            let readers = world.directory.readers(&feed);
            for member in &members {
                let told = readers.as_ref().is_none_or(|readers| readers.contains(member));
                assert_eq!(told, world.directory.may_read(member, &feed).is_ok(), "{member} and {feed}");
            }
        }
    }
}
