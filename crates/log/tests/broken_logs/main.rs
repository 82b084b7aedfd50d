//! A corpus of broken logs: each is made from a healthy one by code, and says what opening and auditing must find.
//!
//! Opening guards what was acknowledged: headers, frames, checksums, commit markers, Merkle roots, the signed
//! checkpoint. Whether a batch may stand where it stands (signature, chain, stream versions) was judged before it was
//! stored; that somebody with the disk in his hands changed it since, checksums and all, only the audit finds, or the
//! checkpoint, if it vouches for the place.

#[path = "../common/mod.rs"]
mod common;

mod checkpoints;
mod chunks;
mod contents;
mod format;
mod healthy;
mod indexes;
mod tails;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use common::{append, everything, restore_dir, try_open};
use healthy::{Healthy, Moment};
use httt_log::{AuditOptions, CutTail, Finding, IndexState, Log, OpenError, OpenReport, ReadError};

/// What opening must do.
#[derive(Debug, Clone)]
pub(crate) enum Opens {
    /// Everything is there, nothing is cut.
    Whole,
    /// As `Whole`, but only so many entries: what is gone, nobody vouched for.
    Shorter(u64),
    /// The end is cut, and this many entries are left.
    Cut { chunk: u32, offset: u64, entries: u64 },
    /// [`OpenError::Damaged`] there, in these words.
    Damaged { chunk: u32, offset: u64, position: u64, what: &'static str },
    /// [`OpenError::Format`].
    Format { chunk: u32, version: u32 },
    /// [`OpenError::ShorterThanCheckpoint`].
    Lost { entries: u64, checkpoint: u64 },
    /// [`OpenError::RootDiffers`].
    RootDiffers { size: u64 },
    /// [`OpenError::Checkpoint`] in these words.
    Checkpoint(&'static str),
}

/// What the audit must find: file, byte, position, words.
#[derive(Debug, Clone)]
pub(crate) struct Find {
    pub(crate) file: String,
    pub(crate) offset: u64,
    pub(crate) position: u64,
    pub(crate) what: &'static str,
}

pub(crate) fn name(chunk: u32) -> String {
    format!("{chunk:08}.chunk")
}

pub(crate) fn find(chunk: u32, offset: u64, position: u64, what: &'static str) -> Find {
    Find { file: name(chunk), offset, position, what }
}

pub(crate) fn of_checkpoint(size: u64, what: &'static str) -> Find {
    Find { file: "checkpoint".into(), offset: 0, position: size, what }
}

/// What becomes of the index beside the broken chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Index {
    /// It is as good as it was: opening may trust it, and find less.
    Left,
    /// It is gone, so opening reads everything.
    Gone,
}

type Harm<'a> = Box<dyn Fn(&Path) + 'a>;

/// A way to break the log.
pub(crate) struct Case<'a> {
    pub(crate) name: String,
    pub(crate) harm: Harm<'a>,
    pub(crate) index: Index,
    pub(crate) opens: Opens,
    /// All that the audit finds, in order.
    pub(crate) finds: Vec<Find>,
}

impl<'a> Case<'a> {
    pub(crate) fn new(name: impl Into<String>, opens: Opens, finds: Vec<Find>, harm: impl Fn(&Path) + 'a) -> Self {
        Self { name: name.into(), harm: Box::new(harm), index: Index::Gone, opens, finds }
    }

    /// With the index left where it is.
    pub(crate) fn beside_its_index(mut self) -> Self {
        self.index = Index::Left;
        self
    }

    /// Opening and audit must do exactly what is said.
    pub(crate) async fn check(&self, healthy: &Healthy) {
        let findings = self.audit(healthy);
        let fits = |(finding, find): (&Finding, &Find)| {
            finding.chunk == find.file
                && (finding.offset, finding.position) == (find.offset, find.position)
                && finding.what.contains(find.what)
        };
        let all = findings.len() == self.finds.len() && findings.iter().zip(&self.finds).all(fits);
        assert!(all, "{}: the audit found {findings:#?}, expected {:#?}", self.name, self.finds);
        self.check_opening(healthy).await;
    }

    /// The audit's first finding must be there; what follows from it (a chain that misses a link, a root that cannot be
    /// compared) is not told one by one.
    pub(crate) async fn check_damage(&self, healthy: &Healthy, chunk: u32, offset: u64, position: u64) {
        let findings = self.audit(healthy);
        let first = findings.first().unwrap_or_else(|| panic!("{}: the audit found nothing", self.name));
        let found = (first.chunk.clone(), first.offset, first.position);
        assert_eq!(found, (name(chunk), offset, position), "{}: {findings:#?}", self.name);
        self.check_opening(healthy).await;
    }

    fn break_it(&self, healthy: &Healthy) -> PathBuf {
        let dir = healthy.scratch();
        restore_dir(&healthy.now.dir, &dir);
        if self.index == Index::Gone {
            fs::remove_dir_all(dir.join("index")).expect("index");
        }
        (self.harm)(&dir);
        dir
    }

    fn audit(&self, healthy: &Healthy) -> Vec<Finding> {
        let dir = self.break_it(healthy);
        let before = bytes_of(&dir);
        let report = httt_log::audit(&dir, AuditOptions::default()).expect("audit");
        assert_eq!(bytes_of(&dir), before, "{}: the audit wrote something", self.name);
        report.findings
    }

    /// Opening must do what is said.
    pub(crate) async fn check_opening(&self, healthy: &Healthy) {
        let dir = self.break_it(healthy);
        let before = bytes_of(&dir);
        match try_open(&dir) {
            Ok((log, report)) => self.check_opened(&dir, log, &report, &healthy.now).await,
            Err(error) => {
                self.check_refused(&error);
                assert_eq!(bytes_of(&dir), before, "{}: a log that did not open was changed", self.name);
            }
        }
    }

    async fn check_opened(&self, dir: &Path, log: Log, report: &OpenReport, now: &Moment) {
        let name = &self.name;
        let (entries, cut) = match &self.opens {
            Opens::Whole => (now.entries, None),
            Opens::Shorter(entries) => (*entries, None),
            Opens::Cut { chunk, offset, entries } => (*entries, Some((self::name(*chunk), *offset, *entries))),
            refused => panic!("{name}: it opened, expected {refused:?}"),
        };
        assert_eq!((report.entries, log.len()), (entries, entries), "{name}");
        let was_cut = report.cut.clone().map(|CutTail { chunk, offset, position, .. }| (chunk, offset, position));
        assert_eq!(was_cut, cut, "{name}");
        if self.index == Index::Gone {
            assert!(matches!(report.index, IndexState::Rebuilt { .. }), "{name}: {:?}", report.index);
        }
        // Whatever was left must be what it was.
        let same = if entries == now.entries { now.said.clone() } else { prefix(now, entries) };
        // What opening does not look at of an index may turn out damaged later: then that is said, and the next open heals
        // it.
        let said = catch_unwind(AssertUnwindSafe(|| everything(&log)));
        let (log, said) = match said {
            Ok(said) => (log, said),
            Err(_) => {
                assert!(matches!(self.index, Index::Left) && log.poisoned().is_some(), "{name}");
                log.close().await;
                let (log, report) = try_open(dir).unwrap_or_else(|error| panic!("{name}: healing: {error}"));
                assert!(matches!(report.index, IndexState::Rebuilt { .. }), "{name}: {report:?}");
                let said = everything(&log);
                (log, said)
            }
        };
        assert_eq!(if entries == now.entries { said } else { first_lines(&said, entries) }, same, "{name}");
        // And the log goes on.
        log.commit(append("after", 9_999, "it goes on")).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(log.len(), entries + 1, "{name}");
        log.close().await;
        let (log, report) = try_open(dir).unwrap_or_else(|error| panic!("{name}: opened again: {error}"));
        assert_eq!((log.len(), report.cut), (entries + 1, None), "{name}");
        log.close().await;
    }

    fn check_refused(&self, error: &OpenError) {
        let fits = match (&self.opens, error) {
            (Opens::Damaged { chunk, offset, position, what }, OpenError::Damaged(damage)) => {
                damage.chunk == name(*chunk)
                    && (damage.offset, damage.position) == (*offset, *position)
                    && damage.what.contains(what)
            }
            (Opens::Format { chunk, version }, OpenError::Format { chunk: at, version: says }) => {
                *at == name(*chunk) && says == version
            }
            (
                Opens::Lost { entries, checkpoint },
                OpenError::ShorterThanCheckpoint { entries: found, checkpoint: vouched, .. },
            ) => (found, vouched) == (entries, checkpoint),
            (Opens::RootDiffers { size }, OpenError::RootDiffers { size: compared, .. }) => compared == size,
            (Opens::Checkpoint(what), OpenError::Checkpoint(says)) => says.contains(what),
            _ => false,
        };
        assert!(fits, "{}: {error}, expected {:?}", self.name, self.opens);
    }
}

/// Chunks and checkpoint, which nobody but a log that opened may change.
fn bytes_of(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> =
        fs::read_dir(dir.join("chunks")).expect("chunks").map(|item| item.expect("item").path()).collect();
    files.push(dir.join("checkpoint"));
    files.sort();
    files.iter().map(|path| (path.display().to_string(), fs::read(path).unwrap_or_default())).collect()
}

/// The part of what a log says that is about its entries: a line each, indented ones for their events.
fn first_lines(said: &str, entries: u64) -> String {
    let is_entry = |line: &str| line.contains('→') && line.split(' ').count() == 4 && !line.starts_with(' ');
    let mut count = 0;
    let lines = said.lines().take_while(|line| {
        count += u64::from(is_entry(line));
        count <= entries && (is_entry(line) || line.starts_with("  "))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn prefix(now: &Moment, entries: u64) -> String {
    first_lines(&now.said, entries)
}

/// Reads every entry of a log whose chunks were damaged under a good index: what it gives must be what was there, and
/// what it cannot give it must call damaged.
pub(crate) async fn never_wrong(healthy: &Healthy, what: &str, harm: impl Fn(&Path)) {
    let dir = healthy.scratch();
    restore_dir(&healthy.now.dir, &dir);
    harm(&dir);
    let (log, _) = match try_open(&dir) {
        Ok(opened) => opened,
        Err(OpenError::Damaged(_)) => return,
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(log.len(), healthy.now.entries, "{what}");
    let mut lines = healthy.now.said.lines().filter(|line| !line.starts_with("  "));
    for position in 0..log.len() {
        let line = lines.next().expect("a line for each entry");
        match log.read(position, 1, usize::MAX) {
            Ok(entries) => {
                let entry = entries.first().expect("entry");
                let read = format!("{} {} {} {}", entry.position, entry.feed, entry.sequence, entry.digest);
                assert_eq!(read, line, "{what}");
            }
            Err(ReadError::Damaged(damage)) => assert_eq!(damage.position, position, "{what}"),
            Err(error) => panic!("{what}: entry {position}: {error}"),
        }
    }
    log.close().await;
}

#[tokio::test]
async fn the_healthy_logs_are_healthy() {
    let healthy = Healthy::new().await;
    for moment in [&healthy.older, &healthy.now, &healthy.newer, &healthy.again, &healthy.stranger] {
        let report = httt_log::audit(&moment.dir, AuditOptions::default()).expect("audit");
        assert_eq!((report.findings, report.entries), (vec![], moment.entries));
    }
    assert!(healthy.now.dir.join("chunks").join(name(2)).exists(), "there must be a chunk in the middle");
    Case::new("nothing broken", Opens::Whole, vec![], |_| {}).check(&healthy).await;
    // Written anew from the front page's description, it is the same log but for the times in its markers.
    let anew = |dir: &Path| format::Whole::read(dir).write(dir);
    Case::new("written anew", Opens::Whole, vec![], anew).check(&healthy).await;
}
