//! What was sealed verifies, and nothing else does.

mod common;

use bytes::Bytes;
use common::*;
use httt_feed::*;
use httt_wire::{Message as _, feed as pb};
use proptest::prelude::*;

#[test]
fn a_sealed_batch_comes_back_from_its_bytes() {
    let world = World::new();
    let sealed = world.seal("H24", "TW", Lane::Report, None, 3);
    let again = world.directory.verify(parse(sealed.bytes().clone()).expect("parses")).expect("verifies");
    assert_eq!(again.head(), sealed.head());
    assert_eq!(again.batch(), sealed.batch());
    assert_eq!(again.previous(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One flipped bit anywhere in a sealed batch, and it is refused or (never) taken for something else.
    #[test]
    fn no_flipped_bit_survives(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let world = World::new();
        let sealed = world.seal("H24", "TW", Lane::Report, None, 2);
        let mut bytes = sealed.bytes().to_vec();
        let at = position.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let outcome = parse(Bytes::from(bytes)).and_then(|batch| world.directory.verify(batch));
        prop_assert!(outcome.is_err(), "byte {at} bit {bit}");
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_verify(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let world = World::new();
        prop_assert!(parse(Bytes::from(bytes)).and_then(|batch| world.directory.verify(batch)).is_err());
    }
}

#[test]
fn an_envelope_in_another_form_is_refused() {
    let world = World::new();
    let sealed = world.seal("H24", "TW", Lane::Report, None, 1);
    let mut bytes = sealed.bytes().to_vec();
    bytes.extend([0x18, 0x01]); // an unknown field 3
    assert!(matches!(parse(bytes.into()), Err(Refusal::Malformed(_))));
}

#[test]
fn sizes_are_bounded() {
    let world = World::new();
    let feed = feed("H24", "TW", Lane::Report);
    let large = |bytes| vec![event("s", 1, vec![0; bytes])];
    assert!(world.sealer("H24").seal(&feed, None, 0, large(MAX_EVENT_BYTES)).is_ok());
    assert!(matches!(
        world.sealer("H24").seal(&feed, None, 0, large(MAX_EVENT_BYTES + 1)),
        Err(Refusal::TooLarge { .. })
    ));
    let many = (1..=2).map(|version| event("s", version, vec![0; MAX_EVENT_BYTES])).collect();
    assert!(matches!(world.sealer("H24").seal(&feed, None, 0, many), Err(Refusal::TooLarge { what: "a batch", .. })));
    assert!(matches!(parse(vec![0; MAX_SEALED_BYTES + 1].into()), Err(Refusal::TooLarge { .. })));
    assert!(matches!(world.sealer("H24").seal(&feed, None, 0, vec![]), Err(Refusal::Malformed(_))));
    assert!(matches!(world.sealer("TW").seal(&feed, None, 0, large(1)), Err(Refusal::WrongMember { .. })));
}

#[test]
fn the_signature_is_dsse_over_the_body() {
    let world = World::new();
    let sealed = world.seal("H24", "TW", Lane::Report, None, 1);
    let envelope = pb::SealedBatch::decode(sealed.bytes().clone()).expect("envelope");
    let mut pae = format!("DSSEv1 38 application/vnd.httt.batch.v1+protobuf {} ", envelope.body.len()).into_bytes();
    pae.extend_from_slice(&envelope.body);
    let signature = envelope.signature.expect("signature");
    assert!(world.sealer("H24").key().public().verifies(&pae, &signature.value));
    assert_eq!(sealed.digest(), Digest::of(&envelope.body));
}
