//! Who takes part, with which keys, and who may say and read what: a fold of the gateway's directory feed.

mod fold;

use std::collections::{BTreeMap, BTreeSet};

use httt_wire::directory as pb;

use crate::{
    AgencyCode, Audience, Digest, FeedId, Fingerprint, KeyId, Lane, PublicKey, Refusal, UnverifiedBatch, VerifiedBatch,
    follow,
};

pub use pb::MemberKind;

use fold::decode;

/// The last good sequence of each feed.
type Accepted = BTreeMap<(Audience, Lane), u64>;

#[derive(Debug, Clone)]
struct KeyEntry {
    key: PublicKey,
    /// `None`: good. Otherwise the last sequence of each feed that was received before the revocation.
    revoked: Option<Accepted>,
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
    /// Why it is suspended, if it is.
    pub suspended: Option<String>,
    keys: BTreeMap<KeyId, KeyEntry>,
    carriers: BTreeSet<AgencyCode>,
    /// By SHA-256.
    certificates: BTreeMap<Digest, Certificate>,
}

/// A certificate a member shows when it calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its end, Unix milliseconds; for people, TLS itself checks it. `None`: it was revoked without being registered.
    pub not_after_ms: Option<i64>,
    /// Why it was revoked, if it was.
    pub revoked: Option<String>,
}

/// Feeds that a reader may read without being a party to them. `None` means any.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadGrant {
    /// Who may read.
    pub reader: AgencyCode,
    /// Feeds of this origin.
    pub origin: Option<AgencyCode>,
    /// Feeds to this audience.
    pub audience: Option<Audience>,
    /// Feeds on this lane.
    pub lane: Option<Lane>,
}

impl ReadGrant {
    /// From its parts as messages write them: an empty text and lane 0 mean any. `None`: they make no sense.
    pub fn from_wire(reader: &str, origin: &str, audience: &str, lane: i32) -> Option<Self> {
        let optional = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Some(Self {
            reader: AgencyCode::new(reader).ok()?,
            origin: optional(origin).map(|text| AgencyCode::new(&text)).transpose().ok()?,
            audience: optional(audience).map(|text| Audience::new(&text)).transpose().ok()?,
            lane: if lane == 0 { None } else { Some(Lane::from_wire(lane)?) },
        })
    }

    fn covers(&self, feed: &FeedId) -> bool {
        self.origin.as_ref().is_none_or(|origin| *origin == feed.origin)
            && self.audience.as_ref().is_none_or(|audience| *audience == feed.audience)
            && self.lane.is_none_or(|lane| lane == feed.lane)
    }
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

    /// Its keys, good and revoked.
    pub fn all_keys(&self) -> impl Iterator<Item = (&PublicKey, bool)> {
        self.keys.values().map(|entry| (&entry.key, entry.revoked.is_some()))
    }

    /// Whether revoking this key as of `received` would take back more than its revocation so far does.
    pub fn is_revoked_less(&self, key: Fingerprint, received: &[pb::LastAccepted]) -> bool {
        let received = fold::last_accepted(received);
        let entries = self.keys.values().filter(|entry| entry.key.fingerprint() == key);
        entries
            .filter_map(|entry| entry.revoked.as_ref())
            .any(|revoked| revoked.iter().any(|(feed, last)| received.get(feed).is_none_or(|received| last > received)))
    }

    /// Its certificates by SHA-256, good and revoked.
    pub fn certificates(&self) -> impl Iterator<Item = (&Digest, &Certificate)> {
        self.certificates.iter()
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
    grants: BTreeSet<ReadGrant>,
}

impl Directory {
    /// A directory that will take the first directory batch only from the key with this fingerprint.
    pub fn trusting(gateway_key: Fingerprint) -> Self {
        Self { trusted: Some(gateway_key), own: None, gateway: None, members: BTreeMap::new(), grants: BTreeSet::new() }
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

    /// Rights to read beyond those that parties have.
    pub fn grants(&self) -> impl Iterator<Item = &ReadGrant> {
        self.grants.iter()
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
        // Once the directory revoked it, it is the directory that says how far it was good.
        let revoked = self.members.get(&feed.origin).and_then(|own| own.keys.get(&batch.key())?.revoked.as_ref());
        if let Some((origin, key)) = &self.own
            && *origin == feed.origin
            && key.id() == batch.key()
            && (revoked.is_none() || feed.lane == Lane::Local)
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
        // A node's own lane local never reaches the exchange, so neither does it come after a revocation.
        let at_home = feed.lane == Lane::Local && self.own.as_ref().is_some_and(|(own, _)| *own == feed.origin);
        if let Some(last_accepted) = entry.revoked.as_ref().filter(|_| !at_home) {
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
        match brought_key(&batch) {
            Some(key) if Some(key.fingerprint()) == self.trusted && batch.feed().audience == Audience::All => {
                batch.verify_with(&key)
            }
            _ => Err(unknown),
        }
    }

    /// For a gateway that changed its key since its first batch: whom to believe so that `batches`, the beginning of the
    /// directory feed, can be verified. It is the key that the first batch brings, if these batches, each following
    /// the one before, lead to one that the configured key signed: by its `previous` that one vouches for all before it,
    /// so the older key, even a stolen one, cannot have made them up.
    ///
    /// `None`: they do not lead there, or nothing needs to be vouched for.
    pub fn founded_by(&self, batches: &[UnverifiedBatch]) -> Option<Self> {
        let first = batches.first()?;
        let key = brought_key(first).filter(|_| self.gateway.is_none() && first.sequence() == 1)?;
        let founded = Self { trusted: Some(key.fingerprint()), ..self.clone() };
        let mut directory = founded.clone();
        let mut head = None;
        for batch in batches {
            let verified = directory.verify(batch.clone()).ok()?;
            follow(head.as_ref(), &verified).ok()?;
            head = Some(verified.head());
            directory.apply(verified.feed(), &verified.batch().events);
            let member = directory.member(&verified.feed().origin)?;
            let signer = member.all_keys().map(|(key, _)| key).find(|key| key.id() == verified.key());
            if signer.map(PublicKey::fingerprint) == self.trusted {
                return Some(founded);
            }
        }
        None
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

    /// Whether `caller` takes part at this time.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::Suspended`].
    pub fn admits(&self, caller: &AgencyCode) -> Result<(), Refusal> {
        let member = self.members.get(caller).ok_or_else(|| Refusal::NotAMember(caller.to_string()))?;
        match &member.suspended {
            Some(reason) => Err(Refusal::Suspended { member: caller.clone(), reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Whether `caller` may call with the certificate of this SHA-256: once certificates are registered for a member,
    /// it is known by them alone. That it comes from the authority and names the caller is TLS's to check.
    ///
    /// # Errors
    /// [`Refusal::Certificate`], and as [`Directory::admits`].
    pub fn admits_certificate(&self, caller: &AgencyCode, sha256: Digest) -> Result<(), Refusal> {
        self.admits(caller)?;
        let refused = |why: String| Err(Refusal::Certificate { member: caller.clone(), sha256, why });
        let registered = self.members.get(caller).map(|member| &member.certificates);
        match registered.and_then(|certificates| certificates.get(&sha256)) {
            Some(Certificate { revoked: Some(reason), .. }) => refused(format!("revoked: {reason}")),
            Some(_) => Ok(()),
            None if registered.is_some_and(|all| all.values().any(|one| one.not_after_ms.is_some())) => {
                refused("others are registered for it".into())
            }
            None => Ok(()),
        }
    }

    /// Whether `caller` may push `feed`: it is the origin or carries for it.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::Suspended`], [`Refusal::WrongMember`], [`Refusal::NoRight`] for a lane that
    /// never travels.
    pub fn may_push(&self, caller: &AgencyCode, feed: &FeedId) -> Result<(), Refusal> {
        self.admits(caller)?;
        if self.members.contains_key(&feed.origin) {
            self.admits(&feed.origin)?;
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

    /// Whether `caller` may read `feed`: it is for all, or the caller (or somebody it carries for, who is not suspended)
    /// is its origin or its audience, or was granted it.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::Suspended`], [`Refusal::NoRight`].
    pub fn may_read(&self, caller: &AgencyCode, feed: &FeedId) -> Result<(), Refusal> {
        self.admits(caller)?;
        let party =
            |member: &AgencyCode| member == caller || (self.is_carrier(caller, member) && self.admits(member).is_ok());
        let granted = || self.grants.iter().any(|grant| party(&grant.reader) && grant.covers(feed));
        let allowed = feed.lane != Lane::Local
            && match &feed.audience {
                Audience::All => true,
                Audience::One(audience) => party(audience) || party(&feed.origin) || granted(),
            };
        if allowed { Ok(()) } else { Err(Refusal::NoRight { member: caller.clone(), feed: feed.clone() }) }
    }

    /// Who may read `feed`, suspended or not; `None`: every member. The same rule as [`Directory::may_read`], asked the
    /// other way round.
    pub fn readers<'a>(&'a self, feed: &'a FeedId) -> Option<BTreeSet<&'a AgencyCode>> {
        let Audience::One(audience) = &feed.audience else {
            return if feed.lane == Lane::Local { Some(BTreeSet::new()) } else { None };
        };
        let mut readers = BTreeSet::new();
        if feed.lane != Lane::Local {
            let granted = self.grants.iter().filter(|grant| grant.covers(feed)).map(|grant| &grant.reader);
            for party in granted.chain([audience, &feed.origin]) {
                readers.insert(party);
                readers.extend(self.members.get(party).into_iter().flat_map(Member::carriers));
            }
        }
        Some(readers)
    }
}

/// The key by which a first directory batch is signed, if it brings it.
fn brought_key(batch: &UnverifiedBatch) -> Option<PublicKey> {
    let added = batch.batch().events.iter().filter_map(decode::<pb::KeyAdded>);
    added
        .filter(|added| added.member == batch.feed().origin.as_str())
        .filter_map(|added| PublicKey::from_wire(&added.key?).ok())
        .find(|key| key.id() == batch.key())
}
