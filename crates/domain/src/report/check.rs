//! Filing a report, and submitting a province's summary.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::report as wire;
use serde_json::Value;
use time::{Date, Duration};

use super::form::{Check, Form, Indicator, IndicatorType, Rule, hundredths_to_minutes};
use super::period::Period;
use crate::area::{Areas, Level};
use crate::number::{NumberError, group_en, group_vi, parse_scaled};
use crate::refusal::{Field, Refusal, Refusals, check_text, quote};

/// Communes named in a refused summary; the rest are counted.
const NAMED_MISSING: usize = 10;
/// Longest text value when the form sets no limit, in characters.
const MAX_TEXT: usize = 1_000;

/// A report as somebody typed it.
#[derive(Debug, Clone, Copy)]
pub struct Filing<'a> {
    /// The areas in force for the period.
    pub areas: &'a Areas,
    /// Code of the area the filer answers for: the commune itself, its province, or `""`.
    pub within: &'a str,
    /// The period, e.g. `2026-Q3`.
    pub period: &'a str,
    /// The commune's code.
    pub area: &'a str,
    /// Numbers or strings by indicator code; null and blank strings count as nothing given.
    pub input: &'a BTreeMap<String, Value>,
}

/// The stream of the reports of one form, period and area.
pub fn report_stream(form: &str, period: &str, area: &str) -> String {
    format!("report/{form}/{period}/{area}")
}

/// The stream of a province's summaries of one form and period.
pub fn summary_stream(form: &str, period: &str) -> String {
    format!("summary/{form}/{period}")
}

/// Values in the unit they were typed in: hours in hundredths, so that checks see what people typed and not what
/// rounding to minutes made of it.
#[derive(Debug, Clone)]
enum Typed {
    Number(i64),
    Text(String),
}

/// Checks a report; all its mistakes come at once.
pub fn check(form: &Form, filing: &Filing<'_>) -> Result<wire::ReportFiled, Refusals> {
    let mut list = Vec::new();
    let period = period_of(form, filing.period, &mut list);
    let area = || Field::new("area", "Đơn vị báo cáo", "Reporting unit");
    if let Err(refusal) = filing.areas.check_commune(filing.area, filing.within, area) {
        list.push(refusal);
    }
    let mut wrong = BTreeSet::new();
    let mut typed = BTreeMap::new();
    for indicator in &form.indicators {
        match read(indicator, filing.input.get(&indicator.code)) {
            Ok(Some(value)) => {
                typed.insert(indicator.code.as_str(), value);
            }
            Ok(None) => {}
            Err(refusal) => {
                wrong.insert(indicator.code.as_str());
                list.push(refusal);
            }
        }
    }
    for code in filing.input.keys() {
        if form.indicator(code).is_none() {
            list.push(Refusal::UnknownIndicator { given: quote(code), form: form.code.clone() });
        }
    }
    if let Some(period) = period {
        let mut failed = BTreeSet::new();
        for check in &form.checks {
            let run = Run { form, period, typed: &typed, check };
            let skip = run.names().any(|name| wrong.contains(name))
                || check.unless.iter().any(|code| failed.contains(code.as_str()));
            if !skip && run.fails() {
                failed.insert(check.code.as_str());
                list.push(run.refusal());
            }
        }
    }
    Refusals::unless_empty(list)?;
    Ok(wire::ReportFiled {
        form: form.code.clone(),
        form_version: form.version,
        period: filing.period.to_owned(),
        area: filing.area.to_owned(),
        values: form
            .indicators
            .iter()
            .filter_map(|indicator| typed.remove(indicator.code.as_str()).map(|value| filed(indicator, value)))
            .collect(),
    })
}

/// Refuses a report whose period still runs: its figures are as of the last day, and nobody knows them before.
///
/// `today` is the day in Vietnamese time. Apart from [`check`], which needs no calendar.
pub fn check_period_ended(period: Period, today: Date) -> Result<(), Refusal> {
    if today > period.as_of() {
        return Ok(());
    }
    let first_day = period.as_of().saturating_add(Duration::DAY);
    Err(Refusal::PeriodNotEnded { period: period.to_string(), first_day })
}

/// Says that a province is complete, or names who is missing.
///
/// `expected` are the communes that have to report, `filed` those that did (others in it do not count).
pub fn submit_summary(
    form: &Form,
    areas: &Areas,
    period: &str,
    province: &str,
    expected: &BTreeSet<String>,
    filed: &BTreeSet<String>,
) -> Result<wire::SummarySubmitted, Refusals> {
    let mut list = Vec::new();
    period_of(form, period, &mut list);
    let field = || Field::new("area", "Tỉnh, thành phố", "Province");
    if areas.get(province).is_none_or(|area| area.level != Level::Province) {
        list.push(Refusal::UnknownArea { field: field(), given: quote(province) });
    } else if let Some(stranger) = expected.iter().find(|code| !areas.covers(province, code)) {
        let within = areas.path_name(province);
        list.push(Refusal::AreaOutside { field: field(), area: areas.named(stranger), within });
    } else if expected.is_empty() {
        list.push(Refusal::Required { field: field() });
    }
    let missing: Vec<&String> = expected.difference(filed).collect();
    if !missing.is_empty() {
        list.push(Refusal::NotAllFiled {
            period: quote(period),
            first: missing.iter().take(NAMED_MISSING).map(|code| areas.named(code)).collect(),
            count: missing.len(),
        });
    }
    Refusals::unless_empty(list)?;
    Ok(wire::SummarySubmitted {
        form: form.code.clone(),
        form_version: form.version,
        period: period.to_owned(),
        area: province.to_owned(),
        reports: u32::try_from(expected.len()).unwrap_or(u32::MAX),
    })
}

fn period_of(form: &Form, text: &str, list: &mut Vec<Refusal>) -> Option<Period> {
    match text.parse::<Period>() {
        Ok(period) if form.in_force(period) => Some(period),
        Ok(period) => {
            let (form, version) = (form.code.clone(), form.version);
            list.push(Refusal::FormNotInForce { form, version, period: period.to_string() });
            None
        }
        Err(refusal) => {
            list.push(refusal);
            None
        }
    }
}

/// One value as typed; none when nothing was given.
fn read(indicator: &Indicator, value: Option<&Value>) -> Result<Option<Typed>, Refusal> {
    let given = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Array(items)) if indicator.kind == IndicatorType::Languages => {
            items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
        }
        Some(other) => return Err(not_a_value(indicator, &other.to_string())),
    };
    if given.is_empty() {
        let required = Refusal::Required { field: indicator.field() };
        return if indicator.required { Err(required) } else { Ok(None) };
    }
    match indicator.kind {
        IndicatorType::Integer | IndicatorType::MoneyVnd | IndicatorType::Year => number(indicator, &given, 0),
        IndicatorType::Hours => number(indicator, &given, 2),
        IndicatorType::Text => text(indicator, given),
        IndicatorType::Languages => {
            let mut languages: Vec<&str> = Vec::new();
            for language in given.split([',', ';']).map(str::trim).filter(|language| !language.is_empty()) {
                if !languages.contains(&language) {
                    languages.push(language);
                }
            }
            text(indicator, languages.join(", "))
        }
        IndicatorType::Choice => {
            if indicator.choice(&given).is_some() {
                return Ok(Some(Typed::Text(given)));
            }
            let join = |name: fn(&super::form::Choice) -> &str| {
                indicator.choices.iter().map(name).collect::<Vec<_>>().join(", ")
            };
            Err(Refusal::NotAChoice {
                field: indicator.field(),
                given: quote(&given),
                allowed_vi: join(|choice| &choice.vi),
                allowed_en: join(|choice| &choice.en),
            })
        }
    }
}

fn not_a_value(indicator: &Indicator, given: &str) -> Refusal {
    if indicator.is_quantity() || indicator.kind == IndicatorType::Year {
        return Refusal::NotANumber { field: indicator.field(), given: quote(given) };
    }
    Refusal::Malformed {
        field: indicator.field(),
        given: quote(given),
        expected_vi: "chữ".into(),
        expected_en: "text".into(),
    }
}

fn text(indicator: &Indicator, given: String) -> Result<Option<Typed>, Refusal> {
    let mut list = Vec::new();
    let max = indicator.max.and_then(|max| usize::try_from(max).ok()).unwrap_or(MAX_TEXT);
    check_text(&mut list, &given, indicator.required, max, || indicator.field());
    list.pop().map_or_else(|| Ok((!given.is_empty()).then_some(Typed::Text(given))), Err)
}

fn number(indicator: &Indicator, given: &str, decimals: u8) -> Result<Option<Typed>, Refusal> {
    let (field, quoted) = (indicator.field(), quote(given));
    let scale = 10_i64.pow(u32::from(decimals));
    let (min, max) = (indicator.min.unwrap_or(0), indicator.max.unwrap_or(999_999_999_999_999));
    let value = match parse_scaled(given, u32::from(decimals)) {
        Ok(value) => value,
        Err(NumberError::NotANumber) => return Err(Refusal::NotANumber { field, given: quoted }),
        Err(NumberError::TooManyDecimals) => {
            return Err(Refusal::TooManyDecimals { field, given: quoted, allowed: decimals });
        }
        Err(NumberError::TooLarge) => return Err(Refusal::OutOfRange { field, given: quoted, min, max }),
    };
    if value < 0 && min == 0 {
        return Err(Refusal::Negative { field, given: quoted });
    }
    if value < min.saturating_mul(scale) || value > max.saturating_mul(scale) {
        return Err(Refusal::OutOfRange { field, given: quoted, min, max });
    }
    Ok(Some(Typed::Number(value)))
}

fn filed(indicator: &Indicator, value: Typed) -> wire::Value {
    let value = match (indicator.kind, value) {
        (IndicatorType::Hours, Typed::Number(hundredths)) => {
            wire::value::Value::Number(hundredths_to_minutes(hundredths))
        }
        (_, Typed::Number(number)) => wire::value::Value::Number(number),
        (_, Typed::Text(text)) => wire::value::Value::Text(text),
    };
    wire::Value { indicator: indicator.code.clone(), value: Some(value) }
}

/// One check looking at one report.
struct Run<'a> {
    form: &'a Form,
    period: Period,
    typed: &'a BTreeMap<&'a str, Typed>,
    check: &'a Check,
}

impl Run<'_> {
    /// Every indicator the check looks at.
    fn names(&self) -> impl Iterator<Item = &str> {
        let more: Vec<&str> = match &self.check.rule {
            Rule::ZeroIffChoice { choice, .. } | Rule::RequiredUnlessChoice { choice, .. } => vec![choice],
            Rule::SumEqual { parts } => parts.iter().map(String::as_str).collect(),
            Rule::NotGreater { left, right } => left.iter().chain([right]).map(String::as_str).collect(),
            Rule::OneOf { .. } | Rule::YearNotAfterPeriod | Rule::HoursInPeriod | Rule::PlausibleAmount { .. } => {
                vec![]
            }
        };
        std::iter::once(self.check.indicator.as_str()).chain(more)
    }

    fn number(&self, code: &str) -> i64 {
        match self.typed.get(code) {
            Some(Typed::Number(number)) => *number,
            _ => 0,
        }
    }

    fn chose(&self, code: &str, value: &str) -> bool {
        matches!(self.typed.get(code), Some(Typed::Text(text)) if text == value)
    }

    /// The parts, or the left side. At most 15 digits each, so they never overflow.
    fn sum(&self) -> i64 {
        match &self.check.rule {
            Rule::SumEqual { parts } => parts.iter().map(|part| self.number(part)).sum(),
            Rule::NotGreater { left, .. } => left.iter().map(|part| self.number(part)).sum(),
            _ => 0,
        }
    }

    fn fails(&self) -> bool {
        let code = self.check.indicator.as_str();
        match &self.check.rule {
            Rule::OneOf { allowed } => !allowed.contains(&self.number(code)),
            Rule::ZeroIffChoice { choice, value } => (self.number(code) == 0) != self.chose(choice, value),
            Rule::RequiredUnlessChoice { choice, value } => {
                !self.typed.contains_key(code) && !self.chose(choice, value)
            }
            Rule::YearNotAfterPeriod => self.number(code) > i64::from(self.period.year()),
            Rule::SumEqual { .. } => self.number(code) != self.sum(),
            Rule::NotGreater { right, .. } => self.sum() > self.number(right),
            Rule::HoursInPeriod => self.number(code) > self.period.hours() * 100,
            Rule::PlausibleAmount { least, most } => {
                let amount = self.number(code);
                amount != 0 && !(*least..=*most).contains(&amount)
            }
        }
    }

    fn refusal(&self) -> Refusal {
        let field =
            self.form.indicator(&self.check.indicator).map_or_else(|| Field::new("values", "", ""), Indicator::field);
        Refusal::FormCheck {
            code: self.check.code.clone(),
            field,
            vi: self.words(&self.check.vi, true),
            en: self.words(&self.check.en, false),
        }
    }

    fn words(&self, template: &str, vietnamese: bool) -> String {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').unwrap_or((after, ""));
            out.push_str(before);
            out.push_str(&self.quoted(name, vietnamese));
            rest = after;
        }
        out + rest
    }

    fn quoted(&self, name: &str, vietnamese: bool) -> String {
        let group = if vietnamese { group_vi } else { group_en };
        match (name, &self.check.rule) {
            ("period", _) => self.period.to_string(),
            ("limit", _) => group(self.period.hours()),
            ("least", Rule::PlausibleAmount { least, .. }) => group(*least),
            ("most", Rule::PlausibleAmount { most, .. }) => group(*most),
            ("sum", _) => {
                let unit = self.form.indicator(&self.check.indicator);
                unit.map(|indicator| indicator.show_exact(self.sum(), vietnamese)).unwrap_or_default()
            }
            _ => {
                let Some(indicator) = self.form.indicator(name) else { return String::new() };
                match self.typed.get(name) {
                    Some(Typed::Number(number)) => indicator.show_exact(*number, vietnamese),
                    Some(Typed::Text(text)) => indicator.choice(text).map_or_else(
                        || quote(text),
                        |choice| if vietnamese { choice.vi.clone() } else { choice.en.clone() },
                    ),
                    None => "0".into(),
                }
            }
        }
    }
}
