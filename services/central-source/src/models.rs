//! What the ministry's node knows.

use httt_domain::bulletin::BULLETIN_STREAM;
use httt_domain::models::{Bulletins, Clusters, Deliveries, Drafts, Fact, Reports};
use httt_node::models::{ModelSet, Projection};
use httt_node::projections;
use httt_node::traffic::{Forks, Receipted, Traffic};

use crate::reach::{Admitted, Reach};

/// The central source's read models, folded in one pass over its log: its own bulletins, and what the provinces' feeds
/// say of them, of their clusters and of their reports.
#[derive(Debug, Default)]
pub struct CentralModels {
    /// Bulletins being written here.
    pub drafts: Projection<Drafts>,
    /// Bulletins published.
    pub bulletins: Projection<Bulletins>,
    /// How far each came, by province.
    pub deliveries: Projection<Deliveries>,
    /// Clusters of the nation.
    pub clusters: Projection<Clusters>,
    /// Reports of the nation.
    pub reports: Projection<Reports>,
    /// What each feed carried.
    pub traffic: Projection<Traffic>,
    /// Feeds that stand still.
    pub forks: Projection<Forks>,
    /// How far the gateway has receipted own feeds.
    pub receipted: Projection<Receipted>,
    /// Who may speak of what.
    reach: Projection<Reach>,
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
    const NEEDS: &'static [(&'static str, &'static [&'static str])] = &[
        ("drafts", &["reach"]),
        ("bulletins", &["reach", "drafts"]),
        ("deliveries", &["reach", "drafts"]),
        ("clusters", &["reach", "drafts"]),
        ("reports", &["reach", "drafts"]),
    ];

    projections![reach, drafts, bulletins, deliveries, clusters, reports, traffic, forks, receipted];

    fn apply(&mut self, position: u64, fact: &Fact<'_>) {
        self.reach.fold(position, fact);
        // What the feeds carried, whatever it is worth.
        self.traffic.fold(position, fact);
        self.forks.fold(position, fact);
        self.receipted.fold(position, fact);
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
        self.drafts.fold(position, &fact);
        self.bulletins.fold(position, &fact);
        self.deliveries.fold(position, &fact);
        self.clusters.fold(position, &fact);
        self.reports.fold(position, &fact);
    }

    fn receipted(&self) -> Option<&Receipted> {
        Some(&self.receipted)
    }
}
