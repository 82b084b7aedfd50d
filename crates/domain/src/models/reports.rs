//! Filed reports and submitted summaries.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::report::{ReportFiled, SummarySubmitted};
use serde::{Deserialize, Serialize};

use super::{Fact, Model, ReadModel};
use crate::area::{Area, Areas};
use crate::event::Lane;
use crate::report::{FiledValue, Form, Total, add, report_stream, summary_stream};

/// The report that counts: the last one filed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    /// Version of the form it was filed in.
    pub form_version: u32,
    /// Values by indicator, in base units (pieces, minutes, VND).
    pub values: BTreeMap<String, FiledValue>,
    /// The node it came from; corrections come from the same one.
    pub origin: String,
    /// The account that filed it.
    pub filer: String,
    /// Unix milliseconds.
    pub filed_at_ms: i64,
    /// Version of its stream: 1 for the first, more for corrections.
    pub version: u64,
}

/// That a province said it is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// Version of the form.
    pub form_version: u32,
    /// Reports it is made of.
    pub reports: u32,
    /// The node it came from.
    pub origin: String,
    /// The account that submitted it.
    pub actor: String,
    /// Unix milliseconds.
    pub submitted_at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Sheet {
    /// By area.
    filed: BTreeMap<String, Filed>,
    /// By province.
    submitted: BTreeMap<String, Submitted>,
}

/// Reports by form, period and area. Lane `report`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reports {
    /// By form, then by period.
    forms: BTreeMap<String, BTreeMap<String, Sheet>>,
}

impl Reports {
    fn sheet(&self, form: &str, period: &str) -> Option<&Sheet> {
        self.forms.get(form)?.get(period)
    }

    /// The report of one area.
    pub fn get(&self, form: &str, period: &str, area: &str) -> Option<&Filed> {
        self.sheet(form, period)?.filed.get(area)
    }

    /// The reports of the communes of an area, by code.
    pub fn list<'a>(
        &'a self,
        areas: &'a Areas,
        form: &str,
        period: &str,
        area: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Filed)> {
        let all = self.sheet(form, period).into_iter().flat_map(|sheet| &sheet.filed);
        all.filter(move |(code, _)| areas.covers(area, code)).map(|(code, filed)| (code.as_str(), filed))
    }

    /// Who filed, for [`submit_summary`](crate::report::submit_summary).
    pub fn filed(&self, form: &str, period: &str) -> BTreeSet<String> {
        self.sheet(form, period).map(|sheet| sheet.filed.keys().cloned().collect()).unwrap_or_default()
    }

    /// The sums of an area (nation, province, commune), for each indicator of the form that adds up.
    pub fn totals(&self, areas: &Areas, form: &Form, period: &str, area: &str) -> BTreeMap<String, Total> {
        let mut totals = BTreeMap::new();
        add(form, &mut totals, &BTreeMap::new());
        for (_, filed) in self.list(areas, &form.code, period, area) {
            add(form, &mut totals, &filed.values);
        }
        totals
    }

    /// The communes of an area that have not filed, by code.
    pub fn missing<'a>(&self, areas: &'a Areas, form: &str, period: &str, area: &str) -> Vec<&'a Area> {
        let sheet = self.sheet(form, period);
        let mut communes = areas.communes_of(area);
        communes.retain(|commune| !sheet.is_some_and(|sheet| sheet.filed.contains_key(&commune.code)));
        communes
    }

    /// The provinces that submitted their summary, by code.
    pub fn submitted(&self, form: &str, period: &str) -> impl Iterator<Item = (&str, &Submitted)> {
        let all = self.sheet(form, period).into_iter().flat_map(|sheet| &sheet.submitted);
        all.map(|(province, submitted)| (province.as_str(), submitted))
    }

    /// The periods something was filed or submitted for.
    pub fn periods(&self, form: &str) -> impl Iterator<Item = &str> {
        self.forms.get(form).into_iter().flatten().map(|(period, _)| period.as_str())
    }

    fn sheet_mut(&mut self, form: &str, period: &str) -> &mut Sheet {
        self.forms.entry(form.to_owned()).or_default().entry(period.to_owned()).or_default()
    }
}

impl Model for Reports {
    const NAME: &'static str = "reports";
}

impl ReadModel for Reports {
    fn apply(&mut self, fact: &Fact<'_>) {
        if !fact.is_lane(Lane::Report) {
            return;
        }
        if let Some(filed) = fact.read::<ReportFiled>() {
            if fact.stream != report_stream(&filed.form, &filed.period, &filed.area) {
                return;
            }
            let sheet = self.sheet_mut(&filed.form, &filed.period);
            // An area reports through one node; nobody else's correction of it counts.
            if sheet.filed.get(&filed.area).is_some_and(|held| held.origin != fact.origin) {
                return;
            }
            let report = Filed {
                form_version: filed.form_version,
                values: filed.values.into_iter().filter_map(FiledValue::from_wire).collect(),
                origin: fact.origin.to_owned(),
                filer: fact.actor.to_owned(),
                filed_at_ms: fact.occurred_at_ms,
                version: fact.version,
            };
            sheet.filed.insert(filed.area, report);
        } else if let Some(summary) = fact.read::<SummarySubmitted>() {
            if fact.stream != summary_stream(&summary.form, &summary.period) {
                return;
            }
            let sheet = self.sheet_mut(&summary.form, &summary.period);
            if sheet.submitted.get(&summary.area).is_some_and(|held| held.origin != fact.origin) {
                return;
            }
            let submitted = Submitted {
                form_version: summary.form_version,
                reports: summary.reports,
                origin: fact.origin.to_owned(),
                actor: fact.actor.to_owned(),
                submitted_at_ms: fact.occurred_at_ms,
            };
            sheet.submitted.insert(summary.area, submitted);
        }
    }
}
