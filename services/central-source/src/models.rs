//! What the ministry's node knows.

use httt_domain::models::{Bulletins, Clusters, Deliveries, Drafts, Fact, ReadModel, Reports};
use httt_feed::Digest;
use httt_node::models::{ModelSet, digest_of};
use httt_node::traffic::{Forks, Traffic};

/// The central source's read models, folded in one pass over its log: its own bulletins, and what the provinces' feeds
/// say of them, of their clusters and of their reports.
#[derive(Debug, Default)]
pub struct CentralModels {
    /// Bulletins being written here.
    pub drafts: Drafts,
    /// Bulletins published.
    pub bulletins: Bulletins,
    /// How far each came, by province.
    pub deliveries: Deliveries,
    /// Clusters of the nation.
    pub clusters: Clusters,
    /// Reports of the nation.
    pub reports: Reports,
    /// What each feed carried.
    pub traffic: Traffic,
    /// Feeds that stand still.
    pub forks: Forks,
}

impl ModelSet for CentralModels {
    fn apply(&mut self, fact: &Fact<'_>) {
        self.drafts.apply(fact);
        self.bulletins.apply(fact);
        self.deliveries.apply(fact);
        self.clusters.apply(fact);
        self.reports.apply(fact);
        self.traffic.apply(fact);
        self.forks.apply(fact);
    }

    fn digests(&self) -> Vec<(&'static str, Digest)> {
        vec![
            (Drafts::NAME, digest_of(&self.drafts)),
            (Bulletins::NAME, digest_of(&self.bulletins)),
            (Deliveries::NAME, digest_of(&self.deliveries)),
            (Clusters::NAME, digest_of(&self.clusters)),
            (Reports::NAME, digest_of(&self.reports)),
            (Traffic::NAME, digest_of(&self.traffic)),
            (Forks::NAME, digest_of(&self.forks)),
        ]
    }
}
