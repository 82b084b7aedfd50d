//! A way to a NATS server on which headers get lost, and that can be cut.

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
}

impl Proxy {
    pub async fn before(server: &NatsServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("address").port();
        let (losing, lost, cuts) = (Arc::<AtomicUsize>::default(), Arc::default(), watch::Sender::new(()));
        let proxy = Self { port, losing, lost, cuts };
        let (losing, lost, cuts) = (Arc::clone(&proxy.losing), Arc::clone(&proxy.lost), proxy.cuts.subscribe());
        let there = server.address();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&there).await else { continue };
                let (losing, lost, mut cuts) = (Arc::clone(&losing), Arc::clone(&lost), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let ((mut from_client, to_client), (from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
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

    /// Cuts all connections; new ones may be made at once.
    pub fn cut(&self) {
        self.cuts.send_replace(());
    }
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
