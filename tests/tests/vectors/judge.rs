//! Makes the entries of `refusals.json`, and the verdict of this program on each.

mod shape;

use bytes::Bytes;
use httt_feed::{AgencyCode, Digest, FeedId, Head, Lane, MemberKind, Refusal};
use httt_node::exchange::{admit, refusal_to_wire};
use httt_wire::exchange::RefusalCode;
use httt_wire::{Message as _, feed as pb};
use serde_json::{Value, json};

use super::make::{by_token, chain, said};
use super::parts::{Sealed, batch, bytes_json, seal, signer};
use super::rights::rights;
use super::steps::{directory_batches, enrolled, folded, revocable, until};

/// The step that most cases rest on, with all before it.
const ENROLLED: &str = "keys-added";

/// One entry that arrives.
struct Entry {
    name: &'static str,
    about: &'static str,
    directory: Vec<&'static str>,
    feed: String,
    /// What is held of the feed.
    head: Option<Head>,
    bytes: Bytes,
    expected: RefusalCode,
}

fn entry(name: &'static str, about: &'static str, bytes: Bytes, expected: RefusalCode) -> Entry {
    let feed = pb::SealedBatch::decode(bytes.clone())
        .ok()
        .and_then(|sealed| pb::Batch::decode(sealed.body).ok())
        .and_then(|batch| {
            let origin = AgencyCode::new(&batch.origin).ok()?;
            let audience = httt_feed::Audience::new(&batch.audience).ok()?;
            Some(FeedId::new(origin, audience, Lane::from_wire(batch.lane)?).to_string())
        });
    let feed = feed.unwrap_or_else(|| "TW→*/emergency".to_owned());
    Entry { name, about, directory: until(ENROLLED), feed, head: None, bytes, expected }
}

impl Entry {
    fn after(self, sealed: &Sealed) -> Self {
        Self { head: Some(Head { sequence: sealed.batch.sequence, digest: sealed.digest() }), ..self }
    }

    /// With the directory up to this step.
    fn with(self, last: &str) -> Self {
        Self { directory: until(last), ..self }
    }

    fn without_directory(self) -> Self {
        Self { directory: Vec::new(), ..self }
    }

    fn asked_for(self, feed: &str) -> Self {
        Self { feed: feed.to_owned(), ..self }
    }

    fn judged(self) -> Value {
        let directory = folded(&self.directory);
        let feed: FeedId = self.feed.parse().expect("feed");
        let admission = admit(&directory, &feed, self.head, std::slice::from_ref(&self.bytes));
        let refusal = admission.refused.map(|(_, refusal)| refusal);
        let expected = told(refusal.as_ref());
        assert_eq!(expected["number"], i32::from(self.expected), "{}: {refusal:?}", self.name);
        json!({
            "name": self.name,
            "about": self.about,
            "directory": self.directory,
            "feed": self.feed,
            "head": self.head.map(|head| json!({ "sequence": head.sequence, "digest": head.digest.to_string() })),
            "entry": bytes_json(&self.bytes),
            "expected": expected,
        })
    }
}

/// A verdict as it goes over the wire; 0: it is good.
pub(crate) fn told(refusal: Option<&Refusal>) -> Value {
    let Some(wire) = refusal.map(refusal_to_wire) else { return json!({ "code": null, "number": 0 }) };
    let mut told = json!({ "code": wire.code().as_str_name(), "number": wire.code });
    if wire.code() == RefusalCode::Gap {
        told["expected_sequence"] = json!(wire.expected_sequence);
    }
    told
}

/// An envelope changed after it was sealed.
fn envelope(change: impl FnOnce(&mut pb::SealedBatch)) -> Bytes {
    let mut sealed = pb::SealedBatch::decode(chain()[0].bytes.clone()).expect("sealed");
    change(&mut sealed);
    sealed.encode_to_vec().into()
}

fn good() -> Vec<Entry> {
    use RefusalCode::Unspecified as Good;
    let [first, second, third] = chain();
    let [p256, rsa] = by_token();
    let founding = directory_batches().remove(0).2;
    let [one, two, ..] = revocable();
    let next = seal("h24-next", batch("H24→TW/report", Some(&two), said("rotated")));
    vec![
        entry("first", "the first batch of a feed of which nothing is held", first.bytes.clone(), Good),
        entry("next", "the one after the head", third.bytes.clone(), Good).after(&second),
        entry("held-head", "the head once more: held already, no harm", second.bytes.clone(), Good).after(&second),
        entry(
            "held-before",
            "one before the head: whether it is the same batch, the holder compares by its digest",
            first.bytes.clone(),
            Good,
        )
        .after(&third),
        entry("p256", "by an ECDSA key", p256.bytes, Good),
        entry("rsa", "by an RSA key", rsa.bytes, Good),
        entry("founding", "the directory's first batch, by the trusted key that it brings", founding.bytes, Good)
            .without_directory(),
        entry(
            "revoked-before",
            "by a revoked key, at a sequence received before the revocation",
            two.bytes.clone(),
            Good,
        )
        .with("key-added-again")
        .after(&one),
        entry("rotated", "by the new key, after the old one's last sequence", next.bytes, Good)
            .with("key-added-again")
            .after(&two),
    ]
}

fn unproven() -> Vec<Entry> {
    use RefusalCode::{BadSignature, NoRight, NotAMember, RevokedKey, UnknownKey};
    let [first, ..] = chain();
    let [_, two, three, ..] = revocable();
    let elsewhere = seal("h24", batch("H24→H55/content", None, said("elsewhere")));
    let founding = directory_batches().remove(0).2.batch;
    let own_key = enrolled("NDXP", MemberKind::Gateway, "", &["other-gateway"]);
    let pretender = seal("other-gateway", batch("NDXP→*/directory", None, own_key));
    let by = |key: &str, feed: &str| seal(key, batch(feed, None, said("x"))).bytes;
    vec![
        entry("no-member", "its origin is in no directory", by("h99", "H99→TW/report"), NotAMember),
        entry("no-directory", "nothing is known yet but the trusted fingerprint", first.bytes, NotAMember)
            .without_directory(),
        entry("unknown-key", "by a key that its origin never had", by("stranger", "TW→*/emergency"), UnknownKey),
        entry("others-key", "by another member's key", by("h24", "TW→*/emergency"), UnknownKey),
        entry(
            "pretended-founding",
            "a first directory batch that brings another key than the trusted one",
            pretender.bytes,
            UnknownKey,
        )
        .without_directory(),
        entry(
            "founding-resigned",
            "the first directory batch, signed by another key than the trusted one that it brings",
            seal("other-gateway", founding.clone()).bytes,
            UnknownKey,
        )
        .without_directory(),
        entry(
            "founding-forged",
            "the same, naming the trusted key as the one that signed",
            {
                let mut forged = pb::SealedBatch::decode(seal("other-gateway", founding).bytes).expect("sealed");
                forged.signature.as_mut().expect("signature").key_id = signer("ndxp").public.id().0.to_vec();
                forged.encode_to_vec().into()
            },
            BadSignature,
        )
        .without_directory(),
        entry("revoked", "by a revoked key, after the last sequence that was received", three.bytes, RevokedKey)
            .with("key-added-again")
            .after(&two),
        entry(
            "revoked-elsewhere",
            "by a revoked key, in a feed that the revocation does not name",
            elsewhere.bytes,
            RevokedKey,
        )
        .with("key-added-again"),
        entry("province-to-all", "a province speaks to members, not to all", by("h24", "H24→*/content"), NoRight),
        entry("province-directory", "the directory is the gateway's", by("h24", "H24→TW/directory"), NoRight),
        entry("carrier-says", "a carrier originates nothing", by("h55-lgsp", "H55.LGSP→TW/report"), NoRight),
        entry("audience-unknown", "its audience is nobody", by("h24", "H24→H77/report"), NoRight),
        entry(
            "body-altered",
            "one byte of the body is another",
            envelope(|sealed| {
                let mut body = sealed.body.to_vec();
                let at = body.windows(4).position(|four| four == b"b\xc3\xa1o").expect("a word of the bulletin");
                body[at] = b'c';
                sealed.body = body.into();
            }),
            BadSignature,
        ),
        entry(
            "signature-zero",
            "a signature of zeros",
            envelope(|sealed| sealed.signature.as_mut().expect("signature").value = vec![0; 64]),
            BadSignature,
        ),
        entry(
            "signature-empty",
            "a signature without bytes",
            envelope(|sealed| sealed.signature.as_mut().expect("signature").value.clear()),
            BadSignature,
        ),
    ]
}

fn out_of_line() -> Vec<Entry> {
    use RefusalCode::{BrokenChain, Fork, Gap};
    let [first, second, third] = chain();
    let other = |previous: Option<&Sealed>| seal("tw", batch("TW→*/emergency", previous, said("another story")));
    let mut stray = batch("TW→*/emergency", Some(&first), said("another story"));
    stray.previous = Digest::of(b"nothing that was ever said").0.to_vec();
    vec![
        entry("gap-at-start", "the second of a feed of which nothing is held", second.bytes.clone(), Gap),
        entry("gap", "the third where the second is next", third.bytes, Gap).after(&first),
        entry("fork", "another batch holds the head's sequence", other(Some(&first)).bytes, Fork).after(&second),
        entry("fork-first", "another first batch", other(None).bytes, Fork).after(&first),
        entry("broken-chain", "`previous` is not the head's digest", seal("tw", stray).bytes, BrokenChain)
            .after(&first),
        entry("broken-chain-fork", "it follows another story's batch", second.bytes, BrokenChain).after(&other(None)),
    ]
}

/// Keys that change, and members that do not take part for a while.
fn rotating() -> Vec<Entry> {
    use RefusalCode::{RevokedKey, UnknownKey, Unspecified as Good};
    let [one, two, ..] = revocable();
    let by_next = |previous: &Sealed| seal("h24-next", batch("H24→TW/report", Some(previous), said("overlap"))).bytes;
    let steps = directory_batches();
    let head = &steps[until("gateway-key-revoked").len() - 1].2;
    let directory = |key: &str| seal(key, batch("NDXP→*/directory", Some(head), said("x"))).bytes;
    let by_suspended = seal("h55", batch("H55→TW/report", None, said("before"))).bytes;
    vec![
        entry("new-key-early", "by a key that is added only later", by_next(&one), UnknownKey)
            .with("carrier-granted")
            .after(&one),
        entry("overlap-new", "two keys are good at once: by the new one", by_next(&one), Good).after(&one),
        entry("overlap-old", "by the old one, which is not revoked yet", two.bytes, Good).after(&one),
        entry("gateway-new-key", "the directory goes on with the gateway's new key", directory("ndxp-next"), Good)
            .with("gateway-key-revoked")
            .after(head),
        entry("gateway-old-key", "and not with the old one, which was trusted first", directory("ndxp"), RevokedKey)
            .with("gateway-key-revoked")
            .after(head),
        entry(
            "of-suspended",
            "of a suspended member: what it said stays good; that it may not push now is told to who calls",
            by_suspended,
            Good,
        )
        .with("suspended"),
    ]
}

/// Batches that a revoked key signed and that were admitted, and their neighbours.
fn admitted() -> Vec<Entry> {
    use RefusalCode::{BadSignature, BrokenChain, Gap, RevokedKey, Unspecified as Good};
    let [_, two, three, four, five] = revocable();
    let other = seal("h24", batch("H24→TW/report", Some(&two), said("the thief's third"))).bytes;
    let elsewhere = |feed: &str, previous: Option<&Sealed>| seal("h24", batch(feed, previous, said("r4"))).bytes;
    let forged = {
        let mut forged = pb::SealedBatch::decode(three.bytes.clone()).expect("sealed");
        forged.signature.as_mut().expect("signature").value = vec![0; 64];
        forged.encode_to_vec().into()
    };
    let by_next = seal("h24-next", batch("H24→TW/report", Some(&four), said("by the new key"))).bytes;
    let all = vec![
        entry("admitted", "by a revoked key, and admitted", three.bytes.clone(), Good).after(&two),
        entry("admitted-next", "the other one that was admitted", four.bytes.clone(), Good).after(&three),
        entry("admitted-then-new-key", "the new key goes on after them", by_next, Good).after(&four),
        entry("not-admitted", "the owner's next one by that key, which nobody admitted", five.bytes, RevokedKey)
            .after(&four),
        entry("admitted-other", "another batch at an admitted sequence", other, RevokedKey).after(&two),
        entry("admitted-elsewhere", "another feed of that member", elsewhere("H24→H55/report", None), RevokedKey),
        entry("admitted-forged", "an admitted batch whose signature does not hold", forged, BadSignature).after(&two),
        entry("admitted-gap", "an admitted batch, the one before it missing", four.bytes, Gap).after(&two),
        entry("admitted-broken-chain", "an admitted batch after another story", three.bytes.clone(), BrokenChain)
            .after(&seal("h24", batch("H24→TW/report", Some(&revocable()[0]), said("another second")))),
    ];
    let before = entry("admitted-early", "before it was admitted", three.bytes, RevokedKey).after(&two);
    let mut all: Vec<Entry> = all.into_iter().map(|entry| entry.with("batches-admitted")).collect();
    all.push(before.with("passed-over"));
    all
}

/// Batches of the lane status that say again all that their feed stands for.
fn restating() -> Vec<Entry> {
    use RefusalCode::{Fork, Gap, Malformed, Unspecified as Good};
    let feed = "H24→TW/status";
    let at = |sequence: u64, restates: bool, change: fn(&mut pb::Batch)| {
        let mut batch = batch(feed, None, said("status"));
        (batch.sequence, batch.restates) = (sequence, restates);
        if sequence > 1 {
            batch.previous = Digest::of(b"what came before").0.to_vec();
        }
        change(&mut batch);
        seal("h24", batch)
    };
    let same = |_: &mut pb::Batch| {};
    let first = at(1, false, same);
    let begun = at(5, true, same);
    let next = seal("h24", batch(feed, Some(&begun), said("changes")));
    vec![
        entry(
            "restating-begins",
            "of the lane status, restates: who holds nothing may begin here",
            begun.bytes.clone(),
            Good,
        ),
        entry("restating-first", "a first batch may restate, too", at(1, true, same).bytes, Good),
        entry("restated-next", "the one after it, which restates nothing", next.bytes.clone(), Good).after(&begun),
        entry("not-restating", "the same sequence, but it does not restate", at(5, false, same).bytes, Gap),
        entry("after-restating", "the one after it, of which nothing is held", next.bytes, Gap),
        entry("restating-gap", "who holds something of the feed has no gap before it either", begun.bytes.clone(), Gap)
            .after(&first),
        entry("restating-fork", "it restates, and another batch holds its sequence", begun.bytes, Fork).after(&at(
            5,
            true,
            |batch| batch.sealed_at_ms += 1,
        )),
        entry(
            "restating-elsewhere",
            "only the lane status restates",
            at(5, true, |batch| batch.lane = Lane::Report.to_wire()).bytes,
            Malformed,
        ),
    ]
}

pub(crate) fn refusals() -> Value {
    let entries = [
        good(),
        unproven(),
        shape::shapeless(),
        shape::oversized(),
        out_of_line(),
        rotating(),
        restating(),
        admitted(),
    ];
    let entries: Vec<Value> = entries.into_iter().flatten().map(Entry::judged).collect();
    json!({ "entries": entries, "rights": rights() })
}
