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
