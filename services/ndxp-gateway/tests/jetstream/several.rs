//! Several processes of one gateway.

use std::collections::HashMap;
use std::sync::Arc;

use httt_exchange::{Store as _, StoreError};
use httt_feed::{Audience, FeedId, Lane};
use httt_log::{FeedHead, NewEvent};
use httt_wire::directory::MemberSuspended;

use crate::exchange::{Gateway, Member, batches, code, feed, seldom, settings};
use crate::nats::{NatsServer, until};
use crate::proxy::Proxy;

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_take_the_same_feed_at_once_take_each_entry_once() {
    let server = NatsServer::start().await;
    let one = Arc::new(Gateway::open(&[&server], seldom()).await);
    let two = Arc::new(Gateway::open(&[&server], seldom()).await);
    let said = batches("H24→TW/report", 60, "a");
    let mut pushes = Vec::new();
    for gateway in [&one, &two] {
        let (gateway, said) = (Arc::clone(gateway), said.clone());
        pushes.push(tokio::spawn(async move {
            // Each from the beginning, in pieces: what the other took is a duplicate here.
            for piece in said.chunks(5) {
                let taken = until("a push", || async {
                    let answer = gateway.push(piece).await;
                    answer.refusal.is_none().then_some(answer)
                });
                assert_eq!(taken.await.receipts.len(), 5);
            }
        }));
    }
    for push in pushes {
        push.await.expect("pushes");
    }
    for gateway in [&one, &two] {
        gateway.has_head("H24→TW/report", 60).await;
        let read = gateway.read_all("TW", "H24→TW/report", 60).await;
        assert_eq!(read, said.iter().map(|batch| batch.bytes().clone()).collect::<Vec<_>>());
        // Both logs come to hold the same feed of receipts, with one for each.
        until("receipts", || async { (gateway.receipts("H24").len() == 60).then_some(()) }).await;
    }
    let head = |gateway: &Gateway| gateway.log.head(&feed("NDXP→H24/report"));
    until("the same head", || async { (head(&one) == head(&two)).then_some(()) }).await;
    let mut stream = server.context().await.get_stream("httt-report").await.expect("stream");
    let receipts = head(&one).expect("receipts").sequence;
    assert_eq!(stream.info().await.expect("info").state.messages, 60 + receipts, "nothing is stored twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_at_one_process_hears_what_another_one_took() {
    let server = NatsServer::start().await;
    let one = Gateway::open(&[&server], settings(1)).await;
    let two = Gateway::open(&[&server], settings(1)).await;
    let (tw, h24) = (Member::open("TW").await, Member::open("H24").await);
    tw.copy_through(&one);
    h24.copy_through(&two);
    tw.say("*", Lane::Content, 10).await;
    h24.say("TW", Lane::Report, 10).await;
    h24.holds("TW→*/content", 10).await;
    tw.holds("H24→TW/report", 10).await;
    // The receipts that one process gave come to the member that calls the other.
    tw.holds("NDXP→TW/report", 1).await;
    assert_eq!(one.store.head(&feed("TW→*/content")), two.store.head(&feed("TW→*/content")));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_changes_to_the_directory_at_once_the_second_is_told_to_try_again() {
    let server = NatsServer::start().await;
    let one = Arc::new(Gateway::open(&[&server], settings(1)).await);
    let two = Arc::new(Gateway::open(&[&server], settings(1)).await);
    let mut changes = Vec::new();
    for (gateway, name) in [(&one, "one"), (&two, "two")] {
        for number in 0..10 {
            let gateway = Arc::clone(gateway);
            changes.push(tokio::spawn(async move {
                let reason = format!("{name} {number}");
                let suspended = MemberSuspended { member: "H55".into(), reason: reason.clone() };
                let event = NewEvent::of(Audience::All, Lane::Directory, "member/H55", &suspended);
                let changed = gateway.service.revise(|_, _| Ok::<_, StoreError>(vec![event])).await;
                match changed {
                    Ok(()) => Some(reason),
                    Err(error) => {
                        assert!(error.to_string().contains("try again"), "{error}");
                        None
                    }
                }
            }));
        }
    }
    let mut made = Vec::new();
    for change in changes {
        made.extend(change.await.expect("ends"));
    }
    assert!(!made.is_empty());
    for gateway in [&one, &two] {
        let of = feed("NDXP→*/directory");
        until("all changes", || async {
            let entries = gateway.log.read_feed(&of, 0, 1 << 20).expect("reads");
            let events = entries.iter().flat_map(|entry| &entry.batch.events);
            let said = events.filter_map(|event| {
                let suspended = <MemberSuspended as httt_wire::Message>::decode(event.data.clone()).ok()?;
                event.r#type.ends_with("MemberSuspended").then_some(suspended.reason)
            });
            let mut said: Vec<_> = said.collect();
            let mut made = made.clone();
            said.sort();
            made.sort();
            (said == made).then_some(())
        })
        .await;
    }
    assert!(one.service.heads(&code("H55"), Default::default()).await.refusal.is_some(), "it is suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_sees_what_the_streams_hold_though_this_process_heard_nothing_of_it() {
    let server = NatsServer::start().await;
    let proxy = Proxy::before(&server).await;
    let one = Gateway::open(&[&server], settings(1)).await;
    let two = Gateway::open_through(&proxy, seldom()).await;
    one.push(&batches("H24→TW/report", 1, "a")).await;
    two.has_head("H24→TW/report", 1).await;
    // It hears no more: neither of a feed that it knows, nor of one that is new.
    proxy.lose(usize::MAX);
    one.push(&batches("H24→TW/report", 3, "a")).await;
    one.push(&batches("H24→TW/status", 2, "a")).await;
    let of = |heads: &[FeedHead], feed: &FeedId| heads.iter().find(|head| head.feed == *feed).map(|head| head.head);
    let (report, status) = (feed("H24→TW/report"), feed("H24→TW/status"));
    assert_eq!(two.store.head(&report).expect("head").sequence, 1);
    let mut seen = Vec::new();
    let revised = two.service.revise(|_, heads| {
        seen = vec![of(heads, &report), of(heads, &status)];
        Ok::<_, StoreError>(Vec::new())
    });
    revised.await.expect("revises");
    assert_eq!(seen, [one.store.head(&report), one.store.head(&status)]);
    assert_eq!(seen.iter().flatten().map(|head| head.sequence).collect::<Vec<_>>(), [3, 2]);
}

/// What is brought back is published without a guard, behind what another process said meanwhile and this one did not hear.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_brings_something_back_does_not_say_again_what_another_one_said() {
    let server = NatsServer::start().await;
    let proxy = Proxy::before(&server).await;
    let other = Gateway::open(&[&server], seldom()).await;
    let deaf = Gateway::open_through(&proxy, seldom()).await;
    let (report, receipts) = (batches("H24→TW/report", 2, "a"), feed("NDXP→H24/report"));
    other.push(&report[..1]).await;
    deaf.has_head("H24→TW/report", 1).await;
    let first = deaf.log.read_feed(&receipts, 0, 1).expect("reads").remove(0);
    let first = deaf.directory.get().verify(httt_feed::parse(first.bytes).expect("parses")).expect("verifies");
    proxy.lose(usize::MAX);
    other.push(&batches("H24→TW/status", 1, "a")).await;
    let mut stream = server.context().await.get_stream("httt-report").await.expect("stream");
    let message = stream.get_first_raw_message_by_subject("httt.NDXP.H24.report", 1).await.expect("a receipt");
    assert!(stream.delete_message(message.sequence).await.expect("deletes"));
    deaf.store.take_again(vec![first]).await.expect("brings it back");
    assert_eq!(deaf.push(&report[1..]).await.refusal, None);

    let (mut said, last) = (HashMap::new(), stream.info().await.expect("info").state.last_sequence);
    for at in 1..=last {
        let Ok(message) = stream.get_raw_message(at).await else { continue };
        let batch = httt_feed::parse(message.payload).expect("parses");
        let (place, digest) = ((batch.feed().clone(), batch.sequence()), batch.digest());
        assert_eq!(
            said.insert(place.clone(), digest).filter(|other| *other != digest),
            None,
            "{place:?} is said twice"
        );
    }
    assert_eq!(said.keys().filter(|(of, _)| *of == receipts).count(), 3);
    assert_eq!(deaf.log.head(&receipts).map(|head| head.sequence), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_with_an_empty_folder_takes_up_everything_from_the_streams() {
    let server = NatsServer::start().await;
    let one = Gateway::open(&[&server], settings(1)).await;
    let said = batches("H24→TW/report", 20, "a");
    let first = one.push(&said).await;
    one.end().await;
    let two = Gateway::open(&[&server], settings(1)).await;
    assert_eq!(two.store.head(&feed("H24→TW/report")), Some(said[19].head()));
    assert_eq!(two.push(&said).await.receipts, first.receipts);
    assert_eq!(two.receipts("H24").len(), 20);
}
