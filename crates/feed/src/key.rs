//! Keys: one to sign with, many to verify against.

mod shape;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_wire::directory as pb;
use ring::rand::SystemRandom;
use ring::signature::{self, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};

use crate::Digest;

/// Largest public key taken from outside: RSA 8192 in DER is about 1,050 bytes.
const MAX_PUBLIC_KEY_BYTES: usize = 2_048;
/// Longest text of a public key: the longest key as hexadecimal digits, or as PEM with some room.
const MAX_KEY_TEXT_BYTES: usize = 2 * MAX_PUBLIC_KEY_BYTES;

/// Signature algorithms a member's key may have. Nodes sign with Ed25519; the others are what government tokens hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// Ed25519, RFC 8032.
    Ed25519,
    /// ECDSA on P-256 with SHA-256, signature in ASN.1 DER.
    EcdsaP256Sha256,
    /// RSA PKCS#1 v1.5 with SHA-256, 2048 to 8192 bits.
    RsaPkcs1Sha256,
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::EcdsaP256Sha256 => "ECDSA P-256",
            Self::RsaPkcs1Sha256 => "RSA",
        })
    }
}

impl Algorithm {
    /// The wire's number.
    pub fn to_wire(self) -> i32 {
        match self {
            Self::Ed25519 => pb::KeyAlgorithm::Ed25519,
            Self::EcdsaP256Sha256 => pb::KeyAlgorithm::EcdsaP256Sha256,
            Self::RsaPkcs1Sha256 => pb::KeyAlgorithm::RsaPkcs120488192Sha256,
        }
        .into()
    }

    fn from_wire(number: i32) -> Option<Self> {
        Some(match pb::KeyAlgorithm::try_from(number).ok()? {
            pb::KeyAlgorithm::Unspecified => return None,
            pb::KeyAlgorithm::Ed25519 => Self::Ed25519,
            pb::KeyAlgorithm::EcdsaP256Sha256 => Self::EcdsaP256Sha256,
            pb::KeyAlgorithm::RsaPkcs120488192Sha256 => Self::RsaPkcs1Sha256,
        })
    }

    fn ring(self) -> &'static dyn signature::VerificationAlgorithm {
        match self {
            Self::Ed25519 => &signature::ED25519,
            Self::EcdsaP256Sha256 => &signature::ECDSA_P256_SHA256_ASN1,
            Self::RsaPkcs1Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        }
    }
}

/// Why a key was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PKCS#8 PEM.
    #[error("the key file is not PKCS#8 in PEM form: {0}")]
    Pem(String),
    /// ring refused it.
    #[error("the key is not a usable Ed25519 key: {0}")]
    Rejected(String),
    /// The algorithm is none this program verifies.
    #[error("unknown key algorithm {0}")]
    Algorithm(i32),
    /// Longer than any real key.
    #[error("a public key of {0} bytes is longer than the {MAX_PUBLIC_KEY_BYTES} allowed")]
    TooLong(usize),
    /// Its bytes are not what its algorithm says.
    #[error("not a public key of {algorithm}: {what}")]
    Shape {
        /// What it is said to be.
        algorithm: Algorithm,
        /// What is wrong with it.
        what: String,
    },
    /// A text that writes no public key.
    #[error("not a public key: {0}; write an Ed25519 key as 64 hexadecimal digits, others as PEM (BEGIN PUBLIC KEY)")]
    Text(String),
}

/// First 8 bytes of a [`Fingerprint`]: says which key to try, proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// SHA-256 over the wire's algorithm number (one byte) and the key's bytes.
pub type Fingerprint = Digest;

/// A key to verify with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    algorithm: Algorithm,
    value: Vec<u8>,
}

impl PublicKey {
    /// `value`: Ed25519 32 bytes; P-256 an uncompressed point, 65 bytes; RSA PKCS#1 DER, 2048 to 8192 bits. A key that
    /// could never verify anything is refused here, when somebody can still do something about it.
    ///
    /// # Errors
    /// [`KeyError::TooLong`], [`KeyError::Shape`].
    pub fn new(algorithm: Algorithm, value: Vec<u8>) -> Result<Self, KeyError> {
        if value.len() > MAX_PUBLIC_KEY_BYTES {
            return Err(KeyError::TooLong(value.len()));
        }
        shape::check(algorithm, &value).map_err(|what| KeyError::Shape { algorithm, what })?;
        Ok(Self { algorithm, value })
    }

    /// From the message form.
    ///
    /// # Errors
    /// [`KeyError::Algorithm`], and as [`PublicKey::new`].
    pub fn from_wire(message: &pb::PublicKey) -> Result<Self, KeyError> {
        let algorithm = Algorithm::from_wire(message.algorithm).ok_or(KeyError::Algorithm(message.algorithm))?;
        Self::new(algorithm, message.value.clone())
    }

    /// The message form.
    pub fn to_wire(&self) -> pb::PublicKey {
        pb::PublicKey { algorithm: self.algorithm.to_wire(), value: self.value.clone() }
    }

    /// Its algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its bytes, as in [`PublicKey::new`].
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// What a person compares and a configuration names.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut bytes = Vec::with_capacity(1 + self.value.len());
        bytes.push(self.algorithm.to_wire() as u8);
        bytes.extend_from_slice(&self.value);
        Digest::of(&bytes)
    }

    /// The hint that signatures carry.
    pub fn id(&self) -> KeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&self.fingerprint().0[..8]);
        KeyId(id)
    }

    /// Whether `signature` over `message` is by this key.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.ring(), &self.value).verify(message, signature).is_ok()
    }
}

/// As people write keys: hexadecimal digits of the bytes as in [`PublicKey::new`], whose shape tells the algorithm, or
/// PEM (`BEGIN PUBLIC KEY`).
impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        if text.len() > MAX_KEY_TEXT_BYTES {
            return Err(KeyError::TooLong(text.len()));
        }
        if text.starts_with("-----BEGIN") {
            let der = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes())
                .map_err(|error| KeyError::Text(format!("{error:?}")))?;
            let found = shape::from_spki(&der).ok_or_else(|| KeyError::Text("its algorithm is unknown".into()))?;
            return Self::new(found.0, found.1.to_vec());
        }
        let value = hex::decode(text).map_err(|error| KeyError::Text(error.to_string()))?;
        let algorithm = match value.as_slice() {
            bytes if bytes.len() == shape::ED25519_BYTES => Algorithm::Ed25519,
            [shape::UNCOMPRESSED, ..] => Algorithm::EcdsaP256Sha256,
            [shape::SEQUENCE, ..] => Algorithm::RsaPkcs1Sha256,
            bytes => return Err(KeyError::Text(format!("it has {} bytes", bytes.len()))),
        };
        Self::new(algorithm, value)
    }
}

/// A node's Ed25519 key to sign with. Its secret never shows in `Debug`.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl SigningKey {
    /// A fresh key and its PKCS#8 PEM, which the caller keeps in a file only its node can read.
    pub fn generate() -> Result<(Self, String), KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::Rejected("the system gave no randomness".into()))?;
        let pem = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
            BASE64_STANDARD
                .encode(document.as_ref())
                .as_bytes()
                .chunks(64)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join("\n")
        );
        Ok((Self::from_pkcs8(document.as_ref())?, pem))
    }

    /// From the text of a PEM file.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes()).map_err(|error| KeyError::Pem(format!("{error:?}")))?;
        Self::from_pkcs8(der.secret_pkcs8_der())
    }

    /// From a 32-byte seed: for tests and test vectors, where keys must be the same every time.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|error| KeyError::Rejected(error.to_string()))?;
        Ok(Self::from_pair(pair))
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair =
            Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|error| KeyError::Rejected(error.to_string()))?;
        Ok(Self::from_pair(pair))
    }

    fn from_pair(pair: Ed25519KeyPair) -> Self {
        let public = PublicKey { algorithm: Algorithm::Ed25519, value: pair.public_key().as_ref().to_vec() };
        Self { pair, public }
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The 64-byte Ed25519 signature over `message`.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public.id()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_reads_back_from_its_pem() {
        let (key, pem) = SigningKey::generate().expect("key");
        let again = SigningKey::from_pem(&pem).expect("pem");
        assert_eq!(key.public(), again.public());
        assert!(key.public().verifies(b"x", &again.sign(b"x")));
        assert!(!key.public().verifies(b"y", &again.sign(b"x")));
        assert!(matches!(SigningKey::from_pem("nothing"), Err(KeyError::Pem(_))));
        assert!(!format!("{key:?}").contains("seed"));
    }

    #[test]
    fn public_keys_survive_the_wire_and_are_bounded() {
        let key = SigningKey::from_seed(&[7; 32]).expect("seed");
        assert_eq!(PublicKey::from_wire(&key.public().to_wire()).as_ref(), Ok(key.public()));
        let unknown = pb::PublicKey { algorithm: 77, value: vec![] };
        assert_eq!(PublicKey::from_wire(&unknown), Err(KeyError::Algorithm(77)));
        assert_eq!(PublicKey::new(Algorithm::Ed25519, vec![0; 5000]), Err(KeyError::TooLong(5000)));
    }
}
