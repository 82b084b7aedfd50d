//! Which clusters started which bulletin.

use std::collections::BTreeMap;

use httt_domain::cluster::OrdinalSet;
use httt_domain::models::{Bulletins, Fact, PLAYBACK_STREAM};
use httt_wire::cluster::PlaybackRecorded;
use serde::Serialize;

use super::{is_local, read};

/// One bulletin's clusters.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
struct Played {
    /// Whoever started it, in any version.
    ever: OrdinalSet,
    /// The version that `current` is about.
    version: u32,
    /// Whoever started that version, so that a corrected emergency is offered again.
    current: OrdinalSet,
}

/// Clusters by bulletin. Lane `local`, streams `playback/`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Plays(BTreeMap<String, Played>);

impl Plays {
    /// The model's name.
    pub const NAME: &'static str = "plays";

    /// Whether a cluster started this version of a bulletin.
    pub fn has_played(&self, bulletin: &str, version: u32, ordinal: u32) -> bool {
        self.0.get(bulletin).is_some_and(|played| played.version == version && played.current.contains(ordinal))
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
        let Some(record) = read::<PlaybackRecorded>(fact) else { return };
        let version = bulletins.get(&record.bulletin).map_or(0, |bulletin| bulletin.version);
        let played = self.0.entry(record.bulletin).or_default();
        if played.version != version {
            played.version = version;
            played.current = OrdinalSet::default();
        }
        played.ever.insert(record.cluster);
        played.current.insert(record.cluster);
    }
}
