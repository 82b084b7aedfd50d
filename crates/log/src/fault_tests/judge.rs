//! What every step of a workload must be told when a fault is met: the table, and who holds the steps to it.

use super::disk::{Delivered, Site};
use super::workload::Step;
use super::{ENOSPC, Fault, Op};
use crate::CommitError;

/// What the caller of a step was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Done,
    Full(String),
    Failed(String),
    Poisoned(String),
    NotOpened(String),
    Other(String),
}

impl Told {
    pub(super) fn of<T>(result: Result<T, CommitError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(CommitError::DiskFull(what)) => Self::Full(what),
            Err(CommitError::WriteFailed(what)) => Self::Failed(what),
            Err(CommitError::Poisoned(what)) => Self::Poisoned(what),
            Err(other) => Self::Other(other.to_string()),
        }
    }
}

/// What a fault must lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Nothing,
    Full,
    Failed,
    /// Poisoned.
    Broken,
    /// Poisoned, now or later: the thread that fills chunks ahead met it.
    BrokenSoon,
    NotOpened,
}

/// The table: what a fault at an operation of a step must lead to. `undoing`: the step met a failed write before.
fn effect(step: Step, site: &Site, fault: Fault, undoing: bool) -> Effect {
    // Continued, or tried again.
    if matches!(fault, Fault::Short(1..) | Fault::Errno(4)) {
        return Effect::Nothing;
    }
    let class = if fault == ENOSPC { Effect::Full } else { Effect::Failed };
    match (step, site.op) {
        (_, Op::Sync) if site.fill => Effect::BrokenSoon,
        _ if site.fill => Effect::Nothing,
        (Step::Open, _) => Effect::NotOpened,
        // Nobody waits for an answer; opening makes good for it.
        (Step::Close, _) => Effect::Nothing,
        (Step::Checkpoint, _) => Effect::Failed,
        // A full chunk that stays writable harms nothing.
        (Step::Commit(..), Op::SetReadonly) => Effect::Nothing,
        (Step::Commit(..), Op::Write | Op::Create) => class,
        // Cutting off what a failed write left; else cutting the zeros off a full chunk.
        (Step::Commit(..), Op::SetLen) => {
            if undoing {
                Effect::Broken
            } else {
                class
            }
        }
        (Step::Commit(..), Op::Sync | Op::SyncDir | Op::Remove) => Effect::Broken,
        (Step::Commit(..), Op::Open | Op::Rename) => panic!("a commit does not do this: {site}"),
    }
}

/// Judges what a step was told.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) poisoned: bool,
    poisoned_soon: bool,
}

impl Judge {
    pub(super) fn judge(&mut self, step: Step, told: &Told, met: &[Delivered], operations: &[Site]) {
        if step == Step::Open {
            *self = Self::default();
        }
        let (mut expected, mut cause) = (Effect::Nothing, None);
        for Delivered { site, fault } in met {
            let undoing = matches!(expected, Effect::Full | Effect::Failed);
            match effect(step, site, *fault, undoing) {
                Effect::Nothing => {}
                Effect::BrokenSoon => self.poisoned_soon = true,
                Effect::Broken => expected = Effect::Broken,
                effect if expected == Effect::Nothing => (expected, cause) = (effect, Some(*fault)),
                _ => {}
            }
        }
        if self.poisoned && step != Step::Close {
            assert!(matches!(told, Told::Poisoned(_)), "{step:?} after poisoning was told {told:?}");
            assert!(operations.iter().all(|site| site.fill), "files were touched after poisoning: {operations:?}");
            return;
        }
        let soon = self.poisoned_soon && step != Step::Close && matches!(told, Told::Poisoned(_));
        let right = match expected {
            Effect::Nothing | Effect::BrokenSoon => *told == Told::Done,
            Effect::Full => matches!(told, Told::Full(_)),
            Effect::Failed => matches!(told, Told::Failed(_)),
            Effect::Broken => matches!(told, Told::Poisoned(_)),
            Effect::NotOpened => matches!(told, Told::NotOpened(_)),
        };
        assert!(right || soon, "{step:?} met {met:?}: {expected:?} expected, told {told:?}");
        self.poisoned |= matches!(told, Told::Poisoned(_));
        if let (Told::Full(text) | Told::Failed(text) | Told::NotOpened(text), Some(Fault::Errno(number))) =
            (told, cause)
        {
            let reason = std::io::Error::from_raw_os_error(number).to_string();
            assert!(text.contains(&reason), "{text:?} does not say {reason:?}");
        }
    }
}
