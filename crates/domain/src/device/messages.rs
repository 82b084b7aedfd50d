//! What devices say: who they are, how they are, what they play. And how they are answered.

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::bulletin::DeviceBulletin;
use super::fields::{Fields, FromDevice};
use super::{MAX_DEVICE_ID, MAX_DEVICE_LONG_TEXT, MAX_DEVICE_TEXT};
use crate::cluster::{Activity, is_imei};
use crate::refusal::Refusal;

/// Latest moment a device may name: the end of the year 9999, in seconds.
const MAX_SECONDS: i64 = 253_402_300_799;

/// Every answer, to a device and of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer<T> {
    /// 0 is success, 1 is an error told in `MoTa`.
    #[serde(rename = "TrangThaiGui")]
    pub state: u8,
    /// What went wrong, for people.
    #[serde(rename = "MoTa")]
    pub description: String,
    /// The content; null without one.
    #[serde(rename = "NoiDung")]
    pub content: Option<T>,
}

impl<T> Answer<T> {
    /// Success with content.
    pub fn with(content: T) -> Self {
        Self { state: 0, description: "Thành công".into(), content: Some(content) }
    }

    /// Success without content.
    pub fn done() -> Self {
        Self { state: 0, description: "Thành công".into(), content: None }
    }

    /// An error in words for `MoTa`.
    pub fn error(description: impl Into<String>) -> Self {
        Self { state: 1, description: description.into(), content: None }
    }

    /// A refusal, in Vietnamese.
    pub fn refused(refusal: &Refusal) -> Self {
        Self::error(refusal.vi())
    }

    /// Whether it is a success.
    pub fn is_ok(&self) -> bool {
        self.state == 0
    }
}

impl FromDevice for Answer<Value> {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let state = fields.integer("TrangThaiGui", 0, 1)?;
        Ok(Self {
            state: u8::from(state.ok_or_else(|| Refusal::Required { field: fields.field("TrangThaiGui") })? == 1),
            description: fields.text("MoTa", MAX_DEVICE_LONG_TEXT)?,
            content: fields.value("NoiDung"),
        })
    }
}

/// A device logs in. Not printable: it holds a password.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Login {
    /// The account, in practice the IMEI.
    #[serde(rename = "Username")]
    pub username: String,
    /// Its secret.
    #[serde(rename = "Password")]
    pub password: String,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

impl FromDevice for Login {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            username: fields.required("Username", MAX_DEVICE_ID)?,
            password: fields.required("Password", MAX_DEVICE_TEXT)?,
        })
    }
}

/// The token of a session, not printable.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// `NoiDung` of the answer to a login.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenContent {
    /// To be sent as `Authorization: Bearer …`.
    #[serde(rename = "Token")]
    pub token: Token,
}

impl FromDevice for TokenContent {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self { token: Token(fields.required("Token", MAX_DEVICE_LONG_TEXT)?) })
    }
}

/// Who speaks, in every message of a device.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Identity {
    /// Area code of the sender.
    #[serde(rename = "NguonID")]
    pub source_id: String,
    /// Its name.
    #[serde(rename = "TenNguon")]
    pub source_name: String,
    /// Area code of the destination.
    #[serde(rename = "DichID")]
    pub destination_id: String,
    /// Its name.
    #[serde(rename = "TenDich")]
    pub destination_name: String,
    /// The IMEI, 15 digits.
    #[serde(rename = "CumLoaID")]
    pub imei: String,
    /// The device's name.
    #[serde(rename = "TenThietBi")]
    pub device_name: String,
    /// Its type's name.
    #[serde(rename = "TenLoaiThietBi")]
    pub device_type: String,
    /// The vendor's code.
    #[serde(rename = "MaNhaCungCap")]
    pub vendor: String,
    /// The vendor's name.
    #[serde(rename = "TenNhaCungCap")]
    pub vendor_name: String,
}

impl FromDevice for Identity {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let imei = fields.required("CumLoaID", MAX_DEVICE_ID)?;
        if !is_imei(&imei) {
            return Err(Refusal::Malformed {
                field: fields.field("CumLoaID"),
                given: imei,
                expected_vi: "IMEI gồm đúng 15 chữ số".into(),
                expected_en: "an IMEI of exactly 15 digits".into(),
            });
        }
        Ok(Self {
            source_id: fields.text("NguonID", MAX_DEVICE_ID)?,
            source_name: fields.text("TenNguon", MAX_DEVICE_TEXT)?,
            destination_id: fields.text("DichID", MAX_DEVICE_ID)?,
            destination_name: fields.text("TenDich", MAX_DEVICE_TEXT)?,
            imei,
            device_name: fields.text("TenThietBi", MAX_DEVICE_TEXT)?,
            device_type: fields.text("TenLoaiThietBi", MAX_DEVICE_TEXT)?,
            vendor: fields.text("MaNhaCungCap", MAX_DEVICE_ID)?,
            vendor_name: fields.text("TenNhaCungCap", MAX_DEVICE_TEXT)?,
        })
    }
}

/// An angle in millionths of a degree; a number of degrees on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Degrees(pub i32);

impl Serialize for Degrees {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1e6)
    }
}

/// `ThongTinThietBi`, as text: vendors send what they like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct DeviceInfo {
    /// Power.
    #[serde(rename = "CongSuat")]
    pub power: String,
    /// Temperature.
    #[serde(rename = "NhietDo")]
    pub temperature: String,
    /// Storage or data used.
    #[serde(rename = "DungLuongSuDung")]
    pub usage: String,
    /// Anything else; JSON when it is no text.
    #[serde(rename = "DuLieuKhac")]
    pub other: String,
}

impl FromDevice for DeviceInfo {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        Ok(Self {
            power: fields.text("CongSuat", MAX_DEVICE_TEXT)?,
            temperature: fields.text("NhietDo", MAX_DEVICE_TEXT)?,
            usage: fields.text("DungLuongSuDung", MAX_DEVICE_TEXT)?,
            other: fields.anything("DuLieuKhac", MAX_DEVICE_LONG_TEXT)?,
        })
    }
}

/// The status a device reports every minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StatusReport {
    /// Who it is.
    #[serde(flatten)]
    pub identity: Identity,
    /// 0 to 100; a string on the wire.
    #[serde(rename = "AmLuong", serialize_with = "as_text")]
    pub volume: u8,
    /// `"0"` playing, `"1"` paused, `"2"` not playing.
    #[serde(rename = "TrangThaiHoatDong", serialize_with = "activity_code")]
    pub activity: Activity,
    /// E.g. `4G,-10dbm`.
    #[serde(rename = "TrangThaiKetNoi")]
    pub connection: String,
    /// Latitude.
    #[serde(rename = "ViDo", skip_serializing_if = "Option::is_none")]
    pub latitude: Option<Degrees>,
    /// Longitude.
    #[serde(rename = "KinhDo", skip_serializing_if = "Option::is_none")]
    pub longitude: Option<Degrees>,
    /// Telemetry.
    #[serde(rename = "ThongTinThietBi")]
    pub info: DeviceInfo,
    /// When the item now playing began, seconds since 1970.
    #[serde(rename = "ThoiDiemBatDau", skip_serializing_if = "Option::is_none")]
    pub started_at_s: Option<i64>,
    /// Address of what is playing.
    #[serde(rename = "NoiDungPhat")]
    pub now_playing: String,
    /// Version of the device's program.
    #[serde(rename = "PhienBanUngDung")]
    pub app_version: String,
}

fn as_text<S: Serializer>(volume: &u8, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(volume)
}

fn activity_code<S: Serializer>(activity: &Activity, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match activity {
        Activity::Playing => "0",
        Activity::Paused => "1",
        Activity::Idle => "2",
    })
}

impl FromDevice for StatusReport {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let required = |name: &str| Refusal::Required { field: fields.field(name) };
        Ok(Self {
            identity: Identity::from_fields(fields)?,
            volume: volume(fields)?,
            activity: match fields.integer("TrangThaiHoatDong", 0, 2)?.ok_or_else(|| required("TrangThaiHoatDong"))? {
                0 => Activity::Playing,
                1 => Activity::Paused,
                _ => Activity::Idle,
            },
            connection: fields.text("TrangThaiKetNoi", MAX_DEVICE_TEXT)?,
            latitude: fields.degrees("ViDo", 90)?.map(Degrees),
            longitude: fields.degrees("KinhDo", 180)?.map(Degrees),
            info: fields
                .object("ThongTinThietBi")?
                .map_or_else(|| Ok(DeviceInfo::default()), |info| DeviceInfo::from_fields(&info))?,
            started_at_s: fields.integer("ThoiDiemBatDau", 0, MAX_SECONDS)?,
            now_playing: fields.text("NoiDungPhat", MAX_DEVICE_LONG_TEXT)?,
            app_version: fields.text("PhienBanUngDung", MAX_DEVICE_TEXT)?,
        })
    }
}

fn volume(fields: &Fields<'_>) -> Result<u8, Refusal> {
    Ok(fields.integer("AmLuong", 0, 100)?.and_then(|volume| u8::try_from(volume).ok()).unwrap_or(0))
}

/// One item a device has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlaybackLog {
    /// Who played it.
    #[serde(flatten)]
    pub identity: Identity,
    /// What was played.
    #[serde(flatten)]
    pub bulletin: DeviceBulletin,
    /// When it began, seconds since 1970 by the device's clock.
    #[serde(rename = "ThoiDiemBatDau")]
    pub started_at_s: i64,
    /// 0 to 100; a string on the wire.
    #[serde(rename = "AmLuong", serialize_with = "as_text")]
    pub volume: u8,
    /// Power.
    #[serde(rename = "CongSuat")]
    pub power: String,
}

impl FromDevice for PlaybackLog {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let started = fields.integer("ThoiDiemBatDau", 0, MAX_SECONDS)?;
        Ok(Self {
            identity: Identity::from_fields(fields)?,
            bulletin: DeviceBulletin::from_fields(fields)?,
            started_at_s: started.ok_or_else(|| Refusal::Required { field: fields.field("ThoiDiemBatDau") })?,
            volume: volume(fields)?,
            power: fields.text("CongSuat", MAX_DEVICE_TEXT)?,
        })
    }
}

/// What a device says of a schedule. The name of the answer's field is our own choice: `TrangThai`, 1 accepted,
/// 0 cancelled; `TrangThaiLichPhat` is read too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScheduleAnswer {
    /// Who says it.
    #[serde(flatten)]
    pub identity: Identity,
    /// The schedule.
    #[serde(rename = "LichPhatID")]
    pub schedule: String,
    /// Whether it was accepted.
    #[serde(rename = "TrangThai", serialize_with = "accepted_code")]
    pub accepted: bool,
}

fn accepted_code<S: Serializer>(accepted: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *accepted { "1" } else { "0" })
}

impl FromDevice for ScheduleAnswer {
    fn from_fields(fields: &Fields<'_>) -> Result<Self, Refusal> {
        let name = if fields.has("TrangThai") { "TrangThai" } else { "TrangThaiLichPhat" };
        let accepted = fields.integer(name, 0, 1)?;
        Ok(Self {
            identity: Identity::from_fields(fields)?,
            schedule: fields.required("LichPhatID", MAX_DEVICE_ID)?,
            accepted: accepted.ok_or_else(|| Refusal::Required { field: fields.field(name) })? == 1,
        })
    }
}
