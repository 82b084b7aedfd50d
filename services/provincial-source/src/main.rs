//! `provincial-source`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    httt_provincial_source::main(httt_provincial_source::Args::parse())
}
