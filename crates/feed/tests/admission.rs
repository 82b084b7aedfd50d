//! Batches that were admitted though their key was revoked: they alone, at their place alone.

mod common;

use common::*;
use httt_feed::*;
use httt_wire::directory as pb;
use httt_wire::feed as feed_pb;
use proptest::prelude::*;

/// Batches in each chain.
const LENGTH: u64 = 8;
const LANES: [Lane; 2] = [Lane::Report, Lane::Status];

/// The owner and the thief: both have the key.
fn both_have_it() -> (Sealer, Sealer) {
    (Sealer::new(code("H24"), key("H24")), Sealer::new(code("H24"), key("H24")))
}

/// A chain of its own; `mark` makes it another one.
fn chain(sealer: &Sealer, lane: Lane, mark: u8, head: Option<Head>, length: u64) -> Vec<VerifiedBatch> {
    let mut head = head;
    let mut batches: Vec<VerifiedBatch> = Vec::new();
    for version in 1..=length {
        let events = vec![event("s", version, vec![mark])];
        let batch = sealer.seal(&feed("H24", "TW", lane), head.as_ref(), 0, events).expect("seals");
        head = Some(batch.head());
        batches.push(batch);
    }
    batches
}

fn revoked(last: u64) -> feed_pb::Event {
    let last = |lane: Lane| pb::LastAccepted { audience: "TW".into(), lane: lane.to_wire(), sequence: last };
    typed(&pb::KeyRevoked {
        member: "H24".into(),
        fingerprint: key("H24").public().fingerprint().0.to_vec(),
        reason: "mất khoá".into(),
        last_accepted: LANES.map(last).to_vec(),
    })
}

fn admitted(member: &str, lane: Lane, first_sequence: u64, digests: Vec<Digest>) -> feed_pb::Event {
    typed(&pb::BatchesAdmitted {
        member: member.into(),
        audience: "TW".into(),
        lane: lane.to_wire(),
        first_sequence,
        digests: digests.into_iter().map(|digest| digest.0.to_vec()).collect(),
        reason: "người giữ khoá mang đến".into(),
    })
}

fn verdict(directory: &Directory, batch: &VerifiedBatch) -> Result<(), Refusal> {
    directory.verify(parse(batch.bytes().clone()).expect("parses")).map(drop)
}

/// What an operator may admit: a run of the owner's batches, or of the thief's, said to be at some place.
#[derive(Debug, Clone, Copy)]
struct Said {
    lane: usize,
    from: u64,
    count: u64,
    /// How far from their place they are said to be.
    shift: u64,
}

fn said() -> impl Strategy<Value = Said> {
    (0..LANES.len(), 0..LENGTH, 0..4_u64, 0..2_u64).prop_map(|(lane, from, count, shift)| Said {
        lane,
        from,
        count,
        shift,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The whole rule: a batch by a revoked key is good if it was received before, or if this digest was admitted for
    /// this sequence of this feed; it does not matter in which order that was said.
    #[test]
    fn a_batch_by_a_revoked_key_is_good_if_received_or_admitted_and_otherwise_not(
        received in 0..LENGTH,
        all in prop::collection::vec(said(), 0..5),
        revoked_after in 0..6_usize,
    ) {
        let (owner, thief) = both_have_it();
        let owners = LANES.map(|lane| chain(&owner, lane, 1, None, LENGTH));
        let mut world = World::new();
        let mut events: Vec<_> = all.iter().map(|said| {
            let batches = owners[said.lane].iter().skip(said.from as usize).take(said.count as usize);
            admitted("H24", LANES[said.lane], said.from + 1 + said.shift, batches.map(VerifiedBatch::digest).collect())
        }).collect();
        events.insert(revoked_after.min(events.len()), revoked(received));
        world.tell(&events);
        for (number, lane) in LANES.into_iter().enumerate() {
            for batch in &owners[number] {
                let sequence = batch.sequence();
                let named = all.iter().any(|said| {
                    let there = said.from + 1..said.from + 1 + said.count;
                    said.lane == number && said.shift == 0 && there.contains(&sequence)
                });
                let good = verdict(&world.directory, batch);
                prop_assert_eq!(good.is_ok(), sequence <= received || named, "{} {}: {:?}", lane, sequence, good);
                let revoked = matches!(good, Ok(()) | Err(Refusal::RevokedKey { .. }));
                prop_assert!(revoked, "{good:?}");
            }
            // Nothing of the thief's, wherever it begins.
            for from in received..LENGTH {
                let head = (from > 0).then(|| owners[number][from as usize - 1].head());
                for batch in chain(&thief, lane, 2, head, 2) {
                    let refused = verdict(&world.directory, &batch);
                    prop_assert!(matches!(refused, Err(Refusal::RevokedKey { .. })), "{refused:?}");
                }
            }
        }
    }

    /// The key that alone keeps a batch out is told exactly where `verify` refuses the batch for its key.
    #[test]
    fn who_asks_what_keeps_a_batch_out_hears_what_verifying_says(received in 0..LENGTH, one in said()) {
        let (owner, _) = both_have_it();
        let batches = chain(&owner, Lane::Report, 1, None, LENGTH);
        let mut world = World::new();
        let digests = batches.iter().skip(one.from as usize).take(one.count as usize).map(VerifiedBatch::digest);
        world.tell(&[revoked(received), admitted("H24", Lane::Report, one.from + 1, digests.collect())]);
        for batch in &batches {
            let kept_out = world.directory.kept_out_by(&parse(batch.bytes().clone()).expect("parses")).expect("sound");
            let refused = verdict(&world.directory, batch).is_err();
            prop_assert_eq!(kept_out, refused.then(|| key("H24").public().fingerprint()));
        }
    }
}

#[test]
fn an_admission_is_of_one_member_and_makes_no_key_good() {
    let (owner, _) = both_have_it();
    let batches = chain(&owner, Lane::Report, 1, None, 2);
    let mut world = World::new();
    world.tell(&[revoked(0), admitted("H55", Lane::Report, 1, batches.iter().map(VerifiedBatch::digest).collect())]);
    assert!(verdict(&world.directory, &batches[0]).is_err(), "it names another member");
    world.tell(&[admitted("H24", Lane::Report, 1, vec![batches[0].digest()])]);
    assert_eq!(verdict(&world.directory, &batches[0]), Ok(()));
    assert!(verdict(&world.directory, &batches[1]).is_err(), "its neighbour was not named");
    let h24 = world.directory.member(&code("H24")).expect("member");
    assert_eq!(h24.keys().count(), 0);
    assert_eq!(h24.admitted_count(), 1);
    let audience = Audience::new("TW").expect("audience");
    assert_eq!(h24.admitted(&audience, Lane::Report, 1).collect::<Vec<_>>(), [batches[0].digest()]);
}

/// Who has the digest cannot make up a batch for it, and the signature is looked at as ever.
#[test]
fn an_admitted_digest_does_not_stand_for_a_signature() {
    let (owner, _) = both_have_it();
    let batch = chain(&owner, Lane::Report, 1, None, 1).remove(0);
    let mut sealed = <feed_pb::SealedBatch as httt_wire::Message>::decode(batch.bytes().clone()).expect("sealed");
    let signature = sealed.signature.as_mut().expect("signature");
    signature.value[5] ^= 1;
    let forged = httt_wire::Message::encode_to_vec(&sealed);
    let mut world = World::new();
    world.tell(&[revoked(0), admitted("H24", Lane::Report, 1, vec![batch.digest()])]);
    let forged = parse(forged.into()).expect("parses");
    assert!(matches!(world.directory.kept_out_by(&forged), Err(Refusal::BadSignature { .. })));
    assert!(matches!(world.directory.verify(forged), Err(Refusal::BadSignature { .. })));
}

#[test]
fn digests_that_make_no_sense_admit_nothing_and_keep_their_places() {
    let (owner, _) = both_have_it();
    let batches = chain(&owner, Lane::Report, 1, None, 2);
    let said = pb::BatchesAdmitted {
        member: "H24".into(),
        audience: "TW".into(),
        lane: Lane::Report.to_wire(),
        first_sequence: 1,
        digests: vec![vec![1, 2, 3], batches[1].digest().0.to_vec()],
        reason: "?".into(),
    };
    let far = pb::BatchesAdmitted { first_sequence: u64::MAX, ..said.clone() };
    let nowhere = pb::BatchesAdmitted { lane: 99, ..said.clone() };
    let mut world = World::new();
    world.tell(&[revoked(0), typed(&said), typed(&far), typed(&nowhere)]);
    assert!(verdict(&world.directory, &batches[0]).is_err());
    assert_eq!(verdict(&world.directory, &batches[1]), Ok(()));
    assert_eq!(world.directory.member(&code("H24")).expect("member").admitted_count(), 1);
}

/// Else who has the stolen key could write into the very node it was stolen from.
#[test]
fn a_node_does_not_believe_its_own_key_once_it_is_revoked() {
    let (owner, _) = both_have_it();
    let batches = chain(&owner, Lane::Report, 1, None, 2);
    let mut world = World::new();
    world.directory = world.directory.clone().knowing_own(code("H24"), key("H24").public().clone());
    assert_eq!(verdict(&world.directory, &batches[0]), Ok(()));
    world.tell(&[revoked(1)]);
    assert_eq!(verdict(&world.directory, &batches[0]), Ok(()));
    assert!(matches!(verdict(&world.directory, &batches[1]), Err(Refusal::RevokedKey { .. })));
    let local = owner.seal(&feed("H24", "H24", Lane::Local), None, 0, vec![event("s", 1, vec![])]).expect("seals");
    assert_eq!(verdict(&world.directory, &local), Ok(()), "what never leaves the node does not come after anything");
}
