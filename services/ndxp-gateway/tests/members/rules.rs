//! What an operator may say, and what each mistake is answered with.

use httt_feed::{Digest, Directory, FeedId, Head, Lane, MemberKind};
use httt_log::{FeedHead, NewEvent};
use httt_ndxp_gateway::{Command, Context, Kind, MAX_KEYS, MAX_REASON_BYTES, Refusal, decide, enrolment};
use httt_wire::Message as _;
use httt_wire::directory as pb;
use httt_wire::feed::Event;

use crate::common::{Pki, code, file, key};

struct Office {
    directory: Directory,
    heads: Vec<FeedHead>,
}

fn apply(directory: &mut Directory, events: Vec<NewEvent>) {
    let wire =
        |event: NewEvent| Event { stream: event.stream, r#type: event.kind, data: event.data, ..Event::default() };
    let events: Vec<Event> = events.into_iter().map(wire).collect();
    directory.apply(&FeedId::directory(&code("NDXP")), &events);
}

impl Office {
    fn new() -> Self {
        let mut directory = Directory::trusting(key("NDXP").public().fingerprint());
        let files = [
            file("NDXP", Kind::Gateway, &[]),
            file("TW", Kind::Central, &[]),
            file("H24", Kind::Province, &[]),
            file("H55", Kind::Province, &["H55.LGSP"]),
            file("H55.LGSP", Kind::Carrier, &[]),
        ];
        apply(&mut directory, enrolment(&Directory::trusting(Digest::of(b"")), &files));
        let head = |feed: &str, sequence| FeedHead {
            feed: feed.parse().expect("feed"),
            head: Head { sequence, digest: Digest::of(feed.as_bytes()) },
            position: sequence,
        };
        let heads = vec![head("H24→TW/report", 7), head("H24→TW/status", 9), head("H55→TW/report", 3)];
        Self { directory, heads }
    }

    fn with_reason(&self, command: &Command, reason: &str) -> Result<Vec<NewEvent>, Refusal> {
        let own = code("NDXP");
        let own_key = key("NDXP").public().fingerprint();
        let context = Context { own: &own, own_key, heads: &self.heads, admission: None, actor: "admin", reason };
        decide(&self.directory, command, &context)
    }

    fn refuses(&self, command: Command) -> Refusal {
        let refusal = self.with_reason(&command, "vì sao").expect_err("refused");
        assert!(!refusal.vi().is_empty() && !refusal.code().is_empty() && !refusal.field().is_empty());
        refusal
    }

    fn says(&mut self, command: Command) -> Vec<NewEvent> {
        let events = self.with_reason(&command, "vì sao").unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
        assert!(events.iter().all(|event| event.actor == "admin" && event.lane == Lane::Directory));
        apply(&mut self.directory, events.clone());
        // Said again it is refused: it changes nothing.
        self.with_reason(&command, "vì sao").expect_err("twice");
        events
    }
}

fn hex_key(member: &str) -> String {
    hex::encode(key(member).public().value())
}

fn fingerprint(member: &str) -> String {
    key(member).public().fingerprint().to_string()
}

fn enrol(member: &str, kind: Kind, keys: &[&str]) -> Command {
    let keys = keys.iter().map(|name| hex_key(name)).collect();
    Command::Enrol { member: member.into(), name: "Đơn vị".into(), kind, area: "66".into(), keys }
}

#[test]
fn a_new_member_is_enrolled_with_its_keys() {
    let mut office = Office::new();
    office.says(enrol("H15", Kind::Province, &["H15"]));
    let member = office.directory.member(&code("H15")).expect("member");
    assert_eq!((member.kind, member.area.as_str(), member.keys().count()), (MemberKind::Province, "66", 1));
}

#[test]
fn who_cannot_be_enrolled() {
    let office = Office::new();
    assert!(matches!(office.refuses(enrol("h15", Kind::Province, &["H15"])), Refusal::NotACode { .. }));
    assert!(matches!(office.refuses(enrol("", Kind::Province, &["H15"])), Refusal::Required { field: "member" }));
    assert!(matches!(office.refuses(enrol("H15", Kind::Province, &[])), Refusal::KeyNeeded));
    assert!(matches!(office.refuses(enrol("G2", Kind::Gateway, &["G2"])), Refusal::SecondGateway));
    assert!(matches!(office.refuses(enrol("H24", Kind::Carrier, &[])), Refusal::KindIsFixed(_)));
    assert!(matches!(office.refuses(enrol("H15", Kind::Province, &["H24"])), Refusal::KeyTaken { .. }));
    let names: Vec<String> = (0..=MAX_KEYS).map(|number| format!("K{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(matches!(office.refuses(enrol("H15", Kind::Province, &names)), Refusal::TooManyKeys { .. }));
    let unnamed = Command::Enrol {
        member: "H15".into(),
        name: " ".into(),
        kind: Kind::Province,
        area: String::new(),
        keys: vec![],
    };
    assert!(matches!(office.refuses(unnamed), Refusal::Required { field: "name" }));
}

#[test]
fn every_command_needs_a_reason_of_bounded_length() {
    let office = Office::new();
    let suspend = Command::Suspend { member: "H24".into() };
    assert_eq!(office.with_reason(&suspend, "  "), Err(Refusal::Required { field: "reason" }));
    let long = "x".repeat(MAX_REASON_BYTES + 1);
    assert!(matches!(office.with_reason(&suspend, &long), Err(Refusal::TooLong { field: "reason", .. })));
}

#[test]
fn a_revocation_names_what_was_received_of_each_feed() {
    let mut office = Office::new();
    let events = office.says(Command::RevokeKey { member: "H24".into(), fingerprint: fingerprint("H24") });
    let revoked = pb::KeyRevoked::decode(events[0].data.clone()).expect("message");
    let accepted: Vec<_> = revoked.last_accepted.iter().map(|last| (last.audience.as_str(), last.sequence)).collect();
    assert_eq!(accepted, [("TW", 7), ("TW", 9)]);
    assert_eq!(revoked.reason, "vì sao");
    let again = Command::AddKey { member: "H24".into(), key: hex_key("H24") };
    assert!(matches!(office.refuses(again), Refusal::RevokedKey { .. }));
    let again = Command::AddKey { member: "H55".into(), key: hex_key("H24") };
    assert!(matches!(office.refuses(again), Refusal::RevokedKey { .. }), "neither for another member");
}

#[test]
fn keys_that_cannot_be_added_or_revoked() {
    let office = Office::new();
    let add = |member: &str, key: &str| Command::AddKey { member: member.into(), key: key.into() };
    let revoke =
        |member: &str, fingerprint: &str| Command::RevokeKey { member: member.into(), fingerprint: fingerprint.into() };
    assert!(matches!(office.refuses(add("X9", &hex_key("X9"))), Refusal::NotAMember { .. }));
    assert!(matches!(office.refuses(add("H24", "abc")), Refusal::BadKey { .. }));
    assert!(matches!(office.refuses(add("H24", &hex_key("H55"))), Refusal::KeyTaken { .. }));
    assert!(matches!(office.refuses(revoke("H24", &fingerprint("H55"))), Refusal::UnknownKey { .. }));
    assert!(matches!(office.refuses(revoke("H24", "abc")), Refusal::UnknownKey { .. }));
    assert!(matches!(office.refuses(revoke("NDXP", &fingerprint("NDXP"))), Refusal::KeyInUse));
}

#[test]
fn certificates_are_added_by_pem_or_digest_and_stay_revoked() {
    let pki = Pki::new();
    let (own, other) = (pki.issue("h24", "H24"), pki.issue("h55", "H55"));
    let mut office = Office::new();
    let add = |certificate: &str| Command::AddCertificate { member: "H24".into(), certificate: certificate.into() };
    let revoke =
        |certificate: &str| Command::RevokeCertificate { member: "H24".into(), certificate: certificate.into() };
    office.says(add(&own));
    let h24 = office.directory.member(&code("H24")).expect("member").clone();
    let (sha256, known) = h24.certificates().next().expect("registered");
    assert!(known.not_after_ms.is_some_and(|end| end > 1_700_000_000_000));
    assert!(matches!(office.refuses(add(&other)), Refusal::CertificateOfAnother { named: Some(_), .. }));
    assert!(matches!(office.refuses(add("no certificate")), Refusal::NotACertificate));
    office.says(add(&"ab".repeat(32)));
    office.says(revoke(&sha256.to_string()));
    assert!(matches!(office.refuses(add(&own)), Refusal::RevokedCertificate));
    office.says(revoke(&"cd".repeat(32)));
}

#[test]
fn who_is_suspended_and_resumed() {
    let mut office = Office::new();
    assert!(matches!(office.refuses(Command::Resume { member: "H24".into() }), Refusal::NotSuspended(_)));
    office.says(Command::Suspend { member: "H24".into() });
    office.says(Command::Resume { member: "H24".into() });
    assert!(matches!(office.refuses(Command::Suspend { member: "NDXP".into() }), Refusal::OwnNode));
    assert!(matches!(office.refuses(Command::Suspend { member: "X9".into() }), Refusal::NotAMember { .. }));
}

#[test]
fn rights_to_read_are_granted_and_withdrawn_by_the_same_four_parts() {
    let mut office = Office::new();
    let parts = |lane: &str| ("H24".to_owned(), "H55".to_owned(), "TW".to_owned(), lane.to_owned());
    let grant = |(reader, origin, audience, lane)| Command::GrantRead { reader, origin, audience, lane };
    let withdraw = |(reader, origin, audience, lane)| Command::WithdrawRead { reader, origin, audience, lane };
    let report = "H55→TW/report".parse().expect("feed");
    office.says(grant(parts("report")));
    assert!(office.directory.may_read(&code("H24"), &report).is_ok());
    assert!(matches!(office.refuses(withdraw(parts("status"))), Refusal::NotGranted));
    office.says(withdraw(parts("report")));
    assert!(office.directory.may_read(&code("H24"), &report).is_err());
    assert!(matches!(office.refuses(grant(parts("local"))), Refusal::NotALane(_)));
    assert!(matches!(office.refuses(grant(parts("rumours"))), Refusal::NotALane(_)));
}

#[test]
fn only_carriers_carry() {
    let mut office = Office::new();
    let grant = |member: &str, carrier: &str| Command::GrantCarrier { member: member.into(), carrier: carrier.into() };
    office.says(grant("H24", "H55.LGSP"));
    let withdraw = Command::WithdrawCarrier { member: "H24".into(), carrier: "H55.LGSP".into() };
    office.says(withdraw.clone());
    assert!(matches!(office.refuses(withdraw), Refusal::DoesNotCarry { .. }));
    assert!(matches!(office.refuses(grant("H24", "TW")), Refusal::NotACarrier(_)));
    assert!(matches!(office.refuses(grant("H55", "H55.LGSP")), Refusal::CarriesAlready { .. }));
    assert!(matches!(office.refuses(grant("H24", "X9")), Refusal::NotAMember { field: "carrier", .. }));
}
