//! Bulletins in the order in which something happened to them, for reactors that keep their place in it.

use std::collections::BTreeSet;
use std::sync::Arc;

use httt_domain::models::{Fact, Model, ReadModel};
use serde::{Deserialize, Serialize};

use super::changed_bulletin;

/// Identifiers, one for each thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Changes(Vec<Arc<str>>);

impl Changes {
    /// The bulletins to which something happened since `cursor`, each once, and where to go on.
    pub(crate) fn since(&self, cursor: usize) -> (BTreeSet<Arc<str>>, usize) {
        let changed = self.0.get(cursor..).unwrap_or_default();
        (changed.iter().cloned().collect(), self.0.len())
    }
}

impl Model for Changes {
    const NAME: &'static str = "changes";
}

impl ReadModel for Changes {
    fn apply(&mut self, fact: &Fact<'_>) {
        self.0.extend(changed_bulletin(fact).map(Arc::from));
    }
}
