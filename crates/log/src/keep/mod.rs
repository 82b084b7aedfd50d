//! Keeping a log safe: backup while it is written, restore, archive, repair; and small: retention.
//!
//! What all have in common: nothing is replaced before its successor is complete, verified and on disk; what is
//! copied is verified as it stands in the copy, frame by frame and against the Merkle roots of the commit markers.

mod archive;
mod backup;
mod copy;
mod manifest;
mod repair;
mod restore;
pub(crate) mod retention;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use archive::{ArchiveReport, MIN_KEPT_CHUNKS, archive};
pub use backup::{BackupOptions, BackupReport, backup};
pub use repair::{Donor, RepairError, RepairOptions, RepairReport, RepairedSpan, Unrepaired, repair};
pub use restore::{RestoreReport, restore};
pub use retention::{LaneGone, MIN_FREED_SHARE, ThinReport, thin};

use httt_feed::{Digest, Lane};

use crate::{Damage, OpenError};

/// How far a backup, restore or archiving is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeepProgress {
    /// Bytes done.
    pub bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
}

/// Told of progress, about every MiB.
pub type OnKeepProgress<'a> = Box<dyn FnMut(&KeepProgress) + 'a>;

/// Why a backup, restore or archiving was not done. What was there before is there still.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The log to copy, or the folder to copy into, is damaged, locked, of another format, or shorter than its
    /// checkpoint.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// One folder is in the other.
    #[error("{} and {} are one inside the other; name a folder elsewhere", a.display(), b.display())]
    SameFolder {
        /// One.
        a: PathBuf,
        /// The other.
        b: PathBuf,
    },
    /// The target of a restore holds something.
    #[error("{} is not empty; restore into a new folder, and put it in place afterwards", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds chunks of another log.
    #[error("{} holds another log (id {theirs}, not {ours}); every log needs a folder of its own", dir.display())]
    AnotherLog {
        /// The folder.
        dir: PathBuf,
        /// Id of the log in it, hexadecimal.
        theirs: String,
        /// Id of the log to put there, hexadecimal.
        ours: String,
    },
    /// The backup knows more than the log: the log has lost entries, or was restored from an older backup.
    #[error(
        "the backup in {} has {backup} entries, the log only {log}: the log has lost entries; keep this backup, and \
         back up into a new folder",
        dir.display()
    )]
    BackupAhead {
        /// The backup's folder.
        dir: PathBuf,
        /// Entries in the backup.
        backup: u64,
        /// Entries in the log.
        log: u64,
    },
    /// The entries are not those that were vouched for.
    #[error("the first {size} entries do not have the root that {who} says ({expected}); nothing was replaced")]
    RootDiffers {
        /// Who vouches: the checkpoint or a manifest.
        who: String,
        /// Entries compared.
        size: u64,
        /// The root it says.
        expected: Digest,
    },
    /// A file is not what the manifest, or the stub, says it is.
    #[error("{}: {what}", path.display())]
    NotAsRecorded {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// Earlier chunks of the log are archived in another folder.
    #[error("chunks of this log are archived in {} already; use that folder", folder.display())]
    ArchivedElsewhere {
        /// Where they are.
        folder: PathBuf,
    },
    /// Entries of this lane never go: the directory verifies everything, and nobody else has the lane `local`.
    #[error("entries of the lane {lane} are kept for good; name other lanes")]
    LaneStays {
        /// The lane.
        lane: Lane,
    },
    /// The log was opened with [`crate::Options::read_only`].
    #[error("the log is open for reading only; its chunks stay where they are")]
    ReadOnly,
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl KeepError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

impl From<Damage> for KeepError {
    fn from(damage: Damage) -> Self {
        Self::Log(damage.into())
    }
}

/// Held by whoever moves or replaces chunks: clones of one log might be asked at the same time.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses folders of which one is the other or inside it. Both must exist.
fn apart(a: &Path, b: &Path) -> Result<(), KeepError> {
    let real = |path: &Path| path.canonicalize().map_err(KeepError::io(format!("looking at {}", path.display())));
    let (real_a, real_b) = (real(a)?, real(b)?);
    if real_a.starts_with(&real_b) || real_b.starts_with(&real_a) {
        return Err(KeepError::SameFolder { a: a.to_owned(), b: b.to_owned() });
    }
    Ok(())
}

/// A length and a root that the entries must bear out.
#[derive(Debug)]
struct Vouched {
    who: String,
    size: u64,
    root: Digest,
    seen: bool,
}

/// What is vouched for about the entries that are walked.
#[derive(Debug, Default)]
struct Vouchers(Vec<Vouched>);

impl Vouchers {
    fn add(&mut self, who: impl Into<String>, size: u64, root: Digest) {
        self.0.push(Vouched { who: who.into(), size, root, seen: false });
    }

    /// The entries up to `size`, where a commit ends, have this root.
    fn meet(&mut self, size: u64, root: Digest) -> Result<(), KeepError> {
        for vouched in self.0.iter_mut().filter(|vouched| vouched.size == size) {
            vouched.seen = true;
            if vouched.root != root {
                return Err(vouched.differs());
            }
        }
        Ok(())
    }

    /// Whether something is vouched for between two lengths.
    fn any_within(&self, from: u64, to: u64) -> bool {
        self.0.iter().any(|vouched| from < vouched.size && vouched.size < to)
    }

    /// Everything vouched for must have been met: roots are vouched for where commits end.
    fn finish(&self) -> Result<(), KeepError> {
        self.finish_up_to(u64::MAX)
    }

    /// The same for what is vouched for about the first `size` entries.
    fn finish_up_to(&self, size: u64) -> Result<(), KeepError> {
        self.0
            .iter()
            .find(|vouched| !vouched.seen && vouched.size <= size)
            .map_or(Ok(()), |vouched| Err(vouched.differs()))
    }
}

impl Vouched {
    fn differs(&self) -> KeepError {
        KeepError::RootDiffers { who: self.who.clone(), size: self.size, expected: self.root }
    }
}
