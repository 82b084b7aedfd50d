//! Makes keys, batches and the directory, and says what this program makes of them.

use httt_feed::{AgencyCode, Algorithm, Audience, Directory, FeedId, Lane, MemberKind, Sealer, SigningKey, parse};
use httt_wire::bulletin::{BulletinPublished, BulletinWithdrawn, Content, Priority};
use httt_wire::{directory as pb, feed};
use serde_json::{Value, json};

use super::parts::{Sealed, batch, bytes_json, event, lane_json, pae, seal, signer, signers};

/// What every key of the vectors signs.
const MESSAGE: &str = "httt test vector: Hệ thống thông tin nguồn";

fn algorithm(algorithm: Algorithm) -> Value {
    let name = match algorithm {
        Algorithm::Ed25519 => "ED25519",
        Algorithm::EcdsaP256Sha256 => "ECDSA_P256_SHA256",
        Algorithm::RsaPkcs1Sha256 => "RSA_PKCS1_2048_8192_SHA256",
    };
    json!({ "name": name, "number": algorithm.to_wire() })
}

pub(crate) fn keys() -> Value {
    let keys = signers().into_iter().map(|signer| {
        let signature = signer.sign(MESSAGE.as_bytes());
        assert!(signer.public.verifies(MESSAGE.as_bytes(), &signature), "{}", signer.name);
        json!({
            "name": signer.name,
            "algorithm": algorithm(signer.public.algorithm()),
            "seed": signer.seed.map(hex::encode),
            "public": hex::encode(signer.public.value()),
            "fingerprint": signer.public.fingerprint().to_string(),
            "key_id": signer.public.id().to_string(),
            "message": hex::encode(MESSAGE),
            "signature": hex::encode(signature),
        })
    });
    json!({ "keys": keys.collect::<Vec<_>>() })
}

fn published(id: &str, title: &str) -> BulletinPublished {
    let content = Content {
        title: title.to_owned(),
        body: "Nước sông Cửu Long lên báo động 3.".to_owned(),
        priority: Priority::Emergency.into(),
        language: "vi".to_owned(),
        target_areas: vec!["31".to_owned()],
        ..Default::default()
    };
    BulletinPublished {
        bulletin: id.to_owned(),
        version: 1,
        content: Some(content),
        author: "soạn".to_owned(),
        approver: "duyệt".to_owned(),
        approved_at_ms: 1_763_699_999_000,
    }
}

/// A chain of three, as the ministry would say it.
pub(crate) fn chain() -> [Sealed; 3] {
    let feed = "TW→*/emergency";
    let first = seal("tw", batch(feed, None, vec![event("bulletin/b1", 1, &published("b1", "Báo động lũ"))]));
    let more = vec![
        event("bulletin/b2", 1, &published("b2", "Sơ tán")),
        event("bulletin/b3", 1, &published("b3", "Nơi tránh trú")),
    ];
    let second = seal("tw", batch(feed, Some(&first), more));
    let withdrawn = BulletinWithdrawn { bulletin: "b1".to_owned(), reason: "lũ đã rút".to_owned() };
    let third = seal("tw", batch(feed, Some(&second), vec![event("bulletin/b1", 2, &withdrawn)]));
    [first, second, third]
}

/// One event for batches in which only the envelope matters.
pub(crate) fn said(stream: &str) -> Vec<feed::Event> {
    let withdrawn = BulletinWithdrawn { bulletin: stream.to_owned(), reason: "…".to_owned() };
    vec![event(stream, 1, &withdrawn)]
}

/// Sealed by a key that a government token may hold.
pub(crate) fn by_token() -> [Sealed; 2] {
    [
        seal("tw-p256", batch("TW→*/content", None, said("by-p256"))),
        seal("h55-rsa", batch("H55→TW/report", None, said("by-rsa"))),
    ]
}

fn restating() -> Sealed {
    seal("h24", feed::Batch { restates: true, ..batch("H24→TW/status", None, said("status")) })
}

pub(crate) fn batches() -> Value {
    let [first, second, third] = chain();
    let [p256, rsa] = by_token();
    // The program's own sealer makes the same bytes.
    let sealer = Sealer::new(
        AgencyCode::new("TW").expect("code"),
        SigningKey::from_seed(&signer("tw").seed.expect("seed")).expect("key"),
    );
    let feed: FeedId = "TW→*/emergency".parse().expect("feed");
    let resealed = sealer.seal(&feed, None, first.batch.sealed_at_ms, first.batch.events.clone()).expect("seals");
    assert_eq!(resealed.bytes(), &first.bytes);
    let list = [
        ("chain-1", "the first of a feed: no `previous`", "tw", first),
        ("chain-2", "two events; `previous` is the digest of chain-1", "tw", second),
        ("chain-3", "`previous` is the digest of chain-2", "tw", third),
        ("p256", "ECDSA on P-256 with SHA-256, ASN.1 DER, signed once by openssl", "tw-p256", p256),
        ("rsa", "RSA PKCS#1 v1.5 with SHA-256, 2048 bits, signed once by openssl", "h55-rsa", rsa),
        ("restating", "lane status, says again all that its feed stands for", "h24", restating()),
    ];
    let batches = list.map(|(name, about, key, sealed)| {
        parse(sealed.bytes.clone()).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        json!({
            "name": name,
            "about": about,
            "key": key,
            "fields": fields(&sealed.batch),
            "body": hex::encode(&sealed.body),
            "pae": hex::encode(pae(&sealed.body)),
            "signature": hex::encode(&sealed.signature),
            "digest": sealed.digest().to_string(),
            "sealed": hex::encode(&sealed.bytes),
        })
    });
    json!({ "payload_type": httt_feed::PAYLOAD_TYPE, "batches": batches })
}

fn fields(batch: &feed::Batch) -> Value {
    let events = batch.events.iter().map(|event| {
        json!({
            "id": hex::encode(&event.id),
            "stream": event.stream,
            "version": event.version,
            "type": event.r#type,
            "occurred_at_ms": event.occurred_at_ms,
            "actor": event.actor,
            "traceparent": event.traceparent,
            "data": bytes_json(&event.data),
        })
    });
    json!({
        "origin": batch.origin,
        "audience": batch.audience,
        "lane": lane_json(batch.lane),
        "sequence": batch.sequence,
        "previous": hex::encode(&batch.previous),
        "sealed_at_ms": batch.sealed_at_ms,
        "events": events.collect::<Vec<_>>(),
        "restates": batch.restates,
    })
}

/// One step of the directory: its name, what it is about, its events.
type Step = (&'static str, &'static str, Vec<feed::Event>);

pub(crate) fn enrolled(member: &str, kind: MemberKind, area: &str, keys: &[&str]) -> Vec<feed::Event> {
    let stream = format!("member/{member}");
    let enrolled = pb::MemberEnrolled {
        member: member.to_owned(),
        name: format!("Đơn vị {member}"),
        kind: kind.into(),
        area: area.to_owned(),
        aliases: vec![],
    };
    let mut events = vec![event(&stream, 1, &enrolled)];
    events.extend((2..).zip(keys).map(|(version, key)| event(&stream, version, &key_added(member, key))));
    events
}

fn key_added(member: &str, key: &str) -> pb::KeyAdded {
    pb::KeyAdded { member: member.to_owned(), key: Some(signer(key).public.to_wire()) }
}

/// From enrolment to revocation. Add steps at the end: cases name the steps that they rest on.
fn steps() -> Vec<Step> {
    let members = [
        enrolled("TW", MemberKind::Central, "", &["tw"]),
        enrolled("H24", MemberKind::Province, "31", &["h24"]),
        enrolled("H55", MemberKind::Province, "19", &["h55"]),
        enrolled("H55.LGSP", MemberKind::Carrier, "19", &["h55-lgsp"]),
    ];
    let granted = pb::CarrierGranted { carrier: "H55.LGSP".to_owned(), member: "H55".to_owned() };
    let withdrawn = pb::CarrierWithdrawn { carrier: "H55.LGSP".to_owned(), member: "H55".to_owned() };
    let last = |audience: &str, lane: Lane, sequence| pb::LastAccepted {
        audience: audience.to_owned(),
        lane: lane.to_wire(),
        sequence,
    };
    let revoked = pb::KeyRevoked {
        member: "H24".to_owned(),
        fingerprint: signer("h24").public.fingerprint().0.to_vec(),
        reason: "thiết bị bị mất".to_owned(),
        last_accepted: vec![last("TW", Lane::Report, 2), last("TW", Lane::Status, 1)],
    };
    vec![
        (
            "founding",
            "the first batch brings the key that signed it; believed because its fingerprint is the trusted one",
            enrolled("NDXP", MemberKind::Gateway, "", &["ndxp"]),
        ),
        ("members", "four members and their keys", members.concat()),
        ("carrier-granted", "H55.LGSP carries for H55", vec![event("member/H55", 3, &granted)]),
        (
            "keys-added",
            "further keys: a rotation's new one, P-256, RSA",
            vec![
                event("member/H24", 3, &key_added("H24", "h24-next")),
                event("member/TW", 3, &key_added("TW", "tw-p256")),
                event("member/H55", 4, &key_added("H55", "h55-rsa")),
            ],
        ),
        (
            "key-revoked",
            "H24's first key ends: what it sealed stays good up to the sequences named, and nowhere else",
            vec![event("member/H24", 4, &revoked)],
        ),
        (
            "key-added-again",
            "a revoked key does not come back by being added again",
            vec![event("member/H24", 5, &key_added("H24", "h24"))],
        ),
        ("carrier-withdrawn", "H55.LGSP carries no longer", vec![event("member/H55", 5, &withdrawn)]),
    ]
}

/// The directory's batches, chained, by the names of their steps.
pub(crate) fn directory_batches() -> Vec<(&'static str, &'static str, Sealed)> {
    let mut made: Vec<(&'static str, &'static str, Sealed)> = Vec::new();
    for (name, about, events) in steps() {
        let sealed = seal("ndxp", batch("NDXP→*/directory", made.last().map(|(.., sealed)| sealed), events));
        made.push((name, about, sealed));
    }
    made
}

/// The directory after the steps with these names, as a node folds it.
pub(crate) fn folded(names: &[&str]) -> Directory {
    let mut directory = Directory::trusting(signer("ndxp").public.fingerprint());
    for (name, _, sealed) in directory_batches() {
        if names.contains(&name) {
            let verified = directory.verify(parse(sealed.bytes).expect("parses")).expect("verifies");
            directory.apply(verified.feed(), &verified.batch().events);
        }
    }
    directory
}

pub(crate) fn directory() -> Value {
    let (mut names, mut steps) = (Vec::new(), Vec::new());
    for (name, about, sealed) in directory_batches() {
        names.push(name);
        let directory = folded(&names);
        let members = directory.members().map(|member| {
            json!({
                "code": member.code.as_str(),
                "kind": { "name": member.kind.as_str_name(), "number": i32::from(member.kind) },
                "area": member.area,
                "keys": member.keys().map(|key| key.fingerprint().to_string()).collect::<Vec<_>>(),
                "carriers": member.carriers().map(AgencyCode::as_str).collect::<Vec<_>>(),
            })
        });
        steps.push(json!({
            "name": name,
            "about": about,
            "sealed": hex::encode(&sealed.bytes),
            "after": {
                "gateway": directory.gateway().map(AgencyCode::as_str),
                "members": members.collect::<Vec<_>>(),
            },
        }));
    }
    let feed = FeedId::new(AgencyCode::new("NDXP").expect("code"), Audience::All, Lane::Directory);
    json!({
        "trusted_fingerprint": signer("ndxp").public.fingerprint().to_string(),
        "feed": feed.to_string(),
        "batches": steps,
    })
}
