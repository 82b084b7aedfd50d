//! The parts an append or a replay is made of, one by one: `cargo bench -p httt-log --features bench`.
//! What they are together on a disk, `httt bench log` measures.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use httt_feed::{AgencyCode, Audience, Digest, Directory, FeedId, Lane, Sealer, SigningKey, VerifiedBatch, parse};
use httt_log::inner;
use httt_wire::feed::Event;

/// Events of 300 bytes that one full batch holds.
const EVENTS: usize = 150;
/// Batches in a group.
const BATCHES: usize = 16;

fn events() -> Vec<Event> {
    let event = |n: usize| Event {
        id: (n as u128).to_be_bytes().to_vec(),
        stream: format!("status/{n}"),
        version: 1,
        r#type: "httt.cluster.v1.ClusterStatusChanged".into(),
        occurred_at_ms: 1_760_000_000_000,
        data: vec![n as u8; 300].into(),
        ..Event::default()
    };
    (0..EVENTS).map(event).collect()
}

fn feed() -> FeedId {
    let code = |text| AgencyCode::new(text).expect("code");
    FeedId::new(code("H24"), Audience::One(code("TW")), Lane::Status)
}

fn sealer() -> Sealer {
    Sealer::new(AgencyCode::new("H24").expect("code"), SigningKey::from_seed(&[1; 32]).expect("seed"))
}

fn sealed() -> VerifiedBatch {
    sealer().seal(&feed(), None, 0, events()).expect("seals")
}

fn parts(criterion: &mut Criterion) {
    let batch = sealed();
    let payloads: Vec<Bytes> = vec![batch.bytes().clone(); BATCHES];
    let group = inner::encode_group(&payloads);
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("group");
    std::fs::write(&path, &group).expect("write");

    let mut frames = criterion.benchmark_group("group of 16 batches");
    frames.throughput(Throughput::Bytes(group.len() as u64));
    frames.bench_function("encode", |bencher| bencher.iter(|| inner::encode_group(black_box(&payloads))));
    frames.bench_function("scan", |bencher| bencher.iter(|| inner::scan_group(black_box(&path)).expect("scans")));
    frames.finish();

    let mut merkle = criterion.benchmark_group("merkle");
    let leaves: Vec<Digest> = (0..4_096_u32).map(|n| Digest::of(&n.to_le_bytes())).collect();
    merkle.throughput(Throughput::Elements(leaves.len() as u64));
    merkle.bench_function("push", |bencher| bencher.iter(|| inner::push_leaves(black_box(&leaves))));
    merkle.throughput(Throughput::Bytes(batch.bytes().len() as u64));
    merkle.bench_function("leaf hash", |bencher| bencher.iter(|| inner::hash_leaf(black_box(batch.bytes()))));
    merkle.finish();

    let sealer = sealer();
    let key = sealer.key().public().clone();
    let directory = Directory::trusting(key.fingerprint()).knowing_own(sealer.origin().clone(), key);
    let mut batches = criterion.benchmark_group("batch of 150 events");
    batches.throughput(Throughput::Elements(EVENTS as u64));
    batches.bench_function("seal", |bencher| {
        let seal = |events| sealer.seal(&feed(), None, 0, events).expect("seals");
        bencher.iter_batched(events, seal, BatchSize::SmallInput);
    });
    batches.bench_function("parse and verify", |bencher| {
        bencher.iter(|| {
            let parsed = parse(black_box(batch.bytes().clone())).expect("parses");
            directory.verify(parsed).expect("verifies")
        });
    });
    batches.bench_function("decode the entry", |bencher| {
        bencher.iter(|| inner::decode_entry(black_box(batch.bytes().clone())).expect("decodes"));
    });
    batches.finish();
}

criterion_group!(benches, parts);
criterion_main!(benches);
