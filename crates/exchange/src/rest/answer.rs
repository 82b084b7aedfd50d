//! What an answer's status says, in addition to the refusal in its body: platforms and their operators look there.

use axum::http::StatusCode;
use httt_wire::exchange::{self as wire, RefusalCode};
use httt_wire::{Message, Name};

use crate::refusal_from_wire;

/// A message that answers a call.
pub(super) trait Answer: Message + Name + Default {
    /// The refusal in it.
    fn refusal(&self) -> Option<&wire::Refusal>;

    /// The answer that refuses.
    fn refused(refusal: wire::Refusal) -> Self;

    /// Whether a service can have answered so. An empty message can be read from many things that are none.
    fn is_plausible(&self) -> bool {
        true
    }

    /// The status it goes with.
    fn status(&self) -> StatusCode {
        self.refusal().map_or(StatusCode::OK, |refusal| status_of(refusal_from_wire(refusal)))
    }
}

macro_rules! answers {
    ($($message:ty => $plausible:expr),* $(,)?) => {
        $(impl Answer for $message {
            fn refusal(&self) -> Option<&wire::Refusal> {
                self.refusal.as_ref()
            }
            fn refused(refusal: wire::Refusal) -> Self {
                Self { refusal: Some(refusal), ..Default::default() }
            }
            fn is_plausible(&self) -> bool {
                let plausible: fn(&Self) -> bool = $plausible;
                self.refusal.is_some() || plausible(self)
            }
        })*
    };
}

answers! {
    wire::HeadsResponse => |answer| !answer.log_id.is_empty(),
    wire::ReadResponse => |_| true,
    wire::PushResponse => |answer| answer.head.is_some(),
    wire::StatMediaResponse => |_| true,
    wire::ReadMediaResponse => |_| true,
}

/// A witness speaks HTTP's numbers by itself.
impl Answer for wire::WitnessResponse {
    fn refusal(&self) -> Option<&wire::Refusal> {
        None
    }

    fn refused(refusal: wire::Refusal) -> Self {
        let status = status_of(refusal_from_wire(&refusal));
        // A witness has no number for "busy"; whoever asks for cosignatures comes back for a 503.
        let status = if status == StatusCode::TOO_MANY_REQUESTS { StatusCode::SERVICE_UNAVAILABLE } else { status };
        Self { status: status.as_u16().into(), body: refusal.message }
    }

    fn is_plausible(&self) -> bool {
        self.status != 0
    }

    fn status(&self) -> StatusCode {
        u16::try_from(self.status).ok().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or_default()
    }
}

/// The status that says what a refusal says.
pub(super) fn status_of(code: RefusalCode) -> StatusCode {
    match code {
        RefusalCode::NotAMember
        | RefusalCode::WrongMember
        | RefusalCode::NoRight
        | RefusalCode::Suspended
        | RefusalCode::RevokedCertificate => StatusCode::FORBIDDEN,
        RefusalCode::NotFound => StatusCode::NOT_FOUND,
        RefusalCode::Gap | RefusalCode::Fork | RefusalCode::BrokenChain => StatusCode::CONFLICT,
        RefusalCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        RefusalCode::Busy => StatusCode::TOO_MANY_REQUESTS,
        RefusalCode::Unavailable | RefusalCode::Away => StatusCode::SERVICE_UNAVAILABLE,
        RefusalCode::Malformed => StatusCode::BAD_REQUEST,
        RefusalCode::UnknownKey | RefusalCode::RevokedKey | RefusalCode::BadSignature | RefusalCode::Unspecified => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
    }
}

/// A refusal of ours.
pub(super) fn refusal(code: RefusalCode, message: impl Into<String>, retry_after_ms: u32) -> wire::Refusal {
    wire::Refusal { code: code.into(), message: message.into(), expected_sequence: 0, retry_after_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_status_that_is_no_success() {
        let codes = (0..64).filter_map(|code| RefusalCode::try_from(code).ok());
        let statuses: Vec<_> = codes.map(|code| wire::PushResponse::refused(refusal(code, "", 0)).status()).collect();
        assert!(statuses.len() >= 18 && statuses.iter().all(|status| status.as_u16() >= 400));
        assert_eq!(wire::PushResponse::default().status(), StatusCode::OK);
    }

    #[test]
    fn empty_messages_are_no_answers_where_a_service_says_something() {
        assert!(!wire::HeadsResponse::default().is_plausible());
        assert!(!wire::PushResponse::default().is_plausible());
        assert!(!wire::WitnessResponse::default().is_plausible());
        assert!(wire::HeadsResponse::refused(refusal(RefusalCode::Busy, "", 5)).is_plausible());
    }
}
