//! Sets of clusters, in memory and on the wire.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a list of differences is no list of clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// A difference of zero names a cluster twice, or the ordinal 0, which nobody has.
    #[error("a difference is zero")]
    Zero,
    /// The differences add up to more than an ordinal can be.
    #[error("the differences add up to more than 32 bits")]
    Overflow,
}

/// Ordinals as differences, each to the one before, the first to 0. Input in any order; repeats and the ordinal 0 are
/// left out.
pub fn encode_deltas(ordinals: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let set: std::collections::BTreeSet<u32> = ordinals.into_iter().filter(|ordinal| *ordinal != 0).collect();
    let mut before = 0;
    set.into_iter().map(|ordinal| ordinal - std::mem::replace(&mut before, ordinal)).collect()
}

/// The ordinals behind differences, ascending.
pub fn decode_deltas(deltas: &[u32]) -> Result<Vec<u32>, DeltaError> {
    let mut at = 0_u32;
    let mut step = |delta: &u32| {
        if *delta == 0 {
            return Err(DeltaError::Zero);
        }
        at = at.checked_add(*delta).ok_or(DeltaError::Overflow)?;
        Ok(at)
    };
    deltas.iter().map(&mut step).collect()
}

/// A set of ordinals kept as runs: a province where every cluster played takes one entry, not ten thousand.
/// The runs are maximal, so equal sets are equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrdinalSet {
    /// First of a run to last of it.
    runs: BTreeMap<u32, u32>,
}

impl OrdinalSet {
    /// Adds one; whether it was new.
    pub fn insert(&mut self, ordinal: u32) -> bool {
        let before = self.runs.range(..=ordinal).next_back().map(|(first, last)| (*first, *last));
        if before.is_some_and(|(_, last)| last >= ordinal) {
            return false;
        }
        let first = match before {
            // `last < ordinal`, so this cannot overflow.
            Some((first, last)) if last + 1 == ordinal => first,
            _ => ordinal,
        };
        let last = ordinal.checked_add(1).and_then(|next| self.runs.remove(&next)).unwrap_or(ordinal);
        self.runs.insert(first, last);
        true
    }

    /// Whether it is in.
    pub fn contains(&self, ordinal: u32) -> bool {
        self.runs.range(..=ordinal).next_back().is_some_and(|(_, last)| *last >= ordinal)
    }

    /// How many.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// All of them, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().flat_map(|(first, last)| *first..=*last)
    }
}

impl FromIterator<u32> for OrdinalSet {
    fn from_iter<I: IntoIterator<Item = u32>>(ordinals: I) -> Self {
        let mut set = Self::default();
        for ordinal in ordinals {
            set.insert(ordinal);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn zero_and_overflow_are_refused() {
        assert_eq!(decode_deltas(&[1, 0]), Err(DeltaError::Zero));
        assert_eq!(decode_deltas(&[0]), Err(DeltaError::Zero));
        assert_eq!(decode_deltas(&[u32::MAX, 1]), Err(DeltaError::Overflow));
        assert_eq!(decode_deltas(&[u32::MAX]), Ok(vec![u32::MAX]));
        assert_eq!(decode_deltas(&[]), Ok(vec![]));
    }

    proptest! {
        #[test]
        fn differences_read_back(ordinals in prop::collection::btree_set(1_u32.., 0..200)) {
            let deltas = encode_deltas(ordinals.iter().copied());
            prop_assert_eq!(decode_deltas(&deltas), Ok(ordinals.into_iter().collect::<Vec<_>>()));
        }

        #[test]
        fn any_differences_are_refused_or_ascending(deltas in prop::collection::vec(any::<u32>(), 0..20)) {
            if let Ok(ordinals) = decode_deltas(&deltas) {
                prop_assert!(ordinals.is_sorted_by(|a, b| a < b));
                prop_assert_eq!(encode_deltas(ordinals), deltas);
            }
        }

        #[test]
        fn a_set_of_runs_is_a_set(ordinals in prop::collection::vec(prop_oneof![0_u32..40, (u32::MAX - 5)..=u32::MAX], 0..80)) {
            let plain: BTreeSet<u32> = ordinals.iter().copied().collect();
            let runs: OrdinalSet = ordinals.iter().copied().collect();
            prop_assert_eq!(runs.len(), plain.len() as u64);
            prop_assert!(runs.iter().eq(plain.iter().copied()));
            prop_assert!(plain.iter().all(|ordinal| runs.contains(*ordinal)));
            // However it came about, the same set is the same value.
            prop_assert_eq!(&runs, &plain.into_iter().collect::<OrdinalSet>());
        }
    }
}
