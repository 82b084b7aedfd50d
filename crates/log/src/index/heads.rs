//! The newest spans of streams looked for lately, so that appending to a stream does not search the runs each time.

use super::hash::{HashedMap, StreamHash};
use super::run::Span;

/// Streams kept; once as many more were looked for, those not looked for again are dropped.
const KEPT: usize = 16_384;

/// A cache in two generations.
#[derive(Debug, Default)]
pub(crate) struct NewestSpans {
    young: HashedMap<StreamHash, Span>,
    old: HashedMap<StreamHash, Span>,
    /// Counts the calls of [`NewestSpans::refresh`].
    refreshed: u64,
}

impl NewestSpans {
    /// To be given to [`NewestSpans::learn`] with what was found after this.
    pub(crate) fn refreshed(&self) -> u64 {
        self.refreshed
    }

    /// Takes what a search of the runs found, unless what is newest may have changed since the search began.
    pub(crate) fn learn(&mut self, since: u64, hash: StreamHash, span: Span) {
        if since == self.refreshed {
            self.insert(hash, span);
        }
    }

    pub(crate) fn get(&mut self, hash: &StreamHash) -> Option<Span> {
        if let Some(span) = self.young.get(hash) {
            return Some(*span);
        }
        let span = *self.old.get(hash)?;
        self.insert(*hash, span);
        Some(span)
    }

    fn insert(&mut self, hash: StreamHash, span: Span) {
        if self.young.len() >= KEPT {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, span);
    }

    /// What was newest in memory is about to go to disk: what is known of these streams must not stay behind.
    pub(crate) fn refresh(&mut self, streams: impl Iterator<Item = (StreamHash, Span)>) {
        self.refreshed += 1;
        for (hash, span) in streams {
            self.old.remove(&hash);
            self.insert(hash, span);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventPosition;

    #[test]
    fn keeps_what_is_looked_for_and_never_an_older_span() {
        let hash = |n: u64| {
            let mut hash = [0; 12];
            hash[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
            hash
        };
        let span = |first| Span { first, place: EventPosition::START, count: 1 };
        let mut cache = NewestSpans::default();
        cache.insert(hash(0), span(1));
        for n in 1..100_000 {
            cache.insert(hash(n), span(n));
            assert_eq!(cache.get(&hash(0)), Some(span(1)));
        }
        assert_eq!(cache.get(&hash(5)), None);
        assert!(cache.young.len() + cache.old.len() <= 2 * KEPT + 1);
        let before = cache.refreshed();
        cache.refresh([(hash(0), span(2))].into_iter());
        cache.learn(before, hash(0), span(1));
        assert_eq!(cache.get(&hash(0)), Some(span(2)), "a search that began before tells nothing");
        for n in 0..2 * KEPT as u64 {
            cache.insert(hash(200_000 + n), span(n));
            assert_ne!(cache.get(&hash(0)), Some(span(1)));
        }
    }
}
