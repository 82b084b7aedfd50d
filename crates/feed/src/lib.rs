//! Feeds: what one origin tells one audience on one lane, as sealed batches.
//!
//! ```text
//! SealedBatch ── body ─────► Batch { origin, audience, lane, sequence, previous, sealed_at, events[] }
//!            └── signature ► DSSE over the exact bytes of `body`
//! digest(batch n) = SHA-256(body n) = previous(batch n+1)
//! ```
//!
//! A feed has no gap and no fork: sequence numbers start at 1, each batch names the digest of the one before.
//!
//! The types keep the invariant *nothing unproven enters*: [`parse`] gives an [`UnverifiedBatch`], only
//! [`Directory::verify`] (or sealing it oneself, [`Sealer::seal`]) makes a [`VerifiedBatch`] of it, and a log takes
//! nothing else. [`follow`] is the one place that says whether a batch is the next of its feed.
//!
//! In scope: identity, sealing, verification, chaining, who may say and read what. Out of scope: storage
//! (`httt-log`) and carrying (`httt-exchange`). No I/O, no clock.

mod batch;
mod chain;
mod directory;
mod dsse;
mod identity;
mod key;
mod refusal;

pub use batch::{
    MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_EVENTS_PER_BATCH, MAX_NAME_BYTES, MAX_SEALED_BYTES, PAYLOAD_TYPE, Sealer,
    UnsignedBatch, UnverifiedBatch, VerifiedBatch, body_digest, check_event, parse,
};
pub use chain::{Link, follow};
pub use directory::{Certificate, Directory, Founding, Member, MemberKind, ReadGrant};
pub use dsse::dsse_envelope;
pub use identity::{AgencyCode, Audience, Digest, FeedId, Head, InvalidAgencyCode, InvalidFeedId, Lane};
pub use key::{Algorithm, Fingerprint, KeyError, KeyId, PublicKey, SigningKey};
pub use refusal::Refusal;
