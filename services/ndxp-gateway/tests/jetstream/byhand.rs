//! Feeds by hand, into the streams and out of them.

use httt_exchange::Store as _;
use httt_exchange::carry::{FeedReport, ImportReport, Selection};
use httt_feed::Lane;

use crate::exchange::{Gateway, Member, batches, code, feed, settings};
use crate::nats::NatsServer;

fn row<'a>(report: &'a ImportReport, feed: &str) -> &'a FeedReport {
    report.feeds.iter().find(|row| row.feed == feed).unwrap_or_else(|| panic!("{feed}: {report:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_took_from_a_stick_another_one_puts_on_the_next() {
    let server = NatsServer::start().await;
    let one = Gateway::open(&[&server], settings(1)).await;
    let two = Gateway::open(&[&server], settings(1)).await;
    let (tw, h24) = (Member::open("TW").await, Member::open("H24").await);
    for member in [&tw, &h24] {
        let told = member.hand().takes(&one.hand().export(member.code.as_str()).await).await;
        assert_eq!(row(&told, "NDXP→*/directory").outcome, "taken");
    }
    tw.say("*", Lane::Content, 3).await;
    let up = tw.hand().export("NDXP").await;
    assert_eq!(row(&one.hand().takes(&up).await, "TW→*/content").taken, 3);
    let again = one.hand().takes(&up).await;
    assert_eq!((row(&again, "TW→*/content").outcome, row(&again, "TW→*/content").held), ("held", 3));
    assert_eq!(one.receipts("TW").len(), 3, "each has one receipt");

    two.has_head("TW→*/content", 3).await;
    two.has_head("NDXP→TW/report", 1).await;
    h24.hand().takes(&two.hand().export("H24").await).await;
    assert_eq!(h24.entries("TW→*/content"), tw.entries("TW→*/content"));
    let back = tw.hand().takes(&two.hand().export("TW").await).await;
    assert_eq!(row(&back, "NDXP→TW/report").outcome, "taken", "the receipts of what went up");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_stories_on_sticks_the_second_is_kept_as_evidence() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    gateway.push(&batches("H24→TW/report", 2, "a")).await;
    let liar = Member::open("H24").await;
    let directory = Selection { lanes: vec![Lane::Directory], ..Selection::all_for(code("H24")) };
    liar.hand().takes(&gateway.hand().select(directory).await).await;
    liar.say("TW", Lane::Report, 2).await;
    let told = gateway.hand().import(&liar.hand().export("NDXP").await).await;
    assert_eq!((told.ok, row(&told, "H24→TW/report").outcome), (false, "forked"));
    assert!(gateway.stopped.contains(&feed("H24→TW/report")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_gateway_itself_said_is_recognised_on_a_stick_and_taken_back_where_it_is_missing() {
    let server = NatsServer::start().await;
    let gateway = Gateway::open(&[&server], settings(1)).await;
    let directory = Selection { lanes: vec![Lane::Directory], ..Selection::all_for(code("H24")) };
    let stick = gateway.hand().select(directory).await;
    assert_eq!(row(&gateway.hand().takes(&stick).await, "NDXP→*/directory").outcome, "held");
    let other = NatsServer::start().await;
    let fresh = Gateway::bare(&[&other], settings(1)).await;
    assert_eq!(row(&fresh.hand().takes(&stick).await, "NDXP→*/directory").outcome, "taken");
    assert_eq!(fresh.store.head(&feed("NDXP→*/directory")), gateway.store.head(&feed("NDXP→*/directory")));
    // It is in the streams, too.
    let third = Gateway::bare(&[&other], settings(1)).await;
    assert_eq!(third.store.head(&feed("NDXP→*/directory")), gateway.store.head(&feed("NDXP→*/directory")));
}
