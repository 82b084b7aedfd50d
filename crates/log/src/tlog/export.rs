//! A log as a folder of files that any web server can give out: C2SP tlog-tiles.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use httt_feed::Digest;

use super::note::SignedCheckpoint;
use super::prove::{ProveError, read_checkpoint};
use super::tile::{TILE_WIDTH, Tile, TileKind, push_entry};
use crate::ReadError;
use crate::checkpoint::CHECKPOINT_FILE;
use crate::files;
use crate::merkle::CompactRange;
use crate::offline::{Scanned, scan_entries};

/// Levels a tree can have.
const LEVELS: usize = 8;

/// What was exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExportReport {
    /// Entries the exported checkpoint vouches for.
    pub size: u64,
    /// Files written.
    pub written: u64,
    /// Files that were there already, and are right.
    pub kept: u64,
    /// Entries that went by retention: their hashes are exported, a bundle that held one is not, unless it was before.
    pub gone: u64,
}

/// Why tiles were not exported. What was written is right; the checkpoint is written last.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log's checkpoint, or the log itself.
    #[error(transparent)]
    Log(#[from] ProveError),
    /// The folder holds something else under this name.
    #[error("{} is there and is not of this log, or was altered; export into another folder", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
    },
    /// The folder is ahead of the log.
    #[error(
        "the folder has a checkpoint of {theirs} entries, the log one of {ours}: the log was restored from an older \
         copy, or the folder belongs to another; export into another folder"
    )]
    Ahead {
        /// Entries in the folder.
        theirs: u64,
        /// Entries in the log.
        ours: u64,
    },
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl From<ReadError> for ExportError {
    fn from(error: ReadError) -> Self {
        Self::Log(error.into())
    }
}

/// Writes the log in `dir` into the folder `out` as C2SP tlog-tiles, up to its latest checkpoint: `checkpoint`,
/// `tile/…`, and with `entries` also `tile/entries/…`. The node may be running; its key is not needed. What is there
/// already is compared and kept; each file appears whole or not at all.
///
/// # Errors
/// See [`ExportError`].
pub fn export_tiles(dir: &Path, out: &Path, entries: bool) -> Result<ExportReport, ExportError> {
    let checkpoint = read_checkpoint(dir, u64::MAX)?;
    let size = checkpoint.size();
    let published = out.join(CHECKPOINT_FILE);
    let mut continued = None;
    if let Some(bytes) = read_if_there(&published)? {
        let held = SignedCheckpoint::parse(&String::from_utf8_lossy(&bytes));
        let held = held.map_err(|_| ExportError::Differs { path: published.clone() })?;
        if held.origin() != checkpoint.origin() {
            return Err(ExportError::Differs { path: published });
        }
        if held.size() > size {
            return Err(ExportError::Ahead { theirs: held.size(), ours: size });
        }
        continued = Some((held.size(), held.root()));
    }
    let mut export = Export { out, report: ExportReport { size, ..Default::default() }, levels: Default::default() };
    let (mut range, mut bundle) = (CompactRange::default(), Vec::new());
    // Of a bundle with an entry that went by retention there is no file.
    let mut whole = true;
    let mut scan = scan_entries(dir)?;
    while range.size() < size
        && let Some(scanned) = scan.step()?
    {
        let leaf = scanned.leaf();
        let mut completed = vec![(0, leaf)];
        range.push(leaf, |node| completed.push((usize::from(node.level), node.hash)));
        // A partial tile is not compared with the one that takes its place, so the root is.
        if continued.is_some_and(|(size, root)| size == range.size() && root != range.root()) {
            return Err(ExportError::Differs { path: published });
        }
        for (level, hash) in completed {
            export.hash(level, hash)?;
        }
        match scanned {
            Scanned::Entry(entry) if entries && whole => push_entry(&mut bundle, &entry.bytes),
            Scanned::Entry(_) => {}
            Scanned::Gone(_) => (whole, export.report.gone) = (false, export.report.gone + 1),
        }
        if entries && range.size() % u64::from(TILE_WIDTH) == 0 {
            if whole {
                export.file(TileKind::Entries, range.size() / u64::from(TILE_WIDTH) - 1, TILE_WIDTH, &bundle)?;
            }
            bundle.clear();
            whole = true;
        }
    }
    if range.size() != size || range.root() != checkpoint.root() {
        return Err(ProveError::RootDiffers { size }.into());
    }
    export.partial_tiles()?;
    if !bundle.is_empty() && whole {
        let (index, width) = (size / u64::from(TILE_WIDTH), (size % u64::from(TILE_WIDTH)) as u16);
        export.file(TileKind::Entries, index, width, &bundle)?;
    }
    // Last: whoever sees it finds every tile it needs.
    write_whole(&published, checkpoint.text().as_bytes())?;
    export.report.written += 1;
    Ok(export.report)
}

struct Export<'a> {
    out: &'a Path,
    report: ExportReport,
    /// The hashes of each level's last tile, and how many tiles came before it.
    levels: [(u64, Vec<Digest>); LEVELS],
}

impl Export<'_> {
    /// Takes the next hash of a level.
    fn hash(&mut self, level: usize, hash: Digest) -> Result<(), ExportError> {
        let Some((index, hashes)) = self.levels.get_mut(level) else { return Ok(()) };
        hashes.push(hash);
        if hashes.len() < usize::from(TILE_WIDTH) {
            return Ok(());
        }
        let (number, hashes) = (*index, std::mem::take(hashes));
        *index += 1;
        self.tile(level, number, &hashes)
    }

    fn partial_tiles(&mut self) -> Result<(), ExportError> {
        for (level, (index, hashes)) in std::mem::take(&mut self.levels).into_iter().enumerate() {
            if !hashes.is_empty() {
                self.tile(level, index, &hashes)?;
            }
        }
        Ok(())
    }

    fn tile(&mut self, level: usize, index: u64, hashes: &[Digest]) -> Result<(), ExportError> {
        let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
        self.file(TileKind::Hashes { level: level as u8 }, index, hashes.len() as u16, &bytes)
    }

    fn file(&mut self, kind: TileKind, index: u64, width: u16, bytes: &[u8]) -> Result<(), ExportError> {
        // Widths are 1 to 256 and levels below 8 here.
        let Some(tile) = Tile::new(kind, index, width) else { return Ok(()) };
        let path = self.out.join(tile.to_string());
        match read_if_there(&path)? {
            Some(held) if held == bytes => self.report.kept += 1,
            Some(_) => return Err(ExportError::Differs { path }),
            None => {
                write_whole(&path, bytes)?;
                self.report.written += 1;
                if tile.is_full() {
                    remove_partial(&path)?;
                }
            }
        }
        Ok(())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ExportError {
    let path = path.to_owned();
    move |error| ExportError::Io { path, error }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, ExportError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path)(error)),
    }
}

/// Writes beside the place and moves it there.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder).map_err(failed(folder))?;
    files::replace(path, bytes).map_err(failed(path))
}

/// Once a tile is full, its partial forms need not be given out any more.
fn remove_partial(full: &Path) -> Result<(), ExportError> {
    let mut name = full.file_name().unwrap_or_default().to_owned();
    name.push(".p");
    let partial = full.with_file_name(name);
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&partial)(error)),
        _ => Ok(()),
    }
}
