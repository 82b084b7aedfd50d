//! Files move between two stores over a link that is cut everywhere.

use std::collections::VecDeque;

use httt_exchange::{Media, Meter, Peer, PeerError};
use httt_feed::AgencyCode;
use httt_wire::exchange as wire;
use proptest::prelude::*;

use super::*;

/// Where a call is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// The peer never hears of it.
    Before,
    /// The peer acts, and its answer is lost.
    After,
    /// It is not.
    Not,
}

/// A store behind a link that follows a plan of cuts, and then holds.
struct Shaky {
    store: MediaStore,
    caller: AgencyCode,
    plan: Mutex<VecDeque<Cut>>,
    /// Bytes of files in requests and answers, those that were lost on the way among them.
    carried: Mutex<u64>,
    /// How often the link was cut.
    cuts: Mutex<u64>,
    /// Most bytes the peer gives in one answer.
    gives: usize,
    /// Most bytes of a file that the link carries in one call.
    bears: usize,
}

impl Shaky {
    fn new(store: MediaStore, plan: Vec<Cut>, gives: usize) -> Self {
        let caller = AgencyCode::new("H24").expect("code");
        let (plan, carried, cuts) = (Mutex::new(plan.into()), Mutex::default(), Mutex::default());
        Self { store, caller, plan, carried, cuts, gives, bears: usize::MAX }
    }

    async fn call<T>(&self, bytes: usize, act: impl Future<Output = T>) -> Result<T, PeerError> {
        let planned = self.plan.lock().expect("lock").pop_front();
        let cut = if bytes > self.bears { Cut::Before } else { planned.unwrap_or(Cut::Not) };
        if cut != Cut::Not {
            *self.cuts.lock().expect("lock") += 1;
        }
        let lost = || Err(PeerError::Unreachable { peer: "peer".into(), cause: "cut".into() });
        if cut == Cut::Before {
            return lost();
        }
        let answer = act.await;
        if cut == Cut::After { lost() } else { Ok(answer) }
    }

    fn carry(&self, bytes: usize) {
        *self.carried.lock().expect("lock") += bytes as u64;
    }
}

fn stat_answer(stat: Result<httt_exchange::MediaStat, httt_exchange::MediaError>) -> wire::StatMediaResponse {
    let stat = stat.expect("the peer's store works");
    wire::StatMediaResponse { held: stat.held, size: stat.size, complete: stat.complete, refusal: None }
}

impl Peer for Shaky {
    fn name(&self) -> &str {
        "shaky"
    }
    async fn heads(&self, _: wire::HeadsRequest) -> Result<wire::HeadsResponse, PeerError> {
        unreachable!("media only")
    }
    async fn read(&self, _: wire::ReadRequest) -> Result<wire::ReadResponse, PeerError> {
        unreachable!("media only")
    }
    async fn push(&self, _: wire::PushRequest) -> Result<wire::PushResponse, PeerError> {
        unreachable!("media only")
    }
    async fn stat_media(&self, request: wire::StatMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let digest = Digest::from_slice(&request.sha256).expect("digest");
        self.call(0, async { stat_answer(Media::stat(&self.store, &self.caller, digest, false).await) }).await
    }
    async fn read_media(&self, request: wire::ReadMediaRequest) -> Result<wire::ReadMediaResponse, PeerError> {
        let digest = Digest::from_slice(&request.sha256).expect("digest");
        let max = (request.max_bytes as usize).min(self.gives);
        self.call(max, async {
            let (data, size) = Media::read(&self.store, digest, request.offset, max, false).await.expect("held");
            self.carry(data.len());
            wire::ReadMediaResponse { data, size, refusal: None }
        })
        .await
    }
    async fn write_media(&self, request: wire::WriteMediaRequest) -> Result<wire::StatMediaResponse, PeerError> {
        let digest = Digest::from_slice(&request.sha256).expect("digest");
        self.carry(request.data.len());
        let wire::WriteMediaRequest { size, offset, data, .. } = request;
        self.call(data.len(), async {
            stat_answer(Media::write(&self.store, &self.caller, digest, size, offset, data, false).await)
        })
        .await
    }
}

fn cuts() -> impl Strategy<Value = Vec<Cut>> {
    let cut = prop_oneof![2 => Just(Cut::Not), 1 => Just(Cut::Before), 1 => Just(Cut::After)];
    prop::collection::vec(cut, 0..24)
}

/// One way to `peer`, without a limit.
fn over<'a>(peer: &'a Shaky, store: &'a MediaStore, range: &'a RangeSize) -> Transfers<'a, Shaky> {
    // Nobody reads what these tests count.
    static METER: std::sync::LazyLock<Meter> = std::sync::LazyLock::new(Meter::default);
    Transfers { peer, store, range, meter: &METER, bandwidth: None }
}

/// Tries until it is through; an error that is no cut fails the test.
async fn until_through(mut attempt: impl AsyncFnMut() -> Result<(), TransferError>) {
    for _ in 0..100 {
        match attempt().await {
            Ok(()) => return,
            Err(TransferError::Peer(PeerError::Unreachable { .. })) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("a hundred tries were not enough");
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime").block_on(work)
}

fn large() -> (tempfile::TempDir, MediaStore) {
    let folder = tempfile::tempdir().expect("folder");
    let store = MediaStore::open(folder.path(), &MediaConfig::folder(8 << 20, 1 << 30)).expect("opens");
    (folder, store)
}

/// Ranges are at most this long.
const RANGE: u64 = httt_exchange::MAX_MEDIA_RANGE as u64;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However often the link is cut, a fetched file ends up whole, and a cut costs one range at most.
    #[test]
    fn a_fetch_survives_any_cuts(size in 0..300_000usize, gives in 8_000..60_000usize, plan in cuts()) {
        run(async {
            let ((_a, here), (_b, there)) = (large(), large());
            let data = sound(size);
            let digest = there.put_bytes(data.clone()).await.expect("put");
            let peer = Shaky::new(there, plan, gives);
            let range = RangeSize::default();
            until_through(async || over(&peer, &here, &range).fetch(digest, false).await).await;
            prop_assert_eq!(here.read_range(digest, 0, u64::MAX).await.expect("whole").0, data);
            let (carried, cuts) = (*peer.carried.lock().expect("lock"), *peer.cuts.lock().expect("lock"));
            prop_assert!(carried <= size as u64 + cuts * gives as u64, "{carried} bytes for {size}, {cuts} cuts");
            Ok(())
        })?;
    }

    /// So does one that is sent.
    #[test]
    fn a_sending_survives_any_cuts(size in 0..4_000_000usize, plan in cuts()) {
        run(async {
            let ((_a, here), (_b, there)) = (large(), large());
            let data = sound(size);
            let digest = here.put_bytes(data.clone()).await.expect("put");
            let peer = Shaky::new(there.clone(), plan, 0);
            let range = RangeSize::default();
            until_through(async || over(&peer, &here, &range).send(digest, false).await).await;
            prop_assert_eq!(there.read_range(digest, 0, u64::MAX).await.expect("whole").0, data);
            let (carried, cuts) = (*peer.carried.lock().expect("lock"), *peer.cuts.lock().expect("lock"));
            prop_assert!(carried <= size as u64 + cuts * RANGE, "{carried} bytes for {size}, {cuts} cuts");
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_fetch_goes_on_after_a_restart_with_everything_here_and_nothing_verified() {
    let ((folder, here), (_b, there)) = (large(), large());
    let data = sound(5_000);
    let digest = there.put_bytes(data.clone()).await.expect("put");
    here.write_at(digest, 5_000, 0, data.slice(..4_999)).await.expect("almost");
    std::fs::write(part_of(&here, digest), &data).expect("the crash came before the verification");
    let here = MediaStore::open(folder.path(), &MediaConfig::folder(8 << 20, 1 << 30)).expect("opens");
    over(&Shaky::new(there, vec![], 1_000), &here, &RangeSize::default())
        .fetch(digest, false)
        .await
        .expect("completed");
    assert_eq!(here.read_range(digest, 0, u64::MAX).await.expect("whole").0, data);
}

#[tokio::test]
async fn a_peer_that_gives_nothing_is_not_asked_for_ever() {
    let ((_a, here), (_b, there)) = (large(), large());
    let digest = there.put_bytes(sound(5_000)).await.expect("put");
    let result = over(&Shaky::new(there, vec![], 0), &here, &RangeSize::default()).fetch(digest, false).await;
    assert!(matches!(result, Err(TransferError::NoProgress)), "{result:?}");
}

#[tokio::test]
async fn a_link_that_carries_no_large_range_carries_small_ones() {
    let ((_a, here), (_b, there)) = (large(), large());
    let data = sound(1_000_000);
    let digest = there.put_bytes(data.clone()).await.expect("put");
    let thin = |store| Shaky { bears: 40_000, ..Shaky::new(store, vec![], usize::MAX) };
    let (peer, range) = (thin(there), RangeSize::default());
    until_through(async || over(&peer, &here, &range).fetch(digest, false).await).await;
    let (_c, third) = large();
    let peer = thin(third.clone());
    until_through(async || over(&peer, &here, &range).send(digest, false).await).await;
    assert_eq!(third.read_range(digest, 0, u64::MAX).await.expect("whole").0, data);
}
