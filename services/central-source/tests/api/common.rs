//! What the tests share: a made-up exchange with two provinces, a central source of it in this process, and people who
//! use its API.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_central_source::{Config, Running, start};
use httt_domain::cluster::encode_deltas;
use httt_feed::{AgencyCode, Audience, Digest, FeedId, Head, Lane, MemberKind, Sealer, SigningKey, VerifiedBatch};
use httt_log::Transaction;
use httt_node::accounts::{OtpSecret, hash_password};
use httt_node::assembly::{Node, Trust};
use httt_node::client::{ClientLimits, HttpClient};
use httt_node::config::load;
use httt_node::shutdown::Shutdown;
use httt_node::tls::anonymous_client_config;
use httt_wire::bulletin::{BulletinOffered, BulletinPlayed, BulletinReceived, BulletinScheduled};
use httt_wire::cluster::{Cluster, ClusterStatusChanged, ClustersRegistered};
use httt_wire::directory::{KeyAdded, MemberEnrolled};
use httt_wire::feed::Event;
use httt_wire::report::{ReportFiled, SummarySubmitted, Value as FiledValue, value};
use httt_wire::{Message, Name};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "mật khẩu dài";
pub(crate) const OTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// Nothing waits longer than a test that hangs.
const HANG: Duration = Duration::from_secs(30);

pub(crate) fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

/// Every member's key is known by its code.
fn seed(member: &str) -> [u8; 32] {
    Digest::of(member.as_bytes()).0
}

fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&seed(member)).expect("key")
}

/// The same key as a file, PKCS#8 (RFC 8410).
pub(crate) fn key_pem(member: &str) -> String {
    const ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = [&ED25519[..], &seed(member)].concat();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// One member's feed, sealed as the member itself would.
pub(crate) struct Feed {
    sealer: Sealer,
    feed: FeedId,
    head: Option<Head>,
    events: u64,
}

impl Feed {
    pub(crate) fn new(origin: &str, audience: &str, lane: Lane) -> Self {
        let feed = FeedId::new(code(origin), Audience::new(audience).expect("audience"), lane);
        Self { sealer: Sealer::new(code(origin), key(origin)), feed, head: None, events: 0 }
    }

    /// The next batch: messages with their streams and versions.
    pub(crate) fn seal(&mut self, events: Vec<Event>) -> VerifiedBatch {
        let named = events.into_iter().map(|event| {
            self.events += 1;
            let name = format!("{} {}", self.feed, self.events);
            Event { id: Digest::of(name.as_bytes()).0[..16].to_vec(), ..event }
        });
        let named = named.collect();
        let batch = self.sealer.seal(&self.feed, self.head.as_ref(), now_ms(), named).expect("seals");
        self.head = Some(batch.head());
        batch
    }
}

pub(crate) fn event<M: Message + Name>(stream: impl Into<String>, version: u64, message: &M) -> Event {
    Event {
        stream: stream.into(),
        version,
        r#type: M::full_name(),
        occurred_at_ms: now_ms(),
        actor: "cán bộ".to_owned(),
        data: message.encode_to_vec().into(),
        ..Event::default()
    }
}

/// What the gateway said of its members.
fn directory() -> VerifiedBatch {
    let mut events = Vec::new();
    for (member, kind, area) in [
        ("NDXP", MemberKind::Gateway, ""),
        ("TW", MemberKind::Central, ""),
        ("H24", MemberKind::Province, "31"),
        ("H55", MemberKind::Province, "19"),
    ] {
        let stream = format!("member/{member}");
        let enrolled = MemberEnrolled {
            member: member.to_owned(),
            name: format!("Đơn vị {member}"),
            kind: kind.into(),
            area: area.to_owned(),
            aliases: vec![],
        };
        let added = KeyAdded { member: member.to_owned(), key: Some(key(member).public().to_wire()) };
        events.push(event(&stream, 1, &enrolled));
        events.push(event(&stream, 2, &added));
    }
    Feed::new("NDXP", "*", Lane::Directory).seal(events)
}

/// What Hải Phòng says of a bulletin: received so long after `approved_at_ms`, offered, scheduled, played.
pub(crate) fn delivery(feed: &mut Feed, bulletin: &str, approved_at_ms: i64, latency_ms: i64) -> VerifiedBatch {
    let stream = format!("delivery/{bulletin}");
    let bulletin = bulletin.to_owned();
    let received = BulletinReceived {
        bulletin: bulletin.clone(),
        publisher: "TW".to_owned(),
        sequence: 1,
        durable_at_ms: approved_at_ms + latency_ms,
    };
    let communes = vec!["10525".to_owned(), "11824".to_owned()];
    let offered = BulletinOffered { bulletin: bulletin.clone(), communes };
    let scheduled =
        BulletinScheduled { bulletin: bulletin.clone(), commune: "10525".to_owned(), schedule: "s1".to_owned() };
    let played = BulletinPlayed { bulletin, cluster_deltas: encode_deltas([1, 2, 3]) };
    feed.seal(vec![
        event(&stream, 1, &received),
        event(&stream, 2, &offered),
        event(&stream, 3, &scheduled),
        event(&stream, 4, &played),
    ])
}

/// Four clusters of Hải Phòng: one playing, two idle, one never heard of.
pub(crate) fn clusters() -> VerifiedBatch {
    let cluster = |ordinal: u32, commune: &str| Cluster {
        ordinal,
        imei: format!("86000000000000{ordinal}"),
        commune: commune.to_owned(),
        name: format!("Cụm {ordinal}"),
        vendor: "HP".to_owned(),
    };
    let registered = ClustersRegistered {
        clusters: vec![cluster(1, "10525"), cluster(2, "10525"), cluster(3, "11824"), cluster(4, "11824")],
    };
    let changed =
        ClusterStatusChanged { at_ms: now_ms(), playing: vec![1], idle: encode_deltas([2, 3]), ..Default::default() };
    let mut feed = Feed::new("H24", "TW", Lane::Status);
    feed.seal(vec![event("clusters", 1, &registered), event("clusters", 2, &changed)])
}

/// Two communes of Hải Phòng filed, and the province says that this is all.
pub(crate) fn reports(feed: &mut Feed) -> VerifiedBatch {
    let filed = |area: &str, stations: i64, minutes: i64| {
        let number = |indicator: &str, number: i64| FiledValue {
            indicator: indicator.to_owned(),
            value: Some(value::Value::Number(number)),
        };
        let report = ReportFiled {
            form: "commune-station".to_owned(),
            form_version: 1,
            period: "2026-Q3".to_owned(),
            area: area.to_owned(),
            values: vec![
                FiledValue { indicator: "station_kind".to_owned(), value: Some(value::Value::Text("it".to_owned())) },
                number("stations", stations),
                number("hours_on_air", minutes),
                number("operating_cost", 12_500_000),
            ],
        };
        event(format!("report/commune-station/2026-Q3/{area}"), 1, &report)
    };
    let summary = SummarySubmitted {
        form: "commune-station".to_owned(),
        form_version: 1,
        period: "2026-Q3".to_owned(),
        area: "31".to_owned(),
        reports: 2,
    };
    feed.seal(vec![filed("10525", 1, 90), filed("11824", 1, 60), event("summary/commune-station/2026-Q3", 1, &summary)])
}

/// A central source's folder: keys, certificates, accounts, configuration.
pub(crate) struct World {
    folder: TempDir,
    /// The directory's first batch.
    pub(crate) founding: VerifiedBatch,
    /// Where the exchange would be; nobody listens there.
    pub(crate) exchange: SocketAddr,
}

/// A central source that runs, and a client for it.
pub(crate) struct Central {
    scheme: &'static str,
    running: Running,
    shutdown: Shutdown,
    client: HttpClient,
}

/// One person's session.
pub(crate) struct Person<'a> {
    central: &'a Central,
    token: String,
}

impl World {
    /// A new folder; the log holds the directory and `batches`.
    pub(crate) async fn new(batches: Vec<VerifiedBatch>) -> Self {
        // Bound and dropped.
        let exchange = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("port");
        let world = Self { folder: tempfile::tempdir().expect("folder"), founding: directory(), exchange };
        world.write("signing.pem", &key_pem("TW"));
        world.write("gateway.signing.pem", &key_pem("NDXP"));
        world.write_certificates();
        world.write_accounts();
        world.write_config("");
        world.copy([vec![world.founding.clone()], batches].concat()).await;
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("write");
    }

    fn write_certificates(&self) {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
        self.write("ca.pem", &ca.pem());
        for (name, uri) in
            [("http", None), ("member", Some("urn:httt:member:TW")), ("gateway", Some("urn:httt:member:NDXP"))]
        {
            let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
            let mut params = CertificateParams::new(names).expect("params");
            params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().expect("ascii"))));
            let key = KeyPair::generate().expect("key");
            let certificate = params.signed_by(&key, &ca).expect("certificate");
            self.write(&format!("{name}.pem"), &certificate.pem());
            self.write(&format!("{name}.key"), &key.serialize_pem());
        }
    }

    fn write_accounts(&self) {
        let hash = hash_password(PASSWORD).expect("hash");
        let mut text = String::new();
        for (name, roles, area) in [
            ("bientap", "\"author\"", "VN"),
            // Somebody with both roles: the rules, not the roles, keep them from approving their own work.
            ("kiemnhiem", "\"author\", \"approver\"", "VN"),
            ("duyet", "\"approver\"", "VN"),
            ("duyet2", "\"approver\"", "VN"),
            ("kiemtra", "\"auditor\"", "VN"),
            ("haiphong", "\"auditor\"", "31"),
            ("haiphong2", "\"author\"", "31"),
        ] {
            text += &format!(
                "[[account]]\nname = {name:?}\npassword_hash = {hash:?}\nroles = [{roles}]\narea = {area:?}\n\
                 otp_secret = {OTP_SECRET:?}\n"
            );
        }
        self.write("accounts.toml", &text);
    }

    /// Writes the configuration, with further lines at its beginning.
    pub(crate) fn write_config(&self, more: &str) {
        let text = format!(
            "{more}\n\
             [node]\nmember = \"TW\"\ndata_dir = \"data\"\nsigning_key = \"signing.pem\"\n\
             gateway_fingerprint = \"{}\"\n[node.media]\nmax_file_bytes = 1000000\n\
             [tls]\ncertificate = \"member.pem\"\nkey = \"member.key\"\nca = \"ca.pem\"\n\
             [upstream]\nkind = \"grpc\"\naddress = \"https://{}\"\nstart_alone_after_ms = 10\n\
             [http]\nlisten = \"127.0.0.1:0\"\ntls = {{ certificate = \"http.pem\", key = \"http.key\" }}\n\
             [accounts]\nfile = \"accounts.toml\"\n",
            key("NDXP").public().fingerprint(),
            self.exchange,
        );
        self.write("central-source.toml", &text);
    }

    pub(crate) fn config(&self) -> Result<Config, httt_node::config::ConfigError> {
        load(&self.path("central-source.toml"))
    }

    /// Puts batches of others into the log of a central source that does not run.
    pub(crate) async fn copy(&self, batches: Vec<VerifiedBatch>) {
        let config = self.config().expect("configuration");
        let node = self
            .until_unlocked(async || Node::open(&config.node, Trust::Configured, "test").await.map_err(Into::into))
            .await;
        node.log.commit(Transaction::copy(batches)).await.expect("copied");
        node.close(&Shutdown::new()).await;
    }

    pub(crate) async fn start(&self) -> Central {
        self.start_with("https", false).await
    }

    pub(crate) async fn start_with(&self, scheme: &'static str, allow_plain_http: bool) -> Central {
        let config = self.config().expect("configuration");
        let shutdown = Shutdown::new();
        let running = self.until_unlocked(async || start(&config, &shutdown).await).await;
        let limits = ClientLimits { request_timeout: HANG, allow_plain_http, ..ClientLimits::default() };
        let tls = anonymous_client_config(&self.path("ca.pem")).expect("TLS");
        Central { scheme, running, shutdown, client: HttpClient::with_limits(tls, limits) }
    }

    /// A log that was just closed is free once the last reader noticed.
    async fn until_unlocked<T>(&self, open: impl AsyncFn() -> anyhow::Result<T>) -> T {
        let began = tokio::time::Instant::now();
        loop {
            match open().await {
                Ok(opened) => return opened,
                Err(error) if format!("{error:#}").contains("is open already") && began.elapsed() < HANG => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => panic!("{error:#}"),
            }
        }
    }
}

impl Central {
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.running.close(&self.shutdown).await;
        assert_eq!(self.shutdown.failure(), None);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.running.http)
    }

    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    pub(crate) fn node(&self) -> &Node {
        &self.running.node
    }

    pub(crate) async fn log_in(&self, name: &str) -> Person<'_> {
        let typed = json!({ "username": name, "password": PASSWORD });
        let session: Value = self.client.post_json(&self.url("/api/v1/session"), &typed).await.expect("session");
        Person { central: self, token: session["token"].as_str().expect("token").to_owned() }
    }
}

impl Person<'_> {
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let url = self.central.url(&format!("/api/v1{path}"));
        let request = self.central.client.request(method, &url).bearer(&self.token);
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let reply = request.send_any().await.expect("an answer");
        (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::POST, path, Some(&body)).await;
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// POST without a body.
    pub(crate) async fn post_nothing(&self, path: &str) -> (u16, Value) {
        self.ask(Method::POST, path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::PUT, path, Some(&body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Status and error of what must be refused.
    pub(crate) async fn refused(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let (status, answer) = self.ask(method, path, body.as_ref()).await;
        assert!(status >= 400, "{path}: {status} {answer}");
        for text in ["code", "message", "message_en"] {
            assert!(answer["error"][text].as_str().is_some_and(|text| !text.is_empty()), "{path}: {answer}");
        }
        (status, answer["error"].clone())
    }

    /// POST whose outcome is open.
    pub(crate) async fn try_post(&self, path: &str, body: &Value) -> u16 {
        self.ask(Method::POST, path, Some(body)).await.0
    }

    pub(crate) async fn post_refused(&self, path: &str, body: Value) -> (u16, String) {
        let (status, error) = self.refused(Method::POST, path, Some(body)).await;
        (status, error["code"].as_str().unwrap_or_default().to_owned())
    }

    pub(crate) async fn upload(&self, data: Vec<u8>) -> (StatusCode, Value) {
        let url = self.central.url("/api/v1/media");
        let request = self.central.client.put(&url).bearer(&self.token).body("audio/mpeg", data);
        let reply = request.send_any().await.expect("an answer");
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or(Value::Null))
    }

    /// A new bulletin's identifier and version.
    pub(crate) async fn draft(&self, content: Value) -> String {
        let answer = self.post("/bulletins", json!({ "content": content })).await;
        assert_eq!(answer["stage"], "draft");
        answer["bulletin"].as_str().expect("identifier").to_owned()
    }

    /// A bulletin of plain text, submitted.
    pub(crate) async fn submitted(&self, title: &str, priority: &str) -> String {
        let id = self.draft(json!({ "title": title, "body": "Nội dung", "priority": priority })).await;
        self.post(&format!("/bulletins/{id}/submit"), json!({})).await;
        id
    }
}

/// The code that an approver's phone shows now.
pub(crate) fn otp() -> String {
    OtpSecret::from_base32(OTP_SECRET).expect("secret").code_at(now_ms())
}
