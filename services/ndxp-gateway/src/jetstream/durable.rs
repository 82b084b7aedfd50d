//! Whether servers keep what they acknowledge.
//!
//! NATS acknowledges a message that its replicas have in memory; unless `sync_interval` is `always`, a power cut takes
//! up to two minutes of acknowledged messages with it. Servers older than 2.10 know no such setting. The protocol with
//! clients does not tell the setting, monitoring does: what cannot be known cannot be promised.

use std::collections::BTreeSet;

use httt_node::client::HttpClient;
use serde::Deserialize;

/// The first version that can sync before it acknowledges.
const FIRST: (u64, u64) = (2, 10);

/// What `/jsz?config=1` says, as far as it matters.
#[derive(Debug, Deserialize)]
struct JetStreamStatus {
    server_id: String,
    #[serde(default)]
    disabled: bool,
    config: Option<JetStreamOptions>,
    meta_cluster: Option<MetaCluster>,
}

#[derive(Debug, Deserialize)]
struct JetStreamOptions {
    #[serde(default)]
    sync_always: bool,
}

#[derive(Debug, Deserialize)]
struct MetaCluster {
    cluster_size: usize,
}

/// Why acknowledged messages may be lost; `None`: every server promises to keep them.
pub(super) async fn doubt(version: &str, monitors: &[String], http: &HttpClient) -> Option<String> {
    if !is_recent(version) {
        return Some(format!("the server is NATS {version}; only 2.10 and later can write before they acknowledge"));
    }
    if monitors.is_empty() {
        return Some(
            "no `monitors` are named, so nobody can tell whether the servers have sync_interval: always".into(),
        );
    }
    let (mut seen, mut size) = (BTreeSet::new(), 1);
    for monitor in monitors {
        let url = format!("{}/jsz?config=1", monitor.trim_end_matches('/'));
        let status: JetStreamStatus = match http.get_json(&url).await {
            Ok(status) => status,
            Err(error) => return Some(format!("its sync_interval cannot be known: {error}")),
        };
        if status.disabled || status.config.is_none() {
            return Some(format!("{monitor}: JetStream is not enabled there, or does not tell its settings"));
        }
        if !status.config.is_some_and(|config| config.sync_always) {
            return Some(format!("{monitor}: jetstream.sync_interval is not `always`"));
        }
        size = size.max(status.meta_cluster.map_or(1, |cluster| cluster.cluster_size));
        seen.insert(status.server_id);
    }
    let known = seen.len();
    (known < size).then(|| format!("the cluster has {size} servers, `monitors` tells of {known}; name each of them"))
}

fn is_recent(version: &str) -> bool {
    let mut parts = version.trim_start_matches('v').split(['.', '-']).map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= FIRST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers every request with `body`, as a server's monitoring does.
    async fn monitor(body: &'static str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _request = socket.read(&mut request).await.expect("request");
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length:";
                let answer = format!("{head} {}\r\n\r\n{body}", body.len());
                socket.write_all(answer.as_bytes()).await.expect("answers");
            }
        });
        format!("http://{address}")
    }

    fn client() -> HttpClient {
        let limits = httt_node::client::ClientLimits { allow_plain_http: true, ..Default::default() };
        HttpClient::with_limits(httt_node::tls::trustless_client_config().expect("tls"), limits)
    }

    const ALWAYS: &str =
        r#"{"server_id":"A","config":{"max_storage":1,"sync_interval":120000000000,"sync_always":true}}"#;
    const SELDOM: &str = r#"{"server_id":"A","config":{"max_storage":1,"sync_interval":120000000000}}"#;
    const OF_THREE: &str =
        r#"{"server_id":"B","config":{"sync_always":true},"meta_cluster":{"name":"c","cluster_size":3}}"#;

    #[tokio::test]
    async fn only_a_server_that_says_always_is_beyond_doubt() {
        let (always, seldom) = (monitor(ALWAYS).await, monitor(SELDOM).await);
        assert_eq!(doubt("2.10.0", std::slice::from_ref(&always), &client()).await, None);
        let doubted = doubt("2.10.0", &[seldom], &client()).await.expect("seldom");
        assert!(doubted.contains("sync_interval is not `always`"), "{doubted}");
        let old = doubt("2.9.10", &[always], &client()).await.expect("old");
        assert!(old.contains("2.9.10"), "{old}");
        let unknown = doubt("2.12.0", &[], &client()).await.expect("unknown");
        assert!(unknown.contains("monitors"), "{unknown}");
        let gone = doubt("2.12.0", &["http://127.0.0.1:1".into()], &client()).await.expect("gone");
        assert!(gone.contains("127.0.0.1:1"), "{gone}");
    }

    #[tokio::test]
    async fn every_server_of_a_cluster_must_say_so() {
        let monitors = [monitor(OF_THREE).await, monitor(ALWAYS).await];
        let doubted = doubt("2.12.0", &monitors, &client()).await.expect("one is unknown");
        assert!(doubted.contains("3 servers") && doubted.contains("of 2"), "{doubted}");
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        for recent in ["2.10.0", "2.12.1", "v2.11.0-RC.1", "3.0.0"] {
            assert!(is_recent(recent), "{recent}");
        }
        for old in ["2.9.10", "2.9", "1.99.0", "", "next"] {
            assert!(!is_recent(old), "{old}");
        }
    }
}
