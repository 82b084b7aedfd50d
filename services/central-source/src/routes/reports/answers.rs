//! Reports as callers see them.

use std::collections::BTreeMap;

use httt_domain::models::Filed;
use httt_domain::report::{FiledValue, Form, Indicator, IndicatorType, Total};
use serde::Serialize;
use utoipa::ToSchema;

use crate::routes::shapes::IndicatorTypeShape;
use crate::scope::{AreaName, areas};

/// An area's reports of a period.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportSums {
    pub(super) form: String,
    /// The version in force for the period.
    pub(super) form_version: u32,
    pub(super) title_vi: String,
    pub(super) title_en: String,
    pub(super) period: String,
    pub(super) area: AreaName,
    /// Communes that have to report.
    pub(super) expected: u64,
    /// Communes that did.
    pub(super) filed: u64,
    /// Communes that did not.
    pub(super) missing: u64,
    /// When the province said that it is complete, Unix ms; only for a province.
    pub(super) submitted_at_ms: Option<i64>,
    /// In the form's order.
    pub(super) indicators: Vec<IndicatorSum>,
    /// Each area right below, by code: provinces of the nation, communes of a province.
    pub(super) children: Vec<ReportRow>,
    /// A commune's own report, if it filed.
    pub(super) report: Option<ReportAnswer>,
}

/// One figure, added up.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IndicatorSum {
    code: String,
    vi: String,
    en: String,
    #[serde(rename = "type")]
    #[schema(value_type = IndicatorTypeShape)]
    kind: IndicatorType,
    /// What `sum` counts: `pieces`, `minutes`, `vnd`; for the others `reports`.
    unit: &'static str,
    /// The sum, for figures that add up.
    sum: Option<i64>,
    /// The sum as people read it, in `shown_unit_vi`.
    shown_vi: Option<String>,
    /// `giờ`, `triệu đồng`, or empty.
    shown_unit_vi: &'static str,
    /// For choices, years and languages: how many reports say what.
    counts: Option<Vec<ValueCount>>,
}

/// How many reports say so.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ValueCount {
    /// The choice's code, the year, the language.
    value: String,
    /// The choice's label.
    vi: String,
    en: String,
    count: u64,
}

/// One area right below.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportRow {
    area: AreaName,
    expected: u64,
    filed: u64,
    missing: u64,
    /// When the province said that it is complete, Unix ms.
    submitted_at_ms: Option<i64>,
    /// Sums by indicator, in base units (pieces, minutes, VND); only those that add up.
    sums: BTreeMap<String, i64>,
}

/// A commune's report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportAnswer {
    /// The version it was filed in.
    form_version: u32,
    /// Agency code of the node it came from.
    origin: String,
    /// Account that filed it.
    filer: String,
    /// Unix ms.
    filed_at_ms: i64,
    /// 1 for the first, more for corrections.
    version: u64,
    /// In the form's order; only what was given.
    values: Vec<ReportValue>,
}

/// One figure of a report.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReportValue {
    code: String,
    vi: String,
    en: String,
    #[serde(rename = "type")]
    #[schema(value_type = IndicatorTypeShape)]
    kind: IndicatorType,
    /// `pieces`, `minutes`, `vnd`, `year` or `text`.
    unit: &'static str,
    /// A number in that unit, or text.
    #[schema(value_type = Value)]
    value: FiledValue,
    /// As people read it, in `shown_unit_vi`.
    shown_vi: String,
    shown_unit_vi: &'static str,
}

/// Who has not filed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MissingReports {
    pub(super) form: String,
    pub(super) form_version: u32,
    pub(super) period: String,
    pub(super) area: AreaName,
    /// Communes that have to report.
    pub(super) expected: u64,
    /// Those that did not, by code.
    pub(super) missing: Vec<MissingCommune>,
}

/// A commune that has not filed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MissingCommune {
    pub(super) area: AreaName,
    /// The province it lies in.
    pub(super) province: Option<AreaName>,
}

fn shown_unit_vi(kind: IndicatorType) -> &'static str {
    match kind {
        IndicatorType::Hours => "giờ",
        IndicatorType::MoneyVnd => "triệu đồng",
        _ => "",
    }
}

fn base_unit(kind: IndicatorType) -> &'static str {
    match kind {
        IndicatorType::Integer => "pieces",
        IndicatorType::Hours => "minutes",
        IndicatorType::MoneyVnd => "vnd",
        IndicatorType::Year => "year",
        IndicatorType::Text | IndicatorType::Choice | IndicatorType::Languages => "text",
    }
}

impl IndicatorSum {
    pub(super) fn of(indicator: &Indicator, total: Option<&Total>) -> Self {
        let (sum, counts) = match total {
            Some(Total::Sum(sum)) => (Some(*sum), None),
            Some(Total::Counts(counts)) => (None, Some(counts)),
            None => (None, None),
        };
        let label = |value: &str| match indicator.choice(value) {
            Some(choice) => (choice.vi.clone(), choice.en.clone()),
            None => (value.to_owned(), value.to_owned()),
        };
        Self {
            code: indicator.code.clone(),
            vi: indicator.vi.clone(),
            en: indicator.en.clone(),
            kind: indicator.kind,
            unit: if indicator.is_quantity() { base_unit(indicator.kind) } else { "reports" },
            sum,
            shown_vi: sum.map(|sum| indicator.show_vi(&FiledValue::Number(sum))),
            shown_unit_vi: shown_unit_vi(indicator.kind),
            counts: counts.map(|counts| {
                let count = |(value, count): (&String, &u64)| {
                    let (vi, en) = label(value);
                    ValueCount { value: value.clone(), vi, en, count: *count }
                };
                counts.iter().map(count).collect()
            }),
        }
    }
}

impl ReportRow {
    pub(super) fn of(code: &str, filed: u64, submitted_at_ms: Option<i64>, totals: &BTreeMap<String, Total>) -> Self {
        let expected = areas().communes_of(code).len() as u64;
        let sum = |(code, total): (&String, &Total)| match total {
            Total::Sum(sum) => Some((code.clone(), *sum)),
            Total::Counts(_) => None,
        };
        Self {
            area: AreaName::of(code),
            expected,
            filed,
            missing: expected.saturating_sub(filed),
            submitted_at_ms,
            sums: totals.iter().filter_map(sum).collect(),
        }
    }
}

impl ReportAnswer {
    pub(super) fn of(form: &Form, filed: &Filed) -> Self {
        let value = |indicator: &Indicator| {
            let value = filed.values.get(&indicator.code)?;
            Some(ReportValue {
                code: indicator.code.clone(),
                vi: indicator.vi.clone(),
                en: indicator.en.clone(),
                kind: indicator.kind,
                unit: base_unit(indicator.kind),
                value: value.clone(),
                shown_vi: indicator.show_vi(value),
                shown_unit_vi: shown_unit_vi(indicator.kind),
            })
        };
        Self {
            form_version: filed.form_version,
            origin: filed.origin.clone(),
            filer: filed.filer.clone(),
            filed_at_ms: filed.filed_at_ms,
            version: filed.version,
            values: form.indicators.iter().filter_map(value).collect(),
        }
    }
}
