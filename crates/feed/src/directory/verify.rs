//! Whom to believe: which key must have signed a batch, and whether that still counts.

use std::borrow::Cow;

use httt_wire::directory as pb;

use super::{Directory, KeyEntry, Member, MemberKind, decode};
use crate::{Audience, FeedId, Fingerprint, Lane, PublicKey, Refusal, UnverifiedBatch, VerifiedBatch};

impl Directory {
    /// Checks that a batch is its origin's: its key is one the directory gives that origin, not revoked before
    /// the batch was received unless this very batch was admitted, the signature holds, and the origin may originate such
    /// a feed.
    ///
    /// # Errors
    /// [`Refusal::NotAMember`], [`Refusal::UnknownKey`], [`Refusal::RevokedKey`], [`Refusal::BadSignature`],
    /// [`Refusal::NoRight`].
    pub fn verify(&self, batch: UnverifiedBatch) -> Result<VerifiedBatch, Refusal> {
        let (key, revoked) = self.signer(&batch)?;
        if revoked {
            return Err(revoked_key(&batch));
        }
        batch.verify_with(&key)
    }

    /// The revoked key that alone keeps a batch from being good: everything else that [`Directory::verify`] looks at is
    /// right. `None`: the batch is good.
    ///
    /// # Errors
    /// As [`Directory::verify`], but for [`Refusal::RevokedKey`].
    pub fn kept_out_by(&self, batch: &UnverifiedBatch) -> Result<Option<Fingerprint>, Refusal> {
        let (key, revoked) = self.signer(batch)?;
        if !batch.is_signed_by(&key) {
            return Err(Refusal::BadSignature { feed: batch.feed().clone(), sequence: batch.sequence() });
        }
        Ok(revoked.then(|| key.fingerprint()))
    }

    /// The key that must have signed a batch, and whether its revocation keeps the batch out.
    fn signer(&self, batch: &UnverifiedBatch) -> Result<(Cow<'_, PublicKey>, bool), Refusal> {
        let feed = batch.feed();
        let member = self.members.get(&feed.origin);
        let entry = member.and_then(|member| member.keys.get(&batch.key()));
        if let Some((origin, key)) = &self.own
            && *origin == feed.origin
            && key.id() == batch.key()
            && (feed.lane == Lane::Local || entry.is_none_or(|entry| entry.revoked.is_none()))
        {
            return Ok((Cow::Borrowed(key), false));
        }
        if self.gateway.is_none() && feed.lane == Lane::Directory {
            return Ok((Cow::Owned(self.founding_key(batch)?), false));
        }
        let member = member.ok_or_else(|| Refusal::NotAMember(feed.origin.to_string()))?;
        self.may_originate(member, feed)?;
        let unknown = || Refusal::UnknownKey { origin: feed.origin.clone(), key: batch.key() };
        let entry = entry.ok_or_else(unknown)?;
        Ok((Cow::Borrowed(&entry.key), self.keeps_out(member, entry, batch)))
    }

    /// The one place for what a revocation means: it keeps out what comes after what was received before it, but for
    /// batches that were admitted.
    fn keeps_out(&self, member: &Member, entry: &KeyEntry, batch: &UnverifiedBatch) -> bool {
        let (feed, sequence) = (batch.feed(), batch.sequence());
        // A node's own lane local never reaches the exchange, so neither does it come after a revocation.
        let at_home = feed.lane == Lane::Local && self.own.as_ref().is_some_and(|(own, _)| *own == feed.origin);
        let Some(received) = entry.revoked.as_ref().filter(|_| !at_home) else { return false };
        let place = (feed.audience.clone(), feed.lane);
        let admitted = || member.admitted.get(&place).is_some_and(|all| all.contains(&(sequence, batch.digest())));
        received.get(&place).is_none_or(|last| sequence > *last) && !admitted()
    }

    /// The first directory batch brings the gateway's key with it; it is believed because its fingerprint is
    /// the configured one.
    fn founding_key(&self, batch: &UnverifiedBatch) -> Result<PublicKey, Refusal> {
        let trusted = brought_key(batch)
            .filter(|key| Some(key.fingerprint()) == self.trusted && batch.feed().audience == Audience::All);
        trusted.ok_or_else(|| Refusal::UnknownKey { origin: batch.feed().origin.clone(), key: batch.key() })
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
}

fn revoked_key(batch: &UnverifiedBatch) -> Refusal {
    let feed = batch.feed().clone();
    Refusal::RevokedKey { origin: feed.origin.clone(), key: batch.key(), feed, sequence: batch.sequence() }
}

/// The key by which a first directory batch is signed, if it brings it.
pub(super) fn brought_key(batch: &UnverifiedBatch) -> Option<PublicKey> {
    let added = batch.batch().events.iter().filter_map(decode::<pb::KeyAdded>);
    added
        .filter(|added| added.member == batch.feed().origin.as_str())
        .filter_map(|added| PublicKey::from_wire(&added.key?).ok())
        .find(|key| key.id() == batch.key())
}
