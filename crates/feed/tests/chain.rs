//! No gap, no fork.

mod common;

use common::*;
use httt_feed::*;

#[test]
fn the_next_batch_follows_and_nothing_else_does() {
    let world = World::new();
    let first = world.seal("H24", "TW", Lane::Report, None, 1);
    let second = world.seal("H24", "TW", Lane::Report, Some(&first.head()), 1);
    let third = world.seal("H24", "TW", Lane::Report, Some(&second.head()), 1);
    let other_first = world.seal("H24", "TW", Lane::Report, None, 2);
    let other_second = world.seal("H24", "TW", Lane::Report, Some(&other_first.head()), 1);

    assert_eq!(follow(None, &first), Ok(Link::Next));
    assert_eq!(follow(Some(&first.head()), &second), Ok(Link::Next));
    assert_eq!(follow(Some(&first.head()), &first), Ok(Link::Held));
    assert_eq!(follow(Some(&third.head()), &first), Ok(Link::Held));
    assert!(matches!(follow(None, &second), Err(Refusal::Gap { expected: 1, got: 2, .. })));
    assert!(matches!(follow(Some(&first.head()), &third), Err(Refusal::Gap { expected: 2, got: 3, .. })));
    assert!(matches!(follow(Some(&first.head()), &other_second), Err(Refusal::BrokenChain { sequence: 2, .. })));
    assert!(matches!(follow(Some(&first.head()), &other_first), Err(Refusal::Fork { sequence: 1, .. })));
}

#[test]
fn who_holds_nothing_may_begin_where_the_lane_status_restates() {
    let world = World::new();
    let feed = feed("H24", "TW", Lane::Status);
    let seal = |head: Option<&Head>, version| {
        let sealer = Sealer::new(code("H24"), key("H24"));
        sealer.seal_restating(&feed, head, 0, vec![event("clusters", version, vec![])]).expect("seals")
    };
    let first = seal(None, 1);
    let second = seal(Some(&first.head()), 2);
    let third = seal(Some(&second.head()), 3);
    assert_eq!(follow(None, &second), Ok(Link::Next));
    assert!(matches!(follow(Some(&first.head()), &third), Err(Refusal::Gap { expected: 2, got: 3, .. })));
    let verified = world.directory.verify(parse(second.bytes().clone()).expect("parses")).expect("verifies");
    assert!(verified.restates());
}

#[test]
fn no_other_lane_restates() {
    let world = World::new();
    let report = feed("H24", "TW", Lane::Report);
    let sealer = Sealer::new(code("H24"), key("H24"));
    let refused = sealer.seal_restating(&report, None, 0, vec![event("r", 1, vec![])]);
    assert!(matches!(refused, Err(Refusal::Malformed(_))));
    // Sealed by somebody who does not keep to that.
    let mut batch = (**world.seal("H24", "TW", Lane::Report, None, 1).batch()).clone();
    batch.restates = true;
    let signature = Some(httt_wire::feed::Signature { key_id: vec![0; 8], value: vec![0; 64] });
    let sealed = httt_wire::feed::SealedBatch { body: httt_wire::Message::encode_to_vec(&batch).into(), signature };
    let refused = parse(httt_wire::Message::encode_to_vec(&sealed).into());
    assert!(matches!(refused, Err(Refusal::Malformed(what)) if what.contains("restates")));
}
