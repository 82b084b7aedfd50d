use std::collections::{BTreeMap, BTreeSet};

use httt_domain::accounts::{Actor, Role};
use httt_domain::area::Areas;
use httt_domain::cluster::{
    Activity, CLUSTERS_STREAM, MAX_LIST_BYTES, MAX_ORDINALS, NewCluster, PlayedTracker, Register, Restatement, Status,
    StatusTracker, decode_deltas,
};
use httt_domain::models::{Clusters, Fact, ReadModel};
use httt_wire::cluster::ClusterStatusChanged;
use httt_wire::{Message, Name};
use proptest::prelude::*;

fn cluster(imei: u64) -> NewCluster {
    NewCluster {
        imei: format!("{imei:015}"), commune: "10525".into(), name: "Nhà văn hóa".into(), vendor: "V".into()
    }
}

fn decide(
    register: &Register,
    new: &[NewCluster],
) -> Result<Vec<httt_wire::cluster::ClustersRegistered>, httt_domain::Refusals> {
    let actor = Actor { account: "op", role: Role::Operator, area: "31" };
    register.decide(new, &actor, Areas::in_force_2025(), "31")
}

#[test]
fn ordinals_are_given_once_and_events_stay_small() {
    let mut register = Register::default();
    let many: Vec<_> = (0..5_000).map(cluster).collect();
    let events = decide(&register, &many).expect("registered");
    assert!(events.len() > 1);
    for event in &events {
        assert!(event.encoded_len() <= MAX_LIST_BYTES);
        register.evolve(event);
    }
    assert_eq!(
        (register.len(), register.ordinal("000000000000000"), register.ordinal("000000000004999")),
        (5_000, Some(1), Some(5_000))
    );
    let next = decide(&register, &[cluster(9_999)]).expect("one more");
    assert_eq!(next[0].clusters[0].ordinal, 5_001);
}

#[test]
fn each_mistake_in_a_register_names_its_field() {
    let mut register = Register::default();
    for event in decide(&register, &[cluster(1)]).expect("first") {
        register.evolve(&event);
    }
    for (new, code, field, words) in [
        (vec![], "required", "clusters", "“Danh sách cụm loa”"),
        (vec![cluster(1)], "duplicate", "clusters[0].imei", "000000000000001"),
        (vec![cluster(2), cluster(2)], "duplicate", "clusters[1].imei", "bị trùng"),
        (vec![NewCluster { imei: "12345".into(), ..cluster(2) }], "malformed", "clusters[0].imei", "15 chữ số"),
        (vec![NewCluster { commune: "22015".into(), ..cluster(2) }], "area-outside", "clusters[0].commune", "Tuy Hòa"),
        (vec![NewCluster { commune: "31".into(), ..cluster(2) }], "not-a-commune", "clusters[0].commune", "cấp xã"),
        (vec![NewCluster { name: String::new(), ..cluster(2) }], "required", "clusters[0].name", "“Tên cụm loa”"),
    ] {
        let refusals = decide(&register, &new).expect_err(code);
        assert_eq!((refusals.0[0].code(), refusals.0[0].field()), (code, field));
        assert!(refusals.vi().contains(words), "{}", refusals.vi());
    }
}

const OFFLINE_AFTER: i64 = 180_000;

#[test]
fn only_changes_travel() {
    let mut tracker = StatusTracker::default();
    assert_eq!(tracker.tick(0, OFFLINE_AFTER), None);
    for ordinal in [5, 1, 3] {
        tracker.heard(ordinal, Activity::Playing, 0);
    }
    tracker.heard(2, Activity::Idle, 0);
    let event = tracker.tick(1_000, OFFLINE_AFTER).expect("changes");
    assert_eq!((event.playing, event.idle, event.offline, event.at_ms), (vec![1, 2, 2], vec![2], vec![], 1_000));
    for ordinal in [5, 1, 3] {
        tracker.heard(ordinal, Activity::Playing, 60_000);
    }
    assert_eq!(tracker.tick(61_000, OFFLINE_AFTER), None);
    assert_eq!(tracker.tick(180_000, OFFLINE_AFTER).expect("2 fell silent").offline, [2]);
    // A report that was under way for long changes nothing.
    tracker.heard(1, Activity::Idle, 30_000);
    assert_eq!(tracker.tick(200_000, OFFLINE_AFTER), None);
    assert_eq!(tracker.status(1, 200_000, OFFLINE_AFTER), Status::Playing);
}

#[test]
fn after_a_restart_clusters_get_time_to_report() {
    let mut tracker = StatusTracker::resume(1_000_000, [(1, Status::Playing), (2, Status::Offline), (3, Status::Idle)]);
    assert_eq!(tracker.tick(1_000_001, OFFLINE_AFTER), None);
    tracker.heard(1, Activity::Playing, 1_060_000);
    assert_eq!(tracker.tick(1_180_000, OFFLINE_AFTER).expect("3 is gone").offline, [3]);
}

#[test]
fn a_flood_of_changes_is_cut_into_events() {
    let mut tracker = StatusTracker::default();
    for ordinal in 1..=20_000_u32 {
        tracker.heard(ordinal * 200_000, Activity::Paused, 0);
    }
    let mut seen = BTreeSet::new();
    while let Some(event) = tracker.tick(1, OFFLINE_AFTER) {
        assert!(event.encoded_len() < MAX_LIST_BYTES);
        seen.extend(decode_deltas(&event.paused).expect("deltas"));
    }
    assert_eq!(seen.len(), 20_000);
}

#[test]
fn the_news_of_a_play_travels_once() {
    let mut tracker = PlayedTracker::resume([("b1".to_owned(), [1].into_iter().collect())]);
    assert!(!tracker.record("b1", 1) && tracker.record("b1", 2) && !tracker.record("b1", 2));
    for ordinal in 1..=10_000 {
        tracker.record("b2", ordinal * 400_000);
    }
    let events = tracker.drain();
    assert_eq!(events.len(), 3);
    assert_eq!(events[0].cluster_deltas, [2]);
    for event in &events {
        assert!(event.encoded_len() < MAX_LIST_BYTES && event.cluster_deltas.len() <= MAX_ORDINALS);
    }
    assert_eq!(tracker.drain(), []);
    tracker.forget("b1");
    assert!(tracker.record("b1", 1));
}

fn apply(told: &mut BTreeMap<u32, Status>, event: &ClusterStatusChanged) {
    let lists = [
        (Status::Offline, &event.offline),
        (Status::Idle, &event.idle),
        (Status::Playing, &event.playing),
        (Status::Paused, &event.paused),
    ];
    let mut seen = BTreeSet::new();
    for (status, list) in lists {
        for ordinal in decode_deltas(list).expect("our own deltas") {
            assert!(seen.insert(ordinal), "a cluster is in at most one list");
            assert_ne!(told.insert(ordinal, status).unwrap_or_default(), status, "only changes");
        }
    }
}

proptest! {
    /// Whoever follows the events knows what the tracker knows, and hears of nothing that did not change.
    #[test]
    fn followers_know_what_the_province_knows(
        reports in prop::collection::vec((1_u32..12, 0_u8..3, 0_i64..400_000), 0..80),
        every in 1_usize..10,
    ) {
        let (mut tracker, mut told, mut now) = (StatusTracker::default(), BTreeMap::new(), 0);
        for (index, (ordinal, activity, pause)) in reports.into_iter().enumerate() {
            now += pause;
            tracker.heard(ordinal, [Activity::Playing, Activity::Paused, Activity::Idle][usize::from(activity)], now);
            if index % every == 0 {
                if let Some(event) = tracker.tick(now, OFFLINE_AFTER) {
                    apply(&mut told, &event);
                }
                for ordinal in 1..12 {
                    let known = told.get(&ordinal).copied().unwrap_or_default();
                    prop_assert_eq!(known, tracker.status(ordinal, now, OFFLINE_AFTER));
                }
            }
        }
    }
}

/// Reports of a few clusters over a few hours, with silences, told in ticks: the feed as a province writes it, and the
/// places where it could restate, with what it would say there.
fn told_feed(reports: &[(u32, u8, i64)], every: usize) -> (Vec<Told>, Vec<(usize, Vec<Told>)>) {
    let mut register = Register::default();
    let mut feed = Vec::new();
    for imei in 0..12_u64 {
        for event in decide(&register, &[cluster(imei)]).expect("registered") {
            register.evolve(&event);
            feed.push(Told::Registered(event));
        }
    }
    let (mut tracker, mut now, mut restatements) = (StatusTracker::default(), 0, Vec::new());
    for (index, (ordinal, activity, passed)) in reports.iter().enumerate() {
        now += passed;
        let activity = [Activity::Playing, Activity::Paused, Activity::Idle][usize::from(*activity)];
        tracker.heard(*ordinal, activity, now);
        if index % every == 0 {
            feed.extend(tracker.tick(now, OFFLINE_AFTER).map(Told::Changed));
            let restatement = folded(&feed).restatement("H24");
            let registered = restatement.registered.into_iter().map(Told::Registered);
            let told = registered.chain(restatement.statuses.into_iter().map(Told::Restated)).collect();
            restatements.push((feed.len(), told));
        }
    }
    (feed, restatements)
}

#[derive(Clone)]
enum Told {
    Registered(httt_wire::cluster::ClustersRegistered),
    Changed(ClusterStatusChanged),
    Restated(httt_wire::cluster::ClusterStatusRestated),
}

fn folded<'a>(feed: impl IntoIterator<Item = &'a Told>) -> Clusters {
    let mut clusters = Clusters::default();
    for told in feed {
        let (kind, data) = match told {
            Told::Registered(event) => (httt_wire::cluster::ClustersRegistered::full_name(), event.encode_to_vec()),
            Told::Changed(event) => (ClusterStatusChanged::full_name(), event.encode_to_vec()),
            Told::Restated(event) => (httt_wire::cluster::ClusterStatusRestated::full_name(), event.encode_to_vec()),
        };
        clusters.apply(&Fact {
            origin: "H24",
            audience: "TW",
            lane: httt_wire::feed::Lane::Status.into(),
            sequence: 1,
            stream: CLUSTERS_STREAM,
            version: 1,
            kind: &kind,
            occurred_at_ms: 0,
            actor: "",
            data: &data,
        });
    }
    clusters
}

proptest! {
    /// Who begins at a restatement knows what those know who read everything, and those learn nothing from it.
    #[test]
    fn a_restatement_is_worth_the_feed_before_it(
        reports in prop::collection::vec((1_u32..12, 0_u8..3, 0_i64..200_000), 1..80),
        every in 1_usize..10,
    ) {
        let (feed, restatements) = told_feed(&reports, every);
        let whole = folded(&feed);
        for (at, restatement) in restatements {
            let late = folded(restatement.iter().chain(&feed[at..]));
            prop_assert_eq!(&late, &whole);
            let both = folded(feed[..at].iter().chain(&restatement).chain(&feed[at..]));
            prop_assert_eq!(&both, &whole);
        }
    }
}

#[test]
fn a_large_restatement_is_cut_into_events() {
    let mut register = Register::default();
    for event in decide(&register, &(0..5_000).map(cluster).collect::<Vec<_>>()).expect("registered") {
        register.evolve(&event);
    }
    let statuses = (1..=20_000).map(|ordinal| (ordinal * 200_000, Status::Idle, i64::from(ordinal) * 7));
    let restatement = Restatement::of(&register, statuses);
    assert!(restatement.registered.len() > 1 && restatement.statuses.len() > 1);
    assert!(restatement.registered.iter().all(|event| event.encoded_len() <= MAX_LIST_BYTES));
    assert!(restatement.statuses.iter().all(|event| event.encoded_len() <= MAX_LIST_BYTES));
    assert_eq!(Restatement::of(&Register::default(), []), Restatement::default());
}
