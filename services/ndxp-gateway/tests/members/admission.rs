//! What of a file may be admitted though a revoked key signed it, and what each mistake is answered with.

use std::sync::Arc;

use bytes::Bytes;
use httt_feed::{Audience, Digest, Directory, FeedId, Head, Lane, Sealer, VerifiedBatch};
use httt_log::{FeedHead, NewEvent};
use httt_ndxp_gateway::{
    Admission, Command, Context, Kind, MAX_ADMITTED, MAX_DIGESTS_PER_EVENT, Reading, Refusal, decide, enrolment,
};
use httt_wire::directory as pb;
use httt_wire::feed::Event;
use httt_wire::{Message as _, Name as _};
use proptest::prelude::*;

use crate::common::{code, file, key};
use crate::member::feed;

pub(crate) const REPORT: &str = "H24→TW/report";
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
pub(crate) fn chain(signer: &str, text: &str, mark: &str, head: Option<Head>, count: usize) -> Vec<VerifiedBatch> {
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
