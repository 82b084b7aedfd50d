//! Comparing and rebuilding from a node's folder, without the node.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use httt_feed::Digest;
use httt_log::{ReadError, RunningRoot, Scanned, StoreError, scan_entries};

use super::fold::{Folded, History, Pass, Passed, versions_of};
use super::snapshot::{Snapshot, SnapshotError, SnapshotStore, Unusable};
use super::{Comparison, FoldProgress, ModelSet, Verdict};

/// Files in a folder of snapshots, at most; sled keeps a handful.
const MAX_FILES: usize = 10_000;
/// A node that runs may be storing while its snapshots are copied: how often to look again.
const COPY_TRIES: usize = 3;

/// Why a folder was not compared or rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The snapshots cannot be written.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// Folds the log in `log` from nothing and compares each snapshot in `models` with it, at the snapshot's position.
/// Nothing in either folder is changed: the snapshots are copied into `scratch`, an empty folder, first. The node may run.
///
/// # Errors
/// The log cannot be read, or `scratch` not written.
pub fn compare<S: ModelSet>(
    log: &Path,
    models: &Path,
    scratch: &Path,
    on_progress: &mut dyn FnMut(&FoldProgress),
) -> Result<Vec<Comparison>, OfflineError> {
    let stored = read_copied::<S>(models, scratch)?;
    Ok(fold_and_compare::<S>(log, stored, on_progress)?.0)
}

/// Compares as [`compare`] does and then puts what was rebuilt, at the end of the log, in place of all snapshots. The node
/// must be stopped.
///
/// # Errors
/// The node runs; the log cannot be read; the snapshots cannot be written.
pub fn rebuild<S: ModelSet>(
    log: &Path,
    models: &Path,
    on_progress: &mut dyn FnMut(&FoldProgress),
) -> Result<Vec<Comparison>, OfflineError> {
    let store = SnapshotStore::open_or_begin(models)?;
    let (compared, folded, log_id, root) = fold_and_compare::<S>(log, read_all::<S>(&store), on_progress)?;
    let encoded: Vec<_> = folded.set.parts().into_iter().map(|part| (part.name(), part.encode())).collect();
    let broken: Vec<_> = encoded.iter().filter(|(_, bytes)| bytes.is_err()).map(|(model, _)| *model).collect();
    for (model, bytes) in encoded.into_iter().rev() {
        let (versions, position) = (versions_of(&folded.set, model), folded.position);
        match bytes {
            // As in `Models::store_all`: what looked at a broken model must not outlive the mending of that one.
            Ok(_) if position == 0 || broken.iter().any(|broken| versions.contains_key(*broken)) => {}
            Ok(bytes) => {
                store.write(&Snapshot { model: model.to_owned(), versions, log_id, position, root, bytes })?;
            }
            Err(problem) => tracing::error!(model, problem, "a read model is not stored"),
        }
    }
    Ok(compared)
}

type Stored = Vec<Result<Snapshot, Unusable>>;

/// Each model's snapshot, as far as it can be judged without the log.
fn read_all<S: ModelSet>(store: &SnapshotStore) -> Stored {
    let mut set = S::default();
    let versions: Vec<_> = set.parts().iter().map(|part| versions_of(&set, part.name())).collect();
    let read = set.parts_mut().into_iter().zip(versions).map(|(part, versions)| {
        let snapshot = store.read(part.name()).unwrap_or_else(|error| Err(Unusable::Damaged(error.to_string())))?;
        if snapshot.versions != versions {
            return Err(Unusable::Outdated);
        }
        part.restore(&snapshot.bytes, snapshot.position).map_err(Unusable::Damaged)?;
        part.clear();
        Ok(snapshot)
    });
    read.collect()
}

fn read_copied<S: ModelSet>(models: &Path, scratch: &Path) -> Result<Stored, SnapshotError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let copy = scratch.join(format!("models-{tries}"));
        let stored = match copy_folder(models, &copy).and_then(|()| SnapshotStore::open(&copy)) {
            Ok(store) => read_all::<S>(&store),
            Err(SnapshotError::Store(StoreError::Failed(cause))) => {
                S::default().parts().iter().map(|_| Err(Unusable::Damaged(cause.clone()))).collect()
            }
            Err(error) => return Err(error),
        };
        if tries == COPY_TRIES || !stored.iter().any(|one| matches!(one, Err(Unusable::Damaged(_)))) {
            return Ok(stored);
        }
    }
}

/// Copies a folder of plain files and folders of such, as sled keeps; one that is not there is empty.
fn copy_folder(from: &Path, to: &Path) -> Result<(), SnapshotError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| SnapshotError::Folder { path, cause: error.to_string() }
    };
    let mut left = vec![(from.to_owned(), to.to_owned())];
    let mut files = 0;
    while let Some((from, to)) = left.pop() {
        fs::create_dir_all(&to).map_err(failed(&to))?;
        let items = match fs::read_dir(&from) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            items => items.map_err(failed(&from))?,
        };
        for item in items {
            let item = item.map_err(failed(&from))?;
            let (source, target) = (item.path(), to.join(item.file_name()));
            files += 1;
            if files > MAX_FILES {
                let cause = format!("more than {MAX_FILES} files; this is no folder of snapshots");
                return Err(SnapshotError::Folder { path: from, cause });
            }
            let kind = item.file_type().map_err(failed(&source))?;
            if kind.is_dir() {
                left.push((source, target));
            } else if kind.is_file() {
                match fs::copy(&source, &target) {
                    // sled tidies up while the node runs.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    copied => copied.map(|_| ()).map_err(failed(&source))?,
                }
            }
        }
    }
    Ok(())
}

/// Entries that the log's checkpoint speaks of, to show progress by; 0 when there is none.
fn expected_entries(log: &Path) -> u64 {
    let Ok(note) = fs::read_to_string(log.join("checkpoint")) else { return 0 };
    note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}

type Rebuilt<S> = (Vec<Comparison>, Folded<S>, [u8; 16], Digest);

fn fold_and_compare<S: ModelSet>(
    log: &Path,
    stored: Stored,
    on_progress: &mut dyn FnMut(&FoldProgress),
) -> Result<Rebuilt<S>, ReadError> {
    let scan = RefCell::new(scan_entries(log)?);
    let root = RefCell::new(RunningRoot::default());
    let mut entries = std::iter::from_fn(|| {
        let next = scan.borrow_mut().step().transpose()?;
        Some(next.map(|scanned| {
            root.borrow_mut().push(&scanned);
            match scanned {
                Scanned::Entry(entry) => Passed::Entry(entry),
                Scanned::Gone(_) => Passed::Gone,
            }
        }))
    });
    let mut pass = Pass::new(&mut entries, expected_entries(log), on_progress);
    let mut folded = Folded::<S>::default();
    let mut compared: Vec<Option<Comparison>> = stored.iter().map(|_| None).collect();
    let stops = stored.iter().flatten().map(|snapshot| snapshot.position);
    pass.run_by(&mut folded, stops, |rebuilt| {
        let at = |_| Ok(root.borrow().root());
        let log_id = scan.borrow().log_id().unwrap_or_default();
        let history = History { log_id, length: rebuilt.position, root: &at };
        for ((part, stored), compared) in rebuilt.set.parts().into_iter().zip(&stored).zip(&mut compared) {
            if let Ok(snapshot) = stored
                && snapshot.position == rebuilt.position
            {
                *compared = Some(match history.check(snapshot) {
                    Ok(()) => {
                        let live = Ok(Digest::of(&snapshot.bytes));
                        Comparison::of(part.name(), snapshot.position, live, part.digest(), rebuilt.gone_for(part))
                    }
                    Err(reason) => not_compared(part.name(), snapshot.position, part.digest(), &reason),
                });
            }
        }
    })?;
    pass.run(&mut folded, u64::MAX)?;
    let length = folded.position;
    let parts = folded.set.parts().into_iter().zip(&stored).zip(compared);
    let compared = parts.map(|((part, stored), compared)| {
        let ahead = |snapshot: &Snapshot| Unusable::AheadOfLog { position: snapshot.position, log: length };
        compared.unwrap_or_else(|| {
            let reason = stored.as_ref().map_or_else(Clone::clone, ahead);
            not_compared(part.name(), length, part.digest(), &reason)
        })
    });
    let compared = compared.collect();
    let log_id = scan.borrow().log_id().unwrap_or_default();
    let root = root.borrow().root();
    Ok((compared, folded, log_id, root))
}

fn not_compared(model: &'static str, position: u64, rebuilt: Result<Digest, String>, reason: &Unusable) -> Comparison {
    let verdict = match reason {
        Unusable::Absent => Verdict::Absent,
        Unusable::Outdated => Verdict::Outdated,
        _ => Verdict::Refused,
    };
    let compared = Comparison::of(model, position, Err(reason.to_string()), rebuilt, 0);
    if compared.rebuilt.is_empty() {
        return compared;
    }
    Comparison { verdict, problem: reason.to_string(), ..compared }
}
