//! Refusals on the wire.

use httt_feed::{FeedId, Refusal};
use httt_wire::exchange::{self as wire, RefusalCode};

/// The message form of a refusal; code and text travel, so a caller in any language can act on it.
pub fn refusal_to_wire(refusal: &Refusal) -> wire::Refusal {
    let code = match refusal {
        Refusal::NotAMember(_) => RefusalCode::NotAMember,
        Refusal::WrongMember { .. } => RefusalCode::WrongMember,
        Refusal::NoRight { .. } => RefusalCode::NoRight,
        Refusal::UnknownKey { .. } => RefusalCode::UnknownKey,
        Refusal::RevokedKey { .. } => RefusalCode::RevokedKey,
        Refusal::BadSignature { .. } => RefusalCode::BadSignature,
        Refusal::Malformed(_) => RefusalCode::Malformed,
        Refusal::TooLarge { .. } => RefusalCode::TooLarge,
        Refusal::Gap { .. } => RefusalCode::Gap,
        Refusal::Fork { .. } => RefusalCode::Fork,
        Refusal::BrokenChain { .. } => RefusalCode::BrokenChain,
        Refusal::Suspended { .. } => RefusalCode::Suspended,
        Refusal::Certificate { .. } => RefusalCode::RevokedCertificate,
    };
    let expected_sequence = match refusal {
        Refusal::Gap { expected, .. } => *expected,
        _ => 0,
    };
    wire::Refusal { code: code.into(), message: refusal.to_string(), expected_sequence, retry_after_ms: 0 }
}

/// Reads the code of a refusal that came back; a code of a later version reads as unspecified.
pub fn refusal_from_wire(refusal: &wire::Refusal) -> RefusalCode {
    RefusalCode::try_from(refusal.code).unwrap_or(RefusalCode::Unspecified)
}

/// Why a peer refused, and when to come back (ms).
pub fn refused(refusal: &wire::Refusal) -> (RefusalCode, u32) {
    (refusal_from_wire(refusal), refusal.retry_after_ms)
}

/// A refusal that is no fault of the batch: the log takes no writes, or the peer is busy.
pub(crate) fn unavailable(message: impl Into<String>) -> wire::Refusal {
    wire::Refusal {
        code: RefusalCode::Unavailable.into(),
        message: message.into(),
        expected_sequence: 0,
        retry_after_ms: 1_000,
    }
}

/// Not here any more, or not yet again: its origin is asked.
pub(crate) fn away(feed: &FeedId, after: u64, until: u64, retry_after_ms: u32) -> wire::Refusal {
    wire::Refusal {
        code: RefusalCode::Away.into(),
        message: format!("{feed}: sequences {} to {until} are asked of their origin; come back", after + 1),
        retry_after_ms,
        ..Default::default()
    }
}

/// The caller asks too much or too often.
pub fn busy(message: impl Into<String>, retry_after_ms: u32) -> wire::Refusal {
    wire::Refusal { code: RefusalCode::Busy.into(), message: message.into(), retry_after_ms, ..Default::default() }
}

/// A refusal about something that is not there.
pub(crate) fn not_found(message: impl Into<String>) -> wire::Refusal {
    wire::Refusal { code: RefusalCode::NotFound.into(), message: message.into(), ..Default::default() }
}
