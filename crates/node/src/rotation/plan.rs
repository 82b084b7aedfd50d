//! Which step of a change of keys comes next, from what is seen; no I/O, no memory.

use std::collections::BTreeMap;

use httt_feed::Fingerprint;

/// What can be seen of a change of keys.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The key that the log seals with.
    pub in_use: Fingerprint,
    /// The key that is to replace it.
    pub next: Option<Fingerprint>,
    /// The key that was replaced and is not revoked yet.
    pub old: Option<Fingerprint>,
    /// The node is a carrier, which cannot offer keys.
    pub carrier: bool,
    /// Other processes seal with the same key: whether all have the next one only their operator knows.
    pub shared: bool,
    /// The node's keys as the directory has them, and whether they are revoked.
    pub keys: BTreeMap<Fingerprint, bool>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing, or waiting for the gateway.
    Wait,
    /// Offer the next key.
    Offer,
    /// Begin to seal with it.
    Switch,
    /// Give it up: it was revoked.
    Discard,
    /// Say how far the old key sealed.
    Retire,
    /// Delete the old key: it is revoked.
    Forget,
}

/// The next step. One change at a time: the old key goes before another one comes.
pub fn next_step(seen: &Seen) -> Step {
    let good = |key: &Fingerprint| seen.keys.get(key) == Some(&false);
    let revoked = |key: &Fingerprint| seen.keys.get(key) == Some(&true);
    match (&seen.old, &seen.next) {
        // The files were switched by half when something failed.
        (Some(old), Some(next)) if *old == seen.in_use && good(next) => Step::Switch,
        (Some(old), _) if *old == seen.in_use => Step::Wait,
        (Some(old), _) if revoked(old) => Step::Forget,
        (Some(_), _) if seen.carrier || seen.shared || !good(&seen.in_use) => Step::Wait,
        (Some(_), _) => Step::Retire,
        (None, Some(next)) if revoked(next) => Step::Discard,
        (None, Some(next)) if good(next) => Step::Switch,
        // Before the gateway enrolled this node there is nothing to change: the key may simply be replaced.
        (None, Some(_)) if seen.carrier || seen.keys.is_empty() => Step::Wait,
        // An offer sealed with a revoked key is not heard: the gateway's operator adds the next one.
        (None, Some(_)) if revoked(&seen.in_use) => Step::Wait,
        (None, Some(_)) => Step::Offer,
        (None, None) => Step::Wait,
    }
}

#[cfg(test)]
mod tests {
    use httt_feed::Digest;

    use super::*;

    fn key(name: &str) -> Fingerprint {
        Digest::of(name.as_bytes())
    }

    fn seen(in_use: &str, next: Option<&str>, old: Option<&str>, keys: &[(&str, bool)]) -> Seen {
        Seen {
            in_use: key(in_use),
            next: next.map(key),
            old: old.map(key),
            carrier: false,
            shared: false,
            keys: keys.iter().map(|(name, revoked)| (key(name), *revoked)).collect(),
        }
    }

    #[test]
    fn a_change_goes_from_offer_to_forgetting() {
        let steps = [
            (seen("a", None, None, &[("a", false)]), Step::Wait),
            (seen("a", Some("b"), None, &[("a", false)]), Step::Offer),
            (seen("a", Some("b"), None, &[("a", false), ("b", false)]), Step::Switch),
            (seen("b", None, Some("a"), &[("a", false), ("b", false)]), Step::Retire),
            (seen("b", None, Some("a"), &[("a", true), ("b", false)]), Step::Forget),
            (seen("b", None, None, &[("a", true), ("b", false)]), Step::Wait),
        ];
        for (seen, step) in steps {
            assert_eq!(next_step(&seen), step, "{seen:?}");
        }
    }

    #[test]
    fn a_key_that_was_revoked_is_never_switched_to() {
        assert_eq!(next_step(&seen("a", Some("b"), None, &[("a", false), ("b", true)])), Step::Discard);
    }

    #[test]
    fn the_old_key_goes_before_another_one_comes() {
        assert_eq!(
            next_step(&seen("b", Some("c"), Some("a"), &[("a", false), ("b", false), ("c", false)])),
            Step::Retire
        );
    }

    #[test]
    fn a_carrier_waits_for_its_operators() {
        let carrier = |seen: Seen| Seen { carrier: true, ..seen };
        assert_eq!(next_step(&carrier(seen("a", Some("b"), None, &[("a", false)]))), Step::Wait);
        assert_eq!(next_step(&carrier(seen("a", Some("b"), None, &[("a", false), ("b", false)]))), Step::Switch);
        assert_eq!(next_step(&carrier(seen("b", None, Some("a"), &[("a", true), ("b", false)]))), Step::Forget);
    }

    #[test]
    fn who_lost_its_key_waits_for_the_gateways_operator_and_then_switches() {
        assert_eq!(next_step(&seen("a", Some("b"), None, &[("a", true)])), Step::Wait);
        assert_eq!(next_step(&seen("a", Some("b"), None, &[("a", true), ("b", false)])), Step::Switch);
        assert_eq!(next_step(&seen("b", None, Some("a"), &[("a", true), ("b", false)])), Step::Forget);
    }

    #[test]
    fn where_several_share_a_key_each_switches_by_itself_and_their_operator_revokes_the_old_one() {
        let shared = |seen: Seen| Seen { shared: true, ..seen };
        assert_eq!(next_step(&shared(seen("a", Some("b"), None, &[("a", false)]))), Step::Offer);
        assert_eq!(next_step(&shared(seen("a", Some("b"), None, &[("a", false), ("b", false)]))), Step::Switch);
        assert_eq!(next_step(&shared(seen("b", None, Some("a"), &[("a", false), ("b", false)]))), Step::Wait);
        assert_eq!(next_step(&shared(seen("b", None, Some("a"), &[("a", true), ("b", false)]))), Step::Forget);
        // Late, after the revocation.
        assert_eq!(next_step(&shared(seen("a", Some("b"), None, &[("a", true), ("b", false)]))), Step::Switch);
    }

    #[test]
    fn nothing_is_retired_while_the_directory_does_not_know_the_key_in_use() {
        assert_eq!(next_step(&seen("b", None, Some("a"), &[("a", false)])), Step::Wait);
    }
}
