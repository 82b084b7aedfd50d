//! A stream of events, read as it comes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::common::{Central, World};

/// A stream that is open, and what it told so far.
pub(crate) struct Stream {
    socket: TcpStream,
    told: String,
}

impl World {
    /// Starts without TLS for the API, so that a stream can be read as it comes.
    pub(crate) async fn start_plain(&self) -> Central {
        let path = self.path("central-source.toml");
        let text = std::fs::read_to_string(&path).expect("configuration");
        let plain: String =
            text.lines().filter(|line| !line.starts_with("tls = ")).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, plain).expect("write");
        self.start_with("http", true).await
    }
}

impl Central {
    pub(crate) async fn listen(&self, token: &str) -> Stream {
        let address = self.url("").replace("http://", "");
        let mut socket = TcpStream::connect(&address).await.expect("connects");
        let request =
            format!("GET /api/v1/events HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {token}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("sends");
        Stream { socket, told: String::new() }
    }
}

impl Stream {
    /// Everything told, as soon as `wanted` is in it.
    pub(crate) async fn read_until(&mut self, wanted: &str) -> String {
        let mut buffer = [0; 4_096];
        while !self.told.contains(wanted) {
            let read = tokio::time::timeout(Duration::from_secs(10), self.socket.read(&mut buffer)).await;
            let length = read.expect("something comes").expect("reads");
            assert_ne!(length, 0, "the stream ended: {}", self.told);
            self.told.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
        self.told.clone()
    }
}
