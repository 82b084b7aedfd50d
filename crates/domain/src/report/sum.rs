//! Adding up reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::form::{Form, IndicatorType};
use super::{FiledValue, Indicator};

/// What many reports say of one indicator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Total {
    /// Numbers, added: pieces, minutes, VND.
    Sum(i64),
    /// Choices, years, languages: how many reports say so.
    Counts(BTreeMap<String, u64>),
}

/// Nothing added yet; none for free text, which does not add up.
pub fn total_of(indicator: &Indicator) -> Option<Total> {
    match indicator.kind {
        IndicatorType::Integer | IndicatorType::Hours | IndicatorType::MoneyVnd => Some(Total::Sum(0)),
        IndicatorType::Choice | IndicatorType::Year | IndicatorType::Languages => Some(Total::Counts(BTreeMap::new())),
        IndicatorType::Text => None,
    }
}

/// Adds one report's values to the totals, which then have an entry for every indicator that adds up.
pub fn add(form: &Form, totals: &mut BTreeMap<String, Total>, values: &BTreeMap<String, FiledValue>) {
    for indicator in &form.indicators {
        let Some(empty) = total_of(indicator) else { continue };
        let total = totals.entry(indicator.code.clone()).or_insert(empty);
        match (total, values.get(&indicator.code)) {
            (Total::Sum(sum), Some(FiledValue::Number(number))) => *sum = sum.saturating_add(*number),
            (Total::Counts(counts), Some(FiledValue::Number(number))) => {
                *counts.entry(number.to_string()).or_default() += 1
            }
            (Total::Counts(counts), Some(FiledValue::Text(text))) => {
                for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
                    *counts.entry(part.to_owned()).or_default() += 1;
                }
            }
            _ => {}
        }
    }
}

/// Adds totals to totals, as when provinces make the nation.
pub fn merge(into: &mut BTreeMap<String, Total>, from: &BTreeMap<String, Total>) {
    for (code, total) in from {
        match (into.get_mut(code), total) {
            (None, total) => {
                into.insert(code.clone(), total.clone());
            }
            (Some(Total::Sum(sum)), Total::Sum(more)) => *sum = sum.saturating_add(*more),
            (Some(Total::Counts(counts)), Total::Counts(more)) => {
                for (name, count) in more {
                    *counts.entry(name.clone()).or_default() += count;
                }
            }
            _ => {}
        }
    }
}
