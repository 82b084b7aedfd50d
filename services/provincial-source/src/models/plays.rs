//! Which clusters started which bulletin.

use std::collections::BTreeMap;

use httt_domain::cluster::OrdinalSet;
use httt_domain::models::{Bulletins, Fact, Model, PLAYBACK_STREAM};
use httt_wire::cluster::PlaybackRecorded;
use serde::{Deserialize, Serialize};

use super::is_local;

/// One bulletin's clusters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Played {
    /// Whoever started it, in any version.
    ever: OrdinalSet,
    /// The version that `current` is about: the latest that anybody started.
    version: u32,
    /// Whoever started that version, so that a corrected emergency is offered again.
    current: OrdinalSet,
}

/// Clusters by bulletin. Lane `local`, streams `playback/`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plays(BTreeMap<String, Played>);

impl Model for Plays {
    const NAME: &'static str = "plays";
}

impl Plays {
    /// Whether a cluster started this version of a bulletin.
    pub fn has_played(&self, bulletin: &str, version: u32, ordinal: u32) -> bool {
        self.0.get(bulletin).is_some_and(|played| played.version == version && played.current.contains(ordinal))
    }

    /// Whether a cluster started a bulletin in any version.
    pub fn has_ever_played(&self, bulletin: &str, ordinal: u32) -> bool {
        self.0.get(bulletin).is_some_and(|played| played.ever.contains(ordinal))
    }

    /// The clusters that started a bulletin in any version, ascending.
    pub fn clusters(&self, bulletin: &str) -> impl Iterator<Item = u32> {
        self.0.get(bulletin).into_iter().flat_map(|played| played.ever.iter())
    }

    /// Every bulletin with its clusters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &OrdinalSet)> {
        self.0.iter().map(|(bulletin, played)| (bulletin.as_str(), &played.ever))
    }

    pub(super) fn apply(&mut self, fact: &Fact<'_>, bulletins: &Bulletins) {
        if !fact.stream.starts_with(PLAYBACK_STREAM) || !is_local(fact) {
            return;
        }
        let Some(record) = fact.read::<PlaybackRecorded>() else { return };
        let in_force = bulletins.get(&record.bulletin).map_or(0, |bulletin| bulletin.version);
        let version = match record.bulletin_version {
            0 => in_force,
            // Nobody has played what is not there yet.
            told => told.min(in_force),
        };
        let played = self.0.entry(record.bulletin).or_default();
        played.ever.insert(record.cluster);
        if played.version < version {
            played.version = version;
            played.current = OrdinalSet::default();
        }
        // A report that comes late, of a version before, says nothing of this one.
        if played.version == version {
            played.current.insert(record.cluster);
        }
    }
}
