//! What each version of a bulletin was: what clusters may still sound of it, and whom it was for.

use std::collections::BTreeMap;

use httt_domain::area::Areas;
use httt_domain::bulletin::{BULLETIN_STREAM, Content};
use httt_domain::models::{Bulletins, Fact, Model};
use httt_feed::Digest;
use serde::{Deserialize, Serialize};

/// One version, as far as it matters once it is no longer the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// From 1; some may be missing.
    pub version: u32,
    /// When it was published, Unix ms by the publisher's clock.
    pub at_ms: i64,
    /// End of its validity, Unix ms; 0 for none.
    pub valid_until_ms: i64,
    /// SHA-256 of what sounds, hexadecimal.
    pub sound: String,
    targets: Vec<String>,
}

impl Version {
    /// Whether it was for a commune.
    pub fn is_for(&self, areas: &Areas, commune: &str) -> bool {
        self.targets.is_empty() || self.targets.iter().any(|target| areas.covers(target, commune))
    }
}

/// SHA-256 of what sounds of a bulletin, hexadecimal: of its file, or of its text where there is none. Devices echo the
/// one as a detail and the other as the content.
fn sound_of(content: &Content) -> String {
    match &content.media {
        Some(media) => media.sha256.to_ascii_lowercase(),
        None => sound_of_text(&content.body),
    }
}

/// SHA-256 of a text as it sounds; devices lose the blanks around it.
pub(crate) fn sound_of_text(text: &str) -> String {
    Digest::of(text.trim().as_bytes()).to_string()
}

/// Versions by bulletin, ascending.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Versions(BTreeMap<String, Vec<Version>>);

impl Model for Versions {
    const NAME: &'static str = "versions";
}

impl Versions {
    /// The versions of a bulletin, ascending; the last is the one in force.
    pub fn of(&self, bulletin: &str) -> &[Version] {
        self.0.get(bulletin).map_or(&[], Vec::as_slice)
    }

    /// The latest version that sounds so.
    pub fn by_sound(&self, bulletin: &str, sound: &str) -> Option<u32> {
        let mut sounds_so = self.of(bulletin).iter().rev().filter(|version| version.sound == sound);
        sounds_so.next().map(|version| version.version)
    }

    /// `bulletins` has folded the fact already: which versions count is its business.
    pub(super) fn apply(&mut self, fact: &Fact<'_>, bulletins: &Bulletins) {
        let Some(id) = fact.stream.strip_prefix(BULLETIN_STREAM) else { return };
        let Some(bulletin) = bulletins.get(id) else { return };
        let versions = self.0.entry(id.to_owned()).or_default();
        if versions.last().is_some_and(|last| last.version == bulletin.version) {
            return;
        }
        versions.push(Version {
            version: bulletin.version,
            at_ms: bulletin.changed_at_ms,
            valid_until_ms: bulletin.content.valid_until_ms,
            sound: sound_of(&bulletin.content),
            targets: bulletin.content.target_areas.clone(),
        });
    }
}
