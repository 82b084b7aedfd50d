//! The exchange: *"I have this feed up to N, give me what follows."*
//!
//! Four pure parts hold every rule of the protocol and do no I/O, so that a seeded simulator can drive them:
//! - [`Copier`], the member's side: from heads, entries and ticks to asks, pushes and stores;
//! - [`admit`], what either side does with entries that arrive: verify, chain, take the good prefix;
//! - [`judge`], a witness's rule: a log that was cosigned may only grow;
//! - [`quota`], how much a caller may ask for.
//!
//! Around them thin drivers: [`grpc`] (mutual TLS), [`rest`] (what a province's platform speaks), [`carry`] (files on a
//! stick) and [`memory`] (tests).
//! [`Service`] is the serving side over a log; [`run`] drives a [`Copier`] over a log and a [`Peer`].
//!
//! The highest copied sequence is the cursor and the log is the outbox: there is no bookkeeping here that could
//! disagree with the data.

mod admit;
mod again;
mod bandwidth;
pub mod carry;
mod copier;
mod deliveries;
mod directory;
mod evidence;
mod founding;
mod gate;
pub mod grpc;
mod limits;
pub mod memory;
mod meter;
mod own;
mod pack;
mod peer;
mod polls;
pub mod quota;
mod refusal;
pub mod rest;
mod runner;
mod service;
mod store;
mod tally;
mod wants;
mod witness;

pub use futures_util::future::BoxFuture;

pub use admit::{Admission, admit};
pub use bandwidth::{BURST_MS, Bandwidth, Limit, Taken};
pub use copier::{Action, Alarm, Copier, Input, Settings, head_from_wire, head_to_wire};
pub use deliveries::{Deliveries, ReaderState};
pub use directory::{SharedDirectory, StoppedFeeds};
pub use evidence::{Evidence, derived_id};
pub use gate::{Closed, Gate, Passing, revoked_members};
pub use httt_wire::exchange::RefusalCode;
pub use limits::{Held, Limiter, Limits, Use};
pub use meter::{Flow, Meter, Passed, Topic};
pub use own::{Asks, MAX_HELD, NotYet, OwnFeeds};
pub use pack::{DICTIONARY, MAX_UNPACKED_BYTES, OnTheWire, pack, unpack};
pub use peer::{Media, MediaError, MediaStat, Peer, PeerError};
pub use refusal::{busy, refusal_from_wire, refusal_to_wire, refused};
pub use runner::{Link, LinkState, PushesFor, RunnerOptions, SpanOf, run};
pub use service::Service;
pub use store::{
    DEFAULT_AGAIN_BYTES, LogStore, Receipts, Store, StoreError, receipt_events, receipt_id, receipts_stream,
};
pub use tally::{MAX_RECORDS_A_DAY, Suspect, Tally};
pub use witness::{
    AddCheckpoint, DEFAULT_WITNESS_EVERY, MAX_ADD_CHECKPOINT_BYTES, MAX_CHECKPOINT_BODY_BYTES, MAX_KEPT_REFUSALS,
    OwnState, Seen, Watched, WitnessRefusal, Witnessing, judge, run_witness,
};

/// Most bytes of entries asked for, sent or served in one call.
pub const MAX_CALL_BYTES: usize = 1024 * 1024;
/// Largest message taken from a peer: one call's entries and their framing, or one range of a media file.
pub const MAX_MESSAGE_BYTES: usize = 2 * 1024 * 1024;
/// Most bytes of a media file in one call.
pub const MAX_MEDIA_RANGE: usize = 1024 * 1024;
/// Most heads in one answer.
pub const MAX_HEADS: usize = 2_000;
/// Longest a call for heads may wait for something new.
pub const MAX_WAIT_MS: u32 = 30_000;
/// Most entries in one push.
pub const MAX_ENTRIES_PER_PUSH: usize = 4_096;
