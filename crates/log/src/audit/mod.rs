//! Proves a log from its files alone: offline, read-only, trusting nothing but a fingerprint.

mod judge;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use httt_feed::{Digest, FeedId, Fingerprint};

use self::judge::Judge;
use crate::entry::FeedHead;
use crate::frame::{CHUNK_HEADER_BYTES, ChunkHeader, HeaderFault, Seed, chunk_name};
use crate::merkle::CompactRange;
use crate::open::{CHUNKS_DIR, LOCK_FILE};
use crate::scan::{self, Held, ScannedGroup, Scanner, Step};
use crate::{catalogue, checkpoint, places};

/// Most findings listed; the rest is counted.
pub const MAX_FINDINGS: usize = 1_000;

/// Told of progress after each commit group.
pub type OnProgress<'a> = Box<dyn FnMut(&AuditProgress) + 'a>;

/// What an audit starts from.
#[derive(Default)]
pub struct AuditOptions<'a> {
    /// Fingerprint of the gateway's first key, or of a later one that signed a batch of the directory. Without it the key is taken from the log itself, which the report then
    /// says: such an audit proves that the log agrees with itself, not that it is the exchange's.
    pub trusted: Option<Fingerprint>,
    /// Told how far it is.
    pub on_progress: Option<OnProgress<'a>>,
}

impl std::fmt::Debug for AuditOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditOptions").field("trusted", &self.trusted).finish_non_exhaustive()
    }
}

/// How far an audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditProgress {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes there are.
    pub total_bytes: u64,
    /// Entries checked.
    pub entries: u64,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// File name.
    pub chunk: String,
    /// Byte offset in it.
    pub offset: u64,
    /// Position of the entry.
    pub position: u64,
    /// What is wrong.
    pub what: String,
}

/// Where the gateway's key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayKey {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// It was taken from the log's first directory batch; compare it with what the gateway publishes.
    pub taken_from_log: bool,
}

/// What the checkpoint says, and whether the log bears it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointCheck {
    /// Entries it vouches for.
    pub size: u64,
    /// Signature, size and root are right.
    pub ok: bool,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// The log's id, from the first readable chunk.
    pub log_id: Option<[u8; 16]>,
    /// Chunks there are.
    pub chunks: u32,
    /// Entries there are.
    pub entries: u64,
    /// Of these, so many went by retention: their place in the tree and in their feed is proven, what they said is not
    /// there.
    pub gone: u64,
    /// Events in the others.
    pub events: u64,
    /// The head of every feed.
    pub heads: Vec<FeedHead>,
    /// The Merkle root over all entries; `None`: some are missing.
    pub root: Option<Digest>,
    /// Fingerprint of the node's own key, from its first event.
    pub own_key: Option<Fingerprint>,
    /// The gateway's key; `None`: the log holds no directory.
    pub gateway_key: Option<GatewayKey>,
    /// Own batches whose signature could not be checked because the log does not begin by saying the node's key.
    pub unchecked_own: u64,
    /// The checkpoint; `None`: there is none.
    pub checkpoint: Option<CheckpointCheck>,
    /// What is wrong, in order; at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Findings beyond those listed.
    pub more_findings: u64,
}

impl AuditReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, chunk: &str, offset: u64, position: u64, what: impl Into<String>) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { chunk: chunk.to_owned(), offset, position, what: what.into() });
        } else {
            self.more_findings += 1;
        }
    }
}

/// Why an audit could not be made. What is wrong with the log is no error but a finding.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// A running node has it open; audit a copy, or stop the node.
    #[error("the log in {} is open; stop the node, or audit a copy", dir.display())]
    InUse {
        /// The log's folder.
        dir: PathBuf,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The system's error.
        source: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> AuditError {
    let what = what.into();
    move |source| AuditError::Io { what, source }
}

/// Checks everything that can be checked in the log in `dir`: headers, frames, checksums, commit markers, positions;
/// that every batch follows its feed and is signed by a key its origin had; that stream versions have no gap; that the
/// entries have the root that the signed checkpoint says. Writes nothing.
///
/// # Errors
/// See [`AuditError`].
pub fn audit(dir: &Path, mut options: AuditOptions<'_>) -> Result<AuditReport, AuditError> {
    let _lock = shared_lock(dir)?;
    let mut report = AuditReport::default();
    let chunks_dir = dir.join(CHUNKS_DIR);
    let numbers = catalogue::numbers(&chunks_dir).map_err(io_error(format!("listing {}", chunks_dir.display())))?;
    let path = |number: u32| places::path(&chunks_dir, number);
    let size = |number: u32| path(number).and_then(std::fs::metadata).map(|data| data.len()).unwrap_or_default();
    let mut progress = AuditProgress { total_bytes: numbers.iter().map(|n| size(*n)).sum(), ..Default::default() };
    report.chunks = numbers.len() as u32;

    let text = checkpoint::read_file(dir).map_err(io_error("reading the checkpoint"))?;
    let claimed = text.as_deref().and_then(|text| checkpoint::parse(text, None, &[]).ok());
    let mut walk = Walk {
        judge: Judge::new(options.trusted, claimed.as_ref().map(|claimed| claimed.origin.clone())),
        range: CompactRange::default(),
        position: 0,
        complete: true,
        wanted: claimed.as_ref().map(|claimed| claimed.statement.size),
        root_at_checkpoint: None,
    };
    walk.look_for_root();
    let last = numbers.last().copied();
    let mut expected = 0;
    for number in numbers {
        for missing in expected..number {
            report.find(&chunk_name(missing), 0, walk.position, "the chunk is missing");
            walk.complete = false;
        }
        expected = number + 1;
        let before = progress;
        let mut tell = |bytes: u64, entries: u64| {
            progress.bytes = before.bytes + bytes;
            progress.entries = entries;
            if let Some(on_progress) = &mut options.on_progress {
                on_progress(&progress);
            }
        };
        let reading = || io_error(format!("reading {}", chunk_name(number)));
        if let Some(path) = places::missing(&chunks_dir, number) {
            let what = format!("the chunk is archived as {} and is not there", path.display());
            report.find(&chunk_name(number), 0, walk.position, what);
            walk.complete = false;
            if let Ok(Some(Ok(stub))) = places::stub(&chunks_dir, number) {
                walk.position = stub.next_position;
            }
            continue;
        }
        walk.chunk(&path(number).map_err(reading())?, number, Some(number) == last, &mut report, &mut tell)
            .map_err(reading())?;
        tell(size(number), report.entries);
    }
    if report.chunks == 0 {
        report.find(CHUNKS_DIR, 0, 0, "there is no chunk");
    }
    walk.finish(&mut report, text.as_deref());
    Ok(report)
}

/// Keeps a node from opening the log meanwhile. A copy without lock file needs none.
fn shared_lock(dir: &Path) -> Result<Option<File>, AuditError> {
    let file = match File::open(dir.join(LOCK_FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("opening the lock")(error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(AuditError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(io_error("locking the log")(error)),
    }
}

struct Walk {
    judge: Judge,
    range: CompactRange,
    position: u64,
    /// No entry was missing so far, so roots mean something.
    complete: bool,
    wanted: Option<u64>,
    root_at_checkpoint: Option<Digest>,
}

impl Walk {
    fn look_for_root(&mut self) {
        if self.complete && self.wanted == Some(self.range.size()) {
            self.root_at_checkpoint = Some(self.range.root());
        }
    }

    fn chunk(
        &mut self,
        path: &Path,
        number: u32,
        is_last: bool,
        report: &mut AuditReport,
        tell: &mut dyn FnMut(u64, u64),
    ) -> io::Result<()> {
        let name = path.file_name().map_or_else(|| chunk_name(number), |name| name.to_string_lossy().into_owned());
        let header = match scan::read_header(path)? {
            Some(Ok(header)) => header,
            Some(Err(HeaderFault::Version(version))) => {
                report.find(&name, 0, self.position, format!("format version {version} is not known"));
                self.complete = false;
                return Ok(());
            }
            None | Some(Err(HeaderFault::Unreadable)) => {
                let torn = is_last && std::fs::metadata(path)?.len() <= CHUNK_HEADER_BYTES as u64;
                let what = if torn { "an empty chunk without header, which opening removes" } else { "no header" };
                report.find(&name, 0, self.position, what);
                let Some(log_id) = report.log_id else {
                    self.complete = false;
                    return Ok(());
                };
                // The frames may be good; go on as if the header were.
                ChunkHeader { log_id, number, first_position: self.position, created_ms: 0 }
            }
        };
        if header.number != number {
            report.find(&name, 0, self.position, format!("the file holds chunk {}", header.number));
        }
        let log_id = *report.log_id.get_or_insert(header.log_id);
        if header.log_id != log_id {
            report.find(&name, 0, self.position, "the chunk belongs to another log");
            self.complete = false;
            return Ok(());
        }
        self.judge.log_id = Some(log_id);
        if header.first_position != self.position {
            let what = format!("{name} begins at position {} where {} is next", header.first_position, self.position);
            // What is missing is missing from the end of the chunk before.
            match number.checked_sub(1) {
                Some(before) if header.first_position > self.position => {
                    let before = chunk_name(before);
                    let end = path.parent().and_then(|dir| std::fs::metadata(dir.join(&before)).ok());
                    report.find(&before, end.map_or(0, |data| data.len()), self.position, what);
                }
                _ => report.find(&name, 0, self.position, what),
            }
            self.complete = false;
        }
        let seed = Seed::of(&log_id);
        let mut scanner = Scanner::new(path, seed, CHUNK_HEADER_BYTES as u64, header.first_position, 0)?;
        loop {
            match scanner.step()? {
                Step::Group(group) => {
                    self.group(&name, group, report);
                    self.position = scanner.position();
                    tell(scanner.offset(), report.entries);
                }
                Step::End => break,
                Step::Bad(bad) => {
                    let group = scanner.group();
                    let next = scan::find_frame(path, seed, bad.group_start, |frame| frame.group > group)?;
                    // Without its table nobody knows where the entries of a thinned chunk were written.
                    let next = next.filter(|_| !scanner.is_thin());
                    let rest = scanner.length().saturating_sub(bad.group_start);
                    let what = match (&next, is_last) {
                        (Some(next), _) => {
                            format!("{}; the next readable group begins at byte {}", bad.what, next.offset)
                        }
                        (None, true) => {
                            format!("{}; nothing readable follows: a torn tail of {rest} bytes, or damage", bad.what)
                        }
                        (None, false) => format!("{}; nothing readable follows in this chunk", bad.what),
                    };
                    report.find(&name, bad.offset, bad.position, what);
                    match next {
                        Some(next) => {
                            self.complete = false;
                            scanner.resume(&next)?;
                        }
                        None => break,
                    }
                }
            }
        }
        self.position = scanner.position();
        Ok(())
    }

    fn group(&mut self, chunk: &str, group: ScannedGroup, report: &mut AuditReport) {
        for entry in group.entries {
            report.entries += 1;
            if self.complete {
                self.range.push(entry.leaf(), |_| {});
                self.look_for_root();
            }
            let (position, at) = (entry.position, entry.at);
            let mut findings = Vec::new();
            match entry.held {
                Held::Whole(bytes) => report.events += self.judge.entry(position, bytes, &mut findings),
                Held::Gone(record) => {
                    report.gone += 1;
                    self.judge.gone(&record.entry, &mut findings);
                }
            }
            findings.into_iter().for_each(|what| report.find(chunk, at, position, what));
        }
        if self.complete && self.range.root() != group.commit.root {
            let what = "the commit marker says another Merkle root than the entries up to it have";
            report.find(chunk, group.marker_at, self.range.size(), what);
        }
    }

    fn finish(self, report: &mut AuditReport, checkpoint_text: Option<&str>) {
        report.root = self.complete.then(|| self.range.root());
        report.own_key = self.judge.own_key.as_ref().map(|key| key.fingerprint());
        report.unchecked_own = self.judge.unchecked_own;
        report.gateway_key = self.judge.gateway_key();
        report.heads = self.judge.heads();
        for (position, what) in self.judge.not_admitted() {
            report.find(CHUNKS_DIR, 0, position, what);
        }
        if let Some((key, position)) = self.judge.unvouched() {
            let what = format!("no batch of the directory is signed by the key {key} that is to be trusted");
            report.find(CHUNKS_DIR, 0, position, what);
        }
        if let Some(text) = checkpoint_text {
            let problem = match checkpoint::parse(text, None, &self.judge.own_keys()) {
                Err(error) => Some(error),
                Ok(parsed) if !parsed.signed => Some("no key of this node known from the log signed it".into()),
                Ok(parsed) if parsed.statement.size > self.position => {
                    Some(format!("it vouches for {} entries, the log has {}", parsed.statement.size, self.position))
                }
                Ok(parsed) => match self.root_at_checkpoint {
                    Some(root) if root == parsed.statement.root => None,
                    Some(root) => Some(format!("it says the root {}, the log has {root}", parsed.statement.root)),
                    None => Some("its root cannot be checked, since entries before it are missing".into()),
                },
            };
            let size = self.wanted.unwrap_or_default();
            report.checkpoint = Some(CheckpointCheck { size, ok: problem.is_none() });
            if let Some(problem) = problem {
                report.find(checkpoint::CHECKPOINT_FILE, 0, size, format!("the checkpoint: {problem}"));
            }
        }
    }
}

/// A feed and its head, as the judge keeps them.
fn feed_head(feed: &FeedId, (head, position): &(httt_feed::Head, u64)) -> FeedHead {
    FeedHead { feed: feed.clone(), head: *head, position: *position }
}
