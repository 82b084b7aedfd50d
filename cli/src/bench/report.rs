//! The figures, as tables for people and as one JSON object.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// Median, lowest and highest over the rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one value.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Self { median, min, max })
    }

    pub(crate) fn to_json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// A number a person reads at a glance: 1 234 567 as `1,234,567`, small ones with two decimals.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

struct Table {
    title: String,
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

/// What was measured so far.
pub(crate) struct Report {
    json: Map<String, Value>,
    tables: Vec<Table>,
}

impl Report {
    /// Begins with what the run is about.
    pub(crate) fn new(about: Value) -> Self {
        let json = match about {
            Value::Object(map) => map,
            other => Map::from_iter([("about".to_owned(), other)]),
        };
        Self { json, tables: Vec::new() }
    }

    /// Adds a part: its JSON, and its table of rows as wide as `head`, the first column words, the rest figures.
    pub(crate) fn part(
        &mut self,
        name: &str,
        json: Value,
        title: impl Into<String>,
        head: &[&'static str],
        rows: Vec<Vec<String>>,
        notes: Vec<String>,
    ) {
        self.json.insert(name.to_owned(), json);
        self.tables.push(Table { title: title.into(), head: head.to_vec(), rows, notes });
    }

    pub(crate) fn to_json(&self) -> Value {
        Value::Object(self.json.clone())
    }

    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let width = |column: usize| {
                let cells = table.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
                cells.max().unwrap_or(0).max(table.head[column].chars().count())
            };
            let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
            let line = |cells: &mut dyn Iterator<Item = &str>| {
                let cells = cells.zip(&widths).enumerate().map(|(n, (cell, width))| {
                    if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
                });
                cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "\n{}\n{}", table.title, line(&mut table.head.iter().copied()));
            for row in &table.rows {
                let _ = writeln!(text, "{}", line(&mut row.iter().map(String::as_str)));
            }
            for note in &table.notes {
                let _ = writeln!(text, "  {note}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_numbers() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).expect("values");
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).map(|spread| spread.median), Some(1.5));
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(number(1_234_567.4), "1,234,567");
        assert_eq!((number(999.6), number(0.5), number(-1000.0)), ("1,000".into(), "0.50".into(), "-1,000".into()));
    }
}
