//! Who takes part, with which keys, and who may say and read what: a fold of the gateway's directory feed.

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::{Message, Name, directory as pb, feed};

use crate::{
    AgencyCode, Audience, Digest, FeedId, Fingerprint, KeyId, Lane, PublicKey, Refusal, UnverifiedBatch, VerifiedBatch,
};

pub use pb::MemberKind;

#[derive(Debug, Clone)]
struct KeyEntry {
    key: PublicKey,
    /// `None`: good. Otherwise the last sequence of each feed that was received before the revocation.
    revoked: Option<BTreeMap<(Audience, Lane), u64>>,
}

/// One member as the directory knows it.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its agency code.
    pub code: AgencyCode,
    /// Its name, for people.
    pub name: String,
    /// What it is.
    pub kind: MemberKind,
    /// Code of the area it answers for; empty for the nation.
    pub area: String,
    keys: BTreeMap<KeyId, KeyEntry>,
    carriers: BTreeSet<AgencyCode>,
}

impl Member {
    /// Its keys that may sign today.
    pub fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.keys.values().filter(|entry| entry.revoked.is_none()).map(|entry| &entry.key)
    }

    /// Whether this key was ever added, revoked or not.
    pub fn knows_key(&self, key: &PublicKey) -> bool {
        self.keys.contains_key(&key.id())
    }

    /// Who may carry for it.
    pub fn carriers(&self) -> impl Iterator<Item = &AgencyCode> {
        self.carriers.iter()
    }
}

/// The directory. Starts from one fingerprint, and believes nothing but what the key of that fingerprint signed.
#[derive(Debug, Clone)]
pub struct Directory {
    trusted: Option<Fingerprint>,
    own: Option<(AgencyCode, PublicKey)>,
    gateway: Option<AgencyCode>,
    members: BTreeMap<AgencyCode, Member>,
}

impl Directory {
    /// A directory that will take the first directory batch only from the key with this fingerprint.
    pub fn trusting(gateway_key: Fingerprint) -> Self {
        Self { trusted: Some(gateway_key), own: None, gateway: None, members: BTreeMap::new() }
    }

    /// Believes also batches that this node itself sealed, before any gateway enrolled it.
    #[must_use]
    pub fn knowing_own(mut self, origin: AgencyCode, key: PublicKey) -> Self {
        self.own = Some((origin, key));
        self
    }

    /// The gateway's code, once its first directory batch is in.
    pub fn gateway(&self) -> Option<&AgencyCode> {
        self.gateway.as_ref()
    }

    /// One member.
    pub fn member(&self, code: &AgencyCode) -> Option<&Member> {
        self.members.get(code)
    }

    /// All members, by code.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Checks that a batch is its origin's: its key is one the directory gives that origin, not revoked before
    /// the batch was received, the signature holds, and the origin may originate such a feed.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::UnknownKey`], [`Refusal::RevokedKey`], [`Refusal::BadSignature`],
    /// [`Refusal::NoRight`].
    pub fn verify(&self, batch: UnverifiedBatch) -> Result<VerifiedBatch, Refusal> {
        let feed = batch.feed().clone();
        if let Some((origin, key)) = &self.own
            && *origin == feed.origin
            && key.id() == batch.key()
        {
            return batch.verify_with(&key.clone());
        }
        if self.gateway.is_none() && feed.lane == Lane::Directory {
            return self.verify_first(batch);
        }
        let member = self.members.get(&feed.origin).ok_or_else(|| Refusal::NotAMember(feed.origin.to_string()))?;
        self.may_originate(member, &feed)?;
        let unknown = || Refusal::UnknownKey { origin: feed.origin.clone(), key: batch.key() };
        let entry = member.keys.get(&batch.key()).ok_or_else(unknown)?;
        if let Some(last_accepted) = &entry.revoked {
            let last = last_accepted.get(&(feed.audience.clone(), feed.lane)).copied().unwrap_or(0);
            if batch.sequence() > last {
                let (key, sequence) = (batch.key(), batch.sequence());
                return Err(Refusal::RevokedKey { origin: feed.origin.clone(), key, feed, sequence });
            }
        }
        batch.verify_with(&entry.key)
    }

    /// The first directory batch brings the gateway's key with it; it is believed because its fingerprint is
    /// the configured one.
    fn verify_first(&self, batch: UnverifiedBatch) -> Result<VerifiedBatch, Refusal> {
        let unknown = Refusal::UnknownKey { origin: batch.feed().origin.clone(), key: batch.key() };
        let key = batch
            .batch()
            .events
            .iter()
            .filter_map(decode::<pb::KeyAdded>)
            .filter(|added| added.member == batch.feed().origin.as_str())
            .filter_map(|added| PublicKey::from_wire(&added.key?).ok())
            .find(|key| Some(key.fingerprint()) == self.trusted);
        match key {
            Some(key) if batch.feed().audience == Audience::All => batch.verify_with(&key),
            _ => Err(unknown),
        }
    }

    /// The directory is the gateway's; only central source and gateway speak to everybody; others speak to members.
    fn may_originate(&self, member: &Member, feed: &FeedId) -> Result<(), Refusal> {
        let allowed = match (feed.lane, &feed.audience) {
            (Lane::Directory, _) => member.kind == MemberKind::Gateway,
            (_, Audience::All) => matches!(member.kind, MemberKind::Gateway | MemberKind::Central),
            // Else a member could open feeds without end, to audiences that are nobody.
            (_, Audience::One(audience)) => member.kind != MemberKind::Carrier && self.members.contains_key(audience),
        };
        if allowed { Ok(()) } else { Err(Refusal::NoRight { member: member.code.clone(), feed: feed.clone() }) }
    }

    fn is_carrier(&self, caller: &AgencyCode, member: &AgencyCode) -> bool {
        self.members.get(member).is_some_and(|member| member.carriers.contains(caller))
    }

    /// The members `caller` speaks for: itself and those it carries for.
    pub fn speaks_for<'a>(&'a self, caller: &'a AgencyCode) -> impl Iterator<Item = &'a AgencyCode> {
        self.members
            .values()
            .filter(move |member| member.code == *caller || member.carriers.contains(caller))
            .map(|member| &member.code)
    }

    /// Whether `caller` may push `feed`: it is the origin or carries for it.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::WrongMember`], [`Refusal::NoRight`] for a lane that never travels.
    pub fn may_push(&self, caller: &AgencyCode, feed: &FeedId) -> Result<(), Refusal> {
        if !self.members.contains_key(caller) {
            return Err(Refusal::NotAMember(caller.to_string()));
        }
        if feed.lane == Lane::Local {
            return Err(Refusal::NoRight { member: caller.clone(), feed: feed.clone() });
        }
        if *caller == feed.origin || self.is_carrier(caller, &feed.origin) {
            Ok(())
        } else {
            Err(Refusal::WrongMember { caller: caller.clone(), feed: feed.clone() })
        }
    }

    /// Whether `caller` may read `feed`: it is for all, or the caller (or somebody it carries for) is its origin or
    /// its audience.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::NoRight`].
    pub fn may_read(&self, caller: &AgencyCode, feed: &FeedId) -> Result<(), Refusal> {
        if !self.members.contains_key(caller) {
            return Err(Refusal::NotAMember(caller.to_string()));
        }
        let party = |member: &AgencyCode| member == caller || self.is_carrier(caller, member);
        let allowed = feed.lane != Lane::Local
            && match &feed.audience {
                Audience::All => true,
                Audience::One(audience) => party(audience) || party(&feed.origin),
            };
        if allowed { Ok(()) } else { Err(Refusal::NoRight { member: caller.clone(), feed: feed.clone() }) }
    }

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
                keys: BTreeMap::new(),
                carriers: BTreeSet::new(),
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
                    entry.revoked.get_or_insert_with(|| last_accepted(&revoked.last_accepted));
                }
            }
        } else if let Some(granted) = decode::<pb::CarrierGranted>(event) {
            if let (Some(member), Ok(carrier)) = (self.member_mut(&granted.member), AgencyCode::new(&granted.carrier)) {
                member.carriers.insert(carrier);
            }
        } else if let Some(withdrawn) = decode::<pb::CarrierWithdrawn>(event)
            && let (Some(member), Ok(carrier)) =
                (self.member_mut(&withdrawn.member), AgencyCode::new(&withdrawn.carrier))
        {
            member.carriers.remove(&carrier);
        }
    }

    fn member_mut(&mut self, code: &str) -> Option<&mut Member> {
        AgencyCode::new(code).ok().and_then(|code| self.members.get_mut(&code))
    }
}

fn last_accepted(list: &[pb::LastAccepted]) -> BTreeMap<(Audience, Lane), u64> {
    list.iter()
        .filter_map(|last| Some(((Audience::new(&last.audience).ok()?, Lane::from_wire(last.lane)?), last.sequence)))
        .collect()
}

fn decode<M: Message + Name + Default>(event: &feed::Event) -> Option<M> {
    (event.r#type == M::full_name()).then(|| M::decode(event.data.clone()).ok()).flatten()
}
