//! The read models of a node that only carries.

use httt_domain::models::Fact;

use crate::deliveries::Delivered;
use crate::models::{ModelSet, Projection};
use crate::traffic::{Forks, Receipted, Traffic};

/// What a node that only carries knows: gateway and adapter.
#[derive(Debug, Default)]
pub struct CarrierModels {
    /// By feed.
    pub traffic: Projection<Traffic>,
    /// Standing still.
    pub forks: Projection<Forks>,
    /// What the gateway has receipted, as far as this node may read it.
    pub receipted: Projection<Receipted>,
    /// How far readers had read when it was last written down.
    pub delivered: Projection<Delivered>,
}

impl ModelSet for CarrierModels {
    crate::projections![traffic, forks, receipted, delivered];

    fn apply(&mut self, position: u64, fact: &Fact<'_>) {
        self.traffic.fold(position, fact);
        self.forks.fold(position, fact);
        self.receipted.fold(position, fact);
        self.delivered.fold(position, fact);
    }
}
