//! Members that must go: their calls end with the reason and their connections are closed, over real TLS; others notice
//! nothing.

mod common;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use common::tls::{Authority, identify};
use common::*;
use httt_exchange::grpc::{ConnectionLimits, GrpcPeer, TlsIdentity, serve};
use httt_exchange::*;
use httt_feed::*;
use httt_log::NewEvent;
use httt_wire::directory as pb;
use httt_wire::exchange::{self as wire, RefusalCode};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Nothing waits longer than a test that hangs.
const HANG: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.unwrap_or_else(|_| panic!("{what}"))
}

struct World {
    gateway: Node,
    service: Arc<Service>,
    authority: Authority,
    address: String,
}

impl World {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let (gateway, _) = gateway().await;
        let service = Arc::new(plain_service(&gateway, Receipts::Issue).with_limits(limits));
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("address").to_string();
        let (identity, serving) = (authority.identity("NDXP"), Arc::clone(&service));
        tokio::spawn(async move { serve(listener, &identity, serving, identify, std::future::pending()).await });
        Self { gateway, service, authority, address }
    }

    fn peer(&self, identity: &TlsIdentity) -> GrpcPeer {
        GrpcPeer::new(&format!("https://{}", self.address), "localhost", identity).expect("peer")
    }

    async fn tell<M: httt_wire::Message + httt_wire::Name>(&self, message: &M) {
        let event = NewEvent::of(Audience::All, Lane::Directory, "member", message);
        let told: Result<(), StoreError> = self.service.revise(|_, _| Ok(vec![event])).await;
        told.expect("told");
    }

    async fn suspend(&self, member: &str) {
        self.tell(&pb::MemberSuspended { member: member.into(), reason: "vi phạm".into() }).await;
    }

    async fn revoke(&self, member: &str, identity: &TlsIdentity) {
        let sha256 = sha256(identity).0.to_vec();
        self.tell(&pb::CertificateRevoked { member: member.into(), sha256, reason: "lộ khoá".into() }).await;
    }

    /// TLS alone, so that the test sees what becomes of the connection itself.
    async fn connect(&self, identity: &TlsIdentity) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(&self.address).await.expect("connects");
        self.shake_hands(stream, identity).await.expect("TLS")
    }

    async fn shake_hands(&self, stream: TcpStream, identity: &TlsIdentity) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(identity.ca.as_bytes()).expect("ca")).expect("root");
        let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("certificate")];
        let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).expect("key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("identity");
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").expect("name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}

fn sha256(identity: &TlsIdentity) -> Digest {
    Digest::of(&CertificateDer::from_pem_slice(identity.certificate.as_bytes()).expect("certificate"))
}

/// Asks for news after everything the gateway holds now, so that the answer waits.
async fn long_poll(peer: Arc<GrpcPeer>) -> tokio::task::JoinHandle<Result<wire::HeadsResponse, PeerError>> {
    let now = peer.heads(wire::HeadsRequest::default()).await.expect("heads");
    assert_eq!(now.refusal, None);
    let request =
        wire::HeadsRequest { after: now.position, log_id: now.log_id, wait_ms: MAX_WAIT_MS, ..Default::default() };
    tokio::spawn(async move { peer.heads(request).await })
}

/// Reads what the server sends of HTTP/2 until it closes.
async fn closed(mut connection: TlsStream<TcpStream>) {
    let mut bytes = [0; 4096];
    while connection.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
}

fn refusal(answer: Result<wire::HeadsResponse, PeerError>) -> Option<RefusalCode> {
    answer.expect("answers").refusal.map(|refusal| refusal_from_wire(&refusal))
}

#[tokio::test(flavor = "multi_thread")]
async fn suspending_a_member_ends_its_long_polls_and_closes_its_connections() {
    let world = World::new().await;
    let (h24, h55) = (world.authority.identity("H24"), world.authority.identity("H55"));
    let (ours, others) = (Arc::new(world.peer(&h24)), Arc::new(world.peer(&h55)));
    let (waiting, other) = (long_poll(Arc::clone(&ours)).await, long_poll(Arc::clone(&others)).await);
    let (idle, bystander) = (world.connect(&h24).await, world.connect(&h55).await);
    world.suspend("H24").await;
    assert_eq!(refusal(soon("the long-poll ends", waiting).await.expect("joins")), Some(RefusalCode::Suspended));
    soon("the connection is closed", closed(idle)).await;
    // Who comes again hears why.
    let again = soon("a new call is answered", world.peer(&h24).heads(wire::HeadsRequest::default())).await;
    let again = again.expect("answers").refusal.expect("refused");
    assert!(again.message.contains("vi phạm"), "{}", again.message);
    // The other member's long-poll brings the news, on the connection it had.
    assert_eq!(refusal(soon("news", other).await.expect("joins")), None);
    let still = tokio::time::timeout(Duration::from_millis(500), closed(bystander)).await;
    assert!(still.is_err(), "a connection of another member was closed");
    assert_eq!(refusal(others.heads(wire::HeadsRequest::default()).await), None);
    // Resumed, it takes part again.
    world.tell(&pb::MemberResumed { member: "H24".into(), reason: "đã khắc phục".into() }).await;
    assert_eq!(refusal(soon("an answer", world.peer(&h24).heads(wire::HeadsRequest::default())).await), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn revoking_a_certificate_cuts_what_it_opened_and_nothing_of_the_members_other_certificate() {
    let world = World::new().await;
    let (stolen, good) = (world.authority.identity("H24"), world.authority.identity("H24"));
    let (thief, owner) = (Arc::new(world.peer(&stolen)), Arc::new(world.peer(&good)));
    let (waiting, other) = (long_poll(Arc::clone(&thief)).await, long_poll(Arc::clone(&owner)).await);
    let idle = world.connect(&stolen).await;
    world.revoke("H24", &stolen).await;
    assert_eq!(
        refusal(soon("the long-poll ends", waiting).await.expect("joins")),
        Some(RefusalCode::RevokedCertificate)
    );
    soon("the connection is closed", closed(idle)).await;
    let again = soon("an answer", world.peer(&stolen).heads(wire::HeadsRequest::default())).await;
    assert!(again.expect("answers").refusal.expect("refused").message.contains("lộ khoá"));
    assert_eq!(refusal(soon("news", other).await.expect("joins")), None);
    let report: FeedId = "H24→TW/report".parse().expect("feed");
    let push = wire::PushRequest { feed: Some(report.to_wire()), ..Default::default() };
    let pushed = world.peer(&stolen).push(push.clone()).await.expect("answers").refusal.expect("refused");
    assert_eq!(refusal_from_wire(&pushed), RefusalCode::RevokedCertificate);
    assert_eq!(owner.push(push).await.expect("answers").refusal, None);
    assert_eq!(world.gateway.log.head(&report), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_registered_certificates_is_known_by_them_alone() {
    let world = World::new().await;
    let (registered, other) = (world.authority.identity("H24"), world.authority.identity("H24"));
    let sha256 = sha256(&registered).0.to_vec();
    world.tell(&pb::CertificateAdded { member: "H24".into(), sha256, not_after_ms: 1 }).await;
    let ask = |identity: &TlsIdentity| {
        let peer = world.peer(identity);
        async move { refusal(peer.heads(wire::HeadsRequest::default()).await) }
    };
    assert_eq!(ask(&registered).await, None);
    assert_eq!(ask(&other).await, Some(RefusalCode::RevokedCertificate));
    assert_eq!(ask(&world.authority.identity("H55")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_connection_too_many_of_a_member_closes_its_oldest() {
    let world = World::new().await;
    let h24 = world.authority.identity("H24");
    let oldest = world.connect(&h24).await;
    let other = world.connect(&world.authority.identity("H55")).await;
    let mut rest = Vec::new();
    for _ in 0..ConnectionLimits::default().of_member {
        rest.push(world.connect(&h24).await);
    }
    soon("the oldest is closed", closed(oldest)).await;
    assert_eq!(refusal(world.peer(&world.authority.identity("H55")).heads(Default::default()).await), None);
    assert!(tokio::time::timeout(Duration::from_millis(500), closed(other)).await.is_err());
}

/// A connection from another address of this machine.
async fn from_address(source: [u8; 4], to: &str) -> std::io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(to.parse().expect("address")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_one_address_never_ends_keep_no_other_address_waiting() {
    let world = World::new().await;
    // So many that their time limits alone would not make room for anybody within this test's patience.
    let limits = ConnectionLimits::default();
    let mut silent = Vec::new();
    for _ in 0..limits.handshakes * 8 {
        silent.push(TcpStream::connect(&world.address).await.expect("connects"));
    }
    let identity = world.authority.identity("H24");
    let stream = from_address([127, 0, 0, 2], &world.address).await.expect("connects");
    soon("another address is served", world.shake_hands(stream, &identity)).await.expect("TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_its_share_of_the_connections_and_no_more() {
    let connections = ConnectionLimits { all: 8, ..ConnectionLimits::default() };
    let world = World::with(Limits { connections, ..Limits::default() }).await;
    let (h24, h55) = (world.authority.identity("H24"), world.authority.identity("H55"));
    let held = [world.connect(&h24).await, world.connect(&h24).await];
    let mut one_more = TcpStream::connect(&world.address).await.expect("connects");
    let end = soon("a third of one address is closed", one_more.read(&mut [0])).await;
    assert!(end.map_or(true, |read| read == 0));
    let stream = from_address([127, 0, 0, 2], &world.address).await.expect("connects");
    soon("another address is served", world.shake_hands(stream, &h55)).await.expect("TLS");
    drop(held);
    soon("its places come back", async {
        loop {
            let stream = TcpStream::connect(&world.address).await.expect("connects");
            if world.shake_hands(stream, &h24).await.is_ok() {
                return;
            }
        }
    })
    .await;
}
