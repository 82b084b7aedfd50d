//! The test vectors of `tests/vectors/`: made again and compared, and judged by a second reading of the protocol that
//! shares nothing with the first but `ring` and the protobuf messages.

mod judge;
mod make;
mod parts;
mod reading;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Set to write the files anew; look at what changed before it is committed.
const WRITE: &str = "HTTT_WRITE_VECTORS";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn stored(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn compare(name: &str, made: &Value) {
    if std::env::var_os(WRITE).is_some() {
        let text = serde_json::to_string_pretty(made).expect("JSON") + "\n";
        fs::write(folder().join(name), text).expect("written");
    }
    assert!(stored(name) == *made, "{name} is not what this program makes; see tests/vectors/README.md");
}

#[test]
fn keys_are_made_again_alike() {
    compare("keys.json", &make::keys());
}

#[test]
fn batches_are_made_again_alike() {
    compare("batches.json", &make::batches());
}

#[test]
fn the_directory_is_made_again_alike() {
    compare("directory.json", &make::directory());
}

#[test]
fn refusals_are_made_again_alike() {
    compare("refusals.json", &judge::refusals());
}

#[test]
fn a_second_reading_computes_the_same_keys() {
    reading::keys(&stored("keys.json"));
}

#[test]
fn a_second_reading_computes_the_same_batches() {
    reading::batches(&stored("keys.json"), &stored("batches.json"));
}

#[test]
fn a_second_reading_folds_the_same_directory() {
    reading::directory(&stored("directory.json"));
}

#[test]
fn a_second_reading_gives_the_same_verdicts() {
    reading::refusals(&stored("directory.json"), &stored("refusals.json"));
}

#[test]
fn every_refusal_that_a_batch_can_meet_has_a_case() {
    let refusals = stored("refusals.json");
    let codes: Vec<i64> = ["entries", "rights"]
        .iter()
        .flat_map(|list| refusals[list].as_array().expect("list"))
        .filter_map(|case| case["expected"]["number"].as_i64())
        .collect();
    // NOT_A_MEMBER to BROKEN_CHAIN; what is above them is said of calls, not of batches.
    for number in 1..=11 {
        assert!(codes.contains(&number), "no case for refusal {number}");
    }
    assert!(codes.contains(&0), "nor for what is good");
}
