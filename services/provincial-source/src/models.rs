//! What a province's node knows, folded in one pass over its log.

mod changes;
mod credentials;
mod plays;
mod revisions;
mod versions;

use httt_domain::bulletin::BULLETIN_STREAM;
use httt_domain::models::{Bulletins, Clusters, Deliveries, Fact, Playback, Reports, Schedules};
use httt_domain::schedule::DELIVERY_STREAM;
use httt_feed::Lane;
use httt_node::models::{ModelSet, Projection};
use httt_node::projections;
use httt_node::traffic::{Forks, Receipted, Traffic};
use httt_wire::bulletin::BulletinOffered;

pub use changes::Changes;
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
    pub bulletins: Projection<Bulletins>,
    /// What they were before they were corrected.
    pub versions: Projection<Versions>,
    /// How far each came here.
    pub deliveries: Projection<Deliveries>,
    /// The province's clusters.
    pub clusters: Projection<Clusters>,
    /// Its communes' schedules.
    pub schedules: Projection<Schedules>,
    /// What was played, counted.
    pub playback: Projection<Playback>,
    /// Who started which bulletin.
    pub plays: Projection<Plays>,
    /// Its communes' reports.
    pub reports: Projection<Reports>,
    /// Secrets of devices, as digests.
    pub credentials: Projection<Credentials>,
    /// How often what a commune's clusters are to play has changed.
    pub revisions: Projection<ScheduleRevisions>,
    /// What each feed carried.
    pub traffic: Projection<Traffic>,
    /// Feeds that stand still.
    pub forks: Projection<Forks>,
    /// How far the gateway has receipted own feeds.
    pub receipted: Projection<Receipted>,
    /// Bulletins in the order in which something happened to them.
    pub changes: Projection<Changes>,
}

fn is_local(fact: &Fact<'_>) -> bool {
    fact.lane == Lane::Local.to_wire()
}

impl ModelSet for ProvinceModels {
    const NEEDS: &'static [(&'static str, &'static [&'static str])] =
        &[("versions", &["bulletins"]), ("plays", &["bulletins"]), ("schedule-revisions", &["schedules"])];

    projections![
        bulletins,
        deliveries,
        clusters,
        schedules,
        playback,
        reports,
        credentials,
        traffic,
        forks,
        receipted,
        versions,
        plays,
        revisions,
        changes,
    ];

    fn apply(&mut self, position: u64, fact: &Fact<'_>) {
        self.bulletins.fold(position, fact);
        self.deliveries.fold(position, fact);
        self.clusters.fold(position, fact);
        self.schedules.fold(position, fact);
        self.playback.fold(position, fact);
        self.reports.fold(position, fact);
        self.credentials.fold(position, fact);
        self.traffic.fold(position, fact);
        self.forks.fold(position, fact);
        self.receipted.fold(position, fact);
        // These look at what the models above know by now.
        self.versions.fold_with(position, |versions| versions.apply(fact, &self.bulletins));
        self.plays.fold_with(position, |plays| plays.apply(fact, &self.bulletins));
        self.revisions.fold_with(position, |revisions| revisions.apply(fact, &self.schedules));
        self.changes.fold(position, fact);
    }

    fn receipted(&self) -> Option<&Receipted> {
        Some(&self.receipted)
    }
}

/// The bulletin that a fact is about, if what clusters are to play may change with it: published, corrected, withdrawn,
/// or its file arrived.
fn changed_bulletin<'a>(fact: &Fact<'a>) -> Option<&'a str> {
    let offered = || fact.stream.strip_prefix(DELIVERY_STREAM).filter(|_| fact.is::<BulletinOffered>());
    fact.stream.strip_prefix(BULLETIN_STREAM).or_else(offered)
}
