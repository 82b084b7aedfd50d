//! TLS and log-in towards the servers, and the sample cluster.

use std::fs;
use std::path::Path;

use httt_ndxp_gateway::jetstream::{Connection, JetStreamConfig};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::nats::{NatsServer, check_configuration};

/// An authority, and a certificate by it for this machine and one gateway, as PEM files in `dir`.
fn certificates(dir: &Path) {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("key")).expect("authority");
    let key = KeyPair::generate().expect("key");
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let signed = CertificateParams::new(names).expect("params").signed_by(&key, &authority).expect("signs");
    for (name, text) in [("ca.pem", authority.pem()), ("tls.pem", signed.pem()), ("tls.key", key.serialize_pem())] {
        fs::write(dir.join(name), text).expect("writes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_known_by_their_authority_and_gateways_by_certificate_and_password() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    certificates(dir.path());
    certificates(other.path());
    let file = |name: &str| dir.path().join(name);
    let (pem, key, ca) = (file("tls.pem"), file("tls.key"), file("ca.pem"));
    let server = NatsServer::start_with(&format!(
        "tls {{ cert_file: {pem:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true }}\n\
         authorization {{ users: [ {{ user: gateway, password: secret }} ] }}\n"
    ));
    fs::write(file("password"), "secret\n").expect("writes");
    fs::write(file("wrong"), "guess\n").expect("writes");
    let config = |ca: &Path, shown: bool, password: &str| -> JetStreamConfig {
        let shown = if shown { format!(", certificate = {pem:?}, key = {key:?}") } else { String::new() };
        let (url, password) = (server.url(), file(password));
        let text = format!(
            "servers = [{url:?}]\nallow_volatile = true\nuser = \"gateway\"\npassword = {{ file = {password:?} }}\n\
             tls = {{ ca = {ca:?}{shown} }}"
        );
        toml::from_str(&text).expect("configuration")
    };
    crate::nats::until("a connection", || async {
        Connection::open(&config(&ca, true, "password"), "test").await.ok()
    })
    .await;
    for (why, wrong) in [
        ("another authority", config(&other.path().join("ca.pem"), true, "password")),
        ("no certificate", config(&ca, false, "password")),
        ("a wrong password", config(&ca, true, "wrong")),
    ] {
        assert!(Connection::open(&wrong, "test").await.is_err(), "{why}");
    }
}

#[test]
fn the_sample_cluster_is_a_good_configuration_and_syncs_always() {
    let dir = tempfile::tempdir().expect("dir");
    certificates(dir.path());
    for number in 1..=3 {
        let sample = format!("{}/../../deploy/nats/nats-{number}.conf", env!("CARGO_MANIFEST_DIR"));
        let text = fs::read_to_string(&sample).expect("sample");
        assert_eq!(text.matches("  sync_interval: always\n").count(), 1, "{sample}");
        // Servers before 2.10 do not know the setting; all else is checked by the server itself.
        let text = text
            .replace("  sync_interval: always\n", "")
            .replace("/etc/nats", &dir.path().display().to_string())
            .replace("/var/lib/nats", &dir.path().join("store").display().to_string());
        let file = dir.path().join(format!("nats-{number}.conf"));
        fs::write(&file, text).expect("writes");
        check_configuration(&file);
    }
}
