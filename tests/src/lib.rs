//! Help for tests that cross services: the `httt` program, run as a user runs it, and a collector of traces.

mod collector;
mod program;

pub use collector::{Collector, SeenSpan};
pub use program::{Outcome, httt, httt_command};
