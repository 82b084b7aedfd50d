//! Help for tests that cross services: the `httt` program, run as a user runs it, other people's programs, and a
//! collector of traces.

mod collector;
mod program;
mod tools;

pub use collector::{Collector, SeenSpan};
pub use program::{Outcome, httt, httt_command};
pub use tools::{curl, go_program, nats_server, python};
