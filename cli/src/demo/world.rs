//! The demo's small country: its keys, certificates, accounts, configurations and processes.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use httt_domain::area::Areas;
use httt_feed::Digest;
use httt_ndxp_gateway::{Kind, MemberFile};
use httt_node::accounts::{OtpSecret, hash_password};
use httt_node::client::HttpClient;
use httt_node::tls::anonymous_client_config;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::process::{Child, Command};

use crate::demo::cable::Cable;
use crate::pki;

/// The provinces that are always there: area, member code, and whether it comes through an LGSP adapter.
const FIRST: [(&str, &str, bool); 3] = [("31", "H24", false), ("19", "H55", true), ("66", "H15", false)];
/// How long a node may take to be ready.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a node may take to stop cleanly.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// File that marks a folder as a demo's, so that no other folder is ever emptied.
const MARK: &str = "httt-demo";

/// One service as a process of its own.
pub(crate) struct NodeProcess {
    pub(crate) code: String,
    service: &'static str,
    config: PathBuf,
    pub(crate) data: PathBuf,
    log_file: PathBuf,
    pub(crate) http: SocketAddr,
    child: Option<Child>,
    /// Largest resident memory seen when it was stopped or asked, KiB.
    pub(crate) peak_kib: u64,
}

/// A province and what the demo knows of it.
pub(crate) struct Province {
    pub(crate) area: String,
    pub(crate) name: String,
    pub(crate) node: NodeProcess,
    /// Codes of its communes.
    pub(crate) communes: Vec<String>,
    /// Whether it comes through the LGSP adapter.
    pub(crate) through_adapter: bool,
    /// The cable to the exchange, where the demo may pull it.
    pub(crate) cable: Option<Cable>,
}

/// Everything that runs.
pub(crate) struct World {
    pub(crate) dir: PathBuf,
    /// Set when the folder is the demo's own and goes when it ends.
    _temporary: Option<tempfile::TempDir>,
    pub(crate) http: HttpClient,
    pub(crate) ca: PathBuf,
    pub(crate) password: String,
    pub(crate) otp: OtpSecret,
    pub(crate) gateway_fingerprint: httt_feed::Fingerprint,
    pub(crate) gateway: NodeProcess,
    pub(crate) adapter: NodeProcess,
    pub(crate) central: NodeProcess,
    pub(crate) provinces: Vec<Province>,
}

/// Times that a demo shortens.
#[derive(Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) status_every: Duration,
    pub(crate) offline_after: Duration,
    pub(crate) status_tick: Duration,
}

struct Plan {
    area: String,
    name: String,
    code: String,
    through_adapter: bool,
}

fn plan(count: usize) -> Vec<Plan> {
    let areas = Areas::in_force_2025();
    let first = FIRST.iter().map(|(area, code, through)| ((*area).to_owned(), (*code).to_owned(), *through));
    // Codes of the others are not public; the demo makes some up from the area.
    let rest = areas
        .provinces()
        .filter(|area| FIRST.iter().all(|(known, ..)| *known != area.code))
        .map(|area| (area.code.clone(), format!("P{}", area.code), false));
    first
        .chain(rest)
        .take(count)
        .map(|(area, code, through_adapter)| Plan { name: areas.name(&area), area, code, through_adapter })
        .collect()
}

/// Loopback ports that were free a moment ago, all different.
fn free_ports(count: usize) -> Result<Vec<SocketAddr>> {
    let listeners = (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    Ok(listeners.iter().map(TcpListener::local_addr).collect::<Result<Vec<_>, _>>()?)
}

fn random_text() -> Result<String> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow::anyhow!("the system gave no randomness"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

impl World {
    /// Writes keys, accounts and configurations. Nothing is started.
    pub(crate) async fn prepare(dir: Option<&Path>, provinces: usize, pace: Pace, otlp: Option<&str>) -> Result<Self> {
        let (dir, temporary) = folder(dir)?;
        let plans = plan(provinces);
        let pki_dir = dir.join("pki");
        pki::init(&pki_dir)?;
        let mut gateway_fingerprint = None;
        let member = |code: &str, name: &str, kind: Kind, area: &str, carriers: &[&str]| MemberFile {
            code: code.to_owned(),
            name: name.to_owned(),
            kind,
            area: area.to_owned(),
            public_keys: vec![],
            certificates: vec![],
            carriers: carriers.iter().map(|carrier| (*carrier).to_owned()).collect(),
        };
        let mut members = vec![
            member("NDXP", "Nền tảng tích hợp, chia sẻ dữ liệu quốc gia", Kind::Gateway, "", &[]),
            member("TW", "Hệ thống thông tin nguồn trung ương", Kind::Central, "", &[]),
            member("H55.LGSP", "LGSP Thái Nguyên", Kind::Carrier, "19", &[]),
        ];
        for plan in &plans {
            let carriers: &[&str] = if plan.through_adapter { &["H55.LGSP"] } else { &[] };
            members.push(member(&plan.code, &plan.name, Kind::Province, &plan.area, carriers));
        }
        for file in members {
            let code = file.code.clone();
            let fingerprint = pki::member(&pki_dir, file, &[])?;
            if code == "NDXP" {
                gateway_fingerprint = Some(fingerprint);
            }
        }
        let gateway_fingerprint = gateway_fingerprint.context("no gateway")?;

        let password = random_text()?;
        // A kept demo can be started again by hand; without this nobody could log in.
        pki::write_secret(&dir.join("password"), &password)?;
        // One hash for the demo's accounts: making thousands would take longer than the demo.
        let hash = tokio::task::spawn_blocking({
            let password = password.clone();
            move || hash_password(&password)
        })
        .await??;
        let otp_text = OtpSecret::generate_base32().context("the system gave no randomness")?;
        let otp = OtpSecret::from_base32(&otp_text).context("one-time secret")?;

        let ports = free_ports(4 + plans.len())?;
        let exchange = ports[0];
        let writer = Writer { dir: &dir, hash: &hash, otp: &otp_text, fingerprint: gateway_fingerprint, pace, otlp };
        let gateway = writer.gateway(exchange, ports[1])?;
        let client_secret = random_text()?;
        let adapter = writer.adapter(exchange, ports[2], &client_secret)?;
        let central = writer.central(exchange, ports[3])?;
        let mut built = Vec::new();
        for (index, plan) in plans.into_iter().enumerate() {
            // One province whose cable the demo pulls: the last of those that are always there.
            let cable = if plan.code == "H15" { Some(Cable::to(exchange).await?) } else { None };
            let up = cable.as_ref().map_or(exchange, Cable::address);
            let http = ports[4 + index];
            let node = if plan.through_adapter {
                writer.province(&plan, http, &Up::Rest { address: adapter.http, secret: client_secret.clone() })?
            } else {
                writer.province(&plan, http, &Up::Grpc(up))?
            };
            let communes =
                Areas::in_force_2025().communes_of(&plan.area).into_iter().map(|area| area.code.clone()).collect();
            let through_adapter = plan.through_adapter;
            built.push(Province { area: plan.area, name: plan.name, node, communes, through_adapter, cable });
        }
        let ca = pki_dir.join("ca.pem");
        let http = HttpClient::new(anonymous_client_config(&ca)?);
        Ok(Self {
            dir,
            _temporary: temporary,
            http,
            ca,
            password,
            otp,
            gateway_fingerprint,
            gateway,
            adapter,
            central,
            provinces: built,
        })
    }

    /// Every node of the world.
    pub(crate) fn nodes(&mut self) -> impl Iterator<Item = &mut NodeProcess> {
        [&mut self.gateway, &mut self.adapter, &mut self.central]
            .into_iter()
            .chain(self.provinces.iter_mut().map(|province| &mut province.node))
    }

    /// Starts every node and waits until all are ready.
    pub(crate) async fn start(&mut self) -> Result<()> {
        let http = self.http.clone();
        for node in self.nodes() {
            node.spawn()?;
        }
        for node in self.nodes() {
            node.wait_ready(&http).await?;
        }
        Ok(())
    }

    /// Asks every node to stop and waits; a node that does not exit cleanly is an error.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        // Provinces first, as on an evening when everybody goes home: whoever is left must bear it.
        let mut nodes: Vec<_> = self.nodes().collect();
        nodes.reverse();
        for node in &mut nodes {
            node.terminate()?;
        }
        for node in nodes {
            node.wait_stopped().await?;
        }
        Ok(())
    }
}

/// The folder of a demo. One that is named is kept, and must be empty or a demo's.
fn folder(dir: Option<&Path>) -> Result<(PathBuf, Option<tempfile::TempDir>)> {
    let Some(dir) = dir else {
        let temporary = tempfile::Builder::new().prefix("httt-demo-").tempdir()?;
        return Ok((temporary.path().to_owned(), Some(temporary)));
    };
    if dir.exists() && fs::read_dir(dir)?.next().is_some() {
        if !dir.join(MARK).exists() {
            bail!("{} is not empty and holds no demo; name another folder with --dir", dir.display());
        }
        fs::remove_dir_all(dir).with_context(|| format!("cannot empty {}", dir.display()))?;
    }
    fs::create_dir_all(dir)?;
    fs::write(dir.join(MARK), "data of `httt demo`; emptied when the demo runs here again\n")?;
    Ok((fs::canonicalize(dir)?, None))
}

enum Up {
    Grpc(SocketAddr),
    Rest { address: SocketAddr, secret: String },
}

struct Writer<'a> {
    dir: &'a Path,
    hash: &'a str,
    otp: &'a str,
    fingerprint: httt_feed::Fingerprint,
    pace: Pace,
    otlp: Option<&'a str>,
}

impl Writer<'_> {
    /// `keys` stand before the tables of the configuration, `tables` after those that every node has.
    fn node(
        &self,
        service: &'static str,
        code: &str,
        http: SocketAddr,
        keys: &str,
        tables: &str,
    ) -> Result<NodeProcess> {
        let own = self.dir.join(code);
        fs::create_dir_all(&own)?;
        let trust = match service {
            "ndxp-gateway" => String::new(),
            _ => format!("gateway_fingerprint = \"{}\"\n", self.fingerprint),
        };
        let telemetry = match self.otlp {
            Some(endpoint) => format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n\n"),
            None => String::new(),
        };
        let text = format!(
            "{keys}{telemetry}[node]\nmember = \"{code}\"\ndata_dir = \"data\"\nsigning_key = \"../pki/{code}/signing.key\"\n{trust}\n\
             [node.tlog]\nwitness_every_ms = 1000\n\n\
             [tls]\ncertificate = \"../pki/{code}/tls.pem\"\nkey = \"../pki/{code}/tls.key\"\nca = \"../pki/ca.pem\"\n\n\
             [http]\nlisten = \"{http}\"\n\
             tls = {{ certificate = \"../pki/{code}/tls.pem\", key = \"../pki/{code}/tls.key\" }}\n\n\
             [accounts]\nfile = \"accounts.toml\"\n\n{tables}"
        );
        fs::write(own.join("config.toml"), text)?;
        Ok(NodeProcess {
            code: code.to_owned(),
            service,
            config: own.join("config.toml"),
            data: own.join("data"),
            log_file: own.join("service.log"),
            http,
            child: None,
            peak_kib: 0,
        })
    }

    fn accounts(&self, code: &str, accounts: &[(&str, &[&str], &str)]) -> Result<()> {
        let mut text = String::new();
        for (name, roles, area) in accounts {
            let roles = roles.iter().map(|role| format!("\"{role}\"")).collect::<Vec<_>>().join(", ");
            text.push_str(&format!(
                "[[account]]\nname = \"{name}\"\npassword_hash = \"{}\"\nroles = [{roles}]\narea = \"{area}\"\n",
                self.hash
            ));
            if roles.contains("approver") || roles.contains("administrator") {
                text.push_str(&format!("otp_secret = \"{}\"\n", self.otp));
            }
            text.push('\n');
        }
        pki::write_secret(&self.dir.join(code).join("accounts.toml"), &text)
    }

    fn gateway(&self, exchange: SocketAddr, http: SocketAddr) -> Result<NodeProcess> {
        let more = format!("[exchange]\nlisten = \"{exchange}\"\nmembers = \"../pki/members\"\n");
        let node = self.node("ndxp-gateway", "NDXP", http, "", &more)?;
        self.accounts("NDXP", &[("auditor", &["auditor"], "VN"), ("administrator", &["administrator"], "VN")])?;
        Ok(node)
    }

    fn adapter(&self, exchange: SocketAddr, http: SocketAddr, client_secret: &str) -> Result<NodeProcess> {
        let more = format!(
            "[upstream]\nkind = \"grpc\"\naddress = \"https://{exchange}\"\nserver_name = \"localhost\"\n\n\
             [[client]]\nid = \"h55\"\nmember = \"H55\"\nsecret_sha256 = \"{}\"\n",
            Digest::of(client_secret.as_bytes())
        );
        let node = self.node("lgsp-adapter", "H55.LGSP", http, "", &more)?;
        self.accounts("H55.LGSP", &[("auditor", &["auditor"], "VN")])?;
        Ok(node)
    }

    fn central(&self, exchange: SocketAddr, http: SocketAddr) -> Result<NodeProcess> {
        let more =
            format!("[upstream]\nkind = \"grpc\"\naddress = \"https://{exchange}\"\nserver_name = \"localhost\"\n");
        let node = self.node("central-source", "TW", http, "", &more)?;
        self.accounts(
            "TW",
            // The editor may approve, too, so that what refuses their own bulletin is the rule of four eyes.
            &[
                ("editor", &["author", "approver"], "VN"),
                ("approver", &["approver"], "VN"),
                ("auditor", &["auditor"], "VN"),
            ],
        )?;
        Ok(node)
    }

    fn province(&self, plan: &Plan, http: SocketAddr, up: &Up) -> Result<NodeProcess> {
        let upstream = match up {
            Up::Grpc(address) => {
                format!("kind = \"grpc\"\naddress = \"https://{address}\"\nserver_name = \"localhost\"\n")
            }
            Up::Rest { address, secret } => {
                let file = self.dir.join(&plan.code);
                fs::create_dir_all(&file)?;
                pki::write_secret(&file.join("lgsp.secret"), secret)?;
                format!(
                    "kind = \"rest\"\naddress = \"https://{address}\"\nclient_id = \"h55\"\n\
                     client_secret = {{ file = \"lgsp.secret\" }}\n"
                )
            }
        };
        let keys = format!("area = \"{}\"\n\n", plan.area);
        let more = format!(
            "[upstream]\n{upstream}\n[devices]\nstatus_every_ms = {}\noffline_after_ms = {}\n\
             status_tick_ms = {}\n",
            self.pace.status_every.as_millis(),
            self.pace.offline_after.as_millis(),
            self.pace.status_tick.as_millis(),
        );
        let node = self.node("provincial-source", &plan.code, http, &keys, &more)?;
        let communes = Areas::in_force_2025().communes_of(&plan.area);
        let commune = communes.first().map(|commune| commune.code.clone()).unwrap_or_default();
        self.accounts(
            &plan.code,
            &[
                ("officer", &["province-officer"], &plan.area),
                ("commune", &["commune-officer"], &commune),
                ("operator", &["operator"], &plan.area),
                ("auditor", &["auditor"], &plan.area),
            ],
        )?;
        Ok(node)
    }
}

impl NodeProcess {
    /// The service it runs.
    pub(crate) fn kind(&self) -> &'static str {
        self.service
    }

    /// Where its API is.
    pub(crate) fn base(&self) -> String {
        format!("https://{}", self.http)
    }

    /// Starts the process; its log goes to a file beside its configuration.
    pub(crate) fn spawn(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log_file)?;
        let child = Command::new(std::env::current_exe()?)
            .args(["run", self.service, "--config"])
            .arg(&self.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            // Ctrl-C at a terminal is for the demo, which stops its nodes in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.code))?;
        self.child = Some(child);
        Ok(())
    }

    /// Waits until it answers on `/readyz`.
    pub(crate) async fn wait_ready(&mut self, http: &HttpClient) -> Result<()> {
        let url = format!("{}/readyz", self.base());
        let began = Instant::now();
        loop {
            if let Ok(reply) = http.get(&url).send_any().await
                && reply.status.is_success()
            {
                return Ok(());
            }
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                bail!("{} ended at once ({status}); see {}\n{}", self.code, self.log_file.display(), self.last_words());
            }
            if began.elapsed() > START_LIMIT {
                bail!("{} is not ready after {START_LIMIT:?}; see {}", self.code, self.log_file.display());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log_file).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    /// Notes how much memory it took at most.
    pub(crate) fn note_memory(&mut self) {
        let Some(pid) = self.child.as_ref().and_then(Child::id) else { return };
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        self.peak_kib = self.peak_kib.max(kib);
    }

    /// SIGKILL: no goodbye, as in a power cut.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.note_memory();
        if let Some(mut child) = self.child.take() {
            child.kill().await?;
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<()> {
        self.note_memory();
        if let Some(pid) = self.child.as_ref().and_then(Child::id) {
            // The standard library knows SIGKILL only; `kill` is built into every shell.
            let command = format!("kill -TERM {pid}");
            let status = std::process::Command::new("sh").args(["-c", &command]).status()?;
            anyhow::ensure!(status.success(), "cannot signal {}", self.code);
        }
        Ok(())
    }

    async fn wait_stopped(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let status = tokio::time::timeout(STOP_LIMIT, child.wait())
            .await
            .with_context(|| format!("{} does not stop within {STOP_LIMIT:?} of SIGTERM", self.code))??;
        anyhow::ensure!(status.success(), "{} stopped with {status}\n{}", self.code, self.last_words());
        Ok(())
    }
}
