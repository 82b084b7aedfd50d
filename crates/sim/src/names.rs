//! Who takes part, and with which keys: the same for every seed.

use httt_feed::{AgencyCode, Digest, FeedId, SigningKey};

const GATEWAY: &str = "NDXP";
const CENTRAL: &str = "TW";

/// `text` is one of this crate's own codes.
#[expect(clippy::expect_used, reason = "codes are made here, none comes from outside")]
pub(crate) fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("an agency code")
}

pub(crate) fn gateway() -> AgencyCode {
    code(GATEWAY)
}

pub(crate) fn central() -> AgencyCode {
    code(CENTRAL)
}

pub(crate) fn province(number: usize) -> AgencyCode {
    code(&format!("H{:02}", number + 1))
}

pub(crate) fn adapter(number: usize) -> AgencyCode {
    code(&format!("L{:02}", number + 1))
}

/// A member's key; it has others after it was rotated.
#[expect(clippy::expect_used, reason = "any 32 bytes are an Ed25519 seed")]
pub(crate) fn key(member: &str, generation: u32) -> SigningKey {
    let seed = Digest::of(format!("{member}/{generation}").as_bytes());
    SigningKey::from_seed(&seed.0).expect("a seed of 32 bytes")
}

/// A key that nobody gave to anybody.
pub(crate) fn forger_key() -> SigningKey {
    key("nobody", 0)
}

pub(crate) fn directory_feed() -> FeedId {
    FeedId::directory(&gateway())
}
