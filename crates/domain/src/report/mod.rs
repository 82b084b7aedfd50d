//! Statistics: forms are data, a report is checked where it is typed, a summary waits for everybody.
//!
//! ```text
//! Form (data/forms/*.toml) + Filing { period, area, typed values } ── check ──► ReportFiled | every mistake at once
//! expected communes − filed communes ── submit_summary ──► SummarySubmitted | who is missing
//! reports ── sum ──► one total for each indicator
//! ```
//!
//! Filing again replaces: the latest report of a form, period and area counts.

mod check;
mod deadline;
mod form;
mod period;
mod sum;

pub use check::{Filing, check, check_period_ended, report_stream, submit_summary, summary_stream};
pub use deadline::Deadlines;
pub use form::{Check, Choice, Form, FormError, Forms, Indicator, IndicatorType, Rule};
pub use period::Period;
pub use sum::{Total, add, merge, total_of};

use httt_wire::report as wire;
use serde::{Deserialize, Serialize};

/// One filed value: a number in the indicator's base unit (pieces, minutes, VND, a year), or text (a choice's code).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FiledValue {
    /// Pieces, minutes, VND or a year.
    Number(i64),
    /// Text, the code of a choice, or languages separated by `, `.
    Text(String),
}

impl FiledValue {
    /// From the wire; none when the value is absent.
    pub fn from_wire(value: wire::Value) -> Option<(String, Self)> {
        let filed = match value.value? {
            wire::value::Value::Number(number) => Self::Number(number),
            wire::value::Value::Text(text) => Self::Text(text),
        };
        Some((value.indicator, filed))
    }
}
