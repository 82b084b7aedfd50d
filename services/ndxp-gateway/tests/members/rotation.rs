//! Nodes change their keys over real sockets while events flow; nothing is lost, and the old key is worth nothing
//! afterwards.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use httt_feed::{Audience, Digest, Directory, FeedId, Fingerprint, Lane, PublicKey, Refusal, Sealer, parse};
use httt_log::{AuditOptions, NewEvent, Transaction, audit};
use httt_ndxp_gateway::{Kind, answer_to, enrolment};
use httt_node::assembly::{Node, NodeConfig, Trust};
use httt_node::config::{ConfigPath, TlsConfig};
use httt_node::exchange::grpc::GrpcPeer;
use httt_node::exchange::{Peer as _, refusal_from_wire};
use httt_node::rotation::{KeyFiles, offer_proof};
use httt_node::shutdown::Shutdown;
use httt_node::upstream::{Upstream, UpstreamConfig, tls_identity};
use httt_wire::directory as pb;
use httt_wire::exchange::{self as wire, RefusalCode};
use httt_wire::feed::Event;
use httt_wire::{Message, Name};

use crate::common::{Gateway, HANG, Pki, code, file, free, key, key_pem, prepare};

const REPORT: &str = "H24→TW/report";

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

/// A member's node with its way up, in this process.
pub(crate) struct Member {
    node: Node,
    shutdown: Shutdown,
    tls: TlsConfig,
}

impl Member {
    pub(crate) async fn start(pki: &Pki, gateway: &Gateway, member: &str, trusted: Fingerprint) -> Self {
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
        let node = Node::open(&config, Trust::Configured, "test").await.expect("opens");
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

/// Begins a change of keys and waits until it is complete: switched, and the old key revoked and deleted.
async fn change(signing_key: &Path, in_use: impl Fn() -> Fingerprint) -> Fingerprint {
    let files = KeyFiles::new(signing_key);
    let new = files.begin().expect("begins");
    until("the change is complete", || {
        let state = files.state().expect("state");
        state.next.is_none() && state.old.is_none() && in_use() == new
    })
    .await;
    new
}

fn clean(dir: &Path, trusted: Option<Fingerprint>) {
    let report = audit(&dir.join("log"), AuditOptions { trusted, ..AuditOptions::default() }).expect("audit");
    assert!(report.is_clean(), "{}: {:?}", dir.display(), report.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_its_key_while_events_flow_and_the_old_one_is_worth_nothing_afterwards() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let trusted = key("NDXP").public().fingerprint();
    let tw = Member::start(&pki, &gateway, "TW", trusted).await;
    let h24 = Arc::new(Member::start(&pki, &gateway, "H24", trusted).await);
    let report = feed(REPORT);
    let flowing = Arc::new(AtomicBool::new(true));
    let talking = tokio::spawn({
        let (h24, flowing) = (Arc::clone(&h24), Arc::clone(&flowing));
        async move {
            let mut said = 0_u64;
            while flowing.load(Ordering::Relaxed) {
                said += 1;
                h24.say(format!("r{said}")).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            said
        }
    });
    until("events flow", || tw.sequence(&report) > 3).await;
    let new = change(&pki.path("H24.signing.key"), || h24.node.fingerprint()).await;
    let after = tw.sequence(&report);
    until("events flow on", || tw.sequence(&report) > after + 3).await;
    flowing.store(false, Ordering::Relaxed);
    let said = talking.await.expect("talks");

    // Nothing is lost, by either key.
    until("everything arrives", || tw.sequence(&report) == h24.sequence(&report)).await;
    let entries = tw.node.log.read_feed(&report, 0, usize::MAX).expect("reads");
    assert_eq!(entries.iter().map(|entry| entry.batch.events.len() as u64).sum::<u64>(), said);
    let keys: std::collections::BTreeSet<_> =
        entries.iter().map(|entry| parse(entry.bytes.clone()).expect("parses").key()).collect();
    assert_eq!(keys.len(), 2, "both keys sealed");

    // Who stole the old key seals the next batch: gateway and readers refuse it.
    let head = tw.node.log.head(&report);
    let event = Event {
        id: vec![9; 16],
        stream: "stolen".into(),
        version: 1,
        r#type: "test.v1.Said".into(),
        ..Event::default()
    };
    let forged = Sealer::new(code("H24"), key("H24")).seal(&report, head.as_ref(), 0, vec![event]).expect("seals");
    let identity = tls_identity(&h24.tls).expect("identity");
    let peer = GrpcPeer::new(&format!("https://{}", gateway.running.exchange), "localhost", &identity).expect("peer");
    let (feed, entries) = (Some(report.to_wire()), vec![forged.bytes().clone()]);
    let answer = peer.push(wire::PushRequest { feed, entries, ..Default::default() }).await.expect("answers");
    assert_eq!(refusal_from_wire(&answer.refusal.expect("refused")), RefusalCode::RevokedKey);
    until("the reader knows", || {
        let refused = tw.node.directory.get().verify(parse(forged.bytes().clone()).expect("parses"));
        matches!(refused, Err(Refusal::RevokedKey { .. }))
    })
    .await;

    // Restarted it seals with the new key, and every log proves.
    let h24 = Arc::into_inner(h24).expect("nobody else talks");
    h24.stop().await;
    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    assert_eq!(h24.node.fingerprint(), new);
    let before = h24.sequence(&report);
    h24.say("again".into()).await;
    until("it is heard", || tw.sequence(&report) > before).await;
    h24.stop().await;
    tw.stop().await;
    gateway.stop().await;
    for data in ["H24.data", "TW.data", "data"] {
        clean(&pki.path(data), Some(trusted));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_changes_its_key_and_a_new_member_is_given_the_new_fingerprint() {
    let pki = Pki::new();
    let config = prepare(&pki);
    let gateway = Gateway::start(&pki, &config).await;
    let old = key("NDXP").public().fingerprint();
    let h24 = Member::start(&pki, &gateway, "H24", old).await;
    h24.say("before".into()).await;
    let receipts = feed("NDXP→H24/report");
    until("receipted", || h24.sequence(&receipts) > 0).await;
    let new = {
        let files = KeyFiles::new(&pki.path("signing.key"));
        change(&pki.path("signing.key"), || files.open().expect("key").public().fingerprint()).await
    };
    let before = h24.sequence(&receipts);
    h24.say("after".into()).await;
    until("receipted with the new key", || h24.sequence(&receipts) > before).await;
    let last = h24.node.log.read_feed(&receipts, before, usize::MAX).expect("reads").pop().expect("receipt");
    assert_eq!(parse(last.bytes).expect("parses").key().0, new.0[..8]);

    // Given nothing but the new fingerprint, a member founds its directory on batches that the old key began.
    let h55 = Member::start(&pki, &gateway, "H55", new).await;
    let directory = feed("NDXP→*/directory");
    until("the directory is taken", || h55.sequence(&directory) >= h24.sequence(&directory)).await;
    h24.stop().await;
    h55.stop().await;
    gateway.stop().await;
    clean(&pki.path("H24.data"), Some(old));
    clean(&pki.path("H55.data"), Some(new));
    clean(&pki.path("data"), None);
    // And the gateway starts again, though its member file names the old key alone.
    Gateway::start(&pki, &config).await.stop().await;
}

struct Rules {
    directory: Directory,
}

impl Rules {
    fn new() -> Self {
        let mut rules = Self { directory: Directory::trusting(key("NDXP").public().fingerprint()) };
        let files = [
            file("NDXP", Kind::Gateway, &[]),
            file("TW", Kind::Central, &[]),
            file("H24", Kind::Province, &[]),
            file("H55", Kind::Province, &[]),
        ];
        rules.apply(enrolment(&Directory::trusting(Digest::of(b"")), &files));
        rules
    }

    fn apply(&mut self, events: Vec<NewEvent>) {
        let wire =
            |event: NewEvent| Event { stream: event.stream, r#type: event.kind, data: event.data, ..Event::default() };
        let events: Vec<Event> = events.into_iter().map(wire).collect();
        self.directory.apply(&feed("NDXP→*/directory"), &events);
    }

    fn answer<M: Message + Name>(&self, sealed_with: &PublicKey, message: &M) -> Vec<NewEvent> {
        let data = message.encode_to_vec().into();
        let event = Event { r#type: M::full_name(), data, ..Event::default() };
        answer_to(&self.directory, &[], &code("H24"), sealed_with.id(), &event)
    }
}

fn offer(member: &str, name: &str) -> pb::KeyOffered {
    let proof = key(name).sign(&offer_proof(member, b"log"));
    pb::KeyOffered { member: member.into(), key: Some(key(name).public().to_wire()), proof, log_id: b"log".to_vec() }
}

fn retire(name: &str, sequence: u64) -> pb::KeyRetired {
    pb::KeyRetired {
        member: "H24".into(),
        fingerprint: key(name).public().fingerprint().0.to_vec(),
        reason: "đổi khoá".into(),
        last_sealed: vec![pb::LastAccepted { audience: "TW".into(), lane: Lane::Report.to_wire(), sequence }],
    }
}

#[test]
fn an_offer_is_answered_once_and_only_with_proof() {
    let mut rules = Rules::new();
    let sealed_with = key("H24").public().clone();
    let stolen = pb::KeyOffered { proof: key("H24").sign(&offer_proof("H24", b"log")), ..offer("H24", "new") };
    assert!(rules.answer(&sealed_with, &stolen).is_empty(), "not signed with the key offered");
    assert!(rules.answer(&sealed_with, &offer("H55", "new")).is_empty(), "in another member's name");
    assert!(rules.answer(&sealed_with, &offer("H24", "H55")).is_empty(), "another member's key");
    let added = rules.answer(&sealed_with, &offer("H24", "new"));
    assert_eq!(added.len(), 1);
    assert_eq!(added[0].id, rules.answer(&sealed_with, &offer("H24", "new"))[0].id, "whoever says it says the same");
    rules.apply(added);
    assert!(rules.answer(&sealed_with, &offer("H24", "new")).is_empty());
}

#[test]
fn a_suspended_member_changes_no_keys() {
    let mut rules = Rules::new();
    let suspended = pb::MemberSuspended { member: "H24".into(), reason: "r".into() };
    rules.apply(vec![NewEvent::of(Audience::All, Lane::Directory, "member/H24", &suspended)]);
    assert!(rules.answer(key("H24").public(), &offer("H24", "new")).is_empty());
}

#[test]
fn a_retirement_keeps_what_is_on_its_way_and_a_key_does_not_retire_itself() {
    let mut rules = Rules::new();
    rules.apply(rules.answer(key("H24").public(), &offer("H24", "new")));
    assert!(rules.answer(key("H24").public(), &retire("H24", 5)).is_empty());
    assert!(rules.answer(key("new").public(), &retire("nobody's", 5)).is_empty());
    let revoked = rules.answer(key("new").public(), &retire("H24", 5));
    let message = pb::KeyRevoked::decode(revoked[0].data.clone()).expect("message");
    assert_eq!(message.last_accepted.iter().map(|last| last.sequence).collect::<Vec<_>>(), [5]);
    rules.apply(revoked);
    let directory = rules.directory.member(&code("H24")).expect("member").clone();
    assert_eq!(directory.keys().collect::<Vec<_>>(), [key("new").public()]);
    assert!(rules.answer(key("new").public(), &retire("H24", 5)).is_empty(), "once");
}

/// Else the old key would stay good for ever, and who stole it with it.
#[test]
fn a_retirement_is_not_believed_without_an_end() {
    let mut rules = Rules::new();
    rules.apply(rules.answer(key("H24").public(), &offer("H24", "new")));
    let mut endless = retire("H24", u64::MAX);
    for (audience, lane) in [("TW", Lane::Local), ("H24", Lane::Report), ("X1", Lane::Report), ("", Lane::Report)] {
        endless.last_sealed.push(pb::LastAccepted { audience: audience.into(), lane: lane.to_wire(), sequence: 1 });
    }
    let revoked = rules.answer(key("new").public(), &endless);
    let message = pb::KeyRevoked::decode(revoked[0].data.clone()).expect("message");
    assert!(message.last_accepted.is_empty(), "{message:?}");
}

/// The files are as a crash between the two renames of the switch leaves them.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_crash_cut_in_half_is_completed_at_the_next_start() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let trusted = key("NDXP").public().fingerprint();
    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    h24.say("before".into()).await;
    h24.stop().await;

    let path = pki.path("H24.signing.key");
    let files = KeyFiles::new(&path);
    let new = files.begin().expect("begins");
    let value = files.state().expect("state").next.expect("next").public().value().to_vec();
    let add = serde_json::json!({ "add-key": { "member": "H24", "key": hex::encode(value) } });
    gateway.order("admin1", add).await.expect("added");
    std::fs::rename(&path, pki.path("H24.signing.key.old")).expect("half a switch");

    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    assert_eq!(h24.node.fingerprint(), new);
    until("the change is complete", || files.state().expect("state").old.is_none()).await;
    let directory = h24.node.directory.get();
    let member = directory.member(&code("H24")).expect("member");
    assert_eq!(member.keys().map(PublicKey::fingerprint).collect::<Vec<_>>(), [new]);
    let receipts = feed("NDXP→H24/report");
    let before = h24.sequence(&receipts);
    h24.say("after".into()).await;
    until("receipted", || h24.sequence(&receipts) > before).await;
    h24.stop().await;
    gateway.stop().await;
    clean(&pki.path("H24.data"), Some(trusted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_while_the_node_was_stopped_is_taken_at_its_next_start() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let trusted = key("NDXP").public().fingerprint();
    let path = pki.path("H24.signing.key");
    std::fs::write(&path, key_pem("H24")).expect("write");
    let files = KeyFiles::new(&path);
    let new = files.begin().expect("begins");
    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    until("the change is complete", || {
        let state = files.state().expect("state");
        state.next.is_none() && state.old.is_none() && h24.node.fingerprint() == new
    })
    .await;
    h24.stop().await;
    gateway.stop().await;
}
