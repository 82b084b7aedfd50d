//! `httt member` and `httt key` against a real gateway: what they do, print, and exit with.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httt_feed::{AgencyCode, Audience, Lane, Sealer, SigningKey};
use httt_log::{Log, NewEvent, Options, Transaction};
use httt_ndxp_gateway::{Config, MemberDetail, Running, start};
use httt_node::accounts::{OtpSecret, hash_password};
use httt_node::config::load;
use httt_node::shutdown::Shutdown;
use httt_wire::bulletin::BulletinWithdrawn;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

const PASSWORD: &str = "mật khẩu dài";
const OTP_SECRET: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
/// Nothing waits longer than a test that hangs.
const HANG: Duration = Duration::from_secs(120);

fn httt(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_httt")).args(arguments).env_remove("HTTT_PASSWORD").output().unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A gateway made with `httt pki`, serving in this process.
struct World {
    dir: tempfile::TempDir,
    runtime: Runtime,
    shutdown: Shutdown,
    gateway: Option<Running>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        assert!(httt(&["pki", "init", text(&pki)]).status.success());
        for (member, kind) in [("NDXP", "gateway"), ("H24", "province")] {
            assert!(httt(&["pki", "member", text(&pki), member, "--kind", kind, "--name", member]).status.success());
        }
        let hash = hash_password(PASSWORD).unwrap();
        let account = |name: &str| {
            format!(
                "[[account]]\nname = {name:?}\npassword_hash = {hash:?}\nroles = [\"administrator\"]\narea = \"VN\"\n\
                 otp_secret = {OTP_SECRET:?}\n"
            )
        };
        // A code is good once for each.
        let accounts = ["lan", "mai", "hoa"].map(account).concat();
        std::fs::write(dir.path().join("accounts.toml"), accounts).unwrap();
        std::fs::write(dir.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        let config = r#"
            [node]
            member = "NDXP"
            data_dir = "data"
            signing_key = "pki/NDXP/signing.key"
            [tls]
            certificate = "pki/NDXP/tls.pem"
            key = "pki/NDXP/tls.key"
            ca = "pki/ca.pem"
            [exchange]
            listen = "127.0.0.1:0"
            members = "pki/members"
            [http]
            listen = "127.0.0.1:0"
            tls = { certificate = "pki/NDXP/tls.pem", key = "pki/NDXP/tls.key" }
            [accounts]
            file = "accounts.toml"
        "#;
        std::fs::write(dir.path().join("gateway.toml"), config).unwrap();
        let mut world = Self { dir, runtime: Runtime::new().unwrap(), shutdown: Shutdown::new(), gateway: None };
        world.start();
        world
    }

    fn start(&mut self) {
        self.shutdown = Shutdown::new();
        let config: Config = load(&self.path("gateway.toml")).unwrap();
        self.gateway = Some(self.runtime.block_on(start(&config, &self.shutdown)).unwrap());
    }

    /// Returns when nobody holds its log any more.
    fn stop(&mut self) {
        self.shutdown.trigger();
        if let Some(gateway) = self.gateway.take() {
            self.runtime.block_on(gateway.close(&self.shutdown));
        }
        let lock = std::fs::File::open(self.path("data/log/lock")).unwrap();
        let began = std::time::Instant::now();
        while lock.try_lock().is_err() {
            assert!(began.elapsed() < HANG, "the log is still held");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `httt member`, its secrets in files.
    fn member(&self, arguments: &[&str]) -> Output {
        self.member_as("lan", arguments)
    }

    fn member_as(&self, account: &str, arguments: &[&str]) -> Output {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let otp = OtpSecret::from_base32(OTP_SECRET).unwrap().code_at(now_ms);
        std::fs::write(self.path("otp"), otp).unwrap();
        let server = format!("https://{}", self.gateway.as_ref().unwrap().http);
        let (ca, password, otp) = (self.path("pki/ca.pem"), self.path("password"), self.path("otp"));
        let common = ["member", "--server", &server, "--ca", text(&ca), "--account", account];
        let secrets = ["--password-file", text(&password), "--otp-file", text(&otp)];
        httt(&[&common[..], &secrets[..], arguments].concat())
    }

    fn show(&self, member: &str) -> MemberDetail {
        let output = self.member(&["--json", "show", member]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.trigger();
        if let Some(gateway) = self.gateway.take() {
            self.runtime.block_on(gateway.close(&self.shutdown));
        }
    }
}

#[test]
fn an_operator_lists_members_and_suspends_one() {
    let world = World::new();
    let list = world.member(&["list"]);
    let listed = String::from_utf8(list.stdout).unwrap();
    assert!(list.status.success() && listed.contains("H24") && listed.contains("gateway"), "{listed}");
    // Refused for what it says, in Vietnamese first, and the one-time code stays good.
    let refused = world.member(&["resume", "H24", "--reason", "thử"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        !refused.status.success() && said.contains("không bị đình chỉ") && said.contains("not suspended"),
        "{said}"
    );
    let suspended = world.member(&["suspend", "H24", "--reason", "vi phạm quy chế"]);
    assert!(suspended.status.success(), "{suspended:?}");
    assert!(String::from_utf8(suspended.stdout).unwrap().contains("vi phạm quy chế"));
    assert_eq!(world.show("H24").suspended.as_deref(), Some("vi phạm quy chế"));
}

#[test]
fn a_certificate_is_registered_from_its_file() {
    let world = World::new();
    let certificate = world.path("pki/H24/tls.pem");
    let added = world.member(&["add-certificate", "H24", text(&certificate), "--reason", "cấp mới"]);
    assert!(added.status.success(), "{added:?}");
    assert!(world.show("H24").certificates[0].not_after_ms.is_some());
}

#[test]
fn secrets_are_never_arguments_and_a_password_never_travels_in_clear() {
    let world = World::new();
    let ca = world.path("pki/ca.pem");
    let plain = httt(&["member", "--server", "http://127.0.0.1:1", "--ca", text(&ca), "--account", "lan", "list"]);
    assert!(!plain.status.success() && String::from_utf8(plain.stderr).unwrap().contains("https://"));
    let help = httt(&["member", "--help"]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(!help.contains("--password ") && !help.contains("--otp "), "{help}");
}

#[test]
fn the_gateways_key_is_changed_beside_the_running_gateway() {
    let world = World::new();
    let before = world.show("NDXP");
    let config = world.path("gateway.toml");
    let rotated = httt(&["key", "rotate", "--config", text(&config)]);
    assert!(rotated.status.success(), "{rotated:?}");
    let began = std::time::Instant::now();
    let old = world.path("pki/NDXP/signing.key.old");
    let next = world.path("pki/NDXP/signing.key.next");
    loop {
        let now = world.show("NDXP");
        let revoked = now.keys.iter().filter(|key| key.revoked).count();
        if now.keys.len() == 2 && revoked == 1 && !old.exists() && !next.exists() {
            assert!(now.keys.iter().any(|key| key.revoked && key.fingerprint == before.keys[0].fingerprint));
            let shown = httt(&["key", "show", "--config", text(&config)]);
            let good = now.keys.iter().find(|key| !key.revoked).unwrap();
            assert!(String::from_utf8(shown.stdout).unwrap().contains(&good.fingerprint));
            return;
        }
        assert!(began.elapsed() < HANG, "{now:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// H24's node as it is on disk, with the directory, and three reports that it never sent.
fn province_with_unsent_reports(world: &mut World) -> PathBuf {
    world.stop();
    let (gateway, down) = (world.path("gateway.toml"), world.path("down"));
    let exported = httt(&["feed", "export", "--config", text(&gateway), "--for", "H24", "--to", text(&down)]);
    assert!(exported.status.success(), "{exported:?}");
    world.start();
    let trusted = world.show("NDXP").keys[0].fingerprint.clone();
    let config = format!(
        "[node]\nmember = \"H24\"\ndata_dir = \"h24\"\nsigning_key = \"pki/H24/signing.key\"\n\
         gateway_fingerprint = \"{trusted}\"\n"
    );
    let path = world.path("h24.toml");
    std::fs::write(&path, config).unwrap();
    let imported = httt(&["feed", "import", "--config", text(&path), text(&down)]);
    assert!(imported.status.success(), "{imported:?}");
    let pem = std::fs::read_to_string(world.path("pki/H24/signing.key")).unwrap();
    let sealer = Sealer::new(AgencyCode::new("H24").unwrap(), SigningKey::from_pem(&pem).unwrap());
    let log = world.path("h24/log");
    world.runtime.block_on(async {
        let (log, _) = Log::open(&log, Arc::new(sealer), Options::default()).unwrap();
        for number in 1..=3 {
            let bulletin = format!("b{number}");
            let said = BulletinWithdrawn { bulletin: bulletin.clone(), reason: "r".into() };
            let event = NewEvent::of(Audience::new("NDXP").unwrap(), Lane::Report, bulletin, &said);
            log.commit(Transaction::append([event])).await.unwrap();
        }
        log.close().await;
    });
    path
}

#[test]
fn a_gateway_that_takes_back_what_it_had_said_takes_no_file_while_it_is_stopped() {
    let mut world = World::new();
    world.stop();
    let (plain, restored, file) = (world.path("gateway.toml"), world.path("restored.toml"), world.path("down"));
    let exported = httt(&["feed", "export", "--config", text(&plain), "--for", "H24", "--to", text(&file)]);
    assert!(exported.status.success(), "{exported:?}");
    let config = std::fs::read_to_string(&plain).unwrap();
    std::fs::write(&restored, config.replace("[exchange]", "[exchange]\nrestored = true")).unwrap();
    let refused = httt(&["feed", "import", "--config", text(&restored), text(&file)]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("restored = true"), "{said}");
    assert!(said.contains("hãy chạy cổng") && said.contains("/api/v1/feeds/import"), "{said}");
    let taken = httt(&["feed", "import", "--config", text(&plain), text(&file)]);
    assert!(taken.status.success(), "{taken:?}");
}

#[test]
fn what_a_stolen_key_had_sealed_is_shown_compared_and_admitted() {
    let mut world = World::new();
    let config = province_with_unsent_reports(&mut world);
    let up = world.path("up");
    let exported = httt(&["feed", "export", "--config", text(&config), "--for", "NDXP", "--to", text(&up)]);
    assert!(exported.status.success(), "{exported:?}");
    let admit = ["admit", "H24", "--from", text(&up), "--reason", "anh Ba mang đến"];
    let early = world.member(&[&admit[..], &["--yes"]].concat());
    let said = String::from_utf8(early.stderr).unwrap();
    assert!(!early.status.success() && said.contains("khoá đã thu hồi") && said.contains("revoked key"), "{said}");

    let fingerprint = world.show("H24").keys[0].fingerprint.clone();
    let revoked = world.member(&["revoke-key", "H24", &fingerprint, "--reason", "mất máy"]);
    assert!(revoked.status.success(), "{revoked:?}");
    let shown = world.member_as("mai", &admit);
    let told = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.status.success() && told.contains("H24→NDXP/report  1–3: 3 lô"), "{told}");
    assert!(String::from_utf8(shown.stderr).unwrap().contains("nothing is admitted"));
    assert_eq!(world.show("H24").admitted, 0);
    // What the member reads out from its own node.
    let sealed = httt(&["key", "sealed", "--config", text(&config)]);
    let sealed = String::from_utf8(sealed.stdout).unwrap();
    let digest = |text: &str| text.lines().find_map(|line| Some(line.split_once("(last digest) ")?.1.to_owned()));
    assert!(digest(&told).is_some_and(|digest| digest.len() == 39) && digest(&told) == digest(&sealed), "{sealed}");
    let json = httt(&["key", "sealed", "--config", text(&config), "--json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&json["sealed"][0]["first"], &json["sealed"][0]["last"]), (&json!(1), &json!(3)), "{json:#}");

    let admitted = world.member_as("mai", &[&admit[..], &["--yes"]].concat());
    assert!(admitted.status.success(), "{admitted:?}");
    assert!(String::from_utf8(admitted.stdout).unwrap().contains("3 lô (batches admitted)"));
    assert_eq!(world.show("H24").admitted, 3);
    let again = world.member_as("hoa", &[&admit[..], &["--yes"]].concat());
    assert!(!again.status.success(), "{again:?}");
    // What is wrong with a file is told before anybody logs in.
    std::fs::write(&up, b"a photo").unwrap();
    let photo = httt(
        &["member", "--server", "https://127.0.0.1:1", "--ca", "none", "--account", "x"]
            .iter()
            .copied()
            .chain(admit)
            .collect::<Vec<_>>(),
    );
    assert!(String::from_utf8(photo.stderr).unwrap().contains("HTTTFEED"));
}
