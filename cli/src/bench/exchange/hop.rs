//! The physical limit of an exchange: payloads appended to a plain file, sent over mutual TLS, appended to a plain file
//! at the other end, and acknowledged; whatever waits goes as one group with one `fdatasync` at each end. No ids, no
//! signatures, no history, no gateway between.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use httt_node::tls::{self, ClientAuth};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::world::World;

/// Bytes that the bulk copy sends at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A connection with mutual TLS on loopback.
pub(super) struct Hop {
    near: client::TlsStream<TcpStream>,
    far: server::TlsStream<TcpStream>,
}

impl Hop {
    pub(super) async fn connect(world: &World) -> Result<Self> {
        let (server, client) = world.tls();
        let acceptor = TlsAcceptor::from(tls::server_config(&server, ClientAuth::Optional)?);
        let connector = TlsConnector::from(Arc::new(tls::client_config(&client)?));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let tcp = TcpStream::connect(listener.local_addr()?).await?;
        tcp.set_nodelay(true)?;
        let (accepted, _) = listener.accept().await?;
        accepted.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").context("a name")?;
        let (near, far) = tokio::try_join!(connector.connect(name, tcp), acceptor.accept(accepted))?;
        Ok(Self { near, far })
    }
}

/// Exchanges a second with `in_flight` under way, and how long each took.
pub(super) async fn exchanges(
    world: &World,
    in_flight: usize,
    payload: usize,
    time: Duration,
) -> Result<(f64, Vec<f64>)> {
    let Hop { mut near, mut far } = Hop::connect(world).await?;
    let (here, there) = (file(world.dir(), "near")?, file(world.dir(), "far")?);
    let receiving = tokio::spawn(async move {
        let mut buffer = Vec::new();
        // Ends with the connection.
        while let Ok(length) = far.read_u32().await {
            buffer.resize(length as usize, 0);
            far.read_exact(&mut buffer).await?;
            append(&there, &buffer)?;
            far.write_u8(1).await?;
            far.flush().await?;
        }
        anyhow::Ok(())
    });
    let (sender, mut waiting) = mpsc::channel::<(Bytes, oneshot::Sender<()>)>(in_flight);
    let sending = tokio::spawn(async move {
        while let Some((first, answer)) = waiting.recv().await {
            let (mut group, mut answers) = (first.to_vec(), vec![answer]);
            while let Ok((payload, answer)) = waiting.try_recv() {
                group.extend_from_slice(&payload);
                answers.push(answer);
            }
            append(&here, &group)?;
            near.write_u32(group.len() as u32).await?;
            near.write_all(&group).await?;
            near.flush().await?;
            near.read_u8().await?;
            for answer in answers {
                // Whoever gave up is not waited for.
                let _ = answer.send(());
            }
        }
        near.shutdown().await?;
        anyhow::Ok(())
    });
    let (began, data) = (Instant::now(), Bytes::from(vec![7; payload]));
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let (sender, data) = (sender.clone(), data.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while began.elapsed() < time {
                    let (answer, done) = oneshot::channel();
                    let begun = Instant::now();
                    sender.send((data.clone(), answer)).await?;
                    done.await?;
                    took.push(begun.elapsed().as_secs_f64());
                }
                anyhow::Ok(took)
            })
        })
        .collect();
    drop(sender);
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await??);
    }
    let rate = took.len() as f64 / began.elapsed().as_secs_f64();
    sending.await??;
    receiving.await??;
    Ok((rate, took))
}

/// Seconds that so many bytes take over one connection into a file that is synced once for each piece.
pub(super) async fn bulk(world: &World, bytes: u64) -> Result<f64> {
    let Hop { mut near, mut far } = Hop::connect(world).await?;
    let there = file(world.dir(), "bulk")?;
    let began = Instant::now();
    let sending = tokio::spawn(async move {
        let piece = vec![7; PIECE_BYTES];
        let mut left = bytes as usize;
        while left > 0 {
            let size = left.min(PIECE_BYTES);
            near.write_all(&piece[..size]).await?;
            left -= size;
        }
        near.flush().await?;
        // Closing before everything is read there would reset the connection.
        near.read_u8().await?;
        anyhow::Ok(())
    });
    let mut buffer = vec![0; PIECE_BYTES];
    let mut left = bytes as usize;
    while left > 0 {
        let size = left.min(PIECE_BYTES);
        far.read_exact(&mut buffer[..size]).await?;
        append(&there, &buffer[..size])?;
        left -= size;
    }
    let took = began.elapsed().as_secs_f64();
    far.write_u8(1).await?;
    far.flush().await?;
    sending.await??;
    Ok(took)
}

fn file(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(name);
    File::create(&path).with_context(|| format!("cannot create {}", path.display()))
}

fn append(mut file: &File, bytes: &[u8]) -> Result<()> {
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(())
}
