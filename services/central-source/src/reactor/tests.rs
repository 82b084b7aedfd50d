use std::sync::{Arc, Mutex};

use httt_node::exchange::PeerError;
use tokio::sync::mpsc;

use super::*;

/// Nothing waits longer than a test that hangs.
const HANG: Duration = Duration::from_secs(10);
/// Pauses that no test outlasts: what happens happens without waiting for them.
const PACE: Pace = Pace {
    at_once: 2,
    look_pause: Duration::ZERO,
    retry_least: Duration::from_secs(3_600),
    retry_most: Duration::MAX,
    recheck: Duration::from_secs(3_600),
};

fn file(number: u8) -> Digest {
    Digest::of(&[number])
}

fn away() -> TransferError {
    TransferError::Peer(PeerError::Unreachable { peer: "gateway".into(), cause: "the link is down".into() })
}

/// A sender whose files go where the test says.
struct Bench {
    wanted: Arc<Mutex<BTreeSet<Digest>>>,
    position: watch::Sender<u64>,
    link: watch::Sender<LinkState>,
    /// What it began to send.
    begun: mpsc::UnboundedReceiver<Digest>,
}

impl Bench {
    fn start(pace: Pace, send: impl Fn(Digest) -> Option<Result<(), TransferError>> + Send + Sync + 'static) -> Self {
        let wanted: Arc<Mutex<BTreeSet<Digest>>> = Arc::default();
        let (position, positions) = watch::channel(0);
        let (link, links) = watch::channel(state(false));
        let (begins, begun) = mpsc::unbounded_channel();
        let list = Arc::clone(&wanted);
        tokio::spawn(async move {
            let look = || list.lock().expect("lock").clone();
            let transfer = |digest| {
                begins.send(digest).expect("the test listens");
                let result = send(digest);
                async move {
                    match result {
                        Some(result) => result,
                        None => std::future::pending().await,
                    }
                }
            };
            Sender::new(pace).run(positions, links, look, transfer).await;
        });
        Self { wanted, position, link, begun }
    }

    fn publish(&self, number: u8) {
        self.wanted.lock().expect("lock").insert(file(number));
        self.position.send_modify(|position| *position += 1);
    }

    async fn begins(&mut self) -> Digest {
        tokio::time::timeout(HANG, self.begun.recv()).await.expect("sends").expect("runs")
    }

    /// That nothing more is begun, as far as a moment can tell.
    async fn rests(&mut self) {
        let more = tokio::time::timeout(Duration::from_millis(50), self.begun.recv()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

fn state(connected: bool) -> LinkState {
    LinkState { connected, ..httt_node::exchange::Link::default().watch().borrow().clone() }
}

#[tokio::test]
async fn a_file_that_fails_keeps_no_other_waiting_and_waits_alone() {
    let mut bench = Bench::start(PACE, |digest| Some(if digest == file(1) { Err(away()) } else { Ok(()) }));
    bench.publish(1);
    assert_eq!(bench.begins().await, file(1));
    for number in [2, 3] {
        bench.publish(number);
        assert_eq!(bench.begins().await, file(number));
    }
    bench.rests().await;
}

#[tokio::test]
async fn a_file_under_way_keeps_no_other_waiting() {
    let mut bench = Bench::start(PACE, |digest| (digest != file(1)).then_some(Ok(())));
    bench.publish(1);
    assert_eq!(bench.begins().await, file(1));
    bench.publish(2);
    assert_eq!(bench.begins().await, file(2));
    // What is there stays there: looked at again, it is not sent again.
    bench.publish(3);
    assert_eq!(bench.begins().await, file(3));
    bench.rests().await;
}

#[tokio::test]
async fn a_link_that_comes_back_ends_every_pause() {
    let mut bench = Bench::start(PACE, |_| Some(Err(away())));
    bench.publish(1);
    assert_eq!(bench.begins().await, file(1));
    bench.rests().await;
    bench.link.send_replace(state(true));
    assert_eq!(bench.begins().await, file(1));
    bench.link.send_replace(state(false));
    bench.rests().await;
}

#[tokio::test]
async fn a_failed_file_is_tried_again_by_itself() {
    let pace = Pace { retry_least: Duration::from_millis(1), retry_most: Duration::from_millis(4), ..PACE };
    let mut bench = Bench::start(pace, |_| Some(Err(TransferError::NoProgress)));
    bench.publish(1);
    for _ in 0..5 {
        assert_eq!(bench.begins().await, file(1));
    }
}

#[tokio::test]
async fn the_exchange_is_asked_again_after_a_while_whether_it_holds_a_file() {
    let mut bench = Bench::start(Pace { recheck: Duration::from_millis(1), ..PACE }, |_| Some(Ok(())));
    bench.publish(1);
    for _ in 0..3 {
        assert_eq!(bench.begins().await, file(1));
    }
}

#[test]
fn pauses_grow_to_their_limit_and_new_files_go_first() {
    let now = Instant::now();
    let mut sender = Sender::new(Pace { at_once: 1, ..EMERGENCY });
    let both: BTreeSet<Digest> = [file(1), file(2)].into();
    for expected in [250, 500, 1_000, 2_000, 2_000] {
        sender.note(file(1), Err(away()), now);
        assert_eq!(sender.failed[&file(1)].pause, Duration::from_millis(expected));
    }
    let later = now + EMERGENCY.retry_most;
    assert_eq!(sender.begin(&both, later), [file(2)], "one place, and the other failed before");
    assert_eq!(sender.begin(&both, later), []);
    sender.note(file(2), Ok(()), later);
    assert_eq!(sender.begin(&both, later), [file(1)]);
    sender.note(file(1), Ok(()), later);
    assert_eq!(sender.begin(&both, later), []);
    assert!(sender.failed.is_empty());
}
