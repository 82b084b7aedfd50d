//! Sealing and parsing batches.

use std::sync::Arc;

use bytes::Bytes;
use httt_wire::{Message as _, feed as pb};

use crate::{AgencyCode, Digest, FeedId, Head, KeyId, Lane, PublicKey, Refusal, SigningKey};

/// DSSE payload type of a batch.
pub const PAYLOAD_TYPE: &str = "application/vnd.httt.batch.v1+protobuf";
/// Largest body of a batch.
pub const MAX_BATCH_BYTES: usize = 60 * 1024;
/// Largest sealed batch: body, signature (RSA 8192 has 1,024 bytes) and framing. One tlog-tiles entry holds it.
pub const MAX_SEALED_BYTES: usize = MAX_BATCH_BYTES + 1_200;
/// Largest `data` of one event. Media are referred to by digest, so events are small.
pub const MAX_EVENT_BYTES: usize = 48 * 1024;
/// Most events in one batch.
pub const MAX_EVENTS_PER_BATCH: usize = 4_096;
/// Longest stream name, event type, actor or trace context.
pub const MAX_NAME_BYTES: usize = 200;

/// Largest stream version: far beyond any real one, and safe to count on from.
const MAX_VERSION: u64 = i64::MAX as u64;

const _: () = assert!(MAX_SEALED_BYTES <= u16::MAX as usize, "tlog-tiles gives an entry's length 16 bits");

/// Pre-authentication encoding of DSSE v1.
fn pre_authentication_encoding(body: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}

/// Digest of the body of an encoded `SealedBatch`, as `previous` of the next batch names it; `None`: it is none.
pub fn body_digest(bytes: &Bytes) -> Option<Digest> {
    pb::SealedBatch::decode(bytes.clone()).ok().map(|sealed| Digest::of(&sealed.body))
}

/// A batch whose bytes make sense but whose signature nobody has checked.
#[derive(Debug, Clone)]
pub struct UnverifiedBatch {
    feed: FeedId,
    previous: Option<Digest>,
    key: KeyId,
    signature: Vec<u8>,
    body: Bytes,
    batch: pb::Batch,
    bytes: Bytes,
}

/// Reads a sealed batch: shape, sizes, and that its bytes are the canonical ones.
///
/// # Errors
/// [`Refusal::TooLarge`], [`Refusal::Malformed`].
pub fn parse(bytes: Bytes) -> Result<UnverifiedBatch, Refusal> {
    let malformed = |what: &str| Refusal::Malformed(what.to_owned());
    if bytes.len() > MAX_SEALED_BYTES {
        return Err(Refusal::batch_too_large(bytes.len()));
    }
    let sealed = pb::SealedBatch::decode(bytes.clone()).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let signature = sealed.signature.clone().ok_or_else(|| malformed("it has no signature"))?;
    let body = sealed.body.clone();
    // Else a carrier could give one batch many faces, each with a leaf of its own.
    if sealed.encode_to_vec() != bytes {
        return Err(malformed("its envelope is not in canonical form"));
    }
    if body.len() > MAX_BATCH_BYTES {
        return Err(Refusal::TooLarge { what: "a batch", size: body.len(), limit: MAX_BATCH_BYTES });
    }
    let batch = pb::Batch::decode(body.clone()).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let feed = FeedId::from_parts(&batch.origin, &batch.audience, batch.lane)
        .map_err(|error| Refusal::Malformed(error.to_string()))?;
    let previous = match (batch.sequence, batch.previous.len()) {
        (0, _) => return Err(malformed("sequences start at 1")),
        (MAX_VERSION.., _) => return Err(malformed("no feed has such a sequence")),
        (1, 0) => None,
        (1, _) => return Err(malformed("the first batch of a feed has no `previous`")),
        _ => Some(Digest::from_slice(&batch.previous).ok_or_else(|| malformed("`previous` is not 32 bytes"))?),
    };
    check_restates(feed.lane, batch.restates)?;
    if batch.events.is_empty() || batch.events.len() > MAX_EVENTS_PER_BATCH {
        return Err(malformed("it has no events or too many"));
    }
    batch.events.iter().try_for_each(check_event)?;
    let key = KeyId(signature.key_id.as_slice().try_into().map_err(|_| malformed("the key id is not 8 bytes"))?);
    Ok(UnverifiedBatch { feed, previous, key, signature: signature.value, body, batch, bytes })
}

/// Whether an event may stand in a batch: sizes, and the parts every event must have.
///
/// # Errors
/// [`Refusal::TooLarge`], [`Refusal::Malformed`].
pub fn check_event(event: &pb::Event) -> Result<(), Refusal> {
    if event.data.len() > MAX_EVENT_BYTES {
        return Err(Refusal::TooLarge { what: "an event", size: event.data.len(), limit: MAX_EVENT_BYTES });
    }
    for (what, text) in [
        ("a stream name", &event.stream),
        ("an event type", &event.r#type),
        ("an actor", &event.actor),
        ("a trace context", &event.traceparent),
    ] {
        if text.len() > MAX_NAME_BYTES {
            return Err(Refusal::TooLarge { what, size: text.len(), limit: MAX_NAME_BYTES });
        }
    }
    if event.id.len() != 16 {
        return Err(Refusal::Malformed("an event id is not 16 bytes".into()));
    }
    if event.stream.is_empty() || event.r#type.is_empty() || event.version == 0 {
        return Err(Refusal::Malformed("an event lacks its stream, type or version".into()));
    }
    if event.version > MAX_VERSION {
        return Err(Refusal::Malformed(format!("no stream has a version {}", event.version)));
    }
    Ok(())
}

/// What happened cannot be said again: only what stands can, and only the lane `status` is about that.
fn check_restates(lane: Lane, restates: bool) -> Result<(), Refusal> {
    match lane {
        _ if !restates => Ok(()),
        Lane::Status => Ok(()),
        lane => Err(Refusal::Malformed(format!("a batch of the lane {lane} restates; only the lane status may"))),
    }
}

impl UnverifiedBatch {
    /// The feed it says it belongs to.
    pub fn feed(&self) -> &FeedId {
        &self.feed
    }

    /// The sequence it says it has.
    pub fn sequence(&self) -> u64 {
        self.batch.sequence
    }

    /// Digest of the batch before, as it says; `None` for the first.
    pub fn previous(&self) -> Option<Digest> {
        self.previous
    }

    /// SHA-256 of its body.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }

    /// The key its signature says it is by.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// What it says; not to be believed yet.
    pub fn batch(&self) -> &pb::Batch {
        &self.batch
    }

    /// Whether `key` signed it. Whether that key may speak for the origin is the directory's to say.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        key.verifies(&pre_authentication_encoding(&self.body), &self.signature)
    }

    /// Checks the signature against one key. Whether that key may speak for the origin is the directory's to say.
    pub(crate) fn verify_with(self, key: &PublicKey) -> Result<VerifiedBatch, Refusal> {
        if !self.is_signed_by(key) {
            return Err(Refusal::BadSignature { feed: self.feed, sequence: self.batch.sequence });
        }
        Ok(VerifiedBatch {
            digest: Digest::of(&self.body),
            feed: self.feed,
            previous: self.previous,
            key: self.key,
            batch: Arc::new(self.batch),
            bytes: self.bytes,
        })
    }
}

/// A batch that is provably its origin's. Only sealing and [`crate::Directory::verify`] make one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct VerifiedBatch {
    feed: FeedId,
    previous: Option<Digest>,
    digest: Digest,
    key: KeyId,
    batch: Arc<pb::Batch>,
    bytes: Bytes,
}

impl VerifiedBatch {
    /// Its feed.
    pub fn feed(&self) -> &FeedId {
        &self.feed
    }

    /// Its place in the feed, from 1.
    pub fn sequence(&self) -> u64 {
        self.batch.sequence
    }

    /// Digest of the batch before; `None` for the first.
    pub fn previous(&self) -> Option<Digest> {
        self.previous
    }

    /// SHA-256 of its body.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The feed's head once this batch is in.
    pub fn head(&self) -> Head {
        Head { sequence: self.sequence(), digest: self.digest }
    }

    /// Whether it begins to say again all that its feed stands for, so that who holds nothing may begin here.
    pub fn restates(&self) -> bool {
        self.batch.restates
    }

    /// The key that signed it.
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// What it says.
    pub fn batch(&self) -> &Arc<pb::Batch> {
        &self.batch
    }

    /// The encoded `SealedBatch`: what is stored, hashed as a leaf, and carried untouched.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

/// Seals what one origin says. One per node.
#[derive(Debug)]
pub struct Sealer {
    origin: AgencyCode,
    key: SigningKey,
}

impl Sealer {
    /// Seals for `origin` with `key`.
    pub fn new(origin: AgencyCode, key: SigningKey) -> Self {
        Self { origin, key }
    }

    /// Whose batches these are.
    pub fn origin(&self) -> &AgencyCode {
        &self.origin
    }

    /// The key it signs with.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Seals `events` as the batch after `head` of `feed`. Events keep the order given; stream versions are the
    /// caller's duty.
    ///
    /// # Errors
    /// [`Refusal::WrongMember`] for another origin's feed, [`Refusal::TooLarge`], [`Refusal::Malformed`].
    pub fn seal(
        &self,
        feed: &FeedId,
        head: Option<&Head>,
        sealed_at_ms: i64,
        events: Vec<pb::Event>,
    ) -> Result<VerifiedBatch, Refusal> {
        events.iter().try_for_each(check_event)?;
        Ok(self.sign(self.prepare(feed, head, sealed_at_ms, events, false)?))
    }

    /// The same for a batch with which a feed of the lane `status` begins to say again all that it stands for.
    ///
    /// # Errors
    /// See [`Sealer::seal`]; [`Refusal::Malformed`] for another lane.
    pub fn seal_restating(
        &self,
        feed: &FeedId,
        head: Option<&Head>,
        sealed_at_ms: i64,
        events: Vec<pb::Event>,
    ) -> Result<VerifiedBatch, Refusal> {
        events.iter().try_for_each(check_event)?;
        Ok(self.sign(self.prepare(feed, head, sealed_at_ms, events, true)?))
    }

    /// The same but for the signature, which is most of the work and may be made elsewhere: the next batch's `previous`
    /// does not need it. Events were checked with [`check_event`].
    ///
    /// # Errors
    /// See [`Sealer::seal`].
    pub fn prepare(
        &self,
        feed: &FeedId,
        head: Option<&Head>,
        sealed_at_ms: i64,
        events: Vec<pb::Event>,
        restates: bool,
    ) -> Result<UnsignedBatch, Refusal> {
        check_restates(feed.lane, restates)?;
        if feed.origin != self.origin {
            return Err(Refusal::WrongMember { caller: self.origin.clone(), feed: feed.clone() });
        }
        if events.is_empty() || events.len() > MAX_EVENTS_PER_BATCH {
            return Err(Refusal::Malformed("a batch has no events or too many".into()));
        }
        let previous = head.map(|head| head.digest);
        let batch = pb::Batch {
            origin: feed.origin.to_string(),
            audience: feed.audience.to_string(),
            lane: feed.lane.to_wire(),
            sequence: head.map_or(1, |head| head.sequence + 1),
            previous: previous.map(|digest| digest.0.to_vec()).unwrap_or_default(),
            sealed_at_ms,
            events,
            restates,
        };
        let body = Bytes::from(batch.encode_to_vec());
        if body.len() > MAX_BATCH_BYTES {
            return Err(Refusal::TooLarge { what: "a batch", size: body.len(), limit: MAX_BATCH_BYTES });
        }
        Ok(UnsignedBatch { feed: feed.clone(), previous, digest: Digest::of(&body), batch, body })
    }

    /// Signs what this sealer prepared.
    pub fn sign(&self, unsigned: UnsignedBatch) -> VerifiedBatch {
        let UnsignedBatch { feed, previous, digest, batch, body } = unsigned;
        let key = self.key.public().id();
        let value = self.key.sign(&pre_authentication_encoding(&body));
        let signature = pb::Signature { key_id: key.0.to_vec(), value };
        let bytes = Bytes::from(pb::SealedBatch { body, signature: Some(signature) }.encode_to_vec());
        VerifiedBatch { feed, previous, digest, key, batch: Arc::new(batch), bytes }
    }
}

/// A batch that only lacks its signature; made by [`Sealer::prepare`].
#[derive(Debug)]
pub struct UnsignedBatch {
    feed: FeedId,
    previous: Option<Digest>,
    digest: Digest,
    batch: pb::Batch,
    body: Bytes,
}

impl UnsignedBatch {
    /// The feed's head once this batch is in.
    pub fn head(&self) -> Head {
        Head { sequence: self.batch.sequence, digest: self.digest }
    }

    /// Bytes of its body.
    pub fn body_len(&self) -> usize {
        self.body.len()
    }
}
