//! Administrative areas: the nation, its provinces, (districts until 2025) and communes.
//!
//! An area has a code, a name and a time it is valid for. The nation is written `""` or `VN`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Serialize, Serializer};
use time::Date;
use time::macros::date;

use crate::refusal::{Field, NamedArea, Refusal, quote};

/// The other way of writing the nation, besides the empty code.
pub const NATION: &str = "VN";
/// The day the two-level administration came into force.
pub const REFORM_2025: Date = date!(2025 - 07 - 01);

/// Where an area stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Province or city under the centre.
    Province,
    /// District, until 30 June 2025.
    District,
    /// Commune, ward, township or special zone.
    Commune,
}

/// One area.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Area {
    /// Code of the National Statistics Office; text, with its leading zeros.
    pub code: String,
    /// Its level.
    pub level: Level,
    /// Full name, e.g. `Phường Hải Dương`.
    pub name: String,
    /// Code of the area it belongs to; empty for the nation.
    pub parent: String,
    /// First day it is valid; none when the list does not say.
    #[serde(serialize_with = "as_text")]
    pub valid_from: Option<Date>,
    /// First day it is no longer valid; none while it is in force.
    #[serde(serialize_with = "as_text")]
    pub valid_until: Option<Date>,
}

fn as_text<S: Serializer>(date: &Option<Date>, serializer: S) -> Result<S::Ok, S::Error> {
    date.map(|date| date.to_string()).serialize(serializer)
}

/// A line of an area list that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AreaListError {
    /// Not the four columns, or an unknown level.
    #[error("line {0} of the area list is not code,level,name,parent_code")]
    Line(usize),
    /// The code stands there twice.
    #[error("the area list has the code {0} twice")]
    Twice(String),
    /// The parent is missing.
    #[error("the parent {parent} of area {code} is not in the list")]
    NoParent {
        /// The area.
        code: String,
        /// The missing parent.
        parent: String,
    },
}

/// A list of areas that was in force at one time.
#[derive(Debug, Clone, Default)]
pub struct Areas {
    by_code: BTreeMap<String, Area>,
    children: BTreeMap<String, Vec<String>>,
}

impl Areas {
    /// The areas in force since 1 July 2025.
    pub fn in_force_2025() -> &'static Self {
        static AREAS: LazyLock<Areas> = LazyLock::new(|| {
            Areas::parse(include_str!("../data/areas-2025.csv"), Some(REFORM_2025), None)
                .expect("a test reads the built-in list")
        });
        &AREAS
    }

    /// The areas before 1 July 2025, as of early 2025, with their districts.
    pub fn before_2025() -> &'static Self {
        static AREAS: LazyLock<Areas> = LazyLock::new(|| {
            Areas::parse(include_str!("../data/areas-before-2025.csv"), None, Some(REFORM_2025))
                .expect("a test reads the built-in list")
        });
        &AREAS
    }

    /// Reads `code,level,name,parent_code` with a heading line.
    pub fn parse(csv: &str, valid_from: Option<Date>, valid_until: Option<Date>) -> Result<Self, AreaListError> {
        let mut areas = Self::default();
        for (index, line) in csv.lines().enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
            let bad = || AreaListError::Line(index + 1);
            let mut columns = line.split(',');
            let (Some(code), Some(level), Some(name), Some(parent), None) =
                (columns.next(), columns.next(), columns.next(), columns.next(), columns.next())
            else {
                return Err(bad());
            };
            let level = match level {
                "province" => Level::Province,
                "district" => Level::District,
                "commune" => Level::Commune,
                _ => return Err(bad()),
            };
            if code.is_empty() || name.is_empty() || (level == Level::Province) != parent.is_empty() {
                return Err(bad());
            }
            let area = Area {
                code: code.to_owned(),
                level,
                name: capitalised(name),
                parent: parent.to_owned(),
                valid_from,
                valid_until,
            };
            areas.children.entry(area.parent.clone()).or_default().push(area.code.clone());
            if areas.by_code.insert(area.code.clone(), area).is_some() {
                return Err(AreaListError::Twice(code.to_owned()));
            }
        }
        for area in areas.by_code.values() {
            if !area.parent.is_empty() && !areas.by_code.contains_key(&area.parent) {
                return Err(AreaListError::NoParent { code: area.code.clone(), parent: area.parent.clone() });
            }
        }
        for children in areas.children.values_mut() {
            children.sort();
        }
        Ok(areas)
    }

    /// Whether the code means the whole nation.
    pub fn is_nation(code: &str) -> bool {
        code.is_empty() || code == NATION
    }

    /// The area with this code; none for the nation, which is no entry of the list.
    pub fn get(&self, code: &str) -> Option<&Area> {
        self.by_code.get(code)
    }

    /// Whether the code is the nation or in the list.
    pub fn knows(&self, code: &str) -> bool {
        Self::is_nation(code) || self.by_code.contains_key(code)
    }

    /// All areas, by code.
    pub fn iter(&self) -> impl Iterator<Item = &Area> {
        self.by_code.values()
    }

    /// The areas right below this one, by code.
    pub fn children(&self, code: &str) -> impl Iterator<Item = &Area> {
        let key = if Self::is_nation(code) { "" } else { code };
        self.children.get(key).into_iter().flatten().filter_map(|code| self.by_code.get(code))
    }

    /// The provinces, by code.
    pub fn provinces(&self) -> impl Iterator<Item = &Area> {
        self.children("")
    }

    /// The communes of a province, by code; of the whole nation for `""` and `VN`; the commune itself for a commune.
    pub fn communes_of(&self, code: &str) -> Vec<&Area> {
        if let Some(area) = self.get(code).filter(|area| area.level == Level::Commune) {
            return vec![area];
        }
        let mut found: Vec<&Area> = Vec::new();
        for child in self.children(code) {
            match child.level {
                Level::Commune => found.push(child),
                Level::Province | Level::District => found.extend(self.communes_of(&child.code)),
            }
        }
        found.sort_by(|a, b| a.code.cmp(&b.code));
        found
    }

    /// The province an area lies in; a province lies in itself.
    pub fn province_of(&self, code: &str) -> Option<&Area> {
        let mut area = self.get(code)?;
        while area.level != Level::Province {
            area = self.get(&area.parent)?;
        }
        Some(area)
    }

    /// Whether `other` is `area` or lies in it. Unknown areas are covered by nothing, the nation by nothing but itself.
    pub fn covers(&self, area: &str, other: &str) -> bool {
        if Self::is_nation(area) {
            return self.knows(other);
        }
        let mut at = self.get(other);
        while let Some(here) = at {
            if here.code == area {
                return true;
            }
            at = self.get(&here.parent);
        }
        false
    }

    /// The name on its own; `Cả nước` for the nation, the code itself when unknown.
    pub fn name(&self, code: &str) -> String {
        if Self::is_nation(code) {
            return "Cả nước".into();
        }
        self.get(code).map_or_else(|| code.to_owned(), |area| area.name.clone())
    }

    /// The name with what it lies in: `Phường Hải Dương, Thành phố Hải Phòng`.
    pub fn path_name(&self, code: &str) -> String {
        let mut name = self.name(code);
        let mut at = self.get(code).and_then(|area| self.get(&area.parent));
        while let Some(area) = at {
            name.push_str(", ");
            name.push_str(&area.name);
            at = self.get(&area.parent);
        }
        name
    }

    /// Code and name, for a message.
    pub(crate) fn named(&self, code: &str) -> NamedArea {
        NamedArea { code: code.to_owned(), name: self.name(code) }
    }

    /// That `code` is a commune inside `within`.
    pub(crate) fn check_commune(&self, code: &str, within: &str, field: impl FnOnce() -> Field) -> Result<(), Refusal> {
        match self.get(code) {
            None if code.trim().is_empty() => Err(Refusal::Required { field: field() }),
            None => Err(Refusal::UnknownArea { field: field(), given: quote(code) }),
            Some(area) if area.level != Level::Commune => {
                Err(Refusal::NotACommune { field: field(), area: self.named(code) })
            }
            Some(_) if !self.covers(within, code) => {
                Err(Refusal::AreaOutside { field: field(), area: self.named(code), within: self.path_name(within) })
            }
            Some(_) => Ok(()),
        }
    }
}

fn capitalised(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// How much of an old commune went to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Share {
    /// All of it.
    Whole,
    /// A part; the rest went elsewhere, or the list does not say where.
    Part,
}

/// What became of the communes on one day.
#[derive(Debug, Clone, Default)]
pub struct Successors(BTreeMap<String, Vec<(String, Share)>>);

impl Successors {
    /// Old communes to new ones, 1 July 2025.
    pub fn of_2025() -> &'static Self {
        static SUCCESSORS: LazyLock<Successors> = LazyLock::new(|| {
            let mut map: BTreeMap<String, Vec<(String, Share)>> = BTreeMap::new();
            for line in include_str!("../data/area-successors-2025-07-01.csv").lines().skip(1) {
                let mut columns = line.split(',');
                if let (Some(old), Some(new), Some(share)) = (columns.next(), columns.next(), columns.next()) {
                    let share = if share == "whole" { Share::Whole } else { Share::Part };
                    map.entry(old.to_owned()).or_default().push((new.to_owned(), share));
                }
            }
            Successors(map)
        });
        &SUCCESSORS
    }

    /// The new communes of an old one; empty when the list does not know.
    pub fn of(&self, old: &str) -> &[(String, Share)] {
        self.0.get(old).map_or(&[], Vec::as_slice)
    }

    /// How many old communes the list knows.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_lists_have_the_real_numbers() {
        let now = Areas::in_force_2025();
        assert_eq!(now.provinces().count(), 34);
        assert_eq!(now.communes_of("").len(), 3_321);
        assert_eq!(now.communes_of("31").len(), 114);
        assert_eq!(now.communes_of("VN").len(), 3_321);
        let before = Areas::before_2025();
        assert_eq!(before.provinces().count(), 63);
        assert_eq!(before.iter().filter(|area| area.level == Level::District).count(), 696);
        assert_eq!(before.communes_of("").len(), 10_051);
        assert_eq!(before.province_of("32248").map(|area| area.name.as_str()), Some("Tỉnh Cà Mau"));
    }

    #[test]
    fn the_provinces_in_use_are_who_they_are() {
        let areas = Areas::in_force_2025();
        for (code, name) in [("31", "Thành phố Hải Phòng"), ("19", "Tỉnh Thái Nguyên"), ("66", "Tỉnh Đắk Lắk")]
        {
            assert_eq!(areas.name(code), name);
        }
        assert_eq!(areas.path_name("10525"), "Phường Hải Dương, Thành phố Hải Phòng");
        assert_eq!(areas.path_name(""), "Cả nước");
        assert_eq!(areas.name("06325"), "Xã Bắc Sơn");
    }

    #[test]
    fn a_province_covers_its_communes_and_no_others() {
        let areas = Areas::in_force_2025();
        assert!(areas.covers("", "10525") && areas.covers("VN", "31") && areas.covers("", "VN"));
        assert!(areas.covers("31", "10525") && areas.covers("10525", "10525"));
        assert!(!areas.covers("31", "") && !areas.covers("10525", "31"));
        assert!(!areas.covers("19", "10525") && !areas.covers("31", "99999") && !areas.covers("", "99999"));
        for commune in areas.communes_of("66") {
            assert_eq!(areas.province_of(&commune.code).map(|area| area.code.as_str()), Some("66"));
        }
    }

    #[test]
    fn every_successor_is_in_force() {
        let (successors, areas) = (Successors::of_2025(), Areas::in_force_2025());
        assert!(!successors.is_empty() && successors.len() > 10_000);
        for (old, new) in &successors.0 {
            assert!(new.iter().all(|(code, _)| areas.get(code).is_some()), "{old}");
        }
        assert_eq!(successors.of("00001"), [("00097".to_owned(), Share::Whole)]);
    }

    #[test]
    fn a_broken_list_is_refused() {
        for (csv, expected) in [
            ("h\n1,province,A", AreaListError::Line(2)),
            ("h\n1,village,A,", AreaListError::Line(2)),
            ("h\n1,province,A,\n1,province,B,", AreaListError::Twice("1".into())),
            ("h\n1,commune,A,2", AreaListError::NoParent { code: "1".into(), parent: "2".into() }),
        ] {
            assert_eq!(Areas::parse(csv, None, None).expect_err("broken"), expected);
        }
    }
}
