//! Files of bulletins: which ones stay, and that a lost one comes again.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use common::*;
use httt_domain::bulletin::{Content, Kind, Media};
use httt_feed::{Audience, Digest, Lane, MemberKind, Sealer, SigningKey};
use httt_log::{NewEvent, Transaction};
use httt_node::assembly::{Node, NodeConfig, Trust};
use httt_node::config::{ConfigPath, TlsConfig, load};
use httt_node::exchange::quota::CallRates;
use httt_node::exchange::rest::{Client, ClientKey, Clients, PlatformOptions, router};
use httt_node::exchange::{LogStore, Receipts, Service};
use httt_node::http::{ServeLimits, serve_with};
use httt_node::media::{MediaStat, Pinned};
use httt_node::shutdown::Shutdown;
use httt_node::tls::{ClientAuth, server_config};
use httt_wire::bulletin::BulletinPublished;
use httt_wire::directory;

const SECRET: &str = "a secret of the platform";

fn sound(number: u8) -> Bytes {
    vec![number; 100].into()
}

fn audio(number: u8) -> Content {
    let media = Media {
        sha256: Digest::of(&sound(number)).to_string(),
        size: 100,
        content_type: "audio/wav".into(),
        name: "a.wav".into(),
        duration_ms: 1_000,
    };
    Content { kind: Kind::Audio, media: Some(media), body: String::new(), ..text("Có tiếng") }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bulletin_needs_stays_and_the_rest_makes_room() {
    let place = Place::new(QUICK);
    let limits = "[node.media]\nmax_file_bytes = 100\nmax_store_bytes = 250\n";
    place.write("config.toml", &(place.config_text() + limits));
    let running = place.start().await;
    let mut outside = Outside::arrives(&running).await;
    let media = running.started.node.media.clone();
    let (needed, other) = (media.put_bytes(sound(1)).await.unwrap(), media.put_bytes(sound(2)).await.unwrap());
    outside.publish(&running, "TW", "b1", 1, &audio(1)).await;
    until("offered", || async { running.stream("delivery/b1").len() == 2 }).await;
    media.read_range(other, 0, 1).await.unwrap();

    media.put_bytes(sound(3)).await.unwrap();
    assert!(media.knows(needed) && !media.knows(other), "the one used longest ago is needed");
    let storage = running.person("auditor").await.get("/api/v1/storage").await;
    let figures =
        ["files", "file_bytes", "max_file_bytes", "max_store_bytes", "dropped"].map(|key| storage[key].clone());
    assert_eq!(figures, [2, 200, 100, 250, 1].map(serde_json::Value::from), "{storage}");

    // Withdrawn, it may go too.
    outside.withdraw(&running, "b1", false).await;
    media.put_bytes(sound(4)).await.unwrap();
    assert!(!media.knows(needed));
    running.stop().await;
}

/// An exchange that the province reaches as a platform's client, and what the ministry said there.
struct Platform {
    node: Node,
    shutdown: Shutdown,
}

impl Platform {
    /// Writes the province's configuration to go there.
    async fn start(place: &Place) -> Self {
        // A PKCS#8 document without the public half: a fixed beginning, and the seed.
        let mut document = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        document.extend(Digest::of(b"NDXP").0);
        let pem = BASE64_STANDARD.encode(document);
        place.write("ndxp.key", &format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n"));
        place.write("ndxp.toml", "member = 'NDXP'\ndata_dir = 'ndxp'\nsigning_key = 'ndxp.key'\n");
        let config: NodeConfig = load(&place.path("ndxp.toml")).unwrap();
        let node = Node::open(&config, Trust::Own, "test").await.unwrap();
        node.media.pin(Pinned::nothing);
        let own = SigningKey::from_pem(&std::fs::read_to_string(place.path("signing.key")).unwrap()).unwrap();
        for (member, kind, key) in [
            ("NDXP", MemberKind::Gateway, key("NDXP")),
            ("TW", MemberKind::Central, key("TW")),
            (OWN, MemberKind::Province, own),
        ] {
            let stream = format!("member/{member}");
            let enrolled = directory::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
            let added = directory::KeyAdded { member: member.into(), key: Some(key.public().to_wire()) };
            let events = vec![
                NewEvent::of(Audience::All, Lane::Directory, stream.clone(), &enrolled),
                NewEvent::of(Audience::All, Lane::Directory, stream, &added),
            ];
            node.log.commit(Transaction::append(events)).await.unwrap();
        }
        let shutdown = Shutdown::new();
        let (log, directory, media) = (node.log.clone(), node.directory.clone(), node.media.clone());
        let log = Arc::new(LogStore::new(log));
        let service = Service::new(log, directory, media, Receipts::Issue, node.stopped.clone(), shutdown.watch());
        let key = ClientKey::OAuth2 { id: "h24".into(), secret_sha256: Digest::of(SECRET.as_bytes()) };
        let client = Client { key, member: code(OWN), rates: CallRates::UNLIMITED, disabled: false };
        let options = PlatformOptions {
            clients: Clients::new(vec![client]).unwrap(),
            records: Arc::new(|_| {}),
            address_of: |_| std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            clock: Arc::new(|| 0),
            uptime: Arc::new(|| 0),
        };
        let file = |name: &str| ConfigPath::new(place.path(name));
        let tls = TlsConfig { certificate: file("tls.pem"), key: file("tls.key"), ca: None };
        let tls = server_config(&tls, ClientAuth::None).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = router(Arc::new(service), options);
        tokio::spawn(serve_with(listener, Some(tls), routes, shutdown.clone(), ServeLimits::default()));
        place.write("secret", SECRET);
        let dead = "kind = 'grpc'\naddress = 'https://127.0.0.1:1'";
        let way = format!(
            "kind = 'rest'\naddress = 'https://{address}'\nclient_id = 'h24'\nclient_secret = {{ file = 'secret' }}"
        );
        let text = place.config_text();
        assert!(text.contains(dead), "{text}");
        place.write("config.toml", &text.replace(dead, &way));
        Self { node, shutdown }
    }

    async fn publish(&self, bulletin: &str, content: &Content) {
        let published = BulletinPublished {
            bulletin: bulletin.into(),
            version: 1,
            content: Some(content.to_wire()),
            approved_at_ms: now_ms(),
            ..Default::default()
        };
        let mut event = typed(&published);
        (event.stream, event.version) = (format!("bulletin/{bulletin}"), 1);
        let sealer = Sealer::new(code("TW"), key("TW"));
        let batch = sealer.seal(&feed("TW", "*", Lane::Content), None, now_ms(), vec![event]).unwrap();
        self.node.log.commit(Transaction::copy([batch])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_lost_is_told_and_fetched_again() {
    let place = Place::new(QUICK);
    let platform = Platform::start(&place).await;
    let digest = platform.node.media.put_bytes(sound(1)).await.unwrap();
    platform.publish("b1", &audio(1)).await;
    let running = place.start().await;
    until("offered", || async { running.stream("delivery/b1").len() == 2 }).await;
    let media = running.started.node.media.clone();
    let device = running.device(&imei(1), COMMUNE).await;
    let url = format!("{}/thiet-bi/media/{digest}", running.base);
    let status = || async { running.http.get(&url).bearer(&device.token).send_any().await.unwrap().status };
    assert_eq!(status().await, StatusCode::OK);

    std::fs::remove_file(media.path(digest)).unwrap();
    assert_eq!(status().await, StatusCode::NOT_FOUND);
    until("it is here again", || async { status().await == StatusCode::OK }).await;
    assert_eq!(media.stat(digest).await.unwrap(), MediaStat { held: 100, complete: true });
    let storage = running.person("auditor").await.get("/api/v1/storage").await;
    assert_eq!(storage["lost"], 1);
    assert_eq!(running.stream("delivery/b1").len(), 2, "what was offered is not offered twice");
    running.stop().await;
    platform.shutdown.trigger();
    platform.node.close(&platform.shutdown).await;
}
