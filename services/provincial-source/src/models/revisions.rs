//! How often what a commune's clusters are to play has changed: a number that a device compares with the one it has.

use std::collections::{BTreeMap, BTreeSet};

use httt_domain::models::{Fact, Model, Schedules};
use httt_domain::schedule::SCHEDULE_STREAM;
use httt_wire::cluster::ScheduleAnswered;
use serde::{Deserialize, Serialize};

use super::{changed_bulletin, is_local};

/// Revisions by commune. Folded, so that a restart changes none and devices keep what they have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScheduleRevisions {
    communes: BTreeMap<String, u64>,
    /// By schedule, the version of its stream at which people set or cancelled it last; answers of devices, which move
    /// the stream too, do not count.
    schedules: BTreeMap<String, u64>,
    /// Sum of all, to see at a glance whether any changed.
    total: u64,
}

impl Model for ScheduleRevisions {
    const NAME: &'static str = "schedule-revisions";
}

impl ScheduleRevisions {
    /// A commune's revision, 0 while it never had a schedule.
    pub fn of(&self, commune: &str) -> u64 {
        self.communes.get(commune).copied().unwrap_or(0)
    }

    /// Grows whenever any commune's does.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What a person who changes a schedule must have seen; 0 for one that is not there.
    pub fn of_schedule(&self, schedule: &str) -> u64 {
        self.schedules.get(schedule).copied().unwrap_or(0)
    }

    /// `schedules` has folded the fact already.
    pub(super) fn apply(&mut self, fact: &Fact<'_>, schedules: &Schedules) {
        if let Some(bulletin) = changed_bulletin(fact) {
            self.bulletin_changed(bulletin, schedules);
        } else if let Some(schedule) = fact.stream.strip_prefix(SCHEDULE_STREAM) {
            self.schedule_changed(schedule, fact, schedules);
        }
    }

    fn schedule_changed(&mut self, schedule: &str, fact: &Fact<'_>, schedules: &Schedules) {
        if !is_local(fact) || fact.is::<ScheduleAnswered>() {
            return;
        }
        if let Some(view) = schedules.get(schedule) {
            let commune = view.schedule.commune.clone();
            self.bump(commune);
            self.schedules.insert(schedule.to_owned(), fact.version);
        }
    }

    /// A bulletin was corrected, withdrawn, or its file arrived: the schedules it stands in change with it.
    fn bulletin_changed(&mut self, bulletin: &str, schedules: &Schedules) {
        let concerned: BTreeSet<&String> = schedules
            .iter()
            .filter(|view| !view.schedule.cancelled)
            .filter(|view| view.schedule.bulletins.iter().any(|item| item.bulletin == bulletin))
            .map(|view| &view.schedule.commune)
            .collect();
        concerned.into_iter().for_each(|commune| self.bump(commune.clone()));
    }

    fn bump(&mut self, commune: String) {
        *self.communes.entry(commune).or_default() += 1;
        self.total += 1;
    }
}
