//! What concerns which device, and waking it when that changes.
//!
//! Every commune has a revision and every device that was ever commanded has one; a waiting call compares two numbers
//! and sleeps. The log is followed once, for all of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use httt_domain::device::{CommandMessage, DeviceBulletin};
use httt_domain::models::PublishedBulletin;
use tokio::sync::watch;

use crate::models::ProvinceModels;
use crate::province::{Province, lock, media_of};

/// Commands that wait for one device; the oldest makes room.
const MAX_COMMANDS: usize = 16;
/// An emergency without an end of its own that took longer than this to get here, ms, is no longer one: after a month
/// offline nobody is to be woken by last month's flood. Far longer than clocks drift.
const MAX_EMERGENCY_DELAY_MS: i64 = 24 * 3_600_000;

/// An emergency that clusters are to play.
#[derive(Debug)]
pub(crate) struct Alert {
    /// Its version.
    pub(crate) version: u32,
    /// As devices get it.
    pub(crate) bulletin: DeviceBulletin,
    /// Whether it was taken back.
    pub(crate) withdrawn: bool,
    communes: BTreeSet<String>,
    until_ms: i64,
}

/// Commands for one device.
struct Mailbox {
    revision: watch::Sender<u64>,
    commands: Mutex<VecDeque<CommandMessage>>,
}

/// Revisions, emergencies and commands.
pub(crate) struct Hub {
    /// Where revisions begin: another number at each start, so that a device's number from before the restart does not
    /// happen to fit. Below 2^53, because some devices keep numbers as floats.
    base: u64,
    communes: HashMap<String, watch::Sender<u64>>,
    mailboxes: Mutex<HashMap<u32, Arc<Mailbox>>>,
    alerts: RwLock<BTreeMap<String, Arc<Alert>>>,
}

/// What one waiting call listens to.
pub(crate) struct Ear {
    base: u64,
    commune: Option<watch::Receiver<u64>>,
    device: watch::Receiver<u64>,
    mailbox: Arc<Mailbox>,
}

impl Ear {
    /// The revision of everything that concerns the device, `PhienBan`; what comes later wakes [`Ear::changed`].
    pub(crate) fn revision(&mut self) -> u64 {
        let commune = self.commune.as_mut().map_or(0, |commune| *commune.borrow_and_update());
        self.base + commune + *self.device.borrow_and_update()
    }

    /// The commands that wait. They are handed out once: a command that was carried out and comes again, such as a
    /// restart, does more harm than one that is lost with a broken connection.
    pub(crate) fn take_commands(&self) -> Vec<CommandMessage> {
        lock(&self.mailbox.commands).drain(..).collect()
    }

    /// Waits for a change.
    pub(crate) async fn changed(&mut self) {
        match &mut self.commune {
            Some(commune) => {
                tokio::select! {
                    _ = commune.changed() => {}
                    _ = self.device.changed() => {}
                }
            }
            None => {
                let _ = self.device.changed().await;
            }
        }
    }
}

impl Hub {
    pub(crate) fn new(communes: impl IntoIterator<Item = String>, now_ms: i64) -> Self {
        Self {
            base: u64::try_from(now_ms).unwrap_or(1).max(1),
            communes: communes.into_iter().map(|commune| (commune, watch::Sender::new(0))).collect(),
            mailboxes: Mutex::default(),
            alerts: RwLock::default(),
        }
    }

    /// Listens for a device of a commune.
    pub(crate) fn listen(&self, commune: &str, ordinal: u32) -> Ear {
        let mailbox = self.mailbox(ordinal);
        Ear {
            base: self.base,
            commune: self.communes.get(commune).map(watch::Sender::subscribe),
            device: mailbox.revision.subscribe(),
            mailbox,
        }
    }

    fn mailbox(&self, ordinal: u32) -> Arc<Mailbox> {
        let new = || Arc::new(Mailbox { revision: watch::Sender::new(0), commands: Mutex::default() });
        Arc::clone(lock(&self.mailboxes).entry(ordinal).or_insert_with(new))
    }

    /// Gives a device a command.
    pub(crate) fn command(&self, ordinal: u32, message: CommandMessage) {
        let mailbox = self.mailbox(ordinal);
        {
            let mut commands = lock(&mailbox.commands);
            if commands.len() >= MAX_COMMANDS {
                commands.pop_front();
            }
            commands.push_back(message);
        }
        mailbox.revision.send_modify(|revision| *revision += 1);
    }

    /// The emergencies, withdrawn ones too, that are for a commune now.
    pub(crate) fn alerts(&self, commune: &str, now_ms: i64) -> Vec<Arc<Alert>> {
        let alerts = self.alerts.read().unwrap_or_else(PoisonError::into_inner);
        let meant = |alert: &&Arc<Alert>| now_ms < alert.until_ms && alert.communes.contains(commune);
        alerts.values().filter(meant).cloned().collect()
    }

    /// Puts an emergency up, or takes it down, and wakes whom it concerns.
    fn put(&self, bulletin: &str, alert: Option<Alert>) {
        let alert = alert.map(Arc::new);
        let before = {
            let mut alerts = self.alerts.write().unwrap_or_else(PoisonError::into_inner);
            match &alert {
                Some(alert) => alerts.insert(bulletin.to_owned(), Arc::clone(alert)),
                None => alerts.remove(bulletin),
            }
        };
        let same =
            |a: &Alert, b: &Alert| (a.version, a.withdrawn, &a.communes) == (b.version, b.withdrawn, &b.communes);
        if matches!((&before, &alert), (Some(before), Some(alert)) if same(before, alert)) {
            return;
        }
        let concerned: BTreeSet<&String> = before.iter().chain(&alert).flat_map(|alert| &alert.communes).collect();
        concerned.into_iter().for_each(|commune| self.wake(commune));
    }

    fn wake(&self, commune: &str) {
        if let Some(sender) = self.communes.get(commune) {
            sender.send_modify(|revision| *revision += 1);
        }
    }

    fn forget_past(&self, now_ms: i64) {
        self.alerts.write().unwrap_or_else(PoisonError::into_inner).retain(|_, alert| now_ms < alert.until_ms);
    }
}

/// Follows the log for the devices' sake; ends when the models no longer follow it.
pub(crate) async fn follow(province: Province) {
    let mut positions = province.desk.models.watch();
    let mut cursor = 0;
    let mut schedules = Revisions::default();
    loop {
        positions.mark_unchanged();
        let changed = province.desk.models.read(|models| {
            let (changed, next) = models.changes_since(cursor);
            cursor = next;
            schedules.look(models, &province.hub);
            changed
        });
        for bulletin in &changed {
            refresh(&province, bulletin).await;
        }
        if !changed.is_empty() {
            province.hub.forget_past(province.desk.now_ms());
        }
        if positions.changed().await.is_err() {
            return;
        }
    }
}

/// The communes' schedule revisions as devices were told.
#[derive(Default)]
struct Revisions {
    total: u64,
    told: HashMap<String, u64>,
}

impl Revisions {
    fn look(&mut self, models: &ProvinceModels, hub: &Hub) {
        if models.revisions.total() == self.total {
            return;
        }
        self.total = models.revisions.total();
        for commune in hub.communes.keys() {
            let revision = models.revisions.of(commune);
            if self.told.insert(commune.clone(), revision) != Some(revision) {
                hub.wake(commune);
            }
        }
    }
}

async fn refresh(province: &Province, id: &str) {
    let found = province.desk.models.read(|models| {
        let bulletin = models.bulletins.get(id)?;
        let emergency = bulletin.content.priority.is_emergency() && province.concerns(bulletin);
        let received = models.deliveries.get(id, province.own());
        emergency.then(|| (bulletin.clone(), received.map_or(0, |delivery| delivery.durable_at_ms)))
    });
    let Some((bulletin, received_ms)) = found else { return };
    // Devices can do nothing with an address that has no file yet; the offer, once it is here, comes by again.
    let alert = if province.shelf.holds(media_of(&bulletin.content)).await {
        alert_of(province, &bulletin, received_ms, province.desk.now_ms())
    } else {
        None
    };
    province.hub.put(id, alert);
}

fn alert_of(province: &Province, bulletin: &PublishedBulletin, received_ms: i64, now_ms: i64) -> Option<Alert> {
    // 0: it has come this very moment, and the receipt is being written.
    let received_ms = if received_ms == 0 { now_ms } else { received_ms };
    let until_ms = match bulletin.content.valid_until_ms {
        0 if received_ms - bulletin.published_at_ms > MAX_EMERGENCY_DELAY_MS => return None,
        // A correction counts anew, by the publisher's clock as far as that is not ahead of ours.
        0 => {
            let minutes = i64::from(province.settings.default_emergency_minutes);
            received_ms.max(bulletin.changed_at_ms.min(now_ms)).saturating_add(minutes * 60_000)
        }
        until => until,
    };
    (now_ms < until_ms).then(|| Alert {
        version: bulletin.version,
        bulletin: province.device_bulletin(&bulletin.bulletin, &bulletin.content),
        withdrawn: bulletin.withdrawn.is_some(),
        communes: bulletin.content.communes_within(province.areas, &province.home).into_iter().collect(),
        until_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use httt_domain::device::{Control, Devices};

    fn message(parameter: usize) -> CommandMessage {
        CommandMessage {
            source_id: "31".into(),
            source_name: String::new(),
            destinations: vec![],
            devices: Devices::default(),
            control: Control { code: "0".into(), parameter: parameter.to_string() },
        }
    }

    #[tokio::test]
    async fn a_command_wakes_its_device_and_nobody_else() {
        let hub = Hub::new(["10525".to_owned()], 1_000);
        let (mut one, mut other) = (hub.listen("10525", 1), hub.listen("10525", 2));
        let (before, other_before) = (one.revision(), other.revision());
        assert!(before > 0);
        hub.command(1, message(7));
        one.changed().await;
        assert_eq!(one.revision(), before + 1);
        assert_eq!(other.revision(), other_before);
        assert_eq!(one.take_commands().len(), 1);
        assert!(one.take_commands().is_empty(), "handed out once");
        hub.wake("10525");
        other.changed().await;
        assert_eq!(other.revision(), other_before + 1);
    }

    #[test]
    fn commands_that_nobody_fetches_are_bounded() {
        let hub = Hub::new([], 0);
        (0..3 * MAX_COMMANDS).for_each(|number| hub.command(5, message(number)));
        let commands = hub.listen("10525", 5).take_commands();
        assert_eq!(commands.len(), MAX_COMMANDS);
        assert_eq!(commands.last().map(|last| last.control.parameter.as_str()), Some("47"));
    }
}
