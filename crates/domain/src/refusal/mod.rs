//! Everything a command can be refused for, in words a commune officer understands.

mod list;

use std::ops::Deref;

use time::Date;

pub use list::{RefusalForm, Refusals};
pub(crate) use list::{check_text, quote};

use crate::accounts::{Action, Role};
use crate::number::group_vi;

/// A field of a form, as the program and as people call it. Reads as a [`Label`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field(Box<Label>); // Boxed: a refusal is returned from everywhere and stays small.

/// The names of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// JSON path of the input field, e.g. `values.villages_all`.
    pub path: String,
    /// What the form calls it in Vietnamese, e.g. `Tổng số thôn`.
    pub vi: String,
    /// The same in English.
    pub en: String,
}

impl Field {
    /// A field with its path and its two labels.
    pub fn new(path: impl Into<String>, vi: impl Into<String>, en: impl Into<String>) -> Self {
        Self(Box::new(Label { path: path.into(), vi: vi.into(), en: en.into() }))
    }
}

impl Deref for Field {
    type Target = Label;

    fn deref(&self) -> &Label {
        &self.0
    }
}

/// What a length is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Unicode characters.
    Characters,
    /// Bytes of UTF-8; a Vietnamese letter takes up to three.
    Bytes,
}

/// An area by code and name, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedArea {
    /// Its code.
    pub code: String,
    /// Its full name.
    pub name: String,
}

/// Why a command is refused. [`Display`](std::fmt::Display) is the English message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)] // The fields of the variants are what their messages say.
pub enum Refusal {
    /// Nothing was given.
    #[error("{}: nothing was given. Please fill it in.", field.en)]
    Required { field: Field },
    /// The text is longer than allowed.
    #[error("{}: {given} {} given, at most {max} are allowed. Please shorten it.", field.en, unit.en())]
    TooLong { field: Field, given: usize, max: usize, unit: Unit },
    /// The list is longer than allowed.
    #[error("{}: {given} entries given, at most {max} are allowed.", field.en)]
    TooMany { field: Field, given: usize, max: usize },
    /// A number below or above what is allowed.
    #[error("{}: \"{given}\" was given, allowed is {min} to {max}. Please check the number.", field.en)]
    OutOfRange { field: Field, given: String, min: i64, max: i64 },
    /// A number below zero where none can be.
    #[error("{}: \"{given}\" is negative; it must be 0 or more.", field.en)]
    Negative { field: Field, given: String },
    /// Something else where a number is wanted.
    #[error("{}: \"{given}\" is not a number. Please type digits only, for example 12 or 12.5.", field.en)]
    NotANumber { field: Field, given: String },
    /// More decimals than are kept (`allowed` 0: a whole number).
    #[error("{}: \"{given}\" has too many decimals, allowed: {allowed}. Type no thousands separator in hours.", field.en)]
    TooManyDecimals { field: Field, given: String, allowed: u8 },
    /// Not one of the choices; `allowed_*` list them by name.
    #[error("{}: \"{given}\" is not one of the choices. Please choose: {allowed_en}.", field.en)]
    NotAChoice { field: Field, given: String, allowed_vi: String, allowed_en: String },
    /// The shape is wrong.
    #[error("{}: \"{given}\" is not valid. Expected: {expected_en}.", field.en)]
    Malformed { field: Field, given: String, expected_vi: String, expected_en: String },
    /// The same thing twice.
    #[error("{}: \"{given}\" is there already. Please give each one once.", field.en)]
    Duplicate { field: Field, given: String },
    /// There is no such thing.
    #[error("{}: \"{given}\" is not known here. Please check it.", field.en)]
    NotFound { field: Field, given: String },
    /// The form has no such indicator.
    #[error("The form \"{form}\" has no indicator \"{given}\". Please remove it or use the form in force.")]
    UnknownIndicator { given: String, form: String },
    /// No such area in the list in force.
    #[error("{}: there is no area with the code \"{given}\" in the list in force.", field.en)]
    UnknownArea { field: Field, given: String },
    /// The area is of the wrong level (a commune is wanted).
    #[error("{}: {} ({}) is not a commune. Please choose a commune, ward or special zone.", field.en, area.name, area.code)]
    NotACommune { field: Field, area: NamedArea },
    /// The area lies outside what the person or the node answers for.
    #[error("{}: {} ({}) is outside {}.", field.en, area.name, area.code, within)]
    AreaOutside { field: Field, area: NamedArea, within: String },
    /// No such period.
    #[error("\"{given}\" is not a reporting period. Please write year and quarter, for example 2026-Q3.")]
    UnknownPeriod { given: String },
    /// This version of the form does not hold for that period.
    #[error("Version {version} of the form \"{form}\" is not in force for {period}.")]
    FormNotInForce { form: String, version: u32, period: String },
    /// The quarter still runs; `first_day` is the first on which its report can be filed.
    #[error("The period {period} has not ended. Please file its report from {first_day} on.")]
    PeriodNotEnded { period: String, first_day: Date },
    /// A check of a form fails; code and words come from the form's data.
    #[error("{en}")]
    FormCheck { code: String, field: Field, vi: String, en: String },
    /// Communes of a province have not reported; `first` names the first ten.
    #[error("{count} communes have not filed their report for {period}: {}. The summary can be submitted once they have.",
            names(first, *count, "and {} more"))]
    NotAllFiled { period: String, first: Vec<NamedArea>, count: usize },
    /// The role does not allow it.
    #[error("The role \"{}\" may not {}.", role.en(), action.en())]
    NotAllowed { action: Action, role: Role },
    /// An approver who wrote, changed or submitted the bulletin.
    #[error("You wrote, changed or submitted this bulletin yourself. Somebody else has to approve it.")]
    OwnWork,
    /// An emergency without a one-time code.
    #[error(
        "An emergency bulletin is approved only with the six-digit one-time code. Please enter it and approve again."
    )]
    StepUpNeeded,
    /// Not possible from here.
    #[error("\"{}\" is not possible while the bulletin is {}.", command.1, state.1)]
    WrongState { command: (&'static str, &'static str), state: (&'static str, &'static str) },
    /// Sound and pictures need a file.
    #[error("{}: this kind of bulletin needs its file (with SHA-256 and size). Please attach it.", field.en)]
    MediaNeeded { field: Field },
    /// Text and relays carry no file.
    #[error("{}: this kind of bulletin carries no file. Please remove the file or choose another kind.", field.en)]
    MediaNotAllowed { field: Field },
    /// A time that has passed already.
    #[error("{}: this time has passed already. Please choose a later one.", field.en)]
    Passed { field: Field },
    /// A published bulletin cannot turn into an emergency or stop being one, because it would change its lane.
    #[error(
        "A published bulletin cannot become an emergency or stop being one. Please withdraw it and write a new one."
    )]
    EmergencyIsFixed,
    /// The whole is larger than an event may be.
    #[error("The content takes {given} bytes in all, at most {max} are allowed. Please shorten it or attach a file.")]
    EventTooLarge { given: usize, max: usize },
    /// Emergencies play at once, they are not scheduled.
    #[error("The bulletin \"{title}\" is an emergency: it plays at once and is not put into a schedule.")]
    EmergencyNotScheduled { field: Field, title: String },
    /// A commune cannot refuse or remove an emergency.
    #[error("The bulletin \"{title}\" is an emergency: a commune can neither refuse nor remove it.")]
    EmergencyNotRefused { field: Field, title: String },
    /// The bulletin is not meant for that commune.
    #[error("The bulletin \"{title}\" was not offered to this commune.")]
    NotOffered { field: Field, title: String },
    /// The bulletin was withdrawn by its publisher.
    #[error("The bulletin \"{title}\" was withdrawn by its publisher. Please take it out of the schedule.")]
    Withdrawn { field: Field, title: String },
    /// A span that ends before it starts.
    #[error("{}: it starts at {starts} and ends at {ends}; the end must come after the start.", field.en)]
    TimesReversed { field: Field, starts: String, ends: String },
    /// A date outside what can be planned.
    #[error("{}: {given} is outside {from} to {to}.", field.en)]
    DateOutOfRange { field: Field, given: String, from: String, to: String },
    /// The schedule was cancelled.
    #[error("This schedule was cancelled. Please set a new one.")]
    ScheduleCancelled,
}

impl Unit {
    fn en(self) -> &'static str {
        match self {
            Self::Characters => "characters",
            Self::Bytes => "bytes",
        }
    }

    fn vi(self) -> &'static str {
        match self {
            Self::Characters => "ký tự",
            Self::Bytes => "byte",
        }
    }
}

fn names(first: &[NamedArea], count: usize, more: &str) -> String {
    let listed: Vec<String> = first.iter().map(|area| format!("{} ({})", area.name, area.code)).collect();
    let rest = count.saturating_sub(first.len());
    if rest == 0 {
        listed.join(", ")
    } else {
        format!("{}, {}", listed.join(", "), more.replace("{}", &rest.to_string()))
    }
}

impl Refusal {
    /// The input field at fault, as a JSON path; empty when the command as a whole is.
    pub fn field(&self) -> &str {
        match self {
            Self::Required { field }
            | Self::TooLong { field, .. }
            | Self::TooMany { field, .. }
            | Self::OutOfRange { field, .. }
            | Self::Negative { field, .. }
            | Self::NotANumber { field, .. }
            | Self::TooManyDecimals { field, .. }
            | Self::NotAChoice { field, .. }
            | Self::Malformed { field, .. }
            | Self::Duplicate { field, .. }
            | Self::NotFound { field, .. }
            | Self::UnknownArea { field, .. }
            | Self::NotACommune { field, .. }
            | Self::AreaOutside { field, .. }
            | Self::FormCheck { field, .. }
            | Self::MediaNeeded { field }
            | Self::MediaNotAllowed { field }
            | Self::Passed { field }
            | Self::EmergencyNotScheduled { field, .. }
            | Self::EmergencyNotRefused { field, .. }
            | Self::NotOffered { field, .. }
            | Self::Withdrawn { field, .. }
            | Self::TimesReversed { field, .. }
            | Self::DateOutOfRange { field, .. } => &field.path,
            Self::UnknownIndicator { .. } => "values",
            Self::UnknownPeriod { .. }
            | Self::FormNotInForce { .. }
            | Self::PeriodNotEnded { .. }
            | Self::NotAllFiled { .. } => "period",
            Self::StepUpNeeded => "otp",
            Self::EmergencyIsFixed => "content.priority",
            Self::EventTooLarge { .. } => "content",
            Self::NotAllowed { .. } | Self::OwnWork | Self::WrongState { .. } | Self::ScheduleCancelled => "",
        }
    }

    /// A stable name for programs, in kebab-case. Checks of forms bring their own.
    pub fn code(&self) -> &str {
        match self {
            Self::Required { .. } => "required",
            Self::TooLong { .. } => "too-long",
            Self::TooMany { .. } => "too-many",
            Self::OutOfRange { .. } => "out-of-range",
            Self::Negative { .. } => "negative",
            Self::NotANumber { .. } => "not-a-number",
            Self::TooManyDecimals { .. } => "too-many-decimals",
            Self::NotAChoice { .. } => "not-a-choice",
            Self::Malformed { .. } => "malformed",
            Self::Duplicate { .. } => "duplicate",
            Self::NotFound { .. } => "not-found",
            Self::UnknownIndicator { .. } => "unknown-indicator",
            Self::UnknownArea { .. } => "unknown-area",
            Self::NotACommune { .. } => "not-a-commune",
            Self::AreaOutside { .. } => "area-outside",
            Self::UnknownPeriod { .. } => "unknown-period",
            Self::FormNotInForce { .. } => "form-not-in-force",
            Self::PeriodNotEnded { .. } => "period-not-ended",
            Self::FormCheck { code, .. } => code,
            Self::NotAllFiled { .. } => "not-all-filed",
            Self::NotAllowed { .. } => "not-allowed",
            Self::OwnWork => "own-work",
            Self::StepUpNeeded => "step-up-needed",
            Self::WrongState { .. } => "wrong-state",
            Self::MediaNeeded { .. } => "media-needed",
            Self::MediaNotAllowed { .. } => "media-not-allowed",
            Self::Passed { .. } => "passed",
            Self::EmergencyIsFixed => "emergency-is-fixed",
            Self::EventTooLarge { .. } => "event-too-large",
            Self::EmergencyNotScheduled { .. } => "emergency-not-scheduled",
            Self::EmergencyNotRefused { .. } => "emergency-not-refused",
            Self::NotOffered { .. } => "not-offered",
            Self::Withdrawn { .. } => "withdrawn",
            Self::TimesReversed { .. } => "times-reversed",
            Self::DateOutOfRange { .. } => "date-out-of-range",
            Self::ScheduleCancelled => "schedule-cancelled",
        }
    }

    /// The English message.
    pub fn en(&self) -> String {
        self.to_string()
    }

    /// The Vietnamese message.
    pub fn vi(&self) -> String {
        match self {
            Self::Required { field } => format!("Mục “{}” chưa có dữ liệu. Đề nghị nhập.", field.vi),
            Self::TooLong { field, given, max, unit } => format!(
                "Mục “{}” dài {} {unit}, chỉ được tối đa {} {unit}. Đề nghị rút gọn.",
                field.vi,
                group_vi(*given as i64),
                group_vi(*max as i64),
                unit = unit.vi()
            ),
            Self::TooMany { field, given, max } => {
                format!("Mục “{}” có {given} phần tử, chỉ được tối đa {max}. Đề nghị bớt đi.", field.vi)
            }
            Self::OutOfRange { field, given, min, max } => format!(
                "Mục “{}”: đã nhập “{given}”, chỉ được nhập từ {} đến {}. Đề nghị kiểm tra lại số liệu.",
                field.vi,
                group_vi(*min),
                group_vi(*max)
            ),
            Self::Negative { field, given } => {
                format!("Mục “{}”: đã nhập số âm “{given}”. Đề nghị nhập số từ 0 trở lên.", field.vi)
            }
            Self::NotANumber { field, given } => {
                format!("Mục “{}”: “{given}” không phải là số. Đề nghị chỉ nhập chữ số, ví dụ 12 hoặc 12,5.", field.vi)
            }
            Self::TooManyDecimals { field, given, allowed: 0 } => {
                format!("Mục “{}”: “{given}” có phần thập phân. Đề nghị nhập số nguyên.", field.vi)
            }
            Self::TooManyDecimals { field, given, allowed } => format!(
                "Mục “{}”: “{given}” có quá {allowed} chữ số thập phân. Đề nghị làm tròn, và không dùng dấu chấm để ngăn \
                 cách hàng nghìn (ví dụ nhập 1250 hoặc 1250,5).",
                field.vi
            ),
            Self::NotAChoice { field, given, allowed_vi, .. } => {
                format!("Mục “{}”: “{given}” không có trong danh mục. Đề nghị chọn một trong: {allowed_vi}.", field.vi)
            }
            Self::Malformed { field, given, expected_vi, .. } => {
                format!("Mục “{}”: “{given}” không đúng quy cách. Đề nghị nhập {expected_vi}.", field.vi)
            }
            Self::Duplicate { field, given } => {
                format!("Mục “{}”: “{given}” bị trùng. Đề nghị mỗi giá trị chỉ nhập một lần.", field.vi)
            }
            Self::NotFound { field, given } => {
                format!("Mục “{}”: không tìm thấy “{given}” trong hệ thống. Đề nghị kiểm tra lại.", field.vi)
            }
            Self::UnknownIndicator { given, form } => format!(
                "Biểu mẫu “{form}” không có chỉ tiêu “{given}”. Đề nghị bỏ chỉ tiêu này hoặc dùng đúng biểu mẫu đang áp dụng."
            ),
            Self::UnknownArea { field, given } => format!(
                "Mục “{}”: không có địa bàn mang mã “{given}” trong danh mục đang áp dụng. Đề nghị chọn lại.",
                field.vi
            ),
            Self::NotACommune { field, area } => format!(
                "Mục “{}”: {} (mã {}) không phải đơn vị cấp xã. Đề nghị chọn xã, phường hoặc đặc khu.",
                field.vi, area.name, area.code
            ),
            Self::AreaOutside { field, area, within } => format!(
                "Mục “{}”: {} (mã {}) không thuộc {within}. Đề nghị chọn địa bàn trong phạm vi phụ trách.",
                field.vi, area.name, area.code
            ),
            Self::UnknownPeriod { given } => {
                format!("Kỳ báo cáo “{given}” không hợp lệ. Đề nghị ghi năm và quý, ví dụ 2026-Q3.")
            }
            Self::FormNotInForce { form, version, period } => format!(
                "Biểu mẫu “{form}” phiên bản {version} không áp dụng cho kỳ {period}. Đề nghị dùng đúng phiên bản của kỳ này."
            ),
            Self::PeriodNotEnded { period, first_day } => format!(
                "Kỳ báo cáo {period} chưa kết thúc nên chưa nộp được báo cáo. Đề nghị nộp từ ngày {}.",
                day_vi(*first_day)
            ),
            Self::FormCheck { vi, .. } => vi.clone(),
            Self::NotAllFiled { period, first, count } => format!(
                "Còn {count} đơn vị cấp xã chưa nộp báo cáo kỳ {period}: {}. Đề nghị đôn đốc các đơn vị này nộp rồi gửi báo \
                 cáo tổng hợp.",
                names(first, *count, "và {} đơn vị khác")
            ),
            Self::NotAllowed { action, role } => format!(
                "Tài khoản có vai trò “{}” không được {}. Đề nghị liên hệ người có thẩm quyền.",
                role.vi(),
                action.vi()
            ),
            Self::OwnWork => {
                "Bản tin này do chính đồng chí biên tập hoặc trình duyệt. Phải có người khác duyệt.".into()
            }
            Self::StepUpNeeded => {
                "Duyệt bản tin khẩn cấp phải có mã xác thực 6 chữ số (OTP). Đề nghị nhập mã rồi duyệt lại.".into()
            }
            Self::WrongState { command, state } => {
                format!("Không thể {} khi bản tin {}.", command.0, state.0)
            }
            Self::MediaNeeded { field } => format!(
                "Mục “{}”: loại bản tin này phải có tệp kèm theo (có mã SHA-256 và dung lượng). Đề nghị đính kèm tệp.",
                field.vi
            ),
            Self::MediaNotAllowed { field } => format!(
                "Mục “{}”: loại bản tin này không có tệp kèm theo. Đề nghị bỏ tệp hoặc chọn loại bản tin khác.",
                field.vi
            ),
            Self::Passed { field } => {
                format!("Mục “{}”: thời điểm này đã qua. Đề nghị chọn thời điểm muộn hơn.", field.vi)
            }
            Self::EmergencyIsFixed => {
                "Bản tin đã phát hành không thể chuyển thành khẩn cấp hoặc thôi khẩn cấp. Đề nghị thu \
                                       hồi và soạn bản tin mới."
                    .into()
            }
            Self::EventTooLarge { given, max } => format!(
                "Nội dung chiếm tổng cộng {} byte, chỉ được tối đa {} byte. Đề nghị rút gọn hoặc chuyển thành tệp kèm theo.",
                group_vi(*given as i64),
                group_vi(*max as i64)
            ),
            Self::EmergencyNotScheduled { title, .. } => format!(
                "Bản tin “{title}” là bản tin khẩn cấp, được phát ngay và không đưa vào lịch phát. Đề nghị bỏ khỏi lịch."
            ),
            Self::EmergencyNotRefused { title, .. } => {
                format!("Bản tin “{title}” là bản tin khẩn cấp; cấp xã không được từ chối hoặc gỡ bỏ.")
            }
            Self::NotOffered { title, .. } => {
                format!("Bản tin “{title}” không được gửi cho xã này. Đề nghị bỏ khỏi lịch.")
            }
            Self::Withdrawn { title, .. } => {
                format!("Bản tin “{title}” đã bị nơi phát hành thu hồi. Đề nghị bỏ khỏi lịch.")
            }
            Self::TimesReversed { field, starts, ends } => {
                format!("Mục “{}”: bắt đầu {starts}, kết thúc {ends}. Giờ kết thúc phải sau giờ bắt đầu.", field.vi)
            }
            Self::DateOutOfRange { field, given, from, to } => {
                format!("Mục “{}”: ngày {given} nằm ngoài khoảng từ {from} đến {to}. Đề nghị chọn lại ngày.", field.vi)
            }
            Self::ScheduleCancelled => "Lịch phát này đã bị hủy. Đề nghị lập lịch mới.".into(),
        }
    }

    /// What an API or a page shows.
    pub fn to_form(&self) -> RefusalForm {
        RefusalForm { code: self.code().to_owned(), field: self.field().to_owned(), vi: self.vi(), en: self.en() }
    }
}

/// A day as Vietnamese officers write it: `01/10/2026`.
fn day_vi(day: Date) -> String {
    format!("{:02}/{:02}/{:04}", day.day(), u8::from(day.month()), day.year())
}
