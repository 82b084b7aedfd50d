//! How far the members have read what this node carries: kept in memory by the exchange, written down now and then, shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json as Answer, Router};
use futures_util::FutureExt as _;
use httt_domain::accounts::Action;
use httt_domain::models::{Fact, Model, ReadModel};
use httt_exchange::{Deliveries, ReaderState, Store};
use httt_feed::{AgencyCode, Audience, Directory, FeedId, Lane, Member};
use httt_log::NewEvent;
use httt_wire::directory::DeliverySeen;
use serde::{Deserialize, Serialize};

use crate::accounts::Principal;
use crate::clock;
use crate::desk::actor;
use crate::http::ApiError;
use crate::metrics::{Kind, Metrics};
use crate::shutdown::Shutdown;

/// Rows in one answer.
const MAX_ROWS: usize = 10_000;

/// What was written down of how far readers have read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Delivered {
    readers: BTreeMap<String, ReaderSeen>,
}

/// One reader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaderSeen {
    /// When it last called, Unix ms.
    pub seen_at_ms: i64,
    /// By feed, the last sequence it holds.
    pub feeds: BTreeMap<String, u64>,
}

impl Delivered {
    /// Readers by agency code.
    pub fn readers(&self) -> &BTreeMap<String, ReaderSeen> {
        &self.readers
    }

    /// Brings what was written down to where the exchange keeps it.
    pub fn restore(&self, deliveries: &Deliveries) {
        for (reader, seen) in &self.readers {
            let Ok(reader) = AgencyCode::new(reader) else { continue };
            let feeds = seen.feeds.iter().filter_map(|(feed, sequence)| Some((feed.parse().ok()?, *sequence)));
            deliveries.restore(reader, ReaderState { seen_at_ms: seen.seen_at_ms, feeds: feeds.collect() });
        }
    }
}

impl Model for Delivered {
    const NAME: &'static str = "deliveries";
    const OWN_WORDS_ONLY: bool = true;
}

impl ReadModel for Delivered {
    fn apply(&mut self, fact: &Fact<'_>) {
        // Only what this node itself noted: its local lane is the only one it holds.
        if Lane::from_wire(fact.lane) == Some(Lane::Local)
            && let Some(seen) = fact.read::<DeliverySeen>()
        {
            let reader = self.readers.entry(seen.reader).or_default();
            reader.seen_at_ms = seen.seen_at_ms;
            reader.feeds.extend(seen.feeds.into_iter().map(|read| (read.feed, read.sequence)));
        }
    }
}

/// Writes down what changed, at most every `every`, and once more at the end, until `shutdown`.
pub fn keep(deliveries: &Deliveries, store: &Arc<dyn Store>, every: Duration, shutdown: &Shutdown) {
    let (deliveries, store, mut stop) = (deliveries.clone(), Arc::clone(store), Box::pin(shutdown.cancelled()));
    shutdown.spawn("deliveries", async move {
        loop {
            let stopping = tokio::time::timeout(every, &mut stop).await.is_ok();
            write_down(&deliveries, store.as_ref()).await;
            if stopping {
                return Ok::<_, std::convert::Infallible>(());
            }
        }
    });
}

async fn write_down(deliveries: &Deliveries, store: &dyn Store) {
    let events = deliveries.untold();
    if events.is_empty() {
        return;
    }
    let own = Audience::One(store.origin().clone());
    let new = events.iter().map(|event| NewEvent::of(own.clone(), Lane::Local, "delivery", event));
    match store.say(new.map(|event| event.with_actor("exchange")).collect()).await {
        Ok(()) => deliveries.told(&events),
        // Told again next time.
        Err(error) => tracing::warn!(%error, "how far readers have read cannot be written down"),
    }
}

/// How far one member has read one feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeliveryAnswer {
    /// The member that is to have it.
    pub reader: String,
    /// Who reads it for that member, if it does not do so itself.
    pub through: Option<String>,
    /// `TW→*/content`
    pub feed: String,
    /// The last sequence it holds: it said so, or was given it and has not asked again.
    pub held: u64,
    /// The last sequence there is.
    pub head: u64,
    /// Batches it lacks.
    pub lag_entries: u64,
    /// Age of the oldest batch it lacks, ms; 0 when it lacks none, absent where that is not known.
    pub lag_ms: Option<i64>,
    /// When it, or who reads for it, last called, Unix ms; 0: never.
    pub seen_at_ms: i64,
    /// It is suspended, and so cannot read.
    pub suspended: bool,
}

/// Which rows are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryQuery {
    /// Of this member.
    #[serde(default)]
    pub reader: Option<String>,
    /// Of this feed.
    #[serde(default)]
    pub feed: Option<String>,
}

/// Rows, and whether there were too many of them.
#[derive(Debug, Serialize)]
pub struct DeliveriesAnswer {
    /// By feed and reader.
    pub deliveries: Vec<DeliveryAnswer>,
    /// Rows were left out: ask by reader or feed.
    pub more: bool,
}

/// Looks at how far members have read. Cheap to clone.
#[derive(Clone)]
pub struct DeliveryView {
    deliveries: Deliveries,
    store: Arc<dyn Store>,
    directory: httt_exchange::SharedDirectory,
}

impl DeliveryView {
    /// Looks at `deliveries` of what `store` holds.
    pub fn new(deliveries: Deliveries, store: Arc<dyn Store>, directory: httt_exchange::SharedDirectory) -> Self {
        Self { deliveries, store, directory }
    }

    /// `GET /api/v1/deliveries`, for whoever may read the audit trail.
    pub fn routes(&self) -> Router {
        Router::new().route("/api/v1/deliveries", get(deliveries)).with_state(self.clone())
    }

    /// Lag and last calls of each member, and of what lanes.
    pub fn tell(&self, metrics: &Metrics) {
        let view = self.clone();
        metrics.add(move |page| {
            let now_ms = clock::system()();
            let mut lanes: BTreeMap<[String; 2], (u64, i64)> = BTreeMap::new();
            let mut seen: BTreeMap<String, i64> = BTreeMap::new();
            for (feed, row) in view.rows(&DeliveryQuery::default(), now_ms) {
                let lag = lanes.entry([row.reader.clone(), feed.lane.to_string()]).or_default();
                *lag = (lag.0 + row.lag_entries, lag.1.max(row.lag_ms.unwrap_or(0)));
                let at = seen.entry(row.reader).or_default();
                *at = row.seen_at_ms.max(*at);
            }
            let (labels, gauge) = (["reader", "lane"], Kind::Gauge);
            let entries = lanes.iter().map(|(labels, (entries, _))| (labels.clone(), *entries as f64));
            page.metric(("httt_delivery_lag_entries", gauge), "Batches that a reader lacks.", labels, entries);
            let ages = lanes.iter().map(|(labels, (_, age_ms))| (labels.clone(), *age_ms as f64 / 1_000.0));
            let help = "Age of the oldest batch that a reader lacks.";
            page.metric(("httt_delivery_lag_seconds", gauge), help, labels, ages);
            let seen = seen.into_iter().filter(|(_, at_ms)| *at_ms > 0);
            let seen = seen.map(|(reader, at_ms)| ([reader], at_ms as f64 / 1_000.0));
            let help = "When a reader last called, Unix time.";
            page.metric(("httt_reader_seen_timestamp_seconds", gauge), help, ["reader"], seen);
        });
    }

    /// What each member holds of each feed that is for it, or that it has read.
    fn rows(&self, query: &DeliveryQuery, now_ms: i64) -> impl Iterator<Item = (FeedId, DeliveryAnswer)> {
        let (readers, directory) = (self.deliveries.readers(), self.directory.get());
        let mut heads = self.store.heads(0);
        heads.retain(|head| {
            let asked = query.feed.as_ref().is_none_or(|feed| *feed == head.feed.to_string());
            asked && head.feed.lane != Lane::Local
        });
        heads.sort_by(|a, b| a.feed.cmp(&b.feed));
        let (store, reader) = (Arc::clone(&self.store), query.reader.clone());
        heads.into_iter().flat_map(move |head| {
            let feed = head.feed;
            let members = directory.members().filter(|member| {
                member.code != *store.origin() && reader.as_ref().is_none_or(|reader| reader == member.code.as_str())
            });
            let rows = members.filter_map(|member| {
                let held = Held::of(&directory, &readers, member, &feed)?;
                let lag_entries = head.head.sequence.saturating_sub(held.sequence);
                let lag_ms = match lag_entries {
                    0 => Some(0),
                    // A store that must wait for the answer is not waited for.
                    _ => store
                        .taken_ms(&feed, held.sequence + 1)
                        .now_or_never()
                        .and_then(Result::ok)
                        .flatten()
                        .map(|at_ms| (now_ms - at_ms).max(0)),
                };
                Some(DeliveryAnswer {
                    reader: member.code.to_string(),
                    through: held.through.map(ToString::to_string),
                    feed: feed.to_string(),
                    held: held.sequence,
                    head: head.head.sequence,
                    lag_entries,
                    lag_ms,
                    seen_at_ms: held.seen_at_ms,
                    suspended: member.suspended.is_some(),
                })
            });
            rows.map(|row| (feed.clone(), row)).collect::<Vec<_>>()
        })
    }
}

/// What one member holds of one feed, itself or by a carrier.
struct Held<'a> {
    sequence: u64,
    through: Option<&'a AgencyCode>,
    seen_at_ms: i64,
}

impl<'a> Held<'a> {
    /// `None`: the feed is neither for this member nor has it read it.
    fn of(
        directory: &Directory,
        readers: &BTreeMap<AgencyCode, ReaderState>,
        member: &'a Member,
        feed: &FeedId,
    ) -> Option<Self> {
        let of = |reader: &AgencyCode| {
            let state = readers.get(reader)?;
            Some((state.feeds.get(feed).copied(), state.seen_at_ms))
        };
        let (own, seen_at_ms) = of(&member.code).unwrap_or_default();
        let is_for = match &feed.audience {
            Audience::All => member.code != feed.origin,
            Audience::One(audience) => *audience == member.code,
        };
        // What a carrier holds is on its way to those it carries for, if they may read it.
        let carried = member.carriers().filter(|_| is_for && directory.may_read(&member.code, feed).is_ok());
        let carried = carried.filter_map(|carrier| of(carrier).map(|(held, seen)| (held, carrier, seen)));
        let best = carried.max_by_key(|(held, _, seen)| (*held, *seen));
        match best {
            Some((held, carrier, seen_at_ms)) if held > own => {
                Some(Self { sequence: held.unwrap_or(0), through: Some(carrier), seen_at_ms })
            }
            _ if is_for || own.is_some() => Some(Self { sequence: own.unwrap_or(0), through: None, seen_at_ms }),
            _ => None,
        }
    }
}

async fn deliveries(
    State(view): State<DeliveryView>,
    principal: Principal,
    Query(query): Query<DeliveryQuery>,
) -> Result<Answer<DeliveriesAnswer>, ApiError> {
    actor(&principal, Action::ReadAudit)?;
    let mut rows = view.rows(&query, clock::system()()).map(|(_, row)| row);
    let deliveries: Vec<_> = rows.by_ref().take(MAX_ROWS).collect();
    Ok(Answer(DeliveriesAnswer { deliveries, more: rows.next().is_some() }))
}

#[cfg(test)]
mod tests;
