//! What holds of the directory whatever was told, in whatever order.

mod common;

use common::*;
use httt_feed::*;
use httt_wire::directory as pb;
use httt_wire::feed as feed_pb;
use proptest::prelude::*;

const MEMBERS: [&str; 5] = ["NDXP", "TW", "H24", "H55", "H55.LGSP"];

/// Something an operator may say. Numbers choose among few, so that sayings meet.
#[derive(Debug, Clone, Copy)]
enum Said {
    Enrol(usize),
    AddKey(usize, u8),
    RevokeKey(usize, u8, u64),
    AddCertificate(usize, u8),
    RevokeCertificate(usize, u8),
    Suspend(usize),
    Resume(usize),
    Carrier(usize, usize, bool),
    Grant { reader: usize, origin: Option<usize>, audience: Option<usize>, lane: Option<Lane>, given: bool },
}

fn said() -> impl Strategy<Value = Said> {
    let member = || 0..MEMBERS.len();
    let optional = || prop::option::of(member());
    let lane = prop::option::of(prop::sample::select(Lane::ALL.to_vec()));
    prop_oneof![
        member().prop_map(Said::Enrol),
        (member(), 0..3_u8).prop_map(|(member, key)| Said::AddKey(member, key)),
        (member(), 0..3_u8, 0..4_u64).prop_map(|(member, key, last)| Said::RevokeKey(member, key, last)),
        (member(), 0..3_u8).prop_map(|(member, one)| Said::AddCertificate(member, one)),
        (member(), 0..3_u8).prop_map(|(member, one)| Said::RevokeCertificate(member, one)),
        member().prop_map(Said::Suspend),
        member().prop_map(Said::Resume),
        (member(), member(), any::<bool>()).prop_map(|(carrier, member, given)| Said::Carrier(carrier, member, given)),
        (member(), optional(), optional(), lane, any::<bool>()).prop_map(|(reader, origin, audience, lane, given)| {
            Said::Grant { reader, origin, audience, lane, given }
        }),
    ]
}

fn some_key(member: usize, number: u8) -> SigningKey {
    SigningKey::from_seed(&Digest::of(&[member as u8, number]).0).expect("key")
}

fn certificate(member: usize, number: u8) -> Digest {
    Digest::of(&[member as u8, number, 1])
}

fn event_of(said: Said) -> feed_pb::Event {
    let name = |member: usize| MEMBERS[member].to_owned();
    let optional = |member: Option<usize>| member.map(name).unwrap_or_default();
    let reason = || "lý do".to_owned();
    match said {
        Said::Enrol(member) => {
            typed(&pb::MemberEnrolled { member: name(member), kind: kind(member).into(), ..Default::default() })
        }
        Said::AddKey(member, number) => {
            let key = Some(some_key(member, number).public().to_wire());
            typed(&pb::KeyAdded { member: name(member), key })
        }
        Said::RevokeKey(member, number, sequence) => typed(&pb::KeyRevoked {
            member: name(member),
            fingerprint: some_key(member, number).public().fingerprint().0.to_vec(),
            reason: reason(),
            last_accepted: vec![pb::LastAccepted { audience: "TW".into(), lane: Lane::Report.to_wire(), sequence }],
        }),
        Said::AddCertificate(member, number) => typed(&pb::CertificateAdded {
            member: name(member),
            sha256: certificate(member, number).0.to_vec(),
            not_after_ms: 1,
        }),
        Said::RevokeCertificate(member, number) => typed(&pb::CertificateRevoked {
            member: name(member),
            sha256: certificate(member, number).0.to_vec(),
            reason: reason(),
        }),
        Said::Suspend(member) => typed(&pb::MemberSuspended { member: name(member), reason: reason() }),
        Said::Resume(member) => typed(&pb::MemberResumed { member: name(member), reason: reason() }),
        Said::Carrier(carrier, member, true) => {
            typed(&pb::CarrierGranted { carrier: name(carrier), member: name(member) })
        }
        Said::Carrier(carrier, member, false) => {
            typed(&pb::CarrierWithdrawn { carrier: name(carrier), member: name(member) })
        }
        Said::Grant { reader, origin, audience, lane, given } => {
            let (reader, origin, audience) = (name(reader), optional(origin), optional(audience));
            let lane = lane.map_or(0, Lane::to_wire);
            if given {
                typed(&pb::ReadGranted { reader, origin, audience, lane, reason: reason() })
            } else {
                typed(&pb::ReadWithdrawn { reader, origin, audience, lane, reason: reason() })
            }
        }
    }
}

fn kind(member: usize) -> MemberKind {
    [MemberKind::Gateway, MemberKind::Central, MemberKind::Province, MemberKind::Province, MemberKind::Carrier][member]
}

/// Everybody enrolled, then `all`.
fn directory(all: &[Said]) -> Directory {
    let mut directory = Directory::trusting(Digest::of(b"nobody"));
    let enrolled = (0..MEMBERS.len()).map(Said::Enrol);
    let events: Vec<_> = enrolled.chain(all.iter().copied()).map(event_of).collect();
    directory.apply(&feed("NDXP", "*", Lane::Directory), &events);
    directory
}

fn every_feed() -> impl Iterator<Item = FeedId> {
    let audiences = || MEMBERS.iter().copied().chain(["*"]);
    MEMBERS.iter().flat_map(move |origin| {
        audiences().flat_map(move |audience| Lane::ALL.into_iter().map(move |lane| feed(origin, audience, lane)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_revoked_key_never_comes_back(
        before in prop::collection::vec(said(), 0..20),
        after in prop::collection::vec(said(), 0..20),
        last in 0..4_u64,
    ) {
        let (member, number) = (2, 0);
        let mut all = before;
        all.extend([Said::AddKey(member, number), Said::RevokeKey(member, number, last)]);
        all.extend(after);
        let directory = directory(&all);
        let h24 = directory.member(&code("H24")).expect("member");
        let key = some_key(member, number);
        prop_assert!(h24.keys().all(|good| good != key.public()));
        prop_assert!(h24.knows_key(key.public()));
        // Beyond whatever was accepted, nothing by that key is taken.
        let sealer = Sealer::new(code("H24"), key);
        let head = Head { sequence: 4, digest: Digest::of(b"x") };
        let batch = sealer.seal(&feed("H24", "TW", Lane::Report), Some(&head), 0, vec![event("s", 1, vec![])]);
        let batch = parse(batch.expect("seals").bytes().clone()).expect("parses");
        let refused = directory.verify(batch);
        prop_assert!(matches!(refused, Err(Refusal::RevokedKey { sequence: 5, .. })), "{refused:?}");
    }

    /// Whatever is said after a revocation never makes more valid; a second revocation may take back more.
    #[test]
    fn a_second_revocation_only_takes_back_more(
        last in 0..4_u64,
        after in prop::collection::vec(said(), 0..20),
    ) {
        let mut all = vec![Said::AddKey(2, 0), Said::RevokeKey(2, 0, last)];
        all.extend(after);
        let revoked = all.iter().filter_map(|said| match said {
            Said::RevokeKey(2, 0, last) => Some(*last),
            _ => None,
        });
        let last = revoked.min().unwrap_or_default();
        let directory = directory(&all);
        let mut head = None;
        for sequence in 1..=5 {
            let sealer = Sealer::new(code("H24"), some_key(2, 0));
            let events = vec![event("s", sequence, vec![])];
            let batch = sealer.seal(&feed("H24", "TW", Lane::Report), head.as_ref(), 0, events).expect("seals");
            head = Some(batch.head());
            let taken = directory.verify(parse(batch.bytes().clone()).expect("parses")).is_ok();
            prop_assert_eq!(taken, sequence <= last, "sequence {}", sequence);
        }
    }

    #[test]
    fn a_revoked_certificate_never_comes_back(
        before in prop::collection::vec(said(), 0..20),
        after in prop::collection::vec(said(), 0..20),
    ) {
        let mut all = before;
        all.push(Said::RevokeCertificate(2, 1));
        all.extend(after);
        prop_assert!(directory(&all).admits_certificate(&code("H24"), certificate(2, 1)).is_err());
    }

    #[test]
    fn a_suspended_member_neither_pushes_nor_reads_and_its_carrier_does_neither_for_it(
        before in prop::collection::vec(said(), 0..20),
    ) {
        let mut all = before;
        all.extend([Said::Resume(4), Said::Carrier(4, 3, true), Said::Suspend(3)]);
        let directory = directory(&all);
        let (h55, carrier) = (code("H55"), code("H55.LGSP"));
        for feed in every_feed() {
            let suspended = |outcome| matches!(outcome, Err(Refusal::Suspended { .. }));
            prop_assert!(suspended(directory.may_read(&h55, &feed)));
            prop_assert!(suspended(directory.may_push(&h55, &feed)));
            if feed.origin == h55 {
                prop_assert!(directory.may_push(&carrier, &feed).is_err(), "{feed}");
            }
        }
        prop_assert!(directory.admits(&carrier).is_ok());
        let mut resumed = all.clone();
        resumed.push(Said::Resume(3));
        let resumed = self::directory(&resumed);
        prop_assert!(resumed.may_push(&carrier, &feed("H55", "TW", Lane::Report)).is_ok());
    }

    /// Without grants a feed is for its parties; with one exactly what it names comes on top.
    #[test]
    fn a_grant_covers_exactly_what_it_names(
        reader in 1..4_usize,
        origin in prop::option::of(0..MEMBERS.len()),
        audience in prop::option::of(0..MEMBERS.len()),
        lane in prop::option::of(prop::sample::select(Lane::ALL.to_vec())),
    ) {
        let granted = Said::Grant { reader, origin, audience, lane, given: true };
        let withdrawn = Said::Grant { reader, origin, audience, lane, given: false };
        let (without, with) = (directory(&[]), directory(&[granted]));
        let after = directory(&[granted, withdrawn]);
        let caller = code(MEMBERS[reader]);
        let named = |want: Option<usize>, got: &str| want.is_none_or(|want| MEMBERS[want] == got);
        for feed in every_feed() {
            let covered = named(origin, feed.origin.as_str())
                && named(audience, &feed.audience.to_string())
                && lane.is_none_or(|lane| lane == feed.lane)
                && feed.lane != Lane::Local;
            let before = without.may_read(&caller, &feed).is_ok();
            prop_assert_eq!(with.may_read(&caller, &feed).is_ok(), before || covered, "{}", feed);
            prop_assert_eq!(after.may_read(&caller, &feed).is_ok(), before, "{}", feed);
            let other = code(MEMBERS[(reader + 1) % 4]);
            prop_assert_eq!(with.may_read(&other, &feed).is_ok(), without.may_read(&other, &feed).is_ok());
        }
    }

    /// Two keys overlap: while neither is revoked both are good, and revoking the old one leaves the new one alone.
    #[test]
    fn two_keys_overlap_while_one_replaces_the_other(between in prop::collection::vec(said(), 0..20)) {
        let others = between.into_iter().filter(|said| !matches!(said, Said::RevokeKey(2, _, _)));
        let mut all = vec![Said::AddKey(2, 0), Said::AddKey(2, 1)];
        all.extend(others);
        let good = |directory: &Directory, number| {
            let sealer = Sealer::new(code("H24"), some_key(2, number));
            let batch = sealer.seal(&feed("H24", "TW", Lane::Report), None, 0, vec![event("s", 1, vec![])]);
            directory.verify(parse(batch.expect("seals").bytes().clone()).expect("parses")).is_ok()
        };
        let overlapping = directory(&all);
        prop_assert!(good(&overlapping, 0) && good(&overlapping, 1));
        all.push(Said::RevokeKey(2, 0, 0));
        let rotated = directory(&all);
        prop_assert!(!good(&rotated, 0) && good(&rotated, 1));
    }
}

#[test]
fn once_certificates_are_registered_a_member_is_known_by_them_alone() {
    let admits = |all: &[Said], number| directory(all).admits_certificate(&code("H24"), certificate(2, number)).is_ok();
    assert!(admits(&[], 0), "none is registered: what the authority says is enough");
    assert!(admits(&[Said::AddCertificate(2, 0)], 0));
    assert!(!admits(&[Said::AddCertificate(2, 0)], 1));
    assert!(!admits(&[Said::AddCertificate(2, 0), Said::RevokeCertificate(2, 0)], 0));
    assert!(!admits(&[Said::RevokeCertificate(2, 0)], 0), "one that was never registered can be revoked");
    assert!(admits(&[Said::RevokeCertificate(2, 0)], 1), "and the others stay as good as they were");
    assert!(admits(&[Said::AddCertificate(3, 0)], 1), "others' certificates change nothing");
}
