//! Emergencies as clusters hear of them: what sounds where, until when, and where it is to stop.

use std::collections::{BTreeMap, BTreeSet};

use httt_domain::device::DeviceBulletin;
use httt_domain::models::PublishedBulletin;

use crate::models::Version;
use crate::province::Province;

/// An emergency without an end of its own that took longer than this to get here, ms, is no longer one: after a month
/// offline nobody is to be woken by last month's flood. Far longer than clocks drift.
const MAX_EMERGENCY_DELAY_MS: i64 = 24 * 3_600_000;

/// An emergency that clusters are to play, or to stop.
#[derive(Debug)]
pub(crate) struct Alert {
    /// Its version.
    pub(crate) version: u32,
    /// As devices get it.
    pub(crate) bulletin: DeviceBulletin,
    /// Whether it was taken back everywhere.
    withdrawn: bool,
    /// Whether its file is here; devices can do nothing with an address that has none yet.
    ready: bool,
    /// Whom it is for.
    communes: BTreeSet<String>,
    until_ms: i64,
    /// Whom its earlier versions were for, and until when clusters there may sound one of them. Where the correction is
    /// for nobody, or ended sooner, that is to stop: a cluster knows only what it was told last.
    earlier: BTreeMap<String, i64>,
}

/// What a commune hears of an emergency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is to be played.
    Sounds,
    /// What still plays of it is to stop.
    TakenBack,
}

impl Alert {
    /// What a commune hears of it now; none when it is nothing to it.
    pub(crate) fn heard(&self, commune: &str, now_ms: i64) -> Option<Heard> {
        if now_ms < self.until_ms && self.communes.contains(commune) {
            return if self.withdrawn { Some(Heard::TakenBack) } else { self.ready.then_some(Heard::Sounds) };
        }
        let sounding = self.earlier.get(commune).is_some_and(|until_ms| now_ms < *until_ms);
        sounding.then_some(Heard::TakenBack)
    }

    /// When it is nothing to anybody any more.
    pub(super) fn ends_ms(&self) -> i64 {
        let own = if self.communes.is_empty() { 0 } else { self.until_ms };
        self.earlier.values().copied().fold(own, i64::max)
    }

    /// What clusters hear of an emergency, whose versions these are; none when that is nothing. `received_ms` is when
    /// it came, 0 when it has come this very moment and the receipt is being written.
    pub(super) fn of(
        province: &Province,
        bulletin: &PublishedBulletin,
        versions: &[Version],
        received_ms: i64,
        ready: bool,
    ) -> Option<Self> {
        let now_ms = province.desk.now_ms();
        let times = Times {
            published_ms: bulletin.published_at_ms,
            received_ms: if received_ms == 0 { now_ms } else { received_ms },
            now_ms,
            default_ms: i64::from(province.settings.default_emergency_minutes) * 60_000,
        };
        let mut earlier: BTreeMap<String, i64> = BTreeMap::new();
        let before = versions.iter().filter(|version| version.version < bulletin.version);
        for (version, until_ms) in before.map(|version| (version, times.end(version.valid_until_ms, version.at_ms))) {
            let communes = province.areas.communes_of(&province.home).into_iter();
            for commune in communes.filter(|commune| version.is_for(province.areas, &commune.code)) {
                let held = earlier.entry(commune.code.clone()).or_insert(until_ms);
                *held = until_ms.max(*held);
            }
        }
        earlier.retain(|_, until_ms| now_ms < *until_ms);
        let alert = Self {
            version: bulletin.version,
            bulletin: province.device_bulletin(&bulletin.bulletin, &bulletin.content),
            withdrawn: bulletin.withdrawn.is_some(),
            ready,
            communes: bulletin.content.communes_within(province.areas, &province.home).into_iter().collect(),
            until_ms: times.end(bulletin.content.valid_until_ms, bulletin.changed_at_ms),
            earlier,
        };
        (now_ms < alert.ends_ms()).then_some(alert)
    }
}

/// What the end of an emergency depends on.
struct Times {
    /// When its first version was published, by the publisher's clock.
    published_ms: i64,
    received_ms: i64,
    now_ms: i64,
    /// How long one without an end of its own sounds.
    default_ms: i64,
}

impl Times {
    /// When a version ends; 0 for one that never began.
    fn end(&self, valid_until_ms: i64, changed_at_ms: i64) -> i64 {
        match valid_until_ms {
            0 if self.received_ms - self.published_ms > MAX_EMERGENCY_DELAY_MS => 0,
            // A correction counts anew, by the publisher's clock as far as that is not ahead of ours.
            0 => self.received_ms.max(changed_at_ms.min(self.now_ms)).saturating_add(self.default_ms),
            until_ms => until_ms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use httt_domain::bulletin::Content;

    fn alert() -> Alert {
        Alert {
            version: 2,
            bulletin: DeviceBulletin::of("e1", &Content::default(), ""),
            withdrawn: false,
            ready: true,
            communes: ["10525".to_owned()].into(),
            until_ms: 100,
            earlier: [("10525".to_owned(), 200), ("10507".to_owned(), 300)].into(),
        }
    }

    #[test]
    fn what_was_corrected_away_is_taken_back_until_its_own_end() {
        let alert = alert();
        let heard = |commune: &str, now_ms| alert.heard(commune, now_ms);
        assert_eq!(heard("10525", 99), Some(Heard::Sounds));
        assert_eq!(heard("10525", 100), Some(Heard::TakenBack), "the correction ends sooner than what it corrects");
        assert_eq!(heard("10525", 200), None);
        assert_eq!(heard("10507", 299), Some(Heard::TakenBack));
        assert_eq!((heard("10507", 300), heard("10600", 0)), (None, None));
        assert_eq!(alert.ends_ms(), 300);
    }

    #[test]
    fn what_has_no_file_yet_does_not_sound_and_can_be_withdrawn() {
        let waiting = Alert { ready: false, ..alert() };
        assert_eq!(waiting.heard("10525", 50), None, "its correction is on its way");
        let withdrawn = Alert { withdrawn: true, ..waiting };
        assert_eq!(withdrawn.heard("10525", 50), Some(Heard::TakenBack));
        assert_eq!(Alert { communes: BTreeSet::new(), earlier: BTreeMap::new(), ..alert() }.ends_ms(), 0);
    }

    #[test]
    fn an_emergency_without_an_end_gets_one() {
        let times = |received_ms| Times { published_ms: 1_000, received_ms, now_ms: 90_000_000, default_ms: 500 };
        assert_eq!(times(2_000).end(7, 1_000), 7);
        assert_eq!(times(2_000).end(0, 1_000), 2_500, "from its arrival");
        assert_eq!(times(2_000).end(0, 80_000_000), 80_000_500, "a correction counts anew");
        assert_eq!(times(2_000).end(0, i64::MAX), 90_000_500, "a clock that is ahead does not prolong it");
        assert_eq!(times(1_001 + MAX_EMERGENCY_DELAY_MS).end(0, 1_000), 0, "last month's flood");
    }
}
