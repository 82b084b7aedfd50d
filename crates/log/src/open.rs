//! Opening: finds the end of the log, brings the index up to it, and checks both against the checkpoint.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use httt_feed::Sealer;
use uuid::Uuid;

use crate::checkpoint::{self, Parsed};
use crate::chunks::Chunks;
use crate::files::Files;
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, Seed, chunk_name};
use crate::guarded::GuardedStore;
use crate::index::aside::{self, doubtful_mark};
use crate::index::{Index, IndexError, Settings};
use crate::log::Options;
use crate::merkle::{CompactRange, IndexedTree};
use crate::recover::{self, ChunkFile, CutTail, Recovered, Start};
use crate::shared::{Shared, SharedParts};
use crate::tail::{Tail, TailError, create_chunk};
use crate::vet::{self, VetError};
use crate::{Damage, OpenError, catalogue};

/// Folder of the chunks, in the log's folder.
pub(crate) const CHUNKS_DIR: &str = "chunks";
/// Folder of the index, in the log's folder.
pub(crate) const INDEX_DIR: &str = "index";
/// File whose lock says that the log is open.
pub(crate) const LOCK_FILE: &str = "lock";

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReport {
    /// The log's id.
    pub log_id: [u8; 16],
    /// It was created just now.
    pub created: bool,
    /// Entries it has.
    pub entries: u64,
    /// What was cut off its end: the remains of a group whose writing a crash interrupted, and which nobody was told
    /// was committed. A log opened for reading only is left as it is, and ends before them.
    pub cut: Option<CutTail>,
    /// What became of the index.
    pub index: IndexState,
    /// Entries that the checkpoint on disk vouched for; `None`: there was none.
    pub checkpoint: Option<u64>,
}

/// What became of the index at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// The log is new.
    Created,
    /// It was good, and was brought up to date by this many entries.
    Kept {
        /// Entries it lacked.
        caught_up: u64,
    },
    /// It was missing or doubtful, and was built anew from the chunks.
    Rebuilt {
        /// What was wrong.
        reason: String,
    },
}

/// An opened log, before its writer starts.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    /// Where to write; `None`: it is open for reading only.
    pub(crate) tail: Option<Tail>,
    pub(crate) range: CompactRange,
    pub(crate) checkpointed: Option<u64>,
    pub(crate) report: OpenReport,
}

pub(crate) fn open(
    dir: &Path,
    sealer: Arc<Sealer>,
    options: &Options,
    files: Arc<dyn Files>,
) -> Result<Opened, OpenError> {
    let chunks_dir = dir.join(CHUNKS_DIR);
    let read_only = options.read_only;
    if read_only && !chunks_dir.is_dir() {
        return Err(OpenError::NoLog { dir: dir.to_owned() });
    }
    fs::create_dir_all(&chunks_dir).map_err(OpenError::io(format!("creating {}", chunks_dir.display())))?;
    let lock = lock(dir)?;
    let text = checkpoint::read_file(dir).map_err(OpenError::io("reading the checkpoint"))?;
    let parsed = parse_checkpoint(text.as_deref(), &sealer)?;

    let mut catalogue = catalogue::read(&chunks_dir)?;
    let created = catalogue.chunks.is_empty();
    if created {
        // A lost log must not come back as an empty one that knows nothing of what it said before.
        if let Some(parsed) = parsed.as_ref().filter(|parsed| parsed.statement.size > 0) {
            return Err(OpenError::ShorterThanCheckpoint {
                entries: 0,
                checkpoint: parsed.statement.size,
                detail: "there is no chunk".into(),
            });
        }
        if read_only {
            return Err(OpenError::NoLog { dir: dir.to_owned() });
        }
        if let Some(torn) = catalogue.torn.take() {
            files.remove(&torn).map_err(OpenError::io("removing a chunk without header"))?;
        }
        catalogue.chunks.push(create(dir, &chunks_dir, options, files.as_ref())?);
    }
    let log_id = catalogue.chunks[0].header.log_id;
    let chunks = Chunks::new(&chunks_dir, Seed::of(&log_id));

    let settings = Settings {
        run_events: options.index_run_events.max(1),
        filter_bytes: options.index_cache_bytes,
        own: Some(sealer.origin().clone()),
        log_id,
    };
    let OpenedIndex { index, start, mut state, knew } = open_index(dir, settings, &chunks, &catalogue.chunks, created)?;
    let recovered = recover::scan(&catalogue.chunks, &log_id, &start, &index)?;
    if let (Some(torn), Some(cut)) = (&catalogue.torn, &recovered.cut) {
        // The chunk before was whole when the next one was begun.
        let what = format!("unreadable bytes, and {} was begun after them", torn.display());
        let CutTail { chunk, offset, position, .. } = cut.clone();
        return Err(Damage { chunk, offset, position, what }.into());
    }
    if let IndexState::Kept { caught_up } = &mut state {
        *caught_up = recovered.range.size() - start.range.size();
    }
    check_against(parsed.as_ref(), &recovered, &index)?;
    check_against_old_index(knew, &recovered, &mut state)?;
    if knew > 0 && !read_only {
        aside::forget_knew(&dir.join(INDEX_DIR)).map_err(OpenError::io("forgetting what the index knew"))?;
    }

    let mut report = OpenReport {
        log_id,
        created,
        entries: recovered.range.size(),
        cut: recovered.cut.clone(),
        index: state,
        checkpoint: parsed.as_ref().map(|parsed| parsed.statement.size),
    };
    // Only now, when everything else agrees, is anything of the chunks changed.
    if let Some(torn) = &catalogue.torn {
        let bytes = fs::metadata(torn).map(|data| data.len()).unwrap_or_default();
        if !read_only {
            files.remove(torn).map_err(OpenError::io("removing a chunk without header"))?;
            // Else it might be back after a crash, behind groups that were written since.
            files.sync_dir(&chunks_dir).map_err(OpenError::io("removing a chunk without header"))?;
        }
        let chunk = torn.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        report.cut.get_or_insert(CutTail { chunk, offset: 0, bytes, position: report.entries });
    }
    let tail = if read_only {
        None
    } else {
        let tail = Tail::open(Arc::clone(&files), &chunks_dir, log_id, options.chunk_bytes, recovered.tail)
            .map_err(OpenError::io("opening the last chunk"))?;
        recover::settle(files.as_ref(), dir, &chunks_dir, recovered.tail)
            .map_err(OpenError::io("putting the recovered tail on disk"))?;
        Some(tail)
    };
    announce(dir, &report, read_only);

    let heads = index.feeds();
    let length = recovered.range.size();
    let checkpointed = parsed.as_ref().filter(|parsed| parsed.signed).map(|parsed| parsed.statement.size);
    let shared = Shared::new(SharedParts {
        dir: dir.to_owned(),
        log_id,
        sealer,
        chunks,
        index,
        heads,
        length,
        checkpoint: text.unwrap_or_default(),
        lock,
        read_only,
    });
    Ok(Opened { shared: Arc::new(shared), tail, range: recovered.range, checkpointed, report })
}

fn announce(dir: &Path, report: &OpenReport, read_only: bool) {
    if let Some(cut) = &report.cut {
        tracing::warn!(
            log = %dir.display(),
            chunk = cut.chunk,
            offset = cut.offset,
            bytes = cut.bytes,
            position = cut.position,
            left = read_only,
            "a torn tail was cut, or left out where the log is read only: writing was interrupted there, and nobody was \
             told that it was done"
        );
    }
    if let IndexState::Rebuilt { reason } = &report.index {
        tracing::warn!(log = %dir.display(), reason, "the index was rebuilt from the chunks");
    }
    tracing::info!(log = %dir.display(), entries = report.entries, created = report.created, "log open");
}

/// Takes the log for this process.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(OpenError::io(format!("opening {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => return Err(OpenError::io(format!("locking {}", path.display()))(source)),
    }
    // For people who wonder who has it; nothing depends on it.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

fn parse_checkpoint(text: Option<&str>, sealer: &Sealer) -> Result<Option<Parsed>, OpenError> {
    let Some(text) = text else { return Ok(None) };
    let key = sealer.key().public().clone();
    let parsed = checkpoint::parse(text, Some(sealer.origin()), &[key]).map_err(OpenError::Checkpoint)?;
    if !parsed.signed {
        tracing::warn!(
            "the checkpoint is signed by another key than the present one; its content is checked all the same"
        );
    }
    Ok(Some(parsed))
}

fn create(dir: &Path, chunks: &Path, options: &Options, files: &dyn Files) -> Result<ChunkFile, OpenError> {
    let header = ChunkHeader {
        log_id: Uuid::now_v7().into_bytes(),
        number: 0,
        first_position: 0,
        created_ms: options.clock.now_ms(),
    };
    create_chunk(files, chunks, &header).map_err(|error| {
        let (TailError::Full(what) | TailError::Failed(what) | TailError::Broken(what)) = error;
        OpenError::io("creating the first chunk")(std::io::Error::other(what))
    })?;
    // The names of `chunks` in `dir`, and of `dir` itself, are to survive as well.
    let parent = dir.canonicalize().ok().and_then(|dir| dir.parent().map(Path::to_owned));
    files
        .sync_dir(dir)
        .and_then(|()| parent.map_or(Ok(()), |parent| files.sync_dir(&parent)))
        .map_err(OpenError::io("syncing the log's folder"))?;
    Ok(ChunkFile { path: chunks.join(chunk_name(0)), header, archived: false, thin: false })
}

struct OpenedIndex {
    index: Index,
    start: Start,
    state: IndexState,
    /// Entries that an index which does not fit the chunks knew of.
    knew: u64,
}

/// Opens the index and vets it; on any doubt moves it aside and starts an empty one.
fn open_index(
    dir: &Path,
    settings: Settings,
    chunks: &Chunks,
    files: &[ChunkFile],
    created: bool,
) -> Result<OpenedIndex, OpenError> {
    let path = dir.join(INDEX_DIR);
    let existed = path.try_exists().map_err(OpenError::io("looking for the index"))?;
    let doubtful = doubtful_mark(&path).try_exists().map_err(OpenError::io("looking for the index"))?;
    let mut knew = aside::remembered(&path).map_err(OpenError::io("reading what the index knew"))?;
    let reason = if created || !existed {
        "there was no index".to_owned()
    } else if doubtful {
        "it failed while the log was open".to_owned()
    } else {
        match Index::open(&path, settings.clone()) {
            // As after a crash before the first run was written, or with its list of runs gone.
            Ok((index, None)) => {
                let has_entries = files.len() > 1
                    || files
                        .iter()
                        .any(|file| fs::metadata(&file.path).is_ok_and(|data| data.len() > CHUNK_HEADER_BYTES as u64));
                let state = if has_entries {
                    IndexState::Rebuilt { reason: "the index was empty".into() }
                } else {
                    IndexState::Kept { caught_up: 0 }
                };
                let start = Start::beginning();
                return Ok(OpenedIndex { index, start, state, knew });
            }
            Ok((index, Some(tip))) => {
                let entries = tip.range.size();
                match vet::vet(&index, tip, chunks, files) {
                    Ok(start) => {
                        return Ok(OpenedIndex { index, start, state: IndexState::Kept { caught_up: 0 }, knew });
                    }
                    Err(VetError::ArchiveMissing { chunk, path }) => {
                        return Err(OpenError::ArchiveMissing { chunk, path });
                    }
                    Err(VetError::Doubt(reason)) => {
                        knew = knew.max(entries);
                        reason
                    }
                }
            }
            Err(IndexError(reason)) => {
                knew = knew.max(Index::entries_listed(&path, &settings.log_id));
                reason
            }
        }
    };
    if knew > 0 && !created {
        aside::remember_knew(&path, knew).map_err(OpenError::io("remembering what the index knew"))?;
    }
    if existed {
        let aside = GuardedStore::move_aside(&path).map_err(OpenError::io("moving the index aside"))?;
        tracing::warn!(reason, aside = ?aside, "the index is doubtful: it is set aside and rebuilt");
    }
    aside::unmark(&path).map_err(OpenError::io("setting the index aside"))?;
    let (index, _) = Index::open(&path, settings).map_err(|error| OpenError::Index(error.0))?;
    let state = if created { IndexState::Created } else { IndexState::Rebuilt { reason } };
    Ok(OpenedIndex { index, start: Start::beginning(), state, knew })
}

/// An index knows of an entry only after it is on disk. One that knew of more than there is says that entries are gone.
/// If something unreadable, or zeros, stand where they should, that is damage; if the chunks just end earlier, they may
/// be an older copy put in place of the present ones, which is told but may be meant.
fn check_against_old_index(knew: u64, recovered: &Recovered, state: &mut IndexState) -> Result<(), OpenError> {
    let entries = recovered.range.size();
    if knew <= entries {
        return Ok(());
    }
    let tail = recovered.tail;
    if recovered.unreadable {
        let what = format!("the index knew {knew} entries; what should follow here cannot be read");
        return Err(Damage { chunk: chunk_name(tail.number), offset: tail.end, position: entries, what }.into());
    }
    tracing::error!(
        entries,
        knew,
        "the index knew more entries than the chunks have: they are an older copy, or were cut"
    );
    if let IndexState::Rebuilt { reason } = state {
        *reason = format!("{reason}; it knew {knew} entries, the chunks have {entries}");
    }
    Ok(())
}

/// The log must hold what the checkpoint vouches for.
fn check_against(parsed: Option<&Parsed>, recovered: &Recovered, index: &Index) -> Result<(), OpenError> {
    let Some(parsed) = parsed else { return Ok(()) };
    let entries = recovered.range.size();
    let size = parsed.statement.size;
    if size > entries {
        let tail = recovered.tail;
        let detail = match &recovered.cut {
            Some(cut) => format!("{} has {} unreadable bytes from byte {} on", cut.chunk, cut.bytes, cut.offset),
            None => format!("{} ends at byte {}", chunk_name(tail.number), tail.end),
        };
        return Err(OpenError::ShorterThanCheckpoint { entries, checkpoint: size, detail });
    }
    let log = if size == entries {
        recovered.range.root()
    } else {
        IndexedTree(index).root(size).map_err(|error| OpenError::Index(error.to_string()))?
    };
    if log != parsed.statement.root {
        return Err(OpenError::RootDiffers { size, checkpoint: parsed.statement.root, log });
    }
    Ok(())
}
