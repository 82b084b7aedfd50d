//! What the log does when the file system fails it.
//!
//! `single`: chosen faults, each with what it must lead to. `matrix`: every operation of a workload with every fault, and
//! a power cut at every operation, on a disk (`disk`, `platter`) that knows what would be left of each file.

mod disk;
mod judge;
mod matrix;
mod platter;
mod single;
mod thinning;
mod workload;

use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Sealer, SigningKey};

use crate::{ManualClock, Options};

/// An operation that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Op {
    Create,
    Open,
    Write,
    SetLen,
    Sync,
    SyncDir,
    Rename,
    Remove,
    SetReadonly,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The system's error.
    Errno(i32),
    /// So many bytes are written, without an error.
    Short(usize),
}

const EIO: Fault = Fault::Errno(5);
const ENOSPC: Fault = Fault::Errno(28);

fn sealer() -> Arc<Sealer> {
    let key = SigningKey::from_seed(&[1; 32]).expect("seed");
    Arc::new(Sealer::new(AgencyCode::new("H24").expect("code"), key))
}

fn options(chunk_bytes: u64) -> Options {
    Options {
        chunk_bytes,
        checkpoint_every: Duration::from_secs(3_600),
        clock: Arc::new(ManualClock::new(0)),
        ..Options::default()
    }
}
