//! UmaDB (PyPI `umadb` brings the server), over `umadb.v1.DCB/Append`.
//!
//! Its two messages that are needed are written here by hand; the call goes through tonic, whose client adds little.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::peer::{self, Server};
use super::work::{KIND, Measured, Record, Source, Store, Work};

const INSTALL: &str = "python3 -m venv V && V/bin/pip install umadb, then put V/bin into PATH";
/// Connections; several commits share one when there are more.
const CONNECTIONS: usize = 4;

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(string, tag = "1")]
    event_type: String,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
    #[prost(string, tag = "4")]
    uuid: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendResponse {
    #[prost(uint64, tag = "1")]
    position: u64,
}

fn request(records: Vec<Record>) -> AppendRequest {
    let event = |record: Record| Event {
        event_type: KIND.to_owned(),
        tags: vec![record.stream_name()],
        data: record.data,
        uuid: record.id.to_string(),
    };
    AppendRequest { events: records.into_iter().map(event).collect() }
}

async fn append(client: &mut Grpc<Channel>, request: AppendRequest) -> Result<u64> {
    client.ready().await.context("umadb is not ready")?;
    let path = PathAndQuery::from_static("/umadb.v1.DCB/Append");
    let codec = ProstCodec::<AppendRequest, AppendResponse>::default();
    Ok(client.unary(tonic::Request::new(request), path, codec).await?.into_inner().position)
}

/// A running server.
pub(crate) struct UmaDb {
    runtime: Runtime,
    channels: Vec<Channel>,
    _server: Server,
}

impl UmaDb {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let dir = dir.join("umadb");
        std::fs::create_dir_all(&dir)?;
        let port = peer::free_port()?;
        let mut command = Command::new(peer::program("umadb", &[], INSTALL)?);
        command.args(["--listen", &format!("127.0.0.1:{port}"), "--db-path"]).arg(dir.join("uma.db"));
        let mut server = Server::start(command, &dir).context("umadb")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
        let mut connect = || Ok(runtime.block_on(endpoint.connect())?);
        let channels =
            (0..CONNECTIONS).map(|_| server.wait_for(&mut connect).context("umadb")).collect::<Result<Vec<_>>>()?;
        Ok(Self { runtime, channels, _server: server })
    }
}

impl Store for UmaDb {
    fn name(&self) -> &'static str {
        "umadb"
    }

    fn note(&self) -> &'static str {
        "over gRPC on loopback, default settings; events have uuid, type and their stream as a tag"
    }

    fn durable(&self) -> bool {
        true
    }

    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured> {
        let tasks: Vec<Vec<AppendRequest>> = source
            .tasks(&work.shape, work.payload, work.commits)
            .into_iter()
            .map(|task| task.into_iter().map(request).collect())
            .collect();
        let channels = &self.channels;
        self.runtime.block_on(async {
            let began = Instant::now();
            let clients: Vec<_> = tasks
                .into_iter()
                .enumerate()
                .map(|(n, commits)| {
                    let mut client = Grpc::new(channels[n % channels.len()].clone());
                    tokio::spawn(async move {
                        for commit in commits {
                            append(&mut client, commit).await?;
                        }
                        anyhow::Ok(())
                    })
                })
                .collect();
            for client in clients {
                client.await??;
            }
            Ok(Measured { events: work.events(), elapsed: began.elapsed(), groups: None })
        })
    }
}
