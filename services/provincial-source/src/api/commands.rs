//! Telling clusters what to do.

use std::collections::BTreeMap;

use axum::extract::State;
use httt_domain::accounts::Action;
use httt_domain::cluster::encode_deltas;
use httt_domain::device::{Command, CommandMessage, Control, Destination, Devices, StopMode};
use httt_domain::refusal::{Field, Refusal, Refusals};
use httt_domain::{DomainEvent, Lane};
use httt_node::accounts::Principal;
use httt_node::desk::actor;
use httt_node::http::{ApiError, Json};
use httt_wire::cluster::CommandSent;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{check_area, refused};
use crate::models::ProvinceModels;
use crate::province::{Inner, Province};

/// Most clusters named in one command; a commune may have more.
const MAX_NAMED: usize = 2_000;
/// Stream prefix of commands.
const COMMANDS_STREAM: &str = "commands/";

/// Whom, and what. Either `clusters` or `commune`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandInput {
    /// IMEIs.
    clusters: Option<Vec<String>>,
    /// All clusters of this commune.
    commune: Option<String>,
    command: Order,
}

/// What to do: `{"volume": 70}`, `{"stop": "all"}`, `{"stop": "skip"}`, `{"stop": "pause"}`, `{"stop": "resume"}` or
/// `"restart"`. Emergencies are no command: they are bulletins, approved by somebody.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Percent, 0 to 100.
    Volume(u8),
    /// `all`, `skip`, `pause` or `resume`
    #[schema(value_type = String)]
    Stop(StopMode),
    /// Start anew.
    Restart,
}

/// What became of a command.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandAnswer {
    /// Clusters that it waits for, or that were woken to fetch it.
    clusters: usize,
    /// `MaLenh`
    code: String,
    /// `ThamSo`
    parameter: String,
}

#[derive(Debug)]
struct Target {
    ordinal: u32,
    imei: String,
    commune: String,
}

/// `POST /api/v1/clusters/commands`
pub(crate) async fn send(
    State(province): State<Province>,
    principal: Principal,
    Json(input): Json<CommandInput>,
) -> Result<Json<CommandAnswer>, ApiError> {
    let actor = actor(&principal, Action::CommandDevices)?;
    let command = match input.command {
        Order::Volume(percent) => Command::Volume(percent),
        Order::Stop(mode) => Command::Stop(mode),
        Order::Restart => Command::Restart,
    };
    let control = province.settings.command_codes.encode(&command).map_err(|refusal| refused(&refusal.into()))?;
    if let Some(commune) = &input.commune {
        check_area(&province, &actor, commune)?;
    }
    let found = province.desk.models.read(|models| targets(&province, models, input.clusters, input.commune));
    let targets = found.map_err(|list| refused(&list))?;
    targets.iter().try_for_each(|target| check_area(&province, &actor, &target.commune))?;

    // First the record, then the act: nothing sounds that the log does not know of.
    let mut communes: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for target in &targets {
        communes.entry(&target.commune).or_default().push(target.ordinal);
    }
    let sent = |(commune, ordinals): (&str, Vec<u32>)| {
        let event = CommandSent {
            commune: commune.to_owned(),
            cluster_deltas: encode_deltas(ordinals),
            code: control.code.clone(),
            parameter: control.parameter.clone(),
        };
        DomainEvent::of(Lane::Local, format!("{COMMANDS_STREAM}{commune}"), &event)
    };
    let events: Vec<DomainEvent> = communes.into_iter().map(sent).collect();
    if !events.is_empty() {
        province.desk.append(&principal.name, &province.upward(), events, Vec::new()).await?;
    }
    for target in &targets {
        province.hub.command(target.ordinal, message(&province, target, &control));
    }
    Ok(Json(CommandAnswer { clusters: targets.len(), code: control.code, parameter: control.parameter }))
}

fn targets(
    province: &Inner,
    models: &ProvinceModels,
    clusters: Option<Vec<String>>,
    commune: Option<String>,
) -> Result<Vec<Target>, Refusals> {
    let named = |path: String| Field::new(path, "Cụm loa", "Clusters");
    let register = models.clusters.register(province.own());
    let target = |ordinal: u32| {
        let cluster = register?.get(ordinal)?;
        Some(Target { ordinal, imei: cluster.imei.clone(), commune: cluster.commune.clone() })
    };
    match (clusters, commune) {
        (Some(clusters), None) if clusters.len() > MAX_NAMED => {
            Err(Refusal::TooMany { field: named("clusters".into()), given: clusters.len(), max: MAX_NAMED }.into())
        }
        (Some(clusters), None) if !clusters.is_empty() => {
            let (mut found, mut list) = (BTreeMap::new(), Vec::new());
            for (index, imei) in clusters.into_iter().enumerate() {
                match register.and_then(|register| register.ordinal(&imei)).and_then(target) {
                    Some(target) => {
                        found.insert(target.ordinal, target);
                    }
                    None => {
                        let given = imei.chars().take(40).collect();
                        list.push(Refusal::NotFound { field: named(format!("clusters[{index}]")), given });
                    }
                }
            }
            Refusals::unless_empty(list)?;
            Ok(found.into_values().collect())
        }
        (None, Some(commune)) if province.areas.covers(&province.home, &commune) => {
            let all = register.into_iter().flat_map(|register| register.iter());
            let here = all.filter(|(_, cluster)| province.areas.covers(&commune, &cluster.commune));
            Ok(here.filter_map(|(ordinal, _)| target(ordinal)).collect())
        }
        (None, Some(commune)) => {
            let field = Field::new("commune", "Đơn vị cấp xã", "Commune");
            Err(Refusal::UnknownArea { field, given: commune.chars().take(40).collect() }.into())
        }
        (Some(_), Some(_)) => {
            let given = "clusters + commune".to_owned();
            let (expected_vi, expected_en) = ("một trong hai".to_owned(), "one of the two".to_owned());
            Err(Refusal::Malformed { field: named("clusters".into()), given, expected_vi, expected_en }.into())
        }
        _ => Err(Refusal::Required { field: named("clusters".into()) }.into()),
    }
}

fn message(province: &Inner, target: &Target, control: &Control) -> CommandMessage {
    CommandMessage {
        source_id: province.home.clone(),
        source_name: province.areas.name(&province.home),
        destinations: vec![Destination { id: target.commune.clone(), name: province.areas.name(&target.commune) }],
        devices: Devices { imeis: vec![target.imei.clone()] },
        control: control.clone(),
    }
}
