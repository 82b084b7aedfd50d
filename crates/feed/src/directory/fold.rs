//! What each event of the gateway's directory feed changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use httt_wire::{Message, Name, directory as pb, feed};

use super::{Accepted, Certificate, Directory, KeyEntry, Member, ReadGrant};
use crate::{AgencyCode, Audience, Digest, FeedId, Lane, PublicKey};

impl Directory {
    /// Folds a batch; anything but the gateway's directory feed changes nothing.
    pub fn apply(&mut self, feed: &FeedId, events: &[feed::Event]) {
        if feed.lane != Lane::Directory || feed.audience != Audience::All {
            return;
        }
        match &self.gateway {
            Some(gateway) if *gateway != feed.origin => return,
            Some(_) => {}
            None => self.gateway = Some(feed.origin.clone()),
        }
        for event in events {
            self.apply_event(event);
        }
    }

    fn apply_event(&mut self, event: &feed::Event) {
        if let Some(enrolled) = decode::<pb::MemberEnrolled>(event) {
            let Ok(code) = AgencyCode::new(&enrolled.member) else { return };
            let kind = enrolled.kind();
            let member = self.members.entry(code.clone()).or_insert_with(|| Member {
                code,
                name: String::new(),
                kind,
                area: String::new(),
                suspended: None,
                keys: BTreeMap::new(),
                carriers: BTreeSet::new(),
                certificates: BTreeMap::new(),
                admitted: BTreeMap::new(),
            });
            member.name = enrolled.name;
            member.kind = kind;
            member.area = enrolled.area;
        } else if let Some(added) = decode::<pb::KeyAdded>(event) {
            if let (Some(member), Some(Ok(key))) =
                (self.member_mut(&added.member), added.key.as_ref().map(PublicKey::from_wire))
            {
                // A revoked key does not come back by being added again.
                member.keys.entry(key.id()).or_insert(KeyEntry { key, revoked: None });
            }
        } else if let Some(revoked) = decode::<pb::KeyRevoked>(event) {
            let fingerprint = Digest::from_slice(&revoked.fingerprint);
            if let Some(member) = self.member_mut(&revoked.member) {
                for entry in member.keys.values_mut().filter(|entry| Some(entry.key.fingerprint()) == fingerprint) {
                    let last = last_accepted(&revoked.last_accepted);
                    // Said again it can only take back more: what a retiring member was believed must not outlive what
                    // the operator knows.
                    entry.revoked = Some(match entry.revoked.take() {
                        None => last,
                        Some(known) => narrower(known, &last),
                    });
                }
            }
        } else if let Some(admitted) = decode::<pb::BatchesAdmitted>(event) {
            self.admit(&admitted);
        } else if let Some(granted) = decode::<pb::CarrierGranted>(event) {
            if let (Some(member), Ok(carrier)) = (self.member_mut(&granted.member), AgencyCode::new(&granted.carrier)) {
                member.carriers.insert(carrier);
            }
        } else if let Some(withdrawn) = decode::<pb::CarrierWithdrawn>(event)
            && let (Some(member), Ok(carrier)) =
                (self.member_mut(&withdrawn.member), AgencyCode::new(&withdrawn.carrier))
        {
            member.carriers.remove(&carrier);
        } else {
            self.apply_rights(event);
        }
    }

    /// What was admitted stays so: whoever reads the feed later judges by it, too.
    fn admit(&mut self, said: &pb::BatchesAdmitted) {
        let (Ok(audience), Some(lane)) = (Audience::new(&said.audience), Lane::from_wire(said.lane)) else { return };
        let Some(member) = self.member_mut(&said.member) else { return };
        let all = Arc::make_mut(member.admitted.entry((audience, lane)).or_default());
        let named = (0..).zip(&said.digests);
        all.extend(
            named
                .filter_map(|(nth, digest)| Some((said.first_sequence.checked_add(nth)?, Digest::from_slice(digest)?))),
        );
    }

    fn apply_rights(&mut self, event: &feed::Event) {
        if let Some(suspended) = decode::<pb::MemberSuspended>(event) {
            if let Some(member) = self.member_mut(&suspended.member) {
                member.suspended = Some(suspended.reason);
            }
        } else if let Some(resumed) = decode::<pb::MemberResumed>(event) {
            if let Some(member) = self.member_mut(&resumed.member) {
                member.suspended = None;
            }
        } else if let Some(added) = decode::<pb::CertificateAdded>(event) {
            if let (Some(member), Some(sha256)) = (self.member_mut(&added.member), Digest::from_slice(&added.sha256)) {
                // A revoked certificate does not come back by being added again.
                let certificate = Certificate { not_after_ms: Some(added.not_after_ms), revoked: None };
                member.certificates.entry(sha256).or_insert(certificate);
            }
        } else if let Some(revoked) = decode::<pb::CertificateRevoked>(event) {
            if let (Some(member), Some(sha256)) =
                (self.member_mut(&revoked.member), Digest::from_slice(&revoked.sha256))
            {
                // One that was never registered can be revoked, too.
                let certificate = member.certificates.entry(sha256);
                let certificate = certificate.or_insert(Certificate { not_after_ms: None, revoked: None });
                certificate.revoked.get_or_insert(revoked.reason);
            }
        } else if let Some(granted) = decode::<pb::ReadGranted>(event) {
            let grant = ReadGrant::from_wire(&granted.reader, &granted.origin, &granted.audience, granted.lane);
            self.grants.extend(grant);
        } else if let Some(withdrawn) = decode::<pb::ReadWithdrawn>(event)
            && let Some(grant) =
                ReadGrant::from_wire(&withdrawn.reader, &withdrawn.origin, &withdrawn.audience, withdrawn.lane)
        {
            self.grants.remove(&grant);
        }
    }

    fn member_mut(&mut self, code: &str) -> Option<&mut Member> {
        AgencyCode::new(code).ok().and_then(|code| self.members.get_mut(&code))
    }
}

/// Of each feed the earlier sequence; a feed that either leaves out has none.
fn narrower(known: Accepted, said: &Accepted) -> Accepted {
    known.into_iter().filter_map(|(feed, last)| Some((feed.clone(), last.min(*said.get(&feed)?)))).collect()
}

pub(super) fn last_accepted(list: &[pb::LastAccepted]) -> Accepted {
    list.iter()
        .filter_map(|last| Some(((Audience::new(&last.audience).ok()?, Lane::from_wire(last.lane)?), last.sequence)))
        .collect()
}

pub(super) fn decode<M: Message + Name + Default>(event: &feed::Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).ok()).flatten()
}
