//! A province in this process, on loopback TLS, with a dead line to the exchange; and a ministry whose sealed batches
//! are put into its log by hand.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::http::{Method, StatusCode};
use httt_domain::bulletin::Content;
use httt_feed::{AgencyCode, Audience, Digest, FeedId, Head, Lane, MemberKind, Sealer, SigningKey};
use httt_log::{Direction, RecordedEvent, Transaction};
use httt_node::accounts::hash_password;
use httt_node::client::{HttpClient, Reply};
use httt_node::config::load;
use httt_node::shutdown::Shutdown;
use httt_node::tls::anonymous_client_config;
use httt_provincial_source::{Config, Started, start};
use httt_wire::bulletin::{BulletinPublished, BulletinWithdrawn};
use httt_wire::{Message, Name, directory, feed as pb};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

pub const OWN: &str = "H24";
/// Two communes of the province 31, and one of another.
pub const COMMUNE: &str = "10525";
pub const OTHER_COMMUNE: &str = "10507";
pub const PASSWORD: &str = "một mật khẩu rất dài 2026";
pub const LONG: Duration = Duration::from_secs(60);

pub fn imei(number: u64) -> String {
    format!("86{number:013}")
}

pub fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).unwrap()
}

pub fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).unwrap()
}

pub fn feed(origin: &str, audience: &str, lane: Lane) -> FeedId {
    FeedId::new(code(origin), Audience::new(audience).unwrap(), lane)
}

/// Milliseconds that a demo shortens.
#[derive(Clone, Copy)]
pub struct Pace {
    pub every: u64,
    pub offline: u64,
    pub tick: u64,
}

pub const QUICK: Pace = Pace { every: 1_000, offline: 60_000, tick: 100 };

/// A folder with everything a province is configured with.
pub struct Place {
    pub dir: tempfile::TempDir,
    pace: Pace,
}

impl Place {
    pub fn new(pace: Pace) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self { dir, pace };
        place.write_pki();
        let (_, pem) = SigningKey::generate().unwrap();
        place.write("signing.key", &pem);
        place.write_accounts();
        place.write("config.toml", &place.config_text());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn write_pki(&self) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let own = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        self.write("ca.pem", &ca.pem());
        self.write("tls.pem", &params.signed_by(&own, &ca).unwrap().pem());
        self.write("tls.key", &own.serialize_pem());
    }

    fn write_accounts(&self) {
        let hash = hash_password(PASSWORD).unwrap();
        let accounts = [
            ("officer", "province-officer", "31"),
            ("operator", "operator", "31"),
            ("auditor", "auditor", "31"),
            ("commune", "commune-officer", COMMUNE),
            ("other", "commune-officer", OTHER_COMMUNE),
        ];
        let table = |(name, role, area): (&str, &str, &str)| {
            format!("[[account]]\nname = '{name}'\npassword_hash = '{hash}'\nroles = ['{role}']\narea = '{area}'\n")
        };
        self.write("accounts.toml", &accounts.map(table).concat());
    }

    pub fn config_text(&self) -> String {
        let Pace { every, offline, tick } = self.pace;
        format!(
            "area = '31'\n[node]\nmember = '{OWN}'\ndata_dir = 'data'\nsigning_key = 'signing.key'\n\
             gateway_fingerprint = '{}'\n[tls]\ncertificate = 'tls.pem'\nkey = 'tls.key'\nca = 'ca.pem'\n\
             [upstream]\nkind = 'grpc'\naddress = 'https://127.0.0.1:1'\nstart_alone_after_ms = 10\n\
             [http]\nlisten = '127.0.0.1:0'\ntls = {{ certificate = 'tls.pem', key = 'tls.key' }}\n\
             [accounts]\nfile = 'accounts.toml'\n\
             [devices]\nstatus_every_ms = {every}\noffline_after_ms = {offline}\nstatus_tick_ms = {tick}\n",
            key("NDXP").public().fingerprint()
        )
    }

    pub async fn start(&self) -> Running {
        let until = Instant::now() + LONG;
        loop {
            let config: Config = load(&self.path("config.toml")).unwrap();
            let shutdown = Shutdown::new();
            match start(config, &shutdown).await {
                Ok(started) => return Running::new(started, shutdown, &self.path("ca.pem")),
                // The log of the process before is let go when its last connection has ended.
                Err(error) if format!("{error:#}").contains("open already") && Instant::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error:#}"),
            }
        }
    }
}

/// A running province and a client of it.
pub struct Running {
    pub started: Started,
    pub shutdown: Shutdown,
    pub http: HttpClient,
    pub base: String,
}

impl Running {
    fn new(started: Started, shutdown: Shutdown, ca: &Path) -> Self {
        let http = HttpClient::new(anonymous_client_config(ca).unwrap());
        let base = format!("https://{}", started.address);
        Self { started, shutdown, http, base }
    }

    pub async fn stop(self) {
        assert_eq!(self.shutdown.failure(), None);
        self.shutdown.trigger();
        self.started.node.close(&self.shutdown).await;
    }

    pub async fn person(&self, name: &str) -> Person<'_> {
        let body = json!({ "username": name, "password": PASSWORD });
        let reply = self.http.post(&format!("{}/api/v1/session", self.base)).json(&body).send().await.unwrap();
        let answer: Value = reply.json().unwrap();
        Person { running: self, token: answer["token"].as_str().unwrap().to_owned() }
    }

    /// Registers a cluster and gives its secret.
    pub async fn register(&self, imei: &str, commune: &str) -> Value {
        let operator = self.person("operator").await;
        let body = json!([{ "imei": imei, "commune": commune, "name": "Nhà văn hóa", "vendor": "ACME" }]);
        let (status, answer) = operator.send(Method::POST, "/api/v1/clusters", Some(&body)).await;
        assert_eq!(status, StatusCode::CREATED, "{answer}");
        answer[0].clone()
    }

    /// A cluster that is registered and logged in.
    pub async fn device(&self, imei: &str, commune: &str) -> Box_ {
        let registered = self.register(imei, commune).await;
        let password = registered["password"].as_str().unwrap().to_owned();
        self.log_in(imei, &password).await
    }

    pub async fn log_in(&self, imei: &str, password: &str) -> Box_ {
        let mut device = Box_ {
            http: self.http.clone(),
            base: self.base.clone(),
            imei: imei.to_owned(),
            password: password.to_owned(),
            token: String::new(),
        };
        let answer = device.post("/thiet-bi/dang-nhap", &json!({ "Username": imei, "Password": password })).await;
        device.token = good(answer)["Token"].as_str().unwrap().to_owned();
        device
    }

    /// The events of one of the node's own streams.
    pub fn stream(&self, stream: &str) -> Vec<RecordedEvent> {
        self.started.node.log.read_stream(&code(OWN), stream, 1, Direction::Forward, 10_000).unwrap()
    }

    /// The messages of one type in one of the node's own streams.
    pub fn messages<M: Message + Name + Default>(&self, stream: &str) -> Vec<M> {
        let events = self.stream(stream).into_iter().filter(|event| event.event.r#type == M::full_name());
        events.map(|event| M::decode(event.event.data.clone()).unwrap()).collect()
    }

    /// That every model is what its rebuild is.
    pub async fn compare(&self) {
        for one in self.started.models.compare().await.unwrap() {
            assert!(one.equal, "{one:?}");
        }
    }
}

/// Somebody with a session.
pub struct Person<'a> {
    running: &'a Running,
    token: String,
}

impl Person<'_> {
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (StatusCode, Value) {
        let request = self.running.http.request(method, &format!("{}{path}", self.running.base)).bearer(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let reply = request.send_any().await.unwrap();
        let status = reply.status;
        (status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, answer) = self.send(Method::GET, path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.send(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "{path}: {status} {answer}");
        answer
    }

    /// The codes with which something is refused, and the status.
    pub async fn refused(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Vec<String>, Value) {
        let (status, answer) = self.send(method, path, Some(body)).await;
        assert!(status.is_client_error(), "{path}: {status} {answer}");
        let error = &answer["error"];
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
        let codes = match error["details"].as_array() {
            Some(details) => details.iter().map(|one| one["code"].as_str().unwrap().to_owned()).collect(),
            None => vec![error["code"].as_str().unwrap().to_owned()],
        };
        (status, codes, answer)
    }
}

/// A vendor's box.
#[derive(Clone)]
pub struct Box_ {
    pub http: HttpClient,
    pub base: String,
    pub imei: String,
    pub password: String,
    pub token: String,
}

impl Box_ {
    pub async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        self.post_text(path, &body.to_string()).await
    }

    pub async fn post_text(&self, path: &str, body: &str) -> (StatusCode, Value) {
        let request = self.http.post(&format!("{}{path}", self.base)).body("text/plain", body.to_owned());
        let request = if self.token.is_empty() { request } else { request.bearer(&self.token) };
        answer(request.send_any().await.unwrap())
    }

    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = self.http.get(&format!("{}{path}", self.base)).bearer(&self.token);
        answer(request.send_any().await.unwrap())
    }

    pub async fn poll(&self, wait_s: u64, revision: u64) -> Value {
        good(self.get(&format!("/thiet-bi/lenh?cho={wait_s}&phien-ban={revision}")).await)
    }

    pub async fn status(&self, activity: &str) {
        let body = json!({ "CumLoaID": self.imei, "AmLuong": "70", "TrangThaiHoatDong": activity });
        good(self.post("/thiet-bi/trang-thai", &body).await);
    }

    pub async fn played(&self, bulletin: &str, started_s: i64) {
        let body = json!({ "CumLoaID": self.imei, "BanTinID": bulletin, "ThoiDiemBatDau": started_s, "AmLuong": "70" });
        good(self.post("/thiet-bi/nhat-ky", &body).await);
    }
}

fn answer(reply: Reply) -> (StatusCode, Value) {
    (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
}

/// The content of an envelope that says success.
pub fn good((status, answer): (StatusCode, Value)) -> Value {
    assert_eq!((status, &answer["TrangThaiGui"]), (StatusCode::OK, &json!(0)), "{answer}");
    answer["NoiDung"].clone()
}

/// The words of an envelope that says error.
pub fn bad((status, answer): (StatusCode, Value)) -> String {
    assert_eq!((status, &answer["TrangThaiGui"]), (StatusCode::OK, &json!(1)), "{answer}");
    answer["MoTa"].as_str().unwrap().to_owned()
}

/// Others whose sealed batches a carrier would bring.
pub struct Outside {
    heads: HashMap<FeedId, Head>,
    versions: HashMap<(String, String), u64>,
}

impl Outside {
    /// The gateway's directory comes first.
    pub async fn arrives(running: &Running) -> Self {
        let mut outside = Self { heads: HashMap::new(), versions: HashMap::new() };
        let mut events = Vec::new();
        for (member, kind) in
            [("NDXP", MemberKind::Gateway), ("TW", MemberKind::Central), ("H55", MemberKind::Province)]
        {
            let enrolled = directory::MemberEnrolled {
                member: member.into(),
                name: member.into(),
                kind: kind.into(),
                area: String::new(),
                aliases: vec![],
            };
            let added = directory::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) };
            events.push(("directory".to_owned(), typed(&enrolled)));
            events.push(("directory".to_owned(), typed(&added)));
        }
        outside.tell(running, "NDXP", Lane::Directory, events).await;
        outside
    }

    /// Seals events in `origin→*/lane` and puts them into the province's log.
    pub async fn tell(&mut self, running: &Running, origin: &str, lane: Lane, events: Vec<(String, pb::Event)>) {
        let feed = feed(origin, "*", lane);
        let events = events.into_iter().map(|(stream, event)| {
            let version = self.versions.entry((origin.to_owned(), stream.clone())).or_default();
            *version += 1;
            pb::Event { stream, version: *version, occurred_at_ms: event.occurred_at_ms, ..event }
        });
        let events = events.collect();
        let sealer = Sealer::new(code(origin), key(origin));
        let batch = sealer.seal(&feed, self.heads.get(&feed), now_ms(), events).unwrap();
        self.heads.insert(feed, batch.head());
        let committed = running.started.node.log.commit(Transaction::copy([batch])).await.unwrap();
        assert!(running.started.models.reached(committed.next).await);
    }

    pub async fn publish(&mut self, running: &Running, origin: &str, id: &str, version: u32, content: &Content) {
        let emergency = content.priority.is_emergency();
        let published = BulletinPublished {
            bulletin: id.into(),
            version,
            content: Some(content.to_wire()),
            author: "editor".into(),
            approver: "approver".into(),
            approved_at_ms: now_ms(),
        };
        let lane = if emergency { Lane::Emergency } else { Lane::Content };
        self.tell(running, origin, lane, vec![(format!("bulletin/{id}"), typed(&published))]).await;
    }

    pub async fn withdraw(&mut self, running: &Running, id: &str, emergency: bool) {
        self.withdraw_at(running, id, emergency, now_ms()).await;
    }

    pub async fn withdraw_at(&mut self, running: &Running, id: &str, emergency: bool, at_ms: i64) {
        let withdrawn = BulletinWithdrawn { bulletin: id.into(), reason: "sai nội dung".into() };
        let lane = if emergency { Lane::Emergency } else { Lane::Content };
        let event = pb::Event { occurred_at_ms: at_ms, ..typed(&withdrawn) };
        self.tell(running, "TW", lane, vec![(format!("bulletin/{id}"), event)]).await;
    }
}

pub fn typed<M: Message + Name>(message: &M) -> pb::Event {
    pb::Event {
        id: uuid::Uuid::now_v7().as_bytes().to_vec(),
        r#type: M::full_name(),
        occurred_at_ms: now_ms(),
        data: message.encode_to_vec().into(),
        ..Default::default()
    }
}

pub fn now_ms() -> i64 {
    httt_node::clock::system()()
}

/// Waits until something is so; it has a minute.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let end = Instant::now() + LONG;
    while !is_so().await {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub fn text(title: &str) -> Content {
    Content { title: title.into(), body: "Nội dung thông báo.".into(), ..Content::default() }
}

pub fn emergency(title: &str) -> Content {
    Content { priority: httt_domain::bulletin::Priority::Emergency, ..text(title) }
}
