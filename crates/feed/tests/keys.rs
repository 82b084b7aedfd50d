//! Keys of government tokens verify what they signed; keys that could never verify are refused when they are added.

mod common;

use common::*;
use httt_feed::*;
use httt_wire::{Message as _, directory as pb, feed as feed_pb};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

/// Made once with OpenSSL; the private key is gone.
const RSA_2048: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA2EXyJ1fJmB1Xzr6wJogO
edsqftHVBg/bJMhdFPuHPqB3xpmuPdk8h9vXyMRP2NEP+n4L32GyaerNbj/ewsHo
gWiMO2bAIrpAf/B/+TFyATbTnwKat+Nzomz5aTc/Qqy58/LGiDeNCSvnRPvnomyV
3NVXcrI0efZRvZX39tIEmrclpJcprpB9kBy7b1lkd/8ZIFDUwqXdjk2qGljZNL6c
sptwfFuO+Ajsq+miegIjgVPBFfWu5JeszJOqdTyEvaocGmuC3ZQw6P8kWQKmNjMi
MpUji6KOScfSpVzqpkIDTkOMwvpm4I58MC83xpWbdK6DduRMNbnZLOsqglMzEITQ
swIDAQAB
-----END PUBLIC KEY-----
";
/// PKCS#1 v1.5 with SHA-256 by that key over what DSSE signs of [`rsa_batch`].
const RSA_SIGNATURE: &str = "\
    8b7b774d68ba1697e220c689db5557748d53206d16910d5e5d29640dadf68883dbcc8a3ec47653177d0e8dfdaac54aa72e39\
    81bb7b7b68de361651fed1a320b6b44962d7aad7cd41e0ba6cb4b57490b81f3f0dfbca98675279c27c4ccd4538a25c90add5\
    9f29f84ea59b0996141b5fbe85b2dce382482b37a725c153a3af9cca8f5bf6ce146cc3dd34116c4cd25bf1f56c2073a12136\
    36fc3c127572646aabf09271e2c6cfcc0a7522fde1939420c0c26aac699319d404f16be76d33ed096560bb4d087b470ad250\
    e31c04a28e1c00a430080fedb5ea8a69ce22b9ab0246e8fcdde17f2fe367ec2ee18efc6da56d0c809acd22cb56b4cd976569\
    ce690c00d177";
const RSA_1024: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQC+p1g0BicMLv8HRJB0qqJmyFJd
fWZoehcfpHs9smi6UXW3+NIMG6KEGohpYN/7TmtZfN3gmFaxX2tPFPFV3yuPYXpP
NW1xoqbUloken0DNlV5kYqbGrKdwtZf5f5t+1UYrvSLCeg9AE77+6QuL2YnDVQXE
IOmanqMVyxrjTnX0DQIDAQAB
-----END PUBLIC KEY-----
";

fn pae(body: &[u8]) -> Vec<u8> {
    let mut message = format!("DSSEv1 38 application/vnd.httt.batch.v1+protobuf {} ", body.len()).into_bytes();
    message.extend_from_slice(body);
    message
}

/// The same batch with another signature.
fn signed_by(
    batch: &VerifiedBatch,
    key: &PublicKey,
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<UnverifiedBatch, Refusal> {
    let envelope = feed_pb::SealedBatch::decode(batch.bytes().clone()).expect("envelope");
    let value = sign(&pae(&envelope.body));
    let signature = Some(feed_pb::Signature { key_id: key.id().0.to_vec(), value });
    parse(feed_pb::SealedBatch { body: envelope.body, signature }.encode_to_vec().into())
}

fn world_with(key: &PublicKey) -> World {
    let mut world = World::new();
    world.tell(&[typed(&pb::KeyAdded { member: "H24".into(), key: Some(key.to_wire()) })]);
    world
}

fn rsa_batch(world: &World) -> VerifiedBatch {
    world.seal("H24", "TW", Lane::Report, None, 2)
}

#[test]
fn a_batch_signed_with_ecdsa_p256_verifies_and_another_does_not() {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).expect("key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random).expect("key");
    let key = PublicKey::new(Algorithm::EcdsaP256Sha256, pair.public_key().as_ref().to_vec()).expect("point");
    let world = world_with(&key);
    let batch = rsa_batch(&world);
    let sign = |message: &[u8]| pair.sign(&random, message).expect("signs").as_ref().to_vec();
    assert!(world.directory.verify(signed_by(&batch, &key, sign).expect("parses")).is_ok());
    let wrong = signed_by(&batch, &key, |_| sign(b"something else")).expect("parses");
    assert!(matches!(world.directory.verify(wrong), Err(Refusal::BadSignature { .. })));
}

#[test]
fn a_batch_signed_with_rsa_2048_verifies_and_another_does_not() {
    let key: PublicKey = RSA_2048.parse().expect("key");
    assert_eq!(key.algorithm(), Algorithm::RsaPkcs1Sha256);
    let world = world_with(&key);
    let batch = rsa_batch(&world);
    let signature = hex::decode(RSA_SIGNATURE).expect("hex");
    assert!(world.directory.verify(signed_by(&batch, &key, |_| signature.clone()).expect("parses")).is_ok());
    let longer = world.seal("H24", "TW", Lane::Report, None, 3);
    let wrong = signed_by(&longer, &key, |_| signature.clone()).expect("parses");
    assert!(matches!(world.directory.verify(wrong), Err(Refusal::BadSignature { .. })));
}

#[test]
fn short_rsa_keys_are_refused_when_they_are_added() {
    let error = RSA_1024.parse::<PublicKey>().expect_err("refused");
    assert!(matches!(&error, KeyError::Shape { algorithm: Algorithm::RsaPkcs1Sha256, .. }));
    assert!(error.to_string().contains("1024 bits, 2048 to 8192"), "{error}");
}

#[test]
fn bytes_that_are_no_key_of_their_algorithm_are_refused() {
    for (algorithm, value) in [
        (Algorithm::Ed25519, vec![1; 31]),
        (Algorithm::Ed25519, vec![1; 33]),
        (Algorithm::EcdsaP256Sha256, vec![4; 64]),
        (Algorithm::EcdsaP256Sha256, vec![2; 33]),
        (Algorithm::EcdsaP256Sha256, vec![2; 65]),
        (Algorithm::RsaPkcs1Sha256, vec![]),
        (Algorithm::RsaPkcs1Sha256, vec![0x30, 0x82, 0x01]),
        (Algorithm::RsaPkcs1Sha256, vec![0x30; 300]),
    ] {
        let refused = PublicKey::new(algorithm, value.clone());
        assert!(matches!(refused, Err(KeyError::Shape { .. })), "{algorithm} {} bytes", value.len());
    }
}

#[test]
fn an_rsa_key_with_an_even_exponent_or_something_behind_it_is_refused() {
    let good: PublicKey = RSA_2048.parse().expect("key");
    let mut even = good.value().to_vec();
    *even.last_mut().expect("bytes") = 0;
    let mut longer = good.value().to_vec();
    longer.push(0);
    for value in [even, longer] {
        assert!(matches!(PublicKey::new(Algorithm::RsaPkcs1Sha256, value), Err(KeyError::Shape { .. })));
    }
}

#[test]
fn keys_are_read_as_people_write_them() {
    let ed25519 = key("H24").public().clone();
    assert_eq!(hex::encode(ed25519.value()).parse(), Ok(ed25519.clone()));
    let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    spki.extend_from_slice(ed25519.value());
    let encoded = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, spki);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{encoded}\n-----END PUBLIC KEY-----\n");
    assert_eq!(pem.parse(), Ok(ed25519));
    let rsa: PublicKey = RSA_2048.parse().expect("key");
    assert_eq!(hex::encode(rsa.value()).parse(), Ok(rsa));
    for bad in ["", "xyz", "00", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", &"a".repeat(9_000)] {
        assert!(bad.parse::<PublicKey>().is_err(), "{bad:?}");
    }
}
