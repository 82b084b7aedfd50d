//! NATS JetStream: as a store to compare with, over its text protocol (publish, and wait for the stream's acknowledgement),
//! and as the server behind a gateway's store.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use bytes::Bytes;

use super::peer::{self, Server};
use super::plain;
use super::work::{Measured, Source, Store, Work};

const INSTALL: &str = "apt-get install nats-server";
/// How long an acknowledgement may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest line of the protocol that is read.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// One connection; its own inbox is subscribed to.
struct Client {
    reader: BufReader<TcpStream>,
    writer: TcpStream,
    inbox: String,
}

impl Client {
    fn connect(port: u16, number: usize) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let inbox = format!("_INBOX.{number}");
        let mut client = Self { reader: BufReader::new(stream.try_clone()?), writer: stream, inbox };
        let hello = client.line()?;
        ensure!(hello.starts_with("INFO"), "expected INFO, got {hello:?}");
        let subscribe = format!("CONNECT {{\"verbose\":false}}\r\nSUB {} 1\r\n", client.inbox);
        client.writer.write_all(subscribe.as_bytes())?;
        Ok(client)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut limited = std::io::Read::take(&mut self.reader, MAX_LINE_BYTES as u64);
        limited.read_until(b'\n', &mut line)?;
        ensure!(line.ends_with(b"\n"), "the server hung up or sent too long a line");
        Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
    }

    /// The next message to the inbox.
    fn answer(&mut self) -> Result<String> {
        loop {
            let line = self.line()?;
            match line.split(' ').next() {
                Some("MSG") => return self.line(),
                Some("PING") => self.writer.write_all(b"PONG\r\n")?,
                Some("-ERR") => bail!("{line}"),
                _ => {}
            }
        }
    }

    /// Publishes to `subject` and gives what is answered.
    fn request(&mut self, subject: &str, payload: &[u8]) -> Result<String> {
        let mut bytes = format!("PUB {subject} {} {}\r\n", self.inbox, payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.writer.write_all(&bytes)?;
        self.answer()
    }

    /// Publishes a commit, then waits for all its acknowledgements: JetStream of this version has no batch.
    fn commit(&mut self, payloads: &[Bytes]) -> Result<()> {
        let mut bytes = Vec::new();
        for payload in payloads {
            bytes.extend_from_slice(format!("PUB status.events {} {}\r\n", self.inbox, payload.len()).as_bytes());
            bytes.extend_from_slice(payload);
            bytes.extend_from_slice(b"\r\n");
        }
        self.writer.write_all(&bytes)?;
        for _ in payloads {
            let answer = self.answer()?;
            ensure!(!answer.contains("error"), "{answer}");
        }
        Ok(())
    }
}

/// A running server with one stream.
pub(crate) struct Nats {
    port: u16,
    _server: Server,
}

impl Nats {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("nats");
        std::fs::create_dir_all(&dir)?;
        let port = peer::free_port()?;
        let mut command = Command::new(program()?);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(&dir);
        let mut server = Server::start(command, &dir).context("nats-server")?;
        let mut client = server.wait_for(|| Client::connect(port, 0)).context("nats-server")?;
        let stream = br#"{"name":"status","subjects":["status.>"],"storage":"file","num_replicas":1}"#;
        let answer = client.request("$JS.API.STREAM.CREATE.status", stream)?;
        ensure!(!answer.contains("\"error\""), "the stream was not created: {answer}");
        Ok(Self { port, _server: server })
    }
}

/// A server for a gateway's store, as durable as its version can be.
#[derive(Debug)]
pub(crate) struct StoreServer {
    port: u16,
    version: String,
    syncs: bool,
    _server: Server,
}

impl StoreServer {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("nats");
        std::fs::create_dir_all(&dir)?;
        let program = program()?;
        let told = Command::new(&program).arg("--version").output().context("nats-server --version")?;
        let version = String::from_utf8_lossy(&told.stdout).trim().replace(": v", " ");
        let syncs = can_sync(&version);
        let (port, sync) = (peer::free_port()?, if syncs { ", sync_interval: always" } else { "" });
        let config =
            format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {:?}{sync} }}\n", dir.join("store"));
        let file = dir.join("nats.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(file);
        let mut server = Server::start(command, &dir).context("nats-server")?;
        server.wait_for(|| Client::connect(port, 0).map(drop)).context("nats-server")?;
        Ok(Self { port, version, syncs, _server: server })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// As it calls itself: `nats-server 2.12.1`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// When it syncs.
    pub(crate) fn sync(&self) -> &'static str {
        if self.syncs {
            "sync_interval always: it syncs before it acknowledges"
        } else {
            "it acknowledges before it syncs, every two minutes: this version cannot do otherwise"
        }
    }
}

/// From 2.10 on it can sync before it acknowledges.
fn can_sync(version: &str) -> bool {
    let number = version.rsplit(' ').next().unwrap_or_default();
    let mut parts = number.split('.').map(|part| part.parse::<u32>().ok());
    matches!((parts.next().flatten(), parts.next().flatten()), (Some(major), Some(minor)) if (major, minor) >= (2, 10))
}

fn program() -> Result<std::path::PathBuf> {
    // Debian puts it where only administrators look.
    peer::program("nats-server", &["/usr/sbin/nats-server".into()], INSTALL)
}

impl Store for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn note(&self) -> &'static str {
        "JetStream, one file stream; it acknowledges before it syncs (every two minutes; always only from 2.10 on)"
    }

    fn durable(&self) -> bool {
        false
    }

    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured> {
        let tasks = plain::payloads(source.tasks(&work.shape, work.payload, work.commits));
        let clients = (0..tasks.len()).map(|n| Client::connect(self.port, n + 1)).collect::<Result<Vec<_>>>()?;
        std::thread::scope(|scope| {
            let began = Instant::now();
            let running: Vec<_> = clients
                .into_iter()
                .zip(tasks)
                .map(|(mut client, commits)| {
                    scope.spawn(move || commits.iter().try_for_each(|commit| client.commit(commit)))
                })
                .collect();
            for client in running {
                client.join().map_err(|_| anyhow!("a client panicked"))??;
            }
            Ok(Measured { events: work.events(), elapsed: began.elapsed(), groups: None })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_later_servers_are_told_to_sync() {
        assert!(can_sync("nats-server 2.10.0") && can_sync("nats-server 2.12.1") && can_sync("nats-server 3.0.0-beta"));
        assert!(!can_sync("nats-server 2.9.10") && !can_sync("nats-server") && !can_sync(""));
    }
}
