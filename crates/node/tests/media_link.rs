//! Media between two nodes over gRPC with mutual TLS, through a cable that is cut and blocked.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use httt_exchange::{LogStore, Receipts, Service, grpc};
use httt_feed::{Audience, Digest, Lane, SigningKey};
use httt_log::{NewEvent, Transaction};
use httt_node::assembly::{Node, NodeConfig, Trust};
use httt_node::config::{TlsConfig, load};
use httt_node::media::Pinned;
use httt_node::shutdown::Shutdown;
use httt_node::tls;
use httt_node::upstream::{Upstream, UpstreamConfig, tls_identity};
use httt_wire::directory as pb;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Long enough that only a hang reaches it.
const HANG: Duration = Duration::from_secs(120);

/// What becomes of a connection through the cable.
#[derive(Clone, Copy)]
enum Fate {
    /// It breaks after so many bytes, both directions together.
    CutAfter(u64),
    /// Nothing moves after so many bytes.
    BlockAfter(u64),
    Good,
}

/// A TCP relay that ill-treats its connections.
#[derive(Clone)]
struct Cable(Arc<CableInner>);

struct CableInner {
    to: SocketAddr,
    /// By order of connecting; later ones are good.
    fates: Mutex<Vec<Fate>>,
    connections: AtomicUsize,
    carried: AtomicU64,
    blocked: Notify,
}

impl Cable {
    async fn new(to: SocketAddr, mut fates: Vec<Fate>) -> (Self, SocketAddr) {
        fates.reverse();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, carried) = (AtomicUsize::new(0), AtomicU64::new(0));
        let inner = CableInner { to, fates: Mutex::new(fates), connections, carried, blocked: Notify::new() };
        let cable = Self(Arc::new(inner));
        let relay = cable.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                relay.0.connections.fetch_add(1, Ordering::SeqCst);
                let fate = relay.0.fates.lock().unwrap().pop().unwrap_or(Fate::Good);
                tokio::spawn(relay.clone().carry(near, fate));
            }
        });
        (cable, address)
    }

    async fn carry(self, near: TcpStream, fate: Fate) {
        let Ok(far) = TcpStream::connect(self.0.to).await else { return };
        let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
        let carried = Arc::new(AtomicU64::new(0));
        // Both halves end together: a cut is a cut.
        tokio::select! {
            () = self.pump(near_in, far_out, &carried, fate) => {}
            () = self.pump(far_in, near_out, &carried, fate) => {}
        }
    }

    async fn pump(
        &self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        carried: &AtomicU64,
        fate: Fate,
    ) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            let sum = carried.fetch_add(count as u64, Ordering::SeqCst) + count as u64;
            self.0.carried.fetch_add(count as u64, Ordering::SeqCst);
            match fate {
                Fate::CutAfter(limit) if sum > limit => return,
                Fate::BlockAfter(limit) if sum > limit => {
                    self.0.blocked.notify_one();
                    std::future::pending::<()>().await;
                }
                _ => {}
            }
            if to.write_all(&buffer[..count]).await.is_err() {
                return;
            }
        }
    }
}

#[derive(Deserialize)]
struct Config {
    node: NodeConfig,
    tls: TlsConfig,
    upstream: Option<UpstreamConfig>,
}

/// A gateway that serves, and what a province needs to call it.
struct World {
    dir: tempfile::TempDir,
    gateway: Node,
    address: SocketAddr,
    shutdown: Shutdown,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
        for code in ["NDXP", "H24"] {
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.subject_alt_names.push(SanType::URI(format!("urn:httt:member:{code}").try_into().unwrap()));
            let key = KeyPair::generate().unwrap();
            std::fs::write(dir.path().join(format!("{code}.pem")), params.signed_by(&key, &ca).unwrap().pem()).unwrap();
            std::fs::write(dir.path().join(format!("{code}.key")), key.serialize_pem()).unwrap();
            std::fs::write(dir.path().join(format!("{code}.sign")), SigningKey::generate().unwrap().1).unwrap();
        }
        let config = Self::config(dir.path().to_owned(), "NDXP", "");
        let gateway = Node::open(&config.node, Trust::Own, "test").await.unwrap();
        gateway.media.pin(Pinned::nothing);
        enrol(&gateway, &dir).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), Shutdown::new());
        let service = Arc::new(Service::new(
            Arc::new(LogStore::new(gateway.log.clone())),
            gateway.directory.clone(),
            gateway.media.clone(),
            Receipts::Issue,
            gateway.stopped.clone(),
            shutdown.watch(),
        ));
        let (identity, stop) = (tls_identity(&config.tls).unwrap(), shutdown.cancelled());
        tokio::spawn(async move { grpc::serve(listener, &identity, service, tls::member_identity, stop).await });
        Self { dir, gateway, address, shutdown }
    }

    fn config(dir: PathBuf, code: &str, more: &str) -> Config {
        let path = dir.join(format!("{code}.toml"));
        let text = format!(
            "[tls]\ncertificate = '{code}.pem'\nkey = '{code}.key'\nca = 'ca.pem'\n\
             [node]\nmember = '{code}'\ndata_dir = '{code}'\nsigning_key = '{code}.sign'\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        load(&path).unwrap()
    }

    /// A province whose way up goes through `cable`.
    async fn province(&self, cable: SocketAddr) -> (Node, Upstream) {
        let more = format!(
            "gateway_fingerprint = '{}'\n[upstream]\nkind = 'grpc'\naddress = 'https://{cable}'\n",
            self.gateway.fingerprint()
        );
        let config = Self::config(self.dir.path().to_owned(), "H24", &more);
        let node = Node::open(&config.node, Trust::Configured, "test").await.unwrap();
        let upstream = Upstream::new(&config.upstream.unwrap(), &config.tls, &node).unwrap();
        (node, upstream)
    }

    async fn close(self, province: Node) {
        self.shutdown.trigger();
        province.close(&self.shutdown).await;
        self.gateway.close(&self.shutdown).await;
    }
}

async fn enrol(gateway: &Node, dir: &tempfile::TempDir) {
    let events = [("NDXP", pb::MemberKind::Gateway), ("H24", pb::MemberKind::Province)].map(|(code, kind)| {
        let pem = std::fs::read_to_string(dir.path().join(format!("{code}.sign"))).unwrap();
        let key = SigningKey::from_pem(&pem).unwrap().public().to_wire();
        let enrolled = pb::MemberEnrolled { member: code.into(), kind: kind.into(), ..Default::default() };
        let added = pb::KeyAdded { member: code.into(), key: Some(key) };
        let stream = format!("member/{code}");
        [
            NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &enrolled),
            NewEvent::of(Audience::All, Lane::Directory, stream, &added),
        ]
    });
    for events in events {
        gateway.log.commit(Transaction::append(events.to_vec())).await.unwrap();
    }
}

fn sound(length: usize, seed: u32) -> Bytes {
    let mut state = seed | 1;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect::<Vec<_>>().into()
}

async fn until_through(what: &str, mut attempt: impl AsyncFnMut() -> bool) {
    let tries = async {
        while !attempt().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(HANG, tries).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_comes_and_goes_whole_over_a_cable_that_is_cut_again_and_again() {
    const SIZE: usize = 3_000_000;
    let world = World::new().await;
    let fates = (0..60).map(|number| Fate::CutAfter(150_000 + 37_000 * (number % 11))).collect();
    let (cable, at) = Cable::new(world.address, fates).await;
    let (province, upstream) = world.province(at).await;

    let down = sound(SIZE, 1);
    let digest = world.gateway.media.put_bytes(down).await.unwrap();
    until_through("fetched", async || upstream.fetch_media(digest, false).await.is_ok()).await;
    assert!(province.media.stat(digest).await.unwrap().complete);
    let connections = cable.0.connections.load(Ordering::SeqCst);
    assert!(connections > 3, "{connections} connections: the cable was not cut");

    let up = sound(SIZE, 2);
    let digest = province.media.put_bytes(up.clone()).await.unwrap();
    until_through("sent", async || upstream.send_media(digest, false).await.is_ok()).await;
    assert_eq!(world.gateway.media.read_range(digest, 0, u64::MAX).await.unwrap().0, up);
    let more = cable.0.connections.load(Ordering::SeqCst) - connections;
    assert!(more > 3, "{more} more connections: the cable was not cut");

    // A cut costs what was under way, no more: bytes on the cable, TLS and lost ranges among them.
    let carried = cable.0.carried.load(Ordering::SeqCst);
    assert!(carried < 2 * 2 * SIZE as u64, "{carried} bytes for two files of {SIZE}");
    world.close(province).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emergencys_file_does_not_wait_behind_one_that_is_stuck() {
    let world = World::new().await;
    let (cable, at) = Cable::new(world.address, vec![Fate::BlockAfter(200_000)]).await;
    let (province, upstream) = world.province(at).await;
    let bulk = world.gateway.media.put_bytes(sound(2_000_000, 3)).await.unwrap();
    let alarm = world.gateway.media.put_bytes(sound(500_000, 4)).await.unwrap();

    let slow = upstream.clone();
    let stuck = tokio::spawn(async move { slow.fetch_media(bulk, false).await });
    tokio::time::timeout(HANG, cable.0.blocked.notified()).await.expect("the bulk connection is blocked");
    tokio::time::timeout(HANG, upstream.fetch_media(alarm, true)).await.expect("no hang").expect("fetched");
    assert!(province.media.stat(alarm).await.unwrap().complete);
    assert!(!province.media.stat(bulk).await.unwrap().complete);
    assert_eq!(cable.0.connections.load(Ordering::SeqCst), 2, "one for bulk, one for what is urgent");
    stuck.abort();
    world.close(province).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_has_no_room_says_so_and_takes_the_file_later() {
    let world = World::new().await;
    let (province, upstream) = world.province(world.address).await;
    world.gateway.media.pin(|| Pinned::All);
    let limit = world.gateway.media.limits().max_member_parts;
    // So many unfinished files of this member are there already.
    let mut parts = Vec::new();
    for number in 0..limit {
        let digest = Digest::of(&number.to_be_bytes());
        world.gateway.media.write_for("H24", digest, 10, 0, Bytes::from_static(b"12345")).await.unwrap();
        parts.push(digest);
    }
    let digest = province.media.put_bytes(sound(10_000, 5)).await.unwrap();
    let refused = upstream.send_media(digest, false).await.unwrap_err().to_string();
    assert!(refused.contains("unfinished files") && refused.contains("H24"), "{refused}");
    // One of them turns out to be rubbish and goes.
    let rest = world.gateway.media.write_for("H24", parts[0], 10, 5, Bytes::from_static(b"67890")).await;
    assert!(rest.is_err());
    upstream.send_media(digest, false).await.unwrap();
    assert!(world.gateway.media.stat(digest).await.unwrap().complete);
    world.close(province).await;
}
