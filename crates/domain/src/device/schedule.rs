//! Schedules as devices keep them.

use serde::Serialize;
use time::Date;
use time::macros::format_description;

use super::bulletin::DeviceBulletin;
use super::fields::{Fields, FromDevice};
use super::{MAX_DEVICE_ID, MAX_DEVICE_LIST, MAX_DEVICE_TEXT};
use crate::refusal::Refusal;
use crate::schedule::{PlayDay, Schedule, TimeSpan, parse_date, parse_time};

/// From a time of day to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceTimeSpan {
    /// `HH:mm:ss`
    #[serde(rename = "ThoiGianBatDau")]
    pub starts: String,
    /// `HH:mm:ss`
    #[serde(rename = "ThoiGianKetThuc")]
    pub ends: String,
}

/// One day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DevicePlayDay {
    /// `yyyy-MM-dd`; `dd/MM/yyyy` is read too.
    #[serde(rename = "NgayPhat")]
    pub date: String,
    /// When on that day.
    #[serde(rename = "ThoiDiemPhat")]
    pub times: Vec<DeviceTimeSpan>,
}

/// A bulletin and its days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleItem {
    /// The bulletin.
    #[serde(flatten)]
    pub bulletin: DeviceBulletin,
    /// When it plays.
    #[serde(rename = "DanhSachNgayPhat")]
    pub days: Vec<DevicePlayDay>,
}

/// A schedule as it is sent to a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceSchedule {
    /// Our identifier.
    #[serde(rename = "LichPhatID")]
    pub schedule: String,
    /// Its name.
    #[serde(rename = "TenLichPhat")]
    pub name: String,
    /// What plays when.
    #[serde(rename = "DanhSachBanTin")]
    pub items: Vec<ScheduleItem>,
}

impl DeviceSchedule {
    /// A schedule for a device. `bulletin` gives what a device needs of one; those it does not give (withdrawn
    /// meanwhile) are left out.
    pub fn of(schedule: &Schedule, mut bulletin: impl FnMut(&str) -> Option<DeviceBulletin>) -> Self {
        let mut items = Vec::new();
        for item in &schedule.bulletins {
            if let Some(bulletin) = bulletin(&item.bulletin) {
                items.push(ScheduleItem { bulletin, days: item.days.iter().map(DevicePlayDay::from).collect() });
            }
        }
        Self { schedule: schedule.schedule.clone(), name: schedule.name.clone(), items }
    }
}

impl From<&PlayDay> for DevicePlayDay {
    fn from(day: &PlayDay) -> Self {
        let span = |span: &TimeSpan| DeviceTimeSpan { starts: span.starts.clone(), ends: span.ends.clone() };
        Self { date: day.date.clone(), times: day.times.iter().map(span).collect() }
    }
}

impl FromDevice for DeviceTimeSpan {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { starts: time_of_day(fields, "ThoiGianBatDau")?, ends: time_of_day(fields, "ThoiGianKetThuc")? })
    }
}

impl FromDevice for DevicePlayDay {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let given = fields.required("NgayPhat", MAX_DEVICE_ID)?;
        let date = date(&given).ok_or_else(|| not_a_date(fields, "NgayPhat", given))?;
        Ok(Self { date: date.to_string(), times: fields.objects("ThoiDiemPhat")? })
    }
}

impl FromDevice for ScheduleItem {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { bulletin: DeviceBulletin::from_fields(fields)?, days: fields.objects("DanhSachNgayPhat")? })
    }
}

impl FromDevice for DeviceSchedule {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            schedule: fields.required("LichPhatID", MAX_DEVICE_ID)?,
            name: fields.text("TenLichPhat", MAX_DEVICE_TEXT)?,
            items: fields.objects("DanhSachBanTin")?,
        })
    }
}

fn time_of_day(fields: &Fields<'_>, name: &str) -> Result<String, Refusal> {
    let given = fields.required(name, MAX_DEVICE_ID)?;
    if parse_time(&given).is_some() { Ok(given) } else { Err(not_a_time(fields, name, given)) }
}

fn not_a_time(fields: &Fields<'_>, name: &str, given: String) -> Refusal {
    Refusal::Malformed {
        field: fields.field(name),
        given,
        expected_vi: "giờ:phút:giây, ví dụ 05:30:00".into(),
        expected_en: "a time such as 05:30:00".into(),
    }
}

fn not_a_date(fields: &Fields<'_>, name: &str, given: String) -> Refusal {
    Refusal::Malformed {
        field: fields.field(name),
        given,
        expected_vi: "ngày, ví dụ 2026-09-02".into(),
        expected_en: "a date such as 2026-09-02".into(),
    }
}

fn date(text: &str) -> Option<Date> {
    parse_date(text).or_else(|| Date::parse(text, format_description!("[day]/[month]/[year]")).ok())
}

/// A schedule of version 1.0, still in the field; only read. What `CheDoPhat` and `KieuLich` mean in full is not
/// public, so they are kept as numbers: [`days`](Self::days) takes the listed days, or every day of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleV1 {
    /// `NgayBatDau`
    pub first: Date,
    /// `NgayKetThuc`
    pub last: Date,
    /// `CheDoPhat`, 0 to 2.
    pub mode: u8,
    /// `LichPhat.KieuLich`, 0 to 3.
    pub pattern: u8,
    /// `LichPhat.ThoiDiemBatDau` and `ThoiDiemKetThuc`, paired.
    pub times: Vec<TimeSpan>,
    /// `LichPhat.DanhSachNgayPhat`; empty for every day.
    pub listed: Vec<Date>,
}

impl FromDevice for ScheduleV1 {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let day = |name: &str| {
            let given = fields.required(name, MAX_DEVICE_ID)?;
            date(&given).ok_or_else(|| not_a_date(fields, name, given))
        };
        let small = |fields: &Fields<'_>, name: &str, most: i64| {
            Ok::<_, Refusal>(fields.integer(name, 0, most)?.and_then(|number| u8::try_from(number).ok()).unwrap_or(0))
        };
        let (first, last) = (day("NgayBatDau")?, day("NgayKetThuc")?);
        if last < first {
            return Err(Refusal::TimesReversed {
                field: fields.field("NgayKetThuc"),
                starts: first.to_string(),
                ends: last.to_string(),
            });
        }
        let plan = fields.object("LichPhat")?;
        let plan = plan.ok_or_else(|| Refusal::Required { field: fields.field("LichPhat") })?;
        let starts = plan.texts("ThoiDiemBatDau", MAX_DEVICE_ID)?;
        let ends = plan.texts("ThoiDiemKetThuc", MAX_DEVICE_ID)?;
        if starts.len() != ends.len() {
            let given = format!("{} / {}", starts.len(), ends.len());
            return Err(Refusal::Malformed {
                field: plan.field("ThoiDiemKetThuc"),
                given,
                expected_vi: "số giờ kết thúc bằng số giờ bắt đầu".into(),
                expected_en: "as many ends as starts".into(),
            });
        }
        let mut times = Vec::new();
        for (starts, ends) in starts.into_iter().zip(ends) {
            for (name, given) in [("ThoiDiemBatDau", &starts), ("ThoiDiemKetThuc", &ends)] {
                parse_time(given).ok_or_else(|| not_a_time(&plan, name, given.clone()))?;
            }
            times.push(TimeSpan { starts, ends });
        }
        let listed = plan.texts("DanhSachNgayPhat", MAX_DEVICE_ID)?;
        let read = |given: String| date(&given).ok_or_else(|| not_a_date(&plan, "DanhSachNgayPhat", given));
        Ok(Self {
            first,
            last,
            mode: small(fields, "CheDoPhat", 2)?,
            pattern: small(&plan, "KieuLich", 3)?,
            times,
            listed: listed.into_iter().map(read).collect::<Result<_, _>>()?,
        })
    }
}

impl ScheduleV1 {
    /// The days it plays, at most [`MAX_DEVICE_LIST`].
    pub fn days(&self) -> Vec<PlayDay> {
        let day = |date: Date| PlayDay { date: date.to_string(), times: self.times.clone() };
        if !self.listed.is_empty() {
            return self.listed.iter().copied().take(MAX_DEVICE_LIST).map(day).collect();
        }
        let every = std::iter::successors(Some(self.first), |date| date.next_day());
        every.take_while(|date| *date <= self.last).take(MAX_DEVICE_LIST).map(day).collect()
    }
}
