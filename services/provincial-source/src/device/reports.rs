//! What devices report: how they are, and what they play.

use axum::extract::State;
use httt_domain::device::{PlaybackLog, StatusReport};
use httt_domain::models::PLAYBACK_STREAM;
use httt_domain::refusal::{Field, Refusal};
use httt_feed::{Audience, Lane};
use httt_log::NewEvent;
use httt_wire::cluster::PlaybackRecorded;

use super::{Device, DeviceError, DeviceMessage, DeviceResult, done};
use crate::province::{Province, derived_id, lock};

/// Longest playing time believed when the bulletin itself says none, in seconds.
const MAX_DURATION_S: u32 = 24 * 3_600;

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
    let known = province.desk.models.read(|models| {
        let bulletin = models.bulletins.get(id).filter(|bulletin| province.takes_from(&bulletin.publisher))?;
        let media_s = bulletin.content.media.as_ref().map_or(0, |media| media.duration_ms.div_ceil(1_000));
        Some((bulletin.content.priority.is_emergency(), media_s))
    });
    let Some((emergency, media_s)) = known else {
        let field = Field::new("BanTinID", "BanTinID", "BanTinID");
        return Err(DeviceError::from(Refusal::NotFound { field, given: id.clone() }));
    };
    device.may_write(&province)?;
    let record = PlaybackRecorded {
        cluster: device.ordinal,
        bulletin: id.clone(),
        started_at_ms: log.started_at_s.saturating_mul(1_000),
        volume: log.volume.into(),
        // What the bulletin itself says is known better than what a device says of it.
        duration_s: if media_s > 0 { media_s } else { log.bulletin.duration_s.min(MAX_DURATION_S) },
        emergency,
    };
    let audience = Audience::One(province.desk.node.code.clone());
    let stream = format!("{PLAYBACK_STREAM}{}", device.commune);
    let event_id = derived_id(&[province.own(), "played", &device.imei, id, &log.started_at_s.to_string()]);
    let event = NewEvent::of(audience, Lane::Local, stream, &record).with_id(event_id).with_actor(&device.imei);
    let next = province.append_once(event).await?;
    // The device's next call must not be told of an emergency that it has just reported.
    province.desk.models.reached(next).await;
    {
        let mut played = lock(&province.played);
        let tracker = if emergency { &mut played.emergencies } else { &mut played.others };
        tracker.record(id, device.ordinal);
    }
    done()
}
