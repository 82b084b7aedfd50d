//! A way to a NATS server on which headers get lost, that can be cut, and that stands still when told to.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::nats::NatsServer;

/// Stands before a server.
pub struct Proxy {
    port: u16,
    /// So many headers are still to be lost.
    losing: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
    cuts: watch::Sender<()>,
    /// What is published there is held back.
    holding: watch::Sender<Option<String>>,
    held: Arc<AtomicUsize>,
}

impl Proxy {
    pub async fn before(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("address").port();
        let (losing, lost, cuts) = (Arc::<AtomicUsize>::default(), Arc::default(), watch::Sender::new(()));
        let (holding, held) = (watch::Sender::new(None), Arc::default());
        let proxy = Self { port, losing, lost, cuts, holding, held };
        let (holding, held) = (proxy.holding.subscribe(), Arc::clone(&proxy.held));
        let (losing, lost, cuts) = (Arc::clone(&proxy.losing), Arc::clone(&proxy.lost), proxy.cuts.subscribe());
        let there = server.address();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&there).await else { continue };
                let (losing, lost, mut cuts) = (Arc::clone(&losing), Arc::clone(&lost), cuts.clone());
                let (holding, held) = (holding.clone(), Arc::clone(&held));
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        _ = carry_up(from_client, to_server, holding, &held) => {}
                        _ = carry(from_server, to_client, &losing, &lost) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Loses the next `headers`.
    pub fn lose(&self, headers: usize) {
        self.losing.store(headers, Ordering::SeqCst);
    }

    /// How many were lost.
    pub fn lost(&self) -> usize {
        self.lost.load(Ordering::SeqCst)
    }

    /// Stands still before the next message to `subject`, and so do all after it, until it is released.
    pub fn hold(&self, subject: &str) {
        self.held.store(0, Ordering::SeqCst);
        self.holding.send_replace(Some(subject.to_owned()));
    }

    /// How many messages stand still.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Goes on.
    pub fn release(&self) {
        self.holding.send_replace(None);
    }

    /// Cuts all connections; new ones may be made at once.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }
}

/// Carries what the client says, a line and its body at a time.
async fn carry_up(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut holding: watch::Receiver<Option<String>>,
    held: &AtomicUsize,
) -> io::Result<()> {
    let (mut from, mut said) = (BufReader::new(from), Vec::new());
    while from.read_until(b'\n', &mut said).await? > 0 {
        let line = String::from_utf8_lossy(&said).into_owned();
        let mut words = line.split_whitespace();
        if let Some("PUB" | "HPUB") = words.next() {
            let subject = words.next().expect("a subject");
            let size: usize = words.next_back().and_then(|size| size.parse().ok()).expect("a size");
            let (begin, end) = (said.len(), said.len() + size + 2);
            said.resize(end, 0);
            from.read_exact(&mut said[begin..]).await?;
            if holding.borrow().as_deref() == Some(subject) {
                held.fetch_add(1, Ordering::SeqCst);
                let _released = holding.wait_for(|holding| holding.as_deref() != Some(subject)).await;
            }
        }
        to.write_all(&said).await?;
        said.clear();
    }
    Ok(())
}

/// Carries what the server says, a line and its body at a time.
async fn carry(
    from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    losing: &AtomicUsize,
    lost: &AtomicUsize,
) -> io::Result<()> {
    let (mut from, mut said) = (BufReader::new(from), Vec::new());
    while from.read_until(b'\n', &mut said).await? > 0 {
        let line = String::from_utf8_lossy(&said).into_owned();
        if line.starts_with("MSG ") || line.starts_with("HMSG ") {
            let size: usize = line.split_whitespace().next_back().and_then(|size| size.parse().ok()).expect("a size");
            let (begin, end) = (said.len(), said.len() + size + 2);
            said.resize(end, 0);
            from.read_exact(&mut said[begin..]).await?;
        }
        let header = line.starts_with("HMSG ") && said.windows(14).any(|part| part == b"Httt-Sequence:");
        let less = |left: usize| left.checked_sub(1);
        if header && losing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            lost.fetch_add(1, Ordering::SeqCst);
        } else {
            to.write_all(&said).await?;
        }
        said.clear();
    }
    Ok(())
}
