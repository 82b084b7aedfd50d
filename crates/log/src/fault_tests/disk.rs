//! The injectable file layer of the matrix: real files that nobody syncs, a [`Platter`] that knows what a power cut
//! leaves of them, and faults at chosen operations.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::platter::{Change, Image, Platter};
use super::{EIO, Fault, Op};
use crate::files::{Files, SystemFiles, WriteFile};

/// An operation of a run: the same one in every run that went the same way so far.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Site {
    pub(super) op: Op,
    /// Path in the log's folder; `.` and `..` are the folder itself and the one around it.
    pub(super) target: String,
    /// By the thread that fills chunks ahead.
    pub(super) fill: bool,
    /// Counts operations that are otherwise alike, from 0.
    pub(super) nth: usize,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = if self.fill { " by fill" } else { "" };
        write!(f, "{:?}({})#{}{by}", self.op, self.target, self.nth)
    }
}

/// What fails beside the operation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// Nothing.
    Once,
    /// From then on every operation of the kind.
    Kind,
    /// From then on everything; with `ENOSPC` all that needs space.
    Everything,
}

/// What goes wrong at an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mishap {
    Fault(Fault, Span),
    PowerCut,
}

#[derive(Debug)]
struct Planned {
    site: Site,
    mishap: Mishap,
    met: bool,
}

impl Planned {
    fn strikes(&mut self, site: &Site) -> bool {
        if !self.met {
            self.met = self.site == *site;
            return self.met;
        }
        match self.mishap {
            Mishap::PowerCut | Mishap::Fault(_, Span::Once) => false,
            Mishap::Fault(_, Span::Kind) => site.op == self.site.op,
            Mishap::Fault(fault, Span::Everything) => {
                fault != super::ENOSPC || site.op == self.site.op || matches!(site.op, Op::Write | Op::Create)
            }
        }
    }
}

/// A fault that was met.
#[derive(Debug, Clone)]
pub(super) struct Delivered {
    pub(super) site: Site,
    pub(super) fault: Fault,
}

#[derive(Debug)]
struct State {
    root: PathBuf,
    platter: Platter,
    counts: HashMap<(Op, String, bool), usize>,
    plan: Vec<Planned>,
    trace: Vec<Site>,
    delivered: Vec<Delivered>,
    /// Failed syncs of each file: every handle that was open then hears of it once, as on Linux.
    sync_errors: HashMap<usize, u64>,
    /// Operations until the power is cut.
    left: Option<u64>,
    off: bool,
    image: Option<Image>,
}

impl State {
    /// Counts an operation and lets it fail if that is planned; gives how much of a write is done.
    fn meet(&mut self, op: Op, path: &Path) -> io::Result<Option<usize>> {
        if self.off {
            return Err(io::Error::from_raw_os_error(5));
        }
        let target = match path.strip_prefix(&self.root) {
            Ok(inside) if inside.as_os_str().is_empty() => ".".to_owned(),
            Ok(inside) => inside.display().to_string(),
            Err(_) => "..".to_owned(),
        };
        let fill = std::thread::current().name() == Some("httt-fill");
        let count = self.counts.entry((op, target.clone(), fill)).or_default();
        let site = Site { op, target, fill, nth: *count };
        *count += 1;
        self.trace.push(site.clone());
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
            self.off = *left == 0;
        }
        let Some(planned) = self.plan.iter_mut().find_map(|planned| planned.strikes(&site).then_some(planned.mishap))
        else {
            return Ok(None);
        };
        match planned {
            Mishap::PowerCut => {
                self.off = true;
                // What is under way may have come to pass; see the callers.
                Ok(None)
            }
            Mishap::Fault(fault, _) => {
                self.delivered.push(Delivered { site, fault });
                match fault {
                    Fault::Errno(number) => Err(io::Error::from_raw_os_error(number)),
                    // Only a write can be short.
                    Fault::Short(bytes) => Ok(Some(bytes)),
                }
            }
        }
    }

    /// Ends an operation during which the power may have been cut.
    fn done(&mut self) -> io::Result<()> {
        if self.off && self.image.is_none() {
            self.image = Some(self.platter.power_cut());
        }
        if self.off { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }
}

/// The disk; clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk with what stands in `root`.
    pub(super) fn new(root: &Path, seed: u64, plan: &[(Site, Mishap)]) -> Self {
        let plan = plan.iter().map(|(site, mishap)| Planned { site: site.clone(), mishap: *mishap, met: false });
        Self(Arc::new(Mutex::new(State {
            root: root.to_owned(),
            platter: Platter::new(root, seed),
            counts: HashMap::new(),
            plan: plan.collect(),
            trace: Vec::new(),
            delivered: Vec::new(),
            sync_errors: HashMap::new(),
            left: None,
            off: false,
            image: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("lock")
    }

    /// Operations met so far.
    pub(super) fn trace(&self) -> Vec<Site> {
        self.state().trace.clone()
    }

    /// Faults met so far.
    pub(super) fn delivered(&self) -> Vec<Delivered> {
        self.state().delivered.clone()
    }

    /// Cuts the power at the operation that comes so many from now, from 1.
    pub(super) fn power_cut_in(&self, operations: u64) {
        self.state().left = Some(operations);
    }

    /// Whether everything planned has happened.
    pub(super) fn all_met(&self) -> bool {
        self.state().plan.iter().all(|planned| planned.met)
    }

    /// Faults that were met stop: there is space again, the cable is back.
    pub(super) fn heal(&self) {
        self.state().plan.retain(|planned| !planned.met);
    }

    /// The process dies: nothing it does any more has an effect.
    pub(super) fn kill(&self) {
        self.state().off = true;
    }

    /// Another process comes, and finds what the dead one had written, synced or not.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        assert!(state.image.is_none(), "the power is off");
        state.off = false;
        state.plan.clear();
    }

    pub(super) fn is_off(&self) -> bool {
        self.state().off
    }

    /// Cuts the power, if that has not happened yet.
    pub(super) fn power_cut(&self) {
        let mut state = self.state();
        state.off = true;
        let _ = state.done();
    }

    /// What the power cut left.
    pub(super) fn image(&self) -> Image {
        self.state().image.take().expect("the power was cut")
    }
}

#[derive(Debug)]
struct DiskFile {
    real: Box<dyn WriteFile>,
    disk: Disk,
    path: PathBuf,
    file: usize,
    sync_errors: u64,
}

impl WriteFile for DiskFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let short = state.meet(Op::Write, &self.path)?.unwrap_or(bytes.len()).min(bytes.len());
        if short > 0 {
            let bytes = bytes[..short].to_vec();
            self.real.write_at(&bytes, offset).map(|written| assert_eq!(written, short))?;
            state.platter.change(self.file, Change::Write { at: offset, bytes });
        }
        state.done().map(|()| short)
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.meet(Op::SetLen, &self.path)?;
        self.real.set_len(length)?;
        state.platter.change(self.file, Change::Length(length));
        state.done()
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.state();
        let was_off = state.off;
        let mut met = state.meet(Op::Sync, &self.path).map(|_| ());
        if was_off {
            return met;
        }
        // During a power cut a sync is no more than the writes before it.
        state.done()?;
        let errors = state.sync_errors.get(&self.file).copied().unwrap_or_default();
        if met.is_ok() && errors > self.sync_errors {
            let site = state.trace.last().expect("this one").clone();
            state.delivered.push(Delivered { site, fault: EIO });
            self.sync_errors = errors;
            return Err(io::Error::from_raw_os_error(5));
        }
        if met.is_err() {
            self.sync_errors = errors + 1;
            state.sync_errors.insert(self.file, errors + 1);
            state.platter.sync_failed(self.file);
        } else {
            state.platter.sync(self.file);
            met = Ok(());
        }
        met
    }
}

impl Disk {
    fn wrap(&self, state: &State, real: Box<dyn WriteFile>, path: &Path, file: usize) -> Box<dyn WriteFile> {
        let sync_errors = state.sync_errors.get(&file).copied().unwrap_or_default();
        Box::new(DiskFile { real, disk: self.clone(), path: path.to_owned(), file, sync_errors })
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.state();
        state.meet(Op::Create, path)?;
        let real = SystemFiles.create(path)?;
        let file = state.platter.create(path);
        state.done()?;
        Ok(self.wrap(&state, real, path, file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn WriteFile>> {
        let mut state = self.state();
        state.meet(Op::Open, path)?;
        state.done()?;
        let file = state.platter.file(path);
        Ok(self.wrap(&state, SystemFiles.open(path)?, path, file))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.meet(Op::SyncDir, path)?;
        state.done()?;
        state.platter.sync_folder(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.meet(Op::Rename, to)?;
        SystemFiles.rename(from, to)?;
        state.platter.moved(from, to);
        state.done()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.meet(Op::Remove, path)?;
        SystemFiles.remove(path)?;
        state.platter.removed(path);
        state.done()
    }

    fn set_readonly(&self, path: &Path, readonly: bool) -> io::Result<()> {
        let mut state = self.state();
        state.meet(Op::SetReadonly, path)?;
        SystemFiles.set_readonly(path, readonly)?;
        state.done()
    }
}
