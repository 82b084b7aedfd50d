//! Shapes that come from `httt-domain`, which knows nothing of OpenAPI, described here. A test holds them to the real
//! ones.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What a bulletin says. Fields left out take their defaults.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Content)]
pub(crate) struct ContentShape {
    /// Required, at most 300 characters.
    #[schema(required = true)]
    pub(crate) title: String,
    /// At most 2,000 characters.
    #[schema(required = false)]
    pub(crate) summary: String,
    /// At most 32 KiB of UTF-8; required for text.
    #[schema(required = false)]
    pub(crate) body: String,
    #[schema(required = false)]
    pub(crate) kind: KindShape,
    #[schema(required = false)]
    pub(crate) subject: SubjectShape,
    #[schema(required = false)]
    pub(crate) priority: PriorityShape,
    /// BCP 47; `vi` when left out.
    #[schema(required = false)]
    pub(crate) language: String,
    /// NguonTin.
    #[schema(required = false)]
    pub(crate) source: String,
    /// TacGia.ButDanh.
    #[schema(required = false)]
    pub(crate) pen_name: String,
    /// Unix ms; 0 when unknown.
    #[schema(required = false)]
    pub(crate) produced_at_ms: i64,
    /// The file of pictures, sound and film, uploaded before with `PUT /api/v1/media`.
    pub(crate) media: Option<MediaShape>,
    /// Area codes; empty is the whole nation.
    #[schema(required = false)]
    pub(crate) target_areas: Vec<String>,
    /// Diễn tập.
    #[schema(required = false)]
    pub(crate) drill: bool,
    /// Unix ms; 0 for no end.
    #[schema(required = false)]
    pub(crate) valid_until_ms: i64,
    /// ThongTinChiTietBanTin, at most 20.
    #[schema(required = false)]
    pub(crate) details: Vec<DetailShape>,
}

/// A media file by its digest.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Media)]
pub(crate) struct MediaShape {
    /// SHA-256, 64 hexadecimal digits.
    pub(crate) sha256: String,
    /// Bytes.
    pub(crate) size: u64,
    /// Must begin with `image/`, `audio/` or `video/`, as the kind says.
    pub(crate) content_type: String,
    /// File name, for people.
    #[schema(required = false)]
    pub(crate) name: String,
    /// Playing time, ms; 0 when unknown.
    #[schema(required = false)]
    pub(crate) duration_ms: u32,
}

/// A further detail.
#[derive(Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Detail)]
pub(crate) struct DetailShape {
    pub(crate) name: String,
    pub(crate) value: String,
}

macro_rules! words {
    ($(#[$doc:meta])* $shape:ident as $name:ident { $($variant:ident),* }) => {
        $(#[$doc])*
        #[derive(Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        #[schema(as = $name)]
        #[allow(dead_code, reason = "only its description is used")]
        pub(crate) enum $shape { $($variant),* }
    };
}

words! {
    /// LoaiBanTin.
    KindShape as Kind { Text, Image, Audio, Video, Live, FmRelay }
}
words! {
    /// LoaiLinhVuc.
    SubjectShape as Subject {
        General, Unexpected, PolicyAndLaw, LocalDirection, ScienceEconomySociety, GoodPeopleGoodDeeds
    }
}
words! {
    /// MucDoUuTien: thông thường, ưu tiên, khẩn cấp.
    PriorityShape as Priority { Ordinary, Priority, Emergency }
}
words! {
    /// Where a bulletin stands.
    StageShape as Stage { Absent, Draft, Submitted, Returned, Rejected, Approved, Published, Withdrawn }
}
words! {
    /// Type of an indicator. Hours are kept in minutes, money in VND.
    IndicatorTypeShape as IndicatorType { Integer, Hours, MoneyVnd, Text, Choice, Year, Languages }
}

/// Clusters counted by what they are doing; `online` is `idle` + `playing` + `paused`.
#[derive(Serialize, ToSchema)]
#[schema(as = Totals)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct TotalsShape {
    pub(crate) total: u64,
    pub(crate) online: u64,
    pub(crate) offline: u64,
    pub(crate) idle: u64,
    pub(crate) playing: u64,
    pub(crate) paused: u64,
}

/// One version of a reporting form.
#[derive(Serialize, ToSchema)]
#[schema(as = Form)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct FormShape {
    pub(crate) code: String,
    pub(crate) version: u32,
    /// First day (`yyyy-MM-dd`).
    pub(crate) valid_from: String,
    /// First day no longer covered.
    pub(crate) valid_until: Option<String>,
    pub(crate) title_vi: String,
    pub(crate) title_en: String,
    pub(crate) indicators: Vec<IndicatorShape>,
    /// What must hold between the figures: `code`, `indicator`, `vi`, `en`, `unless`, `rule` and what the rule needs.
    pub(crate) checks: Vec<Value>,
}

/// One figure of a form.
#[derive(Serialize, ToSchema)]
#[schema(as = Indicator)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct IndicatorShape {
    pub(crate) code: String,
    pub(crate) vi: String,
    pub(crate) en: String,
    #[serde(rename = "type")]
    pub(crate) kind: IndicatorTypeShape,
    pub(crate) required: bool,
    /// Least value, in the unit it is typed in.
    pub(crate) min: Option<i64>,
    /// Greatest value; for text the most characters.
    pub(crate) max: Option<i64>,
    pub(crate) choices: Vec<ChoiceShape>,
}

/// One thing that may be chosen.
#[derive(Serialize, ToSchema)]
#[schema(as = Choice)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct ChoiceShape {
    pub(crate) code: String,
    pub(crate) vi: String,
    pub(crate) en: String,
}

/// The bytes of a file.
#[derive(Serialize, ToSchema)]
#[schema(as = File, value_type = String, format = Binary)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct FileShape(Vec<u8>);

/// How every refusal looks.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct ErrorAnswer {
    pub(crate) error: ErrorBody,
}

/// What is wrong.
#[derive(Serialize, ToSchema)]
#[allow(dead_code, reason = "only its description is used")]
pub(crate) struct ErrorBody {
    /// For programs; stays the same. `several-mistakes` when `details` lists more than one.
    pub(crate) code: String,
    /// For people, in Vietnamese.
    pub(crate) message: String,
    /// For people, in English.
    pub(crate) message_en: String,
    /// The input field at fault, as a JSON path such as `content.title`.
    pub(crate) field: Option<String>,
    /// Every mistake of a refused command: `[{code, field, vi, en}]`.
    pub(crate) details: Option<Value>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use httt_domain::bulletin::{Content, Detail, Kind, Media, Priority, Stage, Subject};
    use httt_domain::models::Totals;
    use httt_domain::report::Forms;
    use serde_json::{Value, json};
    use utoipa::PartialSchema;

    use super::*;

    fn described<S: PartialSchema>() -> Value {
        serde_json::to_value(S::schema()).expect("schema")
    }

    fn properties<S: PartialSchema>() -> BTreeSet<String> {
        described::<S>()["properties"].as_object().expect("object").keys().cloned().collect()
    }

    fn keys(real: impl Serialize) -> BTreeSet<String> {
        serde_json::to_value(real).expect("json").as_object().expect("object").keys().cloned().collect()
    }

    #[test]
    fn shapes_are_those_of_the_domain() {
        assert_eq!(properties::<ContentShape>(), keys(Content::default()));
        let media =
            Media { sha256: String::new(), size: 0, content_type: String::new(), name: String::new(), duration_ms: 0 };
        assert_eq!(properties::<MediaShape>(), keys(media));
        assert_eq!(properties::<DetailShape>(), keys(Detail { name: String::new(), value: String::new() }));
        assert_eq!(properties::<TotalsShape>(), keys(Totals::default()));
        let form = Forms::built_in().iter().next().expect("a form");
        assert_eq!(properties::<FormShape>(), keys(form));
        assert_eq!(properties::<IndicatorShape>(), keys(&form.indicators[0]));
        assert_eq!(properties::<ChoiceShape>(), keys(&form.indicators[0].choices[0]));
    }

    #[test]
    fn words_are_those_of_the_domain() {
        assert_eq!(described::<KindShape>()["enum"], json!(Kind::ALL));
        assert_eq!(described::<SubjectShape>()["enum"], json!(Subject::ALL));
        assert_eq!(described::<PriorityShape>()["enum"], json!(Priority::ALL));
        let stages = described::<StageShape>()["enum"].as_array().expect("list").clone();
        for stage in stages {
            serde_json::from_value::<Stage>(stage).expect("a stage of the domain");
        }
        let types = described::<IndicatorTypeShape>()["enum"].as_array().expect("list").clone();
        for kind in types {
            serde_json::from_value::<httt_domain::report::IndicatorType>(kind).expect("a type of the domain");
        }
    }
}
