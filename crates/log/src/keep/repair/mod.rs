//! Repair: damaged bytes are made again exactly as they were, from copies of the log or from whoever holds the same
//! feeds, or not at all.
//!
//! A chunk is determined by its entries, how they were grouped and when each group was committed: frames and commit
//! markers follow from these, and the Merkle root in the next intact marker, or in the signed checkpoint, proves that
//! they are right. The damaged files are kept aside.

mod described;
mod donor;
mod mend;
mod salvage;
mod sources;
mod thinned;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use httt_feed::Digest;

use self::donor::FolderDonor;
use self::mend::{Mended, Mender};
use self::sources::Sources;
use super::copy::Teller;
use super::{KeepError, OnKeepProgress, Vouchers};
use crate::files::{self, Files as _, SystemFiles};
use crate::frame::chunk_name;
use crate::index::aside;
use crate::merkle::CompactRange;
use crate::open::{CHUNKS_DIR, INDEX_DIR, lock};
use crate::{Damage, OpenError, catalogue, checkpoint, places, scan};

pub use self::donor::Donor;

/// Where repaired chunks are made, in the log's folder.
const WORK_DIR: &str = "chunks.repairing";
/// Where damaged chunks are kept, in the log's folder, with a number.
const ASIDE_DIR: &str = "chunks.damaged";

/// Where a group stands, or stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    chunk: u32,
    offset: u64,
    group: u32,
    position: u64,
}

/// A group that may have stood somewhere.
#[derive(Debug)]
struct Candidate {
    entries: Vec<Bytes>,
    at_ms: i64,
    /// Who gave it.
    from: String,
}

/// Who may help.
#[derive(Default)]
pub struct RepairOptions<'a> {
    /// Folders of logs: backups or copies of this very log, which are best, or other nodes' logs. They are read only,
    /// may be damaged themselves, and a node may have them open.
    pub folders: Vec<PathBuf>,
    /// Others.
    pub donors: Vec<Box<dyn Donor>>,
    /// Told how far it is.
    pub on_progress: Option<OnKeepProgress<'a>>,
}

impl std::fmt::Debug for RepairOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RepairOptions").field("folders", &self.folders).finish_non_exhaustive()
    }
}

/// Bytes that were made again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairedSpan {
    /// File name of the chunk.
    pub chunk: String,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// Position of the first entry in it.
    pub first: u64,
    /// Entries in it.
    pub entries: u64,
    /// Where they came from.
    pub sources: Vec<String>,
}

/// What was repaired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// The log's id.
    pub log_id: [u8; 16],
    /// Entries the log has.
    pub entries: u64,
    /// Their RFC 6962 root.
    pub root: Digest,
    /// What was made again; empty, and `chunks` empty as well: nothing was wrong.
    pub spans: Vec<RepairedSpan>,
    /// Chunks that were replaced.
    pub chunks: Vec<String>,
    /// Chunks whose header's time of creation could not be proven, and was taken from their first commit. All else of
    /// them is proven.
    pub headers_guessed: Vec<String>,
    /// Where the damaged files are kept.
    pub aside: Option<PathBuf>,
}

/// Damage that nobody could mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{chunk} from byte {offset}: entries from position {first}{}: {why}", until.map_or(String::new(), |until| format!(" up to {until}")))]
pub struct Unrepaired {
    /// File name of the chunk.
    pub chunk: String,
    /// Where it begins.
    pub offset: u64,
    /// Position of the first entry that is missing.
    pub first: u64,
    /// Position after the last one, if it is known.
    pub until: Option<u64>,
    /// What is missing.
    pub why: String,
}

/// Why a log was not repaired. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// The log cannot be read at all, or is open.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// A donor's folder cannot be used.
    #[error("{} cannot help: {what}", dir.display())]
    Donor {
        /// The folder.
        dir: PathBuf,
        /// Why.
        what: String,
    },
    /// Something is missing.
    #[error("the log cannot be repaired with what is there, and was left as it is; {0}")]
    Missing(Unrepaired),
    /// What was found does not lead to the root that an intact commit marker says.
    #[error(
        "with what the donors and the index say, the {entries} entries up to the commit marker at byte {offset} of \
         {chunk} do not have the root it says; the log was left as it is. A backup of this very log can help"
    )]
    RootDiffers {
        /// File name of the chunk.
        chunk: String,
        /// Where the marker is.
        offset: u64,
        /// Entries up to it.
        entries: u64,
    },
    /// What was found does not fill the place exactly.
    #[error("what the donors and the index say does not fit at byte {offset} of {chunk}; the log was left as it is")]
    DoesNotFit {
        /// File name of the chunk.
        chunk: String,
        /// Where.
        offset: u64,
    },
    /// Copying or comparing failed, or the checkpoint says another root.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

impl RepairError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Repairs the chunks of the log in `dir`, which nobody may have open: what is damaged, cut off or missing is made
/// again, byte for byte, where the checkpoint or later entries prove that something stood there. A torn tail is left
/// for opening to cut. Damaged files are kept in `chunks.damaged-N`. Blocks, for as long as reading everything takes.
///
/// # Errors
/// See [`RepairError`]. Nothing was changed then, all damage that can be repaired or none.
pub fn repair(dir: &Path, options: RepairOptions<'_>) -> Result<RepairReport, RepairError> {
    let chunks = dir.join(CHUNKS_DIR);
    if !chunks.is_dir() {
        return Err(OpenError::NoLog { dir: dir.to_owned() }.into());
    }
    let _lock = lock(dir)?;
    let listing = || RepairError::io(format!("listing {}", chunks.display()));
    let numbers: BTreeSet<u32> = catalogue::numbers(&chunks).map_err(listing())?.into_iter().collect();
    let (mut copies, mut others) = (Vec::new(), options.donors);
    let folders = options.folders.iter().map(|folder| open_donor(dir, folder)).collect::<Result<Vec<_>, _>>()?;
    let log_id = log_id(&chunks, &numbers, &folders)?;
    for folder in folders {
        if folder.log_id == log_id {
            copies.push(folder);
        } else {
            others.push(Box::new(folder));
        }
    }
    let text = checkpoint::read_file(dir).map_err(RepairError::io("reading the checkpoint"))?;
    let claimed = text.as_deref().map(|text| checkpoint::parse(text, None, &[])).transpose();
    let claimed = claimed.map_err(OpenError::Checkpoint)?.map(|claimed| claimed.statement);
    let mut vouchers = Vouchers::default();
    if let Some(claimed) = &claimed {
        vouchers.add("the signed checkpoint", claimed.size, claimed.root);
    }
    let work = dir.join(WORK_DIR);
    clear(&work)?;
    fs::create_dir(&work).map_err(RepairError::io(format!("creating {}", work.display())))?;
    let total = numbers.iter().filter_map(|number| fs::metadata(places::path(&chunks, *number).ok()?).ok());
    let teller = Teller::new(total.map(|data| data.len()).sum(), options.on_progress);
    let sources = Sources::new(copies, others, described::indexes(dir, &log_id));
    // What an index knew that opening set aside was on disk: an unreadable end is no torn tail then.
    let knew = aside::remembered(&dir.join(INDEX_DIR)).map_err(RepairError::io("reading what the index knew"))?;
    let required = claimed.map_or(0, |claimed| claimed.size).max(knew);
    let mut mender = Mender {
        chunks: &chunks,
        work: &work,
        log_id,
        numbers,
        required,
        vouchers,
        sources,
        teller,
        range: CompactRange::default(),
        heads: HashMap::new(),
        spans: Vec::new(),
        mended: Vec::new(),
        unrepaired: None,
    };
    let done = mender.run().and_then(|range| match mender.unrepaired.take() {
        Some(unrepaired) => Err(RepairError::Missing(unrepaired)),
        None => Ok(range),
    });
    let (spans, mended, last) =
        (mender.spans.clone(), std::mem::take(&mut mender.mended), mender.numbers.last().copied());
    drop(mender);
    let range = match done {
        Ok(range) => range,
        Err(error) => {
            clear(&work)?;
            return Err(error);
        }
    };
    let aside = put_in_place(dir, &chunks, &mended, last)?;
    clear(&work)?;
    let names = |of: &dyn Fn(&Mended) -> bool| {
        mended.iter().filter(|m| of(m)).map(|m| places::name(m.number, m.thin)).collect()
    };
    Ok(RepairReport {
        log_id,
        entries: range.size(),
        root: range.root(),
        spans,
        chunks: names(&|_| true),
        headers_guessed: names(&|mended| mended.header_guessed),
        aside,
    })
}

fn open_donor(dir: &Path, folder: &Path) -> Result<FolderDonor, RepairError> {
    let fails = |what: String| RepairError::Donor { dir: folder.to_owned(), what };
    if dir.canonicalize().is_ok_and(|dir| folder.canonicalize().is_ok_and(|folder| folder == dir)) {
        return Err(fails("it is the log to be repaired".into()));
    }
    FolderDonor::open(folder).map_err(|error| fails(error.to_string()))
}

/// The log's id: what most of its intact headers say. Without any, a copy alone cannot be told from another log.
fn log_id(chunks: &Path, numbers: &BTreeSet<u32>, donors: &[FolderDonor]) -> Result<[u8; 16], RepairError> {
    let header = |number: &u32| scan::read_header(&places::path(chunks, *number).ok()?).ok()??.ok();
    let ids: Vec<_> = numbers.iter().filter_map(header).map(|header| header.log_id).collect();
    let most = ids.iter().max_by_key(|id| ids.iter().filter(|other| other == id).count());
    most.copied().ok_or_else(|| {
        let hint = if donors.is_empty() { "" } else { "; if one of the donors is a backup of it, restore that" };
        let what = format!("no chunk of the log has a readable header{hint}");
        OpenError::from(Damage { chunk: chunk_name(0), offset: 0, position: 0, what }).into()
    })
}

/// Replaces chunks by repaired ones. The old ones stay, by a second name, before anything is replaced.
fn put_in_place(
    dir: &Path,
    chunks: &Path,
    mended: &[Mended],
    last: Option<u32>,
) -> Result<Option<PathBuf>, RepairError> {
    if mended.is_empty() {
        return Ok(None);
    }
    let placing = || RepairError::io("putting repaired chunks in place");
    let free = |n: &u32| !dir.join(format!("{ASIDE_DIR}-{n}")).exists();
    let aside = dir.join(format!("{ASIDE_DIR}-{}", (1..).find(free).unwrap_or(u32::MAX)));
    fs::create_dir(&aside).map_err(placing())?;
    let both = |number: u32| [chunk_name(number), places::thin_name(number)];
    for name in mended.iter().flat_map(|mended| both(mended.number)) {
        let (old, kept) = (chunks.join(&name), aside.join(&name));
        match fs::hard_link(&old, &kept) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Some file systems have no second names.
            Err(_) => drop(fs::copy(&old, &kept).map_err(placing())?),
            Ok(()) => {}
        }
    }
    files::sync_dir(&aside).and_then(|()| files::sync_dir(dir)).map_err(placing())?;
    // An index that was built while entries were gone does not know the events of those that are there again.
    if mended.iter().any(|mended| !mended.thin && aside.join(places::thin_name(mended.number)).exists()) {
        aside::mark_doubtful(&dir.join(INDEX_DIR)).map_err(placing())?;
    }
    for Mended { number, path, thin, .. } in mended {
        if last.is_some_and(|last| *number < last) {
            SystemFiles.set_readonly(path, true).map_err(placing())?;
        }
        let name = places::name(*number, *thin);
        files::put_in_place(path, &chunks.join(&name)).map_err(placing())?;
        for other in both(*number).into_iter().filter(|other| *other != name) {
            files::remove_if_there(&chunks.join(other)).map_err(placing())?;
        }
        files::sync_dir(chunks).map_err(placing())?;
    }
    Ok(Some(aside))
}

fn clear(work: &Path) -> Result<(), RepairError> {
    match fs::remove_dir_all(work) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(RepairError::io(format!("removing {}", work.display()))(error))
        }
        _ => Ok(()),
    }
}
