//! What a bulletin says, and what it may say.

use httt_wire::{Message, bulletin as wire};
use serde::{Deserialize, Serialize};

use crate::accounts::Actor;
use crate::area::Areas;
use crate::refusal::{Field, Refusal, Unit, check_text, quote};

/// Longest title, in characters.
pub const MAX_TITLE: usize = 300;
/// Longest summary, in characters.
pub const MAX_SUMMARY: usize = 2_000;
/// Longest body, in bytes of UTF-8.
pub const MAX_BODY_BYTES: usize = 32 * 1024;
/// Longest source, pen name, file name, content type, in characters.
pub const MAX_NAME: usize = 200;
/// Most further details.
pub const MAX_DETAILS: usize = 20;
/// Longest value of a further detail, in characters.
pub const MAX_DETAIL: usize = 500;
/// Most target areas: a bulletin for more than these is one for their provinces.
pub const MAX_TARGETS: usize = 1_000;
/// Largest media file, in bytes (1 GiB).
pub const MAX_MEDIA: u64 = 1 << 30;
/// Largest encoded content, in bytes; leaves room for the rest of its event.
pub const MAX_CONTENT_BYTES: usize = 44 * 1024;
/// How far ahead of this node's clock a production time may lie (clocks drift), in milliseconds.
pub const MAX_AHEAD_MS: i64 = 24 * 3_600_000;

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident: $default:ident { $($(#[$vdoc:meta])* $variant:ident = $number:literal $vi:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// From the number on the wire; none for one of a later contract.
            pub fn from_wire(number: i32) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }

            /// The number on the wire.
            pub fn to_wire(self) -> i32 {
                match self { $(Self::$variant => $number,)* }
            }

            /// Its Vietnamese name.
            pub fn vi(self) -> &'static str {
                match self { $(Self::$variant => $vi,)* }
            }
        }

        impl Default for $name {
            fn default() -> Self { Self::$default }
        }
    };
}

wire_enum! {
    /// How urgent a bulletin is.
    Priority: Ordinary {
        /// The commune chooses whether and when.
        Ordinary = 1 "thông thường",
        /// Played with priority in the programme.
        Priority = 2 "ưu tiên",
        /// Played at once, nobody is asked.
        Emergency = 3 "khẩn cấp",
    }
}

wire_enum! {
    /// `LoaiBanTin` (field practice).
    Kind: Text {
        /// Read out or shown.
        Text = 1 "ký tự",
        /// A picture.
        Image = 2 "hình ảnh",
        /// A sound file.
        Audio = 3 "âm thanh",
        /// A film.
        Video = 4 "video",
        /// A live programme.
        Live = 5 "trực tiếp",
        /// A relayed FM programme.
        FmRelay = 6 "tiếp sóng FM",
    }
}

wire_enum! {
    /// `LoaiLinhVuc` (field practice).
    Subject: General {
        /// General information.
        General = 1 "thông tin chung",
        /// Unexpected events.
        Unexpected = 2 "đột xuất",
        /// Policy and law of Party and State.
        PolicyAndLaw = 3 "chủ trương, chính sách, pháp luật",
        /// Direction by local Party and government.
        LocalDirection = 4 "chỉ đạo, điều hành của địa phương",
        /// Science, technology, economy, culture, society.
        ScienceEconomySociety = 5 "khoa học, kinh tế, văn hóa, xã hội",
        /// Good people, good deeds.
        GoodPeopleGoodDeeds = 6 "người tốt, việc tốt",
    }
}

impl Priority {
    /// Whether it plays at once and travels in the emergency lane.
    pub fn is_emergency(self) -> bool {
        self == Self::Emergency
    }
}

impl Kind {
    /// The first part of the content type its file must have; none for kinds without a file.
    fn media_class(self) -> Option<&'static str> {
        match self {
            Self::Image => Some("image/"),
            Self::Audio => Some("audio/"),
            Self::Video => Some("video/"),
            Self::Text | Self::Live | Self::FmRelay => None,
        }
    }
}

/// A media file, referred to by its digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Media {
    /// SHA-256, 64 hex digits.
    pub sha256: String,
    /// Bytes.
    pub size: u64,
    /// Media type, e.g. `audio/mpeg`.
    pub content_type: String,
    /// File name, for people.
    #[serde(default)]
    pub name: String,
    /// Playing time in milliseconds; 0 when unknown.
    #[serde(default)]
    pub duration_ms: u32,
}

/// A further detail, `ThongTinChiTietBanTin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What a bulletin says. Absent JSON fields take their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Content {
    /// Required, at most [`MAX_TITLE`] characters.
    pub title: String,
    /// At most [`MAX_SUMMARY`] characters.
    pub summary: String,
    /// At most [`MAX_BODY_BYTES`] bytes; required for text.
    pub body: String,
    /// Text, picture, sound…
    pub kind: Kind,
    /// What it is about.
    pub subject: Subject,
    /// How urgent.
    pub priority: Priority,
    /// BCP 47, e.g. `vi`, `tyz`, `en-GB`.
    pub language: String,
    /// `NguonTin`.
    pub source: String,
    /// `TacGia.ButDanh`; names of persons stay out of shared events.
    pub pen_name: String,
    /// Unix milliseconds; 0 when unknown.
    pub produced_at_ms: i64,
    /// The file of pictures, sound and film.
    pub media: Option<Media>,
    /// Area codes; empty is the whole of the sender's area.
    pub target_areas: Vec<String>,
    /// A rehearsal (diễn tập), marked as such wherever it is shown or played. Any priority can be rehearsed.
    pub drill: bool,
    /// Unix milliseconds; 0 for no end.
    pub valid_until_ms: i64,
    /// Further details.
    pub details: Vec<Detail>,
}

impl Default for Content {
    fn default() -> Self {
        Self {
            title: String::new(),
            summary: String::new(),
            body: String::new(),
            kind: Kind::default(),
            subject: Subject::default(),
            priority: Priority::default(),
            language: "vi".into(),
            source: String::new(),
            pen_name: String::new(),
            produced_at_ms: 0,
            media: None,
            target_areas: Vec::new(),
            drill: false,
            valid_until_ms: 0,
            details: Vec::new(),
        }
    }
}

impl Content {
    /// From the wire; none when an enum or the digest is not of this contract.
    pub fn from_wire(content: wire::Content) -> Option<Self> {
        Some(Self {
            kind: Kind::from_wire(content.kind)?,
            subject: Subject::from_wire(content.subject)?,
            priority: Priority::from_wire(content.priority)?,
            media: content.media.map(|media| Media {
                sha256: hex::encode(&media.sha256),
                size: media.size,
                content_type: media.content_type,
                name: media.name,
                duration_ms: media.duration_ms,
            }),
            title: content.title,
            summary: content.summary,
            body: content.body,
            language: content.language,
            source: content.source,
            pen_name: content.pen_name,
            produced_at_ms: content.produced_at_ms,
            target_areas: content.target_areas,
            drill: content.drill,
            valid_until_ms: content.valid_until_ms,
            details: content
                .details
                .into_iter()
                .map(|detail| Detail { name: detail.name, value: detail.value })
                .collect(),
        })
    }

    /// To the wire. A digest that is no hex text becomes empty; [`check`](Self::check) refuses it before.
    pub fn to_wire(&self) -> wire::Content {
        wire::Content {
            title: self.title.clone(),
            summary: self.summary.clone(),
            body: self.body.clone(),
            kind: self.kind.to_wire(),
            subject: self.subject.to_wire(),
            priority: self.priority.to_wire(),
            language: self.language.clone(),
            source: self.source.clone(),
            pen_name: self.pen_name.clone(),
            produced_at_ms: self.produced_at_ms,
            media: self.media.as_ref().map(|media| wire::Media {
                sha256: hex::decode(&media.sha256).unwrap_or_default(),
                size: media.size,
                content_type: media.content_type.clone(),
                name: media.name.clone(),
                duration_ms: media.duration_ms,
            }),
            target_areas: self.target_areas.clone(),
            drill: self.drill,
            valid_until_ms: self.valid_until_ms,
            details: self
                .details
                .iter()
                .map(|detail| wire::Detail { name: detail.name.clone(), value: detail.value.clone() })
                .collect(),
        }
    }

    /// The title as it is shown and played: a drill says so first.
    pub fn shown_title(&self) -> String {
        if self.drill { format!("[DIỄN TẬP] {}", self.title) } else { self.title.clone() }
    }

    /// Whether the end of its validity has come.
    pub fn expired(&self, now_ms: i64) -> bool {
        self.valid_until_ms != 0 && self.valid_until_ms <= now_ms
    }

    /// The communes of `area` (a province, or the nation) that are to receive it, by code.
    pub fn communes_within(&self, areas: &Areas, area: &str) -> Vec<String> {
        let meant = |code: &str| {
            self.target_areas.is_empty() || self.target_areas.iter().any(|target| areas.covers(target, code))
        };
        areas
            .communes_of(area)
            .into_iter()
            .filter(|commune| meant(&commune.code))
            .map(|area| area.code.clone())
            .collect()
    }

    /// All mistakes of the content.
    pub fn check(&self, areas: &Areas, home: &str, actor: &Actor<'_>, now_ms: i64) -> Vec<Refusal> {
        let mut list = Vec::new();
        let field = |name: &str, vi: &str, en: &str| Field::new(format!("content.{name}"), vi, en);
        check_text(&mut list, &self.title, true, MAX_TITLE, || field("title", "Tiêu đề", "Title"));
        check_text(&mut list, &self.summary, false, MAX_SUMMARY, || field("summary", "Tóm tắt", "Summary"));
        check_text(&mut list, &self.source, false, MAX_NAME, || field("source", "Nguồn tin", "Source"));
        check_text(&mut list, &self.pen_name, false, MAX_NAME, || field("pen_name", "Bút danh", "Pen name"));
        let body = || field("body", "Nội dung", "Body");
        if self.body.len() > MAX_BODY_BYTES {
            let (given, max) = (self.body.len(), MAX_BODY_BYTES);
            list.push(Refusal::TooLong { field: body(), given, max, unit: Unit::Bytes });
        } else if self.kind == Kind::Text && self.body.trim().is_empty() {
            list.push(Refusal::Required { field: body() });
        }
        if !is_language_tag(&self.language) {
            list.push(Refusal::Malformed {
                field: field("language", "Ngôn ngữ", "Language"),
                given: quote(&self.language),
                expected_vi: "mã ngôn ngữ, ví dụ vi hoặc tyz".into(),
                expected_en: "a language code such as vi or tyz".into(),
            });
        }
        if self.produced_at_ms < 0 || self.produced_at_ms > now_ms.saturating_add(MAX_AHEAD_MS) {
            list.push(Refusal::Malformed {
                field: field("produced_at_ms", "Thời gian sản xuất", "Time of production"),
                given: self.produced_at_ms.to_string(),
                expected_vi: "thời điểm không ở tương lai".into(),
                expected_en: "a time that is not in the future".into(),
            });
        }
        if self.valid_until_ms < 0 || self.expired(now_ms) {
            list.push(Refusal::Passed { field: field("valid_until_ms", "Có hiệu lực đến", "Valid until") });
        }
        self.check_media(&mut list);
        self.check_details(&mut list);
        self.check_targets(areas, home, actor, &mut list);
        let given = self.to_wire().encoded_len();
        if list.is_empty() && given > MAX_CONTENT_BYTES {
            list.push(Refusal::EventTooLarge { given, max: MAX_CONTENT_BYTES });
        }
        list
    }

    fn check_media(&self, list: &mut Vec<Refusal>) {
        let field = |name: &str, vi: &str, en: &str| Field::new(format!("content.media{name}"), vi, en);
        let whole = || field("", "Tệp kèm theo", "File");
        let (class, media) = match (self.kind.media_class(), &self.media) {
            (None, None) => return,
            (None, Some(_)) => return list.push(Refusal::MediaNotAllowed { field: whole() }),
            (Some(_), None) => return list.push(Refusal::MediaNeeded { field: whole() }),
            (Some(class), Some(media)) => (class, media),
        };
        if !hex::decode(&media.sha256).is_ok_and(|digest| digest.len() == 32) {
            list.push(Refusal::Malformed {
                field: field(".sha256", "Mã SHA-256 của tệp", "SHA-256 of the file"),
                given: quote(&media.sha256),
                expected_vi: "64 chữ số thập lục phân".into(),
                expected_en: "64 hexadecimal digits".into(),
            });
        }
        if media.size == 0 || media.size > MAX_MEDIA {
            list.push(Refusal::OutOfRange {
                field: field(".size", "Dung lượng tệp (byte)", "Size of the file (bytes)"),
                given: media.size.to_string(),
                min: 1,
                max: MAX_MEDIA as i64,
            });
        }
        let is_plain = media.content_type.bytes().all(|byte| byte.is_ascii_graphic());
        if !media.content_type.starts_with(class) || !is_plain || media.content_type.len() > MAX_NAME {
            list.push(Refusal::Malformed {
                field: field(".content_type", "Loại tệp", "Type of the file"),
                given: quote(&media.content_type),
                expected_vi: format!("loại tệp bắt đầu bằng {class}"),
                expected_en: format!("a media type that begins with {class}"),
            });
        }
        check_text(list, &media.name, false, MAX_NAME, || field(".name", "Tên tệp", "Name of the file"));
    }

    fn check_details(&self, list: &mut Vec<Refusal>) {
        let field = |name: String| Field::new(name, "Thông tin chi tiết", "Details");
        if self.details.len() > MAX_DETAILS {
            let (given, max) = (self.details.len(), MAX_DETAILS);
            list.push(Refusal::TooMany { field: field("content.details".into()), given, max });
            return;
        }
        for (index, detail) in self.details.iter().enumerate() {
            check_text(list, &detail.name, true, MAX_NAME, || field(format!("content.details[{index}].name")));
            check_text(list, &detail.value, false, MAX_DETAIL, || field(format!("content.details[{index}].value")));
        }
    }

    fn check_targets(&self, areas: &Areas, home: &str, actor: &Actor<'_>, list: &mut Vec<Refusal>) {
        let field = |path: String| Field::new(path, "Địa bàn nhận", "Target areas");
        if self.target_areas.len() > MAX_TARGETS {
            let (given, max) = (self.target_areas.len(), MAX_TARGETS);
            return list.push(Refusal::TooMany { field: field("content.target_areas".into()), given, max });
        }
        // No target means the whole of the sender's area, which a commune's officer does not speak for.
        if self.target_areas.is_empty() && !actor.covers(areas, home) {
            return list.push(Refusal::Required { field: field("content.target_areas".into()) });
        }
        let mut seen = std::collections::BTreeSet::new();
        for (index, code) in self.target_areas.iter().enumerate() {
            let field = field(format!("content.target_areas[{index}]"));
            if areas.get(code).is_none() {
                list.push(Refusal::UnknownArea { field, given: quote(code) });
            } else if !areas.covers(home, code) || !actor.covers(areas, code) {
                let narrower = if areas.covers(home, actor.area) { actor.area } else { home };
                let within = areas.path_name(narrower);
                list.push(Refusal::AreaOutside { field, area: areas.named(code), within });
            } else if !seen.insert(code) {
                list.push(Refusal::Duplicate { field, given: areas.name(code) });
            }
        }
    }
}

/// Whether the text looks like BCP 47: a primary subtag of 2 to 8 letters, further ones of 1 to 8 letters or digits.
fn is_language_tag(text: &str) -> bool {
    let mut parts = text.split('-');
    let primary = parts.next().unwrap_or_default();
    text.len() <= 35
        && (2..=8).contains(&primary.len())
        && primary.bytes().all(|byte| byte.is_ascii_alphabetic())
        && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}
