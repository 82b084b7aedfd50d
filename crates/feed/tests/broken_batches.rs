//! A corpus of batches that must be refused, each made by code from a good one, with the refusal it must meet. Unless
//! the case is about the signature, whoever made it held the right key: everything is signed as DSSE says.

mod common;

use bytes::Bytes;
use common::*;
use httt_feed::*;
use httt_wire::directory::{KeyRevoked, LastAccepted};
use httt_wire::feed::{Batch, Event, SealedBatch, Signature};
use httt_wire::{Message as _, feed as pb};
use proptest::prelude::*;

/// DSSE: the signature over a body, written anew from its specification.
fn signed(by: &str, body: Vec<u8>) -> SealedBatch {
    let mut message = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), body.len()).into_bytes();
    message.extend_from_slice(&body);
    let key = key(by);
    let signature = Signature { key_id: key.public().id().0.to_vec(), value: key.sign(&message) };
    SealedBatch { body: body.into(), signature: Some(signature) }
}

/// A good batch of H24, as a message.
fn good() -> Batch {
    Batch {
        origin: "H24".into(),
        audience: "TW".into(),
        lane: pb::Lane::Report.into(),
        sequence: 1,
        previous: vec![],
        sealed_at_ms: 1,
        events: vec![event("s", 1, vec![7; 20]), event("s", 2, vec![8; 20])],
        restates: false,
    }
}

fn judge(bytes: Vec<u8>) -> Result<VerifiedBatch, Refusal> {
    parse(Bytes::from(bytes)).and_then(|batch| World::new().directory.verify(batch))
}

fn sealed(change: impl FnOnce(&mut Batch)) -> Vec<u8> {
    let mut batch = good();
    change(&mut batch);
    signed("H24", batch.encode_to_vec()).encode_to_vec()
}

fn enveloped(change: impl FnOnce(&mut SealedBatch)) -> Vec<u8> {
    let mut envelope = signed("H24", good().encode_to_vec());
    change(&mut envelope);
    envelope.encode_to_vec()
}

fn malformed(what: &str) -> impl Fn(&Refusal) -> bool {
    move |refusal| matches!(refusal, Refusal::Malformed(says) if says.contains(what))
}

fn too_large(what: &'static str, limit: usize) -> impl Fn(&Refusal) -> bool {
    move |refusal| matches!(refusal, Refusal::TooLarge { what: is, limit: says, .. } if *is == what && *says == limit)
}

fn with_event(change: impl FnOnce(&mut Event)) -> Vec<u8> {
    sealed(|batch| change(&mut batch.events[1]))
}

type Wanted = Box<dyn Fn(&Refusal) -> bool>;

/// Name, bytes, and the refusal they must meet.
fn corpus() -> Vec<(&'static str, Vec<u8>, Wanted)> {
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    let good_bytes = sealed(|_| {});
    let mut cases: Vec<(&'static str, Vec<u8>, Wanted)> = Vec::new();
    let mut add = |name, bytes, wanted: Wanted| cases.push((name, bytes, wanted));

    // The envelope.
    add("nothing", vec![], Box::new(malformed("no signature")));
    add("no protobuf", vec![0xFF; 50], Box::new(malformed("")));
    add("cut in the middle", good_bytes[..good_bytes.len() / 2].to_vec(), Box::new(malformed("")));
    add("larger than any", vec![0; MAX_SEALED_BYTES + 1], Box::new(too_large("a sealed batch", MAX_SEALED_BYTES)));
    add("no signature", enveloped(|envelope| envelope.signature = None), Box::new(malformed("no signature")));
    let unknown_field = [&good_bytes[..], &[0x18, 1]].concat();
    add("a field nobody knows", unknown_field, Box::new(malformed("canonical")));
    let envelope = signed("H24", good().encode_to_vec());
    let mut reordered = vec![0x12, envelope.signature.as_ref().map_or(0, |s| s.encoded_len()) as u8];
    reordered.extend(envelope.signature.as_ref().expect("signature").encode_to_vec());
    reordered.extend(SealedBatch { signature: None, ..envelope.clone() }.encode_to_vec());
    add("its fields in another order", reordered, Box::new(malformed("canonical")));
    let short_id = |envelope: &mut SealedBatch| {
        envelope.signature.as_mut().expect("signature").key_id.pop();
    };
    add("a short key id", enveloped(short_id), Box::new(malformed("key id")));

    // The body.
    add("an empty body", signed("H24", vec![]).encode_to_vec(), Box::new(malformed("")));
    add("a body that is no batch", signed("H24", vec![0xFF; 9]).encode_to_vec(), Box::new(malformed("")));
    let large = sealed(|batch| batch.events = (1..=2).map(|n| event("s", n, vec![1; 31_000])).collect());
    add("a body too large", large, Box::new(too_large("a batch", MAX_BATCH_BYTES)));
    add("an origin that is no code", sealed(|batch| batch.origin = "h24".into()), Box::new(malformed("h24")));
    add("no origin", sealed(|batch| batch.origin.clear()), Box::new(malformed("")));
    add("no audience", sealed(|batch| batch.audience.clear()), Box::new(malformed("")));
    add("no lane", sealed(|batch| batch.lane = 0), Box::new(malformed("")));
    add("a lane nobody knows", sealed(|batch| batch.lane = 99), Box::new(malformed("")));
    add("sequence 0", sealed(|batch| batch.sequence = 0), Box::new(malformed("start at 1")));
    add("a sequence beyond all", sealed(|batch| batch.sequence = u64::MAX), Box::new(malformed("no feed has")));
    add("a first that follows", sealed(|batch| batch.previous = vec![1; 32]), Box::new(malformed("no `previous`")));
    add("a second that does not", sealed(|batch| batch.sequence = 2), Box::new(malformed("not 32 bytes")));
    let short = |batch: &mut Batch| (batch.sequence, batch.previous) = (2, vec![1; 31]);
    add("a short previous", sealed(short), Box::new(malformed("not 32 bytes")));

    // Events.
    add("no event", sealed(|batch| batch.events.clear()), Box::new(malformed("no events")));
    let many = |batch: &mut Batch| {
        batch.events = vec![Event { id: vec![], stream: "s".into(), ..Event::default() }; MAX_EVENTS_PER_BATCH + 1];
    };
    add("too many events", sealed(many), Box::new(malformed("no events or too many")));
    add("an event too large", with_event(|event| event.data = vec![0; MAX_EVENT_BYTES + 1].into()), {
        Box::new(too_large("an event", MAX_EVENT_BYTES))
    });
    let name = |what| -> Wanted { Box::new(too_large(what, MAX_NAME_BYTES)) };
    add("a long stream", with_event(|event| event.stream = long.clone()), name("a stream name"));
    add("a long type", with_event(|event| event.r#type = long.clone()), name("an event type"));
    add("a long actor", with_event(|event| event.actor = long.clone()), name("an actor"));
    add("a long trace", with_event(|event| event.traceparent = long.clone()), name("a trace context"));
    let id = "an event id is not 16 bytes";
    add("a short event id", with_event(|event| event.id = vec![1; 15]), Box::new(malformed(id)));
    let lacks = "lacks its stream, type or version";
    add("no stream", with_event(|event| event.stream.clear()), Box::new(malformed(lacks)));
    add("no type", with_event(|event| event.r#type.clear()), Box::new(malformed(lacks)));
    add("version 0", with_event(|event| event.version = 0), Box::new(malformed(lacks)));
    add("a version beyond all", with_event(|event| event.version = u64::MAX), Box::new(malformed("no stream has")));

    // Who says it.
    let flipped = |envelope: &mut SealedBatch| envelope.signature.as_mut().expect("signature").value[0] ^= 1;
    let bad = |refusal: &Refusal| matches!(refusal, Refusal::BadSignature { sequence: 1, .. });
    add("a bit of the signature", enveloped(flipped), Box::new(bad));
    let emptied = |envelope: &mut SealedBatch| envelope.signature.as_mut().expect("signature").value.clear();
    add("an empty signature", enveloped(emptied), Box::new(bad));
    let mut other = good();
    other.events[0].data = vec![9; 20].into();
    let moved = |envelope: &mut SealedBatch| envelope.body = other.encode_to_vec().into();
    add("a signature of another body", enveloped(moved), Box::new(bad));
    let plain = |envelope: &mut SealedBatch| {
        let value = key("H24").sign(&envelope.body);
        envelope.signature.as_mut().expect("signature").value = value;
    };
    add("signed, but not as DSSE", enveloped(plain), Box::new(bad));
    let anothers = signed("H55", good().encode_to_vec()).encode_to_vec();
    let unknown = |refusal: &Refusal| matches!(refusal, Refusal::UnknownKey { origin, .. } if *origin == code("H24"));
    add("by another member's key", anothers, Box::new(unknown));
    let stranger = |refusal: &Refusal| matches!(refusal, Refusal::NotAMember(who) if who == "H99");
    add("by nobody enrolled", sealed(|batch| batch.origin = "H99".into()), Box::new(stranger));
    let no_right = |refusal: &Refusal| matches!(refusal, Refusal::NoRight { member, .. } if *member == code("H24"));
    let directory = |batch: &mut Batch| {
        batch.lane = pb::Lane::Directory.into();
        batch.audience = "*".into();
    };
    add("a directory that is not the gateway's", sealed(directory), Box::new(no_right));
    cases
}

#[test]
fn every_broken_batch_is_refused_for_its_reason() {
    assert!(judge(sealed(|_| {})).is_ok(), "the one they are made from is good");
    for (name, bytes, wanted) in corpus() {
        match judge(bytes) {
            Err(refusal) => assert!(wanted(&refusal), "{name}: {refusal:?}"),
            Ok(_) => panic!("{name}: taken"),
        }
    }
}

#[test]
fn what_depends_on_what_came_before() {
    let mut world = World::new();
    let feed = feed("H24", "TW", Lane::Report);
    let first = world.seal("H24", "TW", Lane::Report, None, 1);
    let second = world.seal("H24", "TW", Lane::Report, Some(&first.head()), 1);
    let third = world.seal("H24", "TW", Lane::Report, Some(&second.head()), 1);
    let other = world.seal("H24", "TW", Lane::Report, None, 2);
    let after_other = world.seal("H24", "TW", Lane::Report, Some(&other.head()), 1);
    assert_eq!(follow(Some(&first.head()), &second), Ok(Link::Next));
    assert_eq!(follow(Some(&first.head()), &first), Ok(Link::Held));
    let gap = Refusal::Gap { feed: feed.clone(), expected: 2, got: 3 };
    assert_eq!(follow(Some(&first.head()), &third), Err(gap));
    let gap = Refusal::Gap { feed: feed.clone(), expected: 1, got: 2 };
    assert_eq!(follow(None, &second), Err(gap));
    let fork = Refusal::Fork { feed: feed.clone(), sequence: 1 };
    assert_eq!(follow(Some(&first.head()), &other), Err(fork));
    let broken = Refusal::BrokenChain { feed: feed.clone(), sequence: 2 };
    assert_eq!(follow(Some(&first.head()), &after_other), Err(broken));

    // A key revoked once the first batch was received speaks for that one and no other.
    let fingerprint = key("H24").public().fingerprint().0.to_vec();
    let last_accepted = vec![LastAccepted { audience: "TW".into(), lane: Lane::Report.to_wire(), sequence: 1 }];
    let revoked = KeyRevoked { member: "H24".into(), fingerprint, reason: "lost".into(), last_accepted };
    world.tell(&[typed(&revoked)]);
    let judge = |batch: &VerifiedBatch| parse(batch.bytes().clone()).and_then(|batch| world.directory.verify(batch));
    assert!(judge(&first).is_ok());
    assert!(matches!(judge(&second), Err(Refusal::RevokedKey { sequence: 2, .. })));

    // Whose it is to push and to read.
    let (h24, h55) = (code("H24"), code("H55"));
    assert_eq!(world.directory.may_push(&h24, &feed), Ok(()));
    let wrong = Refusal::WrongMember { caller: h55.clone(), feed: feed.clone() };
    assert_eq!(world.directory.may_push(&h55, &feed), Err(wrong));
    let no_right = Refusal::NoRight { member: h55.clone(), feed: feed.clone() };
    assert_eq!(world.directory.may_read(&h55, &feed), Err(no_right));
    assert_eq!(world.directory.may_read(&code("H99"), &feed), Err(Refusal::NotAMember("H99".into())));
}

// Bytes from outside. `PROPTEST_CASES=1000000 cargo test -p httt-feed --test broken_batches` runs as long as wanted.
proptest! {
    /// Any change of a sealed batch is refused: bytes overwritten, put in, taken out, the end cut or repeated.
    #[test]
    fn no_mutation_is_taken_for_the_batch(
        at in any::<prop::sample::Index>(),
        length in 0_usize..40,
        with in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let bytes = sealed(|_| {});
        let from = at.index(bytes.len());
        let until = (from + length).min(bytes.len());
        let changed = [&bytes[..from], &with, &bytes[until..]].concat();
        prop_assume!(changed != bytes);
        prop_assert!(judge(changed).is_err());
    }

    /// What parses is what it says: canonical bytes, within every limit. Held against bytes near to good ones, which
    /// get further than noise does.
    #[test]
    fn what_parses_keeps_the_limits(
        batch in batches(),
        key_id in prop_oneof![9 => Just(8_usize), 1 => 7..10_usize],
        value in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let signature = Some(Signature { key_id: vec![1; key_id], value });
        let bytes = SealedBatch { body: batch.encode_to_vec().into(), signature }.encode_to_vec();
        if let Ok(parsed) = parse(Bytes::from(bytes.clone())) {
            prop_assert!(bytes.len() <= MAX_SEALED_BYTES);
            prop_assert_eq!(parsed.batch(), &batch);
            prop_assert!((1..=MAX_EVENTS_PER_BATCH).contains(&batch.events.len()));
            prop_assert!(batch.events.iter().all(|event| check_event(event).is_ok()));
            prop_assert!(World::new().directory.verify(parsed).is_err(), "nobody signed it");
        }
    }

    /// A directory is made of messages from outside: whatever they say, it neither panics nor believes a stranger.
    #[test]
    fn a_directory_survives_any_message(
        kind in prop::sample::select(vec![
            "httt.directory.v1.MemberEnrolled", "httt.directory.v1.KeyAdded", "httt.directory.v1.KeyRevoked",
            "httt.directory.v1.CarrierGranted", "httt.directory.v1.CarrierWithdrawn",
        ]),
        data in prop::collection::vec(any::<u8>(), 0..200),
        speaker in prop::sample::select(vec!["NDXP", "H24", "H99"]),
    ) {
        let mut world = World::new();
        let before: Vec<_> = world.directory.members().map(|member| member.keys().count()).collect();
        let message = Event { r#type: kind.into(), data: data.into(), ..event("directory", 9, vec![]) };
        world.directory.apply(&feed(speaker, "*", Lane::Directory), &[message]);
        let after: Vec<_> = world.directory.members().map(|member| member.keys().count()).collect();
        if speaker != "NDXP" {
            prop_assert_eq!(before, after);
        }
        prop_assert_eq!(world.directory.gateway(), Some(&code("NDXP")));
    }
}

/// Mostly good in each of its parts, so that all of it often is.
fn batches() -> impl Strategy<Value = Batch> {
    let event = (prop_oneof![9 => Just(16_usize), 1 => 15..18_usize], "[a-z/]{0,9}", 0_u64..9, "[a-z.]{1,3}").prop_map(
        |(id, stream, version, kind)| Event { id: vec![3; id], stream, version, r#type: kind, ..Event::default() },
    );
    let place = prop_oneof![
        4 => Just((1, vec![])),
        4 => Just((2, vec![5; 32])),
        1 => (0_u64..3, (30_usize..34).prop_map(|length| vec![5; length])),
    ];
    let origin = prop_oneof![9 => Just("H24"), 1 => Just("TW"), 1 => Just("h24"), 1 => Just("")];
    let audience = prop_oneof![9 => Just("TW"), 1 => Just("*"), 1 => Just("x")];
    (origin, audience, 0..8_i32, place, prop::collection::vec(event, 0..4)).prop_map(
        |(origin, audience, lane, (sequence, previous), events)| Batch {
            origin: origin.into(),
            audience: audience.into(),
            lane,
            sequence,
            previous,
            sealed_at_ms: 0,
            events,
            restates: false,
        },
    )
}

#[test]
fn the_batches_made_for_the_limits_often_parse() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let parses = (0..200).filter(|_| {
        let batch = batches().new_tree(&mut runner).expect("tree").current();
        parse(signed("H24", batch.encode_to_vec()).encode_to_vec().into()).is_ok()
    });
    let parses = parses.count();
    assert!((20..180).contains(&parses), "{parses} of 200");
}
