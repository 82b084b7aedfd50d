//! The simulator has teeth: with any rule of the protocol broken, some schedule fails.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use httt_sim::{Mutation, simulate};

/// Every mutation must be found among so many seeds. `schedules.rs` shows that none of them fails without one.
const SEEDS: u64 = 120;

#[test]
fn each_broken_rule_makes_some_schedule_fail_with_a_command_that_replays_it() {
    let (next, missed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(mutation) = Mutation::ALL.get(next.fetch_add(1, Ordering::Relaxed)).copied() {
                    match (1..=SEEDS).find_map(|seed| simulate(seed, Some(mutation), None).err()) {
                        Some(failure) => {
                            let seed = failure.seed;
                            let expected = format!("httt sim --seed {seed} --seeds 1 --trace --mutation {mutation}");
                            assert_eq!(failure.replay(), expected);
                            assert_eq!(simulate(seed, Some(mutation), None), Err(failure), "a failure repeats");
                        }
                        None => missed.lock().expect("lock").push(mutation.as_str()),
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("lock");
    assert!(missed.is_empty(), "nobody noticed: {missed:?}");
}

#[test]
fn mutations_are_found_by_their_names() {
    for mutation in Mutation::ALL {
        assert_eq!(mutation.as_str().parse(), Ok(mutation));
    }
    assert!("no-such-rule".parse::<Mutation>().is_err());
}
