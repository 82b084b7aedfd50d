//! The device interface: JSON with Vietnamese names, as clusters of several vendors speak it (field practice; the
//! official annex is not public, so nothing here is beyond changing).
//!
//! Reading is lenient: `NguonID` is also `NguonId` (the case of the last letter does not count), numbers may be strings
//! and strings numbers, what is not known is left out. Writing is strict, with the names of version 2. What cannot be
//! understood is refused with the name of the field, in the words that go into `MoTa`.
//!
//! Times on the wire are seconds since 1970. Devices keep schedules and play them offline in Vietnamese time, +07:00.

mod bulletin;
mod command;
mod fields;
mod messages;
mod schedule;

pub use bulletin::{Author, DeviceBulletin, DeviceDetail, SHA256_DETAIL, priority_code, priority_of};
pub use command::{Command, CommandCodes, CommandMessage, Control, Destination, Devices, StopMode};
pub use fields::{Fields, FromDevice, read, read_value};
pub use messages::{
    Answer, Degrees, DeviceInfo, Identity, Login, PlaybackLog, ScheduleAnswer, StatusReport, Token, TokenContent,
};
pub use schedule::{DevicePlayDay, DeviceSchedule, DeviceTimeSpan, ScheduleItem, ScheduleV1};

use time::{Date, OffsetDateTime, UtcOffset};

/// Largest message a device may send, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Longest identifier, in characters.
pub const MAX_DEVICE_ID: usize = 64;
/// Longest name or short text, in characters.
pub const MAX_DEVICE_TEXT: usize = 300;
/// Longest address or free-form telemetry, in characters.
pub const MAX_DEVICE_LONG_TEXT: usize = 2_000;
/// Most entries of a list.
pub const MAX_DEVICE_LIST: usize = 1_000;

/// That moment in Vietnamese time; the beginning of 1970 for moments that no date can say.
pub fn vietnam(at_ms: i64) -> OffsetDateTime {
    let utc = OffsetDateTime::from_unix_timestamp_nanos(i128::from(at_ms) * 1_000_000);
    let offset = UtcOffset::from_hms(7, 0, 0).unwrap_or(UtcOffset::UTC);
    utc.ok().and_then(|utc| utc.checked_to_offset(offset)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The day in Vietnamese time.
pub fn vietnam_date(at_ms: i64) -> Date {
    vietnam(at_ms).date()
}
