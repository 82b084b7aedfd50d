//! Secrets of devices, as digests.

use std::collections::BTreeMap;

use httt_domain::models::{Fact, Model, ReadModel};
use httt_feed::Digest;
use httt_wire::cluster::DeviceCredentialIssued;
use serde::{Deserialize, Serialize};

use super::is_local;

/// Stream prefix of devices.
pub(crate) const DEVICE_STREAM: &str = "device/";

/// SHA-256 of each device's secret, hexadecimal, by IMEI; the one issued last counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Credentials(BTreeMap<String, String>);

impl Model for Credentials {
    const NAME: &'static str = "credentials";
}

impl Credentials {
    /// SHA-256 of a device's secret, hexadecimal.
    pub fn secret_sha256(&self, imei: &str) -> Option<&str> {
        self.0.get(imei).map(String::as_str)
    }

    /// Devices that have one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none has one.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl ReadModel for Credentials {
    fn apply(&mut self, fact: &Fact<'_>) {
        let Some(imei) = fact.stream.strip_prefix(DEVICE_STREAM).filter(|_| is_local(fact)) else { return };
        let Some(issued) = fact.read::<DeviceCredentialIssued>().filter(|issued| issued.imei == imei) else { return };
        if let Some(digest) = Digest::from_slice(&issued.secret_sha256) {
            self.0.insert(issued.imei, digest.to_string());
        }
    }
}
