//! The gateway's directory feed, step by step, and what this program folds it to.

use std::sync::LazyLock;

use httt_feed::{AgencyCode, Audience, Digest, Directory, FeedId, Lane, MemberKind, parse};
use httt_wire::{directory as pb, feed};
use serde_json::{Value, json};

use super::parts::{Sealed, batch, event, lane_json, seal, signer};

/// One batch of the directory.
struct Step {
    name: &'static str,
    about: &'static str,
    /// Who signs it.
    key: &'static str,
    events: Vec<feed::Event>,
}

/// One that the gateway's first key signs.
fn step(name: &'static str, about: &'static str, events: Vec<feed::Event>) -> Step {
    Step { name, about, key: "ndxp", events }
}

impl Step {
    fn by(self, key: &'static str) -> Self {
        Self { key, ..self }
    }
}

pub(crate) fn enrolled(member: &str, kind: MemberKind, area: &str, keys: &[&str]) -> Vec<feed::Event> {
    let stream = format!("member/{member}");
    let mut events = vec![event(&stream, 1, &member_enrolled(member, kind, area))];
    events.extend((2..).zip(keys).map(|(version, key)| event(&stream, version, &key_added(member, key))));
    events
}

fn member_enrolled(member: &str, kind: MemberKind, area: &str) -> pb::MemberEnrolled {
    pb::MemberEnrolled {
        member: member.to_owned(),
        name: format!("Đơn vị {member}"),
        kind: kind.into(),
        area: area.to_owned(),
        aliases: vec![],
    }
}

pub(crate) fn key_added(member: &str, key: &str) -> pb::KeyAdded {
    pb::KeyAdded { member: member.to_owned(), key: Some(signer(key).public.to_wire()) }
}

fn key_revoked(member: &str, key: &str, reason: &str, last: &[(&str, Lane, u64)]) -> pb::KeyRevoked {
    let last = last.iter().map(|(audience, lane, sequence)| pb::LastAccepted {
        audience: (*audience).to_owned(),
        lane: lane.to_wire(),
        sequence: *sequence,
    });
    pb::KeyRevoked {
        member: member.to_owned(),
        fingerprint: signer(key).public.fingerprint().0.to_vec(),
        reason: reason.to_owned(),
        last_accepted: last.collect(),
    }
}

/// Admits batches of H24 to TW on the lane report, from `first` on.
fn batches_admitted(first: u64, digests: &[Digest]) -> pb::BatchesAdmitted {
    pb::BatchesAdmitted {
        member: "H24".to_owned(),
        audience: "TW".to_owned(),
        lane: Lane::Report.to_wire(),
        first_sequence: first,
        digests: digests.iter().map(|digest| digest.0.to_vec()).collect(),
        reason: "chưa kịp gửi khi thu hồi khoá, người của H24 mang đến".to_owned(),
    }
}

/// Five batches by the key of H24 that is revoked after the second; the third and the fourth are admitted later.
pub(crate) fn revocable() -> [Sealed; 5] {
    let mut made: Vec<Sealed> = Vec::new();
    for said in ["r1", "r2", "r3", "r4", "r5"] {
        made.push(seal("h24", batch("H24→TW/report", made.last(), super::make::said(said))));
    }
    made.try_into().unwrap_or_else(|_| panic!("five batches"))
}

/// SHA-256 of a certificate; which one does not matter here.
pub(crate) fn certificate(name: &str) -> Digest {
    Digest::of(format!("httt test vector certificate {name}").as_bytes())
}

fn certificate_added(member: &str, name: &str) -> pb::CertificateAdded {
    let sha256 = certificate(name).0.to_vec();
    pb::CertificateAdded { member: member.to_owned(), sha256, not_after_ms: 1_795_236_000_000 }
}

fn certificate_revoked(member: &str, name: &str) -> pb::CertificateRevoked {
    let sha256 = certificate(name).0.to_vec();
    pb::CertificateRevoked { member: member.to_owned(), sha256, reason: "lộ khoá bí mật".to_owned() }
}

fn read_granted(reader: &str, origin: &str, audience: &str, lane: i32) -> pb::ReadGranted {
    let text = str::to_owned;
    let (reader, origin, audience) = (text(reader), text(origin), text(audience));
    pb::ReadGranted { reader, origin, audience, lane, reason: "kiểm tra".to_owned() }
}

fn read_withdrawn(reader: &str, origin: &str, audience: &str, lane: i32) -> pb::ReadWithdrawn {
    let text = str::to_owned;
    let (reader, origin, audience) = (text(reader), text(origin), text(audience));
    pb::ReadWithdrawn { reader, origin, audience, lane, reason: "kiểm tra xong".to_owned() }
}

/// The whole feed. Add steps at the end: cases name the steps that they rest on.
fn steps() -> Vec<Step> {
    let mut steps = keys_and_carriers();
    steps.extend(rights());
    steps.extend(gateway_rotates());
    steps.push(admission());
    steps
}

fn keys_and_carriers() -> Vec<Step> {
    let members = [
        enrolled("TW", MemberKind::Central, "", &["tw"]),
        enrolled("H24", MemberKind::Province, "31", &["h24"]),
        enrolled("H55", MemberKind::Province, "19", &["h55"]),
        enrolled("H55.LGSP", MemberKind::Carrier, "19", &["h55-lgsp"]),
    ];
    let granted = pb::CarrierGranted { carrier: "H55.LGSP".to_owned(), member: "H55".to_owned() };
    let withdrawn = pb::CarrierWithdrawn { carrier: "H55.LGSP".to_owned(), member: "H55".to_owned() };
    let last = [("TW", Lane::Report, 2), ("TW", Lane::Status, 1)];
    let revoked = key_revoked("H24", "h24", "thiết bị bị mất", &last);
    vec![
        step(
            "founding",
            "the first batch brings the key that signed it; believed because its fingerprint is the trusted one",
            enrolled("NDXP", MemberKind::Gateway, "", &["ndxp"]),
        ),
        step("members", "four members and their keys", members.concat()),
        step("carrier-granted", "H55.LGSP carries for H55", vec![event("member/H55", 3, &granted)]),
        step(
            "keys-added",
            "further keys: a rotation's new one, P-256, RSA",
            vec![
                event("member/H24", 3, &key_added("H24", "h24-next")),
                event("member/TW", 3, &key_added("TW", "tw-p256")),
                event("member/H55", 4, &key_added("H55", "h55-rsa")),
            ],
        ),
        step(
            "key-revoked",
            "H24's first key ends: what it sealed stays good up to the sequences named, and nowhere else",
            vec![event("member/H24", 4, &revoked)],
        ),
        step(
            "key-added-again",
            "a revoked key does not come back by being added again",
            vec![event("member/H24", 5, &key_added("H24", "h24"))],
        ),
        step("carrier-withdrawn", "H55.LGSP carries no longer", vec![event("member/H55", 5, &withdrawn)]),
        step("carrier-granted-again", "H55.LGSP carries for H55 again", vec![event("member/H55", 6, &granted)]),
    ]
}

fn rights() -> Vec<Step> {
    let (member, reason) = ("H55".to_owned(), "máy chủ bị chiếm quyền".to_owned());
    let suspended = pb::MemberSuspended { member: member.clone(), reason };
    let resumed = pb::MemberResumed { member, reason: "đã khắc phục".to_owned() };
    let (report, status) = (Lane::Report.to_wire(), Lane::Status.to_wire());
    vec![
        step("suspended", "H55 is suspended", vec![event("member/H55", 7, &suspended)]),
        step("resumed", "H55 takes part again", vec![event("member/H55", 8, &resumed)]),
        step(
            "certificates-added",
            "two certificates of H24: from now on it is known by them alone",
            vec![
                event("member/H24", 6, &certificate_added("H24", "h24")),
                event("member/H24", 7, &certificate_added("H24", "h24-next")),
            ],
        ),
        step(
            "certificates-revoked",
            "H24's first certificate, and one of TW that was never registered: TW's others stay good",
            vec![
                event("member/H24", 8, &certificate_revoked("H24", "h24")),
                event("member/TW", 4, &certificate_revoked("TW", "tw-stolen")),
            ],
        ),
        step(
            "certificates-added-again",
            "revoked certificates do not come back by being added again",
            vec![
                event("member/H24", 9, &certificate_added("H24", "h24")),
                event("member/TW", 5, &certificate_added("TW", "tw-stolen")),
            ],
        ),
        step(
            "read-granted",
            "H24 may read H55→TW/report, H55 whatever anybody tells TW on the lane status",
            vec![
                event("member/H24", 10, &read_granted("H24", "H55", "TW", report)),
                event("member/H55", 9, &read_granted("H55", "", "TW", status)),
            ],
        ),
        step(
            "read-withdrawn",
            "the first grant ends; the second stays, since what is withdrawn there was never granted in these words",
            vec![
                event("member/H24", 11, &read_withdrawn("H24", "H55", "TW", report)),
                event("member/H55", 10, &read_withdrawn("H55", "", "", 0)),
            ],
        ),
    ]
}

fn gateway_rotates() -> Vec<Step> {
    // The sequence of the step before.
    let last = [("*", Lane::Directory, 16)];
    let revised = pb::MemberRevised { member: "H24".to_owned(), reason: "sáp nhập".to_owned() };
    vec![
        step(
            "gateway-key-added",
            "the gateway brings its next key, signed with the one in use",
            vec![event("member/NDXP", 3, &key_added("NDXP", "ndxp-next"))],
        ),
        step(
            "gateway-key-revoked",
            "signed with the next key: the first one ends, this feed's earlier batches stay good",
            vec![event("member/NDXP", 4, &key_revoked("NDXP", "ndxp", "thay khoá định kỳ", &last))],
        )
        .by("ndxp-next"),
        step(
            "enrolled-again",
            "name, kind and area change; keys, certificates and rights stay",
            vec![
                event("member/H24", 12, &member_enrolled("H24", MemberKind::Province, "30")),
                event("member/H24", 13, &revised),
            ],
        )
        .by("ndxp-next"),
        step(
            "passed-over",
            "changes nothing: a key of nobody, a suspension of nobody, an event that is no directory event",
            vec![
                event("member/H88", 1, &key_added("H88", "stranger")),
                event("member/H88", 2, &pb::MemberSuspended { member: "H88".to_owned(), reason: "?".to_owned() }),
                event("member/H24", 14, &httt_wire::bulletin::BulletinWithdrawn::default()),
            ],
        )
        .by("ndxp-next"),
    ]
}

fn admission() -> Step {
    let [_, _, third, fourth, _] = revocable();
    // Of somebody who is not enrolled, and of another feed: the latter says nothing of this one.
    let nobodys = pb::BatchesAdmitted { member: "H88".to_owned(), ..batches_admitted(5, &[fourth.digest()]) };
    let elsewhere = pb::BatchesAdmitted { audience: "H55".to_owned(), ..batches_admitted(5, &[fourth.digest()]) };
    step(
        "batches-admitted",
        "two batches that H24's revoked key signed are good all the same, each at its sequence; the key is not",
        vec![
            event("member/H24", 15, &batches_admitted(3, &[third.digest(), fourth.digest()])),
            event("member/H88", 3, &nobodys),
            event("member/H24", 16, &elsewhere),
        ],
    )
    .by("ndxp-next")
}

/// The names of all steps up to this one.
pub(crate) fn until(last: &str) -> Vec<&'static str> {
    let names: Vec<&'static str> = BATCHES.iter().map(|(name, ..)| *name).collect();
    let at = names.iter().position(|name| *name == last).unwrap_or_else(|| panic!("no step {last}"));
    names[..=at].to_vec()
}

/// The directory's batches, chained: the name of each step, what it is about, its batch. Sealed once, since nearly every
/// case rests on them.
static BATCHES: LazyLock<Vec<(&'static str, &'static str, Sealed)>> = LazyLock::new(|| {
    let mut made: Vec<(&'static str, &'static str, Sealed)> = Vec::new();
    for Step { name, about, key, events } in steps() {
        let sealed = seal(key, batch("NDXP→*/directory", made.last().map(|(.., sealed)| sealed), events));
        made.push((name, about, sealed));
    }
    made
});

/// The directory's batches, by the names of their steps.
pub(crate) fn directory_batches() -> Vec<(&'static str, &'static str, Sealed)> {
    BATCHES.clone()
}

/// The directory after the steps with these names, as a node folds it.
pub(crate) fn folded(names: &[&str]) -> Directory {
    let mut directory = Directory::trusting(signer("ndxp").public.fingerprint());
    for (name, _, sealed) in BATCHES.iter() {
        if names.contains(name) {
            let verified = directory.verify(parse(sealed.bytes.clone()).expect("parses")).expect("verifies");
            directory.apply(verified.feed(), &verified.batch().events);
        }
    }
    directory
}

fn after(directory: &Directory) -> Value {
    let members = directory.members().map(|member| {
        let certificates = member.certificates().map(|(sha256, certificate)| {
            json!({
                "sha256": sha256.to_string(),
                "not_after_ms": certificate.not_after_ms,
                "revoked": certificate.revoked,
            })
        });
        json!({
            "code": member.code.as_str(),
            "name": member.name,
            "kind": { "name": member.kind.as_str_name(), "number": i32::from(member.kind) },
            "area": member.area,
            "suspended": member.suspended,
            "keys": member.keys().map(|key| key.fingerprint().to_string()).collect::<Vec<_>>(),
            "certificates": certificates.collect::<Vec<_>>(),
            "carriers": member.carriers().map(AgencyCode::as_str).collect::<Vec<_>>(),
            "admitted": member.admitted_count(),
        })
    });
    let grants = directory.grants().map(|grant| {
        json!({
            "reader": grant.reader.as_str(),
            "origin": grant.origin.as_ref().map(AgencyCode::as_str),
            "audience": grant.audience.as_ref().map(Audience::to_string),
            "lane": grant.lane.map(|lane| lane_json(lane.to_wire())),
        })
    });
    json!({
        "gateway": directory.gateway().map(AgencyCode::as_str),
        "members": members.collect::<Vec<_>>(),
        "grants": grants.collect::<Vec<_>>(),
    })
}

pub(crate) fn directory() -> Value {
    let (mut names, mut steps) = (Vec::new(), Vec::new());
    for (name, about, sealed) in directory_batches() {
        names.push(name);
        steps.push(json!({
            "name": name,
            "about": about,
            "sealed": hex::encode(&sealed.bytes),
            "after": after(&folded(&names)),
        }));
    }
    let feed = FeedId::directory(&AgencyCode::new("NDXP").expect("code"));
    json!({
        "trusted_fingerprint": signer("ndxp").public.fingerprint().to_string(),
        "feed": feed.to_string(),
        "batches": steps,
    })
}
