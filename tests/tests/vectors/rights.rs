//! Wishes to push or read a feed: the caller, the certificate that it shows, the feed, and what the gateway answers.

use httt_feed::{AgencyCode, FeedId, Refusal};
use httt_wire::exchange::RefusalCode;
use serde_json::{Value, json};

use super::judge::told;
use super::steps::{certificate, folded, until};

struct Wish {
    call: &'static str,
    caller: &'static str,
    /// The certificate's name; `None`: the driver asks for none.
    certificate: Option<&'static str>,
    feed: &'static str,
}

fn push(caller: &'static str, feed: &'static str) -> Wish {
    Wish { call: "push", caller, certificate: None, feed }
}

fn read(caller: &'static str, feed: &'static str) -> Wish {
    Wish { call: "read", caller, certificate: None, feed }
}

impl Wish {
    fn showing(self, certificate: &'static str) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    fn verdict(&self, names: &[&str]) -> Result<(), Refusal> {
        let known = folded(names);
        let caller = AgencyCode::new(self.caller).expect("code");
        let feed: FeedId = self.feed.parse().expect("feed");
        if let Some(name) = self.certificate {
            known.admits_certificate(&caller, certificate(name))?;
        }
        if self.call == "push" { known.may_push(&caller, &feed) } else { known.may_read(&caller, &feed) }
    }

    fn judged(&self, last: &str, expected: RefusalCode) -> Value {
        let names = until(last);
        let verdict = self.verdict(&names);
        let told = told(verdict.as_ref().err());
        let Self { call, caller, feed, .. } = self;
        assert_eq!(told["number"], i32::from(expected), "{last}: {call} {caller} {feed}: {verdict:?}");
        json!({
            "call": call,
            "directory": names,
            "caller": caller,
            "certificate": self.certificate.map(|name| certificate(name).to_string()),
            "feed": feed,
            "expected": told,
        })
    }
}

pub(crate) fn rights() -> Vec<Value> {
    use RefusalCode::{
        NoRight, NotAMember, RevokedCertificate as Certificate, Suspended, Unspecified as Good, WrongMember,
    };
    [
        ("keys-added", push("H24", "H24→TW/report"), Good),
        ("keys-added", push("H55.LGSP", "H55→TW/report"), Good),
        ("carrier-withdrawn", push("H55.LGSP", "H55→TW/report"), WrongMember),
        ("keys-added", push("H24", "H55→TW/report"), WrongMember),
        ("keys-added", push("H55", "H55.LGSP→TW/report"), WrongMember),
        ("keys-added", push("H99", "H99→TW/report"), NotAMember),
        ("keys-added", push("H24", "H24→H24/local"), NoRight),
        ("keys-added", read("H24", "TW→*/content"), Good),
        ("keys-added", read("H24", "TW→H24/content"), Good),
        ("keys-added", read("H24", "H24→TW/report"), Good),
        ("keys-added", read("H55.LGSP", "TW→H55/content"), Good),
        ("carrier-withdrawn", read("H55.LGSP", "TW→H55/content"), NoRight),
        ("keys-added", read("H24", "TW→H55/content"), NoRight),
        ("keys-added", read("H24", "H24→H24/local"), NoRight),
        ("keys-added", read("H99", "TW→*/content"), NotAMember),
        // Suspended: the member itself, and a carrier for what is the member's, but not for what is for all.
        ("suspended", push("H55", "H55→TW/report"), Suspended),
        ("suspended", read("H55", "TW→*/emergency"), Suspended),
        ("suspended", push("H55.LGSP", "H55→TW/report"), Suspended),
        ("suspended", read("H55.LGSP", "TW→H55/content"), NoRight),
        ("suspended", read("H55.LGSP", "TW→*/emergency"), Good),
        ("suspended", read("TW", "H55→TW/report"), Good),
        ("suspended", push("H24", "H24→H55/content"), Good),
        ("resumed", push("H55", "H55→TW/report"), Good),
        ("resumed", push("H55.LGSP", "H55→TW/report"), Good),
        ("resumed", read("H55.LGSP", "TW→H55/content"), Good),
        // Certificates.
        ("resumed", push("H24", "H24→TW/report").showing("h24-unregistered"), Good),
        ("certificates-added", push("H24", "H24→TW/report").showing("h24-unregistered"), Certificate),
        ("certificates-added", push("H24", "H24→TW/report").showing("h24"), Good),
        ("certificates-added", read("H24", "TW→*/content").showing("h24-next"), Good),
        ("certificates-added", push("TW", "TW→*/content").showing("tw"), Good),
        ("certificates-revoked", push("H24", "H24→TW/report").showing("h24"), Certificate),
        ("certificates-revoked", push("H24", "H24→TW/report").showing("h24-next"), Good),
        ("certificates-revoked", push("TW", "TW→*/content").showing("tw-stolen"), Certificate),
        ("certificates-revoked", push("TW", "TW→*/content").showing("tw"), Good),
        ("certificates-added-again", push("H24", "H24→TW/report").showing("h24"), Certificate),
        ("certificates-added-again", push("TW", "TW→*/content").showing("tw-stolen"), Certificate),
        ("certificates-added-again", push("TW", "TW→*/content").showing("tw"), Good),
        ("suspended", push("H55", "H55→TW/report").showing("h55"), Suspended),
        ("certificates-added", read("H99", "TW→*/content").showing("h99"), NotAMember),
        // Grants.
        ("certificates-added-again", read("H24", "H55→TW/report"), NoRight),
        ("read-granted", read("H24", "H55→TW/report"), Good),
        ("read-granted", read("H24", "H55→TW/content"), NoRight),
        ("read-granted", push("H24", "H55→TW/report"), WrongMember),
        ("read-granted", read("H55", "H24→TW/status"), Good),
        ("read-granted", read("H55.LGSP", "H24→TW/status"), Good),
        ("read-granted", read("H55", "H24→TW/report"), NoRight),
        ("read-granted", read("H55", "H24→NDXP/status"), NoRight),
        ("read-withdrawn", read("H24", "H55→TW/report"), NoRight),
        ("read-withdrawn", read("H55", "H24→TW/status"), Good),
    ]
    .into_iter()
    .map(|(last, wish, expected)| wish.judged(last, expected))
    .collect()
}
