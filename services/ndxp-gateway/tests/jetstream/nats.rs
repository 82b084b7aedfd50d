//! NATS servers of the tests' own, on loopback: Debian's package, installed where it is missing.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::message::PublishMessage;
use httt_feed::VerifiedBatch;
use tempfile::TempDir;

/// How long a condition is waited for; far beyond what any takes.
pub const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(50);

/// Waits until `condition` gives something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, mut condition: impl FnMut() -> F) -> T {
    let met = async {
        loop {
            if let Some(met) = condition().await {
                return met;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("{what} never came about"))
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let find = || {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
            folders.map(|folder| folder.join("nats-server")).find(|file| file.is_file())
        };
        find().unwrap_or_else(|| {
            let installed = Command::new("apt-get").args(["install", "-y", "nats-server"]).output();
            let installed = installed.expect("nats-server is missing, and apt-get cannot be run to install it");
            let why = String::from_utf8_lossy(&installed.stderr);
            find().unwrap_or_else(|| panic!("nats-server is missing and cannot be installed: {why}"))
        })
    })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("address").port()
}

/// Lets the server read a configuration file without starting.
pub fn check_configuration(file: &Path) {
    let checked = Command::new(program()).arg("-t").arg("-c").arg(file).output().expect("nats-server runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// One server and its folder.
pub struct NatsServer {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl NatsServer {
    /// A server alone.
    pub async fn start() -> Self {
        let mut server = Self::configured(free_port(), "n1", "");
        server.run();
        server.ready().await;
        server
    }

    /// A server alone, with more in its configuration; not waited for.
    pub fn start_with(more: &str) -> Self {
        let mut server = Self::configured(free_port(), "n1", more);
        server.run();
        server
    }

    fn configured(port: u16, name: &str, cluster: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let store = dir.path().join("store");
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\nserver_name: {name}\njetstream {{ store_dir: {store:?}, max_file: 1G }}\n{cluster}"
        );
        std::fs::write(dir.path().join("nats.conf"), text).expect("writes");
        Self { dir, port, child: None }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Starts it, without waiting.
    pub fn run(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("log");
        let mut command = Command::new(program());
        command.arg("-c").arg(self.dir.path().join("nats.conf")).stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("nats-server runs"));
    }

    /// Kills it, as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kills");
            child.wait().expect("ends");
        }
    }

    /// Its store; to be touched while it is killed.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.store()).expect("wipes");
    }

    pub async fn context(&self) -> jetstream::Context {
        let client = until("a connection", || async { async_nats::connect(self.url()).await.ok() }).await;
        jetstream::new(client)
    }

    /// Publishes a batch as a gateway process does, and says which message it is.
    pub async fn publish(&self, batch: &VerifiedBatch, subject: &'static str) -> u64 {
        let context = self.context().await;
        let message = PublishMessage::build()
            .payload(batch.bytes().clone())
            .header("Httt-Sequence", batch.sequence().to_string().as_str())
            .header("Httt-Digest", batch.digest().to_string().as_str())
            .message_id(batch.digest().to_string());
        let published = context.send_publish(subject, message).await.expect("publishes");
        published.await.expect("is acknowledged").sequence
    }

    /// Waits until it answers for JetStream: that there is no such stream.
    pub async fn ready(&self) {
        let context = self.context().await;
        until("JetStream", || async {
            let error = context.get_stream("none").await.err()?;
            matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.code() == 404).then_some(())
        })
        .await;
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three servers that hold everything three times.
pub async fn cluster() -> Vec<NatsServer> {
    let routes: Vec<u16> = (0..3).map(|_| free_port()).collect();
    let all = routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect::<Vec<_>>().join(", ");
    let mut servers: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(number, route)| {
            let cluster = format!("cluster {{ name: c, listen: \"127.0.0.1:{route}\", routes: [{all}] }}\n");
            NatsServer::configured(free_port(), &format!("n{number}"), &cluster)
        })
        .collect();
    servers.iter_mut().for_each(NatsServer::run);
    for server in &servers {
        server.ready().await;
    }
    servers
}
