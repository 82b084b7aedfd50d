//! Orders over HTTPS: who may, with what code, and what stays after a restart.

use httt_ndxp_gateway::Kind;
use httt_wire::directory::{KeyRevoked, MemberRevised};
use httt_wire::{Message as _, Name as _};
use serde_json::{Value, json};

use crate::common::{Gateway, Pki, file, key, prepare};

fn fingerprint(member: &str) -> String {
    key(member).public().fingerprint().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_needs_the_role_and_a_one_time_code_and_a_mistake_does_not_cost_the_code() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let suspend = |member: &str| json!({ "suspend": { "member": member } });

    let (status, _) = gateway.order("auditor", suspend("H24")).await.expect_err("no role");
    assert_eq!(status, 403);
    let no_code = json!({ "command": suspend("H24"), "reason": "kiểm thử" });
    let (status, error) = gateway.order_with("admin1", no_code).await.expect_err("no code");
    assert_eq!((status, error["field"].as_str()), (403, Some("otp")));
    let wrong = json!({ "command": suspend("H24"), "reason": "kiểm thử", "otp": "000000" });
    let (status, error) = gateway.order_with("admin1", wrong).await.expect_err("wrong code");
    assert_eq!((status, error["code"].as_str()), (403, Some("wrong_otp")));
    // Refused for what it says: the same code then still carries out the right one.
    let (status, error) = gateway.order("admin2", suspend("X9")).await.expect_err("nobody");
    assert_eq!((status, error["field"].as_str()), (422, Some("member")));
    let answer = gateway.order("admin2", suspend("H24")).await.expect("suspended");
    assert_eq!(answer["suspended"], "kiểm thử");
    assert_eq!(gateway.get("auditor", "/members/H24").await["suspended"], "kiểm thử");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_operator_said_outlives_restarts_and_the_member_files() {
    let pki = Pki::new();
    let config = prepare(&pki);
    let gateway = Gateway::start(&pki, &config).await;
    let revoke = json!({ "revoke-key": { "member": "H24", "fingerprint": fingerprint("H24") } });
    let answer = gateway.order("admin1", revoke).await.expect("revoked");
    assert_eq!(answer["keys"][0]["revoked"], true);
    gateway.order("admin2", json!({ "suspend": { "member": "TW" } })).await.expect("suspended");
    let withdraw = json!({ "withdraw-carrier": { "member": "H55", "carrier": "H55.LGSP" } });
    gateway.order("admin3", withdraw).await.expect("withdrawn");
    let enrol = json!({ "enrol": { "member": "H15", "name": "Đắk Lắk", "kind": "province", "area": "66",
                                   "keys": [hex::encode(key("H15").public().value())] } });
    gateway.order("admin4", enrol).await.expect("enrolled");
    gateway.stop().await;

    // A new file is taken, and the old ones change nothing.
    let late = toml::to_string(&file("H01", Kind::Province, &[])).expect("toml");
    std::fs::write(pki.path("members").join("H01.toml"), late).expect("write");
    let gateway = Gateway::start(&pki, &config).await;
    assert_eq!(gateway.get("auditor", "/members/H24").await["keys"][0]["revoked"], true);
    assert_eq!(gateway.get("auditor", "/members/TW").await["suspended"], "kiểm thử");
    assert_eq!(gateway.get("auditor", "/members/H55").await["carriers"], json!([]));
    let codes = gateway.get("auditor", "/members").await;
    let codes: Vec<&str> = codes.as_array().expect("list").iter().filter_map(|one| one["code"].as_str()).collect();
    assert_eq!(codes, ["H01", "H15", "H24", "H55", "H55.LGSP", "NDXP", "TW"]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_order_leaves_an_event_with_actor_and_reason() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    let revoke = json!({ "revoke-key": { "member": "H24", "fingerprint": fingerprint("H24") } });
    gateway.order("admin1", revoke).await.expect("revoked");
    let withdraw = json!({ "withdraw-carrier": { "member": "H55", "carrier": "H55.LGSP" } });
    gateway.order("admin2", withdraw).await.expect("withdrawn");
    gateway.stop().await;

    let mut said: Vec<(String, String, String)> = Vec::new();
    for entry in httt_log::scan_entries(&pki.path("data").join("log")).expect("log") {
        for event in &entry.expect("entry").batch.events {
            let data = event.data.clone();
            let reason = if event.r#type == KeyRevoked::full_name() {
                KeyRevoked::decode(data).expect("message").reason
            } else if event.r#type == MemberRevised::full_name() {
                MemberRevised::decode(data).expect("message").reason
            } else {
                continue;
            };
            said.push((event.stream.clone(), event.actor.clone(), reason));
        }
    }
    let owned = |stream: &str, actor: &str| (stream.to_owned(), actor.to_owned(), "kiểm thử".to_owned());
    assert_eq!(said, [owned("member/H24", "admin1"), owned("member/H55", "admin2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_read_says_where() {
    let pki = Pki::new();
    let gateway = Gateway::start(&pki, &prepare(&pki)).await;
    for (command, mark) in [
        (json!({ "banish": { "member": "H24" } }), "banish"),
        (json!({ "suspend": { "member": "H24", "for": "ever" } }), "for"),
    ] {
        let (status, error) = gateway.order("admin1", command).await.expect_err("refused");
        assert!(matches!(status, 400 | 422), "{status}");
        assert!(error.to_string().contains(mark), "{error}");
    }
    let long: Value = json!({ "command": { "suspend": { "member": "H24" } }, "reason": "x".repeat(40_000) });
    assert_eq!(gateway.order_with("admin1", long).await.expect_err("too large").0, 413);
    gateway.stop().await;
}
