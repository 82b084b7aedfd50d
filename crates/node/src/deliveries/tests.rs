use httt_exchange::{LogStore, SharedDirectory};
use httt_feed::{Digest, Sealer, SigningKey};
use httt_log::{Log, Options, Transaction};
use httt_wire::directory as pb;

use super::*;
use crate::models::for_each_fact;

fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn sealer(member: &str) -> Sealer {
    Sealer::new(code(member), SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("seed"))
}

struct World {
    log: Log,
    deliveries: Deliveries,
    view: DeliveryView,
    _dir: tempfile::TempDir,
}

/// A gateway with a ministry, two provinces and a carrier of one of them; the ministry said three things to all, and one
/// to H24.
async fn world() -> World {
    let dir = tempfile::tempdir().expect("dir");
    let (log, _) = Log::open(dir.path(), Arc::new(sealer("NDXP")), Options::default()).expect("opens");
    let mut events = Vec::new();
    for (member, kind) in [
        ("NDXP", pb::MemberKind::Gateway),
        ("TW", pb::MemberKind::Central),
        ("H24", pb::MemberKind::Province),
        ("H55", pb::MemberKind::Province),
        ("H55.LGSP", pb::MemberKind::Carrier),
    ] {
        let enrolled = pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
        events.push(NewEvent::of(Audience::All, Lane::Directory, format!("member/{member}"), &enrolled));
    }
    let granted = pb::CarrierGranted { carrier: "H55.LGSP".into(), member: "H55".into() };
    events.push(NewEvent::of(Audience::All, Lane::Directory, "member/H55", &granted));
    log.commit(Transaction::append(events)).await.expect("enrols");
    for (feed, count) in [("TW→*/content", 3), ("TW→H24/content", 1)] {
        let (feed, tw): (FeedId, _) = (feed.parse().expect("feed"), sealer("TW"));
        let mut head = None;
        for sequence in 1..=count {
            let event = httt_wire::feed::Event {
                id: vec![sequence as u8; 16],
                stream: feed.to_string(),
                version: sequence,
                r#type: "t".into(),
                ..Default::default()
            };
            let batch = tw.seal(&feed, head.as_ref(), 0, vec![event]).expect("seals");
            head = Some(batch.head());
            log.commit(Transaction::copy([batch])).await.expect("takes");
        }
    }
    let fingerprint = sealer("NDXP").key().public().fingerprint();
    let directory = SharedDirectory::new(log.clone(), Directory::trusting(fingerprint));
    let deliveries = Deliveries::default();
    let view = DeliveryView::new(deliveries.clone(), Arc::new(LogStore::new(log.clone())), directory);
    World { log, deliveries, view, _dir: dir }
}

impl World {
    fn rows(&self, reader: &str, feed: &str) -> Vec<DeliveryAnswer> {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let query = DeliveryQuery { reader: some(reader), feed: some(feed) };
        self.view.rows(&query, clock::system()() + 60_000).map(|(_, row)| row).collect()
    }

    fn row(&self, reader: &str, feed: &str) -> DeliveryAnswer {
        let rows = self.rows(reader, feed);
        assert_eq!(rows.len(), 1, "{reader} {feed}");
        rows.into_iter().next().expect("one")
    }
}

#[tokio::test]
async fn a_member_that_never_called_lacks_everything_that_is_for_it() {
    let world = world().await;
    let row = world.row("H24", "TW→*/content");
    assert_eq!((row.held, row.head, row.lag_entries, row.seen_at_ms), (0, 3, 3, 0));
    assert!(row.lag_ms.is_some_and(|lag| lag >= 60_000), "{row:?}");
    assert!(world.rows("H55", "TW→H24/content").is_empty(), "not for it");
    assert!(world.rows("TW", "TW→*/content").is_empty(), "its own");
    assert_eq!(world.rows("", "TW→*/content").len(), 3);
}

#[tokio::test]
async fn lag_is_what_a_reader_lacks_and_a_carrier_reads_for_those_it_carries_for() {
    let world = world().await;
    let content: FeedId = "TW→*/content".parse().expect("feed");
    world.deliveries.holds(&code("H24"), &content, 3, 5_000);
    world.deliveries.holds(&code("H55.LGSP"), &content, 2, 6_000);
    let row = world.row("H24", "TW→*/content");
    assert_eq!((row.held, row.lag_entries, row.lag_ms, row.seen_at_ms), (3, 0, Some(0), 5_000));
    let row = world.row("H55", "TW→*/content");
    assert_eq!((row.held, row.lag_entries, row.through.as_deref()), (2, 1, Some("H55.LGSP")));
    assert_eq!(row.seen_at_ms, 6_000);
    world.deliveries.holds(&code("H55"), &content, 3, 7_000);
    assert_eq!((world.row("H55", "TW→*/content").held, world.row("H55", "TW→*/content").through), (3, None));
    let metrics = Metrics::default();
    world.view.tell(&metrics);
    let mut text = String::new();
    metrics.render(&mut text);
    for line in [
        "httt_delivery_lag_entries{reader=\"H24\",lane=\"content\"} 1",
        "httt_delivery_lag_entries{reader=\"H55\",lane=\"content\"} 0",
        "httt_reader_seen_timestamp_seconds{reader=\"H24\"} 5",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn what_is_written_down_comes_back_after_a_restart_and_nothing_is_written_twice() {
    let world = world().await;
    let store = LogStore::new(world.log.clone());
    world.deliveries.holds(&code("H24"), &"TW→*/content".parse().expect("feed"), 2, 5_000);
    write_down(&world.deliveries, &store).await;
    let length = world.log.len();
    write_down(&world.deliveries, &store).await;
    assert_eq!(world.log.len(), length, "nothing changed");
    world.deliveries.holds(&code("H24"), &"TW→H24/content".parse().expect("feed"), 1, 6_000);
    write_down(&world.deliveries, &store).await;

    let mut delivered = Delivered::default();
    for entry in world.log.read(0, usize::MAX, usize::MAX).expect("reads") {
        for_each_fact(&entry, |fact| delivered.apply(fact));
    }
    let after = Deliveries::default();
    delivered.restore(&after);
    assert_eq!(after.readers(), world.deliveries.readers());
    assert!(after.untold().is_empty());
}

#[tokio::test]
async fn what_members_say_of_readers_is_not_believed() {
    use httt_wire::{Message as _, Name as _};
    let seen = DeliverySeen { reader: "H24".into(), seen_at_ms: 1, feeds: vec![] }.encode_to_vec();
    let kind = DeliverySeen::full_name();
    let fact = |lane: Lane| Fact {
        origin: "H55",
        audience: "NDXP",
        lane: lane.to_wire(),
        sequence: 1,
        stream: "delivery",
        version: 1,
        kind: &kind,
        occurred_at_ms: 0,
        actor: "",
        data: &seen,
    };
    let mut delivered = Delivered::default();
    delivered.apply(&fact(Lane::Report));
    assert!(delivered.readers().is_empty());
    delivered.apply(&fact(Lane::Local));
    assert_eq!(delivered.readers().len(), 1);
}
