//! Loudspeaker clusters: who they are, what they are doing, what they played.
//!
//! Clusters report every minute and only their province sees that. Upward goes what changed, with clusters named by
//! short ordinals and lists of them as differences: see [`StatusTracker`], [`PlayedTracker`] and [`encode_deltas`].

mod ordinals;
mod played;
mod register;
mod restate;
mod status;

pub use ordinals::{DeltaError, OrdinalSet, decode_deltas, encode_deltas};
pub use played::PlayedTracker;
pub use register::{MAX_VENDOR, NewCluster, Register, is_imei};
pub use restate::{RESTATE_EVERY_MS, Restatement};
pub use status::{Status, StatusTracker};

/// Stream of the register and of status changes, one a node.
pub const CLUSTERS_STREAM: &str = "clusters";
/// What an event about clusters stays below, in bytes.
pub const MAX_LIST_BYTES: usize = 40 * 1024;
/// Most ordinals in one event: five bytes each at worst, with room for the rest.
pub const MAX_ORDINALS: usize = 8_000;

/// What a device says it is doing, `TrangThaiHoatDong` (field practice).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// `"0"`
    Playing,
    /// `"1"`
    Paused,
    /// `"2"`
    #[default]
    Idle,
}
