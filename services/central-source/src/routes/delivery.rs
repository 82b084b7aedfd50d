//! How far a bulletin has come, province by province.

use axum::Json as Answer;
use axum::extract::State;
use httt_domain::bulletin::Stage;
use httt_domain::models::{DraftView, HistoryEntry, NodeProgress};
use httt_feed::MemberKind;
use httt_node::http::ApiError;
use serde::Serialize;
use utoipa::ToSchema;

use super::Central;
use super::bulletins::no_such_bulletin;
use super::shapes::StageShape;
use crate::extract::Path;
use crate::scope::{AreaName, Reader, areas};

/// A bulletin's delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryAnswer {
    bulletin: String,
    title: String,
    #[schema(value_type = StageShape)]
    stage: Stage,
    /// Last published version; 0 before the first.
    published_version: u32,
    /// When the first published version was approved, Unix ms: latencies count from here.
    approved_at_ms: Option<i64>,
    /// When that version was published, Unix ms.
    published_at_ms: Option<i64>,
    /// When it was withdrawn, Unix ms.
    withdrawn_at_ms: Option<i64>,
    totals: DeliveryTotals,
    /// Every province of the exchange that the account may see, by agency code.
    provinces: Vec<ProvinceDelivery>,
}

/// The provinces listed, added up.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct DeliveryTotals {
    /// Provinces listed.
    provinces: u64,
    /// Of them, those with communes it is meant for.
    targeted: u64,
    /// Provinces that have it on disk.
    received: u64,
    /// Communes it is meant for.
    communes: u64,
    /// Communes it was offered to.
    offered: u64,
    /// Communes that scheduled it at some time; taking it out of a schedule again is the commune's own affair.
    scheduled: u64,
    /// Clusters that played it.
    played: u64,
    /// The longest latency so far, ms.
    slowest_ms: Option<i64>,
}

/// What one province says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProvinceDelivery {
    /// Agency code, `H24`.
    code: String,
    /// The agency's name.
    name: String,
    area: AreaName,
    /// Communes of the province it is meant for; 0 when the province is not targeted.
    communes: u64,
    /// When the province first had it on disk, Unix ms by its own clock.
    received_at_ms: Option<i64>,
    /// From approval to that moment, ms; clocks differ, so it can be a little below zero.
    latency_ms: Option<i64>,
    /// Whether it confirmed the version published last.
    has_latest: bool,
    /// Communes it was offered to.
    offered: u64,
    /// Communes that scheduled it at some time; taking it out of a schedule again is the commune's own affair.
    scheduled: u64,
    /// Clusters that played it.
    played: u64,
}

#[utoipa::path(
    get, path = "/api/v1/bulletins/{id}/delivery", tag = "bulletins", operation_id = "delivery_read",
    summary = "Tình hình phân phối bản tin theo từng tỉnh",
    description = "Which provinces have a bulletin, since when, and how far it came in each.",
    params(("id" = String, Path)),
    responses((status = 200, description = "The delivery", body = DeliveryAnswer)),
)]
pub(crate) async fn read(
    State(central): State<Central>,
    reader: Reader,
    Path(id): Path<String>,
) -> Result<Answer<DeliveryAnswer>, ApiError> {
    let found = central.desk.models.read(|models| {
        let view = models.drafts.get(&id).and_then(|view| reader.bulletin(models, view))?;
        let published = models.bulletins.get(&id).cloned();
        let nodes = models.deliveries.progress(&id).nodes;
        let confirmed: Vec<u64> = nodes
            .iter()
            .map(|node| models.deliveries.get(&id, &node.origin).map_or(0, |delivery| delivery.sequence))
            .collect();
        Some((view.into_owned(), published, nodes.into_iter().zip(confirmed).collect::<Vec<_>>()))
    });
    let (view, published, nodes) = found.ok_or_else(no_such_bulletin)?;
    // What is out counts; before that, what would be.
    let content = published.as_ref().map_or(&view.draft.content, |published| &published.content);
    let (approved_at_ms, published_at_ms) = first_publication(&view);
    let mut totals = DeliveryTotals::default();
    let mut provinces = Vec::new();
    let directory = central.desk.node.directory.get();
    for member in directory.members().filter(|member| member.kind == MemberKind::Province && reader.sees(&member.area))
    {
        let said = nodes.iter().find(|(node, _)| node.origin == member.code.as_str());
        let progress = said.map_or_else(|| silent(member.code.as_str()), |(node, _)| node.clone());
        let received_at_ms = (progress.durable_at_ms != 0).then_some(progress.durable_at_ms);
        let latest = published.as_ref().map(|published| published.sequence);
        let row = ProvinceDelivery {
            code: member.code.to_string(),
            name: member.name.clone(),
            area: AreaName::of(&member.area),
            communes: content.communes_within(areas(), &member.area).len() as u64,
            received_at_ms,
            latency_ms: received_at_ms.zip(approved_at_ms).map(|(received, approved)| received - approved),
            has_latest: said.zip(latest).is_some_and(|((_, confirmed), latest)| *confirmed >= latest),
            offered: progress.offered,
            scheduled: progress.scheduled,
            played: progress.played,
        };
        totals.add(&row);
        provinces.push(row);
    }
    Ok(Answer(DeliveryAnswer {
        bulletin: id,
        title: content.shown_title(),
        stage: view.draft.stage,
        published_version: view.draft.published_version,
        approved_at_ms,
        published_at_ms,
        withdrawn_at_ms: published.and_then(|published| published.withdrawn).map(|withdrawn| withdrawn.at_ms),
        totals,
        provinces,
    }))
}

impl DeliveryTotals {
    fn add(&mut self, row: &ProvinceDelivery) {
        self.provinces += 1;
        self.targeted += u64::from(row.communes > 0);
        self.received += u64::from(row.received_at_ms.is_some());
        self.communes += row.communes;
        self.offered += row.offered;
        self.scheduled += row.scheduled;
        self.played += row.played;
        self.slowest_ms = self.slowest_ms.max(row.latency_ms);
    }
}

fn silent(origin: &str) -> NodeProgress {
    NodeProgress { origin: origin.to_owned(), durable_at_ms: 0, offered: 0, scheduled: 0, played: 0 }
}

/// When the first version was approved and published. Provinces report when they first had the bulletin, so later
/// corrections have no part in a latency.
fn first_publication(view: &DraftView) -> (Option<i64>, Option<i64>) {
    let is = |entry: &&HistoryEntry, what: &str| entry.what == what;
    let Some(at) = view.history.iter().position(|entry| is(&entry, "published")) else { return (None, None) };
    let approved = view.history[..at].iter().rev().find(|entry| is(entry, "approved"));
    (approved.map(|entry| entry.at_ms), Some(view.history[at].at_ms))
}
