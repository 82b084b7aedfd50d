//! A form: what is asked, in which unit, and which figures contradict each other. All of it data.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use time::Date;
use time::format_description::well_known::Iso8601;

use super::{FiledValue, Period};
use crate::number::{group_en, group_vi, hundredths};
use crate::refusal::Field;

/// One version of a form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Form {
    /// Its name for programs, e.g. `commune-station`.
    pub code: String,
    /// Versions count from 1.
    pub version: u32,
    /// First day (`yyyy-MM-dd`) whose period uses this version: the period's last day is not before it.
    pub valid_from: String,
    /// First day no longer covered; absent while in force.
    #[serde(default)]
    pub valid_until: Option<String>,
    /// Vietnamese title.
    pub title_vi: String,
    /// English title.
    pub title_en: String,
    /// What is asked, in the form's order.
    pub indicators: Vec<Indicator>,
    /// What must hold between the figures.
    #[serde(default)]
    pub checks: Vec<Check>,
}

/// What kind of value an indicator has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndicatorType {
    /// Whole pieces.
    Integer,
    /// Typed in hours with at most two decimals, kept in minutes.
    Hours,
    /// Whole VND; shown to people in million VND.
    MoneyVnd,
    /// Free text.
    Text,
    /// The code of one of the choices.
    Choice,
    /// A year.
    Year,
    /// Languages separated by commas, or a list.
    Languages,
}

/// One figure of a form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Indicator {
    /// Its name for programs; `values.{code}` is the field of a mistake.
    pub code: String,
    /// Vietnamese label.
    pub vi: String,
    /// English label.
    pub en: String,
    /// Type and with it the unit.
    #[serde(rename = "type")]
    pub kind: IndicatorType,
    /// Whether a report must have it. An absent number counts as 0 in checks and sums.
    #[serde(default)]
    pub required: bool,
    /// Least value, in the unit it is typed in.
    #[serde(default)]
    pub min: Option<i64>,
    /// Greatest value, in the unit it is typed in; for text the most characters.
    #[serde(default)]
    pub max: Option<i64>,
    /// What may be chosen.
    #[serde(default)]
    pub choices: Vec<Choice>,
}

/// One thing that may be chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// What is filed.
    pub code: String,
    /// Vietnamese label.
    pub vi: String,
    /// English label.
    pub en: String,
}

/// Something that must hold, with the words for when it does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The refusal's stable name.
    pub code: String,
    /// The indicator the mistake is shown at.
    pub indicator: String,
    /// Vietnamese message; `{…}` quotes values.
    pub vi: String,
    /// English message; `{…}` quotes values.
    pub en: String,
    /// Not looked at when one of these checks has failed already: it would say the same again.
    #[serde(default)]
    pub unless: Vec<String>,
    /// What is checked.
    #[serde(flatten)]
    pub rule: Rule,
}

/// The kinds of checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Rule {
    /// The indicator is one of these numbers.
    OneOf {
        /// What is allowed.
        allowed: Vec<i64>,
    },
    /// The number is 0 exactly when the choice has that value.
    ZeroIffChoice {
        /// The choice.
        choice: String,
        /// Its value that means none.
        value: String,
    },
    /// The indicator is there unless the choice has that value.
    RequiredUnlessChoice {
        /// The choice.
        choice: String,
        /// Its value that excuses.
        value: String,
    },
    /// The year is not after the period's.
    YearNotAfterPeriod,
    /// The indicator is the sum of the parts.
    SumEqual {
        /// The parts.
        parts: Vec<String>,
    },
    /// The sum of the left is at most the right.
    NotGreater {
        /// Summed.
        left: Vec<String>,
        /// At least as much.
        right: String,
    },
    /// Not more hours than the period has.
    HoursInPeriod,
    /// 0, or within these bounds: otherwise the unit is wrong.
    PlausibleAmount {
        /// Least amount that is not 0, in VND.
        least: i64,
        /// Greatest amount, in VND.
        most: i64,
    },
}

/// Why a form's data is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// Not TOML of this shape.
    #[error("the form cannot be read: {0}")]
    Unreadable(String),
    /// A date that is none.
    #[error("{0} is not a date yyyy-MM-dd")]
    Date(String),
    /// The same code twice.
    #[error("{0} is there twice")]
    Twice(String),
    /// A check or message names what the form does not have.
    #[error("check {check} names {name}, which the form does not have (or not of the type needed)")]
    UnknownName {
        /// The check.
        check: String,
        /// What it names.
        name: String,
    },
    /// A choice without choices, or choices without a choice.
    #[error("indicator {0} has choices and a type that do not go together")]
    Choices(String),
}

impl Indicator {
    /// The field of the input, with its labels.
    pub fn field(&self) -> Field {
        Field::new(format!("values.{}", self.code), &self.vi, &self.en)
    }

    /// Whether its values are numbers that can be added.
    pub fn is_quantity(&self) -> bool {
        matches!(self.kind, IndicatorType::Integer | IndicatorType::Hours | IndicatorType::MoneyVnd)
    }

    /// A filed value as people read it in Vietnamese: hours with decimals, money in million VND, choices by name.
    pub fn show_vi(&self, value: &FiledValue) -> String {
        match (self.kind, value) {
            (IndicatorType::Hours, FiledValue::Number(minutes)) => hundredths(minutes_to_hundredths(*minutes), true),
            (IndicatorType::MoneyVnd, FiledValue::Number(vnd)) => millions_vi(*vnd),
            (IndicatorType::Year, FiledValue::Number(year)) => year.to_string(),
            (_, FiledValue::Number(number)) => group_vi(*number),
            (_, FiledValue::Text(text)) => self.choice(text).map_or_else(|| text.clone(), |choice| choice.vi.clone()),
        }
    }

    /// The choice with this code.
    pub fn choice(&self, code: &str) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.code == code)
    }

    /// A typed quantity (see [`check`](super::check)) in words.
    pub(crate) fn show_exact(&self, exact: i64, vietnamese: bool) -> String {
        match self.kind {
            IndicatorType::Hours => hundredths(exact, vietnamese),
            IndicatorType::Year => exact.to_string(),
            _ if vietnamese => group_vi(exact),
            _ => group_en(exact),
        }
    }
}

/// Hundredths of hours to whole minutes, rounded half up.
pub(crate) fn hundredths_to_minutes(hundredths: i64) -> i64 {
    (hundredths.saturating_mul(60).saturating_add(50)).div_euclid(100)
}

/// Minutes to hundredths of hours, rounded half up; at most a hundredth away from what was typed.
pub(crate) fn minutes_to_hundredths(minutes: i64) -> i64 {
    (minutes.saturating_mul(100).saturating_add(30)).div_euclid(60)
}

/// VND as million VND with up to three decimals: `12,5`, `1.250`.
fn millions_vi(vnd: i64) -> String {
    let (whole, rest) = (vnd / 1_000_000, (vnd % 1_000_000).abs());
    let thousandths = format!("{:03}", rest / 1_000);
    let decimals = thousandths.trim_end_matches('0');
    if decimals.is_empty() { group_vi(whole) } else { format!("{},{decimals}", group_vi(whole)) }
}

impl Form {
    /// Reads and checks a form.
    pub fn parse(toml: &str) -> Result<Self, FormError> {
        let form: Self = toml::from_str(toml).map_err(|error| FormError::Unreadable(error.to_string()))?;
        for date in std::iter::once(&form.valid_from).chain(&form.valid_until) {
            day(date).ok_or_else(|| FormError::Date(date.clone()))?;
        }
        let mut seen = BTreeSet::new();
        let codes = form.indicators.iter().map(|i| &i.code).chain(form.checks.iter().map(|check| &check.code));
        for code in codes {
            if !seen.insert(code) {
                return Err(FormError::Twice(code.clone()));
            }
        }
        for indicator in &form.indicators {
            if (indicator.kind == IndicatorType::Choice) == indicator.choices.is_empty() {
                return Err(FormError::Choices(indicator.code.clone()));
            }
        }
        for check in &form.checks {
            form.check_names(check)?;
        }
        Ok(form)
    }

    fn check_names(&self, check: &Check) -> Result<(), FormError> {
        let unknown = |name: &str| FormError::UnknownName { check: check.code.clone(), name: name.to_owned() };
        let of = |name: &str, fits: &dyn Fn(&Indicator) -> bool| {
            self.indicator(name).filter(|indicator| fits(indicator)).map(|_| ()).ok_or_else(|| unknown(name))
        };
        let quantity: &dyn Fn(&Indicator) -> bool = &Indicator::is_quantity;
        of(&check.indicator, &|_| true)?;
        let mut placeholders = vec!["period"];
        match &check.rule {
            Rule::OneOf { .. } => of(&check.indicator, quantity)?,
            Rule::ZeroIffChoice { choice, value } | Rule::RequiredUnlessChoice { choice, value } => {
                if matches!(check.rule, Rule::ZeroIffChoice { .. }) {
                    of(&check.indicator, quantity)?;
                }
                of(choice, &|indicator| indicator.choice(value).is_some())?;
            }
            Rule::YearNotAfterPeriod => of(&check.indicator, &|indicator| indicator.kind == IndicatorType::Year)?,
            Rule::SumEqual { parts } => {
                let kind = self.indicator(&check.indicator).map(|indicator| indicator.kind);
                of(&check.indicator, quantity)?;
                for part in parts {
                    of(part, &|indicator| Some(indicator.kind) == kind)?;
                }
                placeholders.push("sum");
            }
            Rule::NotGreater { left, right } => {
                let kind = self.indicator(right).map(|indicator| indicator.kind);
                of(right, quantity)?;
                for part in left {
                    of(part, &|indicator| Some(indicator.kind) == kind)?;
                }
                placeholders.push("sum");
            }
            Rule::HoursInPeriod => {
                of(&check.indicator, &|indicator| indicator.kind == IndicatorType::Hours)?;
                placeholders.push("limit");
            }
            Rule::PlausibleAmount { .. } => {
                of(&check.indicator, &|indicator| indicator.kind == IndicatorType::MoneyVnd)?;
                placeholders.extend(["least", "most"]);
            }
        }
        for message in [&check.vi, &check.en] {
            for (index, _) in message.match_indices('{') {
                let name = message[index + 1..].split('}').next().unwrap_or_default();
                if !placeholders.contains(&name) && self.indicator(name).is_none() {
                    return Err(unknown(name));
                }
            }
        }
        for other in &check.unless {
            let earlier = self.checks.iter().take_while(|other| other.code != check.code);
            if !earlier.map(|check| &check.code).any(|code| code == other) {
                return Err(unknown(other));
            }
        }
        Ok(())
    }

    /// The indicator with this code.
    pub fn indicator(&self, code: &str) -> Option<&Indicator> {
        self.indicators.iter().find(|indicator| indicator.code == code)
    }

    /// Whether a period's reports use this version.
    pub fn in_force(&self, period: Period) -> bool {
        let as_of = period.as_of();
        day(&self.valid_from).is_some_and(|from| from <= as_of)
            && self.valid_until.as_deref().and_then(day).is_none_or(|until| as_of < until)
    }
}

fn day(text: &str) -> Option<Date> {
    Date::parse(text, &Iso8601::DATE).ok()
}

/// All forms, in all their versions.
#[derive(Debug, Clone, Default)]
pub struct Forms(BTreeMap<(String, u32), Form>);

impl Forms {
    /// The forms this program brings.
    pub fn built_in() -> &'static Self {
        static FORMS: LazyLock<Forms> = LazyLock::new(|| {
            let mut forms = Forms::default();
            forms.add(
                Form::parse(include_str!("../../data/forms/commune-station.v1.toml"))
                    .expect("a test reads the built-in forms"),
            );
            forms
        });
        &FORMS
    }

    /// Adds a form, or replaces the same version of it.
    pub fn add(&mut self, form: Form) {
        self.0.insert((form.code.clone(), form.version), form);
    }

    /// All of them, by code and version.
    pub fn iter(&self) -> impl Iterator<Item = &Form> {
        self.0.values()
    }

    /// One version.
    pub fn get(&self, code: &str, version: u32) -> Option<&Form> {
        self.0.get(&(code.to_owned(), version))
    }

    /// The version in force for a period: the latest that covers it.
    pub fn in_force(&self, code: &str, period: Period) -> Option<&Form> {
        self.0.values().rev().find(|form| form.code == code && form.in_force(period))
    }
}
