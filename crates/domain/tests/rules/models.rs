use httt_domain::area::Areas;
use httt_domain::bulletin::{Content, Priority, Stage};
use httt_domain::cluster::{NewCluster, Status, encode_deltas};
use httt_domain::models::{
    Bulletins, Clusters, Deliveries, Drafts, Fact, Playback, ReadModel, Reports, Schedules, Totals,
};
use httt_domain::report::Total;
use httt_domain::{DomainEvent, Lane};
use httt_wire::bulletin as bw;
use httt_wire::cluster as cw;
use httt_wire::report as rw;
use httt_wire::{Message, Name};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::reports::{file, form, good};

/// A fact that owns what it says.
#[derive(Debug, Clone)]
struct Owned {
    origin: String,
    lane: i32,
    stream: String,
    version: u64,
    kind: String,
    at: i64,
    data: Vec<u8>,
}

impl Owned {
    fn new<M: Message + Name>(origin: &str, lane: Lane, stream: &str, message: &M) -> Self {
        let DomainEvent { lane, stream, kind, data, .. } = DomainEvent::of(lane, stream, message);
        Self { origin: origin.into(), lane: lane as i32, stream, version: 1, kind, at: 5, data: data.to_vec() }
    }

    fn fact(&self) -> Fact<'_> {
        Fact {
            origin: &self.origin,
            audience: "*",
            lane: self.lane,
            sequence: 9,
            stream: &self.stream,
            version: self.version,
            kind: &self.kind,
            occurred_at_ms: self.at,
            actor: "an",
            data: &self.data,
        }
    }
}

fn fold<M: ReadModel + Default>(facts: &[Owned]) -> M {
    let mut model = M::default();
    facts.iter().for_each(|fact| model.apply(&fact.fact()));
    model
}

fn content(priority: Priority) -> bw::Content {
    Content { title: "T".into(), body: "N".into(), priority, ..Content::default() }.to_wire()
}

fn published(origin: &str, lane: Lane, version: u32, priority: Priority) -> Owned {
    let message = bw::BulletinPublished {
        bulletin: "b1".into(),
        version,
        content: Some(content(priority)),
        ..bw::BulletinPublished::default()
    };
    Owned::new(origin, lane, "bulletin/b1", &message)
}

fn withdrawn(origin: &str, lane: Lane) -> Owned {
    let message = bw::BulletinWithdrawn { bulletin: "b1".into(), reason: "nhầm".into() };
    Owned::new(origin, lane, "bulletin/b1", &message)
}

#[test]
fn drafts_follow_their_own_node_only() {
    let created = bw::DraftCreated { bulletin: "b1".into(), content: Some(content(Priority::Ordinary)) };
    let facts = [
        Owned::new("H24", Lane::Local, "draft/b1", &created),
        Owned::new("H24", Lane::Local, "draft/b1", &bw::DraftSubmitted {}),
        Owned::new("H24", Lane::Local, "draft/b1", &bw::DraftApproved { step_up: false }),
        Owned::new("H24", Lane::Local, "draft/b1", &bw::DraftPublished { bulletin_version: 1 }),
        withdrawn("H19", Lane::Content),
    ];
    let drafts: Drafts = fold(&facts);
    let view = drafts.get("b1").expect("there");
    assert_eq!((view.draft.stage, view.history.len(), view.draft.author.as_str()), (Stage::Published, 4, "an"));
    let mut drafts = drafts.clone();
    drafts.apply(&withdrawn("H24", Lane::Content).fact());
    assert_eq!(drafts.get("b1").map(|view| view.draft.stage), Some(Stage::Withdrawn));
    assert_eq!(drafts.at_stage(Stage::Withdrawn).len(), 1);
    // Drafts never come from elsewhere: only the local lane has them.
    let stray = Owned::new("H24", Lane::Content, "draft/b2", &bw::DraftCreated { bulletin: "b2".into(), ..created });
    assert!(fold::<Drafts>(&[stray]).get("b2").is_none());
}

#[test]
fn a_bulletin_belongs_to_its_publisher_and_lane() {
    let facts = [
        published("TW", Lane::Content, 1, Priority::Ordinary),
        published("H24", Lane::Content, 7, Priority::Ordinary),
        withdrawn("H24", Lane::Content),
        withdrawn("TW", Lane::Emergency),
        published("TW", Lane::Content, 2, Priority::Priority),
        published("TW", Lane::Content, 1, Priority::Ordinary),
    ];
    let bulletins: Bulletins = fold(&facts);
    let held = bulletins.get("b1").expect("there");
    assert_eq!((held.publisher.as_str(), held.version, held.withdrawn.is_none()), ("TW", 2, true));
    assert!(held.playable(0) && held.content.priority == Priority::Priority);
    assert!(fold::<Bulletins>(&[published("TW", Lane::Content, 1, Priority::Emergency)]).get("b1").is_none());
    let mut bulletins = bulletins.clone();
    bulletins.apply(&withdrawn("TW", Lane::Content).fact());
    bulletins.apply(&published("TW", Lane::Content, 3, Priority::Ordinary).fact());
    let held = bulletins.get("b1").expect("there");
    assert_eq!((held.version, held.withdrawn.as_ref().map(|why| why.reason.as_str())), (2, Some("nhầm")));
}

#[test]
fn a_delivery_is_followed_to_the_clusters() {
    let received =
        bw::BulletinReceived { bulletin: "b1".into(), publisher: "TW".into(), sequence: 4, durable_at_ms: 77 };
    let offered = bw::BulletinOffered { bulletin: "b1".into(), communes: vec!["10525".into(), "10507".into()] };
    let scheduled = bw::BulletinScheduled { bulletin: "b1".into(), commune: "10525".into(), schedule: "s1".into() };
    let played = |ordinals: &[u32]| bw::BulletinPlayed {
        bulletin: "b1".into(),
        cluster_deltas: encode_deltas(ordinals.iter().copied()),
    };
    let at = |message: &bw::BulletinPlayed| Owned::new("H24", Lane::Report, "delivery/b1", message);
    let facts = [
        Owned::new("H24", Lane::Report, "delivery/b1", &received),
        Owned::new("H24", Lane::Report, "delivery/b1", &bw::BulletinReceived { durable_at_ms: 99, ..received.clone() }),
        Owned::new("H24", Lane::Report, "delivery/b1", &offered),
        Owned::new("H24", Lane::Report, "delivery/b1", &scheduled),
        at(&played(&[1, 2, 3])),
        at(&played(&[3, 4])),
        at(&bw::BulletinPlayed { bulletin: "b1".into(), cluster_deltas: vec![9, 0] }),
        Owned::new("H19", Lane::Report, "delivery/other", &received),
    ];
    let deliveries: Deliveries = fold(&facts);
    let progress = deliveries.progress("b1");
    assert_eq!((progress.received, progress.offered, progress.scheduled, progress.played), (1, 2, 1, 4));
    assert_eq!((progress.nodes.len(), progress.nodes[0].durable_at_ms), (1, 77));
    assert_eq!(deliveries.of_origin("H24").count(), 1);
    assert_eq!(deliveries.progress("nobody"), httt_domain::models::DeliveryProgress::default());
}

#[test]
fn clusters_are_counted_up_to_the_nation() {
    let cluster = |ordinal: u32, commune: &str| cw::Cluster {
        ordinal,
        imei: format!("{ordinal:015}"),
        commune: commune.into(),
        ..cw::Cluster::default()
    };
    let register = |clusters| cw::ClustersRegistered { clusters };
    let status = |offline: &[u32], playing: &[u32], paused: &[u32], idle: &[u32]| cw::ClusterStatusChanged {
        at_ms: 50,
        offline: offline.to_vec(),
        playing: playing.to_vec(),
        paused: paused.to_vec(),
        idle: idle.to_vec(),
    };
    let facts = [
        Owned::new(
            "H24",
            Lane::Status,
            "clusters",
            &register(vec![cluster(1, "10525"), cluster(2, "10525"), cluster(3, "10507")]),
        ),
        Owned::new("H55", Lane::Status, "clusters", &register(vec![cluster(1, "01840")])),
        Owned::new("H24", Lane::Status, "clusters", &register(vec![cluster(1, "10507")])),
        Owned::new("H24", Lane::Status, "clusters", &status(&[], &[1, 2], &[2], &[])),
        Owned::new("H24", Lane::Status, "clusters", &status(&[1], &[], &[], &[9])),
        Owned::new("H55", Lane::Status, "clusters", &status(&[0], &[1], &[], &[])),
    ];
    let (clusters, areas): (Clusters, _) = (fold(&facts), Areas::in_force_2025());
    let hai_phong = Totals { total: 3, online: 2, offline: 1, idle: 0, playing: 1, paused: 1 };
    assert_eq!(clusters.totals(areas, "31"), hai_phong);
    assert_eq!(clusters.totals(areas, "10507"), Totals { total: 1, online: 1, playing: 1, ..Totals::default() });
    assert_eq!(clusters.totals(areas, ""), Totals { total: 4, offline: 2, ..hai_phong });
    let rows = clusters.breakdown(areas, "");
    assert_eq!((rows.len(), rows["31"], rows["19"].total), (34, hai_phong, 1));
    assert_eq!(clusters.breakdown(areas, "31")["10525"].total, 2);
    let view = clusters.get("H24", 2).expect("there");
    assert_eq!((view.status, view.since_ms, view.cluster.commune.as_str()), (Status::Paused, 50, "10525"));
    assert_eq!((clusters.list(areas, "31").len(), clusters.list(areas, "VN").len()), (3, 4));
    assert_eq!(clusters.register("H24").and_then(|register| register.ordinal("000000000000003")), Some(3));
    assert!(matches!(clusters.register("H24").and_then(|register| register.get(1)), Some(NewCluster { .. })));
}

#[test]
fn schedules_and_their_answers_are_known() {
    let set =
        cw::ScheduleSet { schedule: "s1".into(), name: "Sáng".into(), commune: "10525".into(), bulletins: vec![] };
    let answer = cw::ScheduleAnswered { schedule: "s1".into(), cluster: 7, accepted: false };
    let stray = cw::ScheduleAnswered { schedule: "s2".into(), cluster: 8, accepted: true };
    let facts = [
        Owned::new("H24", Lane::Local, "schedule/s1", &set),
        Owned::new("H24", Lane::Local, "schedule/s1", &answer),
        Owned::new("H24", Lane::Local, "schedule/s1", &stray),
        Owned::new(
            "H24",
            Lane::Content,
            "schedule/s1",
            &cw::ScheduleCancelled { schedule: "s1".into(), reason: "x".into() },
        ),
    ];
    let schedules: Schedules = fold(&facts);
    let view = schedules.of_commune("10525")[0];
    assert_eq!((view.schedule.answers.len(), view.schedule.answers[&7], view.schedule.cancelled), (1, false, false));
}

#[test]
fn playback_is_counted() {
    let record = cw::PlaybackRecorded {
        cluster: 3,
        bulletin: "b1".into(),
        started_at_ms: 10,
        volume: 0,
        duration_s: 90,
        emergency: true,
        ..cw::PlaybackRecorded::default()
    };
    let play = |commune: &str| Owned::new("H24", Lane::Local, &format!("playback/{commune}"), &record);
    let playback: Playback = fold(&[play("10525"), play("10525"), play("10507")]);
    let total = playback.bulletin_total("b1");
    assert_eq!((total.plays, total.emergencies, total.silent, total.minutes()), (3, 3, 3, 4));
    assert_eq!(playback.bulletin("b1").map(|b| b.communes["10525"].plays), Some(2));
    assert_eq!(playback.clusters_of("10525").next().map(|(ordinal, count)| (ordinal, count.plays)), Some((3, 2)));
}

#[test]
fn reports_are_summed_corrected_and_missed() {
    let areas = Areas::in_force_2025();
    let filed = |commune: &str, clusters: i64| {
        let mut report = file(&good()).expect("good");
        report.area = commune.into();
        for value in report.values.iter_mut().filter(|value| value.indicator == "clusters_all") {
            value.value = Some(rw::value::Value::Number(clusters));
        }
        report
    };
    let fact = |origin: &str, report: &rw::ReportFiled| {
        let stream = format!("report/commune-station/2026-Q3/{}", report.area);
        Owned::new(origin, Lane::Report, &stream, report)
    };
    let summary = rw::SummarySubmitted {
        form: "commune-station".into(),
        form_version: 1,
        period: "2026-Q3".into(),
        area: "31".into(),
        reports: 2,
    };
    let facts = [
        fact("H24", &filed("10525", 12)),
        fact("H24", &filed("10507", 5)),
        fact("H55", &filed("01840", 3)),
        fact("H24", &filed("10525", 20)),
        fact("H55", &filed("10525", 999)),
        Owned::new("H24", Lane::Report, "report/x/y/z", &filed("10532", 1)),
        Owned::new("H24", Lane::Report, "summary/commune-station/2026-Q3", &summary),
    ];
    let reports: Reports = fold(&facts);
    let total = |area: &str| reports.totals(areas, form(), "2026-Q3", area)["clusters_all"].clone();
    assert_eq!((total("31"), total("19"), total("")), (Total::Sum(25), Total::Sum(3), Total::Sum(28)));
    assert_eq!(total("66"), Total::Sum(0));
    assert_eq!(reports.missing(areas, "commune-station", "2026-Q3", "31").len(), 112);
    assert_eq!(reports.filed("commune-station", "2026-Q3").len(), 3);
    assert_eq!(
        reports.submitted("commune-station", "2026-Q3").map(|(area, s)| (area, s.reports)).collect::<Vec<_>>(),
        [("31", 2)]
    );
    assert_eq!(reports.periods("commune-station").collect::<Vec<_>>(), ["2026-Q3"]);
    assert!(reports.get("commune-station", "2026-Q3", "10532").is_none());
}

const KINDS: [&str; 22] = [
    "httt.bulletin.v1.DraftCreated",
    "httt.bulletin.v1.DraftEdited",
    "httt.bulletin.v1.DraftSubmitted",
    "httt.bulletin.v1.DraftReturned",
    "httt.bulletin.v1.DraftRejected",
    "httt.bulletin.v1.DraftApproved",
    "httt.bulletin.v1.DraftPublished",
    "httt.bulletin.v1.BulletinPublished",
    "httt.bulletin.v1.BulletinWithdrawn",
    "httt.bulletin.v1.BulletinReceived",
    "httt.bulletin.v1.BulletinOffered",
    "httt.bulletin.v1.BulletinScheduled",
    "httt.bulletin.v1.BulletinPlayed",
    "httt.cluster.v1.ClustersRegistered",
    "httt.cluster.v1.ClusterStatusChanged",
    "httt.cluster.v1.ScheduleSet",
    "httt.cluster.v1.ScheduleCancelled",
    "httt.cluster.v1.ScheduleAnswered",
    "httt.cluster.v1.PlaybackRecorded",
    "httt.report.v1.ReportFiled",
    "httt.report.v1.SummarySubmitted",
    "httt.later.v9.Unknown",
];

/// Bytes of some message or of none, under any name, in any stream and lane.
fn noise() -> impl Strategy<Value = Owned> {
    let streams = prop::sample::select(vec![
        "draft/b1",
        "bulletin/b1",
        "delivery/b1",
        "clusters",
        "schedule/s1",
        "playback/10525",
        "draft/",
        "",
        "report/f/p/a",
        "report///",
        "summary//",
    ]);
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(Vec::new()),
        Just(vec![8, 1]),
        Just(vec![10, 2, b'b', b'1'])
    ];
    (0_i32..8, streams, prop::sample::select(KINDS.to_vec()), any::<i64>(), any::<u64>(), data).prop_map(
        |(lane, stream, kind, at, version, data)| Owned {
            origin: "H24".into(),
            lane,
            stream: stream.into(),
            version,
            kind: kind.into(),
            at,
            data,
        },
    )
}

fn likely() -> impl Strategy<Value = Owned> {
    let draft = |message: &dyn Fn() -> Owned| Just(message()).boxed();
    let ordinals = prop::collection::btree_set(1_u32..30, 0..6);
    prop_oneof![
        draft(&|| {
            let created = bw::DraftCreated { bulletin: "b1".into(), content: Some(content(Priority::Ordinary)) };
            Owned::new("H24", Lane::Local, "draft/b1", &created)
        }),
        draft(&|| Owned::new("H24", Lane::Local, "draft/b1", &bw::DraftSubmitted {})),
        (1_u32..4).prop_map(|version| published("TW", Lane::Content, version, Priority::Ordinary)),
        draft(&|| withdrawn("TW", Lane::Content)),
        ordinals.clone().prop_map(|ordinals| {
            let played = bw::BulletinPlayed { bulletin: "b1".into(), cluster_deltas: encode_deltas(ordinals) };
            Owned::new("H24", Lane::Report, "delivery/b1", &played)
        }),
        ordinals.clone().prop_map(|ordinals| {
            let clusters = ordinals.into_iter().map(|ordinal| cw::Cluster {
                ordinal,
                imei: format!("{ordinal:015}"),
                commune: "10525".into(),
                ..cw::Cluster::default()
            });
            let registered = cw::ClustersRegistered { clusters: clusters.collect() };
            Owned::new("H24", Lane::Status, "clusters", &registered)
        }),
        (ordinals, any::<i64>()).prop_map(|(ordinals, at_ms)| {
            let changed = cw::ClusterStatusChanged {
                at_ms,
                playing: encode_deltas(ordinals),
                ..cw::ClusterStatusChanged::default()
            };
            Owned::new("H24", Lane::Status, "clusters", &changed)
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(cluster, duration_s)| {
            let record =
                cw::PlaybackRecorded { cluster, bulletin: "b1".into(), duration_s, ..cw::PlaybackRecorded::default() };
            Owned::new("H24", Lane::Local, "playback/10525", &record)
        }),
        any::<bool>().prop_map(|accepted| {
            let answered = cw::ScheduleAnswered { schedule: "s1".into(), cluster: 1, accepted };
            Owned::new("H24", Lane::Local, "schedule/s1", &answered)
        }),
        draft(&|| {
            let set = cw::ScheduleSet { schedule: "s1".into(), commune: "10525".into(), ..cw::ScheduleSet::default() };
            Owned::new("H24", Lane::Local, "schedule/s1", &set)
        }),
        draft(&|| {
            let report = file(&good()).expect("good");
            Owned::new("H24", Lane::Report, "report/commune-station/2026-Q3/10525", &report)
        }),
    ]
}

fn holds<M>(facts: &[Owned], at: usize) -> Result<(), TestCaseError>
where
    M: ReadModel + Default + Clone + Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let whole: M = fold(facts);
    // A snapshot in between, written and read back, makes no difference.
    let (before, after) = facts.split_at(at.min(facts.len()));
    let snapshot = serde_json::to_vec(&fold::<M>(before)).expect("json");
    let mut resumed: M = serde_json::from_slice(&snapshot).expect("reads back");
    after.iter().for_each(|fact| resumed.apply(&fact.fact()));
    prop_assert_eq!(&resumed, &whole, "{}", M::NAME);
    prop_assert_eq!(serde_json::to_vec(&resumed).expect("json"), serde_json::to_vec(&whole).expect("json"));
    Ok(())
}

proptest! {
    #[test]
    fn models_are_folds_and_nothing_panics(
        facts in prop::collection::vec(prop_oneof![2 => likely(), 1 => noise()], 0..40),
        at in 0_usize..40,
    ) {
        holds::<Drafts>(&facts, at)?;
        holds::<Bulletins>(&facts, at)?;
        holds::<Deliveries>(&facts, at)?;
        holds::<Clusters>(&facts, at)?;
        holds::<Schedules>(&facts, at)?;
        holds::<Playback>(&facts, at)?;
        holds::<Reports>(&facts, at)?;
        let clusters: Clusters = fold(&facts);
        let totals = clusters.totals(Areas::in_force_2025(), "");
        prop_assert_eq!(totals.total, totals.online + totals.offline);
        prop_assert_eq!(totals.online, totals.idle + totals.playing + totals.paused);
    }

    /// Facts of types nobody knows leave no trace.
    #[test]
    fn unknown_facts_change_nothing(data in prop::collection::vec(any::<u8>(), 0..40), fact in noise()) {
        let fact = Owned { kind: "httt.later.v9.Unknown".into(), data, ..fact };
        let facts = std::slice::from_ref(&fact);
        prop_assert_eq!(fold::<Drafts>(facts), Drafts::default());
        prop_assert_eq!(fold::<Bulletins>(facts), Bulletins::default());
        prop_assert_eq!(fold::<Deliveries>(facts), Deliveries::default());
        prop_assert_eq!(fold::<Clusters>(facts), Clusters::default());
        prop_assert_eq!(fold::<Schedules>(facts), Schedules::default());
        prop_assert_eq!(fold::<Playback>(facts), Playback::default());
        prop_assert_eq!(fold::<Reports>(facts), Reports::default());
    }
}
