//! A node changes the key it seals with, while it runs. Where it stands is in its key files and in the log, so a crash
//! at any step goes on from there.
//!
//! ```text
//! httt key rotate ─► signing.key.next          made beside the key in use, readable by the node alone
//!   KeyOffered     sealed with the old key     own→gateway, lane report; the gateway answers KeyAdded
//!   the switch     signing.key.next becomes signing.key, that becomes signing.key.old; the log seals with the new key
//!   KeyRetired     sealed with the new key     how far each feed is sealed with the old one; the gateway answers KeyRevoked
//!   signing.key.old is deleted
//! ```
//! A gateway does not answer an offer that it cannot take, such as one of a member with too many keys. So the key is offered
//! again after a while ([`KeyOffer`]), and the node's status shows that it waits.
//!
//! From the switch until the revocation both keys are good: what was sealed with the old one and is still on its way is
//! taken. A carrier originates nothing that the gateway would hear, so its operator adds the new key at the gateway. So
//! does that of a node whose key was stolen and revoked: nobody hears what it seals any more. A gateway of several
//! processes adds its key itself, and each begins to seal with it; its operator revokes the old one.

mod files;
mod offers;
mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use httt_exchange::{BoxFuture, derived_id};
use httt_feed::{AgencyCode, Audience, Fingerprint, Lane, Member, MemberKind, PublicKey, SigningKey};
use httt_log::{CommitError, NewEvent, ReadError, Transaction};
use httt_wire::directory as pb;
use tokio::sync::watch;
use uuid::Uuid;

use crate::assembly::Node;
use crate::clock;

pub use files::{KeyFiles, KeyFilesError, KeyState};
pub use offers::KeyOffer;
pub use plan::{Seen, Step, next_step};

/// How often the key files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Who says these events.
const ACTOR: &str = "key rotation";

/// Why a step was not done; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The key files.
    #[error(transparent)]
    Files(#[from] KeyFilesError),
    /// The log, writing.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The log, reading.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The directory, at the gateway.
    #[error("{0}")]
    Directory(String),
}

/// Says in the directory what the gateway says of its own keys: `KeyAdded` or `KeyRevoked`.
type Say = Arc<dyn Fn(NewEvent) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// How a gateway, which answers itself, changes its key.
#[derive(Clone)]
pub struct Announce {
    /// Says it in the directory.
    pub say: Say,
    /// Other processes seal with the same key. None of them knows whether all have the next one, so it is their operator
    /// who revokes the old one.
    pub shared: bool,
}

/// What `key` signs when it is offered, so that nobody offers a key that is not theirs.
pub fn offer_proof(member: &str, log_id: &[u8]) -> Vec<u8> {
    [b"httt key offered\0", member.as_bytes(), b"\0", log_id].concat()
}

/// Whether an offer was signed with the key that it offers; gives that key.
pub fn offered_key(offered: &pb::KeyOffered) -> Option<PublicKey> {
    let key = PublicKey::from_wire(offered.key.as_ref()?).ok()?;
    key.verifies(&offer_proof(&offered.member, &offered.log_id), &offered.proof).then_some(key)
}

/// Changes this node's key whenever its files ask for it, until `stop` turns true. `announce`: this node is the gateway,
/// which answers itself.
pub(crate) async fn run(node: Node, announce: Option<Announce>, mut stop: watch::Receiver<bool>) {
    let files = node.keys.clone();
    let mut rotation = Rotation { node, files, announce, retired: None, warned: None };
    let mut last_error = String::new();
    loop {
        match rotation.step(clock::system()()).await {
            Ok(()) => last_error.clear(),
            // Once, however often it is tried.
            Err(error) if error.to_string() != last_error => {
                last_error = error.to_string();
                tracing::error!(%error, "the key cannot be changed; it is tried again");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

struct Rotation {
    node: Node,
    files: KeyFiles,
    announce: Option<Announce>,
    /// The key whose end was told; telling it again would only be found in the log again.
    retired: Option<Fingerprint>,
    /// The revoked key that the log was told of.
    warned: Option<Fingerprint>,
}

impl Rotation {
    async fn step(&mut self, now_ms: i64) -> Result<(), RotationError> {
        let state = self.files.state()?;
        let directory = self.node.directory.get();
        let member = directory.member(&self.node.code);
        let in_use = self.node.log.public_key();
        self.warn_if_revoked(&in_use, member);
        if state.next.is_none() && state.old.is_none() {
            self.node.key_offer.send_if_modified(|offer| offer.take().is_some());
            return Ok(());
        }
        let keys = member.map(|member| member.all_keys().map(|(key, revoked)| (key.fingerprint(), revoked)).collect());
        let seen = Seen {
            in_use: in_use.fingerprint(),
            next: state.next.as_ref().map(|key| key.public().fingerprint()),
            old: state.old.as_ref().map(PublicKey::fingerprint),
            carrier: member.is_some_and(|member| member.kind == MemberKind::Carrier),
            shared: self.announce.as_ref().is_some_and(|announce| announce.shared),
            keys: keys.unwrap_or_default(),
        };
        let step = next_step(&seen);
        if step != Step::Offer {
            self.node.key_offer.send_if_modified(|offer| offer.take().is_some());
        }
        match (step, state.next, state.old) {
            (Step::Offer, Some(next), _) => self.offer(directory.gateway(), &next, now_ms).await?,
            (Step::Switch, Some(next), _) => {
                let fingerprint = next.public().fingerprint();
                self.files.switch(next.public())?;
                self.node.log.change_key(next);
                self.node.log.write_checkpoint().await?;
                tracing::info!(key = %fingerprint, "sealing with the new key from now on");
            }
            (Step::Discard, ..) => {
                tracing::error!("the new key was revoked before it was used; begin anew with `httt key rotate`");
                self.files.discard()?;
            }
            (Step::Retire, _, Some(old)) => self.retire(directory.gateway(), &old).await?,
            (Step::Forget, ..) => {
                self.files.forget()?;
                tracing::info!("the old key is revoked and deleted: the change of keys is complete");
            }
            _ => {}
        }
        Ok(())
    }

    /// The node goes on, since its own people need it; but nobody else takes what it says.
    fn warn_if_revoked(&mut self, in_use: &PublicKey, member: Option<&Member>) {
        let mut keys = member.into_iter().flat_map(Member::all_keys);
        if self.warned.is_none_or(|warned| warned != in_use.fingerprint())
            && keys.any(|(key, revoked)| revoked && key == in_use)
        {
            self.warned = Some(in_use.fingerprint());
            tracing::error!(
                key = %in_use.fingerprint(),
                "the exchange revoked the key that this node seals with, and takes nothing more by it: run `httt key \
                 rotate`, have the exchange's operator add the key that it prints, and see docs/members.md"
            );
        }
    }

    async fn offer(
        &mut self,
        gateway: Option<&AgencyCode>,
        next: &SigningKey,
        now_ms: i64,
    ) -> Result<(), RotationError> {
        let key = next.public();
        let fingerprint = key.fingerprint();
        let before = self.node.key_offer.borrow().filter(|offer| offer.key == fingerprint);
        if before.is_some_and(|offer| now_ms < offer.again_at_ms) {
            return Ok(());
        }
        let stream = format!("key/{fingerprint}");
        let told = self.node.log.stream_version(&self.node.code, &stream)?.unwrap_or(0);
        // After a start the last one is told again, which the log finds to be told already.
        let number = if before.is_some() { told } else { told.saturating_sub(1) };
        let member = self.node.code.to_string();
        let event = if self.announce.is_some() {
            said(
                Audience::All,
                Lane::Directory,
                format!("member/{member}"),
                &pb::KeyAdded { member, key: Some(key.to_wire()) },
            )
        } else {
            // Nobody is there to offer it to yet.
            let Some(gateway) = gateway else { return Ok(()) };
            let log_id = self.node.log.log_id().to_vec();
            let proof = next.sign(&offer_proof(&member, &log_id));
            let offered = pb::KeyOffered { member, key: Some(key.to_wire()), proof, log_id };
            said(Audience::One(gateway.clone()), Lane::Report, stream, &offered)
        };
        self.tell(event.with_id(offer_id(fingerprint, number))).await?;
        let times = number + 1;
        let again_at_ms = now_ms.saturating_add(offers::pause_ms(fingerprint, times));
        self.node.key_offer.send_replace(Some(KeyOffer { key: fingerprint, times, again_at_ms }));
        if times == 1 {
            tracing::info!(key = %fingerprint, "a new key is offered");
        } else {
            tracing::warn!(
                key = %fingerprint,
                times,
                "the gateway has not added the key that was offered; it is offered again. If this node has too many keys, \
                 the gateway's operator must revoke those that are not used (`httt member revoke-key`)"
            );
        }
        Ok(())
    }

    async fn retire(&mut self, gateway: Option<&AgencyCode>, old: &PublicKey) -> Result<(), RotationError> {
        let fingerprint = old.fingerprint();
        if self.retired == Some(fingerprint) {
            return Ok(());
        }
        let reason = "thay khoá định kỳ (key rotation)".to_owned();
        let member = self.node.code.to_string();
        let last_sealed = self.last_sealed(old)?;
        let event = if self.announce.is_some() {
            said(
                Audience::All,
                Lane::Directory,
                format!("member/{member}"),
                &pb::KeyRevoked { member, fingerprint: fingerprint.0.to_vec(), reason, last_accepted: last_sealed },
            )
        } else {
            let Some(gateway) = gateway else { return Ok(()) };
            let retired = pb::KeyRetired { member, fingerprint: fingerprint.0.to_vec(), reason, last_sealed };
            said(Audience::One(gateway.clone()), Lane::Report, format!("key/{fingerprint}"), &retired)
        };
        self.tell(event.with_id(derived_id(&[b"key retired\0", &fingerprint.0]))).await?;
        self.retired = Some(fingerprint);
        tracing::info!(key = %fingerprint, "the old key is retired");
        Ok(())
    }

    /// The last sequence of each own feed that the old key sealed. The log seals with the new key, so it never changes.
    fn last_sealed(&self, old: &PublicKey) -> Result<Vec<pb::LastAccepted>, RotationError> {
        let log = &self.node.log;
        let own = log.heads().into_iter().map(|head| head.feed);
        let mut last = Vec::new();
        for feed in own.filter(|feed| feed.origin == self.node.code && feed.lane != Lane::Local) {
            if let Some(sequence) = log.last_sealed_before(&feed, old.id())? {
                last.push(pb::LastAccepted {
                    audience: feed.audience.to_string(),
                    lane: feed.lane.to_wire(),
                    sequence,
                });
            }
        }
        Ok(last)
    }

    async fn tell(&self, event: NewEvent) -> Result<(), RotationError> {
        match &self.announce {
            Some(announce) => (announce.say)(event).await.map_err(RotationError::Directory),
            None => Ok(self.node.log.commit(Transaction::append([event])).await.map(drop)?),
        }
    }
}

/// The id of an offer: the same one for each time that it is made, whatever happened in between.
fn offer_id(key: Fingerprint, number: u64) -> Uuid {
    match number {
        0 => derived_id(&[b"key offered\0", &key.0]),
        _ => derived_id(&[b"key offered again\0", &key.0, &number.to_be_bytes()]),
    }
}

fn said<M: httt_wire::Message + httt_wire::Name>(
    audience: Audience,
    lane: Lane,
    stream: String,
    message: &M,
) -> NewEvent {
    NewEvent::of(audience, lane, stream, message).with_actor(ACTOR)
}
