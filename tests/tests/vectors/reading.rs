//! A second reading of the protocol, as somebody would write it who has only its description, `ring` and the protobuf
//! messages. Nothing of `httt-feed` is used: it checks the vectors, and that the description is enough.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::directory::{
    CarrierGranted, CarrierWithdrawn, KeyAdded, KeyRevoked, MemberEnrolled, MemberKind, PublicKey,
};
use httt_wire::feed::{Batch, Event, Lane, SealedBatch};
use httt_wire::{Message, Name};
use ring::digest::{SHA256, digest};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::Value;

use super::parts::bytes_of;

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

/// By audience and lane, the last sequence that a revoked key is good for.
type LastAccepted = BTreeMap<(String, i32), u64>;

/// A member, as far as verdicts need it.
#[derive(Default, Clone)]
struct Member {
    kind: i32,
    area: String,
    /// By key id; with what it is still good for, once revoked.
    keys: BTreeMap<Vec<u8>, (PublicKey, Option<LastAccepted>)>,
    carriers: BTreeSet<String>,
}

#[derive(Default, Clone)]
struct Directory {
    trusted: Vec<u8>,
    gateway: Option<String>,
    members: BTreeMap<String, Member>,
}

fn message<M: Message + Name + Default>(event: &Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).expect("a directory event"))
}

impl Directory {
    fn apply(&mut self, batch: &Batch) {
        self.gateway.get_or_insert_with(|| batch.origin.clone());
        for event in &batch.events {
            if let Some(enrolled) = message::<MemberEnrolled>(event) {
                let member = self.members.entry(enrolled.member).or_default();
                (member.kind, member.area) = (enrolled.kind, enrolled.area);
            } else if let Some(added) = message::<KeyAdded>(event) {
                let key = added.key.expect("key");
                let id = fingerprint(&key)[..8].to_vec();
                self.members.entry(added.member).or_default().keys.entry(id).or_insert((key, None));
            } else if let Some(revoked) = message::<KeyRevoked>(event) {
                let member = self.members.entry(revoked.member).or_default();
                let (_, until) = member.keys.get_mut(&revoked.fingerprint[..8]).expect("a known key");
                let last = revoked.last_accepted.into_iter().map(|last| ((last.audience, last.lane), last.sequence));
                until.get_or_insert(last.collect());
            } else if let Some(granted) = message::<CarrierGranted>(event) {
                self.members.entry(granted.member).or_default().carriers.insert(granted.carrier);
            } else if let Some(withdrawn) = message::<CarrierWithdrawn>(event) {
                self.members.entry(withdrawn.member).or_default().carriers.remove(&withdrawn.carrier);
            }
        }
    }

    /// The key that must have signed the batch, or why there is none.
    fn key_for(&self, batch: &Batch, id: &[u8]) -> Result<PublicKey, i64> {
        if self.gateway.is_none() && batch.lane == i32::from(Lane::Directory) {
            let added = batch.events.iter().filter_map(message::<KeyAdded>).filter_map(|added| added.key);
            let trusted = added.into_iter().find(|key| fingerprint(key) == self.trusted);
            return trusted.ok_or(UNKNOWN_KEY);
        }
        let member = self.members.get(&batch.origin).ok_or(NOT_A_MEMBER)?;
        let kind = |kind: MemberKind| member.kind == i32::from(kind);
        let may = match (batch.lane == i32::from(Lane::Directory), batch.audience.as_str()) {
            (true, _) => kind(MemberKind::Gateway),
            (false, "*") => kind(MemberKind::Gateway) || kind(MemberKind::Central),
            (false, audience) => !kind(MemberKind::Carrier) && self.members.contains_key(audience),
        };
        if !may {
            return Err(NO_RIGHT);
        }
        let (key, revoked) = member.keys.get(id).ok_or(UNKNOWN_KEY)?;
        let last = revoked.as_ref().map(|last| *last.get(&(batch.audience.clone(), batch.lane)).unwrap_or(&0));
        if last.is_some_and(|last| batch.sequence > last) { Err(REVOKED_KEY) } else { Ok(key.clone()) }
    }

    /// Who may push or read a feed; 0: yes.
    fn right(&self, call: &str, caller: &str, feed: &str) -> i64 {
        let (origin, rest) = feed.split_once('→').expect("feed");
        let (audience, lane) = rest.split_once('/').expect("feed");
        let speaks = |member: &str| {
            member == caller || self.members.get(member).is_some_and(|member| member.carriers.contains(caller))
        };
        if !self.members.contains_key(caller) {
            return NOT_A_MEMBER;
        }
        if lane == "local" {
            return NO_RIGHT;
        }
        match call {
            "push" if speaks(origin) => 0,
            "push" => WRONG_MEMBER,
            _ if audience == "*" || speaks(audience) || speaks(origin) => 0,
            _ => NO_RIGHT,
        }
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

/// Shape and sizes, then whether it may be, then whose it is, then where it stands.
fn verdict(directory: &Directory, feed: &str, head: Option<(u64, Vec<u8>)>, bytes: &[u8]) -> Result<(), i64> {
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
        && (1..=4_096).contains(&batch.events.len());
    if !sound {
        return Err(MALFORMED);
    }
    batch.events.iter().try_for_each(check_event)?;
    if signature.key_id.len() != 8 || format!("{}→{}/{lane}", batch.origin, batch.audience) != feed {
        return Err(MALFORMED);
    }
    let key = directory.key_for(&batch, &signature.key_id)?;
    if fingerprint(&key)[..8] != signature.key_id || !signed(&key, &pae(&sealed.body), &signature.value) {
        return Err(BAD_SIGNATURE);
    }
    let (held, digest) = head.unwrap_or((0, Vec::new()));
    match batch.sequence {
        sequence if sequence == held && sha256(&sealed.body) != digest => Err(FORK),
        sequence if sequence <= held => Ok(()),
        sequence if sequence > held + 1 => Err(GAP),
        _ if batch.previous != digest => Err(BROKEN_CHAIN),
        _ => Ok(()),
    }
}

/// The directory after the steps named, each of which must itself be good.
fn folded(vectors: &Value, names: &[&str]) -> Directory {
    let mut directory = Directory { trusted: unhex(&vectors["trusted_fingerprint"]), ..Directory::default() };
    let mut head = None;
    for step in list(&vectors["batches"]).iter().filter(|step| names.contains(&text(&step["name"]))) {
        let bytes = unhex(&step["sealed"]);
        verdict(&directory, text(&vectors["feed"]), head, &bytes).unwrap_or_else(|code| panic!("{code}: {step:#}"));
        let body = SealedBatch::decode(&bytes[..]).expect("sealed").body;
        let batch = Batch::decode(body.clone()).expect("batch");
        directory.apply(&batch);
        head = Some((batch.sequence, sha256(&body)));
    }
    directory
}

pub(crate) fn directory(vectors: &Value) {
    let mut names = Vec::new();
    for step in list(&vectors["batches"]) {
        names.push(text(&step["name"]));
        let (directory, after) = (folded(vectors, &names), &step["after"]);
        assert_eq!(after["gateway"].as_str(), directory.gateway.as_deref(), "{names:?}");
        assert_eq!(list(&after["members"]).len(), directory.members.len(), "{names:?}");
        for told in list(&after["members"]) {
            let member = &directory.members[text(&told["code"])];
            assert_eq!(told["kind"]["number"].as_i64(), Some(i64::from(member.kind)), "{told:#}");
            assert_eq!(told["area"], member.area, "{told:#}");
            let good = member.keys.values().filter(|(_, revoked)| revoked.is_none());
            let good: BTreeSet<String> = good.map(|(key, _)| hex::encode(fingerprint(key))).collect();
            let told_keys: BTreeSet<String> = list(&told["keys"]).iter().map(|key| text(key).to_owned()).collect();
            assert_eq!(told_keys, good, "{told:#}");
            let carriers: BTreeSet<String> = list(&told["carriers"]).iter().map(|one| text(one).to_owned()).collect();
            assert_eq!(carriers, member.carriers, "{told:#}");
        }
    }
}

pub(crate) fn refusals(directory: &Value, vectors: &Value) {
    let folded = |case: &Value| folded(directory, &list(&case["directory"]).iter().map(text).collect::<Vec<_>>());
    for case in list(&vectors["entries"]) {
        let head =
            case["head"].as_object().map(|head| (head["sequence"].as_u64().expect("sequence"), unhex(&head["digest"])));
        let expected_sequence = head.as_ref().map_or(1, |(sequence, _)| sequence + 1);
        let given = verdict(&folded(case), text(&case["feed"]), head, &bytes_of(&case["entry"])).err().unwrap_or(0);
        assert_eq!(case["expected"]["number"].as_i64(), Some(given), "{}", case["name"]);
        if given == GAP {
            assert_eq!(case["expected"]["expected_sequence"].as_u64(), Some(expected_sequence), "{}", case["name"]);
        }
    }
    for case in list(&vectors["rights"]) {
        let given = folded(case).right(text(&case["call"]), text(&case["caller"]), text(&case["feed"]));
        assert_eq!(case["expected"]["number"].as_i64(), Some(given), "{case:#}");
    }
}
