//! A key is stolen and revoked while its owner's link is down: what the owner had not sent comes back by a file, and
//! nothing of the thief's.

use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{Audience, Digest, Directory, FeedId, Head, Lane, Sealer, VerifiedBatch};
use httt_log::{FeedHead, NewEvent};
use httt_ndxp_gateway::{
    Admission, Command, Context, Kind, MAX_ADMITTED, MAX_DIGESTS_PER_EVENT, Reading, Refusal, decide, enrolment,
};
use httt_node::exchange::carry::Selection;
use httt_node::rotation::KeyFiles;
use httt_wire::directory as pb;
use httt_wire::exchange::RefusalCode;
use httt_wire::feed::Event;
use httt_wire::{Message as _, Name as _};
use proptest::prelude::*;
use serde_json::json;

use crate::common::{Gateway, Pki, code, file, key, prepare};
use crate::member::{Member, clean, feed, until};

const REPORT: &str = "H24→TW/report";
const STATUS: &str = "H24→TW/status";

fn said(mark: &str) -> Event {
    Event {
        id: Digest::of(mark.as_bytes()).0[..16].to_vec(),
        stream: mark.into(),
        version: 1,
        r#type: "test.v1.Said".into(),
        ..Event::default()
    }
}

/// So many batches that follow `head`, by the key of `signer`; `mark` makes them another story.
fn chain(signer: &str, text: &str, mark: &str, head: Option<Head>, count: usize) -> Vec<VerifiedBatch> {
    let sealer = Sealer::new(code("H24"), key(signer));
    let (mut head, mut batches) = (head, Vec::<VerifiedBatch>::new());
    for number in 0..count {
        let at_ms = 1_000 + number as i64;
        let batch = sealer.seal(&feed(text), head.as_ref(), at_ms, vec![said(&format!("{mark}{number}"))]);
        batches.push(batch.expect("seals"));
        head = batches.last().map(VerifiedBatch::head);
    }
    batches
}

/// A gateway's operator, with H24's key revoked.
struct Office {
    directory: Directory,
    heads: Vec<FeedHead>,
}

impl Office {
    /// `held` was received before the key was revoked.
    fn new(held: &[&VerifiedBatch]) -> Self {
        let head = |batch: &&VerifiedBatch| FeedHead {
            feed: batch.feed().clone(),
            head: batch.head(),
            position: batch.sequence(),
        };
        let mut office = Self {
            directory: Directory::trusting(key("NDXP").public().fingerprint()),
            heads: held.iter().map(head).collect(),
        };
        let files = [
            file("NDXP", Kind::Gateway, &[]),
            file("TW", Kind::Central, &[]),
            file("H24", Kind::Province, &[]),
            file("H55", Kind::Province, &[]),
        ];
        office.apply(enrolment(&Directory::trusting(Digest::of(b"")), &files));
        office
    }

    fn revoked(held: &[&VerifiedBatch]) -> Self {
        let mut office = Self::new(held);
        let revoke =
            Command::RevokeKey { member: "H24".into(), fingerprint: key("H24").public().fingerprint().to_string() };
        let events = office.decide(&revoke, None).expect("revoked");
        office.apply(events);
        office
    }

    fn apply(&mut self, events: Vec<NewEvent>) {
        let wire =
            |event: NewEvent| Event { stream: event.stream, r#type: event.kind, data: event.data, ..Event::default() };
        let events: Vec<Event> = events.into_iter().map(wire).collect();
        self.directory.apply(&FeedId::directory(&code("NDXP")), &events);
    }

    fn decide(&self, command: &Command, admission: Option<&Admission>) -> Result<Vec<NewEvent>, Refusal> {
        let own = code("NDXP");
        let own_key = key("NDXP").public().fingerprint();
        let context =
            Context { own: &own, own_key, heads: &self.heads, admission, actor: "admin", reason: "người quen mang" };
        decide(&self.directory, command, &context)
    }

    fn read(&self, batches: &[VerifiedBatch]) -> Result<Admission, Refusal> {
        let bytes = |batch: &VerifiedBatch| (batch.feed().clone(), batch.bytes().clone());
        self.read_entries(&batches.iter().map(bytes).collect::<Vec<_>>())
    }

    fn read_entries(&self, entries: &[(FeedId, Bytes)]) -> Result<Admission, Refusal> {
        let mut reading = Reading::new(&code("NDXP"), "H24", Arc::new(self.directory.clone()), &self.heads)?;
        entries.iter().try_for_each(|(feed, bytes)| reading.entries(feed, std::slice::from_ref(bytes)))?;
        reading.finish()
    }

    fn refuses(&self, batches: &[VerifiedBatch]) -> Refusal {
        told(self.read(batches).expect_err("refused"))
    }

    fn admit(&self, admission: &Admission) -> Result<Vec<NewEvent>, Refusal> {
        let command = Command::Admit { member: "H24".into(), admission: admission.id().to_string() };
        self.decide(&command, Some(admission))
    }

    fn takes(&self, batch: &VerifiedBatch) -> bool {
        self.directory.verify(httt_feed::parse(batch.bytes().clone()).expect("parses")).is_ok()
    }
}

/// Every refusal says in both languages what is wrong, and where.
fn told(refusal: Refusal) -> Refusal {
    assert!(!refusal.vi().is_empty() && !refusal.code().is_empty() && !refusal.field().is_empty());
    assert!(refusal.to_string().starts_with(refusal.field()), "{refusal}");
    refusal
}

#[test]
fn what_the_owner_had_not_sent_is_admitted_and_said_once() {
    let report = chain("H24", REPORT, "r", None, 5);
    let status = chain("H24", STATUS, "s", None, 2);
    let mut office = Office::revoked(&[&report[1]]);
    let admission = office.read(&[&report[..], &status[..]].concat()).expect("read");
    let rows: Vec<_> = admission.feeds().iter().map(|row| (row.feed.to_string(), row.batches.len())).collect();
    assert_eq!(rows, [(REPORT.to_owned(), 3), (STATUS.to_owned(), 2)]);
    assert_eq!(admission.feeds()[0].sealed_ms, (1_002, 1_004));
    assert_eq!(admission.feeds()[0].key, key("H24").public().fingerprint());
    let events = office.admit(&admission).expect("admitted");
    let first = pb::BatchesAdmitted::decode(events[0].data.clone()).expect("message");
    assert_eq!((first.audience.as_str(), first.lane, first.first_sequence), ("TW", Lane::Report.to_wire(), 3));
    assert_eq!(first.digests, report[2..].iter().map(|batch| batch.digest().0.to_vec()).collect::<Vec<_>>());
    assert_eq!((first.reason.as_str(), events[0].actor.as_str()), ("người quen mang", "admin"));
    assert_eq!((events.len(), events[0].kind.clone()), (2, pb::BatchesAdmitted::full_name()));
    office.apply(events);
    assert!(report.iter().chain(&status).all(|batch| office.takes(batch)));
    assert_eq!(office.admit(&admission).map_err(told), Err(Refusal::AdmittedAlready));
    assert_eq!(office.refuses(&report), Refusal::NothingKeptOut(code("H24")));
}

#[test]
fn what_the_member_sealed_after_the_first_file_is_admitted_by_a_second_one() {
    let report = chain("H24", REPORT, "r", None, 5);
    let mut office = Office::revoked(&[]);
    let first = office.read(&report[..3]).expect("read");
    office.apply(office.admit(&first).expect("admitted"));
    assert!(!office.takes(&report[3]));
    let second = office.read(&report).expect("read");
    assert_eq!(second.feeds()[0].batches, [report[3].head(), report[4].head()]);
    office.apply(office.admit(&second).expect("admitted"));
    assert!(report.iter().all(|batch| office.takes(batch)));
}

#[test]
fn what_follows_by_the_new_key_needs_no_admission() {
    let old = chain("H24", REPORT, "r", None, 2);
    let new = chain("H24.new", REPORT, "n", Some(old[1].head()), 2);
    let mut office = Office::revoked(&[]);
    let all = [&old[..], &new[..]].concat();
    let before = office.read(&all).expect("read");
    assert_eq!((before.len(), before.feeds()[0].unknown_key), (2, 2), "the new key is not added yet");
    let add = Command::AddKey { member: "H24".into(), key: hex::encode(key("H24.new").public().value()) };
    office.apply(office.decide(&add, None).expect("added"));
    let after = office.read(&all).expect("read");
    assert_eq!((after.len(), after.feeds()[0].unknown_key), (2, 0));
    office.apply(office.admit(&after).expect("admitted"));
    assert!(all.iter().all(|batch| office.takes(batch)));
}

#[test]
fn files_that_admit_nothing_say_why() {
    let report = chain("H24", REPORT, "r", None, 4);
    let good = Office::new(&[&report[0]]);
    assert_eq!(good.refuses(&report), Refusal::NothingKeptOut(code("H24")), "the key is not revoked");
    let office = Office::revoked(&[&report[0]]);
    assert_eq!(office.refuses(&[]), Refusal::NothingInFile(code("H24")));
    let foreign = Sealer::new(code("H55"), key("H55")).seal(&feed("H55→TW/report"), None, 0, vec![said("x")]);
    assert_eq!(office.refuses(&[foreign.expect("seals")]), Refusal::NothingInFile(code("H24")), "another member's");
    let gap = Refusal::FileGap { feed: feed(REPORT), expected: 2, got: 3 };
    assert_eq!(office.refuses(&report[2..]), gap);
    let hole = [&report[..2], &report[3..]].concat();
    assert_eq!(office.refuses(&hole), Refusal::NotAChain { feed: feed(REPORT), sequence: 4 });
}

#[test]
fn another_history_than_the_one_received_is_never_admitted() {
    let report = chain("H24", REPORT, "r", None, 4);
    let thiefs = chain("H24", REPORT, "thief", Some(report[0].head()), 3);
    // The thief was first: the exchange holds its second batch.
    let office = Office::revoked(&[&thiefs[0]]);
    let other = |sequence| Refusal::OtherReceived { feed: feed(REPORT), sequence };
    assert_eq!(office.refuses(&report), other(2), "the file holds the owner's second one");
    assert_eq!(office.refuses(&report[2..]), other(2), "or begins after it");
    // Where the file ends before what is held, the store is asked.
    let mut reading =
        Reading::new(&code("NDXP"), "H24", Arc::new(office.directory.clone()), &office.heads).expect("begins");
    reading.entries(&feed(REPORT), &[report[0].bytes().clone()]).expect("read");
    assert_eq!(reading.received().collect::<Vec<_>>(), [(&feed(REPORT), report[0].head())]);
}

#[test]
fn two_histories_are_never_both_admitted() {
    let report = chain("H24", REPORT, "r", None, 2);
    let thiefs = chain("H24", REPORT, "thief", None, 2);
    let mut office = Office::revoked(&[]);
    let (owners, stolen) = (office.read(&report).expect("read"), office.read(&thiefs).expect("read"));
    office.apply(office.admit(&owners).expect("admitted"));
    let other = Refusal::OtherAdmitted { feed: feed(REPORT), sequence: 1 };
    assert_eq!(office.admit(&stolen).map_err(told), Err(other.clone()), "though it was read before");
    assert_eq!(office.refuses(&thiefs), other);
}

#[test]
fn entries_that_its_member_cannot_have_made_spoil_the_file() {
    let report = chain("H24", REPORT, "r", None, 1);
    let office = Office::revoked(&[]);
    let forged = chain("H55", REPORT, "x", None, 1).remove(0);
    assert_eq!(office.read(&[forged]).map(|found| found.len()), Err(Refusal::NothingKeptOut(code("H24"))));
    let mut altered = report[0].bytes().to_vec();
    *altered.last_mut().expect("bytes") ^= 1;
    for bytes in [altered.into(), Bytes::from_static(b"x")] {
        let refused = office.read_entries(&[(feed(REPORT), bytes)]).map_err(told);
        assert!(matches!(refused, Err(Refusal::BadEntry { .. })), "{refused:?}");
    }
    let refused = office.read_entries(&[(feed(STATUS), report[0].bytes().clone())]);
    assert!(matches!(refused, Err(Refusal::BadEntry { .. })), "of another feed: {refused:?}");
}

#[test]
fn an_admission_names_what_was_read_of_whom_and_after_what() {
    let report = chain("H24", REPORT, "r", None, 3);
    let mut office = Office::revoked(&[]);
    let admission = office.read(&report).expect("read");
    let order = |member: &str, name: String| Command::Admit { member: member.into(), admission: name };
    let name = admission.id().to_string();
    assert_eq!(office.decide(&order("H24", name.clone()), None).map_err(told), Err(Refusal::AdmissionUnknown));
    let other = order("H24", Digest::of(b"another").to_string());
    assert_eq!(office.decide(&other, Some(&admission)), Err(Refusal::AdmissionUnknown));
    assert_eq!(office.decide(&order("H55", name), Some(&admission)), Err(Refusal::AdmissionUnknown));
    office.heads.push(FeedHead { feed: feed(REPORT), head: report[0].head(), position: 1 });
    assert_eq!(office.admit(&admission).map_err(told), Err(Refusal::ExchangeMoved { feed: feed(REPORT) }));
    let own = Reading::new(&code("NDXP"), "NDXP", Arc::new(office.directory.clone()), &[]).map(drop);
    assert_eq!(own.map_err(told), Err(Refusal::OwnBatches));
    let nobody = Reading::new(&code("NDXP"), "X9", Arc::new(office.directory.clone()), &[]).map(drop);
    assert!(matches!(nobody, Err(Refusal::NotAMember { .. })));
}

#[test]
fn long_admissions_are_many_small_events_and_a_members_are_bounded() {
    let report = chain("H24", REPORT, "r", None, 2 * MAX_DIGESTS_PER_EVENT + 1);
    let mut office = Office::revoked(&[]);
    let admission = office.read(&report).expect("read");
    let events = office.admit(&admission).expect("admitted");
    assert_eq!(events.len(), 3);
    assert!(events.iter().all(|event| event.data.len() < httt_feed::MAX_EVENT_BYTES / 2));
    // What was admitted of all its feeds counts.
    let digests = (0..MAX_ADMITTED - report.len()).map(|number| Digest::of(&number.to_be_bytes()).0.to_vec());
    let before = pb::BatchesAdmitted {
        member: "H24".into(),
        audience: "TW".into(),
        lane: Lane::Status.to_wire(),
        first_sequence: 1,
        digests: digests.collect(),
        reason: "r".into(),
    };
    office.apply(vec![NewEvent::of(Audience::All, Lane::Directory, "member/H24", &before)]);
    assert!(office.admit(&admission).is_ok());
    let one = pb::BatchesAdmitted { first_sequence: MAX_ADMITTED as u64, digests: vec![vec![7; 32]], ..before };
    office.apply(vec![NewEvent::of(Audience::All, Lane::Directory, "member/H24", &one)]);
    let refused = office.admit(&admission).map_err(told);
    assert_eq!(refused, Err(Refusal::TooManyAdmitted { given: MAX_ADMITTED + 1, max: MAX_ADMITTED }));
    assert_eq!(office.refuses(&report), Refusal::TooManyAdmitted { given: MAX_ADMITTED + 1, max: MAX_ADMITTED });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was received, however much the file has, and whether or not the new key follows: after the admission
    /// exactly the owner's history is good, up to where the file ends.
    #[test]
    fn after_an_admission_exactly_the_files_history_is_good(
        received in 0..6_usize,
        begins in 0..6_usize,
        ends in 1..10_usize,
        new in 0..3_usize,
    ) {
        let old = chain("H24", REPORT, "r", None, 8);
        let newer = chain("H24.new", REPORT, "n", Some(old[7].head()), new);
        let all = [&old[..], &newer[..]].concat();
        let held: Vec<&VerifiedBatch> = received.checked_sub(1).map(|at| &old[at]).into_iter().collect();
        let mut office = Office::revoked(&held);
        let add = Command::AddKey { member: "H24".into(), key: hex::encode(key("H24.new").public().value()) };
        office.apply(office.decide(&add, None).expect("added"));
        let ends = ends.min(all.len());
        let file = all.get(begins.min(ends)..ends).unwrap_or_default();
        match office.read(file) {
            Ok(admission) => {
                prop_assert!(begins <= received && ends > received);
                office.apply(office.admit(&admission).expect("admitted"));
                for batch in &all {
                    let by_new = batch.key() == key("H24.new").public().id();
                    let good = batch.sequence() <= ends.min(8).max(received) as u64 || by_new;
                    prop_assert_eq!(office.takes(batch), good, "{}", batch.sequence());
                }
                for from in received..8 {
                    let head = from.checked_sub(1).map(|at| old[at].head());
                    prop_assert!(!office.takes(&chain("H24", REPORT, "thief", head, 1)[0]));
                }
            }
            Err(Refusal::FileGap { .. }) => prop_assert!(begins > received),
            Err(Refusal::NothingInFile(_)) => prop_assert!(file.is_empty()),
            Err(Refusal::NothingKeptOut(_)) => prop_assert!(ends <= received),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}

/// What a running node gives its operator for the exchange.
async fn export(member: &Member) -> Vec<u8> {
    let selection =
        Selection { reader: code("NDXP"), feeds: vec![], lanes: vec![], after: None, media: false, max_bytes: None };
    let mut export = member.node.exporter().begin(&selection, None, 0).await.expect("begins");
    let mut file = Vec::new();
    while let Some(bytes) = export.next().await.expect("exports") {
        file.extend_from_slice(&bytes);
    }
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_province_whose_key_was_stolen_while_it_was_offline_loses_nothing_and_the_thief_gets_nothing_in() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let trusted = key("NDXP").public().fingerprint();
    let (to_tw, to_h55) = (feed(REPORT), feed("H24→H55/report"));
    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    h24.say("r0".into()).await;
    until("receipted", || h24.sequence(&feed("NDXP→H24/report")) > 0).await;
    let sent = h24.node.log.head(&to_tw);
    h24.stop().await;

    // Days without a link; meanwhile somebody has the key, and the operator hears of it.
    let h24 = Member::offline(&pki, "H24", trusted).await;
    for number in 1..=40 {
        h24.say(format!("r{number}")).await;
        h24.say_to("H55", format!("h{number}")).await;
    }
    let fingerprint = key("H24").public().fingerprint();
    let revoke = json!({ "revoke-key": { "member": "H24", "fingerprint": fingerprint.to_string() } });
    gateway.order("admin1", revoke).await.expect("revoked");
    let thiefs = chain("H24", REPORT, "thief", sent, 2);
    assert_eq!(h24.push(&gateway, &thiefs).await, Some(RefusalCode::RevokedKey));
    let elsewhere = chain("H24", "H24→H55/report", "thief", None, 1);
    assert_eq!(h24.push(&gateway, &elsewhere).await, Some(RefusalCode::RevokedKey));

    // The link is back: the node learns of it, nothing more is taken, and what it says goes on being kept.
    h24.link(&gateway).await;
    h24.node.change_keys(None, &h24.shutdown);
    until("the node knows", || {
        let directory = h24.node.directory.get();
        directory.member(&code("H24")).is_some_and(|member| member.keys().count() == 0)
    })
    .await;
    h24.say("r41".into()).await;
    let files = KeyFiles::new(&pki.path("H24.signing.key"));
    let new = files.begin().expect("begins");
    let value = files.state().expect("state").next.expect("next").public().value().to_vec();
    let add = json!({ "add-key": { "member": "H24", "key": hex::encode(value) } });
    gateway.order("admin2", add).await.expect("added");
    until("the node seals with the new key", || {
        h24.node.fingerprint() == new && files.state().expect("state").old.is_none()
    })
    .await;
    h24.say("r42".into()).await;
    let last = h24.sequence(&to_tw);

    // Its file is brought to the operator, who reads it, compares, and admits.
    let stick = export(&h24).await;
    let (status, error) = gateway.send("auditor", "/members/H24/admissions", stick.clone()).await.expect_err("no role");
    assert_eq!((status, error["code"].as_str()), (403, Some("not-allowed")), "{error}");
    let torn = stick[..stick.len() - 1].to_vec();
    let (status, error) = gateway.send("admin3", "/members/H24/admissions", torn).await.expect_err("torn");
    assert_eq!((status, error["code"].as_str()), (422, Some("bad-file")), "{error}");
    let (_, error) = gateway.send("admin3", "/members/H55/admissions", stick.clone()).await.expect_err("H24's");
    assert_eq!(error["code"], "not-in-file", "{error}");
    let found = gateway.send("admin3", "/members/H24/admissions", stick).await.expect("read");
    let rows = found["feeds"].as_array().expect("feeds");
    let row = rows.iter().find(|row| row["feed"] == REPORT).expect("row");
    let sequence = row["last"].as_u64().expect("sequence");
    let own = h24.node.log.batch_digest(&to_tw, sequence).expect("reads").expect("held");
    assert_eq!((row["digest"].as_str(), sequence), (Some(own.to_string().as_str()), last - 1));
    let unknown = json!({ "admit": { "member": "H24", "admission": Digest::of(b"").to_string() } });
    let (status, error) = gateway.order("admin3", unknown).await.expect_err("not read");
    assert_eq!((status, error["code"].as_str()), (422, Some("unknown-admission")));
    let admit = json!({ "admit": { "member": "H24", "admission": found["admission"] } });
    let answer = gateway.order("admin3", admit.clone()).await.expect("admitted");
    assert_eq!(answer["admitted"], found["batches"]);
    let (status, _) = gateway.order("admin4", admit).await.expect_err("twice");
    assert_eq!(status, 409);

    // The node goes on by itself. Readers that never heard of it get the whole history, and nothing else.
    let tw = Member::start(&pki, &gateway, "TW", trusted).await;
    let h55 = Member::start(&pki, &gateway, "H55", trusted).await;
    until("everything arrives", || tw.sequence(&to_tw) == last && h55.sequence(&to_h55) == h24.sequence(&to_h55)).await;
    assert_eq!(tw.node.log.head(&to_tw), h24.node.log.head(&to_tw));
    assert_eq!(h55.node.log.head(&to_h55), h24.node.log.head(&to_h55));
    assert_eq!(h24.push(&gateway, &thiefs).await, Some(RefusalCode::RevokedKey), "still refused");
    let heard = |member: &Member, feed: &FeedId| {
        let entries = member.node.log.read_feed(feed, 0, usize::MAX).expect("reads");
        entries.iter().flat_map(|entry| entry.batch.events.clone()).map(|event| event.stream).collect::<Vec<_>>()
    };
    assert_eq!(heard(&tw, &to_tw), (0..=42).map(|number| format!("r{number}")).collect::<Vec<_>>());
    assert_eq!(heard(&h55, &to_h55), (1..=40).map(|number| format!("h{number}")).collect::<Vec<_>>());

    h24.say("r43".into()).await;
    until("and it goes on", || tw.sequence(&to_tw) == last + 1).await;
    for member in [h24, tw, h55] {
        member.stop().await;
    }
    gateway.stop().await;
    for data in ["H24.data", "TW.data", "H55.data"] {
        clean(&pki.path(data), Some(trusted));
    }
    clean(&pki.path("data"), None);
}
