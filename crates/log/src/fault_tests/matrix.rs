//! Every operation of a workload meets every fault that makes sense for it, once and from then on, and the power is cut
//! at every operation. What each step must be told is the table in [`super::judge`].
//!
//! Fewer endings and seeds as a rule, all of them with `HTTT_FAULT_LONG=1`. `HTTT_FAULT_CELL` runs the cells whose name
//! contains it: a failed one is named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::disk::{Mishap, Site, Span};
use super::workload::{Ending, FILLED, ROLLING, Ran, Script, Step, run};
use super::{EIO, ENOSPC, Fault, Op};

const EINTR: Fault = Fault::Errno(4);
const ENDINGS: [Ending; 3] = [Ending::Ran, Ending::PowerCut, Ending::Killed];
const SPANS: [Span; 3] = [Span::Once, Span::Kind, Span::Everything];
/// Power cuts at each operation, each leaving something else.
const SEEDS: u64 = 3;
const LONG_SEEDS: u64 = 40;
/// Steps after an undone write in which the power is cut.
const STEPS_AFTER_UNDOING: usize = 2;
/// Failed cells that are described.
const MAX_TOLD: usize = 10;

pub(super) fn is_long() -> bool {
    std::env::var_os("HTTT_FAULT_LONG").is_some()
}

/// A run with planned mishaps.
#[derive(Debug)]
struct Cell {
    plan: Vec<(Site, Mishap)>,
    ending: Ending,
    seed: u64,
}

impl Cell {
    fn name(&self, script: &Script) -> String {
        let plan: Vec<_> = self.plan.iter().map(|(site, mishap)| format!("{site}: {mishap:?}")).collect();
        format!("{} {} {:?} seed {}", script.name, plan.join(" + "), self.ending, self.seed)
    }
}

/// Runs cells and remembers which failed.
struct Sweep<'a> {
    script: &'a Script,
    runtime: tokio::runtime::Runtime,
    wanted: Option<String>,
    ran: usize,
    failed: Vec<String>,
}

impl<'a> Sweep<'a> {
    fn new(script: &'a Script) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("runtime");
        Self { script, runtime, wanted: std::env::var("HTTT_FAULT_CELL").ok(), ran: 0, failed: Vec::new() }
    }

    /// The operations of a run in which nothing goes wrong.
    fn operations(&self) -> Vec<(Step, Site)> {
        let ran = self.run(&Cell { plan: Vec::new(), ending: Ending::Ran, seed: 1 });
        let every = [Op::Create, Op::Open, Op::Write, Op::SetLen, Op::Sync, Op::SyncDir, Op::Rename, Op::SetReadonly];
        let met = |op: Op| ran.sites.iter().any(|(_, _, sites)| sites.iter().any(|site| site.op == op));
        assert!(every.into_iter().all(met), "the script does not do all there is to do");
        let sites = ran.sites.into_iter().flat_map(|(_, step, sites)| sites.into_iter().map(move |site| (step, site)));
        sites.collect()
    }

    fn run(&self, cell: &Cell) -> Ran {
        // Nothing is synced for good, so memory does, where there is such a folder.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("dir");
        self.runtime.block_on(run(dir.path(), self.script, &cell.plan, cell.ending, cell.seed))
    }

    fn cell(&mut self, cell: &Cell) -> Option<Ran> {
        let name = cell.name(self.script);
        if self.wanted.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
            return None;
        }
        self.ran += 1;
        let ran = catch_unwind(AssertUnwindSafe(|| self.run(cell)));
        if ran.is_err() {
            self.failed.push(name);
        }
        ran.ok()
    }

    fn finish(self) {
        println!("{}: {} cells", self.script.name, self.ran);
        let told = self.failed.iter().take(MAX_TOLD).map(String::as_str).collect::<Vec<_>>().join("\n");
        assert!(self.failed.is_empty(), "{} of {} cells failed:\n{told}", self.failed.len(), self.ran);
        assert!(self.ran > 0 || self.wanted.is_some(), "no cell was run");
    }
}

/// What can go wrong at an operation; a short write is followed by what makes the next one fail.
fn mishaps(site: &Site) -> Vec<Vec<(Site, Mishap)>> {
    let next = Site { nth: site.nth + 1, ..site.clone() };
    let mut all = Vec::new();
    for span in SPANS {
        for fault in [ENOSPC, EIO] {
            all.push(vec![(site.clone(), Mishap::Fault(fault, span))]);
            if site.op == Op::Write {
                let short = (site.clone(), Mishap::Fault(Fault::Short(60), Span::Once));
                all.push(vec![short, (next.clone(), Mishap::Fault(fault, span))]);
            }
        }
    }
    if site.op == Op::Write {
        for fault in [EINTR, Fault::Short(1), Fault::Short(0)] {
            all.push(vec![(site.clone(), Mishap::Fault(fault, Span::Once))]);
        }
        all.push(vec![(site.clone(), Mishap::Fault(Fault::Short(0), Span::Kind))]);
    }
    all
}

/// Every operation with every fault; where a failed write is undone, every operation of the undoing fails as well.
fn faults(script: &Script) {
    let mut sweep = Sweep::new(script);
    let mut seed = 0;
    for (_, site) in sweep.operations() {
        for plan in mishaps(&site) {
            seed += 1;
            for ending in endings(seed) {
                let single = matches!(plan[..], [(_, Mishap::Fault(Fault::Errno(_), Span::Once))]);
                let Some(ran) = sweep.cell(&Cell { plan: plan.clone(), ending, seed }) else { continue };
                let Some((Step::Commit(..), after)) = ran.after_fault.filter(|_| single && ending == Ending::Ran)
                else {
                    continue;
                };
                for undo in after.into_iter().filter(|site| matches!(site.op, Op::SetLen | Op::Remove | Op::SyncDir)) {
                    for ending in ENDINGS {
                        let second = (undo.clone(), Mishap::Fault(EIO, Span::Once));
                        sweep.cell(&Cell { plan: [plan.clone(), vec![second]].concat(), ending, seed });
                    }
                }
            }
        }
    }
    sweep.finish();
}

fn endings(seed: u64) -> Vec<Ending> {
    if is_long() { ENDINGS.to_vec() } else { vec![ENDINGS[seed as usize % ENDINGS.len()]] }
}

fn power_cuts(script: &Script) {
    let mut sweep = Sweep::new(script);
    for (n, (_, site)) in (0..).zip(sweep.operations()) {
        for seed in 0..if is_long() { LONG_SEEDS } else { SEEDS } {
            let plan = vec![(site.clone(), Mishap::PowerCut)];
            sweep.cell(&Cell { plan, ending: Ending::PowerCut, seed: seed * 1_000_003 + n });
        }
    }
    sweep.finish();
}

/// A write is undone, and while the log goes on the power is cut: what was undone may come back, as far as it was written.
fn power_cuts_after_undone_writes(script: &Script) {
    let mut sweep = Sweep::new(script);
    let mut seed = 0;
    for (_, site) in sweep.operations().into_iter().filter(|(step, _)| matches!(step, Step::Commit(..))) {
        if site.op != Op::Write || site.fill {
            continue;
        }
        let next = Site { nth: site.nth + 1, ..site.clone() };
        // Of a group a whole entry and more; of a chunk's header, its first write, some.
        let bytes = if site.nth == 0 { 60 } else { 400 };
        let short = (site, Mishap::Fault(Fault::Short(bytes), Span::Once));
        let undone = vec![short, (next, Mishap::Fault(ENOSPC, Span::Once))];
        let Some(ran) = sweep.cell(&Cell { plan: undone.clone(), ending: Ending::Ran, seed }) else { continue };
        let failed = ran.sites.iter().position(|(_, _, sites)| sites.contains(&undone[1].0)).expect("it was met");
        let steps = if is_long() { usize::MAX } else { STEPS_AFTER_UNDOING };
        let later = ran.sites.into_iter().skip(failed + 1).take(steps).flat_map(|(_, _, sites)| sites);
        for site in later.filter(|site| !site.fill) {
            for _ in 0..SEEDS {
                seed += 1;
                let plan = [undone.clone(), vec![(site.clone(), Mishap::PowerCut)]].concat();
                sweep.cell(&Cell { plan, ending: Ending::PowerCut, seed });
            }
        }
    }
    sweep.finish();
}

#[test]
fn the_power_is_cut_after_a_write_was_undone() {
    power_cuts_after_undone_writes(&ROLLING);
}

#[test]
fn every_operation_fails_while_chunks_roll() {
    faults(&ROLLING);
}

#[test]
fn every_operation_fails_while_chunks_are_filled_ahead() {
    let by_fill = |op| move |(_, site): &(Step, Site)| site.fill && site.op == op;
    let operations = Sweep::new(&FILLED).operations();
    assert!(
        [Op::Open, Op::Write, Op::Sync].into_iter().all(|op| operations.iter().any(by_fill(op))),
        "nothing is filled"
    );
    faults(&FILLED);
}

#[test]
fn the_power_is_cut_at_every_operation_while_chunks_roll() {
    power_cuts(&ROLLING);
}

#[test]
fn the_power_is_cut_at_every_operation_while_chunks_are_filled_ahead() {
    power_cuts(&FILLED);
}
