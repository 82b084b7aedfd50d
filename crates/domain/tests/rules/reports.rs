use std::collections::{BTreeMap, BTreeSet};

use httt_domain::Refusals;
use httt_domain::area::Areas;
use httt_domain::report::{
    FiledValue, Filing, Form, FormError, Forms, Period, Total, add, check, check_period_ended, merge, submit_summary,
};
use httt_wire::report::{ReportFiled, value::Value as Wire};
use proptest::prelude::*;
use serde_json::{Value, json};
use time::macros::date;

pub(crate) fn form() -> &'static Form {
    Forms::built_in().get("commune-station", 1).expect("built in")
}

/// A report without a mistake.
pub(crate) fn good() -> BTreeMap<String, Value> {
    let values = json!({
        "station_kind": "it", "stations": 1, "investment_year": 2024,
        "clusters_all": 12, "clusters_working": 10, "clusters_broken": 2, "horns": "24",
        "villages_all": 9, "villages_with": 7, "villages_without": 2,
        "hours_own": "45,5", "hours_on_air": 180, "hours_relayed_central": 60.25, "hours_relayed_province": 40,
        "languages": ["vi", "tyz"], "staff": 3, "staff_part_time": 2,
        "operating_cost": "12.500.000", "investment": 0, "notice_boards": 1,
    });
    values.as_object().expect("object").clone().into_iter().collect()
}

pub(crate) fn file(input: &BTreeMap<String, Value>) -> Result<ReportFiled, Refusals> {
    file_for(input, "2026-Q3", "10525")
}

fn file_for(input: &BTreeMap<String, Value>, period: &str, area: &str) -> Result<ReportFiled, Refusals> {
    check(form(), &Filing { areas: Areas::in_force_2025(), within: "31", period, area, input })
}

fn with(changes: &[(&str, Value)]) -> BTreeMap<String, Value> {
    let mut input = good();
    for (code, value) in changes {
        input.insert((*code).to_owned(), value.clone());
    }
    input
}

fn number(filed: &ReportFiled, code: &str) -> Option<i64> {
    filed.values.iter().find(|value| value.indicator == code).and_then(|value| match &value.value {
        Some(Wire::Number(number)) => Some(*number),
        _ => None,
    })
}

#[test]
fn a_good_report_is_filed_in_base_units() {
    let filed = file(&good()).expect("good");
    assert_eq!((filed.form.as_str(), filed.form_version, filed.area.as_str()), ("commune-station", 1, "10525"));
    assert_eq!(number(&filed, "hours_own"), Some(45 * 60 + 30));
    assert_eq!(number(&filed, "hours_relayed_central"), Some(60 * 60 + 15));
    assert_eq!(number(&filed, "operating_cost"), Some(12_500_000));
    assert_eq!(number(&filed, "hours_relayed_other"), None);
    let order: Vec<_> = filed.values.iter().map(|value| value.indicator.as_str()).collect();
    assert_eq!(&order[..3], ["station_kind", "stations", "investment_year"]);
}

#[test]
fn a_commune_without_a_station_reports_too() {
    let input = with(&[("station_kind", json!("none")), ("stations", json!(0)), ("investment_year", json!(null))]);
    assert!(file(&input).is_ok());
}

/// What is typed differently, and the code, field and words of the refusal.
type Mistake<'a> = (&'a [(&'a str, Value)], &'a str, &'a str, &'a [&'a str]);

/// The mistakes a district named in 2023, each caught with its own code, at its field, in words that say what is wrong.
#[test]
fn each_known_mistake_is_caught_where_it_is() {
    let cases: &[Mistake<'_>] = &[
        (
            &[("stations", json!(3))],
            "stations-wrong",
            "values.stations",
            &["“Số đài truyền thanh”", "đã nhập 3", "0 hoặc 1"],
        ),
        (&[("stations", json!(0))], "stations-do-not-match-kind", "values.stations", &["Ứng dụng CNTT-VT", "là 0"]),
        (&[("station_kind", json!("none"))], "stations-do-not-match-kind", "values.stations", &["Không có đài"]),
        (&[("investment_year", json!(""))], "investment-year-missing", "values.investment_year", &["“Năm đầu tư”"]),
        (
            &[("investment_year", json!(2027))],
            "investment-year-in-future",
            "values.investment_year",
            &["2027", "2026-Q3"],
        ),
        (
            &[("clusters_broken", json!(3))],
            "clusters-do-not-add-up",
            "values.clusters_all",
            &["“Tổng số cụm loa” là 12", "bằng 13"],
        ),
        (
            &[("villages_without", json!(1))],
            "villages-do-not-add-up",
            "values.villages_all",
            &["“Tổng số thôn, tổ dân phố” là 9", "7 cộng chưa có loa 1 bằng 8"],
        ),
        (
            &[("operating_cost", json!("12,5"))],
            "too-many-decimals",
            "values.operating_cost",
            &["“Kinh phí hoạt động (đồng)”", "số nguyên"],
        ),
        (
            &[("operating_cost", json!(125))],
            "operating-cost-unit",
            "values.operating_cost",
            &["“Kinh phí hoạt động (đồng)”", "125 đồng", "không phải triệu đồng", "1.000.000"],
        ),
        (
            &[("operating_cost", json!(12_500_000_000_000_i64))],
            "operating-cost-unit",
            "values.operating_cost",
            &["5.000.000.000"],
        ),
        (&[("investment", json!(850))], "investment-unit", "values.investment", &["“Kinh phí đầu tư (đồng)”"]),
        (
            &[("hours_on_air", json!(-1))],
            "negative",
            "values.hours_on_air",
            &["“Thời lượng phát sóng (giờ)”", "số âm “-1”"],
        ),
        (&[("hours_on_air", json!("3 giờ"))], "not-a-number", "values.hours_on_air", &["“3 giờ” không phải là số"]),
        (
            &[("hours_on_air", json!("180,125"))],
            "too-many-decimals",
            "values.hours_on_air",
            &["quá 2 chữ số thập phân"],
        ),
        (
            &[("hours_on_air", json!("2208,01"))],
            "more-hours-than-quarter",
            "values.hours_on_air",
            &["2.208,01 giờ", "2026-Q3 chỉ có 2.208 giờ"],
        ),
        (
            &[("hours_own", json!(181)), ("hours_relayed_central", json!(0)), ("hours_relayed_province", json!(0))],
            "own-longer-than-air",
            "values.hours_own",
            &["“Thời lượng chương trình tự sản xuất (giờ)”", "181 giờ", "180 giờ"],
        ),
        (
            &[("hours_relayed_other", json!("34,26"))],
            "programmes-longer-than-air",
            "values.hours_on_air",
            &["là 180 giờ", "180,01 giờ"],
        ),
        (
            &[("staff_part_time", json!(4))],
            "part-time-more-than-staff",
            "values.staff_part_time",
            &["4 người", "3 người"],
        ),
        (
            &[("villages_all", json!(null))],
            "required",
            "values.villages_all",
            &["“Tổng số thôn, tổ dân phố” chưa có dữ liệu"],
        ),
        (&[("villages_all", json!([]))], "not-a-number", "values.villages_all", &["“Tổng số thôn, tổ dân phố”"]),
        (&[("horns", json!(1e30))], "not-a-number", "values.horns", &["“Số loa”"]),
        (&[("horns", json!("99999999999999999999"))], "out-of-range", "values.horns", &["từ 0 đến 20.000"]),
        (&[("horns", json!(20_001))], "out-of-range", "values.horns", &["“20001”"]),
        (&[("station_kind", json!("radio"))], "not-a-choice", "values.station_kind", &["Có dây, Không dây FM"]),
        (&[("languages", json!(true))], "malformed", "values.languages", &["“Ngôn ngữ phát thanh”"]),
        (&[("loa_phuong", json!(1))], "unknown-indicator", "values", &["không có chỉ tiêu “loa_phuong”"]),
    ];
    for (changes, code, field, words) in cases {
        let refusals = file(&with(changes)).expect_err(code);
        let [refusal] = refusals.0.as_slice() else { panic!("{code}: one mistake, not\n{}", refusals.vi()) };
        assert_eq!((refusal.code(), refusal.field()), (*code, *field), "{}", refusal.vi());
        for word in *words {
            assert!(refusal.vi().contains(word), "{code}: “{word}” not in: {}", refusal.vi());
        }
        assert!(!refusal.en().contains('{') && !refusal.vi().contains('{'), "{}", refusal.en());
    }
}

#[test]
fn area_and_period_are_checked() {
    for (period, area, code, field, words) in [
        ("2026-Q5", "10525", "unknown-period", "period", "“2026-Q5”"),
        ("2025-Q2", "10525", "form-not-in-force", "period", "2025-Q2"),
        ("2026-Q3", "99999", "unknown-area", "area", "99999"),
        ("2026-Q3", "31", "not-a-commune", "area", "Thành phố Hải Phòng"),
        ("2026-Q3", "22015", "area-outside", "area", "Phường Tuy Hòa"),
        ("2026-Q3", "", "required", "area", "“Đơn vị báo cáo”"),
    ] {
        let refusals = file_for(&good(), period, area).expect_err(code);
        assert_eq!((refusals.0[0].code(), refusals.0[0].field()), (code, field));
        assert!(refusals.vi().contains(words), "{}", refusals.vi());
    }
    assert!(file_for(&good(), "2025-Q3", "10525").is_ok());
}

#[test]
fn a_quarter_is_reported_once_it_has_ended() {
    let period = |text: &str| text.parse::<Period>().expect("period");
    for (text, today) in [
        ("2026-Q3", date!(2026 - 10 - 01)),
        ("2026-Q3", date!(2027 - 02 - 01)),
        ("2025-Q4", date!(2026 - 01 - 01)),
        ("2100-Q4", date!(2101 - 01 - 01)),
    ] {
        assert_eq!(check_period_ended(period(text), today), Ok(()), "{text} on {today}");
    }
    let refusal = check_period_ended(period("2026-Q3"), date!(2026 - 09 - 30)).expect_err("its last day");
    assert_eq!((refusal.code(), refusal.field()), ("period-not-ended", "period"));
    assert_eq!(
        refusal.vi(),
        "Kỳ báo cáo 2026-Q3 chưa kết thúc nên chưa nộp được báo cáo. Đề nghị nộp từ ngày 01/10/2026."
    );
    assert_eq!(refusal.en(), "The period 2026-Q3 has not ended. Please file its report from 2026-10-01 on.");
    let refusal = check_period_ended(period("2026-Q4"), date!(2026 - 05 - 05)).expect_err("far ahead");
    assert!(refusal.vi().contains("từ ngày 01/01/2027"), "{}", refusal.vi());
}

#[test]
fn all_mistakes_of_a_form_come_at_once() {
    let input = with(&[("villages_all", json!(10)), ("operating_cost", json!(12)), ("hours_on_air", json!("nhiều"))]);
    let refusals = file(&input).expect_err("three");
    let codes: Vec<_> = refusals.iter().map(|refusal| refusal.code().to_owned()).collect();
    // The checks that look at the unreadable hours stay quiet: they would only say nonsense.
    assert_eq!(codes, ["not-a-number", "villages-do-not-add-up", "operating-cost-unit"]);
}

#[test]
fn a_summary_names_who_is_missing() {
    let areas = Areas::in_force_2025();
    let expected: BTreeSet<String> = areas.communes_of("31").iter().map(|area| area.code.clone()).collect();
    let filed: BTreeSet<String> = expected.iter().skip(12).cloned().collect();
    let refusals = submit_summary(form(), areas, "2026-Q3", "31", &expected, &filed).expect_err("12 missing");
    let vi = refusals.vi();
    assert!(refusals.has("not-all-filed") && vi.contains("Còn 12 đơn vị cấp xã"), "{vi}");
    assert!(vi.contains("Phường Thành Đông (10507)") && vi.contains("và 2 đơn vị khác"), "{vi}");
    assert_eq!(vi.matches("(1").count(), 10, "{vi}");
    let summary = submit_summary(form(), areas, "2026-Q3", "31", &expected, &expected).expect("complete");
    assert_eq!((summary.reports, summary.area.as_str()), (114, "31"));
    for (period, province, code) in
        [("2026", "31", "unknown-period"), ("2026-Q3", "10525", "unknown-area"), ("2026-Q3", "19", "area-outside")]
    {
        let refusals = submit_summary(form(), areas, period, province, &expected, &expected).expect_err(code);
        assert!(refusals.has(code), "{refusals}");
    }
}

#[test]
fn the_built_in_forms_hold_together() {
    for form in Forms::built_in().iter() {
        // Parsing refuses checks and messages that name indicators the form does not have.
        let again = toml_of(form);
        assert_eq!(&Form::parse(&again).expect("reads back"), form);
        for indicator in &form.indicators {
            assert!(!indicator.vi.is_empty() && !indicator.en.is_empty(), "{}", indicator.code);
        }
        for check in &form.checks {
            // The message names the label of the field it stands at.
            let label = &form.indicator(&check.indicator).expect("known").vi;
            assert!(check.vi.contains(&format!("“{label}”")), "{}: {}", check.code, check.vi);
        }
    }
    let period: Period = "2026-Q3".parse().expect("period");
    assert_eq!(Forms::built_in().in_force("commune-station", period).map(|form| form.version), Some(1));
    assert!(Forms::built_in().in_force("commune-station", "2024-Q4".parse().expect("period")).is_none());
}

fn toml_of(form: &Form) -> String {
    toml::to_string(form).expect("toml")
}

#[test]
fn a_form_that_contradicts_itself_is_refused() {
    let good = toml_of(form());
    for (from, to) in [
        ("parts = [\"villages_with\", ", "parts = [\"villages_mit\", "),
        ("right = \"staff\"", "right = \"languages\""),
        ("{villages_with}", "{villages_mit}"),
        ("value = \"none\"", "value = \"nothing\""),
        ("unless = [\"stations-wrong\"]", "unless = [\"nobody\"]"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = Form::parse(&good.replacen(from, to, 1)).expect_err(to);
        assert!(matches!(error, FormError::UnknownName { .. }), "{error}");
    }
    assert!(matches!(Form::parse("code = 1"), Err(FormError::Unreadable(_))));
    let date = good.replacen("2025-07-01", "01/07/2025", 1);
    assert!(matches!(Form::parse(&date), Err(FormError::Date(_))));
}

#[test]
fn values_are_shown_as_people_read_them() {
    let show = |code: &str, value| form().indicator(code).expect("known").show_vi(&value);
    assert_eq!(show("hours_own", FiledValue::Number(45 * 60 + 30)), "45,5");
    assert_eq!(show("operating_cost", FiledValue::Number(1_012_500_000)), "1.012,5");
    assert_eq!(show("station_kind", FiledValue::Text("fm".into())), "Không dây FM");
    assert_eq!(show("investment_year", FiledValue::Number(2024)), "2024");
}

pub(crate) fn values(filed: ReportFiled) -> BTreeMap<String, FiledValue> {
    filed.values.into_iter().filter_map(FiledValue::from_wire).collect()
}

#[test]
fn many_reports_add_up() {
    let mut totals = BTreeMap::new();
    for _ in 0..3 {
        add(form(), &mut totals, &values(file(&good()).expect("good")));
    }
    assert_eq!(totals["clusters_all"], Total::Sum(36));
    assert_eq!(totals["hours_own"], Total::Sum(3 * 2_730));
    assert_eq!(totals["station_kind"], Total::Counts([("it".to_owned(), 3)].into()));
    assert_eq!(totals["languages"], Total::Counts([("tyz".to_owned(), 3), ("vi".to_owned(), 3)].into()));
    let mut nation = totals.clone();
    merge(&mut nation, &totals);
    assert_eq!((nation["clusters_all"].clone(), nation["stations"].clone()), (Total::Sum(72), Total::Sum(6)));
}

proptest! {
    /// Clusters and villages are filed exactly when they add up.
    #[test]
    fn sums_are_held(all in 1_i64..40, with_speakers in 0_i64..40, without in 0_i64..40, working in 0_i64..40, broken in 0_i64..40) {
        let input = with(&[
            ("villages_all", json!(all)), ("villages_with", json!(with_speakers)), ("villages_without", json!(without)),
            ("clusters_all", json!(all)), ("clusters_working", json!(working)), ("clusters_broken", json!(broken)),
        ]);
        let refusals = file(&input).err().unwrap_or(Refusals(vec![]));
        prop_assert_eq!(refusals.has("villages-do-not-add-up"), with_speakers + without != all);
        prop_assert_eq!(refusals.has("clusters-do-not-add-up"), working + broken != all);
    }

    /// Hours typed in hundredths never fail for their rounding to minutes.
    #[test]
    fn hours_are_compared_as_typed(own in 0_i64..5_000, central in 0_i64..5_000, province in 0_i64..5_000, spare in 0_i64..3) {
        let typed = |hundredths: i64| json!(format!("{},{:02}", hundredths / 100, hundredths % 100));
        let air = own + central + province + spare;
        let input = |air| with(&[
            ("hours_own", typed(own)), ("hours_relayed_central", typed(central)),
            ("hours_relayed_province", typed(province)), ("hours_on_air", typed(air)),
        ]);
        prop_assert!(file(&input(air)).is_ok());
        prop_assume!(own + central + province > 0);
        prop_assert!(file(&input(own + central + province - 1)).is_err());
    }

    #[test]
    fn no_input_panics(code in prop::sample::select(good().into_keys().collect::<Vec<_>>()), text in ".{0,30}", number in any::<i64>(), float in any::<f64>()) {
        for value in [json!(text), json!(number), json!(float), json!(number.to_string())] {
            if let Err(refusals) = file(&with(&[(&code, value)])) {
                prop_assert!(refusals.iter().all(|refusal| !refusal.vi().is_empty() && !refusal.code().is_empty()));
            }
        }
    }
}
