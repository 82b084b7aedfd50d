//! A gateway, the ministry, two provinces and a carrier with fixed keys.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use httt_feed::*;
use httt_wire::{Message, Name, directory as pb, feed as feed_pb};

pub fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

pub fn feed(origin: &str, audience: &str, lane: Lane) -> FeedId {
    FeedId::new(code(origin), Audience::new(audience).expect("audience"), lane)
}

pub fn event(stream: &str, version: u64, data: Vec<u8>) -> feed_pb::Event {
    feed_pb::Event {
        id: vec![version as u8; 16],
        stream: stream.into(),
        version,
        r#type: "test.v1.Happened".into(),
        data: data.into(),
        ..Default::default()
    }
}

pub fn typed<M: Message + Name>(message: &M) -> feed_pb::Event {
    feed_pb::Event { r#type: M::full_name(), data: message.encode_to_vec().into(), ..event("directory", 1, vec![]) }
}

pub fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("key")
}

pub fn enrol(member: &str, kind: MemberKind) -> Vec<feed_pb::Event> {
    vec![
        typed(&pb::MemberEnrolled {
            member: member.into(),
            name: member.into(),
            kind: kind.into(),
            area: String::new(),
            aliases: vec![],
        }),
        typed(&pb::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) }),
    ]
}

pub struct World {
    pub directory: Directory,
    pub founding: VerifiedBatch,
}

impl World {
    pub fn new() -> Self {
        let mut events = enrol("NDXP", MemberKind::Gateway);
        events.extend(enrol("TW", MemberKind::Central));
        events.extend(enrol("H24", MemberKind::Province));
        events.extend(enrol("H55", MemberKind::Province));
        events.extend(enrol("H55.LGSP", MemberKind::Carrier));
        events.push(typed(&pb::CarrierGranted { carrier: "H55.LGSP".into(), member: "H55".into() }));
        let feed = feed("NDXP", "*", Lane::Directory);
        let founding = Sealer::new(code("NDXP"), key("NDXP")).seal(&feed, None, 0, events).expect("founding");
        let mut directory = Directory::trusting(key("NDXP").public().fingerprint());
        directory.apply(&feed, &founding.batch().events);
        Self { directory, founding }
    }

    pub fn sealer(&self, member: &str) -> Sealer {
        Sealer::new(code(member), key(member))
    }

    pub fn seal(&self, origin: &str, audience: &str, lane: Lane, head: Option<&Head>, events: u64) -> VerifiedBatch {
        let events = (1..=events).map(|version| event("s", version, vec![1])).collect();
        self.sealer(origin).seal(&feed(origin, audience, lane), head, 0, events).expect("seals")
    }

    pub fn tell(&mut self, events: &[feed_pb::Event]) {
        self.directory.apply(&feed("NDXP", "*", Lane::Directory), events);
    }
}
