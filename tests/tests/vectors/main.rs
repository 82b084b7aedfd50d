//! The test vectors of `tests/vectors/`: made again and compared, and judged by a second reading of the protocol that
//! shares nothing with the first but `ring`, zstd and the protobuf messages.

mod founding;
mod judge;
mod make;
mod packing;
mod parts;
mod reading;
mod rights;
mod steps;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Set to write the files anew; look at what changed before it is committed.
const WRITE: &str = "HTTT_WRITE_VECTORS";

fn writes() -> bool {
    std::env::var_os(WRITE).is_some()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn stored(name: &str) -> Value {
    let text = fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn compare(name: &str, made: &Value) {
    if writes() {
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
    compare("directory.json", &steps::directory());
}

#[test]
fn refusals_are_made_again_alike() {
    compare("refusals.json", &judge::refusals());
}

#[test]
fn foundings_are_made_again_alike() {
    compare("founding.json", &founding::founding());
}

#[test]
fn packings_are_made_again_alike() {
    compare("packing.json", &packing::packing());
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
fn a_second_reading_founds_the_same_directories() {
    reading::foundings(&stored("directory.json"), &stored("founding.json"));
}

#[test]
fn a_second_reading_unpacks_the_same_entries() {
    reading::packings(&stored("packing.json"));
}

#[test]
fn every_refusal_of_a_batch_or_a_right_has_a_case() {
    let refusals = stored("refusals.json");
    let codes: Vec<i64> = ["entries", "rights"]
        .iter()
        .flat_map(|list| refusals[list].as_array().expect("list"))
        .filter_map(|case| case["expected"]["number"].as_i64())
        .collect();
    // NOT_A_MEMBER to BROKEN_CHAIN, SUSPENDED, REVOKED_CERTIFICATE; others say how a serving node does, not what is right.
    for number in (1..=11).chain([15, 17]) {
        assert!(codes.contains(&number), "no case for refusal {number}");
    }
    assert!(codes.contains(&0), "nor for what is good");
}
