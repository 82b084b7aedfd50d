//! Gateway, adapter and one province on loopback TLS, each the real service in this process.

use std::fs;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use httt_feed::{AgencyCode, Audience, Digest, FeedId, Lane, Sealer, SigningKey};
use httt_log::{Entry, Log, NewEvent, OpenError, Options, Transaction};
use httt_node::accounts::hash_password;
use httt_node::config::load;
use httt_node::shutdown::Shutdown;
use httt_provincial_source::Started;
use httt_wire::Message as _;
use httt_wire::exchange::Receipt;
use rcgen::string::Ia5String;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use tokio::task::JoinHandle;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
pub(crate) const PASSWORD: &str = "một mật khẩu rất dài 2026";
/// What the client by OAuth2 and the client by keys know.
pub(crate) const CLIENT_SECRET: &str = "f3b1-2c7d-aa90-55e1";

/// How the province reaches the exchange.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Direct,
    /// By OAuth2, in protobuf.
    Adapter,
    /// By the three headers, in JSON.
    AdapterByKeys,
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    exchange: SocketAddr,
    pub(crate) adapter_at: SocketAddr,
}

/// A service that runs in this process.
pub(crate) struct Running {
    shutdown: Shutdown,
    task: JoinHandle<()>,
    log: PathBuf,
}

impl Running {
    /// Stops it, as SIGTERM would, and waits until its log is closed.
    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(PATIENCE, self.task).await.expect("stops").expect("ran well");
        unlocked(&self.log).await;
    }
}

/// The province, while it runs.
pub(crate) struct Province {
    shutdown: Shutdown,
    pub(crate) started: Started,
}

impl Province {
    pub(crate) async fn stop(self) {
        let log = self.started.node.log.dir().to_owned();
        self.shutdown.trigger();
        self.started.node.close(&self.shutdown).await;
        drop(self.started.models);
        unlocked(&log).await;
    }

    /// Seals one batch with `bytes` of text in it.
    pub(crate) async fn say(&self, lane: Lane, bytes: usize) {
        let data = httt_wire::bulletin::BulletinWithdrawn { bulletin: "b".into(), reason: "x".repeat(bytes) };
        let event = NewEvent::of(Audience::One(code("TW")), lane, format!("test/{lane}"), &data);
        self.started.node.log.commit(Transaction::append([event])).await.expect("commits");
    }

    /// Waits until the gateway's receipts say that it holds `feed` as far as this province does.
    pub(crate) async fn receipted(&self, lane: Lane) {
        let feed = own(lane);
        let here = self.started.node.log.head(&feed).expect("said").sequence;
        until("receipts", || async {
            receipts(&self.started.node.log).iter().any(|(known, sequence)| *known == feed && *sequence == here)
        })
        .await;
    }
}

/// Waits until nothing in this process holds the log, as the end of a process would have it.
async fn unlocked(log: &Path) {
    until("the log is let go", || async {
        let options = Options { read_only: true, ..Options::default() };
        let opened = Log::open(log, Arc::new(Sealer::new(code("NDXP"), key("NDXP"))), options);
        !matches!(opened, Err(OpenError::Locked { .. }))
    })
    .await;
}

pub(crate) fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

/// The province's feed to the ministry.
pub(crate) fn own(lane: Lane) -> FeedId {
    FeedId::new(code("H55"), Audience::One(code("TW")), lane)
}

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is: impl FnMut() -> F) {
    let end = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every entry of `feed`.
pub(crate) fn entries(log: &Log, feed: &FeedId) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    loop {
        let after = all.last().map_or(0, |entry| entry.sequence);
        let more = log.read_feed(feed, after, 1 << 20).expect("reads");
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// The receipts in a log, by feed and sequence.
pub(crate) fn receipts(log: &Log) -> Vec<(FeedId, u64)> {
    let feed = FeedId::new(code("NDXP"), Audience::One(code("H55")), Lane::Report);
    let events = entries(log, &feed).into_iter().flat_map(|entry| entry.batch.events.clone());
    let receipts = events.map(|event| Receipt::decode(event.data.as_ref()).expect("a receipt"));
    receipts
        .map(|receipt| (FeedId::from_wire(receipt.feed.as_ref().expect("feed")).expect("feed"), receipt.sequence))
        .collect()
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let listeners = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [exchange, gateway_at, adapter_at, province_at] =
            listeners.map(|listener| listener.local_addr().expect("address"));
        let world = Self { dir, exchange, adapter_at };
        world.write_pki();
        world.write_members();
        let hash = hash_password(PASSWORD).expect("hash");
        let account =
            format!("[[account]]\nname = 'auditor'\npassword_hash = '{hash}'\nroles = ['auditor']\narea = 'VN'\n");
        world.write("accounts.toml", &account);
        world.write("secret", CLIENT_SECRET);
        let exchange = format!("[exchange]\nlisten = '{}'\nmembers = 'members'\n", world.exchange);
        world.write("NDXP.toml", &world.config("NDXP", gateway_at, "", &exchange));
        let sha256 = Digest::of(CLIENT_SECRET.as_bytes());
        let clients = format!(
            "[[client]]\nmember = 'H55'\nid = 'h55'\nsecret_sha256 = '{sha256}'\n\
             [[client]]\nmember = 'H55'\napp_name = 'httt'\naccess_key = 'K1'\nsecret_key_sha256 = '{sha256}'\n\
             [[client]]\nmember = 'H55'\nid = 'old'\nsecret_sha256 = '{sha256}'\ndisabled = true\n\
             [[client]]\nmember = 'H55'\nid = 'little'\nsecret_sha256 = '{sha256}'\ncalls_per_minute = 2\n"
        );
        let up = world.upstream(Way::Direct);
        world.write("H55.LGSP.toml", &world.config("H55.LGSP", adapter_at, "", &format!("{up}{clients}")));
        world.write("province_at", &province_at.to_string());
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect(name);
    }

    fn config(&self, member: &str, http: SocketAddr, keys: &str, tables: &str) -> String {
        let trust = match member {
            "NDXP" => String::new(),
            _ => format!("gateway_fingerprint = '{}'\n", key("NDXP").public().fingerprint()),
        };
        let tls = format!("certificate = '{member}.pem', key = '{member}.key'");
        format!(
            "{keys}[node]\nmember = '{member}'\ndata_dir = '{member}'\nsigning_key = '{member}.signing'\n{trust}\
             [tls]\ncertificate = '{member}.pem'\nkey = '{member}.key'\nca = 'ca.pem'\n\
             [http]\nlisten = '{http}'\ntls = {{ {tls} }}\n[accounts]\nfile = 'accounts.toml'\n{tables}"
        )
    }

    fn upstream(&self, way: Way) -> String {
        let keys = match way {
            Way::Direct => format!("kind = 'grpc'\naddress = 'https://{}'\n", self.exchange),
            Way::Adapter => format!(
                "kind = 'rest'\naddress = 'https://{}'\nclient_id = 'h55'\nclient_secret = {{ file = 'secret' }}\n",
                self.adapter_at
            ),
            Way::AdapterByKeys => format!(
                "kind = 'rest'\naddress = 'https://{}'\nauth = 'headers'\napp_name = 'httt'\naccess_key = 'K1'\n\
                 secret_key = {{ file = 'secret' }}\nbody = 'json'\n",
                self.adapter_at
            ),
        };
        format!("[upstream]\nstart_alone_after_ms = 1000\n{keys}")
    }

    fn write_pki(&self) {
        let mut params = CertificateParams::new(Vec::new()).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
        self.write("ca.pem", &ca.pem());
        for member in MEMBERS {
            let own = KeyPair::generate().expect("key");
            let mut params =
                CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("params");
            // Without a name of its own it would look self-signed to OpenSSL.
            params.distinguished_name.push(DnType::CommonName, member);
            let name = Ia5String::try_from(format!("urn:httt:member:{member}")).expect("name");
            params.subject_alt_names.push(SanType::URI(name));
            self.write(&format!("{member}.pem"), &params.signed_by(&own, &ca).expect("certificate").pem());
            self.write(&format!("{member}.key"), &own.serialize_pem());
            let seed = seed(member);
            self.write(&format!("{member}.signing"), &signing_pem(&seed));
        }
    }

    fn write_members(&self) {
        fs::create_dir(self.path("members")).expect("folder");
        for (member, kind) in MEMBERS.into_iter().zip(["gateway", "central", "province", "carrier"]) {
            let carriers = if member == "H55" { "['H55.LGSP']" } else { "[]" };
            let public = hex::encode(key(member).public().value());
            let text =
                format!("code = '{member}'\nkind = '{kind}'\npublic_keys = ['{public}']\ncarriers = {carriers}\n");
            self.write(&format!("members/{member}.toml"), &text);
        }
    }

    pub(crate) fn gateway(&self) -> Running {
        let config: httt_ndxp_gateway::Config = load(&self.path("NDXP.toml")).expect("config");
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { httt_ndxp_gateway::run(config, stop).await.expect("gateway") });
        Running { shutdown, task, log: self.path("NDXP/log") }
    }

    pub(crate) fn adapter(&self) -> Running {
        let config: httt_lgsp_adapter::Config = load(&self.path("H55.LGSP.toml")).expect("config");
        let shutdown = Shutdown::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move { httt_lgsp_adapter::run(config, stop).await.expect("adapter") });
        Running { shutdown, task, log: self.path("H55.LGSP/log") }
    }

    /// The province, started with nothing changed but its section `[upstream]`.
    pub(crate) async fn province(&self, way: Way) -> Province {
        let at = fs::read_to_string(self.path("province_at")).expect("address").parse().expect("address");
        let devices = "[devices]\nstatus_every_ms = 60000\noffline_after_ms = 120000\n";
        let tables = format!("{}{devices}", self.upstream(way));
        self.write("H55.toml", &self.config("H55", at, "area = '19'\n", &tables));
        let config: httt_provincial_source::Config = load(&self.path("H55.toml")).expect("config");
        let shutdown = Shutdown::new();
        let started = httt_provincial_source::start(config, &shutdown).await.expect("province");
        Province { shutdown, started }
    }

    /// The log of a node that is stopped.
    pub(crate) fn log(&self, member: &str) -> Log {
        let sealer = Arc::new(Sealer::new(code(member), key(member)));
        let options = Options { read_only: true, ..Options::default() };
        Log::open(&Path::new(&self.path(member)).join("log"), sealer, options).expect("opens").0
    }
}

const MEMBERS: [&str; 4] = ["NDXP", "TW", "H55", "H55.LGSP"];

fn seed(member: &str) -> [u8; 32] {
    Digest::of(member.as_bytes()).0
}

pub(crate) fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&seed(member)).expect("key")
}

/// PKCS#8 of an Ed25519 key (RFC 8410).
fn signing_pem(seed: &[u8; 32]) -> String {
    use base64::Engine as _;
    let mut der = hex::decode("302e020100300506032b657004220420").expect("head");
    der.extend(seed);
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}
