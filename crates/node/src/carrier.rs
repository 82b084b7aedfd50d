//! The read models of a node that only carries.

use httt_domain::models::{Fact, ReadModel};
use httt_feed::Digest;

use crate::models::{ModelSet, digest_of};
use crate::traffic::{Forks, Receipted, Traffic};

/// What a node that only carries knows: gateway and adapter.
#[derive(Debug, Default)]
pub struct CarrierModels {
    /// By feed.
    pub traffic: Traffic,
    /// Standing still.
    pub forks: Forks,
    /// What the gateway has receipted, as far as this node may read it.
    pub receipted: Receipted,
}

impl ModelSet for CarrierModels {
    fn apply(&mut self, fact: &Fact<'_>) {
        self.traffic.apply(fact);
        self.forks.apply(fact);
        self.receipted.apply(fact);
    }

    fn digests(&self) -> Vec<(&'static str, Digest)> {
        vec![
            (Traffic::NAME, digest_of(&self.traffic)),
            (Forks::NAME, digest_of(&self.forks)),
            (Receipted::NAME, digest_of(&self.receipted)),
        ]
    }
}
