//! A second reading of the protocol, as somebody would write it who has only its description, `ring`, zstd and the
//! protobuf messages. Nothing of `httt-feed` is used: it checks the vectors, and that the description is enough.

mod directory;
mod packing;

use std::collections::BTreeMap;

use httt_wire::Message;
use httt_wire::directory::PublicKey;
use httt_wire::feed::{Batch, Event, Lane, SealedBatch};
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::Value;

use super::parts::bytes_of;

use directory::{Directory, folded};

pub(crate) use directory::{directory, foundings};
pub(crate) use packing::packings;

const NOT_A_MEMBER: i64 = 1;
const WRONG_MEMBER: i64 = 2;
const NO_RIGHT: i64 = 3;
const UNKNOWN_KEY: i64 = 4;
const REVOKED_KEY: i64 = 5;
const BAD_SIGNATURE: i64 = 6;
const MALFORMED: i64 = 7;
const TOO_LARGE: i64 = 8;
const GAP: i64 = 9;
const FORK: i64 = 10;
const BROKEN_CHAIN: i64 = 11;
const SUSPENDED: i64 = 15;
const REVOKED_CERTIFICATE: i64 = 17;

fn sha256(bytes: &[u8]) -> Vec<u8> {
    digest(&SHA256, bytes).as_ref().to_vec()
}

fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("text")).expect("hex")
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().expect("list")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body
fn pae(body: &[u8]) -> Vec<u8> {
    let mut text = b"DSSEv1 38 application/vnd.httt.batch.v1+protobuf ".to_vec();
    text.extend_from_slice(body.len().to_string().as_bytes());
    text.push(b' ');
    text.extend_from_slice(body);
    text
}

fn fingerprint(key: &PublicKey) -> Vec<u8> {
    sha256(&[&[key.algorithm as u8], key.value.as_slice()].concat())
}

fn signed(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let algorithm: &dyn VerificationAlgorithm = match key.algorithm {
        1 => &ED25519,
        2 => &ECDSA_P256_SHA256_ASN1,
        3 => &RSA_PKCS1_2048_8192_SHA256,
        other => panic!("algorithm {other}"),
    };
    UnparsedPublicKey::new(algorithm, &key.value).verify(message, signature).is_ok()
}

fn key(value: &Value) -> PublicKey {
    let algorithm = value["algorithm"]["number"].as_i64().expect("number") as i32;
    PublicKey { algorithm, value: unhex(&value["public"]) }
}

pub(crate) fn keys(vectors: &Value) {
    for one in list(&vectors["keys"]) {
        let (name, key) = (text(&one["name"]), key(one));
        assert_eq!(fingerprint(&key), unhex(&one["fingerprint"]), "{name}");
        assert_eq!(fingerprint(&key)[..8], unhex(&one["key_id"])[..], "{name}");
        let (mut message, signature) = (unhex(&one["message"]), unhex(&one["signature"]));
        assert!(signed(&key, &message, &signature), "{name}");
        if !one["seed"].is_null() {
            let pair = Ed25519KeyPair::from_seed_unchecked(&unhex(&one["seed"])).expect("seed");
            assert_eq!(pair.public_key().as_ref(), key.value, "{name}");
            assert_eq!(pair.sign(&message).as_ref(), signature, "{name}");
        }
        message[0] ^= 1;
        assert!(!signed(&key, &message, &signature), "{name}: of another message");
    }
    let offer = &vectors["offer"];
    let message =
        [b"httt key offered\0", text(&offer["member"]).as_bytes(), b"\0", unhex(&offer["log_id"]).as_slice()].concat();
    assert_eq!(message, unhex(&offer["message"]));
    let offered = list(&vectors["keys"]).iter().find(|one| one["name"] == offer["key"]).expect("the key offered");
    assert!(signed(&key(offered), &message, &unhex(&offer["proof"])), "the proof");
}

pub(crate) fn batches(keys: &Value, vectors: &Value) {
    let keys: BTreeMap<&str, PublicKey> =
        list(&keys["keys"]).iter().map(|one| (text(&one["name"]), key(one))).collect();
    assert_eq!(vectors["payload_type"], "application/vnd.httt.batch.v1+protobuf");
    let mut digests = BTreeMap::new();
    for one in list(&vectors["batches"]) {
        let (name, body, key) = (text(&one["name"]), unhex(&one["body"]), &keys[text(&one["key"])]);
        let batch = batch_of(&one["fields"]);
        assert_eq!(batch.encode_to_vec(), body, "{name}: the fields are the body");
        assert_eq!(pae(&body), unhex(&one["pae"]), "{name}");
        assert!(signed(key, &unhex(&one["pae"]), &unhex(&one["signature"])), "{name}");
        assert_eq!(sha256(&body), unhex(&one["digest"]), "{name}");
        let sealed = SealedBatch::decode(&unhex(&one["sealed"])[..]).expect(name);
        assert_eq!(sealed.body, body, "{name}");
        let signature = sealed.signature.expect(name);
        assert_eq!(signature.value, unhex(&one["signature"]), "{name}");
        assert_eq!(signature.key_id, fingerprint(key)[..8], "{name}");
        digests.insert((batch.origin.clone(), batch.lane, batch.sequence), sha256(&body));
        match digests.get(&(batch.origin, batch.lane, batch.sequence - 1)) {
            Some(before) => assert_eq!(&batch.previous, before, "{name}"),
            None => assert!(batch.previous.is_empty(), "{name}"),
        }
    }
    assert!(digests.contains_key(&("TW".to_owned(), Lane::Emergency.into(), 3)), "a chain of three");
}

fn batch_of(fields: &Value) -> Batch {
    let events = list(&fields["events"]).iter().map(|event| Event {
        id: unhex(&event["id"]),
        stream: text(&event["stream"]).to_owned(),
        version: event["version"].as_u64().expect("version"),
        r#type: text(&event["type"]).to_owned(),
        occurred_at_ms: event["occurred_at_ms"].as_i64().expect("time"),
        actor: text(&event["actor"]).to_owned(),
        traceparent: text(&event["traceparent"]).to_owned(),
        data: bytes_of(&event["data"]).into(),
    });
    Batch {
        origin: text(&fields["origin"]).to_owned(),
        audience: text(&fields["audience"]).to_owned(),
        lane: fields["lane"]["number"].as_i64().expect("lane") as i32,
        sequence: fields["sequence"].as_u64().expect("sequence"),
        previous: unhex(&fields["previous"]),
        sealed_at_ms: fields["sealed_at_ms"].as_i64().expect("time"),
        events: events.collect(),
        restates: fields["restates"].as_bool().expect("flag"),
    }
}

fn is_agency(code: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    code.len() <= 35 && code.split('.').all(|group| !group.is_empty() && group.bytes().all(good))
}

fn check_event(event: &Event) -> Result<(), i64> {
    let names = [&event.stream, &event.r#type, &event.actor, &event.traceparent];
    if event.data.len() > 48 * 1024 || names.iter().any(|name| name.len() > 200) {
        return Err(TOO_LARGE);
    }
    let whole = event.id.len() == 16 && !event.stream.is_empty() && !event.r#type.is_empty();
    if whole && (1..=i64::MAX as u64).contains(&event.version) { Ok(()) } else { Err(MALFORMED) }
}

/// Sequence and digest of the last batch held.
type Head = Option<(u64, Vec<u8>)>;

/// Shape and sizes, then whether it may be, then whose it is, then where it stands. Gives the key that signed it.
fn verdict(directory: &Directory, feed: &str, head: &Head, bytes: &[u8]) -> Result<PublicKey, i64> {
    if bytes.len() > 60 * 1024 + 1_200 {
        return Err(TOO_LARGE);
    }
    let sealed = SealedBatch::decode(bytes).map_err(|_| MALFORMED)?;
    let signature = sealed.signature.clone().ok_or(MALFORMED)?;
    if sealed.encode_to_vec() != bytes {
        return Err(MALFORMED);
    }
    if sealed.body.len() > 60 * 1024 {
        return Err(TOO_LARGE);
    }
    let batch = Batch::decode(sealed.body.clone()).map_err(|_| MALFORMED)?;
    let lane = match Lane::try_from(batch.lane).map_err(|_| MALFORMED)? {
        Lane::Unspecified => return Err(MALFORMED),
        lane => lane.as_str_name().trim_start_matches("LANE_").to_lowercase(),
    };
    let sound = is_agency(&batch.origin)
        && (batch.audience == "*" || is_agency(&batch.audience))
        && (1..i64::MAX as u64).contains(&batch.sequence)
        && batch.previous.len() == if batch.sequence == 1 { 0 } else { 32 }
        && (!batch.restates || lane == "status")
        && (1..=4_096).contains(&batch.events.len());
    if !sound {
        return Err(MALFORMED);
    }
    batch.events.iter().try_for_each(check_event)?;
    if signature.key_id.len() != 8 || format!("{}→{}/{lane}", batch.origin, batch.audience) != feed {
        return Err(MALFORMED);
    }
    let key = directory.key_for(&batch, &sha256(&sealed.body), &signature.key_id)?;
    if fingerprint(&key)[..8] != signature.key_id || !signed(&key, &pae(&sealed.body), &signature.value) {
        return Err(BAD_SIGNATURE);
    }
    let (held, digest) = head.clone().unwrap_or((0, Vec::new()));
    match batch.sequence {
        // Who holds nothing may begin where the feed says again all that it stands for.
        _ if head.is_none() && batch.restates => Ok(key),
        sequence if sequence == held && sha256(&sealed.body) != digest => Err(FORK),
        sequence if sequence <= held => Ok(key),
        sequence if sequence > held + 1 => Err(GAP),
        _ if batch.previous != digest => Err(BROKEN_CHAIN),
        _ => Ok(key),
    }
}

pub(crate) fn refusals(directory: &Value, vectors: &Value) {
    let folded = |case: &Value| folded(directory, &list(&case["directory"]).iter().map(text).collect::<Vec<_>>());
    for case in list(&vectors["entries"]) {
        let head =
            case["head"].as_object().map(|head| (head["sequence"].as_u64().expect("sequence"), unhex(&head["digest"])));
        let expected_sequence = head.as_ref().map_or(1, |(sequence, _)| sequence + 1);
        let given = verdict(&folded(case), text(&case["feed"]), &head, &bytes_of(&case["entry"])).err().unwrap_or(0);
        assert_eq!(case["expected"]["number"].as_i64(), Some(given), "{}", case["name"]);
        if given == GAP {
            assert_eq!(case["expected"]["expected_sequence"].as_u64(), Some(expected_sequence), "{}", case["name"]);
        }
    }
    for case in list(&vectors["rights"]) {
        let certificate = case["certificate"].as_str().map(|_| unhex(&case["certificate"]));
        let (call, caller, feed) = (text(&case["call"]), text(&case["caller"]), text(&case["feed"]));
        let given = folded(case).right(call, caller, certificate, feed).err().unwrap_or(0);
        assert_eq!(case["expected"]["number"].as_i64(), Some(given), "{case:#}");
    }
}
