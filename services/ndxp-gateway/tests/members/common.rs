//! What the tests share: keys, a certificate authority, and a gateway in this process.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use httt_feed::{AgencyCode, Digest, SigningKey};
use httt_ndxp_gateway::{Config, Kind, MemberFile, Running, start};
use httt_node::accounts::{OtpSecret, hash_password};
use httt_node::client::{HttpClient, Reply};
use httt_node::config::load;
use httt_node::shutdown::Shutdown;
use httt_node::tls::anonymous_client_config;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing waits longer than a test that hangs.
pub(crate) const HANG: Duration = Duration::from_secs(120);
pub(crate) const PASSWORD: &str = "mật khẩu dài";
/// Each account has a one-time secret of its own; a code is good once, so tests that need many take many accounts.
pub(crate) const OTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

pub(crate) fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn seed(member: &str) -> [u8; 32] {
    Digest::of(member.as_bytes()).0
}

pub(crate) fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&seed(member)).expect("key")
}

/// The same key as a file, PKCS#8 (RFC 8410).
pub(crate) fn key_pem(member: &str) -> String {
    const ED25519: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let der = [&ED25519[..], &seed(member)].concat();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", BASE64_STANDARD.encode(der))
}

pub(crate) fn file(code: &str, kind: Kind, carriers: &[&str]) -> MemberFile {
    MemberFile {
        code: code.into(),
        name: format!("Đơn vị {code}"),
        kind,
        area: "31".into(),
        public_keys: vec![hex::encode(key(code).public().value())],
        certificates: vec![],
        carriers: carriers.iter().map(|carrier| (*carrier).to_owned()).collect(),
    }
}

pub(crate) fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// A certificate authority in a folder.
pub(crate) struct Pki {
    pub(crate) dir: TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("params");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).expect("write");
        Self { dir, ca }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes `NAME.pem` and `NAME.key` for `member`; the certificate as PEM.
    pub(crate) fn issue(&self, name: &str, member: &str) -> String {
        let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("params");
        let uri = format!("urn:httt:member:{member}").try_into().expect("URI");
        params.subject_alt_names.push(SanType::URI(uri));
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.ca).expect("certificate").pem();
        std::fs::write(self.path(&format!("{name}.pem")), &certificate).expect("write");
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).expect("write");
        certificate
    }
}

/// Members that begin by a file, and three operators and an auditor.
pub(crate) fn prepare(pki: &Pki) -> PathBuf {
    pki.issue("NDXP", "NDXP");
    let members = pki.path("members");
    std::fs::create_dir_all(&members).expect("dir");
    for file in [
        file("NDXP", Kind::Gateway, &[]),
        file("TW", Kind::Central, &[]),
        file("H24", Kind::Province, &[]),
        file("H55", Kind::Province, &["H55.LGSP"]),
        file("H55.LGSP", Kind::Carrier, &[]),
    ] {
        let text = toml::to_string(&file).expect("toml");
        std::fs::write(members.join(format!("{}.toml", file.code)), text).expect("write");
    }
    std::fs::write(pki.path("signing.key"), key_pem("NDXP")).expect("write");
    let hash = hash_password(PASSWORD).expect("hash");
    let account = |name: &str, role: &str| {
        format!(
            "[[account]]\nname = {name:?}\npassword_hash = {hash:?}\nroles = [{role:?}]\narea = \"VN\"\n\
             otp_secret = {OTP_SECRET:?}\n"
        )
    };
    let mut accounts = account("auditor", "auditor");
    (1..=4).for_each(|number| accounts += &account(&format!("admin{number}"), "administrator"));
    std::fs::write(pki.path("accounts.toml"), accounts).expect("write");
    let config = r#"
        [node]
        member = "NDXP"
        data_dir = "data"
        signing_key = "signing.key"
        [tls]
        certificate = "NDXP.pem"
        key = "NDXP.key"
        ca = "ca.pem"
        [exchange]
        listen = "127.0.0.1:0"
        members = "members"
        [http]
        listen = "127.0.0.1:0"
        tls = { certificate = "NDXP.pem", key = "NDXP.key" }
        [accounts]
        file = "accounts.toml"
    "#;
    let path = pki.path("gateway.toml");
    std::fs::write(&path, config).expect("write");
    path
}

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) running: Running,
    shutdown: Shutdown,
    http: HttpClient,
    data: PathBuf,
}

/// Waits until nobody holds the log of a data folder any more: who still reads may hold it a little longer than its node.
pub(crate) async fn free(data: &Path) {
    let lock = std::fs::File::open(data.join("log").join("lock")).expect("lock");
    let waited = async {
        while lock.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, waited).await.unwrap_or_else(|_| panic!("{} is not free", data.display()));
}

fn judged(reply: Reply) -> Result<Value, (u16, Value)> {
    let status = reply.status;
    let body: Value = reply.json().expect("JSON");
    if status.is_success() { Ok(body) } else { Err((status.as_u16(), body["error"].clone())) }
}

impl Gateway {
    pub(crate) async fn start(pki: &Pki, config: &Path) -> Self {
        let config: Config = load(config).expect("configuration");
        let shutdown = Shutdown::new();
        let running = start(&config, &shutdown).await.expect("starts");
        let http = HttpClient::new(anonymous_client_config(&pki.path("ca.pem")).expect("tls"));
        Self { running, shutdown, http, data: config.node.data_dir.to_path_buf() }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.running.close(&self.shutdown).await;
        free(&self.data).await;
    }

    /// The figures for monitors, of a gateway that shows them to everybody.
    pub(crate) async fn figures(&self) -> String {
        let reply = self.http.get(&format!("https://{}/metrics", self.running.http)).send().await.expect("answers");
        String::from_utf8(reply.body.to_vec()).expect("text")
    }

    /// What an account gets of a path that is not the API's.
    pub(crate) async fn plain(&self, account: &str, path: &str) -> (u16, String) {
        let token = self.token(account).await;
        let url = format!("https://{}{path}", self.running.http);
        let reply = self.http.get(&url).bearer(&token).send_any().await.expect("answers");
        (reply.status.as_u16(), String::from_utf8_lossy(&reply.body).into_owned())
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}/api/v1{path}", self.running.http)
    }

    async fn token(&self, account: &str) -> String {
        let typed = json!({ "username": account, "password": PASSWORD });
        let reply = self.http.post(&self.url("/session")).json(&typed).send().await.expect("logs in");
        let answer: Value = reply.json().expect("JSON");
        answer["token"].as_str().expect("token").to_owned()
    }

    pub(crate) async fn get(&self, account: &str, path: &str) -> Value {
        let token = self.token(account).await;
        self.http.get(&self.url(path)).bearer(&token).send().await.expect("answers").json().expect("JSON")
    }

    /// What keeps it from being ready, as JSON; empty when nothing does.
    pub(crate) async fn readiness(&self) -> String {
        let url = format!("https://{}/readyz", self.running.http);
        let body: Value = self.http.get(&url).send_any().await.expect("answers").json().expect("JSON");
        body.get("not_ready").map(Value::to_string).unwrap_or_default()
    }

    /// Gives an order with a fresh one-time code; each account has one.
    pub(crate) async fn order(&self, account: &str, command: Value) -> Result<Value, (u16, Value)> {
        let otp = OtpSecret::from_base32(OTP_SECRET).expect("secret").code_at(now_ms());
        self.order_with(account, json!({ "command": command, "reason": "kiểm thử", "otp": otp })).await
    }

    pub(crate) async fn order_with(&self, account: &str, order: Value) -> Result<Value, (u16, Value)> {
        let token = self.token(account).await;
        judged(self.http.post(&self.url("/members")).json(&order).bearer(&token).send_any().await.expect("answers"))
    }

    /// Sends a file.
    pub(crate) async fn send(&self, account: &str, path: &str, file: Vec<u8>) -> Result<Value, (u16, Value)> {
        let token = self.token(account).await;
        let request = self.http.post(&self.url(path)).body("application/octet-stream", file).bearer(&token);
        judged(request.send_any().await.expect("answers"))
    }
}
