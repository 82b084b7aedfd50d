//! A commune's quarterly figures: right ones, and one wrong one for each mistake a district named in 2023.

use serde_json::{Value, json};
use time::Date;

/// The form that is filed.
pub(crate) const FORM: &str = "commune-station";

/// The last quarter that has ended, `2026-Q3`.
pub(crate) fn last_quarter(today: Date) -> String {
    let quarter = u8::from(today.month()).div_ceil(3);
    match quarter {
        1 => format!("{}-Q4", today.year() - 1),
        _ => format!("{}-Q{}", today.year(), quarter - 1),
    }
}

/// Figures that add up, a little different for each commune.
pub(crate) fn right(index: usize) -> Value {
    let clusters = 12 + index % 40;
    let broken = index % 4;
    let villages = 6 + index % 9;
    let without = index % 3;
    json!({
        "station_kind": "it",
        "stations": 1,
        "investment_year": 2021,
        "clusters_all": clusters,
        "clusters_working": clusters - broken,
        "clusters_broken": broken,
        "horns": clusters * 2,
        "villages_all": villages,
        "villages_with": villages - without,
        "villages_without": without,
        "hours_own": 45.5,
        "hours_on_air": 270,
        "hours_relayed_central": 90,
        "hours_relayed_province": 60.25,
        "hours_relayed_other": 0,
        "languages": "vi",
        "staff": 2,
        "staff_part_time": 1,
        "operating_cost": 36_000_000 + index,
        "investment": 250_000_000,
        "notice_boards": index % 2,
    })
}

/// A mistake: what is typed instead, and the code and field of the refusal that must come back.
pub(crate) struct Mistake {
    pub(crate) typed: Value,
    pub(crate) code: &'static str,
    pub(crate) field: &'static str,
    /// What the form calls the field; the Vietnamese message must say it.
    pub(crate) label: &'static str,
}

/// One for each mistake.
pub(crate) fn mistakes() -> Vec<Mistake> {
    let with = |changes: Value, code, field, label| {
        let mut typed = right(0);
        for (name, value) in changes.as_object().into_iter().flatten() {
            typed[name] = value.clone();
        }
        Mistake { typed, code, field, label }
    };
    vec![
        with(json!({ "stations": 3 }), "stations-wrong", "values.stations", "Số đài truyền thanh"),
        with(
            json!({ "villages_with": 9 }),
            "villages-do-not-add-up",
            "values.villages_all",
            "Tổng số thôn, tổ dân phố",
        ),
        with(json!({ "operating_cost": 36 }), "operating-cost-unit", "values.operating_cost", "Kinh phí hoạt động"),
        with(
            json!({ "hours_on_air": 9_000 }),
            "more-hours-than-quarter",
            "values.hours_on_air",
            "Thời lượng phát sóng",
        ),
        with(
            json!({ "hours_own": 280, "hours_on_air": 270 }),
            "own-longer-than-air",
            "values.hours_own",
            "Thời lượng chương trình tự sản xuất",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn the_quarter_before_this_one() {
        for (today, quarter) in [
            (date!(2026 - 11 - 22), "2026-Q3"),
            (date!(2026 - 10 - 01), "2026-Q3"),
            (date!(2026 - 09 - 30), "2026-Q2"),
            (date!(2027 - 01 - 01), "2026-Q4"),
        ] {
            assert_eq!(last_quarter(today), quarter);
        }
    }
}
