//! Who signs in the vectors, and how bytes are written in JSON.

use std::collections::BTreeMap;

use bytes::Bytes;
use httt_feed::{Algorithm, Digest, Lane, PAYLOAD_TYPE, PublicKey, SigningKey};
use httt_wire::{Message, feed as pb};
use serde_json::{Value, json};

/// A run of one byte longer than this is written as a count.
const LONG_RUN: usize = 64;
/// Uncompressed point of `test-only.p256.key.pem`.
const P256: &str = "04d82cfba16544c9efc339fe21ba330ed0c83fd983c30727bd087ad1c2c44a19b8\
                    8ec02e97882e8cb77dac5143a321ee5be388eae09ca9b07c1f55b4b09f1f25d8";
/// PKCS#1 DER of `test-only.rsa2048.key.pem`.
const RSA: &str = "3082010a02820101009d590682c9c3ad8b117ee27309126a1d928f47abcdd0e549b5d4b9634cd5f5ae368d69c4387430df\
                   770328045390bce965c60690a485fc5d54692665f7b39aa1cb003c023ccd94d7cddabefbbe6383b221ef3d1d08c7422813a7\
                   10af8b10c3f606e2b1d5bbeae323068d7cbff18596e4a838e2d5defe24b7c0618386c7efe2415dc7d08c7f54234995c61c1b\
                   1d6803150da8affcde09b99eaca6027cd5f80e12db911fd7a4f8df020e470a1cdb01692c3906b9b36bd7aeec979fddf45c7d\
                   a72a4482bbfe2f17304acdc39f98731e0d42b94bf44d8727a9880d6b27507a5c02dfc31ad4391f472c19e6bfdef77e0ee190\
                   a5ba8453c95609a7a7afa7d42d44066f0203010001";

/// A key of the vectors.
pub(crate) struct Signer {
    pub(crate) name: &'static str,
    pub(crate) seed: Option<[u8; 32]>,
    pub(crate) public: PublicKey,
}

/// Those that ring can sign with, from a seed that their name gives.
const ED25519: [&str; 10] =
    ["ndxp", "tw", "h24", "h24-next", "h55", "h55-lgsp", "stranger", "h99", "other-gateway", "ndxp-next"];

/// All keys.
pub(crate) fn signers() -> Vec<Signer> {
    let pairs = ED25519.iter().map(|name| {
        let seed = Digest::of(format!("httt test vector key {name}").as_bytes()).0;
        Signer { name, seed: Some(seed), public: ed25519(&seed).public().clone() }
    });
    let fixed = [("tw-p256", Algorithm::EcdsaP256Sha256, P256), ("h55-rsa", Algorithm::RsaPkcs1Sha256, RSA)];
    let fixed = fixed.into_iter().map(|(name, algorithm, value)| {
        let value = hex::decode(value).expect("hex");
        Signer { name, seed: None, public: PublicKey::new(algorithm, value).expect("key") }
    });
    pairs.chain(fixed).collect()
}

fn ed25519(seed: &[u8; 32]) -> SigningKey {
    SigningKey::from_seed(seed).expect("key")
}

pub(crate) fn signer(name: &str) -> Signer {
    signers().into_iter().find(|signer| signer.name == name).unwrap_or_else(|| panic!("no key {name}"))
}

impl Signer {
    /// Ed25519 signs here; what the other keys signed is kept in `openssl-signatures.json`, by key and SHA-256.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.seed {
            Some(seed) => ed25519(seed).sign(message),
            None => {
                let kept: BTreeMap<String, String> =
                    serde_json::from_value(super::stored("openssl-signatures.json")).expect("signatures");
                let signature = kept.get(&format!("{} {}", self.name, Digest::of(message))).unwrap_or_else(|| {
                    panic!("{}: openssl must sign anew (see README.md) the message {}", self.name, hex::encode(message))
                });
                hex::decode(signature).expect("hex")
            }
        }
    }
}

/// The text that is signed.
pub(crate) fn pae(body: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), body.len());
    [head.as_bytes(), body].concat()
}

/// A batch and how it is sealed.
#[derive(Clone)]
pub(crate) struct Sealed {
    pub(crate) batch: pb::Batch,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) bytes: Bytes,
}

impl Sealed {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.body)
    }
}

/// Seals whatever it is given, good or not: `Sealer` would refuse what the refusals need.
pub(crate) fn seal(key: &str, batch: pb::Batch) -> Sealed {
    let (signer, body) = (signer(key), batch.encode_to_vec());
    let signature = signer.sign(&pae(&body));
    let key_id = signer.public.id().0.to_vec();
    let sealed = pb::SealedBatch {
        body: body.clone().into(),
        signature: Some(pb::Signature { key_id, value: signature.clone() }),
    };
    Sealed { batch, body, signature, bytes: sealed.encode_to_vec().into() }
}

/// A batch of `feed` (`TW→*/content`) after `previous`.
pub(crate) fn batch(feed: &str, previous: Option<&Sealed>, events: Vec<pb::Event>) -> pb::Batch {
    let feed: httt_feed::FeedId = feed.parse().expect("feed");
    let sequence = previous.map_or(1, |previous| previous.batch.sequence + 1);
    pb::Batch {
        origin: feed.origin.to_string(),
        audience: feed.audience.to_string(),
        lane: feed.lane.to_wire(),
        sequence,
        previous: previous.map(|previous| previous.digest().0.to_vec()).unwrap_or_default(),
        sealed_at_ms: 1_763_700_000_000 + sequence as i64,
        events,
        restates: false,
    }
}

/// An event with an id that its place gives.
pub(crate) fn event<M: Message + httt_wire::Name>(stream: &str, version: u64, message: &M) -> pb::Event {
    let mut id = [0; 16];
    id.copy_from_slice(&Digest::of(format!("{stream} {version}").as_bytes()).0[..16]);
    // Version 8, variant 1 (RFC 9562).
    (id[6], id[8]) = (0x80 | id[6] & 0x0f, 0x80 | id[8] & 0x3f);
    pb::Event {
        id: id.to_vec(),
        stream: stream.to_owned(),
        version,
        r#type: M::full_name(),
        occurred_at_ms: 1_763_700_000_000,
        actor: "trực ban".to_owned(),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        data: message.encode_to_vec().into(),
    }
}

/// Bytes as JSON: hexadecimal, or a list of `[hexadecimal, times]` where one byte repeats for long.
pub(crate) fn bytes_json(bytes: &[u8]) -> Value {
    let mut runs: Vec<(Vec<u8>, usize)> = Vec::new();
    for run in bytes.chunk_by(|one, next| one == next) {
        match runs.last_mut() {
            _ if run.len() > LONG_RUN => runs.push((vec![run[0]], run.len())),
            Some((last, 1)) => last.extend_from_slice(run),
            _ => runs.push((run.to_vec(), 1)),
        }
    }
    match runs.as_slice() {
        [] => json!(""),
        [(all, 1)] => json!(hex::encode(all)),
        _ => runs.iter().map(|(bytes, times)| json!([hex::encode(bytes), times])).collect(),
    }
}

/// The other way.
pub(crate) fn bytes_of(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => hex::decode(text).expect("hex"),
        Value::Array(runs) => runs
            .iter()
            .flat_map(|run| {
                let times = run[1].as_u64().expect("times") as usize;
                hex::decode(run[0].as_str().expect("hex")).expect("hex").repeat(times)
            })
            .collect(),
        other => panic!("no bytes: {other}"),
    }
}

/// A lane by its number, as the vectors write it.
pub(crate) fn lane_json(number: i32) -> Value {
    json!({ "name": Lane::from_wire(number).map(|lane| lane.as_str()), "number": number })
}
