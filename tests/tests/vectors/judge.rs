//! Makes the cases of `refusals.json`: entries and wishes, and the verdict of this program on each.

use bytes::Bytes;
use httt_feed::{
    AgencyCode, Digest, FeedId, Head, Lane, MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_NAME_BYTES, MemberKind, Refusal,
};
use httt_node::exchange::{admit, refusal_to_wire};
use httt_wire::exchange::RefusalCode;
use httt_wire::{Message as _, feed as pb};
use serde_json::{Value, json};

use super::make::{by_token, chain, directory_batches, enrolled, folded, said};
use super::parts::{Sealed, batch, bytes_json, seal};

/// The steps that most cases rest on.
const ENROLLED: [&str; 4] = ["founding", "members", "carrier-granted", "keys-added"];
const REVOKED: [&str; 6] = ["founding", "members", "carrier-granted", "keys-added", "key-revoked", "key-added-again"];
const WITHDRAWN: [&str; 7] =
    ["founding", "members", "carrier-granted", "keys-added", "key-revoked", "key-added-again", "carrier-withdrawn"];

/// One entry that arrives.
struct Entry {
    name: &'static str,
    about: &'static str,
    directory: &'static [&'static str],
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
    Entry { name, about, directory: &ENROLLED, feed, head: None, bytes, expected }
}

impl Entry {
    fn after(self, sealed: &Sealed) -> Self {
        Self { head: Some(Head { sequence: sealed.batch.sequence, digest: sealed.digest() }), ..self }
    }

    fn with(self, directory: &'static [&'static str]) -> Self {
        Self { directory, ..self }
    }

    fn asked_for(self, feed: &str) -> Self {
        Self { feed: feed.to_owned(), ..self }
    }

    fn judged(self) -> Value {
        let directory = folded(self.directory);
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
fn told(refusal: Option<&Refusal>) -> Value {
    let Some(wire) = refusal.map(refusal_to_wire) else { return json!({ "code": null, "number": 0 }) };
    let mut told = json!({ "code": wire.code().as_str_name(), "number": wire.code });
    if wire.code() == RefusalCode::Gap {
        told["expected_sequence"] = json!(wire.expected_sequence);
    }
    told
}

/// A batch changed before it is sealed, so that its signature is good.
fn altered(feed: &str, key: &str, change: impl FnOnce(&mut pb::Batch)) -> Bytes {
    let mut batch = batch(feed, None, said("altered"));
    change(&mut batch);
    seal(key, batch).bytes
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
    let [one, two, _] = revocable();
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
            .with(&[]),
        entry(
            "revoked-before",
            "by a revoked key, at a sequence received before the revocation",
            two.bytes.clone(),
            Good,
        )
        .with(&REVOKED)
        .after(&one),
        entry("rotated", "by the new key, after the old one's last sequence", next.bytes, Good)
            .with(&REVOKED)
            .after(&two),
    ]
}

/// Three batches by the key of H24 that is revoked after the second.
fn revocable() -> [Sealed; 3] {
    let feed = "H24→TW/report";
    let one = seal("h24", batch(feed, None, said("r1")));
    let two = seal("h24", batch(feed, Some(&one), said("r2")));
    let three = seal("h24", batch(feed, Some(&two), said("r3")));
    [one, two, three]
}

fn unproven() -> Vec<Entry> {
    use RefusalCode::{BadSignature, NoRight, NotAMember, RevokedKey, UnknownKey};
    let [first, ..] = chain();
    let [_, two, three] = revocable();
    let elsewhere = seal("h24", batch("H24→H55/content", None, said("elsewhere")));
    let founding = directory_batches().remove(0).2.batch;
    let own_key = enrolled("NDXP", MemberKind::Gateway, "", &["other-gateway"]);
    let pretender = seal("other-gateway", batch("NDXP→*/directory", None, own_key));
    let by = |key: &str, feed: &str| seal(key, batch(feed, None, said("x"))).bytes;
    vec![
        entry("no-member", "its origin is in no directory", by("h99", "H99→TW/report"), NotAMember),
        entry("no-directory", "nothing is known yet but the trusted fingerprint", first.bytes, NotAMember).with(&[]),
        entry("unknown-key", "by a key that its origin never had", by("stranger", "TW→*/emergency"), UnknownKey),
        entry("others-key", "by another member's key", by("h24", "TW→*/emergency"), UnknownKey),
        entry(
            "pretended-founding",
            "a first directory batch that brings another key than the trusted one",
            pretender.bytes,
            UnknownKey,
        )
        .with(&[]),
        entry(
            "founding-resigned",
            "the first directory batch, signed by another key than the trusted one that it brings",
            seal("other-gateway", founding).bytes,
            BadSignature,
        )
        .with(&[]),
        entry("revoked", "by a revoked key, after the last sequence that was received", three.bytes, RevokedKey)
            .with(&REVOKED)
            .after(&two),
        entry(
            "revoked-elsewhere",
            "by a revoked key, in a feed that the revocation does not name",
            elsewhere.bytes,
            RevokedKey,
        )
        .with(&REVOKED),
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

fn shapeless() -> Vec<Entry> {
    use RefusalCode::Malformed;
    let [first, second, _] = chain();
    let event = |change: fn(&mut pb::Event)| altered("TW→*/content", "tw", |batch| change(&mut batch.events[0]));
    let batch = |change: fn(&mut pb::Batch)| altered("TW→*/content", "tw", change);
    // Field 2 before field 1: the same message to a decoder, other bytes, another leaf.
    let reordered = {
        let sealed = pb::SealedBatch::decode(first.bytes.clone()).expect("sealed");
        let only = |body, signature| pb::SealedBatch { body, signature }.encode_to_vec();
        [only(Bytes::new(), sealed.signature), only(sealed.body, None)].concat()
    };
    let extended = [first.bytes.as_ref(), &[0x18, 0x01]].concat();
    vec![
        entry("empty", "no bytes: an envelope without signature", Bytes::new(), Malformed),
        entry("rubbish", "no protobuf message", Bytes::from_static(&[0xff; 16]), Malformed),
        entry("no-signature", "an envelope without signature", envelope(|sealed| sealed.signature = None), Malformed),
        entry("reordered", "the envelope's fields in another order: not canonical", reordered.into(), Malformed),
        entry("extended", "an unknown field after the envelope's own: not canonical", extended.into(), Malformed),
        entry(
            "key-id-short",
            "a key id of 7 bytes",
            envelope(|sealed| sealed.signature.as_mut().expect("signature").key_id.truncate(7)),
            Malformed,
        ),
        entry(
            "body-rubbish",
            "a body that is no Batch",
            envelope(|sealed| sealed.body = Bytes::from_static(&[0xff; 9])),
            Malformed,
        ),
        entry("other-feed", "asked for one feed, given another", second.bytes, Malformed).asked_for("TW→*/content"),
        entry("sequence-zero", "sequences start at 1", batch(|batch| batch.sequence = 0), Malformed),
        entry(
            "sequence-huge",
            "2^63 - 1 and above are no sequences",
            batch(|batch| batch.sequence = i64::MAX as u64),
            Malformed,
        ),
        entry(
            "first-with-previous",
            "nothing comes before the first",
            batch(|batch| batch.previous = vec![7; 32]),
            Malformed,
        ),
        entry(
            "second-without-previous",
            "sequence 2 names no batch before it",
            batch(|batch| batch.sequence = 2),
            Malformed,
        ),
        entry(
            "previous-short",
            "`previous` has 31 bytes",
            batch(|batch| (batch.sequence, batch.previous) = (2, vec![7; 31])),
            Malformed,
        ),
        entry("no-events", "a batch says something", batch(|batch| batch.events.clear()), Malformed),
        entry("lane-unspecified", "lane 0", batch(|batch| batch.lane = 0), Malformed),
        entry("lane-unknown", "lane 99", batch(|batch| batch.lane = 99), Malformed),
        entry(
            "origin-lower-case",
            "agency codes are A-Z, 0-9 and dots",
            batch(|batch| batch.origin = "tw".into()),
            Malformed,
        ),
        entry("audience-empty", "no agency code", batch(|batch| batch.audience.clear()), Malformed),
        entry("event-id-short", "an event id of 15 bytes", event(|event| event.id.truncate(15)), Malformed),
        entry("event-without-stream", "an event without stream", event(|event| event.stream.clear()), Malformed),
        entry("event-without-type", "an event without type", event(|event| event.r#type.clear()), Malformed),
        entry("event-version-zero", "versions start at 1", event(|event| event.version = 0), Malformed),
        entry(
            "event-version-huge",
            "2^63 and above are no versions",
            event(|event| event.version = 1 << 63),
            Malformed,
        ),
    ]
}

fn oversized() -> Vec<Entry> {
    use RefusalCode::TooLarge;
    let filled = |sizes: &[usize]| {
        let sizes = sizes.to_vec();
        altered("TW→*/content", "tw", move |batch| {
            let one = batch.events.remove(0);
            batch.events =
                sizes.iter().map(|size| pb::Event { data: vec![0x61; *size].into(), ..one.clone() }).collect();
        })
    };
    let named = |change: fn(&mut pb::Event, String)| {
        let long = "s".repeat(MAX_NAME_BYTES + 1);
        altered("TW→*/content", "tw", |batch| change(&mut batch.events[0], long))
    };
    vec![
        entry("event-large", "an event's data of 48 KiB and one byte", filled(&[MAX_EVENT_BYTES + 1]), TooLarge),
        entry(
            "body-large",
            "a body over 60 KiB",
            filled(&[MAX_EVENT_BYTES, MAX_BATCH_BYTES - MAX_EVENT_BYTES]),
            TooLarge,
        ),
        entry(
            "sealed-large",
            "an envelope over 60 KiB and 1,200 bytes",
            filled(&[MAX_EVENT_BYTES, MAX_EVENT_BYTES]),
            TooLarge,
        ),
        entry("stream-long", "a stream's name of 201 bytes", named(|event, long| event.stream = long), TooLarge),
        entry("type-long", "an event type of 201 bytes", named(|event, long| event.r#type = long), TooLarge),
        entry("actor-long", "an actor of 201 bytes", named(|event, long| event.actor = long), TooLarge),
        entry(
            "traceparent-long",
            "a trace context of 201 bytes",
            named(|event, long| event.traceparent = long),
            TooLarge,
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

/// Wishes to push or read a feed: the caller, the feed, and what the gateway answers.
fn rights() -> Vec<Value> {
    use RefusalCode::{NoRight, NotAMember, Unspecified as Good, WrongMember};
    let one = |call: &str, directory: &'static [&'static str], caller: &str, feed: &str, expected: RefusalCode| {
        let (by, of, known) = (AgencyCode::new(caller).expect("code"), feed.parse().expect("feed"), folded(directory));
        let verdict = if call == "push" { known.may_push(&by, &of) } else { known.may_read(&by, &of) };
        let told = told(verdict.as_ref().err());
        assert_eq!(told["number"], i32::from(expected), "{call} {caller} {feed}: {verdict:?}");
        json!({ "call": call, "directory": directory, "caller": caller, "feed": feed, "expected": told })
    };
    vec![
        one("push", &ENROLLED, "H24", "H24→TW/report", Good),
        one("push", &ENROLLED, "H55.LGSP", "H55→TW/report", Good),
        one("push", &WITHDRAWN, "H55.LGSP", "H55→TW/report", WrongMember),
        one("push", &ENROLLED, "H24", "H55→TW/report", WrongMember),
        one("push", &ENROLLED, "H55", "H55.LGSP→TW/report", WrongMember),
        one("push", &ENROLLED, "H99", "H99→TW/report", NotAMember),
        one("push", &ENROLLED, "H24", "H24→H24/local", NoRight),
        one("read", &ENROLLED, "H24", "TW→*/content", Good),
        one("read", &ENROLLED, "H24", "TW→H24/content", Good),
        one("read", &ENROLLED, "H24", "H24→TW/report", Good),
        one("read", &ENROLLED, "H55.LGSP", "TW→H55/content", Good),
        one("read", &WITHDRAWN, "H55.LGSP", "TW→H55/content", NoRight),
        one("read", &ENROLLED, "H24", "TW→H55/content", NoRight),
        one("read", &ENROLLED, "H24", "H24→H24/local", NoRight),
        one("read", &ENROLLED, "H99", "TW→*/content", NotAMember),
    ]
}

pub(crate) fn refusals() -> Value {
    let entries = [good(), unproven(), shapeless(), oversized(), out_of_line()];
    let entries: Vec<Value> = entries.into_iter().flatten().map(Entry::judged).collect();
    json!({ "entries": entries, "rights": rights() })
}
