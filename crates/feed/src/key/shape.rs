//! Whether the bytes of a public key are what their algorithm says, before anybody has to verify with them.

use super::Algorithm;

/// Bytes of an Ed25519 key.
pub(super) const ED25519_BYTES: usize = 32;
/// First byte of a point that is not compressed.
pub(super) const UNCOMPRESSED: u8 = 4;
/// DER tag.
pub(super) const SEQUENCE: u8 = 0x30;

/// Bytes of an uncompressed point of P-256.
const P256_BYTES: usize = 65;
/// Bits of an RSA modulus that are verified, and that anybody should still sign with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// Longest public exponent; the usual one, 65537, has 3 bytes.
const MAX_EXPONENT_BYTES: usize = 4;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// `SubjectPublicKeyInfo` up to the key's own bytes: RFC 8410 and RFC 5480.
const ED25519_SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
/// `rsaEncryption` with its NULL parameters, RFC 3279.
const RSA_ALGORITHM: [u8; 13] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];

/// Says what is wrong with the bytes, if anything is.
pub(super) fn check(algorithm: Algorithm, value: &[u8]) -> Result<(), String> {
    match algorithm {
        Algorithm::Ed25519 if value.len() == ED25519_BYTES => Ok(()),
        Algorithm::Ed25519 => Err(format!("it has {} bytes, not {ED25519_BYTES}", value.len())),
        Algorithm::EcdsaP256Sha256 if value.len() == P256_BYTES && value.first() == Some(&UNCOMPRESSED) => Ok(()),
        Algorithm::EcdsaP256Sha256 => Err(format!("it is not an uncompressed point of {P256_BYTES} bytes")),
        Algorithm::RsaPkcs1Sha256 => check_rsa(value),
    }
}

fn check_rsa(der: &[u8]) -> Result<(), String> {
    let (modulus, exponent) = rsa_parts(der).ok_or("it is not PKCS#1 DER (a sequence of modulus and exponent)")?;
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return Err(format!("its modulus has {bits} bits, {} to {} are taken", RSA_BITS.start(), RSA_BITS.end()));
    }
    let value = exponent.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    if exponent.len() > MAX_EXPONENT_BYTES || value < 3 || value.is_multiple_of(2) {
        return Err("its public exponent is even, too small or too large; 65537 is the usual one".into());
    }
    Ok(())
}

/// Modulus and exponent without leading zeros.
fn rsa_parts(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, rest) = element(SEQUENCE, der)?;
    let (modulus, body) = element(INTEGER, body)?;
    let (exponent, body) = element(INTEGER, body)?;
    (rest.is_empty() && body.is_empty()).then_some((unsigned(modulus)?, unsigned(exponent)?))
}

/// The bytes of an INTEGER that is positive and written as briefly as DER demands.
fn unsigned(integer: &[u8]) -> Option<&[u8]> {
    match integer {
        [0, rest @ ..] => rest.first().filter(|first| **first >= 0x80).map(|_| rest),
        [first, ..] if *first < 0x80 => Some(integer),
        _ => None,
    }
}

/// Algorithm and bytes of the key in a `SubjectPublicKeyInfo`; `None`: it is none of those verified here.
pub(super) fn from_spki(der: &[u8]) -> Option<(Algorithm, &[u8])> {
    if let Some(value) = der.strip_prefix(&ED25519_SPKI) {
        return Some((Algorithm::Ed25519, value));
    }
    if let Some(value) = der.strip_prefix(&P256_SPKI) {
        return Some((Algorithm::EcdsaP256Sha256, value));
    }
    let (body, rest) = element(SEQUENCE, der)?;
    let (algorithm, body) = element(SEQUENCE, body)?;
    let (bits, body) = element(BIT_STRING, body)?;
    let value = bits.strip_prefix(&[0])?;
    (rest.is_empty() && body.is_empty() && algorithm == RSA_ALGORITHM).then_some((Algorithm::RsaPkcs1Sha256, value))
}

/// The contents of the first element, which must have this tag, and what follows it. Lengths up to 65,535.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *der.strip_prefix(&[tag])? {
        [length @ 0..=0x7f, ref rest @ ..] => (usize::from(length), rest),
        [0x81, length @ 0x80..=0xff, ref rest @ ..] => (usize::from(length), rest),
        [0x82, high @ 1..=0xff, low, ref rest @ ..] => (usize::from(high) << 8 | usize::from(low), rest),
        _ => return None,
    };
    rest.split_at_checked(length)
}
