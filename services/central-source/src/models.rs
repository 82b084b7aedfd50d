//! What the ministry's node knows.

use httt_domain::bulletin::BULLETIN_STREAM;
use httt_domain::models::{Bulletins, Clusters, Deliveries, Drafts, Fact, ReadModel, Reports};
use httt_feed::Digest;
use httt_node::models::{ModelSet, digest_of};
use httt_node::traffic::{Forks, Receipted, Traffic};

use crate::reach::{Admitted, Reach};

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
    /// How far the gateway has receipted own feeds.
    pub receipted: Receipted,
    /// Who may speak of what. Not a model: nobody is shown it, and the models differ when it does.
    reach: Reach,
}

impl CentralModels {
    /// Whether somebody else publishes under the identifier of a bulletin that is written here: the first to publish
    /// one owns it, and that must be its author's node.
    fn is_usurped(&self, fact: &Fact<'_>) -> bool {
        let draft = fact.stream.strip_prefix(BULLETIN_STREAM).and_then(|id| self.drafts.get(id));
        draft.is_some_and(|view| view.origin != fact.origin)
    }
}

impl ModelSet for CentralModels {
    fn apply(&mut self, fact: &Fact<'_>) {
        self.reach.learn(fact);
        // What the feeds carried, whatever it is worth.
        self.traffic.apply(fact);
        self.forks.apply(fact);
        self.receipted.apply(fact);
        let part;
        let fact = match self.reach.admit(fact) {
            Admitted::Whole => *fact,
            Admitted::Part(data) => {
                part = data;
                Fact { data: &part, ..*fact }
            }
            Admitted::Nothing => return,
        };
        if self.is_usurped(&fact) {
            return;
        }
        self.drafts.apply(&fact);
        self.bulletins.apply(&fact);
        self.deliveries.apply(&fact);
        self.clusters.apply(&fact);
        self.reports.apply(&fact);
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
            (Receipted::NAME, digest_of(&self.receipted)),
        ]
    }

    fn receipted(&self) -> Option<&Receipted> {
        Some(&self.receipted)
    }
}
