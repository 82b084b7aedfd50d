//! Makes keys and batches, and says what this program makes of them.

use httt_feed::{AgencyCode, Algorithm, Digest, FeedId, Sealer, SigningKey, parse};
use httt_node::rotation::{offer_proof, offered_key};
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
    json!({ "keys": keys.collect::<Vec<_>>(), "offer": offer() })
}

/// A key that is offered, and the proof that who offers it has it.
fn offer() -> Value {
    let (next, log_id) = (signer("h24-next"), Digest::of(b"httt test vector log").0[..16].to_vec());
    let message = offer_proof("H24", &log_id);
    let (key, proof) = (Some(next.public.to_wire()), next.sign(&message));
    let offered = pb::KeyOffered { member: "H24".to_owned(), key, proof: proof.clone(), log_id: log_id.clone() };
    assert_eq!(offered_key(&offered).as_ref(), Some(&next.public));
    json!({
        "member": "H24",
        "key": "h24-next",
        "log_id": hex::encode(log_id),
        "message": hex::encode(message),
        "proof": hex::encode(proof),
    })
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
