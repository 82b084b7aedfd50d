//! Three servers that hold everything three times, and lose some of it.

use httt_exchange::Store as _;
use httt_feed::Lane;

use crate::exchange::{Gateway, Member, feed, settings};
use crate::nats::{NatsServer, cluster, until};

/// Waits until every stream has a leader and every replica has everything.
async fn whole(server: &NatsServer) {
    let context = server.context().await;
    for stream in ["httt-directory", "httt-report", "httt-emergency", "httt-content", "httt-status"] {
        until(&format!("{stream} on three servers"), || async {
            let stream = context.get_stream(stream).await.ok()?;
            let cluster = stream.cached_info().cluster.clone()?;
            let current = cluster.replicas.iter().filter(|peer| peer.current && !peer.offline).count();
            (cluster.leader.is_some() && current == 2).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wiping_one_of_three_servers_loses_nothing() {
    let mut servers = cluster().await;
    let gateway = Gateway::open(&servers.iter().collect::<Vec<_>>(), settings(3)).await;
    let h24 = Member::open("H24").await;
    let peer = h24.copy_through(&gateway);
    h24.say("TW", Lane::Report, 20).await;
    gateway.has_head("H24→TW/report", 20).await;
    whole(&servers[0]).await;
    // From now on nobody can bring anything again.
    peer.cut(true);
    servers[1].kill();
    servers[1].wipe();
    servers[1].run();
    servers[1].ready().await;
    whole(&servers[0]).await;
    // The wiped one has everything again: it and one other are enough.
    servers[0].kill();
    let fresh = Gateway::open(&[&servers[1], &servers[2]], settings(3)).await;
    assert_eq!(fresh.read_all("TW", "H24→TW/report", 20).await, h24.entries("H24→TW/report"));
    assert_eq!(fresh.receipts("H24").len(), 20);
    assert_eq!(*gateway.asked.lock().expect("lock"), [], "nothing was missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn wiping_all_three_servers_is_healed_from_the_origins() {
    let mut servers = cluster().await;
    let gateway = Gateway::open(&servers.iter().collect::<Vec<_>>(), settings(3)).await;
    let (tw, h24) = (Member::open("TW").await, Member::open("H24").await);
    tw.copy_through(&gateway);
    h24.copy_through(&gateway);
    h24.say("TW", Lane::Report, 20).await;
    tw.say("*", Lane::Content, 20).await;
    gateway.has_head("H24→TW/report", 20).await;
    gateway.has_head("TW→*/content", 20).await;
    whole(&servers[0]).await;
    // Two are enough to lose the majority: what is left cannot agree on leaders, so the manual says to wipe the third.
    servers.iter_mut().for_each(NatsServer::kill);
    for server in &mut servers {
        server.wipe();
        server.run();
    }
    // In the end all is there, three times: the gateway made the streams anew.
    for server in &servers {
        server.ready().await;
    }
    whole(&servers[0]).await;
    h24.say("TW", Lane::Report, 5).await;
    gateway.has_head("H24→TW/report", 25).await;
    let fresh = Gateway::open(&servers.iter().collect::<Vec<_>>(), settings(3)).await;
    assert_eq!(fresh.read_all("TW", "H24→TW/report", 25).await, h24.entries("H24→TW/report"));
    assert_eq!(fresh.read_all("H24", "TW→*/content", 20).await, tw.entries("TW→*/content"));
    assert_eq!(fresh.store.head(&feed("NDXP→*/directory")), gateway.store.head(&feed("NDXP→*/directory")));
    until("receipts", || async { (fresh.receipts("H24").len() == 25).then_some(()) }).await;
}
