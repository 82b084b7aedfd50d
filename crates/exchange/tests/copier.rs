//! What a copier does with trouble, step by step.

use std::sync::Arc;

use httt_exchange::{Action, BURST_MS, Bandwidth, Copier, Input, Limit, MAX_CALL_BYTES, Settings};
use httt_feed::{AgencyCode, Digest, Directory, FeedId, Head, MemberKind, Sealer, SigningKey};
use httt_wire::exchange::RefusalCode;
use httt_wire::feed::Event;
use httt_wire::{Message as _, Name as _, directory as pb};

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
    let actions = copier.handle(2, Input::CallFailed { call: 1, feed: content.clone() });
    let [Action::AskHeads { call, wait: false, .. }] = actions[..] else { panic!("no probe: {actions:?}") };
    assert!(copier.connected(), "one feed's trouble is not the link's");
    let heads = vec![(content.clone(), head(9))];
    copier.handle(3, Input::Heads { call, log_id: vec![1], position: 9, heads, more: false, wants: vec![] });
    let actions = copier.handle(10_000, Input::Tick);
    assert_eq!(asked_bytes(&actions), Some(MAX_CALL_BYTES / 2));
    copier.handle(10_001, Input::CallFailed { call: 2, feed: content });
    copier.handle(10_002, Input::HeadsFailed(call + 2));
    assert!(!copier.connected());
}

#[test]
fn the_same_gap_again_is_not_pushed_at_once() {
    let own = feed("H24→TW/report");
    let (mut copier, _) = connected(vec![]);
    let pushes = |actions: Vec<Action>| actions.iter().any(|action| matches!(action, Action::Push { .. }));
    assert!(pushes(copier.handle(2, Input::LocalHead(own.clone(), head(5)))));
    let gap = |call, head| Input::Pushed { call, feed: own.clone(), head, refused: Some((RefusalCode::Gap, 0)) };
    assert!(pushes(copier.handle(3, gap(1, Some(head(3))))), "the head says where to go on");
    assert!(!pushes(copier.handle(4, gap(2, Some(head(3))))), "and was of no use");
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

    copier.handle(3, Input::Pushed { call: 2, feed: own, head: None, refused: busy });
    assert_eq!(first_tick(&mut copier, 4, |action| matches!(action, Action::Push { .. })), 3 + 1_234);

    copier.handle(10_000, Input::Entries { call: 1, feed: content, entries: vec![], refused: busy });
    assert_eq!(first_tick(&mut copier, 10_001, |action| matches!(action, Action::Ask { .. })), 10_000 + 1_234);

    let refused = Input::HeadsRefused { call: 2, refused: (RefusalCode::Busy, 1_234), wants: vec![] };
    assert!(copier.handle(20_000, refused).is_empty());
    assert!(copier.connected(), "who says that it is busy is there");
    assert_eq!(first_tick(&mut copier, 20_001, |action| matches!(action, Action::AskHeads { .. })), 20_000 + 1_234);
}

#[test]
fn heads_refused_for_another_reason_count_as_no_link() {
    let (mut copier, _) = connected(vec![]);
    copier.handle(5, Input::HeadsRefused { call: 2, refused: (RefusalCode::Suspended, 60_000), wants: vec![] });
    assert!(!copier.connected());
    assert_eq!(first_tick(&mut copier, 6, |action| matches!(action, Action::AskHeads { .. })), 60_005);
}

#[test]
fn a_busy_feed_does_not_hold_up_an_emergency() {
    let (status, emergency) = (feed("H24→TW/status"), feed("H24→TW/emergency"));
    let (mut copier, _) = connected(vec![]);
    copier.handle(2, Input::LocalHead(status.clone(), head(5)));
    copier.handle(3, Input::Pushed { call: 1, feed: status, head: None, refused: Some((RefusalCode::Busy, 60_000)) });
    let actions = copier.handle(4, Input::LocalHead(emergency.clone(), head(1)));
    assert!(matches!(&actions[..], [Action::Push { feed, .. }] if *feed == emergency));
}

/// A copier whose peer wants `wants` of a feed of which this node holds 20 batches and the peer as many.
fn wanted(wants: &[(u64, u64)]) -> (Copier, Vec<Action>, FeedId) {
    let report = feed("H24→TW/report");
    let (mut copier, _) = connected(vec![]);
    copier.handle(2, Input::LocalHead(report.clone(), head(20)));
    copier.handle(2, Input::Pushed { call: 1, feed: report.clone(), head: Some(head(20)), refused: None });
    let actions = wants.iter().flat_map(|(after, until)| wants_of(&mut copier, 3, &report, *after, *until)).collect();
    (copier, actions, report)
}

fn wants_of(copier: &mut Copier, now: i64, feed: &FeedId, after: u64, until: u64) -> Vec<Action> {
    // Whichever call for heads is under way. The answer to it makes the next one.
    for call in 1..100 {
        let (log_id, position) = (vec![1], 100 + now as u64);
        let wants = vec![(feed.clone(), after, until)];
        let answer = Input::Heads { call, log_id, position, heads: vec![], more: false, wants };
        let actions = copier.handle(now, answer);
        if actions.iter().any(|action| matches!(action, Action::AskHeads { .. })) {
            return actions;
        }
    }
    panic!("no call for heads is under way")
}

fn brings(actions: &[Action]) -> Vec<(u64, u64)> {
    let again = actions.iter().filter_map(|action| match action {
        Action::PushAgain { after, until, .. } => Some((*after, *until)),
        _ => None,
    });
    again.collect()
}

#[test]
fn what_is_wanted_and_not_held_is_answered_and_not_answered_again_at_once() {
    let (mut copier, actions, report) = wanted(&[(30, 40)]);
    assert_eq!(brings(&actions), [(30, 40)], "it is for the driver to say that it is not here");
    let lacked = Some((RefusalCode::NotFound, 0));
    copier.handle(4, Input::PushedAgain { call: 2, feed: report.clone(), last: 30, refused: lacked });
    assert_eq!(brings(&wants_of(&mut copier, 5, &report, 30, 40)), []);
    // Nothing else of the feed waits for that.
    let actions = copier.handle(6, Input::LocalHead(report.clone(), head(21)));
    assert!(actions.iter().any(|action| matches!(action, Action::Push { .. })), "{actions:?}");
    copier.handle(7, Input::Pushed { call: 3, feed: report.clone(), head: Some(head(21)), refused: None });
    assert_eq!(brings(&wants_of(&mut copier, 8, &report, 2, 4)), [(2, 4)]);
    copier.handle(9, Input::PushedAgain { call: 4, feed: report.clone(), last: 4, refused: None });
    let later = 10 + Settings::default().lack_pause_ms;
    assert_eq!(brings(&wants_of(&mut copier, later, &report, 30, 40)), [(30, 40)]);
}

#[test]
fn another_want_that_comes_while_one_is_brought_is_brought_whole() {
    let (mut copier, actions, report) = wanted(&[(2, 10)]);
    assert_eq!(brings(&actions), [(2, 10)]);
    assert_eq!(brings(&wants_of(&mut copier, 4, &report, 0, 2)), [], "one call about a feed at a time");
    let actions = copier.handle(5, Input::PushedAgain { call: 2, feed: report.clone(), last: 6, refused: None });
    assert_eq!(brings(&actions), [(0, 2)]);
    let actions = copier.handle(6, Input::PushedAgain { call: 3, feed: report, last: 2, refused: None });
    assert_eq!(brings(&actions), []);
}

/// Bytes of a batch in the backlog of the tests below.
const BATCH: usize = 500;

#[test]
fn a_thin_link_keeps_its_rate_and_an_emergency_waits_for_one_call_at_most() {
    let limit = Limit { bytes_per_s: 8_000, emergency_percent: 25 };
    let directory = Arc::new(Directory::trusting(Digest([0; 32])));
    let own = vec![AgencyCode::new("H24").expect("code")];
    let mut copier = Copier::new(own, directory, Settings::default()).within(Bandwidth::new(limit));
    copier.handle(0, Input::Tick);
    copier.handle(0, Input::Heads { call: 1, log_id: vec![1], position: 9, heads: vec![], more: false, wants: vec![] });
    let (report, emergency) = (feed("H24→TW/report"), feed("H24→TW/emergency"));
    // A megabyte to push.
    let backlog = 1_000_000 / BATCH as u64;
    let mut actions = copier.handle(0, Input::LocalHead(report.clone(), head_of(backlog)));
    // Calls under way: when the link has carried each, its number, its feed, up to where, its bytes.
    let mut under_way: Vec<(i64, u64, FeedId, u64, usize)> = Vec::new();
    let (mut link_free, mut sent, mut longest, mut emergency_at, mut emergency_done) = (0, 0, 0, None, None);
    for now in (0..120_000).step_by(50) {
        if now == 30_000 {
            actions.extend(copier.handle(now, Input::LocalHead(emergency.clone(), head(1))));
            emergency_at = Some(now);
        }
        for action in actions.drain(..) {
            let Action::Push { call, feed, after, max_bytes } = action else { continue };
            let batches = if feed == emergency { 1 } else { ((max_bytes / BATCH) as u64).max(1) };
            let bytes = batches as usize * BATCH;
            let carried = bytes as i64 / 8;
            link_free = now.max(link_free) + carried;
            longest = longest.max(carried);
            under_way.push((link_free, call, feed, after + batches, bytes));
        }
        let (done, left): (Vec<_>, Vec<_>) = under_way.into_iter().partition(|(at, ..)| *at <= now);
        under_way = left;
        for (at, call, feed, until, bytes) in done {
            if feed == emergency {
                emergency_done = emergency_done.or(Some(at));
            } else {
                sent += bytes;
            }
            copier.measured(&feed, bytes);
            let head = Some(if feed == emergency { head(1) } else { head_of(until) });
            actions.extend(copier.handle(now, Input::Pushed { call, feed, head, refused: None }));
        }
        actions.extend(copier.handle(now, Input::Tick));
    }
    let waited = emergency_done.expect("sent") - emergency_at.expect("said");
    let own_time = BATCH as i64 / 8;
    assert!(waited <= longest + own_time + 50, "waited {waited} ms behind a call of {longest} ms");
    assert!(longest <= BURST_MS as i64, "a call takes {longest} ms of the link");
    // Three quarters of 8,000 bytes a second for 120 s, less what the last call leaves over.
    assert!((650_000..=727_000).contains(&sent), "{sent}");
}

/// A head whose digest is none that repeats.
fn head_of(sequence: u64) -> Head {
    let mut digest = [1; 32];
    digest[..8].copy_from_slice(&sequence.to_be_bytes());
    Head { sequence, digest: Digest(digest) }
}

#[test]
fn a_thousand_members_that_lost_the_gateway_together_do_not_come_back_together() {
    let directory = Arc::new(Directory::trusting(Digest([0; 32])));
    let attempts = |member: u64| {
        // As nodes take it: from the fingerprint of their key.
        let digest = Digest::of(&member.to_be_bytes()).0;
        let seed = u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"));
        let settings = Settings { seed, ..Settings::default() };
        let mut copier = Copier::new(vec![], Arc::clone(&directory), settings);
        let (mut at, mut actions) = (Vec::new(), copier.handle(0, Input::Tick));
        // Three days without it, looked at closely in the first minute and in the last.
        for now in (0..60_000).chain(3 * 86_400_000..3 * 86_400_000 + 60_000).step_by(20) {
            for action in actions.drain(..) {
                if let Action::AskHeads { call, .. } = action {
                    at.push(now);
                    copier.handle(now, Input::HeadsFailed(call));
                }
            }
            actions = copier.handle(now, Input::Tick);
        }
        at
    };
    let members: Vec<Vec<i64>> = (0..1_000).map(attempts).collect();
    let most_in_100_ms = |from: i64, to: i64| {
        let count = |at: i64| members.iter().flatten().filter(|attempt| (at..at + 100).contains(*attempt)).count();
        (from..to).step_by(100).map(count).max().unwrap_or_default()
    };
    let last = 3 * 86_400_000;
    assert!(most_in_100_ms(20_000, 60_000) <= 90, "{}", most_in_100_ms(20_000, 60_000));
    assert!(most_in_100_ms(last + 20_000, last + 60_000) <= 90);
    // Nobody gives up, and nobody is ever more than the longest pause away from the next try.
    let longest = Settings::default().backoff_most_ms + 100;
    for attempts in &members {
        let late: Vec<i64> = attempts.iter().copied().filter(|at| *at >= last).collect();
        assert!(late.windows(2).all(|pair| pair[1] - pair[0] <= longest), "{late:?}");
        assert!(late.len() > 5);
    }
}

/// A copier of H24 that knows the gateway, and holds its directory and a receipt.
fn knowing_the_gateway() -> Copier {
    let key = SigningKey::from_seed(&[7; 32]).expect("key");
    let mut directory = Directory::trusting(key.public().fingerprint());
    let enrolled = pb::MemberEnrolled { member: "NDXP".into(), kind: 1, ..Default::default() };
    let event =
        Event { r#type: pb::MemberEnrolled::full_name(), data: enrolled.encode_to_vec().into(), ..Event::default() };
    directory.apply(&feed("NDXP→*/directory"), &[event]);
    assert!(directory.gateway().is_some());
    let copier = Copier::new(vec![AgencyCode::new("H24").expect("code")], Arc::new(directory), Settings::default());
    let held = [("NDXP→*/directory", 5), ("NDXP→H24/report", 3), ("TW→*/content", 9)];
    let mut copier = copier.holding(held.map(|(name, sequence)| (feed(name), head(sequence))));
    let first = copier.handle(0, Input::LocalHead(feed("TW→*/content"), head(9)));
    let [Action::AskHeads { call: 1, held, .. }] = &first[..] else { panic!("{first:?}") };
    assert_eq!(held.len(), 2, "the first question says it already");
    copier
}

#[test]
fn who_asks_for_all_heads_says_what_it_holds_of_the_gateways_own_feeds() {
    let mut copier = knowing_the_gateway();
    copier.handle(1, Input::HeadsFailed(1));
    let actions = copier.handle(60_000, Input::Tick);
    let [Action::AskHeads { call, held, .. }] = &actions[..] else { panic!("{actions:?}") };
    let expected = vec![(feed("NDXP→*/directory"), head(5)), (feed("NDXP→H24/report"), head(3))];
    assert_eq!(*held, expected);
    let told = Input::Heads {
        call: *call,
        log_id: vec![1],
        position: 9,
        heads: vec![(feed("NDXP→*/directory"), head(5))],
        more: false,
        wants: vec![],
    };
    let actions = copier.handle(60_001, told);
    assert!(actions.iter().any(|action| matches!(action, Action::AskHeads { held, after: 9, .. } if held.is_empty())));
}

#[test]
fn a_gateway_that_refuses_everything_is_brought_what_it_had_said() {
    let mut copier = knowing_the_gateway();
    let wants = vec![(feed("NDXP→*/directory"), 2, 5), (feed("TW→*/content"), 0, 9), (feed("NDXP→H24/report"), 1, 4)];
    let actions = copier.handle(1, Input::HeadsRefused { call: 1, refused: (RefusalCode::Unavailable, 0), wants });
    // What others said is theirs to bring, and what is not held cannot be brought.
    let [Action::PushAgain { feed: brought, after: 2, until: 5, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(*brought, feed("NDXP→*/directory"));
    let unreachable = copier.handle(2, Input::HeadsFailed(1));
    assert!(unreachable.is_empty() && copier.refused().is_some(), "that call was answered");
}

#[test]
fn a_push_refused_because_the_gateway_waits_makes_all_heads_be_asked_for() {
    let own = feed("H24→TW/report");
    let (mut copier, _) = connected(vec![]);
    copier.handle(2, Input::LocalHead(own.clone(), head(1)));
    let refused = Input::Pushed { call: 1, feed: own, head: None, refused: Some((RefusalCode::Unavailable, 0)) };
    let actions = copier.handle(3, refused);
    assert!(matches!(actions[..], [Action::AskHeads { after: 0, wait: false, .. }]), "{actions:?}");
}

#[test]
fn an_answer_that_comes_again_tells_nothing_however_late_it_comes() {
    let own = feed("H24→TW/emergency");
    let (mut copier, _) = connected(vec![]);
    let pushed = |actions: &[Action]| matches!(actions, [Action::Push { after, .. }] if *after == 0);
    assert!(pushed(&copier.handle(2, Input::LocalHead(own.clone(), head(1)))));
    let answer = |call, sequence| Input::Pushed { call, feed: own.clone(), head: Some(head(sequence)), refused: None };
    assert!(copier.handle(3, answer(1, 1)).is_empty());
    // Once when nothing is under way, and once in place of the answer to another call.
    assert!(copier.handle(4, answer(1, 1)).is_empty());
    assert!(matches!(
        copier.handle(5, Input::LocalHead(own.clone(), head(2)))[..],
        [Action::Push { call: 2, after: 1, .. }]
    ));
    let failed = Input::CallFailed { call: 1, feed: own.clone() };
    assert!(copier.handle(6, failed).is_empty() && copier.handle(7, answer(1, 1)).is_empty());
    assert!(copier.handle(8, answer(2, 2)).is_empty());
    assert_eq!(copier.behind().count(), 0);
}

#[test]
fn a_beginning_that_the_peer_shows_no_more_is_given_up() {
    let key = |name: &str| SigningKey::from_seed(&Digest::of(name.as_bytes()).0).expect("key");
    let directory = feed("NDXP→*/directory");
    let kind = MemberKind::Gateway.into();
    let enrolled = pb::MemberEnrolled { member: "NDXP".into(), kind, ..Default::default() };
    let added = pb::KeyAdded { member: "NDXP".into(), key: Some(key("old").public().to_wire()) };
    let event = |id: u8, r#type: String, data: Vec<u8>| Event {
        id: vec![id; 16],
        stream: format!("s{id}"),
        version: 1,
        r#type,
        data: data.into(),
        ..Default::default()
    };
    let sealer = Sealer::new(AgencyCode::new("NDXP").expect("code"), key("old"));
    let founding = vec![
        event(1, pb::MemberEnrolled::full_name(), enrolled.encode_to_vec()),
        event(2, pb::KeyAdded::full_name(), added.encode_to_vec()),
    ];
    let first = sealer.seal(&directory, None, 0, founding).expect("seals");
    let later = vec![event(3, "a.later.Version".into(), vec![])];
    let second = sealer.seal(&directory, Some(&first.head()), 0, later).expect("seals");
    let known = Arc::new(Directory::trusting(key("new").public().fingerprint()));
    let mut copier = Copier::new(vec![AgencyCode::new("H24").expect("code")], known, Settings::default());
    copier.handle(0, Input::Tick);
    let heads = |call, sequence| Input::Heads {
        call,
        log_id: vec![call as u8],
        position: 9,
        heads: vec![(directory.clone(), head(sequence))],
        more: false,
        wants: vec![],
    };
    let asked_after = |actions: Vec<Action>| {
        actions.into_iter().find_map(|action| match action {
            Action::Ask { after, .. } => Some(after),
            _ => None,
        })
    };
    assert_eq!(asked_after(copier.handle(1, heads(1, 9))), Some(0));
    let entries = [&first, &second].map(|batch| batch.bytes().clone()).to_vec();
    let gathered = Input::Entries { call: 1, feed: directory.clone(), entries, refused: None };
    assert_eq!(asked_after(copier.handle(2, gathered)), Some(2), "gathered, and the next is asked for");
    // Its disk was replaced by an older one while that was under way.
    copier.handle(3, Input::CallFailed { call: 2, feed: directory.clone() });
    copier.handle(4, heads(3, 1));
    assert_eq!(asked_after(copier.handle(60_000, Input::Tick)), Some(0), "from the beginning");
}
