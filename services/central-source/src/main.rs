//! `central-source`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    httt_central_source::main(httt_central_source::Args::parse())
}
