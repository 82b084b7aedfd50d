//! What the node's own clusters played: counts, never every record.

use std::collections::BTreeMap;

use httt_wire::cluster::PlaybackRecorded;
use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::event::Lane;

/// Stream prefix of playback logs.
pub const PLAYBACK_STREAM: &str = "playback/";

/// Plays, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlayCount {
    /// Items started.
    pub plays: u64,
    /// Of these, emergencies.
    pub emergencies: u64,
    /// Of these, with the volume at 0.
    pub silent: u64,
    /// Playing time, seconds.
    pub seconds: u64,
    /// Last start, Unix milliseconds by the device's clock.
    pub last_started_at_ms: i64,
}

impl PlayCount {
    fn count(&mut self, record: &PlaybackRecorded) {
        self.plays += 1;
        self.emergencies += u64::from(record.emergency);
        self.silent += u64::from(record.volume == 0);
        self.seconds = self.seconds.saturating_add(u64::from(record.duration_s));
        self.last_started_at_ms = self.last_started_at_ms.max(record.started_at_ms);
    }

    /// Whole minutes played.
    pub fn minutes(&self) -> u64 {
        self.seconds / 60
    }

    fn add(&mut self, other: &Self) {
        self.plays += other.plays;
        self.emergencies += other.emergencies;
        self.silent += other.silent;
        self.seconds = self.seconds.saturating_add(other.seconds);
        self.last_started_at_ms = self.last_started_at_ms.max(other.last_started_at_ms);
    }
}

/// What was played of one bulletin.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BulletinPlayback {
    /// By commune.
    pub communes: BTreeMap<String, PlayCount>,
}

/// Counts by bulletin and commune, and by commune and cluster. Lane `local`, streams `playback/`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Playback {
    bulletins: BTreeMap<String, BulletinPlayback>,
    clusters: BTreeMap<String, BTreeMap<u32, PlayCount>>,
}

impl Playback {
    /// What was played of a bulletin, by commune.
    pub fn bulletin(&self, bulletin: &str) -> Option<&BulletinPlayback> {
        self.bulletins.get(bulletin)
    }

    /// What was played of a bulletin in all communes.
    pub fn bulletin_total(&self, bulletin: &str) -> PlayCount {
        let mut total = PlayCount::default();
        for count in self.bulletins.get(bulletin).into_iter().flat_map(|playback| playback.communes.values()) {
            total.add(count);
        }
        total
    }

    /// What the clusters of a commune played, by ordinal.
    pub fn clusters_of(&self, commune: &str) -> impl Iterator<Item = (u32, &PlayCount)> {
        self.clusters.get(commune).into_iter().flatten().map(|(ordinal, count)| (*ordinal, count))
    }
}

impl Model for Playback {
    const NAME: &'static str = "playback";
}

impl ReadModel for Playback {
    fn apply(&mut self, fact: &Fact<'_>) {
        let Some(commune) = fact.id(PLAYBACK_STREAM).filter(|_| fact.is_lane(Lane::Local)) else { return };
        let Some(record) = fact.read::<PlaybackRecorded>() else { return };
        let bulletin = self.bulletins.entry(record.bulletin.clone()).or_default();
        bulletin.communes.entry(commune.to_owned()).or_default().count(&record);
        self.clusters.entry(commune.to_owned()).or_default().entry(record.cluster).or_default().count(&record);
    }
}
