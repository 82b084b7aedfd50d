//! From a report a minute of every cluster to a list of what changed.

use std::collections::BTreeMap;

use httt_wire::cluster as wire;
use serde::{Deserialize, Serialize};

use super::ordinals::encode_deltas;
use super::{Activity, MAX_ORDINALS};

/// What a cluster is doing, as its province knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Not heard from lately, or never.
    #[default]
    Offline,
    /// Online, not playing.
    Idle,
    /// Playing.
    Playing,
    /// Paused.
    Paused,
}

impl From<Activity> for Status {
    fn from(activity: Activity) -> Self {
        match activity {
            Activity::Playing => Self::Playing,
            Activity::Paused => Self::Paused,
            Activity::Idle => Self::Idle,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    activity: Activity,
    /// When, by the node's clock: devices' clocks drift.
    at_ms: i64,
    /// What the last event that named it said.
    told: Status,
}

/// The latest of every cluster, in memory. Not a read model: what it holds between two events is lost with the process
/// and comes back within a minute.
#[derive(Debug, Clone, Default)]
pub struct StatusTracker(BTreeMap<u32, Heard>);

impl StatusTracker {
    /// Begins from what was told before the node stopped (the `Clusters` read model's statuses). Clusters that were
    /// online get until `now_ms` plus the time after which one counts as offline to report again.
    pub fn resume(now_ms: i64, told: impl IntoIterator<Item = (u32, Status)>) -> Self {
        let heard = |told| match told {
            Status::Offline => None,
            Status::Idle => Some(Activity::Idle),
            Status::Playing => Some(Activity::Playing),
            Status::Paused => Some(Activity::Paused),
        };
        let keep = |(ordinal, told)| Some((ordinal, Heard { activity: heard(told)?, at_ms: now_ms, told }));
        Self(told.into_iter().filter_map(keep).collect())
    }

    /// A cluster reported. A report older than the one held (delivered late) is left out.
    pub fn heard(&mut self, ordinal: u32, activity: Activity, at_ms: i64) {
        if ordinal == 0 {
            return;
        }
        let held = self.0.entry(ordinal).or_insert(Heard { activity, at_ms, told: Status::Offline });
        if at_ms >= held.at_ms {
            held.activity = activity;
            held.at_ms = at_ms;
        }
    }

    /// What a cluster is doing now.
    pub fn status(&self, ordinal: u32, now_ms: i64, offline_after_ms: i64) -> Status {
        self.0.get(&ordinal).map_or(Status::Offline, |heard| current(heard, now_ms, offline_after_ms))
    }

    /// What changed since the last event that was handed out, or none. At most [`MAX_ORDINALS`] changes go into one
    /// event, those of small ordinals first; call again until none to send all.
    pub fn tick(&mut self, now_ms: i64, offline_after_ms: i64) -> Option<wire::ClusterStatusChanged> {
        let mut changed = Vec::new();
        for (ordinal, heard) in &mut self.0 {
            let status = current(heard, now_ms, offline_after_ms);
            if status != heard.told {
                heard.told = status;
                changed.push((*ordinal, status));
                if changed.len() == MAX_ORDINALS {
                    break;
                }
            }
        }
        // Whoever is told to be offline and silent needs no memory: offline is what everybody is by default.
        self.0.retain(|_, heard| {
            heard.told != Status::Offline || current(heard, now_ms, offline_after_ms) != Status::Offline
        });
        (!changed.is_empty()).then(|| changes_of(now_ms, changed))
    }
}

/// Changes at one moment as they are told.
pub(super) fn changes_of(at_ms: i64, changed: impl IntoIterator<Item = (u32, Status)>) -> wire::ClusterStatusChanged {
    let mut lists: BTreeMap<Status, Vec<u32>> = BTreeMap::new();
    for (ordinal, status) in changed {
        lists.entry(status).or_default().push(ordinal);
    }
    let mut deltas = |status| encode_deltas(lists.remove(&status).unwrap_or_default());
    wire::ClusterStatusChanged {
        at_ms,
        offline: deltas(Status::Offline),
        idle: deltas(Status::Idle),
        playing: deltas(Status::Playing),
        paused: deltas(Status::Paused),
    }
}

fn current(heard: &Heard, now_ms: i64, offline_after_ms: i64) -> Status {
    if now_ms.saturating_sub(heard.at_ms) >= offline_after_ms { Status::Offline } else { heard.activity.into() }
}
