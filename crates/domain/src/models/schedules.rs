//! The node's own schedules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::event::Lane;
use crate::schedule::{SCHEDULE_STREAM, Schedule, ScheduleEvent};

/// A schedule with where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ScheduleView {
    /// The state that commands are decided on.
    pub schedule: Schedule,
    /// The agency whose schedule it is: the node itself.
    pub origin: String,
    /// Version of its stream, for the expected version of the next append.
    pub stream_version: u64,
    /// Who set or cancelled it last.
    pub actor: String,
    /// When that was, Unix milliseconds.
    pub changed_at_ms: i64,
}

/// Schedules by identifier. Lane `local`, streams `schedule/`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schedules {
    schedules: BTreeMap<String, ScheduleView>,
}

impl Schedules {
    /// One schedule.
    pub fn get(&self, schedule: &str) -> Option<&ScheduleView> {
        self.schedules.get(schedule)
    }

    /// All of them, by identifier.
    pub fn iter(&self) -> impl Iterator<Item = &ScheduleView> {
        self.schedules.values()
    }

    /// The schedules of a commune, cancelled ones too, the ones that changed last first.
    pub fn of_commune(&self, commune: &str) -> Vec<&ScheduleView> {
        let mut found: Vec<_> = self.iter().filter(|view| view.schedule.commune == commune).collect();
        found.sort_by(|a, b| (b.changed_at_ms, &b.schedule.schedule).cmp(&(a.changed_at_ms, &a.schedule.schedule)));
        found
    }
}

impl Model for Schedules {
    const NAME: &'static str = "schedules";
}

impl ReadModel for Schedules {
    fn apply(&mut self, fact: &Fact<'_>) {
        let Some(id) = fact.id(SCHEDULE_STREAM).filter(|_| fact.is_lane(Lane::Local)) else { return };
        let Some(event) = ScheduleEvent::decode(fact.kind, fact.data) else { return };
        let named = match &event {
            ScheduleEvent::Set(event) => &event.schedule,
            ScheduleEvent::Cancelled(event) => &event.schedule,
            ScheduleEvent::Answered(event) => &event.schedule,
            ScheduleEvent::Delivery { .. } => return,
        };
        if named != id {
            return;
        }
        if matches!(event, ScheduleEvent::Set(_)) {
            let new = || ScheduleView { origin: fact.origin.to_owned(), ..ScheduleView::default() };
            self.schedules.entry(id.to_owned()).or_insert_with(new);
        }
        let Some(view) = self.schedules.get_mut(id).filter(|view| view.origin == fact.origin) else { return };
        view.schedule.evolve(&event);
        view.stream_version = fact.version;
        if !matches!(event, ScheduleEvent::Answered(_)) {
            view.actor = fact.actor.to_owned();
            view.changed_at_ms = fact.occurred_at_ms;
        }
    }
}
