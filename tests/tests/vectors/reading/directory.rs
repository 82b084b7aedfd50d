//! Whom to believe, and who may what.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::directory::{
    BatchesAdmitted, CarrierGranted, CarrierWithdrawn, CertificateAdded, CertificateRevoked, KeyAdded, KeyRevoked,
    MemberEnrolled, MemberKind, MemberResumed, MemberSuspended, PublicKey, ReadGranted, ReadWithdrawn,
};
use httt_wire::feed::{Batch, Event, Lane, SealedBatch};
use httt_wire::{Message, Name};
use serde_json::{Value, json};

use super::{
    Head, NO_RIGHT, NOT_A_MEMBER, REVOKED_CERTIFICATE, REVOKED_KEY, SUSPENDED, UNKNOWN_KEY, WRONG_MEMBER, fingerprint,
    list, sha256, text, unhex, verdict,
};

/// By audience and lane, the last sequence that a revoked key is good for.
type LastAccepted = BTreeMap<(String, i32), u64>;

#[derive(Default, Clone)]
struct Certificate {
    /// Its end; none: it was revoked without having been registered.
    not_after_ms: Option<i64>,
    revoked: Option<String>,
}

#[derive(Default, Clone)]
struct Member {
    name: String,
    kind: i32,
    area: String,
    suspended: Option<String>,
    /// By key id; with what it is still good for, once revoked.
    keys: BTreeMap<Vec<u8>, (PublicKey, Option<LastAccepted>)>,
    carriers: BTreeSet<String>,
    /// By SHA-256.
    certificates: BTreeMap<Vec<u8>, Certificate>,
    /// Audience, lane, sequence, digest of each batch that is good though its key was revoked.
    admitted: BTreeSet<(String, i32, u64, Vec<u8>)>,
}

/// Reader, origin, audience and lane; empty or 0: any.
type Grant = (String, String, String, i32);

#[derive(Default, Clone)]
pub(super) struct Directory {
    trusted: Vec<u8>,
    gateway: Option<String>,
    members: BTreeMap<String, Member>,
    grants: BTreeSet<Grant>,
}

fn message<M: Message + Name + Default>(event: &Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).expect("a directory event"))
}

/// The key of its origin that a batch brings and names as the one that signed it.
fn brought(batch: &Batch, id: &[u8]) -> Option<PublicKey> {
    let added = batch.events.iter().filter_map(message::<KeyAdded>).filter(|added| added.member == batch.origin);
    added.filter_map(|added| added.key).find(|key| fingerprint(key)[..8] == *id)
}

impl Directory {
    fn trusting(trusted: &Value) -> Self {
        Self { trusted: unhex(trusted), ..Self::default() }
    }

    fn apply(&mut self, batch: &Batch) {
        self.gateway.get_or_insert_with(|| batch.origin.clone());
        for event in &batch.events {
            if let Some(enrolled) = message::<MemberEnrolled>(event) {
                let member = self.members.entry(enrolled.member).or_default();
                (member.name, member.kind, member.area) = (enrolled.name, enrolled.kind, enrolled.area);
            } else if let Some(granted) = message::<ReadGranted>(event) {
                self.grants.insert((granted.reader, granted.origin, granted.audience, granted.lane));
            } else if let Some(withdrawn) = message::<ReadWithdrawn>(event) {
                self.grants.remove(&(withdrawn.reader, withdrawn.origin, withdrawn.audience, withdrawn.lane));
            } else {
                self.apply_to_member(event);
            }
        }
    }

    /// What is said of somebody who is not enrolled changes nothing.
    fn apply_to_member(&mut self, event: &Event) {
        let members = &mut self.members;
        if let Some(added) = message::<KeyAdded>(event) {
            let (Some(member), Some(key)) = (members.get_mut(&added.member), added.key) else { return };
            member.keys.entry(fingerprint(&key)[..8].to_vec()).or_insert((key, None));
        } else if let Some(revoked) = message::<KeyRevoked>(event) {
            let Some(member) = members.get_mut(&revoked.member) else { return };
            let (_, until) = member.keys.get_mut(&revoked.fingerprint[..8]).expect("a known key");
            let last = revoked.last_accepted.into_iter().map(|last| ((last.audience, last.lane), last.sequence));
            let last: BTreeMap<_, _> = last.collect();
            // Said again it only takes back more.
            *until = Some(match until.take() {
                None => last,
                Some(known) => known
                    .into_iter()
                    .filter_map(|(feed, sequence)| last.get(&feed).map(|other| (feed.clone(), sequence.min(*other))))
                    .collect(),
            });
        } else if let Some(said) = message::<BatchesAdmitted>(event) {
            let Some(member) = members.get_mut(&said.member) else { return };
            for (sequence, digest) in (said.first_sequence..).zip(said.digests) {
                member.admitted.insert((said.audience.clone(), said.lane, sequence, digest));
            }
        } else if let Some(granted) = message::<CarrierGranted>(event) {
            let Some(member) = members.get_mut(&granted.member) else { return };
            member.carriers.insert(granted.carrier);
        } else if let Some(withdrawn) = message::<CarrierWithdrawn>(event) {
            let Some(member) = members.get_mut(&withdrawn.member) else { return };
            member.carriers.remove(&withdrawn.carrier);
        } else if let Some(suspended) = message::<MemberSuspended>(event) {
            let Some(member) = members.get_mut(&suspended.member) else { return };
            member.suspended = Some(suspended.reason);
        } else if let Some(resumed) = message::<MemberResumed>(event) {
            let Some(member) = members.get_mut(&resumed.member) else { return };
            member.suspended = None;
        } else if let Some(added) = message::<CertificateAdded>(event) {
            let Some(member) = members.get_mut(&added.member) else { return };
            let registered = Certificate { not_after_ms: Some(added.not_after_ms), revoked: None };
            member.certificates.entry(added.sha256).or_insert(registered);
        } else if let Some(revoked) = message::<CertificateRevoked>(event) {
            let Some(member) = members.get_mut(&revoked.member) else { return };
            member.certificates.entry(revoked.sha256).or_default().revoked.get_or_insert(revoked.reason);
        }
    }

    /// The key that must have signed the batch, whose body has this digest, or why there is none.
    pub(super) fn key_for(&self, batch: &Batch, digest: &[u8], id: &[u8]) -> Result<PublicKey, i64> {
        if self.gateway.is_none() && batch.lane == i32::from(Lane::Directory) {
            let trusted = brought(batch, id).filter(|key| fingerprint(key) == self.trusted && batch.audience == "*");
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
        let this = (batch.audience.clone(), batch.lane, batch.sequence, digest.to_vec());
        let refused = last.is_some_and(|last| batch.sequence > last) && !member.admitted.contains(&this);
        if refused { Err(REVOKED_KEY) } else { Ok(key.clone()) }
    }

    fn takes_part(&self, member: &str) -> Result<&Member, i64> {
        let member = self.members.get(member).ok_or(NOT_A_MEMBER)?;
        if member.suspended.is_some() { Err(SUSPENDED) } else { Ok(member) }
    }

    fn carries(&self, carrier: &str, member: &str) -> bool {
        self.members.get(member).is_some_and(|member| member.carriers.contains(carrier))
    }

    /// Who may push or read a feed. A certificate is asked for by the drivers that have one.
    pub(super) fn right(&self, call: &str, caller: &str, shown: Option<Vec<u8>>, feed: &str) -> Result<(), i64> {
        let (origin, rest) = feed.split_once('→').expect("feed");
        let (audience, lane) = rest.split_once('/').expect("feed");
        let member = self.takes_part(caller)?;
        if let Some(shown) = shown {
            let any = member.certificates.values().any(|one| one.not_after_ms.is_some());
            let good = member.certificates.get(&shown).map_or(!any, |one| one.revoked.is_none());
            if !good {
                return Err(REVOKED_CERTIFICATE);
            }
        }
        if call == "push" && self.members.contains_key(origin) {
            self.takes_part(origin)?;
        }
        if lane == "local" {
            return Err(NO_RIGHT);
        }
        if call == "push" {
            return if origin == caller || self.carries(caller, origin) { Ok(()) } else { Err(WRONG_MEMBER) };
        }
        let party =
            |member: &str| member == caller || (self.carries(caller, member) && self.takes_part(member).is_ok());
        let number = Lane::from_str_name(&format!("LANE_{}", lane.to_uppercase())).map_or(0, i32::from);
        let any = |granted: &str, asked: &str| granted.is_empty() || granted == asked;
        let granted = self.grants.iter().any(|(reader, from, to, on)| {
            party(reader) && any(from, origin) && any(to, audience) && (*on == 0 || *on == number)
        });
        if audience == "*" || party(audience) || party(origin) || granted { Ok(()) } else { Err(NO_RIGHT) }
    }
}

/// Takes entries of a directory feed one after the other: how many are good, why the next is not (0: all are), and
/// whether `vouches` is among the keys that signed those before it.
fn take(directory: &mut Directory, feed: &str, entries: &[Vec<u8>], vouches: &[u8]) -> (u64, i64, bool) {
    let (mut head, mut vouched): (Head, bool) = (None, false);
    for (taken, bytes) in (0..).zip(entries) {
        let key = match verdict(directory, feed, &head, bytes) {
            Ok(key) => key,
            Err(code) => return (taken, code, vouched),
        };
        vouched |= fingerprint(&key) == vouches;
        let body = SealedBatch::decode(&bytes[..]).expect("sealed").body;
        let batch = Batch::decode(body.clone()).expect("batch");
        directory.apply(&batch);
        head = Some((batch.sequence, sha256(&body)));
    }
    (entries.len() as u64, 0, vouched)
}

/// The directory after the steps named, each of which must itself be good.
pub(super) fn folded(vectors: &Value, names: &[&str]) -> Directory {
    let mut directory = Directory::trusting(&vectors["trusted_fingerprint"]);
    let steps = list(&vectors["batches"]).iter().filter(|step| names.contains(&text(&step["name"])));
    let entries: Vec<Vec<u8>> = steps.map(|step| unhex(&step["sealed"])).collect();
    let (taken, code, _) = take(&mut directory, text(&vectors["feed"]), &entries, &[]);
    assert_eq!((taken as usize, code), (names.len(), 0), "{names:?}");
    directory
}

pub(crate) fn directory(vectors: &Value) {
    let mut names = Vec::new();
    for step in list(&vectors["batches"]) {
        names.push(text(&step["name"]));
        assert_eq!(step["after"], told(&folded(vectors, &names)), "{names:?}");
    }
}

/// A directory as the vectors write it.
fn told(directory: &Directory) -> Value {
    let members = directory.members.iter().map(|(code, member)| {
        let good = member.keys.values().filter(|(_, revoked)| revoked.is_none());
        let certificates = member.certificates.iter().map(|(sha256, one)| {
            json!({ "sha256": hex::encode(sha256), "not_after_ms": one.not_after_ms, "revoked": one.revoked })
        });
        let kind = MemberKind::try_from(member.kind).expect("kind");
        json!({
            "code": code,
            "name": member.name,
            "kind": { "name": kind.as_str_name(), "number": member.kind },
            "area": member.area,
            "suspended": member.suspended,
            "keys": good.map(|(key, _)| hex::encode(fingerprint(key))).collect::<Vec<_>>(),
            "certificates": certificates.collect::<Vec<_>>(),
            "carriers": member.carriers,
            "admitted": member.admitted.len(),
        })
    });
    let grants = directory.grants.iter().map(|(reader, origin, audience, lane)| {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let lane = Lane::try_from(*lane).ok().filter(|lane| *lane != Lane::Unspecified).map(|lane| {
            let name = lane.as_str_name().trim_start_matches("LANE_").to_lowercase();
            json!({ "name": name, "number": i32::from(lane) })
        });
        json!({ "reader": reader, "origin": some(origin), "audience": some(audience), "lane": lane })
    });
    json!({
        "gateway": directory.gateway,
        "members": members.collect::<Vec<_>>(),
        "grants": grants.collect::<Vec<_>>(),
    })
}

/// The beginning of a directory feed: whom to trust is the configured key, or the key that the first batch brings if a
/// batch further on, chained to it, is signed by the configured one.
fn founded(trusted: &Value, feed: &str, entries: &[Vec<u8>]) -> (u64, i64) {
    let mut directory = Directory::trusting(trusted);
    let first = SealedBatch::decode(&entries[0][..]).expect("sealed");
    let key_id = first.signature.expect("signature").key_id;
    if let Some(key) = brought(&Batch::decode(first.body).expect("batch"), &key_id) {
        let first_key = Directory { trusted: fingerprint(&key), ..Directory::default() };
        if take(&mut first_key.clone(), feed, entries, &directory.trusted).2 {
            directory = first_key;
        }
    }
    let (taken, code, _) = take(&mut directory, feed, entries, &[]);
    (taken, code)
}

pub(crate) fn foundings(directory: &Value, vectors: &Value) {
    for case in list(&vectors["cases"]) {
        let entries = list(&case["entries"]).iter().map(|entry| match &entry["step"] {
            Value::String(name) => {
                let step = list(&directory["batches"]).iter().find(|step| step["name"] == *name).expect("a step");
                unhex(&step["sealed"])
            }
            _ => unhex(&entry["sealed"]),
        });
        let entries: Vec<Vec<u8>> = entries.collect();
        let (taken, code) = founded(&case["trusted_fingerprint"], text(&vectors["feed"]), &entries);
        assert_eq!(case["taken"].as_u64(), Some(taken), "{}", case["name"]);
        assert_eq!(case["expected"]["number"].as_i64(), Some(code), "{}", case["name"]);
    }
}
