//! Feeds by hand as operators do it: `httt feed` on the folders of nodes that are stopped, and the API of one that runs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use httt_feed::{AgencyCode, Audience, Digest, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_node::accounts::hash_password;
use httt_node::client::{ClientLimits, HttpClient};
use httt_node::media::{MediaConfig, MediaStore};
use httt_node::tls::anonymous_client_config;
use httt_tests::{Outcome, httt, httt_command, nats_server};
use httt_wire::bulletin::{BulletinPublished, Content, Media};
use serde_json::{Value, json};
use tempfile::TempDir;

const PASSWORD: &str = "mật khẩu dài";
const MEMBERS: [(&str, &str); 4] = [("NDXP", "gateway"), ("TW", "central"), ("H24", "province"), ("H55", "province")];

/// A small country on disk: keys, certificates and configurations, and nothing that runs.
struct Country(TempDir);

fn good(args: &[&str]) -> Outcome {
    let outcome = httt(args);
    assert_eq!(outcome.code, Some(0), "{args:?}: {outcome:#?}");
    outcome
}

/// A NATS server with JetStream, for a gateway that keeps its feeds there.
struct Nats {
    child: Child,
    port: u16,
    _dir: TempDir,
}

impl Nats {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let mut server = nats_server();
        server.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir.path());
        let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("starts");
        let nats = Self { child, port, _dir: dir };
        let answers = |_: &u32| TcpStream::connect(("127.0.0.1", port)).is_ok();
        let waited = (0..1_200_u32).inspect(|_| std::thread::sleep(Duration::from_millis(50))).find(answers);
        assert!(waited.is_some(), "nats-server does not answer");
        nats
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

impl Country {
    /// Its gateway keeps its feeds with `nats`.
    fn with_nats(nats: &Nats) -> Self {
        let country = Self::new();
        let config = country.config("NDXP");
        let text = fs::read_to_string(&config).expect("configuration");
        let store = format!(
            "[exchange.store]\nkind = \"jetstream\"\n[exchange.store.jetstream]\nservers = [\"nats://127.0.0.1:{}\"]\n\
             replicas = 1\nallow_volatile = true\n\n[http]",
            nats.port
        );
        fs::write(&config, text.replacen("[http]", &store, 1)).expect("configuration");
        country
    }

    fn new() -> Self {
        let country = Self(tempfile::tempdir().expect("dir"));
        let pki = country.path("pki");
        good(&["pki", "init", &pki]);
        let mut fingerprint = String::new();
        for (code, kind) in MEMBERS {
            let told = good(&["pki", "member", &pki, code, "--kind", kind]).stdout;
            if kind == "gateway" {
                fingerprint = told.trim().rsplit(' ').next().expect("fingerprint").to_owned();
            }
        }
        let hash = hash_password(PASSWORD).expect("hash");
        for (code, kind) in MEMBERS {
            let trust = match kind {
                "gateway" => String::new(),
                _ => format!("gateway_fingerprint = \"{fingerprint}\"\n"),
            };
            let text = format!(
                "[node]\nmember = \"{code}\"\ndata_dir = \"data\"\nsigning_key = \"../pki/{code}/signing.key\"\n{trust}\n\
                 [tls]\ncertificate = \"../pki/{code}/tls.pem\"\nkey = \"../pki/{code}/tls.key\"\nca = \"../pki/ca.pem\"\n\n\
                 [exchange]\nlisten = \"127.0.0.1:0\"\nmembers = \"../pki/members\"\n\n\
                 [http]\nlisten = \"127.0.0.1:0\"\n\n[accounts]\nfile = \"accounts.toml\"\n"
            );
            let account = |name: &str, role: &str| {
                format!(
                    "[[account]]\nname = \"{name}\"\npassword_hash = \"{hash}\"\nroles = [\"{role}\"]\narea = \"VN\"\n"
                )
            };
            fs::create_dir_all(country.path(code)).expect("folder");
            fs::write(country.config(code), text).expect("configuration");
            let mut secret = fs::OpenOptions::new();
            let accounts = Path::new(&country.path(code)).join("accounts.toml");
            let mut file = secret.write(true).create_new(true).mode(0o600).open(accounts).expect("accounts");
            let text = account("operator", "operator") + &account("auditor", "auditor");
            std::io::Write::write_all(&mut file, text.as_bytes()).expect("accounts");
        }
        country
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("path").to_owned()
    }

    fn config(&self, code: &str) -> String {
        self.path(&format!("{code}/config.toml"))
    }

    fn data(&self, code: &str) -> PathBuf {
        self.0.path().join(code).join("data")
    }

    fn import(&self, code: &str, file: &str) -> (Option<i32>, Value) {
        let outcome = httt(["feed", "import", "--config", &self.config(code), &self.path(file), "--json"]);
        (outcome.code, outcome.json())
    }

    fn takes(&self, code: &str, file: &str) -> Value {
        let (exit, report) = self.import(code, file);
        assert_eq!((exit, &report["ok"]), (Some(0), &json!(true)), "{report:#}");
        report
    }

    fn export(&self, code: &str, reader: &str, file: &str, more: &[&str]) -> Value {
        let (config, to) = (self.config(code), self.path(file));
        let args = ["feed", "export", "--config", &config, "--for", reader, "--to", &to, "--json"];
        good(&[&args, more].concat()).json()
    }

    /// What a member says while nobody is in reach, in its own log, as its service would.
    async fn say(&self, code: &str, audience: &str, lane: Lane, bulletin: &str, media: Option<&[u8]>) {
        let pem = fs::read_to_string(self.path(&format!("pki/{code}/signing.key"))).expect("key");
        let sealer = Sealer::new(AgencyCode::new(code).expect("code"), SigningKey::from_pem(&pem).expect("key"));
        let data = self.data(code);
        let (log, _) = Log::open(&data.join("log"), Arc::new(sealer), Options::default()).expect("log");
        let mut content = Content { title: bulletin.to_owned(), ..Default::default() };
        if let Some(bytes) = media {
            let store = MediaStore::open(data.join("media"), &MediaConfig::default()).expect("media");
            let digest = store.put_bytes(bytes.to_vec().into()).await.expect("stored");
            let size = bytes.len() as u64;
            content.media = Some(Media { sha256: digest.0.to_vec(), size, ..Default::default() });
        }
        let said = BulletinPublished {
            bulletin: bulletin.to_owned(),
            version: 1,
            content: Some(content),
            ..Default::default()
        };
        let audience = Audience::new(audience).expect("audience");
        let event = NewEvent::of(audience, lane, format!("bulletin/{bulletin}"), &said);
        log.commit(Transaction::append([event])).await.expect("commits");
        log.close().await;
    }

    fn media(&self, code: &str, digest: Digest) -> Option<Vec<u8>> {
        let store = MediaStore::open(self.data(code).join("media"), &MediaConfig::default()).expect("media");
        fs::read(store.path(digest)).ok()
    }
}

/// A gateway that runs, and where its API is.
struct Gateway {
    child: Child,
    url: String,
    client: HttpClient,
}

impl Gateway {
    async fn start(country: &Country) -> Self {
        let mut command = httt_command();
        command.args(["run", "ndxp-gateway", "--config", &country.config("NDXP")]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout");
        BufReader::new(stdout).read_line(&mut line).expect("it says that it is ready");
        let address = line.trim().rsplit("api ").next().expect("address").to_owned();
        let ca = country.path("pki/ca.pem");
        let limits = ClientLimits { allow_plain_http: true, ..ClientLimits::default() };
        let client = HttpClient::with_limits(anonymous_client_config(Path::new(&ca)).expect("tls"), limits);
        Self { child, url: format!("http://{address}/api/v1"), client }
    }

    async fn token(&self, name: &str) -> String {
        let typed = json!({ "username": name, "password": PASSWORD });
        let session: Value = self.client.post_json(&format!("{}/session", self.url), &typed).await.expect("session");
        session["token"].as_str().expect("token").to_owned()
    }

    /// What it answers: status and body.
    async fn post(&self, who: &str, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let url = format!("{}{path}", self.url);
        let request = self.client.post(&url).bearer(&self.token(who).await).body("application/octet-stream", body);
        let reply = request.send_any().await.expect("answer");
        (reply.status.as_u16(), reply.body.to_vec())
    }

    fn stop(mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(asked.success() && self.child.wait().expect("ends").success());
    }
}

impl Drop for Gateway {
    /// Also where a test fails.
    fn drop(&mut self) {
        let _ = (self.child.kill(), self.child.wait());
    }
}

fn row<'a>(report: &'a Value, feed: &str) -> &'a Value {
    let rows = report["feeds"].as_array().expect("feeds");
    rows.iter().find(|row| row["feed"] == feed).unwrap_or_else(|| panic!("{feed}: {report:#}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulletin_goes_down_and_its_answer_up_on_sticks_alone() {
    round(&Country::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_on_jetstream_takes_and_makes_sticks_as_any_other() {
    let nats = Nats::start();
    round(&Country::with_nats(&nats)).await;
}

async fn round(country: &Country) {
    // The exchange enrols its members when it starts, and is stopped again.
    Gateway::start(country).await.stop();
    let made = country.export("NDXP", "TW", "to-tw", &[]);
    assert_eq!((&made["maker"], &made["reader"], &made["more"]), (&json!("NDXP"), &json!("TW"), &json!(false)));
    country.takes("TW", "to-tw");

    let sound = vec![0x5a; 1_500_000];
    country.say("TW", "*", Lane::Content, "b1", Some(&sound)).await;
    country.export("TW", "NDXP", "up", &[]);
    let report = country.takes("NDXP", "up");
    assert_eq!(
        (&row(&report, "TW→*/content")["taken"], &report["media"][0]["outcome"]),
        (&json!(1), &json!("complete"))
    );
    country.export("NDXP", "H24", "down", &[]);
    let report = country.takes("H24", "down");
    assert_eq!(row(&report, "TW→*/content")["outcome"], "taken");
    assert_eq!(country.media("H24", Digest::of(&sound)), Some(sound));

    country.say("H24", "TW", Lane::Report, "received", None).await;
    country.export("H24", "NDXP", "answer", &["--have", &country.path("down")]);
    country.takes("NDXP", "answer");
    country.export("NDXP", "TW", "back", &["--since", &country.path("to-tw")]);
    let report = country.takes("TW", "back");
    assert_eq!(row(&report, "H24→TW/report")["taken"], 1);
    assert_eq!(row(&report, "NDXP→TW/report")["taken"], 1, "the receipt of what went up");
    // Nothing that a log is checked for was hurt.
    for code in ["NDXP", "TW", "H24"] {
        good(&["audit", "verify", country.data(code).to_str().expect("path")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_files_are_harmless_and_explained() {
    let country = Country::new();
    Gateway::start(&country).await.stop();
    country.export("NDXP", "TW", "to-tw", &[]);
    country.takes("TW", "to-tw");
    country.say("TW", "*", Lane::Emergency, "flood", None).await;
    country.say("TW", "H55", Lane::Content, "for one province", None).await;
    country.export("TW", "NDXP", "first", &[]);
    country.say("TW", "*", Lane::Emergency, "flood is over", None).await;
    country.export("TW", "NDXP", "second", &["--since", &country.path("first")]);

    // Out of order.
    let (exit, report) = country.import("NDXP", "second");
    assert_eq!((exit, &row(&report, "TW→*/emergency")["outcome"]), (Some(1), &json!("gap")));
    assert!(row(&report, "TW→*/emergency")["message"].as_str().expect("text").contains("thiếu 1"));
    country.takes("NDXP", "first");
    country.takes("NDXP", "second");
    // Twice.
    let again = country.takes("NDXP", "second");
    assert_eq!(
        (&row(&again, "TW→*/emergency")["outcome"], &row(&again, "TW→*/emergency")["taken"]),
        (&json!("held"), &json!(0))
    );

    // Somebody else's: what is for all is taken, what is for one is not.
    country.export("NDXP", "H55", "to-h55", &[]);
    let (exit, report) = country.import("H24", "to-h55");
    assert_eq!((exit, &report["for_somebody_else"]), (Some(1), &json!(true)));
    assert_eq!(row(&report, "TW→H55/content")["outcome"], "not-for-this-node");
    assert_eq!(row(&report, "TW→*/emergency")["taken"], 2);
    let told = httt(["feed", "import", "--config", &country.config("H24"), &country.path("to-h55")]);
    assert_eq!(told.code, Some(1));
    assert!(told.stdout.contains("không dành cho nút này") && told.stdout.contains("not for this node"), "{told:#?}");

    // Torn, and damaged.
    let whole = fs::read(country.path("to-h55")).expect("file");
    fs::write(country.path("torn"), &whole[..whole.len() - 1]).expect("write");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    fs::write(country.path("damaged"), damaged).expect("write");
    for (file, says) in [("torn", "cắt giữa chừng"), ("damaged", "hỏng")] {
        let (exit, report) = country.import("H55", file);
        assert_eq!((exit, &report["ok"]), (Some(1), &json!(false)), "{file}");
        assert!(report["broken"]["message"].as_str().expect("text").contains(says), "{report:#}");
        let shown = httt(["feed", "show", &country.path(file), "--json"]);
        assert_eq!((shown.code, &shown.json()["ok"]), (Some(1), &json!(false)), "{file}");
    }
    country.takes("H55", "to-h55");
    fs::write(country.path("photo"), b"\x89PNG\r\n\x1a\n").expect("write");
    let (exit, report) = country.import("H55", "photo");
    assert_eq!((exit, &report["maker"]), (Some(1), &Value::Null));
    assert!(report["broken"]["message"].as_str().expect("text").contains("không phải tệp"), "{report:#}");

    // Exports that make no sense, and a file that is there already.
    let (config, since, to) = (country.config("NDXP"), country.path("to-tw"), country.path("never"));
    for (reader, more, says) in [
        ("H99", &[][..], "H99 cannot be written for"),
        ("H24", &["--after", "3"], "exactly one feed"),
        ("H24", &["--since", &since], "made by NDXP for TW"),
        ("H24", &["--max-bytes", "10"], "needs room"),
    ] {
        let args = ["feed", "export", "--config", &config, "--for", reader, "--to", &to];
        let outcome = httt([&args[..], more].concat());
        assert!(outcome.code == Some(1) && outcome.stderr.contains(says), "{outcome:#?}");
        assert!(!Path::new(&to).exists() && !Path::new(&format!("{to}.part")).exists());
    }
    let to = country.path("first");
    let outcome = httt(["feed", "export", "--config", &config, "--for", "H24", "--to", &to]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("exists already"), "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stick_is_followed_by_another() {
    let country = Country::new();
    Gateway::start(&country).await.stop();
    country.export("NDXP", "TW", "to-tw", &[]);
    country.takes("TW", "to-tw");
    let sound: Vec<u8> = (0..1_200_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    country.say("TW", "*", Lane::Content, "b1", Some(&sound)).await;
    let made = country.export("TW", "NDXP", "stick-1", &["--max-bytes", "800000"]);
    assert!(fs::metadata(country.path("stick-1")).expect("file").len() <= 800_000, "{made:#}");
    let report = country.takes("NDXP", "stick-1");
    assert_eq!(report["media"][0]["outcome"], "part");
    let since = country.path("stick-1");
    country.export("TW", "NDXP", "stick-2", &["--max-bytes", "800000", "--since", &since]);
    let report = country.takes("NDXP", "stick-2");
    assert_eq!(report["media"][0]["outcome"], "complete");
    assert_eq!(country.media("NDXP", Digest::of(&sound)), Some(sound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_node_takes_and_makes_files_for_its_operator() {
    let country = Country::new();
    let gateway = Gateway::start(&country).await;
    let (status, file) = gateway.post("operator", "/feeds/export?for=TW", vec![]).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&file));
    fs::write(country.path("to-tw"), &file).expect("write");
    country.takes("TW", "to-tw");
    country.say("TW", "*", Lane::Emergency, "flood", Some(b"siren")).await;
    country.export("TW", "NDXP", "up", &[]);
    let up = fs::read(country.path("up")).expect("file");

    // A running node's folder is its own.
    let outcome = httt(["feed", "import", "--config", &country.config("NDXP"), &country.path("up")]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("/api/v1/feeds/import"), "{outcome:#?}");

    let (status, _) = gateway.post("auditor", "/feeds/import", up.clone()).await;
    assert_eq!(status, 403, "an auditor changes nothing");
    let (status, body) = gateway.post("operator", "/feeds/import", up.clone()).await;
    let report: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &report["ok"]), (200, &json!(true)), "{report:#}");
    assert_eq!(
        (&row(&report, "TW→*/emergency")["taken"], &report["media"][0]["outcome"]),
        (&json!(1), &json!("complete"))
    );
    let (_, body) = gateway.post("operator", "/feeds/import", up.clone()).await;
    let again: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(row(&again, "TW→*/emergency")["outcome"], "held");
    let (status, body) = gateway.post("operator", "/feeds/import", up[..up.len() / 2].to_vec()).await;
    let torn: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &torn["ok"]), (200, &json!(false)), "{torn:#}");
    let (status, body) = gateway.post("operator", "/feeds/import", b"a photo".to_vec()).await;
    let refused: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!((status, &refused["error"]["code"]), (422, &json!("no_feeds")));

    // The next file for the ministry, by what it says it holds: the receipt alone.
    let (status, file) = gateway.post("operator", "/feeds/export?for=TW", up).await;
    assert_eq!(status, 200);
    fs::write(country.path("receipt"), &file).expect("write");
    let shown = good(&["feed", "show", &country.path("receipt"), "--json"]).json();
    assert_eq!(shown["ranges"].as_array().map(Vec::len), Some(1), "{shown:#}");
    country.takes("TW", "receipt");
    for (query, status) in [("", 400), ("for=H99", 422), ("for=TW&lane=rumours", 400), ("for=TW&size=1", 400)] {
        let (answered, body) = gateway.post("operator", &format!("/feeds/export?{query}"), vec![]).await;
        assert_eq!(answered, status, "{query}: {}", String::from_utf8_lossy(&body));
    }
    gateway.stop();
}
