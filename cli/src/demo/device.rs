//! A simulated loudspeaker cluster: what a vendor's box does, over the device interface and nothing else.
//!
//! It builds its JSON by hand, as software we did not write would, so that it can disagree with the province.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use httt_feed::Digest;
use httt_node::client::HttpClient;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::sync::watch;

/// Seconds a call for commands may wait at the province.
const POLL_SECONDS: u64 = 20;
/// How long an emergency sounds in the demo, whatever its `ThoiLuong` says.
const EMERGENCY_SOUNDS: Duration = Duration::from_millis(1_500);
/// Pause after a call that failed.
const RETRY: Duration = Duration::from_millis(700);

/// What all clusters of the demo did, counted where it happened.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) media_verified: AtomicU64,
    pub(crate) schedules_accepted: AtomicU64,
    pub(crate) started: AtomicU64,
    pub(crate) emergencies: AtomicU64,
    pub(crate) interrupted: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) wrong_digest: AtomicU64,
    pub(crate) calls: AtomicU64,
}

impl Tally {
    fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// What a cluster is told before it is mounted on its pole.
#[derive(Clone)]
pub(crate) struct Mounting {
    pub(crate) imei: String,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) commune: String,
    pub(crate) commune_name: String,
    pub(crate) base: String,
    pub(crate) status_every: Duration,
}

/// A cluster with its power switch.
pub(crate) struct Device {
    mounting: Mounting,
    http: HttpClient,
    tally: Arc<Tally>,
    powered: watch::Receiver<bool>,
}

#[derive(Default)]
struct State {
    token: String,
    revision: u64,
    schedule_revision: Option<u64>,
    /// Bulletin being played by schedule: its id and address.
    playing: Option<(String, String)>,
    /// By schedule, so that each item is logged once.
    logged: BTreeSet<(String, String)>,
    emergencies_done: BTreeSet<String>,
    /// Sounding now; nothing else is obeyed until it ends.
    emergency: Option<String>,
    verified: BTreeMap<String, Digest>,
    volume: u32,
}

impl Device {
    pub(crate) fn new(mounting: Mounting, http: HttpClient, tally: Arc<Tally>, powered: watch::Receiver<bool>) -> Self {
        Self { mounting, http, tally, powered }
    }

    /// Lives until the demo ends. Without power it does nothing at all, and starts from nothing when power returns.
    pub(crate) async fn live(mut self, stop: Arc<AtomicBool>) {
        while !stop.load(Ordering::Relaxed) {
            if self.powered.wait_for(|powered| *powered).await.map(drop).is_err() {
                return;
            }
            let mut off = self.powered.clone();
            let failed = tokio::select! {
                result = self.run() => result.err(),
                _ = async { off.wait_for(|powered| !*powered).await.map(drop) } => None,
            };
            if let Some(error) = failed {
                tracing::debug!(imei = self.mounting.imei, "{error:#}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn run(&self) -> Result<()> {
        let mut state = State { volume: 70, ..State::default() };
        state.token = self.log_in().await?;
        self.send_status(&state).await?;
        let mut status = tokio::time::interval_at(
            tokio::time::Instant::now() + self.mounting.status_every,
            self.mounting.status_every,
        );
        loop {
            let poll = self.poll(state.token.clone(), state.revision);
            let mut poll = std::pin::pin!(poll);
            let answer = loop {
                tokio::select! {
                    answer = &mut poll => break answer?,
                    _ = status.tick() => self.send_status(&state).await?,
                }
            };
            self.obey(&mut state, answer).await?;
        }
    }

    async fn log_in(&self) -> Result<String> {
        let body = json!({ "Username": self.mounting.username, "Password": self.mounting.password });
        let answer = self.post("/thiet-bi/dang-nhap", "", &body).await?;
        Ok(answer["Token"].as_str().context("no Token")?.to_owned())
    }

    async fn poll(&self, token: String, revision: u64) -> Result<Value> {
        self.get(&format!("/thiet-bi/lenh?cho={POLL_SECONDS}&phien-ban={revision}"), &token).await
    }

    async fn obey(&self, state: &mut State, answer: Value) -> Result<()> {
        state.revision = answer["PhienBan"].as_u64().context("no PhienBan")?;
        for bulletin in answer["BanTinKhanCap"].as_array().into_iter().flatten() {
            self.play_emergency(state, bulletin).await?;
        }
        for command in answer["DanhSachLenh"].as_array().into_iter().flatten() {
            let order = &command["DieuKhienThietBi"];
            if order["MaLenh"] == "0" {
                state.volume = order["ThamSo"].as_str().and_then(|text| text.parse().ok()).unwrap_or(state.volume);
                self.send_status(state).await?;
            }
        }
        let schedule_revision = answer["PhienBanLichPhat"].as_u64();
        if schedule_revision.is_some() && schedule_revision != state.schedule_revision {
            self.take_schedule(state).await?;
            state.schedule_revision = schedule_revision;
        }
        Ok(())
    }

    async fn take_schedule(&self, state: &mut State) -> Result<()> {
        let schedules = self.get("/thiet-bi/lich-phat", &state.token).await?;
        let now = OffsetDateTime::now_utc() + Duration::from_secs(7 * 3600);
        let (today, time) = (now.date().to_string(), clock(now));
        let mut due = None;
        for schedule in schedules.as_array().into_iter().flatten() {
            let id = schedule["LichPhatID"].as_str().context("no LichPhatID")?;
            for bulletin in schedule["DanhSachBanTin"].as_array().into_iter().flatten() {
                self.fetch(state, bulletin).await?;
                let plays_now = bulletin["DanhSachNgayPhat"].as_array().into_iter().flatten().any(|day| {
                    day["NgayPhat"] == today.as_str()
                        && day["ThoiDiemPhat"].as_array().into_iter().flatten().any(|span| {
                            let at = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
                            at("ThoiGianBatDau") <= time && time <= at("ThoiGianKetThuc")
                        })
                });
                if plays_now {
                    due = Some((id.to_owned(), bulletin.clone()));
                }
            }
            let body = self.identified(json!({ "LichPhatID": id, "TrangThai": "1" }));
            self.post("/thiet-bi/lich-phat/tra-loi", &state.token, &body).await?;
            Tally::add(&self.tally.schedules_accepted);
        }
        match due {
            Some((schedule, bulletin)) => {
                let id = bulletin["BanTinID"].as_str().context("no BanTinID")?.to_owned();
                let address = bulletin["NoiDung"].as_str().unwrap_or_default().to_owned();
                state.playing = Some((id.clone(), address));
                if state.logged.insert((schedule, id)) {
                    self.log_playback(state, &bulletin).await?;
                    Tally::add(&self.tally.started);
                }
            }
            None => state.playing = None,
        }
        self.send_status(state).await
    }

    /// Interrupts, sounds, reports, and goes back to what the schedule says.
    async fn play_emergency(&self, state: &mut State, bulletin: &Value) -> Result<()> {
        let id = bulletin["BanTinID"].as_str().context("no BanTinID")?.to_owned();
        if state.emergencies_done.contains(&id) {
            return Ok(());
        }
        ensure!(bulletin["MucDoUuTien"] == 1, "an emergency with MucDoUuTien {}", bulletin["MucDoUuTien"]);
        self.fetch(state, bulletin).await?;
        let interrupted = state.playing.is_some();
        state.emergency = Some(bulletin["NoiDung"].as_str().unwrap_or_default().to_owned());
        self.log_playback(state, bulletin).await?;
        self.send_status(state).await?;
        Tally::add(&self.tally.emergencies);
        state.emergencies_done.insert(id);
        tokio::time::sleep(EMERGENCY_SOUNDS).await;
        state.emergency = None;
        if interrupted {
            Tally::add(&self.tally.interrupted);
        }
        // It goes on with what the schedule says for this moment, not with what it was at.
        state.playing = None;
        self.take_schedule(state).await?;
        if interrupted && state.playing.is_some() {
            Tally::add(&self.tally.resumed);
        }
        Ok(())
    }

    /// Fetches a bulletin's media and checks its digest. What is not provably from its source is never played.
    async fn fetch(&self, state: &mut State, bulletin: &Value) -> Result<()> {
        let address = bulletin["NoiDung"].as_str().unwrap_or_default();
        let expected = bulletin["ThongTinChiTietBanTin"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|detail| detail["Ten"] == "SHA256")
            .and_then(|detail| detail["GiaTri"].as_str()?.parse::<Digest>().ok());
        let Some(expected) = expected else {
            ensure!(bulletin["LoaiBanTin"] == 1, "a bulletin with a file but without its SHA256");
            return Ok(()); // text only
        };
        if state.verified.get(address) == Some(&expected) {
            return Ok(());
        }
        let url =
            if address.starts_with("http") { address.to_owned() } else { format!("{}{address}", self.mounting.base) };
        let reply = self.http.get(&url).bearer(&state.token).send().await?;
        Tally::add(&self.tally.calls);
        if Digest::of(&reply.body) != expected {
            Tally::add(&self.tally.wrong_digest);
            bail!("{url} has another digest than the bulletin says");
        }
        Tally::add(&self.tally.media_verified);
        state.verified.insert(address.to_owned(), expected);
        Ok(())
    }

    async fn log_playback(&self, state: &State, bulletin: &Value) -> Result<()> {
        let mut body = self.identified(bulletin.clone());
        body["ThoiDiemBatDau"] = json!(OffsetDateTime::now_utc().unix_timestamp());
        body["AmLuong"] = json!(state.volume.to_string());
        body["CongSuat"] = json!("50");
        self.post("/thiet-bi/nhat-ky", &state.token, &body).await.map(|_| ())
    }

    async fn send_status(&self, state: &State) -> Result<()> {
        let now_playing = state.emergency.as_deref().or(state.playing.as_ref().map(|(_, address)| address.as_str()));
        let body = self.identified(json!({
            "AmLuong": state.volume.to_string(),
            "TrangThaiHoatDong": if now_playing.is_some() { "0" } else { "2" },
            "TrangThaiKetNoi": "4G,-71dbm",
            "ViDo": 20.86, "KinhDo": "106.68",
            "ThongTinThietBi": { "CongSuat": "50", "NhietDo": "41", "DungLuongSuDung": "12%" },
            "ThoiDiemBatDau": OffsetDateTime::now_utc().unix_timestamp(),
            "NoiDungPhat": now_playing.unwrap_or_default(),
            "PhienBanUngDung": "demo-1",
        }));
        self.post("/thiet-bi/trang-thai", &state.token, &body).await.map(|_| ())
    }

    fn identified(&self, mut body: Value) -> Value {
        body["NguonID"] = json!(self.mounting.commune);
        body["TenNguon"] = json!(self.mounting.commune_name);
        body["CumLoaID"] = json!(self.mounting.imei);
        body["TenThietBi"] = json!(format!("Cụm loa {}", self.mounting.imei));
        body["TenLoaiThietBi"] = json!("Cụm loa IP");
        body["MaNhaCungCap"] = json!("DEMO");
        body["TenNhaCungCap"] = json!("Thiết bị mô phỏng");
        body
    }

    async fn post(&self, path: &str, token: &str, body: &Value) -> Result<Value> {
        Tally::add(&self.tally.calls);
        let request = self.http.post(&format!("{}{path}", self.mounting.base)).json(body);
        let request = if token.is_empty() { request } else { request.bearer(token) };
        content(path, request.send_any().await?.json()?)
    }

    async fn get(&self, path: &str, token: &str) -> Result<Value> {
        Tally::add(&self.tally.calls);
        let request = self.http.get(&format!("{}{path}", self.mounting.base)).bearer(token);
        let request = request.timeout(Duration::from_secs(POLL_SECONDS + 15));
        content(path, request.send_any().await?.json()?)
    }
}

fn content(path: &str, mut answer: Value) -> Result<Value> {
    ensure!(answer["TrangThaiGui"] == 0, "{path}: {}", answer["MoTa"]);
    Ok(answer["NoiDung"].take())
}

fn clock(now: OffsetDateTime) -> String {
    let (hour, minute, second) = now.to_hms();
    format!("{hour:02}:{minute:02}:{second:02}")
}
