//! A bulletin as devices know it.

use serde::Serialize;

use super::fields::{Fields, FromDevice};
use super::{MAX_DEVICE_ID, MAX_DEVICE_LONG_TEXT, MAX_DEVICE_TEXT, MAX_MESSAGE_BYTES};
use crate::bulletin::{Content, Detail, Kind, Priority, Subject};
use crate::refusal::Refusal;

/// The detail under which a file's SHA-256 travels, so that a device can check what it fetched.
pub const SHA256_DETAIL: &str = "SHA256";
/// The detail that marks a drill, besides its title.
const DRILL_DETAIL: &str = "DienTap";

/// `MucDoUuTien`: 3 ordinary, 2 priority, 1 emergency.
pub fn priority_code(priority: Priority) -> u8 {
    match priority {
        Priority::Ordinary => 3,
        Priority::Priority => 2,
        Priority::Emergency => 1,
    }
}

/// The priority behind `MucDoUuTien`.
pub fn priority_of(code: i64) -> Option<Priority> {
    Priority::ALL.iter().copied().find(|priority| i64::from(priority_code(*priority)) == code)
}

/// `TacGia`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Author {
    /// Full name; we send none, persons stay out of what is shared.
    #[serde(rename = "TenDayDu")]
    pub full_name: String,
    /// Pen name.
    #[serde(rename = "ButDanh")]
    pub pen_name: String,
    /// We send none.
    #[serde(rename = "Email")]
    pub email: String,
}

impl FromDevice for Author {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            full_name: fields.text("TenDayDu", MAX_DEVICE_TEXT)?,
            pen_name: fields.text("ButDanh", MAX_DEVICE_TEXT)?,
            email: fields.text("Email", MAX_DEVICE_TEXT)?,
        })
    }
}

/// An entry of `ThongTinChiTietBanTin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceDetail {
    /// Its name.
    #[serde(rename = "Ten")]
    pub name: String,
    /// Its value.
    #[serde(rename = "GiaTri")]
    pub value: String,
}

impl FromDevice for DeviceDetail {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { name: fields.text("Ten", MAX_DEVICE_TEXT)?, value: fields.anything("GiaTri", MAX_DEVICE_LONG_TEXT)? })
    }
}

/// A bulletin as it is sent to a device, or named by one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceBulletin {
    /// Our identifier.
    #[serde(rename = "BanTinID")]
    pub bulletin: String,
    /// Title; a drill says so first.
    #[serde(rename = "TieuDe")]
    pub title: String,
    /// Summary.
    #[serde(rename = "NoiDungTomTat")]
    pub summary: String,
    /// The text, or the address of the file or programme.
    #[serde(rename = "NoiDung")]
    pub content: String,
    /// `LoaiBanTin`, 1 to 6.
    #[serde(rename = "LoaiBanTin", serialize_with = "kind_code")]
    pub kind: Kind,
    /// `LoaiLinhVuc`, 1 to 6.
    #[serde(rename = "LoaiLinhVuc", serialize_with = "subject_code")]
    pub subject: Subject,
    /// `MucDoUuTien`: 3, 2, 1.
    #[serde(rename = "MucDoUuTien", serialize_with = "priority_number")]
    pub priority: Priority,
    /// Source.
    #[serde(rename = "NguonTin")]
    pub source: String,
    /// Author.
    #[serde(rename = "TacGia")]
    pub author: Author,
    /// Seconds since 1970; 0 when unknown.
    #[serde(rename = "ThoiGianSanXuat")]
    pub produced_at_s: i64,
    /// Playing time in seconds; `HH:mm:ss` on the wire.
    #[serde(rename = "ThoiLuong", serialize_with = "clock_text")]
    pub duration_s: u32,
    /// Whether it is a relayed programme.
    #[serde(rename = "TiepAm")]
    pub relayed: bool,
    /// Which programme.
    #[serde(rename = "NguonTiepAm")]
    pub relay_source: String,
    /// Further details.
    #[serde(rename = "ThongTinChiTietBanTin")]
    pub details: Vec<DeviceDetail>,
}

fn kind_code<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32(kind.to_wire())
}

fn subject_code<S: serde::Serializer>(subject: &Subject, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32(subject.to_wire())
}

fn priority_number<S: serde::Serializer>(priority: &Priority, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u8(priority_code(*priority))
}

fn clock_text<S: serde::Serializer>(seconds: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60))
}

impl DeviceBulletin {
    /// A bulletin for a device. `media_url` is where the node serves its file; without a file it is not looked at.
    pub fn of(bulletin: &str, content: &Content, media_url: &str) -> Self {
        let mut details: Vec<DeviceDetail> = Vec::new();
        let mut add = |name: &str, value: &str| {
            details.push(DeviceDetail { name: name.to_owned(), value: value.to_owned() });
        };
        if let Some(media) = &content.media {
            add(SHA256_DETAIL, &media.sha256.to_ascii_lowercase());
        }
        if content.drill {
            add(DRILL_DETAIL, "1");
        }
        // What a publisher calls SHA256 must not stand beside the digest of the file.
        let ours = |detail: &&Detail| {
            !detail.name.eq_ignore_ascii_case(SHA256_DETAIL) && !detail.name.eq_ignore_ascii_case(DRILL_DETAIL)
        };
        for detail in content.details.iter().filter(ours) {
            add(&detail.name, &detail.value);
        }
        let relayed = matches!(content.kind, Kind::Live | Kind::FmRelay);
        Self {
            bulletin: bulletin.to_owned(),
            title: content.shown_title(),
            summary: content.summary.clone(),
            content: if content.media.is_some() { media_url.to_owned() } else { content.body.clone() },
            kind: content.kind,
            subject: content.subject,
            priority: content.priority,
            source: content.source.clone(),
            author: Author { pen_name: content.pen_name.clone(), ..Author::default() },
            produced_at_s: content.produced_at_ms.div_euclid(1_000),
            duration_s: content.media.as_ref().map_or(0, |media| media.duration_ms.div_ceil(1_000)),
            relayed,
            relay_source: if relayed { content.source.clone() } else { String::new() },
            details,
        }
    }

    /// The SHA-256 of its file, as 64 hex digits.
    pub fn sha256(&self) -> Option<&str> {
        self.details.iter().find(|detail| detail.name == SHA256_DETAIL).map(|detail| detail.value.as_str())
    }
}

impl FromDevice for DeviceBulletin {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let code = |name: &str, least: i64, most: i64| {
            Ok::<_, Refusal>(fields.integer(name, least, most)?.and_then(|code| i32::try_from(code).ok()).unwrap_or(0))
        };
        let priority = fields.integer("MucDoUuTien", 1, 3)?;
        Ok(Self {
            bulletin: fields.required("BanTinID", MAX_DEVICE_ID)?,
            title: fields.text("TieuDe", MAX_DEVICE_LONG_TEXT)?,
            summary: fields.text("NoiDungTomTat", MAX_DEVICE_LONG_TEXT)?,
            content: fields.text("NoiDung", MAX_MESSAGE_BYTES)?,
            // Logs of old devices leave these out; what the bulletin really is, is known by its identifier.
            kind: Kind::from_wire(code("LoaiBanTin", 1, 6)?).unwrap_or_default(),
            subject: Subject::from_wire(code("LoaiLinhVuc", 1, 6)?).unwrap_or_default(),
            priority: priority.and_then(priority_of).unwrap_or_default(),
            source: fields.text("NguonTin", MAX_DEVICE_TEXT)?,
            author: fields.object("TacGia")?.map_or_else(|| Ok(Author::default()), |a| Author::from_fields(&a))?,
            produced_at_s: fields.integer("ThoiGianSanXuat", i64::MIN, i64::MAX)?.unwrap_or(0),
            duration_s: duration(fields)?,
            relayed: fields.flag("TiepAm"),
            relay_source: fields.text("NguonTiepAm", MAX_DEVICE_TEXT)?,
            details: fields.objects("ThongTinChiTietBanTin")?,
        })
    }
}

/// `HH:mm:ss` (hours may have more digits), or seconds.
fn duration(fields: &Fields<'_>) -> Result<u32, Refusal> {
    let text = fields.text("ThoiLuong", MAX_DEVICE_ID)?;
    if text.is_empty() {
        return Ok(0);
    }
    let mut parts = text.split(':').map(|part| part.parse::<u32>().ok());
    let seconds = match (parts.next().flatten(), parts.next(), parts.next(), parts.next()) {
        (Some(seconds), None, None, None) => Some(seconds),
        (Some(hours), Some(Some(minutes @ 0..60)), Some(Some(seconds @ 0..60)), None) => {
            hours.checked_mul(3_600).and_then(|sum| sum.checked_add(minutes * 60 + seconds))
        }
        _ => None,
    };
    seconds.ok_or_else(|| Refusal::Malformed {
        field: fields.field("ThoiLuong"),
        given: text,
        expected_vi: "giờ:phút:giây, ví dụ 00:15:30".into(),
        expected_en: "hours:minutes:seconds such as 00:15:30".into(),
    })
}
