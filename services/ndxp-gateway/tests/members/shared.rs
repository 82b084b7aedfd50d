//! The gateway's key is changed while two processes of it run on one NATS server.

use std::path::{Path, PathBuf};
use std::time::Duration;

use httt_feed::Fingerprint;
use httt_node::config::load;
use httt_node::rotation::KeyFiles;
use httt_node::shutdown::Shutdown;
use serde_json::json;

use crate::common::{Gateway, HANG, Pki, free, key, key_pem, prepare};
use crate::member::{Member, feed, until};
use crate::nats::NatsServer;

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// The configuration of one process: a folder and a key file of its own.
fn process(pki: &Pki, config: &Path, name: &str, server: &NatsServer) -> PathBuf {
    let folder = pki.path(name);
    std::fs::create_dir_all(&folder).expect("dir");
    std::fs::write(folder.join("signing.key"), key_pem("NDXP")).expect("write");
    let store = format!(
        "[exchange.store]\nkind = \"jetstream\"\n[exchange.store.jetstream]\nservers = [{:?}]\nreplicas = 1\n\
         allow_volatile = true\n[http]",
        server.url()
    );
    let text = std::fs::read_to_string(config).expect("configuration");
    let text = text
        .replace("data_dir = \"data\"", &format!("data_dir = \"{name}/data\""))
        .replace("\"signing.key\"", &format!("\"{name}/signing.key\""))
        .replacen("[http]", &store, 1);
    let path = pki.path(&format!("{name}.toml"));
    std::fs::write(&path, text).expect("write");
    path
}

fn files(pki: &Pki, name: &str) -> KeyFiles {
    KeyFiles::new(&pki.path(&format!("{name}/signing.key")))
}

/// Whether a process has `key` in use, no next one, and the one before as `old` says. Looked at beside a process that
/// renames the files: what cannot be read is not so yet.
fn is_at(files: &KeyFiles, key: Fingerprint, old: bool) -> bool {
    let (Ok(in_use), Ok(state)) = (files.peek(), files.state()) else { return false };
    in_use.public().fingerprint() == key && state.next.is_none() && state.old.is_some() == old
}

/// Waits until a process says that its key was revoked, or does not say so any more.
async fn is_silent(gateway: &Gateway, silent: bool) {
    let waited = async {
        while gateway.readiness().await.contains("đã bị thu hồi") != silent {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(HANG, waited).await.expect("it says so");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_change_the_gateways_key_while_events_flow_and_a_third_that_lacks_it_is_silent() {
    let server = NatsServer::start().await;
    let pki = Pki::new();
    let config = prepare(&pki);
    let names = ["one", "two", "three"];
    let configs = names.map(|name| process(&pki, &config, name, &server));
    let one = Gateway::start(&pki, &configs[0]).await;
    let two = Gateway::start(&pki, &configs[1]).await;
    let three = Gateway::start(&pki, &configs[2]).await;
    let old = key("NDXP").public().fingerprint();
    let tw = Member::start(&pki, &one, "TW", old).await;
    let h24 = Member::start(&pki, &two, "H24", old).await;
    let report = feed("H24→TW/report");
    h24.say("before".into()).await;
    until("it arrives", || tw.sequence(&report) >= 1).await;

    // The operator makes the key at one process and brings it to the other; to the third he forgets to.
    let new = files(&pki, "one").begin().expect("begins");
    until("one seals with it", || is_at(&files(&pki, "one"), new, true)).await;
    std::fs::copy(pki.path("one/signing.key"), pki.path("two/signing.key.next")).expect("copies");
    until("two seals with it", || is_at(&files(&pki, "two"), new, true)).await;
    h24.say("both keys are good".into()).await;
    until("it arrives", || tw.sequence(&report) >= 2).await;
    assert!(is_at(&files(&pki, "one"), new, true), "nobody revokes the old one but an operator");
    // Who still seals with the old key does not revoke it.
    let revoke = json!({ "revoke-key": { "member": "NDXP", "fingerprint": old.to_string() } });
    let (status, refused) = three.order("admin1", revoke.clone()).await.expect_err("in use there");
    assert_eq!(status, 409, "{refused}");
    one.order("admin2", revoke).await.expect("revokes");
    for name in ["one", "two"] {
        until("the old key is deleted", || is_at(&files(&pki, name), new, false)).await;
    }
    is_silent(&three, true).await;

    // Nothing forked: receipts go on, and new members found themselves on the new fingerprint.
    let receipts = feed("NDXP→H24/report");
    let before = h24.sequence(&receipts);
    h24.say("after".into()).await;
    until("it arrives and is receipted", || tw.sequence(&report) >= 3 && h24.sequence(&receipts) > before).await;
    let h55 = Member::start(&pki, &two, "H55", new).await;
    let directory = feed("NDXP→*/directory");
    until("the directory is taken", || h55.sequence(&directory) >= tw.sequence(&directory)).await;

    // Given the key, the third goes on as well.
    std::fs::copy(pki.path("one/signing.key"), pki.path("three/signing.key.next")).expect("copies");
    until("three has it", || is_at(&files(&pki, "three"), new, false)).await;
    is_silent(&three, false).await;
    for member in [tw, h24, h55] {
        member.stop().await;
    }
    for gateway in [one, two, three] {
        gateway.stop().await;
    }
    // A process that did not run meanwhile is told what it lacks, and takes it up when it starts.
    let in_use = std::fs::read(pki.path("three/signing.key")).expect("key");
    std::fs::write(pki.path("three/signing.key"), key_pem("NDXP")).expect("write");
    let (late, shutdown) = (load(&configs[2]).expect("configuration"), Shutdown::new());
    let Err(refused) = httt_ndxp_gateway::start(&late, &shutdown).await else { panic!("it starts with a revoked key") };
    assert!(format!("{refused:#}").contains(".next"), "{refused:#}");
    shutdown.trigger();
    free(&pki.path("three/data")).await;
    std::fs::write(pki.path("three/signing.key.next"), in_use).expect("write");
    let three = Gateway::start(&pki, &configs[2]).await;
    until("it has taken it up", || is_at(&files(&pki, "three"), new, false)).await;
    three.stop().await;
}
