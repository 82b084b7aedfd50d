//! Bulletins that are for this province, and what became of them here.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::{Path, State};
use httt_domain::accounts::Action;
use httt_domain::bulletin::Content;
use httt_domain::models::{PlayCount, PublishedBulletin, Withdrawal};
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::{ApiError, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Params, area_asked, not_found, page};
use crate::models::ProvinceModels;
use crate::province::{Inner, Province, media_of};

/// One line of the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulletinRow {
    bulletin: String,
    publisher: String,
    version: u32,
    /// As it is shown: a drill says so first.
    title: String,
    /// `ordinary`, `priority` or `emergency`.
    #[schema(value_type = String)]
    priority: httt_domain::bulletin::Priority,
    /// `text`, `image`, `audio`, `video`, `live` or `fm_relay`.
    #[schema(value_type = String)]
    kind: httt_domain::bulletin::Kind,
    drill: bool,
    /// Unix ms by the publisher's clock.
    published_at_ms: i64,
    changed_at_ms: i64,
    /// 0: no end.
    valid_until_ms: i64,
    /// `{reason, at_ms}`, or null.
    #[schema(value_type = Option<Object>)]
    withdrawn: Option<Withdrawal>,
    /// When it was on disk here, Unix ms; 0: the receipt is being written.
    received_at_ms: i64,
    /// Communes it was offered to.
    offered: u64,
    /// Communes that scheduled it.
    scheduled: u64,
    /// Clusters that started it.
    played: u64,
}

/// A page of the list, the latest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulletinPage {
    bulletins: Vec<BulletinRow>,
    /// Pass as `offset` for the next page; null at the end.
    next: Option<usize>,
}

/// One bulletin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BulletinAnswer {
    #[serde(flatten)]
    row: BulletinRow,
    /// Everything it says, as the ministry's API has it.
    #[schema(value_type = Object)]
    content: Content,
    /// Account of the author, at the publisher.
    author: String,
    /// Account of the approver, at the publisher.
    approver: String,
    /// Whether its file is here; true when it has none.
    media_held: bool,
    /// The communes it is for, by code.
    communes: Vec<CommuneRow>,
}

/// One bulletin in one commune.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommuneRow {
    commune: String,
    name: String,
    offered: bool,
    scheduled: bool,
    /// Clusters registered.
    clusters: u64,
    /// Clusters that started it.
    clusters_played: u64,
    /// Times it was started.
    plays: u64,
}

/// `?area=&offset=&limit=`
#[derive(Debug, Deserialize)]
pub(crate) struct ListParams {
    area: Option<String>,
    offset: Option<usize>,
    limit: Option<usize>,
}

/// `?area=`
#[derive(Debug, Deserialize)]
pub(crate) struct AreaParams {
    area: Option<String>,
}

/// An area as its account sees it: what lies elsewhere is neither shown nor counted.
struct Sight<'a> {
    province: &'a Inner,
    models: &'a ProvinceModels,
    area: &'a str,
    /// The clusters there; none for the whole province, which needs no looking at each.
    clusters: Option<Vec<u32>>,
}

impl<'a> Sight<'a> {
    fn new(province: &'a Inner, models: &'a ProvinceModels, area: &'a str) -> Self {
        let here = || {
            let all = models.clusters.register(province.own()).into_iter().flat_map(|register| register.iter());
            all.filter(|(_, cluster)| province.areas.covers(area, &cluster.commune)).map(|(ordinal, _)| ordinal)
        };
        let clusters = (area != province.home).then(|| here().collect());
        Self { province, models, area, clusters }
    }

    fn covers(&self, commune: &str) -> bool {
        self.province.areas.covers(self.area, commune)
    }

    /// Whether a bulletin is for anybody there.
    fn concerns(&self, bulletin: &PublishedBulletin) -> bool {
        self.province.concerns(bulletin)
            && (self.clusters.is_none() || self.province.is_for(&bulletin.content, self.area))
    }

    /// Clusters there that started a bulletin.
    fn played(&self, bulletin: &str) -> u64 {
        let plays = &self.models.plays;
        match &self.clusters {
            None => plays.clusters(bulletin).count() as u64,
            Some(here) => here.iter().filter(|ordinal| plays.has_ever_played(bulletin, **ordinal)).count() as u64,
        }
    }

    fn row(&self, bulletin: &PublishedBulletin) -> BulletinRow {
        let delivery = self.models.deliveries.get(&bulletin.bulletin, self.province.own());
        let content = &bulletin.content;
        let told = delivery.map(|delivery| &delivery.scheduled);
        let scheduled = scheduled(self.models, &bulletin.bulletin, told);
        let offered = delivery.into_iter().flat_map(|delivery| &delivery.offered);
        BulletinRow {
            bulletin: bulletin.bulletin.clone(),
            publisher: bulletin.publisher.clone(),
            version: bulletin.version,
            title: content.shown_title(),
            priority: content.priority,
            kind: content.kind,
            drill: content.drill,
            published_at_ms: bulletin.published_at_ms,
            changed_at_ms: bulletin.changed_at_ms,
            valid_until_ms: content.valid_until_ms,
            withdrawn: bulletin.withdrawn.clone(),
            received_at_ms: delivery.map_or(0, |delivery| delivery.durable_at_ms),
            offered: offered.filter(|commune| self.covers(commune)).count() as u64,
            scheduled: scheduled.into_iter().filter(|commune| self.covers(commune)).count() as u64,
            played: self.played(&bulletin.bulletin),
        }
    }
}

/// `GET /api/v1/bulletins?area=&offset=&limit=`
pub(crate) async fn list(
    State(province): State<Province>,
    principal: Principal,
    Params(params): Params<ListParams>,
) -> Result<Json<BulletinPage>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let area = area_asked(&province, &actor, params.area)?;
    let (offset, limit) = page(params.offset, params.limit);
    let mut bulletins: Vec<BulletinRow> = province.desk.models.read(|models| {
        let sight = Sight::new(&province, models, &area);
        let latest = models.bulletins.latest().into_iter().filter(|bulletin| sight.concerns(bulletin));
        latest.skip(offset).take(limit + 1).map(|bulletin| sight.row(bulletin)).collect()
    });
    let next = (bulletins.len() > limit).then_some(offset + limit);
    bulletins.truncate(limit);
    Ok(Json(BulletinPage { bulletins, next }))
}

/// The communes that have a bulletin in a schedule now, and those of which its publisher was told.
fn scheduled<'a>(models: &'a ProvinceModels, id: &str, told: Option<&'a BTreeSet<String>>) -> BTreeSet<&'a str> {
    let mut communes: BTreeSet<&str> = told.into_iter().flatten().map(String::as_str).collect();
    let now = models
        .schedules
        .iter()
        .map(|view| &view.schedule)
        .filter(|schedule| !schedule.cancelled && schedule.bulletins.iter().any(|item| item.bulletin == id));
    communes.extend(now.map(|schedule| schedule.commune.as_str()));
    communes
}

/// `GET /api/v1/bulletins/{bulletin}?area=`
pub(crate) async fn show(
    State(province): State<Province>,
    principal: Principal,
    Path(id): Path<String>,
    Params(params): Params<AreaParams>,
) -> Result<Json<BulletinAnswer>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let area = area_asked(&province, &actor, params.area)?;
    let found = province.desk.models.read(|models| {
        let sight = Sight::new(&province, models, &area);
        let bulletin = models.bulletins.get(&id).filter(|bulletin| sight.concerns(bulletin))?;
        Some(BulletinAnswer {
            row: sight.row(bulletin),
            content: bulletin.content.clone(),
            author: bulletin.author.clone(),
            approver: bulletin.approver.clone(),
            media_held: false,
            communes: communes(&province, models, bulletin, &area),
        })
    });
    let mut answer = found.ok_or_else(|| not_found("bulletin", "Bản tin", "Bulletin", &id))?;
    answer.media_held = province.shelf.holds(media_of(&answer.content)).await;
    Ok(Json(answer))
}

fn communes(province: &Inner, models: &ProvinceModels, bulletin: &PublishedBulletin, area: &str) -> Vec<CommuneRow> {
    let id = &bulletin.bulletin;
    let delivery = models.deliveries.get(id, province.own());
    let scheduled = scheduled(models, id, delivery.map(|delivery| &delivery.scheduled));
    let mut played: BTreeMap<&str, u64> = BTreeMap::new();
    if let Some(register) = models.clusters.register(province.own()) {
        for cluster in models.plays.clusters(id).filter_map(|ordinal| register.get(ordinal)) {
            *played.entry(&cluster.commune).or_default() += 1;
        }
    }
    let playback = models.playback.bulletin(id);
    let of_commune = |commune: String| CommuneRow {
        name: province.areas.name(&commune),
        offered: delivery.is_some_and(|delivery| delivery.offered.contains(&commune)),
        scheduled: scheduled.contains(commune.as_str()),
        clusters: models.clusters.totals(province.areas, &commune).total,
        clusters_played: played.get(commune.as_str()).copied().unwrap_or(0),
        plays: playback.and_then(|playback| playback.communes.get(&commune)).map_or(0, |count| count.plays),
        commune,
    };
    bulletin.content.communes_within(province.areas, area).into_iter().map(of_commune).collect()
}

/// What was played of a bulletin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybackAnswer {
    bulletin: String,
    title: String,
    /// Clusters that started it.
    clusters_played: u64,
    /// `{plays, emergencies, silent, seconds, last_started_at_ms}`
    #[schema(value_type = Object)]
    total: PlayCount,
    /// Whole minutes played.
    minutes: u64,
    /// The communes that played it, by code.
    communes: Vec<CommunePlayback>,
}

/// What one commune played of a bulletin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommunePlayback {
    commune: String,
    name: String,
    /// plays, emergencies, silent, seconds, last_started_at_ms
    #[serde(flatten)]
    #[schema(value_type = Object)]
    count: PlayCount,
    /// Whole minutes played.
    minutes: u64,
}

/// `GET /api/v1/playback/{bulletin}?area=`
pub(crate) async fn playback(
    State(province): State<Province>,
    principal: Principal,
    Path(id): Path<String>,
    Params(params): Params<AreaParams>,
) -> Result<Json<PlaybackAnswer>, ApiError> {
    let actor = actor(&principal, Action::Read)?;
    let area = area_asked(&province, &actor, params.area)?;
    let found = province.desk.models.read(|models| {
        let sight = Sight::new(&province, models, &area);
        let bulletin = models.bulletins.get(&id).filter(|bulletin| province.takes_from(&bulletin.publisher))?;
        let all = models.playback.bulletin(&id).into_iter().flat_map(|playback| &playback.communes);
        let here: Vec<_> = all.filter(|(commune, _)| sight.covers(commune)).collect();
        // What was played there stays to be seen, also when a correction is no longer for them.
        if here.is_empty() && sight.clusters.is_some() && !sight.concerns(bulletin) {
            return None;
        }
        let total = here.iter().fold(PlayCount::default(), |total, (_, count)| sum(total, count));
        Some(PlaybackAnswer {
            bulletin: id.clone(),
            title: bulletin.content.shown_title(),
            clusters_played: sight.played(&id),
            total,
            minutes: total.minutes(),
            communes: here
                .into_iter()
                .map(|(commune, count)| CommunePlayback {
                    commune: commune.clone(),
                    name: province.areas.name(commune),
                    count: *count,
                    minutes: count.minutes(),
                })
                .collect(),
        })
    });
    found.map(Json).ok_or_else(|| not_found("bulletin", "Bản tin", "Bulletin", &id))
}

fn sum(total: PlayCount, count: &PlayCount) -> PlayCount {
    PlayCount {
        plays: total.plays + count.plays,
        emergencies: total.emergencies + count.emergencies,
        silent: total.silent + count.silent,
        seconds: total.seconds.saturating_add(count.seconds),
        last_started_at_ms: total.last_started_at_ms.max(count.last_started_at_ms),
    }
}
