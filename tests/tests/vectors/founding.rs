//! How a directory begins, by whichever of the gateway's keys a new member was told to trust.

use bytes::Bytes;
use httt_feed::{Directory, FeedId, MemberKind};
use httt_node::exchange::admit;
use httt_wire::exchange::RefusalCode;
use serde_json::{Value, json};

use super::judge::told;
use super::make::said;
use super::parts::{Sealed, batch, event, seal, signer};
use super::steps::{directory_batches, enrolled, key_added, until};

/// An entry: the batch of a step, or one that somebody made up.
enum Given {
    Step(&'static str),
    MadeUp(Bytes),
}

struct Case {
    name: &'static str,
    about: &'static str,
    trusted: &'static str,
    entries: Vec<Given>,
    taken: usize,
    expected: RefusalCode,
}

fn steps(last: &str) -> Vec<Given> {
    until(last).into_iter().map(Given::Step).collect()
}

fn made_up(sealed: Sealed) -> Given {
    Given::MadeUp(sealed.bytes)
}

impl Case {
    fn judged(self) -> Value {
        let batches = directory_batches();
        let entries = self.entries.iter().map(|given| match given {
            Given::Step(name) => {
                let (.., sealed) = batches.iter().find(|(step, ..)| step == name).expect("a step");
                sealed.bytes.clone()
            }
            Given::MadeUp(bytes) => bytes.clone(),
        });
        let entries: Vec<Bytes> = entries.collect();
        let trusted = signer(self.trusted).public.fingerprint();
        let feed: FeedId = "NDXP→*/directory".parse().expect("feed");
        let admission = admit(&Directory::trusting(trusted), &feed, None, &entries);
        let refusal = admission.refused.map(|(_, refusal)| refusal);
        let expected = told(refusal.as_ref());
        assert_eq!(expected["number"], i32::from(self.expected), "{}: {refusal:?}", self.name);
        assert_eq!(admission.batches.len(), self.taken, "{}", self.name);
        let entries = self.entries.iter().map(|given| match given {
            Given::Step(name) => json!({ "step": name }),
            Given::MadeUp(bytes) => json!({ "sealed": hex::encode(bytes) }),
        });
        json!({
            "name": self.name,
            "about": self.about,
            "trusted_fingerprint": trusted.to_string(),
            "entries": entries.collect::<Vec<_>>(),
            "taken": self.taken,
            "expected": expected,
        })
    }
}

/// A beginning that who stole the gateway's first key makes up, with the public half of the present one in it.
fn made_up_beginning() -> [Sealed; 2] {
    let feed = "NDXP→*/directory";
    let first = seal("ndxp", batch(feed, None, enrolled("NDXP", MemberKind::Gateway, "", &["ndxp", "stranger"])));
    let added = vec![event("member/NDXP", 4, &key_added("NDXP", "ndxp-next"))];
    let second = seal("ndxp", batch(feed, Some(&first), added));
    [first, second]
}

pub(crate) fn founding() -> Value {
    use RefusalCode::{RevokedKey, UnknownKey, Unspecified as Good};
    let whole = until("passed-over").len();
    let [first, second] = made_up_beginning();
    let forged = seal("ndxp-next", batch("NDXP→*/directory", Some(&second), said("x")));
    let misled = seal("stranger", batch("NDXP→*/directory", Some(&second), said("x")));
    let rotated = until("gateway-key-revoked").len();
    let last = directory_batches().swap_remove(rotated - 1).2;
    let by_old_key = seal("ndxp", batch("NDXP→*/directory", Some(&last), said("x")));
    let genuine = || steps("passed-over").into_iter().skip(1);
    let cases = [
        Case {
            name: "first-key",
            about: "the key of the first batch is trusted; later batches add and revoke keys",
            trusted: "ndxp",
            entries: steps("passed-over"),
            taken: whole,
            expected: Good,
        },
        Case {
            name: "present-key",
            about: "the present key is trusted: a batch that it signed vouches for all before it",
            trusted: "ndxp-next",
            entries: steps("passed-over"),
            taken: whole,
            expected: Good,
        },
        Case {
            name: "present-key-just-reached",
            about: "the last batch is the first one that the trusted key signed",
            trusted: "ndxp-next",
            entries: steps("gateway-key-revoked"),
            taken: rotated,
            expected: Good,
        },
        Case {
            name: "present-key-not-reached",
            about: "the trusted key is added, but nothing here is signed with it yet",
            trusted: "ndxp-next",
            entries: steps("gateway-key-added"),
            taken: 0,
            expected: UnknownKey,
        },
        Case {
            name: "other-key",
            about: "the trusted key is nowhere in it",
            trusted: "other-gateway",
            entries: steps("passed-over"),
            taken: 0,
            expected: UnknownKey,
        },
        Case {
            name: "made-up-first",
            about: "a first batch made up with the stolen first key; the genuine ones do not follow it",
            trusted: "ndxp-next",
            entries: std::iter::once(made_up(first.clone())).chain(genuine()).collect(),
            taken: 0,
            expected: UnknownKey,
        },
        Case {
            name: "made-up-whole",
            about: "made up with the stolen first key, which adds the trusted key but cannot sign with it",
            trusted: "ndxp-next",
            entries: vec![made_up(first.clone()), made_up(second.clone()), made_up(misled)],
            taken: 0,
            expected: UnknownKey,
        },
        Case {
            name: "vouched",
            about: "the same beginning, if the trusted key itself signed what follows it: that is what vouching means",
            trusted: "ndxp-next",
            entries: vec![made_up(first), made_up(second), made_up(forged)],
            taken: 3,
            expected: Good,
        },
        Case {
            name: "old-key-afterwards",
            about: "by the gateway's old key, after the batch that revoked it",
            trusted: "ndxp-next",
            entries: steps("gateway-key-revoked").into_iter().chain([made_up(by_old_key)]).collect(),
            taken: rotated,
            expected: RevokedKey,
        },
    ];
    json!({ "feed": "NDXP→*/directory", "cases": cases.map(Case::judged) })
}
