//! Reporting periods: quarters, as of their last day.

use std::fmt;
use std::str::FromStr;

use time::{Date, Month};

use crate::refusal::{Refusal, quote};

/// First year a period may lie in.
const FIRST_YEAR: i32 = 2000;
/// Last year a period may lie in.
const LAST_YEAR: i32 = 2100;

/// A quarter of a year, written `2026-Q3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    year: i32,
    quarter: u8,
}

impl Period {
    /// The quarter 1 to 4 of a year from 2000 to 2100.
    pub fn new(year: i32, quarter: u8) -> Option<Self> {
        ((FIRST_YEAR..=LAST_YEAR).contains(&year) && (1..=4).contains(&quarter)).then_some(Self { year, quarter })
    }

    /// The period a day lies in.
    pub fn of(day: Date) -> Option<Self> {
        Self::new(day.year(), (u8::from(day.month()) - 1) / 3 + 1)
    }

    /// The year.
    pub fn year(self) -> i32 {
        self.year
    }

    /// The quarter, 1 to 4.
    pub fn quarter(self) -> u8 {
        self.quarter
    }

    /// The first day.
    pub fn first_day(self) -> Date {
        let month = [Month::January, Month::April, Month::July, Month::October][usize::from(self.quarter - 1)];
        // Years 2000 to 2100 and the first of a month: there is always such a day.
        Date::from_calendar_date(self.year, month, 1).unwrap_or(Date::MIN)
    }

    /// The last day, as of which figures are given: 31/3, 30/6, 30/9 or 31/12.
    pub fn as_of(self) -> Date {
        let (month, day) = [(Month::March, 31), (Month::June, 30), (Month::September, 30), (Month::December, 31)]
            [usize::from(self.quarter - 1)];
        Date::from_calendar_date(self.year, month, day).unwrap_or(Date::MIN)
    }

    /// Its days, 90 to 92.
    pub fn days(self) -> i64 {
        (self.as_of() - self.first_day()).whole_days() + 1
    }

    /// Its hours.
    pub fn hours(self) -> i64 {
        self.days() * 24
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-Q{}", self.year, self.quarter)
    }
}

impl FromStr for Period {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let parse = || {
            let (year, quarter) = text.split_once("-Q")?;
            let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            if year.len() != 4 || quarter.len() != 1 || !plain(year) || !plain(quarter) {
                return None;
            }
            Self::new(year.parse().ok()?, quarter.parse().ok()?)
        };
        parse().ok_or_else(|| Refusal::UnknownPeriod { given: quote(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_has_its_real_days() {
        for (text, days, as_of) in [
            ("2026-Q1", 90, "2026-03-31"),
            ("2028-Q1", 91, "2028-03-31"),
            ("2026-Q2", 91, "2026-06-30"),
            ("2026-Q3", 92, "2026-09-30"),
            ("2026-Q4", 92, "2026-12-31"),
        ] {
            let period: Period = text.parse().expect("period");
            assert_eq!((period.days(), period.as_of().to_string().as_str()), (days, as_of));
            assert_eq!(period.to_string(), text);
            assert_eq!(Period::of(period.as_of()), Some(period));
        }
    }

    #[test]
    fn other_texts_are_no_period() {
        for text in ["", "2026", "2026-Q0", "2026-Q5", "2026Q3", "26-Q3", "+026-Q3", "2026-q3", "1999-Q1", "2026-Q33"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
