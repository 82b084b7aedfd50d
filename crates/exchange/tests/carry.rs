//! Feeds by hand between real logs that have no link at all.

mod common;

use std::sync::Arc;

use common::*;
use httt_exchange::carry::*;
use httt_exchange::*;
use httt_feed::*;
use httt_log::{NewEvent, Transaction};
use httt_wire::bulletin::{BulletinPublished, Content, Media as NamedMedia};
use httt_wire::directory as pb;
use httt_wire::exchange::{self as wire, Receipt};
use httt_wire::{Message as _, Name as _};

/// A node and what else carrying by hand needs.
struct Hand {
    node: Node,
    media: Arc<MemoryMedia>,
    stopped: StoppedFeeds,
    tally: Tally,
    own: OwnFeeds,
}

impl Hand {
    fn of(node: Node) -> Self {
        let (media, stopped, tally) = (Arc::default(), StoppedFeeds::default(), Tally::default());
        Self { node, media, stopped, tally, own: OwnFeeds::default() }
    }

    fn open(member: &str) -> Self {
        Self::of(Node::open(member))
    }

    fn store(&self) -> Arc<LogStore> {
        Arc::new(LogStore::new(self.node.log.clone()))
    }

    fn exporter(&self) -> Exporter {
        Exporter::new(self.store(), self.node.directory.clone(), self.media.clone())
    }

    async fn select(&self, selection: &Selection, earlier: Option<&[u8]>) -> Vec<u8> {
        let earlier = earlier.map(manifest);
        let mut export = self.exporter().begin(selection, earlier.as_ref(), 1_000).await.expect("exports");
        let mut file = Vec::new();
        while let Some(bytes) = export.next().await.expect("reads") {
            file.extend_from_slice(&bytes);
        }
        file
    }

    async fn export(&self, reader: &str, earlier: Option<&[u8]>) -> Vec<u8> {
        self.select(&Selection::all_for(code(reader)), earlier).await
    }

    async fn import(&self, file: &[u8]) -> ImportReport {
        let (directory, media) = (self.node.directory.clone(), self.media.clone());
        let importer = Importer::new(self.store(), directory, media, self.stopped.clone(), Gate::default());
        let importer = importer.with_tally(self.tally.clone()).with_own_feeds(self.own.clone());
        let mut import = importer.begin();
        import.push(file).await;
        import.finish()
    }

    async fn takes(&self, file: &[u8]) -> ImportReport {
        let report = self.import(file).await;
        assert!(report.ok, "{report:#?}");
        report
    }

    fn head(&self, feed: &str) -> u64 {
        self.node.log.head(&feed.parse().expect("feed")).map_or(0, |head| head.sequence)
    }

    async fn keep(&self, data: &[u8]) -> Digest {
        let digest = Digest::of(data);
        let member = self.node.code.clone();
        self.media.write(&member, digest, data.len() as u64, 0, data.to_vec().into(), false).await.expect("kept");
        digest
    }

    async fn publish(&self, bulletin: &str, data: &[u8]) -> Digest {
        let digest = self.keep(data).await;
        let media = NamedMedia { sha256: digest.0.to_vec(), size: data.len() as u64, ..Default::default() };
        let content = Content { media: Some(media), ..Default::default() };
        let published =
            BulletinPublished { bulletin: bulletin.into(), version: 1, content: Some(content), ..Default::default() };
        let event = NewEvent::of(Audience::All, Lane::Content, format!("bulletin/{bulletin}"), &published);
        self.node.log.commit(Transaction::append([event])).await.expect("published");
        digest
    }

    async fn has_media(&self, digest: Digest) -> MediaStat {
        self.media.stat(&self.node.code, digest, false).await.expect("stat")
    }
}

/// What a file says of itself.
fn manifest(file: &[u8]) -> Manifest {
    let mut decoder = Decoder::default();
    decoder.push(file);
    match decoder.next_part() {
        Ok(Some(Part::Manifest(manifest))) => *manifest,
        other => panic!("{other:?}"),
    }
}

fn outcome<'a>(report: &'a ImportReport, feed: &str) -> &'a FeedReport {
    report.feeds.iter().find(|row| row.feed == feed).unwrap_or_else(|| panic!("{feed}: {report:#?}"))
}

/// A gateway, and members that were given its directory on a stick.
async fn nation<const N: usize>(members: [&str; N]) -> (Hand, [Hand; N]) {
    let gateway = Hand::of(gateway().await.0);
    let members = members.map(Hand::open);
    for member in &members {
        member.takes(&gateway.export(member.node.code.as_str(), None).await).await;
    }
    (gateway, members)
}

#[tokio::test(flavor = "multi_thread")]
async fn ministry_exchange_and_province_talk_by_stick_alone() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    tw.node.say("*", Lane::Emergency, "b2").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    h24.takes(&gateway.export("H24", None).await).await;
    assert_eq!((h24.head("TW→*/content"), h24.head("TW→*/emergency")), (1, 1));

    h24.node.say("TW", Lane::Report, "r1").await;
    gateway.takes(&h24.export("NDXP", None).await).await;
    tw.takes(&gateway.export("TW", None).await).await;
    assert_eq!(tw.head("H24→TW/report"), 1);

    // The receipts come with the next file back, signed by the gateway.
    h24.takes(&gateway.export("H24", Some(&h24.export("NDXP", None).await)).await).await;
    let feed = "NDXP→H24/report".parse().expect("feed");
    let entry = h24.node.log.read_feed(&feed, 0, 1).expect("reads").remove(0);
    let receipt = Receipt::decode(entry.batch.events[0].data.clone()).expect("receipt");
    let held = h24.node.log.head(&"H24→TW/report".parse().expect("feed")).expect("own");
    assert_eq!((receipt.sequence, receipt.digest), (1, held.digest.0.to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_taken_twice_changes_nothing_and_says_so() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    let up = tw.export("NDXP", None).await;
    gateway.takes(&up).await;
    let entries = gateway.node.log.len();
    let again = gateway.takes(&up).await;
    assert_eq!(outcome(&again, "TW→*/content").outcome, "held");
    assert_eq!(gateway.node.log.len(), entries, "no second receipt either");

    let down = gateway.export("H24", None).await;
    let first = h24.takes(&down).await;
    assert_eq!((outcome(&first, "TW→*/content").taken, outcome(&first, "TW→*/content").held), (1, 0));
    let entries = h24.node.log.len();
    let second = h24.takes(&down).await;
    assert!(second.feeds.iter().all(|row| row.outcome == "held" && row.taken == 0), "{second:#?}");
    assert_eq!(h24.node.log.len(), entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_out_of_order_say_what_is_missing_and_heal() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    let mut files = Vec::<Vec<u8>>::new();
    for round in 1..=3 {
        tw.node.say("*", Lane::Content, &format!("b{round}")).await;
        gateway.takes(&tw.export("NDXP", None).await).await;
        let file = gateway.export("H24", files.last().map(Vec::as_slice)).await;
        files.push(file);
    }
    assert_eq!(manifest(&files[2]).ranges.iter().map(|range| range.first).collect::<Vec<_>>(), [3]);
    let report = h24.import(&files[2]).await;
    let row = outcome(&report, "TW→*/content");
    assert_eq!((report.ok, row.outcome, row.taken, row.head), (false, "gap", 0, 0));
    assert!(row.message.contains("thiếu 1–2") && row.message_en.contains("1–2 missing"), "{row:?}");
    assert_eq!(h24.head("TW→*/content"), 0);
    for file in &files {
        h24.takes(file).await;
    }
    assert_eq!(h24.head("TW→*/content"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_reader_holds_is_left_out_of_the_next_file() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let first = gateway.export("H24", None).await;
    h24.takes(&first).await;
    let nothing_new = gateway.export("H24", Some(&h24.export("NDXP", None).await)).await;
    assert_eq!(manifest(&nothing_new).ranges, []);
    assert!(h24.takes(&nothing_new).await.feeds.is_empty());
    // Two files on, what the first brought is still known.
    let second = gateway.export("H24", Some(&first)).await;
    tw.node.say("*", Lane::Content, "b2").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let third = manifest(&gateway.export("H24", Some(&second)).await);
    assert_eq!(
        third.ranges.iter().map(|range| (range.feed.to_string(), range.first)).collect::<Vec<_>>(),
        [("TW→*/content".to_owned(), 2)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_file_for_somebody_else_nothing_private_enters() {
    let (gateway, [tw, h24, h55]) = nation(["TW", "H24", "H55"]).await;
    tw.node.say("H55", Lane::Content, "secret").await;
    tw.node.say("*", Lane::Emergency, "flood").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let file = gateway.export("H55", None).await;
    let report = h24.import(&file).await;
    let row = outcome(&report, "TW→H55/content");
    assert!(!report.ok && report.for_somebody_else, "{report:#?}");
    assert_eq!((row.outcome, row.taken), ("not-for-this-node", 0));
    assert!(row.message.contains("không dành cho nút này") && row.message.contains("H55"), "{row:?}");
    assert_eq!(h24.head("TW→H55/content"), 0);
    // What everybody may read proves itself, whoever brings it.
    assert_eq!((outcome(&report, "TW→*/emergency").outcome, h24.head("TW→*/emergency")), ("taken", 1));
    h55.takes(&file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_yet_can_be_taken_later() {
    let (gateway, [tw]) = nation(["TW"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let lanes = vec![Lane::Content];
    let content = gateway.select(&Selection { lanes, ..Selection::all_for(code("H24")) }, None).await;
    let h24 = Hand::open("H24");
    let report = h24.import(&content).await;
    let row = outcome(&report, "TW→*/content");
    assert_eq!((row.outcome, h24.head("TW→*/content")), ("unknown-key", 0), "{row:?}");
    assert!(row.message.contains("danh bạ"), "{row:?}");
    assert!(h24.node.log.is_empty(), "nor is it evidence of anything");
    h24.takes(&gateway.export("H24", Some(&content)).await).await;
    h24.takes(&content).await;
    assert_eq!(h24.head("TW→*/content"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_exchanges_directory_is_told_apart() {
    let other = Hand::open("NDXP");
    let stranger = Sealer::new(code("NDXP"), key("somebody else"));
    let feed = "NDXP→*/directory".parse().expect("feed");
    let enrolled = pb::MemberEnrolled { member: "NDXP".into(), kind: 1, ..Default::default() };
    let added = pb::KeyAdded { member: "NDXP".into(), key: Some(key("somebody else").public().to_wire()) };
    let event = |version: u64, kind: String, data: Vec<u8>| httt_wire::feed::Event {
        id: vec![version as u8; 16],
        stream: "member/NDXP".into(),
        version,
        r#type: kind,
        data: data.into(),
        ..Default::default()
    };
    let events = vec![
        event(1, pb::MemberEnrolled::full_name(), enrolled.encode_to_vec()),
        event(2, pb::KeyAdded::full_name(), added.encode_to_vec()),
    ];
    let batch = stranger.seal(&feed, None, 0, events).expect("seals");
    let h24 = Hand::open("H24");
    let report = h24.import(&gateway_file(&other, &feed, &batch)).await;
    assert_eq!(outcome(&report, "NDXP→*/directory").outcome, "other-exchange", "{report:#?}");
    assert!(h24.node.log.is_empty() && h24.node.directory.get().gateway().is_none());
}

/// A file with one batch in it.
fn gateway_file(maker: &Hand, feed: &FeedId, batch: &VerifiedBatch) -> Vec<u8> {
    file_of(maker, feed, batch.head(), batch.bytes().clone())
}

/// The same, of whatever bytes.
fn file_of(maker: &Hand, feed: &FeedId, last: Head, bytes: bytes::Bytes) -> Vec<u8> {
    let range = Range { feed: feed.clone(), first: last.sequence, last };
    let manifest = Manifest {
        maker: maker.node.code.clone(),
        reader: code("H24"),
        made_at_ms: 0,
        log_id: vec![0; 16],
        position: 1,
        ranges: vec![range],
        held: vec![],
        reached: vec![],
        media: vec![],
        wanted: vec![],
        more: false,
        away: vec![],
    };
    let (mut encoder, first) = Encoder::begin(&manifest);
    let pack = encoder.entries(feed, vec![bytes]).expect("packs");
    [first, pack, encoder.end()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_and_what_it_verifies_may_come_in_one_file() {
    let (gateway, [tw]) = nation(["TW"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let file = gateway.export("H24", None).await;
    let lanes: Vec<Lane> = manifest(&file).ranges.iter().map(|range| range.feed.lane).collect();
    assert_eq!(lanes, [Lane::Directory, Lane::Content], "in the order in which lanes are served");
    let h24 = Hand::open("H24");
    h24.takes(&file).await;
    assert_eq!(h24.head("TW→*/content"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_file_is_told_and_what_was_good_before_is_kept() {
    let (gateway, [tw]) = nation(["TW"]).await;
    tw.node.say("*", Lane::Emergency, "b1").await;
    tw.node.say("*", Lane::Content, "b2").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let file = gateway.export("H24", None).await;
    let h24 = Hand::open("H24");
    let mut entries = 0;
    // The same node is given every beginning of the file, the longest last.
    for length in 0..file.len() {
        let report = h24.import(&file[..length]).await;
        let broken = report.broken.as_ref().unwrap_or_else(|| panic!("{length}"));
        assert!(!report.ok && broken.offset <= length as u64, "{length}: {broken:?}");
        assert!(broken.message.contains("cắt giữa chừng"), "{broken:?}");
        assert!(h24.node.log.len() >= entries, "{length}");
        entries = h24.node.log.len();
    }
    // Before the end frame came, everything was here.
    assert_eq!((h24.head("TW→*/emergency"), h24.head("TW→*/content")), (1, 1));
    h24.takes(&file).await;
    // Half of it: the emergency is in, the rest is told to be missing.
    let half = Hand::open("H24");
    let emergency_in = (0..file.len()).find(|length| {
        let parts = parts(&file[..*length]);
        parts.iter().any(|part| matches!(part, Part::Entries { feed, .. } if feed.lane == Lane::Emergency))
    });
    let report = half.import(&file[..emergency_in.expect("an emergency")]).await;
    assert_eq!((half.head("TW→*/emergency"), half.head("TW→*/content")), (1, 0));
    assert_eq!(outcome(&report, "TW→*/emergency").outcome, "taken");
    assert_eq!(outcome(&report, "TW→*/content").outcome, "missing");
}

fn parts(file: &[u8]) -> Vec<Part> {
    let mut decoder = Decoder::default();
    decoder.push(file);
    std::iter::from_fn(|| decoder.next_part().ok().flatten()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_byte_lets_nothing_false_in() {
    let (gateway, [tw]) = nation(["TW"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let file = gateway.export("H24", None).await;
    let (good, bad) = (Hand::open("H24"), Hand::open("H24"));
    good.takes(&file).await;
    let held = good.node.log.heads();
    for at in (0..file.len()).step_by(7) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x40;
        let report = bad.import(&damaged).await;
        let broken = report.broken.as_ref().unwrap_or_else(|| panic!("byte {at}"));
        assert!(broken.offset <= at as u64 && !broken.message.is_empty(), "byte {at}: {broken:?}");
        for head in bad.node.log.heads() {
            assert!(held.iter().any(|good| (&good.feed, good.head) == (&head.feed, head.head)), "byte {at}: {head:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_altered_in_an_intact_file_are_refused_and_remembered() {
    let (gateway, [tw]) = nation(["TW"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let file = gateway.export("H24", None).await;
    // Whoever carries writes a file of his own around it, with one letter of the bulletin changed.
    let said = manifest(&file);
    let (mut encoder, first) = Encoder::begin(&said);
    let mut forged = first.to_vec();
    for part in parts(&file) {
        let Part::Entries { feed, mut entries } = part else { continue };
        if feed.lane == Lane::Content {
            let mut bytes = entries[0].to_vec();
            let at = bytes.windows(2).position(|two| two == b"b1").expect("the bulletin");
            bytes[at + 1] = b'2';
            entries[0] = bytes.into();
        }
        forged.extend_from_slice(&encoder.entries(&feed, entries).expect("packs"));
    }
    forged.extend_from_slice(&encoder.end());
    let h24 = Hand::open("H24");
    let report = h24.import(&forged).await;
    assert_eq!(outcome(&report, "TW→*/content").outcome, "refused", "{report:#?}");
    assert!(report.broken.is_none(), "the file itself is whole");
    assert_eq!(h24.head("TW→*/content"), 0);
    let noted = h24.node.log.stream_version(&code("H24"), "tampering/TW→*/content").expect("reads");
    assert_eq!(noted, Some(1), "an auditor can see it");
    h24.import(&forged).await;
    let noted = h24.node.log.stream_version(&code("H24"), "tampering/TW→*/content").expect("reads");
    assert_eq!(noted, Some(1), "once");
    h24.takes(&file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_cannot_be_right_by_hand_so_much_is_recorded_a_day() {
    let (gateway, [tw]) = nation(["TW"]).await;
    let feed: FeedId = "TW→*/content".parse().expect("feed");
    let batch = batches("TW", "TW→*/content", 1, 200).remove(0);
    let data = batch.bytes().windows(200).position(|bytes| bytes == [7; 200]).expect("its data");
    for place in 0..MAX_RECORDS_A_DAY + 20 {
        let mut bytes = batch.bytes().to_vec();
        bytes[data + place] = 8;
        let report = gateway.import(&file_of(&tw, &feed, batch.head(), bytes.into())).await;
        assert_eq!(outcome(&report, "TW→*/content").outcome, "refused", "{report:#?}");
    }
    let noted = gateway.node.log.stream_version(&code("NDXP"), "tampering/TW→*/content").expect("reads");
    assert_eq!(noted, Some(MAX_RECORDS_A_DAY as u64));
    let suspect = Suspect { peer: "by hand".into(), kept: MAX_RECORDS_A_DAY as u64, counted: 20 };
    assert_eq!(gateway.tally.suspects(), [suspect]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_receipts_that_forked_nothing_is_waited_for_by_hand_either() {
    let (mut gateway, [h24]) = nation(["H24"]).await;
    gateway.own = OwnFeeds::asking(Asks::EachBefore);
    let service = plain_service(&gateway.node, Receipts::Issue).with_own_feeds(gateway.own.clone());
    let receipts: FeedId = "NDXP→H24/report".parse().expect("feed");
    let held = vec![head_to_wire(&receipts, Head { sequence: 9, digest: Digest([9; 32]) })];
    service.heads(&code("H24"), wire::HeadsRequest { held, ..Default::default() }).await;
    h24.node.say("TW", Lane::Report, "r1").await;
    let file = h24.export("NDXP", None).await;
    assert_eq!(outcome(&gateway.import(&file).await, "H24→TW/report").outcome, "unavailable");
    gateway.stopped.stop(receipts);
    gateway.takes(&file).await;
    assert_eq!(gateway.head("H24→TW/report"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forked_feed_in_a_file_is_kept_as_evidence_and_stops() {
    let (gateway, [tw, other]) = nation(["TW", "TW"]).await;
    tw.node.say("*", Lane::Content, "truth").await;
    other.node.say("*", Lane::Content, "another truth").await;
    other.node.say("*", Lane::Content, "and more").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let forked = other.export("NDXP", None).await;
    let report = gateway.import(&forked).await;
    let row = outcome(&report, "TW→*/content");
    assert_eq!((report.ok, row.outcome, row.head), (false, "forked", 1));
    assert!(row.message.contains("bằng chứng"), "{row:?}");
    let feed: FeedId = "TW→*/content".parse().expect("feed");
    assert!(gateway.stopped.contains(&feed));
    let kept = gateway.node.log.stream_version(&code("NDXP"), "fork/TW→*/content").expect("reads");
    assert_eq!(kept, Some(1), "both batches are there to be seen");
    // From now on it stands still, also for what is true.
    tw.node.say("*", Lane::Content, "truth goes on").await;
    let report = gateway.import(&tw.export("NDXP", None).await).await;
    assert_eq!((outcome(&report, "TW→*/content").outcome, gateway.head("TW→*/content")), ("forked", 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stories_meet_even_where_files_are_incremental() {
    let (gateway, [tw, other, h24]) = nation(["TW", "TW", "H24"]).await;
    tw.node.say("*", Lane::Content, "truth").await;
    other.node.say("*", Lane::Content, "another truth").await;
    h24.takes(&other.export("H24", None).await).await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    // The province says that it holds 1, and so does the gateway; but it is another 1.
    let file = gateway.export("H24", Some(&h24.export("NDXP", None).await)).await;
    let report = h24.import(&file).await;
    assert_eq!(outcome(&report, "TW→*/content").outcome, "forked");
    assert!(h24.stopped.contains(&"TW→*/content".parse().expect("feed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn media_go_on_in_the_next_file_where_the_stick_was_full() {
    let (gateway, [tw]) = nation(["TW"]).await;
    let sound: Vec<u8> = (0..2_500_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let digest = tw.publish("b1", &sound).await;
    let mut up = Vec::<Vec<u8>>::new();
    while !gateway.has_media(digest).await.complete {
        assert!(up.len() < 10, "it makes progress");
        let selection = Selection { max_bytes: Some(1_000_000), ..Selection::all_for(code("NDXP")) };
        let file = tw.select(&selection, up.last().map(Vec::as_slice)).await;
        assert!(file.len() <= 1_000_000, "{}", file.len());
        let report = gateway.takes(&file).await;
        assert_eq!(report.media.len(), 1);
        up.push(file);
    }
    assert!(up.len() > 2, "{} files", up.len());
    let first = gateway.import(&up[0]).await;
    assert_eq!((first.ok, first.media[0].outcome), (true, "complete"), "again");

    // Out of order: the second file alone is no use, and says so.
    let other = Hand::open("H24");
    assert_eq!(other.import(&up[1]).await.media[0].outcome, "gap");
    assert_eq!(other.import(&up[0]).await.media[0].outcome, "part");
    assert_eq!(other.import(&up[0]).await.media[0].outcome, "part", "again");
    let held = other.has_media(digest).await.held;
    other.import(&up[1]).await;
    assert!(held > 0 && other.has_media(digest).await.held > held);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_reader_lacks_of_media_it_asks_for_by_its_own_file() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    let digest = tw.publish("b1", &[7; 5_000]).await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    // The bulletin came without its file.
    let without = Selection { media: false, ..Selection::all_for(code("H24")) };
    h24.takes(&gateway.select(&without, None).await).await;
    assert_eq!(h24.head("TW→*/content"), 1);
    let asking = h24.export("NDXP", None).await;
    assert_eq!(manifest(&asking).wanted, [MediaPart { digest, size: 5_000, from: 0, until: 0 }]);
    h24.takes(&gateway.export("H24", Some(&asking)).await).await;
    assert!(h24.has_media(digest).await.complete);
    assert_eq!(manifest(&h24.export("NDXP", None).await).wanted, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_sticks_bring_what_one_large_one_would() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    for n in 0..40_u32 {
        // Text that cannot be made smaller, so that the sticks fill up.
        let noise: String = (0..20_000_u32)
            .map(|at| char::from(33 + (Digest::of(&[n.to_be_bytes(), at.to_be_bytes()].concat()).0[0] % 90)))
            .collect();
        let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: format!("b{n}"), reason: noise };
        let event = NewEvent::of(Audience::All, Lane::Content, format!("b{n}"), &said);
        tw.node.log.commit(Transaction::append([event])).await.expect("commits");
    }
    tw.node.say("H24", Lane::Report, "after them").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let (mut last, mut files, room) = (None::<Vec<u8>>, 0, 300_000);
    loop {
        let selection = Selection { max_bytes: Some(room), ..Selection::all_for(code("H24")) };
        let file = gateway.select(&selection, last.as_deref()).await;
        assert!(file.len() as u64 <= room, "{}", file.len());
        let report = h24.takes(&file).await;
        files += 1;
        assert!(files < 20, "it makes progress");
        if !report.more {
            break;
        }
        last = Some(file);
    }
    assert!(files > 1, "{files}");
    assert_eq!((h24.head("TW→*/content"), h24.head("TW→H24/report")), (40, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selection_narrows_and_never_widens() {
    let (gateway, [tw]) = nation(["TW"]).await;
    for lane in [Lane::Content, Lane::Emergency] {
        tw.node.say("*", lane, lane.as_str()).await;
        tw.node.say("*", lane, lane.as_str()).await;
    }
    tw.node.say("H55", Lane::Content, "secret").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let all = || Selection::all_for(code("H24"));
    let ranges = |file: &[u8]| -> Vec<(String, u64)> {
        manifest(file).ranges.iter().map(|range| (range.feed.to_string(), range.first)).collect()
    };
    let lane = gateway.select(&Selection { lanes: vec![Lane::Emergency], ..all() }, None).await;
    assert_eq!(ranges(&lane), [("TW→*/emergency".to_owned(), 1)]);
    let feeds = vec!["TW→*/content".parse().expect("feed")];
    let after = gateway.select(&Selection { feeds, after: Some(1), ..all() }, None).await;
    assert_eq!(ranges(&after), [("TW→*/content".to_owned(), 2)]);
    assert_eq!(manifest(&after).reached, [], "the reader may not hold the first one");
    let secret = vec!["TW→H55/content".parse().expect("feed")];
    assert_eq!(ranges(&gateway.select(&Selection { feeds: secret, ..all() }, None).await), []);
    assert!(manifest(&lane).held.iter().all(|(feed, _)| feed.to_string() != "TW→H55/content"), "nor is it named");
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_that_make_no_sense_are_refused() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    let refused = async |hand: &Hand, selection: Selection, earlier: Option<&[u8]>| {
        let earlier = earlier.map(manifest);
        hand.exporter().begin(&selection, earlier.as_ref(), 0).await.err().expect("refused")
    };
    let all = |reader| Selection::all_for(code(reader));
    assert!(matches!(refused(&Hand::open("H24"), all("NDXP"), None).await, ExportError::NoDirectory));
    assert!(matches!(refused(&h24, all("H24"), None).await, ExportError::NotAReader(_)));
    assert!(matches!(refused(&h24, all("H99"), None).await, ExportError::NotAReader(_)));
    let after = Selection { after: Some(3), ..all("NDXP") };
    assert!(matches!(refused(&h24, after, None).await, ExportError::AfterNeedsOneFeed));
    let small = Selection { max_bytes: Some(1_000), ..all("H24") };
    assert!(matches!(refused(&gateway, small, None).await, ExportError::NoRoom { .. }));
    let elsewhere = tw.export("NDXP", None).await;
    assert!(matches!(refused(&gateway, all("H24"), Some(&elsewhere)).await, ExportError::OtherFile { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_carries_by_hand_for_whom_it_carries() {
    let (gateway, [h55, adapter]) = nation(["H55", "H55.LGSP"]).await;
    h55.node.say("TW", Lane::Report, "r1").await;
    adapter.takes(&h55.export("H55.LGSP", None).await).await;
    let up = adapter.export("NDXP", None).await;
    assert_eq!(manifest(&up).ranges.len(), 1);
    gateway.takes(&up).await;
    assert_eq!((gateway.head("H55→TW/report"), gateway.head("NDXP→H55/report")), (1, 1), "and it is receipted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_keys_later_words_are_refused_by_hand_too() {
    let (gateway, [tw]) = nation(["TW"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    gateway.takes(&tw.export("NDXP", None).await).await;
    let revoked = pb::KeyRevoked {
        member: "TW".into(),
        fingerprint: key("TW").public().fingerprint().0.to_vec(),
        reason: "stolen".into(),
        last_accepted: vec![pb::LastAccepted { audience: "*".into(), lane: Lane::Content.to_wire(), sequence: 1 }],
    };
    let event = NewEvent::of(Audience::All, Lane::Directory, "member/TW", &revoked);
    gateway.node.log.commit(Transaction::append([event])).await.expect("revokes");
    tw.node.say("*", Lane::Content, "b2").await;
    let report = gateway.import(&tw.export("NDXP", None).await).await;
    let row = outcome(&report, "TW→*/content");
    assert_eq!((row.outcome, row.held, row.head), ("refused", 1, 1), "{row:?}");
}

/// Its directory may be older than the word that the batch is admitted: it accuses nobody, and takes it afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_admitted_is_taken_by_hand_with_the_newer_directory() {
    let (gateway, [tw, h24]) = nation(["TW", "H24"]).await;
    tw.node.say("*", Lane::Content, "b1").await;
    let revoked = pb::KeyRevoked {
        member: "TW".into(),
        fingerprint: key("TW").public().fingerprint().0.to_vec(),
        reason: "stolen".into(),
        last_accepted: vec![],
    };
    let event = NewEvent::of(Audience::All, Lane::Directory, "member/TW", &revoked);
    gateway.node.log.commit(Transaction::append([event])).await.expect("revokes");
    h24.takes(&gateway.export("H24", None).await).await;
    let stick = tw.export("H24", None).await;
    let report = h24.import(&stick).await;
    assert_eq!(outcome(&report, "TW→*/content").outcome, "unknown-key");
    let local = h24.node.log.read_feed(&FeedId::local(&code("H24")), 0, MAX_CALL_BYTES).expect("reads");
    let mut events = local.iter().flat_map(|entry| entry.batch.events.iter());
    assert!(events.all(|event| !event.stream.starts_with("tampering/")), "it accuses nobody");

    let head = tw.node.log.head(&"TW→*/content".parse().expect("feed")).expect("said");
    let admitted = pb::BatchesAdmitted {
        member: "TW".into(),
        audience: "*".into(),
        lane: Lane::Content.to_wire(),
        first_sequence: 1,
        digests: vec![head.digest.0.to_vec()],
        reason: "r".into(),
    };
    let event = NewEvent::of(Audience::All, Lane::Directory, "member/TW", &admitted);
    gateway.node.log.commit(Transaction::append([event])).await.expect("admits");
    gateway.takes(&tw.export("NDXP", None).await).await;
    assert_eq!(gateway.head("NDXP→TW/report"), 1, "and it is receipted");
    h24.takes(&gateway.export("H24", None).await).await;
    assert_eq!(outcome(&h24.import(&stick).await, "TW→*/content").outcome, "held");
}
