//! SHA-256 by ring, as the crate `ct-merkle` wants it.

use ct_merkle::digest::{FixedOutput, HashMarker, Output, OutputSizeUser, Update, array::typenum::U32};

/// SHA-256 by ring, as the other implementation wants it.
#[derive(Clone)]
pub(crate) struct Sha256(ring::digest::Context);

impl Default for Sha256 {
    fn default() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }
}

impl HashMarker for Sha256 {}

impl OutputSizeUser for Sha256 {
    type OutputSize = U32;
}

impl Update for Sha256 {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }
}

impl FixedOutput for Sha256 {
    fn finalize_into(self, out: &mut Output<Self>) {
        out.copy_from_slice(self.0.finish().as_ref());
    }
}
