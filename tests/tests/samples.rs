//! The sample configurations of deploy/ are good ones, and so are the keys that they show as comments.

use std::path::{Path, PathBuf};

use httt_node::config::load;
use serde::de::DeserializeOwned;

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// Switches on every key that is shown as a comment: `# key = value`.
fn with_every_key(text: &str) -> (String, usize) {
    let mut switched = 0;
    let lines = text.lines().map(|line| match line.strip_prefix("# ").or_else(|| line.strip_prefix('#')) {
        Some(key) if key.split(" = ").next().is_some_and(is_key) && key.contains(" = ") => {
            switched += 1;
            key
        }
        _ => line,
    });
    (lines.collect::<Vec<_>>().join("\n"), switched)
}

fn is_key(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
}

fn check<C: DeserializeOwned>(name: &str) {
    let path = sample(name);
    load::<C>(&path).unwrap_or_else(|error| panic!("{error}"));
    let (text, switched) = with_every_key(&std::fs::read_to_string(&path).expect(name));
    assert!(switched >= 5, "{name} shows only {switched} defaults");
    let dir = tempfile::tempdir().expect("dir");
    let all = dir.path().join(name);
    std::fs::write(&all, text).expect("write");
    load::<C>(&all).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn ndxp_gateway() {
    check::<httt_ndxp_gateway::Config>("ndxp-gateway.toml");
}

#[test]
fn lgsp_adapter() {
    check::<httt_lgsp_adapter::Config>("lgsp-adapter.toml");
}

#[test]
fn central_source() {
    check::<httt_central_source::Config>("central-source.toml");
}

#[test]
fn provincial_source() {
    check::<httt_provincial_source::Config>("provincial-source.toml");
}
