//! Server and client against each other, over real sockets on the loopback address.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Version};
use axum::routing::{get, post};
use httt_node::client::{Cause, ClientLimits, HttpClient};
use httt_node::config::{ConfigPath, TlsConfig};
use httt_node::http::{self, ApiError, Json, Peer, Readiness, ServeLimits};
use httt_node::shutdown::Shutdown;
use httt_node::tls::{self, ClientAuth};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// Long enough that only a hang reaches it.
const HANG: Duration = Duration::from_secs(60);

struct Pki {
    folder: tempfile::TempDir,
    ca: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        Self { folder, ca }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn issue(&self, name: &str, uri: Option<&str>) -> TlsConfig {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().unwrap())));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.ca).unwrap();
        let write = |ending: &str, text: String| {
            let path = self.folder.path().join(format!("{name}.{ending}"));
            std::fs::write(&path, text).unwrap();
            ConfigPath::new(path)
        };
        TlsConfig {
            certificate: write("pem", certificate.pem()),
            key: write("key", key.serialize_pem()),
            ca: Some(ConfigPath::new(self.ca())),
        }
    }

    fn client(&self, identity: Option<&TlsConfig>, limits: ClientLimits) -> HttpClient {
        let tls = match identity {
            Some(config) => tls::client_config(config),
            None => tls::anonymous_client_config(&self.ca()),
        };
        HttpClient::with_limits(tls.unwrap(), limits)
    }
}

struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(tls: Option<(&TlsConfig, ClientAuth)>, router: Router, limits: ServeLimits) -> Self {
        let listener = http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let tls = tls.map(|(config, clients)| tls::server_config(config, clients).unwrap());
        let task = tokio::spawn(http::serve_with(listener, tls, router, shutdown.clone(), limits));
        Self { address, shutdown, task }
    }

    fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    async fn stop(self) {
        self.shutdown.trigger();
        tokio::time::timeout(HANG, self.task).await.expect("the server stops").unwrap();
    }
}

fn routes() -> Router {
    let whoami = |peer: Peer, request: axum::extract::Request| async move {
        Json(json!({
            "member": peer.member().map(ToString::to_string),
            "certificate": peer.certificate().is_some(),
            "http2": request.version() == Version::HTTP_2,
            "loopback": peer.address().ip().is_loopback(),
        }))
    };
    let echo = |Json(value): Json<Value>| async move { Json(value) };
    let large = || async { Bytes::from(vec![b'x'; 10_000]) };
    let refuse = || async { ApiError::conflict("Đã có người sửa.", "Somebody changed it.") };
    let headers = |headers: HeaderMap| async move {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Json(json!({ "range": text("range"), "authorization": text("authorization") }))
    };
    let routes = Router::new()
        .route("/whoami", get(whoami))
        .route("/echo", post(echo))
        .route("/large", get(large))
        .route("/refuse", get(refuse))
        .route("/headers", get(headers))
        .route("/hang", get(std::future::pending::<()>));
    http::standard(routes, &Readiness::new())
}

#[tokio::test]
async fn json_travels_over_tls_and_http2() {
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let running = Running::start(Some((&server, ClientAuth::None)), routes(), ServeLimits::default()).await;
    let client = pki.client(None, ClientLimits::default());

    let sent = json!({ "tên": "Đài truyền thanh xã" });
    let back: Value = client.post_json(&running.url("/echo"), &sent).await.unwrap();
    assert_eq!(back, sent);
    let who: Value = client.get_json(&running.url("/whoami")).await.unwrap();
    assert_eq!(who, json!({ "member": null, "certificate": false, "http2": true, "loopback": true }));
    let headers: Value =
        client.get(&running.url("/headers")).bearer("t").range(5, 10).send().await.unwrap().json().unwrap();
    assert_eq!(headers, json!({ "range": "bytes=5-14", "authorization": "Bearer t" }));
    let reply = client.get(&running.url("/whoami")).send().await.unwrap();
    assert!(reply.headers.contains_key("x-request-id"));
    let request = axum::http::Request::get(running.url("/large")).body(Bytes::new()).unwrap();
    assert_eq!(client.send(request, HANG, 10_000).await.unwrap().into_body().len(), 10_000);
    running.stop().await;
}

#[tokio::test]
async fn the_certificate_says_which_member_asks() {
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let member = pki.issue("member", Some("urn:httt:member:H24"));
    let running = Running::start(Some((&server, ClientAuth::Optional)), routes(), ServeLimits::default()).await;
    for (identity, expected) in [(Some(&member), json!("H24")), (None, Value::Null)] {
        let client = pki.client(identity, ClientLimits::default());
        let who: Value = client.get_json(&running.url("/whoami")).await.unwrap();
        assert_eq!(who["member"], expected);
    }
    // Somebody else's authority may well sign the same name.
    let other = Pki::new();
    let forged = other.issue("forged", Some("urn:httt:member:H24"));
    let refused = pki.client(Some(&forged), ClientLimits::default()).get_bytes(&running.url("/whoami")).await;
    assert!(refused.is_err());
    running.stop().await;
}

#[tokio::test]
async fn a_required_certificate_is_required() {
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let running = Running::start(Some((&server, ClientAuth::Required)), routes(), ServeLimits::default()).await;
    assert!(pki.client(None, ClientLimits::default()).get_bytes(&running.url("/whoami")).await.is_err());
    let member = pki.issue("member", Some("urn:httt:member:TW"));
    let who: Value =
        pki.client(Some(&member), ClientLimits::default()).get_json(&running.url("/whoami")).await.unwrap();
    assert_eq!(who["member"], "TW");
    running.stop().await;
}

#[tokio::test]
async fn client_errors_say_where_and_why() {
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let running = Running::start(Some((&server, ClientAuth::None)), routes(), ServeLimits::default()).await;
    let client = pki.client(None, ClientLimits { max_response_bytes: 9_999, ..ClientLimits::default() });

    let refused = client.get_bytes(&running.url("/refuse?token=geheim")).await.unwrap_err();
    assert_eq!(refused.status(), Some(StatusCode::CONFLICT));
    assert!(!refused.is_temporary());
    let text = refused.to_string();
    assert!(text.starts_with(&format!("GET {}: answered 409 Conflict", running.url("/refuse"))), "{text}");
    assert!(text.contains("Somebody changed it.") && !text.contains("geheim"), "{text}");

    let large = client.get_bytes(&running.url("/large")).await.unwrap_err();
    assert!(matches!(large.cause, Cause::TooLarge(9_999)), "{large}");
    let hanging = client.get(&running.url("/hang")).timeout(Duration::from_millis(50)).send().await.unwrap_err();
    assert!(matches!(hanging.cause, Cause::Timeout(_)) && hanging.is_temporary(), "{hanging}");
    let shape = client.get_json::<Vec<u8>>(&running.url("/whoami")).await.unwrap_err();
    assert!(matches!(shape.cause, Cause::Json(_)), "{shape}");
    for bad in ["/relative", "ftp://host/", "https://", &format!("http://{}/whoami", running.address)] {
        let refused = client.get_bytes(bad).await.unwrap_err();
        assert!(matches!(refused.cause, Cause::Request(_)), "{refused}");
    }

    // Believes another authority than the server's.
    let distrusting = Pki::new();
    let untrusted =
        distrusting.client(None, ClientLimits::default()).get_bytes(&running.url("/whoami")).await.unwrap_err();
    assert!(matches!(untrusted.cause, Cause::Connect(_)), "{untrusted}");
    assert!(untrusted.to_string().contains("certificate"), "{untrusted}");

    let url = running.url("/whoami");
    running.stop().await;
    let gone = pki.client(None, ClientLimits::default()).get_bytes(&url).await.unwrap_err();
    assert!(matches!(gone.cause, Cause::Connect(_)) && gone.is_temporary(), "{gone}");
}

#[tokio::test]
async fn what_strangers_send_does_not_end_the_server() {
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let limits =
        ServeLimits { max_connections: 2, handshake_timeout: Duration::from_millis(50), ..ServeLimits::default() };
    let running = Running::start(Some((&server, ClientAuth::None)), routes(), limits).await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\xff\xff", b"\0"] {
        let mut stranger = TcpStream::connect(running.address).await.unwrap();
        stranger.write_all(garbage).await.unwrap();
        drop(stranger);
    }
    // Two that say nothing hold both places until their handshake times out.
    let silent =
        [TcpStream::connect(running.address).await.unwrap(), TcpStream::connect(running.address).await.unwrap()];
    let client = pki.client(None, ClientLimits::default());
    client.get_bytes(&running.url("/whoami")).await.unwrap();
    drop(silent);
    running.stop().await;
}

#[tokio::test]
async fn silent_connections_are_closed() {
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let limits = ServeLimits { first_request_timeout: Duration::from_millis(50), ..ServeLimits::default() };
    let plain = Running::start(None, routes(), limits.clone()).await;
    // The beginning of an HTTP/2 preface, and nothing after it.
    for first in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(plain.address).await.unwrap();
        stream.write_all(first).await.unwrap();
        let closed = tokio::time::timeout(HANG, stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "the server closes {first:?}");
    }
    plain.stop().await;

    let secure = Running::start(Some((&server, ClientAuth::None)), routes(), limits).await;
    let mut tls = tls::anonymous_client_config(&pki.ca()).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(secure.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.unwrap();
    let closed = tokio::time::timeout(HANG, stream.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok(), "the server closes a silent HTTP/2 connection");
    secure.stop().await;
}

#[tokio::test]
async fn plain_http_speaks_both_versions() {
    let running = Running::start(None, routes(), ServeLimits::default()).await;
    let pki = Pki::new();
    let client = pki.client(None, ClientLimits { allow_plain_http: true, ..ClientLimits::default() });
    let url = format!("http://{}/whoami", running.address);
    let who: Value = client.get_json(&url).await.unwrap();
    assert_eq!((&who["http2"], &who["certificate"]), (&json!(false), &json!(false)));

    let stream = hyper_util::rt::TokioIo::new(TcpStream::connect(running.address).await.unwrap());
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut send, connection) = hyper::client::conn::http2::handshake(executor, stream).await.unwrap();
    tokio::spawn(connection);
    let request = axum::http::Request::get(&url).body(http_body_util::Empty::<Bytes>::new()).unwrap();
    assert_eq!(send.send_request(request).await.unwrap().status(), 200);
    drop(send);
    running.stop().await;
}

#[tokio::test]
async fn a_request_in_progress_ends_before_the_server_does() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let handler = {
        let (entered, release) = (Arc::clone(&entered), Arc::clone(&release));
        move || async move {
            entered.notify_one();
            release.notified().await;
            "xong"
        }
    };
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let router = Router::new().route("/slow", get(handler));
    let running = Running::start(Some((&server, ClientAuth::None)), router, ServeLimits::default()).await;
    let client = pki.client(None, ClientLimits::default());
    let url = running.url("/slow");
    let asking = tokio::spawn(async move { client.get_bytes(&url).await });
    entered.notified().await;
    running.shutdown.trigger();
    // New connections are refused while the old request goes on.
    while TcpStream::connect(running.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    assert_eq!(asking.await.unwrap().unwrap(), "xong");
    running.stop().await;
}

#[tokio::test]
async fn requests_that_never_end_are_cut_at_the_deadline() {
    let entered = Arc::new(Notify::new());
    let handler = {
        let entered = Arc::clone(&entered);
        move || async move {
            entered.notify_one();
            std::future::pending::<Infallible>().await;
        }
    };
    let pki = Pki::new();
    let server = pki.issue("server", None);
    let limits = ServeLimits { drain_deadline: Duration::from_millis(20), ..ServeLimits::default() };
    let router = Router::new().route("/hang", get(handler));
    let running = Running::start(Some((&server, ClientAuth::None)), router, limits).await;
    let client = pki.client(None, ClientLimits::default());
    let url = running.url("/hang");
    let asking = tokio::spawn(async move { client.get_bytes(&url).await });
    entered.notified().await;
    running.stop().await;
    let cut = asking.await.unwrap().unwrap_err();
    assert!(matches!(cut.cause, Cause::Broken(_)), "{cut}");
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let first = http::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = first.local_addr().unwrap();
    let text = http::bind(address).await.unwrap_err().to_string();
    assert!(text.contains(&address.to_string()) && text.contains("another program"), "{text}");
}
