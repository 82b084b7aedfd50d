//! Schedules: when the clusters of a commune play which bulletins.
//!
//! A commune decides about ordinary and priority bulletins. Emergencies play at once and are neither scheduled nor
//! refused. The schedule itself stays on its node; the publisher only hears that its bulletin was scheduled.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::bulletin::BulletinScheduled;
use httt_wire::{Message, cluster as wire};
use serde::{Deserialize, Serialize};
use time::macros::format_description;
use time::{Date, Duration, Time};

use crate::accounts::{Action, Actor};
use crate::area::Areas;
use crate::bulletin::{MAX_NAME, Priority, bad_id, is_id};
use crate::event::{DomainEvent, Lane, MAX_EVENT_BYTES, is_kind};
use crate::refusal::{Field, Refusal, Refusals, check_text, quote};

/// Most bulletins in a schedule.
pub const MAX_BULLETINS: usize = 200;
/// Most days of one bulletin in a schedule.
pub const MAX_DAYS: usize = 366;
/// Most spans of one day.
pub const MAX_TIMES: usize = 48;
/// How far ahead a schedule may reach, in days.
pub const MAX_AHEAD_DAYS: i64 = 366;
/// Stream prefix of schedules.
pub const SCHEDULE_STREAM: &str = "schedule/";
/// Stream prefix of deliveries.
pub const DELIVERY_STREAM: &str = "delivery/";

/// From a time of day to a later one, `HH:mm:ss`, the end not included.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeSpan {
    /// `HH:mm:ss`, Vietnamese time.
    pub starts: String,
    /// `HH:mm:ss`, after `starts`.
    pub ends: String,
}

/// One day of playing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayDay {
    /// `yyyy-MM-dd`, Vietnamese time.
    pub date: String,
    /// When on that day.
    pub times: Vec<TimeSpan>,
}

/// A bulletin and when it plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledBulletin {
    /// Its identifier.
    pub bulletin: String,
    /// The days it plays.
    pub days: Vec<PlayDay>,
}

/// A schedule as somebody wants it. The same identifier again replaces the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewSchedule {
    /// Its identifier.
    pub schedule: String,
    /// Its name, for people and devices.
    pub name: String,
    /// The commune it is for.
    pub commune: String,
    /// What plays when; at least one.
    pub bulletins: Vec<ScheduledBulletin>,
}

/// A schedule, folded from its events.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Schedule {
    /// Empty before it was set.
    pub schedule: String,
    /// Its name.
    pub name: String,
    /// The commune it is for.
    pub commune: String,
    /// What plays when.
    pub bulletins: Vec<ScheduledBulletin>,
    /// Whether it was cancelled.
    pub cancelled: bool,
    /// Why.
    pub reason: String,
    /// What each cluster said, by ordinal; empty again when the schedule is replaced or cancelled.
    pub answers: BTreeMap<u32, bool>,
}

/// What a node knows of a bulletin that might be scheduled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBulletin {
    /// Its title, for messages.
    pub title: String,
    /// The agency that published it; none for the node's own, of which nobody needs to be told.
    pub publisher: Option<String>,
    /// How urgent.
    pub priority: Priority,
    /// Whether it was withdrawn.
    pub withdrawn: bool,
    /// End of its validity, Unix milliseconds, 0 for none.
    pub valid_until_ms: i64,
    /// Whether it is meant for the commune.
    pub offered: bool,
}

/// What somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Set or replace.
    Set(NewSchedule),
    /// Cancel.
    Cancel {
        /// Why; required.
        reason: String,
    },
    /// A cluster accepted or cancelled the schedule it was sent.
    Answer {
        /// The cluster's ordinal.
        cluster: u32,
        /// What it said.
        accepted: bool,
    },
}

/// What a decision needs to know besides the schedule.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Who asks; for [`Command::Answer`] the device's gateway, whose role is not looked at.
    pub actor: Actor<'a>,
    /// The areas in force.
    pub areas: &'a Areas,
    /// Code of the area the node answers for.
    pub home: &'a str,
    /// Today in Vietnamese time.
    pub today: Date,
    /// Unix milliseconds.
    pub now_ms: i64,
    /// The bulletins the node knows, by identifier; those missing are unknown here.
    pub bulletins: &'a BTreeMap<String, KnownBulletin>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ScheduleEvent {
    /// `httt.cluster.v1.ScheduleSet`
    Set(wire::ScheduleSet),
    /// `httt.cluster.v1.ScheduleCancelled`
    Cancelled(wire::ScheduleCancelled),
    /// `httt.cluster.v1.ScheduleAnswered`
    Answered(wire::ScheduleAnswered),
    /// `httt.bulletin.v1.BulletinScheduled`, towards its publisher.
    Delivery {
        /// The publisher's agency code.
        publisher: String,
        /// What it is told.
        event: BulletinScheduled,
    },
}

impl ScheduleEvent {
    /// The event to append.
    pub fn to_domain(&self) -> DomainEvent {
        let stream = |schedule: &str| format!("{SCHEDULE_STREAM}{schedule}");
        match self {
            Self::Set(event) => DomainEvent::of(Lane::Local, stream(&event.schedule), event),
            Self::Cancelled(event) => DomainEvent::of(Lane::Local, stream(&event.schedule), event),
            Self::Answered(event) => DomainEvent::of(Lane::Local, stream(&event.schedule), event),
            Self::Delivery { publisher, event } => {
                // Emergencies are never scheduled, so a delivery's news of a schedule is never urgent.
                DomainEvent::of(Lane::Report, format!("{DELIVERY_STREAM}{}", event.bulletin), event).toward(publisher)
            }
        }
    }

    /// Reads an event of a schedule's own stream back; none for others and for undecodable bytes.
    pub fn decode(kind: &str, data: &[u8]) -> Option<Self> {
        if is_kind::<wire::ScheduleSet>(kind) {
            wire::ScheduleSet::decode(data).ok().map(Self::Set)
        } else if is_kind::<wire::ScheduleCancelled>(kind) {
            wire::ScheduleCancelled::decode(data).ok().map(Self::Cancelled)
        } else if is_kind::<wire::ScheduleAnswered>(kind) {
            wire::ScheduleAnswered::decode(data).ok().map(Self::Answered)
        } else {
            None
        }
    }
}

/// Whether a commune may leave a bulletin unplayed or take it off its clusters: any but an emergency.
pub fn check_decline(bulletin: &KnownBulletin) -> Result<(), Refusal> {
    if bulletin.priority.is_emergency() && !bulletin.withdrawn {
        let field = Field::new("bulletin", "Bản tin", "Bulletin");
        return Err(Refusal::EmergencyNotRefused { field, title: bulletin.title.clone() });
    }
    Ok(())
}

impl NewSchedule {
    fn to_wire(&self) -> wire::ScheduleSet {
        let time = |span: &TimeSpan| wire::TimeSpan { starts: span.starts.clone(), ends: span.ends.clone() };
        let day = |day: &PlayDay| wire::PlayDay { date: day.date.clone(), times: day.times.iter().map(time).collect() };
        wire::ScheduleSet {
            schedule: self.schedule.clone(),
            name: self.name.clone(),
            commune: self.commune.clone(),
            bulletins: self
                .bulletins
                .iter()
                .map(|item| wire::ScheduledBulletin {
                    bulletin: item.bulletin.clone(),
                    days: item.days.iter().map(day).collect(),
                })
                .collect(),
        }
    }
}

impl ScheduledBulletin {
    fn from_wire(item: &wire::ScheduledBulletin) -> Self {
        let time = |span: &wire::TimeSpan| TimeSpan { starts: span.starts.clone(), ends: span.ends.clone() };
        let day = |day: &wire::PlayDay| PlayDay { date: day.date.clone(), times: day.times.iter().map(time).collect() };
        Self { bulletin: item.bulletin.clone(), days: item.days.iter().map(day).collect() }
    }
}

impl Schedule {
    /// Takes in what happened.
    pub fn evolve(&mut self, event: &ScheduleEvent) {
        match event {
            ScheduleEvent::Set(set) => {
                // A replacement for another commune is no replacement; `decide` never makes one.
                if !self.schedule.is_empty() && self.commune != set.commune {
                    return;
                }
                *self = Self {
                    schedule: set.schedule.clone(),
                    name: set.name.clone(),
                    commune: set.commune.clone(),
                    bulletins: set.bulletins.iter().map(ScheduledBulletin::from_wire).collect(),
                    ..Self::default()
                };
            }
            ScheduleEvent::Cancelled(cancelled) if !self.schedule.is_empty() => {
                self.cancelled = true;
                self.reason.clone_from(&cancelled.reason);
                self.answers.clear();
            }
            ScheduleEvent::Answered(answered) if !self.schedule.is_empty() => {
                self.answers.insert(answered.cluster, answered.accepted);
            }
            ScheduleEvent::Cancelled(_) | ScheduleEvent::Answered(_) | ScheduleEvent::Delivery { .. } => {}
        }
    }

    /// What happens when `command` is given, or everything that speaks against it.
    pub fn decide(&self, command: &Command, context: &Context<'_>) -> Result<Vec<ScheduleEvent>, Refusals> {
        match command {
            Command::Set(new) => self.set(new, context),
            Command::Cancel { reason } => {
                context.actor.allow(Action::SetSchedule)?;
                let mut list = Vec::new();
                if self.schedule.is_empty() {
                    list.push(Refusal::NotFound { field: schedule_field(), given: String::new() });
                } else if self.cancelled {
                    list.push(Refusal::ScheduleCancelled);
                }
                let max = crate::bulletin::MAX_REASON;
                check_text(&mut list, reason, true, max, || Field::new("reason", "Lý do", "Reason"));
                list.extend(self.outside(&self.commune, context));
                Refusals::unless_empty(list)?;
                let (schedule, reason) = (self.schedule.clone(), reason.trim().to_owned());
                Ok(vec![ScheduleEvent::Cancelled(wire::ScheduleCancelled { schedule, reason })])
            }
            Command::Answer { cluster, accepted } => {
                if self.schedule.is_empty() {
                    return Err(Refusal::NotFound { field: schedule_field(), given: String::new() }.into());
                }
                if self.answers.get(cluster) == Some(accepted) {
                    return Ok(Vec::new());
                }
                let (schedule, cluster, accepted) = (self.schedule.clone(), *cluster, *accepted);
                Ok(vec![ScheduleEvent::Answered(wire::ScheduleAnswered { schedule, cluster, accepted })])
            }
        }
    }

    fn outside(&self, commune: &str, context: &Context<'_>) -> Option<Refusal> {
        let areas = context.areas;
        (!commune.is_empty() && !context.actor.covers(areas, commune)).then(|| Refusal::AreaOutside {
            field: commune_field(),
            area: areas.named(commune),
            within: areas.path_name(context.actor.area),
        })
    }

    fn set(&self, new: &NewSchedule, context: &Context<'_>) -> Result<Vec<ScheduleEvent>, Refusals> {
        context.actor.allow(Action::SetSchedule)?;
        if self.cancelled {
            return Err(Refusal::ScheduleCancelled.into());
        }
        let mut list = Vec::new();
        if !is_id(&new.schedule) {
            list.push(bad_id("schedule", "Mã lịch phát", "Schedule", &new.schedule));
        } else if !self.schedule.is_empty() && (self.schedule != new.schedule || self.commune != new.commune) {
            list.push(Refusal::Duplicate { field: schedule_field(), given: new.schedule.clone() });
        }
        check_text(&mut list, &new.name, true, MAX_NAME, || {
            Field::new("name", "Tên lịch phát", "Name of the schedule")
        });
        match context.areas.check_commune(&new.commune, context.home, commune_field) {
            Ok(()) => list.extend(self.outside(&new.commune, context)),
            Err(refusal) => list.push(refusal),
        }
        check_bulletins(&new.bulletins, context, &mut list);
        Refusals::unless_empty(list)?;
        let event = new.to_wire();
        let given = event.encoded_len();
        if given > MAX_EVENT_BYTES {
            return Err(Refusal::EventTooLarge { given, max: MAX_EVENT_BYTES }.into());
        }
        let mut events = vec![ScheduleEvent::Set(event)];
        for item in &new.bulletins {
            // The publisher was told already when the version before had it.
            let told = self.bulletins.iter().any(|before| before.bulletin == item.bulletin);
            let publisher = context.bulletins.get(&item.bulletin).and_then(|known| known.publisher.clone());
            if let Some(publisher) = publisher.filter(|_| !told) {
                let (bulletin, commune) = (item.bulletin.clone(), new.commune.clone());
                let event = BulletinScheduled { bulletin, commune, schedule: new.schedule.clone() };
                events.push(ScheduleEvent::Delivery { publisher, event });
            }
        }
        Ok(events)
    }
}

fn schedule_field() -> Field {
    Field::new("schedule", "Mã lịch phát", "Schedule")
}

fn commune_field() -> Field {
    Field::new("commune", "Đơn vị cấp xã", "Commune")
}

fn check_bulletins(bulletins: &[ScheduledBulletin], context: &Context<'_>, list: &mut Vec<Refusal>) {
    let whole = || Field::new("bulletins", "Danh sách bản tin", "Bulletins");
    if bulletins.is_empty() {
        list.push(Refusal::Required { field: whole() });
    }
    if bulletins.len() > MAX_BULLETINS {
        return list.push(Refusal::TooMany { field: whole(), given: bulletins.len(), max: MAX_BULLETINS });
    }
    let mut seen = BTreeSet::new();
    for (index, item) in bulletins.iter().enumerate() {
        let path = format!("bulletins[{index}]");
        let field = Field::new(format!("{path}.bulletin"), "Bản tin", "Bulletin");
        match context.bulletins.get(&item.bulletin) {
            None => list.push(Refusal::NotFound { field, given: quote(&item.bulletin) }),
            Some(known) => {
                let title = known.title.clone();
                if known.priority.is_emergency() {
                    list.push(Refusal::EmergencyNotScheduled { field, title });
                } else if known.withdrawn {
                    list.push(Refusal::Withdrawn { field, title });
                } else if !known.offered {
                    list.push(Refusal::NotOffered { field, title });
                } else if known.valid_until_ms != 0 && known.valid_until_ms <= context.now_ms {
                    list.push(Refusal::Passed { field });
                } else if !seen.insert(&item.bulletin) {
                    list.push(Refusal::Duplicate { field, given: title });
                }
            }
        }
        check_days(&item.days, &path, context.today, list);
    }
}

fn check_days(days: &[PlayDay], path: &str, today: Date, list: &mut Vec<Refusal>) {
    let whole = || Field::new(format!("{path}.days"), "Ngày phát", "Days");
    if days.is_empty() {
        list.push(Refusal::Required { field: whole() });
    }
    if days.len() > MAX_DAYS {
        return list.push(Refusal::TooMany { field: whole(), given: days.len(), max: MAX_DAYS });
    }
    let last = today.saturating_add(Duration::days(MAX_AHEAD_DAYS));
    let mut seen = BTreeSet::new();
    for (index, day) in days.iter().enumerate() {
        let field = Field::new(format!("{path}.days[{index}].date"), "Ngày phát", "Day");
        match parse_date(&day.date) {
            None => list.push(Refusal::Malformed {
                field,
                given: quote(&day.date),
                expected_vi: "ngày theo dạng năm-tháng-ngày, ví dụ 2026-09-02".into(),
                expected_en: "a date such as 2026-09-02".into(),
            }),
            Some(date) if date < today || date > last => list.push(Refusal::DateOutOfRange {
                field,
                given: day.date.clone(),
                from: today.to_string(),
                to: last.to_string(),
            }),
            Some(date) if !seen.insert(date) => list.push(Refusal::Duplicate { field, given: day.date.clone() }),
            Some(_) => {}
        }
        check_times(&day.times, &format!("{path}.days[{index}]"), list);
    }
}

fn check_times(times: &[TimeSpan], path: &str, list: &mut Vec<Refusal>) {
    let whole = || Field::new(format!("{path}.times"), "Thời điểm phát", "Times");
    if times.is_empty() {
        list.push(Refusal::Required { field: whole() });
    }
    if times.len() > MAX_TIMES {
        return list.push(Refusal::TooMany { field: whole(), given: times.len(), max: MAX_TIMES });
    }
    for (index, span) in times.iter().enumerate() {
        let field = |name: &str, vi: &str, en: &str| Field::new(format!("{path}.times[{index}].{name}"), vi, en);
        let read = |text: &str, field: Field| {
            parse_time(text).ok_or_else(|| Refusal::Malformed {
                field,
                given: quote(text),
                expected_vi: "giờ:phút:giây, ví dụ 05:30:00".into(),
                expected_en: "a time such as 05:30:00".into(),
            })
        };
        let starts = read(&span.starts, field("starts", "Thời gian bắt đầu", "Start"));
        let ends = read(&span.ends, field("ends", "Thời gian kết thúc", "End"));
        match (starts, ends) {
            (Ok(starts), Ok(ends)) if starts >= ends => list.push(Refusal::TimesReversed {
                field: field("ends", "Thời gian kết thúc", "End"),
                starts: span.starts.clone(),
                ends: span.ends.clone(),
            }),
            (starts, ends) => list.extend([starts, ends].into_iter().filter_map(Result::err)),
        }
    }
}

/// A date `yyyy-MM-dd`.
pub fn parse_date(text: &str) -> Option<Date> {
    (text.len() == 10).then(|| Date::parse(text, format_description!("[year]-[month]-[day]")).ok()).flatten()
}

/// A time of day `HH:mm:ss`.
pub fn parse_time(text: &str) -> Option<Time> {
    (text.len() == 8).then(|| Time::parse(text, format_description!("[hour]:[minute]:[second]")).ok()).flatten()
}
