//! Members' nodes in this process.

use std::time::Duration;

use httt_feed::{Audience, FeedId, Fingerprint, Lane};
use httt_log::{NewEvent, Transaction};
use httt_node::assembly::{Node, NodeConfig, Trust};
use httt_node::config::{ConfigPath, TlsConfig};
use httt_node::shutdown::Shutdown;
use httt_node::upstream::{Upstream, UpstreamConfig};

use crate::common::{Gateway, HANG, Pki, code, free, key_pem};

pub(crate) async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waited = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, waited).await.unwrap_or_else(|_| panic!("{what}"));
}

pub(crate) fn feed(text: &str) -> FeedId {
    text.parse().expect("feed")
}

/// A member's node without its way up; its certificate is issued.
pub(crate) async fn open(pki: &Pki, member: &str, trusted: Fingerprint) -> Node {
    pki.issue(member, member);
    let signing_key = pki.path(&format!("{member}.signing.key"));
    // A half switch is not to be healed here.
    if !signing_key.exists() && !pki.path(&format!("{member}.signing.key.old")).exists() {
        std::fs::write(&signing_key, key_pem(member)).expect("write");
    }
    let config = format!(
        "member = {member:?}\ndata_dir = {:?}\nsigning_key = {signing_key:?}\ngateway_fingerprint = \"{trusted}\"\n",
        pki.path(&format!("{member}.data"))
    );
    let config: NodeConfig = toml::from_str(&config).expect("configuration");
    Node::open(&config, Trust::Configured, "test").await.expect("opens")
}

/// A member's node with its way up, in this process.
pub(crate) struct Member {
    pub(crate) node: Node,
    pub(crate) shutdown: Shutdown,
    pub(crate) tls: TlsConfig,
}

impl Member {
    pub(crate) async fn start(pki: &Pki, gateway: &Gateway, member: &str, trusted: Fingerprint) -> Self {
        let node = open(pki, member, trusted).await;
        let tls = TlsConfig {
            certificate: ConfigPath::new(pki.path(&format!("{member}.pem"))),
            key: ConfigPath::new(pki.path(&format!("{member}.key"))),
            ca: Some(ConfigPath::new(pki.path("ca.pem"))),
        };
        let address = gateway.running.exchange;
        let upstream: UpstreamConfig =
            toml::from_str(&format!("kind = \"grpc\"\naddress = \"https://{address}\"\n")).expect("upstream");
        let upstream = Upstream::new(&upstream, &tls, &node).expect("upstream");
        let shutdown = Shutdown::new();
        let (copying, link, own, stop) = (node.clone(), upstream.clone(), node.code.clone(), shutdown.watch());
        tokio::spawn(async move { link.run(copying, move |_| vec![own.clone()], stop).await });
        upstream.level().await;
        node.change_keys(None, &shutdown);
        Self { node, shutdown, tls }
    }

    pub(crate) async fn say(&self, stream: String) {
        let said = httt_wire::bulletin::BulletinWithdrawn { bulletin: stream.clone(), reason: "r".into() };
        let event = NewEvent::of(Audience::One(code("TW")), Lane::Report, stream, &said);
        self.node.log.commit(Transaction::append([event])).await.expect("commits");
    }

    pub(crate) fn sequence(&self, feed: &FeedId) -> u64 {
        self.node.log.head(feed).map_or(0, |head| head.sequence)
    }

    pub(crate) async fn stop(self) {
        let data = self.node.log.dir().parent().expect("folder").to_owned();
        self.shutdown.trigger();
        self.node.close(&self.shutdown).await;
        free(&data).await;
    }
}
