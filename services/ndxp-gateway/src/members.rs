//! Who takes part, with which keys and rights: what the gateway's operator says, and what becomes of it.
//!
//! ```text
//! member files ─ at start, members that are not known yet ─┐
//! operator ─ HTTP ─► Order ─► decide ─► Service::revise ───┴─► events in NDXP→*/directory
//!          └ a file ─► Reading ─► Admission, named in an Order
//! ```

mod admission;
mod answers;
mod command;
mod decide;
mod files;
mod refusal;
mod rotation;
mod routes;
mod upload;

pub use admission::{Admission, KeptOut, MAX_ADMITTED, MAX_DIGESTS_PER_EVENT, Reading};
pub use answers::{AdmissionAnswer, CertificateAnswer, KeptOutAnswer, KeyAnswer, MemberDetail};
pub use command::{Command, Order};
pub use decide::{Context, decide};
pub(crate) use files::keys;
pub use files::{Kind, MemberFile, MemberFileError, enrolment, read_members};
pub use refusal::Refusal;
pub use rotation::answer_to;
pub(crate) use rotation::{announce, answer};
pub(crate) use routes::{Office, routes};
pub use upload::MAX_ADMISSION_FILE_BYTES;
pub(crate) use upload::Waiting;

/// Good keys a member may have at a time: two overlap while one replaces the other, and some rest.
pub const MAX_KEYS: usize = 8;
/// Certificates a member may have had.
pub const MAX_CERTIFICATES: usize = 1_000;
/// Longest reason, bytes.
pub const MAX_REASON_BYTES: usize = 1_000;
/// Longest name of a member, bytes.
pub(crate) const MAX_NAME_BYTES: usize = 200;
/// Longest code of an area, bytes.
pub(crate) const MAX_AREA_BYTES: usize = 20;
