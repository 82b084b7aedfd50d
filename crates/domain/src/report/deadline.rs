//! Deadlines, per period and group of provinces. Data: offices set them anew each year.

use std::collections::BTreeMap;

use time::Date;
use time::format_description::well_known::Iso8601;

use super::Period;
use crate::area::Areas;

/// By when each province has to have reported.
#[derive(Debug, Clone, Default)]
pub struct Deadlines(BTreeMap<(Period, String), Date>);

impl Deadlines {
    /// The six groups of 2022 (dispatch 190/TTCS-TT), by the province names of then.
    pub fn of_2022() -> Self {
        Self::parse(include_str!("../../data/reporting-deadlines-2022.csv"))
    }

    /// Reads `group,province_name,period,as_of,due_before` with a heading line; lines of another shape are left out.
    pub fn parse(csv: &str) -> Self {
        let row = |line: &str| {
            let columns: Vec<&str> = line.split(',').collect();
            let [_, province, period, _, due] = columns.as_slice() else { return None };
            Some(((period.parse().ok()?, province_key(province)), Date::parse(due, &Iso8601::DATE).ok()?))
        };
        Self(csv.lines().skip(1).filter_map(row).collect())
    }

    /// The first day that is too late, for a province by its full or short name.
    pub fn due_before(&self, province: &str, period: Period) -> Option<Date> {
        self.0.get(&(period, province_key(province))).copied()
    }

    /// Whether a report of that day is late. Never, when no deadline is set.
    pub fn is_late(&self, areas: &Areas, province: &str, period: Period, day: Date) -> bool {
        self.due_before(&areas.name(province), period).is_some_and(|due| day >= due)
    }

    /// How many deadlines are set.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Lists write `Hòa Bình` and `Hoà Bình`, `Thừa Thiên Huế` and `Thành phố Huế`.
fn province_key(name: &str) -> String {
    let name = name.trim();
    let short = ["Thành phố ", "Tỉnh "].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    match short {
        "Hoà Bình" => "Hòa Bình".into(),
        "Thừa Thiên Huế" => "Huế".into(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::date;

    #[test]
    fn the_deadlines_of_2022_cover_every_province_of_then() {
        let (deadlines, areas) = (Deadlines::of_2022(), Areas::before_2025());
        assert_eq!(deadlines.len(), 252);
        let period = Period::new(2022, 1).expect("period");
        for province in areas.provinces() {
            assert!(deadlines.due_before(&province.name, period).is_some(), "{}", province.name);
        }
        let ha_giang = areas.provinces().find(|area| area.name == "Tỉnh Hà Giang").expect("there");
        assert!(!deadlines.is_late(areas, &ha_giang.code, period, date!(2022 - 04 - 09)));
        assert!(deadlines.is_late(areas, &ha_giang.code, period, date!(2022 - 04 - 10)));
    }
}
