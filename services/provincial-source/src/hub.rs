//! What concerns which device, and waking it when that changes.
//!
//! Every commune has a revision and every device that was ever commanded has one; a waiting call compares two numbers
//! and sleeps. The log is followed once, for all of them.

mod alerts;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use httt_domain::device::CommandMessage;
use tokio::sync::watch;

pub(crate) use alerts::{Alert, Heard};

use crate::models::ProvinceModels;
use crate::province::{Province, lock, media_of};

/// Commands that wait for one device; the oldest makes room.
const MAX_COMMANDS: usize = 16;

/// Commands for one device.
struct Mailbox {
    revision: watch::Sender<u64>,
    /// Each with when it was given: by a clock that nobody sets.
    commands: Mutex<VecDeque<(Instant, CommandMessage)>>,
}

/// Revisions, emergencies and commands.
pub(crate) struct Hub {
    /// Where revisions begin: another number at each start, so that a device's number from before the restart does not
    /// happen to fit. Below 2^53, because some devices keep numbers as floats.
    base: u64,
    communes: HashMap<String, watch::Sender<u64>>,
    mailboxes: Mutex<HashMap<u32, Arc<Mailbox>>>,
    alerts: RwLock<BTreeMap<String, Arc<Alert>>>,
    /// How long a command waits.
    command_expiry: Duration,
}

/// What one waiting call listens to.
pub(crate) struct Ear {
    base: u64,
    commune: Option<watch::Receiver<u64>>,
    device: watch::Receiver<u64>,
    mailbox: Arc<Mailbox>,
    command_expiry: Duration,
}

impl Ear {
    /// The revision of everything that concerns the device, `PhienBan`; what comes later wakes [`Ear::changed`].
    pub(crate) fn revision(&mut self) -> u64 {
        let commune = self.commune.as_mut().map_or(0, |commune| *commune.borrow_and_update());
        self.base + commune + *self.device.borrow_and_update()
    }

    /// The commands that wait. They are handed out once: a command that was carried out and comes again, such as a
    /// restart, does more harm than one that is lost with a broken connection. One that waited too long is not handed
    /// out at all: who comes back after a day is not to be restarted by what somebody wanted yesterday.
    pub(crate) fn take_commands(&self) -> Vec<CommandMessage> {
        let mut commands = lock(&self.mailbox.commands);
        let fresh = |(given, message): (Instant, _)| (given.elapsed() < self.command_expiry).then_some(message);
        commands.drain(..).filter_map(fresh).collect()
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
    pub(crate) fn new(communes: impl IntoIterator<Item = String>, now_ms: i64, command_expiry: Duration) -> Self {
        Self {
            base: u64::try_from(now_ms).unwrap_or(1).max(1),
            communes: communes.into_iter().map(|commune| (commune, watch::Sender::new(0))).collect(),
            mailboxes: Mutex::default(),
            alerts: RwLock::default(),
            command_expiry,
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
            command_expiry: self.command_expiry,
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
            commands.push_back((Instant::now(), message));
        }
        mailbox.revision.send_modify(|revision| *revision += 1);
    }

    /// The emergencies of which a commune hears now, and what.
    pub(crate) fn alerts(&self, commune: &str, now_ms: i64) -> Vec<(Arc<Alert>, Heard)> {
        let alerts = self.alerts.read().unwrap_or_else(PoisonError::into_inner);
        alerts.values().filter_map(|alert| Some((Arc::clone(alert), alert.heard(commune, now_ms)?))).collect()
    }

    /// Puts an emergency up, or takes it down, and wakes those who hear something else than before.
    fn put(&self, bulletin: &str, alert: Option<Alert>, now_ms: i64) {
        let alert = alert.map(Arc::new);
        let before = {
            let mut alerts = self.alerts.write().unwrap_or_else(PoisonError::into_inner);
            match &alert {
                Some(alert) => alerts.insert(bulletin.to_owned(), Arc::clone(alert)),
                None => alerts.remove(bulletin),
            }
        };
        let told = |alert: &Option<Arc<Alert>>, commune: &str| {
            let alert = alert.as_ref()?;
            match alert.heard(commune, now_ms)? {
                Heard::Sounds => Some(Some(alert.version)),
                Heard::TakenBack => Some(None),
            }
        };
        let concerned = self.communes.keys().filter(|commune| told(&before, commune) != told(&alert, commune));
        concerned.for_each(|commune| self.wake(commune));
    }

    fn wake(&self, commune: &str) {
        if let Some(sender) = self.communes.get(commune) {
            sender.send_modify(|revision| *revision += 1);
        }
    }

    fn forget_past(&self, now_ms: i64) {
        self.alerts.write().unwrap_or_else(PoisonError::into_inner).retain(|_, alert| now_ms < alert.ends_ms());
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
            let (changed, next) = models.changes.since(cursor);
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
        // Not whether it is for this province: it may have been, before it was corrected.
        let emergency = bulletin.content.priority.is_emergency() && province.takes_from(&bulletin.publisher);
        let received = models.deliveries.get(id, province.own());
        let received_ms = received.map_or(0, |delivery| delivery.durable_at_ms);
        emergency.then(|| (bulletin.clone(), models.versions.of(id).to_vec(), received_ms))
    });
    let Some((bulletin, versions, received_ms)) = found else { return };
    // Devices can do nothing with an address that has no file yet; the offer, once it is here, comes by again.
    let ready = province.shelf.holds(media_of(&bulletin.content)).await;
    let alert = Alert::of(province, &bulletin, &versions, received_ms, ready);
    province.hub.put(id, alert, province.desk.now_ms());
}

#[cfg(test)]
mod tests {
    use super::*;
    use httt_domain::device::{Control, Devices};

    const EXPIRY: Duration = Duration::from_secs(300);

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
        let hub = Hub::new(["10525".to_owned()], 1_000, EXPIRY);
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
        let hub = Hub::new([], 0, EXPIRY);
        (0..3 * MAX_COMMANDS).for_each(|number| hub.command(5, message(number)));
        let commands = hub.listen("10525", 5).take_commands();
        assert_eq!(commands.len(), MAX_COMMANDS);
        assert_eq!(commands.last().map(|last| last.control.parameter.as_str()), Some("47"));
    }

    #[test]
    fn a_command_that_waited_too_long_is_dropped() {
        let hub = Hub::new([], 0, Duration::from_millis(1));
        hub.command(5, message(1));
        std::thread::sleep(Duration::from_millis(20));
        let ear = hub.listen("10525", 5);
        assert!(ear.take_commands().is_empty());
        hub.command(5, message(2));
        let patient = Ear { command_expiry: EXPIRY, ..ear };
        assert_eq!(patient.take_commands().len(), 1, "the one that was dropped is gone, the next one is not");
    }
}
