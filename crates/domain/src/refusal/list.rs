//! Refusals as callers get them: several at once, and as JSON.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

use super::{Field, Refusal, Unit};

/// A refusal as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalForm {
    /// Stable name for programs.
    pub code: String,
    /// JSON path of the field; empty for the command as a whole.
    pub field: String,
    /// Vietnamese message.
    pub vi: String,
    /// English message.
    pub en: String,
}

impl Serialize for Refusal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_form().serialize(serializer)
    }
}

/// All mistakes of one command at once, so that a person corrects a form in one go. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Refusals(pub Vec<Refusal>);

impl Refusals {
    /// `Ok` when there is nothing to refuse.
    pub fn unless_empty(list: Vec<Refusal>) -> Result<(), Self> {
        if list.is_empty() { Ok(()) } else { Err(Self(list)) }
    }

    /// The refusals.
    pub fn iter(&self) -> std::slice::Iter<'_, Refusal> {
        self.0.iter()
    }

    /// All Vietnamese messages, one a line.
    pub fn vi(&self) -> String {
        self.0.iter().map(Refusal::vi).collect::<Vec<_>>().join("\n")
    }

    /// Whether one of them has this code.
    pub fn has(&self, code: &str) -> bool {
        self.0.iter().any(|refusal| refusal.code() == code)
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Self(vec![refusal])
    }
}

impl fmt::Display for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, refusal) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            refusal.fmt(f)?;
        }
        Ok(())
    }
}

/// Shortens what somebody typed before it is quoted back.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() <= LONGEST { text.to_owned() } else { text.chars().take(LONGEST).chain(['…']).collect() }
}

/// `Required` or `TooLong` for a text with a limit in characters.
pub(crate) fn check_text(
    list: &mut Vec<Refusal>,
    text: &str,
    required: bool,
    max: usize,
    field: impl FnOnce() -> Field,
) {
    let given = text.chars().count();
    if given > max {
        list.push(Refusal::TooLong { field: field(), given, max, unit: Unit::Characters });
    } else if required && text.trim().is_empty() {
        list.push(Refusal::Required { field: field() });
    }
}
