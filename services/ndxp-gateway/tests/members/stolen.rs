//! A key is stolen and revoked while its owner's link is down: what the owner had not sent comes back by a file, and
//! nothing of the thief's. Over real sockets.

use httt_feed::{Digest, FeedId};
use httt_node::exchange::carry::Selection;
use httt_node::rotation::KeyFiles;
use httt_wire::exchange::RefusalCode;
use serde_json::json;

use crate::admission::{REPORT, chain};
use crate::common::{Gateway, Pki, code, key, prepare};
use crate::member::{Member, clean, feed, until};

/// What a running node gives its operator for the exchange.
async fn export(member: &Member) -> Vec<u8> {
    let selection =
        Selection { reader: code("NDXP"), feeds: vec![], lanes: vec![], after: None, media: false, max_bytes: None };
    let mut export = member.node.exporter().begin(&selection, None, 0).await.expect("begins");
    let mut file = Vec::new();
    while let Some(bytes) = export.next().await.expect("exports") {
        file.extend_from_slice(&bytes);
    }
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_province_whose_key_was_stolen_while_it_was_offline_loses_nothing_and_the_thief_gets_nothing_in() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let trusted = key("NDXP").public().fingerprint();
    let (to_tw, to_h55) = (feed(REPORT), feed("H24→H55/report"));
    let h24 = Member::start(&pki, &gateway, "H24", trusted).await;
    h24.say("r0".into()).await;
    until("receipted", || h24.sequence(&feed("NDXP→H24/report")) > 0).await;
    let sent = h24.node.log.head(&to_tw);
    h24.stop().await;

    // Days without a link; meanwhile somebody has the key, and the operator hears of it.
    let h24 = Member::offline(&pki, "H24", trusted).await;
    for number in 1..=40 {
        h24.say(format!("r{number}")).await;
        h24.say_to("H55", format!("h{number}")).await;
    }
    let fingerprint = key("H24").public().fingerprint();
    let revoke = json!({ "revoke-key": { "member": "H24", "fingerprint": fingerprint.to_string() } });
    gateway.order("admin1", revoke).await.expect("revoked");
    let thiefs = chain("H24", REPORT, "thief", sent, 2);
    assert_eq!(h24.push(&gateway, &thiefs).await, Some(RefusalCode::RevokedKey));
    let elsewhere = chain("H24", "H24→H55/report", "thief", None, 1);
    assert_eq!(h24.push(&gateway, &elsewhere).await, Some(RefusalCode::RevokedKey));

    // The link is back: the node learns of it, nothing more is taken, and what it says goes on being kept.
    h24.link(&gateway).await;
    h24.node.change_keys(None, &h24.shutdown);
    until("the node knows", || {
        let directory = h24.node.directory.get();
        directory.member(&code("H24")).is_some_and(|member| member.keys().count() == 0)
    })
    .await;
    h24.say("r41".into()).await;
    let files = KeyFiles::new(&pki.path("H24.signing.key"));
    let new = files.begin().expect("begins");
    let value = files.state().expect("state").next.expect("next").public().value().to_vec();
    let add = json!({ "add-key": { "member": "H24", "key": hex::encode(value) } });
    gateway.order("admin2", add).await.expect("added");
    until("the node seals with the new key", || {
        h24.node.fingerprint() == new && files.state().expect("state").old.is_none()
    })
    .await;
    h24.say("r42".into()).await;
    let last = h24.sequence(&to_tw);

    // Its file is brought to the operator, who reads it, compares, and admits.
    let stick = export(&h24).await;
    let (status, error) = gateway.send("auditor", "/members/H24/admissions", stick.clone()).await.expect_err("no role");
    assert_eq!((status, error["code"].as_str()), (403, Some("not-allowed")), "{error}");
    let torn = stick[..stick.len() - 1].to_vec();
    let (status, error) = gateway.send("admin3", "/members/H24/admissions", torn).await.expect_err("torn");
    assert_eq!((status, error["code"].as_str()), (422, Some("bad-file")), "{error}");
    let (_, error) = gateway.send("admin3", "/members/H55/admissions", stick.clone()).await.expect_err("H24's");
    assert_eq!(error["code"], "not-in-file", "{error}");
    let found = gateway.send("admin3", "/members/H24/admissions", stick).await.expect("read");
    let rows = found["feeds"].as_array().expect("feeds");
    let row = rows.iter().find(|row| row["feed"] == REPORT).expect("row");
    let sequence = row["last"].as_u64().expect("sequence");
    let own = h24.node.log.batch_digest(&to_tw, sequence).expect("reads").expect("held");
    assert_eq!((row["digest"].as_str(), sequence), (Some(own.to_string().as_str()), last - 1));
    let unknown = json!({ "admit": { "member": "H24", "admission": Digest::of(b"").to_string() } });
    let (status, error) = gateway.order("admin3", unknown).await.expect_err("not read");
    assert_eq!((status, error["code"].as_str()), (422, Some("unknown-admission")));
    let admit = json!({ "admit": { "member": "H24", "admission": found["admission"] } });
    let answer = gateway.order("admin3", admit.clone()).await.expect("admitted");
    assert_eq!(answer["admitted"], found["batches"]);
    let (status, _) = gateway.order("admin4", admit).await.expect_err("twice");
    assert_eq!(status, 409);

    // The node goes on by itself. Readers that never heard of it get the whole history, and nothing else.
    let tw = Member::start(&pki, &gateway, "TW", trusted).await;
    let h55 = Member::start(&pki, &gateway, "H55", trusted).await;
    until("everything arrives", || tw.sequence(&to_tw) == last && h55.sequence(&to_h55) == h24.sequence(&to_h55)).await;
    assert_eq!(tw.node.log.head(&to_tw), h24.node.log.head(&to_tw));
    assert_eq!(h55.node.log.head(&to_h55), h24.node.log.head(&to_h55));
    assert_eq!(h24.push(&gateway, &thiefs).await, Some(RefusalCode::RevokedKey), "still refused");
    let heard = |member: &Member, feed: &FeedId| {
        let entries = member.node.log.read_feed(feed, 0, usize::MAX).expect("reads");
        entries.iter().flat_map(|entry| entry.batch.events.clone()).map(|event| event.stream).collect::<Vec<_>>()
    };
    assert_eq!(heard(&tw, &to_tw), (0..=42).map(|number| format!("r{number}")).collect::<Vec<_>>());
    assert_eq!(heard(&h55, &to_h55), (1..=40).map(|number| format!("h{number}")).collect::<Vec<_>>());

    h24.say("r43".into()).await;
    until("and it goes on", || tw.sequence(&to_tw) == last + 1).await;
    for member in [h24, tw, h55] {
        member.stop().await;
    }
    gateway.stop().await;
    for data in ["H24.data", "TW.data", "H55.data"] {
        clean(&pki.path(data), Some(trusted));
    }
    clean(&pki.path("data"), None);
}
