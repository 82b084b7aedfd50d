//! From a command to events: the rules, without I/O.

use httt_feed::{
    AgencyCode, Audience, Digest, Directory, FeedId, Fingerprint, Lane, Member, MemberKind, PublicKey, ReadGrant,
};
use httt_log::{FeedHead, NewEvent};
use httt_node::tls;
use httt_wire::directory as pb;
use httt_wire::{Message, Name};

use super::{
    Admission, Command, Kind, MAX_AREA_BYTES, MAX_CERTIFICATES, MAX_KEYS, MAX_NAME_BYTES, MAX_REASON_BYTES, Refusal,
};

/// What a decision looks at besides the directory.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The gateway's code.
    pub own: &'a AgencyCode,
    /// The key that it seals with.
    pub own_key: Fingerprint,
    /// Heads of all feeds held: what was received up to now.
    pub heads: &'a [FeedHead],
    /// The file that was read, where one is to be admitted.
    pub admission: Option<&'a Admission>,
    /// Account of the operator.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
}

/// The events that carry out `command`: never none, for a command that changes nothing is refused.
///
/// # Errors
/// The first thing that speaks against it.
pub fn decide(directory: &Directory, command: &Command, context: &Context<'_>) -> Result<Vec<NewEvent>, Refusal> {
    let reason = text("reason", context.reason, MAX_REASON_BYTES)?;
    if reason.is_empty() {
        return Err(Refusal::Required { field: "reason" });
    }
    let rules = Rules { directory, context, reason: reason.to_owned() };
    let said = match command {
        Command::Enrol { member, name, kind, area, keys } => rules.enrol(member, name, *kind, area, keys),
        Command::AddKey { member, key } => rules.add_key(member, key),
        Command::RevokeKey { member, fingerprint } => rules.revoke_key(member, fingerprint),
        Command::Admit { member, admission } => rules.admit(member, admission),
        Command::AddCertificate { member, certificate } => rules.add_certificate(member, certificate),
        Command::RevokeCertificate { member, certificate } => rules.revoke_certificate(member, certificate),
        Command::Suspend { member } => rules.suspend(member),
        Command::Resume { member } => rules.resume(member),
        Command::GrantRead { reader, origin, audience, lane } => rules.read(reader, origin, audience, lane, true),
        Command::WithdrawRead { reader, origin, audience, lane } => rules.read(reader, origin, audience, lane, false),
        Command::GrantCarrier { member, carrier } => rules.carrier(member, carrier, true),
        Command::WithdrawCarrier { member, carrier } => rules.carrier(member, carrier, false),
    }?;
    Ok(said.into_iter().map(|event| event.with_actor(context.actor)).collect())
}

struct Rules<'a> {
    directory: &'a Directory,
    context: &'a Context<'a>,
    reason: String,
}

type Said = Result<Vec<NewEvent>, Refusal>;

impl Rules<'_> {
    fn enrol(&self, member: &str, name: &str, kind: Kind, area: &str, keys: &[String]) -> Said {
        let code = code("member", member)?;
        let name = text("name", name, MAX_NAME_BYTES)?;
        if name.is_empty() {
            return Err(Refusal::Required { field: "name" });
        }
        let area = text("area", area, MAX_AREA_BYTES)?;
        let known = self.directory.member(&code);
        let kind = MemberKind::from(kind);
        match known {
            Some(known) if known.kind != kind => return Err(Refusal::KindIsFixed(code)),
            None if kind == MemberKind::Gateway => return Err(Refusal::SecondGateway),
            None if keys.is_empty() => return Err(Refusal::KeyNeeded),
            _ => {}
        }
        let mut events = Vec::new();
        if known.is_none_or(|known| known.name != name || known.area != area) {
            let enrolled = pb::MemberEnrolled {
                member: code.to_string(),
                name: name.to_owned(),
                kind: kind.into(),
                area: area.to_owned(),
                aliases: vec![],
            };
            events.push(said(&code, &enrolled));
        }
        for key in keys {
            events.push(self.added("keys", &code, key)?);
        }
        if keys.len() + known.map_or(0, |known| known.keys().count()) > MAX_KEYS {
            return Err(Refusal::TooManyKeys { field: "keys", max: MAX_KEYS });
        }
        if events.is_empty() {
            return Err(Refusal::NothingNew(code));
        }
        Ok(self.with_reason(&code, events))
    }

    fn add_key(&self, member: &str, key: &str) -> Said {
        let member = self.member("member", member)?;
        if member.keys().count() >= MAX_KEYS {
            return Err(Refusal::TooManyKeys { field: "key", max: MAX_KEYS });
        }
        let event = self.added("key", &member.code, key)?;
        Ok(self.with_reason(&member.code, vec![event]))
    }

    fn added(&self, field: &'static str, member: &AgencyCode, key: &str) -> Result<NewEvent, Refusal> {
        let key: PublicKey = key.parse().map_err(|cause| Refusal::BadKey { field, cause })?;
        for other in self.directory.members() {
            match other.all_keys().find(|(known, _)| known.id() == key.id()) {
                Some((_, true)) => return Err(Refusal::RevokedKey { field }),
                Some((_, false)) => return Err(Refusal::KeyTaken { field, member: other.code.clone() }),
                None => {}
            }
        }
        Ok(said(member, &pb::KeyAdded { member: member.to_string(), key: Some(key.to_wire()) }))
    }

    fn revoke_key(&self, member: &str, fingerprint: &str) -> Said {
        let member = self.member("member", member)?;
        let unknown = || Refusal::UnknownKey { member: member.code.clone() };
        let fingerprint: Fingerprint = fingerprint.trim().parse().map_err(|_| unknown())?;
        let found = member.all_keys().find(|(key, _)| key.fingerprint() == fingerprint);
        let received = received(&member.code, self.context.heads);
        match found.ok_or_else(unknown)? {
            // One that was retired may be taken back further than its member, or whoever spoke for it, said.
            (_, true) if !member.is_revoked_less(fingerprint, &received) => return Err(Refusal::AlreadyRevoked),
            _ if fingerprint == self.context.own_key => return Err(Refusal::KeyInUse),
            _ => {}
        }
        let revoked = pb::KeyRevoked {
            member: member.code.to_string(),
            fingerprint: fingerprint.0.to_vec(),
            reason: self.reason.clone(),
            last_accepted: received,
        };
        Ok(vec![said(&member.code, &revoked)])
    }

    fn admit(&self, member: &str, admission: &str) -> Said {
        let member = self.member("member", member)?;
        let named = |read: &&Admission| *read.member() == member.code && read.id().to_string() == admission.trim();
        let read = self.context.admission.filter(named).ok_or(Refusal::AdmissionUnknown)?;
        read.decided(member, self.context.heads, &self.reason)
    }

    fn add_certificate(&self, member: &str, certificate: &str) -> Said {
        let member = self.member("member", member)?;
        let (sha256, not_after_ms) = read_certificate(&member.code, certificate)?;
        for other in self.directory.members() {
            match other.certificates().find(|(known, _)| **known == sha256) {
                Some((_, known)) if known.revoked.is_some() => return Err(Refusal::RevokedCertificate),
                Some(_) => return Err(Refusal::CertificateKnown { member: other.code.clone() }),
                None => {}
            }
        }
        if member.certificates().count() >= MAX_CERTIFICATES {
            return Err(Refusal::TooManyCertificates { max: MAX_CERTIFICATES });
        }
        let (sha256, code) = (sha256.0.to_vec(), member.code.to_string());
        let added = pb::CertificateAdded { member: code, sha256, not_after_ms };
        Ok(self.with_reason(&member.code, vec![said(&member.code, &added)]))
    }

    fn revoke_certificate(&self, member: &str, certificate: &str) -> Said {
        let member = self.member("member", member)?;
        let (sha256, _) = read_certificate(&member.code, certificate)?;
        let known = member.certificates().find(|(known, _)| **known == sha256).map(|(_, known)| known);
        if known.is_some_and(|known| known.revoked.is_some()) {
            return Err(Refusal::RevokedCertificate);
        }
        let (sha256, reason) = (sha256.0.to_vec(), self.reason.clone());
        let revoked = pb::CertificateRevoked { member: member.code.to_string(), sha256, reason };
        Ok(vec![said(&member.code, &revoked)])
    }

    fn suspend(&self, member: &str) -> Said {
        let member = self.member("member", member)?;
        if member.code == *self.context.own {
            return Err(Refusal::OwnNode);
        }
        if member.suspended.is_some() {
            return Err(Refusal::AlreadySuspended(member.code.clone()));
        }
        let suspended = pb::MemberSuspended { member: member.code.to_string(), reason: self.reason.clone() };
        Ok(vec![said(&member.code, &suspended)])
    }

    fn resume(&self, member: &str) -> Said {
        let member = self.member("member", member)?;
        if member.suspended.is_none() {
            return Err(Refusal::NotSuspended(member.code.clone()));
        }
        let resumed = pb::MemberResumed { member: member.code.to_string(), reason: self.reason.clone() };
        Ok(vec![said(&member.code, &resumed)])
    }

    fn read(&self, reader: &str, origin: &str, audience: &str, lane: &str, given: bool) -> Said {
        let reader = self.member("reader", reader)?.code.clone();
        let lane = match lane.trim() {
            "" => None,
            name => Some(readable_lane(name).ok_or_else(|| Refusal::NotALane(name.to_owned()))?),
        };
        let party = |field, given: &str| match given.trim() {
            "" => Ok(None),
            // Who withdraws a right, or grants one ahead, need not know whether that member is still there.
            given => code(field, given).map(Some),
        };
        let audience = match audience.trim() {
            "*" => Some(Audience::All),
            given => party("audience", given)?.map(Audience::One),
        };
        let grant = ReadGrant { reader, origin: party("origin", origin)?, audience, lane };
        let held = self.directory.grants().any(|held| *held == grant);
        match (given, held) {
            (true, true) => return Err(Refusal::GrantedAlready),
            (false, false) => return Err(Refusal::NotGranted),
            _ => {}
        }
        let (reader, reason) = (grant.reader.to_string(), self.reason.clone());
        let origin = grant.origin.map(|origin| origin.to_string()).unwrap_or_default();
        let audience = grant.audience.map(|audience| audience.to_string()).unwrap_or_default();
        let lane = grant.lane.map_or(0, Lane::to_wire);
        Ok(vec![if given {
            said(&grant.reader, &pb::ReadGranted { reader, origin, audience, lane, reason })
        } else {
            said(&grant.reader, &pb::ReadWithdrawn { reader, origin, audience, lane, reason })
        }])
    }

    fn carrier(&self, member: &str, carrier: &str, given: bool) -> Said {
        let member = self.member("member", member)?;
        let carrier = code("carrier", carrier)?;
        let carries = member.carriers().any(|known| *known == carrier);
        let code = member.code.clone();
        let event = match (given, carries) {
            (true, true) => return Err(Refusal::CarriesAlready { member: code, carrier }),
            (false, false) => return Err(Refusal::DoesNotCarry { member: code, carrier }),
            (true, false) => {
                let known = self.member("carrier", carrier.as_str())?;
                if known.kind != MemberKind::Carrier {
                    return Err(Refusal::NotACarrier(carrier));
                }
                said(&code, &pb::CarrierGranted { carrier: carrier.to_string(), member: code.to_string() })
            }
            (false, true) => {
                said(&code, &pb::CarrierWithdrawn { carrier: carrier.to_string(), member: code.to_string() })
            }
        };
        Ok(self.with_reason(&code, vec![event]))
    }

    fn member(&self, field: &'static str, given: &str) -> Result<&Member, Refusal> {
        let given = code(field, given)?;
        self.directory.member(&given).ok_or(Refusal::NotAMember { field, given })
    }

    /// The reason goes before events that have no place for one, in the same commit.
    fn with_reason(&self, member: &AgencyCode, mut events: Vec<NewEvent>) -> Vec<NewEvent> {
        let revised = pb::MemberRevised { member: member.to_string(), reason: self.reason.clone() };
        events.insert(0, said(member, &revised));
        events
    }
}

pub(super) fn said<M: Message + Name>(member: &AgencyCode, message: &M) -> NewEvent {
    NewEvent::of(Audience::All, Lane::Directory, format!("member/{member}"), message)
}

/// How far each feed of `member` was received: what a revocation leaves valid.
pub(crate) fn received(member: &AgencyCode, heads: &[FeedHead]) -> Vec<pb::LastAccepted> {
    let own = |feed: &FeedId| feed.origin == *member && feed.lane != Lane::Local;
    heads
        .iter()
        .filter(|head| own(&head.feed))
        .map(|head| pb::LastAccepted {
            audience: head.feed.audience.to_string(),
            lane: head.feed.lane.to_wire(),
            sequence: head.head.sequence,
        })
        .collect()
}

/// SHA-256 and end (0: unknown) of what was given as a certificate of `member`.
fn read_certificate(member: &AgencyCode, given: &str) -> Result<(Digest, i64), Refusal> {
    if let Ok(sha256) = given.trim().parse() {
        return Ok((sha256, 0));
    }
    let certificate = tls::read_certificate(given).ok_or(Refusal::NotACertificate)?;
    if certificate.member.as_ref() != Some(member) {
        return Err(Refusal::CertificateOfAnother { member: member.clone(), named: certificate.member });
    }
    Ok((certificate.sha256, certificate.not_after_ms))
}

fn readable_lane(name: &str) -> Option<Lane> {
    Lane::ALL.into_iter().find(|lane| *lane != Lane::Local && lane.to_string() == name)
}

pub(super) fn code(field: &'static str, given: &str) -> Result<AgencyCode, Refusal> {
    let given = given.trim();
    if given.is_empty() {
        return Err(Refusal::Required { field });
    }
    AgencyCode::new(given).map_err(|_| Refusal::NotACode { field, given: given.chars().take(60).collect() })
}

fn text<'a>(field: &'static str, given: &'a str, max: usize) -> Result<&'a str, Refusal> {
    let given = given.trim();
    if given.len() > max {
        return Err(Refusal::TooLong { field, given: given.len(), max });
    }
    Ok(given)
}
