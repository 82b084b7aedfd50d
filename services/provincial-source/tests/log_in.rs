//! Log-ins of devices, which anybody may try.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::*;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// As many as the node takes at a time.
const AT_ONCE: usize = 256;

/// A log-in of which only the beginning is sent.
async fn begin(address: SocketAddr, length: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("POST /thiet-bi/dang-nhap HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

async fn ends_well(mut stream: TcpStream, rest: &str, within: Duration) -> bool {
    stream.write_all(rest.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let answered = tokio::time::timeout(within, stream.read_exact(&mut answer)).await;
    matches!(answered, Ok(Ok(_)) if &answer == b"HTTP/1.1 200")
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_log_ins_hold_a_bounded_share() {
    let place = Place::new(QUICK);
    let text = place.config_text().replace("tls = { certificate = 'tls.pem', key = 'tls.key' }\n", "");
    assert_ne!(text, place.config_text());
    place.write("config.toml", &text);
    let running = place.start().await;
    let address = running.started.address;
    let rest = r#""Username":"x","Password":"y"}"#;
    let mut slow = Vec::new();
    for _ in 0..AT_ONCE {
        slow.push(begin(address, rest.len() + 1).await);
    }
    // All of them have their place before the next one asks.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let one_more = begin(address, rest.len() + 1).await;
    assert!(!ends_well(one_more, rest, Duration::from_secs(1)).await, "it waits its turn");
    let one_more = begin(address, rest.len() + 1).await;
    drop(slow.pop());
    assert!(ends_well(one_more, rest, Duration::from_secs(5)).await, "a place that is left is taken");
    assert!(ends_well(slow.pop().unwrap(), rest, Duration::from_secs(5)).await);
    // Who does not go on loses the place, whatever else happens.
    let mut stalled = slow.pop().unwrap();
    let mut answer = Vec::new();
    let cut = tokio::time::timeout(Duration::from_secs(15), stalled.read_buf(&mut answer)).await;
    assert!(cut.is_ok(), "it was let wait for ever");
    drop(slow);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_is_short() {
    let place = Place::new(QUICK);
    let running = place.start().await;
    let device = running.device(&imei(1), COMMUNE).await;
    let body = |length: usize| json!({ "Username": device.imei, "Password": device.password, "x": "x".repeat(length) });
    let told = bad(device.post("/thiet-bi/dang-nhap", &body(5_000)).await);
    assert!(told.contains("4 KB"), "{told}");
    good(device.post("/thiet-bi/dang-nhap", &body(3_000)).await);
    running.stop().await;
}
