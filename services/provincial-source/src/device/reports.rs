//! What devices report: how they are, and what they play.

use axum::extract::State;
use httt_domain::device::{PlaybackLog, StatusReport};
use httt_domain::models::{PLAYBACK_STREAM, PublishedBulletin};
use httt_domain::refusal::{Field, Refusal};
use httt_feed::{Audience, Lane};
use httt_log::NewEvent;
use httt_wire::cluster::PlaybackRecorded;
use uuid::Uuid;

use super::{Device, DeviceError, DeviceMessage, DeviceResult, done};
use crate::models::{ProvinceModels, sound_of_text};
use crate::province::{Inner, Province, derived_id, lock};

/// Longest playing time believed when the bulletin itself says none, in seconds.
const MAX_DURATION_S: u32 = 24 * 3_600;
/// How long after a bulletin was withdrawn, or corrected away from the commune, it is believed to have played before:
/// what a box may be offline.
const MAX_LATE_MS: i64 = 31 * 24 * 3_600_000;
/// Earliest start believed, the beginning of 2020, Unix seconds: no cluster hung before, and clocks without a battery
/// begin in 1970 or 2000.
const LEAST_TIME_S: i64 = 1_577_836_800;
/// How far a device's clock may be ahead: a day is a date set wrong, more is nonsense.
const MAX_AHEAD_MS: i64 = 24 * 3_600_000;

/// `POST /thiet-bi/trang-thai`. Kept in memory; what changed is written at the next tick.
pub(crate) async fn status(
    State(province): State<Province>,
    device: Device,
    DeviceMessage(report): DeviceMessage<StatusReport>,
) -> DeviceResult<()> {
    device.is_own(&report.identity)?;
    let now_ms = province.desk.now_ms();
    let mut statuses = lock(&province.statuses);
    statuses.tracker.heard(device.ordinal, report.activity, now_ms);
    statuses.latest.insert(device.ordinal, (now_ms, report));
    done()
}

/// `POST /thiet-bi/nhat-ky`. Answered when it is on disk; the same start told again changes nothing.
pub(crate) async fn playback(
    State(province): State<Province>,
    device: Device,
    DeviceMessage(log): DeviceMessage<PlaybackLog>,
) -> DeviceResult<()> {
    device.is_own(&log.identity)?;
    let id = &log.bulletin.bulletin;
    let now_ms = province.desk.now_ms();
    let known = province.desk.models.read(|models| {
        let bulletin = credible(&province, models, id, &device.commune, now_ms)?;
        let media_s = bulletin.content.media.as_ref().map_or(0, |media| media.duration_ms.div_ceil(1_000));
        Some((bulletin.content.priority.is_emergency(), media_s, version_told(models, &log)))
    });
    let Some((emergency, media_s, version)) = known else {
        let field = Field::new("BanTinID", "BanTinID", "BanTinID");
        return Err(DeviceError::from(Refusal::NotFound { field, given: id.clone() }));
    };
    device.may_write(&province)?;
    let started = Started::of(log.started_at_s, now_ms);
    let record = PlaybackRecorded {
        cluster: device.ordinal,
        bulletin: id.clone(),
        started_at_ms: started.at_ms(),
        volume: log.volume.into(),
        // What the bulletin itself says is known better than what a device says of it.
        duration_s: if media_s > 0 { media_s } else { log.bulletin.duration_s.min(MAX_DURATION_S) },
        emergency,
        bulletin_version: version,
    };
    let audience = Audience::One(province.desk.node.code.clone());
    let stream = format!("{PLAYBACK_STREAM}{}", device.commune);
    let event_id = started.event_id(province.own(), &device.imei, id, version);
    let event = NewEvent::of(audience, Lane::Local, stream, &record).with_id(event_id).with_actor(&device.imei);
    let next = province.append_once(event).await?;
    // The device's next call must not be told of an emergency that it has just reported. It is on disk; models that are
    // late change nothing about that.
    let _ = province.desk.models.reached(next).await;
    {
        let mut played = lock(&province.played);
        let tracker = if emergency { &mut played.emergencies } else { &mut played.others };
        tracker.record(id, device.ordinal);
    }
    done()
}

/// The bulletin, if a cluster of the commune can have played it: it is for the commune and in force, or was within the
/// time that a box may be offline. Anything else is a mistake, or somebody who makes up what was played.
fn credible<'a>(
    province: &Inner,
    models: &'a ProvinceModels,
    id: &str,
    commune: &str,
    now_ms: i64,
) -> Option<&'a PublishedBulletin> {
    let bulletin = models.bulletins.get(id).filter(|bulletin| province.takes_from(&bulletin.publisher))?;
    let lately = |ended_ms: i64| now_ms.saturating_sub(ended_ms) <= MAX_LATE_MS;
    let versions = models.versions.of(id);
    let last = versions.iter().rposition(|version| version.is_for(province.areas, commune))?;
    let meant = versions.get(last + 1).is_none_or(|corrected| lately(corrected.at_ms));
    let stands = bulletin.withdrawn.as_ref().is_none_or(|withdrawn| lately(withdrawn.at_ms));
    (meant && stands).then_some(bulletin)
}

/// The version that a device says it played, by the digest of the file that it echoes, or by the text; 0 when that is
/// no version's. Of several that sound alike it is the latest: who heard the one heard the other.
fn version_told(models: &ProvinceModels, log: &PlaybackLog) -> u32 {
    let bulletin = &log.bulletin;
    let sound = match bulletin.sha256() {
        Some(digest) => digest.to_ascii_lowercase(),
        None => sound_of_text(&bulletin.content),
    };
    models.versions.by_sound(&bulletin.bulletin, &sound).unwrap_or(0)
}

/// When something began to play.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Started {
    /// By the device's clock, Unix seconds.
    Told(i64),
    /// By the node's, Unix ms: the device's cannot be right.
    Arrived(i64),
}

impl Started {
    fn of(told_s: i64, now_ms: i64) -> Self {
        let told_ms = told_s.saturating_mul(1_000);
        let possible = told_s >= LEAST_TIME_S && told_ms <= now_ms.saturating_add(MAX_AHEAD_MS);
        if possible { Self::Told(told_s) } else { Self::Arrived(now_ms) }
    }

    fn at_ms(self) -> i64 {
        match self {
            Self::Told(at_s) => at_s.saturating_mul(1_000),
            Self::Arrived(at_ms) => at_ms,
        }
    }

    /// What makes a report told twice one. A box without a clock battery says after each power cut that it is 1970: its
    /// plays are told apart by the minute in which they arrive, and by their version, for it is to play a correction at
    /// once.
    fn event_id(self, own: &str, imei: &str, bulletin: &str, version: u32) -> Uuid {
        match self {
            Self::Told(at_s) => derived_id(&[own, "played", imei, bulletin, &at_s.to_string()]),
            Self::Arrived(at_ms) => {
                let minute = at_ms.div_euclid(60_000).to_string();
                derived_id(&[own, "played", imei, bulletin, "arrived", &minute, &version.to_string()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_790_000_000_000;

    #[test]
    fn a_clock_is_believed_within_reason() {
        for (told_s, expected) in [
            (0, Started::Arrived(NOW_MS)),
            (LEAST_TIME_S - 1, Started::Arrived(NOW_MS)),
            (LEAST_TIME_S, Started::Told(LEAST_TIME_S)),
            (NOW_MS / 1_000 + 86_400, Started::Told(NOW_MS / 1_000 + 86_400)),
            (NOW_MS / 1_000 + 86_401, Started::Arrived(NOW_MS)),
            (i64::MAX, Started::Arrived(NOW_MS)),
        ] {
            assert_eq!(Started::of(told_s, NOW_MS), expected, "{told_s}");
        }
        assert_eq!((Started::Told(7).at_ms(), Started::Arrived(7).at_ms()), (7_000, 7));
    }

    #[test]
    fn a_box_without_a_clock_does_not_lose_its_plays() {
        let id = |told_s, now_ms, version| Started::of(told_s, now_ms).event_id("H24", "86", "b1", version);
        assert_eq!(id(5, NOW_MS, 1), id(5, NOW_MS + 1, 1), "told twice");
        assert_eq!(id(5, NOW_MS, 1), id(9, NOW_MS + 1, 1), "what it says of the time means nothing");
        assert_ne!(id(5, NOW_MS, 1), id(5, NOW_MS + 60_000, 1), "the next play");
        assert_ne!(id(5, NOW_MS, 1), id(5, NOW_MS, 2), "the correction");
        let good_s = NOW_MS / 1_000 - 5;
        assert_eq!(id(good_s, NOW_MS, 1), id(good_s, NOW_MS + 86_400_000, 2), "a good clock says which play it is");
        assert_ne!(id(good_s, NOW_MS, 1), id(good_s + 1, NOW_MS, 1));
    }
}
