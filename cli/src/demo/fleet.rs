//! The demo's loudspeaker clusters: registered with their province, mounted, switched off and on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use httt_domain::area::Areas;
use httt_node::client::HttpClient;
use httt_node::tls::anonymous_client_config;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api::Session;
use crate::demo::device::{Device, Mounting, Tally};
use crate::demo::world::{Pace, Province, World};

/// Clusters that share a connection, as those behind one commune's router do.
const CLUSTERS_A_CONNECTION: usize = 50;
/// Clusters registered in one call.
const REGISTER_AT_ONCE: usize = 500;

/// All clusters.
pub(crate) struct Fleet {
    pub(crate) tally: Arc<Tally>,
    switches: Vec<watch::Sender<bool>>,
    stop: Arc<AtomicBool>,
    /// How often a cluster reports.
    pub(crate) status_every: Duration,
    /// After how long without a report a cluster counts as off.
    pub(crate) offline_after: Duration,
}

impl Fleet {
    /// Registers `per_province` clusters with each province and sets them going.
    pub(crate) async fn mount(world: &World, per_province: usize, pace: Pace) -> Result<Self> {
        let mut fleet = Self {
            tally: Arc::default(),
            switches: Vec::new(),
            stop: Arc::default(),
            status_every: pace.status_every,
            offline_after: pace.offline_after,
        };
        for province in &world.provinces {
            fleet.mount_province(world, province, per_province).await?;
        }
        Ok(fleet)
    }

    async fn mount_province(&mut self, world: &World, province: &Province, count: usize) -> Result<()> {
        let base = province.node.base();
        let operator = Session::open(&world.http, &base, "operator", &world.password).await?;
        let clusters: Vec<Value> = (0..count)
            .map(|index| {
                json!({
                    "imei": format!("8601{:0>2}{index:09}", province.area),
                    "commune": province.communes[index % province.communes.len()],
                    "name": format!("Cụm loa {}", index + 1),
                    "vendor": "DEMO",
                })
            })
            .collect();
        let mut mounted = 0;
        let mut http = None;
        for some in clusters.chunks(REGISTER_AT_ONCE) {
            let answer = operator.post("/clusters", &json!(some)).await?;
            let registered = answer.as_array().context("registered clusters")?;
            ensure!(registered.len() == some.len(), "{} of {} clusters registered", registered.len(), some.len());
            for (cluster, credentials) in some.iter().zip(registered) {
                if mounted % CLUSTERS_A_CONNECTION == 0 {
                    http = Some(HttpClient::new(anonymous_client_config(&world.ca)?));
                }
                mounted += 1;
                let commune = cluster["commune"].as_str().unwrap_or_default().to_owned();
                let mounting = Mounting {
                    imei: cluster["imei"].as_str().unwrap_or_default().to_owned(),
                    username: credentials["imei"].as_str().context("imei")?.to_owned(),
                    password: credentials["password"].as_str().context("password")?.to_owned(),
                    commune_name: Areas::in_force_2025().name(&commune),
                    commune,
                    base: base.clone(),
                    status_every: self.status_every,
                };
                let (switch, powered) = watch::channel(true);
                self.switches.push(switch);
                let client = http.clone().context("client")?;
                let device = Device::new(mounting, client, Arc::clone(&self.tally), powered);
                tokio::spawn(device.live(Arc::clone(&self.stop)));
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.switches.len()
    }

    /// Switches every tenth cluster (at least one) off or on; says how many.
    pub(crate) fn power_some(&self, on: bool) -> usize {
        let mut switched = 0;
        for switch in self.switches.iter().step_by(10) {
            switch.send_replace(on);
            switched += 1;
        }
        switched
    }

    /// Ends all clusters.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        for switch in &self.switches {
            switch.send_replace(false);
        }
    }
}
