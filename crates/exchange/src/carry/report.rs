//! What became of a file, feed by feed, for people and programs.

use httt_feed::{FeedId, Refusal};
use serde::Serialize;

use super::{FormatError, Manifest, MediaPart};

/// What became of one feed of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Something new was taken, and nothing was wrong.
    Taken,
    /// All of it was held already.
    Held,
    /// Entries before those in the file are missing here.
    Gap {
        /// What would be taken.
        expected: u64,
        /// What the file goes on with.
        got: u64,
    },
    /// This node may not read the feed.
    NotForThisNode,
    /// Origin or key are not in the directory that this node holds.
    Unknown(Refusal),
    /// A directory, and not by the exchange that this node trusts.
    OtherExchange,
    /// The origin told two stories; the feed stands still.
    Forked {
        /// Where, if this file showed it.
        sequence: Option<u64>,
    },
    /// The entries are not what they say they are.
    Refused(Refusal),
    /// This node's log takes no writes.
    Unavailable(String),
    /// The file ended, or was damaged, before any of it came.
    Missing,
}

impl Outcome {
    /// For programs; stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Held => "held",
            Self::Gap { .. } => "gap",
            Self::NotForThisNode => "not-for-this-node",
            Self::Unknown(_) => "unknown-key",
            Self::OtherExchange => "other-exchange",
            Self::Forked { .. } => "forked",
            Self::Refused(_) => "refused",
            Self::Unavailable(_) => "unavailable",
            Self::Missing => "missing",
        }
    }

    /// Whether it is as it should be.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Taken | Self::Held)
    }

    fn vi(&self, manifest: &Manifest) -> String {
        let maker = &manifest.maker;
        match self {
            Self::Taken => "đã nhận".to_owned(),
            Self::Held => "đã có từ trước".to_owned(),
            Self::Gap { expected, got } => format!(
                "thiếu {}: tệp này bắt đầu từ {got}. Hãy nhập trước tệp có phần thiếu, hoặc gửi cho {maker} một tệp xuất \
                 từ nút này để {maker} xuất lại đúng phần còn thiếu",
                span(*expected, *got)
            ),
            Self::NotForThisNode => {
                format!("không dành cho nút này (tệp làm cho {}); không nhận gì", manifest.reader)
            }
            Self::Unknown(refusal) => format!(
                "chưa kiểm chứng được ({refusal}): danh bạ ở nút này chưa có. Hãy nhập tệp có danh bạ mới hơn của sàn \
                 trao đổi rồi nhập lại tệp này"
            ),
            Self::OtherExchange => {
                "danh bạ không phải của sàn trao đổi mà nút này tin (gateway_fingerprint trong tệp cấu hình); không nhận gì"
                    .to_owned()
            }
            Self::Forked { sequence: Some(sequence) } => format!(
                "nguồn đã ký hai nội dung khác nhau ở số {sequence}; đã giữ cả hai làm bằng chứng và dừng luồng này. Hãy \
                 báo người quản trị sàn trao đổi"
            ),
            Self::Forked { sequence: None } => {
                "luồng này đang bị dừng vì nguồn đã ký hai nội dung khác nhau; không nhận gì".to_owned()
            }
            Self::Refused(refusal) => format!("bị từ chối: {refusal}"),
            Self::Unavailable(why) => format!("nút này hiện không ghi được: {why}. Hãy nhập lại sau"),
            Self::Missing => "tệp hỏng trước khi đến luồng này. Hãy chép lại rồi nhập lại".to_owned(),
        }
    }

    fn en(&self, manifest: &Manifest) -> String {
        let maker = &manifest.maker;
        match self {
            Self::Taken => "taken".to_owned(),
            Self::Held => "held already".to_owned(),
            Self::Gap { expected, got } => format!(
                "{} missing: this file begins with {got}. Import the file that has them first, or give {maker} a file \
                 exported here, so that it exports what is missing",
                span(*expected, *got)
            ),
            Self::NotForThisNode => format!("not for this node (the file is for {}); nothing taken", manifest.reader),
            Self::Unknown(refusal) => format!(
                "cannot be verified yet ({refusal}): the directory held here does not say. Import a file with the \
                 exchange's newer directory, then this one again"
            ),
            Self::OtherExchange => {
                "a directory, and not by the exchange that this node trusts (gateway_fingerprint in its configuration); \
                 nothing taken"
                    .to_owned()
            }
            Self::Forked { sequence: Some(sequence) } => format!(
                "its origin signed two histories that part at {sequence}; both are kept as evidence and the feed stops. \
                 Tell the exchange's operator"
            ),
            Self::Forked { sequence: None } => {
                "the feed stands still, because its origin signed two histories; nothing taken".to_owned()
            }
            Self::Refused(refusal) => format!("refused: {refusal}"),
            Self::Unavailable(why) => format!("this node cannot write at the moment: {why}. Import it again later"),
            Self::Missing => "the file was damaged before it. Copy it again and import it again".to_owned(),
        }
    }
}

fn span(expected: u64, got: u64) -> String {
    let last = got.saturating_sub(1);
    if expected == last { format!("{expected}") } else { format!("{expected}–{last}") }
}

/// One feed of a file.
#[derive(Debug, Clone, Serialize)]
pub struct FeedReport {
    /// `TW→*/content`
    pub feed: String,
    /// First sequence that the file says it has.
    pub first: u64,
    /// Last one.
    pub last: u64,
    /// Entries taken.
    pub taken: u64,
    /// Entries that were held already.
    pub held: u64,
    /// Where the feed stands here now; 0: nothing of it is held.
    pub head: u64,
    /// See [`Outcome::code`].
    pub outcome: &'static str,
    /// In Vietnamese.
    pub message: String,
    /// In English.
    pub message_en: String,
}

impl FeedReport {
    pub(super) fn new(manifest: &Manifest, feed: &FeedId, counts: (u64, u64, u64), outcome: &Outcome) -> Self {
        let range = manifest.ranges.iter().find(|range| range.feed == *feed);
        let (taken, held, head) = counts;
        Self {
            feed: feed.to_string(),
            first: range.map_or(0, |range| range.first),
            last: range.map_or(0, |range| range.last.sequence),
            taken,
            held,
            head,
            outcome: outcome.code(),
            message: outcome.vi(manifest),
            message_en: outcome.en(manifest),
        }
    }
}

/// What became of one media file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaOutcome {
    /// Whole and verified.
    Complete,
    /// The beginning is here; the next file goes on.
    Part,
    /// What comes before the piece in this file is not here.
    Gap,
    /// Its maker had no room for it, or does not have it.
    Absent,
    /// The bytes are not those of that digest, or it is too large.
    Refused(String),
}

impl MediaOutcome {
    /// For programs; stays the same.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Part => "part",
            Self::Gap => "gap",
            Self::Absent => "absent",
            Self::Refused(_) => "refused",
        }
    }

    /// Whether it is as it should be: what did not fit comes with the next file.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Complete | Self::Part | Self::Absent)
    }

    fn vi(&self) -> String {
        match self {
            Self::Complete => "đã đủ, đã kiểm chứng".to_owned(),
            Self::Part => "mới có phần đầu; tệp sau mang tiếp".to_owned(),
            Self::Gap => "thiếu phần đầu: hãy nhập tệp trước rồi nhập lại tệp này".to_owned(),
            Self::Absent => "không có trong tệp này; tệp sau mang tiếp".to_owned(),
            Self::Refused(why) => format!("bị từ chối: {why}"),
        }
    }

    fn en(&self) -> String {
        match self {
            Self::Complete => "whole and verified".to_owned(),
            Self::Part => "the beginning is here; the next file goes on".to_owned(),
            Self::Gap => "the beginning is missing: import the file before, then this one again".to_owned(),
            Self::Absent => "not in this file; the next one brings it".to_owned(),
            Self::Refused(why) => format!("refused: {why}"),
        }
    }
}

/// One media file.
#[derive(Debug, Clone, Serialize)]
pub struct MediaReport {
    /// SHA-256, hexadecimal.
    pub sha256: String,
    /// Bytes of all of it.
    pub size: u64,
    /// Bytes held here now, from the start.
    pub held: u64,
    /// See [`MediaOutcome::code`].
    pub outcome: &'static str,
    /// In Vietnamese.
    pub message: String,
    /// In English.
    pub message_en: String,
}

impl MediaReport {
    pub(super) fn new(part: &MediaPart, held: u64, outcome: &MediaOutcome) -> Self {
        Self {
            sha256: part.digest.to_string(),
            size: part.size,
            held,
            outcome: outcome.code(),
            message: outcome.vi(),
            message_en: outcome.en(),
        }
    }
}

/// What is wrong with the file itself.
#[derive(Debug, Clone, Serialize)]
pub struct BrokenReport {
    /// Where in the file.
    pub offset: u64,
    /// In Vietnamese.
    pub message: String,
    /// In English.
    pub message_en: String,
}

impl From<&FormatError> for BrokenReport {
    fn from(error: &FormatError) -> Self {
        Self { offset: error.offset, message: error.fault.vi(), message_en: error.fault.to_string() }
    }
}

/// What became of a file.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    /// Nothing was wrong; also when everything was held already.
    pub ok: bool,
    /// Who made the file.
    pub maker: Option<String>,
    /// For whom.
    pub reader: Option<String>,
    /// When, Unix ms by its maker's clock.
    pub made_at_ms: Option<i64>,
    /// It was made for somebody else. What this node may read of it was taken all the same.
    pub for_somebody_else: bool,
    /// Its maker had no room for all entries; the next file goes on.
    pub more: bool,
    /// By feed, in the file's order.
    pub feeds: Vec<FeedReport>,
    /// By media file, in the file's order.
    pub media: Vec<MediaReport>,
    /// What is wrong with the file. What came before that place was taken.
    pub broken: Option<BrokenReport>,
}
