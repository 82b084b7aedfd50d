//! The rules: pure functions, no clock, no I/O, no randomness.
//!
//! ```text
//! decide(state, command, context) -> Result<events, Refusals>      what may happen, and why not
//! evolve(state, event)            -> state                         what is, after it happened
//! ReadModel::apply(fact)                                           what a node knows, folded from its log
//! ```
//!
//! Time comes in as an argument (Unix milliseconds, or a date), state is kept in ordered maps and whole numbers, so the
//! same log gives the same bytes on every machine. What a decision returns is turned into a [`DomainEvent`] that a
//! service appends without knowing its type. Every [`refusal::Refusal`] names the field at fault and says in Vietnamese
//! and English what was given, what is allowed and what to do.
//!
//! What no published law fixes is data or configuration: the forms (`data/forms/*.toml`), the areas (`data/*.csv`),
//! the command codes of devices ([`device::CommandCodes`]), the time after which a cluster counts as offline.

pub mod accounts;
pub mod area;
pub mod bulletin;
pub mod cluster;
pub mod device;
mod event;
pub mod models;
mod number;
pub mod refusal;
pub mod report;
pub mod schedule;

pub use event::{DomainEvent, Lane, MAX_EVENT_BYTES};
pub use refusal::{Field, Refusal, Refusals};
