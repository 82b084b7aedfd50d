//! A key that the gateway does not take at once, on a node in this process and without a link.

use httt_feed::{Digest, FeedId, Head, MemberKind, Sealer};
use tempfile::TempDir;

use super::*;
use crate::assembly::{NodeConfig, Trust};

const MINUTE_MS: i64 = 60_000;

fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn gateway_key() -> SigningKey {
    SigningKey::from_seed(&Digest::of(b"NDXP").0).expect("key")
}

struct World {
    _dir: TempDir,
    node: Node,
    /// Of the directory.
    head: Option<Head>,
}

impl World {
    /// A member that is enrolled and has begun to change its key.
    async fn new() -> (Self, SigningKey) {
        let dir = tempfile::tempdir().expect("dir");
        let (key, pem) = SigningKey::generate().expect("key");
        std::fs::write(dir.path().join("signing.key"), pem).expect("writes");
        let config = format!(
            "member = 'H24'\ndata_dir = {:?}\nsigning_key = {:?}\ngateway_fingerprint = '{}'\n",
            dir.path().join("data"),
            dir.path().join("signing.key"),
            gateway_key().public().fingerprint()
        );
        let config: NodeConfig = toml::from_str(&config).expect("configuration");
        let node = Node::open(&config, Trust::Configured, "test").await.expect("opens");
        let mut world = Self { _dir: dir, node, head: None };
        let added = |member: &str, key: &PublicKey| pb::KeyAdded { member: member.into(), key: Some(key.to_wire()) };
        for (member, kind, key) in
            [("NDXP", MemberKind::Gateway, gateway_key().public()), ("H24", MemberKind::Province, key.public())]
        {
            let enrolled = pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() };
            world.gateway_says(&[event(&enrolled), event(&added(member, key))]).await;
        }
        world.node.keys.begin().expect("begins");
        let next = world.node.keys.state().expect("state").next.expect("a new key");
        (world, next)
    }

    async fn gateway_says(&mut self, events: &[httt_wire::feed::Event]) {
        let (sealer, feed) = (Sealer::new(code("NDXP"), gateway_key()), FeedId::directory(&code("NDXP")));
        let sequence = self.head.map_or(0, |head| head.sequence);
        let events = events.iter().zip(1..).map(|(event, number)| httt_wire::feed::Event {
            id: derived_id(&[b"test", &sequence.to_be_bytes(), &[number]]).as_bytes().to_vec(),
            stream: format!("{sequence}"),
            version: number.into(),
            ..event.clone()
        });
        let batch = sealer.seal(&feed, self.head.as_ref(), 0, events.collect()).expect("seals");
        self.head = Some(batch.head());
        self.node.log.commit(Transaction::copy([batch])).await.expect("takes");
    }

    fn rotation(&self) -> Rotation {
        let node = self.node.clone();
        Rotation { files: node.keys.clone(), node, announce: None, retired: None, warned: None }
    }

    fn offers(&self, key: &SigningKey) -> u64 {
        let stream = format!("key/{}", key.public().fingerprint());
        self.node.log.stream_version(&self.node.code, &stream).expect("reads").unwrap_or(0)
    }
}

fn event<M: httt_wire::Message + httt_wire::Name>(message: &M) -> httt_wire::feed::Event {
    let data = message.encode_to_vec().into();
    httt_wire::feed::Event { r#type: M::full_name(), data, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_added_is_offered_again_later_and_the_status_says_so() {
    let (mut world, next) = World::new().await;
    let mut rotation = world.rotation();
    for minute in 0..5 {
        rotation.step(minute * MINUTE_MS).await.expect("steps");
        assert_eq!(world.offers(&next), 1, "an answer takes a while");
    }
    let waiting = world.node.key_offer.borrow().expect("it waits");
    assert_eq!((waiting.key, waiting.times), (next.public().fingerprint(), 1));
    rotation.step(waiting.again_at_ms - 1).await.expect("steps");
    assert_eq!(world.offers(&next), 1);
    rotation.step(waiting.again_at_ms).await.expect("steps");
    assert_eq!(world.offers(&next), 2);
    // Its operator has revoked another key, and the gateway takes this one.
    let added = pb::KeyAdded { member: "H24".into(), key: Some(next.public().to_wire()) };
    world.gateway_says(&[event(&added)]).await;
    rotation.step(waiting.again_at_ms + 1).await.expect("steps");
    assert_eq!((world.node.fingerprint(), *world.node.key_offer.borrow()), (next.public().fingerprint(), None));
    world.node.log.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_alone_is_no_reason_to_offer_again() {
    let (world, next) = World::new().await;
    let mut at_ms = 0;
    for start in 0..3 {
        let mut rotation = world.rotation();
        world.node.key_offer.send_replace(None);
        rotation.step(at_ms).await.expect("steps");
        assert_eq!(world.offers(&next), 1 + start, "nothing new at a start");
        at_ms = world.node.key_offer.borrow().expect("it waits").again_at_ms;
        rotation.step(at_ms).await.expect("steps");
        assert_eq!(world.offers(&next), 2 + start);
    }
    world.node.log.close().await;
}
