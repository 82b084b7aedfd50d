//! The `httt` program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// It is none; the message shows what it was.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs `httt` to its end.
///
/// # Panics
/// It cannot be built or started.
pub fn httt<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Outcome {
    let output = httt_command().args(args).stdin(Stdio::null()).output().expect("httt starts");
    Outcome {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A command that runs `httt`, built first if it is older than its sources: cargo builds no other package's programs
/// for a test.
///
/// # Panics
/// It cannot be built.
pub fn httt_command() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    Command::new(PROGRAM.get_or_init(build))
}

fn build() -> PathBuf {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("own path");
    let folder = test.parent().and_then(Path::parent).expect("target folder").to_owned();
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--locked", "-p", "httt", "--profile", profile, "--target-dir"])
        .arg(folder.parent().expect("target folder"));
    // What the cargo that runs this test says of the test's package. ring's build script asks for the same names, so
    // inheriting them has ring, and all that rests on it, built again: here, and again by the next cargo outside.
    let of_the_test = |name: &str| name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_");
    for name in std::env::vars_os().map(|(name, _)| name).filter(|name| name.to_str().is_some_and(of_the_test)) {
        build.env_remove(name);
    }
    let built = build.status().expect("cargo starts");
    assert!(built.success(), "httt cannot be built");
    folder.join("httt")
}
