//! `ndxp-gateway`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    httt_ndxp_gateway::main(httt_ndxp_gateway::Args::parse())
}
