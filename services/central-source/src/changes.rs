//! What changed since a moment ago, for pages that are open.
//!
//! One task reads each new stretch of the log once and tells all listeners; a listener that falls behind, or a stretch
//! too long to name everything in it, is told to load anew instead.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use httt_domain::bulletin::{BULLETIN_STREAM, DRAFT_STREAM};
use httt_domain::cluster::CLUSTERS_STREAM;
use httt_domain::schedule::DELIVERY_STREAM;
use httt_log::{Log, ReadError};
use httt_node::models::{Models, for_each_fact};
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use utoipa::ToSchema;

use crate::models::CentralModels;

/// Least time between two changes told.
const TELL_PAUSE: Duration = Duration::from_millis(250);
/// Changes a slow listener may fall behind.
const BACKLOG: usize = 16;
/// Most entries looked into for one change.
const MAX_ENTRIES: usize = 512;
/// Most bytes of them.
const MAX_BYTES: usize = 4 << 20;
/// Most names in each list of a change.
const MAX_NAMES: usize = 200;

const REPORT_STREAMS: [&str; 2] = ["report/", "summary/"];

/// What moved between the last change told and `position`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Change {
    /// Entries of the log that the read models have folded.
    pub(crate) position: u64,
    /// Not everything is named: load anew whatever is shown. Set in the first event of every stream too.
    pub(crate) reload: bool,
    /// Bulletins whose draft or publication changed.
    pub(crate) bulletins: Vec<String>,
    /// Bulletins whose delivery changed.
    pub(crate) deliveries: Vec<String>,
    /// Form and period of which reports or summaries came, as `commune-station/2026-Q3`.
    pub(crate) reports: Vec<String>,
    /// Whether clusters were registered or changed their status.
    pub(crate) clusters: bool,
}

impl Change {
    /// That everything may have changed.
    pub(crate) fn everything(position: u64) -> Self {
        Self { position, reload: true, ..Self::default() }
    }
}

/// Where changes are told. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Changes(broadcast::Sender<Arc<Change>>);

/// The read models stand still although the log goes on.
#[derive(Debug, thiserror::Error)]
#[error("the read models no longer follow the log")]
pub(crate) struct ModelsEnded;

impl Changes {
    pub(crate) fn new() -> Self {
        Self(broadcast::Sender::new(BACKLOG))
    }

    /// Hears every change from now on.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Arc<Change>> {
        self.0.subscribe()
    }

    /// Tells changes until `stop` turns true.
    ///
    /// # Errors
    /// The models ended before that.
    pub(crate) async fn tell(
        self,
        models: Models<CentralModels>,
        log: Log,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), ModelsEnded> {
        tokio::select! {
            ended = self.tell_for_ever(models, log) => Err(ended),
            _ = stop.wait_for(|stop| *stop) => Ok(()),
        }
    }

    async fn tell_for_ever(&self, models: Models<CentralModels>, log: Log) -> ModelsEnded {
        let mut positions = models.watch();
        let mut told = *positions.borrow_and_update();
        loop {
            if positions.changed().await.is_err() {
                return ModelsEnded;
            }
            let position = *positions.borrow_and_update();
            if self.0.receiver_count() > 0 {
                let change = look(&log, told, position).await.unwrap_or_else(|error| {
                    tracing::warn!(%error, "what changed cannot be read");
                    Change::everything(position)
                });
                // Nobody left to hear it is no failure.
                let _ = self.0.send(Arc::new(change));
            }
            told = position;
            tokio::time::sleep(TELL_PAUSE).await;
        }
    }
}

async fn look(log: &Log, from: u64, to: u64) -> Result<Change, ReadError> {
    let log = log.clone();
    tokio::task::spawn_blocking(move || {
        let entries = log.read(from, MAX_ENTRIES, MAX_BYTES)?;
        let mut names = Names::default();
        let mut reached = from;
        for entry in entries.iter().take_while(|entry| entry.position < to) {
            for_each_fact(entry, |fact| names.take(fact.stream));
            reached = entry.position + 1;
        }
        Ok(if reached < to || names.too_many() { Change::everything(to) } else { names.into_change(to) })
    })
    .await
    .unwrap_or(Err(ReadError::Closed))
}

#[derive(Default)]
struct Names {
    bulletins: BTreeSet<String>,
    deliveries: BTreeSet<String>,
    reports: BTreeSet<String>,
    clusters: bool,
}

impl Names {
    fn take(&mut self, stream: &str) {
        let rest = |prefix: &str| stream.strip_prefix(prefix);
        if let Some(id) = rest(DELIVERY_STREAM) {
            self.deliveries.insert(id.to_owned());
        } else if let Some(id) = rest(DRAFT_STREAM).or_else(|| rest(BULLETIN_STREAM)) {
            self.bulletins.insert(id.to_owned());
        } else if let Some(report) = REPORT_STREAMS.into_iter().find_map(rest) {
            let sheet: Vec<&str> = report.splitn(3, '/').take(2).collect();
            self.reports.insert(sheet.join("/"));
        } else if stream == CLUSTERS_STREAM {
            self.clusters = true;
        }
    }

    fn too_many(&self) -> bool {
        [&self.bulletins, &self.deliveries, &self.reports].into_iter().any(|names| names.len() > MAX_NAMES)
    }

    fn into_change(self, position: u64) -> Change {
        let list = |names: BTreeSet<String>| names.into_iter().collect();
        Change {
            position,
            reload: false,
            bulletins: list(self.bulletins),
            deliveries: list(self.deliveries),
            reports: list(self.reports),
            clusters: self.clusters,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_by_what_pages_show() {
        let mut names = Names::default();
        for stream in
            ["delivery/a", "delivery/a", "draft/b", "bulletin/b", "report/f/2026-Q3/10525", "summary/f/2026-Q3", "log"]
        {
            names.take(stream);
        }
        assert!(!names.clusters);
        names.take(CLUSTERS_STREAM);
        let change = names.into_change(7);
        assert_eq!((change.position, change.reload, change.clusters), (7, false, true));
        assert_eq!((change.deliveries, change.bulletins), (vec!["a".to_owned()], vec!["b".to_owned()]));
        assert_eq!(change.reports, ["f/2026-Q3"]);
    }
}
