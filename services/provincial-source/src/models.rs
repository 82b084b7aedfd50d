//! What a province's node knows, folded in one pass over its log.

mod credentials;
mod plays;
mod revisions;
mod versions;

use std::collections::BTreeSet;
use std::sync::Arc;

use httt_domain::bulletin::BULLETIN_STREAM;
use httt_domain::models::{Bulletins, Clusters, Deliveries, Fact, Playback, ReadModel, Reports, Schedules};
use httt_domain::schedule::{DELIVERY_STREAM, SCHEDULE_STREAM};
use httt_feed::{Digest, Lane};
use httt_node::models::{ModelSet, digest_of};
use httt_node::traffic::{Forks, Receipted, Traffic};
use httt_wire::Name as _;
use httt_wire::bulletin::BulletinOffered;

pub use credentials::Credentials;
pub(crate) use credentials::DEVICE_STREAM;
pub use plays::Plays;
pub use revisions::ScheduleRevisions;
pub(crate) use versions::sound_of_text;
pub use versions::{Version, Versions};

/// The province's read models.
#[derive(Debug, Default)]
pub struct ProvinceModels {
    /// Published bulletins.
    pub bulletins: Bulletins,
    /// What they were before they were corrected.
    pub versions: Versions,
    /// How far each came here.
    pub deliveries: Deliveries,
    /// The province's clusters.
    pub clusters: Clusters,
    /// Its communes' schedules.
    pub schedules: Schedules,
    /// What was played, counted.
    pub playback: Playback,
    /// Who started which bulletin.
    pub plays: Plays,
    /// Its communes' reports.
    pub reports: Reports,
    /// Secrets of devices, as digests.
    pub credentials: Credentials,
    /// How often what a commune's clusters are to play has changed.
    pub revisions: ScheduleRevisions,
    /// What each feed carried.
    pub traffic: Traffic,
    /// Feeds that stand still.
    pub forks: Forks,
    /// How far the gateway has receipted own feeds.
    pub receipted: Receipted,
    /// Bulletins in the order in which something happened to them, for reactors that keep their place in it. Not a
    /// model: it follows from the log as the models do, and nobody is shown it.
    changes: Vec<Arc<str>>,
}

fn is_local(fact: &Fact<'_>) -> bool {
    fact.lane == Lane::Local.to_wire()
}

impl ProvinceModels {
    /// The bulletins to which something happened since `cursor`, each once, and where to go on.
    pub(crate) fn changes_since(&self, cursor: usize) -> (BTreeSet<Arc<str>>, usize) {
        let changed = self.changes.get(cursor..).unwrap_or_default();
        (changed.iter().cloned().collect(), self.changes.len())
    }
}

impl ModelSet for ProvinceModels {
    fn apply(&mut self, fact: &Fact<'_>) {
        self.bulletins.apply(fact);
        self.deliveries.apply(fact);
        self.clusters.apply(fact);
        self.schedules.apply(fact);
        self.playback.apply(fact);
        self.reports.apply(fact);
        self.credentials.apply(fact);
        self.traffic.apply(fact);
        self.forks.apply(fact);
        self.receipted.apply(fact);
        // These look at what the models above know by now.
        self.versions.apply(fact, &self.bulletins);
        self.plays.apply(fact, &self.bulletins);
        if let Some(bulletin) = fact.stream.strip_prefix(BULLETIN_STREAM) {
            self.revisions.bulletin_changed(bulletin, &self.schedules);
            self.changes.push(bulletin.into());
        } else if let Some(bulletin) = fact.stream.strip_prefix(DELIVERY_STREAM) {
            if fact.kind == BulletinOffered::full_name() {
                self.revisions.bulletin_changed(bulletin, &self.schedules);
                self.changes.push(bulletin.into());
            }
        } else if let Some(schedule) = fact.stream.strip_prefix(SCHEDULE_STREAM) {
            self.revisions.schedule_changed(schedule, fact, &self.schedules);
        }
    }

    fn digests(&self) -> Vec<(&'static str, Digest)> {
        vec![
            (Bulletins::NAME, digest_of(&self.bulletins)),
            (Versions::NAME, digest_of(&self.versions)),
            (Deliveries::NAME, digest_of(&self.deliveries)),
            (Clusters::NAME, digest_of(&self.clusters)),
            (Schedules::NAME, digest_of(&self.schedules)),
            (Playback::NAME, digest_of(&self.playback)),
            (Plays::NAME, digest_of(&self.plays)),
            (Reports::NAME, digest_of(&self.reports)),
            (Credentials::NAME, digest_of(&self.credentials)),
            (ScheduleRevisions::NAME, digest_of(&self.revisions)),
            (Traffic::NAME, digest_of(&self.traffic)),
            (Forks::NAME, digest_of(&self.forks)),
            (Receipted::NAME, digest_of(&self.receipted)),
        ]
    }

    fn receipted(&self) -> Option<&Receipted> {
        Some(&self.receipted)
    }
}
