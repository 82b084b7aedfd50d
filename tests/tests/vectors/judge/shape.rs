//! Entries that are no sealed batches, or too large.

use bytes::Bytes;
use httt_feed::{MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_NAME_BYTES};
use httt_wire::exchange::RefusalCode;
use httt_wire::{Message as _, feed as pb};

use super::super::make::{chain, said};
use super::super::parts::{batch, seal};
use super::{Entry, entry, envelope};

/// A batch changed before it is sealed, so that its signature is good.
fn altered(feed: &str, key: &str, change: impl FnOnce(&mut pb::Batch)) -> Bytes {
    let mut batch = batch(feed, None, said("altered"));
    change(&mut batch);
    seal(key, batch).bytes
}

pub(super) fn shapeless() -> Vec<Entry> {
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

pub(super) fn oversized() -> Vec<Entry> {
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
