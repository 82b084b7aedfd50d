//! Schedules as devices fetch them, and what devices say of them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use httt_domain::accounts::{Actor, Role};
use httt_domain::bulletin::Content;
use httt_domain::device::{Answer, DeviceSchedule, ScheduleAnswer, vietnam_date};
use httt_domain::refusal::{Field, Refusal, Refusals};
use httt_domain::schedule::{Command, Context, Schedule, parse_date};
use httt_feed::Audience;
use httt_log::Transaction;
use httt_node::desk::new_event;
use time::Date;

use super::{Device, DeviceError, DeviceMessage, DeviceResult, done};
use crate::models::ProvinceModels;
use crate::province::{CachedSchedules, Province, lock, media_of};

/// `GET /thiet-bi/lich-phat`: the schedules of the device's commune that have a day left to play. All its clusters are
/// answered alike and ask at the same moment, so the answer is made once.
pub(crate) async fn list(State(province): State<Province>, device: Device) -> Result<Response, DeviceError> {
    let now_ms = province.desk.now_ms();
    let minute = now_ms.div_euclid(60_000);
    let revision = province.desk.models.read(|models| models.revisions.of(&device.commune));
    let cached = lock(&province.schedules)
        .get(&device.commune)
        .filter(|cached| (cached.revision, cached.minute) == (revision, minute))
        .map(|cached| cached.answer.clone());
    let answer = match cached {
        Some(answer) => answer,
        None => {
            let (revision, schedules) = make(&province, &device.commune, now_ms).await;
            let bytes = serde_json::to_vec(&Answer::with(schedules)).map_err(|error| {
                tracing::error!(%error, "a schedule has no JSON form");
                DeviceError::new("Hệ thống gặp lỗi khi lập lịch phát.")
            })?;
            let answer = Bytes::from(bytes);
            let cached = CachedSchedules { revision, minute, answer: answer.clone() };
            lock(&province.schedules).insert(device.commune, cached);
            answer
        }
    };
    Ok(([(CONTENT_TYPE, "application/json")], answer).into_response())
}

/// The commune's schedules, and the revision they are of.
async fn make(province: &Province, commune: &str, now_ms: i64) -> (u64, Vec<DeviceSchedule>) {
    let today = vietnam_date(now_ms);
    let (revision, schedules, bulletins) = province.desk.models.read(|models| {
        let mut schedules: Vec<Schedule> =
            models.schedules.of_commune(commune).into_iter().map(|view| view.schedule.clone()).collect();
        schedules.retain(|schedule| !schedule.cancelled && plays_from(schedule, today));
        let bulletins = bulletins_of(province, models, commune, &schedules, now_ms);
        (models.revisions.of(commune), schedules, bulletins)
    });
    let mut ready = BTreeMap::new();
    for (id, bulletin) in bulletins {
        if province.shelf.holds(media_of(&bulletin)).await {
            ready.insert(id.clone(), province.device_bulletin(&id, &bulletin));
        }
    }
    let shown = |schedule: &Schedule| DeviceSchedule::of(schedule, |id| ready.get(id).cloned());
    (revision, schedules.iter().map(shown).collect())
}

/// What of the schedules may play there now: a correction may have taken a bulletin from the commune since it was
/// scheduled.
fn bulletins_of(
    province: &Province,
    models: &ProvinceModels,
    commune: &str,
    schedules: &[Schedule],
    now_ms: i64,
) -> BTreeMap<String, Content> {
    let items = schedules.iter().flat_map(|schedule| &schedule.bulletins);
    items
        .filter_map(|item| models.bulletins.get(&item.bulletin))
        .filter(|bulletin| bulletin.playable(now_ms) && province.is_for(&bulletin.content, commune))
        .map(|bulletin| (bulletin.bulletin.clone(), bulletin.content.clone()))
        .collect()
}

fn plays_from(schedule: &Schedule, today: Date) -> bool {
    let days = schedule.bulletins.iter().flat_map(|item| &item.days);
    days.filter_map(|day| parse_date(&day.date)).any(|date| date >= today)
}

/// `POST /thiet-bi/lich-phat/tra-loi`: a device accepted or cancelled a schedule.
pub(crate) async fn answer(
    State(province): State<Province>,
    device: Device,
    DeviceMessage(answer): DeviceMessage<ScheduleAnswer>,
) -> DeviceResult<()> {
    device.is_own(&answer.identity)?;
    let now_ms = province.desk.now_ms();
    let decided = province.desk.models.read(|models| {
        let view = models.schedules.get(&answer.schedule).filter(|view| view.schedule.commune == device.commune);
        let Some(view) = view else {
            let field = Field::new("LichPhatID", "LichPhatID", "LichPhatID");
            return Err(Refusals::from(Refusal::NotFound { field, given: answer.schedule.clone() }));
        };
        let context = Context {
            actor: Actor { account: &device.imei, role: Role::Operator, area: &device.commune },
            areas: province.areas,
            home: &province.home,
            today: vietnam_date(now_ms),
            now_ms,
            bulletins: &BTreeMap::new(),
        };
        view.schedule.decide(&Command::Answer { cluster: device.ordinal, accepted: answer.accepted }, &context)
    });
    let events = decided.map_err(|refusals| DeviceError::new(refusals.vi()))?;
    if events.is_empty() {
        return done();
    }
    device.may_write(&province)?;
    let here = Audience::One(province.desk.node.code.clone());
    let events = events
        .iter()
        .map(|event| Ok(new_event(event.to_domain(), &here)?.with_actor(&device.imei)))
        .collect::<Result<Vec<_>, httt_node::http::ApiError>>()
        .map_err(|error| DeviceError::new(error.message()))?;
    let committed = province.desk.node.log.commit(Transaction::append(events)).await?;
    // It is on disk, whether or not the models know it by now.
    let _ = province.desk.models.reached(committed.next).await;
    done()
}
