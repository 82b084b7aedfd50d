//! `[exchange] restored`: a gateway on an old disk, or on a new one, waits for its members; its operator may end that.

use std::time::Duration;

use crate::common::*;

#[tokio::test]
async fn a_restored_gateway_names_whom_it_waits_for_until_its_operator_lets_it_begin() {
    let pki = Pki::new();
    let config = prepare(&pki);
    let plain = std::fs::read_to_string(&config).expect("reads");
    let restored = plain.replace("[exchange]", "[exchange]\nrestored = true");
    std::fs::write(&config, restored).expect("write");

    let gateway = Gateway::start(&pki, &config).await;
    let waits = async {
        while !gateway.readiness().await.contains("not heard yet: H24, H55, H55.LGSP, TW") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(HANG, waits).await.expect("says whom it waits for");
    assert!(!gateway.get("auditor", "/members").await.to_string().contains("H24"));
    gateway.stop().await;

    std::fs::write(&config, plain).expect("write");
    let gateway = Gateway::start(&pki, &config).await;
    assert_eq!(gateway.readiness().await, "");
    assert!(gateway.get("auditor", "/members").await.to_string().contains("H55.LGSP"));
    gateway.stop().await;
}
