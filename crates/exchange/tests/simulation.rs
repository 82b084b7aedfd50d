//! The protocol under a seeded simulator: virtual time, loss, delay, duplication, partition, crashes, and a gateway
//! that alters, drops and reorders what it carries. Every run repeats under its seed.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use httt_exchange::{Action, Copier, Input, Settings, admit};
use httt_feed::*;
use httt_wire::{Message, Name, directory as pb, feed as feed_pb};

/// xorshift64*: the simulator's only source of chance.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("key")
}

fn typed<M: Message + Name>(message: &M) -> feed_pb::Event {
    feed_pb::Event {
        id: vec![0; 16],
        stream: "directory".into(),
        version: 1,
        r#type: M::full_name(),
        data: message.encode_to_vec().into(),
        ..Default::default()
    }
}

/// One node's feeds; takes what follows, tells duplicates and forks, like a log does.
#[derive(Default)]
struct Store {
    feeds: BTreeMap<FeedId, Vec<VerifiedBatch>>,
    order: Vec<FeedId>,
}

impl Store {
    fn head(&self, feed: &FeedId) -> Option<Head> {
        self.feeds.get(feed)?.last().map(VerifiedBatch::head)
    }

    fn take(&mut self, batch: VerifiedBatch) -> Result<(), Refusal> {
        match follow(self.head(batch.feed()).as_ref(), &batch)? {
            Link::Next => {
                self.order.push(batch.feed().clone());
                self.feeds.entry(batch.feed().clone()).or_default().push(batch);
            }
            Link::Held => {
                let held = &self.feeds[batch.feed()][batch.sequence() as usize - 1];
                if held.digest() != batch.digest() {
                    return Err(Refusal::Fork { feed: batch.feed().clone(), sequence: batch.sequence() });
                }
            }
        }
        Ok(())
    }

    fn after(&self, feed: &FeedId, after: u64, most: usize) -> Vec<Bytes> {
        let all = self.feeds.get(feed).map(Vec::as_slice).unwrap_or_default();
        all.iter().skip(after as usize).take(most).map(|batch| batch.bytes().clone()).collect()
    }

    fn directory(&self) -> Directory {
        let mut directory = Directory::trusting(key("NDXP").public().fingerprint());
        for (feed, batches) in &self.feeds {
            batches.iter().for_each(|batch| directory.apply(feed, &batch.batch().events));
        }
        directory
    }
}

struct Node {
    name: &'static str,
    store: Store,
    copier: Copier,
    directory: Arc<Directory>,
    /// Answers to an earlier life are not heard by the next one.
    life: u64,
    cut_until: i64,
    alarms: usize,
}

/// An input on its way to a node.
struct Delivery {
    at: i64,
    order: u64,
    node: usize,
    life: u64,
    input: Input,
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}
impl Eq for Delivery {}
impl PartialOrd for Delivery {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Delivery {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

struct World {
    chance: Chance,
    now: i64,
    order: u64,
    gateway: Store,
    /// As the gateway folds it; nobody joins during a run.
    directory: Arc<Directory>,
    nodes: Vec<Node>,
    queue: BinaryHeap<Delivery>,
    faults: bool,
    tampered: usize,
}

const MEMBERS: [&str; 4] = ["TW", "H24", "H55", "H15"];
const CALL_TIMEOUT: i64 = 5_000;

impl World {
    fn new(seed: u64) -> Self {
        let mut gateway = Store::default();
        let sealer = Sealer::new(code("NDXP"), key("NDXP"));
        let directory_feed: FeedId = "NDXP→*/directory".parse().expect("feed");
        let mut head = None;
        // One batch a member, so that the directory itself arrives in pieces.
        for (member, kind) in [("NDXP", MemberKind::Gateway), ("TW", MemberKind::Central)]
            .into_iter()
            .chain(MEMBERS[1..].iter().map(|member| (*member, MemberKind::Province)))
        {
            let events = vec![
                typed(&pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() }),
                typed(&pb::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) }),
            ];
            let batch = sealer.seal(&directory_feed, head.as_ref(), 0, events).expect("seals");
            head = Some(batch.head());
            gateway.take(batch).expect("takes");
        }
        let mut world = Self {
            chance: Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            now: 0,
            order: 0,
            directory: Arc::new(gateway.directory()),
            gateway,
            nodes: Vec::new(),
            queue: BinaryHeap::new(),
            faults: true,
            tampered: 0,
        };
        for (index, name) in MEMBERS.into_iter().enumerate() {
            let directory = Arc::new(Store::default().directory());
            let copier = Self::copier(name, &directory, seed + index as u64);
            let (store, life, cut_until, alarms) = (Store::default(), 0, 0, 0);
            world.nodes.push(Node { name, store, copier, directory, life, cut_until, alarms });
            world.deliver(index, 0, Input::Tick);
        }
        world
    }

    fn copier(name: &str, directory: &Arc<Directory>, seed: u64) -> Copier {
        Copier::new(vec![code(name)], Arc::clone(directory), Settings { seed, ..Settings::default() })
    }

    fn deliver(&mut self, node: usize, delay: i64, input: Input) {
        self.order += 1;
        let (at, order, life) = (self.now + delay, self.order, self.nodes[node].life);
        self.queue.push(Delivery { at, order, node, life, input });
    }

    /// A member says something.
    fn write(&mut self, node: usize) {
        let name = self.nodes[node].name;
        let (audience, lane) = match (name, self.chance.below(4)) {
            ("TW", 0) => ("*", Lane::Emergency),
            ("TW", _) => ("*", Lane::Content),
            (_, 0) => ("TW", Lane::Emergency),
            (_, 1) => ("TW", Lane::Report),
            _ => ("TW", Lane::Status),
        };
        let feed = FeedId::new(code(name), Audience::new(audience).expect("audience"), lane);
        let head = self.nodes[node].store.head(&feed);
        let event = feed_pb::Event {
            id: self.chance.next().to_be_bytes().repeat(2),
            stream: "s".into(),
            version: 1,
            r#type: "test.v1.Said".into(),
            ..Default::default()
        };
        let batch =
            Sealer::new(code(name), key(name)).seal(&feed, head.as_ref(), self.now, vec![event]).expect("seals");
        self.nodes[node].store.take(batch.clone()).expect("own feed");
        self.input(node, Input::LocalHead(feed, batch.head()));
    }

    fn input(&mut self, node: usize, input: Input) {
        let actions = self.nodes[node].copier.handle(self.now, input);
        for action in actions {
            self.perform(node, action);
        }
    }

    fn perform(&mut self, node: usize, action: Action) {
        let cut = self.now < self.nodes[node].cut_until;
        let lost = cut || (self.faults && self.chance.one_in(12));
        // An answer may be lost after the call took effect.
        let answer_lost = self.faults && self.chance.one_in(20);
        let delay = 1 + self.chance.below(if self.faults { 800 } else { 40 }) as i64;
        match action {
            Action::AskHeads { call, after, wait, .. } => {
                if lost {
                    return self.deliver(node, CALL_TIMEOUT, Input::HeadsFailed(call));
                }
                let caller = code(self.nodes[node].name);
                let directory = Arc::clone(&self.directory);
                let changed: HashSet<_> =
                    self.gateway.order[(after as usize).min(self.gateway.order.len())..].iter().collect();
                let heads = self
                    .gateway
                    .feeds
                    .keys()
                    .filter(|feed| changed.contains(feed))
                    .filter(|feed| directory.may_read(&caller, feed).is_ok())
                    .filter_map(|feed| Some((feed.clone(), self.gateway.head(feed)?)))
                    .collect::<Vec<_>>();
                let position = self.gateway.order.len() as u64;
                let delay = if heads.is_empty() && wait { delay + 300 } else { delay };
                self.deliver(
                    node,
                    delay,
                    Input::Heads { call, log_id: vec![1], position, heads, more: false, wants: vec![] },
                );
            }
            Action::Ask { feed, after, .. } => {
                if lost || answer_lost {
                    return self.deliver(node, CALL_TIMEOUT, Input::CallFailed(feed));
                }
                let most = 1 + self.chance.below(6) as usize;
                let mut entries = self.gateway.after(&feed, after, most);
                self.tamper(&mut entries);
                self.deliver(node, delay, Input::Entries { feed, entries, refused: None });
            }
            Action::Push { feed, after, .. } => {
                if lost {
                    return self.deliver(node, CALL_TIMEOUT, Input::CallFailed(feed));
                }
                let entries = self.nodes[node].store.after(&feed, after, 5);
                let directory = Arc::clone(&self.directory);
                directory.may_push(&code(self.nodes[node].name), &feed).expect("members push their own");
                // Sent twice now and then: the second one must do no harm.
                for _ in 0..1 + u8::from(self.faults && self.chance.one_in(8)) {
                    let admission = admit(&directory, &feed, self.gateway.head(&feed), &entries);
                    assert!(admission.refused.is_none(), "an honest push was refused: {:?}", admission.refused);
                    admission.batches.into_iter().for_each(|batch| self.gateway.take(batch).expect("takes"));
                }
                let head = self.gateway.head(&feed);
                let input =
                    if answer_lost { Input::CallFailed(feed) } else { Input::Pushed { feed, head, refused: None } };
                self.deliver(node, delay, input);
            }
            Action::Store { feed, batches } => {
                let last = batches.last().map(VerifiedBatch::head);
                let taken = batches.into_iter().try_for_each(|batch| self.nodes[node].store.take(batch));
                let result = taken.map_err(Some).and_then(|()| last.ok_or(None));
                assert!(result.is_ok(), "what was admitted does not follow: {result:?}");
                if feed.lane == Lane::Directory {
                    let directory = Arc::new(self.nodes[node].store.directory());
                    self.nodes[node].directory = Arc::clone(&directory);
                    self.deliver(node, 0, Input::Directory(directory));
                }
                // The log tells everybody of its new head; who stored may hear before or after that.
                let told = self.nodes[node].store.head(&feed).map(|head| Input::LocalHead(feed.clone(), head));
                let (first, second) = (Input::Stored { feed, result }, told);
                if self.chance.one_in(2) {
                    self.deliver(node, 0, first);
                    second.into_iter().for_each(|input| self.deliver(node, 1, input));
                } else {
                    second.into_iter().for_each(|input| self.deliver(node, 0, input));
                    self.deliver(node, 1, first);
                }
            }
            Action::PushAgain { .. } => panic!("this gateway keeps everything"),
            Action::Alarm(_) => self.nodes[node].alarms += 1,
        }
    }

    /// What a lying carrier does to entries.
    fn tamper(&mut self, entries: &mut Vec<Bytes>) {
        if !self.faults || entries.is_empty() || !self.chance.one_in(10) {
            return;
        }
        let at = self.chance.below(entries.len() as u64) as usize;
        match self.chance.below(3) {
            0 => {
                let mut bytes = entries[at].to_vec();
                let place = self.chance.below(bytes.len() as u64) as usize;
                bytes[place] ^= 1 << self.chance.below(8);
                entries[at] = bytes.into();
            }
            1 if at + 1 < entries.len() => {
                entries.remove(at);
            }
            2 if at + 1 < entries.len() => entries.swap(at, at + 1),
            _ => return,
        }
        self.tampered += 1;
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].life += 1;
        let seed = self.chance.next();
        let directory = Arc::new(self.nodes[node].store.directory());
        let name = self.nodes[node].name;
        self.nodes[node].copier = Self::copier(name, &directory, seed);
        self.nodes[node].directory = directory;
        let heads: Vec<_> = self.nodes[node]
            .store
            .feeds
            .iter()
            .filter_map(|(feed, batches)| Some((feed.clone(), batches.last()?.head())))
            .collect();
        for (feed, head) in heads {
            self.input(node, Input::LocalHead(feed, head));
        }
        self.deliver(node, 1, Input::Tick);
    }

    fn run_until(&mut self, end: i64) {
        while let Some(next) = self.queue.peek() {
            if next.at > end {
                break;
            }
            let Some(Delivery { at, node, life, input, .. }) = self.queue.pop() else { break };
            self.now = at;
            if life != self.nodes[node].life {
                continue;
            }
            if matches!(input, Input::Tick) {
                self.deliver(node, 100, Input::Tick);
            }
            self.input(node, input);
            if self.faults {
                let other = self.chance.below(MEMBERS.len() as u64) as usize;
                if self.chance.one_in(15) {
                    self.write(other);
                }
                if self.chance.one_in(400) {
                    self.crash(other);
                }
                if self.chance.one_in(300) {
                    self.nodes[other].cut_until = self.now + self.chance.below(20_000) as i64;
                }
            }
        }
        self.now = end;
    }

    /// Every copy is a prefix of what its origin wrote.
    fn check_prefixes(&self, seed: u64) {
        for node in &self.nodes {
            for (feed, batches) in &node.store.feeds {
                let origin = self.nodes.iter().find(|other| other.name == feed.origin.as_str());
                let truth = origin.map_or(&self.gateway, |origin| &origin.store);
                let truth = truth.feeds.get(feed).map(Vec::as_slice).unwrap_or_default();
                assert!(batches.len() <= truth.len(), "seed {seed}: {} has more of {feed} than its origin", node.name);
                for (held, original) in batches.iter().zip(truth) {
                    assert_eq!(held.bytes(), original.bytes(), "seed {seed}: {} holds another {feed}", node.name);
                }
            }
        }
    }

    fn check_converged(&self, seed: u64) {
        for node in &self.nodes {
            for (feed, batches) in node.store.feeds.iter().filter(|(feed, _)| feed.origin.as_str() == node.name) {
                let at_gateway = self.gateway.head(feed).map(|head| head.sequence);
                assert_eq!(at_gateway, Some(batches.len() as u64), "seed {seed}: {feed} did not reach the gateway");
            }
            let directory = Arc::clone(&self.directory);
            for (feed, batches) in &self.gateway.feeds {
                if directory.may_read(&code(node.name), feed).is_ok() {
                    let held = node.store.head(feed).map(|head| head.sequence);
                    assert_eq!(held, Some(batches.len() as u64), "seed {seed}: {} lacks {feed}", node.name);
                }
            }
        }
    }
}

fn simulate(seed: u64) -> World {
    let mut world = World::new(seed);
    for step in 1..=10 {
        world.run_until(step * 6_000);
        world.check_prefixes(seed);
    }
    world.faults = false;
    let quiet = world.now;
    world.run_until(quiet + 120_000);
    world.check_prefixes(seed);
    world.check_converged(seed);
    world
}

#[test]
fn whatever_happens_copies_are_prefixes_and_heads_meet_in_the_end() {
    let (mut written, mut tampered, mut alarms) = (0, 0, 0);
    for seed in 1..=150 {
        let world = simulate(seed);
        written += world.nodes.iter().map(|node| node.store.order.len()).sum::<usize>();
        tampered += world.tampered;
        alarms += world.nodes.iter().map(|node| node.alarms).sum::<usize>();
    }
    // The schedules must have been hard enough to mean something.
    assert!(written > 10_000, "{written} entries");
    assert!(tampered > 200, "{tampered} answers tampered with");
    assert!(alarms > tampered / 3, "{alarms} alarms for {tampered} tampered answers");
}

/// Nothing that goes right may cost a pause.
#[test]
fn without_faults_news_is_everywhere_within_two_seconds() {
    for seed in 1..=20 {
        let mut world = World::new(seed);
        world.faults = false;
        world.run_until(2_000);
        for round in 1..=30 {
            (0..MEMBERS.len()).for_each(|node| world.write(node));
            world.run_until(2_000 + round * 2_000);
            world.check_converged(seed);
        }
    }
}

#[test]
fn a_seed_repeats_to_the_byte() {
    let trace = |seed| {
        let world = simulate(seed);
        let heads: Vec<_> = world.nodes.iter().flat_map(|node| node.store.order.clone()).collect();
        (heads, world.tampered, world.order)
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7).2, trace(8).2);
}
