//! What a copier does with trouble, step by step.

use std::sync::Arc;

use httt_exchange::{Action, Copier, Input, MAX_CALL_BYTES, Settings};
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Head};
use httt_wire::exchange::RefusalCode;

fn feed(text: &str) -> FeedId {
    text.parse().expect("feed")
}

fn head(sequence: u64) -> Head {
    Head { sequence, digest: Digest([sequence as u8; 32]) }
}

/// A copier of H24 that is connected to a peer holding these heads.
fn connected(heads: Vec<(FeedId, Head)>) -> (Copier, Vec<Action>) {
    let directory = Arc::new(Directory::trusting(Digest([0; 32])));
    let mut copier = Copier::new(vec![AgencyCode::new("H24").expect("code")], directory, Settings::default());
    let asked = copier.handle(0, Input::Tick);
    assert!(matches!(asked[..], [Action::AskHeads { call: 1, wait: false, .. }]));
    let actions =
        copier.handle(1, Input::Heads { call: 1, log_id: vec![1], position: 9, heads, more: false, wants: vec![] });
    (copier, actions)
}

fn asked_bytes(actions: &[Action]) -> Option<usize> {
    actions.iter().find_map(|action| match action {
        Action::Ask { max_bytes, .. } => Some(*max_bytes),
        _ => None,
    })
}

#[test]
fn a_failing_feed_pauses_itself_and_asks_for_less_while_the_link_is_probed() {
    let content = feed("TW→*/content");
    let (mut copier, actions) = connected(vec![(content.clone(), head(9))]);
    assert_eq!(asked_bytes(&actions), Some(MAX_CALL_BYTES));
    let actions = copier.handle(2, Input::CallFailed(content.clone()));
    let [Action::AskHeads { call, wait: false, .. }] = actions[..] else { panic!("no probe: {actions:?}") };
    assert!(copier.connected(), "one feed's trouble is not the link's");
    let heads = vec![(content.clone(), head(9))];
    copier.handle(3, Input::Heads { call, log_id: vec![1], position: 9, heads, more: false, wants: vec![] });
    let actions = copier.handle(10_000, Input::Tick);
    assert_eq!(asked_bytes(&actions), Some(MAX_CALL_BYTES / 2));
    copier.handle(10_001, Input::CallFailed(content));
    copier.handle(10_002, Input::HeadsFailed(call + 2));
    assert!(!copier.connected());
}

#[test]
fn the_same_gap_again_is_not_pushed_at_once() {
    let own = feed("H24→TW/report");
    let (mut copier, _) = connected(vec![]);
    let pushes = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::Push { .. }));
    assert!(pushes(copier.handle(2, Input::LocalHead(own.clone(), head(5)))));
    let gap = |head| Input::Pushed { feed: own.clone(), head, refused: Some((RefusalCode::Gap, 0)) };
    assert!(pushes(copier.handle(3, gap(Some(head(3))))), "the head says where to go on");
    assert!(!pushes(copier.handle(4, gap(Some(head(3))))), "and was of no use");
    assert!(pushes(copier.handle(60_000, Input::Tick)));
}

#[test]
fn feeds_that_are_nobodys_business_are_not_asked_for() {
    let (_, actions) = connected(vec![
        (feed("TW→H55/content"), head(1)),
        (feed("H55→TW/report"), head(1)),
        (feed("TW→TW/local"), head(1)),
    ]);
    assert_eq!(asked_bytes(&actions), None);
    let (_, actions) = connected(vec![(feed("NDXP→H24/report"), head(1))]);
    assert!(asked_bytes(&actions).is_some());
}

#[test]
fn a_stopped_feed_stays_stopped() {
    let content = feed("TW→*/content");
    let (mut copier, _) = connected(vec![]);
    copier.handle(2, Input::Stopped(content.clone()));
    let call = 2;
    let heads = vec![(content.clone(), head(9))];
    let actions =
        copier.handle(3, Input::Heads { call, log_id: vec![1], position: 10, heads, more: false, wants: vec![] });
    assert_eq!(asked_bytes(&actions), None);
    assert_eq!(copier.stopped().collect::<Vec<_>>(), [&content]);
}

/// When, by ticks of a millisecond, one of the actions is `wanted`.
fn first_tick(copier: &mut Copier, from: i64, wanted: impl Fn(&Action) -> bool) -> i64 {
    let ticks = from..from + 120_000;
    let mut ticks = ticks.filter(|now| copier.handle(*now, Input::Tick).iter().any(&wanted));
    ticks.next().expect("within two minutes")
}

#[test]
fn a_busy_peer_is_left_alone_exactly_as_long_as_it_says_whatever_was_asked() {
    let (own, content) = (feed("H24→TW/report"), feed("TW→*/content"));
    let busy = Some((RefusalCode::Busy, 1_234));
    let (mut copier, _) = connected(vec![(content.clone(), head(9))]);
    copier.handle(2, Input::LocalHead(own.clone(), head(5)));

    copier.handle(3, Input::Pushed { feed: own, head: None, refused: busy });
    assert_eq!(first_tick(&mut copier, 4, |action| matches!(action, Action::Push { .. })), 3 + 1_234);

    copier.handle(10_000, Input::Entries { feed: content, entries: vec![], refused: busy });
    assert_eq!(first_tick(&mut copier, 10_001, |action| matches!(action, Action::Ask { .. })), 10_000 + 1_234);

    let refused = Input::HeadsRefused { call: 2, refused: (RefusalCode::Busy, 1_234) };
    assert!(copier.handle(20_000, refused).is_empty());
    assert!(copier.connected(), "who says that it is busy is there");
    assert_eq!(first_tick(&mut copier, 20_001, |action| matches!(action, Action::AskHeads { .. })), 20_000 + 1_234);
}

#[test]
fn heads_refused_for_another_reason_count_as_no_link() {
    let (mut copier, _) = connected(vec![]);
    copier.handle(5, Input::HeadsRefused { call: 2, refused: (RefusalCode::Suspended, 60_000) });
    assert!(!copier.connected());
    assert_eq!(first_tick(&mut copier, 6, |action| matches!(action, Action::AskHeads { .. })), 60_005);
}

#[test]
fn a_busy_feed_does_not_hold_up_an_emergency() {
    let (status, emergency) = (feed("H24→TW/status"), feed("H24→TW/emergency"));
    let (mut copier, _) = connected(vec![]);
    copier.handle(2, Input::LocalHead(status.clone(), head(5)));
    copier.handle(3, Input::Pushed { feed: status, head: None, refused: Some((RefusalCode::Busy, 60_000)) });
    let actions = copier.handle(4, Input::LocalHead(emergency.clone(), head(1)));
    assert!(matches!(&actions[..], [Action::Push { feed, .. }] if *feed == emergency));
}
