//! Keyed hashes of names and ids, so that nobody can choose names that meet in the index.

use std::hash::{BuildHasherDefault, Hasher as StdHasher};

use siphasher::sip128::SipHasher13;
use uuid::Uuid;

/// Bytes of the key.
pub(crate) const KEY_BYTES: usize = 16;
/// Bytes of a stream's hash that are kept: too many for two streams ever to meet.
pub(crate) const STREAM_HASH_BYTES: usize = 12;

/// A stream in the index: the first [`STREAM_HASH_BYTES`] of the keyed hash of its origin and name.
pub(crate) type StreamHash = [u8; STREAM_HASH_BYTES];

/// Hashes with the index's own key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hasher {
    key: [u8; KEY_BYTES],
    /// Of types and stream groups: the same for every event, so not worth a slow hash each time.
    bits: u64,
}

impl Hasher {
    pub(crate) fn new(key: [u8; KEY_BYTES]) -> Self {
        let bits = SipHasher13::new_with_key(&key).hash(b"bits").h1;
        Self { key, bits }
    }

    /// An event id of one origin. Two ids may meet, so what is found has to be looked at.
    pub(crate) fn id(&self, origin: &str, id: Uuid) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(id.as_bytes());
        hasher.write(origin.as_bytes());
        hasher.finish()
    }

    /// A stream of one origin.
    pub(crate) fn stream(&self, origin: &str, stream: &str) -> StreamHash {
        use siphasher::sip128::Hasher128 as _;
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(origin.as_bytes());
        // No agency code holds a zero, so no two pairs give the same bytes.
        hasher.write(&[0]);
        hasher.write(stream.as_bytes());
        let wide = hasher.finish128().as_u128().to_be_bytes();
        let mut hash = [0; STREAM_HASH_BYTES];
        hash.copy_from_slice(&wide[..STREAM_HASH_BYTES]);
        hash
    }

    /// One of 64 bits.
    pub(crate) fn bit(&self, text: &str) -> u64 {
        // FNV-1a, begun at a secret: it only has to spread a few dozen names.
        let hash = text.bytes().fold(self.bits, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        1 << (hash >> 58)
    }
}

/// The part of a stream's hash that says where it is in a table.
pub(crate) fn leading(hash: &[u8]) -> u64 {
    hash.first_chunk().copied().map_or(0, u64::from_be_bytes)
}

/// For maps whose keys are hashes already.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct AlreadyHashed(u64);

impl StdHasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // A map of byte arrays gives their length first.
        if bytes.len() >= 8 {
            self.0 ^= leading(bytes);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A map from hashes.
pub(crate) type HashedMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<AlreadyHashed>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_depend_on_key_origin_and_name() {
        let (a, b) = (Hasher::new([1; 16]), Hasher::new([2; 16]));
        assert_eq!(a.stream("TW", "s"), a.stream("TW", "s"));
        assert_ne!(a.stream("TW", "s"), b.stream("TW", "s"));
        assert_ne!(a.stream("TW", "s"), a.stream("H24", "s"));
        let id = Uuid::from_u128(5);
        assert_ne!(a.id("TW", id), a.id("H24", id));
        assert_ne!(a.id("TW", id), b.id("TW", id));
        assert_eq!(a.bit("x").count_ones(), 1);
    }

    #[test]
    fn maps_of_hashes_find_what_they_hold() {
        let hasher = Hasher::new([3; 16]);
        let mut map = HashedMap::default();
        for n in 0..1_000 {
            map.insert(hasher.stream("TW", &format!("s{n}")), n);
        }
        assert!((0..1_000).all(|n| map.get(&hasher.stream("TW", &format!("s{n}"))) == Some(&n)));
    }
}
