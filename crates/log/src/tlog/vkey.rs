//! Keys as signed notes name them.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_feed::{AgencyCode, Algorithm, PublicKey};
use signed_note::Verifier;

/// Longest text of a key read.
const MAX_VKEY_BYTES: usize = 512;
/// Bytes of an Ed25519 key.
const KEY_BYTES: usize = 32;
/// Bytes before the Ed25519 signature of a cosignature: its time.
const TIME_BYTES: usize = 8;

/// What a key's signatures in a note say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPurpose {
    /// Type 0x01: "this is my log".
    Log,
    /// Type 0x04: "I saw this log, and it only ever grew" (C2SP tlog-cosignature).
    Cosigner,
}

impl KeyPurpose {
    /// The type byte before the key.
    fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Cosigner => 4,
        }
    }
}

/// A named Ed25519 key to verify notes with. Its text is a C2SP vkey: `httt/H24+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiB…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    purpose: KeyPurpose,
    key: PublicKey,
    id: u32,
}

/// The text is no key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a verification key: {0}; one is written NAME+8 HEXADECIMAL DIGITS+BASE64, as in httt/H24+c74f20a3+ARpc…")]
pub struct BadVerifierKey(pub &'static str);

impl VerifierKey {
    /// The key that signs a node's checkpoints; `None`: it is no Ed25519 key, and signs none.
    pub fn log(origin: &AgencyCode, key: &PublicKey) -> Option<Self> {
        Self::new(node_name(origin), KeyPurpose::Log, key.clone()).ok()
    }

    /// The key that a node cosigns other logs' checkpoints with: the same key under another type, so that neither kind
    /// of signature can pass for the other.
    pub fn cosigner(origin: &AgencyCode, key: &PublicKey) -> Option<Self> {
        Self::new(node_name(origin), KeyPurpose::Cosigner, key.clone()).ok()
    }

    pub(crate) fn new(name: String, purpose: KeyPurpose, key: PublicKey) -> Result<Self, BadVerifierKey> {
        if key.algorithm() != Algorithm::Ed25519 || key.value().len() != KEY_BYTES {
            return Err(BadVerifierKey("it is no Ed25519 key"));
        }
        if !signed_note::is_key_name_valid(&name) {
            return Err(BadVerifierKey("its name is empty or has spaces"));
        }
        let id = signed_note::key_id(&name, &encoded(purpose, &key));
        Ok(Self { name, purpose, key, id })
    }

    /// The name in signature lines; of a log, its origin line.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its signatures say.
    pub fn purpose(&self) -> KeyPurpose {
        self.purpose
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The number in signature lines: says which key to try, proves nothing.
    pub fn id(&self) -> u32 {
        self.id
    }
}

/// What node names begin with.
const NODE_PREFIX: &str = "httt/";

/// Origin line and key name of a node: `httt/H24`.
pub fn node_name(origin: &AgencyCode) -> String {
    format!("{NODE_PREFIX}{origin}")
}

/// Whose name [`node_name`] gave; `None`: it is no node's.
pub fn node_of(name: &str) -> Option<AgencyCode> {
    AgencyCode::new(name.strip_prefix(NODE_PREFIX)?).ok()
}

fn encoded(purpose: KeyPurpose, key: &PublicKey) -> Vec<u8> {
    [&[purpose.byte()], key.value()].concat()
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encoded = BASE64_STANDARD.encode(encoded(self.purpose, &self.key));
        write!(f, "{}+{:08x}+{encoded}", self.name, self.id)
    }
}

impl FromStr for VerifierKey {
    type Err = BadVerifierKey;

    fn from_str(text: &str) -> Result<Self, BadVerifierKey> {
        if text.len() > MAX_VKEY_BYTES {
            return Err(BadVerifierKey("it is too long"));
        }
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(BadVerifierKey("it has not three parts"));
        };
        let key = BASE64_STANDARD.decode(key).map_err(|_| BadVerifierKey("its last part is not base64"))?;
        let (purpose, value) = match key.split_first() {
            Some((1, value)) => (KeyPurpose::Log, value),
            Some((4, value)) => (KeyPurpose::Cosigner, value),
            _ => return Err(BadVerifierKey("its type is neither Ed25519 (1) nor an Ed25519 cosignature (4)")),
        };
        let key = PublicKey::new(Algorithm::Ed25519, value.to_vec()).map_err(|_| BadVerifierKey("it is too long"))?;
        let read = Self::new(name.to_owned(), purpose, key)?;
        if format!("{:08x}", read.id) != id {
            return Err(BadVerifierKey("its middle part does not belong to this name and key: a typing error?"));
        }
        Ok(read)
    }
}

impl Verifier for VerifierKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self.purpose {
            KeyPurpose::Log => self.key.verifies(message, signature),
            KeyPurpose::Cosigner => signature.split_first_chunk::<TIME_BYTES>().is_some_and(|(time, signature)| {
                let seconds = u64::from_be_bytes(*time);
                i64::try_from(seconds).is_ok() && self.key.verifies(&cosigned_message(seconds, message), signature)
            }),
        }
    }
}

/// What a cosigner signs: a header, its time (Unix seconds), and the checkpoint without signature lines.
pub(crate) fn cosigned_message(seconds: u64, checkpoint: &[u8]) -> Vec<u8> {
    [format!("cosignature/v1\ntime {seconds}\n").as_bytes(), checkpoint].concat()
}

#[cfg(test)]
mod tests {
    use httt_feed::SigningKey;
    use proptest::prelude::*;

    use super::*;

    fn keys() -> [VerifierKey; 2] {
        let key = SigningKey::from_seed(&[1; 32]).expect("seed");
        let code = AgencyCode::new("H24").expect("code");
        [VerifierKey::log(&code, key.public()), VerifierKey::cosigner(&code, key.public())].map(|key| key.expect("key"))
    }

    #[test]
    fn keys_read_as_they_are_written_and_typing_errors_show() {
        let [log, cosigner] = keys();
        assert_ne!(log.id(), cosigner.id());
        for key in [log, cosigner] {
            let text = key.to_string();
            assert_eq!(text.parse(), Ok(key));
            for bad in [&text[1..], &text[..text.len() - 1], &text.replace("H24", "H25"), &text.to_uppercase(), ""] {
                assert!(bad.parse::<VerifierKey>().is_err(), "{bad}");
            }
        }
        assert!("x".repeat(1 << 20).parse::<VerifierKey>().is_err());
    }

    #[test]
    fn the_note_crate_reads_a_log_key() {
        let [log, _] = keys();
        let other = signed_note::StandardVerifier::new(&log.to_string()).expect("key");
        assert_eq!((other.name(), other.key_id()), (log.name(), log.id()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[a-z/]{0,5}\\+[0-9a-f]{0,9}\\+[A-Za-z0-9+/=]{0,50}|\\PC{0,60}") {
            if let Ok(key) = text.parse::<VerifierKey>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
