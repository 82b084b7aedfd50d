//! What a device is to do now: emergencies, commands, and whether its schedule changed.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use httt_domain::device::{CommandMessage, DeviceBulletin};
use serde::{Serialize, Serializer};
use tokio::time::Instant;

use super::{Device, DeviceResult, with};
use crate::hub::{Alert, Heard};
use crate::province::Province;

/// Longest a call may wait.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// `NoiDung` of the answer.
#[derive(Debug, Serialize)]
pub(crate) struct Orders {
    /// Changes with everything that concerns the device; to be sent back with the next call.
    #[serde(rename = "PhienBan")]
    revision: u64,
    /// Changes when the commune's schedules did.
    #[serde(rename = "PhienBanLichPhat")]
    schedule_revision: u64,
    /// Commands since the last call.
    #[serde(rename = "DanhSachLenh")]
    commands: Vec<CommandMessage>,
    /// Emergencies of which the cluster has not reported playing the version in force.
    #[serde(rename = "BanTinKhanCap", serialize_with = "bulletins")]
    emergencies: Vec<Arc<Alert>>,
    /// Identifiers of emergencies that were taken back, everywhere or by a correction that is no longer for the commune:
    /// what still plays of them is to stop.
    #[serde(rename = "BanTinThuHoi")]
    withdrawn: Vec<String>,
}

fn bulletins<S: Serializer>(alerts: &[Arc<Alert>], serializer: S) -> Result<S::Ok, S::Error> {
    let bulletins = alerts.iter().map(|alert| &alert.bulletin);
    serializer.collect_seq(bulletins.collect::<Vec<&DeviceBulletin>>())
}

/// `GET /thiet-bi/lenh?cho=SECONDS&phien-ban=N`: answers at once when the revision differs or a command waits, else when
/// that comes about, at the latest after `cho` seconds.
///
/// An emergency that a device was told of and does not report is told again when the call has waited, not at once:
/// otherwise a device that never reports would ask in a loop.
pub(crate) async fn wait(
    State(province): State<Province>,
    device: Device,
    RawQuery(query): RawQuery,
) -> DeviceResult<Orders> {
    let query = query.unwrap_or_default();
    let wait = Duration::from_secs(number(&query, "cho").unwrap_or(0)).min(MAX_WAIT);
    let known = number(&query, "phien-ban").unwrap_or(0);
    let end = Instant::now() + wait;
    let mut stop = province.stop.clone();
    let mut ear = province.hub.listen(&device.commune, device.ordinal);
    loop {
        let revision = ear.revision();
        let commands = ear.take_commands();
        if revision != known || !commands.is_empty() || Instant::now() >= end {
            return with(orders(&province, &device, revision, commands));
        }
        let stopping = tokio::select! {
            () = ear.changed() => false,
            () = tokio::time::sleep_until(end) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if stopping {
            // The device asks again, and finds the node when it is back.
            return with(orders(&province, &device, revision, commands));
        }
    }
}

fn orders(province: &Province, device: &Device, revision: u64, commands: Vec<CommandMessage>) -> Orders {
    let (mut emergencies, mut withdrawn) = (Vec::new(), Vec::new());
    for (alert, heard) in province.hub.alerts(&device.commune, province.desk.now_ms()) {
        match heard {
            Heard::Sounds => emergencies.push(alert),
            Heard::TakenBack => withdrawn.push(alert.bulletin.bulletin.clone()),
        }
    }
    let schedule_revision = province.desk.models.read(|models| {
        emergencies.retain(|alert| !models.plays.has_played(&alert.bulletin.bulletin, alert.version, device.ordinal));
        models.revisions.of(&device.commune)
    });
    Orders { revision, schedule_revision, commands, emergencies, withdrawn }
}

/// A number of the query; whatever else stands there counts as nothing.
fn number(query: &str, name: &str) -> Option<u64> {
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_of_a_query_are_read_leniently() {
        let query = "cho=20&phien-ban=1763700000000&x";
        assert_eq!(number(query, "cho"), Some(20));
        assert_eq!(number(query, "phien-ban"), Some(1_763_700_000_000));
        assert_eq!(number(query, "x"), None);
        assert_eq!(number("cho=abc", "cho"), None);
    }
}
