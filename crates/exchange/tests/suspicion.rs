//! When a copier accuses a carrier, and when it waits: found by simulation.

use std::sync::Arc;

use httt_exchange::{Action, Copier, Input, Settings};
use httt_feed::*;
use httt_wire::exchange::RefusalCode;
use httt_wire::{Message, Name, directory as pb, feed as feed_pb};

fn code(text: &str) -> AgencyCode {
    AgencyCode::new(text).expect("code")
}

fn key(member: &str) -> SigningKey {
    SigningKey::from_seed(&Digest::of(member.as_bytes()).0).expect("key")
}

fn typed<M: Message + Name>(message: &M) -> feed_pb::Event {
    feed_pb::Event {
        id: vec![0; 16],
        stream: "s".into(),
        version: 1,
        r#type: M::full_name(),
        data: message.encode_to_vec().into(),
        ..Default::default()
    }
}

fn directory_feed() -> FeedId {
    "NDXP→*/directory".parse().expect("feed")
}

fn enrolment(member: &str, kind: MemberKind) -> Vec<feed_pb::Event> {
    vec![
        typed(&pb::MemberEnrolled { member: member.into(), kind: kind.into(), ..Default::default() }),
        typed(&pb::KeyAdded { member: member.into(), key: Some(key(member).public().to_wire()) }),
    ]
}

/// The directory's batches: each enrols what its events say.
fn directory(batches: &[Vec<feed_pb::Event>]) -> (Directory, Head) {
    let sealer = Sealer::new(code("NDXP"), key("NDXP"));
    let mut directory = Directory::trusting(key("NDXP").public().fingerprint());
    let mut head = None;
    for events in batches {
        let batch = sealer.seal(&directory_feed(), head.as_ref(), 0, events.clone()).expect("seals");
        directory.apply(&directory_feed(), &batch.batch().events);
        head = Some(batch.head());
    }
    (directory, head.expect("a batch"))
}

fn said(origin: &str, feed: &FeedId) -> VerifiedBatch {
    let event = typed(&pb::MemberResumed::default());
    Sealer::new(code(origin), key(origin)).seal(feed, None, 0, vec![event]).expect("seals")
}

/// H24's copier over this much of the directory, which the peer shows too, beside other heads.
fn connected(known: (Directory, Head), heads: Vec<(FeedId, Head)>) -> (Copier, Vec<Action>) {
    let mut copier = Copier::new(vec![code("H24")], Arc::new(known.0), Settings::default());
    copier.handle(0, Input::LocalHead(directory_feed(), known.1));
    let actions = answer_heads(&mut copier, 1, 1, [heads, vec![(directory_feed(), known.1)]].concat());
    (copier, actions)
}

fn answer_heads(copier: &mut Copier, now: i64, call: u64, heads: Vec<(FeedId, Head)>) -> Vec<Action> {
    copier.handle(now, Input::Heads { call, log_id: vec![1], position: 9, heads, more: false, wants: vec![] })
}

fn alarms(actions: &[Action]) -> usize {
    actions.iter().filter(|action| matches!(action, Action::Alarm(_))).count()
}

fn full_question(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::AskHeads { call, after: 0, wait: false, .. } => Some(*call),
        _ => None,
    })
}

/// The call that asks for entries of a feed.
fn ask_of(actions: &[Action], wanted: &FeedId) -> u64 {
    let asked = actions.iter().find_map(|action| match action {
        Action::Ask { call, feed, .. } if feed == wanted => Some(*call),
        _ => None,
    });
    asked.expect("asks")
}

/// NDXP, H24, TW, and last TW's key.
fn members() -> [Vec<feed_pb::Event>; 4] {
    let [enrolled, key]: [_; 2] = enrolment("TW", MemberKind::Central).try_into().expect("two events");
    [enrolment("NDXP", MemberKind::Gateway), enrolment("H24", MemberKind::Province), vec![enrolled], vec![key]]
}

#[test]
fn an_entry_younger_than_what_was_shown_of_the_directory_accuses_nobody() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let batch = said("TW", &content);
    // The peer has heard of TW's key and taken its batch since it showed its heads.
    let heads = vec![(content.clone(), batch.head())];
    let (mut copier, actions) = connected(directory(&members()[..3]), heads.clone());
    let entries = vec![batch.bytes().clone()];
    let came = |actions: &[Action]| {
        let call = ask_of(actions, &content);
        Input::Entries { call, feed: content.clone(), entries: entries.clone(), refused: None }
    };
    let actions = copier.handle(2, came(&actions));
    assert_eq!(alarms(&actions), 0);
    let call = full_question(&actions).expect("all heads are asked for at once");
    let (whole, head) = directory(&members());
    let shown = [heads, vec![(directory_feed(), head)]].concat();
    assert_eq!(alarms(&answer_heads(&mut copier, 3, call, shown)), 0);
    let actions = copier.handle(4, Input::Directory(Arc::new(whole)));
    let actions = copier.handle(5, came(&actions));
    assert!(actions.iter().any(|action| matches!(action, Action::Store { .. })));
}

#[test]
fn a_key_that_the_whole_directory_does_not_know_is_an_alarm() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let batch = said("TW", &content);
    let known = directory(&members()[..3]);
    let shown = vec![(content.clone(), batch.head()), (directory_feed(), known.1)];
    let (mut copier, actions) = connected(known, shown.clone());
    let (call, entries) = (ask_of(&actions, &content), vec![batch.bytes().clone()]);
    let actions = copier.handle(2, Input::Entries { call, feed: content, entries, refused: None });
    let call = full_question(&actions).expect("all heads are asked for at once");
    let actions = answer_heads(&mut copier, 3, call, shown);
    let alarm = actions.iter().find_map(|action| match action {
        Action::Alarm(alarm) => Some(alarm),
        _ => None,
    });
    assert_eq!(alarm.and_then(|alarm| alarm.evidence.clone()), Some(batch.bytes().clone()));
}

fn revoked_and_admitted(batch: &VerifiedBatch) -> [Vec<feed_pb::Event>; 2] {
    let fingerprint = key("TW").public().fingerprint().0.to_vec();
    let revoked = pb::KeyRevoked { member: "TW".into(), fingerprint, ..Default::default() };
    let admitted = pb::BatchesAdmitted {
        member: "TW".into(),
        audience: "*".into(),
        lane: Lane::Content.to_wire(),
        first_sequence: 1,
        digests: vec![batch.digest().0.to_vec()],
        reason: "r".into(),
    };
    [vec![typed(&revoked)], vec![typed(&admitted)]]
}

#[test]
fn an_admitted_batch_that_comes_before_the_word_of_its_admission_accuses_nobody() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let batch = said("TW", &content);
    let [revoked, admitted] = revoked_and_admitted(&batch);
    let heads = vec![(content.clone(), batch.head())];
    let before = [&members()[..], std::slice::from_ref(&revoked)].concat();
    let (mut copier, _) = connected(directory(&before), heads.clone());
    let entries = vec![batch.bytes().clone()];
    let actions =
        copier.handle(2, Input::Entries { call: 1, feed: content.clone(), entries: entries.clone(), refused: None });
    assert_eq!(alarms(&actions), 0);
    let call = full_question(&actions).expect("all heads are asked for at once");
    let (whole, head) = directory(&[&before[..], &[admitted]].concat());
    let shown = [heads, vec![(directory_feed(), head)]].concat();
    assert_eq!(alarms(&answer_heads(&mut copier, 3, call, shown)), 0);
    let actions = copier.handle(4, Input::Directory(Arc::new(whole)));
    let asked = actions.iter().find_map(|action| match action {
        Action::Ask { call, feed, .. } if *feed == content => Some(*call),
        _ => None,
    });
    let call = asked.expect("it is asked for again");
    let actions = copier.handle(5, Input::Entries { call, feed: content, entries, refused: None });
    assert!(actions.iter().any(|action| matches!(action, Action::Store { .. })));
}

#[test]
fn a_revoked_keys_batch_that_nobody_admitted_is_an_alarm() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let batch = said("TW", &content);
    let [revoked, _] = revoked_and_admitted(&batch);
    let known = directory(&[&members()[..], &[revoked]].concat());
    let shown = vec![(content.clone(), batch.head()), (directory_feed(), known.1)];
    let (mut copier, _) = connected(known, shown.clone());
    let entries = vec![batch.bytes().clone()];
    let actions = copier.handle(2, Input::Entries { call: 1, feed: content, entries, refused: None });
    let call = full_question(&actions).expect("all heads are asked for at once");
    assert_eq!(alarms(&answer_heads(&mut copier, 3, call, shown)), 1);
}

#[test]
fn a_feed_to_a_member_that_the_directory_does_not_have_yet_accuses_nobody() {
    let receipts: FeedId = "NDXP→H24/report".parse().expect("feed");
    let batch = said("NDXP", &receipts);
    let (_, shown) = directory(&members());
    let mut copier = Copier::new(vec![code("H24")], Arc::new(directory(&members()[..1]).0), Settings::default());
    copier.handle(0, Input::LocalHead(directory_feed(), directory(&members()[..1]).1));
    let actions = answer_heads(&mut copier, 1, 1, vec![(directory_feed(), shown), (receipts.clone(), batch.head())]);
    let (call, entries) = (ask_of(&actions, &receipts), vec![batch.bytes().clone()]);
    assert_eq!(alarms(&copier.handle(2, Input::Entries { call, feed: receipts, entries, refused: None })), 0);
}

#[test]
fn a_granted_feed_is_copied() {
    let others: FeedId = "TW→H55/content".parse().expect("feed");
    let heads = vec![(others.clone(), said("TW", &others).head())];
    let asks =
        |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Ask { feed, .. } if *feed == others));
    let (_, actions) = connected(directory(&members()), heads.clone());
    assert!(!asks(&actions));
    let granted = pb::ReadGranted { reader: "H24".into(), audience: "H55".into(), ..Default::default() };
    let mut batches = members().to_vec();
    batches.push(vec![typed(&granted)]);
    let (_, actions) = connected(directory(&batches), heads);
    assert!(asks(&actions));
}

#[test]
fn all_heads_are_asked_for_again_though_nothing_failed() {
    let (mut copier, _) = connected(directory(&members()), vec![]);
    let every = Settings::default().ask_all_every_ms;
    assert_eq!(full_question(&copier.handle(every, Input::Tick)), None);
    let call = full_question(&copier.handle(every + 1, Input::Tick)).expect("some were perhaps withheld");
    answer_heads(&mut copier, every + 2, call, vec![]);
    assert_eq!(full_question(&copier.handle(every + 3, Input::Tick)), None, "once is enough");
}

#[test]
fn a_false_head_of_somebody_elses_feed_is_forgotten_when_a_true_one_is_shown() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let head = |sequence| Head { sequence, digest: Digest([sequence as u8; 32]) };
    let (mut copier, _) = connected(directory(&members()), vec![(content.clone(), head(9))]);
    answer_heads(&mut copier, 2, 2, vec![(content.clone(), head(3))]);
    assert_eq!(copier.behind().collect::<Vec<_>>(), [(&content, 0, 3)]);
}

#[test]
fn a_restored_node_that_its_old_directory_does_not_name_is_not_level_before_it_has_its_own_feeds() {
    let own: FeedId = "H24→*/content".parse().expect("feed");
    let (mut copier, actions) = connected(directory(&members()[..1]), vec![(own.clone(), said("H24", &own).head())]);
    assert!(!copier.own_level());
    assert!(actions.iter().any(|action| matches!(action, Action::Ask { feed, .. } if *feed == own)));
    copier.handle(2, Input::LocalHead(own.clone(), said("H24", &own).head()));
    assert!(copier.own_level());
}

#[test]
fn news_of_the_directory_does_not_bring_one_back_sooner_to_a_busy_peer() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let batch = said("TW", &content);
    let (mut copier, actions) = connected(directory(&members()[..3]), vec![(content.clone(), batch.head())]);
    let (call, entries) = (ask_of(&actions, &content), vec![batch.bytes().clone()]);
    copier.handle(2, Input::Entries { call, feed: content.clone(), entries, refused: None });
    let call = ask_of(&copier.handle(10_000, Input::Tick), &content);
    let busy = Some((RefusalCode::Busy, 60_000));
    copier.handle(10_001, Input::Entries { call, feed: content.clone(), entries: vec![], refused: busy });
    let asks = |actions: &[Action]| {
        actions.iter().any(|action| matches!(action, Action::Ask { feed, .. } if *feed == content))
    };
    assert!(!asks(&copier.handle(10_002, Input::Directory(Arc::new(directory(&members()).0)))));
    assert!(!asks(&copier.handle(70_000, Input::Tick)));
    assert!(asks(&copier.handle(70_001, Input::Tick)));
}

#[test]
fn a_busy_peer_is_asked_for_all_heads_when_it_is_to_be_asked_again() {
    let content: FeedId = "TW→*/content".parse().expect("feed");
    let batch = said("TW", &content);
    let known = directory(&members()[..3]);
    let shown = vec![(content.clone(), batch.head()), (directory_feed(), known.1)];
    let (mut copier, actions) = connected(known, shown.clone());
    let (call, entries) = (ask_of(&actions, &content), vec![batch.bytes().clone()]);
    let actions = copier.handle(2, Input::Entries { call, feed: content, entries, refused: None });
    let call = full_question(&actions).expect("all heads are asked for at once");
    let refused = (RefusalCode::Busy, 1_000);
    assert!(copier.handle(3, Input::HeadsRefused { call, refused, wants: vec![] }).is_empty());
    let call = full_question(&copier.handle(1_003, Input::Tick)).expect("and again");
    assert_eq!(alarms(&answer_heads(&mut copier, 1_004, call, shown)), 1);
}
