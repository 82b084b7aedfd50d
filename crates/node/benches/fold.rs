//! What folding costs: a mix as a province's log has it, from entries in memory.
//!
//! `decode` reads stored bytes into a batch, `fold` feeds every model from decoded batches, `encode` and `digest` are what
//! a snapshot and a comparison do with the state that came of it, `restore` is what a start does.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use httt_domain::models::{
    Bulletins, Clusters, Deliveries, Drafts, Fact, Playback, PublishedBulletin, Reports, Schedules,
};
use httt_feed::Lane;
use httt_node::models::{ModelSet, Projection};
use httt_node::projections;
use httt_node::traffic::{Forks, Receipted, Traffic};
use httt_wire::feed::{Batch, Event, SealedBatch};
use httt_wire::{Message, Name, bulletin, cluster, exchange, report};

const EVENTS: usize = 100_000;
const EVENTS_A_BATCH: usize = 100;
const COMMUNES: usize = 129;
const CLUSTERS: u32 = 4_000;
const BULLETINS: usize = 500;

#[derive(Default)]
struct AllModels {
    drafts: Projection<Drafts>,
    bulletins: Projection<Bulletins>,
    deliveries: Projection<Deliveries>,
    clusters: Projection<Clusters>,
    schedules: Projection<Schedules>,
    playback: Projection<Playback>,
    reports: Projection<Reports>,
    traffic: Projection<Traffic>,
    forks: Projection<Forks>,
    receipted: Projection<Receipted>,
}

impl ModelSet for AllModels {
    projections![drafts, bulletins, deliveries, clusters, schedules, playback, reports, traffic, forks, receipted];

    fn apply(&mut self, position: u64, fact: &Fact<'_>) {
        self.drafts.fold(position, fact);
        self.bulletins.fold(position, fact);
        self.deliveries.fold(position, fact);
        self.clusters.fold(position, fact);
        self.schedules.fold(position, fact);
        self.playback.fold(position, fact);
        self.reports.fold(position, fact);
        self.traffic.fold(position, fact);
        self.forks.fold(position, fact);
        self.receipted.fold(position, fact);
    }
}

fn event<M: Message + Name>(number: usize, stream: String, message: &M) -> Event {
    Event {
        id: (number as u128).to_be_bytes().to_vec(),
        stream,
        version: number as u64 + 1,
        r#type: M::full_name(),
        occurred_at_ms: 1_760_000_000_000 + number as i64,
        actor: "can-bo-xa".into(),
        data: message.encode_to_vec().into(),
        ..Event::default()
    }
}

fn content(number: usize) -> bulletin::Content {
    bulletin::Content {
        title: format!("Thông báo lịch tiêm chủng đợt {number}"),
        body: "Trạm y tế thông báo lịch tiêm chủng mở rộng tháng này cho trẻ dưới năm tuổi. ".repeat(4),
        kind: 1,
        subject: 1,
        priority: 1,
        language: "vi".into(),
        target_areas: vec!["31".into()],
        ..bulletin::Content::default()
    }
}

/// The `number`th event and its lane: half plays, a sixth status, the rest deliveries, schedules, reports, receipts.
fn mixed(number: usize) -> (Lane, Event) {
    let id = format!("01990000-0000-7000-8000-{:012}", number / 40 % BULLETINS);
    let commune = format!("{:05}", 10_000 + number % COMMUNES);
    let delivery = format!("delivery/{id}");
    match number % 100 {
        0..50 => {
            let played = cluster::PlaybackRecorded {
                cluster: number as u32 % CLUSTERS + 1,
                bulletin: id,
                started_at_ms: 1_760_000_000_000,
                volume: 70,
                duration_s: 120,
                ..Default::default()
            };
            (Lane::Local, event(number, format!("playback/{commune}"), &played))
        }
        50..66 => {
            let first = number as u32 % (CLUSTERS - 20) + 1;
            let changed = cluster::ClusterStatusChanged {
                at_ms: 1_760_000_000_000,
                idle: vec![first, 3, 2],
                playing: vec![first + 1, 5],
                ..Default::default()
            };
            (Lane::Status, event(number, "clusters".into(), &changed))
        }
        66..72 => {
            let received = bulletin::BulletinReceived {
                bulletin: id,
                publisher: "TW".into(),
                sequence: number as u64,
                durable_at_ms: 1,
            };
            (Lane::Report, event(number, delivery, &received))
        }
        72..78 => {
            let offered = bulletin::BulletinOffered { bulletin: id, communes: vec![commune] };
            (Lane::Report, event(number, delivery, &offered))
        }
        78..84 => {
            let played = bulletin::BulletinPlayed { bulletin: id, cluster_deltas: vec![number as u32 % 500 + 1, 1, 7] };
            (Lane::Report, event(number, delivery, &played))
        }
        84..88 => {
            let set = cluster::ScheduleSet {
                schedule: format!("s{}", number % 400),
                name: "Sáng".into(),
                commune,
                ..Default::default()
            };
            (Lane::Local, event(number, format!("schedule/{}", set.schedule), &set))
        }
        88..92 => {
            let filed = report::ReportFiled {
                form: "commune-station".into(),
                form_version: 1,
                period: "2026-Q3".into(),
                area: commune.clone(),
                ..Default::default()
            };
            (Lane::Report, event(number, format!("report/commune-station/2026-Q3/{commune}"), &filed))
        }
        92..96 => {
            let published = bulletin::BulletinPublished {
                bulletin: id.clone(),
                version: number as u32,
                content: Some(content(number)),
                author: "bientap".into(),
                approver: "duyet".into(),
                ..Default::default()
            };
            (Lane::Content, event(number, format!("bulletin/{id}"), &published))
        }
        _ => {
            let feed = exchange::FeedId { origin: "H24".into(), audience: "TW".into(), lane: Lane::Report.to_wire() };
            let receipt = exchange::Receipt { feed: Some(feed), sequence: number as u64, ..Default::default() };
            (Lane::Report, event(number, "receipts".into(), &receipt))
        }
    }
}

/// Batches of one lane each, as a log has them, after a register of clusters and a directory.
fn batches() -> Vec<Batch> {
    let mut batches = vec![Batch {
        origin: "NDXP".into(),
        audience: "*".into(),
        lane: Lane::Directory.to_wire(),
        sequence: 1,
        events: vec![event(0, "directory".into(), &httt_wire::directory::MemberEnrolled::default())],
        ..Batch::default()
    }];
    let clusters = (1..=CLUSTERS).map(|ordinal| cluster::Cluster {
        ordinal,
        imei: format!("8612345{ordinal:08}"),
        commune: format!("{:05}", 10_000 + ordinal as usize % COMMUNES),
        name: format!("Cụm loa thôn {ordinal}"),
        vendor: "VNPT".into(),
    });
    let registered = cluster::ClustersRegistered { clusters: clusters.collect() };
    let mut lanes: Vec<(Lane, Vec<Event>)> = vec![(Lane::Status, vec![event(0, "clusters".into(), &registered)])];
    lanes.extend([Lane::Local, Lane::Report, Lane::Content].map(|lane| (lane, Vec::new())));
    let mut close = |lane: Lane, events: &mut Vec<Event>| {
        let sequence = batches.len() as u64;
        batches.push(Batch {
            origin: if lane == Lane::Content { "TW" } else { "NDXP" }.into(),
            audience: "*".into(),
            lane: lane.to_wire(),
            sequence,
            events: std::mem::take(events),
            ..Batch::default()
        });
    };
    for number in 0..EVENTS {
        let (lane, event) = mixed(number);
        let (lane, events) = lanes.iter_mut().find(|(one, _)| *one == lane).unwrap();
        events.push(event);
        if events.len() == EVENTS_A_BATCH {
            close(*lane, events);
        }
    }
    lanes.iter_mut().for_each(|(lane, events)| close(*lane, events));
    batches
}

fn fold(set: &mut impl ModelSet, batches: &[Batch]) {
    for (position, batch) in (0..).zip(batches) {
        for event in &batch.events {
            let fact = Fact::of(batch, event);
            set.apply(position, &fact);
        }
    }
}

fn bench(criterion: &mut Criterion) {
    let batches = batches();
    let events: usize = batches.iter().map(|batch| batch.events.len()).sum();
    let sealed: Vec<_> = batches
        .iter()
        .map(|batch| {
            let sealed = SealedBatch { body: batch.encode_to_vec().into(), ..SealedBatch::default() };
            httt_wire::Bytes::from(sealed.encode_to_vec())
        })
        .collect();
    let mut group = criterion.benchmark_group("models");
    group.sample_size(10);
    group.throughput(Throughput::Elements(events as u64));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for bytes in &sealed {
                let sealed = SealedBatch::decode(bytes.clone()).unwrap();
                black_box(Batch::decode(sealed.body).unwrap());
            }
        });
    });
    group.bench_function("fold", |bencher| {
        bencher.iter_batched_ref(AllModels::default, |set| fold(set, &batches), BatchSize::PerIteration);
    });
    let mut set = AllModels::default();
    fold(&mut set, &batches);
    let bulletins: Vec<&PublishedBulletin> = set.bulletins.iter().collect();
    assert!(!bulletins.is_empty() && set.playback.clusters_of("10000").count() > 0, "the mix reaches the models");
    assert!(set.deliveries.progress(&bulletins[0].bulletin).played > 0 && set.schedules.iter().count() > 0);
    let encoded: Vec<_> = set.parts().iter().map(|part| part.encode().unwrap()).collect();
    group.throughput(Throughput::Bytes(encoded.iter().map(|bytes| bytes.len() as u64).sum()));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| set.parts().iter().map(|part| part.encode().unwrap().len()).sum::<usize>());
    });
    group.bench_function("digest", |bencher| {
        bencher.iter(|| set.parts().iter().map(|part| part.digest().unwrap()).collect::<Vec<_>>());
    });
    group.bench_function("restore", |bencher| {
        bencher.iter_batched_ref(
            AllModels::default,
            |set| {
                for (part, bytes) in set.parts_mut().into_iter().zip(&encoded) {
                    part.restore(bytes, 1).unwrap();
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
