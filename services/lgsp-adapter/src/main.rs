//! `lgsp-adapter`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    httt_lgsp_adapter::main(httt_lgsp_adapter::Args::parse())
}
