//! Read models: projections of the log, folded in one pass, kept live, stored as snapshots, and compared with themselves
//! rebuilt from nothing.
//!
//! A [`ModelSet`] is the read models of one node. Each stands in a [`Projection`], which has a position of its own to
//! start from: a model whose snapshot is missing, damaged or of another version is folded from the first entry, in the
//! same pass in which the others get only what they have not folded yet.
//!
//! | Part | Subject |
//! |---|---|
//! | [`Projection`] | one model, where it starts, and whether it broke |
//! | [`SnapshotStore`] | states as bytes in `models/`, and why a stored one is not believed |
//! | [`Models`] | the set of a running node |
//! | [`offline`] | the same comparison from a node's folder, without the node |
//!
//! A model that panics is stopped where it is and told; the other models and the node go on.

mod fold;
mod live;
pub mod offline;
mod projection;
mod snapshot;

use httt_domain::models::Fact;
use httt_feed::Digest;
use httt_log::{Entry, ReadError};
use serde::Serialize;

use crate::traffic::Receipted;

pub use fold::FoldProgress;
pub use live::{DEFAULT_SNAPSHOT_ENTRIES, Models, SnapshotOptions};
pub use projection::{Part, Projection};
pub use snapshot::{MAX_SNAPSHOT_BYTES, SNAPSHOT_CHUNK_BYTES, Snapshot, SnapshotError, SnapshotStore, Unusable};

/// The read models of one node, folded in one pass. [`projections!`](crate::projections) writes `parts` and `parts_mut`.
pub trait ModelSet: Default + Send + Sync + 'static {
    /// Which models look at which others while they fold, by name. Such a model needs the others as they were at each
    /// fact: whenever it starts earlier than they do, they start with it. Snapshots of a model are of no use either once
    /// one it looks at has another version.
    const NEEDS: &'static [(&'static str, &'static [&'static str])] = &[];

    /// Folds one fact of the entry at `position` into every model, through [`Projection::fold`].
    fn apply(&mut self, position: u64, fact: &Fact<'_>);

    /// Every model, those that others look at before these.
    fn parts(&self) -> Vec<&dyn Part>;

    /// The same, to be changed.
    fn parts_mut(&mut self) -> Vec<&mut dyn Part>;

    /// The model of receipts, where the node keeps one: nodes that originate feeds do.
    fn receipted(&self) -> Option<&Receipted> {
        None
    }
}

/// Names the fields of a [`ModelSet`] that are its projections, those that others look at before these.
#[macro_export]
macro_rules! projections {
    ($($field:ident),+ $(,)?) => {
        fn parts(&self) -> Vec<&dyn $crate::models::Part> {
            vec![$(&self.$field),+]
        }
        fn parts_mut(&mut self) -> Vec<&mut dyn $crate::models::Part> {
            vec![$(&mut self.$field),+]
        }
    };
}

/// Hands each event of an entry to `take`, as models see it.
pub fn for_each_fact(entry: &Entry, mut take: impl FnMut(&Fact<'_>)) {
    for event in &entry.batch.events {
        take(&Fact::of(&entry.batch, event));
    }
}

/// What comparing one model came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Live and rebuilt are the same.
    Equal,
    /// They are not: one of them is wrong.
    Differs,
    /// They are not, and entries that were folded live went by retention since: that may be all there is to it.
    NotComparable,
    /// The model broke while it was folded, live or now.
    Failed,
    /// Nothing is stored of it (only of stored snapshots).
    Absent,
    /// What is stored is of another version of the program, and will not be used (only of stored snapshots).
    Outdated,
    /// What is stored is damaged, or of another history of the log (only of stored snapshots).
    Refused,
}

impl Verdict {
    /// Whether somebody must look: anything but equal states and snapshots that are merely not there.
    pub fn is_alarming(self) -> bool {
        matches!(self, Self::Differs | Self::Failed | Self::Refused)
    }
}

/// One model, live and rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// The model's name.
    pub model: &'static str,
    /// Entries folded into both.
    pub position: u64,
    /// Digest of the live one, hexadecimal; empty when there is none.
    pub live: String,
    /// Digest of the one rebuilt from nothing; empty when there is none.
    pub rebuilt: String,
    /// Whether they are the same.
    pub equal: bool,
    /// The same with its reasons.
    pub verdict: Verdict,
    /// What is to be said of it; empty when they are equal.
    pub problem: String,
}

impl Comparison {
    /// `gone`: entries that the rebuilt one lacks, because they went by retention.
    fn of(
        model: &'static str,
        position: u64,
        live: Result<Digest, String>,
        rebuilt: Result<Digest, String>,
        gone: u64,
    ) -> Self {
        let (verdict, problem) = match (&live, &rebuilt) {
            (Ok(live), Ok(rebuilt)) if live == rebuilt => (Verdict::Equal, String::new()),
            (Ok(_), Ok(_)) if gone > 0 => (
                Verdict::NotComparable,
                format!("not comparable: {gone} entries before this position went by retention"),
            ),
            (Ok(_), Ok(_)) => (Verdict::Differs, "live and rebuilt differ".to_owned()),
            (Err(live), Ok(_)) => (Verdict::Failed, format!("live: {live}")),
            (Ok(_), Err(rebuilt)) => (Verdict::Failed, format!("rebuilt: {rebuilt}")),
            (Err(live), Err(rebuilt)) => (Verdict::Failed, format!("live: {live}; rebuilt: {rebuilt}")),
        };
        let text = |digest: Result<Digest, String>| digest.map(|digest| digest.to_string()).unwrap_or_default();
        let equal = verdict == Verdict::Equal;
        Self { model, position, live: text(live), rebuilt: text(rebuilt), equal, verdict, problem }
    }
}

/// Why models were not compared or rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// One at a time: each takes the memory of all models again.
    #[error("the models are being compared or rebuilt already; wait until that is done")]
    Busy,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}
