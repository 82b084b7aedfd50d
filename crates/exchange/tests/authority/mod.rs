//! A certificate authority that gives members their certificates.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use httt_exchange::grpc::TlsIdentity;
use httt_feed::AgencyCode;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        let pem = params.self_signed(&key).expect("signs").pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    pub fn identity(&self, member: &str) -> TlsIdentity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("params");
        params.subject_alt_names.push(SanType::URI(format!("urn:httt:member:{member}").try_into().expect("uri")));
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signs").pem();
        TlsIdentity { certificate, key: key.serialize_pem(), ca: self.pem.clone() }
    }
}

/// Finds `urn:httt:member:` in the certificate; the real reading of certificates is the node's and tested there.
pub fn identify(der: &[u8]) -> Option<AgencyCode> {
    let mark = b"urn:httt:member:";
    let at = der.windows(mark.len()).position(|window| window == mark)? + mark.len();
    let length = der[at - mark.len() - 1] as usize - mark.len();
    AgencyCode::new(std::str::from_utf8(&der[at..at + length]).ok()?).ok()
}
